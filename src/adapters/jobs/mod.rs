//! Frameworks behind their port, each fit a process of its own below a guardian: linfa and bief's own way by this binary;
//! scikit-learn, Dask-ML and Spark MLlib as Python jobs (`ml/`), each in a virtual environment of its own that is made from
//! pinned requirements. Jobs and requirements are part of the binary, so that they are always of its version.

mod contract;
mod environment;
mod matrix_file;
mod own;
pub mod own_fit;
mod python;
mod store;

pub use contract::JobSettings;
pub use environment::{Environments, Setup, SetupError};
pub use matrix_file::write as write_matrix;
pub use own::OwnJob;
pub use python::PythonJob;
pub use store::{Ground, machine, newest, read, write};

use crate::core::comparison::{Complexity, Framework};

/// A Python job and what it needs.
#[derive(Debug)]
pub struct JobFiles {
    pub framework: Framework,
    /// The script's name.
    pub script: &'static str,
    pub text: &'static str,
    /// Pinned, with hashes.
    pub requirements: &'static str,
    pub needs: &'static str,
}

/// What all jobs share.
pub const CONTRACT: (&str, &str) = ("contract.py", include_str!("../../../ml/contract.py"));

pub static JOBS: [JobFiles; 3] = [
    JobFiles {
        framework: Framework::ScikitLearn,
        script: "job_scikit_learn.py",
        text: include_str!("../../../ml/job_scikit_learn.py"),
        requirements: include_str!("../../../ml/requirements/scikit-learn.txt"),
        needs: "Python 3.11 or later",
    },
    JobFiles {
        framework: Framework::DaskMl,
        script: "job_dask_ml.py",
        text: include_str!("../../../ml/job_dask_ml.py"),
        requirements: include_str!("../../../ml/requirements/dask-ml.txt"),
        needs: "Python 3.11 or later",
    },
    JobFiles {
        framework: Framework::SparkMllib,
        script: "job_spark_mllib.py",
        text: include_str!("../../../ml/job_spark_mllib.py"),
        requirements: include_str!("../../../ml/requirements/spark-mllib.txt"),
        needs: "Python 3.11 or later, Java 17",
    },
];

/// The files of a framework that is a Python job.
pub fn job_of(framework: Framework) -> Option<&'static JobFiles> {
    JOBS.iter().find(|job| job.framework == framework)
}

impl JobFiles {
    fn complexity(&self, install_bytes: Option<u64>) -> Complexity {
        let pinned =
            self.requirements.lines().filter(|line| line.contains("==") && !line.trim_start().starts_with('#'));
        Complexity {
            lines: lines_of_python(self.text),
            dependencies: count(pinned),
            install_bytes,
            needs: self.needs.to_owned(),
        }
    }
}

/// Neither blank, nor comment, nor what documents in one line.
fn lines_of_python(text: &str) -> u32 {
    count(
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("\"\"\"")),
    )
}

fn count(lines: impl Iterator) -> u32 {
    u32::try_from(lines.count()).unwrap_or(u32::MAX)
}

//! A framework that is a Python job of `ml/`: how its script is laid out and called. What all jobs share is in
//! `contract.rs`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::contract::{self, Call, JobSettings};
use super::{CONTRACT, JobFiles};
use crate::core::comparison::{Facts, Framework, Outcome};
use crate::ports::frameworks::{FitFramework, FitJob};

pub struct PythonJob {
    pub files: &'static JobFiles,
    pub settings: JobSettings,
}

#[async_trait(?Send)]
impl FitFramework for PythonJob {
    fn framework(&self) -> Framework {
        self.files.framework
    }

    async fn facts(&self) -> Facts {
        let environments = &self.settings.environments;
        let found = environments.find(self.files);
        let installed = found.as_ref().ok().and_then(|_| environments.install_bytes(self.files.framework));
        Facts {
            framework: self.files.framework.name().to_owned(),
            absent: found.err(),
            complexity: self.files.complexity(installed),
        }
    }

    fn is_parallel(&self) -> bool {
        true
    }

    async fn fit(&self, job: &FitJob, cancel: &CancellationToken) -> Outcome {
        let python = match self.settings.environments.find(self.files) {
            Ok(python) => python,
            Err(why) => return Outcome::Absent { why },
        };
        contract::run(job, &self.settings, cancel, |folder| self.lay_out(job, python, folder)).await
    }
}

impl PythonJob {
    /// The job's files in its folder, and how it is called.
    fn lay_out(&self, job: &FitJob, python: PathBuf, folder: &Path) -> io::Result<Call> {
        let script = folder.join(self.files.script);
        fs::write(folder.join(CONTRACT.0), CONTRACT.1)?;
        fs::write(&script, self.files.text)?;
        // Dask's workers are processes: one thread each.
        let threads = if self.files.framework == Framework::DaskMl { 1 } else { job.workers };
        let of_threads = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];
        let mut environment: Vec<(OsString, OsString)> =
            of_threads.map(|name| (name.into(), threads.to_string().into())).to_vec();
        environment.push(("PYTHONNOUSERSITE".into(), "1".into()));
        Ok(Call { program: python, arguments: vec![script.into()], environment })
    }
}

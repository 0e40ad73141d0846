//! Where each Python framework is installed: a virtual environment of its own below one folder, made by `bief compare
//! --setup` from requirements that are pinned with hashes; or one interpreter that was given, for all. Must never install
//! anything without being told to.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::JobFiles;
use crate::core::comparison::Framework;
use crate::runtime::child::{self, ChildSpec, Limits};

/// Within an environment, written last: which requirements it was made from.
const MADE_FROM: &str = "bief-requirements.sha256";
/// How long one installation may take, over a slow line.
const SETUP_LIMIT: Duration = Duration::from_secs(3600);
/// What a program beside the daemon may know of the daemon's environment; no secret is among them.
const PASSED_ON: [&str; 10] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "LD_LIBRARY_PATH", "HADOOP_CONF_DIR", "USER", "LOGNAME"];
/// What an installation needs beside: how to reach packages. May name a user and a password of a registry.
const PASSED_ON_TO_SETUP: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "XDG_CONFIG_HOME",
];

/// Where the frameworks are.
#[derive(Debug, Clone)]
pub struct Environments {
    /// Holds one environment for each framework.
    pub folder: PathBuf,
    /// An interpreter that has them all, in place of those.
    pub python: Option<PathBuf>,
}

/// What an installation tells.
#[derive(Debug)]
pub enum Setup<'s> {
    /// It is as it should be.
    There(&'s JobFiles),
    Installs(&'s JobFiles),
    Installed(&'s JobFiles),
}

/// Why it came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("{framework} could not be installed: {what}\n{stderr}")]
pub struct SetupError {
    pub framework: &'static str,
    pub what: String,
    pub stderr: String,
}

impl Environments {
    /// Where its environment is or would be.
    fn of(&self, framework: Framework) -> PathBuf {
        self.folder.join(framework.name())
    }

    /// Its interpreter.
    ///
    /// # Errors
    /// Why the framework is absent, and how to get it.
    pub fn find(&self, job: &JobFiles) -> Result<PathBuf, String> {
        if job.framework == Framework::SparkMllib && !is_there("JAVA_HOME", "java") {
            return Err(
                "no Java: install version 17, such as Debian's openjdk-17-jre-headless, or set JAVA_HOME".into()
            );
        }
        if let Some(python) = &self.python {
            if python.is_absolute() && !python.is_file() {
                return Err(format!("{} is not there: mend `python`, or run bief compare --setup", python.display()));
            }
            return Ok(python.clone());
        }
        let environment = self.of(job.framework);
        let python = environment.join("bin/python");
        match fs::read_to_string(environment.join(MADE_FROM)) {
            Ok(made_from) if made_from == hash_of(job.requirements) && python.is_file() => {
                // The interpreter's own path, links not followed: by it Python knows the environment.
                Ok(std::path::absolute(&python).unwrap_or(python))
            }
            Ok(_) => {
                Err(format!("what is in {} is of other versions: run bief compare --setup", environment.display()))
            }
            Err(_) => Err("not installed: run bief compare --setup".to_owned()),
        }
    }

    /// Bytes of what is installed; not known of an interpreter that was given. Looks at every file: thousands.
    pub(super) fn install_bytes(&self, framework: Framework) -> Option<u64> {
        self.python.is_none().then(|| size_of(&self.of(framework).join("lib")))
    }

    /// Makes what is missing or of other versions.
    pub async fn make(
        &self,
        job: &'static JobFiles,
        python: &Path,
        cancel: &CancellationToken,
        told: &mut dyn FnMut(Setup<'_>),
    ) -> Result<(), SetupError> {
        let environment = self.of(job.framework);
        if fs::read_to_string(environment.join(MADE_FROM)).is_ok_and(|made_from| made_from == hash_of(job.requirements))
        {
            told(Setup::There(job));
            return Ok(());
        }
        told(Setup::Installs(job));
        let framework = job.framework.name();
        let failed = |what: String| SetupError { framework, what, stderr: String::new() };
        let in_folder = |error: std::io::Error| failed(format!("{}: {error}", environment.display()));
        if environment.exists() {
            // What was broken off before the environment was made has the requirements alone.
            if !["pyvenv.cfg", "requirements.txt"].iter().any(|of_ours| environment.join(of_ours).exists()) {
                let what = "is there and is no Python environment; name another folder, or remove it";
                return Err(failed(format!("{} {what}", environment.display())));
            }
            fs::remove_dir_all(&environment).map_err(in_folder)?;
        }
        fs::create_dir_all(&environment).map_err(in_folder)?;
        let requirements = environment.join("requirements.txt");
        fs::write(&requirements, job.requirements).map_err(in_folder)?;
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let mut venv = words(&["-m", "venv"]);
        venv.push(environment.clone().into());
        let mut pip = words(&["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        pip.extend(words(&["--require-hashes", "-r"]));
        pip.push(requirements.into());
        let own = std::path::absolute(environment.join("bin/python")).map_err(in_folder)?;
        for (program, arguments) in [(python.to_owned(), venv), (own, pip)] {
            let mut environment = environment_of_setup();
            environment.push(("PYTHONNOUSERSITE".into(), "1".into()));
            let spec = ChildSpec {
                program,
                arguments,
                environment,
                folder: std::env::current_dir().unwrap_or_default(),
                limits: Limits { time: SETUP_LIMIT, memory: None, nice: 0 },
                guardian: child::own_binary(),
            };
            let report = child::run(&spec, cancel, |_| ()).await.map_err(|error| failed(error.to_string()))?;
            if !report.is_well() {
                let what = format!("{} {}", spec.program.display(), report.describe());
                return Err(SetupError { framework, what, stderr: report.stderr });
            }
        }
        fs::write(environment.join(MADE_FROM), hash_of(job.requirements)).map_err(in_folder)?;
        told(Setup::Installed(job));
        Ok(())
    }
}

/// What a job is given of the daemon's environment.
pub(super) fn environment_of_job() -> Vec<(OsString, OsString)> {
    let of_frameworks = |name: &str| name.starts_with("SPARK_") || name.starts_with("DASK_");
    variables(|name| PASSED_ON.contains(&name) || of_frameworks(name))
}

fn environment_of_setup() -> Vec<(OsString, OsString)> {
    let of_pip = |name: &str| name.starts_with("PIP_") || name.starts_with("PYENV_");
    variables(|name| PASSED_ON.contains(&name) || PASSED_ON_TO_SETUP.contains(&name) || of_pip(name))
}

fn variables(wanted: impl Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(&wanted)).collect()
}

/// Whether a program can be run: in `bin` of the folder that the variable names, or by the path.
fn is_there(home: &str, program: &str) -> bool {
    let of_home = std::env::var_os(home).is_some_and(|home| Path::new(&home).join("bin").join(program).is_file());
    let folders = std::env::var_os("PATH").unwrap_or_default();
    of_home || std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

fn hash_of(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes below a folder, links not followed.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::jobs::{JOBS, job_of};

    #[test]
    fn what_is_not_installed_or_of_other_versions_is_told_with_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let environments = Environments { folder: folder.path().to_owned(), python: None };
        let job = job_of(Framework::ScikitLearn).unwrap();
        assert_eq!(environments.find(job).unwrap_err(), "not installed: run bief compare --setup");
        fs::create_dir_all(folder.path().join("scikit-learn/bin")).unwrap();
        fs::write(folder.path().join("scikit-learn").join(MADE_FROM), "another").unwrap();
        assert!(environments.find(job).unwrap_err().ends_with("is of other versions: run bief compare --setup"));
        fs::write(folder.path().join("scikit-learn").join(MADE_FROM), hash_of(job.requirements)).unwrap();
        fs::write(folder.path().join("scikit-learn/bin/python"), "").unwrap();
        assert!(environments.find(job).unwrap().is_absolute());
    }

    #[test]
    fn what_an_environment_takes_is_the_sum_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("scikit-learn/lib/python3/site-packages");
        fs::create_dir_all(&within).unwrap();
        fs::write(within.join("one"), [0; 1000]).unwrap();
        fs::write(within.join("../two"), [0; 24]).unwrap();
        let environments = Environments { folder: folder.path().to_owned(), python: None };
        assert_eq!(environments.install_bytes(Framework::ScikitLearn), Some(1024));
        let given = Environments { python: Some("python3".into()), ..environments };
        assert_eq!(given.install_bytes(Framework::ScikitLearn), None);
    }

    #[test]
    fn every_requirement_is_pinned_with_a_hash_and_names_no_place() {
        for job in &JOBS {
            let whole = job.requirements.replace("\\\n", " ");
            for line in whole.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
                assert!(line.contains("==") && line.contains("--hash=sha256:"), "{}: {line}", job.script);
            }
            assert!(!job.requirements.contains("://") && !job.requirements.contains("index-url"), "{}", job.script);
        }
    }
}

//! linfa, least squares by a QR decomposition in plain Rust, and bief's own way, which is what the trainer does each day:
//! parts of this binary, which runs itself as the job (`own_fit.rs`), so that they are held, measured and ended as every
//! other framework is.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::contract::{self, Call, JobSettings};
use crate::core::comparison::{Complexity, Facts, Framework, Outcome};
use crate::ports::frameworks::{FitFramework, FitJob};
use crate::runtime::child;

pub(super) const LOCK_FILE: &str = include_str!("../../../Cargo.lock");
const ITS_SOURCE: &str = include_str!("../../core/forecast/linear.rs");
const GRAM_SOURCE: &str = include_str!("../../core/forecast/gram.rs");
/// Where linfa's part of that file begins, and what begins the next.
const LINFA_FUNCTION: &str = "pub fn fit_linfa";
/// The hidden command that is the job.
pub const COMMAND: &str = "fit-exec";

/// linfa alone; for any other name bief's own way: the Gram matrix and Cholesky, with linfa's QR where that is not accurate
/// enough.
pub struct OwnJob {
    pub framework: Framework,
    pub settings: JobSettings,
}

#[async_trait(?Send)]
impl FitFramework for OwnJob {
    fn framework(&self) -> Framework {
        self.framework
    }

    async fn facts(&self) -> Facts {
        let complexity = Complexity {
            lines: lines_of(self.framework),
            dependencies: closure_of("linfa-linear", LOCK_FILE),
            install_bytes: None,
            needs: "nothing: a part of bief".to_owned(),
        };
        Facts { framework: self.framework.name().to_owned(), absent: None, complexity }
    }

    fn is_parallel(&self) -> bool {
        self.framework != Framework::Linfa
    }

    async fn fit(&self, job: &FitJob, cancel: &CancellationToken) -> Outcome {
        let call = Call {
            // Of the guardian, which is this binary too.
            program: child::own_binary(),
            arguments: vec![COMMAND.into(), self.framework.name().into()],
            environment: Vec::new(),
        };
        contract::run(job, &self.settings, cancel, |_| Ok(call)).await
    }
}

fn lines_of(framework: Framework) -> u32 {
    if framework != Framework::Linfa {
        return lines_of_rust(ITS_SOURCE) + lines_of_rust(GRAM_SOURCE);
    }
    let from = ITS_SOURCE.find(LINFA_FUNCTION).map_or("", |at| &ITS_SOURCE[at..]);
    lines_of_rust(from.split_inclusive("\n}\n").next().unwrap_or_default())
}

/// Neither blank nor comment, tests not among them.
fn lines_of_rust(text: &str) -> u32 {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().map(str::trim);
    u32::try_from(code.filter(|line| !line.is_empty() && !line.starts_with("//")).count()).unwrap_or(u32::MAX)
}

/// Crates that this one brings, itself among them.
fn closure_of(name: &str, lock_file: &str) -> u32 {
    let Ok(lock) = lock_file.parse::<toml::Table>() else { return 0 };
    let packages = lock.get("package").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let dependencies = |of: &str| -> Vec<String> {
        let of = packages.iter().filter(|package| package.get("name").and_then(toml::Value::as_str) == Some(of));
        let all = of.filter_map(|package| package.get("dependencies")?.as_array()).flatten();
        // "name" or, where there are several of it, "name version".
        all.filter_map(|name| Some(name.as_str()?.split(' ').next()?.to_owned())).collect()
    };
    let (mut found, mut waiting) = (std::collections::BTreeSet::new(), vec![name.to_owned()]);
    while let Some(next) = waiting.pop() {
        if found.insert(next.clone()) {
            waiting.extend(dependencies(&next));
        }
    }
    u32::try_from(found.len()).unwrap_or(u32::MAX)
}

pub(super) fn version_of(name: &str, lock_file: &str) -> String {
    let lines: Vec<_> = lock_file.lines().collect();
    let pair = lines.windows(2).find(|pair| pair[0] == format!("name = \"{name}\""));
    let version = pair.and_then(|pair| pair[1].strip_prefix("version = \"")?.strip_suffix('"'));
    version.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_crates_are_counted() {
        assert!((5..30).contains(&lines_of(Framework::Linfa)) && lines_of(Framework::Bief) > 100);
        assert!(closure_of("linfa-linear", LOCK_FILE) > 5);
    }

    #[test]
    fn the_version_is_the_locked_one() {
        assert!(version_of("linfa-linear", LOCK_FILE).starts_with("0."), "{}", version_of("linfa-linear", LOCK_FILE));
    }
}

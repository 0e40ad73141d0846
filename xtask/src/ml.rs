//! `cargo xtask test --ml`: the frameworks for real. Installed once into the cache folder, by `bief compare --setup`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::shell;

/// Runs `tests/frameworks.rs`; `arguments` go to `cargo test`.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let environment = Cache::open()?.root().join("ml");
    if !shell::cargo().args(["build", "--bin", "bief"]).status().context("cannot run cargo")?.success() {
        bail!("bief could not be built");
    }
    let bief = shell::target_folder()?.join("debug/bief");
    let mut setup = std::process::Command::new(&bief);
    setup.args(["compare", "--setup", "--generated", "1000x10", "-c", "/nonexistent.toml", "--environment"]);
    setup.arg(&environment);
    if let Some(python) = std::env::var_os("BIEF_TEST_PYTHON") {
        setup.arg("--python").arg(python);
    }
    if !setup.status().context("cannot run bief")?.success() {
        bail!("the frameworks could not be installed into {}", environment.display());
    }
    let mut cargo = shell::cargo();
    cargo.args(["test", "--test", "frameworks"]).args(arguments).env("BIEF_TEST_ML", &environment);
    let status = cargo.status().context("cannot run cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

//! Running other programs to their end, with errors that say which one failed and what it said.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end; what it printed is shown only when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// What a program printed on its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    bail!("{program} {} failed ({}):\n{}", arguments.join(" "), output.status, tail(&said, 30));
}

/// Shows a program's lines as they come, and hands each on, its end of line included.
pub fn pass_on(mut output: impl BufRead, mut each: impl FnMut(&str)) {
    let mut line = Vec::new();
    let mut stdout = std::io::stdout();
    while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Nobody may be reading any more.
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        each(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

/// The cargo that runs this, or the one of the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The folder that cargo builds this workspace into.
pub fn target_folder() -> Result<PathBuf> {
    let here = env!("CARGO_MANIFEST_DIR");
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(here))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    Ok(metadata["target_directory"].as_str().context("cargo's metadata name no target directory")?.into())
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whether a program of this name can be run.
pub fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Bytes below a folder, links not followed.
pub fn size_of(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

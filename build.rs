//! Tells a release build which revision it is of, unless `BIEF_REVISION` does. Other builds are not told: they would be made
//! anew with each commit. Must never fail: a source without git is built all the same, its revision unknown.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BIEF_REVISION");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || std::env::var_os("BIEF_REVISION").is_some() {
        return;
    }
    for changed in ["src", "web", "ml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={changed}");
    }
    // It gets a line with each commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    // Within another repository the hash would be that one's.
    let is_own = git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    if let Some(revision) = git(&["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]).filter(|_| is_own) {
        println!("cargo::rustc-env=BIEF_REVISION={revision}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

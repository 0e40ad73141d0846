//! The tests of the page's scripts, run by Node, which needs nothing else. Left out, and said to be, where there is no
//! Node or an old one.

use std::path::Path;
use std::process::Command;

/// The first with timers that a test can wind.
const OLDEST: (u32, u32) = (20, 11);

/// Major and minor of the Node that there is.
fn node_version() -> Option<(u32, u32)> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().trim_start_matches('v').split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[test]
fn the_pages_scripts_pass_their_tests() {
    if node_version().is_none_or(|version| version < OLDEST) {
        eprintln!("left out: there is no Node of version {}.{} or newer to run the page's scripts", OLDEST.0, OLDEST.1);
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/tests");
    let output = Command::new("node").arg("--test").current_dir(folder).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!told.contains("# pass 0"), "no test was found:\n{told}");
}

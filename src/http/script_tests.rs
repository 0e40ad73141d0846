//! The tests of the page's scripts, run by Node, which needs nothing else. Left out, and said to be, where there is no
//! Node.

use std::path::Path;
use std::process::Command;

#[test]
fn the_pages_scripts_pass_their_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/tests");
    let Ok(output) = Command::new("node").arg("--test").current_dir(folder).output() else {
        eprintln!("left out: there is no Node to run the page's scripts");
        return;
    };
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!told.contains("# pass 0"), "no test was found:\n{told}");
}

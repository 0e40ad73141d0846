//! An address that other machines reach is not opened by accident, whichever way it is given.

use super::daemon::{bief, printed};

#[test]
fn the_demo_opens_no_page_to_other_machines_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/actors.toml");
    let mut command = bief(&["demo", "--until-caught-up", "--http", "0.0.0.0:0", "-c", config, "--folder"]);
    let (text, code) = printed(command.arg(folder.path()));
    assert!(code == 2 && text.contains("can be reached from other machines"), "{code}: {text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was started");
}

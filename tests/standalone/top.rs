//! `bief top` beside a running demo: once for a script, and in a real terminal, which tmux gives.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bief;
use crate::going_on::Demo;

fn demo() -> (tempfile::TempDir, Demo) {
    let no_programs = tempfile::tempdir().unwrap();
    let demo = Demo::start(no_programs.path(), &["--rows", "3000"]);
    demo.wait_for("records keep coming");
    (no_programs, demo)
}

/// A tmux server of its own, with a shell in it.
struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    /// `None`, and said to be, where there is no tmux.
    fn open() -> Option<Self> {
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            println!("left out: there is no tmux; install it to have `bief top` tested in a terminal");
            return None;
        }
        let terminal = Self { folder: tempfile::tempdir().unwrap() };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "130", "-y", "40", "env -i TERM=screen sh"]);
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket")).args(arguments).env_remove("TMUX");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as wanted, and answers with it.
    fn wait_until(&self, wanted: &str, holds: impl Fn(&str) -> bool) -> String {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(Instant::now() < limit, "{wanted} is not on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.folder.path().join("socket");
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
    }
}

#[test]
fn once_top_tells_a_script_the_actors_the_ledger_and_what_holds_it_up() {
    let (_programs, demo) = demo();
    let output = bief(&["top", "--url", &demo.address, "--once", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["bottleneck"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{told:#}");
    let text = told.to_string();
    for wanted in ["consumer", "decoder", "writer", "flights", "weather", "applied", "unaccounted"] {
        assert!(text.contains(wanted), "{wanted} is not in {told:#}");
    }
}

#[test]
fn top_draws_on_a_terminal_and_gives_it_back_by_key_and_by_signal() {
    let Some(terminal) = Terminal::open() else { return };
    let (_programs, demo) = demo();
    let before = {
        terminal.types("stty -a; echo settings'.'");
        terminal.wait_until("the settings", |screen| screen.contains("settings."))
    };
    assert!(before.contains(" echo ") && before.contains(" icanon "), "{before}");
    for end in ["q", "TERM", "INT", "C-c"] {
        terminal.types("clear");
        terminal.types(&format!("{} top --url {}; echo ended with $?", env!("CARGO_BIN_EXE_bief"), demo.address));
        let drawn = terminal.wait_until("the writer and the ledger", |screen| {
            ["consumer", "writer", "flights", "weather"].iter().all(|word| screen.contains(word))
        });
        assert!(!drawn.contains("ended with"), "{drawn}");
        match end {
            "TERM" | "INT" => {
                let pane = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
                let children = Command::new("pgrep").args(["-P", pane.trim(), "bief"]).output().unwrap();
                let top = String::from_utf8(children.stdout).unwrap();
                let sent = Command::new("kill").args([&format!("-{end}"), top.trim()]).status().unwrap();
                assert!(sent.success(), "{top:?}");
            }
            key => drop(terminal.tmux(&["send-keys", key])),
        }
        terminal.wait_until("the shell", |screen| screen.contains("ended with 0"));
        terminal.types("clear; stty -a; echo settings'.'");
        let after =
            terminal.wait_until("the settings", |screen| screen.contains("settings.") && !screen.contains("writer"));
        assert!(after.contains(" echo ") && after.contains(" icanon "), "after {end}: {after}");
    }
}

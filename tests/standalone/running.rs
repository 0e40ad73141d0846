//! A program that goes on beside its test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long it may take to say what is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// The program, ended with its test, and what it says on stderr.
pub struct Running {
    pub child: Child,
    said: Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        command.env_remove("FAILPOINTS").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, said }
    }

    /// Waits until it says so, and answers with the line.
    pub fn wait_for(&self, wanted: &str) -> String {
        let (limit, mut heard) = (Instant::now() + LIMIT, Vec::new());
        while let Ok(line) = self.said.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            if line.contains(wanted) {
                return line;
            }
            heard.push(line);
        }
        panic!("{wanted:?} was not said, but {heard:?}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The null consumer as a process of its own: it gets ready, waits, and reads the topic when told to.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::config::TOPIC;
use super::{Setup, build};

/// Builds its program, and says where it is.
pub fn program() -> Result<PathBuf> {
    Ok(build(&["--example", "null_consumer"])?.join("examples/null_consumer"))
}

/// Ends by itself: at the topic's end, or when nothing comes.
pub struct NullConsumer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl NullConsumer {
    /// Returns once it is ready to read.
    pub fn start(setup: &Setup, program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .args([setup.kafka()?, TOPIC])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the null consumer")?;
        let mut output = BufReader::new(child.stdout.take().context("the null consumer has no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line == "ready\n", "the null consumer did not get ready");
        Ok(Self { child, output })
    }

    pub fn begin(&mut self) -> Result<()> {
        let mut input = self.child.stdin.take().context("the null consumer was begun before")?;
        input.write_all(b"\n").context("cannot begin the null consumer")
    }

    /// Waits until it has read the topic to its end, and fails unless that were so many messages.
    pub fn wait(mut self, records: u64) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the null consumer ended with {status}");
        let read: u64 = line.trim().parse().with_context(|| format!("the null consumer answered {line:?}"))?;
        ensure!(read == records, "the null consumer read {read} of {records} records");
        Ok(())
    }
}

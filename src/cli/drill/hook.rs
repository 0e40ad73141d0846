//! Runs the caller's commands that kill a server and start it again. Must never end one that has begun: the server
//! could stay dead.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a shell command to its end, in a process group of its own: a Ctrl-C in the drill's terminal does not reach it.
///
/// # Errors
/// What became of it, where it failed or has not ended within `limit`; then it runs on.
pub(super) fn run(command: &str, limit: Duration) -> Result<(), String> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("`{command}` cannot be run: {error}"))?;
    let until = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                return Err(format!("`{command}` ended with {status}; see whether the server that it restarts is up"));
            }
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Ok(None) => {
                return Err(format!(
                    "`{command}` has not ended within {} s and runs on as process {}; see whether the server that it \
                     restarts is up",
                    limit.as_secs(),
                    child.id()
                ));
            }
            Err(error) => return Err(format!("`{command}` cannot be watched: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_runs_to_its_end_in_a_process_group_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        // The shell's process and its group: fields 1 and 5 of its line in /proc.
        run(&format!("cut -d ' ' -f 1,5 /proc/$$/stat > '{}'", told.display()), LIMIT).unwrap();
        let told = std::fs::read_to_string(told).unwrap();
        let (process, group) = told.trim().split_once(' ').unwrap();
        assert_eq!(process, group);
    }

    #[test]
    fn a_command_that_fails_or_does_not_end_is_told_and_is_left_to_end() {
        assert!(run("exit 3", LIMIT).unwrap_err().contains("3"));
        let folder = tempfile::tempdir().unwrap();
        let (go, done) = (folder.path().join("go"), folder.path().join("done"));
        let command = format!("while ! test -e '{}'; do sleep 0.05; done; touch '{}'", go.display(), done.display());
        assert!(run(&command, Duration::from_millis(200)).unwrap_err().contains("runs on"));
        std::fs::write(go, "").unwrap();
        let began = Instant::now();
        while !done.exists() {
            assert!(began.elapsed() < LIMIT, "it was ended");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

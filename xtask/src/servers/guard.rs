//! Ends what was started, whatever becomes of this process: a small shell, in a process group of its own, reads a
//! pipe that only this process holds. When the pipe closes (the end, a panic, a signal, SIGKILL alike) it ends every
//! program whose pid file is in the folder, and removes the folder. `servers down` runs the same script.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// `$1`: the folder. A pid file holds the pid and the time at which the process started, so that a number that was
/// given to another process since is left alone; `*.group` stands for a whole process group. Servers get 20 s.
const END: &str = r#"
trap '' HUP INT TERM
read -r word
[ "$word" = keep ] && exit 0
alive() {
    state=$(cut -d' ' -f3,22 "/proc/$1/stat" 2>/dev/null) && [ "${state#* }" = "$2" ] && [ "${state%% *}" != Z ]
}
signal() {
    for file in "$2"/*.group; do
        read -r pid start 2>/dev/null <"$file" && kill -s "$1" -- "-$pid" 2>/dev/null
    done
    for file in "$2"/*.pid; do
        read -r pid start 2>/dev/null <"$file" && alive "$pid" "$start" && kill -s "$1" "$pid" 2>/dev/null
    done
}
some_alive() {
    for file in "$1"/*.pid "$1"/*.group; do
        read -r pid start 2>/dev/null <"$file" && alive "$pid" "$start" && return 0
    done
    return 1
}
signal TERM "$1"
tries=0
while some_alive "$1" && [ "$tries" -lt 400 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
signal KILL "$1"
tries=0
while some_alive "$1" && [ "$tries" -lt 40 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
if some_alive "$1"; then
    echo "some servers would not end; their pid files are in $1" >&2
    exit 1
fi
rm -rf -- "$1"
"#;

/// `$1`: the pid file; then the command. The file is there before the program is.
const START: &str = r#"
pid_file=$1
shift
echo "$$ $(cut -d' ' -f22 "/proc/$$/stat")" >"$pid_file.new" && mv "$pid_file.new" "$pid_file" && exec "$@"
"#;

/// `$1`: the folder, `$2`: the program's name; then the command. Kills the program and starts it again in the same place.
const RESTART: &str = r#"
folder=$1 name=$2
shift 2
read -r pid start <"$folder/$name.pid" && kill -s KILL "$pid"
while state=$(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null) && [ "$state" != Z ]; do
    sleep 0.05
done
# A killed server that its parent has not collected yet looks alive to one that finds its lock.
rm -f "$folder/$name.sock" "$folder/$name.sock.lock"
setsid sh -c "$START" sh "$folder/$name.pid" "$@" </dev/null >>"$folder/$name.log" 2>&1 &
"#;

/// How programs mark the lines of their logs that tell of an error.
const ERROR_WORDS: [&str; 4] = ["ERROR", "FATAL", "PANIC", "Exception"];
/// How many complaints of each program are told, and how much of each.
const COMPLAINTS: usize = 10;
const COMPLAINT_CHARS: usize = 300;

/// The folder of some running programs, which end when this is dropped.
#[derive(Debug)]
pub struct Guard {
    folder: PathBuf,
    shell: Option<Child>,
}

impl Guard {
    /// Watches a fresh folder.
    pub fn new() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("bief-servers-").tempdir().context("cannot make a temporary folder")?;
        let folder = folder.keep();
        let shell = spawn_end(&folder)?;
        Ok(Self { folder, shell: Some(shell) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a program that ends with the guard. Its output goes to `NAME.log` in the folder.
    pub fn start(&self, name: &str, command: &Command) -> Result<Child> {
        let log = std::fs::File::create(self.folder.join(format!("{name}.log"))).context("cannot write a log")?;
        std::fs::write(self.folder.join(format!("{name}.restart")), self.restart_script(name, command))
            .context("cannot write a script")?;
        let mut started = self.wrapped(&format!("{name}.pid"), command);
        started.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        started.spawn().with_context(|| format!("cannot start {name}"))
    }

    /// A shell command that kills a program that was started here, and starts it again.
    pub fn restart_command(&self, name: &str) -> String {
        format!("sh {}", quoted(&self.folder.join(format!("{name}.restart")).display().to_string()))
    }

    fn restart_script(&self, name: &str, command: &Command) -> String {
        let mut script = format!("START={}\nexport START\n", quoted(START));
        for (name, value) in command.get_envs() {
            let name = name.to_string_lossy();
            script += &match value {
                Some(value) => format!("export {name}={}\n", quoted(&value.to_string_lossy())),
                None => format!("unset {name}\n"),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            script += &format!("cd {}\n", quoted(&folder.display().to_string()));
        }
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<_> = words.map(|word| quoted(&word.to_string_lossy())).collect();
        let folder = quoted(&self.folder.display().to_string());
        script + &format!("set -- {folder} {} {}\n{RESTART}", quoted(name), words.join(" "))
    }

    /// Starts a program that ends with the guard together with all of its process group. What it says on its standard
    /// error is ours.
    pub fn start_group(&self, name: &str, command: &Command, stdout: Stdio) -> Result<Child> {
        let mut started = self.wrapped(&format!("{name}.group"), command);
        started.stdin(Stdio::null()).stdout(stdout).process_group(0);
        started.spawn().with_context(|| format!("cannot start {name}"))
    }

    fn wrapped(&self, pid_file: &str, command: &Command) -> Command {
        let mut started = Command::new("sh");
        started.args(["-c", START, "sh"]).arg(self.folder.join(pid_file));
        started.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            started.current_dir(folder);
        }
        started
    }

    /// The last errors in the log of each program, one a line, after the program's name.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let mut logs = Vec::new();
        for entry in std::fs::read_dir(&self.folder).context("cannot list the programs' folder")? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "log") {
                logs.push(path);
            }
        }
        logs.sort();
        let mut told = Vec::new();
        for path in logs {
            let log = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let log = String::from_utf8_lossy(&log);
            let errors: Vec<&str> = log.lines().filter(|line| ERROR_WORDS.iter().any(|w| line.contains(w))).collect();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let last = errors.iter().skip(errors.len().saturating_sub(COMPLAINTS));
            told.extend(last.map(|line| format!("{name}: {}", line.chars().take(COMPLAINT_CHARS).collect::<String>())));
        }
        Ok(told)
    }

    /// Lets the programs run on without this process.
    pub fn keep(mut self) -> Result<PathBuf> {
        if let Some(mut shell) = self.shell.take() {
            let mut pipe = shell.stdin.take().context("the guard's pipe is gone")?;
            pipe.write_all(b"keep\n").context("the guard is gone")?;
            drop(pipe);
            shell.wait()?;
        }
        Ok(self.folder.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Ends what runs in a folder that was kept.
pub fn end(folder: &Path) -> Result<()> {
    let mut shell = spawn_end(folder)?;
    drop(shell.stdin.take());
    if !shell.wait()?.success() {
        bail!("not everything in {} ended", folder.display());
    }
    Ok(())
}

/// Sends a signal to a process group; one that is gone is no error.
pub fn signal_group(signal: &str, leader: u32) {
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "-$2" 2>/dev/null"#, "sh", signal, &leader.to_string()])
        .status();
}

fn spawn_end(folder: &Path) -> Result<Child> {
    Command::new("sh")
        .args(["-c", END, "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot run sh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn sleeping() -> Command {
        let mut command = Command::new("sleep");
        command.arg("1000");
        command
    }

    #[test]
    fn dropping_the_guard_ends_its_programs_and_removes_its_folder() {
        let guard = Guard::new().unwrap();
        let folder = guard.folder().to_path_buf();
        let mut child = guard.start("sleep", &sleeping()).unwrap();
        wait_until("the pid file is written", || folder.join("sleep.pid").exists());
        drop(guard);
        assert!(child.try_wait().unwrap().is_some());
        assert!(!folder.exists());
    }

    #[test]
    fn a_program_is_killed_and_started_again_and_still_ends_with_the_guard() {
        let guard = Guard::new().unwrap();
        let mut first = guard.start("sleep", &sleeping()).unwrap();
        let pid = || std::fs::read_to_string(guard.folder().join("sleep.pid")).unwrap_or_default();
        wait_until("the pid file is written", || !pid().is_empty());
        let before = pid();
        assert!(Command::new("sh").args(["-c", &guard.restart_command("sleep")]).status().unwrap().success());
        assert!(first.wait().unwrap().code().is_none(), "it was killed");
        wait_until("another runs", || pid() != before);
        let stat = PathBuf::from("/proc").join(pid().split(' ').next().unwrap()).join("stat");
        assert!(stat.exists());
        drop(guard);
        wait_until("it is dead", || !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")));
    }

    #[test]
    fn the_last_errors_of_each_log_are_told_and_nothing_else() {
        let guard = Guard::new().unwrap();
        let numbered: String = (0..COMPLAINTS + 5).map(|n| format!("[Note] {n}\n[ERROR] InnoDB: {n}\n")).collect();
        std::fs::write(guard.folder().join("b.log"), numbered).unwrap();
        std::fs::write(guard.folder().join("a.log"), format!("FATAL: {}\n", "é".repeat(COMPLAINT_CHARS))).unwrap();
        std::fs::write(guard.folder().join("calm.log"), "ready for connections\n").unwrap();
        let told = guard.complaints().unwrap();
        assert_eq!(told.len(), 1 + COMPLAINTS);
        assert_eq!(told[0], format!("a: FATAL: {}", "é".repeat(COMPLAINT_CHARS - "FATAL: ".len())));
        assert_eq!((told[1].as_str(), told[COMPLAINTS].as_str()), ("b: [ERROR] InnoDB: 5", "b: [ERROR] InnoDB: 14"));
    }

    #[test]
    fn a_whole_process_group_ends_with_the_guard() {
        let guard = Guard::new().unwrap();
        let folder = guard.folder().to_path_buf();
        let mut command = Command::new("sh");
        let grandchild = folder.with_extension("grandchild");
        command.args(["-c", r#"sleep 1000 & echo $! >"$1"; wait"#, "sh"]).arg(&grandchild);
        let mut child = guard.start_group("tests", &command, Stdio::inherit()).unwrap();
        let pid = || std::fs::read_to_string(&grandchild).ok().filter(|text| text.ends_with('\n'));
        wait_until("the grandchild runs", || pid().is_some());
        let stat = PathBuf::from("/proc").join(pid().unwrap().trim()).join("stat");
        drop(guard);
        assert!(!child.wait().unwrap().success());
        std::fs::remove_file(&grandchild).unwrap();
        // Dead, or waiting for a parent that collects it.
        wait_until("the grandchild is dead", || {
            !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "))
        });
    }

    #[test]
    fn what_is_kept_runs_on_until_it_is_ended() {
        let guard = Guard::new().unwrap();
        let mut child = guard.start("sleep", &sleeping()).unwrap();
        let folder = guard.keep().unwrap();
        wait_until("the pid file is written", || folder.join("sleep.pid").exists());
        assert!(child.try_wait().unwrap().is_none());
        end(&folder).unwrap();
        assert!(child.try_wait().unwrap().is_some());
        assert!(!folder.exists());
    }
}

//! Named points on a batch's way where tests make the daemon die, panic, fail, hang, stop or lose a record. Without
//! the feature `failpoints` nothing of this is compiled in. Set by the environment variable `FAILPOINTS`
//! (`name=action;…`, actions as in the crate `fail`: `sleep(ms)`, `3*off->1*return(kill)->off`, …). What
//! `return(…)` names is one of [`ACTIONS`]. Must never act without having been told to.

/// Every step of a batch's way, in the order a batch meets them.
pub const NAMES: [&str; 20] = [
    "claim",
    "assign",
    "polled",
    "hand-on",
    "before-decode",
    "after-decode",
    "before-write",
    "after-hold",
    "after-parents",
    "after-begin",
    "after-advance",
    "rows-direct",
    "rows-staged",
    "after-rows",
    "set-aside",
    "mark",
    "before-commit",
    "after-commit",
    "report",
    "release",
];

/// Steps beside a batch's way: letters that are sent again, letters that are published, buckets that are refreshed,
/// a broker that truncates a log.
pub const BESIDE: [&str; 8] = [
    "before-mark-published",
    "retry-after-rows",
    "retry-after-commit",
    "drop-before-commit",
    "drop-after-commit",
    "before-replace",
    "before-clean",
    "log-truncated",
];

/// Bugs that tests plant, to see that they are found.
pub const PLANTED: [&str; 1] = ["skip-record"];

/// What `return(…)` can name: the process ends at once as by SIGKILL; a panic; the step fails; the thread never goes
/// on; it goes on after [`STALL`]; the process stops itself as by SIGSTOP.
pub const ACTIONS: [&str; 6] = ["kill", "panic", "error", "hang", "stall", "stop"];

/// A wait longer than any of a test's other waits, shorter than the group's patience.
pub const STALL: std::time::Duration = std::time::Duration::from_millis(1500);

/// A point that a test can name. With an error: the action `error` makes the enclosing function answer it. With
/// `|text| …`: what is done then.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::failpoints::pass($name);
    };
    ($name:literal, |$error:ident| $fail:expr) => {
        if let Some($error) = $crate::failpoints::pass($name) {
            $fail
        }
    };
    ($name:literal, $error:expr) => {
        if $crate::failpoints::pass($name).is_some() {
            return Err($error);
        }
    };
}

/// Does what the point was told to. With an answer, the step shall fail with this text.
pub fn pass(name: &str) -> Option<String> {
    #[cfg(feature = "failpoints")]
    {
        let action = fail::eval(name, |told| told.unwrap_or_else(|| "error".to_owned()))?;
        tracing::warn!(failpoint = name, action, "a failpoint acts");
        act(name, &action)
    }
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        None
    }
}

#[cfg(feature = "failpoints")]
fn act(name: &str, action: &str) -> Option<String> {
    match action {
        "kill" => std::process::abort(),
        "panic" => panic!("failpoint {name}"),
        "hang" => loop {
            std::thread::park();
        },
        "stall" => std::thread::sleep(STALL),
        "stop" => {
            let (own, before) = (std::process::id().to_string(), std::time::Instant::now());
            match std::process::Command::new("kill").args(["-STOP", &own]).status() {
                Ok(_) => wait_until_stopped(before),
                Err(error) => tracing::error!(%error, "the failpoint could not stop the process"),
            }
        }
        _ => return Some(format!("failpoint {name}")),
    }
    None
}

/// The signal stops the process when one of its threads, not necessarily this one, has taken it: until then this one
/// must not go on. Returns once the process has stood still since `moved`.
#[cfg(feature = "failpoints")]
fn wait_until_stopped(mut moved: std::time::Instant) {
    const STOOD_STILL: std::time::Duration = std::time::Duration::from_secs(1);
    while moved.elapsed() < STOOD_STILL {
        moved = std::time::Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether the failpoint of this name is told to act now.
pub fn triggered(name: &str) -> bool {
    #[cfg(feature = "failpoints")]
    {
        fail::eval(name, |_| true).unwrap_or(false)
    }
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        false
    }
}

/// Reads `FAILPOINTS`; the answer keeps them set while it lives.
pub fn from_environment() -> impl Drop {
    fail::FailScenario::setup()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn named_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named_in(&path, names);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("failpoints.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for call in ["failpoint!(", "failpoints::triggered(", "failpoints::pass("] {
                    names.extend(text.split(call).skip(1).map(|rest| rest.split('"').nth(1).unwrap().to_owned()));
                }
            }
        }
    }

    #[test]
    fn every_failpoint_in_the_code_is_listed_and_every_listed_one_is_in_the_code() {
        let mut named = BTreeSet::new();
        named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut named);
        let listed: BTreeSet<String> = NAMES.iter().chain(&BESIDE).chain(&PLANTED).map(|n| (*n).to_owned()).collect();
        assert_eq!(named, listed);
    }
}

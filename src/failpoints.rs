//! Named points on a batch's way where tests make the daemon crash, panic, fail or lose a record. Without
//! the feature `failpoints` nothing of this is compiled in. Set by the environment variable `FAILPOINTS`
//! (`name=action;…`, actions as in the crate `fail`: `panic`, `return`, `sleep(ms)`, `1*off->return`, …).

/// Every failpoint there is, in the order a batch meets them.
pub const NAMES: [&str; 12] = [
    "skip-record",
    "before-decode",
    "before-write",
    "after-parents",
    "after-begin",
    "after-advance",
    "after-rows",
    "before-commit",
    "after-commit",
    "before-mark-published",
    "retry-after-rows",
    "retry-after-commit",
];

/// A point that a test can name. With a value: `return` makes the enclosing function answer that error.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        fail::fail_point!($name);
    };
    ($name:literal, $error:expr) => {
        fail::fail_point!($name, |_| Err($error));
    };
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

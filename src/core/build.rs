//! Which build of bief this is: told by the daemon, kept with each version of a model and with each comparison.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the source, where the build tells it: `BIEF_REVISION`, or git for a release build (`build.rs`).
pub const REVISION: &str = match option_env!("BIEF_REVISION") {
    Some(revision) => revision,
    None => UNKNOWN,
};

const UNKNOWN: &str = "unknown";
/// Of a revision; a git hash has 40 digits.
const MOST: usize = 40;

/// Version and revision as SemVer writes a build, `0.1.0+1a2b3c4d5e6f`; the version alone where the revision is unknown.
pub fn code_version() -> String {
    of(VERSION, REVISION)
}

fn of(version: &str, revision: &str) -> String {
    match revision {
        UNKNOWN | "" => version.to_owned(),
        revision => format!("{version}+{}", revision.chars().take(MOST).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_told_by_version_and_revision() {
        assert_eq!(of("1.2.3", "1a2b3c4d5e6f-dirty"), "1.2.3+1a2b3c4d5e6f-dirty");
        assert_eq!(of("1.2.3", UNKNOWN), "1.2.3");
        assert_eq!(of("1.2.3", &"a".repeat(99)).len(), 46, "it has a column of 64");
        assert!(code_version().starts_with(VERSION));
    }
}

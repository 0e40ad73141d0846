//! Exit codes of every command. Scripts rely on them: a code is never given another meaning. Documented in
//! docs/commands.md, which a test compares with this file.

/// Done.
pub const OK: u8 = 0;
/// Something went wrong while the command ran.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was done.
pub const USAGE: u8 = 2;
/// `verify`, `reconcile`, `check`, `offsets show`, `drill`, `dead-letters retry` or `drop`, `test`, `compare` or `demo` did its work and found something.
pub const FOUND: u8 = 3;
/// A stream stopped for good and `daemon.on_fatal` is `"exit"`.
pub const STREAM_STOPPED: u8 = 4;
/// The daemon cannot be reached, answers that it is not well, or ended what was asked of it.
pub const NOT_READY: u8 = 5;
/// Stopped at once by a second signal.
pub const INTERRUPTED: u8 = 130;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../docs/commands.md");
        let documented: Vec<&str> = page
            .lines()
            .skip_while(|line| *line != "## Exit codes")
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok().map(|_| line))
            .map(|line| line.split(' ').nth(1).unwrap_or_default())
            .collect();
        let codes = [OK, FAILED, USAGE, FOUND, STREAM_STOPPED, NOT_READY, INTERRUPTED].map(|code| code.to_string());
        assert_eq!(documented, codes);
    }
}

//! Chromium, as the tests of the page drive it.

#[allow(clippy::unwrap_used, dead_code, reason = "shared with the tests, where what fails ends the run all the same")]
#[path = "../../tests/browser/driver.rs"]
mod driver;

pub use driver::{Driver, Page};

//! The page in a real browser, served by the real daemon: each tab is opened, looked at, used and measured, as a reader
//! would. Needs chromium and chromedriver; without them these tests are left out, and said to be.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod chart;
mod driver;
mod explore;
mod letters;
mod live;
mod looks;
mod models;
mod pipeline;
mod shop;

use std::process::ExitCode;
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Failed, Trial};

use driver::Driver;

type Test = fn(&Driver);

/// For all tests; ended by `main`.
static DRIVER: OnceLock<Driver> = OnceLock::new();

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A browser and a daemon each: one at a time is enough for two cores.
    arguments.test_threads.get_or_insert(1);
    let missing = Driver::start().map(|driver| DRIVER.set(driver)).err();
    let tests: Vec<(&str, Test)> =
        [live::tests(), explore::tests(), pipeline::tests(), letters::tests(), models::tests(), looks::tests()]
            .concat();
    let count = tests.len();
    let trials = tests.into_iter().map(|(name, test)| {
        let run = move || match DRIVER.get() {
            Some(driver) => caught(|| test(driver)),
            None => Err(Failed::from("no browser")),
        };
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(driver) = DRIVER.get() {
        driver.end();
    }
    if let Some(missing) = missing.filter(|_| !arguments.list) {
        println!("left out: {count} tests of the page in a browser: {missing}\n");
    }
    conclusion.exit_code()
}

/// A test's panic as its failure.
fn caught(test: impl FnOnce()) -> Result<(), Failed> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).map_err(|panic| {
        let told = panic.downcast_ref::<String>().cloned();
        Failed::from(told.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

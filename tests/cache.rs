//! The cache in an SQLite file against what every cache must do. The same tests run against servers in `tests/servers/`.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod cache_conformance;

use std::path::Path;
use std::process::ExitCode;

use bief::adapters::cache::open_cache;
use bief::config::Secret;
use bief::ports::{CacheError, OpenCache};
use libtest_mimic::{Arguments, Trial};

fn in_file(path: &Path) -> OpenCache {
    open_cache(&Secret::new(format!("sqlite://{}", path.display())))
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn a_file_that_is_no_database_is_told_with_the_setting_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache.db");
    std::fs::write(&file, "no database ".repeat(1000)).unwrap();
    let error = block_on(in_file(&file)()).err();
    assert!(
        matches!(&error, Some(CacheError::Fatal { what }) if what.contains("cache.url") && !what.contains("warehouse")),
        "{error:?}"
    );
    let error = block_on(open_cache(&Secret::new("sqlite://"))()).err();
    assert!(matches!(&error, Some(CacheError::Fatal { what }) if what.contains("cache.url")), "{error:?}");
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let conformance = cache_conformance::TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            let folder = tempfile::tempdir().unwrap();
            block_on(test(in_file(&folder.path().join("cache.db"))));
            Ok(())
        })
    });
    let own = [Trial::test("a_file_that_is_no_database_is_told_with_the_setting_to_mend", || {
        a_file_that_is_no_database_is_told_with_the_setting_to_mend();
        Ok(())
    })];
    libtest_mimic::run(&arguments, conformance.chain(own).collect()).exit_code()
}

//! Tests against a real Kafka, MySQL, MariaDB and what speaks MongoDB's protocol. `cargo xtask test` brings them up; servers that are there can
//! be named by BIEF_TEST_KAFKA (host:port), BIEF_TEST_MYSQL and BIEF_TEST_MARIADB (mysql://user:password@host:port/).
//! Without them these tests are left out, and said to be; so are those of TLS and SASL where the Kafka has no secure
//! listener, named by BIEF_TEST_KAFKA_SECURE (host:port) and BIEF_TEST_KAFKA_CA (a PEM file).
//! Those of the cache need BIEF_TEST_MONGODB and BIEF_TEST_FERRETDB (mongodb://user:password@host:port/?authSource=admin)
//! instead, and for TLS BIEF_TEST_FERRETDB_TLS (host:port) and BIEF_TEST_FERRETDB_CA (a PEM file).

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod aggregated;
mod aggregates;
mod bookkeeping;
mod cache;
#[path = "../cache_conformance/mod.rs"]
mod cache_conformance;
mod commit_proxy;
mod dashboards;
mod drill;
mod errors;
mod failpoints;
mod faults;
mod fencing;
mod identifiers;
mod items;
mod letters;
mod lost_commits;
mod memory;
mod offsets;
mod parts;
mod pipeline;
mod poison;
mod rebalances;
mod restored;
mod schema;
mod security;
mod shipped;
#[path = "../upkeep/mod.rs"]
mod shop;
mod support;
mod topics;
mod upkeep;
mod warehouse_mysql;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use support::{CacheServer, Caches, SecureKafka, Servers};

type Test = fn(&Servers);

/// A test of the bookkeeping for each server.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        vec![$(
            (concat!(stringify!($name), "_on_mysql"), (|s| support::block_on(bookkeeping::$name(&s.mysql))) as Test),
            (concat!(stringify!($name), "_on_mariadb"), |s| support::block_on(bookkeeping::$name(&s.mariadb))),
        )*]
    };
}

fn bookkeeping_tests() -> Vec<(&'static str, Test)> {
    on_both![
        daemons_that_start_at_once_make_the_tables_once,
        claims_that_race_all_get_through_with_epochs_of_their_own,
        a_partition_that_comes_back_goes_on_from_its_former_epochs,
        a_claim_and_a_writer_never_deadlock,
        a_claim_whose_server_falls_silent_ends_and_is_tried_again,
        partitions_are_introduced_without_fencing_anyone,
        a_start_whose_server_falls_silent_ends_and_is_tried_again,
        a_bookkeeping_session_that_falls_silent_is_given_up_by_the_server,
        offsets_gaps_and_dead_letters_read_back,
        a_half_applied_file_goes_on_where_it_stopped,
        a_statement_in_doubt_is_found_done,
        a_wrong_password_and_an_unknown_database_are_fatal_and_print_no_secret,
        encryption_is_what_the_settings_say,
        versions_of_models_are_kept_listed_promoted_and_taken_back,
    ]
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two whole pipelines at a time are enough for two cores.
    arguments.test_threads.get_or_insert(2);
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let servers = (variable("BIEF_TEST_KAFKA"), variable("BIEF_TEST_MYSQL"), variable("BIEF_TEST_MARIADB"));
    let secure = variable("BIEF_TEST_KAFKA_SECURE").zip(variable("BIEF_TEST_KAFKA_CA"));
    let cache = |kind: &str| {
        let variable = |ending: &str| variable(&format!("BIEF_TEST_{kind}{ending}"));
        let secure = variable("_TLS").zip(variable("_CA"));
        variable("").map(|url| CacheServer { url, secure })
    };
    let caches = Caches { mongodb: cache("MONGODB"), ferretdb: cache("FERRETDB") };
    let servers: Option<&'static Servers> = match servers {
        (Some(kafka), Some(mysql), Some(mariadb)) => {
            let secure = secure.map(|(address, ca)| SecureKafka { address, ca });
            let caches = caches.clone();
            Some(Box::leak(Box::new(Servers { kafka, mysql, mariadb, secure, caches })))
        }
        _ => None,
    };
    let plain = [
        bookkeeping_tests(),
        pipeline::tests(),
        topics::tests(),
        faults::tests(),
        failpoints::tests(),
        lost_commits::tests(),
        fencing::tests(),
        rebalances::tests(),
        restored::tests(),
        memory::tests(),
        errors::tests(),
        offsets::tests(),
        schema::tests(),
        dashboards::tests(),
        identifiers::tests(),
        drill::tests(),
        poison::tests(),
        letters::tests(),
        warehouse_mysql::tests(),
        aggregates::tests(),
        upkeep::tests(),
        security::tests(),
    ];
    let plain: Vec<(&str, Test)> = plain.into_iter().flatten().collect();
    let secure: Vec<_> = [security::secure_tests(), topics::tests_of_files()].into_iter().flatten().collect();
    let (plain_count, secure_count) = (plain.len(), secure.len());
    let has_secure = servers.is_some_and(|servers| servers.secure.is_some());
    let has_ferretdb = servers.is_some_and(|servers| servers.caches.ferretdb.is_some());
    let refreshed = aggregated::tests();
    let refreshed_count = refreshed.len();
    let tests = plain.into_iter().map(|test| (test, servers.is_some()));
    let tests = tests.chain(secure.into_iter().map(|test| (test, has_secure)));
    let tests = tests.chain(refreshed.into_iter().map(|test| (test, has_ferretdb)));
    let trials = tests.map(|((name, test), can_run)| {
        let run = move || match servers {
            Some(servers) => caught(|| test(servers)),
            None => Err(Failed::from("no servers")),
        };
        Trial::test(name, run).with_ignored_flag(!can_run)
    });
    let caches = [("mongodb", caches.mongodb), ("ferretdb", caches.ferretdb)];
    let caches = caches.map(|(kind, server)| (kind, server.is_some(), cache::trials(kind, server.as_ref())));
    let mut left_out: Vec<(usize, &str)> = match (servers.is_some(), has_secure) {
        (true, true) => Vec::new(),
        (true, false) => vec![(secure_count, "a Kafka with TLS and SASL")],
        (false, _) => vec![(plain_count + secure_count, "Kafka, MySQL and MariaDB")],
    };
    if !has_ferretdb {
        left_out.push((refreshed_count, "Kafka, MySQL, MariaDB and ferretdb"));
    }
    left_out.extend(caches.iter().filter(|(_, has, _)| !has).map(|(kind, _, trials)| (trials.len(), *kind)));
    let trials = trials.chain(caches.into_iter().flat_map(|(_, _, trials)| trials));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if !arguments.list {
        for (count, need) in left_out {
            println!("left out: {count} tests that need {need}; `cargo xtask test` brings it up and runs these too\n");
        }
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

//! What keeps documents right whatever happened to them, on MySQL and MariaDB, with documents in each server of MongoDB's
//! protocol that is named, and in a file where none is.

#[cfg(feature = "failpoints")]
use super::support::{Daemon, PATIENCE, create_topic};
use super::support::{Database, unique};
use crate::shop::{self, Kept, Shop};

/// Nobody listens there, and nobody asks.
const NO_KAFKA: &str = "127.0.0.1:9";

/// Each behaviour on both servers.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        vec![$(
            (concat!(stringify!($name), "_on_mysql"), (|s| on_each_cache(&s.mysql, shop::$name)) as super::Test),
            (concat!(stringify!($name), "_on_mariadb"), |s| on_each_cache(&s.mariadb, shop::$name)),
        )*]
    };
}

/// What the port of leases promises, on both servers.
macro_rules! leases_on_both {
    ($($name:ident),* $(,)?) => {
        vec![$(
            (concat!(stringify!($name), "_on_mysql"), (|s| {
                let (shop, _database) = shop_in(&s.mysql, Kept::Sqlite);
                shop::block_on(shop::leases::$name(&shop.settings()));
            }) as super::Test),
            (concat!(stringify!($name), "_on_mariadb"), |s| {
                let (shop, _database) = shop_in(&s.mariadb, Kept::Sqlite);
                shop::block_on(shop::leases::$name(&shop.settings()));
            }),
        )*]
    };
}

pub fn tests() -> Vec<(&'static str, super::Test)> {
    let mut tests = on_both![
        documents_changed_by_hand_are_found_and_mended,
        names_and_shares_that_are_wrong_are_told,
        a_pass_that_fails_is_tried_again_and_one_that_was_missed_is_not_made_up_for,
        of_two_reconcilers_one_works_and_the_other_takes_over,
    ];
    tests.extend(leases_on_both![
        a_lease_has_one_holder_until_it_is_given_back_or_ends,
        what_a_lease_was_held_for_is_known_to_the_next,
        of_many_that_ask_at_once_one_gets_the_lease,
        a_rebuild_is_put_down_and_forgotten,
    ]);
    #[cfg(feature = "failpoints")]
    tests.extend(on_both![a_rebuild_goes_on_after_a_kill]);
    #[cfg(feature = "failpoints")]
    tests.push(("a_daemon_killed_within_its_pass_is_followed_by_another", |s| {
        killed_within_its_pass(&s.kafka, &s.mysql);
    }));
    tests
}

fn shop_in(server: &str, kept: Kept) -> (Shop, Database) {
    let database = Database::create(server);
    (Shop::new(Some(database.url()), kept, NO_KAFKA, "sales"), database)
}

fn on_each_cache(server: &str, case: fn(&Shop)) {
    let named = ["BIEF_TEST_MONGODB", "BIEF_TEST_FERRETDB"].map(|name| std::env::var(name).ok());
    let mut caches: Vec<Kept> = named
        .into_iter()
        .flatten()
        .filter(|url| !url.is_empty())
        .map(|server| {
            let mut url = url::Url::parse(&server).unwrap();
            url.set_path(&unique("bief_test"));
            Kept::MongoDb(url.to_string())
        })
        .collect();
    if caches.is_empty() {
        caches.push(Kept::Sqlite);
    }
    for kept in caches {
        let (shop, _database) = shop_in(server, kept);
        case(&shop);
    }
}

#[cfg(feature = "failpoints")]
fn wait(what: &str, mut met: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "not {what} in {PATIENCE:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Two daemons, each of which would make a pass every other second: the one that makes it hangs in the middle of mending
/// and is killed there; the other goes on.
#[cfg(feature = "failpoints")]
fn killed_within_its_pass(kafka: &str, mysql: &str) {
    let (shop, database) = shop_in(mysql, Kept::Sqlite);
    let topic = unique("sales");
    create_topic(kafka, &topic, 1, &[]);
    shop.configure(kafka, &topic, "*/2 * * * * *");
    shop.sell(0..5);
    for name in ["by_shop", "in_all"] {
        shop::json(&shop.run(&["rebuild", name, "--json"]), 0);
    }
    let document = "by_shop|2024-03-01T00:00:00Z|A";
    let bucket = "source = 'sale.sold_at/1h' AND bucket_start = '2024-03-01'";
    let version = || database.count(&format!("SELECT SUM(dirty_version) FROM bief_dirty_bucket WHERE {bucket}"));
    let holder = || {
        let rows =
            database.rows("SELECT owner FROM bief_lease WHERE name = 'reconcile' AND held_until > UTC_TIMESTAMP(6)");
        rows.into_iter().next().and_then(|mut row| row.take::<String, _>(0))
    };
    let before = version();
    shop.edit(document, "sales", 99);
    let killed = Daemon::start_with(&shop.config(), &[("FAILPOINTS", "before-replace=pause")]);
    wait("marked, so that it is mended", || version() > before);
    let first = holder().expect("who mends holds the lease");
    let other = Daemon::start(&shop.config());
    assert_eq!(holder().as_ref(), Some(&first), "{:#?}", other.log());
    killed.kill();
    wait("taken over", || holder().is_some_and(|owner| owner != first));
    wait("mended", || shop.documents("by_shop")[0].contains("Integer(1)"));
    // The other makes the passes now.
    shop.remove(document);
    wait("mended again", || shop.documents("by_shop").len() == 10);
    wait("counted", || other.metric("bief_reconcile_differences_total{aggregate=\"by_shop\"}") >= Some(1.0));
    assert!(other.metric("bief_reconcile_last_success_timestamp_seconds") > Some(0.0));
    other.stop();
    shop::json(&shop.run(&["reconcile", "--all", "--json"]), 0);
}

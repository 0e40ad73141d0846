//! The cache on servers that speak MongoDB's protocol: what every cache must do, and what only a server can show. Each
//! test has a database of its own, which goes with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bief::adapters::cache::open_cache;
use bief::config::Secret;
use bief::core::document::{Bucket, bucket_id, document_id};
use bief::ports::cache::{CacheCounts, CacheQuery, CachedAggregate, Entry, Fields, Replaced, Replacement};
use bief::ports::{Cache, CacheError, OpenCache};
use chrono::{DateTime, TimeDelta};
use libtest_mimic::Trial;
use mongodb::Database;
use mongodb::bson::{Bson, Document as Stored, doc};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use url::Url;

use super::support::{block_on, unique};
use crate::cache_conformance;

/// A server that the environment names.
#[derive(Clone)]
pub struct CacheServer {
    /// With its log-in, without a database.
    pub url: String,
    /// A port of the same server that wants TLS, and the PEM file of its authority.
    pub secure: Option<(String, String)>,
}

/// A test by its name, and how one is run.
type Test = (&'static str, fn(&Space));
type Run = Box<dyn Fn(&Space) + Send>;

/// All tests for one kind of server; left out where there is none.
pub fn trials(kind: &'static str, server: Option<&CacheServer>) -> Vec<Trial> {
    let mut tests: Vec<Test> = vec![
        ("a_document_of_an_older_version_that_arrives_late_is_never_seen", |s| block_on(late_documents(s))),
        ("a_replacement_cut_off_between_its_steps_is_made_good", |s| block_on(cut_off(s))),
        ("a_collection_that_is_somebody_elses_is_left_alone", |s| block_on(foreign_collection(s))),
        ("a_document_that_was_changed_by_hand_is_named", |s| block_on(changed_by_hand(s))),
        ("retried_writes_on_or_off_make_no_difference", |s| block_on(retried_writes(s))),
        ("a_server_that_is_away_is_told_as_passing_and_prints_no_secret", |s| block_on(away(s))),
        ("a_connection_that_breaks_is_opened_again", |s| block_on(broken_connection(s))),
    ];
    if kind == "ferretdb" {
        // mongo-java-server has no log-in, no TLS, keeps no list of indexes that are not unique, and no time.
        let more: [Test; 3] = [
            ("a_wrong_password_is_fatal_and_prints_no_secret", |s| block_on(wrong_password(s))),
            ("indexes_follow_the_configuration", |s| block_on(indexes(s))),
            ("the_server_removes_what_is_past_its_keep", |s| block_on(removed_by_the_server(s))),
        ];
        tests.extend(more);
        if server.is_none_or(|server| server.secure.is_some()) {
            tests.push(("encryption_is_what_the_url_says", |s| block_on(encryption(s))));
        }
    }
    let conformance = cache_conformance::TESTS.iter().map(|(name, test)| {
        let run: Run = Box::new(move |space: &Space| block_on(test(space.open())));
        (*name, run)
    });
    let own = tests.into_iter().map(|(name, test)| {
        let run: Run = Box::new(test);
        (name, run)
    });
    let trial = |(name, run): (&str, Run)| {
        let server = server.cloned();
        let can_run = server.is_some();
        let run = move || {
            let space = Space::create(&server.ok_or("no server")?);
            super::caught(|| run(&space))
        };
        Trial::test(format!("{name}_on_{kind}"), run).with_ignored_flag(!can_run)
    };
    conformance.chain(own).map(trial).collect()
}

/// A database of its own, dropped with the value.
pub struct Space {
    server: CacheServer,
    name: String,
}

impl Space {
    pub fn create(server: &CacheServer) -> Self {
        Self { server: server.clone(), name: unique("bief_test") }
    }

    pub fn url(&self) -> Url {
        let mut url = Url::parse(&self.server.url).unwrap();
        url.set_path(&self.name);
        url
    }

    /// The URL with more options.
    fn url_with(&self, options: &[(&str, &str)]) -> Url {
        let mut url = self.url();
        url.query_pairs_mut().extend_pairs(options);
        url
    }

    fn open(&self) -> OpenCache {
        opening(&self.url())
    }

    async fn ready(&self) -> Box<dyn Cache> {
        let mut cache = self.open()().await.unwrap();
        cache.prepare(&[sums_aggregate(None)]).await.unwrap();
        cache
    }

    /// What is stored, by the driver itself.
    pub async fn database(&self) -> Database {
        mongodb::Client::with_uri_str(self.url()).await.unwrap().database(&self.name)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        block_on(async { drop(self.database().await.drop().await) });
    }
}

fn opening(url: &Url) -> OpenCache {
    open_cache(&Secret::new(url.as_str()))
}

async fn refused(url: &Url) -> CacheError {
    match opening(url)().await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

fn sums_aggregate(keep: Option<Duration>) -> CachedAggregate {
    CachedAggregate { name: "sums".to_owned(), key: vec!["shop".to_owned()], keep }
}

/// An hour of the year 2096, so that no server finds it past its `keep`.
fn hour(n: i64) -> Bucket {
    let at = |hours: i64| DateTime::from_timestamp(4_000_000_000 + hours * 3600, 0).unwrap();
    Bucket::new(at(n), at(n + 1)).unwrap()
}

fn key(shop: &str) -> Fields {
    vec![("shop".to_owned(), shop.into())]
}

fn sums(bucket: Bucket, version: i64, shops: &[&str]) -> Replacement {
    let entry = |shop: &&str| Entry { key: key(shop), values: vec![("orders".to_owned(), version.into())] };
    Replacement {
        aggregate: "sums".to_owned(),
        bucket,
        version,
        computed_at: bucket.end(),
        offsets: Default::default(),
        entries: shops.iter().map(entry).collect(),
    }
}

async fn shops(cache: &mut Box<dyn Cache>, bucket: Bucket) -> Vec<(String, i64)> {
    let found = cache.bucket("sums", bucket.start()).await.unwrap();
    let paged = CacheQuery { aggregate: "sums".to_owned(), limit: 1000, ..CacheQuery::default() };
    let paged = cache.read(&paged).await.unwrap().documents;
    assert_eq!(paged.iter().filter(|d| d.bucket == bucket).collect::<Vec<_>>(), found.iter().collect::<Vec<_>>());
    found.iter().map(|d| (d.key[0].1.clone(), d.version)).map(|(shop, version)| (text(shop), version)).collect()
}

fn text(value: bief::core::document::Value) -> String {
    match value {
        bief::core::document::Value::Text(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

/// A document as it is stored.
async fn stored(database: &Database, bucket: Bucket, shop: &str) -> Stored {
    let collection = database.collection::<Stored>("sums");
    collection.find_one(doc! { "_id": document_id("sums", bucket, &key(shop)) }).await.unwrap().unwrap()
}

async fn put(database: &Database, document: Stored) {
    let id = doc! { "_id": document.get("_id") };
    let collection = database.collection::<Stored>("sums");
    collection.replace_one(id, document).upsert(true).await.unwrap();
}

async fn late_documents(space: &Space) {
    let (mut cache, database) = (space.ready().await, space.database().await);
    cache.replace(&sums(hour(0), 3, &["a", "b", "z"])).await.unwrap();
    let late = stored(&database, hour(0), "z").await;
    // `z` was never known to the server when the newer version came: dropped, then made anew.
    cache.drop_aggregate("sums").await.unwrap();
    cache.replace(&sums(hour(0), 5, &["a", "b"])).await.unwrap();
    put(&database, late).await;
    let expected = [("a".to_owned(), 5), ("b".to_owned(), 5)];
    assert_eq!(shops(&mut cache, hour(0)).await, expected);
    // Pages go round it, wherever they end.
    let mut query = CacheQuery { aggregate: "sums".to_owned(), limit: 1, ..CacheQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = cache.read(&query).await.unwrap();
        found.extend(page.documents.iter().map(|d| (text(d.key[0].1.clone()), d.version)));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
    // It lies there until the bucket is replaced again, and nobody counts it.
    assert_eq!(cache.count("sums").await.unwrap(), CacheCounts { buckets: 1, documents: 2 });
    let replaced = cache.replace(&sums(hour(0), 6, &["a", "b"])).await;
    assert_eq!(replaced, Ok(Replaced { written: 2, gone: 1, ..Replaced::default() }));
    assert_eq!(cache.count("sums").await.unwrap(), CacheCounts { buckets: 1, documents: 2 });
}

async fn cut_off(space: &Space) {
    let (mut cache, database) = (space.ready().await, space.database().await);
    let buckets = database.collection::<Stored>("bief_bucket");
    let version = |version: i64| doc! { "$set": { "version": version } };

    // Behind the first of two documents: the rest is written.
    cache.replace(&sums(hour(0), 1, &["a", "b", "gone"])).await.unwrap();
    let mut document = stored(&database, hour(0), "a").await;
    document.insert("version", 2_i64);
    put(&database, document).await;
    let replaced = cache.replace(&sums(hour(0), 2, &["a", "b"])).await;
    assert_eq!(replaced, Ok(Replaced { written: 1, unchanged: 1, gone: 1, ..Replaced::default() }));
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 2), ("b".to_owned(), 2)]);

    // Behind the bucket's own document: what is lower is read by nobody, and removed.
    cache.replace(&sums(hour(1), 1, &["a", "gone"])).await.unwrap();
    let mut document = stored(&database, hour(1), "a").await;
    document.insert("version", 2_i64);
    put(&database, document).await;
    buckets.update_one(doc! { "_id": bucket_id("sums", hour(1)) }, version(2)).await.unwrap();
    assert_eq!(shops(&mut cache, hour(1)).await, [("a".to_owned(), 2)]);
    let replaced = cache.replace(&sums(hour(1), 2, &["a"])).await;
    assert_eq!(replaced, Ok(Replaced { unchanged: 1, gone: 1, ..Replaced::default() }));

    // A newer one is under way and has written a document, but has not told that it is done: it stays, and wins.
    cache.replace(&sums(hour(2), 1, &["a", "b"])).await.unwrap();
    let mut document = stored(&database, hour(2), "a").await;
    document.insert("version", 9_i64);
    put(&database, document).await;
    let replaced = cache.replace(&sums(hour(2), 2, &["a", "c"])).await;
    assert_eq!(replaced, Ok(Replaced { written: 1, newer: 1, gone: 1, ..Replaced::default() }));
    assert_eq!(shops(&mut cache, hour(2)).await, [("a".to_owned(), 9), ("c".to_owned(), 2)]);
    let replaced = cache.replace(&sums(hour(2), 9, &["a"])).await;
    assert_eq!(replaced, Ok(Replaced { unchanged: 1, gone: 1, ..Replaced::default() }));
}

async fn foreign_collection(space: &Space) {
    let (mut cache, database) = (space.open()().await.unwrap(), space.database().await);
    database.collection::<Stored>("sums").insert_one(doc! { "theirs": 1 }).await.unwrap();
    for refused in [cache.prepare(&[sums_aggregate(None)]).await, cache.drop_aggregate("sums").await] {
        let Err(CacheError::Fatal { what }) = refused else { panic!("{refused:?}") };
        assert!(what.contains("collection sums") && what.contains("database of its own"), "{what}");
    }
    assert_eq!(database.collection::<Stored>("sums").count_documents(doc! {}).await.unwrap(), 1);
    for name in ["bief_bucket", "system.views", ""] {
        let aggregate = CachedAggregate { name: name.to_owned(), key: Vec::new(), keep: None };
        assert!(matches!(cache.prepare(&[aggregate]).await, Err(CacheError::Fatal { .. })), "{name}");
    }
}

async fn changed_by_hand(space: &Space) {
    let (mut cache, database) = (space.ready().await, space.database().await);
    cache.replace(&sums(hour(0), 1, &["a", "b"])).await.unwrap();
    // Another number is read as it is, and mended by a higher version.
    let mut document = stored(&database, hour(0), "a").await;
    document.insert("values", doc! { "orders": 77 });
    put(&database, document.clone()).await;
    let found = cache.bucket("sums", hour(0).start()).await.unwrap();
    assert_eq!(found[0].values, [("orders".to_owned(), 77.into())]);
    cache.replace(&sums(hour(0), 2, &["a", "b"])).await.unwrap();
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 2), ("b".to_owned(), 2)]);
    // What is no document any more is named, with what to do.
    document.insert("version", "two");
    put(&database, document).await;
    for told in [
        cache.bucket("sums", hour(0).start()).await.map(drop),
        cache.replace(&sums(hour(0), 3, &["a", "b"])).await.map(drop),
    ] {
        let Err(CacheError::Fatal { what }) = told else { panic!("{told:?}") };
        assert!(what.contains("|a") && what.contains("remove it"), "{what}");
    }
    let id = doc! { "_id": document_id("sums", hour(0), &key("a")) };
    database.collection::<Stored>("sums").delete_one(id).await.unwrap();
    cache.replace(&sums(hour(0), 3, &["a", "b"])).await.unwrap();
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 3), ("b".to_owned(), 3)]);
}

async fn retried_writes(space: &Space) {
    for (n, retry) in ["true", "false"].into_iter().enumerate() {
        let url = space.url_with(&[("retryWrites", retry), ("retryReads", retry)]);
        let mut cache = opening(&url)().await.unwrap();
        let bucket = hour(i64::try_from(n).unwrap());
        cache.prepare(&[sums_aggregate(Some(Duration::from_secs(86_400)))]).await.unwrap();
        cache.replace(&sums(bucket, 1, &["a", "b"])).await.unwrap();
        cache.replace(&sums(bucket, 2, &["a"])).await.unwrap();
        assert_eq!(shops(&mut cache, bucket).await, [("a".to_owned(), 2)], "retryWrites={retry}");
        cache.drop_aggregate("sums").await.unwrap();
    }
}

async fn away(space: &Space) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut url = space.url_with(&[("serverSelectionTimeoutMS", "300")]);
    url.set_port(Some(port)).unwrap();
    url.set_username("somebody").unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let start = Instant::now();
    let error = refused(&url).await;
    let CacheError::Transient { what } = &error else { panic!("{error:?}") };
    assert!(what.contains("no server answers") && what.contains("refused"), "{what}");
    assert!(!format!("{error:?}").contains("hunter2"), "{what}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Passes on what goes to a server until it is told to cut all connections; ends when dropped.
struct Wire {
    cut: broadcast::Sender<()>,
    listening: tokio::task::JoinHandle<()>,
}

impl Wire {
    async fn to(server: String, port: u16) -> (Self, u16) {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, _) = broadcast::channel(1);
        let sender = cut.clone();
        let server: Arc<str> = server.into();
        let listening = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut stop, server) = (sender.subscribe(), Arc::clone(&server));
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&*server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = stop.recv() => {}
                    }
                });
            }
        });
        (Self { cut, listening }, port)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
        let _ = self.cut.send(());
    }
}

async fn broken_connection(space: &Space) {
    let mut url = space.url_with(&[("serverSelectionTimeoutMS", "1000")]);
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let (wire, port) = Wire::to(server.clone(), 0).await;
    url.set_port(Some(port)).unwrap();
    let mut cache = opening(&url)().await.unwrap();
    cache.prepare(&[sums_aggregate(None)]).await.unwrap();
    cache.replace(&sums(hour(0), 1, &["a"])).await.unwrap();
    for version in 2..6 {
        wire.cut.send(()).unwrap();
        until_done(&mut cache, version).await;
    }
    // The server is gone, and back after a while.
    drop(wire);
    let error = cache.replace(&sums(hour(0), 6, &["a"])).await.unwrap_err();
    assert!(matches!(error, CacheError::Transient { .. }), "{error:?}");
    assert!(matches!(cache.ping().await, Err(CacheError::Transient { .. })));
    let start = Instant::now();
    let _wire = loop {
        // The port may still be held by connections that end.
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(free) => {
                drop(free);
                break Wire::to(server, port).await.0;
            }
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    until_done(&mut cache, 7).await;
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 7)]);
}

/// Replaces until it works; all errors until then must be such as pass.
async fn until_done(cache: &mut Box<dyn Cache>, version: i64) {
    let start = Instant::now();
    loop {
        match cache.replace(&sums(hour(0), version, &["a"])).await {
            Ok(_) => return,
            Err(CacheError::Transient { what }) => assert!(start.elapsed() < Duration::from_secs(60), "{what}"),
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wrong_password(space: &Space) {
    let url = space.url();
    assert!(url.password().is_some(), "the server must want a log-in");
    for (user, password) in [(url.username(), "hunter2"), ("nobody", "hunter2")] {
        let mut wrong = url.clone();
        wrong.set_username(user).unwrap();
        wrong.set_password(Some(password)).unwrap();
        let error = refused(&wrong).await;
        let CacheError::Fatal { what } = &error else { panic!("{error:?}") };
        assert!(what.contains("authSource") && !format!("{error:?}").contains("hunter2"), "{what}");
    }
}

async fn encryption(space: &Space) {
    let Some((address, ca)) = space.server.secure.clone() else { panic!("no port with TLS was named") };
    let at = |options: &[(&str, &str)]| {
        let mut url = space.url_with(options);
        url.query_pairs_mut().append_pair("serverSelectionTimeoutMS", "1000");
        url.set_port(Some(address.rsplit(':').next().unwrap().parse().unwrap())).unwrap();
        url
    };
    let mut cache = opening(&at(&[("tls", "true"), ("tlsCAFile", ca.as_str())]))().await.unwrap();
    cache.prepare(&[sums_aggregate(None)]).await.unwrap();
    cache.replace(&sums(hour(0), 1, &["a"])).await.unwrap();
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 1)]);

    let error = refused(&at(&[("tls", "true")])).await;
    assert!(matches!(&error, CacheError::Fatal { what } if what.contains("tlsCAFile")), "{error:?}");
    let error = refused(&at(&[])).await;
    assert!(matches!(&error, CacheError::Transient { .. }), "{error:?}");
    let error = refused(&space.url_with(&[("tls", "true"), ("serverSelectionTimeoutMS", "1000")])).await;
    assert!(error.to_string().contains("tls=false"), "{error:?}");
}

/// Names of our indexes, with after how many seconds documents expire.
async fn our_indexes(database: &Database) -> Vec<(String, Option<i64>)> {
    let told = database.run_command(doc! { "listIndexes": "sums" }).await.unwrap();
    let indexes = told.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    let seconds = |value: &Bson| match value {
        Bson::Int32(n) => i64::from(*n),
        Bson::Int64(n) => *n,
        Bson::Double(n) => *n as i64,
        other => panic!("{other:?}"),
    };
    let named = indexes.iter().map(|index| {
        let index = index.as_document().unwrap();
        (index.get_str("name").unwrap().to_owned(), index.get("expireAfterSeconds").map(seconds))
    });
    let mut ours: Vec<_> = named.filter(|(name, _)| name != "_id_").collect();
    ours.sort();
    ours
}

async fn indexes(space: &Space) {
    let (mut cache, database) = (space.open()().await.unwrap(), space.database().await);
    let theirs = doc! { "createIndexes": "sums", "indexes": [{ "name": "theirs", "key": { "values.orders": 1 } }] };
    database.run_command(theirs).await.unwrap();
    let theirs = ("theirs".to_owned(), None);
    for (key, keep, expected) in [
        (&["shop"][..], Some(3600), vec![("bief_keep", Some(3600)), ("bief_key_shop", None)]),
        (&["shop"][..], Some(3600), vec![("bief_keep", Some(3600)), ("bief_key_shop", None)]),
        (&["shop"][..], Some(7200), vec![("bief_keep", Some(7200)), ("bief_key_shop", None)]),
        (&["aisle", "shop"][..], None, vec![("bief_key_aisle", None), ("bief_key_shop", None)]),
        (&[][..], None, vec![]),
    ] {
        let aggregate = CachedAggregate {
            name: "sums".to_owned(),
            key: key.iter().map(|&k| k.to_owned()).collect(),
            keep: keep.map(Duration::from_secs),
        };
        cache.prepare(&[aggregate]).await.unwrap();
        let mut expected: Vec<_> = expected.into_iter().map(|(name, seconds)| (name.to_owned(), seconds)).collect();
        expected.push(theirs.clone());
        assert_eq!(our_indexes(&database).await, expected);
    }
}

/// The server looks once a minute.
async fn removed_by_the_server(space: &Space) {
    if std::env::var("BIEF_TEST_LONG").is_err() {
        return;
    }
    let (mut cache, database) = (space.open()().await.unwrap(), space.database().await);
    let aggregate = sums_aggregate(Some(Duration::from_secs(3600)));
    cache.prepare(std::slice::from_ref(&aggregate)).await.unwrap();
    let at = |second: i64| DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap();
    let past = Bucket::new(at(0), at(3600)).unwrap();
    cache.replace(&sums(past, 1, &["a", "b"])).await.unwrap();
    cache.replace(&sums(hour(0), 1, &["a"])).await.unwrap();
    let start = Instant::now();
    while database.collection::<Stored>("sums").count_documents(doc! {}).await.unwrap() > 1 {
        assert!(start.elapsed() < Duration::from_secs(180), "nothing was removed");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(shops(&mut cache, past).await, []);
    assert_eq!(shops(&mut cache, hour(0)).await.len(), 1);
    // What tells of the bucket goes with the next purge, which finds no document of it.
    assert_eq!(cache.purge(&[aggregate], past.end() + TimeDelta::hours(2)).await, Ok(0));
    assert_eq!(cache.count("sums").await.unwrap(), CacheCounts { buckets: 1, documents: 1 });
}

//! What a sound file means: its values, its defaults, and how it is printed as understood.

use std::path::Path;
use std::time::Duration;

use bief::config::schema::ROOT;
use bief::config::{
    self, Backend, Brokers, CacheBackend, EpochUnit, Loaded, Location, OnFatal, Severity, Source, Start, Tls,
};
use bief::core::bucket::Width;
use bief::core::forecast::{Calendar, Drift, Rolling, Statistic};
use bief::core::target::OnConflict;

const WHOLE: &str = r#"# Orders, from Kafka to MySQL.
[daemon]
name = "orders"
http = "localhost:9090"
allowed_hosts = ["Bief.Example.org"]
memory = "512MiB"
drain_timeout = "5s"
on_fatal = "exit"
restart_budget = 3
restart_window = "1m"
log = "json"

[kafka]
brokers = "kafka-1:9092, kafka-2:9092"
group = "${GROUP}"

[kafka.properties]
security.protocol = "ssl"
"session.timeout.ms" = 30_000
"socket.keepalive.enable" = true

[warehouse]
url = "mysql://orders:${PW}@mysql/orders"
tls = "require"
migrations = "migrations"
load = "insert"

[cache]
url = "mongodb://bief:${PW}@mongo-1:27017,mongo-2/orders?retryWrites=false"
reconcile = "0 4 * * SUN"
reconcile_sample = 1

[[stream]]
topic = "orders"
name = "shop"
start = "latest"
lanes = 3
max_batch_records = 500
max_batch_bytes = "1MiB"
max_record_bytes = "64KiB"

[[stream.table]]
name = "customer"
columns = { id = "customer", "na$me" = "customer name" }

[[stream.table]]
name = "orders"
on_conflict = "update"
optional = true

[stream.table.columns]
id = "id"
paid_at = { field = "paid", epoch = "us" }
odd = { field = "@odd" }
at = "@timestamp"
k = "@key"
t = "@topic"
p = "@partition"
o = "@offset"

[[aggregate]]
name = "orders_hourly"
table = "Orders"
time = "paid_at"
bucket = "60m"
query = "aggregates/orders_hourly.sql"
key = ["customer", "k"]
every = "10s"
keep = "400d"

[[aggregate]]
name = "orders_daily"
table = "orders"
time = "PAID_AT"
bucket = "1h"
query = "/etc/orders_daily.sql"

[[forecast]]
name = "orders_ahead"
aggregate = "orders_hourly"
target = "orders"
key = ["K", "customer"]
horizons = ["24h", "60m"]
lags = [0, 0x2]
seasons = [24]
others = [1]
calendar = ["weekday", "hour"]
harmonics = 2
train_at = "off"
holdout = "14d"
interval = 0.9
memory = "64MiB"
rolling = [{ window = 28, of = "max", every = 24 }, { window = 3 }]
covariates = [{ aggregate = "orders_daily", fields = ["visitors", "rain"] }]
drift = { ratio = 2, window = "12h" }

[[forecast]]
name = "all_orders"
aggregate = "orders_daily"
target = "orders"
horizons = ["1h"]
lags = [0]

[[replay]]
topic = "orders"
file = "data/orders.csv.gz"
key = ["id"]
event_time = "placed_at"
times = ["placed_at", "paid_at"]
partitions = 2

[[replay.lookup]]
file = "data/customers.csv"
field = "customer"
key = "id"
take = { "customer name" = "name" }
"#;

const LEAST: &str = r#"
kafka.brokers = "embedded"
warehouse.url = "sqlite://var/orders.db"

[[stream]]
topic = "orders"

[[stream.table]]
name = "orders"
columns = { id = "id" }
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "GROUP" => Some("from-env".into()),
        "PW" => Some("secret".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Loaded {
    config::parse(text, "actors.toml", Path::new("/etc/bief"), &env)
        .unwrap_or_else(|findings| panic!("{}", findings.iter().map(ToString::to_string).collect::<String>()))
}

#[test]
fn every_value_of_a_whole_file_is_taken() {
    let config = parse(WHOLE).config;
    assert_eq!(config.daemon.name, "orders");
    assert_eq!(config.daemon.http.to_string(), "127.0.0.1:9090");
    assert_eq!(config.daemon.allowed_hosts, ["bief.example.org"]);
    assert_eq!(config.daemon.memory, 512 << 20);
    assert_eq!(config.daemon.drain_timeout, Duration::from_secs(5));
    assert_eq!(config.daemon.on_fatal, OnFatal::Exit);
    assert_eq!((config.daemon.restart_budget, config.daemon.restart_window), (3, Duration::from_secs(60)));
    assert_eq!(config.kafka.brokers, Brokers::Servers("kafka-1:9092,kafka-2:9092".into()));
    assert_eq!(config.kafka.group, "from-env");
    let properties: Vec<_> = config.kafka.properties.iter().map(|(k, v)| (k.as_str(), v.expose())).collect();
    assert_eq!(
        properties,
        [("security.protocol", "ssl"), ("session.timeout.ms", "30000"), ("socket.keepalive.enable", "true")]
    );
    assert_eq!(config.warehouse.url.expose(), "mysql://orders:secret@mysql/orders");
    assert_eq!((config.warehouse.backend(), config.warehouse.tls), (Backend::MySql, Tls::Require));
    assert_eq!(config.warehouse.migrations.as_deref(), Some(Path::new("/etc/bief/migrations")));
    let stream = &config.streams[0];
    assert_eq!((stream.name.as_str(), stream.topic.as_str(), stream.start), ("shop", "orders", Start::Latest));
    assert_eq!((stream.lanes, stream.max_batch_records), (3, 500));
    assert_eq!((stream.max_batch_bytes, stream.max_record_bytes), (1 << 20, 64 << 10));
    let [customer, orders] = &stream.tables[..] else { panic!("two tables") };
    assert_eq!((customer.on_conflict, customer.optional), (OnConflict::Ignore, false));
    assert_eq!((orders.on_conflict, orders.optional), (OnConflict::Update, true));
    let sources: Vec<&Source> = orders.columns.iter().map(|column| &column.source).collect();
    let field = |name: &str| Source::Field(name.into());
    let paid = Source::Epoch { field: "paid".into(), unit: EpochUnit::Micros };
    let expected = [
        &field("id"),
        &paid,
        &field("@odd"),
        &Source::Timestamp,
        &Source::Key,
        &Source::Topic,
        &Source::Partition,
        &Source::Offset,
    ];
    assert_eq!(sources, expected);
    let cache = config.cache.as_ref().unwrap();
    assert_eq!(cache.backend(), CacheBackend::MongoDb);
    assert_eq!(cache.url.expose(), "mongodb://bief:secret@mongo-1:27017,mongo-2/orders?retryWrites=false");
    let [hourly, daily] = &config.aggregates[..] else { panic!("two aggregates") };
    assert_eq!(
        (hourly.name.as_str(), hourly.table.as_str(), hourly.time.as_str()),
        ("orders_hourly", "Orders", "paid_at")
    );
    assert_eq!((hourly.bucket, hourly.key.join("|").as_str()), (Width::HOUR, "customer|k"));
    assert_eq!(hourly.query, Path::new("/etc/bief/aggregates/orders_hourly.sql"));
    assert_eq!((hourly.every, hourly.keep), (Duration::from_secs(10), Some(Duration::from_secs(400 * 86_400))));
    assert_eq!((daily.every, daily.keep, daily.key.len()), (Duration::from_secs(5), None, 0));
    assert_eq!(daily.query, Path::new("/etc/orders_daily.sql"));
    assert_eq!(config.bucket_sources().iter().map(|s| s.id()).collect::<Vec<_>>(), ["orders.paid_at/1h"]);
    assert_eq!(config.topics_feeding("ORDERS"), ["orders"]);
    let [ahead, all] = &config.forecasts[..] else { panic!("two forecasts") };
    let spec = &ahead.spec;
    assert_eq!((spec.key.join("|").as_str(), spec.width), ("customer|k", Width::HOUR));
    let horizons: Vec<_> = spec.horizons.iter().map(|horizon| (horizon.buckets, horizon.text.as_str())).collect();
    assert_eq!(horizons, [(1, "60m"), (24, "24h")]);
    assert_eq!((&spec.lags[..], &spec.seasons[..], &spec.others[..]), (&[0, 2][..], &[24][..], &[1][..]));
    assert_eq!((&spec.calendar[..], spec.harmonics), (&[Calendar::Weekday, Calendar::Hour][..], 2));
    let rolling =
        [Rolling { window: 28, of: Statistic::Max, every: 24 }, Rolling { window: 3, of: Statistic::Mean, every: 1 }];
    assert_eq!(spec.rolling, rolling);
    assert_eq!(spec.covariate_names(), ["orders_daily.visitors", "orders_daily.rain"]);
    assert_eq!((spec.holdout, spec.interval, ahead.train_at.is_none()), (Duration::from_secs(14 * 86_400), 0.9, true));
    assert_eq!(spec.drift, Drift { ratio: 2.0, window: Duration::from_secs(12 * 3600) });
    assert_eq!((spec.memory, all.spec.memory), (64 << 20, 1 << 30));
    assert_eq!((all.spec.harmonics, all.spec.interval, all.spec.key.len()), (1, 0.8, 0));
    assert_eq!(all.train_at.as_ref().unwrap().to_string(), "0 3 * * *");
    assert_eq!((all.spec.drift.ratio, all.spec.holdout), (1.5, Duration::from_secs(28 * 86_400)));
    let replay = &config.replays[0];
    assert_eq!(replay.file, Path::new("/etc/bief/data/orders.csv.gz"));
    assert_eq!((replay.key.len(), replay.times.len(), replay.partitions), (1, 2, 2));
    assert_eq!(replay.lookups[0].take["customer name"], "name");
}

#[test]
fn what_is_left_out_gets_its_default() {
    let loaded = parse(LEAST);
    assert!(loaded.warnings.is_empty());
    let config = loaded.config;
    assert_eq!(config.daemon.http.to_string(), "127.0.0.1:8080");
    assert_eq!(config.daemon.memory, 256 << 20);
    assert_eq!((config.daemon.on_fatal, config.kafka.group.as_str()), (OnFatal::StayUp, "bief"));
    assert_eq!(config.warehouse.sqlite_path().as_deref(), Some(Path::new("/etc/bief/var/orders.db")));
    let stream = &config.streams[0];
    assert_eq!((stream.name.as_str(), stream.lanes, stream.start), ("orders", 1, Start::Earliest));
    assert_eq!((stream.max_batch_records, stream.max_batch_bytes), (10_000, 8 << 20));
}

#[test]
fn encryption_is_verified_but_to_this_machine() {
    for (host, tls) in [("127.0.0.1", Tls::Disable), ("localhost:3306", Tls::Disable), ("db.example.org", Tls::Verify)]
    {
        let text = LEAST.replace("sqlite://var/orders.db", &format!("mysql://u:p@{host}/d"));
        let config = parse(&text).config;
        assert_eq!(config.warehouse.tls, tls, "{host}");
        assert!((1..=4).contains(&config.streams[0].lanes));
    }
}

#[test]
fn files_are_printed_as_understood() {
    insta::assert_snapshot!("whole", config::print(&parse(WHOLE)));
    insta::assert_snapshot!("least", config::print(&parse(LEAST)));
}

#[test]
fn what_is_printed_means_the_same_when_read_again() {
    for text in [
        LEAST.to_owned(),
        WHOLE.replace(
            "security.protocol = \"ssl\"\n\"session.timeout.ms\" = 30_000\n\"socket.keepalive.enable\" = true\n",
            "",
        ),
    ] {
        let printed = config::print(&parse(&text));
        let again = config::print(&parse(&printed));
        let bare = |text: &str| {
            text.lines().map(|line| line.split("  # ").next().unwrap_or("").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(bare(&printed), bare(&again));
    }
}

#[test]
fn a_later_finding_points_at_the_table_and_the_column() {
    let loaded = parse(WHOLE);
    let table = &loaded.config.streams[0].tables[1];
    let finding = loaded.at(Severity::Error, table.location, "there is no table `orders`", "create it");
    assert!(finding.source.starts_with("name = \"orders\"") && finding.column == 8, "{finding}");
    let column = &table.columns[1];
    let finding = loaded.at(Severity::Error, column.location, "no such column", "add it");
    assert_eq!(finding.to_string().lines().nth(3).unwrap(), "   | ^^^^^^^");
    let nowhere = loaded.at(Severity::Error, Location { line: 999, column: 9 }, "m", "h");
    assert!(nowhere.line > 0);
}

#[test]
fn a_file_that_is_not_there_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let finding = &config::load(&folder.path().join("absent.toml"), &env).unwrap_err()[0];
    assert!(finding.message.contains("No such file") && finding.line == 1);
    let finding = &config::load(folder.path(), &env).unwrap_err()[0];
    assert!(finding.message.contains("folder"));
}

#[test]
fn a_file_that_is_not_text_is_told_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("actors.toml");
    std::fs::write(&path, b"[daemon]\nname = \"caf\xe9\"\n").unwrap();
    let finding = &config::load(&path, &env).unwrap_err()[0];
    assert_eq!((finding.line, finding.column), (2, 12));
    assert!(finding.message.contains("UTF-8"));
}

#[test]
fn the_page_on_the_configuration_names_every_section_and_key() {
    let page = include_str!("../docs/configuration.md");
    for section in ROOT.all().iter().filter(|section| !section.path.is_empty()) {
        let heading = format!("## `{}`", section.header());
        let start = page.find(&heading).unwrap_or_else(|| panic!("no heading {heading}"));
        let part = &page[start + heading.len()..];
        let part = &part[..part.find("\n## ").unwrap_or(part.len())];
        for key in section.keys {
            assert!(part.contains(&format!("| `{}` |", key.name)), "{heading} does not name `{}`", key.name);
        }
    }
}

#[test]
fn the_example_of_the_page_is_sound() {
    let page = include_str!("../docs/configuration.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let env = |name: &str| {
        ["BIEF_DB_PASSWORD", "BIEF_CACHE_PASSWORD", "KAFKA_PASSWORD"].contains(&name).then(|| "x".to_owned())
    };
    if let Err(findings) = config::parse(example, "example", Path::new(""), &env) {
        panic!("{}", findings.iter().map(ToString::to_string).collect::<String>());
    }
}

#[test]
fn the_examples_that_messages_give_are_toml() {
    for section in ROOT.all() {
        for example in section.keys.iter().map(|key| key.example).chain([section.example]) {
            example.parse::<toml::Table>().unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}

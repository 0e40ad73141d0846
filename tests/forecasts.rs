//! `bief train` over the shipped data: the documents are computed here from the CSV files, put into a cache in SQLite, and
//! the command has to beat the naive forecasts by what the documentation says.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bief::adapters::cache::open_cache;
use bief::adapters::warehouse;
use bief::config::Secret;
use bief::core::bucket::Width;
use bief::core::document::Bucket;
use bief::core::time::parse_datetime;
use bief::ports::cache::{CachedAggregate, Entry, Replacement, Value};
use serde_json::Value as Json;

type Row = BTreeMap<String, String>;

fn rows(file: &str) -> impl Iterator<Item = Row> {
    let file = std::fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file)).unwrap();
    csv::Reader::from_reader(flate2::read::GzDecoder::new(file)).into_deserialize().map(Result::unwrap)
}

/// Values of an hour and airport by their column.
type Hours = BTreeMap<(i64, String), BTreeMap<&'static str, Value>>;

#[derive(Default)]
struct Departures {
    delays: Vec<i64>,
    scheduled: i64,
    departed: i64,
}

/// What `aggregates/departures_hourly.sql` says of the columns that the forecast uses.
fn departures() -> Hours {
    let mut hours: BTreeMap<(i64, String), Departures> = BTreeMap::new();
    for row in rows("flights.csv.gz") {
        let at = parse_datetime(&row["scheduled_departure"]).unwrap();
        let hour = hours.entry((Width::HOUR.start_of(at), row["origin"].clone())).or_default();
        hour.scheduled += 1;
        hour.departed += i64::from(!row["actual_departure"].is_empty());
        hour.delays.extend(row["dep_delay"].parse::<i64>());
    }
    let values = |hour: &Departures| {
        let Departures { delays, scheduled, departed } = hour;
        let known = !delays.is_empty();
        let mean = delays.iter().sum::<i64>() as f64 / delays.len().max(1) as f64;
        BTreeMap::from([
            ("mean_dep_delay", if known { Value::Float(mean) } else { Value::Null }),
            ("max_dep_delay", delays.iter().max().map_or(Value::Null, |most| Value::Integer(*most))),
            ("late", Value::Integer(delays.iter().filter(|delay| **delay >= 15).count().try_into().unwrap())),
            ("cancelled", Value::Integer(scheduled - departed)),
        ])
    };
    hours.iter().map(|(key, hour)| (key.clone(), values(hour))).collect()
}

/// What `aggregates/weather_hourly.sql` says of them: there is one observation an hour.
fn weather() -> Hours {
    let number = |text: &str| text.parse().map_or(Value::Null, Value::Float);
    let of = |row: Row| {
        let at = parse_datetime(&row["observed_at"]).unwrap();
        let values = ["wind_speed", "visib", "precip"].map(|column| (column, number(&row[column])));
        ((Width::HOUR.start_of(at), row["origin"].clone()), BTreeMap::from(values))
    };
    rows("weather.csv.gz").map(of).collect()
}

/// All documents of an aggregate, a replacement for each bucket.
fn replacements(aggregate: &str, hours: &Hours) -> Vec<Replacement> {
    let mut buckets: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
    for ((start, origin), values) in hours {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let key = vec![("origin".to_owned(), origin.as_str().into())];
        buckets.entry(*start).or_default().push(Entry { key, values });
    }
    let of = |(start, entries)| {
        let bucket: Bucket = Width::HOUR.bucket_of(start).unwrap();
        Replacement {
            aggregate: aggregate.to_owned(),
            bucket,
            version: 1,
            computed_at: bucket.end(),
            offsets: BTreeMap::new(),
            entries,
        }
    };
    buckets.into_iter().map(of).collect()
}

/// A folder with the shipped configuration, its text passed through `change`.
fn folder(change: impl Fn(String) -> String) -> tempfile::TempDir {
    // In memory where there is such a folder: thousands of transactions wait for a disk each.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["aggregates", "migrations", "data"] {
        std::os::unix::fs::symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::create_dir(folder.path().join("var")).unwrap();
    let text = std::fs::read_to_string(root.join("actors.toml")).unwrap();
    std::fs::write(folder.path().join("actors.toml"), change(text)).unwrap();
    folder
}

/// The same with a cache that holds the documents.
fn shipped() -> tempfile::TempDir {
    let folder = folder(|text| text);
    let url = Secret::new(format!("sqlite://{}", folder.path().join("var/cache.db").display()));
    actix::System::new().block_on(async {
        let mut cache = (open_cache(&url))().await.unwrap();
        for (name, hours) in [("departures_hourly", departures()), ("weather_hourly", weather())] {
            let aggregate = CachedAggregate { name: name.to_owned(), key: vec!["origin".to_owned()], keep: None };
            cache.prepare(&[aggregate]).await.unwrap();
            for replacement in replacements(name, &hours) {
                cache.replace(&replacement).await.unwrap();
            }
        }
    });
    folder
}

fn bief(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bief"))
        .args(arguments)
        .arg("-c")
        .arg(folder.join("actors.toml"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_shipped_forecast_beats_the_naive_ones_on_the_last_three_months() {
    let folder = shipped();
    let (code, out, err) = bief(folder.path(), &["train", "--json"]);
    assert_eq!(code, 0, "{err}");
    let (_, shown, err) = bief(folder.path(), &["train", "--dry-run"]);
    println!("{shown}");
    assert!(shown.contains("nothing is kept; it would forecast: it is no worse than version 1"), "{shown}{err}");
    versions_are_kept_and_changed_by_hand(folder.path());
    let answer: Json = serde_json::from_str(&out).unwrap();
    let model = &answer["trained"][0];
    assert_eq!(model["forecast"], "departure_delay");
    assert_eq!(model["ignored"], 0);
    let figure = |value: &Json| value.as_f64().unwrap();
    for (at, horizon) in ["1h", "24h"].into_iter().enumerate() {
        let of = &model["horizons"][at];
        assert_eq!(of["horizon"], horizon);
        let holdout = &of["holdout"];
        // Midnight of 1 October and of the new year in New York, which is at UTC-5 by then.
        assert_eq!(holdout["range"]["from"].as_str().unwrap(), "2013-10-01T09:00:00Z", "the first flight");
        assert_eq!(holdout["range"]["to"].as_str().unwrap(), "2014-01-01T05:00:00Z");
        assert!(figure(&holdout["score"]["rows"]) > 4_800.0, "{holdout}");
        for baseline in holdout["beside"].as_array().unwrap() {
            let [naive, own] = ["score", "model"].map(|of| figure(&baseline[of]["mae"]));
            assert!(own < naive, "{horizon}: {baseline}");
            assert_eq!(baseline["score"]["rows"], baseline["model"]["rows"]);
        }
        let coverage = figure(&holdout["coverage"]);
        assert!((0.75..=0.85).contains(&coverage), "{horizon}: {coverage}");
        assert_eq!(of["judged"]["solver"], "cholesky");
        // A day before the bucket that is forecast is, a day ahead, the last known one.
        let aliased: &[&str] = if horizon == "24h" { &["season_24"] } else { &[] };
        assert_eq!(of["judged"]["aliased"], serde_json::json!(aliased));
        assert_eq!(of["judged"]["folds"].as_array().unwrap().len(), 6);
    }
    let next_hour = &model["horizons"][0]["holdout"];
    // Over all hours with a flight, whether the hour before it had one or not.
    assert!(figure(&next_hour["score"]["mae"]) <= 6.87, "{next_hour}");
    // On the rows for which persistence has a forecast.
    let persistence = &next_hour["beside"][0];
    assert_eq!(persistence["baseline"], "persistence");
    assert!(figure(&persistence["model"]["mae"]) <= 6.87, "{persistence}");
    assert!(figure(&persistence["model"]["r2"]) >= 0.68, "{persistence}");
}

/// Of a folder in which a version was trained.
fn versions_are_kept_and_changed_by_hand(folder: &Path) {
    let json = |arguments: &[&str]| -> Json {
        let (code, out, err) = bief(folder, &[&["models"], arguments, &["--json"]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    };
    let listed = json(&["list"]);
    let versions = listed["models"].as_array().unwrap();
    assert_eq!(versions.len(), 1, "a dry run keeps nothing: {listed}");
    assert_eq!((&versions[0]["version"], &versions[0]["champion"]), (&1.into(), &true.into()));
    assert_eq!(json(&["show", "departure_delay"])["model"]["version"], 1);
    assert_eq!(bief(folder, &["train"]).0, 0);
    json(&["promote", "departure_delay", "2", "--reason", "a test"]);
    assert_eq!(json(&["show", "departure_delay"])["model"]["version"], 2);
    assert_eq!(json(&["rollback", "departure_delay"])["champion"], 1);
    let (code, out, err) = bief(folder, &["models", "list"]);
    assert!(code == 0 && out.contains("champion") && out.contains("departure_delay"), "{out}{err}");
    for (arguments, told) in [
        (&["promote", "departure_delay", "7"][..], "there is no version 7"),
        (&["rollback", "departure_delay"], "nothing is changed"),
        (&["show", "departure_delays"], "there is no forecast `departure_delays`"),
    ] {
        let (code, _, err) = bief(folder, &[&["models"], arguments].concat());
        assert!(code == 2 && err.contains(told), "{code} {err}");
    }
}

#[test]
fn a_forecast_that_is_not_there_is_told_with_those_that_are() {
    let (code, _, err) = bief(Path::new(env!("CARGO_MANIFEST_DIR")), &["train", "departure_delays"]);
    assert_eq!((code, err.trim()), (2, "bief: there is no forecast `departure_delays`: there are departure_delay"));
}

#[test]
fn columns_that_no_query_yields_are_told_at_their_place_once_the_database_is_asked() {
    let changed = |text: String| {
        text.replace("target = \"mean_dep_delay\"", "target = \"mean_delay\"")
            .replace("[\"wind_speed\", \"visib\"", "[\"wind_speed\", \"visibility\"")
    };
    let folder = folder(changed);
    let loaded = bief::config::load(&folder.path().join("actors.toml"), &|_| None).unwrap();
    actix::System::new()
        .block_on(warehouse::prepare(&loaded.config.warehouse, Path::new("")))
        .unwrap_or_else(|error| panic!("{error}"));
    let (code, out, err) = bief(folder.path(), &["check", "--connect"]);
    assert_eq!(code, 3, "{out}{err}");
    for told in ["`departures_hourly` yields no column `mean_delay`", "`weather_hourly` yields no column `visibility`"]
    {
        assert!(format!("{out}{err}").contains(told), "{out}{err}");
    }
}

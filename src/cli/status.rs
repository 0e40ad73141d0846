//! `bief status`: what a running daemon tells of itself, as text for people or as its own JSON.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use super::exit;
use super::http_client::{AskError, Daemon, TOKEN_NEEDED};
use super::printable::{printable, printable_json};
use super::status_document::{Status, duration, seconds_between};
use super::table::{Align, Table, grouped};

const EXAMPLES: &str = "\
Examples:
  bief status
  bief status -c actors.toml
  bief status --url http://127.0.0.1:8080 --json | jq .totals

Exit codes: 0 ready, 2 wrong address or configuration, 5 not ready or no answer";

const TIMEOUT: Duration = Duration::from_secs(5);

/// Show a running daemon's actors, lag and ledger
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    daemon: Daemon,

    /// Print the daemon's own document
    #[arg(long)]
    json: bool,
}

#[cfg(test)]
impl Args {
    pub(super) fn of(daemon: Daemon, json: bool) -> Self {
        Self { daemon, json }
    }
}

/// Prints the status to `out`; what went wrong to stderr.
pub fn run(args: &Args, out: &mut dyn Write) -> u8 {
    let answer = match args.daemon.get("/status", TIMEOUT) {
        Ok(answer) => answer,
        Err(error) => {
            errln!("{}", printable(&error.to_string()));
            return if matches!(error, AskError::Usage(_)) { exit::USAGE } else { exit::NOT_READY };
        }
    };
    if answer.status == 401 {
        errln!("{TOKEN_NEEDED}");
        return exit::USAGE;
    }
    let document = serde_json::from_str::<serde_json::Value>(&answer.body);
    let (document, status) = match document.and_then(|d| Ok((d.clone(), serde_json::from_value::<Status>(d)?))) {
        Ok(read) if answer.status == 200 => read,
        _ => {
            errln!("what answers there is no bief daemon, or refuses: HTTP {}", answer.status);
            let shown: String = answer.body.chars().take(300).collect();
            errln!("{}", printable(&shown));
            return exit::NOT_READY;
        }
    };
    let text = if args.json { printable_json(&document) + "\n" } else { describe(&status) };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if status.ready => exit::OK,
        Ok(()) => exit::NOT_READY,
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            errln!("the status could not be written: {error}");
            exit::FAILED
        }
    }
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}  bief {}  up {}  {}",
        printable(&status.name),
        printable(&status.version),
        duration(status.uptime_seconds),
        if status.ready { "ready" } else { "NOT READY" }
    );
    for check in status.checks.iter().filter(|c| !c.ok) {
        let cause = check.cause.as_deref().unwrap_or("fails");
        let _ = write!(text, "  {}: {}", printable(&check.name), printable(cause));
        if let Some(seconds) = seconds_between(check.since, status.now) {
            let _ = write!(text, " (for {})", duration(seconds));
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&actors(status).render());
    text.push('\n');
    text.push_str(&ledger(status).render());
    if !status.aggregates.is_empty() {
        text.push('\n');
        text.push_str(&aggregates(status).render());
    }
    let totals = &status.totals;
    let sum = &totals.outcomes;
    let _ = writeln!(
        text,
        "\nadvanced {} {} applied {} + duplicates {} + dead letters {} + gaps {}; unaccounted {}{}",
        grouped(totals.advanced),
        if sum.unaccounted == 0 { "=" } else { "!=" },
        grouped(sum.applied),
        grouped(sum.duplicates),
        grouped(sum.dead_letters),
        grouped(sum.gaps),
        grouped(sum.unaccounted),
        if sum.unaccounted == 0 { "" } else { "  <-- must be 0: run `bief verify`" },
    );
    let _ = writeln!(
        text,
        "{} records/s, {} of {} partitions caught up, {} behind",
        grouped(totals.records_per_second.round() as i64),
        grouped(totals.caught_up),
        grouped(totals.partitions),
        grouped(totals.lag)
    );
    text
}

fn actors(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("ACTOR", Align::Left),
        ("STATE", Align::Left),
        ("RESTARTS", Align::Right),
        ("FOR", Align::Left),
        ("LAST ERROR", Align::Left),
    ]);
    for unit in &status.units {
        let mut state = unit.state.replace('_', " ");
        if let Some(seconds) = seconds_between(status.now, unit.next_try_at) {
            let _ = write!(state, ", next try in {}", duration(seconds));
        }
        let since = seconds_between(unit.since, status.now).map(duration).unwrap_or_default();
        let error = unit.last_error.clone().unwrap_or_default();
        table.row([unit.name.clone(), state, grouped(unit.restarts), since, error]);
        for actor in &unit.actors {
            let note = actor.note.clone().unwrap_or_default();
            let name = format!("  {}", actor.name);
            table.row([name, actor.state.replace('_', " "), grouped(actor.restarts), String::new(), note]);
        }
    }
    table
}

fn aggregates(status: &Status) -> Table {
    let mut table =
        Table::new(&[("AGGREGATE", Align::Left), ("DOCUMENTS AS OF", Align::Left), ("BUCKETS WAIT", Align::Right)]);
    for aggregate in &status.aggregates {
        let behind = aggregate.behind(status.now).map(|seconds| format!("{} ago", duration(seconds)));
        let pending = aggregate.pending_buckets.map_or("-".to_owned(), grouped);
        table.row([aggregate.name.clone(), behind.unwrap_or_else(|| "not known yet".to_owned()), pending]);
    }
    table
}

fn ledger(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("PARTITION", Align::Right),
        ("LANE", Align::Right),
        ("START", Align::Right),
        ("NEXT", Align::Right),
        ("END", Align::Right),
        ("LAG", Align::Right),
        ("APPLIED", Align::Right),
        ("DUPLICATES", Align::Right),
        ("DEAD LETTERS", Align::Right),
        ("GAPS", Align::Right),
        ("UNACCOUNTED", Align::Right),
    ]);
    let known = |value: Option<i64>| value.map_or("-".to_owned(), grouped);
    for stream in &status.streams {
        for p in &stream.partitions {
            let place = [
                stream.stream.clone(),
                p.partition.to_string(),
                known(p.lane),
                grouped(p.start_offset),
                grouped(p.next_offset),
                known(p.end_offset),
                known(p.lag),
            ];
            table.row(place.into_iter().chain(p.outcomes.cells()));
        }
        let none = String::new;
        let place = [stream.stream.clone(), "all".into(), none(), none(), none(), none(), grouped(stream.totals.lag)];
        table.row(place.into_iter().chain(stream.totals.outcomes.cells()));
    }
    table
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn text(document: serde_json::Value) -> String {
        describe(&serde_json::from_value(document).unwrap())
    }

    fn document() -> serde_json::Value {
        serde_json::json!({
            "name": "shop", "version": "1.2.3", "revision": "abc", "now": "2024-05-01T10:12:34Z",
            "started_at": "2024-05-01T09:00:00Z", "uptime_seconds": 4354, "ready": true,
            "checks": [{ "name": "database", "ok": true, "cause": null, "since": "2024-05-01T09:00:01Z" }],
            "units": [
                { "name": "orders", "state": "running", "generation": 1, "restarts": 0, "last_error": null,
                  "since": "2024-05-01T09:00:01Z",
                  "actors": [
                    { "name": "consumer", "state": "running", "restarts": 0 },
                    { "name": "writer-0", "state": "running", "restarts": 0 },
                  ] },
            ],
            "streams": [{
                "stream": "orders", "topic": "orders.v1", "unknown_fields": {},
                "partitions": [
                    { "partition": 0, "lane": 0, "start_offset": 0, "next_offset": 250123, "end_offset": 336776,
                      "caught_up": false, "lag": 86653, "advanced": 250123, "applied": 250000, "duplicates": 100,
                      "dead_letters": 20, "gaps": 3, "unaccounted": 0 },
                    { "partition": 10, "lane": null, "start_offset": 7, "next_offset": 7, "end_offset": null,
                      "caught_up": false, "lag": null, "advanced": 0, "applied": 0, "duplicates": 0,
                      "dead_letters": 0, "gaps": 0, "unaccounted": 0 },
                ],
                "totals": { "partitions": 2, "caught_up": 0, "advanced": 250123, "applied": 250000, "duplicates": 100,
                    "dead_letters": 20, "gaps": 3, "unaccounted": 0, "lag": 86653, "records_per_second": 12345.6 },
            }],
            "totals": { "partitions": 2, "caught_up": 0, "advanced": 250123, "applied": 250000, "duplicates": 100,
                "dead_letters": 20, "gaps": 3, "unaccounted": 0, "lag": 86653, "records_per_second": 12345.6 },
            "aggregates": [
                { "name": "orders_hourly", "fresh_as_of": "2024-05-01T10:12:31Z", "pending_buckets": 1234 },
                { "name": "orders_daily", "fresh_as_of": null, "pending_buckets": null },
            ],
        })
    }

    #[test]
    fn a_healthy_daemon_in_text() {
        insta::assert_snapshot!(text(document()), @r"
        shop  bief 1.2.3  up 1 h 12 min  ready

        ACTOR       STATE    RESTARTS  FOR         LAST ERROR
        orders      running         0  1 h 12 min
          consumer  running         0
          writer-0  running         0

        STREAM  PARTITION  LANE  START     NEXT      END     LAG  APPLIED  DUPLICATES  DEAD LETTERS  GAPS  UNACCOUNTED
        orders          0     0      0  250,123  336,776  86,653  250,000         100            20     3            0
        orders         10     -      7        7        -       -        0           0             0     0            0
        orders        all                                 86,653  250,000         100            20     3            0

        AGGREGATE      DOCUMENTS AS OF  BUCKETS WAIT
        orders_hourly  3 s ago                 1,234
        orders_daily   not known yet               -

        advanced 250,123 = applied 250,000 + duplicates 100 + dead letters 20 + gaps 3; unaccounted 0
        12,346 records/s, 0 of 2 partitions caught up, 86,653 behind
        ");
    }

    #[test]
    fn a_daemon_in_trouble_in_text() {
        let mut document = document();
        document["ready"] = false.into();
        document["checks"][0] = serde_json::json!({ "name": "database", "ok": false,
            "cause": "connection refused", "since": "2024-05-01T10:00:00Z" });
        document["units"][0]["state"] = "backing_off".into();
        document["units"][0]["next_try_at"] = "2024-05-01T10:12:42Z".into();
        document["units"][0]["restarts"] = 3.into();
        document["units"][0]["last_error"] = "writer-0: connection refused".into();
        document["units"][0]["actors"][1]["state"] = "failed".into();
        document["totals"]["unaccounted"] = 2.into();
        insta::assert_snapshot!(text(document), @r"
        shop  bief 1.2.3  up 1 h 12 min  NOT READY
          database: connection refused (for 12 min)

        ACTOR       STATE                         RESTARTS  FOR         LAST ERROR
        orders      backing off, next try in 8 s         3  1 h 12 min  writer-0: connection refused
          consumer  running                              0
          writer-0  failed                               0

        STREAM  PARTITION  LANE  START     NEXT      END     LAG  APPLIED  DUPLICATES  DEAD LETTERS  GAPS  UNACCOUNTED
        orders          0     0      0  250,123  336,776  86,653  250,000         100            20     3            0
        orders         10     -      7        7        -       -        0           0             0     0            0
        orders        all                                 86,653  250,000         100            20     3            0

        AGGREGATE      DOCUMENTS AS OF  BUCKETS WAIT
        orders_hourly  3 s ago                 1,234
        orders_daily   not known yet               -

        advanced 250,123 != applied 250,000 + duplicates 100 + dead letters 20 + gaps 3; unaccounted 2  <-- must be 0: run `bief verify`
        12,346 records/s, 0 of 2 partitions caught up, 86,653 behind
        ");
    }

    #[test]
    fn control_characters_of_the_daemon_never_reach_the_terminal() {
        let hostile = "\u{1b}]0;owned\u{7}\n\u{9b}2J\u{202e}";
        fn poison(value: &mut serde_json::Value, with: &str) {
            match value {
                serde_json::Value::String(s) if s.parse::<DateTime<Utc>>().is_err() => *s = with.to_owned(),
                serde_json::Value::Array(items) => items.iter_mut().for_each(|item| poison(item, with)),
                serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| poison(field, with)),
                _ => {}
            }
        }
        let mut document = document();
        document["checks"][0]["ok"] = false.into();
        document["checks"][0]["cause"] = "x".into();
        document["units"][0]["last_error"] = "x".into();
        document["units"][0]["actors"][0]["note"] = "x".into();
        poison(&mut document, hostile);
        for shown in [printable_json(&document), text(document)] {
            assert!(!shown.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{shown:?}");
            assert!(!shown.lines().any(|line| line.starts_with("2J")));
        }
    }

    #[test]
    fn a_daemon_that_tells_less_or_more_is_still_shown() {
        assert!(text(serde_json::json!({ "name": "old" })).starts_with("old  bief "));
        let mut newer = document();
        newer["units"][0]["new_thing"] = 1.into();
        assert_eq!(text(newer), text(document()));
    }
}

//! What `bief top --once` prints: the same as the screen, as lines.

use std::fmt::Write as _;

use super::standing::Standing;
use crate::cli::printable::printable;
use crate::cli::status_document::duration;
use crate::cli::table::{Align, Table, grouped};

pub fn describe(s: &Standing) -> String {
    let ready = if s.ready { "ready" } else { "NOT READY" };
    let (name, version) = (printable(&s.name), printable(&s.version));
    let mut text = format!("{name}  bief {version}  up {}  {ready}\n", duration(s.uptime_seconds));
    for trouble in &s.troubles {
        let _ = writeln!(text, "  {}", printable(trouble));
    }
    let _ = writeln!(text, "{}", printable(&s.bottleneck));
    if let Some(told) = s.freshness() {
        let _ = writeln!(text, "{}", printable(&told));
    }
    let _ = writeln!(text, "\n{}", actors(s).render());
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("PARTITION", Align::Right),
        ("LANE", Align::Right),
        ("LAG", Align::Right),
        ("DEAD LETTERS", Align::Right),
        ("UNACCOUNTED", Align::Right),
    ]);
    let known = |value: Option<i64>| value.map_or("-".to_owned(), grouped);
    for p in &s.partitions {
        let place = [p.stream.clone(), p.partition.to_string(), known(p.lane), known(p.lag)];
        table.row(place.into_iter().chain([grouped(p.dead_letters), grouped(p.unaccounted)]));
    }
    text + &table.render()
}

fn actors(s: &Standing) -> Table {
    let mut table = Table::new(&[
        ("ACTOR", Align::Left),
        ("STATE", Align::Left),
        ("RESTARTS", Align::Right),
        ("QUEUE", Align::Right),
        ("WAITED", Align::Right),
        ("RECORDS/S", Align::Right),
        ("NOTE", Align::Left),
    ]);
    let percent = |share: Option<f64>| share.map(|share| format!("{:.0} %", share * 100.0)).unwrap_or_default();
    for line in &s.actors {
        let name = line.actor.as_ref().map_or(line.unit.clone(), |actor| format!("  {actor}"));
        table.row([
            name,
            line.state.clone(),
            grouped(line.restarts),
            percent(line.queue),
            percent(line.waited),
            line.records_per_second.map(|rate| grouped(rate.round() as i64)).unwrap_or_default(),
            line.note.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::standing::{Looks, tests::look};
    use super::*;

    #[test]
    fn a_daemon_at_work_in_text() {
        let (began, mut looks) = (Instant::now(), Looks::default());
        (0..3).for_each(|at| looks.add(look(began, at, |_| {})));
        insta::assert_snapshot!(describe(&looks.standing()), @r"
        shop  bief 1.2.3  up 1 h 12 min  ready
        orders: writer waits for MySQL, 90 % of the last 2 s; a commit takes 120 ms
        oldest of 2 aggregates: orders_daily, as of 5 min ago; 12 buckets wait

        ACTOR        STATE    RESTARTS  QUEUE  WAITED  RECORDS/S  NOTE
        orders       running         1                    12,346  writer-0: connection refused
          consumer   running         0           30 %
          decoder-0  running         0   50 %    83 %
          decoder-1  running         0   50 %    83 %
          writer-0   running         1  100 %    90 %             waits for a lock
          writer-1   running         0  100 %    90 %

        STREAM  PARTITION  LANE     LAG  DEAD LETTERS  UNACCOUNTED
        orders          0     0  86,653            20            0
        orders          1     1       -             0            0
        orders          2     0       0             2            0
        ");
    }
}

//! When a record of a replay is due that comes up to the present: what lies long behind at once, the last stretch before
//! the present faster than it happened, and from there on as it happens. Reads no clock; all times are in microseconds
//! since 1970.

/// How long the last stretch before the present takes, unless nights shorten it: as long as somebody looks at a page
/// who sees it for the first time. More of it would leave charts of the last days empty at first.
const CATCHING_UP_MICROS: f64 = 40.0 * 60.0 * 1e6;
/// The longest silence before the present. Where nothing happened for hours a page would seem dead.
const LONGEST_SILENCE_MICROS: i64 = 3_000_000;

/// The times at which the records of one replay are due. Records come in the order of their event times.
#[derive(Debug, Clone, Copy)]
pub struct Timetable {
    speed: f64,
    /// The last event time that is due at once.
    history_until: i64,
    /// When the last record was due, and its event time.
    last: Option<(i64, i64)>,
}

impl Timetable {
    /// For a replay that begins `now`, with the last stretch at so many times the speed at which it happened; at least 1.
    pub fn up_to(now: i64, speed: f64) -> Self {
        // While the stretch is replayed the present moves on.
        let stretch = CATCHING_UP_MICROS * (speed - 1.0).max(0.0);
        Self { speed, history_until: now.saturating_sub(stretch as i64), last: None }
    }

    /// The last event time of what is sent at once.
    pub fn history_until(&self) -> i64 {
        self.history_until
    }

    /// When the record with this event time is due, asked `now`; `None` for at once. Never before it happened.
    pub fn due(&mut self, event: i64, now: i64) -> Option<i64> {
        if event <= self.history_until {
            return None;
        }
        let due = match self.last {
            None => now,
            Some((due, before)) => {
                let gap = ((event - before).max(0) as f64 / self.speed) as i64;
                // A machine that slept, or whose clock was set, goes on from where it is.
                due.clamp(now.saturating_sub(LONGEST_SILENCE_MICROS), now) + gap.min(LONGEST_SILENCE_MICROS)
            }
        };
        let due = due.max(event);
        self.last = Some((due, event));
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const NOW: i64 = 1_000_000 * HOUR;

    /// Sends a record each `every` from `first` to `last`, each when it is due. Answers with event and moment of each.
    fn sent(speed: f64, first: i64, last: i64, every: i64) -> Vec<(i64, i64)> {
        let mut table = Timetable::up_to(NOW, speed);
        let mut now = NOW;
        let events = (0..).map(|n| first + n * every).take_while(|event| *event <= last);
        events
            .map(|event| {
                now = table.due(event, now).map_or(now, |due| due.max(now));
                (event, now)
            })
            .collect()
    }

    #[test]
    fn what_lies_long_behind_is_due_at_once() {
        let all = sent(60.0, NOW - 1_000 * HOUR, NOW - 39 * HOUR, HOUR);
        let history = all.iter().filter(|(_, at)| *at == NOW).count();
        // 40 minutes at 60 times leave the last 39 hours and 20 minutes to be replayed; the first of them opens it.
        assert_eq!((all.len(), history), (962, 962));
        assert_eq!(Timetable::up_to(NOW, 60.0).history_until(), NOW - 39 * HOUR - 20 * MINUTE);
    }

    #[test]
    fn the_last_stretch_takes_40_minutes_and_ends_at_the_present_and_never_before_a_record_happened() {
        for speed in [2.0, 60.0, 600.0] {
            let stretch = (2_400.0 * (speed - 1.0)) as i64 * SECOND;
            let all = sent(speed, NOW - stretch + 1, NOW + HOUR, 5 * SECOND);
            assert!(all.iter().all(|(event, at)| at >= event), "at {speed}");
            let (_, reached) = all.iter().find(|(event, at)| at - event < SECOND).unwrap();
            assert!((reached - NOW - 40 * MINUTE).abs() < MINUTE, "at {speed}: {} s", (reached - NOW) / SECOND);
            let after = all.iter().filter(|(event, _)| *event > reached + MINUTE);
            assert!(after.clone().count() > 100 && after.clone().all(|(event, at)| event == at), "at {speed}");
        }
    }

    #[test]
    fn where_nothing_happened_for_hours_the_next_record_comes_soon() {
        let mut table = Timetable::up_to(NOW, 60.0);
        assert_eq!(table.due(NOW - 20 * HOUR, NOW), Some(NOW));
        assert_eq!(table.due(NOW - 20 * HOUR + MINUTE, NOW), Some(NOW + SECOND));
        assert_eq!(table.due(NOW - 14 * HOUR, NOW + SECOND), Some(NOW + 4 * SECOND));
        // But not before its time.
        assert_eq!(table.due(NOW + HOUR, NOW + 4 * SECOND), Some(NOW + HOUR));
    }

    #[test]
    fn a_machine_that_slept_brings_no_flood_and_a_clock_that_was_set_back_no_standstill() {
        let mut table = Timetable::up_to(NOW, 60.0);
        table.due(NOW - 20 * HOUR, NOW);
        let woken = NOW + 5 * HOUR;
        let mut now = woken;
        for n in 1..=10 {
            now = table.due(NOW - 20 * HOUR + n * MINUTE, now).unwrap().max(now);
        }
        // A few that were due before it slept, the others a second apart.
        assert!(now >= woken + 6 * SECOND, "10 records came within {} s", (now - woken) / SECOND);
        let set_back = NOW - 2 * HOUR;
        let due = table.due(NOW - 19 * HOUR, set_back).unwrap();
        assert!(due <= set_back + LONGEST_SILENCE_MICROS, "{due}");
    }

    #[test]
    fn at_the_speed_of_events_all_before_the_present_is_history() {
        let all = sent(1.0, NOW - 100 * HOUR, NOW + 10 * HOUR, HOUR);
        assert!(all.iter().all(|(event, at)| *at == NOW.max(*event)));
    }
}

//! What a tree of processes takes, told often and at little cost. The resident sizes (`statm`) are a few counters and are
//! read every time. The proportional ones (`Pss` in `smaps_rollup`), in which a page that several share counts once, make the
//! kernel walk all pages: some 20 ms for two gigabytes. They are read seldom, and what the resident sizes have grown by
//! since then is added. Must never burden what it measures.

use std::time::{Duration, Instant};

use super::tree::{self, Memory, Process};

/// The proportional sizes are read again when the resident ones have changed by more than one in so many.
const CHANGED: u64 = 20;
/// A reading that took so long is followed by none for so many times as long: one per cent of the time.
const REST: u32 = 99;

/// The last reading of the proportional sizes.
struct Exact {
    memory: Memory,
    /// The resident sizes at that moment, and the least of them since: what ends takes along may have been shared with what
    /// stays, and then makes the proportional sizes no smaller.
    resident: u64,
    least: u64,
    /// Before that no other is taken for a change's sake.
    rests_until: Duration,
}

impl Exact {
    /// The most that it may be by now: as if all pages that came since were shared with nobody.
    fn now(&self, resident: u64) -> Memory {
        let bytes = (self.memory.bytes + resident.saturating_sub(self.least)).min(resident);
        Memory { bytes, ..self.memory }
    }
}

pub(super) struct Meter {
    began: Instant,
    /// Bytes of the whole tree.
    limit: Option<u64>,
    last: Option<Exact>,
    peak: Memory,
}

impl Meter {
    pub fn new(limit: Option<u64>) -> Self {
        Self { began: Instant::now(), limit, last: None, peak: Memory::default() }
    }

    /// Looks at all processes of the tree; whether they take more than the limit.
    pub fn is_over(&mut self, of: &[Process]) -> bool {
        self.take(self.began.elapsed(), tree::resident(of), || {
            let began = Instant::now();
            (tree::memory(of), began.elapsed())
        })
    }

    /// The highest that was found.
    pub fn peak(&self) -> Memory {
        self.peak
    }

    fn take(&mut self, at: Duration, resident: u64, read: impl FnOnce() -> (Memory, Duration)) -> bool {
        if let Some(last) = &mut self.last {
            last.least = last.least.min(resident);
        }
        let now = match &self.last {
            Some(last) if !self.is_due(last, at, resident) => last.now(resident),
            _ => {
                let (memory, took) = read();
                let rests_until = at + took * (1 + REST);
                self.last = Some(Exact { memory, resident, least: resident, rests_until });
                memory
            }
        };
        if now.bytes > self.peak.bytes {
            self.peak = now;
        }
        self.is_above(now.bytes)
    }

    fn is_above(&self, bytes: u64) -> bool {
        self.limit.is_some_and(|limit| bytes > limit)
    }

    fn is_due(&self, last: &Exact, at: Duration, resident: u64) -> bool {
        // Nobody is killed for pages that may be shared; here the reading does not wait.
        if self.is_above(last.now(resident).bytes) {
            return true;
        }
        let has_changed = resident.abs_diff(last.resident) > last.resident / CHANGED;
        at >= last.rests_until && (has_changed || self.is_above(resident))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn exact(bytes: u64) -> Memory {
        Memory { bytes, resident: false }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A tree that grows without end, whose pages are all its own; how often it was read exactly, and what was found.
    fn grown(each_tick: u64, took: impl Fn(u64) -> Duration) -> (u32, Duration, Meter) {
        let (mut meter, mut readings, mut spent) = (Meter::new(None), 0, Duration::ZERO);
        for tick in 0..600 {
            let resident = (1 + tick) * each_tick;
            meter.take(ms(100 * tick), resident, || {
                readings += 1;
                spent += took(resident);
                (exact(resident), took(resident))
            });
            assert_eq!(meter.peak().bytes, resident, "no page is missed between readings");
        }
        (readings, spent, meter)
    }

    #[test]
    fn exact_readings_take_one_per_cent_of_the_time_at_most() {
        let (readings, spent, _) = grown(20 * MIB, |resident| Duration::from_micros(11 * resident / MIB));
        assert!(spent <= ms(600) + ms(132), "{readings} readings took {spent:?} of 60 s");
        assert!(readings >= 5, "{readings}");
    }

    #[test]
    fn what_stays_the_same_is_read_once() {
        let (mut meter, mut readings) = (Meter::new(Some(900 * MIB)), 0);
        for tick in 0..100 {
            let resident = 500 * MIB + tick % 3 * MIB;
            assert!(!meter.take(ms(100 * tick), resident, || {
                readings += 1;
                (exact(400 * MIB), ms(5))
            }));
        }
        assert_eq!(readings, 1);
        assert_eq!(meter.peak(), exact(402 * MIB));
    }

    #[test]
    fn shared_pages_alone_pass_no_limit_and_own_pages_do_at_once() {
        let mut meter = Meter::new(Some(100 * MIB));
        // Three processes that share most of what they have.
        assert!(!meter.take(ms(0), 150 * MIB, || (exact(60 * MIB), ms(50))));
        // More came, too soon for another reading; were it all its own it would not be too much yet.
        assert!(!meter.take(ms(100), 185 * MIB, || unreachable!("it rests")));
        // Now it might be: it is looked, and the new ones are shared too.
        assert!(!meter.take(ms(200), 200 * MIB, || (exact(62 * MIB), ms(50))));
        assert!(meter.take(ms(300), 240 * MIB, || (exact(101 * MIB), ms(50))));
        assert_eq!(meter.peak(), exact(101 * MIB));
    }

    #[test]
    fn the_limit_holds_though_processes_that_shared_pages_end_while_it_rests() {
        let mut meter = Meter::new(Some(600 * MIB));
        // Four processes share 200 and have 50 each.
        assert!(!meter.take(ms(0), 1000 * MIB, || (exact(400 * MIB), ms(50))));
        // Three end, the last grows by 500.
        assert!(!meter.take(ms(100), 250 * MIB, || unreachable!("it rests")));
        assert!(meter.take(ms(200), 750 * MIB, || (exact(750 * MIB), ms(50))));
        assert_eq!(meter.peak(), exact(750 * MIB));
    }

    #[test]
    fn what_was_shared_with_a_process_that_is_gone_is_not_lost() {
        let mut meter = Meter::new(None);
        meter.take(ms(0), 400 * MIB, || (exact(100 * MIB), ms(1)));
        // Three of four have gone: the last has the pages alone.
        assert!(!meter.take(ms(200), 100 * MIB, || (exact(100 * MIB), ms(1))));
        meter.take(ms(250), 101 * MIB, || unreachable!("it has hardly changed"));
        assert_eq!(meter.peak().bytes, 101 * MIB);
    }
}

//! Inflicts the faults and waits until the daemons are over them. Each is ended before the wait begins: a proxy that
//! was slow is quick again, a stopped daemon runs on. A fault that found nothing to hit says so, and is not counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::fleet::Fleet;
use super::load::Load;
use super::staging::{Ground, PARTITIONS};
use super::{Args, Stop, hook};
use crate::adapters::mysql::staging::{Staging, Standing};
use crate::adapters::proxy::{Traffic, Trap};
use crate::cli::verify::{Proof, prove};
use crate::core::drill::records::{Difference, RowSet};
use crate::core::drill::{Dice, Kind};
use crate::ports::{Broker, WarehouseError};

/// Enough for the daemons to make their tables and join the group on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// A trap that has not sprung by then stood in nobody's way.
const TRAP_LIMIT: Duration = Duration::from_secs(30);
/// A daemon that starts, joins and meets a failpoint.
const PANIC_LIMIT: Duration = Duration::from_secs(60);
/// A drain is documented to end within 10 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// Writers wait 10 s for a lock.
const LOCK_WAIT: Duration = Duration::from_secs(11);
/// For a restart's command, and then for the server: a large database recovers from its log for a while.
const RESTART_LIMIT: Duration = Duration::from_secs(600);
/// How long the server is asked to become writable again.
const WRITABLE_LIMIT: Duration = Duration::from_secs(60);
/// As daemons tell what the server answered their writers.
const LOCK_WAIT_ERROR: &str = "(error 1205)";
const DEADLOCK_ERROR: &str = "(error 1213)";
/// Until a log line is in its file.
const LOG_LIMIT: Duration = Duration::from_secs(5);
/// Records that make batches large enough for LOAD DATA in every lane.
const BURST: u64 = 4_000;
const WRITABLE_AGAIN: &str = "SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF;";
/// More than the daemons' memory takes.
const PADDED_BURST: u64 = 16_000;
const PLANTED: &str = "planted by the drill";
/// Steps of a consumer at which it can be made to panic; the first is passed once, when the group gives partitions.
const CONSUMER_STEPS: [&str; 3] = [RARE_STEP, "polled", "hand-on"];
const RARE_STEP: &str = "assign";
const DECODER_STEP: &str = "before-decode";
/// Steps of a writer's transaction at which it can be made to panic.
const WRITER_STEPS: [&str; 6] =
    ["before-write", "after-begin", "after-advance", "after-rows", "before-commit", "after-commit"];

/// What the place allows.
pub(super) struct Means {
    pub packets: bool,
    pub loads: bool,
    /// The whole server may be made read-only, and that binds the daemons' account.
    pub server_read_only: bool,
}

impl Means {
    pub fn find(runtime: &Runtime, ground: &Ground, server_read_only: bool) -> Result<Self, String> {
        let told = |error: WarehouseError| error.to_string();
        let mut staging = Staging::new(&ground.direct).map_err(told)?;
        let loads = runtime.block_on(staging.takes_loads()).map_err(told)?;
        let mariadb = runtime.block_on(staging.is_mariadb()).map_err(told)?;
        if server_read_only && mariadb {
            errln!("bief: MariaDB has no super_read_only: --server-read-only has no effect, the proxy answers so");
        }
        let server_read_only = server_read_only && !mariadb;
        if server_read_only {
            runtime.block_on(staging.may_set_read_only()).map_err(|error| {
                format!(
                    "--server-read-only: {error}; the account needs SYSTEM_VARIABLES_ADMIN on *.*, to make the server \
                     read-only and to make it writable again"
                )
            })?;
        }
        Ok(Self { packets: ground.packets(), loads, server_read_only })
    }
}

/// What a fault did, for the line that tells it.
pub(super) struct Told {
    pub words: String,
    pub applied: bool,
}

fn applied(words: impl Into<String>) -> Told {
    Told { words: words.into(), applied: true }
}

fn missed(words: impl Into<String>) -> Told {
    Told { words: words.into(), applied: false }
}

/// What stands when all is over.
pub(super) struct Aftermath {
    pub records: u64,
    pub difference: Difference,
    pub duplicates: i64,
    pub dead_letters: i64,
    /// Not all records were in the tables in the end.
    pub stuck: bool,
    pub unexpected_ends: Vec<String>,
    pub proof: Proof,
}

/// A drill under way.
pub(super) struct Drill<'a> {
    runtime: &'a Runtime,
    ground: &'a Ground,
    means: Means,
    seed: u64,
    wanted_daemons: usize,
    interrupted: &'a Arc<AtomicBool>,
    broker_restart: Option<String>,
    database_restart: Option<String>,
    broker: Arc<dyn Broker>,
    /// By way of no proxy.
    database: Staging,
    pub fleet: Fleet<'a>,
    pub load: Load,
    /// Duplicates when last asked.
    duplicates: u64,
}

impl<'a> Drill<'a> {
    /// Starts producing, and the daemons.
    pub fn begin(
        args: &Args,
        runtime: &'a Runtime,
        ground: &'a Ground,
        means: Means,
        seed: u64,
        interrupted: &'a Arc<AtomicBool>,
    ) -> Result<Self, Stop> {
        let load = Load::begin(ground, seed, args.rate)?;
        let mut fleet = Fleet::new(ground);
        for _ in 0..args.daemons {
            fleet.start(None)?;
        }
        Ok(Self {
            runtime,
            ground,
            means,
            seed,
            wanted_daemons: args.daemons as usize,
            interrupted,
            broker_restart: args.broker_restart.clone(),
            database_restart: args.database_restart.clone(),
            broker: ground.broker()?,
            database: Staging::new(&ground.direct).map_err(|error| error.to_string())?,
            fleet,
            load,
            duplicates: 0,
        })
    }

    fn check(&mut self) -> Result<(), Stop> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Stop::Interrupted);
        }
        self.load.check()?;
        self.fleet.look();
        Ok(())
    }

    fn sleep(&mut self, time: Duration) -> Result<(), Stop> {
        self.wait(time, |_| false).map(drop)
    }

    /// Waits until it is met, at most so long; whether it was.
    fn wait(&mut self, limit: Duration, mut met: impl FnMut(&mut Self) -> bool) -> Result<bool, Stop> {
        let until = Instant::now() + limit;
        loop {
            self.check()?;
            if met(self) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(Duration::from_millis(30)));
        }
    }

    fn standing(&mut self) -> Option<Standing> {
        // Away, most likely by a fault of ours; the wait's limit is what counts.
        let standing = self.runtime.block_on(self.database.standing(&self.ground.topic())).ok()?;
        self.duplicates = standing.duplicates.try_into().unwrap_or(0);
        Some(standing)
    }

    /// Records that have had a second outcome so far.
    pub fn doubled(&self) -> u64 {
        self.duplicates
    }

    /// The end of each partition at the broker.
    fn ends(&self) -> Option<BTreeMap<i32, i64>> {
        let bounds = |partition| self.broker.bounds(&self.ground.topic(), partition).ok();
        (0..PARTITIONS).map(|partition| Some((partition, bounds(partition)?.high))).collect()
    }

    /// Waits until the daemons have begun to write.
    pub fn settle(&mut self) -> Result<(), Stop> {
        let began = self.wait(START_LIMIT, |drill| {
            drill.standing().is_some_and(|s| s.next_offsets.len() == PARTITIONS as usize && s.applied > 0)
        })?;
        if began {
            return Ok(());
        }
        let words = self.fleet.last_words();
        Err(Stop::Failed(format!("no daemon wrote a record within {} s:\n{words}", START_LIMIT.as_secs())))
    }

    /// As many daemons run as were wanted, at least.
    pub fn complete_fleet(&mut self) -> Result<(), Stop> {
        self.check()?;
        while self.fleet.daemons.len() < self.wanted_daemons {
            self.fleet.start(None)?;
        }
        // One fault more may have come with one more.
        while self.fleet.daemons.len() > self.wanted_daemons + 1 {
            self.fleet.dismiss(0)?;
        }
        Ok(())
    }

    /// Seconds until all that the broker had when it took the first record after this began is in the tables; with a load
    /// that is over, all that it has. `None` where it took longer than `patience`.
    pub fn recover(&mut self, patience: Duration) -> Result<Option<f64>, Stop> {
        let (began, mut before, mut wanted) = (Instant::now(), None, None);
        let recovered = self.wait(patience, |drill| {
            // Without a new one, who read on to the end before a broker went away would be over it at once.
            if wanted.is_none()
                && let Some(ends) = drill.ends()
            {
                let records = ends.values().sum::<i64>();
                let is_new = records > *before.get_or_insert(records);
                wanted = (is_new || drill.load.is_over()).then_some(ends);
            }
            let Some(ends) = &wanted else { return false };
            let Some(standing) = drill.standing() else { return false };
            ends.iter().all(|(partition, end)| standing.next_offsets.get(partition).is_some_and(|next| next >= end))
        })?;
        Ok(recovered.then(|| began.elapsed().as_secs_f64()))
    }

    /// After one was stuck: fresh daemons, so that the next fault is judged by itself.
    pub fn start_over(&mut self) -> Result<(), Stop> {
        self.ground.proxy.traffic(Traffic::default());
        self.ground.proxy.disarm();
        self.ground.proxy.cut_all();
        self.fleet.daemons.clear();
        self.complete_fleet()
    }

    /// Ends all in order and looks at what stands.
    pub fn finish(&mut self, patience: Duration) -> Result<Aftermath, Stop> {
        self.complete_fleet()?;
        let records = self.load.finish()?;
        let recovered = self.recover(patience)?;
        if recovered.is_none() {
            err!("{}", self.fleet.last_words());
        }
        while !self.fleet.daemons.is_empty() {
            self.fleet.dismiss(0)?;
        }
        self.fleet.wait_left(DRAIN_LIMIT);
        let told = |error: WarehouseError| Stop::Failed(error.to_string());
        let standing = self.runtime.block_on(self.database.standing(&self.ground.topic())).map_err(told)?;
        let produced: i64 =
            self.ends().ok_or_else(|| "the broker does not tell the topic's ends".to_owned())?.values().sum();
        if u64::try_from(produced) != Ok(records) {
            return Err(Stop::Failed(format!(
                "the broker has {produced} records where {records} were produced: it lost or doubled some before any \
                 daemon read them, so that the drill proves nothing"
            )));
        }
        let mut rows = RowSet::new(self.seed, records);
        self.runtime.block_on(self.database.rows(&mut |row| rows.row(&row))).map_err(told)?;
        let config = self.ground.direct_config()?;
        let proof = self.runtime.block_on(prove(&config, &self.broker, None))?;
        Ok(Aftermath {
            records,
            difference: rows.finish(),
            duplicates: standing.duplicates,
            dead_letters: standing.dead_letters,
            stuck: recovered.is_none(),
            unexpected_ends: std::mem::take(&mut self.fleet.unexpected_ends),
            proof,
        })
    }

    /// Does it and ends it.
    pub fn inflict(&mut self, kind: Kind, dice: &mut Dice) -> Result<Told, Stop> {
        let any = dice.draw() as usize % self.fleet.daemons.len().max(1);
        let mut seconds = |low: u64, high: u64| Duration::from_millis(dice.within(low * 1000, high * 1000));
        match kind {
            Kind::DaemonKill => {
                let name = self.fleet.kill(any);
                self.fleet.start(None)?;
                Ok(applied(name))
            }
            Kind::DaemonPause => {
                let time = self.ground.session + seconds(2, 4);
                self.pause(any, time)
            }
            Kind::DaemonJoin => {
                self.fleet.start(None)?;
                Ok(applied(format!("{} daemons now", self.fleet.daemons.len())))
            }
            Kind::DaemonLeave => {
                let name = self.fleet.dismiss(any)?;
                self.fleet.wait_left(DRAIN_LIMIT);
                Ok(applied(name))
            }
            Kind::BrokerRestart => self.restart(self.broker_restart.clone(), |drill| {
                drill.broker.answers_anew(&drill.ground.topic()) && drill.ends().is_some()
            }),
            Kind::DatabaseRestart => self.restart(self.database_restart.clone(), |drill| drill.standing().is_some()),
            Kind::ConnectionsReset => {
                self.ground.proxy.cut_all();
                Ok(applied("all at once"))
            }
            Kind::DatabaseUnreachable => {
                let time = seconds(1, 6);
                self.suffer(Traffic { refuses: true, ..Traffic::default() }, time, true)
            }
            Kind::DatabaseHangs => {
                let time = seconds(3, 9);
                self.suffer(Traffic { hangs: true, ..Traffic::default() }, time, false)
            }
            Kind::DatabaseSlow => {
                let (time, latency) = (seconds(5, 9), Duration::from_millis(dice.within(50, 400)));
                self.slow_down(Traffic { latency, bytes_per_second: Some(200_000), ..Traffic::default() }, time)
            }
            Kind::CutMidLoad => self.trap(Trap::CutMidLoad { after: dice.within(1, 6_000) }),
            Kind::CommitCut => self.trap(Trap::CommitCut),
            Kind::CommitAnswerCut => self.trap(Trap::CommitAnswerCut),
            Kind::ReadOnly => {
                let time = seconds(2, 5);
                if self.means.server_read_only {
                    return self.make_read_only(time);
                }
                let words = "The MySQL server is running with the --super-read-only option so it cannot execute this \
                             statement";
                self.refuse(1290, words, time)
            }
            Kind::DiskFull => {
                let time = seconds(2, 5);
                match dice.within(0, 2) {
                    0 => self.refuse(1114, "The table 'drill_record' is full", time),
                    _ => self.refuse(1021, "Disk full; waiting for someone to free some space", time),
                }
            }
            Kind::LockWait => {
                let time = LOCK_WAIT + seconds(0, 2);
                let (topic, ground) = (self.ground.topic(), self.ground);
                let before = self.fleet.mentions(LOCK_WAIT_ERROR);
                let lock = async move { Staging::new(&ground.direct)?.lock_rows(&topic, time).await };
                match self.runtime.block_on(lock) {
                    Ok(true) => self.felt(LOCK_WAIT_ERROR, before, format!("{:.0} s", time.as_secs_f64())),
                    Ok(false) => Ok(missed("the locks were not to be had")),
                    Err(error) => Err(Stop::Failed(error.to_string())),
                }
            }
            Kind::Deadlock => {
                let time = seconds(1, 3);
                let before = self.fleet.mentions(DEADLOCK_ERROR);
                self.load.burst(BURST);
                let (topic, ground) = (self.ground.topic(), self.ground);
                let lock = async move { Staging::new(&ground.direct)?.lock_crosswise(&topic, time).await };
                match self.runtime.block_on(lock) {
                    Ok(true) => Ok(missed("the drill's own connection was the victim")),
                    Ok(false) => self.felt(DEADLOCK_ERROR, before, "a writer was the victim".to_owned()),
                    Err(error) => Err(Stop::Failed(error.to_string())),
                }
            }
            Kind::PanicConsumer => {
                let step = CONSUMER_STEPS[dice.draw() as usize % CONSUMER_STEPS.len()];
                self.panic(step, dice)
            }
            Kind::PanicDecoder => self.panic(DECODER_STEP, dice),
            Kind::PanicWriter => {
                let step = WRITER_STEPS[dice.draw() as usize % WRITER_STEPS.len()];
                self.panic(step, dice)
            }
        }
    }

    /// Applied only where a daemon's log tells of this error once more than before.
    fn felt(&mut self, error: &str, before: usize, words: String) -> Result<Told, Stop> {
        let felt = self.wait(LOG_LIMIT, |drill| drill.fleet.mentions(error) > before)?;
        Ok(if felt { applied(words) } else { missed("no writer was hit") })
    }

    fn pause(&mut self, at: usize, time: Duration) -> Result<Told, Stop> {
        let name = match self.fleet.daemons.get(at) {
            Some(daemon) => {
                daemon.signal("STOP")?;
                daemon.name.clone()
            }
            None => return Ok(missed("no daemon runs")),
        };
        let slept = self.sleep(time);
        if let Some(daemon) = self.fleet.daemons.iter().find(|daemon| daemon.name == name) {
            daemon.signal("CONT")?;
        }
        slept?;
        Ok(applied(format!("{name} for {:.1} s", time.as_secs_f64())))
    }

    /// Runs the caller's command and waits until the server answers again: how long that takes is not the daemons' doing.
    fn restart(&mut self, command: Option<String>, answers: impl FnMut(&mut Self) -> bool) -> Result<Told, Stop> {
        let command = command.ok_or_else(|| "no command was given".to_owned())?;
        let began = Instant::now();
        hook::run(&command, RESTART_LIMIT)?;
        if !self.wait(RESTART_LIMIT, answers)? {
            return Err(Stop::Failed(format!(
                "`{command}` has ended, and the server that it restarts has not answered for {} s; see why it does not \
                 start",
                RESTART_LIMIT.as_secs()
            )));
        }
        Ok(applied(format!("by the given command; it answered after {:.1} s", began.elapsed().as_secs_f64())))
    }

    fn suffer(&mut self, traffic: Traffic, time: Duration, cut: bool) -> Result<Told, Stop> {
        self.ground.proxy.traffic(traffic);
        if cut {
            self.ground.proxy.cut_all();
        }
        let slept = self.sleep(time);
        self.ground.proxy.traffic(Traffic::default());
        slept?;
        Ok(applied(format!("{:.1} s", time.as_secs_f64())))
    }

    /// For at least so long; then until a daemon has waited for memory.
    fn slow_down(&mut self, traffic: Traffic, time: Duration) -> Result<Told, Stop> {
        let before = self.fleet.memory_waited();
        self.ground.proxy.traffic(traffic);
        self.load.padded_burst(PADDED_BURST);
        let began = Instant::now();
        let slept = self.sleep(time);
        let filled = slept.and_then(|()| self.wait(TRAP_LIMIT, |drill| drill.fleet.memory_waited() > before));
        self.ground.proxy.traffic(Traffic::default());
        let (seconds, latency) = (began.elapsed().as_secs_f64(), traffic.latency.as_millis());
        Ok(match filled? {
            true => applied(format!("{seconds:.1} s, {latency} ms more a packet, until the memory was used up")),
            false => missed(format!("{seconds:.1} s, {latency} ms more a packet, and memory was left")),
        })
    }

    fn trap(&mut self, trap: Trap) -> Result<Told, Stop> {
        let before = self.ground.proxy.sprung();
        self.load.burst(BURST);
        self.ground.proxy.arm(trap);
        let mut bursts = Instant::now();
        let sprung = self.wait(TRAP_LIMIT, |drill| {
            if bursts.elapsed() > Duration::from_secs(3) {
                bursts = Instant::now();
                drill.load.burst(BURST);
            }
            drill.ground.proxy.sprung() > before
        });
        self.ground.proxy.disarm();
        Ok(match sprung? {
            true => applied("a connection was cut"),
            false => missed("nothing went that way"),
        })
    }

    fn refuse(&mut self, code: u16, words: &'static str, time: Duration) -> Result<Told, Stop> {
        let before = self.ground.proxy.sprung();
        self.ground.proxy.arm(Trap::Refuse { code, words });
        let slept = self.sleep(time);
        self.ground.proxy.disarm();
        slept?;
        let refused = self.ground.proxy.sprung() - before;
        Ok(Told {
            words: format!("error {code} for {:.1} s, {refused} statements refused", time.as_secs_f64()),
            applied: refused > 0,
        })
    }

    fn make_read_only(&mut self, time: Duration) -> Result<Told, Stop> {
        errln!(
            "bief: the server becomes read-only for {:.1} s; should this process be killed meanwhile: {WRITABLE_AGAIN}",
            time.as_secs_f64()
        );
        let begun = self.runtime.block_on(self.database.set_read_only(true));
        let slept = if begun.is_ok() { self.sleep(time) } else { Ok(()) };
        // Also after an error: the server may have done it and not have been heard.
        self.make_writable()?;
        begun.map_err(|error| Stop::Failed(error.to_string()))?;
        slept?;
        Ok(applied(format!("the whole server for {:.1} s", time.as_secs_f64())))
    }

    /// No signal cuts this short.
    fn make_writable(&mut self) -> Result<(), Stop> {
        let until = Instant::now() + WRITABLE_LIMIT;
        loop {
            match self.runtime.block_on(self.database.set_read_only(false)) {
                Ok(()) => return Ok(()),
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(500)),
                Err(error) => {
                    return Err(Stop::Failed(format!("THE SERVER MAY STILL BE READ-ONLY: {error}; {WRITABLE_AGAIN}")));
                }
            }
        }
    }

    /// One more daemon, which panics at this step of a batch; the oldest leaves.
    fn panic(&mut self, step: &str, dice: &mut Dice) -> Result<Told, Stop> {
        let batches = if step == RARE_STEP { 0 } else { dice.within(0, 6) };
        self.fleet.start(Some(&format!("{step}={batches}*off->1*panic({PLANTED})->off")))?;
        let name = self.fleet.daemons.last().map(|daemon| daemon.name.clone()).unwrap_or_default();
        let panicked = self.wait(PANIC_LIMIT, |drill| {
            let daemon = drill.fleet.daemons.iter().find(|daemon| daemon.name == name);
            daemon.is_some_and(|daemon| daemon.log().contains(PLANTED))
        })?;
        Ok(Told { words: format!("{name} at {step}, batch {}", batches + 1), applied: panicked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failpoints::NAMES;

    #[test]
    fn every_step_at_which_a_drill_plants_a_panic_is_there() {
        for step in CONSUMER_STEPS.iter().chain(&[DECODER_STEP]).chain(&WRITER_STEPS) {
            assert!(NAMES.contains(step), "{step}");
        }
    }
}

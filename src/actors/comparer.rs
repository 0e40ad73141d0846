//! Has the same matrices fitted by all frameworks, one fit at a time, and puts together what they answer: once, or at the
//! times of a schedule. Must never fit anything itself, nor let one framework's failure keep the others from their turn.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::{MailboxError, Recipient};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::due::wait_until;
use super::lease::{Held, while_held};
use crate::core::comparison::{Comparison, Framework, Machine, MatrixFacts, Outcome, Run, Sample, TOLERANCE};
use crate::core::comparison::{parity, scaling};
use crate::core::schedule::Schedule;
use crate::messages::fit::{Describe, Described, Fit};
use crate::ports::frameworks::{FitJob, OpenGround};
use crate::ports::{Clock, Lease, OpenLeases};
use crate::runtime::{ExitGuard, Lone, Work};

/// What daemons agree on.
pub const LEASE: &str = "compare";
/// How long a comparison is left undone whose daemon was killed.
const LASTS: Duration = Duration::from_secs(60);

/// What goes on, for whoever watches.
#[derive(Debug)]
pub enum Progress<'p> {
    /// The matrix is there.
    Sample(&'p Sample),
    /// This size is written.
    LaidOut { size: u32, rows: usize },
    /// A fit has begun.
    Begins { framework: Framework, size: u32, workers: u32 },
    /// And ended.
    Ended(&'p Run),
}

pub type OnProgress = Arc<dyn Fn(&Progress<'_>) + Send + Sync>;

/// One of those that are compared.
pub struct Contender {
    pub fit: Recipient<Fit>,
    pub describe: Recipient<Describe>,
}

/// What is compared, and within what.
#[derive(Debug, Clone)]
pub struct Extent {
    pub sizes: Vec<u32>,
    pub workers: Vec<u32>,
    pub time_limit: Duration,
    /// Bytes of a fit's whole process tree.
    pub memory_limit: Option<u64>,
    pub machine: Machine,
    pub version: String,
    pub revision: String,
}

/// The one answer to a comparison that is made once.
pub type Tell = Arc<Mutex<Option<oneshot::Sender<Result<Comparison, String>>>>>;

/// When.
#[derive(Clone)]
pub enum Occasion {
    Once(Tell),
    /// At its times, by whichever daemon has the lease.
    Scheduled {
        schedule: Box<Schedule>,
        owner: String,
        open_leases: OpenLeases,
    },
}

pub struct ComparerSettings {
    pub extent: Extent,
    pub occasion: Occasion,
    pub contenders: Vec<Contender>,
    pub open_ground: OpenGround,
    pub clock: Arc<dyn Clock>,
    pub on_progress: OnProgress,
}

pub type Comparer = Lone<ComparerSettings>;

impl Comparer {
    pub fn new(settings: ComparerSettings, guard: ExitGuard) -> Self {
        Self::of(settings, guard)
    }
}

#[async_trait(?Send)]
impl Work for ComparerSettings {
    async fn work(&mut self) {
        attend(self).await;
    }
}

async fn attend(settings: &ComparerSettings) {
    match &settings.occasion {
        Occasion::Once(tell) => {
            let made = compare(settings).await;
            if let Some(tell) = tell.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // Nobody may be waiting any more.
                let _ = tell.send(made);
            }
        }
        Occasion::Scheduled { schedule, owner, open_leases } => loop {
            let Some(due) = schedule.next_after(settings.clock.now()) else { return std::future::pending().await };
            wait_until(&*settings.clock, due).await;
            match take_turn(settings, due, (owner, open_leases)).await {
                Ok(()) => {}
                Err(cause) => tracing::error!(cause, "frameworks could not be compared; the next time is tried"),
            }
        },
    }
}

async fn take_turn(
    settings: &ComparerSettings,
    due: DateTime<Utc>,
    (owner, open_leases): (&str, &OpenLeases),
) -> Result<(), String> {
    let leases = open_leases().await.map_err(|e| e.to_string())?;
    match leases.take(LEASE, owner, LASTS).await.map_err(|e| e.to_string())? {
        // Another is at it; or was.
        Lease::Of { .. } => return Ok(()),
        Lease::Ours { done_for } if done_for >= Some(due) => {}
        Lease::Ours { .. } => {
            let held = Held { name: LEASE, owner, lasts: LASTS };
            let comparison = while_held(&*leases, held, compare(settings)).await??;
            tracing::info!(runs = comparison.runs.len(), well = comparison.is_well(), "frameworks were compared");
            leases.done(LEASE, owner, due).await.map_err(|e| e.to_string())?;
            return Ok(());
        }
    }
    leases.give_back(LEASE, owner).await.map_err(|e| e.to_string())
}

/// All sizes, numbers of workers and frameworks.
async fn compare(settings: &ComparerSettings) -> Result<Comparison, String> {
    let ComparerSettings { extent, contenders, open_ground, clock, on_progress, .. } = settings;
    let mut ground = open_ground()?;
    let mut described = Vec::with_capacity(contenders.len());
    for contender in contenders {
        described.push(contender.describe.send(Describe).await.map_err(gone)?);
    }
    let sample = Arc::new(ground.sample().await?);
    on_progress(&Progress::Sample(&sample));
    let mut runs = Vec::new();
    for size in &extent.sizes {
        let file = ground.lay_out(&sample, *size).await?;
        let rows = sample.grown(*size).train_rows();
        on_progress(&Progress::LaidOut { size: *size, rows });
        for (contender, told) in contenders.iter().zip(&described) {
            for workers in workers_of(told, &extent.workers) {
                let (size, framework) = (*size, told.framework);
                on_progress(&Progress::Begins { framework, size, workers });
                let outcome = one_fit(contender, told, (&sample, &file), (size, workers), extent).await?;
                let run = Run { framework: framework.name().to_owned(), size, rows: rows as u64, workers, outcome };
                on_progress(&Progress::Ended(&run));
                runs.push(run);
            }
        }
    }
    let comparison = put_together(extent, &sample, described, runs, clock.now());
    ground.keep(&comparison).await?;
    Ok(comparison)
}

fn workers_of(told: &Described, asked: &[u32]) -> Vec<u32> {
    if told.parallel { asked.to_vec() } else { vec![1] }
}

async fn one_fit(
    contender: &Contender,
    told: &Described,
    (sample, file): (&Arc<Sample>, &PathBuf),
    (size, workers): (u32, u32),
    extent: &Extent,
) -> Result<Outcome, String> {
    if let Some(why) = &told.facts.absent {
        return Ok(Outcome::Absent { why: why.clone() });
    }
    let job = FitJob {
        sample: Arc::clone(sample),
        size,
        file: file.clone(),
        workers,
        time_limit: extent.time_limit,
        memory_limit: extent.memory_limit,
    };
    let outcome = contender.fit.send(Fit(job)).await.map_err(gone)?;
    outcome.ok_or_else(|| "the comparison was broken off".to_owned())
}

fn gone(_: MailboxError) -> String {
    "a framework's actor is gone".to_owned()
}

fn put_together(
    extent: &Extent,
    sample: &Sample,
    described: Vec<Described>,
    runs: Vec<Run>,
    made_at: DateTime<Utc>,
) -> Comparison {
    // Linfa, or the first that was asked for.
    let of_linfa = described.iter().map(|told| told.framework).min();
    let reference = of_linfa.map_or("", Framework::name);
    Comparison {
        made_at,
        version: extent.version.clone(),
        revision: extent.revision.clone(),
        optimised: !cfg!(debug_assertions),
        machine: extent.machine.clone(),
        matrix: MatrixFacts {
            source: sample.source.clone(),
            features: sample.width().try_into().unwrap_or(u32::MAX),
            train_rows: sample.train_rows as u64,
            holdout_rows: sample.holdout_rows() as u64,
            left_out: sample.left_out.clone(),
        },
        tolerance: TOLERANCE,
        parity: parity(&runs, reference),
        scaling: scaling(&runs),
        frameworks: described.into_iter().map(|told| told.facts).collect(),
        runs,
    }
}

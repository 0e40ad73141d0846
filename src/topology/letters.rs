//! Dead letters sent through again or dropped, for the command line and for the HTTP side alike: through the present
//! decoder and writer, portion by portion, each in one transaction. May run beside the daemon and beside another
//! retry; overwrites no row unless told to.

mod changes;
mod portions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;

pub use self::changes::open_letter_changes;
pub use self::portions::{Portion, first_portion, portions};
use crate::actors::decoder::decode_batch;
use crate::actors::writer::{Committer, Ended, Retried, RetryRequest};
use crate::adapters::warehouse;
use crate::config::{Config, Stream};
use crate::core::commit_plan::Known;
use crate::core::decode::FieldOrder;
use crate::core::mapping::Plan;
use crate::core::marks::Marking;
use crate::core::outcome::Counts;
use crate::core::reset::topic_of;
use crate::core::target::OnConflict;
use crate::messages::Board;
use crate::ports::letter_changes::{RetriedLetters, RetryOptions};
use crate::ports::{AuditEntry, LetterKey, LetterWarehouse, PartitionCounts, WarehouseError};
use crate::runtime::{Backoff, StartError};

/// How often a portion is tried that a deadlock, a lock or the network spoilt.
const TRIES: u32 = 8;

/// The tries of one portion.
struct Tries {
    left: u32,
    backoff: Backoff,
}

impl Tries {
    fn new() -> Self {
        Self { left: TRIES, backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(5), None) }
    }

    /// Waits for the next one after trouble that passes; hands any other error back, and that of the last try.
    async fn after(
        &mut self,
        error: WarehouseError,
        warehouse: &mut dyn LetterWarehouse,
    ) -> Result<(), WarehouseError> {
        self.left -= 1;
        match error {
            WarehouseError::Transient { what } if self.left > 0 => {
                tracing::warn!(cause = what, "letters are tried again");
                warehouse.abandon();
                tokio::time::sleep(self.backoff.next_delay()).await;
                Ok(())
            }
            error => Err(error),
        }
    }
}

/// Makes the audit's line of a transaction.
pub type Audit<'a> = &'a dyn Fn(&Ended<'_>) -> AuditEntry;

/// Sends letters through again. What it has read of the tables it keeps for the next letters.
pub struct Redrive<'r> {
    config: &'r Config,
    how: &'r RetryOptions,
    audit: Option<Audit<'r>>,
    /// Of the daemon that does it, so that its ledger shows at once what the tables say.
    board: Option<&'r Board>,
    /// By topic, without the epoch of a former log; with whose buckets the rows mark.
    plans: BTreeMap<String, (Arc<Plan>, Arc<[Marking]>)>,
    warehouse: Option<Box<dyn LetterWarehouse>>,
}

impl<'r> Redrive<'r> {
    pub fn new(config: &'r Config, how: &'r RetryOptions, audit: Option<Audit<'r>>) -> Self {
        Self { config, how, audit, board: None, plans: BTreeMap::new(), warehouse: None }
    }

    pub fn telling(self, board: &'r Board) -> Self {
        Self { board: Some(board), ..self }
    }

    /// Takes letters in this order, topic by topic. Where rows that are there stay as they are, the latest of a key must
    /// come first. What was done before an error is done, and added to `sum`.
    pub async fn retry(&mut self, mut keys: Vec<LetterKey>, sum: &mut RetriedLetters) -> Result<(), WarehouseError> {
        if keys.iter().any(|key| topic_of(&key.topic).1) {
            let bookkeeping = (warehouse::open_bookkeeping(&self.config.warehouse))().await?;
            let ledgers = bookkeeping.offsets(None).await?;
            let counted: BTreeSet<(&str, i32)> = ledgers.iter().map(|l| (l.topic.as_str(), l.partition)).collect();
            let before = keys.len();
            // No ledger counts the others: their records were read again, and decided anew.
            keys.retain(|key| !topic_of(&key.topic).1 || counted.contains(&(key.topic.as_str(), key.partition)));
            sum.read_again += before - keys.len();
        }
        let config = self.config;
        for (topic, portions) in portions(&keys) {
            let own = topic_of(topic).0;
            let Some(stream) = config.streams.iter().find(|s| s.topic == own) else {
                sum.without_stream += portions.iter().map(|p| p.ids.len()).sum::<usize>();
                continue;
            };
            let plan = self.plan(stream).await.map_err(in_the_warehouse)?;
            for portion in &portions {
                let (retried, unanswered) = self.persist(&plan, topic, portion).await?;
                // A former log's ledger is no partition's that is read now.
                if let Some(board) = self.board.filter(|_| topic == own && !self.how.dry_run) {
                    retried.counts.iter().for_each(|moved| board.moved(&stream.name, moved.partition, moved.counts));
                }
                add(sum, retried, unanswered);
            }
        }
        Ok(())
    }

    async fn plan(&mut self, stream: &Stream) -> Result<(Arc<Plan>, Arc<[Marking]>), StartError> {
        if let Some(known) = self.plans.get(&stream.topic) {
            return Ok(known.clone());
        }
        let mut plan = super::read_plan(self.config, stream).await?;
        if !self.how.overwrite {
            plan.targets.iter_mut().for_each(|target| target.on_conflict = OnConflict::Ignore);
        }
        let markings = super::markings(self.config, &plan)?;
        let plan = (Arc::new(plan), markings);
        self.plans.insert(stream.topic.clone(), plan.clone());
        Ok(plan)
    }

    /// One portion, until it is in or the trouble lasts. Answers also whether a COMMIT of it went unanswered: then letters
    /// that are gone most likely ended with it.
    async fn persist(
        &mut self,
        (plan, markings): &(Arc<Plan>, Arc<[Marking]>),
        topic: &str,
        portion: &Portion,
    ) -> Result<(Retried, bool), WarehouseError> {
        let mut warehouse = match self.warehouse.take() {
            Some(open) => open,
            None => (warehouse::open_letter_warehouse(&self.config.warehouse))().await?,
        };
        let (mut tries, mut unanswered) = (Tries::new(), false);
        loop {
            // Remembers nothing: another writer is at work beside it.
            let known = Arc::new(Mutex::new(Known::new(plan.targets.len())));
            let mut committer = Committer::new(Arc::clone(plan), known, 1).with_markings(Arc::clone(markings));
            let mut order = FieldOrder::default();
            let mut commit_sent = false;
            let request = RetryRequest {
                topic,
                ids: &portion.ids,
                partitions: &portion.partitions,
                latest_first: !self.how.overwrite,
                rehearse: self.how.dry_run,
                edited: self.how.payload.as_deref(),
                audit: self.audit,
                commit_sent: &mut commit_sent,
                decode: &mut |records| decode_batch(plan, &mut order, records),
            };
            match committer.retry(warehouse.as_mut(), request, Utc::now()).await {
                Ok(retried) => {
                    self.warehouse = Some(warehouse);
                    return Ok((retried, unanswered));
                }
                Err(error) => {
                    unanswered |= commit_sent;
                    tries.after(error, warehouse.as_mut()).await?;
                }
            }
        }
    }
}

fn in_the_warehouse(StartError { message, fatal }: StartError) -> WarehouseError {
    match fatal {
        true => WarehouseError::Fatal { what: message },
        false => WarehouseError::Transient { what: message },
    }
}

fn add(sum: &mut RetriedLetters, retried: Retried, unanswered: bool) {
    let total = retried.total();
    sum.applied += total.applied;
    sum.duplicates += total.duplicates;
    sum.refused.extend(retried.refused);
    sum.without_payload += retried.without_payload.len();
    *(if unanswered { &mut sum.unanswered } else { &mut sum.gone }) += retried.gone;
}

/// Drops letters for good. What was dropped before an error is dropped, and added to `dropped`.
pub async fn discard(
    config: &Config,
    keys: &[LetterKey],
    audit: Option<Audit<'_>>,
    dropped: &mut usize,
) -> Result<(), WarehouseError> {
    let mut warehouse = (warehouse::open_letter_warehouse(&config.warehouse))().await?;
    for (topic, portions) in portions(keys) {
        for portion in portions {
            let (mut tries, mut unanswered) = (Tries::new(), 0);
            *dropped += loop {
                match discard_portion(warehouse.as_mut(), topic, &portion, audit, &mut unanswered).await {
                    // Letters that are gone by now went with a COMMIT that was not answered, unless another took them
                    // just then.
                    Ok(ended) => break ended.max(unanswered),
                    Err(error) => tries.after(error, warehouse.as_mut()).await?,
                }
            };
        }
    }
    Ok(())
}

/// In one transaction; answers how many. `unanswered`: how many were to be dropped by a COMMIT that was sent.
async fn discard_portion(
    warehouse: &mut dyn LetterWarehouse,
    topic: &str,
    portion: &Portion,
    audit: Option<Audit<'_>>,
    unanswered: &mut usize,
) -> Result<usize, WarehouseError> {
    let now = Utc::now();
    warehouse.begin().await?;
    let letters = warehouse.lock_letters(topic, &portion.partitions, &portion.ids).await?;
    let ids: Vec<i64> = letters.iter().map(|l| l.id).collect();
    warehouse.drop_letters(&ids, now).await?;
    // No count changes, but a proof that is being read meanwhile sees that the partition moved.
    let counts: Vec<PartitionCounts> = portion
        .partitions
        .iter()
        .map(|partition| PartitionCounts { partition: *partition, counts: Counts::default() })
        .collect();
    warehouse.count(topic, &counts, now).await?;
    if let Some(entry) = audit {
        let ended = Ended { letters: &ids, counts: Counts::default(), refused: 0 };
        warehouse.audit(&entry(&ended)).await?;
    }
    crate::failpoint!(
        "drop-before-commit",
        WarehouseError::Transient { what: "failpoint drop-before-commit".to_owned() }
    );
    *unanswered = (*unanswered).max(ids.len());
    warehouse.commit().await?;
    crate::failpoint!(
        "drop-after-commit",
        WarehouseError::Transient { what: "failpoint drop-after-commit".to_owned() }
    );
    Ok(ids.len())
}

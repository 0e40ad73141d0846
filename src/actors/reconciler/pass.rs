//! One pass over a source's buckets: all of them or a sample is compared with what the rows come to, what differs is told,
//! computed anew under a higher version, and compared again. What a writer or an aggregator has in hand at the moment is
//! looked at later, never told as wrong. Must never remove a bucket that has rows: what stays wrong is told.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::look::{Compared, Seen, is_past, look};
use super::walk::{Stretch, Walk};
use crate::actors::persist::persist;
use crate::actors::refresh::{RefreshError, RefreshPlan, refresh};
use crate::core::differences::{Difference, Kind};
use crate::core::document::Bucket;
use crate::ports::cache::{Replaced, Replacement};
use crate::ports::{AggregateSource, Cache, Clock};

/// Documents that are compared at once, unless one bucket has more.
const DOCUMENTS: u64 = 20_000;
/// How often a bucket that moves is looked at, and the wait before the second look; it doubles.
const LOOKS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// How often a bucket is marked at most, to get above what someone put in under a version of his own.
const MARKS: i64 = 64;

/// What a pass is about.
pub struct Pass<'p> {
    pub plan: &'p RefreshPlan,
    /// Positions of the plan's aggregates that are compared.
    pub chosen: &'p [usize],
    /// Of the buckets, 0 to 1; which ones follows from the seed.
    pub share: f64,
    pub seed: u64,
    /// Whether what differs is mended.
    pub mend: bool,
    pub clock: &'p dyn Clock,
    /// Told of each bucket of each aggregate that was computed anew.
    pub replaced: &'p dyn Fn(&[Replacement], Replaced),
}

/// A document that differs.
#[derive(Debug, Serialize)]
pub struct Finding<'f> {
    pub aggregate: &'f str,
    pub bucket_start: DateTime<Utc>,
    #[serde(flatten)]
    pub difference: &'f Difference,
    pub became: Became,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It is as it should be now.
    Mended,
    /// It still differs: something of a higher version stands in the way.
    Remains,
    /// Nothing was tried.
    Left,
}

/// What a pass came to for one aggregate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// That were compared.
    pub buckets: u64,
    /// That were compared, of the cache.
    pub documents: u64,
    /// That differed, whatever became of them.
    pub differing: u64,
    pub mended: u64,
    /// That differ still.
    pub remaining: u64,
    /// Buckets that waited to be computed, and were where that was asked for.
    pub pending: u64,
    /// Buckets that did not stand still for long enough to be compared.
    pub unsettled: u64,
}

impl Tally {
    pub fn plus(&mut self, other: &Tally) {
        self.buckets += other.buckets;
        self.documents += other.documents;
        self.differing += other.differing;
        self.mended += other.mended;
        self.remaining += other.remaining;
        self.pending += other.pending;
        self.unsettled += other.unsettled;
    }
}

/// Makes the pass; answers a tally for each of the chosen aggregates. What was mended before an error is mended.
pub async fn reconcile(
    pass: &Pass<'_>,
    source: &mut dyn AggregateSource,
    cache: &mut dyn Cache,
    told: &mut dyn FnMut(&Finding<'_>),
) -> Result<Vec<Tally>, RefreshError> {
    let mut run = Run { pass, source, cache, told, tallies: vec![Tally::default(); pass.chosen.len()] };
    run.walk().await?;
    Ok(run.tallies)
}

struct Run<'r> {
    pass: &'r Pass<'r>,
    source: &'r mut dyn AggregateSource,
    cache: &'r mut dyn Cache,
    told: &'r mut dyn FnMut(&Finding<'_>),
    tallies: Vec<Tally>,
}

/// By bucket, for each chosen aggregate.
type Found = BTreeMap<Bucket, Vec<Vec<Difference>>>;

impl Run<'_> {
    async fn walk(&mut self) -> Result<(), RefreshError> {
        let pass = self.pass;
        let walk = Walk { plan: pass.plan, chosen: pass.chosen };
        let mut from = self.first_kept();
        loop {
            let first = persist(async || walk.first(&mut *self.source, &mut *self.cache, from).await).await?;
            let Some(stretch) = first.and_then(|first| Stretch::of(pass.plan.source.width, first)) else {
                return Ok(());
            };
            if stretch.is_drawn(pass.seed, pass.share) {
                let contents =
                    persist(async || walk.contents(&mut *self.source, &mut *self.cache, stretch).await).await?;
                for (aggregate, stray) in contents.strays {
                    self.tell_stray(aggregate, stray);
                }
                for part in parts(&contents.buckets) {
                    self.settle(part).await?;
                }
            }
            from = Some(stretch.end);
        }
    }

    /// Where there may be something that is kept; None where one of the aggregates keeps all.
    fn first_kept(&self) -> Option<DateTime<Utc>> {
        let of = |at: &usize| self.pass.plan.aggregates.get(*at).and_then(|aggregate| aggregate.cached.keep);
        let longest = self.pass.chosen.iter().map(of).collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let width = Duration::from_micros(self.pass.plan.source.width.micros().unsigned_abs());
        self.pass.clock.now().checked_sub_signed(chrono::Duration::from_std(longest + width).ok()?)
    }

    /// Compares these buckets, mends, and compares again, until each has stood still or moves too often.
    async fn settle(&mut self, mut open: Vec<Bucket>) -> Result<(), RefreshError> {
        let pass = self.pass;
        let (mut mending, mut pending) = (Found::new(), Vec::new());
        let mut wait = FIRST_WAIT;
        for round in 1..=LOOKS {
            let seen = persist(async || {
                let now = pass.clock.now();
                look(pass.plan, pass.chosen, &mut *self.source, &mut *self.cache, &open, now).await
            });
            let (mut again, mut late, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
            for (bucket, seen) in open.iter().copied().zip(seen.await?) {
                match seen {
                    Seen::Moved => again.push(bucket),
                    Seen::Pending if pass.mend => late.push(bucket),
                    Seen::Pending => pending.push(bucket),
                    Seen::Compared(compared) => match mending.remove(&bucket) {
                        Some(before) => self.tell_mended(bucket, before, compared),
                        None => {
                            let ahead = compared.iter().map(|of| of.ahead).max().unwrap_or_default();
                            let found = self.count(compared);
                            if found.iter().all(Vec::is_empty) {
                                continue;
                            }
                            if pass.mend {
                                mending.insert(bucket, found);
                                wrong.push((bucket, ahead.saturating_add(1).min(MARKS)));
                            } else {
                                self.tell(bucket, &found, Became::Left);
                            }
                        }
                    },
                }
            }
            self.mark(&wrong).await?;
            let stale: Vec<Bucket> = late.iter().copied().chain(wrong.iter().map(|(bucket, _)| *bucket)).collect();
            for part in stale.chunks(pass.plan.at_once.max(1)) {
                persist(async || self.refresh(part).await).await?;
            }
            pending.extend(late.iter().filter(|bucket| !mending.contains_key(bucket)));
            open = again.into_iter().chain(stale).collect();
            open.sort_unstable();
            if open.is_empty() || round == LOOKS {
                break;
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        // Computed under a higher version, and marked again since: what was seen is gone.
        for (bucket, found) in std::mem::take(&mut mending) {
            open.retain(|other| *other != bucket);
            self.tell(bucket, &found, Became::Mended);
        }
        pending.sort_unstable();
        pending.dedup();
        for tally in &mut self.tallies {
            tally.pending += pending.len() as u64;
            tally.unsettled += open.len() as u64;
        }
        Ok(())
    }

    /// Each bucket so often.
    async fn mark(&mut self, wrong: &[(Bucket, i64)]) -> Result<(), RefreshError> {
        let most = wrong.iter().map(|(_, marks)| *marks).max().unwrap_or_default();
        for round in 1..=most {
            let buckets: Vec<Bucket> = wrong.iter().filter(|(_, marks)| *marks >= round).map(|(b, _)| *b).collect();
            let source = &self.pass.plan.source;
            persist(async || Ok(self.source.mark(source, &buckets).await?)).await?;
        }
        Ok(())
    }

    async fn refresh(&mut self, buckets: &[Bucket]) -> Result<(), RefreshError> {
        let Pass { plan, clock, replaced, .. } = *self.pass;
        let mut told = |replacements: &[Replacement], what| replaced(replacements, what);
        refresh(plan, self.source, self.cache, buckets, &|| clock.now(), &mut told).await
    }

    fn count(&mut self, compared: Vec<Compared>) -> Vec<Vec<Difference>> {
        let tallies = self.tallies.iter_mut().zip(compared);
        tallies
            .map(|(tally, compared)| {
                tally.buckets += 1;
                tally.documents += compared.documents;
                compared.differences
            })
            .collect()
    }

    fn tell_mended(&mut self, bucket: Bucket, before: Vec<Vec<Difference>>, after: Vec<Compared>) {
        let after: Vec<Vec<Difference>> = after.into_iter().map(|compared| compared.differences).collect();
        let gone = before.into_iter().zip(&after).map(|(mut before, after)| {
            before.retain(|difference| after.iter().all(|other| other.key != difference.key));
            before
        });
        let gone: Vec<Vec<Difference>> = gone.collect();
        self.tell(bucket, &gone, Became::Mended);
        self.tell(bucket, &after, Became::Remains);
    }

    fn tell(&mut self, bucket: Bucket, found: &[Vec<Difference>], became: Became) {
        for ((tally, at), differences) in self.tallies.iter_mut().zip(self.pass.chosen).zip(found) {
            let Some(aggregate) = self.pass.plan.aggregates.get(*at) else { continue };
            for difference in differences {
                tally.differing += 1;
                match became {
                    Became::Mended => tally.mended += 1,
                    Became::Remains | Became::Left => tally.remaining += 1,
                }
                let (aggregate, bucket_start) = (aggregate.query.name.as_str(), bucket.start());
                (self.told)(&Finding { aggregate, bucket_start, difference, became });
            }
        }
    }

    /// A bucket that the source does not have: nothing computed takes its place.
    fn tell_stray(&mut self, aggregate: usize, stray: Bucket) {
        let Some(position) = self.pass.chosen.iter().position(|at| *at == aggregate) else { return };
        if self.pass.plan.aggregates.get(aggregate).is_some_and(|of| is_past(of, &stray, self.pass.clock.now())) {
            return;
        }
        let mut found = vec![Vec::new(); self.pass.chosen.len()];
        found[position].push(Difference { key: None, kind: Kind::Surplus });
        self.tell(stray, &found, if self.pass.mend { Became::Remains } else { Became::Left });
    }
}

/// Cuts buckets into parts that are compared at once.
fn parts(buckets: &[(Bucket, u64)]) -> Vec<Vec<Bucket>> {
    let (mut parts, mut sum) = (Vec::<Vec<Bucket>>::new(), u64::MAX);
    for (bucket, documents) in buckets {
        sum = sum.saturating_add(*documents);
        match parts.last_mut() {
            Some(part) if sum <= DOCUMENTS => part.push(*bucket),
            _ => {
                sum = *documents;
                parts.push(vec![*bucket]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_few_documents_but_at_least_one_bucket() {
        let bucket = |n: i64| {
            let at = |n: i64| DateTime::from_timestamp(n * 3600, 0).unwrap();
            Bucket::new(at(n), at(n + 1)).unwrap()
        };
        let of = |documents: &[u64]| {
            let buckets: Vec<(Bucket, u64)> = (0..).map(bucket).zip(documents.iter().copied()).collect();
            parts(&buckets).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[0, 0, 0]), [3]);
        assert_eq!(of(&[DOCUMENTS + 1, 1, DOCUMENTS - 1, 1]), [1, 2, 1]);
    }
}

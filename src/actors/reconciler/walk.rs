//! Finds the buckets that there are to look at, stretch by stretch: those that have rows and those that have documents,
//! whoever put these there. The cost of a stretch that is passed over is that of finding the next. Reads only.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};

use crate::actors::refresh::{RefreshError, RefreshPlan};
use crate::core::bucket::Width;
use crate::core::document::Bucket;
use crate::ports::cache::CacheQuery;
use crate::ports::{AggregateSource, Cache};

/// Buckets of a stretch, which is looked at or passed over as a whole: a day of hours.
const BUCKETS: i64 = 24;

/// A stretch of time, its end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Counted from 1970, in stretches.
    pub number: i64,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
}

impl Stretch {
    /// The one that a moment falls into; None at the end of time.
    pub fn of(width: Width, moment: DateTime<Utc>) -> Option<Self> {
        let length = width.micros() * BUCKETS;
        let number = moment.timestamp_micros().div_euclid(length);
        let at = |number: i64| DateTime::from_timestamp_micros(number.checked_mul(length)?);
        Some(Self { number, start: at(number)?, end: at(number + 1)? })
    }

    /// Whether it belongs to the sample that this seed draws. Of different seeds the samples are different.
    pub fn is_drawn(&self, seed: u64, share: f64) -> bool {
        // SplitMix64's mixing: numbers that follow each other come out far apart.
        let mut mixed = seed ^ (self.number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        share >= 1.0 || (mixed >> 11) as f64 / ((1u64 << 53) as f64) < share
    }
}

/// What there is to look at in a stretch.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Ascending, each with how many documents the cache tells of.
    pub buckets: Vec<(Bucket, u64)>,
    /// By aggregate, buckets of the cache that are none of the source's: of another width.
    pub strays: Vec<(usize, Bucket)>,
}

/// Walks over the buckets of a plan's source, for the aggregates at these positions.
pub(super) struct Walk<'w> {
    pub plan: &'w RefreshPlan,
    pub chosen: &'w [usize],
}

impl Walk<'_> {
    fn aggregates(&self) -> impl Iterator<Item = (usize, &str)> {
        self.chosen.iter().filter_map(|at| Some((*at, self.plan.aggregates.get(*at)?.query.name.as_str())))
    }

    /// Where the first bucket starts that has rows or documents at or after a moment, of all where none is given.
    pub async fn first(
        &self,
        source: &mut dyn AggregateSource,
        cache: &mut dyn Cache,
        from: Option<DateTime<Utc>>,
    ) -> Result<Option<DateTime<Utc>>, RefreshError> {
        let mut first = source.next_bucket(&self.plan.source, from).await?.map(|bucket| bucket.start());
        for (_, name) in self.aggregates() {
            let told = cache.buckets(name, from, first, 1).await?;
            let start =
                told.first().map(|state| from.map_or(state.bucket.start(), |from| from.max(state.bucket.start())));
            first = start.or(first);
            let documents = cache.read(&one_of(name, from, first)).await?.documents;
            // What someone changed may start elsewhere than its name says.
            let start = documents
                .first()
                .map(|document| from.map_or(document.bucket.start(), |from| from.max(document.bucket.start())));
            first = start.map_or(first, |start| Some(first.map_or(start, |first| first.min(start))));
        }
        Ok(first)
    }

    pub async fn contents(
        &self,
        source: &mut dyn AggregateSource,
        cache: &mut dyn Cache,
        stretch: Stretch,
    ) -> Result<Contents, RefreshError> {
        let width = self.plan.source.width;
        let (mut buckets, mut strays) = (BTreeMap::new(), BTreeMap::new());
        let mut from = stretch.start;
        while let Some(bucket) = source.next_bucket(&self.plan.source, Some(from)).await?
            && bucket.start() < stretch.end
        {
            from = bucket.end();
            buckets.insert(bucket, 0);
        }
        for (at, name) in self.aggregates() {
            let mut note = |bucket: Bucket, documents: u64| match width.bucket_of(bucket.start().timestamp_micros()) {
                Some(own) if own == bucket => *buckets.entry(bucket).or_default() += documents,
                _ => _ = strays.insert((at, bucket), ()),
            };
            let mut from = stretch.start;
            loop {
                let told = cache.buckets(name, Some(from), Some(stretch.end), BUCKETS as usize).await?;
                let Some(last) = told.last().map(|state| state.bucket.start()) else { break };
                told.iter().for_each(|state| note(state.bucket, state.entries));
                // However early the last says that it begins.
                from = from.max(last) + Duration::seconds(1);
            }
            let mut from = stretch.start;
            while from < stretch.end {
                let documents = cache.read(&one_of(name, Some(from), Some(stretch.end))).await?.documents;
                let Some(document) = documents.first() else { break };
                let bucket = document.bucket;
                let within = from <= bucket.start() && bucket.start() < stretch.end;
                let start = if within { bucket.start() } else { from };
                if within {
                    note(bucket, 0);
                }
                // One bucket on, however long the document says that its own is.
                let own = width.bucket_of(start.timestamp_micros()).map(|own| own.end());
                from = own.map_or(stretch.end, |end| if within { end.min(bucket.end()) } else { end });
            }
        }
        Ok(Contents { buckets: buckets.into_iter().collect(), strays: strays.into_keys().collect() })
    }
}

/// The first document of a range.
fn one_of(aggregate: &str, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> CacheQuery {
    CacheQuery { aggregate: aggregate.to_owned(), from, to, limit: 1, ..CacheQuery::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_its_share_and_another_seed_draws_another() {
        let day = |n: i64| Stretch::of(Width::HOUR, DateTime::from_timestamp(n * 86_400, 0).unwrap()).unwrap();
        let drawn = |seed: u64, share: f64| (0..10_000).filter(|n| day(*n).is_drawn(seed, share)).collect::<Vec<_>>();
        for (share, least, most) in [(0.0, 0, 0), (0.1, 900, 1100), (0.5, 4800, 5200), (1.0, 10_000, 10_000)] {
            let count = drawn(7, share).len();
            assert!((least..=most).contains(&count), "{share}: {count}");
        }
        assert_eq!(drawn(7, 0.1), drawn(7, 0.1));
        let (one, other) = (drawn(7, 0.1), drawn(8, 0.1));
        assert!(one.iter().filter(|n| other.contains(n)).count() < 200);
    }

    #[test]
    fn a_stretch_is_a_day_of_hours_whatever_the_moment() {
        let at = |second: i64| DateTime::from_timestamp(second, 0).unwrap();
        let stretch = Stretch::of(Width::HOUR, at(86_399)).unwrap();
        assert_eq!((stretch.number, stretch.start, stretch.end), (0, at(0), at(86_400)));
        assert_eq!(Stretch::of(Width::HOUR, at(-1)).unwrap().number, -1);
        assert_eq!(Stretch::of(Width::DAY, DateTime::<Utc>::MAX_UTC), None);
    }
}

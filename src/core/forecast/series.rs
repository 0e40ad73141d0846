//! Documents as a regular grid: for each key one value a bucket, missing where there is no document, where the value is
//! null or no number, or where the bucket is of another width than the aggregate's.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};

use super::size::{TooLarge, check_documents, most_buckets, of_covariate, of_key, of_target};
use super::spec::Spec;
use crate::core::document::{Bucket, Fields, Value};

/// Series of the target and the covariates, one for each key, on one grid of buckets without holes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    start: DateTime<Utc>,
    seconds: i64,
    buckets: usize,
    series: Vec<Series>,
    /// For each bucket: the sum of all keys' known targets, and how many they are.
    totals: Vec<(f64, u32)>,
    ignored: u64,
}

/// The series of one key; a value a bucket, NaN where it is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub key: Fields,
    /// `NAME=VALUE` of each column of the key, joined by `,`: what a model knows a key by.
    pub label: String,
    pub target: Vec<f64>,
    /// As `Spec::covariate_names`.
    pub covariates: Vec<Vec<f64>>,
}

impl Panel {
    /// Where its first bucket starts.
    pub fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// How many buckets; 0 where no document was fit.
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// Ascending by label.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    pub fn labels(&self) -> Vec<String> {
        self.series.iter().map(|series| series.label.clone()).collect()
    }

    /// Documents that were not used: their bucket is not one of the grid's, or their key is not whole, or there is no memory
    /// for a grid that begins so early.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Where the bucket of this index starts; also behind the end.
    pub fn at(&self, bucket: usize) -> DateTime<Utc> {
        self.start + Duration::seconds(self.seconds * i64::try_from(bucket).unwrap_or(0))
    }

    /// The index of the bucket that starts then; `None` before the grid, behind its end, or within a bucket.
    pub fn index(&self, start: DateTime<Utc>) -> Option<usize> {
        let seconds = (start - self.start).num_seconds();
        let index = usize::try_from(seconds / self.seconds).ok()?;
        (seconds >= 0 && seconds % self.seconds == 0 && index < self.buckets).then_some(index)
    }

    /// The index of the first bucket that starts then or later, at most `buckets()`.
    pub fn first_from(&self, start: DateTime<Utc>) -> usize {
        let seconds = (start - self.start).num_seconds().max(0);
        usize::try_from(seconds.div_euclid(self.seconds) + i64::from(seconds % self.seconds != 0))
            .map_or(self.buckets, |index| index.min(self.buckets))
    }

    /// The mean of the known targets of all keys but this one.
    pub(super) fn others(&self, series: usize, bucket: usize) -> f64 {
        let (mut sum, mut count) = self.totals.get(bucket).copied().unwrap_or((0.0, 0));
        let own = self.series[series].target.get(bucket).copied().unwrap_or(f64::NAN);
        if !own.is_nan() {
            sum -= own;
            count -= 1;
        }
        if count == 0 { f64::NAN } else { sum / f64::from(count) }
    }
}

/// Takes documents in any order, page by page; of two of one bucket and key the last counts.
#[derive(Debug)]
pub struct PanelBuilder<'s> {
    spec: &'s Spec,
    seconds: i64,
    /// Label of the key -> the key, and bucket's number since 1970 -> target.
    targets: BTreeMap<String, (Fields, BTreeMap<i64, f64>)>,
    /// For each covariate: label of its key -> bucket's number since 1970 -> its fields.
    covariates: Vec<BTreeMap<String, BTreeMap<i64, Vec<f64>>>>,
    ignored: u64,
    /// How many were taken, and about what they take of memory.
    documents: u64,
    bytes: u64,
}

impl<'s> PanelBuilder<'s> {
    pub fn new(spec: &'s Spec) -> Self {
        Self {
            spec,
            seconds: spec.seconds().max(1),
            targets: BTreeMap::new(),
            covariates: vec![BTreeMap::new(); spec.covariates.len()],
            ignored: 0,
            documents: 0,
            bytes: 0,
        }
    }

    /// Whether what was taken leaves room for more: to be asked page by page.
    ///
    /// # Errors
    /// It takes more than its part of `Spec::memory`.
    pub fn check(&self) -> Result<(), TooLarge> {
        check_documents(self.spec, self.documents, self.bytes)
    }

    /// A document of any of `Spec::aggregates`; one of another aggregate is nothing.
    pub fn add(&mut self, aggregate: &str, key: &Fields, bucket: Bucket, values: &Fields) {
        let start = bucket.start().timestamp();
        let whole = (bucket.end() - bucket.start()).num_seconds() == self.seconds && start % self.seconds == 0;
        let number = start.div_euclid(self.seconds);
        let spec = self.spec;
        if aggregate == spec.aggregate {
            match (whole, key_of(key, &spec.key)) {
                (true, Some(key)) => {
                    let label = label(&key);
                    self.bytes += of_target() + if self.targets.contains_key(&label) { 0 } else { of_key(&label) };
                    self.documents += 1;
                    let series = self.targets.entry(label).or_insert_with(|| (key, BTreeMap::new()));
                    series.1.insert(number, number_of(values, &spec.target));
                }
                _ => self.ignored += 1,
            }
        }
        for (covariate, kept) in spec.covariates.iter().zip(&mut self.covariates) {
            if covariate.aggregate != aggregate {
                continue;
            }
            match (whole, key_of(key, &covariate.key)) {
                (true, Some(key)) => {
                    let fields: Vec<f64> = covariate.fields.iter().map(|field| number_of(values, field)).collect();
                    let label = label(&key);
                    self.bytes +=
                        of_covariate(fields.len()) + if kept.contains_key(&label) { 0 } else { of_key(&label) };
                    self.documents += 1;
                    kept.entry(label).or_default().insert(number, fields);
                }
                _ => self.ignored += 1,
            }
        }
    }

    /// The grid: from the first bucket of the target to its last, or to the one that starts at `until`, whichever is
    /// later. What is known of covariates outside is left out. A document dated centuries away must not take all memory:
    /// the newest buckets stay, as many as [`most_buckets`].
    pub fn build(mut self, until: Option<DateTime<Utc>>) -> Panel {
        let known: BTreeSet<i64> = self.targets.values().flat_map(|(_, of)| of.keys().copied()).collect();
        let first = known.first().copied();
        let until = until.map(|until| until.timestamp().div_euclid(self.seconds));
        let last = known.last().copied().map(|last| until.map_or(last, |until| until.max(last)));
        let most = most_buckets(self.spec, self.targets.len());
        let (first, buckets) = match (first, last) {
            (Some(first), Some(last)) => (first.max(last - most + 1), (last - first + 1).min(most)),
            _ => (0, 0),
        };
        let buckets = usize::try_from(buckets).unwrap_or(0);
        let place = |number: i64| usize::try_from(number - first).ok().filter(|index| *index < buckets);
        let mut totals = vec![(0.0, 0_u32); buckets];
        let mut series = Vec::with_capacity(self.targets.len());
        for (label, (key, values)) in &self.targets {
            let mut target = vec![f64::NAN; buckets];
            for (number, value) in values {
                let Some(index) = place(*number) else {
                    self.ignored += 1;
                    continue;
                };
                target[index] = *value;
                if !value.is_nan() {
                    totals[index].0 += value;
                    totals[index].1 += 1;
                }
            }
            let mut covariates = Vec::new();
            for (covariate, kept) in self.spec.covariates.iter().zip(&self.covariates) {
                let mut columns = vec![vec![f64::NAN; buckets]; covariate.fields.len()];
                let shared = key_of(key, &covariate.key).map(|shared| self::label(&shared));
                for (number, fields) in shared.and_then(|shared| kept.get(&shared)).into_iter().flatten() {
                    let Some(index) = place(*number) else { continue };
                    for (column, value) in columns.iter_mut().zip(fields) {
                        column[index] = *value;
                    }
                }
                covariates.append(&mut columns);
            }
            series.push(Series { key: key.clone(), label: label.clone(), target, covariates });
        }
        let start = DateTime::from_timestamp(first.saturating_mul(self.seconds), 0).unwrap_or_default();
        Panel { start, seconds: self.seconds, buckets, series, totals, ignored: self.ignored }
    }
}

/// The columns of a key in the order that is asked for; `None` where one is not there.
fn key_of(key: &Fields, columns: &[String]) -> Option<Fields> {
    let find = |column: &String| key.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
    columns.iter().map(|column| find(column).map(|(_, value)| (column.clone(), value.clone()))).collect()
}

/// `NAME=VALUE,NAME=VALUE`; `all` where there is no column. A `,` or `\` of a value is escaped by `\`.
pub fn label(key: &Fields) -> String {
    if key.is_empty() {
        return "all".to_owned();
    }
    let text = |value: &Value| match value {
        Value::Null => "\\N".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Float(n) => format!("{n:?}"),
        Value::Text(text) => text.replace('\\', "\\\\").replace(',', "\\,"),
    };
    key.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(",")
}

/// NaN where it is missing, null, text or not finite.
fn number_of(values: &Fields, field: &str) -> f64 {
    match values.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)) {
        Some((_, Value::Integer(n))) => *n as f64,
        Some((_, Value::Float(n))) if n.is_finite() => *n,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::forecast::testing::{HOUR, START, field, hour, shop, spec};

    #[test]
    fn the_grid_goes_from_the_first_document_to_the_last_and_gaps_are_missing() {
        let spec = spec();
        let mut builder = PanelBuilder::new(&spec);
        builder.add("sales_hourly", &shop("b"), hour(7), &field("sold", 2.0));
        builder.add("sales_hourly", &shop("a"), hour(4), &field("sold", 1.0));
        builder.add("sales_hourly", &shop("a"), hour(5), &vec![("sold".to_owned(), "many".into())]);
        builder.add("rain_hourly", &shop("a"), hour(4), &field("rain", 3.0));
        builder.add("rain_hourly", &shop("a"), hour(90), &field("rain", 3.0));
        builder.add("prices_hourly", &Vec::new(), hour(7), &field("price", 9.0));
        builder.add("something_else", &Vec::new(), hour(7), &field("price", 1.0));
        let panel = builder.build(None);
        assert_eq!((panel.start(), panel.buckets()), (hour(4).start(), 4));
        assert_eq!(panel.labels(), ["shop=a", "shop=b"]);
        let text = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
        let [a, b] = panel.series() else { panic!("{panel:?}") };
        assert_eq!((text(&a.target), text(&b.target)), ("1 NaN NaN NaN".into(), "NaN NaN NaN 2".into()));
        assert_eq!(text(&a.covariates[0]), "3 NaN NaN NaN");
        // A covariate without a key is every series'.
        assert_eq!([text(&a.covariates[1]), text(&b.covariates[1])], ["NaN NaN NaN 9", "NaN NaN NaN 9"]);
        assert_eq!((panel.index(hour(7).start()), panel.index(hour(8).start())), (Some(3), None));
        assert_eq!((panel.index(hour(3).start()), panel.first_from(hour(3).start())), (None, 0));
        assert_eq!((panel.first_from(hour(6).start()), panel.first_from(hour(99).start())), (2, 4));
        assert_eq!(panel.others(0, 3), 2.0);
        assert!(panel.others(1, 3).is_nan() && panel.others(0, 0).is_nan());
    }

    #[test]
    fn buckets_of_another_width_and_keys_that_are_not_whole_are_counted_and_left_out() {
        let spec = spec();
        let mut builder = PanelBuilder::new(&spec);
        let at = |second| DateTime::from_timestamp(START + second, 0).unwrap();
        let two_hours = Bucket::new(at(0), at(2 * HOUR)).unwrap();
        let shifted = Bucket::new(at(60), at(60 + HOUR)).unwrap();
        builder.add("sales_hourly", &shop("a"), two_hours, &field("sold", 1.0));
        builder.add("sales_hourly", &shop("a"), shifted, &field("sold", 1.0));
        builder.add("sales_hourly", &Vec::new(), hour(1), &field("sold", 1.0));
        let panel = builder.build(None);
        assert_eq!((panel.ignored(), panel.buckets(), panel.series().len()), (3, 0, 0));
    }

    #[test]
    fn a_document_of_another_century_leaves_room_for_those_of_today() {
        let spec = spec();
        let mut builder = PanelBuilder::new(&spec);
        let at = |day: i64| DateTime::from_timestamp(-day * 86_400, 0).unwrap();
        // Hourly, 1,930 years before.
        let long_ago = Bucket::new(at(704_000), at(704_000) + Duration::hours(1)).unwrap();
        builder.add("sales_hourly", &shop("a"), long_ago, &field("sold", 1.0));
        builder.add("sales_hourly", &shop("a"), hour(0), &field("sold", 2.0));
        let panel = builder.build(None);
        assert!(panel.buckets() * (3 + 2) * 8 <= 1 << 29, "half of what it may take");
        assert_eq!((panel.ignored(), panel.series()[0].target.last()), (1, Some(&2.0)));
    }

    #[test]
    fn documents_that_would_take_more_than_their_part_are_told_before_they_do() {
        let spec = Spec { memory: 1 << 20, ..spec() };
        let mut builder = PanelBuilder::new(&spec);
        let mut taken = 0;
        let error = loop {
            builder.add("sales_hourly", &shop("a"), hour(taken), &field("sold", 1.0));
            taken += 1;
            if let Err(error) = builder.check() {
                break error;
            }
        };
        assert_eq!((error.limit, error.bytes > 1 << 20), (1 << 20, true));
        assert!((12_000..20_000).contains(&taken), "half a MiB of them: {taken}");
        let told = error.to_string();
        assert!(told.starts_with(&format!("{taken} documents of the history, or more, take about 2 MiB")), "{told}");
    }

    #[test]
    fn keys_of_several_columns_have_one_label_each() {
        let key = vec![("a".to_owned(), "x,b=y".into()), ("b".to_owned(), Value::Null)];
        assert_eq!(label(&key), "a=x\\,b=y,b=\\N");
        assert_eq!(label(&Vec::new()), "all");
        assert_ne!(label(&vec![("a".to_owned(), "\\N".into())]), label(&vec![("a".to_owned(), Value::Null)]));
    }
}

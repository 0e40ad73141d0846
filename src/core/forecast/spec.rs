//! What is forecast, how far ahead, and from what. All counts are of buckets of the aggregate's width.

use std::fmt;
use std::time::Duration;

use crate::core::bucket::Width;

/// One `[[forecast]]`: a value of an aggregate, a series for each key, at one or more horizons.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub name: String,
    pub aggregate: String,
    /// The value that is forecast, a column of the aggregate's query.
    pub target: String,
    /// Columns of the aggregate's key: one series for each of their values. None where a bucket has one document.
    pub key: Vec<String>,
    /// Of the aggregate's buckets.
    pub width: Width,
    /// At least one, ascending.
    pub horizons: Vec<Horizon>,
    /// Buckets back from the last one that is known when the forecast is made; 0 is that one.
    pub lags: Vec<usize>,
    /// Lengths of seasons: the value of the latest known bucket that lies a whole number of them before the one that is
    /// forecast.
    pub seasons: Vec<usize>,
    pub rolling: Vec<Rolling>,
    /// Lags of the mean over all other keys' series.
    pub others: Vec<usize>,
    /// Of the bucket that is forecast, in UTC.
    pub calendar: Vec<Calendar>,
    /// Pairs of sine and cosine for each calendar feature: 1, 2 … times around a cycle.
    pub harmonics: usize,
    pub covariates: Vec<Covariate>,
    /// The last stretch of the history, by time, that the fit is judged by and does not see.
    pub holdout: Duration,
    /// Share of the truth that the interval shall hold; above 0 and below 1.
    pub interval: f64,
    /// Bytes that reading the history and fitting it may take together.
    pub memory: u64,
    pub drift: Drift,
}

/// How far ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// At least 1.
    pub buckets: usize,
    /// As in the file, such as `24h`: part of names of documents and a label of metrics.
    pub text: String,
}

/// A statistic over the known ones of several buckets; missing where none of them is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rolling {
    /// How many buckets, at least 2.
    pub window: usize,
    pub of: Statistic,
    /// 1: the last `window` buckets. More: every so manieth bucket, counted back from the one that is forecast, so that
    /// 24 of hours is the same hour of the last `window` days.
    pub every: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    Mean,
    /// Standard deviation, of the population: 0 for a single value.
    Std,
    Min,
    Max,
}

impl Statistic {
    /// As in the file.
    pub const ALL: [(&'static str, Self); 4] =
        [("mean", Self::Mean), ("std", Self::Std), ("min", Self::Min), ("max", Self::Max)];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calendar {
    /// Time of the day: 0 to 24 hours, with fractions where buckets are shorter than an hour.
    Hour,
    /// Day of the week, Monday first: 0 to 6.
    Weekday,
    /// Time of the year: the day of it, 0 to 365, around 365.2425.
    Year,
}

impl Calendar {
    /// As in the file.
    pub const ALL: [(&'static str, Self); 3] = [("hour", Self::Hour), ("weekday", Self::Weekday), ("year", Self::Year)];
}

/// Values of an aggregate's documents of the last known bucket, joined by the columns that its key shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covariate {
    pub aggregate: String,
    /// Its key: columns of the forecast's key, or none.
    pub key: Vec<String>,
    pub fields: Vec<String>,
}

/// When a model is not what it was in its holdout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Of the live mean absolute error to that of the holdout.
    pub ratio: f64,
    /// How far back live errors count.
    pub window: Duration,
}

macro_rules! as_in_the_file {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::ALL.iter().find(|(_, value)| value == self).map_or("", |(word, _)| word))
            }
        }
    };
}
as_in_the_file!(Statistic);
as_in_the_file!(Calendar);

impl Spec {
    /// The name under which the forecasts of a horizon are kept in the cache.
    pub fn cached_as(&self, horizon: &Horizon) -> String {
        format!("forecast.{}.{}", self.name, horizon.text)
    }

    /// What is forecast, for versions to be told apart by: the value, its aggregate and the width of its buckets.
    pub fn of(&self) -> String {
        format!("{} of {}/{}", self.target, self.aggregate, self.width)
    }

    /// Seconds of a bucket.
    pub fn seconds(&self) -> i64 {
        self.width.micros() / 1_000_000
    }

    /// Buckets before the last known one that lags and seasons reach back to: no row is made where the history is
    /// shorter.
    pub fn warm_up(&self, horizon: usize) -> usize {
        let seasons = self.seasons.iter().map(|season| season_back(*season, horizon));
        self.lags.iter().chain(&self.others).copied().chain(seasons).max().unwrap_or(0)
    }

    /// How many buckets a forecast may look at, the last known one included: what has to be read for one.
    pub fn history(&self) -> usize {
        let of = |h: &Horizon| {
            let rolling = self.rolling.iter().map(|r| season_back(r.every, h.buckets) + (r.window - 1) * r.every);
            rolling.chain([self.warm_up(h.buckets)]).max().unwrap_or(0)
        };
        self.horizons.iter().map(of).max().unwrap_or(0) + 1
    }

    /// The names of all covariates' columns, `AGGREGATE.FIELD`, in their order.
    pub fn covariate_names(&self) -> Vec<String> {
        let of = |c: &Covariate| c.fields.iter().map(|field| format!("{}.{field}", c.aggregate)).collect::<Vec<_>>();
        self.covariates.iter().flat_map(of).collect()
    }

    /// The aggregates whose documents are read, each once, the target's first.
    pub fn aggregates(&self) -> Vec<&str> {
        let mut names = vec![self.aggregate.as_str()];
        for covariate in &self.covariates {
            if !names.contains(&covariate.aggregate.as_str()) {
                names.push(&covariate.aggregate);
            }
        }
        names
    }
}

/// How many buckets before the last known one lies the latest known one that is a whole number of seasons before the one
/// that is forecast.
pub fn season_back(season: usize, horizon: usize) -> usize {
    let season = season.max(1);
    horizon.div_ceil(season) * season - horizon
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_counts_from_the_bucket_that_is_forecast_and_is_known() {
        assert_eq!(season_back(24, 1), 23);
        assert_eq!(season_back(24, 24), 0);
        assert_eq!(season_back(24, 25), 23);
        assert_eq!(season_back(168, 24), 144);
        assert_eq!(season_back(1, 5), 0);
    }
}

//! Features of a row: what is known of a key at the end of bucket `t`, for the forecast of bucket `t + horizon`. Each is
//! computed from buckets up to `t` alone, or from the calendar of the bucket that is forecast; a property test holds that
//! for every one of them.
//!
//! A feature that can't be computed is missing (NaN), and the fit puts the mean of its training rows in its place.

use std::f64::consts::TAU;
use std::ops::Range;

use chrono::{DateTime, Datelike, Timelike, Utc};
use ndarray::{Array1, Array2};

use super::matrix::Matrix;
use super::series::Panel;
use super::size::{TooLarge, check_fit};
use super::spec::{Calendar, Spec, Statistic, season_back};

/// The columns of [`matrix`] for a model that knows these keys (`Panel::labels`), in their order. They name everything that
/// a column's meaning depends on, so that a model of one list is never given another.
///
/// `lag_K` · `season_K` · `rolling_STATISTIC_WINDOW` with `_every_K` · `others_K` · `CALENDAR_sin_N`, `CALENDAR_cos_N` ·
/// `AGGREGATE.FIELD` · `key_LABEL` for each key but the first.
pub fn feature_names(spec: &Spec, keys: &[String]) -> Vec<String> {
    let mut names: Vec<String> = spec.lags.iter().map(|lag| format!("lag_{lag}")).collect();
    names.extend(spec.seasons.iter().map(|season| format!("season_{season}")));
    names.extend(spec.rolling.iter().map(|r| match r.every {
        1 => format!("rolling_{}_{}", r.of, r.window),
        every => format!("rolling_{}_{}_every_{every}", r.of, r.window),
    }));
    names.extend(spec.others.iter().map(|lag| format!("others_{lag}")));
    for calendar in &spec.calendar {
        for n in 1..=spec.harmonics {
            names.extend([format!("{calendar}_sin_{n}"), format!("{calendar}_cos_{n}")]);
        }
    }
    names.extend(spec.covariate_names());
    names.extend(keys.iter().skip(1).map(|key| format!("key_{key}")));
    names
}

/// All rows of a horizon (in buckets) whose bucket, the one that is forecast, is among `range` (indices of the panel), whose
/// truth is known and before which there is history enough for all lags. `keys` are the keys that the model knows: their
/// order is that of the one-hot columns.
///
/// # Errors
/// With the fit that it is for it would take more than `Spec::memory`; nothing is allocated then.
pub fn matrix(
    spec: &Spec,
    panel: &Panel,
    keys: &[String],
    horizon: usize,
    range: Range<usize>,
) -> Result<Matrix, TooLarge> {
    let names = feature_names(spec, keys);
    let first = range.start.max(spec.warm_up(horizon) + horizon);
    let last = range.end.min(panel.buckets());
    let known = |bucket: usize, key: usize| !panel.series()[key].target[bucket].is_nan();
    let rows = || {
        let all = (first..last).flat_map(|bucket| (0..panel.series().len()).map(move |key| (bucket, key)));
        all.filter(|(bucket, key)| known(*bucket, *key))
    };
    check_fit(spec, panel, rows().count(), names.len())?;
    let rows: Vec<(usize, usize)> = rows().collect();
    let mut x = Array2::zeros((rows.len(), names.len()));
    for (mut out, (bucket, key)) in x.rows_mut().into_iter().zip(&rows) {
        if let Some(out) = out.as_slice_mut() {
            row(spec, panel, keys, horizon, (*key, bucket - horizon), out);
        }
    }
    Ok(Matrix {
        names,
        x,
        y: rows.iter().map(|(bucket, key)| panel.series()[*key].target[*bucket]).collect::<Array1<f64>>(),
        at: rows.iter().map(|(bucket, _)| panel.at(*bucket)).collect(),
        key: rows.iter().map(|(_, key)| *key).collect(),
    })
}

/// The features of one series at the end of bucket `t` (both indices of the panel), into `out`, which has a place for each of
/// [`feature_names`].
pub fn row(spec: &Spec, panel: &Panel, keys: &[String], horizon: usize, place: (usize, usize), out: &mut [f64]) {
    let (key, t) = place;
    let series = &panel.series()[key];
    let back = |values: &[f64], by: usize| t.checked_sub(by).and_then(|at| values.get(at)).copied().unwrap_or(f64::NAN);
    let lags = spec.lags.iter().map(|lag| back(&series.target, *lag));
    let seasons = spec.seasons.iter().map(|season| back(&series.target, season_back(*season, horizon)));
    let rolling = spec.rolling.iter().map(|r| {
        let nearest = season_back(r.every, horizon);
        let values = (0..r.window).map(|i| back(&series.target, nearest + i * r.every));
        statistic(r.of, values.filter(|value| !value.is_nan()))
    });
    let others = spec.others.iter().map(|lag| t.checked_sub(*lag).map_or(f64::NAN, |at| panel.others(key, at)));
    let at = panel.at(t + horizon);
    let calendar = spec.calendar.iter().flat_map(|calendar| {
        let turn = TAU * turn(*calendar, at);
        (1..=spec.harmonics).flat_map(move |n| {
            let angle = turn * f64::from(u32::try_from(n).unwrap_or(1));
            [angle.sin(), angle.cos()]
        })
    });
    let covariates = series.covariates.iter().map(|values| back(values, 0));
    // A key that the model does not know is none of those that it knows, nor the first: as all of them on average.
    let is_known = keys.contains(&series.label);
    let one_hot = keys.iter().skip(1).map(|known| match (is_known, *known == series.label) {
        (false, _) => f64::NAN,
        (true, same) => f64::from(u8::from(same)),
    });
    let all = lags.chain(seasons).chain(rolling).chain(others).chain(calendar).chain(covariates).chain(one_hot);
    out.iter_mut().zip(all).for_each(|(out, value)| *out = value);
}

/// NaN of no values.
fn statistic(of: Statistic, values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (sum, count) = values.clone().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count == 0.0 {
        return f64::NAN;
    }
    let mean = sum / count;
    match of {
        Statistic::Mean => mean,
        Statistic::Std => (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt(),
        Statistic::Min => values.fold(f64::INFINITY, f64::min),
        Statistic::Max => values.fold(f64::NEG_INFINITY, f64::max),
    }
}

/// How far around its cycle, 0 to 1.
fn turn(calendar: Calendar, at: DateTime<Utc>) -> f64 {
    match calendar {
        Calendar::Hour => f64::from(at.num_seconds_from_midnight()) / 86_400.0,
        Calendar::Weekday => f64::from(at.weekday().num_days_from_monday()) / 7.0,
        Calendar::Year => f64::from(at.ordinal0()) / 365.2425,
    }
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;

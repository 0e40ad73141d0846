//! A training as a whole: nothing of the holdout gets into the fit that is judged by it, versions forecast what their rows
//! said, and the better one is chosen.

use super::*;
use crate::core::forecast::baselines::Baseline;
use crate::core::forecast::testing::{hour, panel, spec};
use crate::core::forecast::{Calendar, Refused, contest, predict};

/// 60 days of two shops: a day's wave, a trend of its own each, and noise that is the same each time.
fn sales(shop: usize, at: i64) -> f64 {
    let wave = (std::f64::consts::TAU * (at % 24) as f64 / 24.0).sin();
    let noise = ((at * 7919 + shop as i64 * 104_729) % 1009) as f64 / 1009.0 - 0.5;
    10.0 + 5.0 * wave + 3.0 * shop as f64 + noise
}

const HOURS: i64 = 60 * 24;

fn training(version: u64) -> Training<'static> {
    Training { version, at: hour(HOURS + 3).start(), code_version: "1.2.3", threads: 1 }
}

fn history(of: impl Fn(usize, i64) -> f64) -> Panel {
    panel(&spec(), &["a", "b"], HOURS, of)
}

#[test]
fn a_fit_beats_the_naive_ones_where_there_is_something_to_learn() {
    let model = train(&spec(), &history(sales), &training(1)).unwrap();
    assert_eq!(model.data.to, hour(HOURS).start());
    for of in &model.horizons {
        let holdout = &of.holdout;
        assert_eq!((holdout.range.from, holdout.score.rows), (hour(HOURS - 240).start(), 480));
        assert_eq!(holdout.beside.len(), Baseline::ALL.len());
        for beside in &holdout.beside {
            assert!(beside.model.mae < beside.score.mae, "{}: {beside:?}", of.horizon);
        }
        let (coverage, width) = holdout.coverage.zip(holdout.width).unwrap();
        assert!((0.65..0.95).contains(&coverage), "{}: {coverage}", of.horizon);
        assert!(width < 1.1, "the noise is 1 wide: {width}");
        assert_eq!(of.judged.folds.len(), 6);
        assert!(of.judged.folds.windows(2).all(|pair| pair[0].range.to == pair[1].range.from));
        let known = holdout.range.from - chrono::Duration::hours(i64::try_from(of.buckets).unwrap() - 1);
        assert_eq!(of.judged.range.to, known, "when the first hour of the holdout was forecast");
        assert_eq!(of.serving.range.to, model.data.to);
    }
}

#[test]
fn what_is_judged_has_not_seen_the_holdout_and_its_interval_has_not_either() {
    let one = train(&spec(), &history(sales), &training(1)).unwrap();
    let another = |shop, at| if at < HOURS - 240 { sales(shop, at) } else { 100.0 - 3.0 * sales(shop, at) };
    let two = train(&spec(), &history(another), &training(1)).unwrap();
    for (one, two) in one.horizons.iter().zip(&two.horizons) {
        assert_eq!(one.judged, two.judged);
        assert_ne!(one.serving, two.serving);
        assert_ne!(one.holdout.score, two.holdout.score);
    }
    assert_ne!(one.input_hash, two.input_hash);
    let again = train(&spec(), &history(sales), &training(2)).unwrap();
    assert_eq!((one.input_hash, one.horizons), (again.input_hash, again.horizons), "the same comes to the same");
}

/// Hours before the holdout, or before a fold, that were not known when its first hour was forecast a day ahead.
const UNKNOWN: i64 = 23;

#[test]
fn what_is_judged_has_not_seen_what_came_after_the_first_judged_forecast_was_made() {
    let from = HOURS - 240;
    let one = train(&spec(), &history(sales), &training(1)).unwrap();
    let later = |shop, at| if at < from - UNKNOWN { sales(shop, at) } else { 100.0 - 3.0 * sales(shop, at) };
    let two = train(&spec(), &history(later), &training(1)).unwrap();
    assert_eq!(one.horizons[1].judged, two.horizons[1].judged, "a day ahead");
    assert_ne!(one.horizons[0].judged, two.horizons[0].judged, "an hour ahead all of that was known");
}

#[test]
fn a_fold_is_forecast_by_what_was_known_before_it() {
    let (spec, panel) = (spec(), history(sales));
    let all = matrix(&spec, &panel, &panel.labels(), 24, 0..panel.buckets()).unwrap();
    let stretch = chrono::Duration::hours(240);
    let folds = |y: ndarray::Array1<f64>| {
        let matrix = crate::core::forecast::Matrix { y, ..all.clone() };
        let table = Table { spec: &spec, panel: &panel, matrix: &matrix, horizon: 24, threads: 1 };
        table.fit(hour(HOURS).start(), stretch).unwrap().folds
    };
    let start = HOURS - 240;
    let mut y = all.y.clone();
    (all.before(hour(start - UNKNOWN).start())..all.before(hour(start).start())).for_each(|row| y[row] = 1e6);
    let (one, two) = (folds(all.y.clone()), folds(y));
    assert_eq!(one[0].score, two[0].score);
    assert_ne!(one[1].score, two[1].score);
}

#[test]
fn a_version_forecasts_what_a_row_of_the_table_says() {
    let (spec, panel) = (spec(), history(sales));
    let model = train(&spec, &panel, &training(1)).unwrap();
    for (horizon, of) in spec.horizons.iter().zip(&model.horizons) {
        let ahead = matrix(&spec, &panel, &model.keys, horizon.buckets, 0..panel.buckets()).unwrap();
        // What a daemon reads at hour 700: that one and no more history than it needs.
        let history = i64::try_from(spec.history()).unwrap();
        let mut builder = crate::core::forecast::PanelBuilder::new(&spec);
        for number in 701 - history..=700 {
            for series in panel.series() {
                let index = usize::try_from(number).unwrap();
                let values = vec![("sold".to_owned(), series.target[index].into())];
                builder.add("sales_hourly", &series.key, hour(number), &values);
                let rain = vec![("rain".to_owned(), series.covariates[0][index].into())];
                builder.add("rain_hourly", &series.key, hour(number), &rain);
                let price = vec![("price".to_owned(), series.covariates[1][index].into())];
                builder.add("prices_hourly", &Vec::new(), hour(number), &price);
            }
        }
        let now = builder.build(Some(hour(700).start()));
        let made = predict(&model, &spec, &now, horizon, hour(700).start()).unwrap();
        assert_eq!(made.len(), 2);
        for (key, made) in made.iter().enumerate() {
            assert_eq!(made.at, hour(700 + i64::try_from(horizon.buckets).unwrap()).start());
            let row = (0..ahead.rows()).find(|row| ahead.at[*row] == made.at && ahead.key[*row] == key).unwrap();
            let expected = of.serving.forecast(ahead.x.row(row).as_slice().unwrap());
            assert!((made.forecast - expected).abs() < 1e-9, "{} and {expected}", made.forecast);
            let (low, high) = made.interval.unwrap();
            assert!(low < made.forecast && made.forecast < high);
        }
    }
}

#[test]
fn a_version_is_stored_as_json_and_read_back() {
    let model = train(&spec(), &history(sales), &training(7)).unwrap();
    let back: ModelVersion = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert_eq!((back.version, &back.keys, &back.input_hash), (7, &model.keys, &model.input_hash));
    for (back, of) in back.horizons.iter().zip(&model.horizons) {
        assert_eq!(back.features, of.features);
        assert_eq!(back.serving.coefficients, of.serving.coefficients, "to the last digit");
    }
}

#[test]
fn a_version_with_other_features_is_refused_and_told_why() {
    let mut spec = spec();
    let panel = history(sales);
    let model = train(&spec, &panel, &training(3)).unwrap();
    let told = |spec: &Spec| model.check(spec).unwrap_err().to_string();
    assert_eq!(model.check(&spec), Ok(()));
    spec.lags = vec![0, 1, 2];
    assert_eq!(
        told(&spec),
        "the features of version 3 are not those of the configuration (it has `lag_5`, and lacks `lag_2`): train a new one"
    );
    let horizon = spec.horizons[0].clone();
    assert!(matches!(
        predict(&model, &spec, &panel, &horizon, hour(700).start()),
        Err(Refused::Features { version: 3, .. })
    ));
    spec.lags = vec![1, 0, 5];
    assert!(told(&spec).contains("another order"), "{}", told(&spec));
    spec.lags = vec![0, 1, 5];
    spec.calendar = vec![Calendar::Hour];
    assert!(told(&spec).contains("it also has `weekday_sin_1`"), "{}", told(&spec));
    spec = super::super::testing::spec();
    spec.horizons[1].buckets = 12;
    assert_eq!(told(&spec), "version 3 has no horizon 24h: train a new one");
    spec = super::super::testing::spec();
    spec.name = "returns".to_owned();
    assert_eq!(told(&spec), "version 3 is of the forecast `sales`, not of `returns`");
    let mut broken = model.clone();
    broken.horizons[0].judged.fills.pop();
    assert!(matches!(broken.check(&super::super::testing::spec()), Err(Refused::Broken { .. })));
}

#[test]
fn a_version_whose_intervals_are_for_another_share_is_refused() {
    let spec = spec();
    let model = train(&spec, &history(sales), &training(4)).unwrap();
    let back: ModelVersion = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert_eq!(back.check(&spec), Ok(()));
    let told = back.check(&Spec { interval: 0.9, ..spec.clone() }).unwrap_err().to_string();
    assert_eq!(told, "the intervals of version 4 are for 0.8 of the truth, not for 0.9: train a new one");
    // Then it does not take part in a contest either.
    let wider = Spec { interval: 0.9, ..spec };
    let challenger = train(&wider, &history(sales), &training(5)).unwrap();
    let verdict = contest(&wider, &history(sales), Some(&model), &challenger);
    assert!(verdict.promote && verdict.reason.contains("the champion no longer fits"), "{}", verdict.reason);
}

#[test]
fn where_errors_are_too_few_for_an_interval_there_is_none() {
    // 480 rows of a rolling origin, and 2,800 of the fit: neither has what an interval of 99.9 % must be of.
    let spec = Spec { interval: 0.999, ..spec() };
    let panel = history(sales);
    let model = train(&spec, &panel, &training(1)).unwrap();
    for (horizon, of) in spec.horizons.iter().zip(&model.horizons) {
        assert_eq!((of.holdout.coverage, of.holdout.width), (None, None));
        let made = predict(&model, &spec, &panel, horizon, hour(HOURS - 1).start()).unwrap();
        assert!(made.iter().all(|made| made.forecast.is_finite() && made.interval.is_none()));
    }
}

#[test]
fn a_version_of_another_value_or_aggregate_is_refused_though_its_features_have_the_same_names() {
    let spec = spec();
    let model = train(&spec, &history(sales), &training(1)).unwrap();
    assert_eq!(model.check(&spec), Ok(()));
    for other in [
        Spec { target: "another".to_owned(), ..spec.clone() },
        Spec { aggregate: "elsewhere".to_owned(), ..spec.clone() },
    ] {
        let refused = model.check(&other).unwrap_err();
        assert!(matches!(&refused, Refused::Target { asked, .. } if *asked == other.of()), "{refused}");
    }
}

/// The same version, its forecasts off by so much.
fn off_by(mut model: ModelVersion, spec: &Spec, panel: &Panel, by: f64) -> ModelVersion {
    for of in &mut model.horizons {
        of.judged.intercept += by;
        of.serving.intercept += by;
        let all = matrix(spec, panel, &model.keys, of.buckets, 0..panel.buckets()).unwrap();
        let table = Table { spec, panel, matrix: &all, horizon: of.buckets, threads: 1 };
        of.holdout = table.judge(&of.judged, of.holdout.range.from).unwrap();
    }
    model
}

#[test]
fn a_challenger_is_promoted_if_it_beats_persistence_and_is_no_worse_than_the_champion() {
    let (spec, panel) = (spec(), history(sales));
    let model = train(&spec, &panel, &training(1)).unwrap();
    let first = contest(&spec, &panel, None, &model);
    assert!(first.promote, "{}", first.reason);
    let same = contest(&spec, &panel, Some(&model), &ModelVersion { version: 2, ..model.clone() });
    assert!(same.promote, "{}", same.reason);
    assert!((same.horizons[0].challenger - same.horizons[0].champion.unwrap()).abs() < 1e-12);

    let worse = off_by(model.clone(), &spec, &panel, 0.3);
    let verdict = contest(&spec, &panel, Some(&model), &worse);
    assert!(!verdict.promote && verdict.reason.starts_with("it is worse than version 1"), "{}", verdict.reason);
    let better = contest(&spec, &panel, Some(&worse), &model);
    assert!(better.promote && better.reason.starts_with("it is no worse than version 1"), "{}", better.reason);

    let bad = off_by(model.clone(), &spec, &panel, 50.0);
    for champion in [None, Some(&bad)] {
        let verdict = contest(&spec, &panel, champion, &bad);
        assert!(!verdict.promote && verdict.reason.contains("persistence at 1h"), "{}", verdict.reason);
    }
    let nonsense = off_by(model.clone(), &spec, &panel, f64::NAN);
    assert!(!contest(&spec, &panel, None, &nonsense).promote);
}

#[test]
fn a_champion_of_a_shorter_holdout_is_judged_by_what_it_has_not_seen() {
    let spec = spec();
    // Another regime from ten days before the end: who saw it is better there, and only there.
    let regime = |shop, at| if at < HOURS - 240 { sales(shop, at) } else { 30.0 - 2.0 * sales(shop, at) };
    let panel = history(regime);
    let short = Spec { holdout: std::time::Duration::from_secs(2 * 86_400), ..spec.clone() };
    let champion = train(&short, &panel, &training(1)).unwrap();
    let challenger = train(&spec, &panel, &training(2)).unwrap();
    let verdict = contest(&spec, &panel, Some(&champion), &challenger);
    for (of, own) in verdict.horizons.iter().zip(&champion.horizons) {
        // What its own holdout says, of the same rows: not one that it was fitted to.
        assert_eq!((of.from, of.rows), (own.holdout.range.from, own.holdout.score.rows), "{}", of.horizon);
        assert!((of.champion.unwrap() - own.holdout.score.mae).abs() < 1e-12, "{}", of.horizon);
    }
    let challenged = challenger.horizons[0].holdout.score.mae;
    assert_ne!(verdict.horizons[0].challenger, challenged, "on the same rows");
}

#[test]
fn a_champion_that_has_seen_all_but_a_few_rows_stays() {
    let spec = spec();
    let challenger = train(&spec, &history(sales), &training(2)).unwrap();
    let mut champion = ModelVersion { version: 1, ..challenger.clone() };
    for (left, promoted) in [(0, false), (11, false), (12, true)] {
        // Two shops: a row each an hour.
        champion.horizons[0].judged.range.to = hour(HOURS - left).start();
        let verdict = contest(&spec, &history(sales), Some(&champion), &challenger);
        assert_eq!(verdict.promote, promoted, "{}", verdict.reason);
        let told = format!("{} rows at 1h ahead are left that version 1 has not seen", 2 * left);
        assert!(promoted || verdict.reason.contains(&told), "{}", verdict.reason);
    }
}

#[test]
fn a_champion_of_other_features_takes_no_part() {
    let (spec, panel) = (spec(), history(sales));
    let champion = train(&spec, &panel, &training(1)).unwrap();
    let fewer = Spec { lags: vec![0], ..spec };
    let challenger = train(&fewer, &panel, &training(2)).unwrap();
    let verdict = contest(&fewer, &panel, Some(&champion), &challenger);
    assert!(verdict.promote && verdict.reason.contains("version 1 are not those"), "{}", verdict.reason);
    assert_eq!(verdict.horizons[0].champion, None);
}

#[test]
fn a_history_that_is_too_short_or_has_no_number_is_told() {
    let error = train(&spec(), &history(|_, _| f64::NAN), &training(1)).unwrap_err();
    assert_eq!(error.to_string(), "`sales_hourly` has no document with a number as `sold`");
    let error = train(&spec(), &panel(&spec(), &["a"], 250, sales), &training(1)).unwrap_err().to_string();
    let told =
        "at 1h ahead, the history before the holdout: 0 rows are too few for 23 features: at least 46 are needed";
    assert_eq!(error, told);
    let empty = crate::core::forecast::PanelBuilder::new(&spec()).build(None);
    assert!(matches!(train(&spec(), &empty, &training(1)), Err(TrainError::NoTruth { .. })));
}

#[test]
fn a_table_that_would_take_too_much_memory_is_told_before_it_is_made() {
    // 60 days of two shops: 2,832 rows of 24 features.
    let fits = Spec { memory: 4 << 20, ..spec() };
    assert!(train(&fits, &history(sales), &training(1)).is_ok());
    let spec = Spec { memory: 2 << 20, ..spec() };
    let error = train(&spec, &history(sales), &training(1)).unwrap_err();
    let TrainError::TooLarge(too_large) = &error else { panic!("{error}") };
    assert!(too_large.limit == 2 << 20 && too_large.bytes > 2 << 20, "{too_large:?}");
    assert_eq!(
        error.to_string(),
        "2832 rows of 24 features take about 3 MiB of memory, and `memory` of the forecast allows 2 MiB: allow more, or \
         have fewer features (`lags`, `seasons`, `rolling`, `calendar`, `covariates`), an aggregate of fewer keys, or one \
         that keeps a shorter history (`keep`)"
    );
    // A champion of many more keys, which are gone, is not made a table for either.
    let champion = train(&fits, &history(sales), &training(1)).unwrap();
    let mut many = champion.clone();
    many.keys.extend((0..100).map(|n| format!("shop=gone{n}")));
    many.horizons.iter_mut().for_each(|of| {
        of.features = crate::core::forecast::feature_names(&fits, &many.keys);
        for fit in [&mut of.judged, &mut of.serving] {
            fit.coefficients.resize(of.features.len(), 0.0);
            fit.fills.resize(of.features.len(), 0.0);
        }
    });
    let verdict = contest(&fits, &history(sales), Some(&many), &champion);
    assert!(verdict.promote && verdict.reason.contains("2832 rows of 124 features"), "{}", verdict.reason);
}

#[test]
fn gaps_and_a_shop_that_opens_late_are_no_hindrance() {
    let gaps = |shop, at: i64| match (shop, at) {
        (1, at) if at < HOURS / 2 => f64::NAN,
        (_, at) if at % 24 < 5 => f64::NAN,
        _ => sales(shop, at),
    };
    let model = train(&spec(), &history(gaps), &training(1)).unwrap();
    let holdout = &model.horizons[0].holdout;
    let persistence = &holdout.beside[0];
    assert!(persistence.score.rows < holdout.score.rows, "in the first hour of a day it has no value");
    assert!(persistence.model.mae < persistence.score.mae && holdout.score.mae < 1.0, "{holdout:?}");
}

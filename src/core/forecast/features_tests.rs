//! That features are what they are said to be, and that none of them knows the future.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::forecast::series::PanelBuilder;
use crate::core::forecast::spec::{Horizon, Rolling};
use crate::core::forecast::testing::{field, hour, panel, shop, spec};

const SHOPS: [&str; 3] = ["a", "b", "c"];

/// What there is to know: for each hour and shop a target and a covariate, and a covariate of all shops.
#[derive(Debug, Clone)]
struct World {
    sold: BTreeMap<(i64, usize), f64>,
    rain: BTreeMap<(i64, usize), f64>,
    price: BTreeMap<i64, f64>,
}

impl World {
    fn panel(&self, spec: &Spec, hours: i64) -> Panel {
        let mut builder = PanelBuilder::new(spec);
        // So that the grid begins with the first hour, whatever is known.
        builder.add("sales_hourly", &shop("a"), hour(0), &field("sold", f64::NAN));
        for ((at, of), value) in &self.sold {
            builder.add("sales_hourly", &shop(SHOPS[*of]), hour(*at), &field("sold", *value));
        }
        for ((at, of), value) in &self.rain {
            builder.add("rain_hourly", &shop(SHOPS[*of]), hour(*at), &field("rain", *value));
        }
        for (at, value) in &self.price {
            builder.add("prices_hourly", &Vec::new(), hour(*at), &field("price", *value));
        }
        builder.build(Some(hour(hours - 1).start()))
    }

    /// The same up to `t`, and another future: what comes after is the other's.
    fn with_future(&self, t: i64, other: &World) -> World {
        fn cut<K: Ord + Clone>(
            past: &BTreeMap<K, f64>,
            future: &BTreeMap<K, f64>,
            known: impl Fn(&K) -> bool,
        ) -> BTreeMap<K, f64> {
            let past = past.iter().filter(|(key, _)| known(key));
            let future = future.iter().filter(|(key, _)| !known(key));
            past.chain(future).map(|(key, value)| (key.clone(), *value)).collect()
        }
        World {
            sold: cut(&self.sold, &other.sold, |key| key.0 <= t),
            rain: cut(&self.rain, &other.rain, |key| key.0 <= t),
            price: cut(&self.price, &other.price, |at| *at <= t),
        }
    }
}

const HOURS: i64 = 80;

fn world() -> impl Strategy<Value = World> {
    let value = || prop_oneof![5 => -100.0..100.0_f64, 1 => Just(f64::NAN)];
    let hours = 0..HOURS;
    (
        prop::collection::btree_map((hours.clone(), 0..SHOPS.len()), value(), 60..240),
        prop::collection::btree_map((hours.clone(), 0..SHOPS.len()), value(), 0..200),
        prop::collection::btree_map(hours, value(), 0..80),
    )
        .prop_map(|(sold, rain, price)| World { sold, rain, price })
}

fn any_spec() -> impl Strategy<Value = (Spec, usize)> {
    let rolling = (2..12_usize, prop::sample::select(Statistic::ALL.to_vec()), 1..8_usize)
        .prop_map(|(window, (_, of), every)| Rolling { window, of, every });
    (
        prop::collection::vec(0..30_usize, 0..5),
        prop::collection::vec(1..40_usize, 0..4),
        prop::collection::vec(rolling, 0..4),
        prop::collection::vec(0..5_usize, 0..3),
        1..50_usize,
    )
        .prop_map(|(lags, seasons, rolling, others, horizon)| {
            let horizons = vec![Horizon { buckets: horizon, text: format!("{horizon}h") }];
            (Spec { lags, seasons, rolling, others, horizons, ..spec() }, horizon)
        })
}

fn features(spec: &Spec, panel: &Panel, keys: &[String], horizon: usize, label: &str, t: usize) -> Vec<f64> {
    let mut out = vec![f64::NAN; feature_names(spec, keys).len()];
    let key = panel.labels().iter().position(|known| known == label).unwrap();
    row(spec, panel, keys, horizon, (key, t), &mut out);
    out
}

proptest! {
    #[test]
    fn whatever_happens_later_changes_no_feature_of_now(
        now in world(),
        later in world(),
        (spec, horizon) in any_spec(),
        t in 0..HOURS,
    ) {
        let keys: Vec<String> = SHOPS.iter().map(|name| format!("shop={name}")).collect();
        let other = now.with_future(t, &later);
        let index = usize::try_from(t).unwrap();
        // What is there at t and later; and what a daemon has at t, which reads no later document.
        let nothing = World { sold: BTreeMap::new(), rain: BTreeMap::new(), price: BTreeMap::new() };
        let panels = [now.panel(&spec, HOURS), other.panel(&spec, HOURS),
            now.with_future(t, &nothing).panel(&spec, t + 1)];
        for label in panels[2].labels() {
            let [one, two, three] =
                [0, 1, 2].map(|at| features(&spec, &panels[at], &keys, horizon, &label, index));
            for (at, name) in feature_names(&spec, &keys).iter().enumerate() {
                prop_assert_eq!(one[at].to_bits(), two[at].to_bits(), "{} of {} at {}", name, label, t);
                prop_assert_eq!(one[at].to_bits(), three[at].to_bits(), "{} of {} at {}", name, label, t);
            }
        }
    }

    #[test]
    fn features_are_what_a_table_of_all_hours_says(now in world(), (spec, horizon) in any_spec()) {
        let panel = now.panel(&spec, HOURS);
        let keys = panel.labels();
        let matrix = matrix(&spec, &panel, &keys, horizon, 0..panel.buckets()).unwrap();
        let h = i64::try_from(horizon).unwrap();
        let known = |at: i64, of: usize| now.sold.get(&(at, of)).copied().filter(|value| !value.is_nan());
        for (line, row) in matrix.x.rows().into_iter().enumerate() {
            let ahead = (matrix.at[line] - hour(0).start()).num_hours();
            let (t, of) = (ahead - h, SHOPS.iter().position(|name| keys[matrix.key[line]] == format!("shop={name}")));
            let of = of.unwrap();
            prop_assert_eq!(Some(matrix.y[line]), known(ahead, of));
            let mut expected: Vec<Option<f64>> = Vec::new();
            expected.extend(spec.lags.iter().map(|lag| known(t - *lag as i64, of)));
            for season in &spec.seasons {
                let mut at = ahead;
                while at > t {
                    at -= *season as i64;
                }
                expected.push(known(at, of));
            }
            for rolling in &spec.rolling {
                let mut at = ahead;
                while at > t {
                    at -= rolling.every as i64;
                }
                let window = (0..rolling.window as i64).filter_map(|i| known(at - i * rolling.every as i64, of));
                let window: Vec<f64> = window.collect();
                expected.push((!window.is_empty()).then(|| {
                    let n = window.len() as f64;
                    let mean = window.iter().sum::<f64>() / n;
                    match rolling.of {
                        Statistic::Mean => mean,
                        Statistic::Std => (window.iter().map(|v| v * v).sum::<f64>() / n - mean * mean).max(0.0).sqrt(),
                        Statistic::Min => window.iter().copied().reduce(f64::min).unwrap(),
                        Statistic::Max => window.iter().copied().reduce(f64::max).unwrap(),
                    }
                }));
            }
            for lag in &spec.others {
                let others = (0..SHOPS.len()).filter(|other| *other != of);
                let others: Vec<f64> = others.filter_map(|other| known(t - *lag as i64, other)).collect();
                expected.push((!others.is_empty()).then(|| others.iter().sum::<f64>() / others.len() as f64));
            }
            for (at, expected) in expected.into_iter().enumerate() {
                let (found, name) = (row[at], &matrix.names[at]);
                match expected {
                    // The mean of squares loses digits that the feature does not.
                    Some(expected) => prop_assert!((found - expected).abs() < 1e-5, "{name}: {found}, not {expected}"),
                    None => prop_assert!(found.is_nan(), "{name}: {found}"),
                }
            }
            let rain = now.rain.get(&(t, of)).copied().unwrap_or(f64::NAN);
            let price = now.price.get(&t).copied().unwrap_or(f64::NAN);
            for (name, expected) in [("rain_hourly.rain", rain), ("prices_hourly.price", price)] {
                let at = matrix.names.iter().position(|known| known == name).unwrap();
                prop_assert_eq!(row[at].to_bits(), expected.to_bits(), "{}", name);
            }
        }
    }
}

#[test]
fn what_is_known_does_reach_every_feature_that_is_of_data() {
    let spec = spec();
    let of = |shift: f64| {
        panel(&spec, &SHOPS, 200, move |shop, at| {
            let wave = f64::from(u32::try_from((at * 31 + 7 * shop as i64) % 23).unwrap());
            wave * (1.0 + shift)
        })
    };
    let (one, two) = (of(0.0), of(1.0));
    let keys = one.labels();
    let [before, after] = [&one, &two].map(|panel| features(&spec, panel, &keys, 24, "shop=b", 150));
    let names = feature_names(&spec, &keys);
    for ((name, before), after) in names.iter().zip(before).zip(after) {
        let of_target = ["lag_", "season_", "rolling_", "others_"].iter().any(|kind| name.starts_with(kind));
        assert_eq!(of_target, before.to_bits() != after.to_bits(), "{name}: {before} and {after}");
    }
}

#[test]
fn names_tell_all_that_a_column_depends_on() {
    let keys = ["shop=a".to_owned(), "shop=b".to_owned()];
    assert_eq!(
        feature_names(&spec(), &keys).join(" "),
        "lag_0 lag_1 lag_5 season_24 rolling_mean_6 rolling_std_6 rolling_min_3_every_24 rolling_max_4 others_0 \
         hour_sin_1 hour_cos_1 hour_sin_2 hour_cos_2 weekday_sin_1 weekday_cos_1 weekday_sin_2 weekday_cos_2 \
         year_sin_1 year_cos_1 year_sin_2 year_cos_2 rain_hourly.rain prices_hourly.price key_shop=b"
    );
}

#[test]
fn the_calendar_is_of_the_bucket_that_is_forecast() {
    let spec = spec();
    let panel = panel(&spec, &["a"], 60, |_, _| 1.0);
    let names = feature_names(&spec, &panel.labels());
    let found = features(&spec, &panel, &panel.labels(), 24, "shop=a", 30);
    // Hour 30 is Tuesday at 6; 24 hours later it is Wednesday at 6, a quarter around the day.
    let value = |name: &str| found[names.iter().position(|known| known == name).unwrap()];
    assert!((value("hour_sin_1") - 1.0).abs() < 1e-12 && value("hour_cos_1").abs() < 1e-12);
    let wednesday = std::f64::consts::TAU * 2.0 / 7.0;
    assert!((value("weekday_sin_1") - wednesday.sin()).abs() < 1e-12);
    assert!((value("weekday_cos_2") - (2.0 * wednesday).cos()).abs() < 1e-12);
}

#[test]
fn a_key_that_the_model_does_not_know_is_missing_in_all_its_columns() {
    let spec = spec();
    let panel = panel(&spec, &["a", "b", "new"], 60, |_, _| 1.0);
    let keys = ["shop=a".to_owned(), "shop=b".to_owned(), "shop=gone".to_owned()];
    let one_hot = |label: &str| features(&spec, &panel, &keys, 1, label, 50).split_off(feature_names(&spec, &[]).len());
    assert_eq!(one_hot("shop=a"), [0.0, 0.0]);
    assert_eq!(one_hot("shop=b"), [1.0, 0.0]);
    assert!(one_hot("shop=new").iter().all(|value| value.is_nan()));
}

#[test]
fn rows_begin_where_all_lags_reach_into_the_history() {
    let spec = spec();
    let panel = panel(&spec, &["a", "b"], 100, |shop, at| if shop == 1 && at == 60 { f64::NAN } else { 1.0 });
    let matrix = matrix(&spec, &panel, &panel.labels(), 1, 0..100).unwrap();
    // The season of 24 lies 23 before the last known bucket, and that one before the one that is forecast.
    assert_eq!(matrix.at[0], hour(24).start());
    assert_eq!(matrix.rows(), 2 * (100 - 24) - 1, "a row whose truth is missing is none");
    assert!(matrix.at.is_sorted());
    assert_eq!(matrix.before(hour(25).start()), 2);
}

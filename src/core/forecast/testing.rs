//! What the tests of forecasts share.

use std::time::Duration;

use super::series::{Panel, PanelBuilder};
use super::spec::{Calendar, Covariate, Drift, Horizon, Rolling, Spec, Statistic};
use crate::core::bucket::Width;
use crate::core::document::{Bucket, Fields, Value};

/// 2024-01-01, a Monday.
pub const START: i64 = 1_704_067_200;
pub const HOUR: i64 = 3600;

/// Hourly sales of shops with something of every kind of feature.
pub fn spec() -> Spec {
    Spec {
        name: "sales".to_owned(),
        aggregate: "sales_hourly".to_owned(),
        target: "sold".to_owned(),
        key: vec!["shop".to_owned()],
        width: Width::HOUR,
        horizons: vec![Horizon { buckets: 1, text: "1h".to_owned() }, Horizon { buckets: 24, text: "24h".to_owned() }],
        lags: vec![0, 1, 5],
        seasons: vec![24],
        rolling: vec![
            Rolling { window: 6, of: Statistic::Mean, every: 1 },
            Rolling { window: 6, of: Statistic::Std, every: 1 },
            Rolling { window: 3, of: Statistic::Min, every: 24 },
            Rolling { window: 4, of: Statistic::Max, every: 1 },
        ],
        others: vec![0],
        calendar: vec![Calendar::Hour, Calendar::Weekday, Calendar::Year],
        harmonics: 2,
        covariates: vec![
            Covariate {
                aggregate: "rain_hourly".to_owned(),
                key: vec!["shop".to_owned()],
                fields: vec!["rain".to_owned()],
            },
            Covariate { aggregate: "prices_hourly".to_owned(), key: Vec::new(), fields: vec!["price".to_owned()] },
        ],
        holdout: Duration::from_secs(10 * 86_400),
        interval: 0.8,
        memory: 1 << 30,
        drift: Drift { ratio: 1.5, window: Duration::from_secs(3 * 86_400) },
    }
}

pub fn hour(number: i64) -> Bucket {
    let at = |number| chrono::DateTime::from_timestamp(START + number * HOUR, 0).unwrap();
    Bucket::new(at(number), at(number + 1)).unwrap()
}

pub fn shop(name: &str) -> Fields {
    vec![("shop".to_owned(), name.into())]
}

pub fn field(name: &str, value: f64) -> Fields {
    vec![(name.to_owned(), if value.is_nan() { Value::Null } else { value.into() })]
}

/// A panel of so many hours out of functions of shop and hour; NaN is a missing value.
pub fn panel(spec: &Spec, shops: &[&str], hours: i64, sold: impl Fn(usize, i64) -> f64) -> Panel {
    let mut builder = PanelBuilder::new(spec);
    for number in 0..hours {
        for (at, name) in shops.iter().enumerate() {
            builder.add("sales_hourly", &shop(name), hour(number), &field("sold", sold(at, number)));
            let rain = ((number * 7 + at as i64) % 11) as f64;
            builder.add("rain_hourly", &shop(name), hour(number), &field("rain", rain));
        }
        let price = ((number * 5) % 17) as f64;
        builder.add("prices_hourly", &Vec::new(), hour(number), &field("price", price));
    }
    builder.build(None)
}

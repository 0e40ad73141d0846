//! Reads each `[[forecast]]`, and checks it beside the aggregates that it is of and made from. Which columns a query yields
//! only the database knows: `check --connect` asks it.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::aggregates::named;
use super::print::{Line, Origin};
use super::reader::{Fault, Reader, Section, Span, Text, Value};
use super::schema::{COVARIATES, DRIFT, FORECAST, ROLLING};
use super::source::quoted;
use super::unknown::nearest;
use super::values::{described, one_of};
use super::{Aggregate, AskedColumn, Forecast, Location, Schedule, Width, daemon, names, units};
use crate::core::forecast::{Calendar, Covariate, Drift, Horizon, Rolling, Spec, Statistic};

/// Tells where in the file something stands.
type Locate<'l> = &'l dyn Fn(&Span) -> Location;

/// At night for many, before documents are compared with the rows.
const DEFAULT_TRAIN_AT: &str = "0 3 * * *";
const DEFAULT_HOLDOUT: (Duration, &str) = (Duration::from_secs(28 * 86_400), "28d");
const DEFAULT_INTERVAL: f64 = 0.8;
/// Ten years of hours of a key, or a year of ten, with forty features: several times over.
const DEFAULT_MEMORY: u64 = 1 << 30;
const LEAST_MEMORY: u64 = 16 << 20;
const DEFAULT_DRIFT: Drift = Drift { ratio: 1.5, window: Duration::from_secs(3 * 86_400) };
const DEFAULT_WINDOW: (Duration, &str) = (Duration::from_secs(3 * 86_400), "3d");
const A_DAY: Duration = Duration::from_secs(86_400);
/// A hundred years.
const LONG: Duration = Duration::from_secs(36_500 * 86_400);
/// Buckets that a feature may reach back, and a forecast ahead: more than a year of hours.
const MOST_BUCKETS: u32 = 10_000;
/// Times around a week that seven days can tell apart.
const MOST_HARMONICS: u32 = 3;

pub(super) fn read(
    r: &mut Reader<'_>,
    root: &Section<'_>,
    aggregates: &[Aggregate],
    locate: Locate<'_>,
) -> Vec<Forecast> {
    let (names, forecasts): (Vec<_>, Vec<_>) =
        r.each(root, &FORECAST, |r, s| read_forecast(r, &s, aggregates, locate)).into_iter().unzip();
    check_names(r, &names, locate);
    forecasts
}

fn read_forecast(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    aggregates: &[Aggregate],
    locate: Locate<'_>,
) -> (Option<Text>, Forecast) {
    let told = r.findings.len();
    let name = named(r, s, "name", name_of_a_forecast);
    let text = r.required(s, "aggregate");
    let aggregate = text.as_ref().and_then(|text| find(r, "aggregate", text, aggregates));
    let target = named(r, s, "target", names::identifier);
    let key = read_key(r, s, aggregate);
    if let (Some(target), Some(aggregate)) = (&target, aggregate) {
        not_a_key(r, target, aggregate);
    }
    let width = aggregate.map_or(Width::HOUR, |aggregate| aggregate.bucket);
    let horizons = read_horizons(r, s, aggregate);
    let lags = r.counts(s, "lags", 0..=MOST_BUCKETS);
    let seasons = r.counts(s, "seasons", 1..=MOST_BUCKETS);
    let others = r.counts(s, "others", 0..=MOST_BUCKETS);
    if !others.is_empty() && aggregate.is_some_and(|aggregate| aggregate.key.is_empty()) {
        r.error(
            &s.place("others"),
            "`others` is the mean over the other keys' series, but the aggregate has no `key`",
            "remove it",
        );
    }
    let calendar = read_calendar(r, s, aggregate);
    let harmonics = r.integer(s, "harmonics", 1..=MOST_HARMONICS, 1);
    let train_at = read_schedule(r, s);
    let holdout = read_holdout(r, s, horizons.last().map(|horizon| (horizon, width)));
    let interval = read_interval(r, s);
    let memory =
        r.parsed(s, "memory", (DEFAULT_MEMORY, &units::size_text(DEFAULT_MEMORY)), |text| match units::size(text)? {
            bytes if bytes >= LEAST_MEMORY => Ok(bytes),
            _ => Err(Fault::new("is too little for a history and its fit", "write \"16MiB\" or more")),
        });
    let rolling = r.each(s, &ROLLING, |r, s| read_rolling(r, &s));
    let covariates = r.each(s, &COVARIATES, |r, s| read_covariate(r, &s, aggregate, (aggregates, locate)));
    let drift = read_drift(r, s);
    let (covariates, asked): (Vec<_>, Vec<_>) = covariates.into_iter().flatten().unzip();
    let target_of = target.iter().zip(aggregate).map(|(target, aggregate)| asked_of(aggregate, target, locate));
    let columns = target_of.chain(asked.into_iter().flatten()).collect();
    let forecast = Forecast {
        spec: Spec {
            name: name.as_ref().map(|name| name.value.clone()).unwrap_or_default(),
            aggregate: aggregate.map(|aggregate| aggregate.name.clone()).unwrap_or_default(),
            target: target.map(|target| target.value).unwrap_or_default(),
            key,
            width,
            horizons,
            lags,
            seasons,
            rolling,
            others,
            calendar,
            harmonics: usize::try_from(harmonics).unwrap_or(1),
            covariates,
            holdout,
            interval,
            memory,
            drift,
        },
        train_at,
        place: locate(&s.place("name")),
        columns,
    };
    // What was wrong with its features themselves has been told.
    if r.findings.len() == told {
        check_features(r, s, &forecast.spec);
    }
    (name, forecast)
}

/// A label without a dot: its horizon is told behind one.
fn name_of_a_forecast(name: &str) -> Result<(), Fault> {
    names::label(name)?;
    if name.contains('.') {
        return Err(Fault::new(
            "has a dot in it, which stands between name and horizon where forecasts are kept",
            "write it without, such as \"orders_next_hour\"",
        ));
    }
    Ok(())
}

/// The aggregate of this name; tells where there is none.
fn find<'a>(r: &mut Reader<'_>, key: &str, text: &Text, aggregates: &'a [Aggregate]) -> Option<&'a Aggregate> {
    let found = aggregates.iter().find(|aggregate| aggregate.name == text.value);
    if found.is_none() {
        let near = nearest(&text.value, aggregates.iter().map(|aggregate| aggregate.name.as_str()));
        // By its place, since a name from the environment is not shown.
        let help = match aggregates.iter().find(|aggregate| near == Some(aggregate.name.as_str())) {
            Some(near) => format!("did you mean the [[aggregate]] on line {}?", near.places.name.line),
            None => "name an [[aggregate]] of this file, or add one".to_owned(),
        };
        r.refuse(key, text, Fault::new("names no aggregate", help));
    }
    found
}

/// The aggregate's whole key, since each of its documents is one value of one series.
fn read_key(r: &mut Reader<'_>, s: &Section<'_>, aggregate: Option<&Aggregate>) -> Vec<String> {
    let of_aggregate = aggregate.map(|aggregate| aggregate.key.clone()).unwrap_or_default();
    if s.value("key").is_none() {
        let list: Vec<String> = of_aggregate.iter().map(|column| super::reader::toml_text(column)).collect();
        r.default("key", format!("[{}]", list.join(", ")));
        return of_aggregate;
    }
    let Some(texts) = r.texts(s, "key") else { return of_aggregate };
    let Some(aggregate) = aggregate else { return of_aggregate };
    let has = |text: &Text| of_aggregate.iter().any(|column| column.eq_ignore_ascii_case(&text.value));
    let line = aggregate.places.key.line;
    for text in texts.iter().filter(|text| !has(text)) {
        r.error(
            &text.span,
            format!("the aggregate's key has no column {}", quoted(&text.raw)),
            format!("write `key` as on line {line}, or leave it out: it is the aggregate's"),
        );
    }
    let named = |column: &String| texts.iter().any(|text| text.value.eq_ignore_ascii_case(column));
    if texts.iter().all(has) && !of_aggregate.iter().all(named) {
        r.error(
            &s.place("key"),
            "`key` is not the whole key of the aggregate, so that a series would have several values in a bucket",
            format!("write `key` as on line {line}, or name an aggregate of fewer columns"),
        );
    }
    of_aggregate
}

/// A column of the key is no value.
fn not_a_key(r: &mut Reader<'_>, column: &Text, aggregate: &Aggregate) {
    if aggregate.key.iter().any(|key| key.eq_ignore_ascii_case(&column.value)) {
        r.error(
            &column.span,
            format!("{} is part of the aggregate's key, not one of its values", quoted(&column.raw)),
            "name a column that the query computes",
        );
    }
}

/// Whole buckets ahead, ascending.
fn read_horizons(r: &mut Reader<'_>, s: &Section<'_>, aggregate: Option<&Aggregate>) -> Vec<Horizon> {
    if s.value("horizons").is_none() {
        r.missing(s, "horizons");
        return Vec::new();
    }
    let Some(texts) = r.texts(s, "horizons") else { return Vec::new() };
    if texts.is_empty() {
        r.error(&s.place("horizons"), "`horizons` is empty", "write how far ahead, such as [\"1h\", \"24h\"]");
    }
    let mut horizons: Vec<Horizon> = Vec::with_capacity(texts.len());
    for text in texts {
        match ahead(&text.value, aggregate) {
            Ok(buckets) if horizons.iter().any(|known| known.buckets == buckets) => {
                r.error(&text.span, format!("`horizons` has {} twice", quoted(&text.raw)), "remove one of the two");
            }
            Ok(buckets) => horizons.push(Horizon { buckets, text: text.value.trim().to_owned() }),
            Err(fault) => r.refuse("horizons", &text, fault),
        }
    }
    horizons.sort_by_key(|horizon| horizon.buckets);
    horizons
}

fn ahead(text: &str, aggregate: Option<&Aggregate>) -> Result<usize, Fault> {
    let micros = i64::try_from(units::duration(text)?.as_micros()).unwrap_or(i64::MAX);
    let Some(width) = aggregate.map(|aggregate| aggregate.bucket) else { return Ok(1) };
    let help = format!("write a multiple of the aggregate's bucket, {width}, up to {MOST_BUCKETS} of them");
    if micros <= 0 || micros % width.micros() != 0 {
        return Err(Fault::new("is no whole number of buckets", help));
    }
    match usize::try_from(micros / width.micros()) {
        Ok(buckets) if buckets <= MOST_BUCKETS as usize => Ok(buckets),
        _ => Err(Fault::new("is too far ahead", help)),
    }
}

fn read_calendar(r: &mut Reader<'_>, s: &Section<'_>, aggregate: Option<&Aggregate>) -> Vec<Calendar> {
    let Some(texts) = r.texts(s, "calendar") else {
        if s.value("calendar").is_none() {
            r.default("calendar", "[]");
        }
        return Vec::new();
    };
    let mut calendar: Vec<Calendar> = Vec::with_capacity(texts.len());
    for text in texts {
        match one_of(&text.value, &Calendar::ALL) {
            Ok(Calendar::Hour) if aggregate.is_some_and(|aggregate| aggregate.bucket.is_whole_days()) => {
                let fault = Fault::new("is the same for every bucket, which is a day", "remove it");
                r.refuse("calendar", &text, fault);
            }
            Ok(known) if calendar.contains(&known) => {
                r.error(&text.span, format!("`calendar` has {} twice", quoted(&text.raw)), "remove one of the two");
            }
            Ok(known) => calendar.push(known),
            Err(fault) => r.refuse("calendar", &text, fault),
        }
    }
    calendar
}

fn read_schedule(r: &mut Reader<'_>, s: &Section<'_>) -> Option<Schedule> {
    let daily = DEFAULT_TRAIN_AT.parse().ok();
    r.parsed(s, "train_at", (daily, DEFAULT_TRAIN_AT), |text| match text.trim() {
        "off" => Ok(None),
        text => match text.parse::<Schedule>() {
            Ok(schedule) => Ok(Some(schedule)),
            Err(error) => Err(Fault::new(error.what, format!("{}; or \"off\"", error.help))),
        },
    })
}

/// Longer than the longest horizon: within a shorter one no forecast would be made whose truth lies within it too.
fn read_holdout(r: &mut Reader<'_>, s: &Section<'_>, longest: Option<(&Horizon, Width)>) -> Duration {
    let shortest = longest.map_or(Duration::ZERO, |(horizon, width)| {
        let micros = u64::try_from(width.micros()).unwrap_or(0);
        Duration::from_micros(micros.saturating_mul(horizon.buckets as u64))
    });
    let longest = units::duration_text(shortest);
    let help = format!("write more than \"{longest}\", better many times as much");
    if s.value("holdout").is_none() && DEFAULT_HOLDOUT.0 <= shortest {
        let (_, default) = DEFAULT_HOLDOUT;
        let what = format!(
            "`holdout` is left out, and its default, {default}, is no longer than the longest horizon, {longest}"
        );
        r.error(&s.place("horizons"), what, format!("add `holdout`: {help}"));
    }
    r.parsed(s, "holdout", DEFAULT_HOLDOUT, |text| match daemon::between(text, A_DAY, LONG)? {
        holdout if holdout > shortest => Ok(holdout),
        _ => Err(Fault::new(format!("is no longer than the longest horizon, {longest}"), help)),
    })
}

fn read_interval(r: &mut Reader<'_>, s: &Section<'_>) -> f64 {
    let told = r.findings.len();
    let interval = r.share(s, "interval", DEFAULT_INTERVAL);
    if r.findings.len() == told && !(0.5..=0.99).contains(&interval) {
        r.error(
            &s.place("interval"),
            format!("`interval` = {interval} is out of range"),
            "write the share of the truth that the interval shall hold, from 0.5 to 0.99",
        );
    }
    interval
}

fn read_rolling(r: &mut Reader<'_>, s: &Section<'_>) -> Rolling {
    if s.value("window").is_none() {
        r.missing(s, "window");
    }
    let window = r.integer(s, "window", 2..=MOST_BUCKETS, 2);
    let of = r.choice(s, "of", &Statistic::ALL, Statistic::Mean);
    let every = r.integer(s, "every", 1..=MOST_BUCKETS, 1);
    if u64::from(window) * u64::from(every) > u64::from(MOST_BUCKETS) {
        r.error(
            &s.span,
            format!("`window` = {window} of every {every} buckets reaches further back than {MOST_BUCKETS} buckets"),
            "write a shorter window",
        );
    }
    let count = |number: u32| usize::try_from(number).unwrap_or(1);
    Rolling { window: count(window), of, every: count(every) }
}

/// Of an aggregate whose buckets are those of the forecast's, and whose key is part of the forecast's.
fn read_covariate(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    of: Option<&Aggregate>,
    (aggregates, locate): (&[Aggregate], Locate<'_>),
) -> Option<(Covariate, Vec<AskedColumn>)> {
    let text = r.required(s, "aggregate");
    let fields = match s.value("fields") {
        None => {
            r.missing(s, "fields");
            Vec::new()
        }
        Some(value) => {
            let fields = r.texts(s, "fields");
            if fields.as_ref().is_some_and(Vec::is_empty) {
                r.error(&value.span(), "`fields` names no column", "name columns that the query yields");
            }
            fields.unwrap_or_default()
        }
    };
    let text = text?;
    let aggregate = find(r, "aggregate", &text, aggregates)?;
    for (at, field) in fields.iter().enumerate() {
        if let Err(fault) = names::identifier(&field.value) {
            r.refuse("fields", field, fault);
        } else if fields[..at].iter().any(|other| other.value.eq_ignore_ascii_case(&field.value)) {
            r.error(&field.span, format!("`fields` names {} twice", quoted(&field.raw)), "remove one of the two");
        } else {
            not_a_key(r, field, aggregate);
        }
    }
    let of = of?;
    if aggregate.bucket != of.bucket {
        let (theirs, ours) = (aggregate.bucket, of.bucket);
        let fault = Fault::new(
            format!("has buckets of {theirs}, and the aggregate that is forecast has {ours}"),
            "name an aggregate with the same bucket",
        );
        r.refuse("aggregate", &text, fault);
    }
    let shared = |column: &&String| of.key.iter().any(|known| known.eq_ignore_ascii_case(column));
    if let Some(further) = aggregate.key.iter().find(|column| !shared(column)) {
        let fault = Fault::new(
            format!(
                "has a key with {} in it, which the forecast's key lacks: several documents would fit one series",
                quoted(further)
            ),
            "name an aggregate whose key has only columns of the forecast's",
        );
        r.refuse("aggregate", &text, fault);
    }
    let asked = fields.iter().map(|field| asked_of(aggregate, field, locate)).collect();
    let covariate = Covariate {
        aggregate: aggregate.name.clone(),
        key: aggregate.key.clone(),
        fields: fields.into_iter().map(|field| field.value).collect(),
    };
    Some((covariate, asked))
}

fn asked_of(aggregate: &Aggregate, column: &Text, locate: Locate<'_>) -> AskedColumn {
    AskedColumn { aggregate: aggregate.name.clone(), column: column.value.clone(), place: locate(&column.span) }
}

fn read_drift(r: &mut Reader<'_>, s: &Section<'_>) -> Drift {
    let s = r.section_or_empty(s, &DRIFT);
    let help = "write a number above 1 and up to 1000, such as 1.5";
    let ratio = r.number(&s, "ratio", DEFAULT_DRIFT.ratio, |number| number > 1.0 && number <= 1000.0, help);
    let window = r.parsed(&s, "window", DEFAULT_WINDOW, |text| daemon::between(text, Duration::from_secs(60), LONG));
    Drift { ratio, window }
}

/// There is something to forecast from, and nothing twice.
fn check_features(r: &mut Reader<'_>, s: &Section<'_>, spec: &Spec) {
    let names = crate::core::forecast::feature_names(spec, &[]);
    if names.is_empty() {
        r.error(&s.span, "[[forecast]] has no feature", "add for example `lags = [0, 1, 2]` and `seasons = [24, 168]`");
    }
    if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        r.error(&s.span, format!("[[forecast]] has the feature `{twice}` twice"), "remove one of the two");
    }
}

/// No two of one name: their documents would be each other's.
fn check_names(r: &mut Reader<'_>, names: &[Option<Text>], locate: Locate<'_>) {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for name in names.iter().flatten() {
        let line = locate(&name.span).line;
        match lines.get(name.value.as_str()) {
            Some(first) => r.error(
                &name.span,
                format!("the forecast {} is there already, on line {first}", quoted(&name.raw)),
                "give one of the two another name",
            ),
            None => _ = lines.insert(&name.value, line),
        }
    }
}

impl Reader<'_> {
    /// Whole numbers, each once; none where it is absent.
    fn counts(&mut self, s: &Section<'_>, key: &'static str, range: RangeInclusive<u32>) -> Vec<usize> {
        let Some(value) = s.value(key) else {
            self.default(key, "[]");
            return Vec::new();
        };
        let DeValue::Array(list) = value.get_ref() else {
            let found = described(value.get_ref(), false);
            self.wrong_type(value, s.spec, key, "a list of whole numbers", &found);
            return Vec::new();
        };
        let mut counts: Vec<u32> = Vec::with_capacity(list.len());
        for item in list.iter() {
            match self.count(s, key, item, &range) {
                Some(count) if counts.contains(&count) => {
                    self.error(&item.span(), format!("`{key}` has {count} twice"), "remove one of the two");
                }
                count => counts.extend(count),
            }
        }
        let shown: Vec<String> = counts.iter().map(u32::to_string).collect();
        let value = format!("[{}]", shown.join(", "));
        self.understood.push(Line::Entry { key: key.into(), value, origin: Origin::File });
        counts.into_iter().filter_map(|count| usize::try_from(count).ok()).collect()
    }

    fn count(
        &mut self,
        s: &Section<'_>,
        key: &'static str,
        item: &Value<'_>,
        range: &RangeInclusive<u32>,
    ) -> Option<u32> {
        let DeValue::Integer(given) = item.get_ref() else {
            let found = described(item.get_ref(), false);
            self.wrong_type(item, s.spec, key, "a list of whole numbers", &format!("one with {found}"));
            return None;
        };
        let count = u32::from_str_radix(given.as_str(), given.radix()).ok().filter(|count| range.contains(count));
        if count.is_none() {
            let help = format!("write how many buckets, from {} to {}", range.start(), range.end());
            self.error(&item.span(), format!("`{key}` has {given}, which is out of range"), help);
        }
        count
    }
}

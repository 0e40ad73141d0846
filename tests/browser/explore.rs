//! The tab Explore: what is drawn, hover, zoom, the address, the file.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use fantoccini::key::Key;

use super::Test;
use super::chart::{Numbers, csv, inked, numbers, place, spot};
use super::driver::{Driver, PATIENCE, Page};
use super::shop::Shops;

pub fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("explore_draws_the_right_values", draws_the_right_values),
        ("explore_shows_what_the_pointer_is_at_in_all_charts", shows_what_the_pointer_is_at),
        ("explore_zooms_and_the_address_brings_the_view_back", zooms_and_is_restored),
        ("explore_hands_out_what_it_shows_as_csv", hands_out_csv),
    ]
}

const VIEW: &str = "#explore?aggregate=sales_hourly&values=sum_amount,sales&by=shop&range=all";
const TAKINGS: &str = ".explore-chart:nth-child(1)";
const SALES: &str = ".explore-chart:nth-child(2)";

fn open(driver: &Driver, shops: &Shops) -> Page {
    let page = shops.page(driver, VIEW);
    page.wait("two charts", "document.querySelectorAll('.explore-chart canvas').length === 2");
    page
}

fn takings(shops: &Shops) -> Numbers {
    shops.hours().into_iter().map(|(at, (_, takings))| (at, takings)).collect()
}

fn sales(shops: &Shops) -> Numbers {
    shops.hours().into_iter().map(|(at, (sales, _))| (at, sales)).collect()
}

fn draws_the_right_values(driver: &Driver) {
    let shops = Shops::open();
    let page = open(driver, &shops);
    assert_eq!(numbers(&page, TAKINGS), takings(&shops));
    assert_eq!(numbers(&page, SALES), sales(&shops));

    // The cursor goes from bucket to bucket by keys; where it stands the line is drawn, as high as its number.
    let north: Vec<i64> =
        takings(&shops).into_iter().filter(|((_, shop), _)| shop == "north").map(|(_, n)| n).collect();
    page.key(&format!("{TAKINGS} .plot"), Key::End);
    let mut spots = Vec::new();
    for _ in 0..north.len() {
        spots.push(spot(&page, TAKINGS, 0));
        page.key(&format!("{TAKINGS} .plot"), Key::Left);
    }
    let drawn: Vec<f64> = spots.iter().rev().map(|spot| spot.y).collect();
    assert!(spots.iter().all(|spot| spot.drawn > 0), "the line is not where its numbers are: {spots:#?}");
    assert!(spots.windows(2).all(|pair| pair[1].x < pair[0].x), "buckets are in the order of time");
    let (least, most) = (*north.iter().min().unwrap() as f64, *north.iter().max().unwrap() as f64);
    let (low, high) = (drawn.iter().copied().fold(0.0, f64::max), drawn.iter().copied().fold(f64::MAX, f64::min));
    for (number, y) in north.iter().zip(&drawn) {
        let expected = low + (*number as f64 - least) / (most - least) * (high - low);
        assert!((y - expected).abs() < 1.6, "{number} is drawn at {y}, not at {expected}: {north:?} {drawn:?}");
    }
    page.assert_nothing_went_wrong();
}

fn shows_what_the_pointer_is_at(driver: &Driver) {
    let shops = Shops::open();
    let page = open(driver, &shops);
    let [left, top, width, height] = place(&page, &format!("{TAKINGS} .u-over"));
    page.mouse(&[(left + 0.4 * width, top + 0.5 * height), (left + 0.5 * width, top + 0.5 * height)], false);
    page.wait("a readout", &format!("!document.querySelector('{TAKINGS} .tip').hidden"));
    let row = |chart: &str| {
        let script = format!("return Number(document.querySelector('{chart} tbody tr.pointed')?.dataset.key)");
        page.js(&script).as_i64().map(|ms| DateTime::<Utc>::from_timestamp_millis(ms).unwrap())
    };
    let hour = row(TAKINGS).expect("a row of the table is marked");
    assert_eq!(row(SALES), Some(hour), "the charts share the cursor");
    for ((at, shop), number) in takings(&shops).into_iter().filter(|((at, _), _)| *at == hour) {
        let tip = page.text(&format!("{TAKINGS} .tip")).replace(',', "");
        assert!(tip.contains(&format!("{shop}{number}")), "{at} {shop}: {number} is not in {tip}");
    }
    page.mouse(&[(left + 0.5 * width, top - 200.0)], false);
    page.wait("no readout", &format!("document.querySelector('{TAKINGS} .tip').hidden"));
    page.assert_nothing_went_wrong();
}

fn zooms_and_is_restored(driver: &Driver) {
    let shops = Shops::open();
    let page = open(driver, &shops);
    let whole = numbers(&page, TAKINGS);
    let [left, top, width, height] = place(&page, &format!("{TAKINGS} .u-over"));
    let middle = top + 0.5 * height;
    page.mouse(&[(left + 0.3 * width, middle), (left + 0.4 * width, middle), (left + 0.6 * width, middle)], true);
    page.wait("zoomed", "location.hash.includes('from=')");
    let query = |name: &str| {
        let url = page.address().to_string().replacen("/#explore", "/explore", 1);
        let url: url::Url = url.parse().unwrap();
        let found = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        found.map(|text| text.parse::<DateTime<Utc>>().unwrap())
    };
    let (from, to) = (query("from").unwrap(), query("to").unwrap());
    let hour = TimeDelta::hours(1);
    let expected: Numbers = takings(&shops).into_iter().filter(|((at, _), _)| *at + hour > from && *at < to).collect();
    assert!(expected.len() < whole.len() / 2 && !expected.is_empty(), "{from} to {to} is about a third of all");
    assert_eq!(numbers(&page, TAKINGS), expected);

    page.reload();
    page.wait("two charts again", "document.querySelectorAll('.explore-chart canvas').length === 2");
    assert_eq!((query("from"), query("to")), (Some(from), Some(to)));
    assert_eq!(numbers(&page, TAKINGS), expected);

    page.click("#explore-reset");
    page.wait("zoomed out", "!location.hash.includes('from=')");
    assert_eq!(numbers(&page, TAKINGS), whole);

    // Another tab and back by the browser's own button.
    page.click("#tab-of-pipeline");
    page.wait("the pipeline", "location.hash === '#pipeline'");
    page.js("history.back()");
    page.wait(
        "back in Explore",
        "!document.getElementById('tab-explore').hidden && location.hash.startsWith('#explore')",
    );
    assert!(inked(&page, &format!("{TAKINGS} canvas")) > 500);
    page.assert_nothing_went_wrong();
}

fn hands_out_csv(driver: &Driver) {
    let shops = Shops::open();
    let page = open(driver, &shops);
    let folder = page.downloads().to_owned();
    page.click("#explore-csv");
    let began = Instant::now();
    let file = loop {
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let done = files.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "csv"));
        if let Some(file) = done {
            break file;
        }
        assert!(began.elapsed() < PATIENCE, "nothing was downloaded");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("sales_hourly_"), "{}", file.display());
    let rows = csv(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(rows[0], ["bucket_start", "bucket_end", "shop", "sum_amount", "sales"]);
    let told: Vec<(DateTime<Utc>, String, i64, i64)> = rows[1..]
        .iter()
        .map(|row| (row[0].parse().unwrap(), row[2].clone(), row[4].parse().unwrap(), row[3].parse().unwrap()))
        .collect();
    let expected: Vec<_> =
        shops.hours().into_iter().map(|((at, shop), (sales, takings))| (at, shop, sales, takings)).collect();
    assert_eq!(told, expected);
    page.assert_nothing_went_wrong();
}

//! The tab Live: figures, panels, records as they come, rows beside them; and a daemon that goes and comes back beneath it.

use chrono::{DurationRound, TimeDelta, Utc};
use serde_json::json;

use super::Test;
use super::chart::{inked, place};
use super::driver::{Driver, Page};
use super::shop::{HOURS, Sale, Shops};

pub fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("live_draws_each_panel_with_the_right_numbers", draws_each_panel),
        ("live_shows_a_record_its_row_and_its_document_as_they_come", shows_what_comes),
        ("live_recovers_when_the_daemon_was_killed_and_started_again", recovers),
        ("live_can_be_paused_and_holds_still_while_a_record_is_open", holds_still),
    ]
}

fn open(driver: &Driver, shops: &Shops) -> Page {
    let page = shops.page(driver, "#live");
    page.wait(
        "panels",
        "document.querySelectorAll('.panel').length === 5 && document.querySelector('.panel-line canvas')",
    );
    page
}

/// The text of each item that a selector finds, without the commas of large numbers.
fn texts(page: &Page, selector: &str) -> Vec<String> {
    let script = format!("return Array.from(document.querySelectorAll({}), (one) => one.textContent)", json!(selector));
    page.js(&script).as_array().unwrap().iter().map(|text| text.as_str().unwrap().replace(',', "")).collect()
}

fn draws_each_panel(driver: &Driver) {
    let shops = Shops::open();
    let page = open(driver, &shops);
    let hours = shops.hours();
    let of =
        |shop: &str| hours.iter().filter(|((_, s), _)| s == shop).map(|((at, _), n)| (*at, *n)).collect::<Vec<_>>();
    let (north, south) = (of("north"), of("south"));

    // The line's legend has each shop's last number.
    let legend = texts(&page, ".panel-line .legend .chip");
    let last = |shop: &[(_, (i64, i64))]| shop.last().unwrap().1.1;
    assert_eq!(legend, [format!("north{}", last(&north)), format!("south{}", last(&south))]);
    for kind in ["line", "bar"] {
        let [left, top, width, height] = place(&page, &format!(".panel-{kind} canvas"));
        assert!(width > 300.0 && height > 100.0 && left >= 0.0 && top >= 0.0);
        assert!(inked(&page, &format!(".panel-{kind} canvas")) > 500, "the {kind} chart is drawn");
    }

    // The histogram's columns are as high as their numbers.
    let sums = [&north, &south].map(|shop| shop.iter().map(|(_, (sales, _))| sales).sum::<i64>());
    assert_eq!(texts(&page, ".panel-histogram li"), [format!("{}north", sums[0]), format!("{}south", sums[1])]);
    let heights = page.js("return Array.from(document.querySelectorAll('.panel-histogram rect'), (r) => Number(r.getAttribute('height')))");
    let most = *sums.iter().max().unwrap() as f64;
    for (sum, height) in sums.iter().zip(heights.as_array().unwrap()) {
        assert!((height.as_f64().unwrap() - *sum as f64 / most * 100.0).abs() < 0.01);
    }

    // The table has the last hour of each.
    let rows = texts(&page, ".panel-table tbody tr");
    for ((shop, name), row) in [(&north, "north"), (&south, "south")].into_iter().zip(&rows) {
        let (sales, takings) = shop.last().unwrap().1;
        assert!(row.starts_with(name) && row.contains(&format!("{sales}{takings}")), "{row}: {sales} and {takings}");
    }

    // The single number is that of the last hour, of all shops.
    let (hour, _) = hours.keys().next_back().unwrap();
    let takings: i64 = hours.iter().filter(|((at, _), _)| at == hour).map(|(_, (_, takings))| takings).sum();
    assert_eq!(texts(&page, ".stat-number"), [takings.to_string()]);
    assert_eq!(texts(&page, "#fresh-by"), ["behind the tables at most"]);
    page.assert_nothing_went_wrong();
}

fn shows_what_comes(driver: &Driver) {
    let mut shops = Shops::open();
    let page = open(driver, &shops);
    page.wait("rows", "document.querySelector('#rows tbody tr')");
    // It is the page that is patched, never loaded anew.
    page.js("window.sameAsBefore = true");
    let before = shops.get("/status").unwrap()["totals"]["applied"].as_i64().unwrap();
    let hour = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap() - TimeDelta::hours(1);
    let sale = shops.sell("north", hour + TimeDelta::minutes(59), 5000);
    shops.flush();
    let number = format!(" {} ", sale.number);
    page.wait(
        "the record, named by its key",
        &format!("(' ' + document.querySelector('#records .what')?.textContent + ' ').includes({})", json!(number)),
    );
    page.wait(
        "its row, matched",
        "document.querySelector('#rows tr.matched .where')?.textContent.startsWith('sales[0]@')",
    );
    assert_eq!(page.text("#rows tr.matched .where"), page.text("#records .where"), "a row and its record");
    let takings = shops.hours()[&(hour, "north".to_owned())].1;
    page.wait(
        "the sum in the line",
        &format!("document.querySelector('.panel-line .chip b').textContent.replace(',', '') === '{takings}'"),
    );
    page.wait(
        "the ledger",
        &format!("document.getElementById('strip-terms').textContent.startsWith('{} advanced')", before + 1),
    );
    // A shop that is new gets a line of its own.
    shops.sell("west", hour, 777);
    shops.flush();
    page.wait("another line", "document.querySelectorAll('.panel-line .chip').length === 3");
    assert_eq!(page.js("return window.sameAsBefore"), json!(true));
    page.assert_nothing_went_wrong();
}

fn recovers(driver: &Driver) {
    let mut shops = Shops::open();
    let page = open(driver, &shops);
    page.js("window.sameAsBefore = true");
    shops.stop();
    page.wait("told that it is gone", "document.getElementById('link-text').textContent.startsWith('daemon gone')");
    let told = page.text("#state-text");
    assert!(told.contains("does not answer") && told.contains("goes on by itself"), "{told}");
    // What was there last is still to be read.
    assert_eq!(texts(&page, ".panel-line .chip").len(), 2);
    let hour = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap() - TimeDelta::hours(1);
    shops.sell("east", hour, 4321);
    shops.flush();
    shops.start();
    page.wait("live again", "document.getElementById('link-text').textContent === 'live'");
    page.wait("no word of trouble", "document.getElementById('state').hidden");
    page.wait("what was missed", "document.querySelectorAll('.panel-line .chip').length === 3");
    assert_eq!(texts(&page, ".panel-line .chip")[0], "east4321");
    assert_eq!(page.js("return window.sameAsBefore"), json!(true));
    let advanced = format!("{} advanced", shops.sales.len());
    page.wait("the ledger", &format!("document.getElementById('strip-terms').textContent.startsWith('{advanced}')"));
    assert!(shops.sales.len() as i64 > HOURS);
    // Requests to a daemon that is away fail, and the browser says so; scripts do not.
    let wrong: Vec<String> = page.console().into_iter().filter(|line| line.contains("Uncaught")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn holds_still(driver: &Driver) {
    let mut shops = Shops::open();
    let page = open(driver, &shops);
    let hour = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap() - TimeDelta::hours(1);
    let note = Some("fields are shown".to_owned());
    let number = shops.sales.len() as i64;
    shops.send_sale(Sale { sold_at: hour, number, shop: "north".to_owned(), amount: 1, note });
    shops.flush();
    page.click("#records summary");
    page.wait("its fields", "document.querySelector('#records .fields').textContent.includes('fields are shown')");
    let first = page.js("return document.querySelector('#records details').dataset.key");
    shops.sell("north", hour, 2);
    shops.flush();
    page.wait("held", "document.getElementById('records-seen').textContent.includes('held')");
    assert_eq!(page.js("return document.querySelector('#records details').dataset.key"), first);
    page.click("#records summary");
    page.wait("gone on", &format!("document.querySelector('#records details').dataset.key !== {first}"));
    page.click("#pause");
    shops.sell("north", hour, 3);
    shops.flush();
    shops.wait_computed();
    let paused = page.js("return document.querySelectorAll('#records details').length");
    assert_eq!(page.text("#pause"), "Go on");
    page.click("#pause");
    page.wait("all of them", &format!("document.querySelectorAll('#records details').length === {paused} + 1"));
    page.assert_nothing_went_wrong();
}

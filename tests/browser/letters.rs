//! The tab Dead letters: the worst reason first, the field marked, edited and sent through again, dropped, and the audit.

use std::ops::Range;

use chrono::{DurationRound, TimeDelta, Utc};
use serde_json::{Value, json};

use super::Test;
use super::driver::{Driver, Page};
use super::shop::Shops;

pub fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("a_dead_letter_is_edited_and_sent_through_again", edited_and_retried),
        ("an_edit_stays_while_newer_letters_come_and_when_it_is_refused", edit_kept),
        ("a_link_to_a_dead_letter_that_many_newer_ones_follow_shows_it", linked),
        ("dead_letters_of_a_reason_are_dropped_after_a_question", dropped),
        ("a_dead_letter_that_comes_while_one_is_asked_is_not_dropped", dropped_as_counted),
        ("more_dead_letters_are_asked_for_once_however_often_it_is_pressed", more),
        ("who_has_no_token_is_told_why_nothing_is_changed", without_a_token),
    ]
}

fn spoilt(shops: &mut Shops, number: i64) {
    let at = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap() - TimeDelta::hours(1);
    let record = json!({ "sold_at": at, "number": number, "shop": "north", "amount": "plenty", "note": null });
    shops.send(&record.to_string());
}

/// Records of these numbers become dead letters, and all that was sent is computed.
fn spoil(shops: &mut Shops, numbers: Range<i64>) {
    numbers.for_each(|number| spoilt(shops, number));
    shops.flush();
    shops.wait_computed();
}

/// Presses the letter's button of this name, wherever it stands.
fn press(page: &Page, label: &str) {
    page.js(&format!(
        "Array.from(document.querySelectorAll('#letter .buttons button')).find((b) => b.textContent === {}).click()",
        json!(label)
    ));
}

fn letters(status: &Value) -> i64 {
    status["groups"].as_array().map_or(0, |groups| groups.iter().filter_map(|g| g["letters"].as_i64()).sum())
}

fn edited_and_retried(driver: &Driver) {
    let mut shops = Shops::with_token();
    spoilt(&mut shops, 7001);
    spoilt(&mut shops, 7002);
    shops.send("{ no JSON");
    shops.flush();
    shops.wait_computed();
    let page = shops.page(driver, "#letters");
    // It opens on the reason that has most.
    page.wait("a letter", "document.querySelector('#letter .letter-message')");
    assert_eq!(page.text("#group-title"), "wrong type");
    assert!(page.text("#letter mark").contains("\"amount\""), "the field is marked: {}", page.text("#letter mark"));
    assert_eq!(page.text("#letters-badge"), "3");

    // Tried, and tried again once it is right.
    press(&page, "Try, change nothing");
    page.wait("refused", "document.getElementById('result-text').textContent.includes('1 refused again')");
    assert!(page.text("#refusals").contains("amount"), "{}", page.text("#refusals"));
    press(&page, "Edit");
    let payload = page.js("return document.querySelector('.payload-edit').value");
    let mended = payload.as_str().unwrap().replace("\"plenty\"", "4242");
    assert_ne!(mended, payload);
    page.write(".payload-edit", &mended);
    let number: i64 = serde_json::from_str::<Value>(&mended).unwrap()["number"].as_i64().unwrap();
    press(&page, "Retry");
    page.wait("applied", "document.getElementById('result-text').textContent.startsWith('1 applied')");
    shops.wait("its row", "/api/v1/rows/sale?limit=200", |rows| {
        let rows = rows["rows"].as_array().cloned().unwrap_or_default();
        rows.iter().any(|row| row["number"] == number && row["amount"] == 4242)
    });
    page.wait("one less", "document.getElementById('letters-badge').textContent === '2'");
    page.wait("the audit", "document.getElementById('audit-rows').textContent.includes('retry, edited')");
    let totals = shops.get("/status").unwrap()["totals"].clone();
    assert_eq!((&totals["dead_letters"], &totals["unaccounted"]), (&json!(2), &json!(0)));
    page.assert_nothing_went_wrong();
}

/// The number of the letter that is shown.
const SHOWN: &str = "#letter .pairs > div:last-child dd";

fn edit_kept(driver: &Driver) {
    let mut shops = Shops::with_token();
    spoil(&mut shops, 7100..7101);
    let page = shops.page(driver, "#letters");
    page.wait("a letter", "document.querySelector('#letter .letter-message')");
    let number = page.text(SHOWN);
    press(&page, "Edit");
    let payload = page.js("return document.querySelector('.payload-edit').value");
    let written = payload.as_str().unwrap().replace("\"plenty\"", "\"still plenty\"");
    assert_ne!(written, payload);
    page.write(".payload-edit", &written);
    let is_kept = || {
        assert_eq!(page.text(SHOWN), number);
        assert_eq!(page.js("return document.querySelector('.payload-edit').value"), json!(written));
    };
    for more in 0..60 {
        spoilt(&mut shops, 7101 + more);
    }
    shops.flush();
    // Where another letter took its place, that one is marked in the list.
    let unmarked = "document.querySelectorAll('#letter-list button').length === 50 && \
                    !document.querySelector('#letter-list [aria-pressed=true]')";
    let counted = |letters: usize| {
        let label = json!(format!("Retry all {letters}"));
        format!("document.getElementById('group-retry').textContent === {label} && {unmarked}")
    };
    page.wait("a list without it", &counted(61));
    is_kept();

    press(&page, "Retry");
    page.wait("refused", "document.getElementById('result-text').textContent.includes('1 refused again')");
    is_kept();
    // A list that was read after the refusal.
    spoilt(&mut shops, 7161);
    shops.flush();
    page.wait("a newer list without it", &counted(62));
    is_kept();
    page.assert_nothing_went_wrong();
}

fn linked(driver: &Driver) {
    let mut shops = Shops::open();
    spoil(&mut shops, 7200..7260);
    let all = shops.get("/api/v1/dead-letters?limit=100").unwrap();
    let oldest = all["letters"].as_array().unwrap().last().unwrap()["id"].as_i64().unwrap();
    let page = shops.page(driver, &format!("#letters?topic=sales&reason=wrong_type&letter={oldest}"));
    page.wait("a letter", "document.querySelector('#letter .letter-message')");
    assert_eq!(page.text(SHOWN), oldest.to_string());
    page.assert_nothing_went_wrong();
}

fn dropped(driver: &Driver) {
    let mut shops = Shops::with_token();
    for number in 0..3 {
        spoilt(&mut shops, 8000 + number);
    }
    shops.send("{ no JSON");
    shops.flush();
    shops.wait_computed();
    let page = shops.page(driver, "#letters?topic=sales&reason=wrong_type");
    page.wait("letters", "document.querySelectorAll('#letter-list button').length === 3");
    page.click("#group-drop");
    page.wait("a question", "document.getElementById('confirm').open");
    page.click("#confirm-no");
    page.wait("no question", "!document.getElementById('confirm').open");
    assert_eq!(letters(&shops.get("/api/v1/dead-letters/groups").unwrap()), 4);
    page.click("#group-drop");
    page.wait("a question", "document.getElementById('confirm').open");
    page.click("#confirm-yes");
    page.wait("dropped", "document.getElementById('result-text').textContent.startsWith('3 dropped')");
    page.wait("the other reason", "document.getElementById('group-title').textContent === 'invalid json'");
    assert_eq!(letters(&shops.get("/api/v1/dead-letters/groups").unwrap()), 1);
    page.assert_nothing_went_wrong();
}

fn dropped_as_counted(driver: &Driver) {
    let mut shops = Shops::with_token();
    spoil(&mut shops, 8050..8053);
    let page = shops.page(driver, "#letters");
    page.wait("letters", "document.querySelectorAll('#letter-list button').length === 3");
    page.click("#group-drop");
    page.wait("a question", "document.getElementById('confirm').open");
    spoil(&mut shops, 8053..8054);
    page.click("#confirm-yes");
    page.wait("dropped", "document.getElementById('result-text').textContent.startsWith('3 dropped')");
    page.wait("the one that came", "document.querySelectorAll('#letter-list button').length === 1");
    assert_eq!(letters(&shops.get("/api/v1/dead-letters/groups").unwrap()), 1);
    page.assert_nothing_went_wrong();
}

fn more(driver: &Driver) {
    let mut shops = Shops::open();
    spoil(&mut shops, 8100..8160);
    let page = shops.page(driver, "#letters");
    page.wait("a page of letters", "document.querySelectorAll('#letter-list button').length === 50");
    // A button that is disabled takes no second click.
    let asked = page.js("const more = document.getElementById('letters-more'); more.click(); return more.disabled");
    assert_eq!(asked, json!(true));
    page.wait("all of them", "document.querySelectorAll('#letter-list button').length === 60");
    page.wait("no more", "document.getElementById('letters-more').hidden");
    page.assert_nothing_went_wrong();
}

fn without_a_token(driver: &Driver) {
    let mut shops = Shops::open();
    spoil(&mut shops, 9000..9001);
    let page = shops.page(driver, "#letters");
    page.wait("a letter", "document.querySelector('#letter .letter-message')");
    page.js("Array.from(document.querySelectorAll('#letter .buttons button')).find((b) => b.textContent === 'Retry').click()");
    page.wait("told why", "document.getElementById('result-text').textContent.includes('token')");
    assert_eq!(letters(&shops.get("/api/v1/dead-letters/groups").unwrap()), 1);
}

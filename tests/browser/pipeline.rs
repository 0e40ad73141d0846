//! The tab Pipeline: the ledger, the actors as a graph, what holds a stream up, and one actor in detail.

use super::Test;
use super::driver::{Driver, Page};
use super::shop::Shops;

pub fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("pipeline_adds_up_the_ledger_and_draws_the_actors", adds_up_and_draws),
        ("pipeline_marks_an_actor_in_trouble_and_tells_each_partitions_lag", marks_trouble),
        ("pipeline_tells_an_actors_counters_settings_and_last_error", tells_an_actor),
    ]
}

/// Clicks the first box of the graph that says so.
fn choose(page: &Page, said: &str) {
    page.js(&format!(
        "Array.from(document.querySelectorAll('#graph [role=button], #graph button'))
           .find((box) => box.textContent.includes('{said}')).dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))"
    ));
}

fn adds_up_and_draws(driver: &Driver) {
    let mut shops = Shops::open();
    for _ in 0..3 {
        shops.send("this is no JSON");
    }
    shops.flush();
    shops.wait_computed();
    let page = shops.page(driver, "#pipeline");
    let records = shops.sales.len();
    page.wait("the ledger", &format!("document.getElementById('sum-applied').textContent === '{records}'"));
    let sums =
        ["advanced", "applied", "duplicates", "dead_letters", "gaps"].map(|name| page.text(&format!("#sum-{name}")));
    assert_eq!(sums, [&format!("{}", records + 3), &format!("{records}"), "0", "3", "0"].map(str::to_owned));
    assert_eq!(page.text("#sign"), "=");
    assert!(page.text("#verdict").starts_with("0 unaccounted"));
    let total = page.js("return Array.from(document.querySelectorAll('.ledger tfoot td.n'), (td) => td.textContent)");
    assert!(total.as_array().unwrap().iter().any(|cell| cell == &serde_json::json!(format!("{}", records + 3))));
    for name in ["consumer", "decoder", "writer", "tables"] {
        page.wait(
            &format!("{name} in the graph"),
            &format!("document.getElementById('graph').textContent.includes('{name}')"),
        );
    }
    // Nothing is held up, and the page says it in a sentence.
    page.wait("a sentence", "document.getElementById('sentences').textContent.startsWith('Nothing holds sales up')");
    page.assert_nothing_went_wrong();
}

fn marks_trouble(driver: &Driver) {
    const WAITING: i64 = 7;
    let mut shops = Shops::open();
    let page = shops.page(driver, "#pipeline");
    let badge = "Array.from(document.querySelectorAll('#graph .node'))
                   .find((box) => box.textContent.includes('writer'))?.querySelector('.badge-text.badge-bad')?.textContent";
    page.wait("the actors", "document.getElementById('graph').textContent.includes('writer')");
    page.wait("no badge", &format!("!({badge})"));
    let hog = shops.hog_the_warehouse();
    let hour = shops.sales[0].sold_at;
    for _ in 0..WAITING {
        shops.sell("north", hour, 1);
    }
    shops.flush();
    page.wait("a badge at the writer", &format!("({badge} || '').startsWith('▲')"));
    page.wait("a mark at the tab", "!document.getElementById('pipeline-badge').hidden");
    choose(&page, "writer");
    page.wait("the cause", "document.getElementById('detail-body').textContent.includes('database is locked')");
    // The topic's box has the partitions, those that wait and those that do not.
    choose(&page, "sales");
    page.wait("its detail", "document.getElementById('detail-body').textContent.includes('Lag per partition')");
    let lags = format!("partition 0{WAITING}partition 10");
    page.wait(
        "each partition's lag",
        &format!("document.getElementById('detail-body').textContent.includes('{lags}')"),
    );
    drop(hog);
    shops.wait_computed();
    page.wait("no badge any more", &format!("!({badge}) && document.getElementById('pipeline-badge').hidden"));
    page.wait("no lag", "document.getElementById('detail-body').textContent.includes('partition 00partition 10')");
    page.assert_nothing_went_wrong();
}

fn tells_an_actor(driver: &Driver) {
    let shops = Shops::open();
    let page = shops.page(driver, "#pipeline");
    page.wait("boxes", "Array.from(document.querySelectorAll('#graph [role=button], #graph button')).length > 0");
    choose(&page, "writer");
    page.wait("its detail", "document.getElementById('detail-title').textContent === 'writer of sales'");
    page.wait(
        "counters of /metrics",
        "document.getElementById('detail-body').textContent.includes('Counters since the start')",
    );
    let text = page.text("#detail-body");
    let settings = ["Settings", "max batch records", "sale (update)"];
    let figures = ["records per second", "busy, of the last minute", "writer-0", "none since the start"];
    for told in figures.into_iter().chain(settings) {
        assert!(text.contains(told), "{told} is not in {text}");
    }
    page.click("#detail-close");
    page.wait("closed", "document.getElementById('detail').hidden");
    page.assert_nothing_went_wrong();
}

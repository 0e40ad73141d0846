//! The tab Pipeline: the ledger, the actors as a graph, what holds a stream up, and one actor in detail.

use super::Test;
use super::driver::Driver;
use super::shop::Shops;

pub fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("pipeline_adds_up_the_ledger_and_draws_the_actors", adds_up_and_draws),
        ("pipeline_tells_an_actors_counters_settings_and_last_error", tells_an_actor),
    ]
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

fn tells_an_actor(driver: &Driver) {
    let shops = Shops::open();
    let page = shops.page(driver, "#pipeline");
    page.wait("boxes", "Array.from(document.querySelectorAll('#graph [role=button], #graph button')).length > 0");
    page.js(
        "Array.from(document.querySelectorAll('#graph [role=button], #graph button'))
           .find((box) => box.textContent.includes('writer')).dispatchEvent(new MouseEvent('click', { bubbles: true }))",
    );
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

//! What holds on every tab: dark and light, a phone's width, text from elsewhere that stays text, and how little is loaded.

use chrono::{DurationRound, TimeDelta, Utc};
use serde_json::{Value, json};

use super::Test;
use super::driver::{Driver, Page};
use super::shop::{Sale, Shops};

pub fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("dark_and_light_follow_the_system_or_the_reader", dark_and_light),
        ("no_tab_scrolls_sideways_on_a_phone", fits_a_phone),
        ("markup_in_records_is_shown_as_text", markup_stays_text),
        ("a_first_load_weighs_less_than_150_kib", loads_little),
        ("every_tab_is_reached_and_used_by_keyboard", by_keyboard),
    ]
}

const TABS: [&str; 5] = ["live", "explore", "models", "pipeline", "letters"];

/// How bright what is behind the text is, and the text, 0 to 255.
fn brightness(page: &Page) -> (f64, f64) {
    let told = page.js(
        "const style = getComputedStyle(document.querySelector('.card') ?? document.body);
         const of = (colour) => { const c = document.createElement('canvas').getContext('2d'); c.fillStyle = colour;
           c.fillRect(0, 0, 1, 1); const [r, g, b] = c.getImageData(0, 0, 1, 1).data; return 0.299 * r + 0.587 * g + 0.114 * b; };
         return [of(style.backgroundColor), of(style.color)];",
    );
    (told[0].as_f64().unwrap(), told[1].as_f64().unwrap())
}

/// The charts' own colours, which no style sheet sets.
fn chart_colours(page: &Page) -> Value {
    page.js("return Array.from(document.querySelectorAll('.panel-line .swatch line'), (line) => line.getAttribute('stroke'))")
}

fn dark_and_light(driver: &Driver) {
    let shops = Shops::open();
    let page = driver.page();
    page.prefer("light");
    page.open(&shops.url("#live"));
    page.wait("a chart", "document.querySelector('.panel-line canvas')");
    let (behind, text) = brightness(&page);
    assert!(behind > 200.0 && text < 90.0, "light: {text} on {behind}");
    let in_light = chart_colours(&page);
    page.prefer("dark");
    page.wait("other colours", &format!("JSON.stringify(Array.from(document.querySelectorAll('.panel-line .swatch line'), (l) => l.getAttribute('stroke'))) !== {}", json!(in_light.to_string())));
    let (behind, text) = brightness(&page);
    assert!(behind < 70.0 && text > 170.0, "dark: {text} on {behind}");
    // The reader's choice holds against the system's, and after a reload.
    let press = |wanted: &str| {
        for _ in 0..3 {
            if page.js("return document.documentElement.dataset.theme ?? 'system'") == json!(wanted) {
                return;
            }
            page.click("#theme");
        }
        panic!("no {wanted} among the choices");
    };
    press("light");
    page.reload();
    page.wait("a chart", "document.querySelector('.panel-line canvas')");
    let (behind, _) = brightness(&page);
    assert!(behind > 200.0, "light was chosen");
    press("dark");
    page.prefer("light");
    let (behind, _) = brightness(&page);
    assert!(behind < 70.0, "dark was chosen");
    page.assert_nothing_went_wrong();
}

fn fits_a_phone(driver: &Driver) {
    let mut shops = Shops::open();
    shops.send(&format!("{{\"sold_at\": 1, \"note\": \"{}\"}}", "long".repeat(200)));
    shops.flush();
    shops.wait_computed();
    let page = driver.page();
    page.size(390, 844);
    page.open(&shops.url("#live"));
    page.wait("a chart", "document.querySelector('.panel-line canvas')");
    for tab in TABS {
        page.click(&format!("#tab-of-{tab}"));
        let there = match tab {
            "live" => "document.querySelector('#rows tbody tr')",
            "explore" => "document.querySelector('.explore-chart canvas')",
            "models" => "document.querySelector('#models-told .notice')",
            "pipeline" => "document.querySelector('.ledger tbody tr')",
            _ => "document.querySelector('#letter .letter-message')",
        };
        page.wait(&format!("{tab} there"), there);
        let wide = page.js(
            "return [document.documentElement.scrollWidth, innerWidth,
               Array.from(document.querySelectorAll('main *')).filter((e) => e.getClientRects().length > 0
                 && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, svg, .plot, pre, .graph-host'))
                 .slice(0, 5).map((e) => e.tagName + '.' + e.className)]",
        );
        assert!(wide[0].as_f64() <= wide[1].as_f64(), "{tab} scrolls sideways: {wide}");
        assert_eq!(wide[2], json!([]), "{tab}: beyond the edge");
        // What is pressed is large enough for a finger.
        let small = page.js(
            "return Array.from(document.querySelectorAll('.tabs button, #theme')).map((b) => b.getBoundingClientRect())
               .filter((box) => box.height < 32).length",
        );
        assert_eq!(small, json!(0), "{tab}");
    }
    page.assert_nothing_went_wrong();
}

fn markup_stays_text(driver: &Driver) {
    const MARKUP: &str = "<img src=x onerror=\"window.pwned=1\">";
    const SCRIPT: &str = "</td><script>window.pwned=2</script>";
    let mut shops = Shops::open();
    let at = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap() - TimeDelta::hours(1);
    let number = shops.sales.len() as i64;
    let sale = Sale { sold_at: at, number, shop: MARKUP.to_owned(), amount: 9999, note: Some(SCRIPT.to_owned()) };
    shops.send_sale(sale.clone());
    let spoilt = json!({ "sold_at": at, "number": MARKUP, "shop": SCRIPT, "amount": 1, MARKUP: MARKUP });
    shops.send(&spoilt.to_string());
    shops.flush();
    shops.wait_computed();
    let page = shops.page(driver, "#live");
    let shown = |what: &str, text: &str| {
        page.wait(what, &format!("document.querySelector('main').innerText.includes({})", json!(text)));
    };
    // Of what comes while the page is open, too.
    shops.send_sale(Sale { number: number + 1, ..sale.clone() });
    shops.flush();
    page.wait("the row", &format!("document.getElementById('rows').textContent.includes({})", json!(SCRIPT)));
    shown("the shop in a panel", MARKUP);
    page.click("#records summary");
    page.wait("fields", &format!("document.querySelector('#records .fields').textContent.includes({})", json!(SCRIPT)));
    page.click("#tab-of-explore");
    page.wait(
        "a line of its own",
        &format!("document.querySelector('.explore-chart .legend')?.textContent.includes({})", json!(MARKUP)),
    );
    page.click("#tab-of-pipeline");
    page.wait(
        "the field's name",
        &format!("document.getElementById('streams').textContent.includes({})", json!(MARKUP)),
    );
    page.click("#tab-of-letters");
    page.wait("the payload", "document.querySelector('#letter .payload')?.textContent.includes('onerror')");
    let found = page.js(
        "return [window.pwned ?? null, document.querySelectorAll('img:not([src^=\"/static/\"]), main script').length]",
    );
    assert_eq!(found, json!([null, 0]));
    page.assert_nothing_went_wrong();
}

fn loads_little(driver: &Driver) {
    let shops = Shops::open();
    let page = shops.page(driver, "#live");
    let weights = page.js(
        "return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))
           .filter((e) => e.name.includes('/static/') || e.entryType === 'navigation').map((e) => [e.name, e.transferSize])",
    );
    let weights: Vec<(String, u64)> = serde_json::from_value(weights).unwrap();
    let sum: u64 = weights.iter().map(|(_, bytes)| bytes).sum();
    assert!(weights.len() > 30, "all files are there: {weights:#?}");
    assert!(sum < 150 << 10, "{sum} bytes over the wire: {weights:#?}");
    let elsewhere = page.js(
        "return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith(location.origin)).length",
    );
    assert_eq!(elsewhere, json!(0));
    println!("a first load: {sum} bytes in {} files, headers too", weights.len());
}

fn by_keyboard(driver: &Driver) {
    use fantoccini::key::Key;
    let shops = Shops::open();
    let page = shops.page(driver, "#live");
    page.js("document.getElementById('tab-of-live').focus()");
    for next in ["explore", "pipeline", "letters"] {
        page.key(".tabs [aria-selected=true]", Key::Right);
        page.wait(
            next,
            &format!("document.activeElement.id === 'tab-of-{next}' && !document.getElementById('tab-{next}').hidden"),
        );
    }
    page.js("document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '2', bubbles: true }))");
    page.wait("Explore by its number", "location.hash.startsWith('#explore')");
    page.wait("a chart", "document.querySelector('.explore-chart canvas')");
    page.key(".explore-chart .plot", Key::End);
    page.wait("what is said", "document.getElementById('announce').textContent.includes('north')");
    page.js("document.querySelector('.explore-chart .plot').dispatchEvent(new KeyboardEvent('keydown', { key: '+', bubbles: true }))");
    page.wait("zoomed", "location.hash.includes('from=')");
    page.key(".explore-chart .plot", Key::Escape);
    page.wait("zoomed out", "!location.hash.includes('from=')");
    page.assert_nothing_went_wrong();
}

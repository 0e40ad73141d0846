//! The tab Models: a forecast against the truth, its errors, its versions, and what is said where there is none.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Test;
use super::chart::{Figures, figures, inked, place};
use super::driver::{Driver, Page};
use super::shop::{LATER_HOURS, Shops};

pub fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("models_says_what_to_do_where_nothing_is_forecast", says_what_to_do),
        ("models_draws_forecasts_beside_the_truth", draws_forecasts),
        ("models_zooms_and_the_address_brings_the_view_back", zooms_and_is_restored),
        ("models_shows_each_version_and_one_in_detail", shows_versions),
        ("models_shows_the_newest_comparison_of_frameworks", shows_comparison),
    ]
}

const CHART: &str = "#models-pair";

/// With a model that forecast the last two days, and what came then.
fn trained() -> Shops {
    let mut shops = Shops::with_forecast();
    train(&shops);
    shops.sell_tides(1..LATER_HOURS + 1);
    shops.wait("all that was forecast scored", "/api/v1/forecasts", |told| {
        let forecast = &told["forecasts"][0];
        let scored = |horizon: usize| forecast["horizons"][horizon]["live"]["scored"].as_u64();
        forecast["champion"] == 1 && scored(0) >= Some(90) && scored(1) >= Some(90)
    });
    // What dashboards and rules ask for, and no daemon tells that has no model.
    let told = shops.text("/metrics").unwrap();
    for family in ["drifted", "holdout_mae", "live_mae", "window_scored"].map(|name| format!("bief_forecast_{name}{{"))
    {
        assert!(told.lines().any(|line| line.starts_with(&family)), "{family} is not in {told}");
    }
    shops
}

fn train(shops: &Shops) {
    shops.command(&["train"]);
}

fn open(driver: &Driver, shops: &Shops, hash: &str) -> Page {
    let page = shops.page(driver, hash);
    page.wait("a chart", "document.querySelector('#models-plot canvas')");
    page
}

fn documents(shops: &Shops, horizon: &str, shop: &str) -> Vec<Value> {
    let path = format!("/api/v1/forecasts/takings/documents?horizon={horizon}&key.shop={shop}&limit=5000");
    shops.get(&path).unwrap()["documents"].as_array().unwrap().clone()
}

fn moment(document: &Value) -> DateTime<Utc> {
    document["at"].as_str().unwrap().parse().unwrap()
}

/// That the table shows each of the documents' numbers, and nothing else but what may have come since they were read.
fn assert_shown(shown: &Figures, documents: &[Value]) {
    let last = documents.iter().map(moment).max().unwrap();
    let of = |document: &Value| {
        let at = moment(document);
        let known = ["truth", "forecast", "error", "low", "high"].map(|name| (name, document[name].as_f64()));
        known.into_iter().filter_map(move |(name, number)| Some(((at, name.to_owned()), number?))).collect::<Vec<_>>()
    };
    let expected: Figures = documents.iter().flat_map(of).collect();
    let shown: Figures = shown.iter().filter(|((at, _), _)| *at <= last).map(|(what, n)| (what.clone(), *n)).collect();
    assert_eq!(shown.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (what, number) in expected {
        let off = (shown[&what] - number).abs();
        assert!(off <= 0.005 * number.abs() + 0.05, "{what:?}: {number} is shown as {}", shown[&what]);
    }
}

fn says_what_to_do(driver: &Driver) {
    let without = Shops::open();
    let page = without.page(driver, "#models");
    page.wait("no forecast", "document.getElementById('models-told').innerText.includes('[[forecast]]')");
    page.assert_nothing_went_wrong();
    drop(without);

    let untrained = Shops::with_forecast();
    let page = untrained.page(driver, "#models");
    page.wait("no model", "document.getElementById('models-chart-told').innerText.includes('bief train')");
    page.wait("no version", "document.getElementById('models-versions-body').innerText.includes('bief train')");
    page.assert_nothing_went_wrong();
}

fn draws_forecasts(driver: &Driver) {
    let shops = trained();
    let (north, south) = (documents(&shops, "1h", "north"), documents(&shops, "3h", "south"));
    let page = open(driver, &shops, "#models?forecast=takings&horizon=1h&range=all&key.shop=north");
    let newest = shops.hours().keys().map(|(at, _)| *at).max().unwrap();
    assert!(moment(north.last().unwrap()) > newest, "the hour that is not over is forecast");
    // The truth is what was sold.
    let hours = shops.hours();
    for document in north.iter().filter(|document| !document["truth"].is_null()) {
        assert_eq!(document["truth"].as_f64(), Some(hours[&(moment(document), "north".to_owned())].1 as f64));
    }
    assert_shown(&figures(&page, CHART), &north);
    assert!(inked(&page, "#models-plot canvas") > 2000);

    // Its errors: each horizon has its card, with the holdout's error as the daemon has it.
    let told = shops.get("/api/v1/forecasts").unwrap();
    for (at, horizon) in told["forecasts"][0]["horizons"].as_array().unwrap().iter().enumerate() {
        let card = page.text(&format!("#models-horizon-cards .horizon:nth-child({})", at + 1));
        let ahead = horizon["horizon"].as_str().unwrap().replace('h', " h ahead");
        let holdout = &horizon["holdout"];
        let naive = holdout["beside"].as_array().unwrap().iter().filter_map(|one| one["score"]["mae"].as_f64());
        let is_better = holdout["score"]["mae"].as_f64().unwrap() < naive.fold(f64::MAX, f64::min);
        let judged = if is_better { "less error than the best naive one" } else { "no better than the naive one" };
        assert!(card.contains(&ahead) && card.contains(judged), "{card}");
    }

    // Another horizon and another shop.
    page.click("#models-horizons button:nth-child(2)");
    page.wait("three hours", "location.hash.includes('horizon=3h')");
    page.js(
        "const s = document.getElementById('models-key'); s.selectedIndex = 1; s.dispatchEvent(new Event('change'));",
    );
    page.wait("the other shop", "location.hash.includes('south')");
    page.wait("its chart", "document.getElementById('models-chart-note').innerText.startsWith('south, 3 h ahead')");
    assert_shown(&figures(&page, CHART), &south);
    page.assert_nothing_went_wrong();
}

fn zooms_and_is_restored(driver: &Driver) {
    let shops = trained();
    let page = open(driver, &shops, "#models?forecast=takings&horizon=1h&range=7d&key.shop=north");
    let whole = figures(&page, CHART);
    let [left, top, width, height] = place(&page, "#models-plot .u-over");
    let middle = top + 0.5 * height;
    page.mouse(&[(left + 0.75 * width, middle), (left + 0.8 * width, middle), (left + 0.9 * width, middle)], true);
    page.wait("zoomed", "location.hash.includes('from=')");
    let (hash, zoomed) = (page.js("return location.hash"), figures(&page, CHART));
    assert!(!zoomed.is_empty() && zoomed.len() < whole.len(), "{} of {} are left", zoomed.len(), whole.len());
    page.reload();
    page.wait("a chart again", "document.querySelector('#models-plot canvas')");
    assert_eq!(page.js("return location.hash"), hash);
    assert_eq!(figures(&page, CHART), zoomed);
    page.click("#models-reset");
    page.wait("zoomed out", "!location.hash.includes('from=')");
    assert_eq!(figures(&page, CHART), whole);
    page.assert_nothing_went_wrong();
}

/// The stored one of the documentation, but for a framework that is not there.
fn shows_comparison(driver: &Driver) {
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/comparison.json");
    let mut stored: Value = serde_json::from_str(&std::fs::read_to_string(stored).unwrap()).unwrap();
    let absent = &mut stored["frameworks"][2];
    assert_eq!(absent["framework"], "scikit-learn");
    absent["absent"] = "not installed; bief compare --setup installs it".into();
    absent["complexity"]["install_bytes"] = Value::Null;
    stored["runs"].as_array_mut().unwrap().retain(|run| run["framework"] != "scikit-learn");

    let shops = Shops::with_forecast();
    shops.store_comparison(&stored);
    let page = shops.page(driver, "#models");
    page.wait("both tables", "document.querySelectorAll('#comparison-body table').length === 2");
    let shown = page.text("#comparison-body");
    for run in stored["runs"].as_array().unwrap() {
        assert!(shown.contains(run["framework"].as_str().unwrap()), "{shown}");
    }
    let cells = |framework: &str| {
        page.js(&format!(
            "const tables = document.querySelectorAll('#comparison-body table'); \
             const row = [...tables[1].tBodies[0].rows].find((one) => one.cells[0].innerText === '{framework}'); \
             return [...row.cells].slice(3).map((cell) => cell.innerText).join(' | ')"
        ))
    };
    assert_eq!(cells("linfa"), "in the binary | none | nothing: a part of bief");
    let spark = cells("spark-mllib");
    assert!(spark.as_str().unwrap().contains("solver=normal"), "{spark}");
    let missing = cells("scikit-learn");
    let missing = missing.as_str().unwrap();
    assert!(missing.starts_with("– | – | ") && missing.contains("absent: not installed"), "{missing}");
    page.assert_nothing_went_wrong();
}

fn shows_versions(driver: &Driver) {
    let shops = trained();
    train(&shops);
    let page = open(driver, &shops, "#models?forecast=takings");
    page.wait("two versions", "document.querySelectorAll('table.versions tbody tr').length === 2");
    let models = shops.get("/api/v1/models?forecast=takings").unwrap();
    for (at, model) in models["models"].as_array().unwrap().iter().enumerate() {
        // Whether the second wins is up to the hour at which the tides end.
        let stands = match (model["champion"] == true, model["promoted_at"].is_null()) {
            (true, _) => "champion",
            (false, false) => "was champion",
            (false, true) => "not promoted",
        };
        let row = format!("table.versions tbody tr:nth-child({})", at + 1);
        // The page may have read an older answer of who forecasts, and asks again.
        page.wait(stands, &format!("document.querySelector('{row} td').innerText === '{stands}'"));
        let row = page.text(&row);
        assert!(row.contains(&model["version"].to_string()), "{model:#} is shown as {row}");
        assert!(row.contains(&model["input_hash"].as_str().unwrap()[..12]), "{row}");
    }
    // The older one in detail.
    page.click("table.versions tbody tr:nth-child(2) button");
    page.wait("its detail", "document.querySelector('.version-detail h3').innerText === 'Version 1'");
    let detail = page.text(".version-detail");
    assert!(detail.contains("persistence") && detail.contains("covered by the 80 % interval"), "{detail}");
    page.assert_nothing_went_wrong();
}

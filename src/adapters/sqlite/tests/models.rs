//! Versions of models: which one forecasts, and how far lists can be read.

use std::time::{Duration, Instant};

use super::support::{Fixture, now};
use crate::adapters::warehouse;
use crate::core::forecast::model::Range;
use crate::core::forecast::testing::{panel, spec};
use crate::core::forecast::{ModelVersion, Training, train};
use crate::ports::models::{ModelChange, Models, Promoted};

async fn models(fixture: &Fixture) -> Box<dyn Models> {
    (warehouse::open_models(&fixture.settings))().await.unwrap()
}

fn trained() -> ModelVersion {
    let spec = spec();
    let panel = panel(&spec, &["a", "b"], 24 * 40, |shop, hour| ((hour * 3 + shop as i64) % 24) as f64);
    train(&spec, &panel, &Training { version: 9, at: now(), code_version: "1.2.3", threads: 1 }).unwrap()
}

fn change() -> ModelChange {
    ModelChange { at: now(), daemon: "bief".to_owned(), peer: "test".to_owned(), reason: "better".to_owned() }
}

#[tokio::test]
async fn a_version_comes_back_as_it_was_put_down_under_the_next_number() {
    let fixture = Fixture::new().await;
    let models = models(&fixture).await;
    let model = trained();
    assert_eq!(models.put(&model, "the first").await.unwrap(), 1);
    assert_eq!(models.put(&model, "another").await.unwrap(), 2);
    let stored = models.get("sales", 2).await.unwrap().unwrap();
    // JSON keeps all digits but the last.
    let json = serde_json::to_string(&ModelVersion { version: 2, ..model.clone() }).unwrap();
    assert_eq!(stored.model, serde_json::from_str(&json).unwrap());
    assert_eq!((stored.head.version, stored.head.verdict.as_str(), stored.head.champion), (2, "another", false));
    assert_eq!(stored.head.horizons.len(), model.scores().len());
    assert_eq!(stored.head.data, Range { from: model.data.from, to: model.data.to });
    assert_eq!(models.get("sales", 3).await.unwrap(), None);
    assert_eq!(models.champion("sales").await.unwrap(), None);
}

#[tokio::test]
async fn the_champion_is_the_one_promoted_last_and_a_promotion_can_be_taken_back() {
    let fixture = Fixture::new().await;
    let models = models(&fixture).await;
    let model = trained();
    for _ in 0..3 {
        models.put(&model, "").await.unwrap();
    }
    let champion = async || models.champion("sales").await.unwrap().map(|head| head.version);
    let promoted = models.promote("sales", 3, &change()).await.unwrap();
    assert_eq!(promoted, Some(Promoted { version: 3, before: None }));
    // At the same moment by the clock.
    assert_eq!(models.promote("sales", 1, &change()).await.unwrap(), Some(Promoted { version: 1, before: Some(3) }));
    assert_eq!(champion().await, Some(1));
    assert_eq!(models.promote("sales", 7, &change()).await.unwrap(), None);
    assert_eq!(models.promote("others", 1, &change()).await.unwrap(), None);
    let listed = models.list("sales", None, 10).await.unwrap();
    let told: Vec<_> = listed.iter().map(|head| (head.version, head.champion, head.promoted_at.is_some())).collect();
    assert_eq!(told, [(3, false, true), (2, false, false), (1, true, true)]);
    assert_eq!(models.rollback("sales", &change()).await.unwrap(), Some(Promoted { version: 3, before: Some(1) }));
    assert_eq!(champion().await, Some(3));
    assert_eq!(models.rollback("sales", &change()).await.unwrap(), None);
    assert_eq!(champion().await, Some(3));
    let entries = (warehouse::open_letter_reader(&fixture.settings))().await.unwrap().audit_entries(None, 10).await;
    let actions: Vec<String> = entries.unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["rollback", "promote", "promote"]);
}

#[tokio::test]
async fn ten_thousand_versions_are_listed_page_by_page_and_quickly() {
    let fixture = Fixture::new().await;
    let models = models(&fixture).await;
    models.put(&trained(), "").await.unwrap();
    fixture
        .sql(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
             INSERT INTO bief_model SELECT forecast, i, trained_at, code_version, input_hash, data_from, data_to, \
             trained_at, verdict, scores, model FROM bief_model, n WHERE version = 1",
        )
        .await;
    let began = Instant::now();
    let (mut below, mut seen) = (None, 0);
    loop {
        let page = models.list("sales", below, 100).await.unwrap();
        let Some(last) = page.last() else { break };
        assert_eq!(page[0].version, 10_000 - seen, "without a hole");
        seen += page.len() as u64;
        below = Some(last.version);
    }
    assert_eq!(seen, 10_000);
    assert_eq!(models.champion("sales").await.unwrap().unwrap().version, 10_000);
    // A hundred pages; a machine that does much else must not fail it.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

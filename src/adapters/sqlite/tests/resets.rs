//! Offsets set by an operator: the ledger closes afterwards, nothing that it said is lost, and whoever held the
//! partition is fenced.

use super::support::{Fixture, claim, now, step};
use crate::adapters::warehouse;
use crate::core::outcome::Counts;
use crate::core::reset::{Change, Step};
use crate::messages::OffsetMove;
use crate::ports::{Bookkeeping, PartitionCounts, PartitionOffset, WarehouseError};

/// Partition 0 of `orders`, read from 0 to 100: 80 applied, 7 duplicates, 3 dead letters, gaps 10-14 and 50-54.
async fn read_to_100(fixture: &Fixture) -> Box<dyn Bookkeeping> {
    let books = fixture.bookkeeping().await;
    books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    let mut warehouse = fixture.warehouse().await;
    warehouse.begin().await.unwrap();
    let read = OffsetMove { gaps: vec![10..15, 50..55], ..step(0, 1, 0, 100) };
    warehouse.advance("orders", &[read]).await.unwrap();
    let counts = Counts { applied: 80, duplicates: 7, dead_letters: 3, gaps: 10 };
    warehouse.count("orders", &[PartitionCounts { partition: 0, counts }], now()).await.unwrap();
    warehouse.commit().await.unwrap();
    for offset in [20, 60, 61] {
        fixture
            .sql(&format!(
                "INSERT INTO bief_dead_letter (topic, partition_id, record_offset, reason, message, stored_at) \
                 VALUES ('orders', 0, {offset}, 'check', 'no', '2026-01-31 00:00:00.000000')"
            ))
            .await;
    }
    books
}

fn reset_to(change: Change, to: i64) -> (Step, i64) {
    let topic_id = if change == Change::Anew { "id2" } else { "id" };
    let lost = (change == Change::Skip).then_some(to - 100);
    (Step { partition: 0, change, from: 100, to, begins_at: to, lost, topic_id: topic_id.to_owned() }, 1)
}

fn forget(at: i64) -> Step {
    Step { partition: 0, change: Change::Forget, from: at, to: at, begins_at: at, lost: None, topic_id: "id2".into() }
}

async fn ledger(books: &dyn Bookkeeping) -> PartitionOffset {
    let mut ledger = books.ledger("orders").await.unwrap();
    let offset = ledger.offsets.remove(0);
    let gaps: i64 = ledger.gaps.values().flatten().map(|g| g.end - g.start).sum();
    let letters = ledger.dead_letters.get(&0).copied().unwrap_or(0);
    assert_eq!((offset.counts.gaps, offset.counts.dead_letters), (gaps, letters));
    assert_eq!(offset.next_offset - offset.start_offset, Counts::from(offset.counts).total());
    offset
}

#[tokio::test]
async fn what_is_passed_over_is_a_gap_that_is_told_as_accepted() {
    let fixture = Fixture::new().await;
    let books = read_to_100(&fixture).await;
    books.reset("orders", &[reset_to(Change::Skip, 140)], now()).await.unwrap();
    let offset = ledger(&*books).await;
    assert_eq!((offset.next_offset, offset.epoch, offset.counts.gaps), (140, 2, 50));
    let losses = books.ledger("orders").await.unwrap().losses;
    assert_eq!(
        losses.iter().map(|l| (l.first_offset, l.offsets, l.of_former_log)).collect::<Vec<_>>(),
        [(100, Some(40), false)]
    );
    assert_eq!(losses[0].accepted_at, now());
}

#[tokio::test]
async fn what_is_read_again_is_decided_anew_and_the_ledger_closes() {
    let fixture = Fixture::new().await;
    let books = read_to_100(&fixture).await;
    books.reset("orders", &[reset_to(Change::Rewind, 52)], now()).await.unwrap();
    let offset = ledger(&*books).await;
    assert_eq!((offset.next_offset, offset.epoch), (52, 2));
    assert_eq!((offset.counts.dead_letters, offset.counts.gaps), (1, 7));
    assert_eq!(books.ledger("orders").await.unwrap().gaps[&0], [10..15, 50..52]);
    assert_eq!(
        fixture.query("SELECT record_offset FROM bief_dead_letter WHERE topic = 'orders@1'").await,
        ["60", "61"]
    );
    assert_eq!(fixture.query("SELECT ranges FROM bief_gap WHERE topic = 'orders@1'").await, ["52-54"]);
    assert_eq!(books.ledger("orders").await.unwrap().losses, []);
    // The same gap again.
    let mut warehouse = fixture.warehouse().await;
    warehouse.begin().await.unwrap();
    let gap = OffsetMove { gaps: vec![52..55], ..step(0, 2, 52, 55) };
    warehouse.advance("orders", &[gap]).await.unwrap();
    let counts = Counts { gaps: 3, ..Counts::default() };
    warehouse.count("orders", &[PartitionCounts { partition: 0, counts }], now()).await.unwrap();
    warehouse.commit().await.unwrap();
    assert_eq!(ledger(&*books).await.next_offset, 55);
}

#[tokio::test]
async fn a_letter_that_was_dropped_goes_with_the_ledger_that_counts_it() {
    for (change, to, left) in
        [(Change::Rewind, 52, vec![]), (Change::Rewind, 61, vec![(0, 1)]), (Change::Anew, 5, vec![])]
    {
        let fixture = Fixture::new().await;
        let books = read_to_100(&fixture).await;
        let keys = fixture.query("SELECT id FROM bief_dead_letter WHERE record_offset = 60").await;
        let mut desk = warehouse::open_letter_warehouse(&fixture.settings)().await.unwrap();
        desk.begin().await.unwrap();
        desk.drop_letters(&[keys[0].parse().unwrap()], now()).await.unwrap();
        desk.commit().await.unwrap();
        books.reset("orders", &[reset_to(change, to)], now()).await.unwrap();
        let ledger = books.ledger("orders").await.unwrap();
        let dropped: Vec<(i32, i64)> = ledger.dropped.into_iter().collect();
        assert_eq!(dropped, left, "{change:?} to {to}");
        let stored = ledger.dead_letters.get(&0).copied().unwrap_or(0);
        let counted = ledger.offsets[0].counts.dead_letters;
        assert_eq!(counted, stored + left.iter().map(|(_, n)| n).sum::<i64>(), "{change:?} to {to}");
    }
}

#[tokio::test]
async fn another_log_has_a_ledger_of_its_own_and_the_former_one_is_kept_whole() {
    let fixture = Fixture::new().await;
    let books = read_to_100(&fixture).await;
    books.reset("orders", &[reset_to(Change::Anew, 5)], now()).await.unwrap();
    let offset = ledger(&*books).await;
    assert_eq!((offset.start_offset, offset.next_offset, offset.epoch, offset.topic_id.as_str()), (5, 5, 2, "id2"));
    let former = fixture.query("SELECT next_offset, applied, gaps FROM bief_offset WHERE topic = 'orders@1'").await;
    assert_eq!(former, ["100|80|10"]);
    assert_eq!(fixture.query("SELECT COUNT(*) FROM bief_dead_letter WHERE topic = 'orders@1'").await, ["3"]);
    let losses = books.ledger("orders").await.unwrap().losses;
    assert_eq!(
        losses.iter().map(|l| (l.first_offset, l.offsets, l.of_former_log)).collect::<Vec<_>>(),
        [(100, None, true)]
    );
    // And once more.
    books.reset("orders", &[(forget(5), 2)], now()).await.unwrap();
    assert_eq!(books.offsets(Some("orders")).await.unwrap(), []);
    assert_eq!(books.ledger("orders").await.unwrap().losses.len(), 2);
}

#[tokio::test]
async fn a_partition_that_comes_back_goes_on_from_the_epochs_of_its_former_logs() {
    let fixture = Fixture::new().await;
    let books = read_to_100(&fixture).await;
    books.reset("orders", &[(forget(100), 1)], now()).await.unwrap();
    // Another topic's former log, and another partition's, are nothing to it.
    fixture
        .sql(
            "INSERT INTO bief_offset (topic, partition_id, topic_id, epoch, start_offset, next_offset, applied, \
             duplicates, dead_letters, gaps, updated_at) VALUES \
             ('orders.v2@9', 0, '', 9, 0, 0, 0, 0, 0, 0, '2026-01-31 00:00:00.000000'), \
             ('orders@8', 1, '', 8, 0, 0, 0, 0, 0, 0, '2026-01-31 00:00:00.000000')",
        )
        .await;
    let claimed = books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    assert_eq!((claimed[0].epoch, claimed[0].next_offset), (2, 0));
    books.reset("orders", &[(forget(0), 2)], now()).await.unwrap();
    assert_eq!(books.claim("orders", &[claim(0, 0)], now()).await.unwrap()[0].epoch, 3);
    let former = fixture.query("SELECT topic FROM bief_offset WHERE partition_id = 0 ORDER BY topic").await;
    assert_eq!(former, ["orders", "orders.v2@9", "orders@1", "orders@2"]);
}

#[tokio::test]
async fn what_is_passed_over_of_another_log_is_an_accepted_gap() {
    let fixture = Fixture::new().await;
    let books = read_to_100(&fixture).await;
    let (latest, epoch) = reset_to(Change::Anew, 1_005);
    books.reset("orders", &[(Step { begins_at: 5, ..latest }, epoch)], now()).await.unwrap();
    let offset = ledger(&*books).await;
    assert_eq!((offset.start_offset, offset.next_offset, offset.counts.gaps), (5, 1_005, 1_000));
    let losses = books.ledger("orders").await.unwrap().losses;
    assert_eq!(
        losses.iter().map(|l| (l.first_offset, l.offsets, l.of_former_log)).collect::<Vec<_>>(),
        [(5, Some(1_000), false), (100, None, true)]
    );
}

#[tokio::test]
async fn a_partition_that_has_moved_is_not_reset_and_a_reset_fences_its_holder() {
    let fixture = Fixture::new().await;
    let books = read_to_100(&fixture).await;
    let (step_to, _) = reset_to(Change::Skip, 140);
    for stale in [(step_to.clone(), 2), (Step { from: 99, ..step_to.clone() }, 1)] {
        let error = books.reset("orders", &[stale], now()).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Fenced { partition: 0, .. }), "{error:?}");
    }
    assert_eq!(ledger(&*books).await.next_offset, 100);
    books.reset("orders", &[(step_to, 1)], now()).await.unwrap();
    let mut warehouse = fixture.warehouse().await;
    warehouse.begin().await.unwrap();
    let error = warehouse.advance("orders", &[step(0, 1, 100, 101)]).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fenced { .. }), "{error:?}");
    warehouse.abandon();
}

#[tokio::test]
async fn a_claim_fills_in_the_topics_id_where_there_was_none() {
    let fixture = Fixture::new().await;
    let books = read_to_100(&fixture).await;
    fixture.sql("UPDATE bief_offset SET topic_id = ''").await;
    let claimed = books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    assert_eq!(claimed[0].topic_id, "id");
}

//! Offsets, counters, gaps and dead letters; fencing and claims between connections.

use std::sync::Arc;
use std::time::Duration;

use super::support::{Fixture, claim, now, step, t, write};
use crate::core::outcome::{Counts, Reason, Rejection};
use crate::core::target::OnConflict;
use crate::messages::{DeadLetter, OffsetMove};
use crate::ports::{CountsView, DeadLetterFilter, PartitionCounts, WarehouseError};

fn letter(partition: i32, offset: i64, reason: Reason) -> DeadLetter {
    DeadLetter {
        topic: Arc::from("orders"),
        partition,
        offset,
        timestamp: 1_357_016_400_123,
        key: Some(vec![1, 0, 255]),
        payload: Some(b"{\"a\":\xff}".to_vec()),
        rejection: Rejection { reason, field: Some("a".to_owned()), message: "no \u{1F600} number".to_owned() },
    }
}

#[tokio::test]
async fn a_claim_gives_a_row_to_the_unknown_and_a_higher_epoch_to_the_known_in_the_order_asked() {
    let fixture = Fixture::new().await;
    let books = fixture.bookkeeping().await;
    let first = books.claim("orders", &[claim(2, 40)], now()).await.unwrap();
    assert_eq!((first[0].epoch, first[0].start_offset, first[0].next_offset), (1, 40, 40));
    assert_eq!((first[0].topic_id.as_str(), first[0].updated_at), ("id", now()));
    let both = books.claim("orders", &[claim(2, 99), claim(0, 7)], now()).await.unwrap();
    assert_eq!(both.iter().map(|p| (p.partition, p.epoch, p.next_offset)).collect::<Vec<_>>(), [(2, 2, 40), (0, 1, 7)]);
    assert_eq!(books.offsets(None).await.unwrap().iter().map(|p| p.partition).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(books.offsets(Some("Orders")).await.unwrap(), []);
    assert_eq!(books.claim("orders", &[], now()).await.unwrap(), []);
}

#[tokio::test]
async fn claims_that_race_all_get_through_with_epochs_of_their_own() {
    let fixture = Fixture::new().await;
    let claims: Vec<_> = (0..8).map(|p| claim(p, 0)).collect();
    let mut epochs = Vec::new();
    for _ in 0..5 {
        let (a, b) = (fixture.bookkeeping().await, fixture.bookkeeping().await);
        let (a, b) = tokio::join!(a.claim("orders", &claims, now()), b.claim("orders", &claims, now()));
        epochs.extend(a.unwrap().iter().chain(&b.unwrap()).map(|p| (p.partition, p.epoch)));
    }
    epochs.sort_unstable();
    let expected: Vec<_> = (0..8).flat_map(|p| (1..=10).map(move |e| (p, e))).collect();
    assert_eq!(epochs, expected);
}

#[tokio::test]
async fn an_offset_moves_once_and_only_for_the_epoch_that_holds_it() {
    let fixture = Fixture::new().await;
    let books = fixture.bookkeeping().await;
    books.claim("orders", &[claim(0, 0), claim(1, 5)], now()).await.unwrap();
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("maker", &["code"], OnConflict::Ignore).await;

    warehouse.begin().await.unwrap();
    warehouse.advance("orders", &[step(0, 1, 0, 10), step(1, 1, 5, 6)]).await.unwrap();
    warehouse.commit().await.unwrap();
    for (stale, found) in [
        (step(0, 1, 0, 10), "found offset 10 in epoch 1"),
        (step(0, 2, 10, 11), "found offset 10 in epoch 1"),
        (step(3, 1, 0, 1), "gone"),
    ] {
        warehouse.begin().await.unwrap();
        write(&mut *warehouse, &target, &[vec![t("X")]]).await;
        let error = warehouse.advance("orders", &[stale]).await.unwrap_err();
        assert!(matches!(&error, WarehouseError::Fenced { detail, .. } if detail.contains(found)), "{error:?}");
        warehouse.abandon();
    }
    // Another daemon takes the partition over; what this one still holds in hand is too late.
    books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    warehouse.begin().await.unwrap();
    let error = warehouse.advance("orders", &[step(0, 1, 10, 20)]).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fenced { partition: 0, .. }), "{error:?}");
    warehouse.abandon();
    let offsets = books.offsets(Some("orders")).await.unwrap();
    assert_eq!(offsets.iter().map(|p| (p.next_offset, p.epoch)).collect::<Vec<_>>(), [(10, 2), (6, 1)]);
    assert_eq!(fixture.query("SELECT * FROM maker").await, Vec::<String>::new());
}

#[tokio::test]
async fn gaps_read_back_as_they_were_recorded() {
    let fixture = Fixture::new().await;
    let books = fixture.bookkeeping().await;
    books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    let mut warehouse = fixture.warehouse().await;
    warehouse.begin().await.unwrap();
    let gaps = vec![3..8, 9..10];
    warehouse.advance("orders", &[OffsetMove { gaps: gaps.clone(), ..step(0, 1, 0, 20) }]).await.unwrap();
    warehouse
        .advance("orders", &[OffsetMove { gaps: std::iter::once(29..30).collect(), ..step(0, 1, 20, 30) }])
        .await
        .unwrap();
    warehouse.commit().await.unwrap();
    assert_eq!(books.ledger("orders").await.unwrap().gaps, [(0, vec![3..8, 9..10, 29..30])].into());
    assert_eq!(
        fixture.query("SELECT topic, partition_id, first_offset, last_offset, offsets, ranges FROM bief_gap").await,
        ["orders|0|3|9|6|3-7,9", "orders|0|29|29|1|29"]
    );
    fixture.sql("UPDATE bief_gap SET ranges = 'x' WHERE first_offset = 29").await;
    let error = books.ledger("orders").await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fatal { .. }) && error.to_string().contains("first_offset 29"), "{error}");
}

#[tokio::test]
async fn counters_add_up_and_a_vanished_partition_is_fenced() {
    let fixture = Fixture::new().await;
    let books = fixture.bookkeeping().await;
    books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    let mut warehouse = fixture.warehouse().await;
    let later = now() + Duration::from_secs(60);
    let counts =
        PartitionCounts { partition: 0, counts: Counts { applied: 1, duplicates: 2, dead_letters: 3, gaps: 4 } };
    for _ in 0..2 {
        warehouse.begin().await.unwrap();
        warehouse.count("orders", &[counts], later).await.unwrap();
        warehouse.commit().await.unwrap();
    }
    let offset = books.offsets(Some("orders")).await.unwrap().remove(0);
    assert_eq!(offset.counts, CountsView { applied: 2, duplicates: 4, dead_letters: 6, gaps: 8 });
    assert_eq!(offset.updated_at, later);
    warehouse.begin().await.unwrap();
    let error = warehouse.count("orders", &[PartitionCounts { partition: 5, ..counts }], later).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fenced { partition: 5, .. }), "{error:?}");
}

#[tokio::test]
async fn dead_letters_read_back_byte_for_byte_and_are_found_by_every_filter() {
    let fixture = Fixture::new().await;
    let books = fixture.bookkeeping().await;
    let mut warehouse = fixture.warehouse().await;
    let bare = DeadLetter {
        timestamp: -1,
        key: None,
        payload: None,
        rejection: Rejection { reason: Reason::Tombstone, field: None, message: String::new() },
        ..letter(1, 3, Reason::Tombstone)
    };
    let letters = [letter(0, 1, Reason::WrongType), letter(0, 2, Reason::Check), bare];
    warehouse.begin().await.unwrap();
    warehouse.set_aside(&letters, now()).await.unwrap();
    warehouse.commit().await.unwrap();

    let all = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let stored = books.dead_letters(&all).await.unwrap();
    assert_eq!(stored.iter().map(|s| s.letter.clone()).collect::<Vec<_>>(), letters);
    assert!(stored.iter().all(|s| s.stored_at == now()));
    assert_eq!(books.dead_letter(stored[1].id).await.unwrap().as_ref(), Some(&stored[1]));
    assert_eq!(books.dead_letter(99).await.unwrap(), None);
    assert_eq!(books.ledger("orders").await.unwrap().dead_letters, [(0, 2), (1, 1)].into());

    let second_later = now() + Duration::from_micros(1);
    for (filter, found) in [
        (DeadLetterFilter { topic: Some("orders".into()), ..all.clone() }, 3),
        (DeadLetterFilter { topic: Some("other".into()), ..all.clone() }, 0),
        (DeadLetterFilter { reason: Some("check".into()), ..all.clone() }, 1),
        (DeadLetterFilter { since: Some(now()), ..all.clone() }, 3),
        (DeadLetterFilter { since: Some(second_later), ..all.clone() }, 0),
        (DeadLetterFilter { after_id: Some(stored[0].id), ..all.clone() }, 2),
        (DeadLetterFilter { limit: 2, ..all.clone() }, 2),
    ] {
        assert_eq!(books.dead_letters(&filter).await.unwrap().len(), found, "{filter:?}");
    }
}

#[tokio::test]
async fn a_record_set_aside_again_takes_its_letters_place() {
    let fixture = Fixture::new().await;
    let mut warehouse = fixture.warehouse().await;
    warehouse.begin().await.unwrap();
    warehouse.set_aside(&[letter(0, 1, Reason::WrongType)], now()).await.unwrap();
    warehouse.set_aside(&[letter(0, 1, Reason::Check)], now()).await.unwrap();
    warehouse.commit().await.unwrap();
    assert_eq!(fixture.query("SELECT id, reason FROM bief_dead_letter").await, ["1|check"]);
}

#[tokio::test]
async fn rows_are_counted_whatever_the_tables_name() {
    let fixture = Fixture::with_domain("CREATE TABLE `od``d \"name` (id BIGINT PRIMARY KEY)").await;
    let books = fixture.bookkeeping().await;
    assert_eq!(books.count_rows("od`d \"name").await.unwrap(), 0);
    assert_eq!(books.count_rows("bief_offset").await.unwrap(), 0);
    let error = books.count_rows("absent").await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fatal { .. }) && error.to_string().contains("absent"), "{error}");
}

#[tokio::test]
async fn readers_are_not_stopped_by_an_open_transaction_and_see_nothing_of_it() {
    let fixture = Fixture::new().await;
    let books = fixture.bookkeeping().await;
    books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    let mut warehouse = fixture.warehouse().await;
    warehouse.begin().await.unwrap();
    warehouse.advance("orders", &[step(0, 1, 0, 10)]).await.unwrap();
    assert_eq!(books.offsets(None).await.unwrap()[0].next_offset, 0);
    warehouse.commit().await.unwrap();
    assert_eq!(books.offsets(None).await.unwrap()[0].next_offset, 10);
}

#[tokio::test]
async fn a_file_that_is_locked_is_transient_and_a_file_that_is_not_there_is_fatal() {
    let fixture = Fixture::new().await;
    let mut holder = fixture.warehouse().await;
    let mut waiter = fixture.warehouse().await;
    holder.begin().await.unwrap();
    let error = waiter.begin().await.unwrap_err();
    assert!(matches!(error, WarehouseError::Transient { .. }), "{error:?}");
    holder.rollback().await.unwrap();
    waiter.begin().await.unwrap();

    let mut absent = fixture.settings.clone();
    absent.url = crate::config::Secret::new(format!("sqlite://{}/none.db", fixture.folder.path().display()));
    let error = crate::adapters::warehouse::open_bookkeeping(&absent)().await.err().unwrap();
    assert!(matches!(error, WarehouseError::Fatal { .. }) && error.to_string().contains("creates"), "{error}");
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone_and_told() {
    let fixture = Fixture::new().await;
    fixture.sql("INSERT INTO bief_schema (version, applied_at) VALUES ('m9999_of_tomorrow', 0)").await;
    let error = crate::adapters::warehouse::prepare(&fixture.settings, fixture.folder.path()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fatal { .. }), "{error:?}");
    assert!(error.to_string().contains("newer bief (\"m9999_of_tomorrow\""), "{error}");
}

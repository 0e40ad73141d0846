//! Letters that end, are restated, dropped, published.

use std::sync::Arc;

use super::support::{Fixture, claim, now, step};
use crate::adapters::warehouse;
use crate::core::outcome::{Reason, Rejection};
use crate::messages::DeadLetter;
use crate::ports::{DeadLetterFilter, LetterKey};

fn letter(offset: i64) -> DeadLetter {
    DeadLetter {
        topic: Arc::from("orders"),
        partition: 0,
        offset,
        timestamp: 1_357_016_400_123,
        key: Some(vec![1, 0, 255]),
        payload: Some(b"{}".to_vec()),
        rejection: Rejection { reason: Reason::Check, field: None, message: "no".to_owned() },
    }
}

#[tokio::test]
async fn letters_end_only_with_their_transaction_and_dropped_ones_are_remembered() {
    let fixture = Fixture::new().await;
    let books = fixture.bookkeeping().await;
    let book = warehouse::open_letter_book(&fixture.settings)().await.unwrap();
    books.claim("orders", &[claim(0, 0)], now()).await.unwrap();
    let mut desk = warehouse::open_letter_warehouse(&fixture.settings)().await.unwrap();
    desk.begin().await.unwrap();
    desk.advance("orders", &[step(0, 1, 0, 4)]).await.unwrap();
    desk.set_aside(&[letter(0), letter(1), letter(2), letter(3)], now()).await.unwrap();
    desk.commit().await.unwrap();
    let all = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let keys = book.letter_keys(&all).await.unwrap();
    let ids: Vec<i64> = keys.iter().map(|k| k.id).collect();
    assert_eq!(keys[0], LetterKey { id: ids[0], topic: "orders".to_owned(), partition: 0, bytes: 5 });
    let until = DeadLetterFilter { until: Some(now()), ..all.clone() };
    assert_eq!(book.letter_keys(&until).await.unwrap(), [], "`until` itself is not among them");

    desk.begin().await.unwrap();
    let found = desk.lock_letters("orders", &[0], &[ids[1], ids[0], 999]).await.unwrap();
    assert_eq!(found, books.dead_letters(&DeadLetterFilter { limit: 2, ..all.clone() }).await.unwrap());
    assert_eq!(desk.lock_letters("other", &[0], &ids).await.unwrap(), [], "a letter of another topic");
    desk.delete_letters(&ids).await.unwrap();
    desk.rollback().await.unwrap();
    assert_eq!(book.letter_keys(&all).await.unwrap().len(), 4);

    desk.begin().await.unwrap();
    desk.delete_letters(&ids[..1]).await.unwrap();
    let again = Rejection { reason: Reason::TooLong, field: Some("f".to_owned()), message: "m".repeat(20_000) };
    desk.restate_letters(&[(ids[1], again)]).await.unwrap();
    desk.drop_letters(&ids[2..], now()).await.unwrap();
    desk.commit().await.unwrap();
    let left = books.dead_letters(&all).await.unwrap();
    assert_eq!(left.iter().map(|l| (l.id, l.letter.rejection.reason)).collect::<Vec<_>>(), [(ids[1], Reason::TooLong)]);
    assert_eq!(left[0].stored_at, now());
    assert_eq!(books.ledger("orders").await.unwrap().dropped, [(0, 2)].into());
}

#[tokio::test]
async fn a_letter_is_published_until_it_is_marked_and_again_when_it_is_set_aside_anew() {
    let fixture = Fixture::new().await;
    let book = warehouse::open_letter_book(&fixture.settings)().await.unwrap();
    let mut desk = warehouse::open_letter_warehouse(&fixture.settings)().await.unwrap();
    let set_aside = [letter(0), letter(1)];
    desk.begin().await.unwrap();
    desk.set_aside(&set_aside, now()).await.unwrap();
    desk.commit().await.unwrap();
    assert!(book.is_publisher("orders").await.unwrap());
    let waiting = book.unpublished("orders", 0, 1 << 20).await.unwrap();
    assert_eq!(waiting.iter().map(|l| l.letter.offset).collect::<Vec<_>>(), [0, 1]);
    book.mark_published(&[waiting[0].id], now()).await.unwrap();
    assert_eq!(book.unpublished("orders", 0, 1 << 20).await.unwrap(), waiting[1..]);
    assert_eq!(book.unpublished("other", 0, 1 << 20).await.unwrap(), []);
    desk.begin().await.unwrap();
    desk.set_aside(&set_aside[..1], now()).await.unwrap();
    desk.commit().await.unwrap();
    assert_eq!(book.unpublished("orders", 0, 1 << 20).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_rounds_letters_are_counted_by_what_they_hold_and_former_logs_are_among_them() {
    let fixture = Fixture::new().await;
    let book = warehouse::open_letter_book(&fixture.settings)().await.unwrap();
    let books = fixture.bookkeeping().await;
    let mut desk = warehouse::open_letter_warehouse(&fixture.settings)().await.unwrap();
    let former = |topic: &str, offset| DeadLetter { topic: Arc::from(topic), ..letter(offset) };
    desk.begin().await.unwrap();
    desk.set_aside(&[former("orders@7", 0), letter(1), former("orders_2@1", 2), former("ordersX2@1", 3)], now())
        .await
        .unwrap();
    desk.commit().await.unwrap();
    let waiting = book.unpublished("orders", 0, 1 << 20).await.unwrap();
    let told: Vec<_> = waiting.iter().map(|l| (&*l.letter.topic, l.letter.offset)).collect();
    assert_eq!(told, [("orders", 0), ("orders", 1)]);
    // Five bytes each.
    assert_eq!(book.unpublished("orders", 0, 9).await.unwrap(), waiting[..1]);
    assert_eq!(book.unpublished("orders", 0, 1).await.unwrap(), waiting[..1], "one that is too large goes alone");
    assert_eq!(book.unpublished("orders", waiting[0].id, 9).await.unwrap(), waiting[1..]);
    // A list shows where each is.
    let of = |topic: &str| DeadLetterFilter { topic: Some(topic.to_owned()), limit: 10, ..DeadLetterFilter::default() };
    let listed = books.dead_letters(&of("orders")).await.unwrap();
    assert_eq!(listed.iter().map(|l| &*l.letter.topic).collect::<Vec<_>>(), ["orders@7", "orders"]);
    assert_eq!(books.dead_letters(&of("orders_2")).await.unwrap().len(), 1);
    // By number, and no other is read.
    let named = DeadLetterFilter { ids: vec![waiting[0].id, 999], limit: 10, ..DeadLetterFilter::default() };
    let keys = book.letter_keys(&named).await.unwrap();
    assert_eq!(keys.iter().map(|k| k.id).collect::<Vec<_>>(), [waiting[0].id]);
}

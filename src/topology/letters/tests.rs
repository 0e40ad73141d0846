//! Letters that are changed by request, in a database file: rows, letters, ledger and audit together.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::open_letter_changes;
use crate::adapters::warehouse;
use crate::config::{self, Config};
use crate::core::outcome::{Counts, Reason, Rejection};
use crate::messages::{Board, DeadLetter, OffsetMove};
use crate::ports::letter_changes::{DroppedLetters, LetterRequest, RetriedLetters, RetryOptions};
use crate::ports::{
    AuditEntry, Claim, DeadLetterFilter, LetterHead, LetterReader, NewestRows, PartitionCounts, StoredDeadLetter,
};

struct Shop {
    config: Arc<Config>,
    reader: Box<dyn LetterReader>,
    /// As a daemon that holds the partition has it.
    board: Board,
    _folder: tempfile::TempDir,
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap()
}

impl Shop {
    /// Three letters: one with a text for a number, two that nothing is wrong with any more.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("migrations")).unwrap();
        let sql = "CREATE TABLE sale (number BIGINT NOT NULL PRIMARY KEY, amount INTEGER NOT NULL);";
        std::fs::write(at("migrations/0001_sale.sql"), sql).unwrap();
        let text = "[daemon]\nname = \"shops\"\n[kafka]\nbrokers = \"embedded\"\n\
                    [warehouse]\nurl = \"sqlite://bief.db\"\nmigrations = \"migrations\"\n\
                    [[stream]]\ntopic = \"orders\"\nlanes = 1\n\
                    [[stream.table]]\nname = \"sale\"\ncolumns = { number = \"n\", amount = \"amount\" }\n";
        let loaded = config::parse(text, "actors.toml", folder.path(), &|_| None);
        let config = Arc::new(loaded.unwrap_or_else(|wrong| panic!("{wrong:?}")).config);
        warehouse::prepare(&config.warehouse, Path::new("")).await.unwrap();
        let bookkeeping = warehouse::open_bookkeeping(&config.warehouse)().await.unwrap();
        let claim = Claim { partition: 0, topic_id: String::new(), start_offset: 0 };
        bookkeeping.claim("orders", &[claim], now()).await.unwrap();
        let letters = [
            (Reason::WrongType, r#"{"n": 1, "amount": "long"}"#),
            (Reason::ForeignKey, r#"{"n": 2, "amount": 5}"#),
            (Reason::ForeignKey, r#"{"n": 3, "amount": 7}"#),
        ];
        let letters: Vec<DeadLetter> = letters.into_iter().zip(0..).map(letter).collect();
        let mut writer = warehouse::open_letter_warehouse(&config.warehouse)().await.unwrap();
        writer.begin().await.unwrap();
        let step = OffsetMove { partition: 0, epoch: 1, from: 0, to: 3, gaps: Vec::new() };
        writer.advance("orders", &[step]).await.unwrap();
        writer.set_aside(&letters, now()).await.unwrap();
        let counts = Counts { dead_letters: 3, ..Counts::default() };
        writer.count("orders", &[PartitionCounts { partition: 0, counts }], now()).await.unwrap();
        writer.commit().await.unwrap();
        let reader = warehouse::open_letter_reader(&config.warehouse)().await.unwrap();
        let board = Board::default();
        let ledger = &bookkeeping.offsets(None).await.unwrap()[0];
        board.claimed("orders", ledger, 0, 3);
        Self { config, reader, board, _folder: folder }
    }

    async fn retry(&self, filter: DeadLetterFilter, how: RetryOptions) -> RetriedLetters {
        let mut changes = open_letter_changes(&self.config, &self.board)().await.unwrap();
        changes.retry(&asked(filter), &how).await.unwrap()
    }

    async fn drop_letters(&self, filter: DeadLetterFilter) -> DroppedLetters {
        let mut changes = open_letter_changes(&self.config, &self.board)().await.unwrap();
        changes.drop_letters(&asked(filter)).await.unwrap()
    }

    /// The newest first.
    async fn heads(&self) -> Vec<LetterHead> {
        let all = DeadLetterFilter { newest_first: true, limit: 10, ..DeadLetterFilter::default() };
        self.reader.heads(&all).await.unwrap()
    }

    async fn letter(&self, id: i64) -> Option<StoredDeadLetter> {
        self.reader.letter(id).await.unwrap()
    }

    async fn audit(&self) -> Vec<AuditEntry> {
        self.reader.audit_entries(None, 10).await.unwrap()
    }

    async fn rows(&self) -> NewestRows {
        let mut rows = warehouse::open_row_reader(&self.config.warehouse)().await.unwrap();
        rows.newest("sale", 10).await.unwrap().unwrap()
    }

    async fn counts(&self) -> Counts {
        let bookkeeping = warehouse::open_bookkeeping(&self.config.warehouse)().await.unwrap();
        bookkeeping.offsets(Some("orders")).await.unwrap()[0].counts.into()
    }
}

fn letter(((reason, payload), offset): ((Reason, &str), i64)) -> DeadLetter {
    DeadLetter {
        topic: "orders".into(),
        partition: 0,
        offset,
        timestamp: -1,
        key: None,
        payload: Some(payload.as_bytes().to_vec()),
        rejection: Rejection { reason, field: Some("amount".to_owned()), message: "no".to_owned() },
    }
}

fn asked(filter: DeadLetterFilter) -> LetterRequest {
    let asked = serde_json::json!({ "ids": filter.ids });
    LetterRequest { filter, cursor: None, peer: "192.0.2.7".to_owned(), asked }
}

fn of_id(id: i64) -> DeadLetterFilter {
    DeadLetterFilter { ids: vec![id], ..DeadLetterFilter::default() }
}

#[tokio::test]
async fn letters_are_told_without_payloads_in_pages_and_groups() {
    let shop = Shop::new().await;
    let heads = shop.heads().await;
    assert_eq!(heads.iter().map(|head| head.offset).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!((heads[2].rejection.reason, heads[2].bytes, heads[2].timestamp), (Reason::WrongType, 26, None));
    assert_eq!(heads[0].stored_at, now());
    let behind =
        DeadLetterFilter { newest_first: true, before_id: Some(heads[0].id), limit: 1, ..DeadLetterFilter::default() };
    assert_eq!(shop.reader.heads(&behind).await.unwrap(), heads[1..2]);
    let groups = shop.reader.groups(&DeadLetterFilter::default()).await.unwrap();
    let told: Vec<_> = groups.iter().map(|g| (g.topic.as_str(), g.reason, g.letters, g.newest)).collect();
    let newest = [heads[0].id, heads[2].id];
    assert_eq!(told, [("orders", Reason::ForeignKey, 2, newest[0]), ("orders", Reason::WrongType, 1, newest[1])]);
    assert_eq!((groups[0].first_stored_at, groups[0].last_stored_at), (now(), now()));
    let payload = shop.letter(heads[2].id).await.unwrap().letter.payload.unwrap();
    assert_eq!(payload, br#"{"n": 1, "amount": "long"}"#);
    assert_eq!(shop.letter(4711).await, None);
}

#[tokio::test]
async fn an_edited_letter_gets_its_row_its_end_and_its_line_in_the_audit_together() {
    let shop = Shop::new().await;
    let heads = shop.heads().await;
    let [third, second, first] = &heads[..] else { panic!("three letters") };
    let edited = |payload: &str| RetryOptions { payload: Some(payload.into()), ..RetryOptions::default() };

    let refused = shop.retry(of_id(second.id), edited(r#"{"n": 2, "amount": "x"}"#)).await;
    assert_eq!((refused.applied, refused.refused[0].1.reason), (0, Reason::WrongType));
    let kept = shop.letter(second.id).await.unwrap().letter;
    assert_eq!(kept.rejection.reason, Reason::ForeignKey, "what was not kept gives it no reason");
    assert_eq!(kept.payload.unwrap(), br#"{"n": 2, "amount": 5}"#);

    let applied = shop.retry(of_id(first.id), edited(r#"{"n": 1, "amount": 12}"#)).await;
    assert_eq!((applied.applied, applied.refused.len(), applied.next), (1, 0, None));
    assert_eq!(shop.rows().await.rows, [[1, 12].map(serde_json::Value::from).to_vec()]);
    assert_eq!(shop.letter(first.id).await, None);
    let audit = shop.audit().await;
    let told: Vec<_> = audit.iter().map(|e| (e.action.as_str(), e.letters.clone(), e.payload.clone())).collect();
    assert_eq!(
        told,
        [
            ("retry", vec![first.id], Some(br#"{"n": 1, "amount": 12}"#.to_vec())),
            ("retry", Vec::new(), Some(br#"{"n": 2, "amount": "x"}"#.to_vec())),
        ]
    );
    assert_eq!((audit[0].daemon.as_str(), audit[0].peer.as_str()), ("shops", "192.0.2.7"));
    assert_eq!(audit[0].request, serde_json::json!({ "ids": [first.id] }));
    let seen = shop.board.snapshot()[0].partitions[0].counts;
    assert_eq!((seen.applied, seen.dead_letters), (1, 2), "what the page shows goes with it");
    assert_eq!(audit[0].outcome, serde_json::json!({ "applied": 1, "duplicates": 0, "refused": 0 }));
    assert_eq!(shop.counts().await, Counts { applied: 1, dead_letters: 2, ..Counts::default() });
    assert_eq!(third.offset, 2);
}

#[tokio::test]
async fn letters_named_by_a_filter_are_retried_and_a_dry_run_leaves_no_trace() {
    let shop = Shop::new().await;
    let all = DeadLetterFilter { topic: Some("orders".to_owned()), ..DeadLetterFilter::default() };
    let would = shop.retry(all.clone(), RetryOptions { dry_run: true, ..RetryOptions::default() }).await;
    assert_eq!((would.applied, would.refused.len()), (2, 1));
    assert_eq!((shop.heads().await.len(), shop.audit().await.len(), shop.rows().await.rows.len()), (3, 0, 0));
    let done = shop.retry(all, RetryOptions::default()).await;
    assert_eq!((done.applied, done.refused.len(), done.next), (2, 1, None));
    assert_eq!(shop.rows().await.rows.len(), 2);
    assert_eq!(shop.audit().await[0].letters.len(), 2);
    assert_eq!(shop.counts().await, Counts { applied: 2, dead_letters: 1, ..Counts::default() });
}

#[tokio::test]
async fn letters_that_are_dropped_stay_in_the_ledger_and_in_the_audit() {
    let shop = Shop::new().await;
    let reason = DeadLetterFilter { reason: Some("foreign_key".to_owned()), ..DeadLetterFilter::default() };
    assert_eq!(shop.drop_letters(reason).await, DroppedLetters { dropped: 2, next: None });
    assert_eq!(shop.heads().await.len(), 1);
    assert_eq!(shop.counts().await.dead_letters, 3);
    let audit = shop.audit().await;
    assert_eq!((audit[0].action.as_str(), audit[0].letters.len(), audit.len()), ("drop", 2, 1));
    assert_eq!(audit[0].outcome, serde_json::json!({ "dropped": 2 }));
    let books = warehouse::open_bookkeeping(&shop.config.warehouse)().await.unwrap();
    assert_eq!(books.ledger("orders").await.unwrap().dropped, [(0, 2)].into());
}

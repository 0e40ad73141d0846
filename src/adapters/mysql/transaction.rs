//! What a batch's transaction does beside its rows: offsets by compare-and-set, gaps, counters, dead letters.
//! Values are always bound. Must never fail because a dead letter is too large: what does not fit is kept as size and
//! hash.

use chrono::{DateTime, Utc};
use mysql_async::Value;
use sha2::{Digest, Sha256};

use super::connection::Session;
use super::errors::Failure;
use super::params::{datetime_micros, placeholders};
use crate::adapters::parts::of_few_lengths;
use crate::core::outcome::{LOST_KEY, Reason};
use crate::core::time;
use crate::messages::{DeadLetter, OffsetMove};
use crate::ports::PartitionCounts;

/// Room in a packet beside a dead letter's payload and key.
const PACKET_ROOM: usize = 64 * 1024;
/// Bytes of a dead letter's message that are kept; the column is a TEXT.
pub(super) const MAX_MESSAGE: usize = 16_000;
/// Dead letters of one statement.
const MAX_LETTERS: usize = 200;
/// Bytes of one statement of several dead letters: they are copied twice on their way into a packet.
const LETTERS_BYTES: usize = 4 << 20;

const DUPLICATE_KEY: u16 = 1062;

pub(super) async fn advance(session: &mut Session, topic: &str, moves: &[OffsetMove]) -> Result<(), Failure> {
    for step in moves.iter().filter(|step| step.from != step.to) {
        let ack = session
            .execute(
                "UPDATE bief_offset SET next_offset = ? \
                 WHERE topic = ? AND partition_id = ? AND epoch = ? AND next_offset = ?",
                vec![step.to.into(), topic.into(), step.partition.into(), step.epoch.into(), step.from.into()],
            )
            .await
            .map_err(Failure::outside_rows)?;
        if ack.affected != 1 {
            return Err(fenced(session, topic, step).await);
        }
    }
    for step in moves.iter().filter(|step| !step.gaps.is_empty()) {
        record_gaps(session, topic, step).await.map_err(Failure::outside_rows)?;
    }
    Ok(())
}

pub(super) async fn hold(session: &mut Session, topic: &str, moves: &[OffsetMove]) -> Result<(), Failure> {
    for step in moves {
        let sql = "SELECT epoch, next_offset FROM bief_offset WHERE topic = ? AND partition_id = ? FOR UPDATE";
        let found: Vec<(i64, i64)> =
            session.ask(sql, vec![topic.into(), step.partition.into()]).await.map_err(Failure::outside_rows)?;
        if found != [(step.epoch, step.from)] {
            return Err(fenced(session, topic, step).await);
        }
    }
    Ok(())
}

/// Says what stands there instead.
async fn fenced(session: &mut Session, topic: &str, step: &OffsetMove) -> Failure {
    let sql = "SELECT epoch, next_offset FROM bief_offset WHERE topic = ? AND partition_id = ?";
    let found: Vec<(i64, i64)> = match session.ask(sql, vec![topic.into(), step.partition.into()]).await {
        Ok(found) => found,
        Err(failure) => return failure.outside_rows(),
    };
    let there = match found.first() {
        Some((epoch, next)) => format!("epoch {epoch}, next offset {next}"),
        None => "no row".into(),
    };
    Failure::Fenced {
        topic: topic.into(),
        partition: step.partition,
        detail: format!("expected epoch {}, next offset {} in bief_offset, found {there}", step.epoch, step.from),
    }
}

/// All gaps of one partition in one row.
async fn record_gaps(session: &mut Session, topic: &str, step: &OffsetMove) -> Result<(), Failure> {
    let (Some(first), Some(last)) = (step.gaps.first(), step.gaps.last()) else { return Ok(()) };
    let ranges = crate::core::gaps::format_ranges(&step.gaps);
    let told: [Value; 3] = [(last.end - 1).into(), step.gap_count().into(), ranges.into()];
    let mut values: Vec<Value> = vec![topic.into(), step.partition.into(), first.start.into()];
    values.extend(told.iter().cloned());
    values.extend(told);
    // The row can be there already only after a reset to an earlier offset.
    session
        .execute(
            "INSERT INTO bief_gap (topic, partition_id, first_offset, last_offset, offsets, ranges) \
             VALUES (?,?,?,?,?,?) ON DUPLICATE KEY UPDATE last_offset = ?, offsets = ?, ranges = ?",
            values,
        )
        .await?;
    Ok(())
}

pub(super) async fn count(
    session: &mut Session,
    topic: &str,
    counts: &[PartitionCounts],
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    for PartitionCounts { partition, counts } in counts {
        let values = vec![
            counts.applied.into(),
            counts.duplicates.into(),
            counts.dead_letters.into(),
            counts.gaps.into(),
            datetime_micros(now.timestamp_micros()),
            topic.into(),
            (*partition).into(),
        ];
        let ack = session
            .execute(
                "UPDATE bief_offset SET applied = applied + ?, duplicates = duplicates + ?, \
                 dead_letters = dead_letters + ?, gaps = gaps + ?, updated_at = ? WHERE topic = ? AND partition_id = ?",
                values,
            )
            .await
            .map_err(Failure::outside_rows)?;
        if ack.affected != 1 && counts.total() != 0 {
            return Err(Failure::Fenced {
                topic: topic.into(),
                partition: *partition,
                detail: "its row in bief_offset is gone".into(),
            });
        }
    }
    Ok(())
}

pub(super) async fn set_aside(
    session: &mut Session,
    letters: &[DeadLetter],
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    let limit = session.server.max_allowed_packet.saturating_sub(PACKET_ROOM);
    let stored: Vec<Stored<'_>> = letters.iter().map(|letter| Stored::fitting(letter, limit)).collect();
    let mut start = 0;
    while start < stored.len() {
        let mut end = start;
        let mut bytes = 0;
        while end < stored.len() && end - start < MAX_LETTERS {
            bytes += stored[end].size() + MAX_MESSAGE;
            if end > start && bytes > LETTERS_BYTES.min(limit / 2) {
                break;
            }
            end += 1;
        }
        end = start + of_few_lengths(end - start);
        match store(session, &stored[start..end], now).await {
            Ok(()) => start = end,
            // A limit of the server that is smaller than its packets: without payload it fits, or without its key too.
            Err(Failure::Row(row)) if row.code != DUPLICATE_KEY => {
                for letter in &letters[start..end] {
                    let mut outcome = store(session, &[Stored::fitting(letter, limit)], now).await;
                    for kept in [Kept::Key, Kept::Nothing] {
                        if let Err(Failure::Row(_)) = outcome {
                            outcome = store(session, &[Stored::of(letter, kept)], now).await;
                        }
                    }
                    outcome.map_err(Failure::outside_rows)?;
                }
                start = end;
            }
            Err(other) => return Err(other.outside_rows()),
        }
    }
    Ok(())
}

/// What of a dead letter's record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    All,
    Key,
    Nothing,
}

/// A dead letter as it is stored.
struct Stored<'a> {
    letter: &'a DeadLetter,
    reason: Reason,
    field: Option<&'a str>,
    key: Option<&'a [u8]>,
    payload: Option<&'a [u8]>,
    message: String,
}

impl<'a> Stored<'a> {
    /// Leaves out, and describes, payload and key where they are larger than `limit` bytes together.
    fn fitting(letter: &'a DeadLetter, limit: usize) -> Self {
        let [key, payload] = [&letter.key, &letter.payload].map(|part| part.as_ref().map_or(0, Vec::len));
        let kept = match () {
            () if key + payload <= limit => Kept::All,
            () if key <= limit => Kept::Key,
            () => Kept::Nothing,
        };
        Self::of(letter, kept)
    }

    fn of(letter: &'a DeadLetter, kept: Kept) -> Self {
        let DeadLetter { key, payload, rejection, .. } = letter;
        let (mut reason, mut field) = (rejection.reason, rejection.field.as_deref());
        let (mut message, mut notes) = (rejection.message.clone(), String::new());
        if let (false, Some(bytes)) = (kept == Kept::All, payload) {
            notes.push_str(&not_stored("payload", bytes));
        }
        if let (Kept::Nothing, Some(bytes)) = (kept, key) {
            notes.push_str(&not_stored("key", bytes));
            // Whoever tries it again must know, whatever it was refused for first: it has a key.
            message = format!("{reason}: {message}");
            (reason, field) = (Reason::RecordTooLarge, Some(LOST_KEY));
        }
        truncate(&mut message, MAX_MESSAGE - notes.len());
        message.push_str(&notes);
        Self {
            letter,
            reason,
            field,
            key: key.as_deref().filter(|_| kept != Kept::Nothing),
            payload: payload.as_deref().filter(|_| kept == Kept::All),
            message,
        }
    }

    fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.payload.map_or(0, <[u8]>::len)
    }
}

fn not_stored(what: &str, bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("; the {what} of {} bytes is more than the database takes and is not stored, SHA-256 {hash}", bytes.len())
}

pub(super) fn truncate(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let mut end = bytes;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

async fn store(session: &mut Session, letters: &[Stored<'_>], now: DateTime<Utc>) -> Result<(), Failure> {
    let sql = format!(
        "INSERT INTO bief_dead_letter (topic, partition_id, record_offset, record_timestamp, record_key, payload, \
         reason, field, message, stored_at) VALUES {}",
        placeholders(letters.len(), 10)
    );
    match session.execute(&sql, values(letters, now)).await {
        Err(Failure::Row(row)) if row.code == DUPLICATE_KEY => {}
        other => return other.map(|_| ()),
    }
    // The same offset was set aside before a reset to an earlier one: what is known now takes its place.
    for stored in letters {
        let DeadLetter { topic, partition, offset, .. } = stored.letter;
        session
            .execute(
                "DELETE FROM bief_dead_letter WHERE topic = ? AND partition_id = ? AND record_offset = ?",
                vec![topic.as_ref().into(), (*partition).into(), (*offset).into()],
            )
            .await?;
    }
    session.execute(&sql, values(letters, now)).await.map(|_| ())
}

fn values(letters: &[Stored<'_>], now: DateTime<Utc>) -> Vec<Value> {
    let mut values = Vec::with_capacity(letters.len() * 10);
    for Stored { letter, reason, field, key, payload, message } in letters {
        let mut field = field.map(str::to_owned);
        if let Some(name) = &mut field
            && let Some((cut, _)) = name.char_indices().nth(255)
        {
            name.truncate(cut);
        }
        let timestamp = match letter.timestamp {
            -1 => Value::NULL,
            millis if time::DATETIME_MILLIS.contains(&millis) => datetime_micros(millis * 1000),
            _ => Value::NULL,
        };
        values.extend([
            letter.topic.as_ref().into(),
            letter.partition.into(),
            letter.offset.into(),
            timestamp,
            (*key).into(),
            (*payload).into(),
            reason.as_str().into(),
            field.into(),
            message.as_str().into(),
            datetime_micros(now.timestamp_micros()),
        ]);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::outcome::Rejection;

    fn letter(payload: usize, key: usize) -> DeadLetter {
        DeadLetter {
            topic: "t".into(),
            partition: 0,
            offset: 1,
            timestamp: -1,
            key: Some(vec![b'k'; key]),
            payload: Some(vec![b'p'; payload]),
            rejection: Rejection { reason: Reason::InvalidJson, field: None, message: "é".repeat(20_000) },
        }
    }

    #[test]
    fn a_payload_that_does_not_fit_is_kept_as_size_and_hash() {
        let big = letter(1000, 10);
        let stored = Stored::fitting(&big, 500);
        assert_eq!((stored.payload, stored.key.map(<[u8]>::len)), (None, Some(10)));
        assert!(stored.message.contains("payload of 1000 bytes") && stored.message.contains("SHA-256 "));
        assert!(stored.message.len() <= MAX_MESSAGE);
        let both = letter(1000, 1000);
        let stored = Stored::fitting(&both, 500);
        assert_eq!((stored.payload, stored.key), (None, None));
        assert_eq!((stored.reason, stored.field), (Reason::RecordTooLarge, Some("@key")));
        assert!(stored.message.starts_with("invalid_json: é") && stored.message.contains("; the key of 1000 bytes"));
        let stored = Stored::of(&big, Kept::Key);
        assert_eq!((stored.reason, stored.key.map(<[u8]>::len)), (Reason::InvalidJson, Some(10)));
        let small = letter(100, 10);
        assert_eq!(Stored::fitting(&small, 500).payload.map(<[u8]>::len), Some(100));
    }

    #[test]
    fn a_broker_time_that_the_column_cannot_hold_is_null() {
        for (millis, null) in [(-1, true), (0, false), (i64::MAX, true), (i64::MIN, true)] {
            let mut one = letter(0, 0);
            one.timestamp = millis;
            let stored = Stored::fitting(&one, 500);
            assert_eq!(values(&[stored], DateTime::UNIX_EPOCH)[3] == Value::NULL, null, "{millis}");
        }
    }
}

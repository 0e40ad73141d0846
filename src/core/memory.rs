//! How `memory` is shared out, and what a record costs on its way. Every limit of memory is derived here and nowhere
//! else, so that their sum is what the configuration says (docs/configuration.md has the shares in words).
//!
//! The estimate must never be below what the records of a lane really take together at the widest point of their way;
//! where it is above, less is in flight than could be.

use super::cell::Cell;
use super::mapping::Plan;

/// The part of `memory`, as one over so many, that librdkafka may fill: queues, and answers to fetches.
const CLIENT: u64 = 4;
/// The part of `memory`, as one over so many, that one compressed answer to a fetch may have. librdkafka unpacks an answer
/// as a whole: JSON by zstd commonly becomes 5 to 10 times as large, and beside each payload there are [`MESSAGE`] bytes.
/// It is counted 64 times; records of some fifty bytes come to a hundred times what came over the line, which goes beyond
/// the client's part for a moment.
const FETCH: u64 = 512;
/// The part of `memory` that the largest record may have: its text is in memory several times while it is written.
pub const LARGEST_RECORD: u64 = 8;
/// The part of `memory` that remembered parent rows may take.
const KNOWN: u64 = 16;

/// What librdkafka keeps for a message beside its payload: an operation, its allocation, its key, headers.
const MESSAGE: u64 = 512;
/// Payload and key: once as polled and as much as half of it again unescaped while a batch waits; and beside that, while
/// it is written, the text of LOAD DATA, in hexadecimal digits twice as long. At most every third batch of a lane is
/// being written, since a batch has at most a third of what its lane may take: two and a sixth on average at the worst.
const COPIES: u64 = 2;
/// What a record takes beside its bytes and rows: its envelope, its outcome, room that vectors grew by.
const RECORD: u64 = 192;
/// A row beside its cells: its record, its hash, its place, its order.
const ROW: u64 = 48;
/// What a record that cannot be written takes more: reason, field and message, in the batch and, while it is written, on
/// their way to the dead letters, with a copy of its payload.
pub const REJECTION: u64 = 512;

/// Limits of one stream's client, from the stream's part of `memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// `queued.max.messages.kbytes`: payloads that wait in one lane's queue. Partitions are forwarded into the queue of
    /// their lane, and librdkafka measures the queue that it forwards to: their number does not matter.
    pub queue_kbytes: u64,
    /// `queued.min.messages`: messages beyond which a lane's queue is not filled, for what they cost beside payloads.
    pub queue_messages: u64,
    /// `fetch.max.bytes`: one answer of one broker, compressed.
    pub fetch: u64,
    /// `max.partition.fetch.bytes`: one partition's part of it.
    pub partition_fetch: u64,
}

impl ClientLimits {
    /// `memory`: bytes of one stream.
    pub fn of(memory: u64, lanes: usize) -> Self {
        // Half for what waits, of that half for payloads and half for what messages cost beside them; half for answers
        // on their way, with what they become when they are unpacked.
        let queue = memory / CLIENT / 2 / lanes.max(1) as u64 / 2;
        let fetch = (memory / FETCH).clamp(64 << 10, 16 << 20);
        Self {
            queue_kbytes: (queue >> 10).clamp(64, 2 << 20),
            queue_messages: (queue / MESSAGE).clamp(100, 100_000),
            fetch,
            partition_fetch: fetch.min(1 << 20),
        }
    }
}

/// Bytes of `memory` that batches may take, from the filling to the commit: what the client and remembered rows leave.
pub fn batches(memory: u64) -> u64 {
    memory - memory / CLIENT - memory / KNOWN
}

/// Bytes that the remembered parent rows of one stream may take.
pub fn known_rows(memory: u64) -> u64 {
    memory / KNOWN
}

/// Bytes of dead letters that the outbox of one of so many streams reads at once, unless one is larger; librdkafka copies
/// them as they are sent. They are beside `memory`, in what the process may have resident beyond it.
pub fn outbox(memory: u64, streams: usize) -> i64 {
    ((memory / 32).min(8 << 20) / streams.max(1) as u64).max(256 << 10) as i64
}

/// Bytes of keys and payloads of dead letters that a retry or a drop takes in one transaction, unless one is larger; while
/// they are written they are there up to four times. Beside `memory` too.
pub const LETTERS_AT_ONCE: i64 = 2 << 20;

/// What records of one stream cost from the poll to the commit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordCost {
    /// For each record, however small.
    record: u64,
    /// For each byte of key and payload.
    byte: u64,
}

impl RecordCost {
    /// Of records that become rows by this plan.
    pub fn of(plan: &Plan) -> Self {
        let cell = size_of::<Cell>() as u64;
        let widths = || plan.mappings.iter().map(|m| (m.target, plan.targets[m.target].columns.len() as u64));
        let cells: u64 = widths().map(|(_, width)| width * cell).sum();
        // A table that a record feeds twice has two rows of it.
        let joined = (0..plan.targets.len()).map(|t| widths().filter(|(target, _)| *target == t).map(|(_, w)| w).sum());
        let widest: u64 = joined.max().unwrap_or(0) * cell;
        // Cells are there once while a batch waits; while it is written once more as prepared, and those of one table a
        // third time while they are joined by key and sorted. At most every third batch is being written.
        let rows = cells + (cells + widest).div_ceil(3) + ROW * plan.mappings.len() as u64;
        Self { record: RECORD + rows, byte: COPIES }
    }

    /// So many records that have so many bytes of keys and payloads.
    pub fn total(&self, records: usize, bytes: usize) -> u64 {
        self.record * records as u64 + self.byte * bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_memory_is_shared_out_as_the_documentation_says() {
        let memory = 256 << 20;
        assert_eq!(
            ClientLimits::of(memory, 2),
            ClientLimits {
                queue_kbytes: 8 << 10,
                queue_messages: 16_384,
                fetch: 512 << 10,
                partition_fetch: 512 << 10
            }
        );
        assert_eq!(batches(memory), 176 << 20);
        assert_eq!(known_rows(memory), 16 << 20);
        assert_eq!((outbox(memory, 1), outbox(memory, 2), outbox(1 << 40, 1)), (8 << 20, 4 << 20, 8 << 20));
    }

    proptest! {
        #[test]
        fn the_shares_together_are_no_more_than_the_memory(
            memory in (32_u64 << 20)..(64 << 30),
            streams in 1_u64..8,
            lanes in 1_usize..16,
        ) {
            let client = ClientLimits::of(memory / streams, lanes);
            // Unpacked, an answer is counted 64 times.
            let queues = lanes as u64 * ((client.queue_kbytes << 10) + client.queue_messages * MESSAGE);
            let clients = streams * (queues + client.fetch * 64);
            let known = streams * known_rows(memory / streams);
            // The least that librdkafka and a queue need may weigh more than the share of a sixteenth stream.
            let least = streams * lanes as u64 * ((64 << 10) + 100 * MESSAGE) + streams * 64 * (64 << 10);
            prop_assert!(clients + known + batches(memory) <= memory + least);
            prop_assert!(client.partition_fetch <= client.fetch);
            // Twice: as they are read, and as librdkafka sends them.
            prop_assert!(2 * outbox(memory, streams as usize) * streams as i64 <= 16 << 20);
        }
    }
}

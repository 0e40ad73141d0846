//! What tests of actors and adapters hand through the ports.

use std::sync::Arc;

use chrono::DateTime;

use super::{CountsView, PartitionOffset, StoredDeadLetter};
use crate::core::outcome::{Reason, Rejection};
use crate::messages::DeadLetter;

/// Where a partition of `orders` stands that nothing was read of yet.
pub fn partition_offset(partition: i32, epoch: i64, next_offset: i64) -> PartitionOffset {
    PartitionOffset {
        topic: "orders".to_owned(),
        partition,
        topic_id: String::new(),
        epoch,
        start_offset: 0,
        next_offset,
        counts: CountsView::default(),
        updated_at: DateTime::UNIX_EPOCH,
    }
}

/// A letter of `orders` without key and payload, its offset like its id.
pub fn stored_letter(id: i64) -> StoredDeadLetter {
    let letter = DeadLetter {
        topic: Arc::from("orders"),
        partition: 0,
        offset: id,
        timestamp: -1,
        key: None,
        payload: None,
        rejection: Rejection { reason: Reason::Check, field: None, message: "no".to_owned() },
    };
    StoredDeadLetter { id, letter, stored_at: DateTime::UNIX_EPOCH }
}

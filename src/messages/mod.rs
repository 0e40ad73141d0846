//! What travels between actors, and what they tell of themselves. A message is named by what is true when it arrives.

mod batch;
mod status;

pub use batch::{DeadLetter, OffsetMove, Record, RecordBatch};
pub use status::{Board, PartitionStatus, StreamStatus};

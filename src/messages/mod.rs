//! What travels between actors, and what they tell of themselves. A message is named by what is true when it arrives.

mod assignments;
mod batch;
pub mod fit;
mod forecasts;
mod freshness;
mod replacements;
mod status;
pub mod tap;

pub use assignments::{Assignments, InFlight};
pub use batch::{DeadLetter, OffsetMove, Record, RecordBatch, RowBatch};
pub use forecasts::{ForecastStanding, Forecasts, LiveError, TrainingWanted};
pub use freshness::{AggregateFreshness, Freshness};
pub use replacements::{Replaced, Replacements};
pub use status::{Board, PartitionStatus, StreamStatus, Trouble};
pub use tap::{StreamTap, Tap};

//! One file an actor. An actor holds ports and channels, moves messages and waits; its rules are in `core/`.
//! No actor names another: topology.rs alone does.

pub mod aggregator;
pub mod comparer;
pub mod consumer;
pub mod decoder;
mod due;
pub mod fitter;
pub mod forecaster;
pub mod history;
pub mod lease;
pub mod outbox;
pub mod persist;
pub mod reconciler;
pub mod refresh;
pub mod trainer;
pub mod training;
pub mod turns;
pub mod writer;

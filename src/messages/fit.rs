//! What is asked of a framework's actor.

use actix::Message;

use crate::core::comparison::{Facts, Framework, Outcome};
use crate::ports::frameworks::FitJob;

/// Fit this matrix. The answer comes when all that was started for it is gone; none where the fit was broken off because
/// its unit ends, whoever hears of that first.
#[derive(Debug, Clone)]
pub struct Fit(pub FitJob);

impl Message for Fit {
    type Result = Option<Outcome>;
}

/// What are you?
#[derive(Debug, Clone, Copy)]
pub struct Describe;

/// The answer.
#[derive(Debug, Clone)]
pub struct Described {
    pub framework: Framework,
    pub facts: Facts,
    /// Whether more than one worker is of any use to it.
    pub parallel: bool,
}

impl Message for Describe {
    type Result = Described;
}

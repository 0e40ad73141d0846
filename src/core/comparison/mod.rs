//! The same model made by several frameworks, on the same matrix: what each came to, whether they agree, and how their
//! times grow with the size. Pure; the form of the stored result too.

mod parity;
mod result;
mod sample;
mod scaling;

pub use parity::{Parity, TOLERANCE, difference, parity};
pub use result::{
    Comparison, Complexity, Facts, Fitted, Framework, Machine, MatrixFacts, Outcome, Run, Seconds, UNKNOWN_FRAMEWORK,
};
pub use sample::{Grown, Sample};
pub use scaling::{Scaling, exponent, scaling};

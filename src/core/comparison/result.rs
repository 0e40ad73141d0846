//! What a comparison found, in the form in which it is stored: JSON whose keys are these fields.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Parity, Scaling};

/// How a name that is no framework is refused.
pub const UNKNOWN_FRAMEWORK: &str = "write one of linfa, bief, scikit-learn, dask-ml, spark-mllib";

/// What fits the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framework {
    /// A part of bief; what the others are measured against.
    Linfa,
    /// A part of bief too: what the trainer does each day.
    Bief,
    ScikitLearn,
    DaskMl,
    SparkMllib,
}

impl Framework {
    /// The reference first.
    pub const ALL: [Self; 5] = [Self::Linfa, Self::Bief, Self::ScikitLearn, Self::DaskMl, Self::SparkMllib];

    /// As in the command line, the configuration and the result.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linfa => "linfa",
            Self::Bief => "bief",
            Self::ScikitLearn => "scikit-learn",
            Self::DaskMl => "dask-ml",
            Self::SparkMllib => "spark-mllib",
        }
    }
}

impl std::str::FromStr for Framework {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|framework| framework.name() == name).ok_or(UNKNOWN_FRAMEWORK)
    }
}

/// A whole comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    pub made_at: DateTime<Utc>,
    pub version: String,
    pub revision: String,
    /// Whether bief, and linfa in it, was built with optimisation.
    pub optimised: bool,
    pub machine: Machine,
    pub matrix: MatrixFacts,
    /// As [`Parity`] measures it.
    pub tolerance: f64,
    pub frameworks: Vec<Facts>,
    pub runs: Vec<Run>,
    pub parity: Vec<Parity>,
    pub scaling: Vec<Scaling>,
}

impl Comparison {
    /// Everything that was asked for was fitted, and agrees.
    pub fn is_well(&self) -> bool {
        self.runs.iter().all(|run| matches!(run.outcome, Outcome::Fitted(_))) && self.parity.iter().all(|p| p.agrees)
    }
}

/// What it ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: u32,
    pub memory_bytes: u64,
}

/// The matrix of size 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixFacts {
    pub source: String,
    pub features: u32,
    pub train_rows: u64,
    pub holdout_rows: u64,
    /// Features that are combinations of others and were left out, for all alike.
    pub left_out: Vec<String>,
}

/// A framework, apart from any run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub framework: String,
    /// Why it is not there, and how to get it.
    pub absent: Option<String>,
    pub complexity: Complexity,
}

/// What it costs to have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Complexity {
    /// Lines of our code that use it, neither blank nor comment; what all jobs share is not counted.
    pub lines: u32,
    /// Packages or crates that are installed for it, its own among them.
    pub dependencies: u32,
    /// What they take on the disk; `None` where it is part of the binary, absent, or not of bief's own installing.
    pub install_bytes: Option<u64>,
    /// What must be there beside.
    pub needs: String,
}

/// One framework, size and number of workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub framework: String,
    pub size: u32,
    /// Rows that are fitted.
    pub rows: u64,
    /// As asked for; how many there were is in the outcome.
    pub workers: u32,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Fitted(Box<Fitted>),
    Absent {
        why: String,
    },
    /// In a line, and the end of what it said on its standard error.
    Failed {
        why: String,
        stderr: String,
    },
}

/// A model and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    pub versions: BTreeMap<String, String>,
    /// Of the estimator, those that are not its defaults.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// How least squares are solved.
    pub solver: String,
    /// Threads, processes or cores that there were, however many were asked for.
    pub workers_had: u32,
    /// In the order of the features.
    pub coefficients: Vec<f64>,
    pub intercept: f64,
    /// Of the rows that are held out; compared, not stored.
    #[serde(skip_serializing, default)]
    pub predictions: Vec<f64>,
    pub seconds: Seconds,
    /// Of all processes, from start to end.
    pub cpu_seconds: f64,
    /// Of all processes together.
    pub peak_memory_bytes: u64,
    /// Some process told its resident size alone, in which shared pages count more than once.
    pub memory_is_resident: bool,
    /// Lines of its output that were no message.
    pub garbage_lines: u32,
    /// What was wrong though it came to a model, such as processes that it left behind.
    pub remarks: Vec<String>,
}

/// What it took, by the clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// From the start of the process until the framework, its cluster too, is ready.
    pub start_up: f64,
    /// From the Parquet file into the framework's own memory.
    pub load: f64,
    pub fit: f64,
    /// Of the rows that are held out.
    pub predict: f64,
    /// From before the start to after the end.
    pub wall: f64,
}

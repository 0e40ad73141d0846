//! The files of the aggregates' queries: read when `check` or the daemon needs them. What is wrong with one is told at
//! its place in the configuration, with the line of the file.

use std::io::Read;
use std::path::Path;

use super::diagnostic::{Diagnostic, Severity};
use super::load::Loaded;
use super::source::quoted;
use crate::core::bucket_query::BucketQuery;

/// A file larger than this is something else.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a file gives no query for one bucket; to be said after the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("line {line}: {what}")]
    Unfit { line: usize, what: String },
}

/// Reads the query of an aggregate.
///
/// # Errors
/// Where the file cannot be read, or is no query for one bucket.
pub fn read_query(path: &Path) -> Result<BucketQuery, QueryFault> {
    let unreadable = |error: std::io::Error| QueryFault::Unreadable(super::secrets::cause(&error));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(QueryFault::Unreadable("it is larger than 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| QueryFault::Unreadable("it is not UTF-8 text".to_owned()))?;
    BucketQuery::parse(text.trim_start_matches('\u{feff}'))
        .map_err(|error| QueryFault::Unfit { line: error.line, what: error.what })
}

/// What is wrong with the files of the aggregates' queries, but for files that are not there: [`super::missing_files`]
/// tells those.
pub fn faulty_queries(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for named in loaded.paths.iter().filter(|named| named.key == "query" && named.path.is_file()) {
        let Err(fault) = read_query(&named.path) else { continue };
        let (what, help) = match &fault {
            QueryFault::Unreadable(_) => (format!(" {fault}"), "name a text file with a SELECT in it"),
            QueryFault::Unfit { .. } => {
                (format!(", {fault}"), "a query is one SELECT for the rows from `:bucket_start` up to `:bucket_end`")
            }
        };
        let message = format!("`query` = {}{what}", quoted(&named.raw));
        findings.push(loaded.at_span(Severity::Error, &named.span, message, help.to_owned()));
    }
    findings
}

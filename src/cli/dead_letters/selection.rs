//! Which dead letters a command means: by number or by filter, never all of them by accident.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::core::outcome::Reason;
use crate::ports::{DeadLetterFilter, LetterBook, LetterKey, WarehouseError};

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Only of this topic and its former logs (TOPIC@EPOCH)
    #[arg(long)]
    pub topic: Option<String>,
    /// Only with this reason
    #[arg(long, value_parser = reason)]
    pub reason: Option<String>,
    /// Only stored at or after this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub since: Option<DateTime<Utc>>,
    /// Only stored before this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub until: Option<DateTime<Utc>>,
}

fn reason(text: &str) -> Result<String, String> {
    match Reason::ALL.iter().any(|r| r.as_str() == text) {
        true => Ok(text.to_owned()),
        false => Err(format!("there is no such reason; they are {}", Reason::ALL.map(Reason::as_str).join(", "))),
    }
}

impl FilterArgs {
    /// Without a limit.
    pub fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            topic: self.topic.clone(),
            ids: Vec::new(),
            reason: self.reason.clone(),
            since: self.since,
            until: self.until,
            after_id: None,
            before_id: None,
            newest_first: false,
            limit: i64::MAX as u64,
        }
    }

    fn is_empty(&self) -> bool {
        self.topic.is_none() && self.reason.is_none() && self.since.is_none() && self.until.is_none()
    }
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Selection {
    /// Their numbers, as `list` has them
    #[arg(value_name = "ID")]
    pub ids: Vec<i64>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// All there are
    #[arg(long)]
    pub all: bool,
    /// At most so many: the oldest, or of `retry` without --overwrite the newest
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

impl Selection {
    /// Refuses a command line that names none.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.ids.is_empty() && self.filter.is_empty() && !self.all {
            true => Err("say which: numbers, --topic, --reason, --since, --until, or --all"),
            false => Ok(()),
        }
    }

    /// The letters by number, ascending or descending; a limit leaves out those at the end.
    pub async fn keys(&self, book: &dyn LetterBook, newest_first: bool) -> Result<Vec<LetterKey>, WarehouseError> {
        let mut filter = DeadLetterFilter { ids: self.ids.clone(), newest_first, ..self.filter.filter() };
        if let Some(limit) = self.limit {
            filter.limit = limit;
        }
        book.letter_keys(&filter).await
    }

    /// The numbers that were named and of which there is no letter, ascending. Filters and limits leave out others.
    pub fn unknown(&self, keys: &[LetterKey]) -> Vec<i64> {
        if self.limit.is_some() || !self.filter.is_empty() {
            return Vec::new();
        }
        let there: BTreeSet<i64> = keys.iter().map(|key| key.id).collect();
        let named: BTreeSet<i64> = self.ids.iter().copied().collect();
        named.difference(&there).copied().collect()
    }
}

/// In words, where there are any.
pub(super) fn tell_unknown(unknown: &[i64]) {
    if !unknown.is_empty() {
        let numbers: Vec<String> = unknown.iter().map(i64::to_string).collect();
        errln!("bief: there is no dead letter {}", numbers.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_must_name_something() {
        assert!(Selection::default().check().is_err());
        assert!(Selection { all: true, ..Selection::default() }.check().is_ok());
        assert!(Selection { ids: vec![1], ..Selection::default() }.check().is_ok());
        let filter = FilterArgs { reason: Some("check".to_owned()), ..FilterArgs::default() };
        assert!(Selection { filter, ..Selection::default() }.check().is_ok());
    }
}

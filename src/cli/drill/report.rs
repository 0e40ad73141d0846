//! The verdict of a drill: a table for people, one object for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::table::{Align, Table};
use crate::cli::verify::Proof;
use crate::core::drill::Kind;
use crate::core::drill::records::Difference;
use crate::core::drill::tally::{KindTally, Outcome, by_kind};

/// Numbers of records that are named one by one.
const NAMED: usize = 20;

/// All that a drill found.
pub(super) struct Findings {
    pub id: String,
    pub seed: u64,
    pub records: u64,
    pub seconds: f64,
    pub outcomes: Vec<Outcome>,
    pub not_applied: usize,
    pub left_out: Vec<(Kind, &'static str)>,
    pub difference: Difference,
    pub duplicates: i64,
    pub dead_letters: i64,
    pub stuck_at_end: bool,
    pub unexpected_ends: Vec<String>,
    pub proof: Proof,
}

/// The verdict. Fields are added, never renamed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Faults that were inflicted.
    pub faults: usize,
    /// Records whose row is missing or wrong.
    pub lost: u64,
    /// Records with more than one outcome, and rows that no record stands for.
    pub doubled: u64,
    /// Faults after which not all was in the tables in time, and daemons that ended by themselves.
    pub stuck: usize,
    pub kinds: BTreeMap<&'static str, KindTally>,
    pub seconds: f64,
    pub seed: u64,
    pub id: String,
    pub records: u64,
    pub dead_letters: i64,
    /// As `bief verify` says it.
    pub verify: String,
    /// Faults that found nothing to hit.
    pub not_applied: usize,
    /// Kinds that could not be inflicted here, with why.
    pub left_out: BTreeMap<&'static str, &'static str>,
    /// The first of the records that were lost or doubled, by number.
    pub lost_records: Vec<u64>,
    pub doubled_records: Vec<u64>,
    pub unexpected_ends: Vec<String>,
    #[serde(skip)]
    proof: String,
}

impl Report {
    pub fn new(found: Findings) -> Self {
        let Findings { difference: Difference { lost, doubled }, outcomes, proof, .. } = found;
        let kinds = by_kind(&outcomes, &lost, &doubled);
        let named = |records: &[u64]| records.iter().copied().take(NAMED).collect();
        Self {
            faults: outcomes.len(),
            lost: lost.len() as u64,
            doubled: doubled.len() as u64 + u64::try_from(found.duplicates).unwrap_or(0),
            stuck: outcomes.iter().filter(|outcome| outcome.recovered_seconds.is_none()).count()
                + usize::from(found.stuck_at_end)
                + found.unexpected_ends.len(),
            kinds,
            seconds: (found.seconds * 10.0).round() / 10.0,
            seed: found.seed,
            id: found.id,
            records: found.records,
            dead_letters: found.dead_letters,
            verify: proof.verify.clone(),
            not_applied: found.not_applied,
            left_out: found.left_out.into_iter().map(|(kind, why)| (kind.name(), why)).collect(),
            lost_records: named(&lost),
            doubled_records: named(&doubled),
            unexpected_ends: found.unexpected_ends,
            proof: proof.text(false),
        }
    }

    pub fn is_well(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.stuck == 0 && self.dead_letters == 0 && self.verify == "clean"
    }

    pub fn text(&self) -> String {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("fault", Left),
            ("times", Right),
            ("recovered p50 s", Right),
            ("max s", Right),
            ("lost", Right),
            ("doubled", Right),
            ("stuck", Right),
        ]);
        let seconds = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
        for (name, kind) in &self.kinds {
            table.row([
                (*name).to_owned(),
                kind.faults.to_string(),
                seconds(kind.recover_p50_seconds),
                seconds(kind.recover_max_seconds),
                kind.lost.to_string(),
                kind.doubled.to_string(),
                kind.stuck.to_string(),
            ]);
        }
        let mut text = table.render();
        for (name, why) in &self.left_out {
            text += &format!("left out: {name}: {why}\n");
        }
        if self.not_applied > 0 {
            text += &format!("{} more faults found nothing to hit\n", self.not_applied);
        }
        for end in &self.unexpected_ends {
            text += &format!("{end}\n");
        }
        text += &self.proof;
        for (what, records) in [("lost", &self.lost_records), ("doubled", &self.doubled_records)] {
            if !records.is_empty() {
                text += &format!("{what}, by number, the first of them: {records:?}\n");
            }
        }
        let Self { faults, records, lost, doubled, stuck, dead_letters, seconds, seed, .. } = self;
        text += &format!(
            "{faults} faults in {seconds:.0} s, {records} records: {lost} lost, {doubled} doubled, {stuck} stuck, \
             {dead_letters} dead letters; seed {seed}\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let outcome =
            |kind, from_record, recovered_seconds| Outcome { kind, from_record, recovered_seconds, doubled: 0 };
        Findings {
            id: "0a1b2c3d".into(),
            seed: 7,
            records: 5000,
            seconds: 61.23,
            outcomes: vec![
                outcome(Kind::DaemonKill, 100, Some(6.21)),
                outcome(Kind::CommitAnswerCut, 2000, Some(0.52)),
                outcome(Kind::DaemonKill, 3000, Some(7.0)),
            ],
            not_applied: 1,
            left_out: vec![(Kind::BrokerRestart, "no --broker-restart was given")],
            difference: Difference::default(),
            duplicates: 0,
            dead_letters: 0,
            stuck_at_end: false,
            unexpected_ends: Vec::new(),
            proof: Proof { verify: "clean".into(), streams: Vec::new() },
        }
    }

    #[test]
    fn a_drill_that_went_well_is_told_as_a_table() {
        let report = Report::new(findings());
        assert!(report.is_well());
        let text = report.text();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(words.contains(&vec!["daemon-kill", "2", "6.2", "7.0", "0", "0", "0"]), "{text}");
        assert!(text.contains("left out: broker-restart: no --broker-restart was given\n"), "{text}");
        assert!(text.contains("1 more faults found nothing to hit\n"), "{text}");
        let last = "3 faults in 61 s, 5000 records: 0 lost, 0 doubled, 0 stuck, 0 dead letters; seed 7\n";
        assert!(text.ends_with(last), "{text}");
    }

    #[test]
    fn each_thing_that_went_wrong_is_enough_and_is_told() {
        let worse: [(&str, fn(&mut Findings)); 7] = [
            ("1 lost", |found| found.difference.lost.push(2500)),
            ("1 doubled", |found| found.difference.doubled.push(9)),
            ("2 doubled", |found| found.duplicates = 2),
            ("1 stuck", |found| found.outcomes[1].recovered_seconds = None),
            ("1 stuck", |found| found.stuck_at_end = true),
            ("daemon-3 ended", |found| found.unexpected_ends.push("daemon-3 ended by itself".into())),
            ("1 finding", |found| found.proof.verify = "1 finding".into()),
        ];
        for (words, change) in worse {
            let mut found = findings();
            change(&mut found);
            let report = Report::new(found);
            assert!(!report.is_well() && report.text().contains(words), "{words}: {}", report.text());
        }
    }
}

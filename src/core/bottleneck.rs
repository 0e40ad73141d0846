//! What holds a daemon up, in one sentence: from shares of time that its stages spent waiting. Judges figures only; where
//! none of them says it, it says so rather than guess.

/// A stage that waited for less than this share of the time is not held up by the one below it.
const HELD_UP: f64 = 0.25;
/// Offsets behind that a stream of this rate has at any moment, in seconds of its work.
const AT_ANY_MOMENT: f64 = 1.0;
/// Or so many, however slow it is.
const SO_FEW: f64 = 10.0;

/// One stream over the last seconds. Shares are of the time, 0 to 1, averaged over lanes; `None` where it is not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flow {
    pub stream: String,
    /// Why it does not run at all: its state and the cause.
    pub stopped: Option<String>,
    /// Why an actor waits although the stream runs: the cause.
    pub trouble: Option<String>,
    /// Offsets behind the broker's end.
    pub lag: i64,
    pub records_per_second: f64,
    /// The consumer waited for room before the decoders.
    pub consumer_waited: Option<f64>,
    /// The decoders waited for room before the writers.
    pub decoder_waited: Option<f64>,
    /// Lanes were not polled because the memory budget was used up.
    pub memory_waited: Option<f64>,
    /// The writers were within a transaction.
    pub committing: Option<f64>,
    /// Seconds of a transaction on average.
    pub commit_seconds: Option<f64>,
}

/// What holds each stream up, the worst first, in one sentence.
pub fn sentence(flows: &[Flow]) -> String {
    let mut told: Vec<(u8, String)> = flows.iter().map(judge).collect();
    // Of the same weight in the order given.
    told.sort_by_key(|(weight, _)| *weight);
    match told.split_first() {
        None => "no stream is configured".to_owned(),
        Some(((KEEPS_UP, _), _)) => "nothing holds it up: every stream keeps up".to_owned(),
        Some(((_, worst), others)) => {
            let others = others.iter().filter(|(weight, _)| *weight < KEEPS_UP).count();
            match others {
                0 => worst.clone(),
                1 => format!("{worst}; another stream is held up too"),
                more => format!("{worst}; {more} other streams are held up too"),
            }
        }
    }
}

const KEEPS_UP: u8 = 4;

/// How bad it is, less is worse, and why.
fn judge(flow: &Flow) -> (u8, String) {
    let Flow { stream, .. } = flow;
    if let Some(stopped) = &flow.stopped {
        return (0, format!("{stream} does not run: {stopped}"));
    }
    if let Some(trouble) = &flow.trouble {
        return (1, format!("{stream} waits: {trouble}"));
    }
    if flow.lag as f64 <= SO_FEW.max(flow.records_per_second * AT_ANY_MOMENT) {
        return (KEEPS_UP, String::new());
    }
    let held_up = |share: Option<f64>| share.filter(|share| *share >= HELD_UP);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    if let Some(waited) = held_up(flow.memory_waited) {
        let why = "the memory budget is used up, since the database takes batches more slowly than they come";
        return (2, format!("{stream} is held up by its writers: {why} ({} of the time)", percent(waited)));
    }
    if let Some(waited) = held_up(flow.decoder_waited) {
        let commit = flow.commit_seconds.map(|s| format!(", a commit takes {}", seconds(s))).unwrap_or_default();
        let what = match flow.committing {
            Some(share) if share >= 0.5 => format!("they wait for the database {} of the time", percent(share)),
            _ => "they are busy".to_owned(),
        };
        return (
            2,
            format!(
                "{stream} is held up by its writers: decoders waited for them {} of the time, {what}{commit}",
                percent(waited)
            ),
        );
    }
    if let Some(waited) = held_up(flow.consumer_waited) {
        let told = percent(waited);
        return (2, format!("{stream} is held up by its decoders: the consumer waited for them {told} of the time"));
    }
    if flow.decoder_waited.is_none() && flow.consumer_waited.is_none() {
        return (3, format!("{stream} is behind; what holds it up is not known yet"));
    }
    (3, format!("{stream} is behind and no stage waits for another: records come as fast as the broker sends them"))
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(stream: &str) -> Flow {
        Flow {
            stream: stream.into(),
            lag: 50_000,
            records_per_second: 10_000.0,
            consumer_waited: Some(0.0),
            decoder_waited: Some(0.0),
            memory_waited: Some(0.0),
            committing: Some(0.9),
            commit_seconds: Some(0.12),
            ..Flow::default()
        }
    }

    #[test]
    fn a_stream_that_is_a_moment_behind_keeps_up() {
        let flow = Flow { lag: 9_000, decoder_waited: Some(0.9), ..behind("orders") };
        assert_eq!(sentence(&[flow]), "nothing holds it up: every stream keeps up");
        assert_eq!(sentence(&[]), "no stream is configured");
    }

    #[test]
    fn the_stage_that_others_wait_for_is_named() {
        for (flow, expected) in [
            (
                Flow { decoder_waited: Some(0.83), consumer_waited: Some(0.9), ..behind("orders") },
                "orders is held up by its writers: decoders waited for them 83 % of the time, they wait for the \
                 database 90 % of the time, a commit takes 120 ms",
            ),
            (
                Flow { decoder_waited: Some(0.5), committing: None, commit_seconds: Some(2.5), ..behind("orders") },
                "orders is held up by its writers: decoders waited for them 50 % of the time, they are busy, a commit \
                 takes 2.5 s",
            ),
            (
                Flow { consumer_waited: Some(0.4), ..behind("orders") },
                "orders is held up by its decoders: the consumer waited for them 40 % of the time",
            ),
            (
                Flow { memory_waited: Some(0.6), decoder_waited: Some(0.9), ..behind("orders") },
                "orders is held up by its writers: the memory budget is used up, since the database takes batches more \
                 slowly than they come (60 % of the time)",
            ),
            (
                behind("orders"),
                "orders is behind and no stage waits for another: records come as fast as the broker sends them",
            ),
            (
                Flow { consumer_waited: None, decoder_waited: None, ..behind("orders") },
                "orders is behind; what holds it up is not known yet",
            ),
        ] {
            assert_eq!(sentence(&[flow]), expected);
        }
    }

    #[test]
    fn what_does_not_run_comes_before_what_waits_before_what_is_slow() {
        let slow = Flow { consumer_waited: Some(0.4), ..behind("slow") };
        let waits = Flow { trouble: Some("connection refused".into()), ..behind("waits") };
        let stopped = Flow { stopped: Some("backing off: a panic".into()), ..behind("stopped") };
        let well = Flow { lag: 0, ..behind("well") };
        assert_eq!(
            sentence(&[well.clone(), slow.clone(), waits.clone(), stopped]),
            "stopped does not run: backing off: a panic; 2 other streams are held up too"
        );
        assert_eq!(
            sentence(&[slow.clone(), waits, well.clone()]),
            "waits waits: connection refused; another stream is held up too"
        );
        assert!(sentence(&[well, slow]).starts_with("slow is held up by its decoders"));
    }
}

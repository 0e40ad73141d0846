//! What holds a stream up, in one sentence: from shares of time that its stages spent waiting. The one judge, asked by the
//! status document and so by the page, and by `bief top`. Judges figures only; where none of them says it, it says so
//! rather than guess.

use serde::Serialize;

/// A stage that waited for less than this share of the time is not held up by the one below it.
const HELD_UP: f64 = 0.25;
/// A writer that is within its transactions less than this is not waiting for the database alone.
const IS_COMMITTING: f64 = 0.5;
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
    /// Which actor waits although the stream runs, and why.
    pub trouble: Option<(String, String)>,
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

/// What a judgement is made for.
#[derive(Debug, Clone, Copy)]
pub struct Over<'a> {
    /// What shares are of, as in "83 % of the last minute".
    pub time: &'a str,
    /// What the writers wait for, as in "writer waits for MySQL".
    pub database: &'a str,
}

/// What holds one stream up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bottleneck {
    /// A stage, an actor, or `stream` where nothing of it runs.
    pub stage: String,
    /// Of the time, 0 to 1.
    pub share: f64,
    /// Without the stream's name and without a full stop.
    pub sentence: String,
    #[serde(skip)]
    weight: u8,
}

/// How bad it is, less is worse.
const STOPPED: u8 = 0;
const WAITS: u8 = 1;
const SLOW: u8 = 2;

/// What holds each stream up, the worst first, in one sentence.
pub fn sentence(flows: &[Flow], over: Over) -> String {
    let mut held_up: Vec<(&Flow, Bottleneck)> =
        flows.iter().filter_map(|flow| Some((flow, bottleneck(flow, over)?))).collect();
    // Of the same weight in the order given.
    held_up.sort_by_key(|(_, bottleneck)| bottleneck.weight);
    let Some(((flow, worst), others)) = held_up.split_first() else {
        return match flows.iter().find(|flow| is_behind(flow)) {
            _ if flows.is_empty() => "no stream is configured".to_owned(),
            None => "nothing holds it up: every stream keeps up".to_owned(),
            Some(Flow { stream, consumer_waited: None, decoder_waited: None, .. }) => {
                format!("{stream} is behind; what holds it up is not known yet")
            }
            Some(Flow { stream, .. }) => format!(
                "{stream} is behind and no stage waits for another: records come as fast as the broker sends them"
            ),
        };
    };
    let worst = format!("{}: {}", flow.stream, worst.sentence);
    match others.len() {
        0 => worst,
        1 => format!("{worst}; another stream is held up too"),
        more => format!("{worst}; {more} other streams are held up too"),
    }
}

/// `None` where nothing does, or nothing that the figures tell.
pub fn bottleneck(flow: &Flow, over: Over) -> Option<Bottleneck> {
    let told =
        |weight, stage: &str, share, sentence| Some(Bottleneck { stage: stage.to_owned(), share, sentence, weight });
    if let Some(stopped) = &flow.stopped {
        return told(STOPPED, "stream", 1.0, format!("does not run: {stopped}"));
    }
    if let Some((actor, cause)) = &flow.trouble {
        return told(WAITS, actor, 1.0, format!("{actor} waits: {cause}"));
    }
    // What is on its way at any moment is held up by nothing, however busy the stages are.
    if !is_behind(flow) {
        return None;
    }
    let waits = |share: Option<f64>| share.filter(|share| *share >= HELD_UP);
    let slow = |stage, share: f64, what: String| {
        told(SLOW, stage, share, format!("{what}, {:.0} % of {}", share * 100.0, over.time))
    };
    let commit = flow.commit_seconds.map(|s| format!("; a commit takes {}", seconds(s))).unwrap_or_default();
    let with_commit = |found: Option<Bottleneck>| {
        found.map(|found| Bottleneck { sentence: format!("{}{commit}", found.sentence), ..found })
    };
    let above = waits(flow.decoder_waited).or(waits(flow.memory_waited)).or(waits(flow.consumer_waited));
    if let (Some(_), Some(share)) = (above, flow.committing.filter(|share| *share >= IS_COMMITTING)) {
        return with_commit(slow("writer", share, format!("writer waits for {}", over.database)));
    }
    if let Some(share) = waits(flow.decoder_waited) {
        return with_commit(slow("writer", share, "decoder waits for the writer".to_owned()));
    }
    if let Some(share) = waits(flow.consumer_waited) {
        return slow("decoder", share, "consumer waits for the decoder".to_owned());
    }
    let share = waits(flow.memory_waited)?;
    slow("consumer", share, "consumer waits for memory, since all that `memory` allows is under way".to_owned())
}

fn is_behind(flow: &Flow) -> bool {
    flow.lag as f64 > SO_FEW.max(flow.records_per_second * AT_ANY_MOMENT)
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER: Over = Over { time: "the last minute", database: "MySQL" };

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
    fn a_stream_that_is_a_moment_behind_keeps_up_however_busy_it_is() {
        let flow = Flow { lag: 9_000, decoder_waited: Some(0.9), ..behind("orders") };
        assert_eq!(bottleneck(&flow, OVER), None);
        assert_eq!(sentence(&[flow], OVER), "nothing holds it up: every stream keeps up");
        assert_eq!(sentence(&[], OVER), "no stream is configured");
    }

    #[test]
    fn the_stage_that_others_wait_for_is_named() {
        for (flow, stage, expected) in [
            (
                Flow { decoder_waited: Some(0.83), consumer_waited: Some(0.9), ..behind("orders") },
                "writer",
                "writer waits for MySQL, 90 % of the last minute; a commit takes 120 ms",
            ),
            (
                Flow { decoder_waited: Some(0.5), committing: None, commit_seconds: Some(2.5), ..behind("orders") },
                "writer",
                "decoder waits for the writer, 50 % of the last minute; a commit takes 2.5 s",
            ),
            (
                Flow { consumer_waited: Some(0.4), committing: Some(0.2), ..behind("orders") },
                "decoder",
                "consumer waits for the decoder, 40 % of the last minute",
            ),
            (
                Flow { memory_waited: Some(0.6), ..behind("orders") },
                "writer",
                "writer waits for MySQL, 90 % of the last minute; a commit takes 120 ms",
            ),
            (
                Flow { memory_waited: Some(0.6), committing: Some(0.1), ..behind("orders") },
                "consumer",
                "consumer waits for memory, since all that `memory` allows is under way, 60 % of the last minute",
            ),
        ] {
            let found = bottleneck(&flow, OVER).unwrap();
            assert_eq!((found.stage.as_str(), found.sentence.as_str()), (stage, expected));
            assert_eq!(sentence(&[flow], OVER), format!("orders: {expected}"));
        }
    }

    #[test]
    fn what_the_figures_do_not_tell_is_not_guessed() {
        assert_eq!(bottleneck(&behind("orders"), OVER), None);
        assert_eq!(
            sentence(&[behind("orders")], OVER),
            "orders is behind and no stage waits for another: records come as fast as the broker sends them"
        );
        let unknown = Flow { consumer_waited: None, decoder_waited: None, ..behind("orders") };
        assert_eq!(sentence(&[unknown], OVER), "orders is behind; what holds it up is not known yet");
    }

    #[test]
    fn what_does_not_run_comes_before_what_waits_before_what_is_slow() {
        let slow = Flow { consumer_waited: Some(0.4), committing: None, ..behind("slow") };
        let waits = Flow { trouble: Some(("writer-0".into(), "connection refused".into())), ..behind("sales") };
        let stopped = Flow { stopped: Some("backing off: a panic".into()), ..behind("stopped") };
        let well = Flow { lag: 0, ..behind("well") };
        assert_eq!(
            sentence(&[well.clone(), slow.clone(), waits.clone(), stopped], OVER),
            "stopped: does not run: backing off: a panic; 2 other streams are held up too"
        );
        assert_eq!(
            sentence(&[slow.clone(), waits, well.clone()], OVER),
            "sales: writer-0 waits: connection refused; another stream is held up too"
        );
        assert!(sentence(&[well, slow], OVER).starts_with("slow: consumer waits for the decoder"));
    }
}

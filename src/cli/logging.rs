//! Sets the log up: text for people on a terminal, JSON elsewhere, always to stderr, since stdout is for data.
//! In text, control characters in messages and fields are escaped: records and servers have their words in them.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;

use super::printable::{json_escaped, printable};

/// What is logged unless told otherwise: own words from `info` on, of libraries what is wrong.
const DEFAULT_FILTER: &str = "warn,bief=info";

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("the log filter {filter:?} is none ({why}); write a level such as \"debug\", or \"warn,bief=debug\"")]
    Filter { filter: String, why: String },
    #[error("a log is set up already")]
    Twice,
}

/// Sets the log up for the whole process. `filter` is what `--log` says, else the environment's `RUST_LOG` counts.
///
/// # Errors
/// When the filter cannot be read, or the log was set up before.
pub fn init(format: Format, filter: Option<&str>) -> Result<(), LoggingError> {
    let from_env = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let filter = parse_filter(filter.or(from_env.as_deref()).unwrap_or(DEFAULT_FILTER))?;
    let terminal = io::stderr().is_terminal();
    // https://no-color.org: any value but the empty one.
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let json = format == Format::Json || (format == Format::Auto && !terminal);
    let subscriber = subscriber(json, colour, filter, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::Twice)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LoggingError::Filter { filter: filter.to_owned(), why: error.to_string() })
}

fn subscriber<W>(json: bool, colour: bool, filter: EnvFilter, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A line that is not taken would be complained of by `eprintln!`, which panics where stderr takes nothing.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    if json {
        Box::new(builder.json().flatten_event(true).with_writer(Escaping(writer)).finish())
    } else {
        Box::new(builder.with_writer(writer).with_ansi(colour).fmt_fields(escaped_fields()).finish())
    }
}

/// Lines of JSON with what JSON itself lets through escaped too: DEL, C1 controls, marks of direction.
struct Escaping<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaping<W> {
    type Writer = Escaping<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for Escaping<W> {
    /// Takes all: a line comes in one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(json_escaped(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// `message name=value name=value`, every part escaped.
fn escaped_fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    debug_fn(|writer, field, value| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", printable(&text)),
            name => write!(writer, "{}={}", name.strip_prefix("r#").unwrap_or(name), printable(&text)),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, filter: &str, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(json, false, parse_filter(filter).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn hostile_lines() {
        let hostile = "\x1b[2Jgone\nINFO forged\r\u{9b}31m";
        let error = io::Error::other(hostile);
        tracing::info!(topic = "orders", display = %hostile, quoted = hostile, error = &error as &dyn std::error::Error, "server said {hostile}");
    }

    #[test]
    fn a_hostile_value_neither_reaches_the_terminal_nor_forges_a_line() {
        let text = logged(false, "info", hostile_lines);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        assert!(text.contains("server said \\u{1b}[2Jgone\\nINFO forged\\r\\u{9b}31m"), "{text}");
        assert!(text.contains(" topic=\"orders\" display=\\u{1b}[2Jgone"), "{text}");
    }

    #[test]
    fn a_json_line_holds_the_fields_at_its_top() {
        let text = logged(true, "info", hostile_lines);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["topic"]), (&"INFO".into(), &"orders".into()));
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        assert_eq!(line["quoted"], "\u{1b}[2Jgone\nINFO forged\r\u{9b}31m");
    }

    #[test]
    fn the_default_keeps_libraries_quiet_and_own_words_in() {
        let text = logged(false, DEFAULT_FILTER, || {
            tracing::info!(target: "some_library", "chatter");
            tracing::warn!(target: "some_library", "trouble");
            tracing::info!(target: "bief::actors", "work");
            tracing::debug!(target: "bief::actors", "detail");
        });
        assert!(text.contains("trouble") && text.contains("work"), "{text}");
        assert!(!text.contains("chatter") && !text.contains("detail"), "{text}");
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_what_to_write() {
        let error = parse_filter("bief=loud").unwrap_err().to_string();
        assert!(error.contains("\"bief=loud\"") && error.contains("write a level such as"), "{error}");
    }
}

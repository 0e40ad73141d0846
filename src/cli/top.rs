//! `bief top`: a running daemon on a terminal, once a second. Asks on a thread of its own, so that keys are obeyed while
//! a daemon hangs; a daemon that restarts is asked until it answers again.

mod figures;
mod standing;
mod text;
mod view;

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::figures::Figures;
use self::standing::{Look, Looks};
use self::view::{Key, Next, View};
use super::exit;
use super::http_client::{AskError, Daemon, TOKEN_NEEDED};
use super::printable::{json_escaped, printable};
use super::status_document::Status;
use super::support::interrupted;

const EXAMPLES: &str = "\
Examples:
  bief top
  bief top -c actors.toml --every 5
  bief top --once --json | jq -r .bottleneck

Keys: q quits, s sorts partitions by lag, name, dead letters or unaccounted, r reverses, / filters by
name, Esc clears the filter, arrows and PgUp, PgDn scroll.

QUEUE is how full the queue above an actor is. WAITED is the share of the last seconds in which it waited
for room below it; for a writer, in which it was within a transaction.

Exit codes: 0 quit, or once and ready, 2 wrong address, configuration or token, or no terminal,
5 once and not ready, or no answer";

/// For both documents of a look.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a key is obeyed, at the latest.
const KEYS_EVERY: Duration = Duration::from_millis(100);

/// Watch a running daemon: actors, queues, lag, and what holds it up
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    daemon: Daemon,

    /// Ask anew after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    every: u64,

    /// Look twice, that many seconds apart, print what was seen, and end
    #[arg(long)]
    once: bool,

    /// With --once: print one JSON object
    #[arg(long, requires = "once")]
    json: bool,
}

#[cfg(test)]
impl Args {
    pub(super) fn once(daemon: Daemon, json: bool) -> Self {
        Self { daemon, every: 1, once: true, json }
    }
}

/// Draws until `q`, or with `--once` prints to `out`.
pub fn run(args: &Args, out: &mut dyn Write) -> u8 {
    if args.once {
        return once(args, out);
    }
    if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
        errln!("bief: top draws on a terminal and reads its keys; write --once, or --once --json for a script");
        return exit::USAGE;
    }
    // What will never be answered is told before the screen is taken over.
    match look(&args.daemon) {
        Err(Unseen::Wrong(told)) => {
            errln!("bief: {}", printable(&told));
            exit::USAGE
        }
        first => match watch(args, first) {
            Ok(()) => exit::OK,
            Err(error) => {
                errln!("bief: the terminal can't be used: {error}");
                exit::FAILED
            }
        },
    }
}

/// Why there is nothing to be shown.
enum Unseen {
    /// It stays so: a wrong address, a wrong token.
    Wrong(String),
    /// No answer, or none that is one: it may come.
    NoAnswer(String),
}

impl From<AskError> for Unseen {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Usage(told) => Unseen::Wrong(told),
            error @ AskError::Unreachable { .. } => Unseen::NoAnswer(error.to_string()),
        }
    }
}

fn look(daemon: &Daemon) -> Result<Look, Unseen> {
    let status = daemon.get("/status", TIMEOUT)?;
    let at = Instant::now();
    match status.status {
        200 => {}
        401 => return Err(Unseen::Wrong(TOKEN_NEEDED.to_owned())),
        other => return Err(Unseen::NoAnswer(format!("it answers with HTTP {other}"))),
    }
    let status: Status = serde_json::from_str(&status.body)
        .map_err(|_| Unseen::NoAnswer("what answers there is no bief daemon".to_owned()))?;
    let metrics = daemon.get("/metrics", TIMEOUT)?;
    let figures = if metrics.status == 200 { Figures::of(&metrics.body) } else { Figures::default() };
    Ok(Look { at, status, figures })
}

fn once(args: &Args, out: &mut dyn Write) -> u8 {
    let mut looks = Looks::default();
    for nth in 0..2 {
        if nth > 0 {
            std::thread::sleep(Duration::from_secs(args.every));
        }
        match look(&args.daemon) {
            Ok(look) => looks.add(look),
            Err(Unseen::Wrong(told)) => {
                errln!("bief: {}", printable(&told));
                return exit::USAGE;
            }
            Err(Unseen::NoAnswer(told)) => {
                errln!("bief: {}", printable(&told));
                return exit::NOT_READY;
            }
        }
    }
    let standing = looks.standing();
    let told = if args.json {
        // A document of numbers, texts and lists of them can always be written.
        json_escaped(&serde_json::to_string(&standing).unwrap_or_default()) + "\n"
    } else {
        text::describe(&standing)
    };
    match out.write_all(told.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if standing.ready => exit::OK,
        Ok(()) => exit::NOT_READY,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            errln!("bief: what was seen could not be written: {error}");
            exit::FAILED
        }
    }
}

/// Draws on the terminal, which is given back whatever happens.
fn watch(args: &Args, first: Result<Look, Unseen>) -> std::io::Result<()> {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A signal ends the drawing, not the process: what it ended at once would leave the terminal without echo.
    let told_to_end = interrupted().map_err(std::io::Error::other)?;
    let mut terminal = ratatui::try_init()?;
    let answers = ask(args.daemon.clone(), args.every, first);
    let outcome = follow(&mut terminal, View::new(colours), &answers, &told_to_end);
    ratatui::restore();
    outcome
}

/// Asks for ever, on a thread of its own that ends with whom it tells.
fn ask(daemon: Daemon, every: u64, first: Result<Look, Unseen>) -> Receiver<Result<Look, Unseen>> {
    let (told, answers) = mpsc::channel();
    std::thread::spawn(move || {
        let mut looked = first;
        while told.send(looked).is_ok() {
            std::thread::sleep(Duration::from_secs(every));
            looked = look(&daemon);
        }
    });
    answers
}

fn follow(
    terminal: &mut ratatui::DefaultTerminal,
    mut view: View,
    answers: &Receiver<Result<Look, Unseen>>,
    told_to_end: &AtomicBool,
) -> std::io::Result<()> {
    let mut looks = Looks::default();
    let mut answered = Instant::now();
    while !told_to_end.load(Ordering::SeqCst) {
        for answer in answers.try_iter() {
            match answer {
                Ok(look) => {
                    answered = Instant::now();
                    looks.add(look);
                    view.update(looks.standing());
                }
                Err(Unseen::Wrong(cause) | Unseen::NoAnswer(cause)) => {
                    view.no_answer(&cause, answered.elapsed().as_secs());
                }
            }
        }
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(KEYS_EVERY)?
            && let Event::Key(pressed) = event::read()?
            && key_of(pressed).is_some_and(|key| view.press(key) == Next::Quit)
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Ctrl-C is `q`: the terminal hands it over as a key.
fn key_of(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    Some(match event.code {
        KeyCode::Char('c') if event.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

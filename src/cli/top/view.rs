//! What is on the screen: the order and filter that were chosen, and how a standing is drawn. Everything of the daemon
//! is made printable; nothing is asked here.

use std::cmp::Reverse;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Wrap};

use super::standing::{ActorLine, PartitionLine, Standing};
use crate::cli::printable::printable;
use crate::cli::status_document::duration;
use crate::cli::table::grouped;

/// From here on there is room for all columns.
const WIDE: u16 = 110;

/// Numbers of a partition.
struct Column {
    title: &'static str,
    width: u16,
    /// Left out where there is little room.
    is_wide: bool,
    shown: fn(&PartitionLine) -> String,
}

static COLUMNS: [Column; 9] = [
    Column { title: ">PARTITION", width: 9, is_wide: false, shown: |p| p.partition.to_string() },
    Column { title: ">LANE", width: 4, is_wide: false, shown: |p| known(p.lane) },
    Column { title: ">LAG", width: 11, is_wide: false, shown: |p| known(p.lag) },
    Column { title: ">NEXT", width: 13, is_wide: true, shown: |p| grouped(p.next_offset) },
    Column { title: ">END", width: 13, is_wide: true, shown: |p| known(p.end_offset) },
    Column { title: ">APPLIED", width: 13, is_wide: false, shown: |p| grouped(p.applied) },
    Column { title: ">DUPLICATES", width: 10, is_wide: true, shown: |p| grouped(p.duplicates) },
    Column { title: ">DEAD LETTERS", width: 12, is_wide: false, shown: |p| grouped(p.dead_letters) },
    Column { title: ">GAPS", width: 7, is_wide: false, shown: |p| grouped(p.gaps) },
];

fn known(value: Option<i64>) -> String {
    value.map_or("-".to_owned(), grouped)
}

/// How partitions are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Lag,
    Name,
    DeadLetters,
    Unaccounted,
}

impl Order {
    const ALL: [Order; 4] = [Order::Lag, Order::Name, Order::DeadLetters, Order::Unaccounted];

    fn as_str(self) -> &'static str {
        match self {
            Order::Lag => "lag",
            Order::Name => "name",
            Order::DeadLetters => "dead letters",
            Order::Unaccounted => "unaccounted",
        }
    }
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Quits, whatever is being typed.
    Interrupt,
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Enter,
    Escape,
    Backspace,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Stay,
    Quit,
}

/// What was chosen, and what there is to be shown.
#[derive(Debug)]
pub struct View {
    colours: bool,
    order: Order,
    reversed: bool,
    filter: String,
    /// The filter is being typed.
    typing: bool,
    /// Partitions above the first that is shown.
    scrolled: usize,
    standing: Option<Standing>,
    /// Why there is nothing newer, and for how many seconds.
    silence: Option<(String, u64)>,
}

impl View {
    pub fn new(colours: bool) -> Self {
        Self {
            colours,
            order: Order::Lag,
            reversed: false,
            filter: String::new(),
            typing: false,
            scrolled: 0,
            standing: None,
            silence: None,
        }
    }

    pub fn update(&mut self, standing: Standing) {
        self.standing = Some(standing);
        self.silence = None;
    }

    /// The daemon does not answer; what it told last stays.
    pub fn no_answer(&mut self, cause: &str, seconds: u64) {
        self.silence = Some((cause.to_owned(), seconds));
    }

    pub fn press(&mut self, key: Key) -> Next {
        if key == Key::Interrupt {
            return Next::Quit;
        }
        if self.typing {
            match key {
                Key::Enter => self.typing = false,
                Key::Escape => {
                    self.typing = false;
                    self.filter.clear();
                }
                Key::Backspace => {
                    self.filter.pop();
                }
                Key::Char(c) => self.filter.push(c),
                _ => {}
            }
            self.scrolled = 0;
            return Next::Stay;
        }
        match key {
            Key::Char('q') => return Next::Quit,
            Key::Char('s') => {
                let at = Order::ALL.iter().position(|order| *order == self.order).unwrap_or_default();
                self.order = Order::ALL[(at + 1) % Order::ALL.len()];
                self.scrolled = 0;
            }
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('/') => self.typing = true,
            Key::Escape => {
                self.filter.clear();
                self.scrolled = 0;
            }
            Key::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Key::Down => self.scrolled += 1,
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(10),
            Key::PageDown => self.scrolled += 10,
            _ => {}
        }
        Next::Stay
    }

    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let Some(standing) = self.standing.take() else {
            let told = match &self.silence {
                Some((cause, _)) => printable(cause).into_owned(),
                None => "asking the daemon …".to_owned(),
            };
            frame.render_widget(Paragraph::new(told).wrap(Wrap { trim: true }), frame.area());
            return;
        };
        let wanted = |line: &ActorLine| self.is_wanted(&[&line.unit, line.actor.as_deref().unwrap_or_default()]);
        let actors: Vec<&ActorLine> = standing.actors.iter().filter(|line| wanted(line)).collect();
        let partitions = self.ordered(&standing.partitions);
        let area = frame.area();
        let head = self.head(&standing, usize::from(area.width));
        // The actors get what they need, but never so much that no partition is seen.
        let most = (area.height.saturating_sub(head.height() as u16 + 3) / 2).max(2);
        let actors_height = (actors.len() as u16 + 1).min(most);
        let [top, above, below, foot] = Layout::vertical([
            Constraint::Length(head.height() as u16 + 1),
            Constraint::Length(actors_height + 1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        let shown = usize::from(below.height.saturating_sub(1));
        self.scrolled = self.scrolled.min(partitions.len().saturating_sub(shown));
        frame.render_widget(Paragraph::new(head), top);
        self.draw_actors(frame, above, &actors);
        self.draw_partitions(frame, below, &partitions[self.scrolled.min(partitions.len())..]);
        frame.render_widget(self.foot(partitions.len(), shown), foot);
        self.standing = Some(standing);
    }

    fn is_wanted(&self, names: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        names.iter().any(|name| name.to_lowercase().contains(&filter))
    }

    fn ordered<'s>(&self, all: &'s [PartitionLine]) -> Vec<&'s PartitionLine> {
        let wanted =
            |line: &&PartitionLine| self.is_wanted(&[&line.stream, &format!("{}/{}", line.stream, line.partition)]);
        let mut lines: Vec<&PartitionLine> = all.iter().filter(wanted).collect();
        match self.order {
            Order::Lag => lines.sort_by_key(|line| Reverse(line.lag.unwrap_or(-1))),
            Order::Name => lines.sort_by(|a, b| (&a.stream, a.partition).cmp(&(&b.stream, b.partition))),
            Order::DeadLetters => lines.sort_by_key(|line| Reverse(line.dead_letters)),
            Order::Unaccounted => lines.sort_by_key(|line| Reverse(line.unaccounted.abs())),
        }
        if self.reversed {
            lines.reverse();
        }
        lines
    }

    fn head(&self, s: &Standing, width: usize) -> Text<'static> {
        let ready = if s.ready { self.coloured("ready", Color::Green) } else { self.coloured("NOT READY", Color::Red) };
        let unaccounted = match s.unaccounted {
            0 => Span::raw("ledger adds up"),
            n => self.coloured(&format!("LEDGER IS OFF BY {}: run bief verify", grouped(n)), Color::Red),
        };
        let first = Line::from(vec![
            Span::styled(printable(&s.name).into_owned(), Modifier::BOLD),
            Span::raw(format!("  bief {}  up {}  ", printable(&s.version), duration(s.uptime_seconds))),
            ready,
            Span::raw("  "),
            unaccounted,
        ]);
        let second = Line::from(format!(
            "{} records/s  {} behind  {}{}",
            grouped(s.records_per_second.round() as i64),
            grouped(s.lag),
            memory(s),
            s.cpus.map(|cpus| format!("  {cpus:.1} cores")).unwrap_or_default(),
        ));
        let mut lines = vec![first, second];
        if let Some((cause, seconds)) = &self.silence {
            let told = format!("no answer for {}: {}", duration(*seconds as i64), printable(cause));
            lines.push(Line::from(self.coloured(&told, Color::Red)));
        } else {
            lines.extend(s.troubles.iter().map(|cause| Line::from(self.coloured(&printable(cause), Color::Red))));
        }
        let sentence = wrapped(&printable(&s.bottleneck), width);
        lines.extend(sentence.into_iter().map(|line| Line::from(Span::styled(line, Modifier::BOLD))));
        if let Some(told) = s.freshness() {
            lines.extend(wrapped(&printable(&told), width).into_iter().map(Line::from));
        }
        Text::from(lines)
    }

    fn draw_actors(&self, frame: &mut Frame<'_>, area: Rect, actors: &[&ActorLine]) {
        let heading = heading(&["ACTOR", "STATE", ">RESTARTS", ">QUEUE", ">WAITED", ">RECORDS/S", "NOTE"]);
        let rows = actors.iter().map(|line| {
            let name = match &line.actor {
                Some(actor) => format!("  {}", printable(actor)),
                None => printable(&line.unit).into_owned(),
            };
            let state = printable(&line.state).into_owned();
            let state = if line.state == "running" { Span::raw(state) } else { self.coloured(&state, Color::Yellow) };
            Row::new(vec![
                Cell::from(name),
                Cell::from(state),
                right(grouped(line.restarts)),
                right(percent(line.queue)),
                right(percent(line.waited)),
                right(line.records_per_second.map(|rate| grouped(rate.round() as i64)).unwrap_or_default()),
                Cell::from(printable(&line.note).into_owned()),
            ])
        });
        let state = if area.width >= WIDE { 28 } else { 12 };
        let widths = [20, state, 8, 5, 6, 9].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
        frame.render_widget(Table::new(rows, widths).header(heading).column_spacing(2), area);
    }

    fn draw_partitions(&self, frame: &mut Frame<'_>, area: Rect, partitions: &[&PartitionLine]) {
        let columns: Vec<&Column> = COLUMNS.iter().filter(|c| !c.is_wide || area.width >= WIDE).collect();
        let titles: Vec<&str> = std::iter::once("STREAM").chain(columns.iter().map(|c| c.title)).collect();
        let rows = partitions.iter().take(usize::from(area.height)).map(|line| {
            let stream = printable(&line.stream).into_owned();
            let stream = match line.unaccounted {
                0 => Span::raw(stream),
                off => self.coloured(&format!("{stream}  OFF BY {}", grouped(off)), Color::Red),
            };
            let numbers = columns.iter().map(|column| right((column.shown)(line)));
            Row::new(std::iter::once(Cell::from(stream)).chain(numbers).collect::<Vec<_>>())
        });
        let numbers = columns.iter().map(|column| Constraint::Length(column.width));
        let widths: Vec<Constraint> = std::iter::once(Constraint::Fill(1)).chain(numbers).collect();
        frame.render_widget(Table::new(rows, widths).header(heading(&titles)).column_spacing(1), area);
    }

    fn foot(&self, partitions: usize, shown: usize) -> Line<'static> {
        if self.typing {
            return Line::from(format!("filter: {}_   Enter keeps it, Esc clears it", printable(&self.filter)));
        }
        let mut text = format!("q quit  s sort: {}", self.order.as_str());
        if self.reversed {
            text += " (reversed)";
        }
        text += "  r reverse  / filter";
        if !self.filter.is_empty() {
            text += &format!(": {}  Esc clears it", printable(&self.filter));
        }
        if partitions > shown {
            let last = (self.scrolled + shown).min(partitions);
            text += &format!("  partitions {} to {last} of {partitions}", self.scrolled + 1);
        }
        Line::from(Span::styled(text, Modifier::DIM))
    }

    fn coloured(&self, text: &str, colour: Color) -> Span<'static> {
        let style = if self.colours { Style::new().fg(colour) } else { Style::new() };
        Span::styled(text.to_owned(), style.add_modifier(Modifier::BOLD))
    }
}

/// Lines of at most so many characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|l| l.is_empty() || l.chars().count() + 1 + word.chars().count() <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `120 of 192 MiB (250 resident)`.
fn memory(s: &Standing) -> String {
    let mib = |bytes: u64| (bytes + (1 << 19)) >> 20;
    match (s.memory.used, s.memory.budget, s.memory.resident) {
        (Some(used), Some(budget), resident) => {
            let resident = resident.map(|bytes| format!(" ({} resident)", mib(bytes))).unwrap_or_default();
            format!("{} of {} MiB{resident}", mib(used), mib(budget))
        }
        _ => "memory unknown".to_owned(),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map(|share| format!("{:.0} %", share * 100.0)).unwrap_or_default()
}

/// Titles; those with `>` stand over numbers.
fn heading(titles: &[&'static str]) -> Row<'static> {
    let cells = titles.iter().map(|title| match title.strip_prefix('>') {
        Some(number) => right(number.to_owned()),
        None => Cell::from(*title),
    });
    Row::new(cells.collect::<Vec<_>>()).style(Modifier::BOLD)
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).alignment(Alignment::Right))
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;

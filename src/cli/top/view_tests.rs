//! The screen as it is drawn, and what keys do to it.

use std::time::Instant;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::standing::{Looks, tests::look};
use super::*;
use crate::core::printable::is_dangerous;

fn standing(edit: impl Fn(&mut serde_json::Value)) -> Standing {
    let (began, mut looks) = (Instant::now(), Looks::default());
    (0..3).for_each(|at| looks.add(look(began, at, &edit)));
    looks.standing()
}

fn view() -> View {
    let mut view = View::new(false);
    view.update(standing(|_| {}));
    view
}

fn screen(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width));
    let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn type_text(view: &mut View, text: &str) {
    text.chars().for_each(|c| assert_eq!(view.press(Key::Char(c)), Next::Stay));
}

/// The partitions in the order in which they stand.
fn partitions(view: &mut View) -> Vec<String> {
    let drawn = screen(view, 120, 24);
    let rows = drawn.lines().skip_while(|line| !line.starts_with("STREAM")).skip(1);
    rows.filter(|line| line.starts_with("orders"))
        .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
        .collect()
}

#[test]
fn a_daemon_at_work() {
    insta::assert_snapshot!(screen(&mut view(), 120, 20));
}

#[test]
fn a_daemon_in_trouble() {
    let mut view = View::new(false);
    view.update(standing(|d| {
        d["ready"] = false.into();
        d["checks"][0] = serde_json::json!({ "name": "stream orders", "ok": false, "cause": "connection refused" });
        d["units"][0]["state"] = "backing_off".into();
        d["units"][0]["next_try_at"] = "2024-05-01T10:12:42Z".into();
        d["totals"]["unaccounted"] = 2.into();
        d["streams"][0]["partitions"][0]["unaccounted"] = 2.into();
    }));
    insta::assert_snapshot!(screen(&mut view, 120, 20));
}

#[test]
fn a_small_terminal_still_shows_the_sentence_and_a_partition() {
    insta::assert_snapshot!(screen(&mut view(), 80, 12));
    for (width, height) in [(1, 1), (10, 3), (200, 2), (3, 60)] {
        screen(&mut view(), width, height);
    }
}

#[test]
fn without_an_answer_the_last_standing_stays_and_the_silence_is_told() {
    let mut view = View::new(false);
    assert!(screen(&mut view, 80, 5).contains("asking the daemon"));
    view.no_answer("connection refused", 0);
    assert!(screen(&mut view, 80, 5).contains("connection refused"));
    view.update(standing(|_| {}));
    view.no_answer("connection refused", 125);
    let drawn = screen(&mut view, 120, 20);
    assert!(drawn.contains("no answer for 2 min: connection refused") && drawn.contains("writer-1"), "{drawn}");
    view.update(standing(|_| {}));
    assert!(!screen(&mut view, 120, 20).contains("no answer"));
}

#[test]
fn partitions_are_sorted_by_what_was_chosen() {
    let mut view = view();
    assert_eq!(partitions(&mut view), ["0", "2", "1"], "by lag, the one whose end is not known last");
    view.press(Key::Char('s'));
    assert_eq!(partitions(&mut view), ["0", "1", "2"]);
    view.press(Key::Char('r'));
    assert_eq!(partitions(&mut view), ["2", "1", "0"]);
    assert!(screen(&mut view, 120, 20).contains("sort: name (reversed)"));
    view.press(Key::Char('r'));
    view.press(Key::Char('s'));
    assert_eq!(partitions(&mut view), ["0", "2", "1"], "by dead letters");
    view.press(Key::Char('s'));
    view.press(Key::Char('s'));
    assert!(screen(&mut view, 120, 20).contains("sort: lag"), "round and round");
}

#[test]
fn a_filter_is_typed_kept_and_cleared() {
    let mut view = view();
    view.press(Key::Char('/'));
    type_text(&mut view, "orders/1q");
    assert!(screen(&mut view, 120, 20).contains("filter: orders/1q_"));
    view.press(Key::Backspace);
    assert_eq!(partitions(&mut view), ["1"], "q is a letter while a filter is typed");
    view.press(Key::Enter);
    assert!(screen(&mut view, 120, 20).contains("/ filter: orders/1  Esc clears it"));
    view.press(Key::Escape);
    assert_eq!(partitions(&mut view).len(), 3);
    view.press(Key::Char('/'));
    type_text(&mut view, "WRITER");
    view.press(Key::Enter);
    let drawn = screen(&mut view, 120, 20);
    assert!(drawn.contains("writer-0") && !drawn.contains("decoder-0"), "{drawn}");
    assert_eq!(view.press(Key::Char('q')), Next::Quit);
}

#[test]
fn many_partitions_are_scrolled_and_never_past_the_end() {
    let mut view = View::new(false);
    view.update(standing(|d| {
        let one = d["streams"][0]["partitions"][0].clone();
        let partitions = (0..100).map(|n| {
            let mut partition = one.clone();
            partition["partition"] = n.into();
            partition
        });
        d["streams"][0]["partitions"] = partitions.collect();
    }));
    view.press(Key::Char('s'));
    assert_eq!(partitions(&mut view)[0], "0");
    view.press(Key::PageDown);
    view.press(Key::Down);
    assert_eq!(partitions(&mut view)[0], "11");
    (0..30).for_each(|_| {
        view.press(Key::PageDown);
    });
    assert_eq!(partitions(&mut view).last().unwrap(), "99");
    view.press(Key::Up);
    assert_eq!(partitions(&mut view).last().unwrap(), "98");
}

#[test]
fn colours_are_used_only_where_they_are_wanted() {
    for colours in [false, true] {
        let mut view = View::new(colours);
        view.update(standing(|_| {}));
        let mut terminal = Terminal::new(TestBackend::new(100, 20)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let coloured = terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset);
        assert_eq!(coloured, colours);
    }
}

#[test]
fn nothing_of_a_hostile_daemon_reaches_the_screen_as_it_is() {
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\u{200b}\n";
    let mut view = View::new(true);
    view.update(standing(|d| {
        d["name"] = hostile.into();
        d["version"] = hostile.into();
        d["checks"][0] = serde_json::json!({ "name": hostile, "ok": false, "cause": hostile });
        for field in ["name", "state", "last_error"] {
            d["units"][0][field] = hostile.into();
        }
        for field in ["name", "state", "note"] {
            d["units"][0]["actors"][0][field] = hostile.into();
        }
        d["streams"][0]["stream"] = hostile.into();
    }));
    for silent in [false, true] {
        if silent {
            view.no_answer(hostile, 1);
        }
        let drawn = screen(&mut view, 120, 24);
        assert!(!drawn.chars().any(|c| c != '\n' && is_dangerous(c)), "{drawn:?}");
    }
}

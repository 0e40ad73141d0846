//! The corpus of the fuzz targets (`fuzz/corpus/`) as plain tests, and the same checks on bytes made at random: what
//! the targets found once can't come back, and no nightly compiler is needed for it.

#[path = "../fuzz/src/checks.rs"]
mod checks;

use std::path::Path;

use bief::adapters::mysql::tsv;
use bief::{config, core};
use proptest::prelude::*;

/// Runs a check over every file of its corpus; a failure names the file.
fn over_corpus(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} has only {} files", folder.display(), files.len());
    for file in files {
        let bytes = std::fs::read(&file).expect("a file of the corpus");
        if let Err(payload) = std::panic::catch_unwind(|| check(&bytes)) {
            eprintln!("with {}", file.display());
            std::panic::resume_unwind(payload);
        }
    }
}

#[test]
fn every_record_of_the_corpus_makes_its_rows_or_is_refused_whatever_is_beside_it() {
    over_corpus("decoder", checks::decoder);
}

#[test]
fn every_configuration_of_the_corpus_is_read_or_told_what_is_wrong_with_it() {
    over_corpus("config", checks::config);
}

#[test]
fn every_condition_of_the_corpus_is_answered_or_refused() {
    over_corpus("condition", checks::condition);
}

#[test]
fn every_row_of_the_corpus_is_read_back_by_the_rules_of_load_data() {
    over_corpus("load_text", |bytes| {
        checks::load_text(bytes);
    });
}

#[test]
fn load_data_reads_escapes_and_null_as_the_manual_says() {
    let read = checks::load_data(b"\\N\tN\t\\\\N\ta\\N\t\n\\0\\b\\r\\Z\\q\tx\\\ty\n");
    let text = |t: &str| Some(t.as_bytes().to_vec());
    assert_eq!(read[0], [None, text("N"), text("\\N"), text("aN"), text("")]);
    assert_eq!(read[1], [text("\0\u{8}\r\u{1a}q"), text("x\ty")]);
}

/// Tokens of records, more often than chance would put them together.
fn json_like() -> impl Strategy<Value = Vec<u8>> {
    let tokens = &[
        "{",
        "}",
        "\"id\":1",
        "\"id\":",
        ",",
        "[",
        "]",
        "\"name\":\"a\\tb\"",
        "\"plain\":",
        "\"\\ud83d\"",
        "null",
        "\n",
        "-",
        "1e400",
        "0.1",
        "\"moment\":\"2013-02-29\"",
        "\"json\":{}",
        "\\",
        "\"",
        "\u{1f}",
        "é",
        "\"owner\":\"x\"",
        "\"raw\":\"\\u0000\"",
        "\"amount\":\"1.0005\"",
        "true",
        " ",
        "\"clock\":\"1:2:3\"",
        "\"x\":1",
        "{\"id\":7,",
    ][..];
    prop::collection::vec(prop::sample::select(tokens), 0..40).prop_map(|tokens| tokens.concat().into_bytes())
}

/// Tokens of conditions, more often than chance would put them together.
const CONDITION_TOKENS: [&str; 40] = [
    "record",
    ".a",
    ".l",
    ".s",
    ".nothing",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "!",
    "-",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "+",
    "*",
    "/",
    "%",
    "?",
    ":",
    ",",
    " in ",
    "1",
    "0",
    "2.5",
    "1u",
    "'x'",
    "\"\"",
    "null",
    "true",
    ".exists(x, ",
    ".all(x, x",
    "has(record.a)",
    ".size()",
    ".matches('x')",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_text_is_decoded_or_refused(bytes in prop_oneof![json_like(), prop::collection::vec(any::<u8>(), 0..200)]) {
        checks::decoder(&bytes);
    }

    #[test]
    fn any_condition_is_answered_or_refused(tokens in prop::collection::vec(prop::sample::select(&CONDITION_TOKENS[..]), 0..40)) {
        checks::condition(format!("{}\n{{\"a\":1,\"l\":[1,2],\"s\":\"x\"}}", tokens.concat()).as_bytes());
    }

    #[test]
    fn any_configuration_is_read_or_told_what_is_wrong(text in "[a-z_\\[\\]={}\"'.,0-9 \\n#:/$-]{0,200}") {
        checks::config(text.as_bytes());
    }
}

/// 100,000 rows of random bytes, weighted towards what means something to LOAD DATA.
#[test]
fn a_hundred_thousand_rows_of_any_bytes_are_read_back() {
    use proptest::strategy::ValueTree;
    let byte = prop_oneof![
        3 => any::<u8>(),
        1 => prop::sample::select(&b"\t\n\\N0btrZ\0\"',\r\x1a"[..]),
    ];
    let strategy = prop::collection::vec(byte, 20_000);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut rows = 0;
    while rows < 100_000 {
        let bytes = strategy.new_tree(&mut runner).unwrap().current();
        rows += checks::load_text(&bytes);
    }
}

//! A secret is never shown: a canary in every place that may hold one is looked for in all that is printed.

use std::path::Path;

use bief::config::{self, Loaded, Location, Severity};
use proptest::prelude::*;

const CANARY: &str = "canary-7f3a";

/// With `{…}` marks where secrets go.
const SOUND: &str = r#"
[daemon]
name = "orders"
http = "0.0.0.0:8080"
allowed_hosts = ["bief.example.org"]
token = "<5>-and-some-more"

[kafka]
brokers = "kafka:9093"

[kafka.properties]
"security.protocol" = "sasl_ssl"
"sasl.mechanism" = 'SCRAM-SHA-512'
"sasl.username" = "<1>"
sasl.password = "<2>"
"ssl.key.pem" = """-----BEGIN
<3>
-----END"""

[warehouse]
url = "mysql://orders:<4>@mysql:3306/orders"

[cache]
url = "mongodb://orders:<6>@mongo:27017/orders?authMechanismProperties=<7>"

[[stream]]
topic = "orders"

[[stream.table]]
name = "orders"
on_conflict = "update"
columns = { id = "id", at = { field = "at", epoch = "ms" }, seen = "@timestamp" }
"#;

fn env(name: &str) -> Option<String> {
    name.starts_with("SECRET").then(|| format!("{CANARY}/@?#{name}"))
}

/// The file with a secret in each place, by what `secret` gives for its number.
fn filled(secret: impl Fn(usize) -> String) -> String {
    (1..=7).fold(SOUND.to_owned(), |text, number| text.replace(&format!("<{number}>"), &secret(number)))
}

fn assert_hidden(shown: &str) {
    assert!(!shown.contains(CANARY), "shown: {shown}");
}

fn assert_loaded_hides(loaded: &Loaded) {
    assert_hidden(&format!("{loaded:?}"));
    assert_hidden(&format!("{:#?}", loaded.config));
    assert_hidden(&config::print(loaded));
    let outcome = Ok(loaded.clone());
    let report = config::report("actors.toml", &outcome);
    assert_hidden(&format!("{report:?} {} {}", report.text(true), report.json()));
    for line in 1..=40 {
        for column in [1, 10, 30] {
            let finding = loaded.at(Severity::Error, Location { line, column }, "m", "h");
            assert_hidden(&format!("{finding:?} {finding}"));
        }
    }
}

#[test]
fn secrets_of_the_environment_are_used_and_never_shown() {
    let text = filled(|number| format!("${{SECRET_{number}}}"));
    let loaded = config::parse(&text, "actors.toml", Path::new(""), &env).unwrap();
    assert_loaded_hides(&loaded);
    let token = loaded.config.daemon.access.token.as_ref().unwrap();
    assert_eq!(token.expose(), format!("{CANARY}/@?#SECRET_5-and-some-more"));
    let properties = &loaded.config.kafka.properties;
    assert_eq!(properties["sasl.password"].expose(), format!("{CANARY}/@?#SECRET_2"));
    assert_eq!(properties["ssl.key.pem"].expose(), format!("-----BEGIN\n{CANARY}/@?#SECRET_3\n-----END"));
    let url = loaded.config.warehouse.url.expose();
    assert_eq!(url, format!("mysql://orders:{CANARY}%2F%40%3F%23SECRET_4@mysql:3306/orders"));
    let url = loaded.config.cache.as_ref().unwrap().url.expose();
    assert!(url.starts_with(&format!("mongodb://orders:{CANARY}%2F%40%3F%23SECRET_6@mongo:27017/orders?")), "{url}");
    let printed = config::print(&loaded);
    assert!(printed.contains("url = \"mysql://orders:${SECRET_4}@mysql:3306/orders\"  # from the environment"));
    assert!(printed.contains("\"sasl.password\" = \"${SECRET_2}\"  # from the environment"));
}

#[test]
fn secrets_of_files_are_used_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=7 {
        std::fs::write(folder.path().join(format!("s{number}")), format!("{CANARY}-{number}\n")).unwrap();
    }
    let path = folder.path().join("actors.toml");
    std::fs::write(&path, filled(|number| format!("${{file:s{number}}}"))).unwrap();
    let loaded = config::load(&path, &|_| None).unwrap();
    assert_loaded_hides(&loaded);
    assert_eq!(loaded.config.kafka.properties["sasl.username"].expose(), format!("{CANARY}-1"));
    assert!(config::print(&loaded).contains("\"sasl.password\" = \"${file:s2}\"  # from a file"));
}

#[test]
fn secrets_written_into_the_file_are_never_shown() {
    let loaded = config::parse(&filled(|_| CANARY.to_owned()), "actors.toml", Path::new(""), &env).unwrap();
    assert_loaded_hides(&loaded);
    let printed = config::print(&loaded);
    assert!(printed.contains("url = \"mysql://orders:***@mysql:3306/orders\"  # hidden"));
    assert!(printed.contains("url = \"mongodb://orders:***@mongo:27017/orders?***\"  # hidden"));
    assert!(printed.contains("\"sasl.password\" = \"***\"  # hidden"));
    assert!(printed.contains("\ntoken = \"***\"  # hidden\n"));
}

#[test]
fn a_password_in_a_url_is_hidden_however_it_is_written() {
    for url in [
        r#""mysql://u:x y canary-7f3a z@h/d""#,
        r#""mysql://u:canary-7f3a@q@h/d""#,
        r#""mysql://u:canary-7f3a/x@h/d""#,
        r#""mysql://u:1/canary-7f3a@h/d""#,
        r#""mysql://u:canary-7f3a#x@h/d""#,
        r#""mysql://u:canary-7f3a?x@h/d""#,
        r#""mysql://u:canary-7f3a""#,
        r#""mysql://u@h:canary-7f3a/d""#,
        r#""mysql://u:'canary-7f3a@h/d""#,
        r#"'mysql://u:"canary-7f3a@h/d'"#,
        r#"'mysql://u:"canary-7f3a@h'"#,
        r#""mysql://u:canary-7f3a\u0040h/d""#,
        r#""mysql://u:x${SECRET}canary-7f3a@h/""#,
        r#""mysql://u:${SECRET@canary-7f3a@h/d""#,
        r#""u:canary-7f3a@h/d""#,
        r#""ysql://u{canary-7f3a@h/d""#,
        r#""mysql://u{canary-7f3a@h/d""#,
        r#""mysql://u{canary-7f3a.h/d""#,
        r#""mysql:/u:canary-7f3a@h://d""#,
        r#""canary-7f3a""#,
        r#"["mysql://u:canary-7f3a@h/d"]"#,
        r#"{ a = "canary-7f3a" }"#,
        "\"\"\"\nmysql://u:canary-7f3a@h/d\"\"\"",
    ] {
        let text = SOUND.replace("\"mysql://orders:<4>@mysql:3306/orders\"", url);
        match config::parse(&text, "actors.toml", Path::new(""), &env) {
            Ok(loaded) => assert_loaded_hides(&loaded),
            Err(findings) => findings.iter().for_each(|f| assert_hidden(&format!("{f:?} {f}"))),
        }
    }
}

/// Sections of versions to come, or of a reader's hope: nobody knows yet what in them is a secret.
#[test]
fn nothing_of_an_unknown_section_is_shown() {
    for section in [
        "[notify.slack]\nwebhook = \"https://hooks.example.org/canary-7f3a\"",
        "[notify.slack]\nwebhook = \"https://hooks.example.org/canary-7f3a",
        "[notify.slack]\nwebhook = https://hooks.example.org/canary-7f3a",
        "[notify.slack]\nwebhook \"https://hooks.example.org/canary-7f3a\"",
        "[notify.slack\nwebhook = \"https://hooks.example.org/canary-7f3a\"",
        "[notify.slack]\nwebhook = [\"https://hooks.example.org/canary-7f3a\"",
        "[notify.slack]\nwebhook = \"${file:canary-7f3a\"",
        "[notify]\nslack = { webhook = \"https://hooks.example.org/canary-7f3a\" }",
        "[notify]\nslack = { webhook = \"https://hooks.example.org/canary-7f3a\"",
        "[[notify]]\nslack.webhook = \"\"\"\nhttps://hooks.example.org/canary-7f3a\"\"\"",
        "[daemon.notify]\nwebhook = \"https://hooks.example.org/canary-7f3a\"",
        "notify.slack.webhook = \"https://hooks.example.org/canary-7f3a\"",
    ] {
        let text = format!("{}\n{section}\n", filled(|_| CANARY.to_owned()));
        let findings = config::parse(&text, "actors.toml", Path::new(""), &env).unwrap_err();
        assert!(!findings.is_empty(), "{section}");
        for finding in findings {
            let shown = format!("{finding:?} {finding} {}", finding.render(true));
            assert!(!shown.contains(CANARY), "{section}\n{shown}");
        }
    }
}

#[test]
fn what_follows_a_harmless_value_where_a_lines_end_was_lost_is_not_shown() {
    for line in [
        r#"allowed_hosts = ["a"]{token  "canary-7f3a""#,
        r#"allowed_hosts = ["a"] token "canary-7f3a]""#,
        r#"name = "orders"."sasl.username"  "canary-7f3a""#,
        r#"name = "orders "sasl.username "canary-7f3a""#,
        r#"name = 'orders' canary-7f3a"#,
        r#"memory = 256MiB canary-7f3a"#,
    ] {
        let text = filled(|_| CANARY.to_owned()).replacen("name = \"orders\"\n", &format!("{line}\n"), 1);
        let findings = config::parse(&text, "actors.toml", Path::new(""), &env).unwrap_err();
        findings.iter().for_each(|finding| assert_hidden(&format!("{finding:?} {finding}")));
    }
    // A header that stands behind another line's end begins its section all the same.
    let text = SOUND.replace("\n\n[warehouse]", "[warehouse]");
    let lost = format!("[[stream]]\ntopic = \"a\"[kafka.properties]\nsasl.username = \"canary-7f3a\n{text}");
    let findings = config::parse(&lost, "actors.toml", Path::new(""), &env).unwrap_err();
    findings.iter().for_each(|finding| assert_hidden(&format!("{finding:?} {finding}")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400), failure_persistence: None, ..ProptestConfig::default() })]

    /// Characters of a sound file are lost, doubled or replaced: whatever is said about it shows no secret.
    #[test]
    fn no_slip_of_the_pen_shows_a_secret(edits in prop::collection::vec((0usize..1200, 0u8..3, "[\\[\\]\"'=.#{}\n a@:/$\\\\]"), 1..6)) {
        let mut characters: Vec<char> = filled(|_| CANARY.to_owned()).chars().collect();
        for (at, kind, with) in edits {
            let at = at % characters.len();
            // The canary itself stays whole, or it could not be found.
            let near: String = characters[at.saturating_sub(CANARY.len())..characters.len().min(at + CANARY.len())].iter().collect();
            let with = with.chars().next().unwrap();
            match kind {
                _ if near.contains(CANARY) => {}
                0 => { characters.remove(at); }
                1 => characters.insert(at, with),
                _ => characters[at] = with,
            }
        }
        let text: String = characters.into_iter().collect();
        match config::parse(&text, "actors.toml", Path::new(""), &env) {
            Ok(loaded) => assert_loaded_hides(&loaded),
            Err(findings) => {
                prop_assert!(!findings.is_empty());
                for finding in &findings {
                    let shown = format!("{finding:?} {finding} {}", serde_json::to_string(finding).unwrap());
                    prop_assert!(!shown.contains(CANARY), "{text}\n{shown}");
                    prop_assert!(finding.line > 0 && finding.column > 0 && !finding.help.is_empty());
                }
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[\\[\\]\"'=.#{}\\n a-z$\\\\0-9_-]*") {
        if let Err(findings) = config::parse(&text, "actors.toml", Path::new(""), &env) {
            for finding in findings {
                prop_assert!(finding.line > 0 && !finding.help.is_empty());
                let _ = finding.render(true);
            }
        }
    }

    #[test]
    fn no_bytes_of_a_file_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("actors.toml");
        std::fs::write(&path, bytes).unwrap();
        if let Err(findings) = config::load(&path, &env) {
            for finding in findings {
                let escape = char::from(27);
                prop_assert!(finding.line > 0 && !finding.render(false).contains(escape));
            }
        }
    }
}

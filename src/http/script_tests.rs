//! How the page's script keeps its connection, run by Node with a browser of stand-ins. Left out, and said to be,
//! where there is no Node.

use std::io::Write;
use std::process::{Command, Stdio};

/// A browser whose daemon answers each request by `answers`, and whose timers run as soon as they are set. Prints
/// the paths that were asked for, each with the milliseconds that were waited for it.
const BROWSER: &str = r#"
const answers = ANSWERS;
const asked = [];
let waited = 0;
const any = () => new Proxy(function () {}, {
  get: (target, name) => name in target ? target[name]
    : name === Symbol.toPrimitive ? () => "" : name === Symbol.iterator ? () => [][Symbol.iterator]()
    : name === "hidden" ? true : name === "children" || name === "querySelectorAll" ? Object.assign(() => [], []) : any(),
  set: (target, name, value) => { target[name] = value; return true; },
  apply: any,
});
const nodes = new Map();
const document = {
  hidden: false, body: any(), title: "", createElement: any, createElementNS: any, querySelector: any,
  getElementById: (id) => nodes.get(id) || nodes.set(id, any()).get(id), addEventListener() {},
};
const sessionStorage = { getItem: () => null, setItem() {}, removeItem() {} };
const setInterval = () => 0, clearTimeout = () => {};
const setTimeout = (then, ms) => { waited = ms; setImmediate(then); return 1; };
const totals = { unaccounted: 0, partitions: 0, caught_up: 0, lag: 0, records_per_second: 0 };
const status = { ready: true, name: "x", checks: [], units: [], streams: [], totals, uptime_seconds: 1 };
const fetch = async (path) => {
  asked.push(`${path} ${waited}`);
  waited = 0;
  const answer = answers.shift();
  if (answer === undefined) { console.log(asked.join("\n")); process.exit(0); }
  if (answer === "away") throw new TypeError("away");
  const body = new Blob([answer === "stream" ? `event: status\ndata: ${JSON.stringify(status)}\n\n` : ""]).stream();
  return { status: answer === "stream" ? 200 : answer, ok: answer === "stream" || answer === 200, body, json: async () => status };
};
"#;

/// What the page asks for, `path milliseconds waited`, while the daemon answers so: `"away"`, `"stream"` (one
/// document, then the end) or a status.
fn asked(answers: &[&str]) -> Option<Vec<String>> {
    let script = BROWSER.replace("ANSWERS", &format!("[{}]", answers.join(","))) + include_str!("../../web/app.js");
    let mut node = Command::new("node");
    let node = node.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut node) = node.spawn() else {
        eprintln!("left out: there is no Node to run the page's script");
        return None;
    };
    node.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn after_a_restart_the_page_goes_back_to_its_live_stream() {
    let answers = ["\"stream\"", "\"away\"", "\"away\"", "502", "\"away\"", "\"stream\"", "\"stream\""];
    let Some(asked) = asked(&answers) else { return };
    let tries = ["0", "2000", "4000", "8000", "15000", "15000", "2000", "2000"].map(|ms| format!("/events {ms}"));
    // The wait grows while the daemon is away, and is short again once a document came.
    assert_eq!(asked, tries);
}

#[test]
fn where_too_many_pages_are_open_the_page_asks_for_the_document_and_tries_again_later() {
    let mut answers = vec!["503"];
    answers.extend(["200"; 15]);
    answers.extend(["503", "200", "\"away\"", "\"stream\""]);
    let Some(asked) = asked(&answers) else { return };
    let paths: Vec<&str> = asked.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let mut expected = vec!["/events"];
    expected.extend(["/status"; 15]);
    expected.extend(["/events", "/status", "/status", "/events", "/events"]);
    assert_eq!(paths, expected);
}

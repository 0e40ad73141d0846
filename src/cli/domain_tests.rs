//! `bief test`: unit tests of a domain. Sample records go through the daemon's own decoder and committer into an empty
//! SQLite database with the domain's tables; rows, documents and dead letters must be those that the test names. Needs no
//! server.

mod difference;
mod documents;
mod file;
mod trial;

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::difference::Difference;
use self::trial::Domain;
use super::exit;
use super::printable::printable;
use super::support::{block_on, fail, load_with, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief test                          tests/*.toml beside ./actors.toml
  bief test -c prod.toml checks/orders.toml
  bief test --only refund            those with refund in their names

A test in such a file:
  [[test]]
  name = \"an order brings its customer\"
  [[test.record]]
  stream = \"orders\"
  value = { id = 1, customer = \"a\", name = \"Ann\" }
  [test.rows]
  customer = [{ code = \"a\", name = \"Ann\" }]
  orders = [{ id = 1, customer = \"a\" }]
  [[test.documents.orders_hourly]]
  bucket_start = 2024-05-01T10:00:00Z
  key.customer = \"a\"
  values = { orders = 1 }

Exit codes: 0 all passed, 1 a test could not be run, 2 the configuration or a file of tests is wrong,
3 a test failed")]
pub struct Args {
    /// Files of tests [default: tests/*.toml beside the configuration]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Configuration file; its brokers and the addresses of its warehouse and cache are not used
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Only tests with this text in their names
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What became of one test.
#[derive(Debug, Serialize)]
struct Outcome {
    file: String,
    name: String,
    passed: bool,
    differences: Vec<Difference>,
}

pub fn run(args: &Args) -> u8 {
    // A test needs none of the secrets, so that it runs where they are not set; what stands for them is as long as a token.
    let env = |name: &str| Some(std::env::var(name).unwrap_or_else(|_| "not-set-and-not-needed".to_owned()));
    let loaded = match load_with(&args.config, &env) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let files = match &args.files[..] {
        [] => beside(&args.config),
        named => Ok(named.to_vec()),
    };
    let read = files.and_then(|files| files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>());
    let mut tests: Vec<(String, file::Test)> = match read {
        Ok(read) => read.into_iter().flatten().collect(),
        Err(wrong) => {
            fail(args.json, &wrong);
            return exit::USAGE;
        }
    };
    if let Some(part) = &args.only {
        tests.retain(|(_, test)| test.name.contains(part));
    }
    if tests.is_empty() {
        fail(args.json, "there is no such test");
        return exit::USAGE;
    }
    let outcomes = block_on(async {
        let mut domain = Domain::new(loaded.config).await?;
        let mut outcomes = Vec::with_capacity(tests.len());
        for (file, test) in tests {
            let differences = domain.run(&test).await.map_err(|e| format!("{file}: test \"{}\": {e}", test.name))?;
            let outcome = Outcome { file, name: test.name, passed: differences.is_empty(), differences };
            if !args.json {
                out!("{}", outcome.text());
            }
            outcomes.push(outcome);
        }
        Ok::<_, String>(outcomes)
    });
    match outcomes {
        Ok(outcomes) => tell(&outcomes, args.json),
        Err(error) => fail(args.json, &error),
    }
}

fn tell(outcomes: &[Outcome], json: bool) -> u8 {
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    if json {
        print_json(&serde_json::json!({ "passed": outcomes.len() - failed, "failed": failed, "tests": outcomes }));
    } else {
        outln!("{} passed, {failed} failed", outcomes.len() - failed);
    }
    if failed == 0 { exit::OK } else { exit::FOUND }
}

impl Outcome {
    fn text(&self) -> String {
        let verdict = if self.passed { "ok  " } else { "FAIL" };
        let mut text = format!("{verdict}  {}: {}\n", printable(&self.file), printable(&self.name));
        for line in self.differences.iter().flat_map(|d| d.text().lines().map(str::to_owned).collect::<Vec<_>>()) {
            text += &format!("      {line}\n");
        }
        text
    }
}

/// `tests/*.toml` beside the configuration, in the order of their names.
fn beside(config: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = config.parent().unwrap_or(Path::new("")).join("tests");
    let none = || format!("there is no {}/*.toml; write one, or name a file of tests", folder.display());
    let entries = std::fs::read_dir(&folder).map_err(|_| none())?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    if files.is_empty() { Err(none()) } else { Ok(files) }
}

fn read(path: &Path) -> Result<Vec<(String, file::Test)>, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{name} can't be read: {e}"))?;
    let tests = file::parse(&text).map_err(|wrong| format!("{name}: {wrong}"))?;
    Ok(tests.into_iter().map(|test| (name.clone(), test)).collect())
}

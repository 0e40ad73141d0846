//! From a file to a [`Config`], or to every mistake in it.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Severity};
use super::print::{self, Line};
use super::reader::{Finding, NamedPath, Reader, Span};
use super::source::SourceText;
use super::streams::{self, Surroundings};
use super::{Config, Location, aggregates, cache, compare, daemon, forecasts, panels, replays, syntax, warehouse};

/// A file larger than this is something else.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A configuration with what is needed to speak about its file later on.
#[derive(Clone)]
pub struct Loaded {
    pub config: Config,
    /// The file's folder, at which its relative paths start; they are joined with it already.
    pub base: PathBuf,
    /// The file as the user named it.
    pub file: String,
    /// What the reader should know; bief starts all the same.
    pub warnings: Vec<Diagnostic>,
    source: SourceText,
    understood: Vec<Line>,
    pub(super) paths: Vec<NamedPath>,
}

/// Without the file's text, which may hold secrets.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("file", &self.file)
            .field("config", &self.config)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// A finding at a place that the configuration keeps, for what only the database or the broker tells.
    pub fn at(
        &self,
        severity: Severity,
        location: Location,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        self.source.diagnostic(severity, self.source.token_at(location), message.into(), help.into())
    }

    pub(super) fn at_span(&self, severity: Severity, span: &Span, message: String, help: String) -> Diagnostic {
        self.source.diagnostic(severity, span.clone(), message, help)
    }
}

/// Reads and checks a file. `env` gives the environment's variables.
///
/// # Errors
/// Every mistake in the file, in its order; with them the warnings.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let of_file = |message: String, help: &str| vec![Diagnostic::of_file(&file, message, help)];
    let bytes = read(path).map_err(|cause| {
        of_file(format!("the file cannot be read: {cause}"), "name the configuration with `-c FILE`")
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, &file, base, env),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let mut source = SourceText::new(&file, &text);
            source.hide_by_line();
            let message = "the file is not UTF-8 text".to_owned();
            let help = "save it as UTF-8".to_owned();
            Err(vec![source.diagnostic(Severity::Error, valid..valid + 1, message, help)])
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| super::secrets::cause(&e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err("it is a folder".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| super::secrets::cause(&e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("it is larger than 4 MiB".into());
    }
    Ok(bytes)
}

/// Checks a file's text. `file_name` is shown in findings; relative paths in the text start at `base_dir`.
///
/// # Errors
/// Every mistake in the text, in its order; with them the warnings.
pub fn parse(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut source = SourceText::new(file_name, text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let broken = syntax::findings(text, &errors);
    if !broken.is_empty() {
        source.hide_by_line();
        if !syntax::is_shape_known(&errors) {
            return Err(finish(&mut source, broken, Vec::new()));
        }
    }
    let mut r = Reader::new(env, base_dir);
    let root = r.root(tree.get_ref());
    let daemon = daemon::read(&mut r, &root);
    let kafka = daemon::read_kafka(&mut r, &root);
    let read = warehouse::read(&mut r, &root);
    let cache = cache::read(&mut r, &root, &read);
    let locate = |span: &Span| source.locate(span.start);
    let around = Surroundings { backend: read.backend, memory: daemon.memory, locate: &locate };
    let streams = streams::read(&mut r, &root, &around);
    let aggregates = aggregates::read(&mut r, &root, &streams, &locate);
    let forecasts = forecasts::read(&mut r, &root, &aggregates, &locate);
    let panels = panels::read(&mut r, &root, &aggregates);
    let topics: Vec<_> = streams.iter().filter_map(|read| read.topic.clone()).collect();
    let streams: Vec<_> = streams.into_iter().map(|read| read.stream).collect();
    let replays = replays::read(&mut r, &root, &topics);
    let compare = compare::read(&mut r, &root);

    let Reader { mut findings, masks, understood, paths, .. } = r;
    // A line whose syntax is broken has been told; what was made of it is a guess.
    let broken_lines: Vec<usize> = broken.iter().map(|finding| source.locate(finding.span.start).line).collect();
    findings.retain(|finding| !broken_lines.contains(&source.locate(finding.span.start).line));
    findings.extend(broken);
    let diagnostics = finish(&mut source, findings, masks);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    let config = Config {
        daemon,
        kafka,
        warehouse: read.warehouse,
        cache,
        streams,
        aggregates,
        forecasts,
        panels,
        replays,
        compare,
    };
    Ok(Loaded {
        config,
        base: base_dir.to_owned(),
        file: file_name.to_owned(),
        warnings: diagnostics,
        source,
        understood,
        paths,
    })
}

/// Findings with their places, in the file's order.
fn finish(source: &mut SourceText, mut findings: Vec<Finding>, masks: Vec<Span>) -> Vec<Diagnostic> {
    source.hide(masks);
    findings.sort_by_key(|finding| finding.span.start);
    findings.into_iter().map(|f| source.diagnostic(f.severity, f.span, f.message, f.help)).collect()
}

/// The configuration as understood, as TOML: defaults marked, secrets left out.
pub fn print(loaded: &Loaded) -> String {
    print::render(&loaded.file, &loaded.understood)
}

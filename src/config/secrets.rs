//! `${NAME}` from the environment and `${file:PATH}` from a file, inside any text of the configuration.
//! What was put in for a reference is never shown: messages name the reference alone.

use std::io::Read;
use std::path::Path;

use super::reader::Fault;

/// A secret file larger than this is a mistake (`/dev/zero`, a log).
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A piece of a text.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// As written in the file.
    Literal(String),
    /// What a reference stood for.
    Secret { value: String, from: From },
}

/// Where a reference's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Environment,
    File,
}

impl Part {
    pub fn value(&self) -> &str {
        match self {
            Part::Literal(value) | Part::Secret { value, .. } => value,
        }
    }
}

/// Resolves every reference of a text; all that cannot be resolved are told.
/// Relative paths start at `base`, the configuration file's folder.
pub(super) fn substitute(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    base: &Path,
) -> Result<Vec<Part>, Vec<Fault>> {
    let (mut parts, mut faults) = (Vec::new(), Vec::new());
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // `$${` is a plain `${`.
            literal.push_str(&rest[..at - 1]);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            faults.push(Fault::new(
                "has a `${` without its `}`",
                "write `${NAME}` for a variable of the environment, `${file:PATH}` for a file's content, `$${` for a plain `${`",
            ));
            return Err(faults);
        };
        match resolve(&rest[at + 2..at + end], env, base) {
            Ok(part) => {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part);
            }
            Err(fault) => faults.push(fault),
        }
        rest = &rest[at + end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    if faults.is_empty() { Ok(parts) } else { Err(faults) }
}

fn resolve(reference: &str, env: &dyn Fn(&str) -> Option<String>, base: &Path) -> Result<Part, Fault> {
    if let Some(path) = reference.strip_prefix("file:") {
        return match read(&base.join(path)) {
            Ok(value) => Ok(Part::Secret { value, from: From::File }),
            Err(cause) => Err(Fault::new(
                format!("refers to `${{file:{path}}}`, which cannot be read: {cause}"),
                "name a readable text file; a relative path starts at this configuration file's folder",
            )),
        };
    }
    let mut characters = reference.chars();
    let named = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !named {
        return Err(Fault::new(
            "has a `${…}` that holds neither a variable's name nor `file:PATH`",
            "write `${NAME}` with letters, digits and `_` (defaults such as `${NAME:-x}` are not known), `${file:PATH}`, or `$${` for a plain `${`",
        ));
    }
    match env(reference) {
        Some(value) => Ok(Part::Secret { value, from: From::Environment }),
        None => Err(Fault::new(
            format!("refers to `${{{reference}}}`, which is not set in the environment"),
            format!(
                "set it for the process that runs bief (`export {reference}=…`), or read a file: `${{file:/run/secrets/…}}`"
            ),
        )),
    }
}

/// A file's text without its last line end.
fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| cause(&e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err("it is a folder".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| cause(&e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("it is larger than 1 MiB".into());
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// The system's words for an error, without its number.
pub(super) fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(text: &str) -> Result<String, Vec<Fault>> {
        let env = |name: &str| (name == "PW").then(|| "s3cret".to_owned());
        substitute(text, &env, Path::new("")).map(|parts| parts.iter().map(Part::value).collect())
    }

    #[test]
    fn references_are_resolved_and_escapes_kept_plain() {
        assert_eq!(join("a${PW}b${PW}").unwrap(), "as3cretbs3cret");
        assert_eq!(join("cost $5 $${PW} $$x").unwrap(), "cost $5 ${PW} $$x");
        assert_eq!(join("").unwrap(), "");
    }

    #[test]
    fn every_reference_that_cannot_be_resolved_is_told_by_name() {
        let faults = join("${A}${B} ${}").unwrap_err();
        let text: Vec<&str> = faults.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(faults.len(), 3);
        assert!(text[0].contains("`${A}`") && text[1].contains("`${B}`") && text[2].contains("neither"));
        assert!(join("x ${PW").unwrap_err()[0].what.contains("without its"));
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "line\ns3cret\r\n").unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        let read = |text: &str| {
            substitute(text, &|_| None, folder.path()).map(|parts| parts.iter().map(Part::value).collect::<String>())
        };
        assert_eq!(read("${file:pw}").unwrap(), "line\ns3cret");
        assert!(read("${file:absent}").unwrap_err()[0].what.contains("`${file:absent}`"));
        assert!(read("${file:binary}").unwrap_err()[0].what.contains("not UTF-8"));
        assert!(read("${file:.}").unwrap_err()[0].what.contains("folder"));
    }
}

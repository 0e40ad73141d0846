//! The configuration as bief understood it, as TOML: defaults filled in and marked, secrets left out.
//! What a reference such as `${NAME}` stood for is never printed, whatever the key.

use crate::core::printable::printable;

/// A line of the printed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Header(String),
    Entry { key: String, value: String, origin: Origin },
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration file.
    File,
    /// Nobody gave it.
    Default,
    /// The environment, by `${NAME}`.
    Environment,
    /// Another file, by `${file:PATH}`.
    OtherFile,
    /// The configuration file, and hidden.
    Hidden,
}

impl Origin {
    fn comment(self) -> &'static str {
        match self {
            Origin::File => "",
            Origin::Default => "  # default",
            Origin::Environment => "  # from the environment",
            Origin::OtherFile => "  # from a file",
            Origin::Hidden => "  # hidden",
        }
    }
}

/// TOML of the noted lines. Sections without keys are left out unless they say something by being there.
pub(super) fn render(file: &str, lines: &[Line]) -> String {
    let file = printable(file);
    let mut out = format!("# {file} as bief understands it; references are not resolved, secrets not shown\n");
    for line in lines {
        match line {
            Line::Header(header) => out += &format!("\n{header}\n"),
            Line::Entry { key, value, origin } => out += &format!("{} = {value}{}\n", toml_key(key), origin.comment()),
        }
    }
    out
}

/// A key as TOML writes it: bare where it may be.
fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { super::reader::toml_text(key) }
}

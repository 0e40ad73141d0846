//! What names may look like: of tables and columns, which reach SQL, and of topics, streams and groups.

use super::reader::Fault;

/// MySQL's limit.
const LONGEST_IDENTIFIER: usize = 64;
/// Kafka's limit.
const LONGEST_TOPIC: usize = 249;
/// What units are called that are no streams, and how the names of those begin that are there more than once.
const UNITS: [&str; 2] = ["comparison", "reconciler"];
const UNITS_OF: [&str; 4] = ["aggregator-", "forecaster-", "outbox-", "trainer-"];

/// A table's or column's name.
pub(super) fn identifier(name: &str) -> Result<(), Fault> {
    let fault = |what: &str, help: &str| Err(Fault::new(what, help));
    if name.is_empty() {
        return fault("is no name", "write the name as it is in the database");
    }
    if name.chars().count() > LONGEST_IDENTIFIER {
        return fault("is longer than the 64 characters a name may have", "shorten it in the database and here");
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return fault("starts with a digit", "rename it in the database, or give it a view with another name");
    }
    if name.contains('.') {
        return fault(
            "has a dot in it",
            "write the name alone: the database is the one of `url` in [warehouse], the table the one of [[stream.table]]",
        );
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$') {
        return fault("is not a name that bief writes to", "use letters, digits, `_` and `$` only");
    }
    Ok(())
}

/// A table's name: an identifier that is nobody else's.
pub(super) fn table(name: &str) -> Result<(), Fault> {
    identifier(name)?;
    let lower = name.to_ascii_lowercase();
    for (prefix, owner) in [("bief_", "bief's own tables"), ("sqlite_", "SQLite's own tables")] {
        if lower.starts_with(prefix) {
            return Err(Fault::new(
                format!("is reserved: `{prefix}` starts the names of {owner}"),
                "name another table",
            ));
        }
    }
    Ok(())
}

/// A topic's name as Kafka allows it.
pub(super) fn topic(name: &str) -> Result<(), Fault> {
    if name.starts_with('^') {
        return Err(Fault::new("is a pattern", "write one topic's name; each topic is a [[stream]] of its own"));
    }
    if name.len() > LONGEST_TOPIC || name == "." || name == ".." || !name.bytes().all(plain) {
        let help = "a topic's name has 1 to 249 letters, digits, `.`, `_` and `-`";
        return Err(Fault::new("is not a topic's name", help));
    }
    Ok(())
}

/// The name of a daemon, a group or a stream: it becomes part of group ids, metrics and log lines.
pub(super) fn label(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
        return Err(Fault::new("is not such a name", "write 1 to 128 letters, digits, `.`, `_` and `-`"));
    }
    Ok(())
}

/// A stream's name: a label that none of the daemon's other units has.
pub(super) fn stream(name: &str) -> Result<(), Fault> {
    label(name)?;
    let help = "write another `name` for the stream";
    if UNITS.contains(&name) {
        return Err(Fault::new("is the name of a unit of bief's own", help));
    }
    match UNITS_OF.iter().find(|prefix| name.starts_with(**prefix)) {
        Some(prefix) => {
            Err(Fault::new(format!("is reserved: `{prefix}` starts the names of units of bief's own"), help))
        }
        None => Ok(()),
    }
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_bief_and_sqlite_are_reserved_in_any_case() {
        assert!(table("BIEF_offset").is_err() && table("sqlite_master").is_err());
        assert!(table("bief").is_ok() && table("a$1").is_ok() && table("1a").is_err() && table("a.b").is_err());
        assert!(identifier(&"x".repeat(64)).is_ok() && identifier(&"x".repeat(65)).is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_identifier_holds_nothing_that_could_end_a_quote(name in "\\PC{0,70}") {
            if identifier(&name).is_ok() {
                prop_assert!(!name.contains(['`', '"', '\'', '\\', ';', '-', ' ', '\0']));
                prop_assert!(!name.is_empty() && name.len() <= 64);
            }
        }
    }
}

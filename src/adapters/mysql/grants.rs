//! What the account may do, read from SHOW GRANTS. Must never claim that a grant is missing where it cannot tell, as
//! behind a role.

use super::connection::Session;
use super::errors::Failure;
use crate::ports::MissingGrants;

/// What writing needs, and what making and changing the tables at start needs.
const NEEDED: [&str; 10] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE TEMPORARY TABLES",
    "CREATE",
    "ALTER",
    "DROP",
    "INDEX",
    "REFERENCES",
];

/// None where nothing is missing, or nothing can be told.
pub(super) async fn missing(session: &mut Session) -> Result<Option<MissingGrants>, Failure> {
    let asked: Vec<(String, String)> =
        session.ask("SELECT CURRENT_USER(), DATABASE()", Vec::new()).await.map_err(Failure::outside_rows)?;
    let Some((account, database)) = asked.into_iter().next() else { return Ok(None) };
    let lines: Vec<String> = session.rows("SHOW GRANTS").await.map_err(Failure::outside_rows)?;
    let missing = lacking(&lines, &database);
    if missing.is_empty() {
        return Ok(None);
    }
    let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
    let literal = |text: &str| text.replace('\\', "\\\\").replace('\'', "''");
    let privileges = missing.join(", ");
    let statement =
        format!("GRANT {privileges} ON `{}`.* TO '{}'@'{}'", database.replace('`', "``"), literal(user), literal(host));
    Ok(Some(MissingGrants { account, database, privileges, statement }))
}

fn lacking(lines: &[String], database: &str) -> Vec<&'static str> {
    let mut given: Vec<String> = Vec::new();
    for line in lines {
        let Some(rest) = line.strip_prefix("GRANT ") else { continue };
        // A grant of a role has no ON; what the role may do is not told here.
        let Some((privileges, on)) = rest.split_once(" ON ") else { return Vec::new() };
        if on.starts_with("*.*") || pattern(on).is_some_and(|pattern| like(&pattern, database)) {
            given.extend(privileges.split(',').map(|p| p.trim().to_ascii_uppercase()));
        }
    }
    let all = given.iter().any(|p| p == "ALL PRIVILEGES" || p == "ALL");
    NEEDED.into_iter().filter(|needed| !all && !given.iter().any(|p| p == needed)).collect()
}

/// The database of `` `or\_ders`.* TO … `` or `` `orders`.`item` TO … ``, as a pattern.
fn pattern(on: &str) -> Option<String> {
    let mut rest = on.strip_prefix('`')?.chars().peekable();
    let mut name = String::new();
    loop {
        match rest.next()? {
            '`' if rest.peek() == Some(&'`') => {
                rest.next();
                name.push('`');
            }
            '`' => return Some(name),
            c => name.push(c),
        }
    }
}

/// SQL's LIKE, with the backslash as its escape.
fn like(pattern: &str, text: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => text.is_empty(),
        Some('%') => {
            let rest = pattern_chars.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| like(rest, &text[at..]))
        }
        Some(c) => {
            let mut text_chars = text.chars();
            let literal = if c == '\\' { pattern_chars.next() } else { Some(c) };
            match text_chars.next() {
                Some(there) if c == '_' || literal == Some(there) => like(pattern_chars.as_str(), text_chars.as_str()),
                _ => false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacks(lines: &[&str]) -> Vec<&'static str> {
        let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        lacking(&lines, "or_ders")
    }

    #[test]
    fn what_is_granted_is_known_on_each_level() {
        let usage = "GRANT USAGE ON *.* TO `b`@`%`";
        assert_eq!(lacks(&[usage]), NEEDED);
        assert_eq!(lacks(&["GRANT ALL PRIVILEGES ON *.* TO `b`@`%` WITH GRANT OPTION"]), [""; 0]);
        assert_eq!(lacks(&[usage, "GRANT ALL PRIVILEGES ON `or\\_ders`.* TO `b`@`%`"]), [""; 0]);
        let some = "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER ON `or%`.* TO `b`@`%`";
        assert_eq!(lacks(&[usage, some]), ["CREATE TEMPORARY TABLES"]);
        assert_eq!(lacks(&[usage, "GRANT ALL PRIVILEGES ON `other`.* TO `b`@`%`"]), NEEDED);
    }

    #[test]
    fn behind_a_role_nothing_is_claimed() {
        assert_eq!(lacks(&["GRANT USAGE ON *.* TO `b`@`%`", "GRANT `writer`@`%` TO `b`@`%`"]), [""; 0]);
    }

    #[test]
    fn names_are_matched_as_the_server_does() {
        for (pattern, text, fits) in [
            ("orders", "orders", true),
            ("or_ers", "orders", true),
            ("or\\_ers", "orders", false),
            ("%", "", true),
            ("o%s", "orders", true),
            ("o%", "p", false),
            ("é_", "éa", true),
        ] {
            assert_eq!(like(pattern, text), fits, "{pattern} {text}");
        }
    }
}

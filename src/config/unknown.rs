//! What to say about a key that no section knows: the nearest known one, or where it belongs.

use super::properties;
use super::schema::{ROOT, SectionSpec};
use super::source::quoted;

pub(super) struct Unknown {
    pub message: String,
    pub help: String,
    /// The value is no secret in a wrong place.
    pub showable: bool,
    /// The key of the same section that was most likely meant.
    pub meant: Option<&'static str>,
}

/// `is_section`: it has a header of its own; `harmless`: its value cannot be a secret.
pub(super) fn describe(spec: &'static SectionSpec, name: &str, is_section: bool, harmless: bool) -> Unknown {
    let shown = quoted(name);
    let shown = shown.trim_matches('"');
    let within = if spec.path.is_empty() { String::new() } else { format!(" in {}", spec.header()) };
    let kind = if is_section { "section" } else { "key" };
    let message = format!("unknown {kind} `{shown}`{within}");
    let known = || spec.keys.iter().map(|k| k.name).chain(spec.sections.iter().map(|s| s.name()));
    if let Some(near) = nearest(name, known()) {
        let (help, secret) = match spec.section(near) {
            Some(section) => (format!("did you mean {}?", section.header()), section.may_hold_secrets()),
            None => (format!("did you mean `{near}`?"), spec.key(near).is_some_and(|k| k.secret)),
        };
        return Unknown { message, help, showable: harmless || !secret, meant: Some(near) };
    }
    let homes = homes(name, is_section);
    let showable = harmless || (!homes.is_empty() && homes.iter().all(|(_, secret)| !secret));
    let help = if !homes.is_empty() {
        let homes: Vec<String> = homes.into_iter().map(|(home, _)| home).collect();
        format!("`{shown}` belongs in {}", homes.join(" or "))
    } else if spec.path == "kafka" && properties::is_prefix(name) {
        "properties of the Kafka client belong in [kafka.properties]".to_owned()
    } else {
        let list: Vec<String> = known()
            .map(|k| match spec.section(k) {
                Some(section) => section.header(),
                None => format!("`{k}`"),
            })
            .collect();
        let owner = if spec.path.is_empty() { "the file".to_owned() } else { spec.header() };
        format!("remove it; {owner} knows {}", list.join(", "))
    };
    Unknown { message, help, showable, meant: None }
}

/// The sections that know the key, and whether it holds a secret there.
fn homes(name: &str, is_section: bool) -> Vec<(String, bool)> {
    let within = |home: &'static SectionSpec| {
        let section = home.section(name).filter(|_| !home.path.is_empty()).map(|s| s.may_hold_secrets());
        let key = home.key(name).filter(|_| !is_section).map(|k| k.secret);
        key.or(section).map(|secret| (home.header(), secret))
    };
    ROOT.all().into_iter().filter_map(within).collect()
}

/// The word that was most likely meant, if one is near enough.
pub(super) fn nearest<'w>(name: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let name = name.to_lowercase().replace('-', "_");
    if name.len() > 64 {
        return None;
    }
    words
        .map(|word| (strsim::damerau_levenshtein(&name, word), strsim::jaro_winkler(&name, word), word))
        .filter(|(steps, alike, word)| *steps <= (word.len() / 3).max(1) || (*alike > 0.9 && *steps <= 4))
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let words = ["topic", "lanes", "max_batch_records", "on_conflict", "ca"];
        let near = |name| nearest(name, words.into_iter());
        assert_eq!(near("topci"), Some("topic"));
        assert_eq!(near("lane"), Some("lanes"));
        assert_eq!(near("max-batch-records"), Some("max_batch_records"));
        assert_eq!(near("onConflict"), Some("on_conflict"));
        assert_eq!(near("retention"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"x".repeat(100_000)), None);
    }
}

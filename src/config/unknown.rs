//! What to say about a key that no section knows: the nearest known one, or where it belongs.

use toml::de::DeValue;

use super::properties;
use super::schema::{ROOT, SectionSpec};
use super::source::quoted;

pub(super) struct Unknown {
    pub message: String,
    pub help: String,
    /// The value is no secret in a wrong place.
    pub showable: bool,
}

pub(super) fn describe(spec: &'static SectionSpec, name: &str, value: &DeValue<'_>) -> Unknown {
    let is_section =
        value.is_table() || value.as_array().is_some_and(|a| a.first().is_some_and(|v| v.get_ref().is_table()));
    let shown = quoted(name);
    let shown = shown.trim_matches('"');
    let within = if spec.path.is_empty() { String::new() } else { format!(" in {}", spec.header()) };
    let message = match is_section && (spec.path.is_empty() || spec.keys.is_empty() || value.as_table().is_none()) {
        true => format!("unknown section `{shown}`{within}"),
        false => format!("unknown key `{shown}`{within}"),
    };
    let known = || spec.keys.iter().map(|k| k.name).chain(spec.sections.iter().map(|s| s.name()));
    if let Some(near) = nearest(name, known()) {
        let secret = spec.key(near).is_some_and(|k| k.secret) || near == "properties";
        let help = match spec.section(near) {
            Some(section) => format!("did you mean {}?", section.header()),
            None => format!("did you mean `{near}`?"),
        };
        return Unknown { message, help, showable: !secret };
    }
    let help = if let Some(home) = home(name, is_section) {
        format!("`{shown}` belongs in {home}")
    } else if spec.path == "kafka" && properties::is_prefix(name) {
        format!("properties of the Kafka client belong in [kafka.properties], such as \"{shown}…\" = …")
    } else {
        let list: Vec<String> = known().map(|k| format!("`{k}`")).collect();
        let owner = if spec.path.is_empty() { "the file".to_owned() } else { spec.header() };
        format!("remove it; {owner} knows {}", list.join(", "))
    };
    Unknown { message, help, showable: value.is_bool() }
}

/// The sections that know the key.
fn home(name: &str, is_section: bool) -> Option<String> {
    let all = ROOT.all();
    let homes: Vec<String> = all
        .iter()
        .filter(|s| if is_section { s.section(name).is_some() && !s.path.is_empty() } else { s.key(name).is_some() })
        .map(|s| s.header())
        .collect();
    (!homes.is_empty()).then(|| homes.join(" or "))
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

//! Figures of `/metrics`, by series. Not a parser of the format: it looks up what bief itself writes.

use std::collections::HashMap;

/// Values by series as the text names them: `name{a="x",b="y"}`.
#[derive(Debug, Clone, Default)]
pub struct Figures(HashMap<String, f64>);

impl Figures {
    pub fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(values.collect())
    }

    /// `labels` in the order of their names.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let series = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
        self.0.get(&series).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_the_daemon_writes_is_found() {
        let metrics = Metrics::new("1", "abc");
        let stream = metrics.stream("orders \"a\\b\"");
        stream.blocked_seconds("decoder").inc_by(1.5);
        stream.queue("writer", 4).entered(10);
        let figures = Figures::of(&metrics.render());
        let labels = |other: &'static str, value: &'static str| {
            let mut labels = [(other, value), ("stream", "orders \"a\\b\"")];
            labels.sort_unstable();
            labels
        };
        assert_eq!(figures.get("bief_stage_blocked_seconds_total", &labels("stage", "decoder")), Some(1.5));
        assert_eq!(figures.get("bief_queue_fill_ratio", &labels("queue", "writer")), Some(0.25));
        assert_eq!(figures.get("bief_ready", &[]), Some(0.0));
        assert_eq!(figures.get("bief_nothing", &[]), None);
    }
}

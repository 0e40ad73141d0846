//! The headers of a published dead letter: Kafka Connect's names and meanings (KIP-298, its `DeadLetterQueueReporter`),
//! so that people's tools read them, and bief's own beside. All values are text.

use super::outcome::Rejection;

/// Where a record came from and why it was set aside.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'l> {
    /// The stream's name.
    pub stream: &'l str,
    pub topic: &'l str,
    pub partition: i32,
    pub offset: i64,
    /// The letter's number in `bief_dead_letter`: the same letter published twice has the same.
    pub id: i64,
    pub rejection: &'l Rejection,
}

/// Names and values, in the order Connect writes them.
pub fn headers(origin: &Origin<'_>) -> Vec<(&'static str, String)> {
    let Origin { stream, topic, partition, offset, id, rejection } = origin;
    let (stage, class) = match rejection.reason.is_of_decoding() {
        true => ("VALUE_CONVERTER", "bief.decoder"),
        false => ("TASK_PUT", "bief.writer"),
    };
    let mut headers = vec![
        ("__connect.errors.topic", (*topic).to_owned()),
        ("__connect.errors.partition", partition.to_string()),
        ("__connect.errors.offset", offset.to_string()),
        ("__connect.errors.connector.name", (*stream).to_owned()),
        ("__connect.errors.task.id", "0".to_owned()),
        ("__connect.errors.stage", stage.to_owned()),
        ("__connect.errors.class.name", class.to_owned()),
        ("__connect.errors.exception.class.name", format!("bief.{}", rejection.reason)),
        ("__connect.errors.exception.message", rejection.message.clone()),
        ("bief.reason", rejection.reason.as_str().to_owned()),
        ("bief.id", id.to_string()),
    ];
    headers.extend(rejection.field.clone().map(|field| ("bief.field", field)));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::outcome::Reason;

    #[test]
    fn a_letter_has_the_headers_that_connects_tools_read() {
        let rejection =
            Rejection { reason: Reason::ForeignKey, field: Some("parent".to_owned()), message: "no zzz".to_owned() };
        let origin = Origin { stream: "shop", topic: "orders", partition: 2, offset: 70, id: 9, rejection: &rejection };
        let headers = headers(&origin);
        let of = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        for (name, value) in [
            ("topic", "orders"),
            ("partition", "2"),
            ("offset", "70"),
            ("connector.name", "shop"),
            ("task.id", "0"),
            ("stage", "TASK_PUT"),
            ("class.name", "bief.writer"),
            ("exception.class.name", "bief.foreign_key"),
            ("exception.message", "no zzz"),
        ] {
            assert_eq!(of(&format!("__connect.errors.{name}")), Some(value));
        }
        assert_eq!(
            (of("bief.reason"), of("bief.field"), of("bief.id")),
            (Some("foreign_key"), Some("parent"), Some("9"))
        );
    }
}

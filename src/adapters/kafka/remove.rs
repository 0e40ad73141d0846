//! Removes a topic and a consumer group that this process made. Must never be called for any other.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::client::describe;

/// How long the broker may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Removes both; a group that is not there is no error.
///
/// # Errors
/// What was not removed, and why.
pub async fn topic_and_group(config: &ClientConfig, topic: &str, group: &str) -> Result<(), String> {
    let left = |what: &str, why: String| format!("{what} could not be removed: {why}; remove it by hand");
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| left(&format!("topic {topic}"), describe(&error)))?;
    let options = AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT));
    let removed = admin.delete_topics(&[topic], &options).await;
    let removed = removed.map_err(|error| left(&format!("topic {topic}"), describe(&error)))?;
    for outcome in removed {
        outcome.map_err(|(name, code)| left(&format!("topic {name}"), code.to_string()))?;
    }
    // Its last member left just now, or was killed and is a member until its session ends: the broker forgets an empty
    // group by itself.
    if let Ok(outcomes) = admin.delete_groups(&[group], &options).await {
        for (name, code) in outcomes.into_iter().filter_map(Result::err) {
            tracing::debug!(group = name, %code, "the group is left to the broker");
        }
    }
    Ok(())
}

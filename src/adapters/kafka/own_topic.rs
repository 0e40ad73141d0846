//! Makes a topic of this process's own, and removes it and its consumer group again. Must never take a topic that is
//! there already for its own, nor be asked to remove one that this process did not make.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::client::describe;

/// How long the broker may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Makes a topic with the broker's default replication.
///
/// # Errors
/// What was not made, and why; also where the topic is there already: it is somebody's.
pub async fn create(config: &ClientConfig, topic: &str, partitions: i32) -> Result<(), String> {
    let refused = |why: String| {
        format!(
            "topic {topic} could not be made: {why}; the account needs CREATE, DELETE, READ, WRITE and DESCRIBE on it"
        )
    };
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(|error| refused(describe(&error)))?;
    let options = AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT));
    let wanted = [NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))];
    let made = admin.create_topics(&wanted, &options).await.map_err(|error| refused(describe(&error)))?;
    made.into_iter().try_for_each(|outcome| match outcome {
        Ok(_) => Ok(()),
        Err((_, code)) => Err(refused(code.to_string())),
    })
}

/// Removes both; a group that is not there is no error.
///
/// # Errors
/// What was not removed, and why.
pub async fn remove(config: &ClientConfig, topic: &str, group: &str) -> Result<(), String> {
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

//! What there is: ApiVersions, Metadata, CreateTopics, DeleteTopics, DescribeConfigs. A topic is created by CreateTopics
//! alone, never because somebody asked for it.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse, MetadataRequest, MetadataResponse,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::log::LEADER_EPOCH;
use super::shape::OFFERS;
use super::state::{Caller, NODE, State, Topic, code};

/// Kinds of things that have a configuration, in DescribeConfigs.
const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;

/// The configuration of every topic, as far as it means anything here.
const TOPIC_CONFIG: [(&str, &str); 4] =
    [("cleanup.policy", "delete"), ("compression.type", "producer"), ("retention.ms", "-1"), ("retention.bytes", "-1")];

/// All that this broker offers; with an error for a client that asked in a version it does not.
pub fn api_versions(error: Option<ResponseError>) -> ApiVersionsResponse {
    let offers = OFFERS.iter().map(|offer| {
        ApiVersion::default()
            .with_api_key(offer.key as i16)
            .with_min_version(offer.versions.0)
            .with_max_version(offer.versions.1)
    });
    ApiVersionsResponse::default()
        .with_error_code(error.map_or(0, |error| error.code()))
        .with_api_keys(offers.collect())
}

impl State {
    pub fn metadata(&self, request: MetadataRequest, version: i16, to: &Caller) -> MetadataResponse {
        let topics = self.topics.borrow();
        let all = match &request.topics {
            None => true,
            // Version 0 knew no null.
            Some(asked) => version == 0 && asked.is_empty(),
        };
        let answers = if all {
            topics.iter().map(|(name, topic)| described(name, topic)).collect()
        } else {
            // Each once, however often it is asked for.
            let mut seen = BTreeSet::new();
            let asked = request.topics.unwrap_or_default().into_iter();
            let asked = asked.filter(|asked| seen.insert((asked.name.clone(), asked.topic_id)));
            let answer = asked.map(|asked| match asked.name {
                Some(name) => match topics.get(name.as_str()) {
                    Some(topic) => described(&name, topic),
                    None => missing(Some(name), Uuid::nil(), ResponseError::UnknownTopicOrPartition),
                },
                None => match topics.iter().find(|(_, topic)| topic.id == asked.topic_id) {
                    Some((name, topic)) => described(name, topic),
                    // Versions 10 and 11 can't do without a name.
                    None if version < 12 => {
                        missing(Some(TopicName::default()), asked.topic_id, ResponseError::UnknownTopicId)
                    }
                    None => missing(None, asked.topic_id, ResponseError::UnknownTopicId),
                },
            });
            answer.collect()
        };
        let node =
            MetadataResponseBroker::default().with_node_id(NODE.into()).with_host(to.host()).with_port(to.port());
        MetadataResponse::default()
            .with_brokers(vec![node])
            .with_cluster_id(Some(self.cluster_id.clone().into()))
            .with_controller_id(NODE.into())
            .with_topics(answers)
    }

    pub fn create_topics(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let validate_only = request.validate_only;
        let results = request.topics.into_iter().map(|wanted| {
            let partitions = partitions_of(&wanted);
            let created = check_replication(&wanted).and_then(|()| {
                if validate_only {
                    self.check_topic(&wanted.name, partitions).map(|()| Uuid::nil())
                } else {
                    self.create_topic(&wanted.name, partitions)
                }
            });
            let result = CreatableTopicResult::default()
                .with_error_code(code(&created))
                .with_error_message(created.err().map(|error| error.to_string().into()))
                .with_name(wanted.name);
            match created {
                Ok(id) => result.with_topic_id(id).with_num_partitions(partitions).with_replication_factor(1),
                Err(_) => result.with_num_partitions(-1).with_replication_factor(-1),
            }
        });
        CreateTopicsResponse::default().with_topics(results.collect())
    }

    pub fn delete_topics(&self, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
        let results = request.topic_names.into_iter().map(|name| {
            let deleted = self.delete_topic(&name);
            let why = deleted.err().filter(|_| version >= 5).map(|error| error.to_string().into());
            DeletableTopicResult::default()
                .with_error_code(code(&deleted))
                .with_error_message(why)
                .with_name(Some(name))
        });
        DeleteTopicsResponse::default().with_responses(results.collect())
    }

    pub fn describe_configs(&self, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let results = request.resources.into_iter().map(|resource| {
            let known = match resource.resource_type {
                OF_TOPIC if self.topics.borrow().contains_key(resource.resource_name.as_str()) => Ok(&TOPIC_CONFIG[..]),
                OF_TOPIC => Err(ResponseError::UnknownTopicOrPartition),
                OF_BROKER => Ok(&[][..]),
                _ => Err(ResponseError::InvalidRequest),
            };
            let result = DescribeConfigsResult::default().with_error_code(code(&known));
            let keys = resource.configuration_keys;
            let wanted = |name: &str| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
            let configs = known.unwrap_or_default().iter().filter(|(name, _)| wanted(name)).map(|(name, value)| {
                DescribeConfigsResourceResult::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_value(Some(StrBytes::from_static_str(value)))
                    .with_read_only(true)
                    // A default of the broker's.
                    .with_config_source(5)
            });
            let configs = configs.collect();
            result
                .with_configs(configs)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }
}

fn described(name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions.len()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(NODE.into())
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE.into()])
            .with_isr_nodes(vec![NODE.into()])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(name.to_owned().into())))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn missing(name: Option<TopicName>, id: Uuid, error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
}

/// One partition where the client leaves it to the broker.
fn partitions_of(wanted: &CreatableTopic) -> i32 {
    match (wanted.num_partitions, wanted.assignments.len()) {
        (-1, 0) => 1,
        (-1, assigned) => i32::try_from(assigned).unwrap_or(i32::MAX),
        (partitions, _) => partitions,
    }
}

/// One node holds one replica.
fn check_replication(wanted: &CreatableTopic) -> Result<(), ResponseError> {
    if !matches!(wanted.replication_factor, -1 | 1) {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    if !wanted.assignments.iter().all(|assigned| matches!(assigned.broker_ids[..], [BrokerId(NODE)])) {
        return Err(ResponseError::InvalidReplicaAssignment);
    }
    Ok(())
}

//! Consumer groups on the wire: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit, OffsetFetch,
//! DescribeGroups, ListGroups. What a group is and does stands in `group.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use kafka_protocol::messages::{
    DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::group::Group;
use super::member::{Committed, Joined, Joining};
use super::state::{Caller, NODE, State, code};

/// As Kafka's `group.max.session.timeout.ms`; the shortest is lower than Kafka's, for tests in a hurry.
const SESSIONS: std::ops::RangeInclusive<i32> = 100..=1_800_000;

/// As Kafka's `offset.metadata.max.bytes`.
const MAX_METADATA: usize = 4096;

/// Bytes of their own, which do not hold the frame that they came in.
fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn text(value: &str) -> StrBytes {
    value.to_owned().into()
}

impl State {
    pub fn find_coordinator(
        &self,
        request: &FindCoordinatorRequest,
        version: i16,
        to: &Caller,
    ) -> FindCoordinatorResponse {
        if request.key_type != 0 {
            let error = ResponseError::TransactionalIdAuthorizationFailed;
            let answer = FindCoordinatorResponse::default().with_error_code(error.code()).with_node_id((-1).into());
            let why = "the embedded broker has no transactions";
            return answer.with_error_message((version >= 1).then(|| StrBytes::from_static_str(why))).with_port(-1);
        }
        FindCoordinatorResponse::default().with_node_id(NODE.into()).with_host(to.host()).with_port(to.port())
    }

    fn group<T>(
        &self,
        id: &str,
        work: impl FnOnce(&mut Group) -> Result<T, ResponseError>,
    ) -> Result<T, ResponseError> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        let worked = work(group);
        if group.is_forgettable() {
            groups.remove(id);
        }
        self.groups_changed.notify_one();
        worked
    }

    /// Answers when the group is complete.
    pub async fn join_group(&self, request: JoinGroupRequest, version: i16, from: &Caller) -> JoinGroupResponse {
        let member_id = request.member_id.to_string();
        let refused = |error| Joined { error: Some(error), generation: -1, member_id, ..Joined::default() };
        let joined = if request.group_id.is_empty() {
            refused(ResponseError::InvalidGroupId)
        } else if !SESSIONS.contains(&request.session_timeout_ms) {
            refused(ResponseError::InvalidSessionTimeout)
        } else {
            let (sender, receiver) = oneshot::channel();
            let joining = joining(&request, version, from);
            self.groups.borrow_mut().entry(request.group_id.to_string()).or_default();
            let asked = self.group(&request.group_id, |group| {
                group.join(joining, Instant::now(), sender);
                Ok(())
            });
            debug_assert!(asked.is_ok(), "the group was just made");
            receiver.await.unwrap_or_else(|_| refused(ResponseError::UnknownMemberId))
        };
        let members = joined
            .members
            .into_iter()
            .map(|(id, metadata)| JoinGroupResponseMember::default().with_member_id(id.into()).with_metadata(metadata));
        JoinGroupResponse::default()
            .with_error_code(joined.error.map_or(0, |error| error.code()))
            .with_generation_id(joined.generation)
            .with_protocol_name(Some(joined.protocol.into()))
            .with_leader(joined.leader.into())
            .with_member_id(joined.member_id.into())
            .with_members(members.collect())
    }

    /// Answers when the leader has dealt the partitions out.
    pub async fn sync_group(&self, request: SyncGroupRequest) -> SyncGroupResponse {
        let (sender, receiver) = oneshot::channel();
        let assignments =
            request.assignments.iter().map(|dealt| (dealt.member_id.to_string(), owned(&dealt.assignment)));
        let asked = self.group(&request.group_id, |group| {
            group.sync(&request.member_id, request.generation_id, assignments.collect(), Instant::now(), sender);
            Ok(())
        });
        let synced = match asked {
            Ok(()) => receiver.await.unwrap_or(Err(ResponseError::UnknownMemberId)),
            Err(error) => Err(error),
        };
        SyncGroupResponse::default().with_error_code(code(&synced)).with_assignment(synced.unwrap_or_default())
    }

    pub fn heartbeat(&self, request: &HeartbeatRequest) -> HeartbeatResponse {
        let alive = self.group(&request.group_id, |group| {
            group.heartbeat(&request.member_id, request.generation_id, Instant::now())
        });
        HeartbeatResponse::default().with_error_code(code(&alive))
    }

    pub fn leave_group(&self, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        let left = self.group(&request.group_id, |group| group.leave(&request.member_id, Instant::now()));
        LeaveGroupResponse::default().with_error_code(code(&left))
    }

    pub fn commit_offsets(&self, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let group_id = request.group_id.to_string();
        let generation = request.generation_id_or_member_epoch;
        let alone = request.member_id.is_empty() && generation < 0;
        if alone && !group_id.is_empty() {
            self.groups.borrow_mut().entry(group_id.clone()).or_default();
        }
        let may = self.group(&group_id, |group| {
            let may = group.may_commit(&request.member_id, generation, Instant::now());
            for topic in request.topics.iter().filter(|_| may.is_ok()) {
                for partition in &topic.partitions {
                    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                    if self.commit_error(&topic.name, partition.partition_index, metadata).is_none() {
                        group.offsets.insert(
                            (topic.name.to_string(), partition.partition_index),
                            Committed {
                                offset: partition.committed_offset,
                                leader_epoch: partition.committed_leader_epoch,
                                metadata: metadata.to_owned(),
                            },
                        );
                    }
                }
            }
            may
        });
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                let error = may.err().or_else(|| self.commit_error(&topic.name, partition.partition_index, metadata));
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(error.map_or(0, |error| error.code()))
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }

    fn commit_error(&self, topic: &str, partition: i32, metadata: &str) -> Option<ResponseError> {
        if metadata.len() > MAX_METADATA {
            return Some(ResponseError::OffsetMetadataTooLarge);
        }
        self.partition(topic, partition, |_| Ok(())).err()
    }

    pub fn fetch_offsets(&self, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let groups = self.groups.borrow();
        let offsets = groups.get(request.group_id.as_str()).map(|group| &group.offsets);
        let asked: Vec<(TopicName, Vec<i32>)> = match request.topics {
            Some(topics) => topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect(),
            None => {
                let mut all: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
                for (topic, partition) in offsets.into_iter().flat_map(BTreeMap::keys) {
                    all.entry(topic).or_default().push(*partition);
                }
                all.into_iter().map(|(topic, partitions)| (TopicName(text(topic)), partitions)).collect()
            }
        };
        let topics = asked.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|partition| {
                let committed = offsets.and_then(|offsets| offsets.get(&(name.to_string(), partition)));
                OffsetFetchResponsePartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(committed.map_or(-1, |committed| committed.offset))
                    .with_committed_leader_epoch(committed.map_or(-1, |committed| committed.leader_epoch))
                    .with_metadata(Some(text(committed.map_or("", |committed| &committed.metadata))))
            });
            let partitions = partitions.collect();
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions)
        });
        OffsetFetchResponse::default().with_topics(topics.collect())
    }

    pub fn describe_groups(&self, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let groups = self.groups.borrow();
        // Each once, however often it is asked for.
        let asked: BTreeSet<GroupId> = request.groups.into_iter().collect();
        let described = asked.into_iter().map(|id| {
            let Some(group) = groups.get(id.as_str()).map(Group::describe) else {
                return DescribedGroup::default().with_group_id(id).with_group_state(text("Dead"));
            };
            let members = group.members.into_iter().map(|member| {
                DescribedGroupMember::default()
                    .with_member_id(member.id.into())
                    .with_client_id(member.client_id.into())
                    .with_client_host(member.client_host.into())
                    .with_member_metadata(member.metadata)
                    .with_member_assignment(member.assignment)
            });
            DescribedGroup::default()
                .with_group_id(id)
                .with_group_state(text(group.state))
                .with_protocol_type(group.protocol_type.into())
                .with_protocol_data(group.protocol.into())
                .with_members(members.collect())
        });
        DescribeGroupsResponse::default().with_groups(described.collect())
    }

    pub fn list_groups(&self, request: &ListGroupsRequest, version: i16) -> ListGroupsResponse {
        let groups = self.groups.borrow();
        let listed = groups.iter().map(|(id, group)| (id, group.describe())).filter(|(_, group)| {
            let wanted = &request.states_filter;
            wanted.is_empty() || wanted.iter().any(|state| state.eq_ignore_ascii_case(group.state))
        });
        let listed = listed.map(|(id, group)| {
            ListedGroup::default()
                .with_group_id(text(id).into())
                .with_protocol_type(group.protocol_type.into())
                .with_group_state(if version >= 4 { text(group.state) } else { StrBytes::default() })
        });
        ListGroupsResponse::default().with_groups(listed.collect())
    }

    /// Lets go of members whose time is up, for ever.
    pub async fn expire_members(&self) {
        loop {
            let next = self.groups.borrow().values().filter_map(Group::next_deadline).min();
            let deadline = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = deadline => {
                    let now = Instant::now();
                    self.groups.borrow_mut().retain(|_, group| {
                        group.expire(now);
                        !group.is_forgettable()
                    });
                }
                () = self.groups_changed.notified() => {}
            }
        }
    }
}

fn joining(request: &JoinGroupRequest, version: i16, from: &Caller) -> Joining {
    let milliseconds = |value: i32| Duration::from_millis(value.clamp(0, *SESSIONS.end()) as u64);
    let session_timeout = milliseconds(request.session_timeout_ms);
    Joining {
        member_id: request.member_id.to_string(),
        client_id: from.client_id.clone(),
        client_host: format!("/{}", from.from.ip()),
        session_timeout,
        // Version 0 has no timeout of its own for this.
        rebalance_timeout: if version >= 1 { milliseconds(request.rebalance_timeout_ms) } else { session_timeout },
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| (protocol.name.to_string(), owned(&protocol.metadata)))
            .collect(),
        takes_id_first: version >= 4,
    }
}

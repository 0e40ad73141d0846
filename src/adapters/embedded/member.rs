//! What a consumer group is told and tells: members, their wishes and answers, committed offsets. The rules stand in
//! `group.rs`; nothing here decides anything.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A member's wish to be in the group.
#[derive(Debug)]
pub struct Joining {
    /// Empty for a newcomer.
    pub member_id: String,
    /// What the id of a newcomer begins with.
    pub client_id: String,
    pub client_host: String,
    /// Without a sign of life for so long a member is out.
    pub session_timeout: Duration,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// Assignors by preference: name and what this member tells the leader.
    pub protocols: Vec<(String, Bytes)>,
    /// The client takes an id first and joins with it then (JoinGroup 4 and later).
    pub takes_id_first: bool,
}

/// The answer to [`Joining`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    pub error: Option<ResponseError>,
    pub generation: i32,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// For the leader: every member and what it tells.
    pub members: Vec<(String, Bytes)>,
}

/// The answer to a sync: the member's assignment.
pub type Synced = Result<Bytes, ResponseError>;

/// A member of a group.
#[derive(Debug)]
pub struct Member {
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocols: Vec<(String, Bytes)>,
    /// Empty until the leader has dealt.
    pub assignment: Bytes,
    /// When it is out without another sign of life.
    pub session_ends: Instant,
    /// Waits for the generation to begin.
    pub joining: Option<oneshot::Sender<Joined>>,
    /// Waits for the leader to deal.
    pub syncing: Option<oneshot::Sender<Synced>>,
}

impl Member {
    /// What it tells the leader under this assignor.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, told)| told.clone()).unwrap_or_default()
    }

    /// A member that waits for an answer is alive, whatever its last sign of life.
    pub fn waits(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}

/// What a group shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// As Kafka names them: Empty, PreparingRebalance, CompletingRebalance, Stable.
    pub state: &'static str,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

/// What a group shows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub id: String,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

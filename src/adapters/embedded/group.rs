//! One consumer group: who is in it, which generation it is in, who was given what. The rules are those of Kafka's
//! classic group coordinator; time is handed in, answers that must wait are kept as senders. It must never leave a
//! member waiting for ever: `next_deadline` and `expire` see to that.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::member::{Committed, DescribedMember, Description, Joined, Joining, Member, Synced};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    /// Members are asked to join again, until then at most.
    PreparingRebalance {
        until: Instant,
    },
    /// The leader deals the partitions out, until then at most.
    CompletingRebalance {
        until: Instant,
    },
    Stable,
}

/// One consumer group.
#[derive(Debug)]
pub struct Group {
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Ids that were given out and are yet to join, until when they may.
    expected: BTreeMap<String, Instant>,
    /// By topic and partition.
    pub offsets: BTreeMap<(String, i32), Committed>,
}

impl Default for Group {
    fn default() -> Self {
        Group {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            expected: BTreeMap::new(),
            offsets: BTreeMap::new(),
        }
    }
}

impl Group {
    /// A member comes, or comes again for a rebalance. The answer is sent once all members have, or their time is up.
    pub fn join(&mut self, request: Joining, now: Instant, answer: oneshot::Sender<Joined>) {
        let refuse = |error, member_id, answer: oneshot::Sender<Joined>| {
            answer.send(Joined { error: Some(error), generation: -1, member_id, ..Joined::default() }).ok();
        };
        if !self.has_common_protocol(&request) {
            return refuse(ResponseError::InconsistentGroupProtocol, request.member_id, answer);
        }
        if request.member_id.is_empty() {
            let id = format!("{}-{}", request.client_id, uuid::Uuid::new_v4());
            if request.takes_id_first {
                self.expected.insert(id.clone(), now + request.session_timeout);
                return refuse(ResponseError::MemberIdRequired, id, answer);
            }
            return self.admit(id, request, now, answer);
        }
        if self.expected.remove(&request.member_id).is_some() {
            return self.admit(request.member_id.clone(), request, now, answer);
        }
        let leads = self.leader == request.member_id;
        let Some(member) = self.members.get_mut(&request.member_id) else {
            return refuse(ResponseError::UnknownMemberId, request.member_id, answer);
        };
        let changed = member.protocols != request.protocols;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        member.protocols = request.protocols;
        member.session_ends = now + member.session_timeout;
        let rebalances = match self.phase {
            Phase::PreparingRebalance { .. } | Phase::Empty => true,
            // The answer to its first request was lost.
            Phase::CompletingRebalance { .. } => changed,
            Phase::Stable => changed || leads,
        };
        if rebalances {
            member.joining = Some(answer);
            self.rebalance(now);
        } else {
            answer.send(self.joined(&request.member_id)).ok();
        }
    }

    fn has_common_protocol(&self, request: &Joining) -> bool {
        let others = || self.members.iter().filter(|(id, _)| **id != request.member_id).map(|(_, member)| member);
        let known_to_all = |name: &String| others().all(|member| member.protocols.iter().any(|(own, _)| own == name));
        !request.protocol_type.is_empty()
            && (self.members.is_empty() || self.protocol_type == request.protocol_type)
            && request.protocols.iter().any(|(name, _)| known_to_all(name))
    }

    fn admit(&mut self, id: String, request: Joining, now: Instant, answer: oneshot::Sender<Joined>) {
        self.protocol_type = request.protocol_type;
        self.members.insert(
            id,
            Member {
                client_id: request.client_id,
                client_host: request.client_host,
                session_timeout: request.session_timeout,
                rebalance_timeout: request.rebalance_timeout,
                protocols: request.protocols,
                assignment: Bytes::new(),
                session_ends: now + request.session_timeout,
                joining: Some(answer),
                syncing: None,
            },
        );
        self.rebalance(now);
    }

    /// Starts a rebalance, or sees whether the running one is complete. It waits for the members that there are and not
    /// for others to come: a group of one is ready at once, each newcomer costs one more rebalance.
    fn rebalance(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::PreparingRebalance { .. }) {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
                if let Some(syncing) = member.syncing.take() {
                    member.session_ends = now + member.session_timeout;
                    syncing.send(Err(ResponseError::RebalanceInProgress)).ok();
                }
            }
            self.phase = Phase::PreparingRebalance { until: now + self.rebalance_timeout() };
        }
        if self.members.values().all(|member| member.joining.is_some()) {
            self.begin_generation(now);
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Those who have joined are the next generation.
    fn begin_generation(&mut self, now: Instant) {
        self.members.retain(|_, member| member.joining.is_some());
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.protocol.clear();
            self.leader.clear();
            return;
        }
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        self.protocol = self.elect_protocol();
        self.phase = Phase::CompletingRebalance { until: now + self.rebalance_timeout() };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.session_ends = now + member.session_timeout;
                if let Some(joining) = member.joining.take() {
                    joining.send(joined).ok();
                }
            }
        }
    }

    /// Of the protocols that all members know, the one that most prefer.
    fn elect_protocol(&self) -> String {
        let known_to_all =
            |name: &str| self.members.values().all(|member| member.protocols.iter().any(|(own, _)| own == name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known_to_all(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    fn joined(&self, id: &str) -> Joined {
        let members = if id == self.leader {
            self.members.iter().map(|(id, member)| (id.clone(), member.metadata(&self.protocol))).collect()
        } else {
            Vec::new()
        };
        Joined {
            error: None,
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            members,
        }
    }

    /// A member asks for its assignment; the leader brings everyone's.
    pub fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
        now: Instant,
        answer: oneshot::Sender<Synced>,
    ) {
        if let Err(error) = self.check(id, generation) {
            answer.send(Err(error)).ok();
            return;
        }
        let leads = self.leader == id;
        let Some(member) = self.members.get_mut(id) else { return };
        member.session_ends = now + member.session_timeout;
        match self.phase {
            Phase::Empty => {
                answer.send(Err(ResponseError::UnknownMemberId)).ok();
            }
            Phase::PreparingRebalance { .. } => {
                answer.send(Err(ResponseError::RebalanceInProgress)).ok();
            }
            Phase::Stable => {
                answer.send(Ok(member.assignment.clone())).ok();
            }
            Phase::CompletingRebalance { .. } => {
                member.syncing = Some(answer);
                if leads {
                    self.deal(assignments, now);
                }
            }
        }
    }

    fn deal(&mut self, assignments: Vec<(String, Bytes)>, now: Instant) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            if let Some(syncing) = member.syncing.take() {
                member.session_ends = now + member.session_timeout;
                syncing.send(Ok(member.assignment.clone())).ok();
            }
        }
        self.phase = Phase::Stable;
    }

    /// A sign of life.
    ///
    /// # Errors
    /// `RebalanceInProgress` when the member must join again; `UnknownMemberId`, `IllegalGeneration`.
    pub fn heartbeat(&mut self, id: &str, generation: i32, now: Instant) -> Result<(), ResponseError> {
        self.check(id, generation)?;
        if let Some(member) = self.members.get_mut(id) {
            member.session_ends = now + member.session_timeout;
        }
        match self.phase {
            Phase::PreparingRebalance { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn check(&self, id: &str, generation: i32) -> Result<(), ResponseError> {
        if !self.members.contains_key(id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }

    /// A member goes.
    ///
    /// # Errors
    /// `UnknownMemberId`.
    pub fn leave(&mut self, id: &str, now: Instant) -> Result<(), ResponseError> {
        if self.expected.remove(id).is_some() {
            return Ok(());
        }
        self.members.remove(id).ok_or(ResponseError::UnknownMemberId)?;
        self.rebalance(now);
        Ok(())
    }

    /// Whether this member may commit offsets now; an empty id with a negative generation is a consumer that uses the
    /// group for its offsets alone.
    ///
    /// # Errors
    /// `UnknownMemberId`, `IllegalGeneration`, `RebalanceInProgress`.
    pub fn may_commit(&mut self, id: &str, generation: i32, now: Instant) -> Result<(), ResponseError> {
        if id.is_empty() && generation < 0 {
            return if self.members.is_empty() { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.check(id, generation)?;
        if matches!(self.phase, Phase::CompletingRebalance { .. }) {
            return Err(ResponseError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.session_ends = now + member.session_timeout;
        }
        Ok(())
    }

    /// When `expire` has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::PreparingRebalance { until } | Phase::CompletingRebalance { until } => Some(until),
            Phase::Empty | Phase::Stable => None,
        };
        let sessions = self.members.values().filter(|member| !member.waits()).map(|member| member.session_ends);
        sessions.chain(self.expected.values().copied()).chain(phase).min()
    }

    /// Lets go of whoever's time is up.
    pub fn expire(&mut self, now: Instant) {
        self.expected.retain(|_, until| *until > now);
        let before = self.members.len();
        self.members.retain(|_, member| member.waits() || member.session_ends > now);
        match self.phase {
            Phase::PreparingRebalance { until } if until <= now => return self.begin_generation(now),
            Phase::CompletingRebalance { until } if until <= now => {
                self.members.retain(|_, member| member.syncing.is_some());
            }
            _ => {}
        }
        if self.members.len() < before {
            self.rebalance(now);
        }
    }

    /// Nothing in it is worth keeping.
    pub fn is_forgettable(&self) -> bool {
        self.members.is_empty() && self.expected.is_empty() && self.offsets.is_empty()
    }

    pub fn describe(&self) -> Description {
        let state = match self.phase {
            Phase::Empty => "Empty",
            Phase::PreparingRebalance { .. } => "PreparingRebalance",
            Phase::CompletingRebalance { .. } => "CompletingRebalance",
            Phase::Stable => "Stable",
        };
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            id: id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(&self.protocol),
            assignment: member.assignment.clone(),
        });
        Description {
            state,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: members.collect(),
        }
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;

//! The rules of a consumer group, by hand-set clock.

use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

struct Clocked {
    group: Group,
    now: Instant,
}

type Answer<T> = oneshot::Receiver<T>;

impl Clocked {
    fn new() -> Self {
        Clocked { group: Group::default(), now: Instant::now() }
    }

    fn join_with(&mut self, id: &str, takes_id_first: bool, protocols: &[&str]) -> Answer<Joined> {
        let (sender, receiver) = oneshot::channel();
        let request = Joining {
            member_id: id.to_owned(),
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".to_owned(),
            protocols: protocols.iter().map(|name| ((*name).to_owned(), Bytes::from_static(b"topics"))).collect(),
            takes_id_first,
        };
        self.group.join(request, self.now, sender);
        receiver
    }

    fn join(&mut self, id: &str) -> Answer<Joined> {
        self.join_with(id, false, &["range"])
    }

    fn sync(&mut self, joined: &Joined, assignments: &[(&str, &'static str)]) -> Answer<Synced> {
        let (sender, receiver) = oneshot::channel();
        let assignments =
            assignments.iter().map(|(id, what)| ((*id).to_owned(), Bytes::from_static(what.as_bytes()))).collect();
        self.group.sync(&joined.member_id, joined.generation, assignments, self.now, sender);
        receiver
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.expire(self.now);
    }

    fn heartbeat(&mut self, joined: &Joined) -> Result<(), ResponseError> {
        self.group.heartbeat(&joined.member_id, joined.generation, self.now)
    }

    /// One member, stable.
    fn with_one() -> (Self, Joined) {
        let mut clocked = Clocked::new();
        let mut answer = clocked.join("");
        let joined = answer.try_recv().expect("a group of one is ready at once");
        let mut synced = clocked.sync(&joined, &[(&joined.member_id, "all")]);
        assert_eq!(synced.try_recv().unwrap(), Ok(Bytes::from_static(b"all")));
        (clocked, joined)
    }

    /// Two members, stable: the leader and the follower.
    fn with_two() -> (Self, Joined, Joined) {
        let (mut clocked, first) = Clocked::with_one();
        let mut second = clocked.join("");
        assert!(second.try_recv().is_err(), "it waits for the first member to join again");
        assert_eq!(clocked.heartbeat(&first), Err(ResponseError::RebalanceInProgress));
        let leader = clocked.join(&first.member_id).try_recv().expect("both have joined");
        let follower = second.try_recv().expect("both have joined");
        assert_eq!((leader.generation, follower.generation), (2, 2));
        assert_eq!((&leader.leader, &follower.leader), (&leader.member_id, &leader.member_id));
        assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
        let mut waits = clocked.sync(&follower, &[]);
        assert!(waits.try_recv().is_err(), "the leader has not dealt yet");
        let mut deals = clocked.sync(&leader, &[(&leader.member_id, "left"), (&follower.member_id, "right")]);
        assert_eq!(deals.try_recv().unwrap(), Ok(Bytes::from_static(b"left")));
        assert_eq!(waits.try_recv().unwrap(), Ok(Bytes::from_static(b"right")));
        (clocked, leader, follower)
    }
}

#[test]
fn a_newcomer_shares_and_a_leaver_gives_back() {
    let (mut clocked, leader, follower) = Clocked::with_two();
    assert_eq!(clocked.group.describe().state, "Stable");
    clocked.group.leave(&leader.member_id, clocked.now).unwrap();
    assert_eq!(clocked.heartbeat(&follower), Err(ResponseError::RebalanceInProgress));
    let alone = clocked.join(&follower.member_id).try_recv().unwrap();
    assert_eq!((alone.generation, alone.leader.as_str(), alone.members.len()), (3, alone.member_id.as_str(), 1));
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let (mut clocked, leader, follower) = Clocked::with_two();
    clocked.pass(SESSION / 2);
    clocked.heartbeat(&follower).unwrap();
    assert_eq!(clocked.group.next_deadline(), Some(clocked.now + SESSION / 2));
    clocked.pass(SESSION / 2);
    assert_eq!(clocked.heartbeat(&leader), Err(ResponseError::UnknownMemberId));
    assert_eq!(clocked.heartbeat(&follower), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn a_rebalance_does_not_wait_longer_than_its_timeout() {
    let (mut clocked, leader, follower) = Clocked::with_two();
    let mut third = clocked.join("");
    let mut again = clocked.join(&leader.member_id);
    for _ in 0..12 {
        clocked.pass(REBALANCE / 12);
        // The follower lives but does not join.
        let _ = clocked.heartbeat(&follower);
    }
    let (third, again) = (third.try_recv().unwrap(), again.try_recv().unwrap());
    assert_eq!((third.generation, again.generation, again.members.len()), (3, 3, 2));
    assert_eq!(clocked.heartbeat(&follower), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_never_deals_is_out() {
    let mut clocked = Clocked::new();
    let leader = clocked.join("").try_recv().unwrap();
    let mut second = clocked.join("");
    let leader = clocked.join(&leader.member_id).try_recv().unwrap();
    let follower = second.try_recv().unwrap();
    let mut waits = clocked.sync(&follower, &[]);
    for _ in 0..12 {
        clocked.pass(REBALANCE / 12);
        let _ = clocked.heartbeat(&leader);
    }
    assert_eq!(waits.try_recv().unwrap(), Err(ResponseError::RebalanceInProgress));
    assert_eq!(clocked.heartbeat(&leader), Err(ResponseError::UnknownMemberId));
    assert_eq!(clocked.join(&follower.member_id).try_recv().unwrap().members.len(), 1);
}

#[test]
fn an_id_taken_first_joins_with_it() {
    let mut clocked = Clocked::new();
    let given = clocked.join_with("", true, &["range"]).try_recv().unwrap();
    assert_eq!(given.error, Some(ResponseError::MemberIdRequired));
    let joined = clocked.join_with(&given.member_id, true, &["range"]).try_recv().unwrap();
    assert_eq!((joined.error, joined.generation), (None, 1));
    let forgotten = clocked.join_with("", true, &["range"]).try_recv().unwrap();
    clocked.pass(SESSION);
    let late = clocked.join_with(&forgotten.member_id, true, &["range"]).try_recv().unwrap();
    assert_eq!(late.error, Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_follower_that_asks_again_is_told_the_same_and_a_leader_rebalances() {
    let (mut clocked, leader, follower) = Clocked::with_two();
    assert_eq!(clocked.join(&follower.member_id).try_recv().unwrap(), follower);
    let mut again = clocked.join(&leader.member_id);
    assert!(again.try_recv().is_err());
    assert_eq!(clocked.group.describe().state, "PreparingRebalance");
}

#[test]
fn members_agree_on_an_assignor_that_all_know() {
    let mut clocked = Clocked::new();
    let first = clocked.join_with("", false, &["cooperative-sticky", "range"]).try_recv().unwrap();
    assert_eq!(first.protocol, "cooperative-sticky");
    let refused = clocked.join_with("", false, &["roundrobin"]).try_recv().unwrap();
    assert_eq!(refused.error, Some(ResponseError::InconsistentGroupProtocol));
    let mut second = clocked.join_with("", false, &["roundrobin", "range"]);
    clocked.join_with(&first.member_id, false, &["cooperative-sticky", "range"]);
    assert_eq!(second.try_recv().unwrap().protocol, "range");
}

#[test]
fn only_the_present_generation_commits() {
    let (mut clocked, leader, follower) = Clocked::with_two();
    let now = clocked.now;
    assert_eq!(clocked.group.may_commit(&follower.member_id, 2, now), Ok(()));
    assert_eq!(clocked.group.may_commit(&follower.member_id, 1, now), Err(ResponseError::IllegalGeneration));
    assert_eq!(clocked.group.may_commit("somebody", 2, now), Err(ResponseError::UnknownMemberId));
    assert_eq!(clocked.group.may_commit("", -1, now), Err(ResponseError::UnknownMemberId));
    clocked.group.leave(&leader.member_id, now).unwrap();
    assert_eq!(clocked.group.may_commit(&follower.member_id, 2, now), Ok(()), "what it did before the rebalance");
    clocked.group.leave(&follower.member_id, now).unwrap();
    assert_eq!(clocked.group.may_commit("", -1, now), Ok(()), "nobody is in the group");
    assert!(clocked.group.is_forgettable());
}

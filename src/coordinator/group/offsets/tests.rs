use super::{
    super::{
        Candidate, Commit, CommitPartition, CommitTopic, Committed, Event, Fetch, FetchTopic, GroupError, Groups,
        Reply, State,
        records::{self, GroupValue, MemberValue},
    },
    Record, Refusal, Ticket,
};
use crate::{
    config::GroupSettings,
    coordinator::machine::{Machine, Now, Output},
};
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

const DAY: i64 = 86_400_000;
const T0: i64 = 1_800_000_000_000;
const ORDERS: Uuid = Uuid::from_u128(1);
const BILLS: Uuid = Uuid::from_u128(2);

fn settings() -> GroupSettings {
    GroupSettings {
        session_timeout_min_ms: 6_000,
        session_timeout_max_ms: 1_800_000,
        initial_rebalance_delay_ms: 50,
        size_max: 1000,
        offset_metadata_bytes_max: 20,
        offsets_retention_ms: 7 * DAY,
        offsets_retention_given: false,
    }
}

/// A machine with its log, as a shard has it.
struct Shard {
    machine: Groups,
    log: Vec<Record>,
    batches: Vec<usize>,
    /// What the next append is refused with, after so many that are made.
    refuse: Option<(usize, Refusal)>,
}

impl Default for Shard {
    fn default() -> Self {
        Shard::of(Vec::new())
    }
}

impl Shard {
    fn of(log: Vec<Record>) -> Shard {
        Shard { machine: loaded(&log), log, batches: Vec::new(), refuse: None }
    }

    fn ask(&mut self, now_ms: i64, event: Event) -> Reply {
        let now = Now { wall_ms: now_ms, ticks_ms: 0 };
        let mut out = Output::default();
        self.machine.handle(Ticket(1), event, now, &settings(), &mut out);
        let mut replies = std::mem::take(&mut out.replies);
        for (records, pending) in std::mem::take(&mut out.appends) {
            let mut out = Output::default();
            match &mut self.refuse {
                Some((0, why)) => self.machine.refused(pending, &why.clone(), now, &settings(), &mut out),
                other => {
                    if let Some((left, _)) = other {
                        *left -= 1;
                    }
                    for record in &records {
                        replay(&mut self.machine, record);
                    }
                    self.batches.push(records.len());
                    self.log.extend(records);
                    self.machine.appended(pending, now, &settings(), &mut out);
                }
            }
            assert!(out.appends.is_empty());
            replies.extend(out.replies);
        }
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].0, Ticket(1));
        replies.remove(0).1
    }

    fn commit(&mut self, now_ms: i64, commit: Commit) -> Result<Vec<Vec<Result<(), GroupError>>>, GroupError> {
        match self.ask(now_ms, Event::Commit(commit)) {
            Reply::Commit(result) => result.map(|topics| topics.into_iter().map(without_offsets).collect()),
            other => panic!("{other:?}"),
        }
    }

    fn fetch(&mut self, group: &str, topics: Option<Vec<FetchTopic>>) -> Vec<Committed> {
        match self.ask(T0, Event::Fetch(Fetch { group: group.into(), topics })) {
            Reply::Fetch(result) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Offset of one partition, -1 if none.
    fn offset(&mut self, group: &str, topic: &str, id: Uuid, partition: i32) -> i64 {
        let topics = vec![FetchTopic { name: topic.into(), id, partitions: vec![partition] }];
        self.fetch(group, Some(topics)).first().map_or(-1, |found| found.offset)
    }

    fn candidates(&mut self, now_ms: i64) -> Vec<Candidate> {
        match self.ask(now_ms, Event::ExpiryCandidates) {
            Reply::ExpiryCandidates(found) => found,
            other => panic!("{other:?}"),
        }
    }

    fn expire(&mut self, now_ms: i64, candidates: Vec<Candidate>) -> usize {
        match self.ask(now_ms, Event::Expire(candidates)) {
            Reply::Dropped(n) => n,
            other => panic!("{other:?}"),
        }
    }

    fn topics(&mut self) -> Vec<(Arc<str>, Uuid)> {
        match self.ask(T0, Event::Topics) {
            Reply::Topics(topics) => topics,
            other => panic!("{other:?}"),
        }
    }

    fn names(&mut self) -> Vec<String> {
        match self.ask(T0, Event::List) {
            Reply::List(all) => all.iter().map(|one| one.group.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn replay(machine: &mut Groups, record: &Record) {
    machine.replay(&record.key, record.value.as_deref(), Now::default()).unwrap();
}

/// A machine that has loaded `log`.
fn loaded(log: &[Record]) -> Groups {
    let mut machine = Groups::default();
    for record in log {
        replay(&mut machine, record);
    }
    let mut out = Output::default();
    machine.loaded(Now::default(), &settings(), &mut out);
    assert!(out.replies.is_empty() && out.appends.is_empty());
    machine
}

fn partition(index: i32, offset: i64, metadata: &str) -> CommitPartition {
    CommitPartition { index, offset, leader_epoch: -1, metadata: metadata.into() }
}

fn without_offsets(results: Vec<Result<Option<i64>, GroupError>>) -> Vec<Result<(), GroupError>> {
    results.into_iter().map(|result| result.map(drop)).collect()
}

fn commit(group: &str, topic: &str, id: Uuid, partitions: Vec<CommitPartition>) -> Commit {
    Commit {
        group: group.into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        retention_ms: None,
        topics: vec![CommitTopic { name: topic.into(), id, partitions }],
    }
}

#[test]
fn what_was_committed_is_fetched() {
    let mut shard = Shard::default();
    let mut all = commit("g", "orders", ORDERS, vec![partition(3, 7, "mark"), partition(0, 5, "")]);
    all.topics[0].partitions[0].leader_epoch = 2;
    all.topics.push(CommitTopic { name: "bills".into(), id: BILLS, partitions: vec![partition(1, 1, "")] });
    assert_eq!(shard.commit(T0, all).unwrap(), [vec![Ok(()), Ok(())], vec![Ok(())]]);
    assert_eq!(shard.batches, [3], "one append for the whole request");

    let found = shard.fetch("g", None);
    let places: Vec<_> = found.iter().map(|it| (&*it.topic, it.partition, it.offset)).collect();
    assert_eq!(places, [("bills", 1, 1), ("orders", 0, 5), ("orders", 3, 7)]);
    let expected = Committed {
        topic: "orders".into(),
        topic_id: ORDERS,
        partition: 3,
        offset: 7,
        leader_epoch: 2,
        metadata: "mark".into(),
        commit_ms: T0,
    };
    assert_eq!(found[2], expected);

    let asked = FetchTopic { name: "orders".into(), id: ORDERS, partitions: vec![3, 9] };
    assert_eq!(shard.fetch("g", Some(vec![asked])), [expected], "what has no commit is not there");
    assert_eq!(shard.fetch("other", None), []);

    // A later one replaces it, mark and all.
    shard.commit(T0 + 1, commit("g", "orders", ORDERS, vec![partition(3, 8, "")])).unwrap();
    let found = shard.fetch("g", None);
    assert_eq!((found[2].offset, &*found[2].metadata, found[2].leader_epoch), (8, "", -1));
    assert_eq!(found[2].commit_ms, T0 + 1);
}

#[test]
fn metadata_beyond_its_bound_fails_its_partition_alone() {
    let mut shard = Shard::default();
    let big = "x".repeat(21);
    let results =
        shard.commit(T0, commit("g", "orders", ORDERS, vec![partition(0, 1, &big), partition(1, 2, &big[1..])]));
    let too_large = GroupError::OffsetMetadataTooLarge { size_bytes: 21, max_bytes: 20 };
    assert_eq!(results.unwrap(), [vec![Err(too_large.clone()), Ok(())]]);
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), -1);
    assert_eq!(shard.offset("g", "orders", ORDERS, 1), 2);
    // Java counts characters: twenty of three bytes are twenty.
    let results = shard.commit(T0, commit("g", "orders", ORDERS, vec![partition(0, 1, &"€".repeat(20))]));
    assert_eq!(results.unwrap(), [vec![Ok(())]]);
    // Nothing to store: no append, no group.
    let before = shard.log.len();
    let results = shard.commit(T0, commit("new", "orders", ORDERS, vec![partition(0, 1, &big)]));
    assert_eq!(results.unwrap(), [vec![Err(too_large)]]);
    assert_eq!((shard.log.len(), shard.names()), (before, vec!["g".to_string()]));
}

#[test]
fn a_member_of_a_group_that_is_not_there_is_told_so() {
    let mut shard = Shard::default();
    let mut stale = commit("g", "orders", ORDERS, vec![partition(0, 1, "")]);
    (stale.generation, stale.member_id) = (4, "m".into());
    assert_eq!(shard.commit(T0, stale), Err(GroupError::GroupIdNotFound));
    assert!(shard.log.is_empty());
}

#[test]
fn an_offset_of_another_topic_of_that_name_is_none() {
    let mut shard = Shard::default();
    shard.commit(T0, commit("g", "orders", ORDERS, vec![partition(0, 5, ""), partition(1, 6, "")])).unwrap();
    assert_eq!(shard.offset("g", "orders", BILLS, 0), -1);
    assert_eq!(shard.offset("g", "orders", Uuid::nil(), 0), -1, "the topic does not exist");
    // The topic was deleted and made anew: the two live beside each other until the old one is cleared away.
    shard.commit(T0, commit("g", "orders", BILLS, vec![partition(1, 2, "")])).unwrap();
    assert_eq!(shard.offset("g", "orders", BILLS, 1), 2);
    assert_eq!(shard.offset("g", "orders", ORDERS, 1), -1);
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), 5);
    assert_eq!(shard.topics(), [("orders".into(), ORDERS), ("orders".into(), BILLS)]);
    let dropped = shard.ask(T0, Event::TopicsDeleted(vec![("orders".into(), ORDERS)]));
    assert!(matches!(dropped, Reply::Dropped(1)), "{dropped:?}");
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), -1);
    assert_eq!(shard.offset("g", "orders", BILLS, 1), 2);
    assert_eq!(shard.topics(), [("orders".into(), BILLS)]);
    // Stored without an id (another broker, long ago): of any topic of the name.
    let value = [&[0, 3][..], &9i64.to_be_bytes(), &[255; 4], &[0, 0], &T0.to_be_bytes()].concat();
    let key = records::offset_key("g", "orders", 7).unwrap();
    shard.machine.replay(&key, Some(&value), Now::default()).unwrap();
    assert_eq!(shard.offset("g", "orders", ORDERS, 7), 9);
    assert_eq!(shard.offset("g", "orders", BILLS, 7), 9);
    let dropped = shard.ask(T0, Event::TopicsDeleted(vec![("orders".into(), ORDERS)]));
    assert!(matches!(dropped, Reply::Dropped(0)), "it may be of the topic made anew: {dropped:?}");
    let dropped = shard.ask(T0, Event::TopicsDeleted(vec![("orders".into(), Uuid::nil())]));
    assert!(matches!(dropped, Reply::Dropped(1)), "no topic of the name is left: {dropped:?}");
    assert_eq!(shard.topics(), [("orders".into(), BILLS)]);
}

#[test]
fn offsets_are_deleted_by_name() {
    let mut shard = Shard::default();
    let gone = shard.ask(T0, Event::DeleteOffsets { group: "g".into(), topics: Vec::new() });
    assert!(matches!(gone, Reply::DeleteOffsets(Err(GroupError::GroupIdNotFound))), "{gone:?}");
    shard.commit(T0, commit("g", "orders", ORDERS, vec![partition(0, 5, ""), partition(1, 6, "")])).unwrap();
    let topics = vec![("orders".into(), vec![1, 9]), ("bills".into(), vec![0])];
    let Reply::DeleteOffsets(results) = shard.ask(T0, Event::DeleteOffsets { group: "g".into(), topics }) else {
        panic!()
    };
    assert_eq!(results.unwrap(), [vec![Ok(()), Ok(())], vec![Ok(())]]);
    assert_eq!(shard.offset("g", "orders", ORDERS, 1), -1);
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), 5);
}

#[test]
fn a_group_is_deleted_with_all_it_has() {
    let mut shard = Shard::default();
    let delete = |shard: &mut Shard| match shard.ask(T0, Event::Delete { group: "g".into() }) {
        Reply::Delete(result) => result,
        other => panic!("{other:?}"),
    };
    assert_eq!(delete(&mut shard), Err(GroupError::GroupIdNotFound));
    // More than one batch of tombstones.
    for from in (0..30_000).step_by(10_000) {
        let partitions = (from..from + 10_000).map(|n| partition(n, 1, "")).collect();
        shard.commit(T0, commit("g", "orders", ORDERS, partitions)).unwrap();
    }
    shard.batches.clear();
    assert_eq!(delete(&mut shard), Ok(()));
    assert!(shard.batches.len() > 1, "{:?}", shard.batches);
    assert_eq!(shard.batches.iter().sum::<usize>(), 30_001);
    assert_eq!(shard.log.last().unwrap().key, records::group_key("g").unwrap());
    assert_eq!(shard.names(), [""; 0]);
    assert_eq!(shard.fetch("g", None), []);
}

#[test]
fn a_deletion_of_which_a_part_was_not_stored_is_none() {
    let mut shard = Shard::default();
    let partitions = (0..30_000).map(|n| partition(n, 1, "")).collect();
    shard.commit(T0, commit("g", "orders", ORDERS, partitions)).unwrap();
    shard.refuse = Some((1, Refusal::DiskFull));
    let reply = shard.ask(T0, Event::Delete { group: "g".into() });
    assert!(matches!(reply, Reply::Delete(Err(GroupError::NotAvailable(_)))), "{reply:?}");
    shard.refuse = None;
    assert!((1..30_000).contains(&shard.fetch("g", None).len()));
    let reply = shard.ask(T0, Event::Delete { group: "g".into() });
    assert!(matches!(reply, Reply::Delete(Ok(()))), "{reply:?}");
    assert_eq!(shard.fetch("g", None), []);
}

#[test]
fn what_could_not_be_dropped_is_said() {
    let mut shard = Shard::default();
    let partitions = (0..30_000).map(|n| partition(n, 1, "")).collect();
    shard.commit(T0, commit("g", "orders", ORDERS, partitions)).unwrap();
    shard.refuse = Some((1, Refusal::TooLarge { size_bytes: 2, max_bytes: 1 }));
    let reply = shard.ask(T0, Event::TopicsDeleted(vec![("orders".into(), ORDERS)]));
    let Reply::DroppedInPart(dropped, GroupError::CommitTooLarge) = reply else { panic!("{reply:?}") };
    assert!((1..30_000).contains(&dropped));
    assert_eq!(shard.fetch("g", None).len(), 30_000 - dropped);
}

#[test]
fn a_commit_that_was_not_stored_is_refused() {
    let mut shard = Shard::default();
    let cases = [
        (Refusal::TooLarge { size_bytes: 2, max_bytes: 1 }, GroupError::CommitTooLarge),
        (Refusal::NotEnoughReplicas, GroupError::NotAvailable("not enough replicas are in sync".into())),
        (Refusal::NotHere("moved".into()), GroupError::NotCoordinator("moved".into())),
    ];
    for (why, error) in cases {
        shard.refuse = Some((0, why));
        let result = shard.commit(T0, commit("g", "orders", ORDERS, vec![partition(0, 1, "")]));
        assert_eq!(result, Err(error));
        assert_eq!(shard.names(), [""; 0]);
    }
    let long: Arc<str> = "g".repeat(40_000).into();
    let result = shard.commit(T0, commit(&long, "orders", ORDERS, vec![partition(0, 1, "")]));
    assert!(matches!(result, Err(GroupError::InvalidRequest(_))), "{result:?}");
}

#[test]
fn offsets_of_clients_without_a_group_expire_by_their_commit() {
    let mut shard = Shard::default();
    shard.commit(T0, commit("g", "orders", ORDERS, vec![partition(0, 1, "")])).unwrap();
    shard.commit(T0 + DAY, commit("g", "orders", ORDERS, vec![partition(1, 2, "")])).unwrap();
    assert_eq!(shard.candidates(T0 + 7 * DAY - 1), []);
    let found = shard.candidates(T0 + 7 * DAY);
    assert_eq!(found.iter().map(|it| (it.key.partition, it.offset)).collect::<Vec<_>>(), [(0, 1)]);
    assert_eq!((found[0].topic_id, found[0].commit_ms), (ORDERS, T0));
    // Committed anew in between: kept.
    shard.commit(T0 + 7 * DAY, commit("g", "orders", ORDERS, vec![partition(0, 1, "")])).unwrap();
    assert_eq!(shard.expire(T0 + 7 * DAY, found), 0);
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), 1);
    let all = shard.candidates(T0 + 20 * DAY);
    assert_eq!(shard.expire(T0 + 20 * DAY, all[..1].to_vec()), 1);
    assert_eq!(shard.names(), ["g"], "it has an offset yet");
    assert_eq!(shard.expire(T0 + 20 * DAY, all), 1);
    assert_eq!(shard.names(), [""; 0]);
    assert!(shard.machine.topics.is_empty(), "names of topics that nobody has committed to are forgotten");
}

/// The record of group `g`, whose one member (if it has one) reads `orders`.
fn group_record(protocol_type: &str, subscription: Option<&[u8]>, state_ms: i64) -> Record {
    let member = |subscription: &[u8]| MemberValue {
        member_id: "m".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 10_000,
        session_timeout_ms: 10_000,
        subscription: subscription.to_vec().into(),
        assignment: Bytes::new(),
    };
    let value = GroupValue {
        protocol_type: protocol_type.into(),
        generation: 3,
        protocol: subscription.is_some().then(|| "range".into()),
        leader: subscription.is_some().then(|| "m".into()),
        state_ms,
        members: subscription.map(member).into_iter().collect(),
    };
    Record { key: records::group_key("g").unwrap(), value: Some(value.encode().unwrap()) }
}

/// Version 0: one topic, no user data.
const READS_ORDERS: &[u8] = b"\0\0\0\0\0\x01\0\x06orders\xff\xff\xff\xff";

fn by_member(mut commit: Commit) -> Commit {
    (commit.generation, commit.member_id) = (3, "m".into());
    commit
}

fn both_topics(now_ms: i64, shard: &mut Shard, member: bool) {
    for (topic, id) in [("orders", ORDERS), ("bills", BILLS)] {
        let mut it = commit("g", topic, id, vec![partition(0, 1, "")]);
        if member {
            it = by_member(it);
        }
        assert_eq!(shard.commit(now_ms, it), Ok(vec![vec![Ok(())]]));
    }
}

fn topics_of(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|it| &*it.key.topic).collect()
}

#[test]
fn offsets_of_a_group_that_is_empty_expire_by_when_it_became_so_or_by_their_commit() {
    let mut shard = Shard::of(vec![group_record("consumer", None, T0 + DAY)]);
    both_topics(T0, &mut shard, false);
    assert_eq!(shard.candidates(T0 + 8 * DAY - 1), [], "a week after the last member left");
    assert_eq!(topics_of(&shard.candidates(T0 + 8 * DAY)), ["bills", "orders"]);
    shard.commit(T0 + 3 * DAY, commit("g", "orders", ORDERS, vec![partition(0, 2, "")])).unwrap();
    assert_eq!(topics_of(&shard.candidates(T0 + 8 * DAY)), ["bills"], "a tool has committed since");
    // An old record does not say when it became empty.
    let mut shard = Shard::of(vec![group_record("consumer", None, -1)]);
    both_topics(T0, &mut shard, false);
    assert_eq!(shard.candidates(T0 + 7 * DAY).len(), 2);
    // With its last offset it goes itself.
    let found = shard.candidates(T0 + 7 * DAY);
    assert_eq!(shard.expire(T0 + 7 * DAY, found), 2);
    assert_eq!(shard.names(), [""; 0]);
    assert!(loaded(&shard.log).groups.is_empty());
}

#[test]
fn offsets_of_a_stable_group_expire_where_nobody_reads() {
    let mut shard = Shard::of(vec![group_record("consumer", Some(READS_ORDERS), T0)]);
    both_topics(T0, &mut shard, true);
    assert_eq!(shard.candidates(T0 + 7 * DAY - 1), []);
    let found = shard.candidates(T0 + 7 * DAY);
    assert_eq!(topics_of(&found), ["bills"]);
    assert_eq!(shard.expire(T0 + 7 * DAY, found), 1);
    assert_eq!(shard.expire(T0 + 70 * DAY, Vec::new()), 0);
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), 1);
    assert_eq!(shard.names(), ["g"]);
    // What its members read cannot be told, or they are not consumers: nothing goes.
    for (kind, subscription) in [("consumer", &b"?"[..]), ("connect", READS_ORDERS)] {
        let mut shard = Shard::of(vec![group_record(kind, Some(subscription), T0)]);
        both_topics(T0, &mut shard, true);
        assert_eq!(shard.candidates(T0 + 70 * DAY), [], "{kind}");
    }
}

#[test]
fn what_expired_is_looked_at_again_before_it_goes() {
    let mut shard = Shard::of(vec![group_record("consumer", None, T0)]);
    both_topics(T0, &mut shard, false);
    let found = shard.candidates(T0 + 7 * DAY);
    assert_eq!(found.len(), 2);
    // Its members have come back in between.
    shard.log.push(group_record("consumer", Some(READS_ORDERS), T0 + 7 * DAY));
    shard.machine = loaded(&shard.log);
    assert_eq!(shard.expire(T0 + 7 * DAY, found), 1);
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), 1);
}

#[test]
fn a_group_with_members_is_neither_deleted_nor_loses_what_they_read() {
    let mut shard = Shard::of(vec![group_record("consumer", Some(READS_ORDERS), T0)]);
    both_topics(T0, &mut shard, true);
    let reply = shard.ask(T0, Event::Delete { group: "g".into() });
    assert!(matches!(reply, Reply::Delete(Err(GroupError::NonEmptyGroup))), "{reply:?}");
    let topics = || vec![("orders".into(), vec![0, 1]), ("bills".into(), vec![0])];
    let Reply::DeleteOffsets(results) = shard.ask(T0, Event::DeleteOffsets { group: "g".into(), topics: topics() })
    else {
        panic!()
    };
    let subscribed = || Err(GroupError::GroupSubscribedToTopic);
    assert_eq!(results, Ok(vec![vec![subscribed(), subscribed()], vec![Ok(())]]));
    assert_eq!((shard.offset("g", "orders", ORDERS, 0), shard.offset("g", "bills", BILLS, 0)), (1, -1));
    let mut shard = Shard::of(vec![group_record("connect", Some(READS_ORDERS), T0)]);
    let reply = shard.ask(T0, Event::DeleteOffsets { group: "g".into(), topics: topics() });
    assert!(matches!(reply, Reply::DeleteOffsets(Err(GroupError::NonEmptyGroup))), "{reply:?}");
}

#[test]
fn members_alone_commit_to_a_group_that_has_them() {
    let mut shard = Shard::of(vec![group_record("consumer", Some(READS_ORDERS), T0)]);
    let it = || commit("g", "orders", ORDERS, vec![partition(0, 1, "")]);
    assert_eq!(shard.commit(T0, it()), Err(GroupError::UnknownMemberId), "a client that assigns itself");
    let stranger = Commit { member_id: "x".into(), ..by_member(it()) };
    assert_eq!(shard.commit(T0, stranger), Err(GroupError::UnknownMemberId));
    let stale = Commit { generation: 2, ..by_member(it()) };
    assert_eq!(shard.commit(T0, stale), Err(GroupError::IllegalGeneration { given: 2, current: 3 }));
    assert_eq!(shard.log.len(), 1);
    assert_eq!(shard.commit(T0, by_member(it())), Ok(vec![vec![Ok(())]]));
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut shard = Shard::of(vec![group_record("consumer", Some(READS_ORDERS), T0)]);
    assert_eq!(shard.machine.next_tick(), Some(10_000));
    let now = Now { wall_ms: T0, ticks_ms: 9_000 };
    let event = Event::Commit(by_member(commit("g", "orders", ORDERS, vec![partition(0, 1, "")])));
    shard.machine.handle(Ticket(1), event, now, &settings(), &mut Output::default());
    let mut out = Output::default();
    let now = Now { wall_ms: T0, ticks_ms: 18_999 };
    shard.machine.tick(now, &settings(), &mut out);
    let Reply::Describe(Ok(it)) = shard.ask(T0, Event::Describe { group: "g".into() }) else { panic!() };
    assert_eq!(it.members.len(), 1);
    shard.machine.tick(Now { wall_ms: T0, ticks_ms: 19_000 }, &settings(), &mut out);
    let Reply::Describe(Ok(it)) = shard.ask(T0, Event::Describe { group: "g".into() }) else { panic!() };
    assert_eq!(it.members.len(), 0);
}

#[test]
fn groups_are_shown_with_members_and_without() {
    let mut shard = Shard::of(vec![group_record("consumer", Some(READS_ORDERS), T0)]);
    shard.commit(T0, commit("simple", "orders", ORDERS, vec![partition(0, 1, "")])).unwrap();
    let Reply::List(all) = shard.ask(T0, Event::List) else { panic!() };
    let shown: Vec<_> = all.iter().map(|it| (&*it.group, it.state, &*it.protocol_type)).collect();
    assert_eq!(shown, [("g", State::Stable, "consumer"), ("simple", State::Empty, "")]);
    let Reply::Describe(Ok(it)) = shard.ask(T0, Event::Describe { group: "simple".into() }) else { panic!() };
    assert_eq!((it.state, &*it.protocol_type, &*it.protocol, it.members.len()), (State::Empty, "", "", 0));
    let unknown = shard.ask(T0, Event::Describe { group: "none".into() });
    assert!(matches!(unknown, Reply::Describe(Err(GroupError::GroupIdNotFound))), "{unknown:?}");
}

#[test]
fn an_expiry_of_its_own_counts_alone() {
    let mut shard = Shard::default();
    let mut short = commit("g", "orders", ORDERS, vec![partition(0, 1, "m")]);
    short.retention_ms = Some(10);
    shard.commit(T0, short).unwrap();
    let mut long = commit("g", "orders", ORDERS, vec![partition(1, 1, "")]);
    long.retention_ms = Some(i64::MAX);
    shard.commit(T0, long).unwrap();
    assert_eq!(&*shard.fetch("g", None)[0].metadata, "m");
    assert_eq!(shard.candidates(T0 + 9), []);
    assert_eq!(shard.candidates(T0 + 10).len(), 1);
    assert_eq!(shard.candidates(T0 + 100 * DAY).len(), 1, "the other outlives the broker's retention");
    // Committed anew in between, and over at once: not what was looked at.
    let found = shard.candidates(T0 + 10);
    let mut again = commit("g", "orders", ORDERS, vec![partition(0, 2, "m")]);
    again.retention_ms = Some(0);
    shard.commit(T0 + 10, again).unwrap();
    assert_eq!(shard.expire(T0 + 10, found), 0);
    let found = shard.candidates(T0 + 10);
    assert_eq!(shard.expire(T0 + 10, found), 1);
    assert_eq!(shard.offset("g", "orders", ORDERS, 0), -1);
}

#[test]
fn the_names_of_topics_are_shared_between_groups() {
    let mut shard = Shard::default();
    for group in ["a", "b"] {
        shard.commit(T0, commit(group, "orders", ORDERS, vec![partition(0, 1, "")])).unwrap();
    }
    let (a, b) = (shard.fetch("a", None), shard.fetch("b", None));
    assert!(Arc::ptr_eq(&a[0].topic, &b[0].topic));
}

#[test]
fn a_hundred_thousand_offsets_of_one_group_work() {
    let mut shard = Shard::default();
    // Not in order: partitions of a request come as a client's table has them.
    let mut order: Vec<i32> = (0..100_000).collect();
    order.sort_by_key(|n| n.wrapping_mul(-1_640_531_527));
    for part in order.chunks(10_000) {
        let partitions = part.iter().map(|&n| partition(n, i64::from(n) + 1, "")).collect();
        shard.commit(T0, commit("g", "orders", ORDERS, partitions)).unwrap();
    }
    let found = shard.fetch("g", None);
    assert_eq!(found.len(), 100_000);
    assert!(found.iter().zip(0..).all(|(it, n)| it.partition == n && it.offset == i64::from(n) + 1));
}

mod model;

//! Members of classic groups, request by request: what `groups.rs` and `groups_crash.rs` share.

use crate::{
    support::eventually,
    wire::{Client, string, topic_name},
};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
    describe_groups_response::DescribedGroup,
    join_group_request::JoinGroupRequestProtocol,
    leave_group_request::MemberIdentity,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    sync_group_request::SyncGroupRequestAssignment,
};

/// Kafka's codes that the tests of groups name.
pub mod code {
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const INVALID_TOPIC: i16 = 17;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    pub const INVALID_GROUP_ID: i16 = 24;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const INVALID_SESSION_TIMEOUT: i16 = 26;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const INVALID_COMMIT_OFFSET_SIZE: i16 = 28;
    pub const INVALID_REQUEST: i16 = 42;
    pub const NON_EMPTY_GROUP: i16 = 68;
    pub const GROUP_ID_NOT_FOUND: i16 = 69;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    pub const GROUP_MAX_SIZE_REACHED: i16 = 81;
    pub const FENCED_INSTANCE_ID: i16 = 82;
    pub const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
}

/// Versions of one run of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    pub commit: i16,
    pub fetch: i16,
    pub find: i16,
    pub join: i16,
    pub heartbeat: i16,
    pub leave: i16,
    pub sync: i16,
    pub describe: i16,
    pub list: i16,
    pub delete: i16,
}

impl Versions {
    /// The `step`th lowest of each, at most the highest.
    pub fn at(step: i16) -> Versions {
        let v = |min: i16, max: i16| (min + step).min(max);
        Versions {
            commit: v(2, 9),
            fetch: v(1, 9),
            find: v(0, 6),
            join: v(0, 9),
            heartbeat: v(0, 4),
            leave: v(0, 5),
            sync: v(0, 5),
            describe: v(0, 6),
            list: v(0, 5),
            delete: v(0, 2),
        }
    }

    pub const STEPS: i16 = 10;

    pub fn highest() -> Versions {
        Versions::at(Versions::STEPS)
    }
}

/// One member: a connection, and what it knows of its group.
#[derive(Debug)]
pub struct Member {
    pub client: Client,
    pub group: String,
    pub versions: Versions,
    pub id: String,
    pub instance: Option<String>,
    pub generation: i32,
    pub topics: Vec<String>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
}

pub fn group_id(group: &str) -> GroupId {
    GroupId(string(group))
}

/// A consumer's subscription (version 0) as the consumer protocol has it.
pub fn subscription(topics: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.freeze()
}

impl Member {
    pub fn new(address: &str, group: &str) -> Member {
        Member {
            client: Client::connect(address),
            group: group.into(),
            versions: Versions::highest(),
            id: String::new(),
            instance: None,
            generation: -1,
            topics: vec!["t".into()],
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
        }
    }

    pub fn instance(mut self, instance: &str) -> Member {
        self.instance = Some(instance.into());
        self
    }

    pub fn join_request(&self) -> JoinGroupRequest {
        let protocol =
            JoinGroupRequestProtocol::default().with_name(string("range")).with_metadata(subscription(&self.topics));
        let mut request = JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(self.session_timeout_ms)
            .with_member_id(string(&self.id))
            .with_protocol_type(string("consumer"))
            .with_protocols(vec![protocol]);
        if self.versions.join >= 1 {
            request.rebalance_timeout_ms = self.rebalance_timeout_ms;
        }
        if self.versions.join >= 5 {
            request.group_instance_id = self.instance.as_deref().map(string);
        }
        request
    }

    /// Sends a join; the answer comes with [`Member::joined`].
    pub fn send_join(&mut self) {
        let request = self.join_request();
        self.client.send(self.versions.join, &request);
    }

    /// Sends a join with the id that the group gives it (v4 and later: after MEMBER_ID_REQUIRED).
    pub fn begin_join(&mut self) {
        if self.versions.join >= 4 && self.id.is_empty() && self.instance.is_none() {
            self.send_join();
            let response = self.joined();
            assert_eq!(response.error_code, code::MEMBER_ID_REQUIRED);
            assert!(response.member_id.starts_with("it-"), "{}", response.member_id);
            self.id = response.member_id.to_string();
        }
        self.send_join();
    }

    /// Awaits the answer to a join and takes over id and generation where it is a success.
    pub fn joined(&mut self) -> JoinGroupResponse {
        let (_, response) = self.client.receive::<JoinGroupRequest>(self.versions.join).expect("an answer to the join");
        if response.error_code == 0 {
            self.id = response.member_id.to_string();
            self.generation = response.generation_id;
        }
        response
    }

    /// Joins and awaits the answer, which must be a success.
    pub fn join(&mut self) -> JoinGroupResponse {
        self.begin_join();
        let response = self.joined();
        assert_eq!(response.error_code, 0, "{response:?}");
        response
    }

    pub fn sync_request(&self, assignments: &[(&str, &[u8])]) -> SyncGroupRequest {
        let assignment = |(id, bytes): &(&str, &[u8])| {
            SyncGroupRequestAssignment::default()
                .with_member_id(string(id))
                .with_assignment(Bytes::copy_from_slice(bytes))
        };
        let mut request = SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(string(&self.id))
            .with_assignments(assignments.iter().map(assignment).collect());
        if self.versions.sync >= 3 {
            request.group_instance_id = self.instance.as_deref().map(string);
        }
        if self.versions.sync >= 5 {
            request.protocol_type = Some(string("consumer"));
            request.protocol_name = Some(string("range"));
        }
        request
    }

    pub fn send_sync(&mut self, assignments: &[(&str, &[u8])]) {
        let request = self.sync_request(assignments);
        self.client.send(self.versions.sync, &request);
    }

    pub fn synced(&mut self) -> SyncGroupResponse {
        self.client.receive::<SyncGroupRequest>(self.versions.sync).expect("an answer to the sync").1
    }

    /// Joins alone and assigns itself; the group is stable then.
    pub fn join_alone(&mut self) {
        let response = self.join();
        assert_eq!(response.leader, response.member_id);
        let id = self.id.clone();
        self.send_sync(&[(&id, b"all")]);
        let synced = self.synced();
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
    }

    pub fn heartbeat_request(&self) -> HeartbeatRequest {
        let mut request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(string(&self.id));
        if self.versions.heartbeat >= 3 {
            request.group_instance_id = self.instance.as_deref().map(string);
        }
        request
    }

    pub fn heartbeat(&mut self) -> i16 {
        let request = self.heartbeat_request();
        self.client.call(self.versions.heartbeat, &request).error_code
    }

    /// Leaves by its id; gives its code.
    pub fn leave(&mut self) -> i16 {
        let (id, instance) = (string(&self.id), self.instance.as_deref().map(string));
        let request = LeaveGroupRequest::default().with_group_id(group_id(&self.group));
        if self.versions.leave < 3 {
            return self.client.call(self.versions.leave, &request.with_member_id(id)).error_code;
        }
        let identity = MemberIdentity::default().with_member_id(id).with_group_instance_id(instance);
        let response = self.client.call(self.versions.leave, &request.with_members(vec![identity]));
        assert_eq!(response.error_code, 0);
        response.members[0].error_code
    }

    pub fn commit_request(&self, offsets: &[(&str, i32, i64, &str)]) -> OffsetCommitRequest {
        let topic = |(name, partition, offset, metadata): &(&str, i32, i64, &str)| {
            let p = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(string(metadata)));
            OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(vec![p])
        };
        let mut request = OffsetCommitRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(string(&self.id))
            .with_topics(offsets.iter().map(topic).collect());
        if self.versions.commit >= 7 {
            request.group_instance_id = self.instance.as_deref().map(string);
        }
        request
    }

    /// Commits (topic, partition, offset, metadata); gives each partition's code.
    pub fn commit(&mut self, offsets: &[(&str, i32, i64, &str)]) -> Vec<i16> {
        let request = self.commit_request(offsets);
        let response = self.client.call(self.versions.commit, &request);
        // Kafka answers those it does not know first.
        let of = |name: &str, index: i32| {
            let partitions = response.topics.iter().filter(|t| t.name.as_str() == name).flat_map(|t| &t.partitions);
            partitions.into_iter().find(|p| p.partition_index == index).expect("each is answered").error_code
        };
        offsets.iter().map(|(name, index, ..)| of(name, *index)).collect()
    }

    /// What the group has committed to one partition: (offset, metadata).
    pub fn committed(&mut self, topic: &str, partition: i32) -> (i64, String) {
        let shown = fetch(&mut self.client, self.versions.fetch, &self.group, Some(&[(topic, partition)]));
        let [(_, _, offset, metadata)] = &shown[..] else { panic!("{shown:?}") };
        (*offset, metadata.clone())
    }

    pub fn describe(&mut self) -> DescribedGroup {
        describe(&mut self.client, self.versions.describe, &self.group)
    }

    pub fn state(&mut self) -> String {
        self.describe().group_state.to_string()
    }
}

/// OffsetFetch of one group: (topic, partition, offset, metadata). `None` = everything.
pub fn fetch(
    client: &mut Client,
    version: i16,
    group: &str,
    wanted: Option<&[(&str, i32)]>,
) -> Vec<(String, i32, i64, String)> {
    if version < 8 {
        let topic = |(name, partition): &(&str, i32)| {
            OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(vec![*partition])
        };
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(wanted.map(|list| list.iter().map(topic).collect()));
        let response = client.call(version, &request);
        assert_eq!(response.error_code, 0);
        let all = response.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p)));
        return all
            .map(|(t, p)| {
                assert_eq!(p.error_code, 0);
                let metadata = p.metadata.as_deref().unwrap_or_default();
                (t.name.to_string(), p.partition_index, p.committed_offset, metadata.to_string())
            })
            .collect();
    }
    let topic = |(name, partition): &(&str, i32)| {
        OffsetFetchRequestTopics::default().with_name(topic_name(name)).with_partition_indexes(vec![*partition])
    };
    let one = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(group))
        .with_topics(wanted.map(|list| list.iter().map(topic).collect()));
    let request = OffsetFetchRequest::default().with_groups(vec![one]).with_require_stable(true);
    let response = client.call(version, &request);
    let answer = &response.groups[0];
    assert_eq!((answer.error_code, answer.group_id.as_str()), (0, group));
    let all = answer.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p)));
    all.map(|(t, p)| {
        assert_eq!(p.error_code, 0);
        let metadata = p.metadata.as_deref().unwrap_or_default();
        (t.name.to_string(), p.partition_index, p.committed_offset, metadata.to_string())
    })
    .collect()
}

pub fn describe(client: &mut Client, version: i16, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    client.call(version, &request).groups[0].clone()
}

/// Finds the coordinator of a group; waits until it is there. Gives its address.
pub fn find(client: &mut Client, version: i16, group: &str) -> String {
    eventually("there is a coordinator", || {
        if version < 4 {
            let mut request = FindCoordinatorRequest::default().with_key(string(group));
            if version >= 1 {
                request.key_type = 0;
            }
            let found = client.call(version, &request);
            return (found.error_code == 0).then(|| format!("{}:{}", &*found.host, found.port));
        }
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![string(group)]);
        let found = &client.call(version, &request).coordinators[0];
        assert_eq!(&*found.key, group);
        (found.error_code == 0).then(|| format!("{}:{}", &*found.host, found.port))
    })
}

/// Creates a topic, finds the coordinator and waits until it answers.
pub fn ready(address: &str, topic: &str, partitions: i32, group: &str) -> Client {
    let mut c = Client::connect(address);
    assert_eq!(c.create_topic(topic, partitions, &[]), 0);
    assert_eq!(find(&mut c, 4, group), address);
    eventually("the coordinator has loaded", || matches!(describe(&mut c, 5, group).error_code, 0).then_some(()));
    c
}

/// Two members of a stable generation, the leader first.
pub fn pair(address: &str, group: &str, topic: &str, prepare: impl Fn(Member, usize) -> Member) -> [Member; 2] {
    let mut one = prepare(Member::new(address, group), 0);
    let mut two = prepare(Member::new(address, group), 1);
    one.topics = vec![topic.into()];
    two.topics = vec![topic.into()];
    one.join_alone();
    two.begin_join();
    eventually("the first member hears of the second", || {
        (one.heartbeat() == code::REBALANCE_IN_PROGRESS).then_some(())
    });
    one.send_join();
    let (first, second) = (one.joined(), two.joined());
    assert_eq!((first.error_code, second.error_code), (0, 0), "{first:?} {second:?}");
    assert_eq!(first.generation_id, second.generation_id);
    assert_eq!(first.leader, second.leader);
    let [mut leader, mut other] = if first.leader.as_str() == one.id { [one, two] } else { [two, one] };
    other.send_sync(&[]);
    let ids = (leader.id.clone(), other.id.clone());
    leader.send_sync(&[(&ids.0, b"left"), (&ids.1, b"right")]);
    assert_eq!(&leader.synced().assignment[..], b"left");
    assert_eq!(&other.synced().assignment[..], b"right");
    [leader, other]
}

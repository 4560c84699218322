//! Classic groups and committed offsets over raw sockets: each version, each of Kafka's codes.

use crate::{
    clients::fresh,
    members::{Member, Versions, code, describe, fetch, find, group_id, pair, ready, subscription},
    support::{Broker, Options, eventually, foreign, temp},
    wire::{ANYONE, Client, batch, now_ms, string, topic_name},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest,
    create_topics_request::CreatableTopic,
    join_group_request::JoinGroupRequestProtocol,
    leave_group_request::MemberIdentity,
    metadata_request::MetadataRequestTopic,
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
};
use std::time::{Duration, Instant};

fn delete_groups(c: &mut Client, version: i16, groups: &[&str]) -> Vec<(String, i16)> {
    let request = DeleteGroupsRequest::default().with_groups_names(groups.iter().map(|g| group_id(g)).collect());
    let response = c.call(version, &request);
    response.results.iter().map(|r| (r.group_id.to_string(), r.error_code)).collect()
}

fn listed(c: &mut Client, version: i16, group: &str) -> Option<(String, String, String)> {
    let response = c.call(version, &ListGroupsRequest::default());
    assert_eq!(response.error_code, 0);
    let found = response.groups.into_iter().find(|g| g.group_id.as_str() == group)?;
    Some((found.protocol_type.to_string(), found.group_state.to_string(), found.group_type.to_string()))
}

#[test]
fn a_group_lives_and_dies_at_every_version() {
    let (broker, _dir) = Broker::any();
    let topic = fresh("t");
    ready(&broker.kafka, &topic, 2, &topic);
    for step in 0..=Versions::STEPS {
        let v = Versions::at(step);
        let group = fresh("g");
        let mut m = Member::new(&broker.kafka, &group);
        (m.versions, m.topics) = (v, vec![topic.clone()]);
        assert_eq!(find(&mut m.client, v.find, &group), broker.kafka, "{v:?}");

        let joined = m.join();
        assert_eq!((joined.generation_id, &joined.leader, &joined.member_id), (1, &joined.member_id, &string(&m.id)));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.protocol_type.as_deref(), (v.join >= 7).then_some("consumer"));
        let members: Vec<_> = joined.members.iter().map(|m| (m.member_id.to_string(), m.metadata.clone())).collect();
        assert_eq!(members, [(m.id.clone(), subscription(&m.topics))]);
        let id = m.id.clone();
        m.send_sync(&[(&id, b"mine")]);
        let synced = m.synced();
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"mine"[..]), "{v:?}");
        assert_eq!(synced.protocol_name.as_deref(), (v.sync >= 5).then_some("range"));
        assert_eq!(m.heartbeat(), 0);

        assert_eq!(m.committed(&topic, 0), (-1, String::new()), "{v:?}");
        assert_eq!(m.commit(&[(&topic, 0, 42, "note"), (&topic, 2, 1, ""), ("none", 0, 1, "")]), [0, 3, 3]);
        assert_eq!(m.committed(&topic, 0), (42, "note".into()), "{v:?}");
        assert_eq!(m.committed(&topic, 1), (-1, String::new()));
        assert_eq!(m.committed("none", 0), (-1, String::new()));
        if v.fetch >= 2 {
            let all = fetch(&mut m.client, v.fetch, &group, None);
            assert_eq!(all, [(topic.clone(), 0, 42, "note".into())]);
        }

        let shown = m.describe();
        assert_eq!((shown.error_code, &*shown.group_state, &*shown.protocol_type), (0, "Stable", "consumer"));
        assert_eq!((&*shown.protocol_data, shown.members.len()), ("range", 1), "{v:?}");
        let member = &shown.members[0];
        assert_eq!((&*member.member_id, &*member.client_id, &*member.client_host), (&*id, "it", "/127.0.0.1"));
        assert_eq!((&member.member_metadata, &member.member_assignment[..]), (&subscription(&m.topics), &b"mine"[..]));
        let (kind, state, class) = listed(&mut m.client, v.list, &group).expect("listed");
        assert_eq!(kind, "consumer");
        assert_eq!(state, if v.list >= 4 { "Stable" } else { "" });
        assert_eq!(class, if v.list >= 5 { "classic" } else { "" });
        assert_eq!(delete_groups(&mut m.client, v.delete, &[&group]), [(group.clone(), code::NON_EMPTY_GROUP)]);

        assert_eq!(m.leave(), 0);
        assert_eq!(m.leave(), code::UNKNOWN_MEMBER_ID);
        assert_eq!(m.heartbeat(), code::UNKNOWN_MEMBER_ID);
        assert_eq!(m.state(), "Empty");
        assert_eq!(m.committed(&topic, 0), (42, "note".into()), "offsets stay without members");
        let deleted = delete_groups(&mut m.client, v.delete, &[&group, "nobody", &group]);
        assert_eq!(deleted.len(), 2, "{deleted:?}");
        assert!(deleted.contains(&(group.clone(), 0)) && deleted.contains(&("nobody".into(), 69)), "{deleted:?}");
        let shown = m.describe();
        assert_eq!(shown.error_code, if v.describe >= 6 { code::GROUP_ID_NOT_FOUND } else { 0 });
        assert_eq!((&*shown.group_state, shown.error_message.is_some()), ("Dead", v.describe >= 6));
        assert_eq!(listed(&mut m.client, v.list, &group), None);
        assert_eq!(m.committed(&topic, 0), (-1, String::new()));
    }
}

#[test]
fn a_second_member_makes_the_first_rebalance_and_its_leaving_too() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 1, &group);
    let [mut leader, mut other] = pair(&broker.kafka, &group, &topic, |m, _| m);
    assert!(leader.generation >= 2);
    assert_eq!((leader.heartbeat(), other.heartbeat()), (0, 0));
    assert_eq!(other.commit(&[(&topic, 0, 5, "")]), [0], "any member of the generation may commit");
    let shown = leader.describe();
    assert_eq!((&*shown.group_state, shown.members.len()), ("Stable", 2));

    assert_eq!(other.leave(), 0);
    assert_eq!(leader.heartbeat(), code::REBALANCE_IN_PROGRESS);
    assert_eq!(leader.commit(&[(&topic, 0, 6, "")]), [0], "the old generation may commit while it ends");
    assert_eq!(leader.state(), "PreparingRebalance");
    let before = leader.generation;
    leader.join_alone();
    assert_eq!(leader.generation, before + 1);
    leader.generation = before;
    assert_eq!(leader.heartbeat(), code::ILLEGAL_GENERATION);
    assert_eq!(leader.commit(&[(&topic, 0, 7, "")]), [code::ILLEGAL_GENERATION]);
    leader.send_sync(&[]);
    assert_eq!(leader.synced().error_code, code::ILLEGAL_GENERATION);
    assert_eq!(leader.committed(&topic, 0), (6, String::new()), "what was refused is not there");
}

#[test]
fn a_follower_syncs_once_the_leader_did_and_hears_of_a_rebalance_meanwhile() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 1, &group);
    let [mut leader, mut other] = pair(&broker.kafka, &group, &topic, |m, _| m);
    // A new generation: both join again, the follower syncs, the leader never does.
    leader.send_join();
    eventually("the follower hears of it", || (other.heartbeat() == code::REBALANCE_IN_PROGRESS).then_some(()));
    other.send_join();
    assert_eq!((leader.joined().error_code, other.joined().error_code), (0, 0));
    assert_eq!(leader.state(), "CompletingRebalance");
    other.send_sync(&[]);
    // Commits are refused until the assignment is there.
    assert_eq!(leader.commit(&[(&topic, 0, 5, "")]), [code::REBALANCE_IN_PROGRESS]);
    // The leader joins with another subscription instead: who waits for it is sent back to join.
    leader.topics.push("another".into());
    leader.send_join();
    assert_eq!(other.synced().error_code, code::REBALANCE_IN_PROGRESS);
    other.send_join();
    assert_eq!((leader.joined().error_code, other.joined().error_code), (0, 0));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_who_it_was() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 1, &group);
    let instances = ["first", "second"];
    let [mut leader, mut other] = pair(&broker.kafka, &group, &topic, |m, n| m.instance(instances[n]));
    let generation = leader.generation;
    // The follower's process restarts: no member id, same instance.
    let mut again = Member::new(&broker.kafka, &group).instance(other.instance.as_deref().unwrap());
    again.topics = vec![topic.clone()];
    again.send_join();
    let joined = again.joined();
    assert_eq!((joined.error_code, joined.generation_id), (0, generation), "{joined:?}");
    assert_ne!(again.id, other.id);
    again.send_sync(&[]);
    assert_eq!(&again.synced().assignment[..], b"right", "its assignment is as it was");
    assert_eq!((leader.heartbeat(), again.heartbeat()), (0, 0), "nobody had to rebalance");

    assert_eq!(other.heartbeat(), code::FENCED_INSTANCE_ID);
    assert_eq!(other.commit(&[(&topic, 0, 9, "")]), [code::FENCED_INSTANCE_ID]);
    other.send_sync(&[]);
    assert_eq!(other.synced().error_code, code::FENCED_INSTANCE_ID);
    other.send_join();
    assert_eq!(other.joined().error_code, code::FENCED_INSTANCE_ID);
    assert_eq!(other.leave(), code::FENCED_INSTANCE_ID);
    assert_eq!(again.commit(&[(&topic, 0, 9, "")]), [0]);

    // The leader restarts too, and is told to leave the assignment alone (v9).
    let mut back = Member::new(&broker.kafka, &group).instance(leader.instance.as_deref().unwrap());
    back.topics = vec![topic.clone()];
    back.send_join();
    let joined = back.joined();
    assert_eq!((joined.error_code, joined.generation_id, joined.skip_assignment), (0, generation, true), "{joined:?}");
    assert_eq!(joined.leader, joined.member_id);

    // A tool removes both by their instances, and one that is not there.
    let identity = |instance: &str| MemberIdentity::default().with_group_instance_id(Some(string(instance)));
    let request = LeaveGroupRequest::default().with_group_id(group_id(&group)).with_members(vec![
        identity("first"),
        identity("nobody"),
        identity("second"),
    ]);
    let response = back.client.call(5, &request);
    let codes: Vec<_> = response.members.iter().map(|m| m.error_code).collect();
    assert_eq!((response.error_code, &codes[..]), (0, &[0, code::UNKNOWN_MEMBER_ID, 0][..]));
    assert_eq!(back.state(), "Empty");
}

#[test]
fn who_is_not_a_member_is_told_so() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 1, &group);
    for v in [Versions::at(0), Versions::highest()] {
        // Of a group that is not known, and of one that is.
        let known = fresh("g");
        let mut first = Member::new(&broker.kafka, &known);
        first.join_alone();
        for group in [&group, &known] {
            let mut m = Member::new(&broker.kafka, group);
            (m.versions, m.id, m.generation) = (v, "stranger".into(), 1);
            assert_eq!(m.heartbeat(), code::UNKNOWN_MEMBER_ID);
            assert_eq!(m.leave(), code::UNKNOWN_MEMBER_ID);
            m.send_sync(&[]);
            assert_eq!(m.synced().error_code, code::UNKNOWN_MEMBER_ID);
            m.send_join();
            assert_eq!(m.joined().error_code, code::UNKNOWN_MEMBER_ID);
        }
        let mut m = Member::new(&broker.kafka, &known);
        (m.versions, m.id, m.generation) = (v, "stranger".into(), 1);
        assert_eq!(m.commit(&[(&topic, 0, 1, "")]), [code::UNKNOWN_MEMBER_ID]);
        // A group without members knows no generation; a client that assigns itself commits without one.
        m.group = group.clone();
        let gone = if v.commit >= 9 { code::GROUP_ID_NOT_FOUND } else { code::ILLEGAL_GENERATION };
        assert_eq!(m.commit(&[(&topic, 0, 1, "")]), [gone]);
        (m.id, m.generation) = (String::new(), -1);
        let simple = fresh("simple");
        m.group = simple.clone();
        assert_eq!(m.commit(&[(&topic, 0, 1, "")]), [0]);
        assert_eq!(m.committed(&topic, 0), (1, String::new()));
        assert_eq!(m.state(), "Empty");
        m.group = known.clone();
        assert_eq!(m.commit(&[(&topic, 0, 1, "")]), [code::UNKNOWN_MEMBER_ID], "not beside members");
        // The group without a name is nobody's.
        m.group = String::new();
        m.send_join();
        assert_eq!(m.joined().error_code, code::INVALID_GROUP_ID);
        assert_eq!(m.heartbeat(), code::INVALID_GROUP_ID);
        m.send_sync(&[]);
        assert_eq!(m.synced().error_code, code::INVALID_GROUP_ID);
    }
}

#[test]
fn metadata_that_is_too_large_fails_alone() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 3, &group);
    let mut m = Member::new(&broker.kafka, &group);
    m.join_alone();
    let (fits, large) = ("x".repeat(4096), "x".repeat(4097));
    let codes = m.commit(&[(&topic, 0, 1, &fits), (&topic, 1, 2, &large), (&topic, 2, 3, "")]);
    assert_eq!(codes, [0, code::OFFSET_METADATA_TOO_LARGE, 0]);
    assert_eq!(m.committed(&topic, 0), (1, fits));
    assert_eq!(m.committed(&topic, 1), (-1, String::new()));
    assert_eq!(m.committed(&topic, 2), (3, String::new()));
}

#[test]
fn a_group_takes_no_more_members_than_it_may() {
    let dir = temp();
    let broker = match foreign() {
        // Started with the same setting.
        Some(_) => return,
        None => Options::new(dir.path()).set("group.max.size", "2").start(),
    };
    let group = fresh("g");
    ready(&broker.kafka, "t", 1, &group);
    let [mut leader, mut other] = pair(&broker.kafka, &group, "t", |m, _| m);
    let mut third = Member::new(&broker.kafka, &group);
    third.send_join();
    let refused = third.joined();
    assert_eq!(refused.error_code, code::GROUP_MAX_SIZE_REACHED);
    assert_eq!((leader.heartbeat(), other.heartbeat()), (0, 0));
    assert_eq!(other.leave(), 0);
    third.begin_join();
    eventually("the leader hears of it", || (leader.heartbeat() == code::REBALANCE_IN_PROGRESS).then_some(()));
    leader.send_join();
    assert_eq!((leader.joined().error_code, third.joined().error_code), (0, 0));
}

#[test]
fn hostile_protocols_and_assignments_suffer_alone() {
    let foreign = foreign();
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 1, &group);
    let mut good = Member::new(&broker.kafka, &group);
    good.join_alone();

    let mut bad = Member::new(&broker.kafka, &group);
    let refuse = |bad: &mut Member, request: JoinGroupRequest| {
        bad.client.send(3, &request);
        bad.client.receive::<JoinGroupRequest>(3).unwrap().1.error_code
    };
    let request = bad.join_request();
    let protocol = |name: &str| JoinGroupRequestProtocol::default().with_name(string(name));
    let without = request.clone().with_protocols(Vec::new());
    assert_eq!(refuse(&mut bad, without.clone()), code::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(refuse(&mut bad, without.with_group_id(group_id(&fresh("g")))), code::INCONSISTENT_GROUP_PROTOCOL);
    let others = request.clone().with_protocols(vec![protocol("nobody's")]);
    assert_eq!(refuse(&mut bad, others), code::INCONSISTENT_GROUP_PROTOCOL);
    let kind = request.clone().with_protocol_type(string("connect"));
    assert_eq!(refuse(&mut bad, kind), code::INCONSISTENT_GROUP_PROTOCOL);
    let nameless = request.clone().with_protocol_type(string("")).with_group_id(group_id(&fresh("g")));
    assert_eq!(refuse(&mut bad, nameless), code::INCONSISTENT_GROUP_PROTOCOL);
    for timeout_ms in [0, -1, i32::MIN, i32::MAX] {
        let hasty = request.clone().with_session_timeout_ms(timeout_ms);
        assert_eq!(refuse(&mut bad, hasty), code::INVALID_SESSION_TIMEOUT, "{timeout_ms}");
    }
    assert_eq!(good.heartbeat(), 0, "the group did not move");

    // Assignments to nobody are dropped, whatever they hold; members without one get none.
    good.send_join();
    let joined = good.joined();
    assert_eq!(joined.error_code, 0);
    let huge = vec![7; 100_000];
    good.send_sync(&[("nobody", &huge), ("", b"x")]);
    let synced = good.synced();
    assert_eq!((synced.error_code, synced.assignment.len()), (0, 0));
    assert_eq!(good.heartbeat(), 0);

    // Version 5 names the protocol; another than the group's is refused.
    let mut request = kafka_protocol::messages::SyncGroupRequest::default()
        .with_group_id(group_id(&group))
        .with_generation_id(good.generation)
        .with_member_id(string(&good.id))
        .with_protocol_type(Some(string("consumer")))
        .with_protocol_name(Some(string("other")));
    assert_eq!(good.client.call(5, &request).error_code, code::INCONSISTENT_GROUP_PROTOCOL);
    request.protocol_name = None;
    assert_eq!(good.client.call(5, &request).error_code, code::INCONSISTENT_GROUP_PROTOCOL);

    if foreign.is_some() {
        // Kafka replaces what is not UTF-8.
        return;
    }
    // What cannot be read closes its connection.
    let header =
        |api: i16, version: i16| [&api.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0, 1, b'x']].concat();
    let mut text = header(11, 0);
    text.extend([0, 2, 0xff, 0xfe, 0, 0, 0x75, 0x30, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut null_assignment = header(14, 0);
    null_assignment.extend([0, 1, b'g', 0, 0, 0, 1, 0, 1, b'm', 0, 0, 0, 1, 0, 1, b'm', 0xff, 0xff, 0xff, 0xff]);
    let mut many = header(11, 0);
    many.extend([0, 1, b'g', 0, 0, 0x75, 0x30, 0, 0, 0, 1, b'c', 0x7f, 0xff, 0xff, 0xff]);
    for frame in [text, null_assignment, many] {
        let mut c = Client::connect(&broker.kafka);
        c.write_frame(&frame).unwrap();
        assert!(c.read_frame().is_err(), "{frame:?}");
    }
    assert_eq!(good.heartbeat(), 0);
}

#[test]
fn members_that_vanish_are_cleaned_up() {
    let dir = temp();
    let broker = match foreign() {
        Some(_) => return,
        None => Options::new(dir.path()).set("group.min.session.timeout.ms", "50").start(),
    };
    let group = fresh("g");
    let mut c = ready(&broker.kafka, "t", 1, &group);
    // A stable group of two whose connections close: gone once their sessions are over.
    let [leader, other] = pair(&broker.kafka, &group, "t", |mut m, _| {
        (m.session_timeout_ms, m.rebalance_timeout_ms) = (300, 300);
        m
    });
    let (id, generation) = (leader.id.clone(), leader.generation);
    drop((leader, other));
    eventually("the group is empty", || (&*describe(&mut c, 5, &group).group_state == "Empty").then_some(()));
    let mut late = Member::new(&broker.kafka, &group);
    (late.id, late.generation) = (id, generation);
    assert_eq!(late.heartbeat(), code::UNKNOWN_MEMBER_ID);

    // One that leaves while it waits for the others to join does not hold them for ever.
    let group = fresh("g");
    let [mut leader, other] = pair(&broker.kafka, &group, "t", |mut m, _| {
        (m.session_timeout_ms, m.rebalance_timeout_ms) = (10_000, 300);
        m
    });
    drop(other);
    leader.send_join();
    let joined = leader.joined();
    assert_eq!((joined.error_code, joined.members.len()), (0, 1), "{joined:?}");

    // One that was told its id and never came with it leaves nothing behind.
    let group = fresh("g");
    let mut m = Member::new(&broker.kafka, &group);
    m.session_timeout_ms = 50;
    m.send_join();
    assert_eq!(m.joined().error_code, code::MEMBER_ID_REQUIRED);
    eventually("the pending member is gone", || {
        m.send_join();
        let response = m.joined();
        let pending = response.member_id.to_string();
        std::thread::sleep(Duration::from_millis(100));
        m.id = pending;
        m.send_join();
        let gone = m.joined().error_code == code::UNKNOWN_MEMBER_ID;
        m.id = String::new();
        gone.then_some(())
    });
}

#[test]
fn what_was_committed_to_a_deleted_topic_is_not_the_new_ones() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    let mut c = ready(&broker.kafka, &topic, 1, &group);
    let other = fresh("t");
    assert_eq!(c.create_topic(&other, 1, &[]), 0);
    let mut m = Member::new(&broker.kafka, &group);
    m.join_alone();
    assert_eq!(m.commit(&[(&topic, 0, 7, "old"), (&other, 0, 8, "kept")]), [0, 0]);
    assert_eq!(c.delete_topic(&topic), 0);
    assert_eq!(c.create_topic(&topic, 1, &[]), 0);
    if foreign().is_some() {
        eventually("Kafka drops the offsets", || (m.committed(&topic, 0).0 == -1).then_some(()));
    }
    assert_eq!(m.committed(&topic, 0), (-1, String::new()));
    assert_eq!(fetch(&mut m.client, 9, &group, None), [(other.clone(), 0, 8, "kept".into())]);
    assert_eq!(m.commit(&[(&topic, 0, 1, "new")]), [0]);
    assert_eq!(m.committed(&topic, 0), (1, "new".into()));
    if foreign().is_none() {
        // Nor after a restart, which reads what was stored.
        assert_eq!(c.delete_topic(&other), 0);
        let dir = _dir.path().to_path_buf();
        drop((c, m));
        let (status, _) = broker.stop();
        assert_eq!(status, Some(0));
        let broker = Options::new(&dir).start();
        let mut c = Client::connect(&broker.kafka);
        assert_eq!(fetch(&mut c, 9, &group, None), [(topic.clone(), 0, 1, "new".into())]);
    }
}

#[test]
fn a_commit_is_seen_by_a_fetch_behind_it_on_the_same_connection() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 1, &group);
    let mut m = Member::new(&broker.kafka, &group);
    m.join_alone();
    let wanted = OffsetFetchRequestTopics::default().with_name(topic_name(&topic)).with_partition_indexes(vec![0]);
    let one = OffsetFetchRequestGroup::default().with_group_id(group_id(&group)).with_topics(Some(vec![wanted]));
    let fetch = OffsetFetchRequest::default().with_groups(vec![one]);
    for offset in 0..50 {
        let commit = m.commit_request(&[(&topic, 0, offset, "")]);
        m.client.send(9, &commit);
        m.client.send(9, &fetch);
    }
    for offset in 0..50 {
        let (_, committed) = m.client.receive::<OffsetCommitRequest>(9).unwrap();
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
        let (_, fetched) = m.client.receive::<OffsetFetchRequest>(9).unwrap();
        assert!(fetched.groups[0].topics[0].partitions[0].committed_offset >= offset, "{fetched:?}");
    }
}

#[test]
fn a_join_that_waits_holds_nothing_else_up() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    ready(&broker.kafka, &topic, 1, &group);
    let mut first = Member::new(&broker.kafka, &group);
    first.join_alone();
    let mut second = Member::new(&broker.kafka, &group);
    // Waits for the first, who does not come; what follows on its connection is accepted all the same, and answered behind it.
    second.begin_join();
    second.client.send(9, &kafka_protocol::messages::MetadataRequest::default().with_topics(Some(Vec::new())));
    let other = fresh("g");
    let mut third = Member::new(&broker.kafka, &other);
    let began = Instant::now();
    third.join_alone();
    assert_eq!(third.commit(&[(&topic, 0, 1, "")]), [0]);
    println!("another group formed and committed in {:?}", began.elapsed());
    first.send_join();
    assert_eq!((first.joined().error_code, second.joined().error_code), (0, 0));
    assert!(second.client.receive::<MetadataRequest>(9).is_ok());
}

#[test]
fn several_groups_are_asked_about_at_once() {
    let (broker, _dir) = Broker::any();
    let topic = fresh("t");
    let mut c = ready(&broker.kafka, &topic, 1, &topic);
    let groups: Vec<String> = (0..200).map(|n| format!("{topic}-{n}")).collect();
    for (n, group) in groups.iter().enumerate() {
        let mut m = Member::new(&broker.kafka, group);
        assert_eq!(m.commit(&[(&topic, 0, n as i64, "")]), [0]);
    }
    let wanted =
        || OffsetFetchRequestTopics::default().with_name(topic_name(&topic)).with_partition_indexes(vec![0, 1]);
    let one = |group: &String| {
        OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(Some(vec![wanted()]))
    };
    let request = OffsetFetchRequest::default().with_groups(groups.iter().map(one).collect());
    let response = c.call(8, &request);
    let offsets: Vec<_> = response
        .groups
        .iter()
        .map(|g| {
            (g.group_id.to_string(), g.topics[0].partitions.iter().map(|p| p.committed_offset).collect::<Vec<_>>())
        })
        .collect();
    let expected: Vec<_> = groups.iter().enumerate().map(|(n, g)| (g.clone(), vec![n as i64, -1])).collect();
    assert_eq!(offsets, expected);
    let request = FindCoordinatorRequest::default().with_coordinator_keys(groups.iter().map(|g| string(g)).collect());
    let found = c.call(6, &request);
    assert!(found.coordinators.iter().all(|k| k.error_code == 0) && found.coordinators.len() == groups.len());
    let request = DescribeGroupsRequest::default().with_groups(groups.iter().map(|g| group_id(g)).collect());
    let described = c.call(6, &request);
    assert!(described.groups.iter().all(|g| g.error_code == 0 && &*g.group_state == "Empty"));
    assert_eq!(described.groups.len(), groups.len());
    // The filters of ListGroups.
    let list = |c: &mut Client, states: &[&str], types: &[&str]| {
        let strings = |list: &[&str]| list.iter().map(|s| string(s)).collect::<Vec<_>>();
        let request =
            ListGroupsRequest::default().with_states_filter(strings(states)).with_types_filter(strings(types));
        let response = c.call(5, &request);
        assert_eq!(response.error_code, 0);
        let mine: Vec<_> = response.groups.into_iter().filter(|g| g.group_id.starts_with(&topic)).collect();
        assert!(mine.iter().all(|g| g.protocol_type.is_empty() && &*g.group_type == "classic"), "{mine:?}");
        mine.len()
    };
    assert_eq!(list(&mut c, &[], &[]), groups.len());
    assert_eq!(list(&mut c, &["eMPTY", "Stable"], &["CLASSIC"]), groups.len());
    assert_eq!(list(&mut c, &["Stable"], &[]), 0);
    assert_eq!(list(&mut c, &[], &["consumer"]), 0);
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    assert!(delete_groups(&mut c, 2, &names).iter().all(|(_, code)| *code == 0));
    assert_eq!(list(&mut c, &[], &[]), 0);
}

#[test]
fn coordinators_of_what_is_not_built_are_refused() {
    let (broker, _dir) = Broker::any();
    let mut c = ready(&broker.kafka, &fresh("t"), 1, &fresh("g"));
    if foreign().is_none() {
        for key_type in [1, 2, 3, -1] {
            let request = FindCoordinatorRequest::default().with_key(string("x")).with_key_type(key_type);
            let found = c.call(3, &request);
            assert_eq!((found.error_code, found.node_id.0, found.port), (code::INVALID_REQUEST, -1, -1), "{key_type}");
            let request =
                FindCoordinatorRequest::default().with_coordinator_keys(vec![string("x")]).with_key_type(key_type);
            let found = &c.call(6, &request).coordinators[0];
            assert_eq!((found.error_code, found.node_id.0, &*found.host), (code::INVALID_REQUEST, -1, ""));
        }
    }
    // The empty group id has a coordinator, as in Kafka.
    assert_eq!(find(&mut c, 3, ""), broker.kafka);
    assert_eq!(find(&mut c, 6, ""), broker.kafka);
}

#[test]
fn authorized_operations_are_told_where_asked() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    let mut c = ready(&broker.kafka, &topic, 1, &group);
    let mut m = Member::new(&broker.kafka, &group);
    m.join_alone();
    for (asked, expected) in [(false, i32::MIN), (true, 3400)] {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![group_id(&group)])
            .with_include_authorized_operations(asked);
        assert_eq!(c.call(6, &request).groups[0].authorized_operations, expected);
    }
}

#[test]
fn offsets_of_partitions_that_are_read_are_not_deleted() {
    let (broker, _dir) = Broker::any();
    let (read, unread, group) = (fresh("t"), fresh("t"), fresh("g"));
    let mut c = ready(&broker.kafka, &read, 1, &group);
    assert_eq!(c.create_topic(&unread, 2, &[]), 0);
    let delete = |c: &mut Client, group: &str, wanted: &[(&str, i32)]| {
        let topic = |(name, partition): &(&str, i32)| {
            let p = OffsetDeleteRequestPartition::default().with_partition_index(*partition);
            OffsetDeleteRequestTopic::default().with_name(topic_name(name)).with_partitions(vec![p])
        };
        let request = OffsetDeleteRequest::default()
            .with_group_id(group_id(group))
            .with_topics(wanted.iter().map(topic).collect());
        let response = c.call(0, &request);
        let codes =
            response.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t.name.to_string(), p.error_code)));
        (response.error_code, codes.collect::<Vec<_>>())
    };
    assert_eq!(delete(&mut c, "", &[(&read, 0)]), (code::INVALID_GROUP_ID, vec![]));
    assert_eq!(delete(&mut c, &group, &[(&read, 0)]), (code::GROUP_ID_NOT_FOUND, vec![]));
    let mut m = Member::new(&broker.kafka, &group);
    m.topics = vec![read.clone()];
    m.join_alone();
    assert_eq!(m.commit(&[(&read, 0, 1, ""), (&unread, 0, 2, "")]), [0, 0]);
    let (error, mut codes) = delete(&mut c, &group, &[(&read, 0), (&unread, 0), ("none", 0)]);
    codes.sort();
    let mut expected = vec![
        (read.clone(), code::GROUP_SUBSCRIBED_TO_TOPIC),
        (unread.clone(), 0),
        ("none".into(), code::UNKNOWN_TOPIC_OR_PARTITION),
    ];
    expected.sort();
    assert_eq!((error, codes), (0, expected));
    assert_eq!((m.committed(&read, 0).0, m.committed(&unread, 0).0), (1, -1));
    assert_eq!(m.leave(), 0);
    assert_eq!(delete(&mut c, &group, &[(&read, 0)]), (0, vec![(read.clone(), 0)]));
    assert_eq!(m.committed(&read, 0).0, -1);
}

#[test]
fn the_offsets_topic_is_internal() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (fresh("t"), fresh("g"));
    let mut c = ready(&broker.kafka, &topic, 1, &group);
    let name = "__consumer_offsets";
    let refused = c.produce(name, 0, batch(ANYONE, now_ms(), &["x"]), -1);
    assert_eq!(refused.error_code, code::INVALID_TOPIC);
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic_name(name)))]));
    let shown = c.call(12, &request);
    assert!(shown.topics[0].is_internal && shown.topics[0].error_code == 0);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![
            CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(1).with_replication_factor(1),
        ])
        .with_timeout_ms(30_000);
    assert_eq!(c.call(7, &request).topics[0].error_code, 36, "TOPIC_ALREADY_EXISTS");
    // Kafka's own tools read it.
    let mut m = Member::new(&broker.kafka, &group);
    m.join_alone();
    assert_eq!(m.commit(&[(&topic, 0, 1, "")]), [0]);
    let partitions = shown.topics[0].partitions.len() as i32;
    let records: usize = (0..partitions).map(|p| c.read_all(name, p, 0).len()).sum();
    assert!(records > 0);
    let keys: Vec<Bytes> =
        (0..partitions).flat_map(|p| c.read_all(name, p, 0)).map(|(_, key, _)| key.slice(..2)).collect();
    assert!(keys.contains(&Bytes::from_static(&[0, 1])) && keys.contains(&Bytes::from_static(&[0, 2])), "{keys:?}");
}

#[test]
fn who_asks_before_there_is_a_coordinator_is_sent_to_look_for_it() {
    if foreign().is_some() {
        return;
    }
    let (broker, _dir) = Broker::any();
    let mut m = Member::new(&broker.kafka, "g");
    assert_eq!(m.client.create_topic("t", 1, &[]), 0);
    assert_eq!(listed(&mut m.client, 5, "g"), None, "no groups is an answer");
    m.send_join();
    assert_eq!(m.joined().error_code, code::NOT_COORDINATOR);
    m.send_sync(&[]);
    assert_eq!(m.synced().error_code, code::NOT_COORDINATOR);
    assert_eq!(m.heartbeat(), code::NOT_COORDINATOR);
    assert_eq!(m.commit(&[("t", 0, 1, "")]), [code::NOT_COORDINATOR]);
    assert_eq!(m.describe().error_code, code::NOT_COORDINATOR);
    assert_eq!(delete_groups(&mut m.client, 2, &["g"]), [("g".into(), code::NOT_COORDINATOR)]);
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name("__consumer_offsets")));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(true);
    assert_eq!(m.client.call(12, &request).topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(find(&mut m.client, 6, "g"), broker.kafka);
    assert_eq!(m.client.call(12, &request).topics[0].error_code, 0);
    m.join_alone();
    // Deleted like any topic, as in Kafka, and there anew for the next who asks.
    assert_eq!(m.client.delete_topic("__consumer_offsets"), 0);
    assert_eq!(m.heartbeat(), code::NOT_COORDINATOR);
    assert_eq!(find(&mut m.client, 6, "g"), broker.kafka);
    assert_eq!(m.heartbeat(), code::UNKNOWN_MEMBER_ID);
    m.id = String::new();
    m.join_alone();
}

#[test]
fn texts_and_lists_beyond_all_measure_are_refused() {
    if foreign().is_some() {
        return;
    }
    let (mut broker, _dir) = Broker::any();
    ready(&broker.kafka, "t", 1, "g");
    let mut good = Member::new(&broker.kafka, "g");
    good.join_alone();
    for length in [17_000, 40_000, 3 << 20] {
        let long = "x".repeat(length);
        let mut m = Member::new(&broker.kafka, &long);
        m.send_join();
        assert_eq!(m.joined().error_code, code::INVALID_REQUEST, "{length}");
        let committed = m.commit(&[("t", 0, 1, "")])[0];
        // What Kafka's format of the records has no room for is not stored.
        assert_eq!(committed == 0, length <= i16::MAX as usize, "{length}: {committed}");
        let offset = if committed == 0 { 1 } else { -1 };
        assert_eq!(fetch(&mut m.client, 9, &long, Some(&[("t", 0)])), [("t".into(), 0, offset, String::new())]);
        assert_eq!(delete_groups(&mut m.client, 2, &[&long])[0].1, if committed == 0 { 0 } else { 69 });
        m.id = "stranger".into();
        assert_eq!(m.heartbeat(), code::UNKNOWN_MEMBER_ID);
        let mut m = Member::new(&broker.kafka, "g").instance(&long);
        m.send_join();
        assert_eq!(m.joined().error_code, code::INVALID_REQUEST, "{length}");
        m.instance = None;
        m.id = long.clone();
        assert_eq!((m.heartbeat(), m.leave()), (code::UNKNOWN_MEMBER_ID, code::UNKNOWN_MEMBER_ID));
        assert_eq!(m.commit(&[("t", 0, 1, "")]), [code::UNKNOWN_MEMBER_ID]);
    }
    // More of anything than one request may ask about closes its connection; a commit says what is wrong with it.
    let ids = || vec![group_id("g"); 100_001];
    let closes = |api: &str, sent: &dyn Fn(&mut Client)| {
        let mut c = Client::connect(&broker.kafka);
        sent(&mut c);
        assert!(c.read_frame().is_err(), "{api}");
    };
    closes("describe", &|c| {
        c.send(5, &DescribeGroupsRequest::default().with_groups(ids()));
    });
    closes("delete", &|c| {
        c.send(2, &DeleteGroupsRequest::default().with_groups_names(ids()));
    });
    let keys = vec![string("g"); 100_001];
    closes("find", &|c| {
        c.send(4, &FindCoordinatorRequest::default().with_coordinator_keys(keys.clone()));
    });
    let wanted = || OffsetFetchRequestTopics::default().with_name(topic_name("t"));
    let one = OffsetFetchRequestGroup::default()
        .with_group_id(group_id("g"))
        .with_topics(Some(vec![wanted().with_partition_indexes(vec![0; 100_001])]));
    closes("fetch", &|c| {
        c.send(9, &OffsetFetchRequest::default().with_groups(vec![one.clone()]));
    });
    let many: Vec<(&str, i32, i64, &str)> = vec![("t", 0, 1, ""); 100_001];
    let request = good.commit_request(&many);
    let response = good.client.call(9, &request);
    let codes: std::collections::BTreeSet<i16> =
        response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), [code::INVALID_COMMIT_OFFSET_SIZE]);
    assert_eq!(good.heartbeat(), 0);
    assert!(broker.alive());
}

#[test]
fn an_answer_that_would_be_too_large_ends_with_groups_to_ask_for_again() {
    if foreign().is_some() {
        return;
    }
    let dir = temp();
    let options = Options::new(dir.path()).set("millstream.durability", "page-cache");
    let broker = options.set("group.initial.rebalance.delay.ms", "0").start();
    let mut c = ready(&broker.kafka, "t", 1, "g");
    let mut m = Member::new(&broker.kafka, "g");
    m.join();
    let id = m.id.clone();
    m.send_sync(&[(&id, &[])]);
    assert_eq!(m.synced().error_code, 0);
    // More groups than one answer has room for, each of nine tenths of a MiB.
    let assignment = vec![7; 900_000];
    let names: Vec<String> = (0..80).map(|n| format!("large-{n}")).collect();
    for name in &names {
        let mut large = Member::new(&broker.kafka, name);
        large.join();
        let id = large.id.clone();
        large.send_sync(&[(&id, &assignment)]);
        assert_eq!(large.synced().error_code, 0);
    }
    let request = DescribeGroupsRequest::default().with_groups(names.iter().map(|name| group_id(name)).collect());
    let described = c.call(6, &request).groups;
    let whole = described.iter().filter(|g| g.error_code == 0).count();
    assert!((64 << 20) / 1_000_000 < whole && whole <= (64 << 20) / 900_000, "{whole} of {}", described.len());
    assert!(described[..whole].iter().all(|g| g.members[0].member_assignment.len() == assignment.len()));
    assert!(described[whole..].iter().all(|g| g.error_code == code::COORDINATOR_LOAD_IN_PROGRESS));
    let again = DescribeGroupsRequest::default().with_groups(vec![group_id(&names[0]); 1000]);
    assert_eq!(c.call(6, &again).groups.len(), 1, "a group named over and over is answered once");
    // The same of what a group has committed.
    let metadata = "x".repeat(4096);
    let partitions = 100;
    assert_eq!(c.create_topic("wide", partitions, &[]), 0);
    for partition in 0..partitions {
        assert_eq!(m.commit(&[("wide", partition, 1, &metadata)]), [0]);
    }
    let one = OffsetFetchRequestGroup::default().with_group_id(group_id("g")).with_topics(None);
    let fetched = c.call(9, &OffsetFetchRequest::default().with_groups(vec![one; 1000])).groups;
    let whole = fetched.iter().filter(|g| g.error_code == 0).count();
    assert!((1..400).contains(&whole), "{whole}");
    assert!(fetched[..whole].iter().all(|g| g.topics[0].partitions.len() == partitions as usize));
    assert!(fetched[whole..].iter().all(|g| g.error_code == code::COORDINATOR_LOAD_IN_PROGRESS));
}

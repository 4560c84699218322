//! Members of a generation: assignments, heartbeats, farewells, commits, subscriptions.

use super::*;

#[test]
fn followers_wait_for_the_leader_and_members_left_out_get_nothing() {
    let mut rig = Rig::new();
    let (a, b) = (rig.join(new("a")), rig.join(new("b")));
    rig.pass(100);
    let (a, b) = (rig.joined(a).member_id, rig.joined(b).member_id);
    let follower = rig.sync(&b, 1, &[(&b, "not the leader")]);
    assert!(rig.waits(follower));
    let leader = rig.sync(&a, 1, &[(&a, "all"), ("nobody", "some")]);
    assert_eq!(&rig.synced(leader).assignment[..], b"all");
    let follower = rig.synced(follower);
    assert_eq!((follower.result, follower.assignment.len()), (Ok(()), 0));
    assert_eq!((follower.protocol.as_deref(), follower.protocol_type.as_deref()), (Some("range"), Some("consumer")));
    let asked_again = rig.sync(&a, 1, &[]);
    assert_eq!(&rig.synced(asked_again).assignment[..], b"all");
}

#[test]
fn what_is_wrong_with_a_sync_is_said() {
    let mut rig = Rig::new();
    let ticket = rig.sync("who", 1, &[]);
    assert_eq!(rig.synced(ticket).result, UNKNOWN, "no such group");
    let ids = rig.stable(&[new("a"), fixed("i")]);
    let sync = |member: &Arc<str>| Sync {
        group: "g".into(),
        generation: 1,
        member_id: member.clone(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments: vec![],
    };
    let mut result = |sync: Sync| {
        let ticket = rig.ask(Event::Sync(sync));
        rig.synced(ticket).result
    };
    assert_eq!(result(sync(&ids[0])), Ok(()));
    assert_eq!(result(Sync { group: "".into(), ..sync(&ids[0]) }), Err(GroupError::InvalidGroupId));
    assert_eq!(result(sync(&"who".into())), UNKNOWN);
    assert_eq!(result(Sync { generation: 2, ..sync(&ids[0]) }), illegal(2, 1));
    let odd = Err(GroupError::InconsistentGroupProtocol);
    assert_eq!(result(Sync { protocol: Some("sticky".into()), ..sync(&ids[0]) }), odd);
    assert_eq!(result(Sync { protocol_type: Some("connect".into()), ..sync(&ids[0]) }), odd);
    assert_eq!(result(Sync { instance_id: Some("i".into()), ..sync(&ids[0]) }), Err(GroupError::FencedInstanceId));
    assert_eq!(result(Sync { instance_id: Some("j".into()), ..sync(&ids[1]) }), UNKNOWN);
    rig.join(again(&new("a"), &ids[0]));
    let ticket = rig.sync(&ids[1], 1, &[]);
    assert_eq!(rig.synced(ticket).result, REBALANCING);
}

#[test]
fn heartbeats_are_answered_by_state() {
    let mut rig = Rig::new();
    assert_eq!(rig.heartbeat("who", 1), UNKNOWN);
    let a = rig.join(new("a"));
    rig.pass(50);
    let id = rig.joined(a).member_id;
    assert_eq!(rig.state(), State::CompletingRebalance);
    assert_eq!(rig.heartbeat(&id, 1), Ok(()), "between join and sync");
    let sync = rig.sync(&id, 1, &[]);
    assert_eq!(rig.synced(sync).result, Ok(()));
    assert_eq!(rig.heartbeat(&id, 1), Ok(()));
    assert_eq!(rig.heartbeat(&id, 0), illegal(0, 1));
    assert_eq!(rig.heartbeat("who", 1), UNKNOWN);
    rig.join(new("b"));
    assert_eq!(rig.heartbeat(&id, 1), REBALANCING);
    let group =
        rig.ask(Event::Heartbeat(Heartbeat { group: "".into(), generation: 1, member_id: id, instance_id: None }));
    assert_eq!(rig.heard(group), Err(GroupError::InvalidGroupId));
}

#[test]
fn leaving_is_answered_member_by_member() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), fixed("i"), fixed("j"), new("d")]);
    let asked = rig.join(Join { require_known_member_id: true, ..new("p") });
    let pending = rig.joined(asked).member_id;
    assert_eq!(rig.leave(&[("who", None), ("", Some("nobody")), ("", None)]), [UNKNOWN, UNKNOWN, UNKNOWN]);
    assert_eq!(rig.state(), State::Stable);
    let results = rig.leave(&[
        ("", Some("i")),
        (&ids[2], Some("j")),
        (&ids[3], Some("j")),
        (&ids[0], Some("i")),
        (&pending, None),
        (&ids[0], None),
        (&ids[0], None),
    ]);
    assert_eq!(results, [Ok(()), Ok(()), UNKNOWN, UNKNOWN, Ok(()), Ok(()), UNKNOWN]);
    assert_eq!((rig.state(), rig.group().members.len()), (State::PreparingRebalance, 1));
    assert_eq!(rig.leave(&[(&ids[3], None)]), [Ok(())]);
    assert_eq!(rig.state(), State::Empty);
    let gone = rig.ask(Event::Leave(Leave { group: "other".into(), members: vec![("x".into(), None)] }));
    assert!(matches!(rig.replies.remove(&gone), Some(Reply::Leave(Ok(results))) if results == [UNKNOWN]));
    let gone = rig.ask(Event::Leave(Leave { group: "".into(), members: vec![("x".into(), None)] }));
    assert!(matches!(rig.replies.remove(&gone), Some(Reply::Leave(Err(GroupError::InvalidGroupId)))));
}

#[test]
fn an_instance_that_another_id_has_cannot_be_taken_out_under_an_old_one() {
    let mut rig = Rig::new();
    rig.stable(&[fixed("i")]);
    assert_eq!(rig.leave(&[("old", Some("i"))]), [Err(GroupError::FencedInstanceId)]);
}

#[test]
fn whoever_leaves_while_it_waits_is_answered() {
    let mut rig = Rig::new();
    let (a, b) = (rig.join(new("a")), rig.join(new("b")));
    rig.pass(100);
    let (a, b) = (rig.joined(a).member_id, rig.joined(b).member_id);
    let sync = rig.sync(&b, 1, &[]);
    assert_eq!(rig.leave(&[(&b, None)]), [Ok(())]);
    assert_eq!(rig.synced(sync).result, UNKNOWN);
    let waits = rig.join(new("c"));
    let waits_too = rig.join(again(&new("a"), &a));
    assert_eq!((rig.joined(waits).generation, rig.joined(waits_too).generation), (2, 2));
}

#[test]
fn commits_are_taken_from_members_and_from_clients_of_empty_groups() {
    let mut rig = Rig::new();
    let empty = classic::Classic::default();
    assert_eq!(empty.check_commit("", None, -1), Ok(()));
    assert_eq!(empty.check_commit("x", None, 1), UNKNOWN);
    let a = rig.join(fixed("i"));
    rig.pass(50);
    let id = rig.joined(a).member_id;
    assert_eq!(rig.group().check_commit(&id, None, 1), REBALANCING, "joined, not assigned");
    let sync = rig.sync(&id, 1, &[]);
    rig.synced(sync);
    let check = |rig: &Rig, id: &str, instance, generation| rig.group().check_commit(id, instance, generation);
    assert_eq!(check(&rig, &id, None, 1), Ok(()));
    assert_eq!(check(&rig, &id, Some("i"), 1), Ok(()));
    assert_eq!(check(&rig, "old", Some("i"), 1), Err(GroupError::FencedInstanceId));
    assert_eq!(check(&rig, &id, None, 0), illegal(0, 1));
    assert_eq!(check(&rig, &id, None, -1), illegal(-1, 1));
    assert_eq!(check(&rig, "", None, -1), UNKNOWN, "assigns itself while there are members");
    rig.join(new("b"));
    assert_eq!(check(&rig, &id, None, 1), Ok(()), "before it joins anew a member may say how far it came");
}

#[test]
fn a_commit_counts_as_a_heartbeat() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a")]);
    rig.pass(9_000);
    classic::heartbeat(&mut rig.groups, &"g".into(), &ids[0], rig.now);
    classic::heartbeat(&mut rig.groups, &"g".into(), "who", rig.now);
    classic::heartbeat(&mut rig.groups, &"h".into(), "who", rig.now);
    rig.pass(9_000);
    assert_eq!(rig.heartbeat(&ids[0], 1), Ok(()));
}

#[test]
fn a_group_subscribes_to_what_its_generation_does() {
    let mut rig = Rig::new();
    let subscribed = |client: &str, topic: &str| Join {
        protocols: vec![(
            "range".into(),
            [b"\0\x01\0\0\0\x01\0\x01", topic.as_bytes(), b"\xff\xff\xff\xff"].concat().into(),
        )],
        ..new(client)
    };
    let ids = rig.stable(&[subscribed("a", "t"), subscribed("b", "u")]);
    let topics = |rig: &Rig| ["t", "u", "v"].map(|topic| rig.group().subscribes(topic));
    assert_eq!(topics(&rig), [true, true, false]);
    rig.restart(1);
    assert_eq!(topics(&rig), [true, true, false]);
    rig.leave(&[(&ids[1], None)]);
    assert_eq!(topics(&rig), [true, true, false], "until the next generation");
    let a = rig.join(again(&subscribed("a", "t"), &ids[0]));
    rig.joined(a);
    assert_eq!(topics(&rig), [true, false, false]);
    rig.leave(&[(&ids[0], None)]);
    assert_eq!((topics(&rig), rig.group().knows_subscriptions()), ([false; 3], true));
    let odd = rig.join(Join { protocols: vec![("range".into(), Bytes::from_static(b"?"))], ..new("x") });
    rig.pass(50);
    rig.joined(odd);
    assert_eq!((topics(&rig), rig.group().knows_subscriptions()), ([true; 3], false));
}

#[test]
fn other_kinds_of_members_subscribe_to_nothing() {
    let mut rig = Rig::new();
    rig.stable(&[Join { protocol_type: "connect".into(), ..new("a") }]);
    assert!(!rig.group().subscribes("t") && !rig.group().knows_subscriptions());
}

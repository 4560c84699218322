use super::super::*;
use super::rig::*;
use bytes::Bytes;
use uuid::Uuid;

const UNKNOWN: Result<(), GroupError> = Err(GroupError::UnknownMemberId);
const REBALANCING: Result<(), GroupError> = Err(GroupError::RebalanceInProgress);

fn illegal(given: i32, current: i32) -> Result<(), GroupError> {
    Err(GroupError::IllegalGeneration { given, current })
}

#[test]
fn first_members_are_waited_for_and_share_a_generation() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), new("b"), new("c")]);
    assert!(ids[0].starts_with("a-") && ids[0].len() == 38, "{}", ids[0]);
    assert_eq!((rig.group().generation(), rig.log.len()), (1, 1));
    let shown = rig.group().describe(&"g".into());
    assert_eq!((&*shown.protocol, &*shown.protocol_type, shown.members.len()), ("range", "consumer", 3));
    assert_eq!((&shown.members[2].assignment[..], &*shown.members[2].caller.client_host), (&b"2"[..], "/127.0.0.1"));
}

#[test]
fn the_leader_alone_sees_the_members() {
    let mut rig = Rig::new();
    let (a, b) = (rig.join(new("a")), rig.join(fixed("b")));
    rig.pass(50);
    let (a, b) = (rig.joined(a), rig.joined(b));
    assert_eq!((a.members.len(), b.members.len()), (2, 0));
    assert_eq!(a.members[1], (b.member_id, Some("b".into()), Bytes::from_static(b"\0\0\0\0\0\0")));
    assert_eq!((a.protocol.as_deref(), a.protocol_type.as_deref()), (Some("range"), Some("consumer")));
}

#[test]
fn each_further_first_member_restarts_the_delay_up_to_ten_times_as_long() {
    let mut rig = Rig::new();
    let first = rig.join(new("a"));
    for n in 0..12 {
        rig.pass(40);
        assert!(rig.waits(first), "{n}");
        rig.join(new(&format!("m{n}")));
    }
    rig.pass(19);
    assert!(rig.waits(first), "499 ms");
    rig.pass(1);
    assert_eq!(rig.joined(first).members.len(), 13);
}

#[test]
fn the_delay_is_bounded_by_the_rebalance_timeout() {
    let mut rig = Rig::new();
    let first = rig.join(Join { rebalance_timeout_ms: 20, ..new("a") });
    rig.pass(19);
    assert!(rig.waits(first));
    rig.pass(1);
    assert!(!rig.waits(first));
    rig.settings.initial_rebalance_delay_ms = 0;
    let other = rig.join(Join { group: "other".into(), ..new("b") });
    rig.pass(0);
    assert_eq!(rig.joined(other).generation, 1, "no delay: with the next tick");
}

#[test]
fn an_id_is_handed_out_first_where_the_client_knows_how() {
    let mut rig = Rig::new();
    let asked = rig.join(Join { require_known_member_id: true, ..new("a") });
    let told = rig.joined(asked);
    assert_eq!((told.result.clone(), told.generation), (Err(GroupError::MemberIdRequired), -1));
    assert_eq!(rig.state(), State::Empty);
    let joined = rig.join(again(&new("a"), &told.member_id));
    rig.pass(50);
    let joined = rig.joined(joined);
    assert_eq!((joined.result, joined.generation, joined.member_id), (Ok(()), 1, told.member_id));
}

#[test]
fn a_static_member_gets_no_id_first() {
    let mut rig = Rig::new();
    let asked = rig.join(Join { require_known_member_id: true, ..fixed("i") });
    rig.pass(50);
    let joined = rig.joined(asked);
    assert_eq!(joined.result, Ok(()));
    assert!(joined.member_id.starts_with("i-"));
}

#[test]
fn an_id_nobody_comes_back_with_is_forgotten_and_the_group_with_it() {
    let mut rig = Rig::new();
    let asked = rig.join(Join { require_known_member_id: true, ..new("a") });
    let id = rig.joined(asked).member_id;
    rig.pass(9_999);
    assert_eq!(rig.state(), State::Empty);
    rig.pass(1);
    assert!(rig.groups.groups.is_empty() && rig.groups.next_tick().is_none());
    let late = rig.join(again(&new("a"), &id));
    assert_eq!(rig.joined(late).result, UNKNOWN);
}

#[test]
fn a_rebalance_waits_for_ids_handed_out() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a")]);
    let asked = rig.join(Join { require_known_member_id: true, ..new("b") });
    let id = rig.joined(asked).member_id;
    assert_eq!(rig.heartbeat(&ids[0], 1), Ok(()), "nothing has changed yet");
    let leader = rig.join(again(&new("a"), &ids[0]));
    assert!(rig.waits(leader));
    let b = rig.join(again(&new("b"), &id));
    assert_eq!((rig.joined(leader).members.len(), rig.joined(b).generation), (2, 2));
}

#[test]
fn what_is_wrong_with_a_join_is_said() {
    let mut rig = Rig::new();
    let mut result = |join: Join| {
        let ticket = rig.join(join);
        rig.joined(ticket).result
    };
    assert_eq!(result(Join { group: "".into(), ..new("a") }), Err(GroupError::InvalidGroupId));
    let session = |given| Err(GroupError::InvalidSessionTimeout { given, min: 100, max: 100_000 });
    assert_eq!(result(Join { session_timeout_ms: 99, ..new("a") }), session(99));
    assert_eq!(result(Join { session_timeout_ms: 100_001, ..new("a") }), session(100_001));
    assert_eq!(result(Join { member_id: "who".into(), ..new("a") }), UNKNOWN);
    assert_eq!(result(Join { protocol_type: "".into(), ..new("a") }), Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(result(Join { protocols: vec![], ..new("a") }), Err(GroupError::InconsistentGroupProtocol));
    let long = "x".repeat(20_000);
    assert!(matches!(result(Join { instance_id: Some(long.into()), ..new("a") }), Err(GroupError::InvalidRequest(_))));
    assert!(rig.groups.groups.is_empty(), "nothing is left of them");
}

#[test]
fn protocols_must_have_one_in_common_and_the_type() {
    let mut rig = Rig::new();
    rig.stable(&[new("a")]);
    let other = Join { protocols: vec![("sticky".into(), Bytes::new())], ..new("b") };
    let ticket = rig.join(other);
    let refused = rig.joined(ticket);
    assert_eq!((refused.result, &*refused.member_id), (Err(GroupError::InconsistentGroupProtocol), ""));
    let ticket = rig.join(Join { protocol_type: "connect".into(), ..new("b") });
    assert_eq!(rig.joined(ticket).result, Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(rig.state(), State::Stable);
}

#[test]
fn the_protocol_most_prefer_among_those_all_know_is_chosen() {
    let mut rig = Rig::new();
    let with = |client: &str, names: &[&str]| Join {
        protocols: names.iter().map(|name| (Arc::from(*name), Bytes::copy_from_slice(client.as_bytes()))).collect(),
        ..new(client)
    };
    let a = rig.join(with("a", &["x", "y", "z"]));
    rig.join(with("b", &["y", "z"]));
    rig.join(with("c", &["z", "y", "y"]));
    rig.join(with("d", &["z", "y"]));
    rig.pass(500);
    let a = rig.joined(a);
    assert_eq!(a.protocol.as_deref(), Some("y"), "two votes each: the first by name");
    assert_eq!(&a.members[0].2[..], b"a");
    rig.group().members.check_counts();
}

#[test]
fn a_group_has_no_more_members_than_it_may() {
    let mut rig = Rig::new();
    rig.settings.size_max = 2;
    let ids = rig.stable(&[new("a"), new("b")]);
    let third = rig.join(new("c"));
    assert_eq!(rig.joined(third).result, Err(GroupError::GroupMaxSizeReached { max: 2 }));
    // Those that are in come back in.
    let tickets = [rig.join(again(&new("a"), &ids[0])), rig.join(again(&new("b"), &ids[1]))];
    tickets.into_iter().for_each(|ticket| assert_eq!(rig.joined(ticket).generation, 2));
}

#[test]
fn a_group_above_a_lowered_bound_sheds_the_last_to_come_back() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), new("b"), new("c")]);
    rig.settings.size_max = 2;
    rig.restart(1);
    assert_eq!(rig.state(), State::PreparingRebalance);
    let tickets: Vec<_> = [("a", 0), ("b", 1), ("c", 2)].map(|(c, n)| rig.join(again(&new(c), &ids[n]))).into();
    assert_eq!(rig.joined(tickets[2]).result, Err(GroupError::GroupMaxSizeReached { max: 2 }));
    assert_eq!(rig.joined(tickets[0]).members.len(), 2);
    assert_eq!(rig.joined(tickets[1]).generation, 2);
}

#[test]
fn a_group_has_a_bound_of_bytes_too() {
    let mut rig = Rig::new();
    let fat =
        |client: &str, mib: usize| Join { protocols: vec![("range".into(), vec![0; mib << 20].into())], ..new(client) };
    rig.join(fat("a", 10));
    let refused = rig.join(fat("b", 7));
    assert!(matches!(rig.joined(refused).result, Err(GroupError::GroupMaxSizeReached { .. })));
    let mut handed_out = 0;
    loop {
        let asked =
            rig.join(Join { require_known_member_id: true, new_member: Uuid::from_u128(handed_out), ..new("p") });
        if rig.joined(asked).result != Err(GroupError::MemberIdRequired) {
            break;
        }
        handed_out += 1;
        assert!(handed_out < 100_000);
    }
    rig.group().members.check_counts();
}

#[test]
fn assignments_beyond_the_bound_are_refused_to_everybody() {
    let mut rig = Rig::new();
    let (a, b) = (rig.join(new("a")), rig.join(new("b")));
    rig.pass(100);
    let (a, b) = (rig.joined(a).member_id, rig.joined(b).member_id);
    let follower = rig.sync(&b, 1, &[]);
    let huge = "x".repeat(17 << 20);
    let leader = rig.sync(&a, 1, &[(&b, &huge)]);
    for ticket in [leader, follower] {
        assert!(matches!(rig.synced(ticket).result, Err(GroupError::Unknown(_))));
    }
    assert_eq!((rig.state(), rig.log.len()), (State::PreparingRebalance, 0));
}

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
    let group = rig.ask(Event::Heartbeat(Heartbeat {
        group: "".into(),
        generation: 1,
        member_id: id,
        instance_id: None,
        hold_ms: 0,
    }));
    assert_eq!(rig.heard(group), Err(GroupError::InvalidGroupId));
}

#[test]
fn a_member_that_is_not_heard_of_is_out_and_the_rest_rebalance() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), new("b")]);
    for _ in 0..3 {
        rig.pass(5_000);
        let _ = rig.heartbeat(&ids[1], 1);
    }
    assert_eq!(rig.state(), State::PreparingRebalance);
    assert_eq!(rig.heartbeat(&ids[0], 1), UNKNOWN);
    let b = rig.join(again(&new("b"), &ids[1]));
    let b = rig.joined(b);
    assert_eq!((b.generation, &b.leader, b.members.len()), (2, &ids[1], 1));
}

#[test]
fn a_group_whose_members_vanish_is_empty_and_stored_so() {
    let mut rig = Rig::new();
    rig.stable(&[new("a"), new("b")]);
    rig.pass(100_000);
    assert_eq!((rig.state(), rig.group().generation(), rig.log.len()), (State::Empty, 2, 2));
    assert!(rig.groups.next_tick().is_none());
    rig.restart(2);
    assert_eq!((rig.state(), rig.group().generation()), (State::Empty, 2));
    assert_eq!(rig.group().protocol_type().map(|name| &**name), Some("consumer"));
    let a = rig.join(new("a"));
    rig.pass(50);
    assert_eq!(rig.joined(a).generation, 3);
}

#[test]
fn members_that_do_not_join_in_time_are_out() {
    let mut rig = Rig::new();
    let long = |client| Join { session_timeout_ms: 100_000, ..new(client) };
    let ids = rig.stable(&[long("a"), long("b")]);
    let b = rig.join(long("c"));
    let a = rig.join(again(&long("b"), &ids[1]));
    rig.pass(29_999);
    assert!(rig.waits(a) && rig.waits(b));
    rig.pass(1);
    let (a, b) = (rig.joined(a), rig.joined(b));
    assert_eq!((a.generation, a.members.len(), &a.leader), (2, 2, &ids[1]), "the leader was late");
    assert_eq!(b.generation, 2);
    assert_eq!(rig.heartbeat(&ids[0], 1), UNKNOWN);
}

#[test]
fn static_members_that_do_not_join_in_time_stay_but_do_not_lead() {
    let mut rig = Rig::new();
    let long = |client| Join { session_timeout_ms: 100_000, ..fixed(client) };
    let ids = rig.stable(&[long("a"), long("b")]);
    let b = rig.join(again(&long("b"), &ids[1]));
    assert_eq!(rig.joined(b).generation, 1, "an unchanged follower disturbs nobody");
    let b =
        rig.join(Join { protocols: vec![("range".into(), Bytes::from_static(b"new"))], ..again(&long("b"), &ids[1]) });
    rig.pass(30_000);
    let b = rig.joined(b);
    assert_eq!((b.generation, b.members.len(), &b.leader), (2, 2, &ids[1]));
    assert_eq!(b.members[0].1.as_deref(), Some("a"));
}

#[test]
fn a_rebalance_without_anybody_waits_for_sessions_to_end() {
    let mut rig = Rig::new();
    let long = |client| Join { session_timeout_ms: 100_000, rebalance_timeout_ms: 600, ..fixed(client) };
    let ids = rig.stable(&[long("a"), long("b")]);
    assert_eq!(rig.leave(&[(&ids[0], Some("a"))]), [Ok(())]);
    rig.pass(50_000);
    assert_eq!((rig.state(), rig.group().generation()), (State::PreparingRebalance, 1));
    rig.pass(60_000);
    assert_eq!((rig.state(), rig.group().generation()), (State::Empty, 2));
}

#[test]
fn members_that_do_not_sync_in_time_are_out() {
    let mut rig = Rig::new();
    let long = |client| Join { session_timeout_ms: 100_000, ..new(client) };
    let (a, b) = (rig.join(long("a")), rig.join(long("b")));
    rig.pass(100);
    let (a, b) = (rig.joined(a).member_id, rig.joined(b).member_id);
    let sync = rig.sync(&b, 1, &[]);
    rig.pass(29_900);
    assert!(rig.waits(sync));
    rig.pass(100);
    assert_eq!(rig.synced(sync).result, REBALANCING);
    assert_eq!(rig.heartbeat(&a, 1), UNKNOWN);
    // The other one goes on alone.
    let again_b = rig.join(again(&long("b"), &b));
    assert_eq!(rig.joined(again_b).generation, 2);
    let sync = rig.sync(&b, 2, &[(&b, "x")]);
    assert_eq!(rig.synced(sync).result, Ok(()));
    rig.pass(50_000);
    assert_eq!(rig.heartbeat(&b, 2), Ok(()), "whoever has synced is not out");
}

#[test]
fn a_follower_that_does_not_sync_is_out_of_a_stable_group_too() {
    let mut rig = Rig::new();
    let long = |client| Join { session_timeout_ms: 100_000, ..new(client) };
    let (a, b) = (rig.join(long("a")), rig.join(long("b")));
    rig.pass(100);
    let (a, b) = (rig.joined(a).member_id, rig.joined(b).member_id);
    let sync = rig.sync(&a, 1, &[(&a, "x")]);
    assert_eq!(rig.synced(sync).result, Ok(()));
    rig.pass(30_000);
    assert_eq!((rig.state(), rig.heartbeat(&b, 1)), (State::PreparingRebalance, UNKNOWN));
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
fn a_static_member_that_comes_back_takes_over_without_a_rebalance() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), fixed("i")]);
    let back = rig.join(Join { new_member: Uuid::from_u128(99), ..fixed("i") });
    let back = rig.joined(back);
    assert_eq!((back.result, back.generation, &back.leader), (Ok(()), 1, &ids[0]));
    assert!(back.member_id != ids[1] && !back.skip_assignment && back.members.is_empty());
    assert_eq!((rig.state(), rig.log.len()), (State::Stable, 2));
    let sync = rig.sync(&back.member_id, 1, &[]);
    assert_eq!(&rig.synced(sync).assignment[..], b"1", "it goes on with what it had");
    assert_eq!(rig.heartbeat(&ids[1], 1), UNKNOWN);
    let fenced = rig.ask(Event::Heartbeat(Heartbeat {
        group: "g".into(),
        generation: 1,
        member_id: ids[1].clone(),
        instance_id: Some("i".into()),
        hold_ms: 0,
    }));
    assert_eq!(rig.heard(fenced), Err(GroupError::FencedInstanceId));
    let fenced = rig.join(again(&fixed("i"), &ids[1]));
    assert_eq!(rig.joined(fenced).result, Err(GroupError::FencedInstanceId));
    rig.restart(2);
    assert_eq!(rig.heartbeat(&back.member_id, 1), Ok(()), "and so it is stored");
}

#[test]
fn a_static_leader_that_comes_back_may_skip_its_assignment() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[fixed("i"), new("b")]);
    let back = rig.join(Join { new_member: Uuid::from_u128(99), ..fixed("i") });
    let old = rig.joined(back);
    assert_eq!((&old.leader, old.members.len()), (&ids[0], 0), "it does not know that it leads");
    let back = rig.join(Join { new_member: Uuid::from_u128(98), supports_skip_assignment: true, ..fixed("i") });
    let new = rig.joined(back);
    assert!(new.skip_assignment && new.leader == new.member_id && new.members.len() == 2);
    assert_eq!(rig.state(), State::Stable);
}

#[test]
fn a_static_member_that_changes_the_protocol_starts_a_rebalance() {
    let mut rig = Rig::new();
    let both =
        |order: [&str; 2]| Join { protocols: order.map(|name| (Arc::from(name), Bytes::new())).into(), ..fixed("i") };
    rig.stable(&[both(["range", "sticky"])]);
    let back = rig.join(Join { new_member: Uuid::from_u128(99), ..both(["sticky", "range"]) });
    let back = rig.joined(back);
    assert_eq!((back.generation, back.protocol.as_deref()), (2, Some("sticky")));
}

#[test]
fn a_static_member_that_comes_back_before_the_assignment_starts_a_rebalance() {
    let mut rig = Rig::new();
    let (a, i) = (rig.join(new("a")), rig.join(fixed("i")));
    rig.pass(100);
    let (a, i) = (rig.joined(a).member_id, rig.joined(i).member_id);
    let parked = rig.sync(&i, 1, &[]);
    let back = rig.join(Join { new_member: Uuid::from_u128(99), ..fixed("i") });
    assert_eq!(rig.synced(parked).result, Err(GroupError::FencedInstanceId));
    assert!(rig.waits(back) && rig.state() == State::PreparingRebalance);
    let a = rig.join(again(&new("a"), &a));
    assert_eq!((rig.joined(a).members.len(), rig.joined(back).generation), (2, 2));
}

#[test]
fn a_static_member_that_comes_back_while_the_old_one_waits_fences_it() {
    let mut rig = Rig::new();
    let old = rig.join(fixed("i"));
    let back = rig.join(Join { new_member: Uuid::from_u128(99), ..fixed("i") });
    let fenced = rig.joined(old);
    assert_eq!(fenced.result, Err(GroupError::FencedInstanceId));
    rig.pass(500);
    let back = rig.joined(back);
    assert_eq!((back.result, back.generation, back.members.len()), (Ok(()), 1, 1));
    rig.group().members.check_counts();
}

#[test]
fn a_replacement_that_is_not_stored_is_undone() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[fixed("i"), new("b")]);
    rig.at_once = false;
    let back = rig.join(Join { new_member: Uuid::from_u128(99), ..fixed("i") });
    assert!(rig.waits(back));
    assert!(rig.refuse(Refusal::DiskFull));
    let refused = rig.joined(back);
    assert!(matches!(refused.result, Err(GroupError::NotAvailable(_))));
    assert_eq!((rig.state(), rig.heartbeat(&ids[0], 1)), (State::Stable, Ok(())));
    let sync = rig.sync(&ids[0], 1, &[]);
    assert_eq!(&rig.synced(sync).assignment[..], b"0");
    rig.group().members.check_counts();
}

#[test]
fn a_replacement_overtaken_by_a_rebalance_is_answered_by_it() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), fixed("i")]);
    rig.at_once = false;
    let back = rig.join(Join { new_member: Uuid::from_u128(99), ..fixed("i") });
    let a = rig.join(again(&new("a"), &ids[0]));
    assert_eq!((rig.joined(back).generation, rig.joined(a).generation), (2, 2));
    assert!(rig.settle());
    assert_eq!(rig.state(), State::CompletingRebalance);
}

#[test]
fn an_assignment_that_is_not_stored_is_nobodys() {
    for (why, code) in [
        (Refusal::NotHere("led elsewhere".into()), "NotCoordinator"),
        (Refusal::DiskFull, "NotAvailable"),
        (Refusal::NotEnoughReplicas, "NotAvailable"),
        (Refusal::TooLarge { size_bytes: 2, max_bytes: 1 }, "Unknown"),
    ] {
        let mut rig = Rig::new();
        rig.at_once = false;
        let (a, b) = (rig.join(new("a")), rig.join(new("b")));
        rig.pass(100);
        let (a, b) = (rig.joined(a).member_id, rig.joined(b).member_id);
        let syncs = [rig.sync(&b, 1, &[]), rig.sync(&a, 1, &[(&a, "x"), (&b, "y")])];
        assert!(syncs.iter().all(|sync| rig.waits(*sync)));
        assert!(rig.refuse(why));
        for sync in syncs {
            let synced = rig.synced(sync);
            assert!(format!("{:?}", synced.result).contains(code), "{synced:?}");
            assert!(synced.assignment.is_empty());
        }
        assert_eq!(rig.state(), State::PreparingRebalance);
        assert!(rig.group().describe(&"g".into()).members.iter().all(|m| m.assignment.is_empty()));
    }
}

#[test]
fn a_generation_has_one_assignment_however_often_the_leader_sends_one() {
    let mut rig = Rig::new();
    rig.at_once = false;
    let a = rig.join(new("a"));
    rig.pass(50);
    let id = rig.joined(a).member_id;
    let first = rig.sync(&id, 1, &[(&id, "first")]);
    let second = rig.sync(&id, 1, &[(&id, "second")]);
    assert_eq!(rig.synced(first).result, REBALANCING, "the older question is answered");
    assert_eq!(rig.appends.len(), 1);
    rig.settle();
    assert_eq!(&rig.synced(second).assignment[..], b"first");
}

#[test]
fn an_assignment_overtaken_by_a_rebalance_is_not_handed_out() {
    let mut rig = Rig::new();
    rig.at_once = false;
    let a = rig.join(new("a"));
    rig.pass(50);
    let id = rig.joined(a).member_id;
    let sync = rig.sync(&id, 1, &[(&id, "x")]);
    let b = rig.join(new("b"));
    assert_eq!(rig.synced(sync).result, REBALANCING);
    rig.settle();
    assert_eq!(rig.state(), State::PreparingRebalance);
    let a = rig.join(again(&new("a"), &id));
    assert_eq!((rig.joined(a).generation, rig.joined(b).generation), (2, 2));
}

#[test]
fn a_rejoin_disturbs_by_what_has_changed() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), new("b")]);
    let same = rig.join(again(&new("b"), &ids[1]));
    let same = rig.joined(same);
    assert_eq!((same.result, same.generation, same.members.len()), (Ok(()), 1, 0));
    assert_eq!(rig.state(), State::Stable);
    let changed = Join { protocols: vec![("range".into(), Bytes::from_static(b"more"))], ..again(&new("b"), &ids[1]) };
    let follower = rig.join(changed.clone());
    assert!(rig.waits(follower) && rig.state() == State::PreparingRebalance);
    let leader = rig.join(again(&new("a"), &ids[0]));
    let leader = rig.joined(leader);
    assert_eq!((leader.generation, &leader.members[1].2[..]), (2, &b"more"[..]));
    assert_eq!(rig.joined(follower).generation, 2);
    // Joined, not yet assigned: the same again is told the same again; something else starts over.
    let same = rig.join(changed);
    assert_eq!(rig.joined(same).generation, 2);
    let same = rig.join(again(&new("a"), &ids[0]));
    assert_eq!(rig.joined(same).members.len(), 2);
    let sync = rig.sync(&ids[0], 2, &[]);
    assert_eq!((rig.synced(sync).result, rig.state()), (Ok(()), State::Stable));
    let leader = rig.join(again(&new("a"), &ids[0]));
    assert!(rig.waits(leader), "the leader may always ask for a rebalance");
    let follower = rig.join(again(&new("b"), &ids[1]));
    assert_eq!((rig.joined(leader).generation, rig.joined(follower).generation), (3, 3));
    let changed =
        rig.join(Join { protocols: vec![("range".into(), Bytes::from_static(b"x"))], ..again(&new("b"), &ids[1]) });
    assert!(rig.waits(changed) && rig.state() == State::PreparingRebalance);
}

#[test]
fn of_two_joins_of_one_member_the_later_counts_and_both_are_answered() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), new("b")]);
    let first = rig.join(again(&new("a"), &ids[0]));
    let second = rig.join(again(&new("a"), &ids[0]));
    assert_eq!(rig.joined(first).result, REBALANCING);
    assert_eq!(rig.state(), State::PreparingRebalance);
    rig.join(again(&new("b"), &ids[1]));
    assert_eq!(rig.joined(second).generation, 2);
    rig.group().members.check_counts();
}

#[test]
fn a_new_member_may_wait_no_longer_than_five_minutes() {
    let mut rig = Rig::new();
    let long = |client| Join { session_timeout_ms: 100_000, rebalance_timeout_ms: 1_000_000, ..new(client) };
    let ids = rig.stable(&[long("a")]);
    let b = rig.join(long("b"));
    for _ in 0..6 {
        rig.pass(49_999);
        assert!(rig.waits(b));
        assert_eq!(rig.heartbeat(&ids[0], 1), REBALANCING);
    }
    rig.pass(10);
    let refused = rig.joined(b);
    assert_eq!((refused.result, &*refused.member_id), (UNKNOWN, ""));
}

#[test]
fn members_that_wait_need_no_heartbeats() {
    let mut rig = Rig::new();
    let slow = |client| Join { session_timeout_ms: 1_000, rebalance_timeout_ms: 60_000, ..new(client) };
    let slow_b = |client| Join { session_timeout_ms: 100_000, ..slow(client) };
    let ids = rig.stable(&[slow("a"), slow_b("b")]);
    let a = rig.join(again(&slow("a"), &ids[0]));
    rig.pass(59_000);
    assert!(rig.waits(a));
    let b = rig.join(again(&slow_b("b"), &ids[1]));
    assert_eq!((rig.joined(a).generation, rig.joined(b).generation), (2, 2));
    let sync = rig.sync(&ids[0], 2, &[]);
    assert_eq!(rig.synced(sync).result, Ok(()));
    rig.pass(1_000);
    assert_eq!(rig.heartbeat(&ids[0], 2), UNKNOWN, "from then on it does");
}

#[test]
fn a_load_brings_back_the_last_generation_and_starts_sessions_anew() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), fixed("i")]);
    rig.pass(9_000);
    rig.restart(1);
    let shown = rig.group().describe(&"g".into());
    assert_eq!((shown.state, &*shown.protocol, &shown.members[1].assignment[..]), (State::Stable, "range", &b"1"[..]));
    assert_eq!(shown.members[1].instance_id.as_deref(), Some("i"));
    rig.pass(9_000);
    assert_eq!((rig.heartbeat(&ids[0], 1), rig.heartbeat(&ids[1], 1)), (Ok(()), Ok(())));
    let sync = rig.sync(&ids[1], 1, &[]);
    assert_eq!(&rig.synced(sync).assignment[..], b"1");
    let leader = rig.join(again(&new("a"), &ids[0]));
    let follower = rig.join(again(&fixed("i"), &ids[1]));
    assert_eq!((rig.joined(leader).members.len(), rig.joined(follower).generation), (2, 2));
    rig.pass(100_000);
    assert_eq!((rig.state(), rig.log.len()), (State::Empty, 2));
}

#[test]
fn a_rebalance_that_was_cut_off_has_not_happened() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a")]);
    let leader = rig.join(again(&new("a"), &ids[0]));
    assert_eq!(rig.joined(leader).generation, 2);
    rig.restart(1);
    let sync = rig.sync(&ids[0], 2, &[]);
    assert_eq!(rig.synced(sync).result, illegal(2, 1));
}

#[test]
fn a_tombstone_forgets_an_empty_group() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a")]);
    assert_eq!(rig.leave(&[(&ids[0], None)]), [Ok(())]);
    assert_eq!(rig.log.len(), 2);
    let key = rig.log[1].key.clone();
    rig.groups.replay(&key, None, rig.now).unwrap();
    assert!(rig.groups.groups.is_empty());
    let a = rig.join(new("a"));
    rig.pass(50);
    assert_eq!(rig.joined(a).generation, 1);
}

#[test]
fn records_that_cannot_be_read_are_skipped_with_a_reason() {
    let mut rig = Rig::new();
    rig.stable(&[new("a")]);
    let record = rig.log[0].clone();
    let mut groups = replayed(&rig.log);
    for cut in [0, 1, 5, record.value.as_ref().unwrap().len() - 1] {
        assert!(groups.replay(&record.key, Some(&record.value.as_ref().unwrap()[..cut]), rig.now).is_err());
    }
    assert_eq!(records(&groups), records(&rig.groups));
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

#[test]
fn a_held_heartbeat_is_answered_when_a_rebalance_begins() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a"), new("b"), new("c")]);
    let held: Vec<_> = ids.iter().map(|id| rig.hold(id, 1, 3_000)).collect();
    assert!(held.iter().all(|ticket| rig.waits(*ticket)));
    let newer = rig.hold(&ids[0], 1, 3_000);
    assert_eq!(rig.heard(held[0]), Ok(()));
    rig.leave(&[(&ids[2], None)]);
    assert_eq!(rig.heard(newer), REBALANCING);
    assert_eq!(rig.heard(held[1]), REBALANCING);
    assert_eq!(rig.heard(held[2]), UNKNOWN);
    assert_eq!(rig.heartbeat(&ids[0], 1), REBALANCING);
}

#[test]
fn a_heartbeat_is_held_no_longer_than_asked_nor_over_the_session() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[new("a")]);
    let held = rig.hold(&ids[0], 1, 3_000);
    rig.pass(2_999);
    assert!(rig.waits(held));
    rig.pass(1);
    assert_eq!(rig.heard(held), Ok(()));
    let held = rig.hold(&ids[0], 1, u64::MAX);
    rig.pass(5_000);
    assert_eq!((rig.heard(held), rig.state()), (Ok(()), State::Stable));
}

#[test]
fn ten_thousand_groups_and_a_group_of_a_thousand_are_cheap() {
    let mut rig = Rig::new();
    for n in 0..10_000 {
        rig.join(Join { group: format!("g{n}").into(), ..new("a") });
    }
    let joins: Vec<_> = (0..1_000).map(|n| new(&format!("m{n}"))).collect();
    let ids = rig.stable(&joins);
    for round in 2..5 {
        let tickets: Vec<_> = joins.iter().zip(&ids).map(|(join, id)| rig.join(again(join, id))).collect();
        for ticket in tickets.into_iter().rev() {
            assert_eq!(rig.joined(ticket).generation, round);
        }
        rig.synced_all(&ids, round);
        ids.iter().for_each(|id| assert_eq!(rig.heartbeat(id, round), Ok(())));
    }
    rig.pass(200_000);
    assert_eq!(rig.state(), State::Empty);
}

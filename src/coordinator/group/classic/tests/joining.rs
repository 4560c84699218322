//! Who gets in, with what, and when the first generation begins.

use super::*;

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
fn nobody_waits_for_an_id_handed_out_to_one_that_does_not_get_in() {
    let two_step = |client: &str| Join { require_known_member_id: true, ..new(client) };
    let fat = || vec![("range".into(), vec![0; 17 << 20].into())];
    for by_bytes in [false, true] {
        let mut rig = Rig::new();
        let ids = rig.stable(&[new("a"), new("b")]);
        let asked = rig.join(two_step("c"));
        let handed_out = rig.joined(asked).member_id;
        let changed = |n: usize, c| Join {
            protocols: vec![("range".into(), Bytes::from_static(b"more"))],
            ..again(&new(c), &ids[n])
        };
        let (a, b) = (rig.join(changed(0, "a")), rig.join(changed(1, "b")));
        assert!(rig.waits(a) && rig.waits(b), "the third may come yet");
        let mut third = again(&two_step("c"), &handed_out);
        if by_bytes {
            third.protocols = fat();
        } else {
            rig.settings.size_max = 2;
        }
        let refused = rig.join(third);
        assert!(matches!(rig.joined(refused).result, Err(GroupError::GroupMaxSizeReached { .. })));
        assert_eq!((rig.joined(a).generation, rig.joined(b).generation), (2, 2));
        assert!(!rig.group().members.has_pending());
    }
}

#[test]
fn one_that_leaves_the_first_members_does_not_end_their_wait() {
    let mut rig = Rig::new();
    rig.settings.initial_rebalance_delay_ms = 5_000;
    let a = rig.join(new("a"));
    let asked = rig.join(Join { require_known_member_id: true, session_timeout_ms: 1_000, ..new("b") });
    rig.joined(asked);
    rig.pass(4_999);
    assert!(rig.waits(a), "the session of the id handed out has ended, the delay has not");
    rig.pass(1);
    assert_eq!(rig.joined(a).generation, 1);
}

#[test]
fn a_group_has_a_bound_of_bytes_too() {
    let mut rig = Rig::new();
    let fat =
        |client: &str, mib: usize| Join { protocols: vec![("range".into(), vec![0; mib << 20].into())], ..new(client) };
    rig.join(fat("a", 10));
    let refused = rig.join(fat("b", 7));
    assert!(matches!(rig.joined(refused).result, Err(GroupError::GroupMaxSizeReached { .. })));
    rig.group().members.check_counts();
    // Ids handed out take nothing of it.
    let id = |n| Join { require_known_member_id: true, new_member: Uuid::from_u128(n), ..new("p") };
    for n in 0..20_000 {
        let asked = rig.join(id(n));
        assert_eq!(rig.joined(asked).result, Err(GroupError::MemberIdRequired));
    }
    rig.join(fat("c", 5));
    assert_eq!(rig.group().members.len(), 2);
    rig.group().members.check_counts();
}

#[test]
fn all_groups_together_have_a_bound_of_bytes() {
    let mut rig = Rig::new();
    let fat = |group: &str, mib: usize| Join {
        group: group.into(),
        protocols: vec![("range".into(), vec![0; mib << 20].into())],
        ..new("a")
    };
    let asked: Vec<_> = ["a", "b", "c", "d"].map(|group| rig.join(fat(group, 15))).into();
    let refused = rig.join(fat("e", 15));
    assert!(matches!(rig.joined(refused).result, Err(GroupError::NotAvailable(_))));
    rig.pass(600);
    let first = rig.joined(asked[0]);
    assert_eq!((&first.result, first.generation), (&Ok(()), 1), "those that are in are not disturbed");
    // One that is in comes back with what it had; the room of those that leave is free again.
    rig.join(Join { member_id: first.member_id.clone(), ..fat("a", 15) });
    rig.pass(1_000_000);
    assert_eq!(rig.groups.members_bytes, 0, "all sessions are over");
    let asked = rig.join(fat("e", 15));
    assert!(rig.waits(asked));
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

//! What happens when nothing happens: sessions, rebalances and syncs that run out of time.

use super::*;

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

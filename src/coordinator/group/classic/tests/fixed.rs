//! Static members (KIP-345, KIP-814).

use super::*;

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
fn of_two_replacements_that_are_not_stored_the_id_before_both_stays() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[fixed("i"), new("b")]);
    rig.at_once = false;
    let back = |id| Join { new_member: Uuid::from_u128(id), ..fixed("i") };
    let (first, second) = (rig.join(back(98)), rig.join(back(99)));
    assert_eq!(rig.joined(first).result, Err(GroupError::FencedInstanceId));
    assert!(rig.refuse(Refusal::DiskFull) && rig.refuse(Refusal::DiskFull));
    assert!(matches!(rig.joined(second).result, Err(GroupError::NotAvailable(_))));
    assert_eq!(rig.heartbeat(&ids[0], 1), Ok(()));
}

#[test]
fn a_replacement_that_is_not_stored_may_be_stored_with_the_next_one() {
    for refused in [true, false] {
        let mut rig = Rig::new();
        let ids = rig.stable(&[fixed("i"), fixed("j")]);
        rig.at_once = false;
        let back = |instance, id| Join { new_member: Uuid::from_u128(id), ..fixed(instance) };
        let (i, j) = (rig.join(back("i", 98)), rig.join(back("j", 99)));
        assert!(rig.refuse(Refusal::DiskFull));
        assert!(matches!(rig.joined(i).result, Err(GroupError::NotAvailable(_))));
        assert!(if refused { rig.refuse(Refusal::DiskFull) } else { rig.settle() });
        assert_eq!(rig.joined(j).result.is_err(), refused);
        let live = rig.group().describe(&"g".into()).members.into_iter().map(|member| member.member_id);
        let live: Vec<_> = live.collect();
        assert_eq!(live == ids, refused);
        rig.restart(rig.log.len());
        let loaded = rig.group().describe(&"g".into()).members.into_iter().map(|member| member.member_id);
        assert_eq!(loaded.collect::<Vec<_>>(), live, "memory and log agree");
    }
}

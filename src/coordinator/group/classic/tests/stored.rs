//! What is stored and what is not: refused appends, overtaken ones, loads.

use super::*;

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
    let left: Vec<_> = groups.groups.keys().collect();
    assert_eq!(left, [&Arc::from("g")], "what is known of the group stays");
}

#[test]
fn records_that_cannot_be_read_are_written_anew() {
    let mut rig = Rig::new();
    rig.stable(&[new("a")]);
    let known = rig.log[0].clone();
    let mut groups = replayed(&rig.log);
    let put = |groups: &mut Groups, key: &[u8], value: Option<&[u8]>| groups.replay(key, value, Now::default());
    // Another kind of key; a key that breaks off; versions of values yet to come, of a group that is known and of another.
    let other = [0, 9, 1];
    let broken = [0, 2, 0, 5, b'g'];
    let newer = records::group_key("newer").unwrap();
    assert_eq!(put(&mut groups, &other, Some(b"old")), Ok(()));
    assert_eq!(put(&mut groups, &other, Some(b"new")), Ok(()));
    assert!(put(&mut groups, &broken, Some(b"x")).is_err());
    assert!(put(&mut groups, &newer, Some(&[0, 5, 1])).is_err());
    assert!(put(&mut groups, &known.key, Some(&[0, 5, 2])).is_err());
    let mut live = Vec::new();
    groups.live(&mut |record| live.push(record));
    let values = records(&groups);
    let kept = [(&other[..], &b"new"[..]), (&broken, b"x"), (&newer, &[0, 5, 1]), (&known.key, &[0, 5, 2])];
    assert_eq!(values.len(), kept.len());
    kept.iter().for_each(|(key, value)| assert_eq!(values[*key], *value));
    // A load of that makes the same of it.
    let mut again = Groups::default();
    for record in &live {
        let _ = again.replay(&record.key, record.value.as_deref(), Now::default());
    }
    assert_eq!(records(&again), values);
    assert_eq!(again.groups.len(), 1);
    // Tombstones take them away, and so does a record that can be read.
    for key in [&other[..], &newer] {
        assert_eq!(put(&mut again, key, None), Ok(()));
    }
    assert!(put(&mut again, &broken, None).is_err());
    assert_eq!(put(&mut again, &known.key, known.value.as_deref()), Ok(()));
    assert_eq!(records(&again), records(&rig.groups));
}

#[test]
fn a_group_whose_emptiness_is_not_stored_yet_or_never_counts_on() {
    for stored in [true, false] {
        let mut rig = Rig::new();
        let a = rig.join(new("a"));
        rig.pass(50);
        let id = rig.joined(a).member_id;
        rig.at_once = false;
        assert_eq!(rig.leave(&[(&id, None)]), [Ok(())]);
        assert_eq!((rig.state(), rig.group().is_stored(), rig.group().generation()), (State::Empty, false, 2));
        assert!(if stored { rig.settle() } else { rig.refuse(Refusal::DiskFull) });
        let a = rig.join(new("a"));
        rig.pass(50);
        assert_eq!(rig.joined(a).generation, 3);
    }
}

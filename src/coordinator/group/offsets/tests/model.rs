//! The machine against a table that does the obvious, over random histories; and what a restart makes of its log.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const GROUPS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 2] = ["orders", "bills"];

#[derive(Clone, Debug)]
enum Step {
    /// Group; topic, its age (each deletion makes another topic of the name), partition, offset, metadata.
    Commit(usize, Vec<(usize, u128, i32, i64, String)>, Option<i64>),
    Delete(usize),
    DeleteOffsets(usize, usize, Vec<i32>),
    /// Every candidate whose number is not among these.
    Expire(Vec<usize>),
    TopicDeleted(usize, u128),
    Pass(i64),
    Restart,
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = (0..2usize, 0..2u128, 0..4i32, 0..100i64, "[xé]{0,24}");
    let commit = (0..3usize, prop::collection::vec(one, 1..5), prop::option::weighted(0.2, 0..20 * DAY));
    let step = prop_oneof![
        6 => commit.prop_map(|(group, offsets, retention)| Step::Commit(group, offsets, retention)),
        1 => (0..3usize).prop_map(Step::Delete),
        1 => (0..3usize, 0..2usize, prop::collection::vec(0..5i32, 0..3))
            .prop_map(|(group, topic, partitions)| Step::DeleteOffsets(group, topic, partitions)),
        2 => prop::collection::vec(0..6usize, 0..3).prop_map(Step::Expire),
        1 => (0..2usize, 0..2u128).prop_map(|(topic, age)| Step::TopicDeleted(topic, age)),
        3 => (0..5 * DAY).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the table holds of one offset.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    offset: i64,
    metadata: String,
    commit_ms: i64,
    expire_ms: Option<i64>,
    /// Nil with an expiry of its own: there is no room for it.
    id: Uuid,
}

type Model = BTreeMap<(String, String, i32), Kept>;

fn id(topic: usize, age: u128) -> Uuid {
    Uuid::from_u128(1 + topic as u128 * 10 + age)
}

fn run(shard: &mut Shard, model: &mut Model, now_ms: &mut i64, step: &Step) {
    match step {
        Step::Pass(ms) => *now_ms += ms,
        Step::Restart => {
            shard.machine = loaded(&shard.log);
        }
        Step::Snapshot => {
            let mut log = Vec::new();
            shard.machine.live(&mut |record| log.push(record));
            shard.log = log;
            run(shard, model, now_ms, &Step::Restart);
        }
        Step::Commit(group, offsets, retention_ms) => {
            let mut it = commit(GROUPS[*group], "", Uuid::nil(), Vec::new());
            it.retention_ms = *retention_ms;
            it.topics = offsets
                .iter()
                .map(|(topic, age, index, offset, metadata)| CommitTopic {
                    name: TOPICS[*topic].into(),
                    id: id(*topic, *age),
                    partitions: vec![partition(*index, *offset, metadata)],
                })
                .collect();
            let results = shard.commit(*now_ms, it).unwrap();
            for ((topic, age, index, offset, metadata), result) in offsets.iter().zip(results) {
                if metadata.chars().count() > 20 {
                    assert!(matches!(result[..], [Err(GroupError::OffsetMetadataTooLarge { .. })]), "{result:?}");
                    continue;
                }
                assert_eq!(result, [Ok(())]);
                let kept = Kept {
                    offset: *offset,
                    metadata: metadata.clone(),
                    commit_ms: *now_ms,
                    expire_ms: retention_ms.map(|ms| *now_ms + ms),
                    id: if retention_ms.is_some() { Uuid::nil() } else { id(*topic, *age) },
                };
                model.insert((GROUPS[*group].into(), TOPICS[*topic].into(), *index), kept);
            }
        }
        Step::Delete(group) => {
            let name = GROUPS[*group];
            let there = model.keys().any(|(group, ..)| group == name);
            let Reply::Delete(result) = shard.ask(*now_ms, Event::Delete { group: name.into() }) else { panic!() };
            assert_eq!(result, there.then_some(()).ok_or(GroupError::GroupIdNotFound));
            model.retain(|(group, ..), _| group != name);
        }
        Step::DeleteOffsets(group, topic, partitions) => {
            let (group, topic) = (GROUPS[*group], TOPICS[*topic]);
            let event = Event::DeleteOffsets { group: group.into(), topics: vec![(topic.into(), partitions.clone())] };
            let there = model.keys().any(|(name, ..)| name == group);
            let Reply::DeleteOffsets(result) = shard.ask(*now_ms, event) else { panic!() };
            let expected = vec![vec![Ok(()); partitions.len()]];
            assert_eq!(result, there.then_some(expected).ok_or(GroupError::GroupIdNotFound));
            model.retain(|(g, t, p), _| g != group || t != topic || !partitions.contains(p));
        }
        Step::Expire(spared) => {
            let over = |it: &Kept| match it.expire_ms {
                Some(ms) => *now_ms >= ms,
                None => *now_ms - it.commit_ms >= 7 * DAY,
            };
            let candidates = shard.candidates(*now_ms);
            let expected: Vec<_> = model.iter().filter(|(_, it)| over(it)).map(|(key, _)| key.clone()).collect();
            let key = |it: &Candidate| (it.key.group.to_string(), it.key.topic.to_string(), it.key.partition);
            assert_eq!(candidates.iter().map(key).collect::<Vec<_>>(), expected);
            let chosen = candidates.into_iter().enumerate().filter(|(n, _)| !spared.contains(n));
            let chosen: Vec<_> = chosen.map(|(_, it)| it).collect();
            for it in &chosen {
                model.remove(&key(it));
            }
            let count = chosen.len();
            assert_eq!(shard.expire(*now_ms, chosen), count);
        }
        Step::TopicDeleted(topic, age) => {
            let id = id(*topic, *age);
            let reply = shard.ask(*now_ms, Event::TopicsDeleted(vec![(TOPICS[*topic].into(), id)]));
            let before = model.len();
            model.retain(|(_, t, _), it| t != TOPICS[*topic] || it.id != id);
            let Reply::Dropped(dropped) = reply else { panic!() };
            assert_eq!(dropped, before - model.len());
        }
    }
}

/// What the machine shows, in the table's shape (without expiry, which is not shown).
fn shown(shard: &mut Shard) -> Vec<(String, String, i32, Kept)> {
    let mut all = Vec::new();
    for group in GROUPS {
        for it in shard.fetch(group, None) {
            let kept = Kept {
                offset: it.offset,
                metadata: it.metadata.to_string(),
                commit_ms: it.commit_ms,
                expire_ms: None,
                id: it.topic_id,
            };
            all.push((group.to_string(), it.topic.to_string(), it.partition, kept));
        }
    }
    all
}

fn live(machine: &Groups) -> Vec<Record> {
    let mut all = Vec::new();
    machine.live(&mut |record| all.push(record));
    all
}

/// What the log says, key by key.
fn content(log: &[Record]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut content = BTreeMap::new();
    for record in log {
        match &record.value {
            Some(value) => content.insert(record.key.clone(), value.clone()),
            None => content.remove(&record.key),
        };
    }
    content
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_a_table_does_and_a_restart_at_any_point_changes_nothing(steps in steps()) {
        let (mut shard, mut model, mut now_ms) = (Shard::default(), Model::new(), T0);
        // Follows the log record by record, as a restart at each would.
        let mut replayed = Groups::default();
        for step in &steps {
            let before = shard.log.len();
            run(&mut shard, &mut model, &mut now_ms, step);
            if matches!(step, Step::Snapshot) {
                prop_assert_eq!(live(&replayed), live(&shard.machine), "a snapshot is the whole state");
            } else {
                for at in before..shard.log.len() {
                    let record = &shard.log[at];
                    replay(&mut replayed, record);
                    prop_assert_eq!(content(&live(&replayed)), content(&shard.log[..=at]));
                }
            }
            prop_assert_eq!(live(&replayed), live(&shard.machine));
            let expected = model.iter().map(|((group, topic, partition), it)| {
                (group.clone(), topic.clone(), *partition, Kept { expire_ms: None, ..it.clone() })
            });
            prop_assert_eq!(shown(&mut shard), expected.collect::<Vec<_>>());
            // A group without members lives as long as it has offsets.
            let names: std::collections::BTreeSet<_> = model.keys().map(|(group, ..)| group.clone()).collect();
            prop_assert_eq!(shard.names(), names.into_iter().collect::<Vec<_>>());
        }
    }
}

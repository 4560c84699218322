//! What each command does to the image: pure and deterministic, so that every broker has the same image at the same index.
//!
//! Never fails and never panics: a change that cannot be made is [`Outcome::Refused`] and leaves no trace. Whether names, numbers and
//! settings are sensible is the proposer's business.

use super::{
    BrokerRegistration, Command, ConfigResource, Image, NewPartitions, NewTopic, Outcome, PartitionFacts, Refusal,
    Topic,
    image::{Configs, Lists},
};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// Applies `command`, which stands at `index` of the metadata log: the image after it, and one outcome for each change in it, in order.
/// Changes see those before them in the same command.
pub fn apply(image: &Image, command: &Command, index: u64) -> (Image, Vec<Outcome>) {
    let mut next = image.clone();
    next.index = index;
    let (needed, have) = (command.feature_level(), image.feature_level);
    let outcomes = if needed > have {
        vec![Outcome::Refused(Refusal::FeatureLevel { needed, have }); command.changes()]
    } else {
        change(&mut next, command, index)
    };
    (next, outcomes)
}

fn change(image: &mut Image, command: &Command, index: u64) -> Vec<Outcome> {
    match command {
        Command::InitCluster { cluster_id, feature_level } => {
            if image.cluster_id.is_empty() {
                image.cluster_id = cluster_id.as_str().into();
                image.feature_level = *feature_level;
            }
            vec![Outcome::Done]
        }
        Command::RegisterBroker { node_id, directory_id, advertised, rack, feature_level_max, clean: _ } => {
            let (needed, have) = (image.feature_level, *feature_level_max);
            if have < needed {
                return vec![Outcome::Refused(Refusal::FeatureLevel { needed, have })];
            }
            let registration = BrokerRegistration {
                node_id: *node_id,
                epoch: i64::try_from(index).unwrap_or(i64::MAX),
                directory_id: *directory_id,
                advertised: advertised.as_ref().map(|(host, port)| (host.as_str().into(), *port)),
                rack: rack.as_deref().map(Into::into),
                fenced: false,
                feature_level_max: *feature_level_max,
            };
            image.brokers.insert(*node_id, Arc::new(registration));
            lead_leaderless(image, *node_id);
            vec![Outcome::Done]
        }
        Command::CreateTopics { topics } => {
            let mut lists = Lists::of(image);
            let none: Arc<Configs> =
                image.topics.values().take(1).map(|t| t.configs.clone()).next().unwrap_or_default();
            let none = if none.is_empty() { none } else { Arc::default() };
            topics.iter().map(|topic| outcome(create_topic(image, topic, &mut lists, &none))).collect()
        }
        Command::DeleteTopics { ids } => ids
            .iter()
            .map(|id| if image.remove_topic(*id) { Outcome::Done } else { Outcome::Refused(Refusal::UnknownTopic) })
            .collect(),
        Command::CreatePartitions { topics } => {
            let mut lists = Lists::of(image);
            topics.iter().map(|new| outcome(create_partitions(image, new, &mut lists))).collect()
        }
        Command::AlterTopicConfigs { changes } => {
            changes.iter().map(|(id, change)| outcome(alter_topic(image, *id, change))).collect()
        }
        Command::AlterConfigs { changes } => {
            for (resource, change) in changes {
                alter_resource(image, resource, change);
            }
            vec![Outcome::Done; changes.len()]
        }
        Command::AllocateProducerIds { node_id, count } => vec![match image.brokers.contains_key(node_id) {
            true => {
                let first = image.next_producer_id;
                image.next_producer_id = first.saturating_add((*count).max(0));
                Outcome::ProducerIds { first, count: image.next_producer_id - first }
            }
            false => Outcome::Refused(Refusal::UnknownBroker(*node_id)),
        }],
    }
}

fn outcome(result: Result<(), Refusal>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

fn create_topic(image: &mut Image, new: &NewTopic, lists: &mut Lists, none: &Arc<Configs>) -> Result<(), Refusal> {
    if image.topics.contains_key(new.name.as_str()) || image.topic_names.contains_key(&new.id) {
        return Err(Refusal::TopicExists);
    }
    if let Some(other) = image.collision(&new.name) {
        return Err(Refusal::TopicNameCollision(other.to_string()));
    }
    let partitions = new_partitions(image, &new.assignments, lists)?;
    let configs = if new.configs.is_empty() { none.clone() } else { Arc::new(new.configs.clone()) };
    image.put_topic(Topic { id: new.id, name: new.name.as_str().into(), partitions: partitions.into(), configs });
    Ok(())
}

fn create_partitions(image: &mut Image, new: &NewPartitions, lists: &mut Lists) -> Result<(), Refusal> {
    let topic = image.topic_by_id(new.id).ok_or(Refusal::UnknownTopic)?.clone();
    if new.assignments.is_empty() || topic.partitions.len() != new.first as usize {
        return Err(Refusal::NotMorePartitions);
    }
    let added = new_partitions(image, &new.assignments, lists)?;
    let partitions = topic.partitions.iter().cloned().chain(added).collect();
    image.put_topic(Topic { partitions, ..(*topic).clone() });
    Ok(())
}

/// Partitions as they begin: in sync are the replicas on unfenced brokers, the first of these leads. All replicas must be registered.
fn new_partitions(image: &Image, assignments: &[Vec<i32>], lists: &mut Lists) -> Result<Vec<PartitionFacts>, Refusal> {
    let mut partitions: Vec<PartitionFacts> = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        // Neighbours are alike on a small cluster.
        if let Some(last) = partitions.last().filter(|p| *p.replicas == **assignment) {
            partitions.push(last.clone());
            continue;
        }
        let mut live = Vec::with_capacity(assignment.len());
        for id in assignment {
            let broker = image.brokers.get(id).ok_or(Refusal::UnknownBroker(*id))?;
            if !broker.fenced {
                live.push(*id);
            }
        }
        let replicas = lists.share(assignment);
        let leader = live.first().copied().unwrap_or(-1);
        // Nobody live: whoever comes first is in sync, for the partition is empty.
        let isr = if live.is_empty() { replicas.clone() } else { lists.share(&live) };
        partitions.push(PartitionFacts { replicas, isr, leader, leader_epoch: 0, partition_epoch: 0 });
    }
    Ok(partitions)
}

/// Gives partitions without a leader to `node_id` where it is in sync.
fn lead_leaderless(image: &mut Image, node_id: i32) {
    let waits = |p: &PartitionFacts| p.leader == -1 && p.isr.contains(&node_id);
    let topics: Vec<Arc<Topic>> = image.topics.values().filter(|t| t.partitions.iter().any(waits)).cloned().collect();
    for topic in topics {
        let lead = |p: &PartitionFacts| PartitionFacts {
            leader: node_id,
            leader_epoch: p.leader_epoch.saturating_add(1),
            partition_epoch: p.partition_epoch.saturating_add(1),
            ..p.clone()
        };
        let partitions = topic.partitions.iter().map(|p| if waits(p) { lead(p) } else { p.clone() }).collect();
        image.put_topic(Topic { partitions, ..(*topic).clone() });
    }
}

fn alter_topic(image: &mut Image, id: Uuid, change: &BTreeMap<String, Option<String>>) -> Result<(), Refusal> {
    let topic = image.topic_by_id(id).ok_or(Refusal::UnknownTopic)?;
    if let Some(configs) = altered(&topic.configs, change) {
        let topic = Topic { configs: Arc::new(configs), ..(**topic).clone() };
        image.put_topic(topic);
    }
    Ok(())
}

fn alter_resource(image: &mut Image, resource: &ConfigResource, change: &BTreeMap<String, Option<String>>) {
    let before = image.configs.get(resource).cloned().unwrap_or_default();
    match altered(&before, change) {
        None => {}
        Some(after) if after.is_empty() => {
            image.configs.remove(resource);
        }
        Some(after) => {
            image.configs.insert(resource.clone(), Arc::new(after));
        }
    }
}

/// The settings after `change`; `None` when it changes nothing.
fn altered(before: &Configs, change: &BTreeMap<String, Option<String>>) -> Option<Configs> {
    let mut after = before.clone();
    for (name, value) in change {
        match value {
            Some(value) => after.insert(name.clone(), value.clone()),
            None => after.remove(name),
        };
    }
    (after != *before).then_some(after)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metadata::FEATURE_LEVEL;

    /// An initialised cluster with brokers 1 to `brokers`.
    pub(in crate::metadata) fn cluster(brokers: i32) -> Image {
        let init = Command::InitCluster { cluster_id: "cluster".into(), feature_level: FEATURE_LEVEL };
        let mut image = apply(&Image::default(), &init, 1).0;
        for node_id in 1..=brokers {
            image = apply(&image, &register(node_id), 1 + node_id as u64).0;
        }
        image
    }

    pub(in crate::metadata) fn register(node_id: i32) -> Command {
        Command::RegisterBroker {
            node_id,
            directory_id: Uuid::from_u128(node_id as u128),
            advertised: None,
            rack: None,
            feature_level_max: FEATURE_LEVEL,
            clean: true,
        }
    }

    pub(in crate::metadata) fn new_topic(id: u128, name: &str, assignments: &[&[i32]]) -> NewTopic {
        NewTopic {
            id: Uuid::from_u128(id),
            name: name.into(),
            assignments: assignments.iter().map(|a| a.to_vec()).collect(),
            configs: BTreeMap::new(),
        }
    }

    fn create(image: &Image, index: u64, topics: Vec<NewTopic>) -> (Image, Vec<Outcome>) {
        apply(image, &Command::CreateTopics { topics }, index)
    }

    fn setting(name: &str, value: Option<&str>) -> BTreeMap<String, Option<String>> {
        BTreeMap::from([(name.to_string(), value.map(str::to_string))])
    }

    #[test]
    fn commands_wait_for_the_feature_level_they_need() {
        let image = Image::default();
        let needs = Outcome::Refused(Refusal::FeatureLevel { needed: 1, have: 0 });
        let (after, outcomes) = create(&image, 5, vec![new_topic(1, "a", &[&[1]]), new_topic(2, "b", &[&[1]])]);
        assert_eq!(outcomes, [needs.clone(), needs.clone()]);
        assert_eq!(after, Image { index: 5, ..image.clone() });
        assert_eq!(apply(&image, &register(1), 1).1, [needs]);
    }

    #[test]
    fn a_cluster_is_initialised_once() {
        let image = cluster(1);
        let again = Command::InitCluster { cluster_id: "other".into(), feature_level: 9 };
        let (after, outcomes) = apply(&image, &again, 7);
        assert_eq!(outcomes, [Outcome::Done]);
        assert_eq!((&*after.cluster_id, after.feature_level, after.index), ("cluster", FEATURE_LEVEL, 7));
    }

    #[test]
    fn a_broker_too_old_for_the_cluster_is_refused() {
        let image = Image { feature_level: 3, ..cluster(0) };
        let (after, outcomes) = apply(&image, &register(1), 9);
        assert_eq!(outcomes, [Outcome::Refused(Refusal::FeatureLevel { needed: 3, have: FEATURE_LEVEL })]);
        assert!(after.brokers.is_empty());
    }

    #[test]
    fn a_registration_raises_the_broker_epoch_and_takes_over_leaderless_partitions() {
        let image = cluster(2);
        let mut fenced = image.clone();
        for id in [1, 2] {
            let registration = BrokerRegistration { fenced: true, ..(**image.brokers.get(&id).unwrap()).clone() };
            fenced.brokers.insert(id, Arc::new(registration));
        }
        let (image, _) = create(&fenced, 4, vec![new_topic(1, "a", &[&[1, 2], &[2, 1]])]);
        let p = image.topic("a").unwrap().partitions[1].clone();
        assert_eq!((p.leader, p.leader_epoch, &*p.isr), (-1, 0, &[2, 1][..]));
        let (image, _) = apply(&image, &register(1), 5);
        assert_eq!(image.brokers.get(&1).unwrap().epoch, 5);
        let p = image.topic("a").unwrap().partitions[1].clone();
        assert_eq!((p.leader, p.leader_epoch, p.partition_epoch), (1, 1, 1));
    }

    #[test]
    fn topics_of_one_command_succeed_or_fail_alone() {
        let image = cluster(2);
        let (image, outcomes) = create(
            &image,
            9,
            vec![
                new_topic(1, "a.b", &[&[1, 2], &[2, 1], &[1, 2]]),
                new_topic(2, "a_b", &[&[1]]),
                new_topic(3, "a.b", &[&[1]]),
                new_topic(4, "c", &[&[1], &[3]]),
                new_topic(1, "other", &[&[1]]),
                new_topic(6, "empty", &[]),
                new_topic(7, "none", &[&[]]),
            ],
        );
        assert_eq!(
            outcomes,
            [
                Outcome::Done,
                Outcome::Refused(Refusal::TopicNameCollision("a.b".into())),
                Outcome::Refused(Refusal::TopicExists),
                Outcome::Refused(Refusal::UnknownBroker(3)),
                Outcome::Refused(Refusal::TopicExists),
                Outcome::Done,
                Outcome::Done,
            ]
        );
        let topic = image.topic_by_id(Uuid::from_u128(1)).unwrap();
        assert_eq!(topic.partitions.iter().map(|p| p.leader).collect::<Vec<_>>(), [1, 2, 1]);
        assert!(Arc::ptr_eq(&topic.partitions[0].replicas, &topic.partitions[2].isr));
        assert_eq!(image.topic("none").unwrap().partitions[0].leader, -1);
        assert_eq!(image.topics.len(), 3);
        assert_eq!(image.topic_names.len(), 3);
    }

    #[test]
    fn fenced_brokers_start_outside_the_isr_and_lead_nothing() {
        let mut image = cluster(2);
        let fenced = BrokerRegistration { fenced: true, ..(**image.brokers.get(&1).unwrap()).clone() };
        image.brokers.insert(1, Arc::new(fenced));
        let (image, _) = create(&image, 4, vec![new_topic(1, "a", &[&[1, 2]])]);
        let p = &image.topic("a").unwrap().partitions[0];
        assert_eq!((p.leader, p.leader_epoch, &*p.isr, &*p.replicas), (2, 0, &[2][..], &[1, 2][..]));
    }

    #[test]
    fn a_deleted_name_is_free_again() {
        let (image, _) = create(&cluster(1), 3, vec![new_topic(1, "a.b", &[&[1]])]);
        let delete = Command::DeleteTopics { ids: vec![Uuid::from_u128(1), Uuid::from_u128(1)] };
        let (image, outcomes) = apply(&image, &delete, 4);
        assert_eq!(outcomes, [Outcome::Done, Outcome::Refused(Refusal::UnknownTopic)]);
        assert_eq!(create(&image, 5, vec![new_topic(2, "a_b", &[&[1]])]).1, [Outcome::Done]);
    }

    #[test]
    fn partitions_are_added_once_although_two_asked() {
        let (image, _) = create(&cluster(1), 3, vec![new_topic(1, "a", &[&[1]])]);
        let id = Uuid::from_u128(1);
        let grow = |id, first, n| Command::CreatePartitions {
            topics: vec![NewPartitions { id, first, assignments: vec![vec![1]; n] }],
        };
        let (image, outcomes) = apply(&image, &grow(id, 1, 2), 4);
        assert_eq!(outcomes, [Outcome::Done]);
        assert_eq!(image.topic("a").unwrap().partitions.len(), 3);
        for (command, refusal) in [
            (grow(id, 1, 2), Refusal::NotMorePartitions),
            (grow(id, 3, 0), Refusal::NotMorePartitions),
            (grow(Uuid::nil(), 3, 1), Refusal::UnknownTopic),
        ] {
            let (after, outcomes) = apply(&image, &command, 5);
            assert_eq!(outcomes, [Outcome::Refused(refusal)]);
            assert_eq!(after.topics, image.topics);
        }
    }

    #[test]
    fn settings_are_laid_over_and_taken_away() {
        let (image, _) = create(&cluster(1), 3, vec![new_topic(1, "a", &[&[1]])]);
        let id = Uuid::from_u128(1);
        let alter = |change| Command::AlterTopicConfigs { changes: vec![(id, change), (Uuid::nil(), BTreeMap::new())] };
        let (image, outcomes) = apply(&image, &alter(setting("retention.ms", Some("5"))), 4);
        assert_eq!(outcomes, [Outcome::Done, Outcome::Refused(Refusal::UnknownTopic)]);
        assert_eq!(image.topic("a").unwrap().configs["retention.ms"], "5");
        let (image, _) = apply(&image, &alter(setting("retention.ms", None)), 5);
        assert!(image.topic("a").unwrap().configs.is_empty());

        let alter = |change| Command::AlterConfigs { changes: vec![(ConfigResource::BrokerDefault, change)] };
        let (image, outcomes) = apply(&image, &alter(setting("k", Some("v"))), 6);
        assert_eq!(outcomes, [Outcome::Done]);
        assert_eq!(image.config(&ConfigResource::BrokerDefault).unwrap()["k"], "v");
        let (image, _) = apply(&image, &alter(setting("k", None)), 7);
        assert_eq!(image.config(&ConfigResource::BrokerDefault), None);
    }

    #[test]
    fn blocks_of_producer_ids_never_overlap() {
        let image = cluster(1);
        let take = |count| Command::AllocateProducerIds { node_id: 1, count };
        let (image, one) = apply(&image, &take(1000), 4);
        let (image, two) = apply(&image, &take(10), 5);
        assert_eq!(one, [Outcome::ProducerIds { first: 0, count: 1000 }]);
        assert_eq!(two, [Outcome::ProducerIds { first: 1000, count: 10 }]);
        let (image, none) = apply(&image, &take(-5), 6);
        assert_eq!(none, [Outcome::ProducerIds { first: 1010, count: 0 }]);
        let (image, rest) = apply(&image, &take(i64::MAX), 7);
        assert_eq!(rest, [Outcome::ProducerIds { first: 1010, count: i64::MAX - 1010 }]);
        assert_eq!(apply(&image, &take(1), 8).1, [Outcome::ProducerIds { first: i64::MAX, count: 0 }]);
        let other = Command::AllocateProducerIds { node_id: 2, count: 1 };
        assert_eq!(apply(&image, &other, 9).1, [Outcome::Refused(Refusal::UnknownBroker(2))]);
    }

    #[test]
    fn applying_shares_what_it_does_not_change() {
        let topics = (0..2000u128).map(|n| new_topic(n + 1, &format!("t.{n}"), &[&[1]])).collect();
        let (before, outcomes) = create(&cluster(1), 3, topics);
        assert!(outcomes.iter().all(|o| *o == Outcome::Done));
        let (after, _) = create(&before, 4, vec![new_topic(9999, "one-more", &[&[1]])]);
        assert_eq!(after.topics.len(), 2001);
        for (name, topic) in &before.topics {
            assert!(Arc::ptr_eq(topic, after.topic(name).unwrap()));
        }
        let first = &before.topic("t.0").unwrap().partitions[0].replicas;
        assert!(Arc::ptr_eq(first, &after.topic("one-more").unwrap().partitions[0].replicas));
    }

    mod any_command {
        use super::*;
        use proptest::prelude::*;

        fn name() -> impl Strategy<Value = String> {
            "[ab._]{0,4}"
        }
        fn id() -> impl Strategy<Value = Uuid> {
            (0u128..6).prop_map(Uuid::from_u128)
        }
        fn assignments() -> impl Strategy<Value = Vec<Vec<i32>>> {
            prop::collection::vec(prop::collection::vec(-1i32..5, 0..4), 0..5)
        }
        fn change() -> impl Strategy<Value = BTreeMap<String, Option<String>>> {
            prop::collection::btree_map("[xy]", prop::option::of("[0-9]"), 0..3)
        }
        fn command() -> impl Strategy<Value = Command> {
            let configs = prop::collection::btree_map("[xy]", "[0-9]", 0..2);
            let new = (id(), name(), assignments(), configs).prop_map(|(id, name, assignments, configs)| NewTopic {
                id,
                name,
                assignments,
                configs,
            });
            let grow = (id(), 0u32..5, assignments()).prop_map(|(id, first, assignments)| NewPartitions {
                id,
                first,
                assignments,
            });
            prop_oneof![
                (0u16..2).prop_map(|l| Command::InitCluster { cluster_id: "c".into(), feature_level: l }),
                (-1i32..5).prop_map(register),
                prop::collection::vec(new, 0..4).prop_map(|topics| Command::CreateTopics { topics }),
                prop::collection::vec(id(), 0..3).prop_map(|ids| Command::DeleteTopics { ids }),
                prop::collection::vec(grow, 0..3).prop_map(|topics| Command::CreatePartitions { topics }),
                prop::collection::vec((id(), change()), 0..3)
                    .prop_map(|changes| Command::AlterTopicConfigs { changes }),
                change().prop_map(|c| Command::AlterConfigs { changes: vec![(ConfigResource::Broker(1), c)] }),
                (-1i32..5, any::<i64>()).prop_map(|(node_id, count)| Command::AllocateProducerIds { node_id, count }),
            ]
        }

        proptest! {
            #[test]
            fn leaves_an_image_that_agrees_with_itself(commands in prop::collection::vec(command(), 0..30)) {
                let mut image = cluster(2);
                for (n, command) in commands.iter().enumerate() {
                    let index = 10 + n as u64;
                    let (next, outcomes) = apply(&image, command, index);
                    prop_assert_eq!(outcomes.len(), command.changes());
                    prop_assert_eq!(&apply(&image, command, index).0, &next);
                    prop_assert_eq!(next.index, index);
                    prop_assert!(next.next_producer_id >= image.next_producer_id);
                    prop_assert_eq!(next.topics.len(), next.topic_names.len());
                    let mut collidable = 0;
                    for (name, topic) in &next.topics {
                        prop_assert_eq!(name, &topic.name);
                        prop_assert_eq!(next.topic_names.get(&topic.id), Some(name));
                        if name.contains(['.', '_']) {
                            collidable += 1;
                            prop_assert_eq!(next.collision(name), Some(name));
                        }
                        for p in topic.partitions.iter() {
                            prop_assert!(p.isr.iter().all(|b| p.replicas.contains(b)));
                            prop_assert!(p.leader == -1 || p.isr.contains(&p.leader));
                        }
                    }
                    prop_assert_eq!(next.collidable.len(), collidable);
                    let json = serde_json::to_vec(&next).unwrap();
                    prop_assert_eq!(&serde_json::from_slice::<Image>(&json).unwrap(), &next);
                    let json = serde_json::to_vec(command).unwrap();
                    prop_assert_eq!(&serde_json::from_slice::<Command>(&json).unwrap(), command);
                    image = next;
                }
            }
        }
    }
}

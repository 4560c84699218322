//! What changed between two images: pure. Shared structure is skipped, so the cost follows the change, not the cluster.

use super::{ConfigResource, Image, Topic};
use imbl::ordmap::DiffItem;
use std::sync::Arc;

/// The difference of two images, the older first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Topics that are new, by name order. A topic deleted and created again (another id) stands in both lists.
    pub created: Vec<Arc<Topic>>,
    /// Topics that are gone, as they were.
    pub deleted: Vec<Arc<Topic>>,
    /// Topics that changed.
    pub changed: Vec<TopicChange>,
    /// Resources other than topics whose settings changed.
    pub configs: Vec<ConfigResource>,
    /// Brokers that registered, registered again, changed or went.
    pub brokers: Vec<i32>,
}

/// One topic that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicChange {
    pub before: Arc<Topic>,
    pub after: Arc<Topic>,
    /// Whether an override of a setting changed.
    pub configs: bool,
    /// Partitions that both have and that changed in anything (replicas, ISR, leader, an epoch), ascending.
    pub partitions: Vec<i32>,
    /// First partition added; those from it to the end of `after.partitions` are new.
    pub grown_from: Option<i32>,
}

impl Delta {
    /// What changed from `before` to `after`.
    pub fn between(before: &Image, after: &Image) -> Delta {
        let mut delta = Delta::default();
        for item in before.topics.diff(&after.topics) {
            match item {
                DiffItem::Add(_, topic) => delta.created.push(topic.clone()),
                DiffItem::Remove(_, topic) => delta.deleted.push(topic.clone()),
                DiffItem::Update { old: (_, old), new: (_, new) } if old.id != new.id => {
                    delta.deleted.push(old.clone());
                    delta.created.push(new.clone());
                }
                DiffItem::Update { old: (_, old), new: (_, new) } => delta.changed.push(TopicChange::between(old, new)),
            }
        }
        delta.configs = before.configs.diff(&after.configs).map(|item| key(item).clone()).collect();
        delta.brokers = before.brokers.diff(&after.brokers).map(|item| *key(item)).collect();
        delta
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// Whether settings that `node_id` goes by changed: its own or the default of all brokers.
    pub fn broker_configs_changed(&self, node_id: i32) -> bool {
        self.configs.iter().any(|r| *r == ConfigResource::BrokerDefault || *r == ConfigResource::Broker(node_id))
    }
}

impl TopicChange {
    fn between(before: &Arc<Topic>, after: &Arc<Topic>) -> TopicChange {
        let both = before.partitions.iter().zip(after.partitions.iter()).enumerate();
        TopicChange {
            configs: before.configs != after.configs,
            partitions: both.filter(|(_, (old, new))| old != new).map(|(n, _)| n as i32).collect(),
            grown_from: (after.partitions.len() > before.partitions.len()).then_some(before.partitions.len() as i32),
            before: before.clone(),
            after: after.clone(),
        }
    }
}

fn key<'a, K, V>(item: DiffItem<'a, 'a, K, V>) -> &'a K {
    match item {
        DiffItem::Add(k, _) | DiffItem::Remove(k, _) | DiffItem::Update { new: (k, _), .. } => k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{
        Command, NewPartitions,
        apply::{
            apply,
            tests::{cluster, new_topic, register},
        },
    };
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn names(topics: &[Arc<Topic>]) -> Vec<&str> {
        topics.iter().map(|t| &*t.name).collect()
    }

    fn many() -> Image {
        let topics = (0..1000u128).map(|n| new_topic(n + 1, &format!("t{n}"), &[&[1], &[1]])).collect();
        apply(&cluster(1), &Command::CreateTopics { topics }, 10).0
    }

    #[test]
    fn an_image_does_not_differ_from_itself() {
        let image = many();
        assert!(Delta::between(&image, &image.clone()).is_empty());
        assert_eq!(Delta::between(&Image::default(), &image).created.len(), 1000);
        assert_eq!(Delta::between(&image, &Image::default()).deleted.len(), 1000);
    }

    #[test]
    fn topics_created_deleted_and_recreated_are_told_apart() {
        let image = many();
        let ids = vec![Uuid::from_u128(1), Uuid::from_u128(2)];
        let (after, _) = apply(&image, &Command::DeleteTopics { ids }, 11);
        let topics = vec![new_topic(5001, "t0", &[&[1]]), new_topic(5002, "new", &[&[1]])];
        let (after, _) = apply(&after, &Command::CreateTopics { topics }, 12);
        let delta = Delta::between(&image, &after);
        assert_eq!(names(&delta.created), ["new", "t0"]);
        assert_eq!(names(&delta.deleted), ["t0", "t1"]);
        assert_eq!(delta.deleted[0].id, Uuid::from_u128(1));
        assert!(delta.changed.is_empty() && delta.configs.is_empty() && delta.brokers.is_empty());
    }

    #[test]
    fn a_change_says_which_partitions_and_whether_settings() {
        let image = many();
        let grow = NewPartitions { id: Uuid::from_u128(8), first: 2, assignments: vec![vec![1]] };
        let (after, _) = apply(&image, &Command::CreatePartitions { topics: vec![grow] }, 11);
        let change = BTreeMap::from([("retention.ms".to_string(), Some("1".to_string()))]);
        let alter = Command::AlterTopicConfigs { changes: vec![(Uuid::from_u128(9), change)] };
        let (mut after, _) = apply(&after, &alter, 12);
        let topic = after.topic("t8").unwrap().clone();
        let mut partitions = topic.partitions.to_vec();
        partitions[1].leader_epoch += 1;
        after.put_topic(Topic { partitions: partitions.into(), ..(*topic).clone() });

        let delta = Delta::between(&image, &after);
        let found: Vec<_> = delta
            .changed
            .iter()
            .map(|c| (&*c.after.name, c.configs, c.partitions.clone(), c.grown_from, c.before.partitions.len()))
            .collect();
        assert_eq!(found, [("t7", false, vec![], Some(2), 2), ("t8", true, vec![1], None, 2)]);
        assert!(delta.created.is_empty() && delta.deleted.is_empty());
    }

    #[test]
    fn settings_and_brokers_are_named() {
        let image = many();
        let set = || BTreeMap::from([("k".to_string(), Some("v".to_string()))]);
        let changes = vec![(ConfigResource::Broker(1), set()), (ConfigResource::Group("g".into()), set())];
        let (after, _) = apply(&image, &Command::AlterConfigs { changes }, 11);
        let delta = Delta::between(&image, &after);
        assert_eq!(delta.configs, [ConfigResource::Broker(1), ConfigResource::Group("g".into())]);
        assert!(delta.broker_configs_changed(1) && !delta.broker_configs_changed(2));
        assert_eq!(Delta::between(&after, &apply(&after, &register(1), 12).0).brokers, [1]);
    }
}

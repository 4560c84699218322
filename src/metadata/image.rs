//! The cluster's state at one point of the metadata log: immutable, sharing structure with the one before.
//!
//! Compact on purpose: equal replica lists are one allocation, a topic without overrides has none for them, and the partitions of a
//! topic lie in one slice. 10,000 partitions of 10,000 topics take about 4 MiB, of one topic about half a MiB.

use super::command::ConfigResource;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// Settings by name.
pub type Configs = BTreeMap<String, String>;

/// Everything the cluster has agreed on. Cheap to clone. Serialises as a snapshot does (lists, replica lists numbered).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Image {
    /// Index of the last command applied (the raft log index), 0 = none.
    pub index: u64,
    /// Kafka's cluster id (22 characters of base64url); empty before the cluster was initialised.
    pub cluster_id: Arc<str>,
    /// Feature level that gates commands; 0 before the cluster was initialised.
    pub feature_level: u16,
    /// Topics by name.
    pub topics: OrdMap<Arc<str>, Arc<Topic>>,
    /// Topic names by id.
    pub topic_names: OrdMap<Uuid, Arc<str>>,
    /// Registered brokers by node id.
    pub brokers: OrdMap<i32, Arc<BrokerRegistration>>,
    /// Settings by resource other than topics; a resource without any has no entry.
    pub configs: OrdMap<ConfigResource, Arc<Configs>>,
    /// Next producer id not yet handed to any broker.
    pub next_producer_id: i64,
    /// Derived: names that hold `.` or `_`, by their form with `_` only (Kafka's metric names cannot tell the two apart, so no two
    /// topics may share a form).
    pub collidable: OrdMap<Arc<str>, Arc<str>>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: Uuid,
    pub name: Arc<str>,
    /// Index = partition.
    pub partitions: Arc<[PartitionFacts]>,
    /// Overrides of topic settings.
    pub configs: Arc<Configs>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    /// Node ids, preferred leader first.
    pub replicas: Arc<[i32]>,
    /// In-sync ones.
    pub isr: Arc<[i32]>,
    /// Leader's node id, -1 = none.
    pub leader: i32,
    /// Rises with each change of leader.
    pub leader_epoch: i32,
    /// Rises with each change of anything here.
    pub partition_epoch: i32,
}

/// A broker that has registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    pub node_id: i32,
    /// Rises with each registration: the log index of the command (as Kafka's broker epoch is).
    pub epoch: i64,
    /// Directory id, so that another node's data is recognised.
    pub directory_id: Uuid,
    /// Listener told to clients; `None` = the address a client came in by.
    pub advertised: Option<(Arc<str>, u16)>,
    pub rack: Option<Arc<str>>,
    pub fenced: bool,
    /// Feature levels that its release understands.
    pub feature_level_max: u16,
}

impl Image {
    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }
    /// A topic by id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_names.get(&id)?)
    }
    /// Overrides set on a resource other than a topic.
    pub fn config(&self, resource: &ConfigResource) -> Option<&Arc<Configs>> {
        self.configs.get(resource)
    }
    /// The topic whose name collides with `name` in metric names (equal once each `.` is a `_`), if there is one (Kafka's
    /// `Topic.hasCollision`). Takes time in the logarithm of the number of topics.
    pub fn collision(&self, name: &str) -> Option<&Arc<str>> {
        self.collidable.get(collidable_form(name)?.as_str())
    }

    /// Adds a topic, or replaces the one of that name.
    pub(super) fn put_topic(&mut self, topic: Topic) {
        if let Some(form) = collidable_form(&topic.name) {
            let form: Arc<str> = if *form == *topic.name { topic.name.clone() } else { form.into() };
            self.collidable.insert(form, topic.name.clone());
        }
        self.topic_names.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), Arc::new(topic));
    }

    /// Removes a topic; `false` when there is none of that id.
    pub(super) fn remove_topic(&mut self, id: Uuid) -> bool {
        let Some(name) = self.topic_names.remove(&id) else { return false };
        self.topics.remove(&name);
        if let Some(form) = collidable_form(&name) {
            self.collidable.remove(form.as_str());
        }
        true
    }
}

/// `name` with each `.` as `_`; `None` when it holds neither, for then it collides with nothing but itself.
fn collidable_form(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// Gives equal lists of node ids one allocation.
#[derive(Debug, Default)]
pub(super) struct Lists(HashMap<Arc<[i32]>, Arc<[i32]>>);

impl Lists {
    /// Lists that one topic of `image` uses already: on a cluster of one node that is every list there is.
    pub(super) fn of(image: &Image) -> Lists {
        let mut lists = Lists::default();
        for p in image.topics.get_min().iter().flat_map(|(_, t)| t.partitions.iter().take(64)) {
            lists.0.entry(p.replicas.clone()).or_insert_with(|| p.replicas.clone());
        }
        lists
    }
    /// The one allocation of `list`.
    pub(super) fn share(&mut self, list: &[i32]) -> Arc<[i32]> {
        if let Some(known) = self.0.get(list) {
            return known.clone();
        }
        let list: Arc<[i32]> = list.into();
        self.0.insert(list.clone(), list.clone());
        list
    }
}

/// What a snapshot holds: an image with maps as lists and each distinct list of node ids once.
#[derive(Serialize, Deserialize)]
struct Stored {
    index: u64,
    cluster_id: Arc<str>,
    feature_level: u16,
    next_producer_id: i64,
    brokers: Vec<Arc<BrokerRegistration>>,
    configs: Vec<(ConfigResource, Arc<Configs>)>,
    /// Distinct lists of node ids, numbered by their place.
    lists: Vec<Arc<[i32]>>,
    topics: Vec<StoredTopic>,
}

#[derive(Serialize, Deserialize)]
struct StoredTopic {
    id: Uuid,
    name: Arc<str>,
    #[serde(default, skip_serializing_if = "no_configs")]
    configs: Arc<Configs>,
    /// Runs of equal partitions: (how many, number of the replica list, of the ISR, leader, leader epoch, partition epoch).
    partitions: Vec<(u32, u32, u32, i32, i32, i32)>,
}

fn no_configs(configs: &Arc<Configs>) -> bool {
    configs.is_empty()
}

impl From<Image> for Stored {
    fn from(image: Image) -> Stored {
        let mut lists: Vec<Arc<[i32]>> = Vec::new();
        let mut numbers: HashMap<Arc<[i32]>, u32> = HashMap::new();
        let mut number = |list: &Arc<[i32]>| {
            *numbers.entry(list.clone()).or_insert_with(|| {
                lists.push(list.clone());
                lists.len() as u32 - 1
            })
        };
        let mut topics = Vec::with_capacity(image.topics.len());
        for topic in image.topics.values() {
            let mut runs: Vec<(u32, u32, u32, i32, i32, i32)> = Vec::new();
            for p in topic.partitions.iter() {
                let of = (number(&p.replicas), number(&p.isr), p.leader, p.leader_epoch, p.partition_epoch);
                match runs.last_mut() {
                    Some(run) if (run.1, run.2, run.3, run.4, run.5) == of => run.0 += 1,
                    _ => runs.push((1, of.0, of.1, of.2, of.3, of.4)),
                }
            }
            let (name, configs) = (topic.name.clone(), topic.configs.clone());
            topics.push(StoredTopic { id: topic.id, name, configs, partitions: runs });
        }
        Stored {
            index: image.index,
            cluster_id: image.cluster_id,
            feature_level: image.feature_level,
            next_producer_id: image.next_producer_id,
            brokers: image.brokers.values().cloned().collect(),
            configs: image.configs.iter().map(|(r, c)| (r.clone(), c.clone())).collect(),
            lists,
            topics,
        }
    }
}

impl TryFrom<Stored> for Image {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Image, String> {
        let mut lists = Lists::default();
        let numbered: Vec<Arc<[i32]>> = stored.lists.iter().map(|l| lists.share(l)).collect();
        let list = |number: u32| {
            numbered.get(number as usize).cloned().ok_or_else(|| format!("no list of node ids has number {number}"))
        };
        let mut image = Image {
            index: stored.index,
            cluster_id: stored.cluster_id,
            feature_level: stored.feature_level,
            next_producer_id: stored.next_producer_id,
            brokers: stored.brokers.into_iter().map(|b| (b.node_id, b)).collect(),
            configs: stored.configs.into_iter().collect(),
            ..Image::default()
        };
        let none: Arc<Configs> = Arc::default();
        for topic in stored.topics {
            let mut partitions = Vec::new();
            for (count, replicas, isr, leader, leader_epoch, partition_epoch) in topic.partitions {
                let (replicas, isr) = (list(replicas)?, list(isr)?);
                let facts = PartitionFacts { replicas, isr, leader, leader_epoch, partition_epoch };
                if count as usize > i32::MAX as usize - partitions.len() {
                    return Err(format!("topic {} has too many partitions", topic.name));
                }
                partitions.resize(partitions.len() + count as usize, facts);
            }
            let configs = if topic.configs.is_empty() { none.clone() } else { topic.configs };
            image.put_topic(Topic { id: topic.id, name: topic.name, partitions: partitions.into(), configs });
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u128, name: &str, partitions: &[PartitionFacts]) -> Topic {
        Topic { id: Uuid::from_u128(id), name: name.into(), partitions: partitions.into(), configs: Arc::default() }
    }

    fn facts(replicas: &[i32], leader_epoch: i32) -> PartitionFacts {
        let list: Arc<[i32]> = replicas.into();
        PartitionFacts {
            isr: list.clone(),
            leader: list[0],
            replicas: list,
            leader_epoch,
            partition_epoch: leader_epoch,
        }
    }

    fn there_and_back(image: &Image) -> Image {
        serde_json::from_slice(&serde_json::to_vec(image).unwrap()).unwrap()
    }

    #[test]
    fn an_image_survives_its_serialised_form() {
        let mut image = Image { index: 9, cluster_id: "c".into(), feature_level: 1, ..Image::default() };
        image.next_producer_id = 7000;
        image.put_topic(topic(1, "a.b", &[facts(&[1, 2], 0), facts(&[1, 2], 0), facts(&[2, 1], 3)]));
        image.put_topic(topic(2, "plain", &[facts(&[1], 0)]));
        image.put_topic(topic(3, "none", &[]));
        let mut with = topic(4, "cfg", &[facts(&[1, 2], 0)]);
        with.configs = Arc::new(BTreeMap::from([("retention.ms".to_string(), "1".to_string())]));
        image.put_topic(with);
        image.brokers.insert(
            1,
            Arc::new(BrokerRegistration {
                node_id: 1,
                epoch: 3,
                directory_id: Uuid::from_u128(77),
                advertised: Some(("h".into(), 9092)),
                rack: Some("r".into()),
                fenced: false,
                feature_level_max: 1,
            }),
        );
        let one = Arc::new(BTreeMap::from([("k".to_string(), "v".to_string())]));
        for resource in [
            ConfigResource::Broker(1),
            ConfigResource::BrokerDefault,
            ConfigResource::Group("g".into()),
            ConfigResource::ClientMetrics("m".into()),
        ] {
            image.configs.insert(resource, one.clone());
        }
        assert_eq!(there_and_back(&image), image);
        assert_eq!(there_and_back(&Image::default()), Image::default());
    }

    #[test]
    fn equal_replica_lists_are_one_allocation_after_reading_back() {
        let mut image = Image::default();
        for n in 0..100u128 {
            image.put_topic(topic(n, &format!("t{n}"), &[facts(&[1], 0), facts(&[1], 0)]));
        }
        let image = there_and_back(&image);
        let first = image.topics.get_min().unwrap().1.partitions[0].replicas.clone();
        for p in image.topics.values().flat_map(|t| t.partitions.iter()) {
            assert!(Arc::ptr_eq(&p.replicas, &first) && Arc::ptr_eq(&p.isr, &first));
        }
        let none = &image.topics.get_min().unwrap().1.configs;
        assert!(image.topics.values().all(|t| Arc::ptr_eq(&t.configs, none)));
    }

    #[test]
    fn a_stored_form_that_contradicts_itself_is_refused() {
        let whole = |lists: &str, run: &str| {
            format!(
                r#"{{"index":1,"cluster_id":"c","feature_level":1,"next_producer_id":0,"brokers":[],"configs":[],"lists":{lists},
                "topics":[{{"id":"00000000-0000-0000-0000-000000000009","name":"t","partitions":[{run}]}}]}}"#
            )
        };
        assert!(serde_json::from_str::<Image>(&whole("[[1]]", "[1,0,0,1,0,0]")).is_ok());
        assert!(serde_json::from_str::<Image>(&whole("[[1]]", "[1,0,1,1,0,0]")).is_err());
        assert!(serde_json::from_str::<Image>(&whole("[]", "[1,0,0,1,0,0]")).is_err());
        assert!(serde_json::from_str::<Image>(&whole("[[1]]", "[1,0,0,1,0,0],[4294967295,0,0,1,0,0]")).is_err());
    }

    #[test]
    fn names_that_differ_in_dots_and_underscores_only_collide() {
        let mut image = Image::default();
        image.put_topic(topic(1, "a.b_c", &[]));
        image.put_topic(topic(2, "abc", &[]));
        assert_eq!(image.collision("a_b.c").map(|n| &**n), Some("a.b_c"));
        assert_eq!(image.collision("a.b_c").map(|n| &**n), Some("a.b_c"));
        assert_eq!(image.collision("a.bc"), None);
        assert_eq!(image.collision("abc"), None);
        assert!(image.remove_topic(Uuid::from_u128(1)));
        assert!(!image.remove_topic(Uuid::from_u128(1)));
        assert_eq!(image.collision("a_b.c"), None);
        assert_eq!(image.topics.len(), 1);
    }
}

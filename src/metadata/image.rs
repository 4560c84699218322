//! The cluster's state at one point of the metadata log: immutable, sharing structure with the one before.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// Everything the cluster has agreed on. Cheap to clone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Image {
    /// Index of the last command applied (the raft log index), 0 = none.
    pub index: u64,
    /// Kafka's cluster id (22 characters of base64url).
    pub cluster_id: Arc<str>,
    /// Feature level that gates commands.
    pub feature_level: u16,
    /// Topics by name.
    pub topics: OrdMap<Arc<str>, Arc<Topic>>,
    /// Topic names by id.
    pub topic_names: OrdMap<Uuid, Arc<str>>,
    /// Registered brokers by node id.
    pub brokers: OrdMap<i32, Arc<BrokerRegistration>>,
    /// Settings by resource other than topics.
    pub configs: OrdMap<ConfigResource, Arc<BTreeMap<String, String>>>,
    /// Next producer id not yet handed to any broker.
    pub next_producer_id: i64,
}

use super::command::ConfigResource;

/// One topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Topic {
    pub id: Uuid,
    pub name: Arc<str>,
    /// Index = partition.
    pub partitions: imbl::Vector<PartitionFacts>,
    /// Overrides of topic settings.
    pub configs: Arc<BTreeMap<String, String>>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Rises with each registration.
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
    pub fn config(&self, resource: &ConfigResource) -> Option<&Arc<BTreeMap<String, String>>> {
        self.configs.get(resource)
    }
}

//! The commands that change the [`super::Image`], and what they answer. One command is one raft entry and may carry many changes; each
//! change of it succeeds or is refused alone (as Kafka answers topic by topic).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What settings hang on, other than topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConfigResource {
    Broker(i32),
    BrokerDefault,
    Group(String),
    ClientMetrics(String),
}

/// A change to the cluster. Ids and assignments are chosen by the proposer, so that applying is pure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// First command of a new cluster.
    InitCluster {
        cluster_id: String,
        feature_level: u16,
    },
    RegisterBroker {
        node_id: i32,
        directory_id: Uuid,
        advertised: Option<(String, u16)>,
        rack: Option<String>,
        feature_level_max: u16,
        clean: bool,
    },
    /// Outcomes: one a topic.
    CreateTopics {
        topics: Vec<NewTopic>,
    },
    /// By id. Outcomes: one an id.
    DeleteTopics {
        ids: Vec<Uuid>,
    },
    /// Grows topics: (topic id, replicas of each partition added). Outcomes: one a topic.
    CreatePartitions {
        topics: Vec<(Uuid, Vec<Vec<i32>>)>,
    },
    /// Replaces the overrides named: `None` removes one. Outcomes: one.
    AlterTopicConfigs {
        changes: Vec<(Uuid, BTreeMap<String, Option<String>>)>,
    },
    AlterConfigs {
        changes: Vec<(ConfigResource, BTreeMap<String, Option<String>>)>,
    },
    /// Hands a block of producer ids to a broker. Outcome: `ProducerIds`.
    AllocateProducerIds {
        node_id: i32,
        count: i64,
    },
}

/// A topic to create.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    pub id: Uuid,
    pub name: String,
    /// Replicas of each partition, preferred leader first.
    pub assignments: Vec<Vec<i32>>,
    pub configs: BTreeMap<String, String>,
}

/// Answer to one change of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    /// First id and count.
    ProducerIds {
        first: i64,
        count: i64,
    },
    Refused(Refusal),
}

/// Why a change was not made. Mapped to Kafka's codes in `api/errors.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    TopicExists,
    /// `.` and `_` collide in metric names: the name of the other topic.
    TopicNameCollision(String),
    UnknownTopic,
    UnknownBroker(i32),
    /// Fewer partitions asked for than there are.
    NotMorePartitions,
    /// The command needs a higher feature level.
    FeatureLevel {
        needed: u16,
        have: u16,
    },
}

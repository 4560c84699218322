//! The commands that change the [`super::Image`], and what they answer. One command is one raft entry and may carry many changes; each
//! change of it succeeds or is refused alone (as Kafka answers topic by topic).
//!
//! The serialised form (JSON) is what the metadata log holds: names of variants and fields never change, new fields get a default.

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

impl ConfigResource {
    /// Length of its name, bytes (a client may give a group any name that fits a request).
    fn name_bytes(&self) -> usize {
        match self {
            ConfigResource::Broker(_) | ConfigResource::BrokerDefault => 12,
            ConfigResource::Group(name) | ConfigResource::ClientMetrics(name) => name.len(),
        }
    }
}

/// Feature level of a cluster made by this release, and the highest it understands. Each [`Command`] names the level it needs
/// ([`Command::feature_level`]).
pub const FEATURE_LEVEL: u16 = 1;

/// A change to the cluster. Ids and assignments are chosen by the proposer, so that applying is pure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// First command of a new cluster; changes nothing in one that has an id. Outcomes: one.
    InitCluster { cluster_id: String, feature_level: u16 },
    /// A broker has started. `FeatureLevel` when its release does not understand the cluster's level. Outcomes: one.
    RegisterBroker {
        node_id: i32,
        directory_id: Uuid,
        advertised: Option<(String, u16)>,
        rack: Option<String>,
        feature_level_max: u16,
        /// Whether its last stop was clean.
        clean: bool,
    },
    /// Outcomes: one a topic.
    CreateTopics { topics: Vec<NewTopic> },
    /// By id. Outcomes: one an id.
    DeleteTopics { ids: Vec<Uuid> },
    /// Outcomes: one a topic.
    CreatePartitions { topics: Vec<NewPartitions> },
    /// Replaces the overrides named: `None` removes one. Outcomes: one a change.
    AlterTopicConfigs { changes: Vec<(Uuid, BTreeMap<String, Option<String>>)> },
    /// The same for other resources. Outcomes: one a change.
    AlterConfigs { changes: Vec<(ConfigResource, BTreeMap<String, Option<String>>)> },
    /// Hands a block of producer ids to a broker. Outcomes: one, `ProducerIds`.
    AllocateProducerIds { node_id: i32, count: i64 },
}

impl Command {
    /// The feature level that the cluster must have before this command is applied.
    pub fn feature_level(&self) -> u16 {
        match self {
            Command::InitCluster { .. } => 0,
            Command::RegisterBroker { .. }
            | Command::CreateTopics { .. }
            | Command::DeleteTopics { .. }
            | Command::CreatePartitions { .. }
            | Command::AlterTopicConfigs { .. }
            | Command::AlterConfigs { .. }
            | Command::AllocateProducerIds { .. } => 1,
        }
    }

    /// How many outcomes it has.
    pub fn changes(&self) -> usize {
        match self {
            Command::InitCluster { .. } | Command::RegisterBroker { .. } | Command::AllocateProducerIds { .. } => 1,
            Command::CreateTopics { topics } => topics.len(),
            Command::DeleteTopics { ids } => ids.len(),
            Command::CreatePartitions { topics } => topics.len(),
            Command::AlterTopicConfigs { changes } => changes.len(),
            Command::AlterConfigs { changes } => changes.len(),
        }
    }

    /// An estimate of its serialised size, bytes (a string that needs escapes takes more).
    pub fn size_bytes(&self) -> usize {
        let lists = |a: &[Vec<i32>]| a.iter().map(|l| 3 + 4 * l.len()).sum::<usize>();
        let alter = |c: &BTreeMap<String, Option<String>>| {
            c.iter().map(|(k, v)| 8 + k.len() + v.as_ref().map_or(4, String::len)).sum::<usize>()
        };
        64 + match self {
            Command::InitCluster { .. } | Command::RegisterBroker { .. } | Command::AllocateProducerIds { .. } => 512,
            Command::CreateTopics { topics } => topics
                .iter()
                .map(|t| {
                    let configs = t.configs.iter().map(|(k, v)| 8 + k.len() + v.len()).sum::<usize>();
                    96 + t.name.len() + lists(&t.assignments) + configs
                })
                .sum(),
            Command::DeleteTopics { ids } => 40 * ids.len(),
            Command::CreatePartitions { topics } => topics.iter().map(|t| 80 + lists(&t.assignments)).sum(),
            Command::AlterTopicConfigs { changes } => changes.iter().map(|(_, c)| 48 + alter(c)).sum(),
            Command::AlterConfigs { changes } => changes.iter().map(|(r, c)| 64 + r.name_bytes() + alter(c)).sum(),
        }
    }
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    pub id: Uuid,
    pub name: String,
    /// Replicas of each partition, preferred leader first.
    pub assignments: Vec<Vec<i32>>,
    pub configs: BTreeMap<String, String>,
}

/// Partitions to add to a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPartitions {
    pub id: Uuid,
    /// Partitions that the topic had when the assignments were chosen. If it has another number by then the change is refused
    /// (`NotMorePartitions`), so that two requests at once do not add twice.
    pub first: u32,
    /// Replicas of each partition added, preferred leader first.
    pub assignments: Vec<Vec<i32>>,
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

/// Why a change was not made. The sentence (`Display`) goes to whoever asked; Kafka's codes are in `api/errors.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("a topic of this name exists")]
    TopicExists,
    /// `.` and `_` collide in metric names: the name of the other topic.
    #[error("the name collides with topic {0}: '.' and '_' are one in metric names")]
    TopicNameCollision(String),
    #[error("this server has no such topic")]
    UnknownTopic,
    #[error("broker {0} is not registered")]
    UnknownBroker(i32),
    /// The topic has another number of partitions than the proposer took it to have, or none are added.
    #[error("the number of partitions changed meanwhile")]
    NotMorePartitions,
    /// The command needs a higher feature level.
    #[error("this needs feature level {needed}; the cluster has {have}")]
    FeatureLevel { needed: u16, have: u16 },
}

//! Settings: one table of every name, with type, default, meaning and whether it acts here.
//!
//! Belongs here: the table ([`table`]), reading and checking what a node was started with ([`load`], its listeners in [`listeners`]), and turning names into typed
//! values ([`resolve`]). Must not: know brokers, topics that exist, or requests. A topic's value comes from the topic itself, else from the
//! broker settings that are its synonyms (dynamic for this broker, dynamic for all, static), else from the default.

mod check;
mod listeners;
mod load;
mod resolve;
mod table;

pub use check::{nearest_of, validate_broker_dynamic, validate_group, validate_topic};
pub use listeners::Listener;
pub use table::{
    broker_definition, broker_definitions, group_definition, group_definitions, topic_definition, topic_definitions,
};

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

/// What a resolved setting came from; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Kafka's default, or ours.
    Default,
    /// The settings file.
    File,
    /// An environment variable.
    Environment,
    /// `--set`, or the embedding program.
    CommandLine,
    /// Set at run time for all brokers.
    DynamicDefault,
    /// Set at run time for this broker.
    DynamicBroker,
    /// Set on the topic.
    Topic,
    /// Set on the group.
    Group,
}

/// Static configuration of one node: what it was started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Kafka listeners, at least one; the first is the one that other brokers are told.
    pub listeners: Vec<Listener>,
    /// HTTP listener, `HOST:PORT`.
    pub http: String,
    /// node.id.
    pub node_id: i32,
    /// Values given by file, environment or command line: name → (value, source). Validated.
    pub given: Arc<BTreeMap<String, (String, Source)>>,
    /// How long a graceful stop may take, ms.
    pub stop_timeout_ms: u64,
}

/// Broker-wide settings resolved and typed (static ones and the cluster's dynamic ones laid over them).
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// auto.create.topics.enable.
    pub auto_create_topics: bool,
    /// num.partitions, 1 or more.
    pub num_partitions: i32,
    /// default.replication.factor, 1 or more.
    pub default_replication_factor: i16,
    /// delete.topic.enable.
    pub delete_topic_enable: bool,
    /// socket.request.max.bytes.
    pub socket_request_max_bytes: usize,
    /// fetch.max.bytes: the most one fetch is answered with.
    pub fetch_max_bytes: usize,
    /// connections.max.idle.ms; `u64::MAX` = never closed.
    pub connections_max_idle_ms: u64,
    /// max.connections.
    pub max_connections: usize,
    /// max.connections.per.ip.
    pub max_connections_per_ip: usize,
    /// max.connections.per.ip.overrides.
    pub max_connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// producer.id.expiration.ms.
    pub producer_id_expiration_ms: i64,
    /// log.retention.check.interval.ms.
    pub retention_check_interval_ms: u64,
    /// max.incremental.fetch.session.cache.slots.
    pub fetch_session_slots: usize,
    /// max.request.partition.size.limit: most partitions in one answer of DescribeTopicPartitions.
    pub request_partitions_max: usize,
    /// millstream.figures: histograms, append clocks and series are kept.
    pub figures: bool,
    /// millstream.histograms.max: most latency histograms kept.
    pub histograms_max: usize,
    /// What the group coordinator goes by.
    pub groups: GroupSettings,
    /// offsets.topic.num.partitions, 1 or more.
    pub offsets_topic_partitions: i32,
    /// offsets.topic.replication.factor, 1 or more; fewer where there are fewer brokers.
    pub offsets_topic_replication_factor: i16,
    /// offsets.topic.segment.bytes.
    pub offsets_topic_segment_bytes: i32,
    /// offsets.retention.check.interval.ms.
    pub offsets_retention_check_interval_ms: u64,
}

/// Settings of the group coordinator: `group.*` and `offset*` of `docs/protocol.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// group.min.session.timeout.ms.
    pub session_timeout_min_ms: i32,
    /// group.max.session.timeout.ms.
    pub session_timeout_max_ms: i32,
    /// group.initial.rebalance.delay.ms: a new group waits so long for further first members, restarted by each, ten times as long at most.
    pub initial_rebalance_delay_ms: u64,
    /// group.max.size: most members of a group.
    pub size_max: usize,
    /// offset.metadata.max.bytes.
    pub offset_metadata_bytes_max: usize,
    /// offsets.retention.minutes, in ms.
    pub offsets_retention_ms: i64,
    /// offsets.retention.minutes was given by a person: then offsets expire even where they still point into retained data (as in Kafka).
    pub offsets_retention_given: bool,
}

/// Settings of one topic resolved and typed: topic override, else broker synonym, else default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// cleanup.policy names `delete`.
    pub cleanup_delete: bool,
    /// cleanup.policy names `compact`.
    pub cleanup_compact: bool,
    /// max.message.bytes: largest record batch.
    pub max_message_bytes: usize,
    /// min.insync.replicas, 1 or more.
    pub min_insync_replicas: i32,
    /// message.timestamp.type=LogAppendTime.
    pub log_append_time: bool,
    /// message.timestamp.before.max.ms; `i64::MAX` = any.
    pub timestamp_before_max_ms: i64,
    /// message.timestamp.after.max.ms; `i64::MAX` = any.
    pub timestamp_after_max_ms: i64,
    /// compression.type; `None` = producer.
    pub compression: Option<u8>,
    /// flush.messages; `i64::MAX` = never.
    pub flush_messages: i64,
    /// flush.ms; `i64::MAX` = never.
    pub flush_ms: i64,
    /// segment.jitter.ms: upper bound (exclusive) of what a partition draws and takes off `log.segment_ms`; 0 = none.
    pub segment_jitter_ms: i64,
    /// millstream.durability=fsync.
    pub durable: bool,
    /// millstream.validate=full.
    pub validate_full: bool,
    /// What storage wants. `retention_ms` and `retention_bytes` are -1 unless cleanup.policy names `delete`.
    pub log: millstream_storage::LogConfig,
}

/// Type of a setting, as DescribeConfigs names them (Kafka's `ConfigDef.Type` codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

/// Whether a setting does something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It acts.
    Acts,
    /// Accepted and shown for the sake of tools; does nothing here (a warning says so).
    Accepted,
    /// Ignoring it would change what a user asked for: only its default is accepted until it acts.
    Later,
    /// Kafka dropped it; accepted and ignored with a warning, shown only where it was set.
    Removed,
}

/// Values a setting may have, besides being of its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Any value of the kind.
    Any,
    /// Whole numbers from..=to.
    Whole(i64, i64),
    /// Numbers from..=to.
    Real(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words; it may be empty.
    ListOf(&'static [&'static str]),
    /// `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration that is not negative (KIP-1106).
    OffsetReset,
    /// A list of `ADDRESS:COUNT`; the address is an IP address.
    CountsOfAddresses,
}

/// One setting of the table.
#[derive(Debug)]
pub struct Definition {
    /// Kafka's name, or ours with the prefix `millstream.`.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Default; `None` = not set (Kafka's null).
    pub default: Option<&'static str>,
    /// Changes at run time are taken (IncrementalAlterConfigs). Always so for topic settings.
    pub dynamic: bool,
    /// Whether it acts.
    pub effect: Effect,
    /// Values allowed.
    pub range: Range,
    /// Meaning, one sentence.
    pub doc: &'static str,
    /// For a setting of topics or groups: broker names that give its default, strongest first (`log.retention.ms`, `log.retention.minutes`, …).
    pub synonyms: &'static [&'static str],
}

/// One resolved value with where it came from, for DescribeConfigs and `millstream config`.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The setting.
    pub definition: &'static Definition,
    /// Value in force, in the setting's own unit; `None` = not set.
    pub value: Option<String>,
    /// Where `value` came from.
    pub source: Source,
    /// Every level that gives a value, strongest first: (name, value as given there, source).
    pub synonyms: Vec<(&'static str, String, Source)>,
}

/// Cluster-wide and per-broker dynamic settings as the metadata image holds them.
#[derive(Clone, Debug, Default)]
pub struct Dynamic {
    /// Set for all brokers.
    pub default: BTreeMap<String, String>,
    /// Set for this broker.
    pub broker: BTreeMap<String, String>,
}

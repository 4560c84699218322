//! Settings: one table of every name, with type, default, meaning and whether it acts here.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// What a resolved setting came from; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    File,
    Environment,
    CommandLine,
    DynamicDefault,
    DynamicBroker,
    Topic,
}

/// Static configuration of one node: what it was started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Kafka listener, `HOST:PORT`; port 0 = any free one.
    pub kafka: String,
    /// HTTP listener, `HOST:PORT`.
    pub http: String,
    /// node.id.
    pub node_id: i32,
    /// advertised.listeners, parsed: host and port told to clients; `None` = the local address of the accepted connection.
    pub advertised: Option<(String, u16)>,
    /// Values given by file, environment or command line: name → (value, source). Validated.
    pub given: Arc<BTreeMap<String, (String, Source)>>,
    /// How long a graceful stop may take, ms.
    pub stop_timeout_ms: u64,
}

/// Broker-wide settings resolved and typed (static ones and the cluster's dynamic ones laid over them).
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    pub auto_create_topics: bool,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    pub delete_topic_enable: bool,
    pub socket_request_max_bytes: usize,
    pub fetch_max_bytes: usize,
    pub connections_max_idle_ms: u64,
    pub max_connections: usize,
    pub producer_id_expiration_ms: i64,
    pub retention_check_interval_ms: u64,
    pub fetch_session_slots: usize,
}

/// Settings of one topic resolved and typed: topic override, else broker synonym, else default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    pub cleanup_delete: bool,
    pub cleanup_compact: bool,
    pub max_message_bytes: usize,
    pub min_insync_replicas: i32,
    /// message.timestamp.type=LogAppendTime.
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// compression.type; `None` = producer.
    pub compression: Option<u8>,
    /// flush.messages; `i64::MAX` = never.
    pub flush_messages: i64,
    /// flush.ms; `i64::MAX` = never.
    pub flush_ms: i64,
    /// millstream.durability=fsync.
    pub durable: bool,
    /// millstream.validate=full.
    pub validate_full: bool,
    /// What storage wants.
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
}

/// One setting of the table.
#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    /// Changes at run time are taken (IncrementalAlterConfigs).
    pub dynamic: bool,
    pub effect: Effect,
    pub doc: &'static str,
    /// For a topic setting: broker names that give its default, strongest first (`log.retention.ms`, `log.retention.minutes`, …).
    pub synonyms: &'static [&'static str],
}

/// Topic settings known.
pub fn topic_definitions() -> &'static [Definition] {
    todo!()
}
/// Broker settings known.
pub fn broker_definitions() -> &'static [Definition] {
    todo!()
}

/// One resolved value with where it came from, for DescribeConfigs and `millstream config`.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub definition: &'static Definition,
    pub value: String,
    pub source: Source,
    /// Every level that gives a value, strongest first: (name, value, source).
    pub synonyms: Vec<(&'static str, String, Source)>,
}

/// Cluster-wide and per-broker dynamic settings as the metadata image holds them.
#[derive(Clone, Debug, Default)]
pub struct Dynamic {
    pub default: BTreeMap<String, String>,
    pub broker: BTreeMap<String, String>,
}

impl Config {
    /// Reads `file` (`key=value`, as server.properties), then the environment (`MILLSTREAM_` + name in capitals, dots as underscores), then `sets`. A misspelled name is refused
    /// with the nearest valid one, a bad value with what is allowed. `data_dir`, `kafka`, `http` of the command line win over the file's names for them.
    pub fn load(
        data_dir: PathBuf,
        kafka: &str,
        http: &str,
        file: Option<&str>,
        environment: &[(String, String)],
        sets: &[(String, String)],
    ) -> Result<Config, String> {
        todo!("{data_dir:?} {kafka} {http} {file:?} {environment:?} {sets:?}")
    }
    /// Defaults on free loopback ports: for tests and embedding.
    pub fn local(data_dir: impl Into<PathBuf>) -> Config {
        todo!("{:?}", data_dir.into())
    }
    /// The same with one setting given (panics on an invalid one: for tests and embedding).
    pub fn set(self, name: &str, value: &str) -> Config {
        todo!("{name} {value}")
    }
    /// Typed broker settings under `dynamic`.
    pub fn broker(&self, dynamic: &Dynamic) -> BrokerSettings {
        todo!("{dynamic:?}")
    }
    /// Typed settings of a topic with overrides `topic`.
    pub fn topic(&self, topic: &BTreeMap<String, String>, dynamic: &Dynamic) -> TopicSettings {
        todo!("{topic:?} {dynamic:?}")
    }
    /// Every topic setting with value, source and synonyms.
    pub fn resolve_topic(&self, topic: &BTreeMap<String, String>, dynamic: &Dynamic) -> Vec<Resolved> {
        todo!("{topic:?} {dynamic:?}")
    }
    /// Every broker setting with value, source and synonyms.
    pub fn resolve_broker(&self, dynamic: &Dynamic) -> Vec<Resolved> {
        todo!("{dynamic:?}")
    }
}

/// Checks one topic setting: unknown name, value out of range, or not acted on yet; the sentence goes to the client with INVALID_CONFIG.
pub fn validate_topic(name: &str, value: &str) -> Result<(), String> {
    todo!("{name} {value}")
}
/// Checks one dynamic broker setting.
pub fn validate_broker_dynamic(name: &str, value: &str) -> Result<(), String> {
    todo!("{name} {value}")
}

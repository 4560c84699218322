//! The table: every topic, broker and group setting of Kafka 4 that tools read or set, and our own.

use super::{
    Definition,
    Effect::{self, Accepted, Acts, Later, Removed},
    Kind::{self, Boolean, Class, Double, Int, List, Long, Password, Short, String as Text},
    Range::{self, Any, CountsOfAddresses, ListOf, OffsetReset, OneOf, Real, Whole},
};
use std::{collections::HashMap, sync::OnceLock};

/// Topic settings known, by name.
pub fn topic_definitions() -> &'static [Definition] {
    TOPIC
}

/// Broker settings known, by name.
pub fn broker_definitions() -> &'static [Definition] {
    BROKER
}

/// Group settings known (resource type GROUP), by name.
pub fn group_definitions() -> &'static [Definition] {
    GROUP
}

/// A topic setting by its name.
pub fn topic_definition(name: &str) -> Option<&'static Definition> {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| index(TOPIC)).get(name).copied()
}

/// A broker setting by its name.
pub fn broker_definition(name: &str) -> Option<&'static Definition> {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| index(BROKER)).get(name).copied()
}

/// A group setting by its name.
pub fn group_definition(name: &str) -> Option<&'static Definition> {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| index(GROUP)).get(name).copied()
}

type Index = HashMap<&'static str, &'static Definition>;

fn index(definitions: &'static [Definition]) -> Index {
    definitions.iter().map(|d| (d.name, d)).collect()
}

const MAX: &str = "9223372036854775807";
const INT_MAX: &str = "2147483647";
const COMPRESSION: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const POLICY: &[&str] = &["compact", "delete"];
const TIMESTAMP: &[&str] = &["CreateTime", "LogAppendTime"];

/// At least `from`.
const fn from(from: i64) -> Range {
    Whole(from, i64::MAX)
}

const fn topic(
    effect: Effect,
    kind: Kind,
    name: &'static str,
    default: &'static str,
    range: Range,
    synonyms: &'static [&'static str],
    doc: &'static str,
) -> Definition {
    Definition { name, kind, default: Some(default), dynamic: true, effect, range, doc, synonyms }
}

/// A setting of groups; `synonyms` are those of brokers that give its default.
const fn group(
    kind: Kind,
    name: &'static str,
    default: &'static str,
    range: Range,
    synonyms: &'static [&'static str],
    doc: &'static str,
) -> Definition {
    // The groups that they act on are not built.
    topic(Accepted, kind, name, default, range, synonyms, doc)
}

/// A broker setting read at start only.
const fn fixed(
    effect: Effect,
    kind: Kind,
    name: &'static str,
    default: &'static str,
    range: Range,
    doc: &'static str,
) -> Definition {
    Definition { name, kind, default: Some(default), dynamic: false, effect, range, doc, synonyms: &[] }
}

/// A broker setting that may change at run time.
const fn live(
    effect: Effect,
    kind: Kind,
    name: &'static str,
    default: &'static str,
    range: Range,
    doc: &'static str,
) -> Definition {
    Definition { name, kind, default: Some(default), dynamic: true, effect, range, doc, synonyms: &[] }
}

/// The same without a default.
const fn unset(definition: Definition) -> Definition {
    Definition {
        name: definition.name,
        kind: definition.kind,
        default: None,
        dynamic: definition.dynamic,
        effect: definition.effect,
        range: definition.range,
        doc: definition.doc,
        synonyms: definition.synonyms,
    }
}

#[rustfmt::skip]
static TOPIC: &[Definition] = &[
    topic(Acts, List, "cleanup.policy", "delete", ListOf(POLICY), &["log.cleanup.policy"], "Whether old segments are deleted, or compacted to the last record of each key; a compacted topic keeps everything until compaction exists."),
    topic(Accepted, Int, "compression.gzip.level", "-1", Whole(-1, 9), &["compression.gzip.level"], "Level of gzip where the broker compresses; here always 6."),
    topic(Accepted, Int, "compression.lz4.level", "9", Whole(1, 17), &["compression.lz4.level"], "Level of lz4 where the broker compresses; here always the fastest."),
    topic(Acts, Text, "compression.type", "producer", OneOf(COMPRESSION), &["compression.type"], "Codec that record batches are stored with; producer keeps what the producer chose, any other costs the broker the packing."),
    topic(Accepted, Int, "compression.zstd.level", "3", Whole(-131072, 22), &["compression.zstd.level"], "Level of zstd where the broker compresses; here always the fastest."),
    topic(Accepted, Long, "delete.retention.ms", "86400000", from(0), &["log.cleaner.delete.retention.ms"], "How long a compacted topic keeps tombstones."),
    topic(Later, Boolean, "errors.deadletterqueue.group.enable", "false", Any, &[], "Whether the topic may be a dead letter topic of share groups."),
    topic(Acts, Long, "file.delete.delay.ms", "60000", from(0), &["log.segment.delete.delay.ms"], "How long a deleted file stays on disk under another name."),
    topic(Acts, Long, "flush.messages", MAX, from(1), &["log.flush.interval.messages"], "Records after which a partition is flushed to disk."),
    topic(Acts, Long, "flush.ms", MAX, from(0), &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"], "Longest time a record stays unflushed."),
    topic(Accepted, List, "follower.replication.throttled.replicas", "", Any, &[], "Followers whose replication is throttled while partitions move."),
    topic(Acts, Int, "index.interval.bytes", "4096", from(0), &["log.index.interval.bytes"], "Bytes of log between two entries of the offset index."),
    topic(Accepted, List, "leader.replication.throttled.replicas", "", Any, &[], "Leaders whose replication is throttled while partitions move."),
    topic(Accepted, Long, "local.retention.bytes", "-2", from(-2), &["log.local.retention.bytes"], "Bytes kept locally of a tiered topic; -2 follows retention.bytes."),
    topic(Accepted, Long, "local.retention.ms", "-2", from(-2), &["log.local.retention.ms"], "Time kept locally of a tiered topic; -2 follows retention.ms."),
    topic(Accepted, Long, "max.compaction.lag.ms", MAX, from(1), &["log.cleaner.max.compaction.lag.ms"], "Longest time a record of a compacted topic stays uncompacted."),
    topic(Accepted, Int, "max.decompressed.message.bytes", "2147483639", Any, &["max.decompressed.message.bytes"], "Largest record batch once unpacked; here 128 MiB where the broker looks inside."),
    topic(Acts, Int, "max.message.bytes", "1048588", from(0), &["message.max.bytes"], "Largest record batch accepted, after compression."),
    topic(Removed, Boolean, "message.downconversion.enable", "true", Any, &[], "Conversion for old consumers; gone from Kafka 4."),
    topic(Removed, Text, "message.format.version", "3.0-IV1", Any, &[], "Format of records on disk; gone from Kafka 4."),
    topic(Acts, Long, "message.timestamp.after.max.ms", "3600000", from(0), &["log.message.timestamp.after.max.ms"], "How far a record's timestamp may lie ahead of the broker's clock."),
    topic(Acts, Long, "message.timestamp.before.max.ms", MAX, from(0), &["log.message.timestamp.before.max.ms"], "How far a record's timestamp may lie behind the broker's clock."),
    topic(Removed, Long, "message.timestamp.difference.max.ms", MAX, from(0), &[], "Largest distance of a timestamp from the broker's clock; gone from Kafka 4."),
    topic(Acts, Text, "message.timestamp.type", "CreateTime", OneOf(TIMESTAMP), &["log.message.timestamp.type"], "Whether a record carries its producer's time or that of the append."),
    topic(Acts, Text, "millstream.durability", "fsync", OneOf(&["fsync", "page-cache"]), &["millstream.durability"], "Whether records are shown and acknowledged once on disk (fsync), or once in the operating system's memory (page-cache)."),
    topic(Acts, Text, "millstream.validate", "headers", OneOf(&["headers", "full"]), &["millstream.validate"], "Whether compressed batches are checked by header and CRC, or unpacked as well (full)."),
    topic(Accepted, Double, "min.cleanable.dirty.ratio", "0.5", Real(0.0, 1.0), &["log.cleaner.min.cleanable.ratio"], "Share of uncompacted bytes at which compaction starts."),
    topic(Accepted, Long, "min.compaction.lag.ms", "0", from(0), &["log.cleaner.min.compaction.lag.ms"], "Shortest time a record stays uncompacted."),
    topic(Acts, Int, "min.insync.replicas", "1", from(1), &["min.insync.replicas"], "Replicas that must hold a record before acks=all is answered; at most the replication factor counts."),
    topic(Accepted, Boolean, "preallocate", "false", Any, &["log.preallocate"], "Whether segment files are allocated ahead; here they always are."),
    topic(Accepted, Long, "remote.copy.lag.bytes", "-1", Any, &["log.remote.copy.lag.bytes"], "Bytes that may wait for their upload."),
    topic(Accepted, Long, "remote.copy.lag.ms", "0", Any, &["log.remote.copy.lag.ms"], "Time that records may wait for their upload."),
    topic(Accepted, Boolean, "remote.log.copy.disable", "false", Any, &[], "Whether a tiered topic stops uploading."),
    topic(Accepted, Boolean, "remote.log.delete.on.disable", "false", Any, &[], "Whether remote data goes when tiering is switched off."),
    topic(Later, Boolean, "remote.storage.enable", "false", Any, &[], "Whether old segments move to remote storage."),
    topic(Acts, Long, "retention.bytes", "-1", Any, &["log.retention.bytes"], "Bytes a partition keeps; -1 is no limit."),
    topic(Acts, Long, "retention.ms", "604800000", from(-1), &["log.retention.ms", "log.retention.minutes", "log.retention.hours"], "How long records are kept; -1 is for ever."),
    topic(Acts, Int, "segment.bytes", "1073741824", from(1 << 20), &["log.segment.bytes"], "Size at which a new segment file is begun."),
    topic(Acts, Int, "segment.index.bytes", "10485760", from(4), &["log.index.size.max.bytes"], "Largest size of a segment's index; a new segment is begun when it is full."),
    topic(Acts, Long, "segment.jitter.ms", "0", from(0), &["log.roll.jitter.ms", "log.roll.jitter.hours"], "Random time taken off segment.ms, so that partitions do not roll together."),
    topic(Acts, Long, "segment.ms", "604800000", from(1), &["log.roll.ms", "log.roll.hours"], "Age at which a new segment file is begun."),
    topic(Accepted, Boolean, "unclean.leader.election.enable", "false", Any, &["unclean.leader.election.enable"], "Whether a replica that is not in sync may lead when no other is left."),
];

#[rustfmt::skip]
static BROKER: &[Definition] = &[
    // Who and where.
    unset(fixed(Acts, List, "advertised.listeners", "", Any, "Address told to the clients of a listener, as NAME://HOST:PORT, for those listeners that are named; else the one they came in by.")),
    fixed(Acts, Int, "broker.id", "-1", from(-1), "Older name of node.id."),
    unset(fixed(Acts, Text, "broker.rack", "", Any, "Rack of this broker, for replica placement and reads from the nearest replica.")),
    unset(fixed(Accepted, List, "controller.listener.names", "", Any, "Listeners of the controller; those named here are left out of listeners.")),
    fixed(Accepted, List, "controller.quorum.bootstrap.servers", "", Any, "Controllers to join; more than one is refused until clusters are built."),
    fixed(Accepted, List, "controller.quorum.voters", "", Any, "Voters of the controller quorum; more than one is refused until clusters are built."),
    fixed(Accepted, Int, "controller.quorum.election.timeout.ms", "1000", from(0), "Time without a leader after which a controller stands for election."),
    fixed(Accepted, Int, "controller.quorum.fetch.timeout.ms", "2000", from(0), "Time without a fetch after which a controller steps down."),
    fixed(Accepted, Int, "controller.quorum.request.timeout.ms", "2000", from(0), "Longest wait of a request between controllers."),
    unset(fixed(Accepted, Text, "inter.broker.listener.name", "", Any, "Listener that brokers use among themselves.")),
    fixed(Accepted, Text, "security.inter.broker.protocol", "PLAINTEXT", Any, "Protocol that brokers use among themselves."),
    fixed(Acts, Text, "listener.security.protocol.map", "PLAINTEXT:PLAINTEXT", Any, "Protocol of each listener name, as NAME:PROTOCOL; only PLAINTEXT is served so far."),
    fixed(Acts, List, "listeners", "PLAINTEXT://127.0.0.1:9092", Any, "Addresses of the Kafka listeners, as NAME://HOST:PORT; names and ports are unique (one IPv4 and one IPv6 address may share a port)."),
    unset(fixed(Acts, List, "log.dir", "", Any, "Older name of log.dirs.")),
    fixed(Acts, List, "log.dirs", "./data", Any, "The data directory; one for now."),
    unset(fixed(Accepted, Text, "metadata.log.dir", "", Any, "Directory of the metadata log; here it lies in the data directory.")),
    fixed(Acts, Int, "node.id", "1", from(0), "Id of this node in its cluster."),
    fixed(Accepted, List, "process.roles", "broker,controller", ListOf(&["broker", "controller"]), "Roles of this process; here always both."),

    // Topics.
    fixed(Acts, Boolean, "auto.create.topics.enable", "true", Any, "Whether a topic that a client asks for is created."),
    fixed(Acts, Int, "default.replication.factor", "1", from(1), "Replicas of a topic that does not say how many."),
    fixed(Acts, Boolean, "delete.topic.enable", "true", Any, "Whether topics can be deleted."),
    fixed(Acts, Int, "num.partitions", "1", from(1), "Partitions of a topic that does not say how many."),
    unset(fixed(Later, Class, "create.topic.policy.class.name", "", Any, "Java class that judges new topics.")),
    unset(fixed(Later, Class, "alter.config.policy.class.name", "", Any, "Java class that judges changes of settings.")),

    // Defaults of topic settings.
    live(Accepted, Int, "compression.gzip.level", "-1", Whole(-1, 9), "Level of gzip where the broker compresses; here always 6."),
    live(Accepted, Int, "compression.lz4.level", "9", Whole(1, 17), "Level of lz4 where the broker compresses; here always the fastest."),
    live(Acts, Text, "compression.type", "producer", OneOf(COMPRESSION), "Codec of topics that do not name one; producer keeps what the producer chose."),
    live(Accepted, Int, "compression.zstd.level", "3", Whole(-131072, 22), "Level of zstd where the broker compresses; here always the fastest."),
    live(Accepted, Long, "log.cleaner.delete.retention.ms", "86400000", from(0), "How long compacted topics keep tombstones."),
    live(Accepted, Long, "log.cleaner.max.compaction.lag.ms", MAX, from(1), "Longest time a record of a compacted topic stays uncompacted."),
    live(Accepted, Double, "log.cleaner.min.cleanable.ratio", "0.5", Real(0.0, 1.0), "Share of uncompacted bytes at which compaction starts."),
    live(Accepted, Long, "log.cleaner.min.compaction.lag.ms", "0", from(0), "Shortest time a record stays uncompacted."),
    live(Acts, List, "log.cleanup.policy", "delete", ListOf(POLICY), "Whether old segments are deleted or compacted."),
    live(Acts, Long, "log.flush.interval.messages", MAX, from(1), "Records after which a partition is flushed to disk."),
    unset(live(Acts, Long, "log.flush.interval.ms", "", from(0), "Longest time a record stays unflushed.")),
    fixed(Acts, Long, "log.flush.scheduler.interval.ms", MAX, from(0), "Stands in for log.flush.interval.ms where that is not set."),
    live(Acts, Int, "log.index.interval.bytes", "4096", from(0), "Bytes of log between two entries of the offset index."),
    live(Acts, Int, "log.index.size.max.bytes", "10485760", from(4), "Largest size of a segment's index."),
    live(Accepted, Long, "log.local.retention.bytes", "-2", from(-2), "Bytes kept locally of tiered topics."),
    live(Accepted, Long, "log.local.retention.ms", "-2", from(-2), "Time kept locally of tiered topics."),
    live(Acts, Long, "log.message.timestamp.after.max.ms", "3600000", from(0), "How far a record's timestamp may lie ahead of the broker's clock."),
    live(Acts, Long, "log.message.timestamp.before.max.ms", MAX, from(0), "How far a record's timestamp may lie behind the broker's clock."),
    live(Acts, Text, "log.message.timestamp.type", "CreateTime", OneOf(TIMESTAMP), "Whether a record carries its producer's time or that of the append."),
    live(Accepted, Boolean, "log.preallocate", "false", Any, "Whether segment files are allocated ahead; here they always are."),
    live(Acts, Long, "log.retention.bytes", "-1", Any, "Bytes a partition keeps; -1 is no limit."),
    fixed(Acts, Int, "log.retention.hours", "168", Any, "How long records are kept, in hours; a negative value is for ever."),
    unset(fixed(Acts, Int, "log.retention.minutes", "", Any, "How long records are kept, in minutes; wins over hours.")),
    unset(live(Acts, Long, "log.retention.ms", "", from(-1), "How long records are kept; wins over minutes and hours; -1 is for ever.")),
    fixed(Acts, Int, "log.roll.hours", "168", from(1), "Age at which a new segment file is begun, in hours."),
    fixed(Acts, Int, "log.roll.jitter.hours", "0", from(0), "Random time taken off log.roll.hours, in hours."),
    unset(live(Acts, Long, "log.roll.jitter.ms", "", from(0), "Random time taken off log.roll.ms.")),
    unset(live(Acts, Long, "log.roll.ms", "", from(1), "Age at which a new segment file is begun; wins over hours.")),
    live(Acts, Int, "log.segment.bytes", "1073741824", from(1 << 20), "Size at which a new segment file is begun."),
    live(Acts, Long, "log.segment.delete.delay.ms", "60000", from(0), "How long a deleted file stays on disk under another name."),
    live(Acts, Int, "message.max.bytes", "1048588", from(0), "Largest record batch accepted, after compression."),
    live(Acts, Text, "millstream.durability", "fsync", OneOf(&["fsync", "page-cache"]), "Whether records are shown and acknowledged once on disk (fsync), or once in the operating system's memory (page-cache)."),
    live(Acts, Text, "millstream.validate", "headers", OneOf(&["headers", "full"]), "Whether compressed batches are checked by header and CRC, or unpacked as well (full)."),
    live(Acts, Int, "min.insync.replicas", "1", from(1), "Replicas that must hold a record before acks=all is answered."),
    live(Accepted, Boolean, "unclean.leader.election.enable", "false", Any, "Whether a replica that is not in sync may lead when no other is left."),

    // Logs and their upkeep.
    fixed(Acts, Long, "log.retention.check.interval.ms", "300000", from(1), "How often retention is applied."),
    live(Accepted, Long, "log.cleaner.backoff.ms", "15000", from(0), "Pause of the cleaner when there is nothing to compact."),
    live(Accepted, Long, "log.cleaner.dedupe.buffer.size", "134217728", Any, "Memory for compaction."),
    fixed(Accepted, Boolean, "log.cleaner.enable", "true", Any, "Whether compaction runs."),
    live(Accepted, Double, "log.cleaner.io.buffer.load.factor", "0.9", Any, "How full the compaction buffer may become."),
    live(Accepted, Int, "log.cleaner.io.buffer.size", "524288", from(0), "Memory for compaction reads and writes."),
    live(Accepted, Double, "log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", Any, "Throttle of compaction."),
    live(Accepted, Int, "log.cleaner.threads", "1", from(0), "Threads of compaction."),
    fixed(Accepted, Int, "log.flush.offset.checkpoint.interval.ms", "60000", from(0), "How often recovery points are written; here every 60 s."),
    fixed(Accepted, Int, "log.flush.start.offset.checkpoint.interval.ms", "60000", from(0), "How often log starts are written; here every 60 s."),
    fixed(Accepted, Long, "log.initial.task.delay.ms", "30000", from(0), "Delay of the first upkeep after start."),
    live(Accepted, Int, "num.recovery.threads.per.data.dir", "2", from(1), "Threads for recovery after an unclean stop."),
    fixed(Accepted, Long, "log.dir.failure.timeout.ms", "30000", from(1), "Time to report a failed directory before the broker stops."),
    fixed(Removed, Text, "log.message.format.version", "3.0-IV1", Any, "Format of records on disk; gone from Kafka 4."),
    fixed(Removed, Boolean, "log.message.downconversion.enable", "true", Any, "Conversion for old consumers; gone from Kafka 4."),
    fixed(Removed, Long, "log.message.timestamp.difference.max.ms", MAX, from(0), "Largest distance of a timestamp from the broker's clock; gone from Kafka 4."),
    fixed(Accepted, Long, "metadata.log.max.record.bytes.between.snapshots", "20971520", from(1), "Metadata log bytes after which a snapshot is taken."),
    fixed(Accepted, Long, "metadata.log.max.snapshot.interval.ms", "3600000", from(0), "Longest time between snapshots of the metadata."),
    fixed(Accepted, Int, "metadata.log.segment.bytes", "1073741824", from(12), "Segment size of the metadata log."),
    fixed(Accepted, Long, "metadata.log.segment.ms", "604800000", Any, "Age at which the metadata log begins a new segment."),
    fixed(Accepted, Long, "metadata.max.retention.bytes", "104857600", Any, "Bytes kept of the metadata log."),
    fixed(Accepted, Long, "metadata.max.retention.ms", "604800000", Any, "Time kept of the metadata log."),
    fixed(Accepted, Int, "metadata.max.idle.interval.ms", "500", from(0), "How often an idle controller writes to the metadata log; here never."),

    // Connections and requests.
    fixed(Acts, Long, "connections.max.idle.ms", "600000", Any, "Idle time after which a connection is closed; a negative value is never."),
    live(Acts, Int, "max.connections", INT_MAX, from(0), "Most connections at once."),
    live(Acts, Int, "max.connections.per.ip", INT_MAX, from(0), "Most connections from one address; further ones are closed."),
    live(Acts, Text, "max.connections.per.ip.overrides", "", CountsOfAddresses, "Most connections from single addresses, as ADDRESS:COUNT; IP addresses only, no host names."),
    live(Later, Int, "max.connection.creation.rate", INT_MAX, from(0), "Most new connections a second."),
    fixed(Acts, Int, "socket.request.max.bytes", "104857600", from(1), "Largest request."),
    fixed(Accepted, Int, "socket.listen.backlog.size", "50", from(1), "Connections waiting to be accepted."),
    fixed(Accepted, Int, "socket.receive.buffer.bytes", "102400", Any, "Receive buffer of a socket; here the operating system chooses."),
    fixed(Accepted, Int, "socket.send.buffer.bytes", "102400", Any, "Send buffer of a socket; here the operating system chooses."),
    fixed(Acts, Int, "fetch.max.bytes", "57671680", from(1024), "Most bytes in the answer to a fetch."),
    fixed(Acts, Int, "max.incremental.fetch.session.cache.slots", "1000", from(0), "Most fetch sessions at once."),
    fixed(Acts, Int, "max.request.partition.size.limit", "2000", from(1), "Most partitions in one answer of DescribeTopicPartitions."),
    fixed(Accepted, Int, "request.timeout.ms", "30000", from(0), "Longest wait of a request between brokers."),
    fixed(Accepted, Int, "queued.max.requests", "500", from(1), "Requests waiting before sockets are left unread; here bytes count."),
    fixed(Accepted, Long, "queued.max.request.bytes", "-1", Any, "Bytes waiting before sockets are left unread; here 256 MiB."),
    live(Accepted, Int, "num.network.threads", "3", from(1), "Threads that read and write sockets; here one a core."),
    live(Accepted, Int, "num.io.threads", "8", from(1), "Threads that handle requests; here one a core."),
    live(Accepted, Int, "background.threads", "10", from(1), "Threads for upkeep."),
    fixed(Accepted, Int, "connection.failed.authentication.delay.ms", "100", from(0), "Delay of the close after failed authentication."),
    fixed(Accepted, Long, "connections.max.reauth.ms", "0", Any, "Longest life of an authentication."),
    fixed(Accepted, Int, "fetch.purgatory.purge.interval.requests", "1000", Any, "Upkeep of waiting fetches."),
    fixed(Accepted, Int, "producer.purgatory.purge.interval.requests", "1000", Any, "Upkeep of waiting acknowledgements."),
    fixed(Accepted, Int, "delete.records.purgatory.purge.interval.requests", "1", Any, "Upkeep of waiting DeleteRecords."),
    live(Acts, Int, "producer.id.expiration.ms", "86400000", from(1), "Idle time after which a producer's sequence numbers are forgotten."),
    fixed(Accepted, Int, "producer.id.expiration.check.interval.ms", "600000", from(1), "How often idle producers are looked for."),

    // Ours.
    fixed(Acts, Text, "millstream.http", "127.0.0.1:9080", Any, "Address of the HTTP listener, as HOST:PORT."),
    fixed(Acts, List, "millstream.http.hosts", "", Any, "Further host names by which the HTTP listener may be called (a foreign Host or Origin is refused); HOST, or HOST:PORT of another site whose pages may call."),
    fixed(Acts, Boolean, "millstream.figures", "true", Any, "Histograms, append clocks and series are kept."),
    fixed(Acts, Int, "millstream.histograms.max", "1000", Whole(0, 100_000), "Most latency histograms kept; the rest is counted together."),

    // Groups and transactions: they act as those are built.
    fixed(Accepted, List, "group.consumer.assignors", "uniform,range", Any, "Assignors of consumer groups."),
    fixed(Accepted, Int, "group.consumer.heartbeat.interval.ms", "5000", from(1), "Heartbeat interval of consumer groups."),
    fixed(Accepted, Int, "group.consumer.max.heartbeat.interval.ms", "15000", from(1), "Longest heartbeat interval of a consumer group."),
    fixed(Accepted, Int, "group.consumer.max.session.timeout.ms", "60000", from(1), "Longest session of a consumer group."),
    fixed(Accepted, Int, "group.consumer.max.size", INT_MAX, from(1), "Most members of a consumer group."),
    fixed(Accepted, Text, "group.consumer.migration.policy", "bidirectional", OneOf(&["disabled", "downgrade", "upgrade", "bidirectional"]), "How groups change between the classic and the consumer protocol."),
    fixed(Accepted, Int, "group.consumer.min.heartbeat.interval.ms", "5000", from(1), "Shortest heartbeat interval of a consumer group."),
    fixed(Accepted, Int, "group.consumer.min.session.timeout.ms", "45000", from(1), "Shortest session of a consumer group."),
    fixed(Accepted, Int, "group.consumer.session.timeout.ms", "45000", from(1), "Session timeout of consumer groups."),
    fixed(Accepted, Int, "group.coordinator.append.linger.ms", "-1", from(-1), "Time that a coordinator gathers writes."),
    fixed(Accepted, List, "group.coordinator.rebalance.protocols", "classic,consumer,streams", Any, "Protocols of groups."),
    fixed(Accepted, Int, "group.coordinator.threads", "4", from(1), "Threads of the group coordinator."),
    fixed(Acts, Int, "group.initial.rebalance.delay.ms", "50", from(0), "Time that a new classic group waits for further first members, restarted by each, at most ten times as long (Kafka: 3000)."),
    fixed(Acts, Int, "group.max.session.timeout.ms", "1800000", from(1), "Longest session of a classic group."),
    fixed(Acts, Int, "group.max.size", INT_MAX, from(1), "Most members of a classic group."),
    fixed(Acts, Int, "group.min.session.timeout.ms", "6000", from(1), "Shortest session of a classic group."),
    fixed(Accepted, Int, "group.share.delivery.count.limit", "5", Whole(2, 10), "Deliveries of a record before a share group gives it up."),
    fixed(Accepted, Int, "group.share.heartbeat.interval.ms", "5000", from(1), "Heartbeat interval of share groups."),
    fixed(Accepted, Int, "group.share.max.record.lock.duration.ms", "60000", Whole(30_000, 3_600_000), "Longest lock of a record."),
    fixed(Accepted, Int, "group.share.max.share.sessions", "2000", from(1), "Most share sessions at once."),
    fixed(Accepted, Int, "group.share.max.size", "200", Whole(1, 1000), "Most members of a share group."),
    fixed(Accepted, Int, "group.share.min.record.lock.duration.ms", "15000", Whole(1000, 30_000), "Shortest lock of a record."),
    fixed(Accepted, Int, "group.share.partition.max.record.locks", "2000", Whole(100, 10_000), "Most records locked at once in a share partition."),
    fixed(Accepted, Int, "group.share.record.lock.duration.ms", "30000", Whole(1000, 3_600_000), "Lock of a record handed to a share group."),
    fixed(Accepted, Int, "group.share.session.timeout.ms", "45000", from(1), "Session timeout of share groups."),
    fixed(Accepted, Int, "group.streams.heartbeat.interval.ms", "5000", from(1), "Heartbeat interval of streams groups."),
    fixed(Accepted, Int, "group.streams.max.size", INT_MAX, from(1), "Most members of a streams group."),
    fixed(Accepted, Int, "group.streams.num.standby.replicas", "0", from(0), "Standby replicas of streams groups."),
    fixed(Accepted, Int, "group.streams.session.timeout.ms", "45000", from(1), "Session timeout of streams groups."),
    fixed(Acts, Int, "offset.metadata.max.bytes", "4096", Any, "Longest text beside a committed offset; never more than 32767 bytes."),
    fixed(Accepted, Int, "offsets.commit.timeout.ms", "5000", from(1), "Longest wait of an offset commit."),
    fixed(Accepted, Int, "offsets.load.buffer.size", "5242880", from(1), "Batch size when offsets are loaded."),
    fixed(Acts, Long, "offsets.retention.check.interval.ms", "600000", from(1), "How often expired offsets are looked for."),
    fixed(Acts, Int, "offsets.retention.minutes", "10080", from(1), "How long offsets of a group without members are kept; unless it is given, those that point into retained data are kept for longer."),
    fixed(Accepted, Int, "offsets.topic.compression.codec", "0", Any, "Codec of the offsets topic."),
    fixed(Acts, Int, "offsets.topic.num.partitions", "50", from(1), "Partitions of the offsets topic."),
    fixed(Acts, Short, "offsets.topic.replication.factor", "3", from(1), "Replicas of the offsets topic."),
    fixed(Acts, Int, "offsets.topic.segment.bytes", "104857600", from(1), "Segment size of the offsets topic."),
    fixed(Accepted, Int, "share.coordinator.append.linger.ms", "-1", from(-1), "Time that the share coordinator gathers writes."),
    fixed(Accepted, Int, "share.coordinator.snapshot.update.records.per.snapshot", "500", from(0), "Updates between two snapshots of share state."),
    fixed(Accepted, Int, "share.coordinator.state.topic.compression.codec", "0", Any, "Codec of the share state topic."),
    fixed(Accepted, Short, "share.coordinator.state.topic.min.isr", "2", from(1), "Least in-sync replicas of the share state topic."),
    fixed(Accepted, Int, "share.coordinator.state.topic.num.partitions", "50", from(1), "Partitions of the share state topic."),
    fixed(Accepted, Short, "share.coordinator.state.topic.replication.factor", "3", from(1), "Replicas of the share state topic."),
    fixed(Accepted, Int, "share.coordinator.state.topic.segment.bytes", "104857600", from(1), "Segment size of the share state topic."),
    fixed(Accepted, Int, "share.coordinator.threads", "1", from(1), "Threads of the share coordinator."),
    fixed(Accepted, Int, "share.coordinator.write.timeout.ms", "5000", from(1), "Longest wait of a write of share state."),
    fixed(Accepted, Int, "transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000", from(1), "How often timed out transactions are looked for."),
    fixed(Accepted, Int, "transaction.max.timeout.ms", "900000", from(1), "Longest transaction."),
    live(Accepted, Boolean, "transaction.partition.verification.enable", "true", Any, "Whether a partition must have joined the transaction before it takes records of it."),
    fixed(Accepted, Int, "transaction.remove.expired.transaction.cleanup.interval.ms", "3600000", from(1), "How often expired transactional ids are looked for."),
    fixed(Accepted, Int, "transaction.state.log.load.buffer.size", "5242880", from(1), "Batch size when transaction state is loaded."),
    fixed(Accepted, Int, "transaction.state.log.min.isr", "2", from(1), "Least in-sync replicas of the transaction state topic."),
    fixed(Accepted, Int, "transaction.state.log.num.partitions", "50", from(1), "Partitions of the transaction state topic."),
    fixed(Accepted, Short, "transaction.state.log.replication.factor", "3", from(1), "Replicas of the transaction state topic."),
    fixed(Accepted, Int, "transaction.state.log.segment.bytes", "104857600", from(1), "Segment size of the transaction state topic."),
    fixed(Accepted, Boolean, "transaction.two.phase.commit.enable", "false", Any, "Whether outside coordinators may hold transactions open."),
    fixed(Accepted, Int, "transactional.id.expiration.ms", "604800000", from(1), "Idle time after which a transactional id is forgotten."),

    // Replication: it acts as clusters are built.
    fixed(Accepted, Boolean, "auto.leader.rebalance.enable", "true", Any, "Whether leadership returns to the preferred replica."),
    fixed(Accepted, Int, "broker.heartbeat.interval.ms", "2000", Any, "How often a broker says that it lives."),
    fixed(Accepted, Int, "broker.session.timeout.ms", "9000", Any, "Silence after which a broker is fenced."),
    fixed(Accepted, Boolean, "controlled.shutdown.enable", "true", Any, "Whether a broker hands its leaderships over before it stops."),
    fixed(Accepted, Int, "initial.broker.registration.timeout.ms", "60000", Any, "Longest wait for the first registration."),
    live(Accepted, Long, "follower.replication.throttled.rate", MAX, from(0), "Throttle of followers while partitions move, in bytes a second."),
    live(Accepted, Long, "leader.replication.throttled.rate", MAX, from(0), "Throttle of leaders while partitions move, in bytes a second."),
    live(Accepted, Long, "replica.alter.log.dirs.io.max.bytes.per.second", MAX, from(0), "Throttle of moves between directories."),
    unset(fixed(Accepted, Int, "num.replica.alter.log.dirs.threads", "", Any, "Threads that move replicas between directories.")),
    fixed(Accepted, Long, "leader.imbalance.check.interval.seconds", "300", from(1), "How often the balance of leaders is looked at."),
    fixed(Accepted, Int, "leader.imbalance.per.broker.percentage", "10", Any, "Imbalance of leaders that is borne."),
    live(Accepted, Int, "num.replica.fetchers", "1", Any, "Connections a follower fetches by from each leader."),
    fixed(Accepted, Int, "replica.fetch.backoff.ms", "1000", from(0), "Pause of a follower after an error."),
    fixed(Accepted, Int, "replica.fetch.max.bytes", "1048576", from(0), "Bytes a follower asks for per partition."),
    fixed(Accepted, Int, "replica.fetch.min.bytes", "1", Any, "Least bytes a follower waits for."),
    fixed(Accepted, Int, "replica.fetch.response.max.bytes", "10485760", from(0), "Bytes a follower asks for at once."),
    fixed(Accepted, Int, "replica.fetch.wait.max.ms", "500", Any, "Longest wait of a follower's fetch."),
    fixed(Accepted, Long, "replica.high.watermark.checkpoint.interval.ms", "5000", Any, "How often high watermarks are written; here every 60 s."),
    fixed(Accepted, Long, "replica.lag.time.max.ms", "30000", Any, "Time behind after which a replica is no longer in sync."),
    unset(fixed(Accepted, Text, "replica.selector.class", "", Any, "Java class that chooses the replica a consumer reads.")),
    fixed(Accepted, Int, "replica.socket.receive.buffer.bytes", "65536", Any, "Receive buffer of a follower."),
    fixed(Accepted, Int, "replica.socket.timeout.ms", "30000", Any, "Longest silence on a follower's connection."),
    fixed(Removed, Text, "inter.broker.protocol.version", "3.0-IV1", Any, "Protocol among brokers; gone from Kafka 4."),
    fixed(Removed, Text, "zookeeper.connect", "", Any, "ZooKeeper; gone from Kafka 4."),
    fixed(Removed, Int, "zookeeper.connection.timeout.ms", "18000", Any, "ZooKeeper; gone from Kafka 4."),
    fixed(Removed, Int, "zookeeper.session.timeout.ms", "18000", Any, "ZooKeeper; gone from Kafka 4."),
    fixed(Later, Boolean, "remote.log.storage.system.enable", "false", Any, "Whether topics may be tiered."),

    // Security: it acts as it is built.
    fixed(Later, Text, "authorizer.class.name", "", Any, "Java class that authorises requests."),
    fixed(Accepted, Text, "super.users", "", Any, "Principals that may do everything."),
    fixed(Accepted, Boolean, "allow.everyone.if.no.acl.found", "false", Any, "Whether a resource without rules is open."),
    unset(fixed(Accepted, Class, "principal.builder.class", "", Any, "Java class that names principals.")),
    fixed(Accepted, List, "sasl.enabled.mechanisms", "GSSAPI", Any, "SASL mechanisms offered."),
    fixed(Accepted, Text, "sasl.mechanism.inter.broker.protocol", "GSSAPI", Any, "SASL mechanism among brokers."),
    fixed(Accepted, Text, "sasl.mechanism.controller.protocol", "GSSAPI", Any, "SASL mechanism among controllers."),
    unset(live(Accepted, Password, "sasl.jaas.config", "", Any, "Login of SASL listeners.")),
    unset(live(Accepted, Text, "sasl.kerberos.service.name", "", Any, "Kerberos service.")),
    fixed(Accepted, Int, "sasl.server.max.receive.size", "524288", Any, "Largest SASL request."),
    live(Accepted, Text, "ssl.client.auth", "none", OneOf(&["required", "requested", "none"]), "Whether TLS clients show a certificate."),
    live(Accepted, List, "ssl.enabled.protocols", "TLSv1.2,TLSv1.3", Any, "TLS versions offered."),
    live(Accepted, List, "ssl.cipher.suites", "", Any, "TLS cipher suites offered."),
    live(Accepted, Text, "ssl.endpoint.identification.algorithm", "https", Any, "How a TLS host name is checked."),
    unset(live(Accepted, Password, "ssl.key.password", "", Any, "Password of the private key.")),
    unset(live(Accepted, Password, "ssl.keystore.certificate.chain", "", Any, "Certificates in PEM.")),
    unset(live(Accepted, Password, "ssl.keystore.key", "", Any, "Private key in PEM.")),
    unset(live(Accepted, Text, "ssl.keystore.location", "", Any, "File of the key store.")),
    unset(live(Accepted, Password, "ssl.keystore.password", "", Any, "Password of the key store.")),
    live(Accepted, Text, "ssl.keystore.type", "JKS", Any, "Format of the key store."),
    fixed(Accepted, Text, "ssl.principal.mapping.rules", "DEFAULT", Any, "How certificate names become principals."),
    live(Accepted, Text, "ssl.protocol", "TLSv1.3", Any, "Preferred TLS version."),
    unset(live(Accepted, Password, "ssl.truststore.certificates", "", Any, "Trusted certificates in PEM.")),
    unset(live(Accepted, Text, "ssl.truststore.location", "", Any, "File of the trust store.")),
    unset(live(Accepted, Password, "ssl.truststore.password", "", Any, "Password of the trust store.")),
    live(Accepted, Text, "ssl.truststore.type", "JKS", Any, "Format of the trust store."),
    unset(fixed(Accepted, Password, "delegation.token.secret.key", "", Any, "Secret of delegation tokens.")),
    fixed(Accepted, Long, "delegation.token.max.lifetime.ms", "604800000", from(1), "Longest life of a delegation token."),
    fixed(Accepted, Long, "delegation.token.expiry.time.ms", "86400000", from(1), "Life of a delegation token until renewed."),

    // Quotas and measurement.
    unset(fixed(Later, Class, "client.quota.callback.class", "", Any, "Java class that decides quotas.")),
    fixed(Accepted, Int, "quota.window.num", "11", from(1), "Windows over which quotas are measured."),
    fixed(Accepted, Int, "quota.window.size.seconds", "1", from(1), "Length of such a window."),
    fixed(Accepted, Int, "replication.quota.window.num", "11", from(1), "Windows over which replication is measured."),
    fixed(Accepted, Int, "replication.quota.window.size.seconds", "1", from(1), "Length of such a window."),
    fixed(Accepted, Boolean, "auto.include.jmx.reporter", "true", Any, "Whether metrics go to JMX; here they are at /metrics."),
    live(Accepted, List, "metric.reporters", "", Any, "Java classes that report metrics."),
    fixed(Accepted, Int, "metrics.num.samples", "2", from(1), "Samples kept of a rate."),
    fixed(Accepted, Text, "metrics.recording.level", "INFO", Any, "Which metrics are kept."),
    fixed(Accepted, Long, "metrics.sample.window.ms", "30000", from(1), "Length of such a sample."),
    fixed(Accepted, List, "kafka.metrics.reporters", "", Any, "Older Java classes that report metrics."),
    fixed(Accepted, Int, "kafka.metrics.polling.interval.secs", "10", from(1), "How often those report."),

    // The rest of Kafka 4.4's, by name.
    fixed(Accepted, Int, "add.partitions.to.txn.retry.backoff.max.ms", "100", Any, "Longest wait for a partition to join a transaction."),
    fixed(Accepted, Int, "add.partitions.to.txn.retry.backoff.ms", "20", Any, "Pause before a partition tries again to join a transaction."),
    fixed(Accepted, Int, "alter.log.dirs.replication.quota.window.num", "11", Any, "Windows over which moves between directories are measured."),
    fixed(Accepted, Int, "alter.log.dirs.replication.quota.window.size.seconds", "1", Any, "Length of such a window."),
    live(Later, List, "config.providers", "", Any, "Java classes that fetch settings from elsewhere."),
    fixed(Accepted, Int, "controller.quorum.append.linger.ms", "25", Any, "Time that a controller gathers writes."),
    fixed(Accepted, Boolean, "controller.quorum.auto.join.enable", "false", Any, "Whether a controller joins the quorum by itself."),
    fixed(Accepted, Int, "controller.quorum.election.backoff.max.ms", "1000", Any, "Longest pause between elections."),
    fixed(Accepted, Int, "controller.quorum.fetch.max.bytes", "1048576", Any, "Bytes a controller asks another for."),
    fixed(Accepted, Int, "controller.quorum.fetch.snapshot.max.bytes", "1048576", Any, "Bytes of a snapshot that a controller asks another for."),
    fixed(Accepted, Int, "controller.quorum.retry.backoff.ms", "20", Any, "Pause of a controller before it asks again."),
    fixed(Accepted, Int, "controller.quota.window.num", "11", Any, "Windows over which changes of topics are measured."),
    fixed(Accepted, Int, "controller.quota.window.size.seconds", "1", Any, "Length of such a window."),
    fixed(Accepted, Int, "controller.socket.timeout.ms", "30000", Any, "Longest silence on a connection to a controller."),
    live(Later, List, "cordoned.log.dirs", "", Any, "Directories that take no new partitions."),
    fixed(Accepted, Long, "delegation.token.expiry.check.interval.ms", "3600000", Any, "How often expired delegation tokens are looked for."),
    unset(fixed(Accepted, List, "early.start.listeners", "", Any, "Listeners opened before the broker is ready.")),
    live(Accepted, Boolean, "errors.deadletterqueue.auto.create.topics.enable", "false", Any, "Whether dead letter topics of share groups are made on demand."),
    live(Accepted, Text, "errors.deadletterqueue.topic.name.prefix", "dlq.", Any, "Prefix of dead letter topics of share groups."),
    live(Accepted, Boolean, "follower.fetch.last.tiered.offset.enable", "false", Any, "Whether a new follower starts at the last tiered offset."),
    live(Accepted, Int, "group.consumer.assignment.interval.ms", "1000", Any, "Time between two assignments of consumer groups."),
    fixed(Accepted, Int, "group.consumer.max.assignment.interval.ms", "15000", Any, "Largest time between two assignments that consumer groups may choose."),
    fixed(Accepted, Int, "group.consumer.min.assignment.interval.ms", "0", Any, "Smallest time between two assignments that consumer groups may choose."),
    fixed(Accepted, Int, "group.coordinator.background.threads", "2", Any, "Background threads of the group coordinator."),
    live(Accepted, Int, "group.coordinator.cached.buffer.max.bytes", "1048588", Any, "Largest write buffer that a coordinator keeps."),
    live(Accepted, Int, "group.share.assignment.interval.ms", "1000", Any, "Time between two assignments of share groups."),
    fixed(Accepted, List, "group.share.assignors", "simple", Any, "Assignors of share groups."),
    fixed(Accepted, Int, "group.share.max.assignment.interval.ms", "15000", Any, "Largest time between two assignments that share groups may choose."),
    fixed(Accepted, Int, "group.share.max.delivery.count.limit", "10", Any, "Largest limit of deliveries that share groups may choose."),
    fixed(Accepted, Int, "group.share.max.heartbeat.interval.ms", "15000", Any, "Largest heartbeat interval that share groups may choose."),
    fixed(Accepted, Int, "group.share.max.partition.max.record.locks", "4000", Any, "Largest limit of locked records that share groups may choose."),
    fixed(Accepted, Int, "group.share.max.session.timeout.ms", "60000", Any, "Largest session timeout that share groups may choose."),
    fixed(Accepted, Int, "group.share.min.assignment.interval.ms", "0", Any, "Smallest time between two assignments that share groups may choose."),
    fixed(Accepted, Int, "group.share.min.delivery.count.limit", "2", Any, "Smallest limit of deliveries that share groups may choose."),
    fixed(Accepted, Int, "group.share.min.heartbeat.interval.ms", "5000", Any, "Smallest heartbeat interval that share groups may choose."),
    fixed(Accepted, Int, "group.share.min.partition.max.record.locks", "100", Any, "Smallest limit of locked records that share groups may choose."),
    fixed(Accepted, Int, "group.share.min.session.timeout.ms", "45000", Any, "Smallest session timeout that share groups may choose."),
    live(Accepted, Int, "group.streams.assignment.interval.ms", "1000", Any, "Time between two assignments of streams groups."),
    fixed(Accepted, List, "group.streams.assignors", "sticky", Any, "Assignors of streams groups."),
    fixed(Accepted, Int, "group.streams.initial.rebalance.delay.ms", "3000", Any, "Time that new streams groups wait for members."),
    fixed(Accepted, Int, "group.streams.max.assignment.interval.ms", "15000", Any, "Largest time between two assignments that streams groups may choose."),
    fixed(Accepted, Int, "group.streams.max.heartbeat.interval.ms", "15000", Any, "Largest heartbeat interval that streams groups may choose."),
    fixed(Accepted, Int, "group.streams.max.session.timeout.ms", "60000", Any, "Largest session timeout that streams groups may choose."),
    fixed(Accepted, Int, "group.streams.max.standby.replicas", "2", Any, "Largest number of standby replicas that streams groups may choose."),
    fixed(Accepted, Int, "group.streams.min.assignment.interval.ms", "0", Any, "Smallest time between two assignments that streams groups may choose."),
    fixed(Accepted, Int, "group.streams.min.heartbeat.interval.ms", "5000", Any, "Smallest heartbeat interval that streams groups may choose."),
    fixed(Accepted, Int, "group.streams.min.session.timeout.ms", "45000", Any, "Smallest session timeout that streams groups may choose."),
    fixed(Accepted, List, "group.streams.rack.aware.assignment.tags", "", Any, "Tags by which streams groups spread over racks."),
    unset(fixed(Accepted, Class, "group.streams.topology.description.plugin.class", "", Any, "Java class that describes streams groups.")),
    live(Accepted, Long, "log.remote.copy.lag.bytes", "-1", Any, "Bytes that may wait for their upload."),
    live(Accepted, Long, "log.remote.copy.lag.ms", "0", Any, "Time that records may wait for their upload."),
    live(Accepted, Int, "max.decompressed.message.bytes", "2147483639", Any, "Largest record batch once unpacked; here 128 MiB where the broker looks inside."),
    live(Accepted, Int, "remote.fetch.max.wait.ms", "500", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Long, "remote.list.offsets.request.timeout.ms", "30000", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Long, "remote.log.index.file.cache.total.size.bytes", "1073741824", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Int, "remote.log.manager.copier.thread.pool.size", "10", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Long, "remote.log.manager.copy.max.bytes.per.second", "9223372036854775807", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Int, "remote.log.manager.copy.quota.window.num", "11", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Int, "remote.log.manager.copy.quota.window.size.seconds", "1", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Int, "remote.log.manager.expiration.thread.pool.size", "10", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Long, "remote.log.manager.fetch.max.bytes.per.second", "9223372036854775807", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Int, "remote.log.manager.fetch.quota.window.num", "11", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Int, "remote.log.manager.fetch.quota.window.size.seconds", "1", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Int, "remote.log.manager.follower.thread.pool.size", "2", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Long, "remote.log.manager.task.interval.ms", "30000", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Int, "remote.log.manager.thread.pool.size", "2", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Int, "remote.log.metadata.custom.metadata.max.bytes", "128", Any, "Part of tiered storage, which is not built."),
    fixed(Accepted, Text, "remote.log.metadata.manager.class.name", "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", Any, "Part of tiered storage, which is not built."),
    unset(fixed(Accepted, Text, "remote.log.metadata.manager.class.path", "", Any, "Part of tiered storage, which is not built.")),
    fixed(Accepted, Text, "remote.log.metadata.manager.impl.prefix", "rlmm.config.", Any, "Part of tiered storage, which is not built."),
    unset(fixed(Accepted, Text, "remote.log.metadata.manager.listener.name", "", Any, "Part of tiered storage, which is not built.")),
    fixed(Accepted, Int, "remote.log.reader.max.pending.tasks", "100", Any, "Part of tiered storage, which is not built."),
    live(Accepted, Int, "remote.log.reader.threads", "10", Any, "Part of tiered storage, which is not built."),
    unset(fixed(Accepted, Text, "remote.log.storage.manager.class.name", "", Any, "Part of tiered storage, which is not built.")),
    unset(fixed(Accepted, Text, "remote.log.storage.manager.class.path", "", Any, "Part of tiered storage, which is not built.")),
    fixed(Accepted, Text, "remote.log.storage.manager.impl.prefix", "rsm.config.", Any, "Part of tiered storage, which is not built."),
    unset(fixed(Accepted, Class, "sasl.client.callback.handler.class", "", Any, "Java class that answers SASL exchanges.")),
    live(Accepted, Text, "sasl.kerberos.kinit.cmd", "/usr/bin/kinit", Any, "Detail of the Kerberos login."),
    live(Accepted, Long, "sasl.kerberos.min.time.before.relogin", "60000", Any, "Detail of the Kerberos login."),
    live(Accepted, List, "sasl.kerberos.principal.to.local.rules", "DEFAULT", Any, "Detail of the Kerberos login."),
    live(Accepted, Double, "sasl.kerberos.ticket.renew.jitter", "0.05", Any, "Detail of the Kerberos login."),
    live(Accepted, Double, "sasl.kerberos.ticket.renew.window.factor", "0.8", Any, "Detail of the Kerberos login."),
    unset(fixed(Accepted, Class, "sasl.login.callback.handler.class", "", Any, "Detail of how a SASL login is kept fresh.")),
    unset(fixed(Accepted, Class, "sasl.login.class", "", Any, "Detail of how a SASL login is kept fresh.")),
    unset(fixed(Accepted, Int, "sasl.login.connect.timeout.ms", "", Any, "Detail of how a SASL login is kept fresh.")),
    unset(fixed(Accepted, Int, "sasl.login.read.timeout.ms", "", Any, "Detail of how a SASL login is kept fresh.")),
    live(Accepted, Short, "sasl.login.refresh.buffer.seconds", "300", Any, "Detail of how a SASL login is kept fresh."),
    live(Accepted, Short, "sasl.login.refresh.min.period.seconds", "60", Any, "Detail of how a SASL login is kept fresh."),
    live(Accepted, Double, "sasl.login.refresh.window.factor", "0.8", Any, "Detail of how a SASL login is kept fresh."),
    live(Accepted, Double, "sasl.login.refresh.window.jitter", "0.05", Any, "Detail of how a SASL login is kept fresh."),
    fixed(Accepted, Long, "sasl.login.retry.backoff.max.ms", "10000", Any, "Detail of how a SASL login is kept fresh."),
    fixed(Accepted, Long, "sasl.login.retry.backoff.ms", "100", Any, "Detail of how a SASL login is kept fresh."),
    fixed(Accepted, Boolean, "sasl.oauthbearer.allow.unverified.audience", "false", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, Boolean, "sasl.oauthbearer.allow.unverified.issuer", "false", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, Text, "sasl.oauthbearer.assertion.algorithm", "RS256", Any, "How OAUTHBEARER tokens are fetched or checked."),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.assertion.claim.aud", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    fixed(Accepted, Int, "sasl.oauthbearer.assertion.claim.exp.seconds", "300", Any, "How OAUTHBEARER tokens are fetched or checked."),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.assertion.claim.iss", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    fixed(Accepted, Boolean, "sasl.oauthbearer.assertion.claim.jti.include", "false", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, Int, "sasl.oauthbearer.assertion.claim.nbf.seconds", "60", Any, "How OAUTHBEARER tokens are fetched or checked."),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.assertion.claim.sub", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.assertion.file", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.assertion.private.key.file", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    unset(fixed(Accepted, Password, "sasl.oauthbearer.assertion.private.key.passphrase", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.assertion.template.file", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.client.credentials.client.id", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    unset(fixed(Accepted, Password, "sasl.oauthbearer.client.credentials.client.secret", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    fixed(Accepted, Int, "sasl.oauthbearer.clock.skew.seconds", "30", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, List, "sasl.oauthbearer.expected.audience", "", Any, "How OAUTHBEARER tokens are fetched or checked."),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.expected.issuer", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    fixed(Accepted, Long, "sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, Long, "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "10000", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, Long, "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100", Any, "How OAUTHBEARER tokens are fetched or checked."),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.jwks.endpoint.url", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    fixed(Accepted, Class, "sasl.oauthbearer.jwt.retriever.class", "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, Class, "sasl.oauthbearer.jwt.validator.class", "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", Any, "How OAUTHBEARER tokens are fetched or checked."),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.scope", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    fixed(Accepted, Text, "sasl.oauthbearer.scope.claim.name", "scope", Any, "How OAUTHBEARER tokens are fetched or checked."),
    fixed(Accepted, Text, "sasl.oauthbearer.sub.claim.name", "sub", Any, "How OAUTHBEARER tokens are fetched or checked."),
    unset(fixed(Accepted, Text, "sasl.oauthbearer.token.endpoint.url", "", Any, "How OAUTHBEARER tokens are fetched or checked.")),
    unset(fixed(Accepted, Class, "sasl.server.callback.handler.class", "", Any, "Java class that answers SASL exchanges.")),
    unset(fixed(Accepted, Text, "security.providers", "", Any, "Java classes of security algorithms.")),
    live(Accepted, Int, "share.coordinator.cached.buffer.max.bytes", "1048588", Any, "Largest write buffer that a coordinator keeps."),
    fixed(Accepted, Int, "share.coordinator.load.buffer.size", "5242880", Any, "Batch size when share state is loaded."),
    fixed(Accepted, Int, "share.fetch.purgatory.purge.interval.requests", "1000", Any, "Upkeep of waiting share fetches."),
    fixed(Accepted, Long, "socket.connection.setup.timeout.max.ms", "30000", Any, "Longest wait for an outgoing connection."),
    fixed(Accepted, Long, "socket.connection.setup.timeout.ms", "10000", Any, "First wait for an outgoing connection."),
    fixed(Accepted, Boolean, "ssl.allow.dn.changes", "false", Any, "Detail of the TLS machinery of Java."),
    fixed(Accepted, Boolean, "ssl.allow.san.changes", "false", Any, "Detail of the TLS machinery of Java."),
    unset(live(Accepted, Class, "ssl.engine.factory.class", "", Any, "Detail of the TLS machinery of Java.")),
    live(Accepted, Text, "ssl.keymanager.algorithm", "SunX509", Any, "Detail of the TLS machinery of Java."),
    unset(live(Accepted, Text, "ssl.provider", "", Any, "Detail of the TLS machinery of Java.")),
    unset(live(Accepted, Text, "ssl.secure.random.implementation", "", Any, "Detail of the TLS machinery of Java.")),
    live(Accepted, Text, "ssl.trustmanager.algorithm", "PKIX", Any, "Detail of the TLS machinery of Java."),
    fixed(Accepted, Int, "telemetry.max.bytes", "1048576", Any, "Largest report of client telemetry."),
];

#[rustfmt::skip]
static GROUP: &[Definition] = &[
    group(Int, "consumer.assignment.interval.ms", "1000", from(0), &["group.consumer.assignment.interval.ms"], "Shortest time between two assignments of the consumer group."),
    group(Int, "consumer.heartbeat.interval.ms", "5000", from(1), &["group.consumer.heartbeat.interval.ms"], "Heartbeat interval of the consumer group's members."),
    group(Int, "consumer.session.timeout.ms", "45000", from(1), &["group.consumer.session.timeout.ms"], "Time without a heartbeat after which a member of the consumer group is taken for gone."),
    group(Boolean, "errors.deadletterqueue.copy.record.enable", "false", Any, &[], "Whether the share group's dead letter topic gets the record itself, or only where it was and why."),
    group(Text, "errors.deadletterqueue.topic.name", "", Any, &[], "Dead letter topic of the share group; empty is none."),
    group(Int, "share.assignment.interval.ms", "1000", from(0), &["group.share.assignment.interval.ms"], "Shortest time between two assignments of the share group."),
    group(Text, "share.auto.offset.reset", "latest", OffsetReset, &[], "Where the share group begins in a partition: earliest, latest, or by_duration: and an ISO 8601 duration."),
    group(Int, "share.delivery.count.limit", "5", from(2), &["group.share.delivery.count.limit"], "Deliveries of a record before the share group gives it up."),
    group(Int, "share.heartbeat.interval.ms", "5000", from(1), &["group.share.heartbeat.interval.ms"], "Heartbeat interval of the share group's members."),
    group(Text, "share.isolation.level", "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), &[], "Whether the share group sees records of transactions before they are committed."),
    group(Int, "share.partition.max.record.locks", "2000", from(100), &["group.share.partition.max.record.locks"], "Most records that the share group locks in one partition."),
    group(Int, "share.record.lock.duration.ms", "30000", from(1000), &["group.share.record.lock.duration.ms"], "How long a record stays locked for the member of the share group that got it."),
    group(Boolean, "share.renew.acknowledge.enable", "true", Any, &[], "Whether members of the share group may renew the lock of a record."),
    group(Int, "share.session.timeout.ms", "45000", from(1), &["group.share.session.timeout.ms"], "Time without a heartbeat after which a member of the share group is taken for gone."),
    group(Int, "streams.assignment.interval.ms", "1000", from(0), &["group.streams.assignment.interval.ms"], "Shortest time between two assignments of the streams group."),
    group(Text, "streams.assignor.name", "sticky", Any, &["group.streams.assignors"], "Assignor of the streams group; the first of the broker's where none is named."),
    group(Int, "streams.heartbeat.interval.ms", "5000", from(1), &["group.streams.heartbeat.interval.ms"], "Heartbeat interval of the streams group's members."),
    group(Int, "streams.initial.rebalance.delay.ms", "3000", from(0), &["group.streams.initial.rebalance.delay.ms"], "Time that a new streams group waits for members."),
    group(Int, "streams.num.standby.replicas", "0", from(0), &["group.streams.num.standby.replicas"], "Standby replicas of each task of the streams group."),
    group(List, "streams.rack.aware.assignment.tags", "", Any, &["group.streams.rack.aware.assignment.tags"], "Client tags by which standby replicas of the streams group are spread."),
    group(Int, "streams.session.timeout.ms", "45000", from(1), &["group.streams.session.timeout.ms"], "Time without a heartbeat after which a member of the streams group is taken for gone."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// The settings as they stand in `docs/protocol.md`.
    fn page() -> String {
        let mut text = String::new();
        for (title, definitions) in [("Topics", TOPIC), ("Groups", GROUP), ("Brokers", BROKER)] {
            let cells = "| name | default | effect | at run time | meaning |\n| --- | --- | --- | --- | --- |";
            let _ = write!(text, "\n### {title}\n\n{cells}\n");
            for d in definitions {
                let default =
                    d.default.map_or("–".to_string(), |v| if v.is_empty() { "empty".into() } else { format!("`{v}`") });
                let effect = match d.effect {
                    Acts => "acts",
                    Accepted => "accepted",
                    Later => "not yet",
                    Removed => "removed",
                };
                let live = if d.dynamic { "yes" } else { "no" };
                let synonyms = match d.synonyms {
                    [] => String::new(),
                    names => format!(" Broker: `{}`.", names.join("`, `")),
                };
                let _ = writeln!(text, "| `{}` | {default} | {effect} | {live} | {}{synonyms} |", d.name, d.doc);
            }
        }
        text
    }

    /// `MILLSTREAM_TEST_WRITE_DOCS=1 cargo test -p millstream --lib settings_page` writes it anew.
    #[test]
    fn the_settings_page_is_the_table() {
        const MARK: &str = "<!-- settings: made from src/config/table.rs by its test -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
        let whole = std::fs::read_to_string(path).unwrap();
        let (before, after) = whole.split_once(MARK).expect("the mark of the settings in docs/protocol.md");
        if std::env::var_os("MILLSTREAM_TEST_WRITE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{MARK}{}", page())).unwrap();
        } else {
            assert!(after == page(), "docs/protocol.md is behind src/config/table.rs; see the comment of this test");
        }
    }
}

//! Every shape of the HTTP admin API, in one place: what `/v1` answers and takes. Errors are [`super::Problem`].
//!
//! Names are snake_case; times are milliseconds since 1970 (`_ms`) unless a name says seconds; offsets and counts are whole numbers. A field that is not known is null, never
//! guessed. Bodies with fields that are not known here are refused.

use crate::limits::{PUBLISH_HEADERS_MAX, PUBLISH_RECORDS_MAX};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt, marker::PhantomData};
use utoipa::ToSchema;

/// What a probe is told.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Status {
    /// `alive` or `ready`.
    #[schema(example = "ready")]
    pub status: String,
}

/// Rates over the last 60 seconds (fewer where there are fewer).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct Rates {
    /// Bytes appended a second.
    pub in_bytes_per_s: f64,
    /// Records appended a second.
    pub in_records_per_s: f64,
    /// Bytes given to consumers a second.
    pub out_bytes_per_s: f64,
    /// Records given to consumers a second.
    pub out_records_per_s: f64,
}

/// What a power loss now would take: appended, acknowledged as far as its acks asked for, not yet durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AtRisk {
    /// Records.
    pub records: i64,
    /// Bytes.
    pub bytes: i64,
    /// Age of the oldest of them, ms; null when there are none.
    pub oldest_ms: Option<i64>,
}

/// One line of the list of topics.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopicSummary {
    /// Its name.
    #[schema(example = "orders")]
    pub name: String,
    /// Its id (UUID).
    pub id: String,
    /// Kafka's own bookkeeping.
    pub internal: bool,
    /// Number of partitions.
    pub partitions: usize,
    /// Replicas of each.
    pub replication_factor: usize,
    /// Records now between start and watermark, of all partitions whose offsets are known.
    pub records: i64,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// `fsync` or `page-cache`.
    #[schema(example = "fsync")]
    pub durability: String,
    /// Traffic.
    pub rates: Rates,
    /// Not yet durable.
    pub at_risk: AtRisk,
}

/// A page of the list of topics, by name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopicList {
    /// The topics.
    pub topics: Vec<TopicSummary>,
    /// Cursor of the next page; null at the end.
    pub next: Option<String>,
}

/// One partition of a topic.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// Node that leads it; -1 = none.
    pub leader: i32,
    /// Epoch of that leadership.
    pub leader_epoch: i32,
    /// Nodes that hold it.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
    /// First offset there is.
    pub start_offset: Option<i64>,
    /// Consumers see what is below.
    pub high_watermark: Option<i64>,
    /// Consumers that read committed only see what is below.
    pub last_stable_offset: Option<i64>,
    /// Next offset to be written.
    pub end_offset: Option<i64>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Segments of its log; null while the log is closed.
    pub segments: Option<usize>,
    /// Why it is not served, if so.
    pub error: Option<String>,
}

/// A setting with where its value comes from.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Setting {
    /// Kafka's name, or ours with the prefix `millstream.`.
    #[schema(example = "retention.ms")]
    pub name: String,
    /// Value in force; null where there is none, and for secrets.
    pub value: Option<String>,
    /// `default`, `file`, `environment`, `command-line`, `dynamic-default`, `dynamic-broker`, `topic` or `group`.
    #[schema(example = "default")]
    pub source: String,
    /// Whether it can be changed at run time.
    pub dynamic: bool,
    /// Whether it is a secret: its value is never shown.
    pub secret: bool,
    /// What it means.
    pub meaning: String,
}

/// A topic in full.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Topic {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: TopicSummary,
    /// Its partitions, by number; at most as many as `limit` says.
    pub partition_details: Vec<Partition>,
    /// Cursor of the partitions that follow; null at the end.
    pub next: Option<String>,
    /// Its settings.
    pub configs: Vec<Setting>,
}

/// Records to be deleted from the start of partitions.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"partitions": [{"partition": 0, "before_offset": 42}, {"partition": 1}]}))]
pub struct DeleteRecords {
    /// One or more, each once.
    #[schema(min_items = 1)]
    pub partitions: Vec<DeleteBefore>,
}

/// Up to where.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteBefore {
    /// The partition.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    pub partition: i32,
    /// Records below this offset go; all that consumers can see where it is not given.
    #[schema(minimum = 0)]
    pub before_offset: Option<i64>,
}

/// What [`DeleteRecords`] did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeletedRecords {
    /// In the order asked.
    pub partitions: Vec<DeletedBefore>,
}

/// What became of one partition of [`DeleteRecords`].
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeletedBefore {
    /// The partition.
    pub partition: i32,
    /// First offset there is now; null where nothing was deleted.
    pub start_offset: Option<i64>,
    /// Why nothing was deleted, if so.
    pub error: Option<String>,
}

/// A topic to be created.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTopic {
    /// 1 to 249 of letters, digits, '.', '_' and '-'.
    #[schema(example = "orders", pattern = "^[A-Za-z0-9._-]{1,249}$")]
    pub name: String,
    /// `num.partitions` where it is not given.
    #[schema(minimum = 1, maximum = 100_000, example = 6)]
    pub partitions: Option<i32>,
    /// `default.replication.factor` where it is not given.
    #[schema(minimum = 1, maximum = 32_767)]
    pub replication_factor: Option<i16>,
    /// Settings of its own.
    #[serde(default)]
    #[schema(example = json!({"retention.ms": "86400000"}))]
    pub configs: BTreeMap<String, String>,
}

/// Changes of a topic; what is not named stays.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicChanges {
    /// Partitions it is to have: more than now.
    #[schema(minimum = 1, maximum = 100_000, example = 12)]
    pub partitions: Option<i32>,
    /// Settings to set; null takes back to the default.
    #[serde(default)]
    #[schema(example = json!({"retention.ms": "3600000", "segment.bytes": null}))]
    pub configs: BTreeMap<String, Option<String>>,
}

/// A key, value or header as it can be shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// `json`: `data` is the JSON itself; `text`: a string; `base64`: a string, the bytes in base64.
    #[schema(example = "json")]
    pub encoding: Encoding,
    /// See `encoding`. JSON is as it was published, byte by byte: numbers keep all their digits.
    #[schema(value_type = Value, example = json!({"order": 17, "total": 12345678901234567890u64}))]
    pub data: Box<RawValue>,
    /// Bytes of the whole; not needed when publishing.
    #[serde(default)]
    pub size_bytes: Option<usize>,
    /// `data` is text or base64 of the first bytes only; such a payload cannot be published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// How a [`Payload`] is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The JSON itself.
    Json,
    /// UTF-8 text.
    Text,
    /// Anything.
    Base64,
}

/// A header of a record.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its key; bytes that are no UTF-8 are shown as U+FFFD.
    #[schema(example = "trace")]
    pub key: String,
    /// Its value; null is one of its own.
    pub value: Option<Payload>,
}

/// A record.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Message {
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// Of the producer (`create`) or of the append (`append`); null = it has none.
    pub timestamp_ms: Option<i64>,
    /// `create` or `append`.
    pub timestamp_type: String,
    /// Its key.
    pub key: Option<Payload>,
    /// Its value; null is a tombstone.
    pub value: Option<Payload>,
    /// Its headers, in order; the first 64 where there are more.
    pub headers: Vec<Header>,
    /// How many headers it has.
    pub header_count: usize,
}

/// Offsets that hold nothing to be shown, and why: damaged, deleted meanwhile, or not to be unpacked. Equal offsets: the partition could not be read at all.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Hole {
    /// The partition.
    pub partition: i32,
    /// Where it begins.
    pub offset: i64,
    /// The offset behind it.
    pub next_offset: i64,
    /// Why, in a sentence.
    pub reason: String,
}

/// Records found.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessagePage {
    /// The records: by partition and offset, or newest first where that was asked for.
    pub messages: Vec<Message>,
    /// What could not be shown; at most 100.
    pub holes: Vec<Hole>,
    /// Cursor that goes on behind them; null when everything was seen. There may be one though no record was found: a page looks at 64 MiB at most.
    pub next: Option<String>,
    /// Cursor of the tail that begins where this page was made; only on a first page, newest first.
    pub live: Option<String>,
}

/// A record to be published.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// Where to; where it is not given the key decides as in Kafka's clients, without a key any.
    pub partition: Option<i32>,
    /// Now where it is not given.
    #[schema(minimum = 0)]
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Payload>,
    /// Its value; null is a tombstone.
    pub value: Option<Payload>,
    /// Its headers; 1,000 at most.
    #[serde(default, deserialize_with = "bounded::<_, _, PUBLISH_HEADERS_MAX>")]
    #[schema(max_items = 1000)]
    pub headers: Vec<Header>,
}

/// Records to be published. All of one partition are one batch: stored together or not at all.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// 1 to 10,000.
    #[serde(deserialize_with = "bounded::<_, _, PUBLISH_RECORDS_MAX>")]
    #[schema(min_items = 1, max_items = 10000)]
    pub messages: Vec<NewMessage>,
}

/// A list of at most `MAX`: what is longer is refused before it takes memory.
fn bounded<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List::<T, MAX>(PhantomData))
}

/// Where a published record lies.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Position {
    /// Its partition.
    pub partition: i32,
    /// Its offset; null when it was refused.
    pub offset: Option<i64>,
    /// Why it was refused, if so.
    pub error: Option<String>,
}

/// What became of the records of [`Publish`], in their order; durable as the topic asks for (acks=all).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Published {
    /// One for each.
    pub results: Vec<Position>,
}

/// One line of the list of groups.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupSummary {
    /// Its name.
    #[schema(example = "billing")]
    pub group: String,
    /// Kafka's name of its state.
    #[schema(example = "Stable")]
    pub state: String,
    /// `consumer` for consumers.
    pub protocol_type: String,
    /// Members now.
    pub members: usize,
    /// Topics it has committed offsets of, by name; at most 100.
    pub topics: Vec<String>,
    /// Records between what is committed and the watermark, over all partitions with a commit.
    pub lag_records: i64,
    /// Age of the oldest record not yet committed, over all partitions: the largest; null where nothing is known.
    pub lag_seconds: Option<f64>,
    /// Records committed a second, over the last 60 s; 0 for a group not in use for 15 minutes; null until two samples, 5 s apart, have seen the group.
    pub consume_records_per_s: Option<f64>,
    /// Records a second that came to the partitions committed to, over the same time.
    pub produce_records_per_s: Option<f64>,
    /// Seconds until the lag is 0 at the rates of the last 60 s; 0 at lag 0; null when it does not shrink, or the rates are not known.
    pub drain_seconds: Option<f64>,
}

/// A page of the list of groups, by name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupList {
    /// The groups.
    pub groups: Vec<GroupSummary>,
    /// Cursor of the next page; null at the end.
    pub next: Option<String>,
    /// What could not be asked in time, in words.
    pub missing: Vec<String>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: String,
    /// Its partitions, by number.
    pub partitions: Vec<i32>,
}

/// A member of a group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Member {
    /// Given by the coordinator.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// As the client calls itself.
    pub client_id: String,
    /// Where it calls from.
    pub client_host: String,
    /// What it owns; empty where the assignment is of a kind that cannot be read.
    pub assignment: Vec<TopicPartitions>,
    /// Topics that it subscribes to; empty unless the group is Stable, and where the subscription is of a kind that cannot be read.
    pub subscription: Vec<String>,
}

/// What [`GroupPartition::lag_seconds`] rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// When the broker appended the record.
    Append,
    /// The timestamp that the record carries.
    Timestamp,
}

/// A group's place in one partition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Member that owns it.
    pub member_id: Option<String>,
    /// Committed offset: the next that is to be read.
    pub committed_offset: Option<i64>,
    /// When it was committed.
    pub committed_ms: Option<i64>,
    /// First offset there is.
    pub start_offset: Option<i64>,
    /// Consumers see what is below.
    pub high_watermark: Option<i64>,
    /// Consumers that read committed only see what is below.
    pub last_stable_offset: Option<i64>,
    /// Records from the committed offset up to the watermark (as Kafka's tools count, those deleted meanwhile included); null without a commit, never negative.
    pub lag_records: Option<i64>,
    /// The same up to the last stable offset.
    pub lag_records_stable: Option<i64>,
    /// Of these, records deleted before they were committed (retention, DeleteRecords).
    pub lost_records: i64,
    /// Age of the first record not yet committed; 0 at lag 0, null without a commit, never negative.
    pub lag_seconds: Option<f64>,
    /// What `lag_seconds` rests on; null at lag 0, without a commit, and where no time is known.
    pub basis: Option<Basis>,
    /// Why something is not known, if so.
    pub error: Option<String>,
}

/// A group's lag at one moment.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct LagPoint {
    /// When.
    pub at_ms: i64,
    /// As [`GroupSummary::lag_records`].
    pub lag_records: i64,
    /// As [`GroupSummary::lag_seconds`].
    pub lag_seconds: Option<f64>,
}

/// A group in full.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Group {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: GroupSummary,
    /// Protocol (assignor) chosen; empty unless Stable.
    pub protocol: String,
    /// What is going on, in a sentence.
    pub explanation: String,
    /// Its members, by id.
    pub member_details: Vec<Member>,
    /// Everything it has committed or owns, by topic and partition.
    pub partitions: Vec<GroupPartition>,
    /// Lag over time, oldest first: a point each 5 s while the group is in use, 15 minutes at most.
    pub series: Vec<LagPoint>,
    /// What could not be asked in time, in words.
    pub missing: Vec<String>,
}

/// Where offsets are to be reset to: exactly one of these.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResetTo {
    /// The first record there is.
    Earliest,
    /// The watermark: only what comes.
    Latest,
    /// This offset; brought within start and watermark.
    Offset(i64),
    /// So many records on from what is committed (back where negative); brought within start and watermark.
    Shift(i64),
    /// The first record whose timestamp is this or later; the watermark where there is none.
    TimeMs(i64),
}

/// A reset of committed offsets.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OffsetReset {
    /// The topic.
    pub topic: String,
    /// Its partitions; all where it is not given.
    pub partitions: Option<Vec<i32>>,
    /// Where to.
    pub to: ResetTo,
    /// Nothing is changed, only shown. True where it is not given.
    #[serde(default = "yes")]
    pub dry_run: bool,
}

fn yes() -> bool {
    true
}

/// One partition of an [`OffsetReset`].
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResetPartition {
    /// The partition.
    pub partition: i32,
    /// Committed before; null = nothing.
    pub from_offset: Option<i64>,
    /// Committed after (or would be); null = nothing was changed.
    pub to_offset: Option<i64>,
    /// Why nothing was changed, if so.
    pub error: Option<String>,
}

/// What an [`OffsetReset`] did, or would do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResetResult {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// By number.
    pub partitions: Vec<ResetPartition>,
}

/// Committed offsets that were deleted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeletedOffsets {
    /// The group.
    pub group: String,
    /// Its offsets of this topic.
    pub topic: String,
    /// Partitions that had one, by number.
    pub partitions: Vec<i32>,
}

/// Traffic within one interval.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct ThroughputPoint {
    /// End of the interval.
    pub at_ms: i64,
    /// Bytes appended in it.
    pub in_bytes: u64,
    /// Records appended in it.
    pub in_records: u64,
    /// Bytes given to consumers in it.
    pub out_bytes: u64,
    /// Records given to consumers in it.
    pub out_records: u64,
}

/// Traffic over time of the broker, or of one topic.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Throughput {
    /// The topic; null = all together.
    pub topic: Option<String>,
    /// Length of an interval.
    pub interval_ms: u64,
    /// Oldest first, 180 at most.
    pub points: Vec<ThroughputPoint>,
    /// Rates now.
    pub rates: Rates,
    /// Topics with traffic, by name, with their rates; only where no topic was asked for, at most 1,000.
    pub topics: Vec<TopicRates>,
}

/// A topic's rates.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopicRates {
    /// The topic.
    pub topic: String,
    /// Its rates.
    pub rates: Rates,
}

/// One percentile.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Percentile {
    /// 0 to 100.
    pub percentile: f64,
    /// Microseconds.
    pub us: u64,
}

/// A bucket of a histogram.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Bucket {
    /// Largest value in it, microseconds.
    pub to_us: u64,
    /// Samples in it.
    pub count: u64,
}

/// A latency histogram.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Latency {
    /// `api`, `topic` or `group`.
    #[schema(example = "topic")]
    pub kind: String,
    /// API, topic or group.
    #[schema(example = "orders")]
    pub name: String,
    /// What was measured: `total`, `worked`, `received_to_appended`, `appended_to_settled`, `settled_to_acknowledged`, `received_to_acknowledged`, `appended_to_fetched`,
    /// `appended_to_committed`.
    #[schema(example = "received_to_acknowledged")]
    pub stage: String,
    /// Samples.
    pub count: u64,
    /// Mean, microseconds.
    pub mean_us: f64,
    /// Largest, microseconds.
    pub max_us: u64,
    /// 50, 75, 90, 95, 99, 99.9, 99.99.
    pub percentiles: Vec<Percentile>,
    /// Every bucket with samples; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<Bucket>>,
}

/// Latency histograms.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LatencyList {
    /// By kind, name and stage.
    pub histograms: Vec<Latency>,
    /// Cursor of the next page; null at the end.
    pub next: Option<String>,
    /// Fetches of partitions that could not be laid to one member of a group, since the start.
    pub unattributed: u64,
}

/// One broker of the cluster.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Node {
    /// node.id.
    pub node_id: i32,
    /// Where clients are told to find it; null = where they came in.
    pub advertised: Option<String>,
    /// Its rack.
    pub rack: Option<String>,
    /// Registered, but not taking part.
    pub fenced: bool,
}

/// A Kafka listener of this broker.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Listener {
    /// Its name.
    #[schema(example = "PLAINTEXT")]
    pub name: String,
    /// Where it listens.
    #[schema(example = "0.0.0.0:9092")]
    pub address: String,
    /// What its clients are told: an address, or that it is the one they connected to.
    pub told: String,
}

/// The cluster.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Cluster {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Release of this broker.
    pub version: String,
    /// This broker.
    pub node_id: i32,
    /// Seconds since it took records first.
    pub uptime_s: f64,
    /// Whether it takes records.
    pub ready: bool,
    /// Why not, if so.
    pub reason: Option<String>,
    /// Node that takes changes of the cluster's state; -1 = none now.
    pub controller: i32,
    /// Index of the last change of that state seen here.
    pub metadata_index: u64,
    /// What commands the cluster's members all understand.
    pub feature_level: u16,
    /// Kafka listeners of this broker.
    pub listeners: Vec<Listener>,
    /// All brokers, by id.
    pub nodes: Vec<Node>,
    /// Topics, internal ones too.
    pub topics: usize,
    /// Partitions of them.
    pub partitions: usize,
    /// Kafka connections now open.
    pub connections: u64,
    /// Bytes of all logs.
    pub size_bytes: u64,
    /// Traffic.
    pub rates: Rates,
    /// Not yet durable.
    pub at_risk: AtRisk,
}

/// Settings of this broker.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigList {
    /// By name.
    pub settings: Vec<Setting>,
}

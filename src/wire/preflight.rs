//! The bounds check before decoding.
//!
//! The message crate's decoder asks for memory by lengths from the wire before it has seen the bytes: a frame of 30 bytes can ask for hundreds of GiB. So each
//! request is walked here first, without allocating: every length is checked against the bytes left, and elements × size of their type are summed against 8 × the
//! body + 64 KiB. What passes decodes within that budget. The walk follows the decoder step by step, so that both come to the same verdict (tested): trailing
//! bytes are ignored, the size of a known tagged field is not looked at, a null is refused where the decoder has no `Option`.
//!
//! **Adding a message**: one entry of [`SHAPES`], the fields in wire order as the crate's `Decodable` reads them.

mod responses;

pub use responses::check as check_response;

use super::header::read_unsigned_varint;
use kafka_protocol::{
    messages::{
        BrokerId, GroupId, TopicName, alter_configs_request as alter, create_partitions_request::*,
        create_topics_request::*, delete_records_request::*, delete_topics_request::*, describe_configs_request::*,
        describe_log_dirs_request::*, describe_producers_request as producers, describe_topic_partitions_request::*,
        fetch_request::*, incremental_alter_configs_request::*, join_group_request::*, leave_group_request::*,
        list_offsets_request::*, metadata_request::*, offset_commit_request::*, offset_delete_request::*,
        offset_fetch_request::*, offset_for_leader_epoch_request::*, produce_request::*, sync_group_request::*,
    },
    protocol::StrBytes,
};
use std::{fmt, mem::size_of};

/// Memory that a body of no bytes may ask for.
const BUDGET_FLOOR_BYTES: usize = 64 << 10;
/// Memory that each byte of the body adds.
const BUDGET_FACTOR: usize = 8;
/// What the first unknown tagged field of a struct costs (a node of its map), and each further one.
const FIRST_TAG_BYTES: usize = 512;
const TAG_BYTES: usize = 96;

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No shape is known for the API.
    UnknownApi,
    /// A field reaches past the end.
    Truncated,
    /// A length is negative, or null where null is not allowed.
    Negative,
    /// An array (or the tagged fields) claims more elements than bytes are left.
    TooManyElements(u32),
    /// The decoded message would take more than the budget.
    OverBudget,
    /// A string is not UTF-8.
    NotUtf8,
    /// A tagged field that this version does not have.
    ForeignTag(u32),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::UnknownApi => f.write_str("no shape is known"),
            Refused::Truncated => f.write_str("a field reaches past the end of the frame"),
            Refused::Negative => f.write_str("a length is negative"),
            Refused::TooManyElements(n) => write!(f, "an array claims {n} elements, more than the frame can hold"),
            Refused::OverBudget => f.write_str("too many elements for the size of the frame"),
            Refused::NotUtf8 => f.write_str("a string is not UTF-8"),
            Refused::ForeignTag(tag) => write!(f, "tagged field {tag} is not of this version"),
        }
    }
}

/// Shape of one request message.
#[derive(Debug)]
pub struct Shape {
    key: i16,
    /// First version with compact lengths and tagged fields.
    flexible: i16,
    fields: &'static [Field],
}

/// One field: what it is, in which versions, and its tag if it is a tagged one.
#[derive(Debug, Clone, Copy)]
struct Field {
    kind: Kind,
    min: i16,
    max: i16,
    tag: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// So many bytes: integers, booleans, UUIDs.
    Fixed(usize),
    String {
        nullable: bool,
    },
    Bytes {
        nullable: bool,
    },
    /// Elements of `element_bytes` in memory. Elements that are structs end with tagged fields in flexible versions.
    Array {
        nullable: bool,
        element_bytes: usize,
        fields: &'static [Field],
        structs: bool,
    },
    /// One byte that says whether the struct follows.
    Optional(&'static [Field]),
    Struct(&'static [Field]),
}

impl Field {
    const fn of(kind: Kind) -> Field {
        Field { kind, min: 0, max: i16::MAX, tag: None }
    }
    const fn since(mut self, version: i16) -> Field {
        self.min = version;
        self
    }
    const fn until(mut self, version: i16) -> Field {
        self.max = version;
        self
    }
    const fn tagged(mut self, tag: u32) -> Field {
        self.tag = Some(tag);
        self
    }
    /// Null allowed.
    const fn nullable(mut self) -> Field {
        self.kind = match self.kind {
            Kind::String { .. } => Kind::String { nullable: true },
            Kind::Bytes { .. } => Kind::Bytes { nullable: true },
            Kind::Array { element_bytes, fields, structs, .. } => {
                Kind::Array { nullable: true, element_bytes, fields, structs }
            }
            _ => panic!("this kind of field has no null"),
        };
        self
    }
}

const BOOL: Field = Field::of(Kind::Fixed(1));
const INT8: Field = Field::of(Kind::Fixed(1));
const INT16: Field = Field::of(Kind::Fixed(2));
const INT32: Field = Field::of(Kind::Fixed(4));
const INT64: Field = Field::of(Kind::Fixed(8));
const UUID: Field = Field::of(Kind::Fixed(16));
const STRING: Field = Field::of(Kind::String { nullable: false });
const BYTES: Field = Field::of(Kind::Bytes { nullable: false });

/// An array of structs that decode to `T`.
const fn structs<T>(fields: &'static [Field]) -> Field {
    Field::of(Kind::Array { nullable: false, element_bytes: size_of::<T>(), fields, structs: true })
}
/// An array of plain values that decode to `T`.
const fn values<T>(field: &'static [Field; 1]) -> Field {
    Field::of(Kind::Array { nullable: false, element_bytes: size_of::<T>(), fields: field, structs: false })
}

/// Every request served, by key, in wire order.
#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    // Produce: transactional id, acks, timeout, topics [name or id, partitions [index, records]].
    Shape { key: 0, flexible: 9, fields: &[STRING.nullable(), INT16, INT32, structs::<TopicProduceData>(&[STRING.until(12), UUID.since(13),
        structs::<PartitionProduceData>(&[INT32, BYTES.nullable()])])] },
    // Fetch: replica id, max wait, min bytes, max bytes, isolation, session id and epoch, topics [name or id, partitions [index, leader epoch, offset,
    // last fetched epoch, log start, max bytes; replica directory, high watermark]], forgotten topics, rack; cluster id, replica state.
    Shape { key: 1, flexible: 12, fields: &[INT32.until(14), INT32, INT32, INT32, INT8, INT32.since(7), INT32.since(7),
        structs::<FetchTopic>(&[STRING.until(12), UUID.since(13), structs::<FetchPartition>(&[INT32, INT32.since(9), INT64, INT32.since(12), INT64.since(5), INT32,
            UUID.since(17).tagged(0), INT64.since(18).tagged(1)])]),
        structs::<ForgottenTopic>(&[STRING.since(7).until(12), UUID.since(13), values::<i32>(&[INT32])]).since(7), STRING.since(11),
        STRING.nullable().tagged(0), Field::of(Kind::Struct(&[INT32, INT64])).since(15).tagged(1)] },
    // ListOffsets: replica id, isolation, topics [name, partitions [index, leader epoch, timestamp]], timeout.
    Shape { key: 2, flexible: 6, fields: &[INT32, INT8.since(2), structs::<ListOffsetsTopic>(&[STRING,
        structs::<ListOffsetsPartition>(&[INT32, INT32.since(4), INT64])]), INT32.since(10)] },
    // Metadata: topics [id, name], auto creation, authorised operations of the cluster and of topics.
    Shape { key: 3, flexible: 9, fields: &[structs::<MetadataRequestTopic>(&[UUID.since(10), STRING.nullable()]).nullable(),
        BOOL.since(4), BOOL.since(8).until(10), BOOL.since(8)] },
    // OffsetCommit: group, generation, member, instance, retention, topics [name or id, partitions [index, offset, leader epoch, metadata]].
    Shape { key: 8, flexible: 8, fields: &[STRING, INT32, STRING, STRING.nullable().since(7), INT64.until(4),
        structs::<OffsetCommitRequestTopic>(&[STRING.until(9), UUID.since(10), structs::<OffsetCommitRequestPartition>(&[INT32, INT64, INT32.since(6), STRING.nullable()])])] },
    // OffsetFetch: group, topics [name, partitions]; or groups [id, member, member epoch, topics [name or id, partitions]]; stable ones only.
    Shape { key: 9, flexible: 6, fields: &[STRING.until(7), structs::<OffsetFetchRequestTopic>(&[STRING, values::<i32>(&[INT32])]).nullable().until(7),
        structs::<OffsetFetchRequestGroup>(&[STRING, STRING.nullable().since(9), INT32.since(9),
            structs::<OffsetFetchRequestTopics>(&[STRING.until(9), UUID.since(10), values::<i32>(&[INT32])]).nullable()]).since(8), BOOL.since(7)] },
    // FindCoordinator: key, key type; or keys.
    Shape { key: 10, flexible: 3, fields: &[STRING.until(3), INT8.since(1), values::<StrBytes>(&[STRING]).since(4)] },
    // JoinGroup: group, session timeout, rebalance timeout, member, instance, protocol type, protocols [name, metadata], reason.
    Shape { key: 11, flexible: 6, fields: &[STRING, INT32, INT32.since(1), STRING, STRING.nullable().since(5), STRING,
        structs::<JoinGroupRequestProtocol>(&[STRING, BYTES]), STRING.nullable().since(8)] },
    // Heartbeat: group, generation, member, instance.
    Shape { key: 12, flexible: 4, fields: &[STRING, INT32, STRING, STRING.nullable().since(3)] },
    // LeaveGroup: group, member; or members [id, instance, reason].
    Shape { key: 13, flexible: 4, fields: &[STRING, STRING.until(2), structs::<MemberIdentity>(&[STRING, STRING.nullable(), STRING.nullable().since(5)]).since(3)] },
    // SyncGroup: group, generation, member, instance, protocol type and name, assignments [member, assignment].
    Shape { key: 14, flexible: 4, fields: &[STRING, INT32, STRING, STRING.nullable().since(3), STRING.nullable().since(5), STRING.nullable().since(5),
        structs::<SyncGroupRequestAssignment>(&[STRING, BYTES])] },
    // DescribeGroups: groups, authorised operations.
    Shape { key: 15, flexible: 5, fields: &[values::<GroupId>(&[STRING]), BOOL.since(3)] },
    // ListGroups: states, types.
    Shape { key: 16, flexible: 3, fields: &[values::<StrBytes>(&[STRING]).since(4), values::<StrBytes>(&[STRING]).since(5)] },
    // ApiVersions: client software name and version, cluster id, node id.
    Shape { key: 18, flexible: 3, fields: &[STRING.since(3), STRING.since(3), STRING.nullable().since(5), INT32.since(5)] },
    // CreateTopics: topics [name, partitions, replication factor, assignments [partition, brokers], configs [name, value]], timeout, validate only.
    Shape { key: 19, flexible: 5, fields: &[structs::<CreatableTopic>(&[STRING, INT32, INT16,
        structs::<CreatableReplicaAssignment>(&[INT32, values::<BrokerId>(&[INT32])]), structs::<CreatableTopicConfig>(&[STRING, STRING.nullable()])]), INT32, BOOL] },
    // DeleteTopics: topics [name, id] or names, timeout.
    Shape { key: 20, flexible: 4, fields: &[structs::<DeleteTopicState>(&[STRING.nullable(), UUID]).since(6), values::<TopicName>(&[STRING]).until(5), INT32] },
    // DeleteRecords: topics [name, partitions [index, offset]], timeout.
    Shape { key: 21, flexible: 2, fields: &[structs::<DeleteRecordsTopic>(&[STRING, structs::<DeleteRecordsPartition>(&[INT32, INT64])]), INT32] },
    // InitProducerId: transactional id, timeout, producer id and epoch.
    Shape { key: 22, flexible: 2, fields: &[STRING.nullable(), INT32, INT64.since(3), INT16.since(3)] },
    // OffsetForLeaderEpoch: replica id, topics [name, partitions [index, current leader epoch, leader epoch]].
    Shape { key: 23, flexible: 4, fields: &[INT32.since(3), structs::<OffsetForLeaderTopic>(&[STRING, structs::<OffsetForLeaderPartition>(&[INT32, INT32, INT32])])] },
    // DescribeConfigs: resources [type, name, keys], synonyms, documentation.
    Shape { key: 32, flexible: 4, fields: &[structs::<DescribeConfigsResource>(&[INT8, STRING, values::<StrBytes>(&[STRING]).nullable()]), BOOL, BOOL.since(3)] },
    // AlterConfigs: resources [type, name, configs [name, value]], validate only.
    Shape { key: 33, flexible: 2, fields: &[structs::<alter::AlterConfigsResource>(&[INT8, STRING, structs::<alter::AlterableConfig>(&[STRING, STRING.nullable()])]), BOOL] },
    // DescribeLogDirs: topics [name, partitions].
    Shape { key: 35, flexible: 2, fields: &[structs::<DescribableLogDirTopic>(&[STRING, values::<i32>(&[INT32])]).nullable()] },
    // CreatePartitions: topics [name, count, assignments [brokers]], timeout, validate only.
    Shape { key: 37, flexible: 2, fields: &[structs::<CreatePartitionsTopic>(&[STRING, INT32,
        structs::<CreatePartitionsAssignment>(&[values::<BrokerId>(&[INT32])]).nullable()]), INT32, BOOL] },
    // DeleteGroups: groups.
    Shape { key: 42, flexible: 2, fields: &[values::<GroupId>(&[STRING])] },
    // IncrementalAlterConfigs: resources [type, name, configs [name, operation, value]], validate only.
    Shape { key: 44, flexible: 1, fields: &[structs::<AlterConfigsResource>(&[INT8, STRING, structs::<AlterableConfig>(&[STRING, INT8, STRING.nullable()])]), BOOL] },
    // OffsetDelete: group, topics [name, partitions [index]].
    Shape { key: 47, flexible: i16::MAX, fields: &[STRING, structs::<OffsetDeleteRequestTopic>(&[STRING, structs::<OffsetDeleteRequestPartition>(&[INT32])])] },
    // DescribeCluster: authorised operations, endpoint type, fenced brokers.
    Shape { key: 60, flexible: 0, fields: &[BOOL, INT8.since(1), BOOL.since(2)] },
    // DescribeProducers: topics [name, partitions].
    Shape { key: 61, flexible: 0, fields: &[structs::<producers::TopicRequest>(&[STRING, values::<i32>(&[INT32])])] },
    // DescribeTopicPartitions: topics [name], limit, cursor (topic, partition).
    Shape { key: 75, flexible: 0, fields: &[structs::<TopicRequest>(&[STRING]), INT32, Field::of(Kind::Optional(&[STRING, INT32]))] },
];

/// Shape of the request of an API, if there is one.
pub fn shape(key: i16) -> Option<&'static Shape> {
    SHAPES.binary_search_by_key(&key, |shape| shape.key).ok().map(|i| &SHAPES[i])
}

/// Checks the body of a request (after its header). `Ok`: the decoder may run; it succeeds, within the budget. Does not allocate.
pub fn check(key: i16, version: i16, body: &[u8]) -> Result<(), Refused> {
    let shape = shape(key).ok_or(Refused::UnknownApi)?;
    let budget_bytes = body.len() * BUDGET_FACTOR + BUDGET_FLOOR_BYTES;
    let mut walk = Walk { rest: body, version, flexible: version >= shape.flexible, budget_bytes };
    walk.fields(shape.fields)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    budget_bytes: usize,
}

impl Walk<'_> {
    /// A struct: its fields, then the tagged ones.
    fn fields(&mut self, fields: &[Field]) -> Result<(), Refused> {
        for field in fields.iter().filter(|field| field.tag.is_none()) {
            self.field(field)?;
        }
        if self.flexible { self.tagged(fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Result<(), Refused> {
        if (field.min..=field.max).contains(&self.version) { self.value(field.kind) } else { Ok(()) }
    }

    fn value(&mut self, kind: Kind) -> Result<(), Refused> {
        match kind {
            Kind::Fixed(bytes) => self.skip(bytes).map(drop),
            Kind::String { nullable } => {
                let length = if self.flexible { self.compact_length()? } else { self.length::<2>()? };
                match length {
                    Some(length) => {
                        std::str::from_utf8(self.skip(length as usize)?).map(drop).map_err(|_| Refused::NotUtf8)
                    }
                    None => null(nullable),
                }
            }
            Kind::Bytes { nullable } => match self.wide_length()? {
                Some(length) => self.skip(length as usize).map(drop),
                None => null(nullable),
            },
            Kind::Array { nullable, element_bytes, fields, structs } => match self.wide_length()? {
                Some(count) => self.array(count, element_bytes, fields, structs),
                None => null(nullable),
            },
            Kind::Optional(fields) => match self.skip(1)? {
                [1] => self.fields(fields),
                _ => Ok(()),
            },
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn array(&mut self, count: u32, element_bytes: usize, fields: &[Field], structs: bool) -> Result<(), Refused> {
        // Every element takes a byte at least, in every shape.
        if count as usize > self.rest.len() {
            return Err(Refused::TooManyElements(count));
        }
        self.charge(count as usize * element_bytes)?;
        for _ in 0..count {
            if structs { self.fields(fields)? } else { self.field(&fields[0])? }
        }
        Ok(())
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), Refused> {
        let count = self.unsigned_varint()?;
        // A tag and a size take two bytes at least.
        if count as usize > self.rest.len() / 2 {
            return Err(Refused::TooManyElements(count));
        }
        let mut unknown = 0;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            match fields.iter().find(|field| field.tag == Some(tag)) {
                Some(field) if (field.min..=field.max).contains(&self.version) => self.value(field.kind)?,
                Some(_) => return Err(Refused::ForeignTag(tag)),
                None => {
                    self.charge(if unknown == 0 { FIRST_TAG_BYTES } else { TAG_BYTES })?;
                    unknown += 1;
                    self.skip(size as usize)?;
                }
            }
        }
        Ok(())
    }

    /// Length of an array or of bytes.
    fn wide_length(&mut self) -> Result<Option<u32>, Refused> {
        if self.flexible { self.compact_length() } else { self.length::<4>() }
    }

    /// A length as a varint of length + 1; 0 = null.
    fn compact_length(&mut self) -> Result<Option<u32>, Refused> {
        Ok(self.unsigned_varint()?.checked_sub(1))
    }

    /// A length as a signed integer of `N` bytes (2 or 4); -1 = null.
    fn length<const N: usize>(&mut self) -> Result<Option<u32>, Refused> {
        let bytes = self.skip(N)?;
        let negative = bytes[0] & 0x80 != 0;
        let mut wide = if negative { [0xff; 4] } else { [0; 4] };
        wide[4 - N..].copy_from_slice(bytes);
        match i32::from_be_bytes(wide) {
            -1 => Ok(None),
            length => u32::try_from(length).map(Some).map_err(|_| Refused::Negative),
        }
    }

    fn unsigned_varint(&mut self) -> Result<u32, Refused> {
        read_unsigned_varint(&mut self.rest).ok_or(Refused::Truncated)
    }

    fn skip(&mut self, bytes: usize) -> Result<&[u8], Refused> {
        let (skipped, rest) = self.rest.split_at_checked(bytes).ok_or(Refused::Truncated)?;
        self.rest = rest;
        Ok(skipped)
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Refused> {
        self.budget_bytes = self.budget_bytes.checked_sub(bytes).ok_or(Refused::OverBudget)?;
        Ok(())
    }
}

fn null(allowed: bool) -> Result<(), Refused> {
    if allowed { Ok(()) } else { Err(Refused::Negative) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{newer, offset_ids};
    use bytes::Bytes;
    use kafka_protocol::{
        messages::*,
        protocol::{Decodable, Encodable, Message},
    };

    /// Runs the crate's decoder: bytes left over, or why not; and the message encoded again.
    fn decode(key: i16, version: i16, body: &[u8]) -> Result<(usize, Vec<u8>), String> {
        fn run<M: Decodable + Encodable>(version: i16, body: &[u8]) -> Result<(usize, Vec<u8>), String> {
            let mut bytes = Bytes::copy_from_slice(body);
            let message = M::decode(&mut bytes, version).map_err(|e| e.to_string())?;
            let mut again = Vec::new();
            message.encode(&mut again, version).map_err(|e| e.to_string())?;
            Ok((bytes.len(), again))
        }
        // Ours, which does not write.
        fn read<M: offset_ids::Body>(version: i16, body: &[u8]) -> Result<(usize, Vec<u8>), String> {
            let mut bytes = Bytes::copy_from_slice(body);
            M::read(&mut bytes, version).map_err(|e| e.to_string())?;
            Ok((bytes.len(), body.to_vec()))
        }
        match key {
            8 if version >= offset_ids::TOPIC_IDS => read::<offset_ids::OffsetCommitRequest>(version, body),
            9 if version >= offset_ids::TOPIC_IDS => read::<offset_ids::OffsetFetchRequest>(version, body),
            2 if version > 10 => read::<newer::ListOffsetsRequest>(version, body),
            18 if version > 4 => read::<newer::ApiVersionsRequest>(version, body),
            35 if version > 4 => read::<newer::DescribeLogDirsRequest>(version, body),
            42 if version > 2 => read::<newer::DeleteGroupsRequest>(version, body),
            0 => run::<ProduceRequest>(version, body),
            1 => run::<FetchRequest>(version, body),
            2 => run::<ListOffsetsRequest>(version, body),
            3 => run::<MetadataRequest>(version, body),
            8 => run::<OffsetCommitRequest>(version, body),
            9 => run::<OffsetFetchRequest>(version, body),
            10 => run::<FindCoordinatorRequest>(version, body),
            11 => run::<JoinGroupRequest>(version, body),
            12 => run::<HeartbeatRequest>(version, body),
            13 => run::<LeaveGroupRequest>(version, body),
            14 => run::<SyncGroupRequest>(version, body),
            15 => run::<DescribeGroupsRequest>(version, body),
            16 => run::<ListGroupsRequest>(version, body),
            18 => run::<ApiVersionsRequest>(version, body),
            19 => run::<CreateTopicsRequest>(version, body),
            20 => run::<DeleteTopicsRequest>(version, body),
            21 => run::<DeleteRecordsRequest>(version, body),
            22 => run::<InitProducerIdRequest>(version, body),
            23 => run::<OffsetForLeaderEpochRequest>(version, body),
            32 => run::<DescribeConfigsRequest>(version, body),
            33 => run::<AlterConfigsRequest>(version, body),
            35 => run::<DescribeLogDirsRequest>(version, body),
            37 => run::<CreatePartitionsRequest>(version, body),
            42 => run::<DeleteGroupsRequest>(version, body),
            44 => run::<IncrementalAlterConfigsRequest>(version, body),
            47 => run::<OffsetDeleteRequest>(version, body),
            60 => run::<DescribeClusterRequest>(version, body),
            61 => run::<DescribeProducersRequest>(version, body),
            75 => run::<DescribeTopicPartitionsRequest>(version, body),
            key => panic!("add API {key} here"),
        }
    }

    /// Every (shape, version) that the crate decodes, or we do.
    fn served() -> impl Iterator<Item = (&'static Shape, i16)> {
        SHAPES.iter().flat_map(|shape| {
            let known = ApiKey::try_from(shape.key).unwrap().valid_versions();
            let max = match shape.key {
                // v6 (two-phase commit) is not served.
                22 => 5,
                2 => newer::ListOffsetsRequest::VERSIONS.max,
                18 => newer::ApiVersionsRequest::VERSIONS.max,
                35 => newer::DescribeLogDirsRequest::VERSIONS.max,
                42 => newer::DeleteGroupsRequest::VERSIONS.max,
                _ => known.max,
            };
            (known.min..=max).map(move |version| (shape, version))
        })
    }

    /// A seeded generator (xorshift).
    pub(super) struct Random(u64);
    impl Random {
        /// Replayed by `MILLSTREAM_SEED`.
        pub(super) fn seeded(seed: u64) -> Random {
            let seed = std::env::var("MILLSTREAM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
            println!("MILLSTREAM_SEED={seed}");
            Random(seed.max(1))
        }
        pub(super) fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
        pub(super) fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }
    }

    /// Writes random messages of a shape, noting where lengths stand.
    struct Writer<'a> {
        out: Vec<u8>,
        version: i16,
        flexible: bool,
        random: &'a mut Random,
        /// (position, bytes) of each length.
        lengths: Vec<(usize, usize)>,
    }
    impl Writer<'_> {
        fn fields(&mut self, fields: &[Field]) {
            let version = self.version;
            let here = move |field: &&Field| (field.min..=field.max).contains(&version);
            for field in fields.iter().filter(|f| f.tag.is_none()).filter(here) {
                self.value(field.kind);
            }
            if self.flexible {
                let mut tags: Vec<_> = fields.iter().filter(|f| f.tag.is_some()).filter(here).collect();
                tags.retain(|_| self.random.below(2) == 0);
                let unknown = self.random.below(3);
                self.varint(tags.len() as u32 + unknown as u32);
                for field in tags {
                    let mut value = Writer { out: vec![], lengths: vec![], random: self.random, ..*self };
                    value.value(field.kind);
                    let value = value.out;
                    self.varint(field.tag.unwrap());
                    self.varint(value.len() as u32);
                    self.out.extend(value);
                }
                for i in 0..unknown {
                    let size = self.random.below(4);
                    self.varint(100 + i as u32);
                    self.varint(size as u32);
                    self.out.extend(vec![7; size as usize]);
                }
            }
        }
        fn value(&mut self, kind: Kind) {
            match kind {
                Kind::Fixed(bytes) => (0..bytes).for_each(|_| {
                    let byte = self.random.next() as u8;
                    self.out.push(byte)
                }),
                Kind::String { nullable } | Kind::Bytes { nullable } => {
                    let length = self.random.below(9);
                    let is_null = nullable && length == 0;
                    let width = if matches!(kind, Kind::String { .. }) { 2 } else { 4 };
                    self.length((!is_null).then_some(length as u32), width);
                    self.out.extend(vec![b'x'; length as usize]);
                }
                Kind::Array { nullable, fields, structs, .. } => {
                    let count = self.random.below(4);
                    self.length((!nullable || count > 0).then_some(count as u32), 4);
                    for _ in 0..count {
                        if structs { self.fields(fields) } else { self.value(fields[0].kind) }
                    }
                }
                Kind::Optional(fields) => {
                    let there = self.random.below(2) == 0;
                    self.out.push(if there { 1 } else { 0xff });
                    if there {
                        self.fields(fields)
                    }
                }
                Kind::Struct(fields) => self.fields(fields),
            }
        }
        fn length(&mut self, length: Option<u32>, width: usize) {
            let width = if self.flexible { 1 } else { width };
            self.lengths.push((self.out.len(), width));
            match length {
                length if self.flexible => self.varint(length.map_or(0, |n| n + 1)),
                length => self.out.extend(&length.map_or(-1, |n| n as i32).to_be_bytes()[4 - width..]),
            }
        }
        fn varint(&mut self, mut value: u32) {
            while value >= 0x80 {
                self.out.push(value as u8 | 0x80);
                value >>= 7;
            }
            self.out.push(value as u8);
        }
    }

    /// `MILLSTREAM_PREFLIGHT_ROUNDS` times as many as usual.
    pub(super) fn rounds(usual: usize) -> usize {
        let times = std::env::var("MILLSTREAM_PREFLIGHT_ROUNDS").ok().and_then(|times| times.parse().ok());
        usual * times.unwrap_or(1)
    }

    pub(super) type Written = (Vec<u8>, Vec<(usize, usize)>);

    pub(super) fn write(shape: &Shape, version: i16, random: &mut Random) -> Written {
        let flexible = version >= shape.flexible;
        let mut writer = Writer { out: vec![], version, flexible, random, lengths: vec![] };
        writer.fields(shape.fields);
        (writer.out, writer.lengths)
    }

    /// Holds preflight and decoder to one verdict. The decoder is not run where it would ask for the memory that preflight refuses.
    fn same_verdict(shape: &Shape, version: i16, body: &[u8], what: &str) {
        let verdict = check(shape.key, version, body);
        if matches!(verdict, Err(Refused::TooManyElements(_) | Refused::OverBudget)) {
            return;
        }
        let decoded = decode(shape.key, version, body);
        let decoded = decoded.or_else(|e| match e.contains("not available on the selected") {
            true => Ok((0, vec![])),
            false => Err(e),
        });
        assert_eq!(
            verdict.is_ok(),
            decoded.is_ok(),
            "API {} v{version}, {what}: preflight {verdict:?}, decoder {decoded:?}, body {body:?}",
            shape.key
        );
    }

    #[test]
    fn shapes_are_what_the_decoder_reads() {
        let mut random = Random::seeded(0x5eed);
        for (shape, version) in served() {
            for round in 0..rounds(50) {
                let (body, _) = write(shape, version, &mut random);
                let what = format!("API {} v{version} round {round} {body:?}", shape.key);
                assert_eq!(check(shape.key, version, &body), Ok(()), "{what}");
                let (left, again) = decode(shape.key, version, &body).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(left, 0, "{what}");
                assert_eq!(check(shape.key, version, &again), Ok(()), "{what}");
            }
        }
    }

    #[test]
    fn truncated_messages_are_refused_by_both() {
        let mut random = Random::seeded(0xcafe);
        for (shape, version) in served() {
            for _ in 0..rounds(5) {
                let (body, _) = write(shape, version, &mut random);
                for end in 0..body.len() {
                    assert!(check(shape.key, version, &body[..end]).is_err(), "API {} v{version} {end}", shape.key);
                    same_verdict(shape, version, &body[..end], "truncated");
                }
            }
        }
    }

    #[test]
    fn mutated_lengths_get_the_same_verdict() {
        let mut random = Random::seeded(0xfeed);
        for (shape, version) in served() {
            for _ in 0..rounds(20) {
                let (body, lengths) = write(shape, version, &mut random);
                for (position, width) in lengths {
                    for value in [-2i32, -1, 0, 1, 5, 0x7fff, i32::MAX, i32::MIN] {
                        let mut mutated = body.clone();
                        if version >= shape.flexible {
                            let mut varint =
                                Writer { out: vec![], version, flexible: true, random: &mut random, lengths: vec![] };
                            varint.varint(value as u32);
                            mutated.splice(position..position + 1, varint.out);
                        } else {
                            mutated.splice(position..position + width, value.to_be_bytes()[4 - width..].to_vec());
                        }
                        same_verdict(shape, version, &mutated, "length");
                    }
                }
            }
        }
    }

    #[test]
    fn random_bytes_get_the_same_verdict() {
        let mut random = Random::seeded(0xbabe);
        for (shape, version) in served() {
            for _ in 0..rounds(200) {
                let (mut body, _) = write(shape, version, &mut random);
                for _ in 0..1 + random.below(3) {
                    if !body.is_empty() {
                        let at = random.below(body.len() as u64) as usize;
                        body[at] = random.next() as u8;
                    }
                }
                same_verdict(shape, version, &body, "flipped");
                let noise: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
                same_verdict(shape, version, &noise, "noise");
            }
        }
    }

    #[test]
    fn a_small_frame_that_claims_two_billion_elements_is_refused() {
        let metadata = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(check(3, 1, &metadata), Err(Refused::TooManyElements(i32::MAX as u32)));
        let compact = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        assert_eq!(check(3, 12, &compact), Err(Refused::TooManyElements(u32::MAX - 1)));
    }

    #[test]
    fn an_honest_frame_of_tiny_elements_is_held_to_the_budget() {
        // A million nameless topics in 2 MiB would take 72 MB.
        let mut body = 1_000_000i32.to_be_bytes().to_vec();
        body.extend(vec![0; 2_000_000]);
        assert_eq!(check(3, 1, &body), Err(Refused::OverBudget));
        // Unknown tagged fields are paid for as well.
        let mut tags = vec![0, 0, 0, 0xc0, 0x84, 0x3d];
        for _ in 0..1_000_000 {
            tags.extend([100, 0]);
        }
        assert_eq!(check(3, 12, &tags), Err(Refused::OverBudget));
    }

    #[test]
    fn bytes_after_the_message_are_ignored() {
        let mut body = vec![0, 0, 0, 0];
        body.extend(b"trailing");
        assert_eq!(check(3, 0, &body), Ok(()));
        same_verdict(shape(3).unwrap(), 0, &body, "trailing");
    }
}

//! Gathers a Fetch response, v4–18, by hand: the crate's encoder would copy every record.
//!
//! All headers go into one buffer; the reply's chunks alternate between pieces of it and the record slices as they were handed in (held against the crate's
//! bytes by a test).

use super::{Reply, header::RequestHeader};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;
use uuid::Uuid;

/// First version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;

/// A Fetch response. Fields that a version does not have are left out of it.
#[derive(Debug, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// Of the whole request (session errors), v7+.
    pub error_code: i16,
    /// 0 = no session, v7+.
    pub session_id: i32,
    pub topics: Vec<FetchedTopic>,
    /// Where current leaders listen, v16+ (KIP-951).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of a response.
#[derive(Debug, Clone)]
pub struct FetchedTopic {
    /// Up to v12.
    pub name: Arc<str>,
    /// v13+.
    pub id: Uuid,
    pub partitions: Vec<FetchedPartition>,
}

/// One partition of a response.
#[derive(Debug, Clone)]
pub struct FetchedPartition {
    pub partition_index: i32,
    pub error_code: i16,
    /// -1 = unknown, as the next two.
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    /// v5+.
    pub log_start_offset: i64,
    /// (epoch, end offset) where the fetcher's log leaves the leader's, v12+ (KIP-595).
    pub diverging_epoch: Option<(i32, i64)>,
    /// (leader id, leader epoch) for a fetcher that came to the wrong broker, v12+ (KIP-951).
    pub current_leader: Option<(i32, i32)>,
    /// Aborted transactions of the records, for read_committed; `None` goes out as null.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// -1 = none, v11+.
    pub preferred_read_replica: i32,
    /// Whole batches in order, in as many slices as they come in; empty = no records (never null).
    pub records: Vec<Bytes>,
}

/// An aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl FetchedPartition {
    /// A partition that failed: no offsets, no records.
    pub fn error(partition_index: i32, error_code: i16) -> FetchedPartition {
        FetchedPartition {
            partition_index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }

    /// Bytes of records.
    pub fn records_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

impl FetchResponse {
    /// Gathers the reply to `header`, whose version (4–18) decides the format. Panics when the reply would be 2 GiB or more.
    pub fn gather(self, header: &RequestHeader) -> Reply {
        let version = header.api_version;
        assert!((4..=18).contains(&version), "Fetch v{version}");
        let mut out = Gather { buffer: BytesMut::with_capacity(self.headers_bytes_max()), slices: Vec::new() };
        out.buffer.put_i32(0);
        out.buffer.put_i32(header.correlation_id);
        if version >= FLEXIBLE {
            out.buffer.put_u8(0);
        }
        out.response(self, version);
        out.finish()
    }

    /// What the headers take at most, so that their buffer is allocated once.
    fn headers_bytes_max(&self) -> usize {
        let partition =
            |p: &FetchedPartition| 96 + p.aborted_transactions.as_ref().map_or(0, |aborted| aborted.len() * 17);
        let topic = |t: &FetchedTopic| 32 + t.name.len() + t.partitions.iter().map(partition).sum::<usize>();
        let endpoint = |e: &NodeEndpoint| 24 + e.host.len() + e.rack.as_ref().map_or(0, String::len);
        48 + self.topics.iter().map(topic).sum::<usize>() + self.node_endpoints.iter().map(endpoint).sum::<usize>()
    }
}

/// Headers in one buffer, with the record slices and where in the buffer each belongs.
struct Gather {
    buffer: BytesMut,
    slices: Vec<(usize, Bytes)>,
}

impl Gather {
    fn response(&mut self, response: FetchResponse, version: i16) {
        self.buffer.put_i32(response.throttle_time_ms);
        if version >= 7 {
            self.buffer.put_i16(response.error_code);
            self.buffer.put_i32(response.session_id);
        }
        self.count(Some(response.topics.len()), version);
        for topic in response.topics {
            self.topic(topic, version);
        }
        if version >= 16 && !response.node_endpoints.is_empty() {
            self.buffer.put_u8(1);
            self.endpoints(&response.node_endpoints);
        } else {
            self.no_tags(version);
        }
    }

    fn topic(&mut self, topic: FetchedTopic, version: i16) {
        match version {
            13.. => self.buffer.put_slice(topic.id.as_bytes()),
            FLEXIBLE => put_compact_string(&mut self.buffer, Some(&topic.name)),
            _ => {
                self.buffer.put_i16(topic.name.len() as i16);
                self.buffer.put_slice(topic.name.as_bytes());
            }
        }
        self.count(Some(topic.partitions.len()), version);
        for partition in topic.partitions {
            self.partition(partition, version);
        }
        self.no_tags(version);
    }

    fn partition(&mut self, partition: FetchedPartition, version: i16) {
        let records_bytes = partition.records_bytes();
        self.buffer.put_i32(partition.partition_index);
        self.buffer.put_i16(partition.error_code);
        self.buffer.put_i64(partition.high_watermark);
        self.buffer.put_i64(partition.last_stable_offset);
        if version >= 5 {
            self.buffer.put_i64(partition.log_start_offset);
        }
        self.count(partition.aborted_transactions.as_ref().map(Vec::len), version);
        for aborted in partition.aborted_transactions.unwrap_or_default() {
            self.buffer.put_i64(aborted.producer_id);
            self.buffer.put_i64(aborted.first_offset);
            self.no_tags(version);
        }
        if version >= 11 {
            self.buffer.put_i32(partition.preferred_read_replica);
        }
        self.count(Some(records_bytes), version);
        for slice in partition.records.into_iter().filter(|slice| !slice.is_empty()) {
            self.slices.push((self.buffer.len(), slice));
        }
        if version < FLEXIBLE {
            return;
        }
        let tags = usize::from(partition.diverging_epoch.is_some()) + usize::from(partition.current_leader.is_some());
        self.buffer.put_u8(tags as u8);
        // Each: tag, size, fields, no tagged fields of its own.
        if let Some((epoch, end_offset)) = partition.diverging_epoch {
            self.buffer.put_slice(&[0, 13]);
            self.buffer.put_i32(epoch);
            self.buffer.put_i64(end_offset);
            self.buffer.put_u8(0);
        }
        if let Some((leader_id, leader_epoch)) = partition.current_leader {
            self.buffer.put_slice(&[1, 9]);
            self.buffer.put_i32(leader_id);
            self.buffer.put_i32(leader_epoch);
            self.buffer.put_u8(0);
        }
    }

    /// Tagged field 0 of the response.
    fn endpoints(&mut self, endpoints: &[NodeEndpoint]) {
        let mut value = BytesMut::new();
        put_varint(&mut value, endpoints.len() as u32 + 1);
        for endpoint in endpoints {
            value.put_i32(endpoint.node_id);
            put_compact_string(&mut value, Some(&endpoint.host));
            value.put_i32(endpoint.port);
            put_compact_string(&mut value, endpoint.rack.as_deref());
            value.put_u8(0);
        }
        self.buffer.put_u8(0);
        put_varint(&mut self.buffer, value.len() as u32);
        self.buffer.put_slice(&value);
    }

    /// Length of an array or of bytes; `None` = null.
    fn count(&mut self, count: Option<usize>, version: i16) {
        let count = count.map(|n| u32::try_from(n).ok().filter(|n| *n <= i32::MAX as u32).expect("below 2 GiB"));
        match count {
            count if version >= FLEXIBLE => put_varint(&mut self.buffer, count.map_or(0, |n| n + 1)),
            count => self.buffer.put_i32(count.map_or(-1, |n| n as i32)),
        }
    }

    fn no_tags(&mut self, version: i16) {
        if version >= FLEXIBLE {
            self.buffer.put_u8(0);
        }
    }

    /// Sets the length prefix and cuts the buffer where the slices belong.
    fn finish(mut self) -> Reply {
        let records_bytes: usize = self.slices.iter().map(|(_, slice)| slice.len()).sum();
        let length = i32::try_from(self.buffer.len() - 4 + records_bytes).expect("a reply below 2 GiB");
        self.buffer[..4].copy_from_slice(&length.to_be_bytes());
        let headers = self.buffer.freeze();
        let mut chunks = Vec::with_capacity(2 * self.slices.len() + 1);
        let mut from = 0;
        for (position, slice) in self.slices {
            if position > from {
                chunks.push(headers.slice(from..position));
                from = position;
            }
            chunks.push(slice);
        }
        if from < headers.len() {
            chunks.push(headers.slice(from..));
        }
        Reply::new(chunks)
    }
}

fn put_compact_string(buffer: &mut BytesMut, value: Option<&str>) {
    put_varint(buffer, value.map_or(0, |value| value.len() as u32 + 1));
    buffer.put_slice(value.unwrap_or_default().as_bytes());
}

fn put_varint(buffer: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::{
        messages::{self as crate_messages, BrokerId, ProducerId, TopicName, fetch_response as theirs},
        protocol::{Encodable, HeaderVersion, StrBytes},
    };

    fn sample(version: i16) -> FetchResponse {
        let plain = FetchedPartition {
            partition_index: 3,
            error_code: 0,
            high_watermark: 77,
            last_stable_offset: 70,
            log_start_offset: 5,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: Some(vec![
                AbortedTransaction { producer_id: 9, first_offset: 60 },
                AbortedTransaction { producer_id: 10, first_offset: 61 },
            ]),
            preferred_read_replica: if version >= 11 { 2 } else { -1 },
            records: vec![Bytes::from(vec![1; 300]), Bytes::new(), Bytes::from_static(b"second slice")],
        };
        let diverging = FetchedPartition {
            diverging_epoch: (version >= 12).then_some((4, 1234)),
            current_leader: (version >= 12).then_some((8, 6)),
            ..FetchedPartition::error(4, 6)
        };
        let endpoint = |node_id, rack: Option<&str>| NodeEndpoint {
            node_id,
            host: "broker.example".to_string(),
            port: 9092,
            rack: rack.map(str::to_string),
        };
        FetchResponse {
            throttle_time_ms: 11,
            error_code: if version >= 7 { 70 } else { 0 },
            session_id: if version >= 7 { 123_456 } else { 0 },
            topics: vec![
                FetchedTopic { name: "orders".into(), id: Uuid::from_u128(7), partitions: vec![plain, diverging] },
                FetchedTopic { name: "".into(), id: Uuid::from_u128(8), partitions: vec![] },
            ],
            node_endpoints: match version {
                16.. => vec![endpoint(1, None), endpoint(2, Some("rack"))],
                _ => vec![],
            },
        }
    }

    /// The same response in the crate's types.
    fn in_crate_types(response: &FetchResponse, version: i16) -> crate_messages::FetchResponse {
        let partition = |p: &FetchedPartition| {
            let mut out = theirs::PartitionData::default()
                .with_partition_index(p.partition_index)
                .with_error_code(p.error_code)
                .with_high_watermark(p.high_watermark)
                .with_last_stable_offset(p.last_stable_offset)
                .with_log_start_offset(p.log_start_offset)
                .with_preferred_read_replica(BrokerId(p.preferred_read_replica))
                .with_records(Some(Bytes::from(p.records.concat())));
            out.aborted_transactions = p.aborted_transactions.as_ref().map(|aborted| {
                let one = |a: &AbortedTransaction| {
                    theirs::AbortedTransaction::default()
                        .with_producer_id(ProducerId(a.producer_id))
                        .with_first_offset(a.first_offset)
                };
                aborted.iter().map(one).collect()
            });
            if let Some((epoch, end_offset)) = p.diverging_epoch {
                out.diverging_epoch = theirs::EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
            }
            if let Some((leader_id, leader_epoch)) = p.current_leader {
                out.current_leader = theirs::LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(leader_id))
                    .with_leader_epoch(leader_epoch);
            }
            out
        };
        let topic = |t: &FetchedTopic| {
            let mut out = theirs::FetchableTopicResponse::default();
            match version {
                13.. => out.topic_id = t.id,
                _ => out.topic = TopicName(StrBytes::from_string(t.name.to_string())),
            }
            out.with_partitions(t.partitions.iter().map(partition).collect())
        };
        let endpoint = |e: &NodeEndpoint| {
            theirs::NodeEndpoint::default()
                .with_node_id(BrokerId(e.node_id))
                .with_host(StrBytes::from_string(e.host.clone()))
                .with_port(e.port)
                .with_rack(e.rack.clone().map(StrBytes::from_string))
        };
        crate_messages::FetchResponse::default()
            .with_throttle_time_ms(response.throttle_time_ms)
            .with_error_code(response.error_code)
            .with_session_id(response.session_id)
            .with_responses(response.topics.iter().map(topic).collect())
            .with_node_endpoints(response.node_endpoints.iter().map(endpoint).collect())
    }

    fn crate_bytes(response: &FetchResponse, version: i16) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 42];
        if crate_messages::FetchResponse::header_version(version) >= 1 {
            body.push(0);
        }
        in_crate_types(response, version).encode(&mut body, version).unwrap();
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend(body);
        frame
    }

    fn header(api_version: i16) -> RequestHeader {
        RequestHeader { api_key: 1, api_version, correlation_id: 42, client_id: None, size_bytes: 0 }
    }

    #[test]
    fn bytes_are_the_crates_in_every_version() {
        for version in 4..=18 {
            let expected = crate_bytes(&sample(version), version);
            let capacity = sample(version).headers_bytes_max();
            let reply = sample(version).gather(&header(version));
            assert_eq!(reply.chunks.concat(), expected, "v{version}");
            let records: usize = sample(version).topics[0].partitions[0].records_bytes();
            assert!(expected.len() - records <= capacity, "v{version}: headers take more than {capacity}");
            let empty = FetchResponse::default();
            let expected = crate_bytes(&empty, version);
            assert_eq!(empty.gather(&header(version)).chunks.concat(), expected, "v{version}, empty");
        }
    }

    #[test]
    fn records_are_not_copied() {
        let records = Bytes::from(vec![5; 100_000]);
        let mut response = sample(12);
        response.topics[0].partitions[0].records = vec![records.clone()];
        let reply = response.gather(&header(12));
        assert!(reply.chunks.iter().any(|chunk| chunk.as_ptr() == records.as_ptr() && chunk.len() == records.len()));
        assert_eq!(reply.chunks.len(), 3);
    }
}

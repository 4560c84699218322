//! A Kafka client for exact tests: one request, one reply, any version, no retries.

use crate::support::{PATIENCE, eventually};
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    indexmap::IndexMap,
    messages::{
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
        *,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
    records::{Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// Error codes that the tests name.
pub mod code {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const UNSUPPORTED_VERSION: i16 = 35;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    next: i32,
}

impl Client {
    pub fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, next: 0 }
    }

    /// Connects from an address of this machine.
    pub fn connect_from(from: &str, address: &str) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, next: 0 }
    }

    /// Writes one request; gives its correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.try_send(version, request).unwrap()
    }

    fn try_send<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<i32> {
        self.next += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(StrBytes::from_static_str("it")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.write_frame(&frame)?;
        Ok(self.next)
    }

    /// One request, its reply; an error when the broker is gone.
    pub fn try_call<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<R::Response> {
        let id = self.try_send(version, request)?;
        let (answered, body) = self.receive::<R>(version)?;
        assert_eq!(answered, id);
        Ok(body)
    }

    /// Sends a body in a version that the message crate does not have, with tagged fields; gives the body of the reply. ApiVersions is answered without them in
    /// the header.
    pub fn call_raw(&mut self, key: i16, version: i16, body: &[u8]) -> Bytes {
        self.next += 1;
        let mut frame = BytesMut::new();
        for half in [key, version, 0, self.next as i16, -1] {
            frame.extend_from_slice(&half.to_be_bytes());
        }
        frame.extend_from_slice(&[0]);
        frame.extend_from_slice(body);
        self.write_frame(&frame).unwrap();
        let reply = self.read_frame().unwrap();
        assert_eq!(reply[..4], self.next.to_be_bytes());
        reply.slice(if key == 18 { 4 } else { 5 }..)
    }

    /// Writes any bytes as one frame.
    pub fn write_frame(&mut self, frame: &[u8]) -> std::io::Result<()> {
        let mut all = (frame.len() as u32).to_be_bytes().to_vec();
        all.extend_from_slice(frame);
        self.stream.write_all(&all)
    }

    /// Reads one frame; an error when the broker closed the connection.
    pub fn read_frame(&mut self) -> std::io::Result<Bytes> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let mut body = vec![0; u32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// Reads the reply to a request of type `R`: correlation id and body.
    pub fn receive<R: Request>(&mut self, version: i16) -> std::io::Result<(i32, R::Response)> {
        let mut frame = self.read_frame()?;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let body = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes behind the reply of API {} version {version}", frame.len(), R::KEY);
        Ok((header.correlation_id, body))
    }

    /// One request, its reply.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        let (answered, body) = self.receive::<R>(version).unwrap();
        assert_eq!(answered, id);
        body
    }

    /// Creates a topic and waits until its partitions are led; gives the error code.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> i16 {
        let config =
            |(k, v): &(&str, &str)| CreatableTopicConfig::default().with_name(string(k)).with_value(Some(string(v)));
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let error = self.call(7, &request).topics[0].error_code;
        for partition in 0..if error == 0 { partitions } else { 0 } {
            eventually("the new partition is led", || (self.list_offset(name, partition, -1).0 == 0).then_some(()));
        }
        error
    }

    /// Sends a batch to one partition by topic name and gives what became of it.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: Bytes, acks: i16) -> PartitionProduceResponse {
        let request = produce_request(topic, &[(partition, batch)], acks);
        self.call(9, &request).responses[0].partition_responses[0].clone()
    }

    /// Fetches from one partition by topic name.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> PartitionData {
        self.fetch_in(12, topic, partition, offset, max_wait_ms)
    }

    /// The same in another version that names topics (4 to 12).
    pub fn fetch_in(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait_ms: i32,
    ) -> PartitionData {
        let p = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(64 << 20);
        let t = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![p]);
        let request = FetchRequest::default()
            .with_max_wait_ms(max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(64 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![t]);
        let response = self.call(version, &request);
        assert_eq!(response.error_code, 0);
        response.responses[0].partitions[0].clone()
    }

    /// All records from `offset` up to the watermark: (offset, key, value).
    pub fn read_all(&mut self, topic: &str, partition: i32, mut offset: i64) -> Vec<(i64, Bytes, Bytes)> {
        let mut all = Vec::new();
        loop {
            let got = self.fetch(topic, partition, offset, 0);
            assert_eq!(got.error_code, 0, "fetch {topic}-{partition} at {offset}");
            for r in records(&got) {
                if r.offset >= offset {
                    offset = r.offset + 1;
                    all.push((r.offset, r.key.unwrap_or_default(), r.value.unwrap_or_default()));
                }
            }
            if offset >= got.high_watermark {
                return all;
            }
        }
    }

    /// ListOffsets of one partition: (error, timestamp, offset).
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64, i64) {
        let p = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let t = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![p]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![t]);
        let response = self.call(10, &request);
        let p = &response.topics[0].partitions[0];
        (p.error_code, p.timestamp, p.offset)
    }

    /// DeleteRecords of one partition: (error, low watermark).
    pub fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> (i16, i64) {
        let p = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let t = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![p]);
        let request = DeleteRecordsRequest::default().with_topics(vec![t]).with_timeout_ms(30_000);
        let response = self.call(2, &request);
        let p = &response.topics[0].partitions[0];
        (p.error_code, p.low_watermark)
    }

    /// Sets one setting of a topic; gives the error code.
    pub fn set_topic(&mut self, topic: &str, name: &str, value: &str) -> i16 {
        use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let config = AlterableConfig::default().with_name(string(name)).with_value(Some(string(value)));
        let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(string(topic));
        let resource = resource.with_configs(vec![config]);
        self.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource])).responses[0].error_code
    }

    /// DeleteTopics by name; gives the error code.
    pub fn delete_topic(&mut self, topic: &str) -> i16 {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(topic)]).with_timeout_ms(30_000);
        self.call(5, &request).responses[0].error_code
    }

    /// A fresh producer id and its epoch.
    pub fn producer_id(&mut self) -> (i64, i16) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let response = self.call(4, &request);
        assert_eq!(response.error_code, 0);
        (response.producer_id.0, response.producer_epoch)
    }
}

pub fn string(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_string())
}

pub fn topic_name(s: &str) -> TopicName {
    TopicName(string(s))
}

/// A Produce request by topic name (versions to 12).
pub fn produce_request(topic: &str, batches: &[(i32, Bytes)], acks: i16) -> ProduceRequest {
    let data = |(p, b): &(i32, Bytes)| PartitionProduceData::default().with_index(*p).with_records(Some(b.clone()));
    let t = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(batches.iter().map(data).collect());
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![t])
}

/// The records of a fetched partition.
pub fn records(p: &PartitionData) -> Vec<Record> {
    let mut bytes = p.records.clone().unwrap_or_default();
    RecordBatchDecoder::decode_all(&mut bytes).unwrap().into_iter().flat_map(|set| set.records).collect()
}

/// Who wrote a batch: producer id, epoch, first sequence.
pub type Producer = (i64, i16, i32);

/// No producer.
pub const ANYONE: Producer = (-1, -1, -1);

/// One uncompressed batch of records with these values (key null, timestamp `timestamp_ms`).
pub fn batch<V: AsRef<[u8]>>(producer: Producer, timestamp_ms: i64, values: &[V]) -> Bytes {
    let records: Vec<Record> = values
        .iter()
        .enumerate()
        .map(|(i, v)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer.0,
            producer_epoch: producer.1,
            timestamp_type: TimestampType::Creation,
            offset: i as i64,
            // The encoder begins another batch where these do not follow each other, without a producer too.
            sequence: producer.2 + i as i32,
            timestamp: timestamp_ms,
            key: None,
            value: Some(Bytes::copy_from_slice(v.as_ref())),
            headers: IndexMap::new(),
        })
        .collect();
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, &records, &RecordEncodeOptions { version: 2, compression: Compression::None })
        .unwrap();
    out.freeze()
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

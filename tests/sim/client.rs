//! Requests put straight into the API layer, as a connection would.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
        *,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use millstream::{
    api::{self, Connection, Outcome},
    broker::Broker,
};
use std::{future::Future, pin::Pin, sync::Arc};

/// The topic everybody uses.
pub const TOPIC: &str = "t";

/// One connection to a broker in this process.
pub struct Client {
    broker: Arc<Broker>,
    connection: Arc<Connection>,
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Client {
    pub fn new(broker: &Arc<Broker>, id: u64) -> Client {
        let address = "127.0.0.1:9".parse().unwrap();
        Client {
            broker: broker.clone(),
            connection: Arc::new(Connection { id, listener: 0, local: address, peer: address }),
        }
    }

    /// Runs the accept stage; the future is the rest. A closed connection is a bug of the test or the broker.
    pub async fn send<R: Request>(&self, version: i16, request: &R) -> Later<R::Response>
    where
        R::Response: Send + 'static,
    {
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(StrBytes::from_static_str("sim")));
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let decode = move |reply: millstream::wire::Reply| {
            let mut all = BytesMut::with_capacity(reply.size_bytes());
            reply.chunks.iter().for_each(|c| all.put_slice(c));
            let mut all = all.freeze().slice(4..);
            ResponseHeader::decode(&mut all, R::Response::header_version(version)).unwrap();
            let response = R::Response::decode(&mut all, version).unwrap();
            assert!(all.is_empty(), "{} bytes behind a reply", all.len());
            response
        };
        match api::accept(&self.broker, &self.connection, frame.freeze(), tokio::time::Instant::now()).await {
            Outcome::Reply(reply) => Box::pin(std::future::ready(decode(reply))),
            Outcome::Later(later) => Box::pin(async move { decode(later.await) }),
            Outcome::Silent => panic!("no reply to key {}", R::KEY),
            Outcome::Close(reason) => panic!("connection closed: {reason:?}"),
        }
    }

    /// Accepts one batch; the future gives Kafka's code and the base offset.
    pub async fn produce(&self, partition: i32, acks: i16, batch: Bytes) -> Later<(i16, i64)> {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        let later = self.send(9, &request).await;
        Box::pin(async move {
            let response = later.await;
            let p = &response.responses[0].partition_responses[0];
            (p.error_code, p.base_offset)
        })
    }

    /// Code, high watermark, bytes.
    pub async fn fetch(&self, partition: i32, offset: i64, max_wait_ms: i32) -> (i16, i64, Bytes) {
        let p = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic =
            FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(TOPIC))).with_partitions(vec![p]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(8 << 20)
            .with_topics(vec![topic]);
        let response = self.send(11, &request).await.await;
        let p = &response.responses[0].partitions[0];
        (p.error_code, p.high_watermark, p.records.clone().unwrap_or_default())
    }

    /// Log start, or Kafka's code.
    pub async fn log_start(&self, partition: i32) -> Result<i64, i16> {
        let p = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-2);
        let topic =
            ListOffsetsTopic::default().with_name(TopicName(StrBytes::from_static_str(TOPIC))).with_partitions(vec![p]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let response = self.send(5, &request).await.await;
        let p = &response.topics[0].partitions[0];
        if p.error_code == 0 { Ok(p.offset) } else { Err(p.error_code) }
    }

    /// Kafka's code.
    pub async fn create_topic(&self, partitions: i32, durability: &'static str) -> i16 {
        let config = |(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(StrBytes::from_static_str(value)))
        };
        let configs = [("segment.bytes", "1048576"), ("millstream.durability", durability)].map(config);
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.into());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        self.send(5, &request).await.await.topics[0].error_code
    }

    /// Kafka's code.
    pub async fn delete_topic(&self) -> i16 {
        let names = vec![TopicName(StrBytes::from_static_str(TOPIC))];
        let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(30_000);
        self.send(4, &request).await.await.responses[0].error_code
    }

    /// Kafka's code and the low watermark.
    pub async fn delete_records(&self, partition: i32, offset: i64) -> (i16, i64) {
        let p = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partitions(vec![p]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let response = self.send(1, &request).await.await;
        let p = &response.topics[0].partitions[0];
        (p.error_code, p.low_watermark)
    }

    /// A new producer id, or Kafka's code.
    pub async fn init_producer(&self) -> Result<i64, i16> {
        let response = self
            .send(1, &InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000))
            .await
            .await;
        if response.error_code == 0 { Ok(response.producer_id.0) } else { Err(response.error_code) }
    }
}

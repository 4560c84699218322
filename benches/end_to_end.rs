//! Produce through a whole broker in this process, over one loopback connection: `cargo bench --bench end_to_end`.
//!
//! Client and broker share the machine, and the data lies in `TMPDIR`: point it at a disk. A number says what a round trip takes here and now; compare within one run.
//! For rates of many connections and CPU seconds of the broker alone see `docs/performance.md`.

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::{
    messages::{
        CreateTopicsRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
        create_topics_request::CreatableTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use millstream::{Config, Env, Node};
use millstream_storage::{batch, record::BatchBuilder};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TOPIC: &str = "bench";
const CREATE_TOPICS_VERSION: i16 = 7;
const PRODUCE_VERSION: i16 = 12;

/// A connection; `buffer` is what replies are read into.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new() }
    }

    fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).unwrap();
    }

    fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        self.buffer.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.buffer).unwrap();
        let mut reply = Bytes::copy_from_slice(&self.buffer);
        ResponseHeader::decode(&mut reply, R::Response::header_version(version)).unwrap();
        R::Response::decode(&mut reply, version).unwrap()
    }
}

/// A request as it goes over the wire, with its length in front.
fn frame<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// A Produce of one batch of one record, `bytes` in all.
fn produce(bytes: usize, acks: i16) -> Vec<u8> {
    let value = vec![b'v'; bytes - batch::HEADER_BYTES - 12];
    let records = BatchBuilder::new().record(0, None, Some(&value), &[]).build();
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records.into()));
    let topic = TopicProduceData::default().with_name(topic_name()).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    frame(PRODUCE_VERSION, &request)
}

/// Few bytes are kept, so that a long run does not fill the disk; records of 1970 are.
fn config(directory: &std::path::Path, durability: &str) -> Config {
    Config::local(directory)
        .set("millstream.durability", durability)
        .set("log.segment.bytes", &(64 << 20).to_string())
        .set("log.retention.ms", "-1")
        .set("log.retention.bytes", &(128 << 20).to_string())
        .set("log.retention.check.interval.ms", "500")
        .set("log.segment.delete.delay.ms", "0")
}

fn produces(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (name, durability, acks) in
        [("produce acks=1, page-cache", "page-cache", 1), ("produce acks=all, fsync", "fsync", -1)]
    {
        let directory = tempfile::tempdir().unwrap();
        let node = runtime.block_on(Node::start(config(directory.path(), durability), Env::real())).unwrap();
        let mut client = Client::connect(node.kafka());
        let topic = CreatableTopic::default().with_name(topic_name()).with_num_partitions(1).with_replication_factor(1);
        let create = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic]);
        client.send(&frame(CREATE_TOPICS_VERSION, &create));
        let created = client.receive::<CreateTopicsRequest>(CREATE_TOPICS_VERSION);
        assert_eq!(created.topics[0].error_code, 0);

        let mut group = c.benchmark_group(name);
        for bytes in [1_100, 16 << 10] {
            for in_flight in [1, 5] {
                let requests = produce(bytes, acks).repeat(in_flight);
                group.throughput(Throughput::Bytes((bytes * in_flight) as u64));
                let id = BenchmarkId::from_parameter(format!("{in_flight} x {bytes} B in flight"));
                group.bench_function(id, |b| {
                    b.iter(|| {
                        client.send(&requests);
                        for _ in 0..in_flight {
                            let reply = client.receive::<ProduceRequest>(PRODUCE_VERSION);
                            assert_eq!(reply.responses[0].partition_responses[0].error_code, 0);
                        }
                    })
                });
            }
        }
        group.finish();
        runtime.block_on(node.stop());
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = produces
}
criterion_main!(benches);

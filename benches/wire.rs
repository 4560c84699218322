//! The wire, without sockets and disk: a Produce request read as the broker reads it, a Fetch reply gathered. `cargo bench --bench wire`.

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::{
    messages::{
        ProduceRequest, RequestHeader as Header,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, Encodable, StrBytes},
};
use millstream::wire::{
    fetch_response::{FetchResponse, FetchedPartition, FetchedTopic},
    header::{self, RequestHeader},
    preflight,
};
use millstream_storage::{batch, record::BatchBuilder};
use std::{hint::black_box, time::Duration};
use uuid::Uuid;

const PRODUCE: i16 = 0;
const PRODUCE_VERSION: i16 = 13;
const FETCH_VERSION: i16 = 18;

/// (partitions, bytes of each one's batch)
const SHAPES: [(i32, usize); 4] = [(1, 1_100), (1, 16 << 10), (1, 1 << 20), (100, 1_100)];

fn name(partitions: i32, bytes: usize) -> String {
    format!("{partitions} x {bytes} B")
}

/// One batch of one record, `bytes` in all.
fn batch_of(bytes: usize) -> Bytes {
    let value = vec![b'v'; bytes - batch::HEADER_BYTES - 12];
    BatchBuilder::new().record(0, None, Some(&value), &[]).build().into()
}

/// A frame, without its length prefix, as clients send it.
fn produce_frame(partitions: i32, bytes: usize) -> Bytes {
    let records = batch_of(bytes);
    let data = |p| PartitionProduceData::default().with_index(p).with_records(Some(records.clone()));
    let topic = TopicProduceData::default()
        .with_topic_id(Uuid::from_u128(7))
        .with_partition_data((0..partitions).map(data).collect());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let header = Header::default()
        .with_request_api_key(PRODUCE)
        .with_request_api_version(PRODUCE_VERSION)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    let mut frame = BytesMut::new();
    header.encode(&mut frame, 2).unwrap();
    request.encode(&mut frame, PRODUCE_VERSION).unwrap();
    frame.freeze()
}

/// Header, the bounds check, the message: all that happens to a request before its handler.
fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("read a Produce request");
    for (partitions, bytes) in SHAPES {
        let frame = produce_frame(partitions, bytes);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(name(partitions, bytes)), |b| {
            b.iter(|| {
                let header = header::parse(black_box(&frame), |_, version| version >= 9).unwrap();
                let mut body = frame.slice(header.size_bytes..);
                assert!(preflight::check(header.api_key, header.api_version, &body).is_ok());
                ProduceRequest::decode(&mut body, header.api_version).unwrap()
            })
        });
    }
}

/// The reply's chunks, ready for one vectored write; records are not copied.
fn replies(c: &mut Criterion) {
    let header =
        RequestHeader { api_key: 1, api_version: FETCH_VERSION, correlation_id: 1, client_id: None, size_bytes: 0 };
    let mut group = c.benchmark_group("gather a Fetch response");
    for (partitions, bytes) in SHAPES {
        let records = batch_of(bytes);
        let partition = |index| FetchedPartition {
            high_watermark: 1,
            last_stable_offset: 1,
            log_start_offset: 0,
            records: vec![records.clone()],
            ..FetchedPartition::error(index, 0)
        };
        let topic = FetchedTopic {
            name: "bench".into(),
            id: Uuid::from_u128(7),
            partitions: (0..partitions).map(partition).collect(),
        };
        let response = || FetchResponse { topics: vec![topic.clone()], ..FetchResponse::default() };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(name(partitions, bytes)), |b| {
            b.iter_batched(response, |response| response.gather(black_box(&header)), BatchSize::SmallInput)
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = requests, replies
}
criterion_main!(benches);

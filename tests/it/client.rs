//! Our own client layer against a running broker.

use crate::support::Broker;
use millstream::{
    Env,
    client::{
        Acks, Cluster, ClusterOptions, Compression, Consumer, ConsumerOptions, NewRecord, Producer, ProducerOptions,
        Start,
    },
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A topic name that nobody else uses, also on a foreign broker.
fn unique(stem: &str) -> String {
    format!("{stem}-{}", Env::real().random_uuid().simple())
}

async fn cluster(broker: &Broker) -> Cluster {
    Cluster::connect(&Env::real(), ClusterOptions::parse(&broker.kafka).unwrap()).await.unwrap()
}

/// All records of a topic's partitions from their beginning to the end they have now.
async fn all(cluster: &Cluster, topic: &str) -> Vec<(i32, millstream::client::Record)> {
    let mut consumer = Consumer::new(cluster, ConsumerOptions::default());
    let count = cluster.topic(topic).await.unwrap().partitions.len() as i32;
    for partition in 0..count {
        consumer.assign(topic, partition, Start::Earliest).await.unwrap();
    }
    let (mut out, mut at_end) = (Vec::new(), BTreeSet::new());
    while at_end.len() < count as usize {
        for fetched in consumer.poll(Duration::from_secs(5)).await.unwrap() {
            if fetched.is_at_end() {
                at_end.insert(fetched.partition);
            }
            out.extend(fetched.records.into_iter().map(|r| (fetched.partition, r)));
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_consumed_with_every_codec_and_ack() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (i, compression) in codecs.into_iter().enumerate() {
        let topic = unique("codec");
        let acks = [Acks::All, Acks::Leader, Acks::None][i % 3];
        let idempotent = i == 3;
        let options = ProducerOptions { acks, compression, idempotent, create_topic: true, ..Default::default() };
        let delivered: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
        let sink = delivered.clone();
        let producer = Producer::start(&cluster, &topic, options, move |delivery| {
            delivery.result.unwrap();
            sink.lock().unwrap().extend(delivery.tokens);
        })
        .await
        .unwrap();
        for n in 0..2_000u64 {
            let (key, value) = (format!("k{}", n % 7), format!("value {n}").repeat(20));
            let record = NewRecord {
                key: (n % 2 == 0).then_some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[("h", Some(b"x")), ("null", None)],
                timestamp_ms: Some(1_000 + n as i64),
                token: n,
                ..Default::default()
            };
            producer.send(record).await.unwrap();
        }
        producer.close().await;
        assert_eq!(delivered.lock().unwrap().len(), 2_000, "{compression:?}");
        // Only acks=all says that readers see it.
        let read = loop {
            let read = all(&cluster, &topic).await;
            if read.len() >= 2_000 || acks == Acks::All {
                break read;
            }
        };
        let values: BTreeSet<_> = read.iter().map(|(_, r)| r.value.clone().unwrap()).collect();
        assert_eq!((read.len(), values.len()), (2_000, 2_000), "{compression:?}");
        let (_, record) = &read[0];
        assert_eq!(record.headers, [("h".into(), Some("x".into())), ("null".into(), None)]);
        assert!(read.iter().all(|(_, r)| (1_000..3_000).contains(&r.timestamp_ms)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_waited_for_gets_its_offset() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let topic = unique("one");
    let options = ProducerOptions { create_topic: true, linger: Duration::ZERO, ..Default::default() };
    let producer = Producer::start(&cluster, &topic, options, |_| {}).await.unwrap();
    for n in 0..5 {
        let record = NewRecord { value: Some(b"v"), partition: Some(0), ..Default::default() };
        assert_eq!(producer.send_and_wait(record).await, Ok(n));
    }
    let wrong = NewRecord { partition: Some(99), ..Default::default() };
    assert!(producer.send(wrong).await.is_err());
    assert!(Producer::start(&cluster, &unique("none"), ProducerOptions::default(), |_| {}).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_found_by_offset_end_and_time() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let topic = unique("starts");
    let options = ProducerOptions { create_topic: true, ..Default::default() };
    let producer = Producer::start(&cluster, &topic, options, |_| {}).await.unwrap();
    for n in 0..10 {
        let record =
            NewRecord { value: Some(b"v"), partition: Some(0), timestamp_ms: Some(100 * n), ..Default::default() };
        producer.send(record).await.unwrap();
    }
    producer.close().await;
    let mut consumer = Consumer::new(&cluster, ConsumerOptions::default());
    for (start, offset) in [
        (Start::Earliest, 0),
        (Start::Latest, 10),
        (Start::Offset(4), 4),
        (Start::BeforeEnd(3), 7),
        (Start::BeforeEnd(30), 0),
        (Start::Time(250), 3),
        (Start::Time(5_000), 10),
    ] {
        assert_eq!(consumer.assign(&topic, 0, start).await, Ok(offset), "{start:?}");
        let first = loop {
            let fetched = consumer.poll(Duration::from_secs(5)).await.unwrap();
            if let Some(fetched) = fetched.into_iter().next() {
                break fetched;
            }
        };
        assert_eq!(first.records.first().map(|r| r.offset), (offset < 10).then_some(offset), "{start:?}");
    }
    consumer.assign(&topic, 0, Start::Offset(99)).await.unwrap();
    assert!(consumer.poll(Duration::from_secs(5)).await.is_err());
}

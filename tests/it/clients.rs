//! librdkafka publishes and consumes.

use crate::{
    support::{Broker, Options, PATIENCE, Proxy, foreign, temp},
    wire::Client,
};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What became of each record sent, by the number given to it.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// (number, partition and offset).
    pub acked: Mutex<Vec<(u64, i32, i64)>>,
    pub failed: Mutex<Vec<(u64, KafkaError)>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;
    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(m) => self.acked.lock().unwrap().push((*number, m.partition(), m.offset())),
            Err((e, _)) => self.failed.lock().unwrap().push((*number, e.clone())),
        }
    }
}

pub type Sender = ThreadedProducer<Deliveries>;

pub fn producer(address: &str, config: &[(&str, &str)]) -> Sender {
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", address).set("socket.timeout.ms", "10000").set("linger.ms", "2");
    c.set("message.timeout.ms", "50000")
        .set("reconnect.backoff.ms", "5")
        .set("reconnect.backoff.max.ms", "50")
        .set("retry.backoff.ms", "20");
    for (k, v) in config {
        c.set(*k, *v);
    }
    c.create_with_context(Deliveries::default()).unwrap()
}

/// Hands a record over, waiting while the client's queue is full.
pub fn send(p: &Sender, mut record: BaseRecord<'_, [u8], [u8], Box<u64>>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err((e, back)) = p.send(record) {
        assert_eq!(e, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
        assert!(Instant::now() < deadline, "the client's queue stays full");
        record = back;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the fate of everything sent; panics when something failed.
pub fn all_acked(p: &Sender) -> Vec<(u64, i32, i64)> {
    p.flush(PATIENCE).unwrap();
    let failed = p.context().failed.lock().unwrap();
    assert!(failed.is_empty(), "{} records failed, the first: {:?}", failed.len(), failed[0]);
    p.context().acked.lock().unwrap().clone()
}

pub fn consumer(address: &str) -> BaseConsumer {
    // librdkafka wants a group name even for `assign`; nothing is committed.
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", address)
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true");
    c.set("fetch.wait.max.ms", "100")
        .set("reconnect.backoff.ms", "5")
        .set("reconnect.backoff.max.ms", "50")
        .set("fetch.message.max.bytes", "4000000");
    c.create().unwrap()
}

/// Reads `count` records of one topic from the partitions and positions given.
pub fn consume(address: &str, topic: &str, from: &[(i32, Offset)], count: usize) -> Vec<OwnedMessage> {
    let c = consumer(address);
    let mut list = TopicPartitionList::new();
    for (p, o) in from {
        list.add_partition_offset(topic, *p, *o).unwrap();
    }
    c.assign(&list).unwrap();
    take(&c, count)
}

/// Polls `count` records.
pub fn take(c: &BaseConsumer, count: usize) -> Vec<OwnedMessage> {
    let deadline = Instant::now() + PATIENCE;
    let mut got = Vec::new();
    let mut last_error = None;
    while got.len() < count {
        match c.poll(Duration::from_millis(100)) {
            Some(Ok(m)) => got.push(m.detach()),
            // Errors of a group coordinator that is not there, of connections that come back.
            Some(Err(e)) => last_error = Some(e),
            None => {}
        }
        assert!(Instant::now() < deadline, "{} of {count} records, last error {last_error:?}", got.len());
    }
    got
}

/// A topic name that no other test uses, also on a foreign broker.
pub fn fresh(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}-{}-{}", std::process::id(), crate::wire::now_ms(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn partitions(n: i32) -> Vec<(i32, Offset)> {
    (0..n).map(|p| (p, Offset::Beginning)).collect()
}

#[test]
fn every_codec_brings_back_keys_values_headers_and_nulls_in_order() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = fresh(codec);
        assert_eq!(c.create_topic(&topic, 10, &[]), 0);
        let p = producer(&broker.kafka, &[("compression.codec", codec), ("acks", "all")]);
        let n = 1000u64;
        let key = |i: u64| (!i.is_multiple_of(7)).then(|| format!("key {i}").into_bytes());
        let value = |i: u64| {
            (!i.is_multiple_of(11)).then(|| format!("value {i} {}", "abc".repeat((i % 50) as usize)).into_bytes())
        };
        for i in 0..n {
            let (k, v) = (key(i), value(i));
            let number = i.to_string();
            let mut record = BaseRecord::with_opaque_to(&topic, Box::new(i)).partition((i % 10) as i32);
            if let Some(k) = &k {
                record = record.key(k.as_slice());
            }
            if let Some(v) = &v {
                record = record.payload(v.as_slice());
            }
            let headers = OwnedHeaders::new()
                .insert(Header { key: "number", value: Some(&number) })
                .insert(Header::<&str> { key: "null", value: None })
                .insert(Header { key: "number", value: Some("twice") });
            send(&p, record.headers(headers));
        }
        let acked = all_acked(&p);
        assert_eq!(acked.len(), n as usize, "{codec}");
        let got = consume(&broker.kafka, &topic, &partitions(10), n as usize);
        let mut next = [0i64; 10];
        for m in &got {
            let partition = m.partition() as usize;
            assert_eq!(m.offset(), next[partition], "{codec}: offsets are dense and in order");
            let i = (next[partition] * 10) as u64 + partition as u64;
            next[partition] += 1;
            assert_eq!(m.key(), key(i).as_deref(), "{codec}: key of {i}");
            assert_eq!(m.payload(), value(i).as_deref(), "{codec}: value of {i}");
            let headers: Vec<(String, Option<Vec<u8>>)> =
                m.headers().unwrap().iter().map(|h| (h.key.to_string(), h.value.map(<[u8]>::to_vec))).collect();
            let wanted = [("number", Some(i.to_string())), ("null", None), ("number", Some("twice".into()))];
            assert_eq!(
                headers,
                wanted.map(|(k, v)| (k.to_string(), v.map(String::into_bytes))),
                "{codec}: headers of {i}"
            );
            assert!(acked.contains(&(i, m.partition(), m.offset())), "{codec}: {i} was acknowledged at another place");
        }
    }
}

#[test]
fn records_of_a_megabyte_pass_and_larger_ones_are_refused() {
    let (broker, _dir) = Broker::any();
    let topic = fresh("large");
    assert_eq!(Client::connect(&broker.kafka).create_topic(&topic, 1, &[]), 0);
    let p = producer(&broker.kafka, &[("message.max.bytes", "5000000"), ("acks", "all"), ("batch.num.messages", "1")]);
    let value = |i: u64| (0..1_000_000u64).map(|b| ((b * (i + 1)) >> 3) as u8).collect::<Vec<u8>>();
    for i in 0..8u64 {
        send(&p, BaseRecord::with_opaque_to(&topic, Box::new(i)).key(&i.to_be_bytes()[..]).payload(&value(i)[..]));
    }
    assert_eq!(all_acked(&p).len(), 8);
    let got = consume(&broker.kafka, &topic, &partitions(1), 8);
    for (i, m) in got.iter().enumerate() {
        assert!(m.payload() == Some(&value(i as u64)[..]), "value {i} came back changed");
    }
    let too_large = vec![7u8; 2_000_000];
    send(&p, BaseRecord::with_opaque_to(&topic, Box::new(99)).key(&b""[..]).payload(&too_large[..]));
    p.flush(PATIENCE).unwrap();
    let failed = p.context().failed.lock().unwrap().clone();
    assert_eq!(failed, [(99, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge))]);
}

#[test]
fn every_acks_level_delivers_once_and_in_order() {
    let (broker, _dir) = Broker::any();
    for (acks, idempotent) in [("0", "false"), ("1", "false"), ("all", "false"), ("all", "true")] {
        let topic = fresh("acks");
        assert_eq!(Client::connect(&broker.kafka).create_topic(&topic, 1, &[]), 0);
        let p = producer(
            &broker.kafka,
            &[("acks", acks), ("enable.idempotence", idempotent), ("linger.ms", "0"), ("batch.num.messages", "10")],
        );
        for i in 0..2000u64 {
            send(&p, BaseRecord::with_opaque_to(&topic, Box::new(i)).key(&b"k"[..]).payload(&i.to_be_bytes()[..]));
        }
        assert_eq!(all_acked(&p).len(), 2000);
        let got = consume(&broker.kafka, &topic, &partitions(1), 2000);
        for (i, m) in got.iter().enumerate() {
            assert_eq!((m.offset(), m.payload().unwrap()), (i as i64, &(i as u64).to_be_bytes()[..]), "acks={acks}");
        }
    }
}

#[test]
fn a_consumer_seeks_by_offset_and_by_time() {
    let (broker, _dir) = Broker::any();
    let topic = fresh("seek");
    assert_eq!(Client::connect(&broker.kafka).create_topic(&topic, 1, &[]), 0);
    let start = crate::wire::now_ms() - 1_000_000;
    for codec in ["none", "lz4"] {
        let p = producer(&broker.kafka, &[("compression.codec", codec)]);
        let first = if codec == "none" { 0 } else { 500 };
        for i in first..first + 500u64 {
            let record =
                BaseRecord::with_opaque_to(&topic, Box::new(i)).partition(0).timestamp(start + i as i64 * 1000);
            send(&p, record.key(&b"k"[..]).payload(&i.to_be_bytes()[..]));
        }
        all_acked(&p);
    }
    let c = consumer(&broker.kafka);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(123)).unwrap();
    c.assign(&list).unwrap();
    assert_eq!(take(&c, 1)[0].offset(), 123);
    c.seek(&topic, 0, Offset::Offset(877), PATIENCE).unwrap();
    assert_eq!(take(&c, 1)[0].offset(), 877);
    c.seek(&topic, 0, Offset::OffsetTail(3), PATIENCE).unwrap();
    assert_eq!(take(&c, 1)[0].offset(), 997);
    // A time between two records gives the later one; past the end there is none.
    for (at, wanted) in [(start, 0), (start + 41_500, 42), (start + 750_000, 750), (start - 5, 0)] {
        let mut times = TopicPartitionList::new();
        times.add_partition_offset(&topic, 0, Offset::Offset(at)).unwrap();
        let found = c.offsets_for_times(times, PATIENCE).unwrap().find_partition(&topic, 0).unwrap().offset();
        assert_eq!(found, Offset::Offset(wanted), "at {at}");
    }
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(&topic, 0, Offset::Offset(start + 5_000_000)).unwrap();
    let found = c.offsets_for_times(times, PATIENCE).unwrap().find_partition(&topic, 0).unwrap().offset();
    assert!(matches!(found, Offset::End | Offset::Offset(-1)), "{found:?}");
    assert_eq!(c.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (0, 1000));
}

#[test]
fn a_topic_is_made_by_its_first_record() {
    let (broker, _dir) = Broker::any();
    let topic = fresh("auto");
    let p = producer(&broker.kafka, &[("acks", "all")]);
    send(&p, BaseRecord::with_opaque_to(&topic, Box::new(0)).key(&b"k"[..]).payload(&b"v"[..]));
    assert_eq!(all_acked(&p), [(0, 0, 0)]);
    assert_eq!(consume(&broker.kafka, &topic, &partitions(1), 1)[0].payload(), Some(&b"v"[..]));
}

#[test]
fn an_idempotent_producer_and_a_consumer_go_on_across_clean_restarts() {
    if foreign().is_some() {
        return;
    }
    let (dir, proxy, topic) = (temp(), Proxy::new(), "restart");
    let options = Options::new(dir.path()).set("advertised.listeners", &proxy.advertised());
    let mut broker = options.start();
    proxy.to(Some(&broker.kafka));
    assert_eq!(Client::connect(&broker.kafka).create_topic(topic, 3, &[]), 0);
    let p = producer(&proxy.address, &[("enable.idempotence", "true")]);
    let c = consumer(&proxy.address);
    let mut list = TopicPartitionList::new();
    for partition in 0..3 {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    c.assign(&list).unwrap();
    let (mut sent, mut got) = (0u64, Vec::new());
    for round in 1..=3u64 {
        while sent < round * 300 {
            let record = BaseRecord::with_opaque_to(topic, Box::new(sent)).partition((sent % 3) as i32);
            send(&p, record.key(&b"k"[..]).payload(&sent.to_be_bytes()[..]));
            sent += 1;
        }
        if round < 3 {
            // Some of these are in flight when the broker goes.
            proxy.to(None);
            let (code, stderr) = broker.stop();
            assert_eq!(code, Some(0), "{stderr}");
            broker = options.start();
            proxy.to(Some(&broker.kafka));
        }
        all_acked(&p);
        got.extend(take(&c, round as usize * 300 - got.len()));
    }
    let mut next = [0i64; 3];
    for m in &got {
        let partition = m.partition() as usize;
        assert_eq!(m.offset(), next[partition]);
        assert_eq!(m.payload().unwrap(), (next[partition] as u64 * 3 + partition as u64).to_be_bytes());
        next[partition] += 1;
    }
    assert_eq!(next, [300; 3]);
}

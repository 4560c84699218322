//! Topics that come and go under clients: created on demand, deleted and created anew while librdkafka goes on.

use crate::{
    clients::{Deliveries, all_acked, consume, consumer, fresh, producer, send},
    support::{Options, PATIENCE, SetOnDrop, eventually, temp},
    wire::{ANYONE, Client, batch, code, now_ms, topic_name},
};
use kafka_protocol::messages::{
    MetadataRequest, MetadataResponse,
    fetch_request::{FetchPartition, FetchRequest, FetchTopic},
    metadata_request::MetadataRequestTopic,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, Producer},
};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

const UNKNOWN_TOPIC_ID: i16 = 100;

fn metadata(c: &mut Client, topic: MetadataRequestTopic) -> MetadataResponse {
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    c.call(12, &request)
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

#[test]
fn clients_go_on_while_their_topic_is_deleted_and_created_anew() {
    go_on(|address, topic| {
        let c = consumer(address);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        c.assign(&list).unwrap();
        c
    });
}

#[test]
fn a_group_goes_on_while_its_topic_is_deleted_and_created_anew() {
    go_on(|address, topic| {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", address).set("group.id", "g").set("auto.offset.reset", "earliest");
        config.set("auto.commit.interval.ms", "20").set("topic.metadata.refresh.interval.ms", "50");
        config.set("fetch.wait.max.ms", "50").set("fetch.error.backoff.ms", "20");
        let c: BaseConsumer = config.create().unwrap();
        c.subscribe(&[topic]).unwrap();
        c
    });
}

/// A producer and the consumer that `consuming` gives (by address and topic) live through three deletions of their topic.
fn go_on(consuming: impl Fn(&str, &str) -> BaseConsumer) {
    let dir = temp();
    let broker = Options::new(dir.path()).set("auto.create.topics.enable", "false").start();
    let mut admin = Client::connect(&broker.kafka);
    let topic = fresh("anew");
    assert_eq!(admin.create_topic(&topic, 1, &[]), 0);

    // One request at a time, so that what is tried again does not overtake.
    let config = [
        ("acks", "all"),
        ("max.in.flight.requests.per.connection", "1"),
        ("topic.metadata.refresh.fast.interval.ms", "20"),
    ];
    let p = producer(&broker.kafka, &config);
    let life = AtomicU64::new(0);
    let (done, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let _end = SetOnDrop(&done);
        let (p, life, done, topic) = (&p, &life, &done, &topic);
        scope.spawn(move || {
            // What it sends while there is no topic fails or waits; both are right. It must not stop for good.
            let mut n = 0u64;
            while !done.load(Ordering::Relaxed) {
                let value = format!("{} {n}", life.load(Ordering::SeqCst)).into_bytes();
                send(p, BaseRecord::with_opaque_to(topic, Box::new(n)).partition(0).key(&b""[..]).payload(&value[..]));
                n += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let c = consuming(&broker.kafka, topic);
        let seen_of = |wanted: u64, count: usize| {
            let mut seen = 0;
            while seen < count {
                assert!(begun.elapsed() < 2 * PATIENCE, "{seen} of {count} records of life {wanted}");
                // Errors tell of the topic that is gone.
                if let Some(Ok(m)) = c.poll(Duration::from_millis(50)) {
                    let value = String::from_utf8(m.payload().unwrap().to_vec()).unwrap();
                    let of: u64 = value.split(' ').next().unwrap().parse().unwrap();
                    assert!(of <= wanted);
                    seen += usize::from(of == wanted);
                }
            }
        };
        seen_of(0, 20);
        for next in 1..=3 {
            let old = metadata(&mut admin, named(topic)).topics[0].topic_id;
            assert_eq!(admin.delete_topic(topic), 0);
            life.store(next, Ordering::SeqCst);
            assert_eq!(admin.create_topic(topic, 1, &[]), 0);
            let by_id = metadata(&mut admin, MetadataRequestTopic::default().with_topic_id(old).with_name(None));
            assert_eq!(by_id.topics[0].error_code, UNKNOWN_TOPIC_ID);
            seen_of(next, 20);
        }
    });
    let _ = p.flush(PATIENCE);
    // What the last topic holds, it holds in order and once.
    let all: Vec<String> =
        admin.read_all(&topic, 0, 0).iter().map(|(_, _, value)| String::from_utf8(value.to_vec()).unwrap()).collect();
    let numbers: Vec<u64> = all.iter().map(|v| v.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.len() >= 20, "{numbers:?}");
    // And every record that was acknowledged to it last is there.
    let (last, ..) = *p.context().acked.lock().unwrap().last().unwrap();
    assert!(numbers.contains(&last), "{last} was acknowledged and is not there");
}

#[test]
fn a_fetch_that_waits_hears_that_its_topic_is_gone() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let id = metadata(&mut c, named("a")).topics[0].topic_id;
    let mut waiting = Client::connect(&broker.kafka);
    let fetch = |session: (i32, i32), topics: Vec<FetchTopic>| {
        let request = FetchRequest::default().with_max_wait_ms(60_000).with_min_bytes(1).with_max_bytes(1 << 20);
        request.with_session_id(session.0).with_session_epoch(session.1).with_topics(topics)
    };
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let wanted = FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    waiting.send(17, &fetch((0, -1), vec![wanted]));
    // On its own connection, so that the wait began before or after the deletion: both must end.
    assert_eq!(c.delete_topic("a"), 0);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["new"]), -1).error_code, 0);
    let (_, reply) = waiting.receive::<FetchRequest>(17).unwrap();
    let answered = &reply.responses[0].partitions[0];
    assert!([UNKNOWN_TOPIC_ID, code::UNKNOWN_TOPIC_OR_PARTITION].contains(&answered.error_code), "{answered:?}");
    assert!(answered.records.as_ref().is_none_or(|r| r.is_empty()), "the old id never brings the new topic's records");
}

#[test]
fn a_producer_and_a_consumer_create_their_topic_on_demand() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("num.partitions", "3").start();
    let mut admin = Client::connect(&broker.kafka);
    // By a producer's first record.
    let (topic, other) = (fresh("produced"), fresh("consumed"));
    let p = producer(&broker.kafka, &[("acks", "all")]);
    send(&p, BaseRecord::with_opaque_to(&topic, Box::new(0)).key(&b"k"[..]).payload(&b"v"[..]));
    let acked = all_acked(&p);
    let got = consume(&broker.kafka, &topic, &[(acked[0].1, Offset::Beginning)], 1);
    assert_eq!(got[0].payload(), Some(&b"v"[..]));
    assert_eq!(metadata(&mut admin, named(&topic)).topics[0].partitions.len(), 3);
    // By asking for its metadata.
    let c: BaseConsumer = {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", &broker.kafka).set("group.id", "none").set("allow.auto.create.topics", "true");
        config.create().unwrap()
    };
    eventually("the topic is there", || {
        let known = c.fetch_metadata(Some(&other), PATIENCE).unwrap();
        (known.topics()[0].partitions().len() == 3).then_some(())
    });
}

#[test]
fn nobody_creates_a_topic_on_demand_where_that_is_switched_off() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("auto.create.topics.enable", "false").start();
    let topic = fresh("refused");
    let p = producer(&broker.kafka, &[("acks", "all"), ("topic.metadata.propagation.max.ms", "100")]);
    send(&p, BaseRecord::with_opaque_to(&topic, Box::new(0)).key(&b"k"[..]).payload(&b"v"[..]));
    p.flush(PATIENCE).unwrap();
    let deliveries: &Deliveries = p.context();
    let failed = deliveries.failed.lock().unwrap();
    let [(0, KafkaError::MessageProduction(why))] = &failed[..] else { panic!("{failed:?}") };
    assert!([RDKafkaErrorCode::UnknownTopic, RDKafkaErrorCode::UnknownTopicOrPartition].contains(why), "{why:?}");
    // Nor does a Produce of its own.
    let mut c = Client::connect(&broker.kafka);
    let refused = c.produce("none", 0, batch(ANYONE, now_ms(), &["x"]), -1);
    assert_eq!(refused.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(metadata(&mut c, named("none")).topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

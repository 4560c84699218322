//! Topics that are stored with a codec of their own (compression.type), whatever their producers send.

use crate::{
    clients::{all_acked, consume, fresh, producer, send},
    support::{Options, temp},
    wire::{ANYONE, Client, batch, code, now_ms},
};
use rdkafka::{Message, Offset, producer::BaseRecord};

/// By their numbers in a batch's attributes.
const CODECS: [&str; 5] = ["uncompressed", "gzip", "snappy", "lz4", "zstd"];

/// The codec of the first batch at an offset.
fn stored(c: &mut Client, topic: &str, offset: i64) -> usize {
    let records = c.fetch(topic, 0, offset, 0).records.unwrap();
    usize::from(records[22] & 7)
}

#[test]
fn librdkafka_reads_what_the_broker_packed_anew() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    let topics = CODECS.map(fresh);
    for (topic, name) in topics.iter().zip(CODECS) {
        assert_eq!(c.create_topic(topic, 1, &[("compression.type", name)]), 0);
    }
    let mut values = Vec::new();
    for sent in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let first = values.len() as i64;
        values.extend((0..200).map(|n| format!("{sent} {n} {}", "abc".repeat(n * 7 % 400))));
        let p = producer(&broker.kafka, &[("compression.codec", sent), ("acks", "all")]);
        for (n, value) in values.iter().enumerate().skip(first as usize) {
            for topic in &topics {
                let record = BaseRecord::with_opaque_to(topic, Box::new(n as u64)).partition(0);
                send(&p, record.key(sent.as_bytes()).payload(value.as_bytes()));
            }
        }
        all_acked(&p);
        for (wanted, topic) in topics.iter().enumerate() {
            assert_eq!(stored(&mut c, topic, first), wanted, "{sent} to {topic}");
        }
    }
    for topic in &topics {
        let got = consume(&broker.kafka, topic, &[(0, Offset::Beginning)], values.len());
        let read: Vec<_> = got.iter().map(|m| String::from_utf8(m.payload().unwrap().to_vec()).unwrap()).collect();
        assert!(read == values, "{topic}");
    }
}

#[test]
fn the_codec_of_a_topic_changes_while_it_is_written() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("compression.type", "lz4").start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    assert_eq!(c.create_topic("b", 1, &[("compression.type", "producer")]), 0);
    let sent = || batch(ANYONE, now_ms(), &["x".repeat(1000)]);
    assert_eq!(c.produce("a", 0, sent(), -1).error_code, 0);
    assert_eq!(c.produce("b", 0, sent(), -1).error_code, 0);
    assert_eq!((stored(&mut c, "a", 0), stored(&mut c, "b", 0)), (3, 0), "the broker's setting, and the topic's");
    assert_eq!(c.set_topic("a", "compression.type", "gzip"), 0);
    assert_eq!(c.produce("a", 0, sent(), -1).error_code, 0);
    assert_eq!((stored(&mut c, "a", 0), stored(&mut c, "a", 1)), (3, 1));
    // The size counts as it is stored.
    assert_eq!(c.set_topic("a", "max.message.bytes", "500"), 0);
    assert_eq!(c.produce("a", 0, sent(), -1).error_code, code::MESSAGE_TOO_LARGE, "and as it came");
    assert_eq!(c.list_offset("a", 0, -1), (0, -1, 2));
}

#[test]
fn a_client_too_old_for_zstd_is_told_so() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[("compression.type", "zstd")]), 0);
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
    for version in [4, 9] {
        assert_eq!(c.fetch_in(version, "a", 0, 0, 0).error_code, code::UNSUPPORTED_COMPRESSION_TYPE);
    }
    assert_eq!(c.fetch_in(10, "a", 0, 0, 0).error_code, 0);
}

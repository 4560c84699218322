//! Requests by hand: what is answered, in which order, with which code.

use crate::{
    clients::fresh,
    support::Broker,
    wire::{ANYONE, Client, batch, code, now_ms, produce_request, records},
};
use bytes::BytesMut;
use kafka_protocol::messages::*;

fn values(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("value {i}")).collect()
}

#[test]
fn api_versions_lists_what_is_served_and_an_unknown_version_is_told_so() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    for version in 0..=3 {
        let answer = c.call(
            version,
            &ApiVersionsRequest::default()
                .with_client_software_name(crate::wire::string("it"))
                .with_client_software_version(crate::wire::string("1")),
        );
        assert_eq!(answer.error_code, 0);
        let produce = answer.api_keys.iter().find(|k| k.api_key == 0).expect("Produce is listed");
        assert!(produce.max_version >= 9);
    }
    // Version 99 of ApiVersions: answered in version 0 with UNSUPPORTED_VERSION.
    c.write_frame(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0]).unwrap();
    let answer = c.read_frame().unwrap();
    assert_eq!(answer[..4], 7i32.to_be_bytes());
    assert_eq!(answer[4..6], code::UNSUPPORTED_VERSION.to_be_bytes());
}

#[test]
fn replies_leave_in_request_order_whatever_waits() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    let topic = fresh("order");
    assert_eq!(c.create_topic(&topic, 2, &[]), 0);
    // acks=all waits for a flush, Metadata for nothing, acks=1 for the append.
    let mut expected = Vec::new();
    for i in 0..100 {
        let acks = if i % 2 == 0 { -1 } else { 1 };
        let b = batch(ANYONE, now_ms(), &[format!("{i}")]);
        expected.push((true, c.send(9, &produce_request(&topic, &[(0, b)], acks))));
        let metadata = MetadataRequest::default().with_topics(Some(vec![]));
        expected.push((false, c.send(9, &metadata)));
    }
    let mut offset = 0;
    for (is_produce, id) in expected {
        if is_produce {
            let (got, body) = c.receive::<ProduceRequest>(9).unwrap();
            let p = &body.responses[0].partition_responses[0];
            assert_eq!((got, p.error_code, p.base_offset), (id, 0, offset));
            offset += 1;
        } else {
            assert_eq!(c.receive::<MetadataRequest>(9).unwrap().0, id);
        }
    }
    let got = c.read_all(&topic, 0, 0);
    assert_eq!(got.len(), 100);
    assert!(got.iter().enumerate().all(|(i, r)| r.2 == i.to_string()));
}

#[test]
fn one_bad_partition_of_a_request_fails_alone() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    let topic = fresh("alone");
    assert_eq!(c.create_topic(&topic, 2, &[]), 0);
    let good = batch(ANYONE, now_ms(), &values(3));
    let mut bad = BytesMut::from(&good[..]);
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let answer = c.call(9, &produce_request(&topic, &[(0, bad.freeze()), (1, good.clone()), (7, good)], -1));
    let mut codes: Vec<(i32, i16)> =
        answer.responses[0].partition_responses.iter().map(|p| (p.index, p.error_code)).collect();
    codes.sort_unstable();
    assert_eq!(codes, [(0, code::CORRUPT_MESSAGE), (1, 0), (7, code::UNKNOWN_TOPIC_OR_PARTITION)]);
    assert_eq!(c.list_offset(&topic, 0, -1), (0, -1, 0));
    assert_eq!(c.list_offset(&topic, 1, -1), (0, -1, 3));
}

#[test]
fn a_retried_batch_gets_its_old_offset_and_a_gap_is_refused() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    let topic = fresh("idempotent");
    assert_eq!(c.create_topic(&topic, 1, &[]), 0);
    let (id, epoch) = c.producer_id();
    let send = |c: &mut Client, sequence: i32| {
        let p = c.produce(&topic, 0, batch((id, epoch, sequence), now_ms(), &values(5)), -1);
        (p.error_code, p.base_offset)
    };
    for (sequence, wanted) in [(0, (0, 0)), (5, (0, 5)), (0, (0, 0)), (5, (0, 5)), (10, (0, 10)), (5, (0, 5))] {
        assert_eq!(send(&mut c, sequence), wanted, "sequence {sequence}");
    }
    assert_eq!(send(&mut c, 20).0, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(&mut c, 15), (0, 15));
    assert_eq!(c.read_all(&topic, 0, 0).len(), 20);
    assert_ne!(c.producer_id().0, id, "producer ids are given once");
}

#[test]
fn a_fetch_gives_whole_batches_and_waits_for_what_is_to_come() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    let topic = fresh("fetch");
    assert_eq!(c.create_topic(&topic, 1, &[]), 0);
    c.produce(&topic, 0, batch(ANYONE, now_ms(), &values(10)), -1);
    let got = c.fetch(&topic, 0, 7, 0);
    assert_eq!((got.error_code, got.high_watermark, got.log_start_offset), (0, 10, 0));
    assert_eq!(records(&got).first().unwrap().offset, 0, "the batch that holds the offset comes whole");
    assert_eq!(c.fetch(&topic, 0, 11, 0).error_code, code::OFFSET_OUT_OF_RANGE);
    assert_eq!(c.fetch(&topic, 0, -2, 0).error_code, code::OFFSET_OUT_OF_RANGE);
    // The long poll is under way before the record is sent; it may wait for half a minute and must not.
    let address = broker.kafka.clone();
    let name = topic.clone();
    let poll = std::thread::spawn(move || Client::connect(&address).fetch(&name, 0, 10, 30_000));
    c.produce(&topic, 0, batch(ANYONE, now_ms(), &["late"]), -1);
    assert_eq!(records(&poll.join().unwrap())[0].value.as_deref(), Some(&b"late"[..]));
    // At the end, nothing comes after the wait.
    let got = c.fetch(&topic, 0, 11, 1);
    assert_eq!((got.error_code, records(&got).len()), (0, 0));
}

#[test]
fn deleted_records_and_topics_are_gone() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    let topic = fresh("delete");
    assert_eq!(c.create_topic(&topic, 1, &[]), 0);
    assert_eq!(c.create_topic(&topic, 1, &[]), code::TOPIC_ALREADY_EXISTS);
    for _ in 0..10 {
        c.produce(&topic, 0, batch(ANYONE, now_ms(), &values(10)), -1);
    }
    assert_eq!(c.delete_records(&topic, 0, 45), (0, 45));
    assert_eq!(c.delete_records(&topic, 0, 1000).0, code::OFFSET_OUT_OF_RANGE);
    assert_eq!(c.list_offset(&topic, 0, -2), (0, -1, 45));
    assert_eq!(c.fetch(&topic, 0, 44, 0).error_code, code::OFFSET_OUT_OF_RANGE);
    assert_eq!(c.read_all(&topic, 0, 45).len(), 55);
    assert_eq!(c.delete_records(&topic, 0, -1), (0, 100));
    assert_eq!(c.delete_topic(&topic), 0);
    assert_eq!(c.delete_topic(&topic), code::UNKNOWN_TOPIC_OR_PARTITION);
    let p = c.produce(&topic, 0, batch(ANYONE, now_ms(), &values(1)), -1);
    assert_eq!(p.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(c.create_topic(&topic, 1, &[]), 0, "the name is free again");
    assert_eq!(c.list_offset(&topic, 0, -1), (0, -1, 0), "and nothing of the old topic is left");
}

#[test]
fn offsets_are_found_by_time() {
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    let topic = fresh("time");
    assert_eq!(c.create_topic(&topic, 1, &[]), 0);
    let start = now_ms() - 100_000;
    for (i, at) in [0, 10, 30, 20].into_iter().enumerate() {
        c.produce(&topic, 0, batch(ANYONE, start + at, &[i.to_string()]), -1);
    }
    for (at, wanted) in [
        (0, (0, start, 0)),
        (5, (0, start + 10, 1)),
        (15, (0, start + 30, 2)),
        (30, (0, start + 30, 2)),
        (31, (0, -1, -1)),
    ] {
        assert_eq!(c.list_offset(&topic, 0, start + at), wanted, "at +{at}");
    }
    let request = |timestamp| {
        let p = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let t = list_offsets_request::ListOffsetsTopic::default()
            .with_name(crate::wire::topic_name(&topic))
            .with_partitions(vec![p]);
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![t])
    };
    let max = c.call(7, &request(-3)).topics[0].partitions[0].clone();
    assert_eq!((max.error_code, max.timestamp, max.offset), (0, start + 30, 2));
}

//! The data plane over real sockets: produce, fetch with and without sessions, offsets, in every version served.

use crate::{
    support::{Options, eventually, temp},
    wire::{ANYONE, Client, batch, code, now_ms, produce_request, records, topic_name},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    produce_request::{PartitionProduceData, TopicProduceData},
    *,
};
use millstream_storage::record::BatchBuilder;
use std::io::Write;
use uuid::Uuid;

const UNKNOWN_TOPIC_ID: i16 = 100;
const INVALID_REQUIRED_ACKS: i16 = 21;
const MESSAGE_TOO_LARGE: i16 = 10;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_RECORD: i16 = 87;

fn topic_id(c: &mut Client, name: &str) -> Uuid {
    let t = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let response = c.call(12, &MetadataRequest::default().with_topics(Some(vec![t])));
    response.topics[0].topic_id
}

/// What a test wants of a partition: number, offset.
fn wanted(version: i16, name: &str, id: Uuid, partitions: &[(i32, i64)]) -> FetchTopic {
    let partition = |(index, offset): &(i32, i64)| {
        let p = FetchPartition::default().with_partition(*index).with_fetch_offset(*offset);
        p.with_partition_max_bytes(1 << 20)
    };
    let t = FetchTopic::default().with_partitions(partitions.iter().map(partition).collect());
    if version >= 13 { t.with_topic_id(id) } else { t.with_topic(topic_name(name)) }
}

fn fetch(topics: Vec<FetchTopic>, session: (i32, i32), wait_ms: i32) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(64 << 20)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(topics)
}

/// (partition, error, watermark, records) of each partition answered.
fn answered(response: &FetchResponse) -> Vec<(i32, i16, i64, usize)> {
    let partitions = response.responses.iter().flat_map(|t| &t.partitions);
    partitions.map(|p| (p.partition_index, p.error_code, p.high_watermark, records(p).len())).collect()
}

fn send(c: &mut Client, topic: &str, partition: i32) {
    let sent = c.produce(topic, partition, batch(ANYONE, now_ms(), &["x"]), -1);
    assert_eq!(sent.error_code, 0);
}

#[test]
fn every_version_of_produce_and_fetch_carries_records() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let id = topic_id(&mut c, "a");
    let mut next = 0;
    for version in 3..=13 {
        let mut request = produce_request("a", &[(0, batch(ANYONE, now_ms(), &["x", "y"]))], -1);
        if version >= 13 {
            request.topic_data[0].name = topic_name("");
            request.topic_data[0].topic_id = id;
        }
        let response = c.call(version, &request);
        let p = &response.responses[0].partition_responses[0];
        assert_eq!((p.error_code, p.base_offset), (0, next), "v{version}");
        next += 2;
    }
    for version in 4..=18 {
        let response = c.call(version, &fetch(vec![wanted(version, "a", id, &[(0, 1)])], (0, -1), 0));
        // The batch that holds offset 1 starts at 0.
        assert_eq!(answered(&response), [(0, 0, next, next as usize)], "v{version}");
        assert_eq!(response.session_id, 0);
        let unknown = wanted(version, "b", Uuid::from_u128(77), &[(0, 0)]);
        let response = c.call(version, &fetch(vec![unknown], (0, -1), 10_000));
        let error = if version >= 13 { UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        assert_eq!(answered(&response), [(0, error, -1, 0)], "v{version}");
    }
    for (topic, partition, acks, records, error) in [
        ("a", 1, -1, batch(ANYONE, now_ms(), &["x"]), code::UNKNOWN_TOPIC_OR_PARTITION),
        ("b", 0, 1, batch(ANYONE, now_ms(), &["x"]), code::UNKNOWN_TOPIC_OR_PARTITION),
        ("a", 0, 2, batch(ANYONE, now_ms(), &["x"]), INVALID_REQUIRED_ACKS),
        ("a", 0, 1, batch(ANYONE, now_ms(), &[vec![0; 2 << 20]]), MESSAGE_TOO_LARGE),
        ("a", 0, 1, Bytes::new(), INVALID_RECORD),
        ("a", 0, 1, [batch(ANYONE, 1, &["x"]), batch(ANYONE, 1, &["x"])].concat().into(), INVALID_RECORD),
    ] {
        assert_eq!(c.produce(topic, partition, records, acks).error_code, error, "{topic}-{partition} acks {acks}");
    }
    // One bad partition fails alone.
    let good = batch(ANYONE, now_ms(), &["x"]);
    let response = c.call(9, &produce_request("a", &[(3, good.clone()), (0, good)], -1));
    let errors: Vec<_> = response.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
    assert_eq!(errors, [code::UNKNOWN_TOPIC_OR_PARTITION, 0]);
    // acks=0 answers nothing and closes where something failed.
    c.send(9, &produce_request("a", &[(0, batch(ANYONE, now_ms(), &["x"]))], 0));
    assert_eq!(c.list_offset("a", 0, -2), (0, -1, 0));
    c.send(9, &produce_request("a", &[(9, batch(ANYONE, now_ms(), &["x"]))], 0));
    assert!(c.read_frame().is_err());
}

#[test]
fn a_session_answers_with_what_changed_and_nothing_else() {
    for version in [7, 12, 13, 18] {
        let dir = temp();
        let broker = Options::new(dir.path()).start();
        let mut c = Client::connect(&broker.kafka);
        assert_eq!(c.create_topic("a", 3, &[]), 0);
        let id = topic_id(&mut c, "a");
        send(&mut c, "a", 1);
        let full = c.call(version, &fetch(vec![wanted(version, "a", id, &[(0, 0), (1, 1), (2, 0)])], (0, 0), 0));
        assert_ne!(full.session_id, 0);
        assert_eq!(answered(&full), [(0, 0, 0, 0), (1, 0, 1, 0), (2, 0, 0, 0)], "v{version}");
        let id_of = full.session_id;
        let mut epoch = 0;
        let mut poll = |c: &mut Client, topics: Vec<FetchTopic>, wait_ms| {
            epoch += 1;
            let response = c.call(version, &fetch(topics, (id_of, epoch), wait_ms));
            assert_eq!((response.error_code, response.session_id), (0, id_of), "v{version}");
            answered(&response)
        };
        assert_eq!(poll(&mut c, vec![], 1), []);
        send(&mut c, "a", 2);
        assert_eq!(poll(&mut c, vec![], 10_000), [(2, 0, 1, 1)]);
        // Not moved on by the client: it is given again.
        assert_eq!(poll(&mut c, vec![], 10_000), [(2, 0, 1, 1)]);
        assert_eq!(poll(&mut c, vec![wanted(version, "a", id, &[(2, 1)])], 1), []);
        // A long poll is woken by another connection's record.
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| poll(&mut c, vec![], 30_000));
            let mut other = Client::connect(&broker.kafka);
            send(&mut other, "a", 0);
            waiting.join().unwrap()
        });
        assert_eq!(waiting, [(0, 0, 1, 1)]);
        // Forgotten, it is not answered any more.
        epoch += 1;
        let forgotten = ForgottenTopic::default().with_partitions(vec![0]);
        let forgotten = if version >= 13 { forgotten.with_topic_id(id) } else { forgotten.with_topic(topic_name("a")) };
        let request = fetch(vec![], (id_of, epoch), 0).with_forgotten_topics_data(vec![forgotten]);
        assert_eq!(answered(&c.call(version, &request)), []);
        // A wrong epoch, an unknown session, the end of one.
        let wrong = c.call(version, &fetch(vec![], (id_of, epoch), 0));
        assert_eq!((wrong.error_code, wrong.session_id), (INVALID_FETCH_SESSION_EPOCH, 0));
        let unknown = c.call(version, &fetch(vec![], (id_of ^ 1, epoch + 1), 0));
        assert_eq!(unknown.error_code, FETCH_SESSION_ID_NOT_FOUND);
        let last = c.call(version, &fetch(vec![wanted(version, "a", id, &[(1, 0)])], (id_of, -1), 0));
        assert_eq!((last.session_id, answered(&last)), (0, vec![(1, 0, 1, 1)]));
        let gone = c.call(version, &fetch(vec![], (id_of, epoch + 1), 0));
        assert_eq!(gone.error_code, FETCH_SESSION_ID_NOT_FOUND);
    }
}

#[test]
fn a_topic_created_anew_is_another_topic_to_producers_and_sessions() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let old = topic_id(&mut c, "a");
    send(&mut c, "a", 0);
    let by_id = c.call(13, &fetch(vec![wanted(13, "a", old, &[(0, 1)])], (0, 0), 0)).session_id;
    let by_name = c.call(12, &fetch(vec![wanted(12, "a", old, &[(0, 1)])], (0, 0), 0)).session_id;
    assert_eq!(c.delete_topic("a"), 0);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let new = topic_id(&mut c, "a");
    assert_ne!(old, new);
    let mut request = produce_request("", &[(0, batch(ANYONE, now_ms(), &["x"]))], -1);
    request.topic_data[0].topic_id = old;
    assert_eq!(c.call(13, &request).responses[0].partition_responses[0].error_code, UNKNOWN_TOPIC_ID);
    assert_eq!(answered(&c.call(13, &fetch(vec![], (by_id, 1), 10_000))), [(0, UNKNOWN_TOPIC_ID, -1, 0)]);
    // By name the session follows the name; its offset lies beyond the new log's end.
    let response = c.call(12, &fetch(vec![], (by_name, 1), 10_000));
    assert_eq!(answered(&response), [(0, code::OFFSET_OUT_OF_RANGE, -1, 0)]);
    assert_eq!(c.read_all("a", 0, 0).len(), 0);
}

#[test]
fn offsets_are_found_by_time_within_compressed_batches_too() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let start = now_ms() - 10_000;
    let mut codecs = [0u8, 1, 2, 3, 4].into_iter();
    let mut pack = |first: i64| {
        let mut b = BatchBuilder::new().producer(-1, -1, -1);
        for n in first..first + 4 {
            b.push(start + n * 10, None, Some(b"v"), &[]);
        }
        let mut zipped = Vec::new();
        match codecs.next().unwrap() {
            1 => {
                let mut w = flate2::write::GzEncoder::new(&mut zipped, flate2::Compression::fast());
                w.write_all(b.payload()).unwrap();
                w.finish().unwrap();
                b.build_with(1, &zipped)
            }
            2 => b.build_with(2, &snap::raw::Encoder::new().compress_vec(b.payload()).unwrap()),
            3 => {
                let mut w = lz4_flex::frame::FrameEncoder::new(&mut zipped);
                w.write_all(b.payload()).unwrap();
                w.finish().unwrap();
                b.build_with(3, &zipped)
            }
            4 => {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                b.build_with(4, &ruzstd::encoding::compress_to_vec(b.payload(), level))
            }
            _ => b.build(),
        }
    };
    for first in (0..20).step_by(4) {
        let bytes = pack(first);
        assert_eq!(c.produce("a", 0, bytes.into(), -1).base_offset, first);
    }
    for n in 0..20 {
        let at = start + n * 10;
        assert_eq!(c.list_offset("a", 0, at), (0, at, n), "exactly");
        assert_eq!(c.list_offset("a", 0, at - 5), (0, at, n), "between two");
    }
    assert_eq!(c.list_offset("a", 0, start + 191), (0, -1, -1));
    assert_eq!(c.list_offset("a", 0, -1), (0, -1, 20));
    assert_eq!(c.list_offset("a", 0, -2), (0, -1, 0));
    for version in 1..=10 {
        // Each special timestamp has a version from which on it may be asked for.
        for (timestamp, since, found) in [
            (-1, 1, (-1, 20)),
            (-2, 1, (-1, 0)),
            (-3, 7, (start + 190, 19)),
            (-4, 8, (-1, 0)),
            (-5, 9, (-1, -1)),
            (-6, 11, (-1, -1)),
            (-7, 99, (-1, -1)),
        ] {
            let p = ListOffsetsPartition::default().with_timestamp(timestamp);
            let t = ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![p]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![t]);
            let response = c.call(version, &request);
            let p = &response.topics[0].partitions[0];
            let (error, found) = if version >= since { (0, found) } else { (code::UNSUPPORTED_VERSION, (-1, -1)) };
            assert_eq!((p.error_code, p.timestamp, p.offset), (error, found.0, found.1), "v{version} {timestamp}");
        }
    }
}

#[test]
fn zstd_needs_the_version_that_brought_it() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let plain = BatchBuilder::new().producer(-1, -1, -1).record(now_ms(), None, Some(b"v"), &[]);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd: Bytes = plain.build_with(4, &ruzstd::encoding::compress_to_vec(plain.payload(), level)).into();
    for version in 3..=12 {
        let want = if version < 7 { code::UNSUPPORTED_COMPRESSION_TYPE } else { 0 };
        let mut produce = |batch: &Bytes| {
            let response = c.call(version, &produce_request("a", &[(0, batch.clone())], -1));
            response.responses[0].partition_responses[0].error_code
        };
        assert_eq!(produce(&zstd), want, "v{version}");
        assert_eq!(produce(&plain.build().into()), 0, "v{version}, not compressed");
    }
    assert_eq!(c.list_offset("a", 0, -1), (0, -1, 10 + 6), "what was refused is not there");
}

#[test]
fn leader_epochs_are_checked_and_their_ends_told() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let id = topic_id(&mut c, "a");
    send(&mut c, "a", 0);
    let leads = c.call(12, &MetadataRequest::default().with_topics(None)).topics[0].partitions[0].leader_epoch;
    for (given, error) in [(leads, 0), (leads + 1, UNKNOWN_LEADER_EPOCH), (leads - 1, FENCED_LEADER_EPOCH)] {
        if given < 0 {
            continue;
        }
        let mut t = wanted(13, "a", id, &[(0, 0)]);
        t.partitions[0].current_leader_epoch = given;
        assert_eq!(answered(&c.call(13, &fetch(vec![t], (0, -1), 0)))[0].1, error, "epoch {given}");
    }
    for version in 2..=4 {
        let p = OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(leads);
        let t = OffsetForLeaderTopic::default().with_topic(topic_name("a")).with_partitions(vec![p]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![t]);
        let response = c.call(version, &request);
        let p = &response.topics[0].partitions[0];
        assert_eq!((p.error_code, p.leader_epoch, p.end_offset), (0, leads, 1), "v{version}");
    }
}

#[test]
fn idempotent_producers_are_held_to_their_sequence_across_kill_9() {
    let dir = temp();
    let options = Options::new(dir.path());
    let broker = options.start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let (id, epoch) = c.producer_id();
    assert_ne!(c.producer_id().0, id);
    let sent = |c: &mut Client, epoch, sequence| {
        let answer = c.produce("a", 0, batch((id, epoch, sequence), 5, &["x", "y"]), -1);
        (answer.error_code, answer.base_offset)
    };
    for n in 0..6 {
        assert_eq!(sent(&mut c, epoch, n * 2), (0, i64::from(n) * 2));
    }
    broker.kill();
    let broker = options.start();
    let mut c = Client::connect(&broker.kafka);
    for n in 1..6 {
        assert_eq!(sent(&mut c, epoch, n * 2), (0, i64::from(n) * 2), "a duplicate");
    }
    assert_eq!(sent(&mut c, epoch, 0), (code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
    assert_eq!(sent(&mut c, epoch, 14), (code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
    assert_eq!(sent(&mut c, epoch + 1, 0), (0, 12));
    assert_eq!(sent(&mut c, epoch, 12), (INVALID_PRODUCER_EPOCH, -1));
    assert_eq!(broker.stop().0, Some(0));
    let broker = options.start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(sent(&mut c, epoch + 1, 0), (0, 12), "from the snapshot");
    assert_eq!(sent(&mut c, epoch + 1, 2), (0, 14));
}

#[test]
fn many_partitions_of_one_request_settle_together() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 40, &[]), 0);
    let batches: Vec<_> = (0..40).map(|p| (p, batch(ANYONE, now_ms(), &["x"]))).collect();
    let data: Vec<_> = batches
        .iter()
        .map(|(p, b)| PartitionProduceData::default().with_index(*p).with_records(Some(b.clone())))
        .collect();
    let t = TopicProduceData::default().with_name(topic_name("a")).with_partition_data(data);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![t]);
    for round in 0..3 {
        let response = c.call(9, &request);
        for p in &response.responses[0].partition_responses {
            assert_eq!((p.error_code, p.base_offset), (0, round), "partition {}", p.index);
        }
    }
    // acks=1 is shown once flushed.
    let one = c.produce("a", 0, batch(ANYONE, now_ms(), &["y"]), 1);
    assert_eq!((one.error_code, one.base_offset), (0, 3));
    eventually("the record is shown", || (c.list_offset("a", 0, -1).2 == 4).then_some(()));
}

#[test]
fn a_fetch_that_wants_more_than_a_segment_goes_on_into_the_next() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[("segment.bytes", "1048576")]), 0);
    let value = vec![b'x'; 600 << 10];
    for n in 0..3 {
        assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &[&value]), -1).base_offset, n);
    }
    let mut topic = wanted(12, "a", Uuid::nil(), &[(0, 0)]);
    topic.partitions[0].partition_max_bytes = 64 << 20;
    let request = fetch(vec![topic], (0, -1), 30_000).with_min_bytes(1_500_000);
    assert_eq!(answered(&c.call(12, &request)), [(0, 0, 3, 3)]);
}

#[test]
fn a_topic_created_anew_takes_records_at_once() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    for _ in 0..20 {
        assert_eq!(c.create_topic("a", 3, &[]), 0);
        for partition in 0..3 {
            let sent = c.produce("a", partition, batch(ANYONE, now_ms(), &["x"]), -1);
            assert_eq!((sent.error_code, sent.base_offset), (0, 0));
        }
        assert_eq!(c.delete_topic("a"), 0);
    }
    assert_eq!(broker.stop().0, Some(0));
}

#[test]
fn topics_deleted_while_they_are_opened_leave_the_name_usable() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let (mut c, mut writer) = (Client::connect(&broker.kafka), Client::connect(&broker.kafka));
    for _ in 0..30 {
        assert_eq!(c.create_topic("a", 3, &[]), 0);
        let batches: Vec<_> = (0..3).map(|p| (p, batch(ANYONE, now_ms(), &["x"]))).collect();
        writer.send(9, &produce_request("a", &batches, -1));
        assert_eq!(c.delete_topic("a"), 0);
        // Written, or told that the topic is gone: whichever came first.
        writer.receive::<ProduceRequest>(9).unwrap();
    }
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let sent = c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1);
    assert_eq!((sent.error_code, sent.base_offset), (0, 0));
    assert_eq!(broker.stop().0, Some(0));
}

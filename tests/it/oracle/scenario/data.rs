//! Records: produce, producers, offsets by time, epochs, delete, what lies on disk.

use super::{
    super::session::{Session, versions},
    T0, led, topic,
};
use crate::wire::{ANYONE, Producer, batch, now_ms, string, topic_name};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
    describe_log_dirs_request::DescribableLogDirTopic,
    describe_producers_request::TopicRequest,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    produce_request::{PartitionProduceData, TopicProduceData},
    *,
};
use uuid::Uuid;

const FOREVER: (&str, &str) = ("retention.ms", "-1");

pub fn run(s: &mut Session) {
    topic(s, "data", 2, &[FOREVER]);
    topic(s, "strict", 1, &[FOREVER, ("max.message.bytes", "300"), ("message.timestamp.before.max.ms", "3600000")]);
    topic(s, "compact", 1, &[("cleanup.policy", "compact")]);
    topic(s, "appended", 1, &[FOREVER, ("message.timestamp.type", "LogAppendTime")]);
    topic(s, "many", 1, &[FOREVER]);
    // For what is refused by the one and not by the other, so that nothing else shifts.
    for name in ["odd", "zstd", "marked", "twice"] {
        topic(s, name, 1, &[FOREVER]);
    }
    topic(s, "nobody", 1, &[]);
    produce(s);
    producers(s);
    offsets(s);
    epochs(s);
    delete(s);
    directories(s);
    super::newer::offsets(s);
    super::newer::directories(s);
}

/// A Produce request to one partition: by name, or from version 13 on by id.
pub fn to(v: i16, name: &str, id: Uuid, partition: i32, records: Option<Bytes>, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let topic = match v {
        13.. => TopicProduceData::default().with_topic_id(id),
        _ => TopicProduceData::default().with_name(topic_name(name)),
    };
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic.with_partition_data(vec![data])])
}

/// A batch after a change of its bytes, with the checksum made right again.
fn changed(batch: Bytes, change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    change(&mut bytes);
    let crc = crate::oracle::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn produce(s: &mut Session) {
    let id = led(s, "data", 2);
    for v in versions::<ProduceRequest>() {
        let values = [format!("one of version {v}"), format!("two of version {v}")];
        let written = || Some(batch(ANYONE, T0 + i64::from(v) * 1000, &values));
        s.call("acks=all", v, &to(v, "data", id, 0, written(), -1));
        s.call("acks=1", v, &to(v, "data", id, 1, written(), 1));
        s.call("no topics", v, &ProduceRequest::default().with_acks(-1).with_timeout_ms(1000));
        s.call("acks=2", v, &to(v, "data", id, 0, written(), 2));
        s.call("acks=-2", v, &to(v, "data", id, 0, written(), -2));
        s.call("unknown topic", v, &to(v, "nope", Uuid::from_u128(7), 0, written(), 1));
        s.call("nil id or empty name", v, &to(v, "", Uuid::nil(), 0, written(), 1));
        s.call("partition 9", v, &to(v, "data", id, 9, written(), 1));
        s.call("partition -1", v, &to(v, "data", id, -1, written(), 1));
    }
    let one = batch(ANYONE, T0, &["x"]);
    let (odd, zstd, marked, twice) = (led(s, "odd", 1), led(s, "zstd", 1), led(s, "marked", 1), led(s, "twice", 1));
    let (strict, compact, appended) = (led(s, "strict", 1), led(s, "compact", 1), led(s, "appended", 1));
    for v in [3, 7, 8, 12, 13] {
        let attributes = |bits: u8| changed(one.clone(), |b| b[22] |= bits);
        s.call("empty records", v, &to(v, "odd", odd, 0, Some(Bytes::new()), 1));
        s.call("cut short", v, &to(v, "odd", odd, 0, Some(one.slice(..one.len() - 1)), 1));
        s.call("ten bytes", v, &to(v, "odd", odd, 0, Some(one.slice(..10)), 1));
        let mut damaged = BytesMut::from(&one[..]);
        damaged[17] ^= 1;
        s.call("bad checksum", v, &to(v, "odd", odd, 0, Some(damaged.freeze()), 1));
        s.call("magic 3", v, &to(v, "odd", odd, 0, Some(changed(one.clone(), |b| b[16] = 3)), 1));
        s.call("magic 1", v, &to(v, "odd", odd, 0, Some(changed(one.clone(), |b| b[16] = 1)), 1));
        s.call("two batches", v, &to(v, "odd", odd, 0, Some([&one[..], &one[..]].concat().into()), 1));
        s.call("count too high", v, &to(v, "odd", odd, 0, Some(changed(one.clone(), |b| b[60] = 2)), 1));
        s.call("count zero", v, &to(v, "odd", odd, 0, Some(changed(one.clone(), |b| b[60] = 0)), 1));
        s.call("last delta too high", v, &to(v, "odd", odd, 0, Some(changed(one.clone(), |b| b[26] = 5)), 1));
        s.call("length zero", v, &to(v, "odd", odd, 0, Some(changed(one.clone(), |b| b[8..12].fill(0))), 1));
        s.call("length too high", v, &to(v, "odd", odd, 0, Some(changed(one.clone(), |b| b[11] += 1)), 1));
        s.call("a control batch", v, &to(v, "odd", odd, 0, Some(attributes(0x20)), 1));
        s.call("transactional without a transaction", v, &to(v, "odd", odd, 0, Some(attributes(0x10)), 1));
        s.call("codec 7", v, &to(v, "odd", odd, 0, Some(attributes(7)), 1));
        s.call("zstd that is none", v, &to(v, "zstd", zstd, 0, Some(attributes(4)), 1));
        s.call("marked as appended", v, &to(v, "marked", marked, 0, Some(attributes(8)), 1));
        let large = batch(ANYONE, now_ms(), &["x".repeat(400)]);
        let masked = |s: &mut Session, step: &str, records: Bytes| {
            // The bytes carry the time of day: shown without them.
            let name = format!("{:?}", records);
            s.bind("a batch of now", name);
            s.call(step, v, &to(v, "strict", strict, 0, Some(records), 1));
        };
        masked(s, "too large", large);
        masked(s, "from tomorrow", batch(ANYONE, now_ms() + 86_400_000, &["x"]));
        masked(s, "in time", batch(ANYONE, now_ms(), &["x"]));
        s.call("too old", v, &to(v, "strict", strict, 0, Some(one.clone()), 1));
        s.call("one record of two too old", v, &{
            let records = batch(ANYONE, T0, &["a", "b"]);
            to(v, "strict", strict, 0, Some(records), 1)
        });
        s.call("no key where they compact", v, &to(v, "compact", compact, 0, Some(one.clone()), 1));
        s.call("append time", v, &to(v, "appended", appended, 0, Some(one.clone()), -1));
        let mut two = to(v, "odd", odd, 0, Some(one.clone()), 1);
        let second = PartitionProduceData::default().with_index(9).with_records(Some(one.clone()));
        two.topic_data[0].partition_data.push(second);
        s.call("one good, one unknown", v, &two);
        let mut two = to(v, "twice", twice, 0, Some(one.clone()), 1);
        two.topic_data[0].partition_data.push(PartitionProduceData::default().with_records(Some(one.clone())));
        s.call("one partition twice", v, &two);
        let named = to(v, "odd", odd, 0, Some(one.clone()), 1).with_transactional_id(Some(string("t").into()));
        s.call("a transactional id", v, &named);
    }
}

fn producers(s: &mut Session) {
    let ask = |id: i64, epoch: i16| {
        InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch)
    };
    // The first block of ids is on its way.
    s.until(4, &ask(-1, -1), |r| r.error_code == 0);
    for v in versions::<InitProducerIdRequest>() {
        let request = ask(-1, -1);
        s.call("a new id", v, &request);
        s.call("no time limit", v, &request.clone().with_transaction_timeout_ms(i32::MAX));
        s.call("empty transactional id", v, &request.with_transactional_id(Some(string("").into())));
    }
    for v in 3..=5 {
        s.call("an id without an epoch", v, &ask(7, -1));
        s.call("an epoch without an id", v, &ask(-1, 3));
        s.call("both, but no transactional id", v, &ask(7, 3));
    }
    let many = led(s, "many", 1);
    let pid = s.quiet(4, &ask(-1, -1)).producer_id.0;
    s.bind("producer", pid);
    let send = |s: &mut Session, step: &str, producer: Producer, values: &[&str]| {
        let records = batch(producer, T0, values);
        s.bind(&format!("batch of epoch {} from sequence {}", producer.1, producer.2), format!("{records:?}"));
        s.call(step, 9, &to(9, "many", many, 0, Some(records), -1));
    };
    send(s, "first of a producer", (pid, 0, 0), &["a", "b"]);
    send(s, "second of a producer", (pid, 0, 2), &["c"]);
    send(s, "first again", (pid, 0, 0), &["a", "b"]);
    send(s, "second again", (pid, 0, 2), &["c"]);
    send(s, "a gap", (pid, 0, 5), &["d"]);
    send(s, "half of the first again", (pid, 0, 1), &["b"]);
    send(s, "next epoch, not from 0", (pid, 1, 3), &["d"]);
    send(s, "next epoch", (pid, 1, 0), &["d"]);
    send(s, "the epoch before", (pid, 0, 3), &["e"]);
    send(s, "a stranger from the middle", (pid + 500, 0, 5), &["f"]);
    send(s, "negative sequence", (pid, 1, -1), &["g"]);
    let of = |name: &str, partitions: &[i32]| {
        TopicRequest::default().with_name(topic_name(name)).with_partition_indexes(partitions.to_vec())
    };
    let describe = |topics| DescribeProducersRequest::default().with_topics(topics);
    s.call("producers", 0, &describe(vec![of("many", &[0])]));
    for (what, topics) in [
        ("no producers", vec![of("data", &[0, 1])]),
        ("unknown topic", vec![of("nope", &[0])]),
        ("partition 9", vec![of("many", &[0, 9])]),
        ("partition -1", vec![of("many", &[-1])]),
        ("no partitions", vec![of("many", &[])]),
        ("no topics", vec![]),
        ("a topic twice", vec![of("data", &[0]), of("data", &[1])]),
        ("bad name", vec![of("a/b", &[0])]),
    ] {
        s.call(what, 0, &describe(topics));
    }
}

fn offsets(s: &mut Session) {
    let at = |v: i16, partition: i32, timestamp: i64, epoch: i32| {
        let p = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        if v >= 4 { p.with_current_leader_epoch(epoch) } else { p }
    };
    let request = |name: &str, partitions| {
        let topic = ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions);
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
    };
    for v in versions::<ListOffsetsRequest>() {
        let one = |timestamp| request("data", vec![at(v, 0, timestamp, -1), at(v, 1, timestamp, -1)]);
        s.call("start", v, &one(-2));
        s.call("end", v, &one(-1));
        s.call("end, committed", v, &if v >= 2 { one(-1).with_isolation_level(1) } else { one(-1) });
        s.call("by time", v, &one(T0 + 7000));
        s.call("by a time between", v, &one(T0 + 7001));
        s.call("by time 0", v, &one(0));
        s.call("by a time to come", v, &one(i64::MAX));
        for special in [-3, -4, -5, -6, -7, i64::MIN] {
            s.call(&format!("special time {special}"), v, &one(special));
        }
        s.call("of an empty partition", v, &request("nobody", vec![at(v, 0, -3, -1)]));
        s.call("by time in an empty partition", v, &request("nobody", vec![at(v, 0, T0, -1)]));
        s.call("unknown topic", v, &request("nope", vec![at(v, 0, -1, -1)]));
        s.call("empty name", v, &request("", vec![at(v, 0, -1, -1)]));
        s.call("partitions 9 and -1", v, &request("data", vec![at(v, 9, -1, -1), at(v, -1, -1, -1), at(v, 0, -1, -1)]));
        s.call("one partition twice", v, &request("data", vec![at(v, 0, -1, -1), at(v, 0, -2, -1)]));
        s.call("no topics", v, &request("data", vec![]).with_topics(vec![]));
        s.call("no partitions", v, &request("data", vec![]));
        if v >= 4 {
            s.call("right epoch", v, &request("data", vec![at(v, 0, -1, 0)]));
            s.call("an epoch to come", v, &request("data", vec![at(v, 0, -1, 5)]));
            s.call("a negative epoch", v, &request("data", vec![at(v, 0, -1, -2)]));
        }
        s.call("as a replica", v, &one(-1).with_replica_id(BrokerId(1)));
        s.call("as a debugger", v, &one(-1).with_replica_id(BrokerId(-2)));
        if v >= 2 {
            s.call("isolation level 2", v, &one(-1).with_isolation_level(2));
        }
    }
}

fn epochs(s: &mut Session) {
    let at = |partition: i32, current: i32, epoch: i32| {
        OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch)
    };
    let request = |v: i16, name: &str, partitions| {
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name(name)).with_partitions(partitions);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        if v >= 3 { request.with_replica_id(BrokerId(-1)) } else { request }
    };
    for v in versions::<OffsetForLeaderEpochRequest>() {
        for (what, current, epoch) in [
            ("the epoch", -1, 0),
            ("the epoch, and the right one known", 0, 0),
            ("an epoch to come", -1, 5),
            ("an epoch to come known", 5, 0),
            ("no epoch", -1, -1),
            ("a negative epoch known", -2, 0),
            ("a negative epoch", 0, -2),
        ] {
            s.call(what, v, &request(v, "data", vec![at(0, current, epoch)]));
        }
        s.call("of an empty partition", v, &request(v, "nobody", vec![at(0, -1, 0)]));
        s.call("unknown topic", v, &request(v, "nope", vec![at(0, -1, 0)]));
        s.call("partitions 9 and -1", v, &request(v, "data", vec![at(9, -1, 0), at(-1, -1, 0)]));
        s.call("one partition twice", v, &request(v, "data", vec![at(0, -1, 0), at(0, -1, 0)]));
        s.call("no partitions", v, &request(v, "data", vec![]));
    }
}

fn delete(s: &mut Session) {
    let request = |name: &str, partitions: &[(i32, i64)]| {
        let one = |(p, o): &(i32, i64)| DeleteRecordsPartition::default().with_partition_index(*p).with_offset(*o);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name(name))
            .with_partitions(partitions.iter().map(one).collect());
        DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
    };
    for v in versions::<DeleteRecordsRequest>() {
        s.call("up to an offset", v, &request("many", &[(0, i64::from(v) + 1)]));
        s.call("below the start", v, &request("many", &[(0, 0)]));
        s.call("behind the end", v, &request("many", &[(0, 99)]));
        s.call("offset -2", v, &request("many", &[(0, -2)]));
        s.call("unknown topic", v, &request("nope", &[(0, 1)]));
        s.call("partitions 9 and -1", v, &request("many", &[(9, 1), (-1, 1)]));
        s.call("where they compact", v, &request("compact", &[(0, 0)]));
        s.call("an empty partition", v, &request("nobody", &[(0, 0)]));
        s.call("no partitions", v, &request("many", &[]));
    }
    s.call("one partition twice", 2, &request("many", &[(0, 3), (0, 3)]));
    s.call("up to the end", 2, &request("many", &[(0, -1)]));
    s.call("up to the end again", 2, &request("many", &[(0, -1)]));
    s.call("of an empty name", 2, &request("", &[(0, 1)]));
    let at = |timestamp| {
        let p = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
        let t = ListOffsetsTopic::default().with_name(topic_name("many")).with_partitions(vec![p]);
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![t])
    };
    s.call("start after deletion", 7, &at(-2));
    s.call("by time after deletion", 7, &at(0));
    s.call("largest time after deletion", 7, &at(-3));
}

fn directories(s: &mut Session) {
    let of = |name: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(partitions.to_vec())
    };
    let request = |topics: Option<Vec<_>>| DescribeLogDirsRequest::default().with_topics(topics);
    for v in versions::<DescribeLogDirsRequest>() {
        s.call("a topic", v, &request(Some(vec![of("data", &[0, 1])])));
        s.call("everything", v, &request(None));
        s.call("unknown topic", v, &request(Some(vec![of("nope", &[0])])));
        s.call("partitions 0 and 9", v, &request(Some(vec![of("data", &[0, 9])])));
        s.call("no topics", v, &request(Some(vec![])));
        s.call("no partitions", v, &request(Some(vec![of("data", &[])])));
        s.call("a topic twice", v, &request(Some(vec![of("data", &[0]), of("data", &[0])])));
        s.call("an empty partition", v, &request(Some(vec![of("nobody", &[0])])));
    }
}

/// Asks for the end of partition 0.
pub fn ends(name: &str) -> ListOffsetsRequest {
    let p = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let t = ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(vec![p]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![t])
}

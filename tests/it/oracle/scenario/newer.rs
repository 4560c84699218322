//! Versions that the message types do not know: requests and answers are written and read here.

use super::super::{session::Session, tree};
use crate::wire::{string, topic_name};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        *,
    },
    protocol::{Decodable, Encodable},
};
use serde_json::{Value, json};

/// A message's bytes in the version before, where the format is the same.
fn encoded(message: &impl Encodable, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out
}

fn text(out: &mut BytesMut, text: Option<&str>) {
    let text = text.map_or(&b""[..0], str::as_bytes);
    out.extend_from_slice(&[text.len() as u8 + 1]);
    out.extend_from_slice(text);
}

/// Reads an answer; `None` where it ends too early.
struct Reader<'a>(&'a mut Bytes);

impl Reader<'_> {
    fn length(&mut self) -> Option<usize> {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.0.try_get_u8().ok()?;
            n |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
    }

    fn text(&mut self) -> Option<Value> {
        let Some(n) = self.length()?.checked_sub(1) else { return Some(Value::Null) };
        let bytes = (n <= self.0.remaining()).then(|| self.0.copy_to_bytes(n))?;
        Some(json!(String::from_utf8_lossy(&bytes)))
    }

    fn i16(&mut self) -> Option<i16> {
        self.0.try_get_i16().ok()
    }

    fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    fn i64(&mut self) -> Option<i64> {
        self.0.try_get_i64().ok()
    }

    fn bool(&mut self) -> Option<bool> {
        Some(self.0.try_get_u8().ok()? != 0)
    }

    fn no_tags(&mut self) -> Option<()> {
        (self.0.try_get_u8().ok()? == 0).then_some(())
    }

    fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<Value>) -> Option<Value> {
        let n = self.length()?.checked_sub(1)?;
        let mut all = Vec::new();
        for _ in 0..n {
            let one = element(self)?;
            self.no_tags()?;
            all.push(one);
        }
        Some(Value::Array(all))
    }
}

/// ApiVersions 5: the client may say whom it means. The answer is as in version 4.
pub fn versions(s: &mut Session) {
    let mut ask = |step: &str, name: &str, cluster: Option<&str>, node: i32| {
        let mut body = BytesMut::new();
        text(&mut body, Some(name));
        text(&mut body, Some("1.0"));
        match cluster {
            Some(_) => text(&mut body, cluster),
            None => body.extend_from_slice(&[0]),
        }
        body.extend_from_slice(&node.to_be_bytes());
        body.extend_from_slice(&[0]);
        let request = json!({"client_software_name": name, "cluster": cluster, "node_id": node});
        s.call_by_hand(step, 18, 5, request, &body, |b| Some(tree::of(&ApiVersionsResponse::decode(b, 4).ok()?)));
    };
    ask("what is there", "it", None, -1);
    ask("no software name", "", None, -1);
    ask("of another cluster", "it", Some("other"), 1);
    ask("of a cluster without a name", "it", Some(""), 1);
    ask("of a node without its cluster", "it", None, 1);
    ask("of another node without its cluster", "it", None, 7);
    ask("of a cluster without a node", "it", Some("other"), -1);
}

/// ListOffsets 11: one special time more, in the format of version 10.
pub fn offsets(s: &mut Session) {
    for (step, name, timestamp) in [
        ("start", "data", -2),
        ("end", "data", -1),
        ("special time -3", "data", -3),
        ("special time -4", "data", -4),
        ("special time -5", "data", -5),
        ("special time -6", "data", -6),
        ("special time -7", "data", -7),
        ("by time", "data", super::T0 + 7000),
        ("unknown topic", "nope", -1),
    ] {
        let p = ListOffsetsPartition::default().with_timestamp(timestamp);
        let t = ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(vec![p]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![t]);
        let body = encoded(&request, 10);
        let read = |b: &mut Bytes| Some(tree::of(&ListOffsetsResponse::decode(b, 10).ok()?));
        s.call_by_hand(step, 2, 11, tree::of(&request), &body, read);
    }
}

/// DescribeLogDirs 5: whether a directory is cordoned.
pub fn directories(s: &mut Session) {
    use describe_log_dirs_request::DescribableLogDirTopic;
    let of = |name: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(partitions.to_vec())
    };
    for (step, topics) in [
        ("a topic", Some(vec![of("data", &[0, 1])])),
        ("unknown topic", Some(vec![of("nope", &[0])])),
        ("partitions 0 and 9", Some(vec![of("data", &[0, 9])])),
        ("no topics", Some(vec![])),
    ] {
        let request = DescribeLogDirsRequest::default().with_topics(topics);
        s.call_by_hand(step, 35, 5, tree::of(&request), &encoded(&request, 4), |b| {
            let mut r = Reader(b);
            let (throttle_time_ms, error_code) = (r.i32()?, r.i16()?);
            let results = r.array(|r| {
                let (error_code, log_dir) = (r.i16()?, r.text()?);
                let topics = r.array(|r| {
                    let name = r.text()?;
                    let partitions = r.array(|r| {
                        let (partition_index, partition_size) = (r.i32()?, r.i64()?);
                        let (offset_lag, is_future_key) = (r.i64()?, r.bool()?);
                        Some(json!({"partition_index": partition_index, "partition_size": partition_size,
                            "offset_lag": offset_lag, "is_future_key": is_future_key}))
                    })?;
                    Some(json!({"name": name, "partitions": partitions}))
                })?;
                let (total_bytes, usable_bytes, is_cordoned) = (r.i64()?, r.i64()?, r.bool()?);
                Some(json!({"error_code": error_code, "log_dir": log_dir, "topics": topics,
                    "total_bytes": total_bytes, "usable_bytes": usable_bytes, "is_cordoned": is_cordoned}))
            })?;
            r.no_tags()?;
            Some(json!({"throttle_time_ms": throttle_time_ms, "error_code": error_code, "results": results}))
        });
    }
}

/// DeleteGroups 3: a sentence with the error.
pub fn groups(s: &mut Session) {
    for (step, names) in [
        ("an empty group", &["left.alone.v3"][..]),
        ("again", &["left.alone.v3"]),
        ("a group with members", &["stable"]),
        ("empty name", &[""]),
        ("one of two", &["left.alone.v4", "nope"]),
        ("no groups", &[]),
    ] {
        let names = names.iter().map(|n| GroupId(string(n))).collect();
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        s.call_by_hand(step, 42, 3, tree::of(&request), &encoded(&request, 2), |b| {
            let mut r = Reader(b);
            let throttle_time_ms = r.i32()?;
            let results = r.array(|r| {
                let (group_id, error_code, error_message) = (r.text()?, r.i16()?, r.text()?);
                Some(json!({"group_id": group_id, "error_code": error_code, "error_message": error_message}))
            })?;
            r.no_tags()?;
            Some(json!({"throttle_time_ms": throttle_time_ms, "results": results}))
        });
    }
}

//! OffsetCommit and OffsetFetch with topic ids (version 10): the message types know them of the responses only, so the requests are written here.

use bytes::{BufMut, BytesMut};
use kafka_protocol::{
    messages::{OffsetCommitRequest, OffsetFetchRequest},
    protocol::StrBytes,
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The version with ids.
pub const VERSION: i16 = 10;

/// A length or count plus one, 0 for null.
fn length(out: &mut BytesMut, n: Option<usize>) {
    let mut left = n.map_or(0, |n| n + 1);
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

fn text(out: &mut BytesMut, text: Option<&StrBytes>) {
    length(out, text.map(|t| t.len()));
    out.put_slice(text.map_or(&[], |t| t.as_bytes()));
}

const NO_TAGS: u8 = 0;

/// Names become ids: those of `ids`, nil for the empty name, else one that nobody has.
fn id(ids: &BTreeMap<&str, Uuid>, name: &str) -> Uuid {
    ids.get(name).copied().unwrap_or(if name.is_empty() { Uuid::nil() } else { Uuid::from_u128(7) })
}

/// A request with names as one with ids, and its bytes.
pub fn commit(mut request: OffsetCommitRequest, ids: &BTreeMap<&str, Uuid>) -> (OffsetCommitRequest, BytesMut) {
    let mut out = BytesMut::new();
    text(&mut out, Some(&request.group_id.0));
    out.put_i32(request.generation_id_or_member_epoch);
    text(&mut out, Some(&request.member_id));
    text(&mut out, request.group_instance_id.as_ref());
    length(&mut out, Some(request.topics.len()));
    for topic in &mut request.topics {
        topic.topic_id = id(ids, topic.name.as_str());
        topic.name = Default::default();
        out.put_slice(topic.topic_id.as_bytes());
        length(&mut out, Some(topic.partitions.len()));
        for p in &topic.partitions {
            out.put_i32(p.partition_index);
            out.put_i64(p.committed_offset);
            out.put_i32(p.committed_leader_epoch);
            text(&mut out, p.committed_metadata.as_ref());
            out.put_u8(NO_TAGS);
        }
        out.put_u8(NO_TAGS);
    }
    out.put_u8(NO_TAGS);
    (request, out)
}

/// The same for OffsetFetch.
pub fn fetch(mut request: OffsetFetchRequest, ids: &BTreeMap<&str, Uuid>) -> (OffsetFetchRequest, BytesMut) {
    let mut out = BytesMut::new();
    length(&mut out, Some(request.groups.len()));
    for group in &mut request.groups {
        text(&mut out, Some(&group.group_id.0));
        text(&mut out, group.member_id.as_ref());
        out.put_i32(group.member_epoch);
        length(&mut out, group.topics.as_ref().map(Vec::len));
        for topic in group.topics.iter_mut().flatten() {
            topic.topic_id = id(ids, topic.name.as_str());
            topic.name = Default::default();
            out.put_slice(topic.topic_id.as_bytes());
            length(&mut out, Some(topic.partition_indexes.len()));
            topic.partition_indexes.iter().for_each(|p| out.put_i32(*p));
            out.put_u8(NO_TAGS);
        }
        out.put_u8(NO_TAGS);
    }
    out.put_u8(u8::from(request.require_stable));
    out.put_u8(NO_TAGS);
    (request, out)
}

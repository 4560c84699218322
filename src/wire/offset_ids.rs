//! OffsetCommit and OffsetFetch with topic ids (version 10, KIP-848), which the message crate knows of the responses only.
//!
//! Both requests are as in version 9 but that a topic is its id in the place of its name; they decode to the crate's own structs, with an empty name. Like the crate's
//! decoders these want a body that `preflight` has let through.

use super::header::read_unsigned_varint;
use bytes::{Buf, Bytes};
use kafka_protocol::{
    messages::{
        self, GroupId,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    },
    protocol::{Decodable, Message, StrBytes, VersionRange},
};
use uuid::Uuid;

/// First version with topic ids, of both.
pub const TOPIC_IDS: i16 = 10;
/// Version whose structs inside are the same.
const LIKE: i16 = TOPIC_IDS - 1;

/// Why a body is not what it should be.
pub type Unreadable = Box<dyn std::error::Error + Send + Sync>;

/// A request body as the table of APIs decodes it: what the crate knows, and what is here.
pub trait Body: Sized {
    /// Reads it from the front of `body`.
    fn read(body: &mut Bytes, version: i16) -> Result<Self, Unreadable>;
}

impl<M: Decodable> Body for M {
    fn read(body: &mut Bytes, version: i16) -> Result<M, Unreadable> {
        Ok(M::decode(body, version)?)
    }
}

/// OffsetCommit (key 8), versions 2 to 10.
#[derive(Debug, Clone, PartialEq)]
pub struct OffsetCommitRequest(pub messages::OffsetCommitRequest);

/// OffsetFetch (key 9), versions 1 to 10.
#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchRequest(pub messages::OffsetFetchRequest);

impl Message for OffsetCommitRequest {
    const VERSIONS: VersionRange = VersionRange { min: messages::OffsetCommitRequest::VERSIONS.min, max: TOPIC_IDS };
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl Message for OffsetFetchRequest {
    const VERSIONS: VersionRange = VersionRange { min: messages::OffsetFetchRequest::VERSIONS.min, max: TOPIC_IDS };
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl Body for OffsetCommitRequest {
    fn read(body: &mut Bytes, version: i16) -> Result<Self, Unreadable> {
        if version < TOPIC_IDS {
            return Ok(OffsetCommitRequest(messages::OffsetCommitRequest::decode(body, version)?));
        }
        let group = GroupId(text(body)?.ok_or(NULL)?);
        let generation = int32(body)?;
        let member = text(body)?.ok_or(NULL)?;
        let instance = text(body)?;
        let topics = list(body, |body| {
            let id = Uuid::from_slice(&take(body, 16)?)?;
            let partitions = list(body, |body| Ok(OffsetCommitRequestPartition::decode(body, LIKE)?))?.ok_or(NULL)?;
            tags(body)?;
            Ok(OffsetCommitRequestTopic::default().with_topic_id(id).with_partitions(partitions))
        })?;
        tags(body)?;
        let request = messages::OffsetCommitRequest::default()
            .with_group_id(group)
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(member)
            .with_group_instance_id(instance)
            .with_topics(topics.ok_or(NULL)?);
        Ok(OffsetCommitRequest(request))
    }
}

impl Body for OffsetFetchRequest {
    fn read(body: &mut Bytes, version: i16) -> Result<Self, Unreadable> {
        if version < TOPIC_IDS {
            return Ok(OffsetFetchRequest(messages::OffsetFetchRequest::decode(body, version)?));
        }
        let groups = list(body, |body| {
            let group = GroupId(text(body)?.ok_or(NULL)?);
            let member = text(body)?;
            let epoch = int32(body)?;
            let topics = list(body, |body| {
                let id = Uuid::from_slice(&take(body, 16)?)?;
                let partitions = list(body, int32)?.ok_or(NULL)?;
                tags(body)?;
                Ok(OffsetFetchRequestTopics::default().with_topic_id(id).with_partition_indexes(partitions))
            })?;
            tags(body)?;
            let group = OffsetFetchRequestGroup::default().with_group_id(group).with_member_id(member);
            Ok(group.with_member_epoch(epoch).with_topics(topics))
        })?;
        let stable = take(body, 1)?[0] != 0;
        tags(body)?;
        let request = messages::OffsetFetchRequest::default().with_require_stable(stable);
        Ok(OffsetFetchRequest(request.with_groups(groups.ok_or(NULL)?)))
    }
}

const NULL: &str = "null where there is none";
const SHORT: &str = "a field reaches past the end of the frame";

fn take(body: &mut Bytes, count: usize) -> Result<Bytes, Unreadable> {
    if body.len() < count {
        return Err(SHORT.into());
    }
    Ok(body.split_to(count))
}

pub(super) fn int32(body: &mut Bytes) -> Result<i32, Unreadable> {
    body.try_get_i32().map_err(|_| SHORT.into())
}

fn varint(body: &mut Bytes) -> Result<u32, Unreadable> {
    let mut rest = &body[..];
    let value = read_unsigned_varint(&mut rest).ok_or(SHORT)?;
    let left = rest.len();
    body.advance(body.len() - left);
    Ok(value)
}

/// `None` = null.
pub(super) fn text(body: &mut Bytes) -> Result<Option<StrBytes>, Unreadable> {
    let Some(len) = varint(body)?.checked_sub(1) else { return Ok(None) };
    Ok(Some(StrBytes::from_utf8(take(body, len as usize)?)?))
}

/// An array; `None` = null. Memory is asked for in proportion to the bytes there are.
fn list<T>(
    body: &mut Bytes,
    mut each: impl FnMut(&mut Bytes) -> Result<T, Unreadable>,
) -> Result<Option<Vec<T>>, Unreadable> {
    let Some(count) = varint(body)?.checked_sub(1) else { return Ok(None) };
    let mut all = Vec::with_capacity((count as usize).min(body.len()));
    for _ in 0..count {
        all.push(each(body)?);
    }
    Ok(Some(all))
}

/// Tagged fields: none is known, they are passed over.
pub(super) fn tags(body: &mut Bytes) -> Result<(), Unreadable> {
    for _ in 0..varint(body)? {
        varint(body)?;
        let size = varint(body)?;
        take(body, size as usize)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Bytes {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn id() -> uuid::Uuid {
        uuid::Uuid::parse_str("63979e82-c2d6-49ac-b726-83299fde0e03").unwrap()
    }

    // Written by kafka-clients 4.4.0.
    const COMMIT: &str = "0470617900000003026d0774696c6c2d310363979e82c2d649acb72683299fde0e030300000000000000000000002a00000007066bc3a4736500000000010000000000000005ffffffff00000000000000000000010000000000000002010000";
    const FETCH: &str =
        "0304706179026d000000030263979e82c2d649acb72683299fde0e03030000000000000001000004616c6c00ffffffff00000100";

    #[test]
    fn a_commit_by_id_is_read() {
        let mut bytes = hex(COMMIT);
        let OffsetCommitRequest(it) = OffsetCommitRequest::read(&mut bytes, 10).unwrap();
        assert!(bytes.is_empty());
        assert_eq!((&**it.group_id, it.generation_id_or_member_epoch, &*it.member_id), ("pay", 3, "m"));
        assert_eq!((it.group_instance_id.as_deref(), it.retention_time_ms), (Some("till-1"), -1));
        let shown: Vec<_> = it.topics.iter().map(|t| (t.topic_id, &**t.name, t.partitions.len())).collect();
        assert_eq!(shown, [(id(), "", 2), (uuid::Uuid::from_u64_pair(1, 2), "", 0)]);
        let [first, second] = &it.topics[0].partitions[..] else { panic!() };
        assert_eq!((first.partition_index, first.committed_offset, first.committed_leader_epoch), (0, 42, 7));
        assert_eq!((first.committed_metadata.as_deref(), second.committed_metadata.as_deref()), (Some("käse"), None));
    }

    #[test]
    fn a_fetch_by_id_is_read() {
        let mut bytes = hex(FETCH);
        let OffsetFetchRequest(it) = OffsetFetchRequest::read(&mut bytes, 10).unwrap();
        assert!(bytes.is_empty() && it.require_stable);
        let [first, second] = &it.groups[..] else { panic!("{it:?}") };
        assert_eq!((&**first.group_id, first.member_id.as_deref(), first.member_epoch), ("pay", Some("m"), 3));
        let topics = first.topics.as_ref().unwrap();
        assert_eq!((topics[0].topic_id, &topics[0].partition_indexes[..]), (id(), &[0, 1][..]));
        assert_eq!((&**second.group_id, &second.member_id, second.member_epoch), ("all", &None, -1));
        assert_eq!(second.topics, None);
    }

    #[test]
    fn bytes_cut_short_are_refused() {
        for cut in 0..COMMIT.len() / 2 {
            assert!(OffsetCommitRequest::read(&mut hex(&COMMIT[..2 * cut]), 10).is_err(), "{cut}");
        }
        for cut in 0..FETCH.len() / 2 {
            assert!(OffsetFetchRequest::read(&mut hex(&FETCH[..2 * cut]), 10).is_err(), "{cut}");
        }
    }
}

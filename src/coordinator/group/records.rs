//! Bytes of `__consumer_offsets`: Kafka's own (`OffsetCommitKey` 0 and 1, `OffsetCommitValue` 0 to 4, `GroupMetadataKey` 2, `GroupMetadataValue` 0 to 4), so that its tools and those of
//! others read them.
//!
//! ```text
//! key    version i16 | 0, 1: group, topic, partition i32        2: group
//! offset version i16 | offset i64 | leader epoch i32 (3+) | metadata | commit ms i64 | expire ms i64 (1) | tagged fields (4+): 0 = topic id
//! group  version i16 | protocol type | generation i32 | protocol? | leader? | state ms i64 (2+) | count i32, members | tagged fields (4+)
//! member member id | instance id? (3+) | client id | client host | rebalance ms i32 (1+) | session ms i32 | subscription | assignment | tagged fields (4+)
//! ```
//! Strings are an i16 length and UTF-8 (`?`: -1 = null), bytes an i32 length; from version 4 on both have an unsigned varint of length + 1 (0 = null). Everything is read; written is
//! what Kafka 4.4 writes: keys 1 and 2, offsets as version 4 (with an expiry of their own as version 1, which has the room), groups as version 3.

use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// What a key names. Borrowed from the record: a load reads millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Offset {
        group: &'a str,
        topic: &'a str,
        partition: i32,
    },
    Group {
        group: &'a str,
    },
    /// A version of the key that this release does not know (other kinds of groups): its record is kept as it is.
    Unknown(i16),
}

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetValue<'a> {
    pub offset: i64,
    /// -1 = unknown.
    pub leader_epoch: i32,
    pub metadata: &'a str,
    /// Wall clock of the commit, ms since 1970.
    pub commit_ms: i64,
    /// Wall clock at which it expires (v1 of the value), -1 = by the broker's retention.
    pub expire_ms: i64,
    /// Nil = unknown.
    pub topic_id: Uuid,
}

/// A group at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue {
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// Wall clock of the last change of state, ms since 1970; -1 = unknown.
    pub state_ms: i64,
    pub members: Vec<MemberValue>,
}

/// One member of a [`GroupValue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Version 0 has none: there it is the session timeout, as in Kafka.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Metadata of the protocol chosen.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A text does not fit its field (an i16 of length).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{size_bytes} bytes of text where {max_bytes} fit")]
pub struct TooLong {
    pub size_bytes: usize,
    pub max_bytes: usize,
}

/// Bytes of [`Key::Offset`].
pub fn offset_key(group: &str, topic: &str, partition: i32) -> Result<Vec<u8>, TooLong> {
    let mut out = Vec::with_capacity(10 + group.len() + topic.len());
    out.extend(1i16.to_be_bytes());
    put_text(&mut out, group)?;
    put_text(&mut out, topic)?;
    out.extend(partition.to_be_bytes());
    Ok(out)
}

/// Bytes of [`Key::Group`].
pub fn group_key(group: &str) -> Result<Vec<u8>, TooLong> {
    let mut out = Vec::with_capacity(4 + group.len());
    out.extend(2i16.to_be_bytes());
    put_text(&mut out, group)?;
    Ok(out)
}

impl<'a> Key<'a> {
    /// Reads a key; an error is a sentence. Never panics, never allocates (but for the sentence).
    pub fn decode(bytes: &'a [u8]) -> Result<Key<'a>, String> {
        let mut from = Reader { bytes, flexible: false };
        let key = match from.i16()? {
            0 | 1 => Key::Offset { group: from.text()?, topic: from.text()?, partition: from.i32()? },
            2 => Key::Group { group: from.text()? },
            other => return Ok(Key::Unknown(other)),
        };
        Ok(key)
    }
}

impl<'a> OffsetValue<'a> {
    /// Reads a value; an error is a sentence. Never panics, never allocates (but for the sentence).
    pub fn decode(bytes: &'a [u8]) -> Result<OffsetValue<'a>, String> {
        let mut from = Reader { bytes, flexible: false };
        let version = from.version(4)?;
        from.flexible = version >= 4;
        let offset = from.i64()?;
        let leader_epoch = if version >= 3 { from.i32()? } else { -1 };
        let metadata = from.text()?;
        let commit_ms = from.i64()?;
        let expire_ms = if version == 1 { from.i64()? } else { -1 };
        let mut topic_id = Uuid::nil();
        from.tags(|tag, bytes| {
            if tag == 0 {
                topic_id = Uuid::from_slice(bytes).map_err(|_| "a topic id that is not of 16 bytes".to_string())?;
            }
            Ok(())
        })?;
        Ok(OffsetValue { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id })
    }

    /// Bytes as Kafka 4.4 writes them. With `expire_ms` (0 or more) version 1 is all that has room for it: leader epoch and topic id are not kept, metadata must fit an i16.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::with_capacity(44 + self.metadata.len());
        if self.expire_ms >= 0 {
            out.extend(1i16.to_be_bytes());
            out.extend(self.offset.to_be_bytes());
            put_text(&mut out, self.metadata)?;
            out.extend(self.commit_ms.to_be_bytes());
            out.extend(self.expire_ms.to_be_bytes());
            return Ok(out);
        }
        out.extend(4i16.to_be_bytes());
        out.extend(self.offset.to_be_bytes());
        out.extend(self.leader_epoch.to_be_bytes());
        put_uvarint(&mut out, self.metadata.len() as u64 + 1);
        out.extend(self.metadata.as_bytes());
        out.extend(self.commit_ms.to_be_bytes());
        if self.topic_id.is_nil() {
            out.push(0);
        } else {
            // One tagged field: number 0, 16 bytes.
            out.extend([1, 0, 16]);
            out.extend(self.topic_id.as_bytes());
        }
        Ok(out)
    }
}

/// Fewest bytes that a member takes in any version.
const MEMBER_BYTES_MIN: usize = 15;

impl GroupValue {
    /// Reads a value; an error is a sentence. Never panics; allocates no more than some small multiple of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<GroupValue, String> {
        let mut from = Reader { bytes, flexible: false };
        let version = from.version(4)?;
        from.flexible = version >= 4;
        let protocol_type = from.text()?.into();
        let generation = from.i32()?;
        let protocol = from.nullable_text()?.map(Arc::from);
        let leader = from.nullable_text()?.map(Arc::from);
        let state_ms = if version >= 2 { from.i64()? } else { -1 };
        let count = from.count(MEMBER_BYTES_MIN)?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(from.member(version)?);
        }
        from.tags(|_, _| Ok(()))?;
        Ok(GroupValue { protocol_type, generation, protocol, leader, state_ms, members })
    }

    /// Bytes as Kafka 4.4 writes them (version 3).
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let members = self.members.iter().map(|m| 256 + m.subscription.len() + m.assignment.len());
        let mut out = Vec::with_capacity(64 + members.sum::<usize>());
        out.extend(3i16.to_be_bytes());
        put_text(&mut out, &self.protocol_type)?;
        out.extend(self.generation.to_be_bytes());
        put_nullable_text(&mut out, self.protocol.as_deref())?;
        put_nullable_text(&mut out, self.leader.as_deref())?;
        out.extend(self.state_ms.to_be_bytes());
        put_len(&mut out, self.members.len())?;
        for member in &self.members {
            put_text(&mut out, &member.member_id)?;
            put_nullable_text(&mut out, member.instance_id.as_deref())?;
            put_text(&mut out, &member.client_id)?;
            put_text(&mut out, &member.client_host)?;
            out.extend(member.rebalance_timeout_ms.to_be_bytes());
            out.extend(member.session_timeout_ms.to_be_bytes());
            put_len(&mut out, member.subscription.len())?;
            out.extend(&member.subscription);
            put_len(&mut out, member.assignment.len())?;
            out.extend(&member.assignment);
        }
        Ok(out)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), TooLong> {
    let max_bytes = i16::MAX as usize;
    let len = i16::try_from(text.len()).map_err(|_| TooLong { size_bytes: text.len(), max_bytes })?;
    out.extend(len.to_be_bytes());
    out.extend(text.as_bytes());
    Ok(())
}

fn put_nullable_text(out: &mut Vec<u8>, text: Option<&str>) -> Result<(), TooLong> {
    match text {
        Some(text) => put_text(out, text),
        None => {
            out.extend((-1i16).to_be_bytes());
            Ok(())
        }
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) -> Result<(), TooLong> {
    let max_bytes = i32::MAX as usize;
    let len = i32::try_from(len).map_err(|_| TooLong { size_bytes: len, max_bytes })?;
    out.extend(len.to_be_bytes());
    Ok(())
}

fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads from the front of `bytes`, every length checked against what is left.
struct Reader<'a> {
    bytes: &'a [u8],
    /// Lengths as varints, tagged fields.
    flexible: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self
            .bytes
            .split_at_checked(n)
            .ok_or_else(|| format!("{n} bytes claimed where {} are left", self.bytes.len()))?;
        self.bytes = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, tail) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or_else(|| format!("{N} bytes expected where {} are left", self.bytes.len()))?;
        self.bytes = tail;
        Ok(*head)
    }
    fn i16(&mut self) -> Result<i16, String> {
        Ok(i16::from_be_bytes(self.array()?))
    }
    fn i32(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(self.array()?))
    }
    fn i64(&mut self) -> Result<i64, String> {
        Ok(i64::from_be_bytes(self.array()?))
    }
    fn version(&mut self, max: i16) -> Result<i16, String> {
        match self.i16()? {
            version if (0..=max).contains(&version) => Ok(version),
            version => Err(format!("version {version} of the value is not known")),
        }
    }
    fn uvarint(&mut self) -> Result<usize, String> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map(|v| v as usize).map_err(|_| "a varint beyond 32 bits".into());
            }
        }
        Err("a varint of more than 5 bytes".into())
    }
    /// A length of text (i16) or of bytes and arrays (i32), `None` = null.
    fn len(&mut self, wide: bool) -> Result<Option<usize>, String> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1));
        }
        let len = if wide { self.i32()? } else { i32::from(self.i16()?) };
        match len {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| format!("a length of {len}")),
        }
    }
    fn nullable_text(&mut self) -> Result<Option<&'a str>, String> {
        let Some(len) = self.len(false)? else { return Ok(None) };
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map(Some).map_err(|e| format!("text that is not UTF-8: {e}"))
    }
    fn text(&mut self) -> Result<&'a str, String> {
        self.nullable_text()?.ok_or_else(|| "null where text belongs".into())
    }
    fn blob(&mut self) -> Result<Bytes, String> {
        let len = self.len(true)?.ok_or("null where bytes belong")?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }
    /// Elements of an array, each of at least `min_bytes`.
    fn count(&mut self, min_bytes: usize) -> Result<usize, String> {
        let count = self.len(true)?.ok_or("null where a list belongs")?;
        if count > self.bytes.len() / min_bytes {
            return Err(format!("{count} elements claimed where {} bytes are left", self.bytes.len()));
        }
        Ok(count)
    }
    /// Hands each tagged field to `each`; there are none below version 4.
    fn tags(&mut self, mut each: impl FnMut(usize, &'a [u8]) -> Result<(), String>) -> Result<(), String> {
        if self.flexible {
            for _ in 0..self.uvarint()? {
                let tag = self.uvarint()?;
                let len = self.uvarint()?;
                each(tag, self.take(len)?)?;
            }
        }
        Ok(())
    }
    fn member(&mut self, version: i16) -> Result<MemberValue, String> {
        let member_id = self.text()?.into();
        let instance_id = if version >= 3 { self.nullable_text()?.map(Arc::from) } else { None };
        let client_id = self.text()?.into();
        let client_host = self.text()?.into();
        let rebalance_timeout_ms = if version >= 1 { self.i32()? } else { -1 };
        let session_timeout_ms = self.i32()?;
        let subscription = self.blob()?;
        let assignment = self.blob()?;
        self.tags(|_, _| Ok(()))?;
        Ok(MemberValue {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: if rebalance_timeout_ms < 0 { session_timeout_ms } else { rebalance_timeout_ms },
            session_timeout_ms,
            subscription,
            assignment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn topic_id() -> Uuid {
        Uuid::parse_str("63979e82-c2d6-49ac-b726-83299fde0e03").unwrap()
    }

    // What follows was cut from a log that Kafka 4.4.0 wrote.
    const KEY_OFFSET: &str = "0001 0003706179 00066f7264657273 00000000";
    const OFFSET_WITH_ALL: &str =
        "0004 000000000000002a 00000007 066bc3a47365 000001a20e254988 01001063979e82c2d649acb72683299fde0e03";
    const OFFSET_PLAIN: &str =
        "0004 0000000000000000 ffffffff 01 000001a20e254988 01001063979e82c2d649acb72683299fde0e03";
    const KEY_GROUP: &str = "0002 0003706179";
    const GROUP_NEW: &str = "0003 0000 00000000 ffff ffff 000001a20e254838 00000000";
    const GROUP_STATIC: &str = "0003 0008636f6e73756d6572 00000001 000572616e6765
        002b74696c6c2d312d35386261373432372d346330652d346232352d613063622d643837356365303965366564 000001a20e25484a 00000001
        002b74696c6c2d312d35386261373432372d346330652d346232352d613063622d643837356365303965366564 000674696c6c2d31 000473686f70
        000a2f3132372e302e302e31 000493e0 00002710
        0000001c00030000000100066f7264657273ffffffff00000000ffffffffffff
        0000001e00030000000100066f7264657273000000020000000000000001ffffffff";
    const GROUP_DYNAMIC: &str = "0003 0008636f6e73756d6572 00000001 000572616e6765
        002973686f702d64343536663662632d666365662d343737302d386135612d393665646663666562653432 000001a20e2549b0 00000001
        002973686f702d64343536663662632d666365662d343737302d386135612d393665646663666562653432 ffff 000473686f70
        000a2f3132372e302e302e31 000493e0 00002710
        0000001c00030000000100066f7264657273ffffffff00000000ffffffffffff
        0000001e00030000000100066f7264657273000000020000000000000001ffffffff";
    const GROUP_EMPTY: &str = "0003 0008636f6e73756d6572 00000002 ffff ffff 000001a20e254b9b 00000000";

    #[test]
    fn offsets_are_read_and_written_as_kafka_does() {
        let key = hex(KEY_OFFSET);
        assert_eq!(Key::decode(&key).unwrap(), Key::Offset { group: "pay", topic: "orders", partition: 0 });
        assert_eq!(offset_key("pay", "orders", 0).unwrap(), key);
        let all = OffsetValue {
            offset: 42,
            leader_epoch: 7,
            metadata: "käse",
            commit_ms: 1795533654408,
            expire_ms: -1,
            topic_id: topic_id(),
        };
        let plain = OffsetValue { offset: 0, leader_epoch: -1, metadata: "", ..all };
        for (value, bytes) in [(all, hex(OFFSET_WITH_ALL)), (plain, hex(OFFSET_PLAIN))] {
            assert_eq!(OffsetValue::decode(&bytes).unwrap(), value);
            assert_eq!(value.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn groups_are_read_and_written_as_kafka_does() {
        let key = hex(KEY_GROUP);
        assert_eq!(Key::decode(&key).unwrap(), Key::Group { group: "pay" });
        assert_eq!(group_key("pay").unwrap(), key);
        for bytes in [GROUP_NEW, GROUP_STATIC, GROUP_DYNAMIC, GROUP_EMPTY].map(hex) {
            assert_eq!(GroupValue::decode(&bytes).unwrap().encode().unwrap(), bytes);
        }
        let group = GroupValue::decode(&hex(GROUP_STATIC)).unwrap();
        assert_eq!((&*group.protocol_type, group.generation), ("consumer", 1));
        assert_eq!((group.protocol.as_deref(), group.state_ms), (Some("range"), 1795533654090));
        let [member] = &group.members[..] else { panic!("{group:?}") };
        assert_eq!(group.leader.as_deref(), Some(&*member.member_id));
        assert_eq!(
            (member.instance_id.as_deref(), &*member.client_id, &*member.client_host),
            (Some("till-1"), "shop", "/127.0.0.1")
        );
        assert_eq!((member.rebalance_timeout_ms, member.session_timeout_ms), (300_000, 10_000));
        assert_eq!((member.subscription.len(), member.assignment.len()), (28, 30));
        let empty = GroupValue::decode(&hex(GROUP_EMPTY)).unwrap();
        assert_eq!((empty.generation, empty.protocol, empty.leader, empty.members.len()), (2, None, None, 0));
    }

    #[test]
    fn every_version_of_an_offset_is_read() {
        let expected = OffsetValue {
            offset: 9,
            leader_epoch: -1,
            metadata: "m",
            commit_ms: 5,
            expire_ms: -1,
            topic_id: Uuid::nil(),
        };
        let (offset, text, commit) = ("0000000000000009", "00016d", "0000000000000005");
        let cases = [
            (format!("0000{offset}{text}{commit}"), expected),
            (format!("0001{offset}{text}{commit}0000000000000007"), OffsetValue { expire_ms: 7, ..expected }),
            (format!("0002{offset}{text}{commit}"), expected),
            (format!("0003{offset}00000003{text}{commit}"), OffsetValue { leader_epoch: 3, ..expected }),
            (format!("0004{offset}00000003026d{commit}00"), OffsetValue { leader_epoch: 3, ..expected }),
            // A tagged field of a later release is passed over.
            (format!("0004{offset}00000003026d{commit}010902abcd"), OffsetValue { leader_epoch: 3, ..expected }),
        ];
        for (bytes, value) in &cases {
            assert_eq!(OffsetValue::decode(&hex(bytes)).as_ref(), Ok(value), "{bytes}");
        }
        assert!(OffsetValue::decode(&hex(&format!("0005{offset}00000003026d{commit}00"))).is_err());
        assert!(OffsetValue::decode(&hex(&format!("0004{offset}00000003026d{commit}010002abcd"))).is_err());
        let old = hex("0000 000167 000174 00000001");
        assert_eq!(Key::decode(&old).unwrap(), Key::Offset { group: "g", topic: "t", partition: 1 });
        assert_eq!(Key::decode(&hex("0003 000167")).unwrap(), Key::Unknown(3));
    }

    #[test]
    fn an_expiry_of_its_own_is_kept() {
        let value = OffsetValue {
            offset: 1,
            leader_epoch: -1,
            metadata: "é",
            commit_ms: 2,
            expire_ms: 3,
            topic_id: Uuid::nil(),
        };
        assert_eq!(OffsetValue::decode(&value.encode().unwrap()).unwrap(), value);
    }

    #[test]
    fn every_version_of_a_group_is_read() {
        let member = |instance: &str, rebalance: &str| {
            format!("00016d {instance} 000163 000168 {rebalance} 0000000a 0000000101 0000000102")
        };
        let head = "000163 00000005 0001 72 0001 6d";
        let state = "0000000000000011";
        let cases = [
            format!("0000{head}00000001{}", member("", "")),
            format!("0001{head}00000001{}", member("", "0000000b")),
            format!("0002{head}{state}00000001{}", member("", "0000000b")),
            format!("0003{head}{state}00000001{}", member("000169", "0000000b")),
            // Compact: lengths + 1, tagged fields behind each struct.
            format!("0004 0263 00000005 0272 026d {state} 02 026d 0269 0263 0268 0000000b 0000000a 0201 0202 00 00"),
        ];
        for (version, bytes) in cases.iter().enumerate() {
            let group = GroupValue::decode(&hex(bytes)).unwrap_or_else(|e| panic!("version {version}: {e}"));
            let m = &group.members[0];
            assert_eq!((&*group.protocol_type, group.generation), ("c", 5), "version {version}");
            assert_eq!((group.protocol.as_deref(), group.leader.as_deref()), (Some("r"), Some("m")));
            assert_eq!(group.state_ms, if version >= 2 { 17 } else { -1 }, "version {version}");
            assert_eq!(m.instance_id.as_deref(), (version >= 3).then_some("i"), "version {version}");
            assert_eq!((&*m.client_id, &*m.client_host), ("c", "h"), "version {version}");
            assert_eq!(m.rebalance_timeout_ms, if version >= 1 { 11 } else { 10 }, "version {version}");
            assert_eq!(m.session_timeout_ms, 10, "version {version}");
            assert_eq!((&m.subscription[..], &m.assignment[..]), (&[1u8][..], &[2u8][..]), "version {version}");
        }
    }

    #[test]
    fn bytes_cut_short_or_changed_are_refused_or_read_never_more() {
        for text in [KEY_OFFSET, OFFSET_WITH_ALL, KEY_GROUP, GROUP_STATIC, GROUP_EMPTY] {
            let good = hex(text);
            for cut in 0..good.len() {
                let all = [
                    Key::decode(&good[..cut]).err(),
                    OffsetValue::decode(&good[..cut]).err(),
                    GroupValue::decode(&good[..cut]).err(),
                ];
                assert!(all.iter().any(Option::is_some), "{text} cut at {cut}");
                for byte in [0x00, 0x7f, 0x80, 0xff] {
                    let mut bad = good.clone();
                    bad[cut] = byte;
                    let _ = (Key::decode(&bad), OffsetValue::decode(&bad), GroupValue::decode(&bad));
                }
            }
        }
        // Two thousand million members in a few bytes.
        assert!(GroupValue::decode(&hex("0003 0000 00000000 ffff ffff 0000000000000000 7fffffff")).is_err());
        assert!(GroupValue::decode(&hex("0004 01 00000000 00 00 0000000000000000 ffffffff0f 00")).is_err());
    }

    #[test]
    fn text_beyond_its_field_is_refused() {
        let long = "x".repeat(i16::MAX as usize + 1);
        assert_eq!(group_key(&long), Err(TooLong { size_bytes: 32768, max_bytes: 32767 }));
        assert!(offset_key("g", &long, 0).is_err());
        assert!(group_key(&long[1..]).is_ok());
        // Version 4 has room for metadata of any length.
        let value = OffsetValue {
            offset: 1,
            leader_epoch: -1,
            metadata: &long,
            commit_ms: 2,
            expire_ms: -1,
            topic_id: Uuid::nil(),
        };
        assert_eq!(OffsetValue::decode(&value.encode().unwrap()).unwrap(), value);
    }
}

//! Bytes of `__consumer_offsets`: Kafka's own (`OffsetCommitKey` 0 and 1, `OffsetCommitValue` 0 to 4, `GroupMetadataKey` 2, `GroupMetadataValue` 0 to 4), so that its tools and those of
//! others read them.

use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// What a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Offset {
        group: Arc<str>,
        topic: Arc<str>,
        partition: i32,
    },
    Group {
        group: Arc<str>,
    },
    /// A version of the key that this release does not know (other kinds of groups): its record is left alone.
    Unknown(i16),
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: i64,
    /// -1 = unknown.
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
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
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Metadata of the protocol chosen.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl Key {
    /// Reads a key. Fails on bytes that are none of Kafka's.
    pub fn decode(_bytes: &[u8]) -> Result<Key, String> {
        todo!()
    }

    /// The bytes of it.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
}

impl GroupValue {
    /// Reads versions 0 to 4 of the value.
    pub fn decode(_bytes: &[u8]) -> Result<GroupValue, String> {
        todo!()
    }

    /// The bytes as Kafka 4.4 writes them.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
}

//! Kafka's wire format: frames, headers, the bounds check before decoding, gathered replies. Knows no brokers, partitions or groups.

pub mod assignment;
pub mod codec;
pub mod fetch_response;
pub mod frame;
pub mod header;
pub mod newer;
pub mod offset_ids;
pub mod preflight;

use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// One reply ready to be written: length prefix, header and body, gathered from pieces without copying records.
#[derive(Debug, Default)]
pub struct Reply {
    /// In order on the wire.
    pub chunks: Vec<Bytes>,
    /// How long the request waited on purpose (a long poll); `None` for those that never do.
    pub waited: Option<Duration>,
    /// Told when the last byte was handed to the socket; dropped untold when that does not come to be.
    pub sent: Option<Box<dyn Sent>>,
}

/// Who wants to know when a reply has left.
pub trait Sent: std::fmt::Debug + Send {
    /// Its last byte was handed to the socket at `at`. Must not block.
    fn sent(self: Box<Self>, at: Instant);
}

impl Reply {
    /// A reply of these bytes.
    pub fn new(chunks: Vec<Bytes>) -> Reply {
        Reply { chunks, ..Reply::default() }
    }

    /// Bytes on the wire.
    pub fn size_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

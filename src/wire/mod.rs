//! Kafka's wire format: frames, headers, the bounds check before decoding, gathered replies. Knows no brokers, partitions or groups.

pub mod codec;
pub mod fetch_response;
pub mod frame;
pub mod header;
pub mod newer;
pub mod offset_ids;
pub mod preflight;

use bytes::Bytes;

/// One reply ready to be written: length prefix, header and body, gathered from pieces without copying records.
#[derive(Debug, Default)]
pub struct Reply {
    /// In order on the wire.
    pub chunks: Vec<Bytes>,
}

impl Reply {
    /// Bytes on the wire.
    pub fn size_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

//! Request headers, parsed by us (the crate's decoder slices without a length check).

use bytes::Bytes;

/// Header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// At most 32 KiB by the format; not checked further.
    pub client_id: Option<String>,
    /// Bytes of the frame that the header took.
    pub size_bytes: usize,
}

/// Reads the header of a frame (without its length prefix): v1, or v2 where the version is flexible. `flexible` says so for (key, version).
pub fn parse(frame: &Bytes, flexible: impl Fn(i16, i16) -> bool) -> Option<RequestHeader> {
    todo!("{frame:?} {}", flexible(0, 0))
}

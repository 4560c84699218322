//! Encoding replies.

use crate::wire::{Reply, header::RequestHeader};
use bytes::{BufMut, BytesMut};
use kafka_protocol::protocol::{Encodable, HeaderVersion};

/// Encodes length prefix, response header and body in one allocation of exactly their size. The version is the request's.
///
/// Panics when `response` sets a field that the version does not have, or is longer than a frame can be: a mistake of the handler. The connection that
/// asked closes.
pub fn message<R: Encodable + HeaderVersion>(header: &RequestHeader, response: &R) -> Reply {
    message_as(header, response, header.api_version)
}

/// The same in a version other than the request's (ApiVersions answers an unknown version in v0).
pub fn message_as<R: Encodable + HeaderVersion>(header: &RequestHeader, response: &R, version: i16) -> Reply {
    let tagged = R::header_version(version) >= 1;
    let body_bytes = response.compute_size(version);
    let body_bytes =
        body_bytes.unwrap_or_else(|e| panic!("reply to API {} v{version} has no size: {e}", header.api_key));
    let frame_bytes = 4 + usize::from(tagged) + body_bytes;
    let length = i32::try_from(frame_bytes);
    let length = length.unwrap_or_else(|_| panic!("reply to API {} of {frame_bytes} bytes", header.api_key));
    let mut buffer = BytesMut::with_capacity(4 + frame_bytes);
    buffer.put_i32(length);
    buffer.put_i32(header.correlation_id);
    if tagged {
        buffer.put_u8(0);
    }
    let encoded = response.encode(&mut buffer, version);
    encoded.unwrap_or_else(|e| panic!("reply to API {} v{version}: {e}", header.api_key));
    assert_eq!(buffer.len(), 4 + frame_bytes, "size of the reply to API {} v{version}", header.api_key);
    Reply::new(vec![buffer.freeze()])
}

/// A reply whose body was encoded by hand, in a version with tagged fields.
pub fn body(header: &RequestHeader, body: &[u8]) -> Reply {
    let frame_bytes = 5 + body.len();
    let length = i32::try_from(frame_bytes);
    let length = length.unwrap_or_else(|_| panic!("reply to API {} of {frame_bytes} bytes", header.api_key));
    let mut buffer = BytesMut::with_capacity(4 + frame_bytes);
    buffer.put_i32(length);
    buffer.put_i32(header.correlation_id);
    buffer.put_u8(0);
    buffer.extend_from_slice(body);
    Reply::new(vec![buffer.freeze()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ApiVersionsResponse, MetadataResponse};

    fn header(api_key: i16, api_version: i16) -> RequestHeader {
        RequestHeader { api_key, api_version, correlation_id: 0x01020304, client_id: None, size_bytes: 0 }
    }

    #[test]
    fn length_counts_what_follows_it() {
        for version in 0..=13 {
            let reply = message(&header(3, version), &MetadataResponse::default());
            let bytes = &reply.chunks[0];
            assert_eq!(i32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
            assert_eq!(bytes[4..8], [1, 2, 3, 4]);
        }
    }

    #[test]
    fn api_versions_is_answered_without_tagged_fields_in_the_header() {
        let reply = message(&header(18, 4), &ApiVersionsResponse::default());
        // Straight after the correlation id: the error code, not a count of tagged fields.
        let body_bytes = ApiVersionsResponse::default().compute_size(4).unwrap();
        assert_eq!(reply.size_bytes(), 8 + body_bytes);
    }
}

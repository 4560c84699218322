//! Request headers, parsed by us (the crate's decoder slices without a length check).

use bytes::{Buf, Bytes};

/// Header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// At most 32 KiB by the format; not checked further. Bytes that are not UTF-8 are replaced.
    pub client_id: Option<String>,
    /// Bytes of the frame that the header took.
    pub size_bytes: usize,
}

/// API key of a frame of which at least two bytes are there.
pub fn peek_api_key(frame: &[u8]) -> Option<i16> {
    Some(i16::from_be_bytes(frame.get(..2)?.try_into().ok()?))
}

/// Reads the header of a frame (without its length prefix): v1, or v2 where the version is flexible. `flexible` says so for (key, version). `None` when it is
/// not readable. The client id is not compact in v2 either; tagged fields are skipped.
pub fn parse(frame: &Bytes, flexible: impl Fn(i16, i16) -> bool) -> Option<RequestHeader> {
    let mut rest: &[u8] = frame;
    let api_key = rest.try_get_i16().ok()?;
    let api_version = rest.try_get_i16().ok()?;
    let correlation_id = rest.try_get_i32().ok()?;
    let client_id = match rest.try_get_i16().ok()? {
        -1 => None,
        length => {
            let (id, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = after;
            Some(String::from_utf8_lossy(id).into_owned())
        }
    };
    if flexible(api_key, api_version) {
        for _ in 0..read_unsigned_varint(&mut rest)? {
            read_unsigned_varint(&mut rest)?;
            let size = read_unsigned_varint(&mut rest)? as usize;
            rest = rest.get(size..)?;
        }
    }
    Some(RequestHeader { api_key, api_version, correlation_id, client_id, size_bytes: frame.len() - rest.len() })
}

/// Reads an unsigned varint as the crate's decoder does: at most five bytes, bits above 32 dropped.
pub(crate) fn read_unsigned_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for i in 0..5 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << (i * 7);
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::RequestHeader as CrateHeader,
        protocol::{Encodable, StrBytes},
    };

    fn encoded(header_version: i16, client_id: Option<&'static str>) -> Bytes {
        let mut header = CrateHeader::default()
            .with_request_api_key(3)
            .with_request_api_version(12)
            .with_correlation_id(-5)
            .with_client_id(client_id.map(StrBytes::from_static_str));
        if header_version >= 2 {
            header = header.with_unknown_tagged_field(7, Bytes::from_static(b"tagged"));
        }
        let mut frame = BytesMut::new();
        header.encode(&mut frame, header_version).unwrap();
        frame.extend_from_slice(b"body");
        frame.freeze()
    }

    #[test]
    fn both_versions_are_read() {
        for (version, client_id) in [(1, None), (1, Some("")), (1, Some("client")), (2, None), (2, Some("client"))] {
            let frame = encoded(version, client_id);
            let header = parse(&frame, |key, api_version| {
                assert_eq!((key, api_version), (3, 12));
                version == 2
            });
            let header = header.unwrap();
            assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, 12, -5));
            assert_eq!(header.client_id.as_deref(), client_id);
            assert_eq!(&frame[header.size_bytes..], b"body");
            assert_eq!(peek_api_key(&frame), Some(3));
        }
    }

    #[test]
    fn truncated_and_hostile_headers_are_refused() {
        for version in [1, 2] {
            let frame = encoded(version, Some("client"));
            let whole = frame.len() - b"body".len();
            for end in 0..whole {
                assert_eq!(parse(&frame.slice(..end), |_, _| version == 2), None, "{end} of {whole}");
            }
        }
        let hostile = |tail: &[u8]| {
            let mut frame = vec![0, 3, 0, 12, 0, 0, 0, 1];
            frame.extend_from_slice(tail);
            parse(&Bytes::from(frame), |_, _| true)
        };
        assert_eq!(hostile(&[0xff, 0xfe]), None, "client id of length -2");
        assert_eq!(hostile(&[0x7f, 0xff]), None, "client id longer than the frame");
        assert_eq!(hostile(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]), None, "four billion tagged fields");
        assert_eq!(hostile(&[0xff, 0xff, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]), None, "a tagged field of 4 GiB");
    }
}

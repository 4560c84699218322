//! Versions that the message crate does not have yet, of messages that differ little from its last one: ListOffsets 11, ApiVersions 5, DescribeLogDirs 5,
//! DeleteGroups 3. (OffsetCommit and OffsetFetch 10 differ more: `offset_ids`.)
//!
//! A request whose layout did not change is decoded as the crate's last version ([`As`]); a response that gained fields at the end of a struct is that struct as
//! the crate writes it, its tagged fields (none, one byte) moved behind what was added.

use super::offset_ids::{Body, Unreadable, int32, tags, text};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{self, DeleteGroupsResponse, DescribeLogDirsResponse},
    protocol::{Decodable, Encodable, Message, StrBytes, VersionRange},
};

/// A request whose layout up to version `MAX` is that of the crate's last version.
#[derive(Debug, Clone, PartialEq)]
pub struct As<M, const MAX: i16>(pub M);

impl<M: Message, const MAX: i16> Message for As<M, MAX> {
    const VERSIONS: VersionRange = VersionRange { min: M::VERSIONS.min, max: MAX };
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl<M: Message + Decodable, const MAX: i16> Body for As<M, MAX> {
    fn read(body: &mut Bytes, version: i16) -> Result<Self, Unreadable> {
        Ok(As(M::decode(body, version.min(M::VERSIONS.max))?))
    }
}

/// ListOffsets (key 2), versions 1 to 11: timestamp -6 (KIP-1023). The response did not change either.
pub type ListOffsetsRequest = As<messages::ListOffsetsRequest, 11>;
/// DescribeLogDirs (key 35), versions 1 to 5.
pub type DescribeLogDirsRequest = As<messages::DescribeLogDirsRequest, 5>;
/// DeleteGroups (key 42), versions 0 to 3.
pub type DeleteGroupsRequest = As<messages::DeleteGroupsRequest, 3>;

/// First version of ApiVersions in which a client says whom it means.
const ADDRESSED: i16 = 5;

/// ApiVersions (key 18), versions 0 to 5.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersionsRequest {
    /// What the crate knows.
    pub known: messages::ApiVersionsRequest,
    /// Cluster that the client takes this one for; `None` = it does not say (KIP-1242).
    pub cluster_id: Option<StrBytes>,
    /// Node that it takes this one for; -1 = it does not say.
    pub node_id: i32,
}

impl Message for ApiVersionsRequest {
    const VERSIONS: VersionRange = VersionRange { min: messages::ApiVersionsRequest::VERSIONS.min, max: ADDRESSED };
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl Body for ApiVersionsRequest {
    fn read(body: &mut Bytes, version: i16) -> Result<Self, Unreadable> {
        if version < ADDRESSED {
            let known = messages::ApiVersionsRequest::decode(body, version)?;
            return Ok(ApiVersionsRequest { known, cluster_id: None, node_id: -1 });
        }
        let mut string = || text(body)?.ok_or(Unreadable::from("null where there is none"));
        let known = messages::ApiVersionsRequest::default()
            .with_client_software_name(string()?)
            .with_client_software_version(string()?);
        let (cluster_id, node_id) = (text(body)?, int32(body)?);
        tags(body)?;
        Ok(ApiVersionsRequest { known, cluster_id, node_id })
    }
}

/// Body of a DescribeLogDirs response, version 5: each directory says whether it is cordoned (KIP-1066), which ours never is.
pub fn describe_log_dirs_5(response: &DescribeLogDirsResponse) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(response.throttle_time_ms);
    out.put_i16(response.error_code);
    extended(&mut out, &response.results, 4, |out| out.put_u8(0));
    out.put_u8(0);
    out.freeze()
}

/// Body of a DeleteGroups response, version 3: each group has a sentence, which ours leave out.
pub fn delete_groups_3(response: &DeleteGroupsResponse) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(response.throttle_time_ms);
    extended(&mut out, &response.results, 2, |out| out.put_u8(0));
    out.put_u8(0);
    out.freeze()
}

/// A compact array of structs as of `version`, with what `more` adds to the fields of each.
///
/// # Panics
/// When an element has tagged fields, or one that the version does not have: a mistake of the caller.
fn extended<T: Encodable>(out: &mut BytesMut, elements: &[T], version: i16, more: impl Fn(&mut BytesMut)) {
    let mut length = elements.len() as u64 + 1;
    while length >= 0x80 {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    for element in elements {
        element.encode(out, version).unwrap_or_else(|e| panic!("an element of version {version}: {e}"));
        let tags = out.split_off(out.len() - 1);
        assert_eq!(tags[..], [0], "an element of version {version} has tagged fields");
        more(out);
        out.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{
        GroupId, delete_groups_response::DeletableGroupResult, describe_log_dirs_response::DescribeLogDirsResult,
    };

    #[test]
    fn a_directory_ends_with_whether_it_is_cordoned() {
        let dir = DescribeLogDirsResult::default().with_log_dir(StrBytes::from_static_str("/d"));
        let dir = dir.with_total_bytes(2).with_usable_bytes(1);
        let bytes = describe_log_dirs_5(&DescribeLogDirsResponse::default().with_results(vec![dir]));
        let sizes = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
        let expected = [&[0, 0, 0, 0, 0, 0, 2, 0, 0, 3, b'/', b'd', 1][..], &sizes, &[0, 0, 0]].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_deleted_group_ends_with_its_sentence() {
        let group = |id| {
            let id = GroupId(StrBytes::from_static_str(id));
            DeletableGroupResult::default().with_group_id(id).with_error_code(69)
        };
        let bytes = delete_groups_3(&DeleteGroupsResponse::default().with_results(vec![group("nogroup")]));
        // As Kafka 4.4 answers.
        assert_eq!(bytes, &b"\0\0\0\0\x02\x08nogroup\0\x45\0\0\0"[..]);
        let many = DeleteGroupsResponse::default().with_results((0..200).map(|_| group("g")).collect());
        let bytes = delete_groups_3(&many);
        assert_eq!((bytes.len(), &bytes[4..6]), (4 + 2 + 200 * 6 + 1, &[0xc9, 1][..]));
    }

    #[test]
    fn whom_a_client_means_is_read() {
        let mut body = Bytes::from_static(b"\x05java\x024\x02c\0\0\0\x07\x01\x64\x01xrest");
        let read = ApiVersionsRequest::read(&mut body, 5).unwrap();
        assert_eq!((read.cluster_id.as_deref(), read.node_id, &body[..]), (Some("c"), 7, &b"rest"[..]));
        assert_eq!((&*read.known.client_software_name, &*read.known.client_software_version), ("java", "4"));
        let mut body = Bytes::from_static(b"\x05java\x024\0\xff\xff\xff\xff\0");
        let read = ApiVersionsRequest::read(&mut body, 5).unwrap();
        assert_eq!((read.cluster_id, read.node_id, body.len()), (None, -1, 0));
        for end in 0..11 {
            let mut cut = Bytes::from_static(&b"\x05java\x024\0\xff\xff\xff\xff\0"[..end]);
            assert!(ApiVersionsRequest::read(&mut cut, 5).is_err(), "{end}");
        }
    }
}

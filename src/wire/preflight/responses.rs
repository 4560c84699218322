//! Shapes of the responses that our own client reads, in wire order as the crate's `Decodable` reads them: a broker's answer is walked before it is decoded, like a
//! request of a client.

use super::{BOOL, BYTES, Field, INT8, INT16, INT32, INT64, Kind, Refused, STRING, Shape, UUID, Walk, structs, values};
use kafka_protocol::messages::{
    BrokerId, api_versions_response as api_versions, create_partitions_response as create_partitions,
    create_topics_response as create_topics, delete_groups_response as delete_groups,
    delete_records_response as delete_records, delete_topics_response as delete_topics,
    describe_cluster_response as describe_cluster, describe_configs_response as describe_configs,
    describe_groups_response as describe_groups, fetch_response as fetch,
    find_coordinator_response as find_coordinator, incremental_alter_configs_response as incremental_alter_configs,
    join_group_response as join_group, leave_group_response as leave_group, list_groups_response as list_groups,
    list_offsets_response as list_offsets, metadata_response as metadata, offset_commit_response as offset_commit,
    offset_delete_response as offset_delete, offset_fetch_response as offset_fetch, produce_response as produce,
};

/// Memory that each byte of an answer may ask for: partitions take more in memory than on the wire.
const BUDGET_FACTOR: usize = 16;

/// Every response read, by key.
#[rustfmt::skip]
pub(super) const SHAPES: &[Shape] = &[
    // Produce.
    Shape { key: 0, flexible: 9, fields: &[structs::<produce::TopicProduceResponse>(&[STRING.until(12), UUID.since(13), structs::<produce::PartitionProduceResponse>(&[INT32, INT16, INT64, INT64, INT64.since(5), structs::<produce::BatchIndexAndErrorMessage>(&[INT32.since(8), STRING.nullable().since(8)]).since(8), STRING.nullable().since(8), Field::of(Kind::Struct(&[INT32.since(10), INT32.since(10)])).since(10).tagged(0)])]), INT32, structs::<produce::NodeEndpoint>(&[INT32.since(10), STRING.since(10), INT32.since(10), STRING.nullable().since(10)]).since(10).tagged(0)] },
    // Fetch.
    Shape { key: 1, flexible: 12, fields: &[INT32, INT16.since(7), INT32.since(7), structs::<fetch::FetchableTopicResponse>(&[STRING.until(12), UUID.since(13), structs::<fetch::PartitionData>(&[INT32, INT16, INT64, INT64, INT64.since(5), Field::of(Kind::Struct(&[INT32.since(12), INT64.since(12)])).since(12).tagged(0), Field::of(Kind::Struct(&[INT32.since(12), INT32.since(12)])).since(12).tagged(1), Field::of(Kind::Struct(&[INT64, INT32])).since(12).tagged(2), structs::<fetch::AbortedTransaction>(&[INT64, INT64]).nullable(), INT32.since(11), BYTES.nullable()])]), structs::<fetch::NodeEndpoint>(&[INT32.since(16), STRING.since(16), INT32.since(16), STRING.nullable().since(16)]).since(16).tagged(0)] },
    // ListOffsets.
    Shape { key: 2, flexible: 6, fields: &[INT32.since(2), structs::<list_offsets::ListOffsetsTopicResponse>(&[STRING, structs::<list_offsets::ListOffsetsPartitionResponse>(&[INT32, INT16, INT64, INT64, INT32.since(4)])])] },
    // Metadata.
    Shape { key: 3, flexible: 9, fields: &[INT32.since(3), structs::<metadata::MetadataResponseBroker>(&[INT32, STRING, INT32, STRING.nullable().since(1)]), STRING.nullable().since(2), INT32.since(1), structs::<metadata::MetadataResponseTopic>(&[INT16, STRING.nullable(), UUID.since(10), BOOL.since(1), structs::<metadata::MetadataResponsePartition>(&[INT16, INT32, INT32, INT32.since(7), values::<BrokerId>(&[INT32]), values::<BrokerId>(&[INT32]), values::<BrokerId>(&[INT32]).since(5)]), INT32.since(8)]), INT32.since(8).until(10), INT16.since(13)] },
    // OffsetCommit.
    Shape { key: 8, flexible: 8, fields: &[INT32.since(3), structs::<offset_commit::OffsetCommitResponseTopic>(&[STRING.until(9), UUID.since(10), structs::<offset_commit::OffsetCommitResponsePartition>(&[INT32, INT16])])] },
    // OffsetFetch.
    Shape { key: 9, flexible: 6, fields: &[INT32.since(3), structs::<offset_fetch::OffsetFetchResponseTopic>(&[STRING.until(7), structs::<offset_fetch::OffsetFetchResponsePartition>(&[INT32.until(7), INT64.until(7), INT32.since(5).until(7), STRING.nullable().until(7), INT16.until(7)]).until(7)]).until(7), INT16.since(2).until(7), structs::<offset_fetch::OffsetFetchResponseGroup>(&[STRING.since(8), structs::<offset_fetch::OffsetFetchResponseTopics>(&[STRING.since(8).until(9), UUID.since(10), structs::<offset_fetch::OffsetFetchResponsePartitions>(&[INT32.since(8), INT64.since(8), INT32.since(8), STRING.nullable().since(8), INT16.since(8)]).since(8)]).since(8), INT16.since(8)]).since(8)] },
    // FindCoordinator.
    Shape { key: 10, flexible: 3, fields: &[INT32.since(1), INT16.until(3), STRING.nullable().since(1).until(3), INT32.until(3), STRING.until(3), INT32.until(3), structs::<find_coordinator::Coordinator>(&[STRING.since(4), INT32.since(4), STRING.since(4), INT32.since(4), INT16.since(4), STRING.nullable().since(4)]).since(4)] },
    // JoinGroup.
    Shape { key: 11, flexible: 6, fields: &[INT32.since(2), INT16, INT32, STRING.nullable().since(7), STRING.nullable(), STRING, BOOL.since(9), STRING, structs::<join_group::JoinGroupResponseMember>(&[STRING, STRING.nullable().since(5), BYTES])] },
    // Heartbeat.
    Shape { key: 12, flexible: 4, fields: &[INT32.since(1), INT16] },
    // LeaveGroup.
    Shape { key: 13, flexible: 4, fields: &[INT32.since(1), INT16, structs::<leave_group::MemberResponse>(&[STRING.since(3), STRING.nullable().since(3), INT16.since(3)]).since(3)] },
    // SyncGroup.
    Shape { key: 14, flexible: 4, fields: &[INT32.since(1), INT16, STRING.nullable().since(5), STRING.nullable().since(5), BYTES] },
    // DescribeGroups.
    Shape { key: 15, flexible: 5, fields: &[INT32.since(1), structs::<describe_groups::DescribedGroup>(&[INT16, STRING.nullable().since(6), STRING, STRING, STRING, STRING, structs::<describe_groups::DescribedGroupMember>(&[STRING, STRING.nullable().since(4), STRING, STRING, BYTES, BYTES]), INT32.since(3)])] },
    // ListGroups.
    Shape { key: 16, flexible: 3, fields: &[INT32.since(1), INT16, structs::<list_groups::ListedGroup>(&[STRING, STRING, STRING.since(4), STRING.since(5)])] },
    // ApiVersions.
    Shape { key: 18, flexible: 3, fields: &[INT16, structs::<api_versions::ApiVersion>(&[INT16, INT16, INT16]), INT32.since(1), structs::<api_versions::SupportedFeatureKey>(&[STRING.since(3), INT16.since(3), INT16.since(3)]).since(3).tagged(0), INT64.since(3).tagged(1), structs::<api_versions::FinalizedFeatureKey>(&[STRING.since(3), INT16.since(3), INT16.since(3)]).since(3).tagged(2), BOOL.since(3).tagged(3)] },
    // CreateTopics.
    Shape { key: 19, flexible: 5, fields: &[INT32, structs::<create_topics::CreatableTopicResult>(&[STRING, UUID.since(7), INT16, STRING.nullable(), INT16.since(5).tagged(0), INT32.since(5), INT16.since(5), structs::<create_topics::CreatableTopicConfigs>(&[STRING.since(5), STRING.nullable().since(5), BOOL.since(5), INT8.since(5), BOOL.since(5)]).nullable().since(5)])] },
    // DeleteTopics.
    Shape { key: 20, flexible: 4, fields: &[INT32, structs::<delete_topics::DeletableTopicResult>(&[STRING.nullable(), UUID.since(6), INT16, STRING.nullable().since(5)])] },
    // DeleteRecords.
    Shape { key: 21, flexible: 2, fields: &[INT32, structs::<delete_records::DeleteRecordsTopicResult>(&[STRING, structs::<delete_records::DeleteRecordsPartitionResult>(&[INT32, INT64, INT16])])] },
    // InitProducerId.
    Shape { key: 22, flexible: 2, fields: &[INT32, INT16, INT64, INT16, INT64.since(6), INT16.since(6)] },
    // DescribeConfigs.
    Shape { key: 32, flexible: 4, fields: &[INT32, structs::<describe_configs::DescribeConfigsResult>(&[INT16, STRING.nullable(), INT8, STRING, structs::<describe_configs::DescribeConfigsResourceResult>(&[STRING, STRING.nullable(), BOOL, INT8, BOOL, structs::<describe_configs::DescribeConfigsSynonym>(&[STRING, STRING.nullable(), INT8]), INT8.since(3), STRING.nullable().since(3)])])] },
    // CreatePartitions.
    Shape { key: 37, flexible: 2, fields: &[INT32, structs::<create_partitions::CreatePartitionsTopicResult>(&[STRING, INT16, STRING.nullable()])] },
    // DeleteGroups.
    Shape { key: 42, flexible: 2, fields: &[INT32, structs::<delete_groups::DeletableGroupResult>(&[STRING, INT16])] },
    // IncrementalAlterConfigs.
    Shape { key: 44, flexible: 1, fields: &[INT32, structs::<incremental_alter_configs::AlterConfigsResourceResponse>(&[INT16, STRING.nullable(), INT8, STRING])] },
    // OffsetDelete.
    Shape { key: 47, flexible: i16::MAX, fields: &[INT16, INT32, structs::<offset_delete::OffsetDeleteResponseTopic>(&[STRING, structs::<offset_delete::OffsetDeleteResponsePartition>(&[INT32, INT16])])] },
    // DescribeCluster.
    Shape { key: 60, flexible: 0, fields: &[INT32, INT16, STRING.nullable(), INT8.since(1), STRING, INT32, structs::<describe_cluster::DescribeClusterBroker>(&[INT32, STRING, INT32, STRING.nullable(), BOOL.since(2)]), INT32] },
];

/// Checks the body of a response (after its header), as [`super::check`] does a request's.
pub fn check(key: i16, version: i16, body: &[u8]) -> Result<(), Refused> {
    let at = SHAPES.binary_search_by_key(&key, |shape| shape.key).map_err(|_| Refused::UnknownApi)?;
    let shape = &SHAPES[at];
    let budget_bytes = body.len() * BUDGET_FACTOR + super::BUDGET_FLOOR_BYTES;
    let mut walk = Walk { rest: body, version, flexible: version >= shape.flexible, budget_bytes };
    walk.fields(shape.fields)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Random, rounds, write},
        *,
    };
    use bytes::Bytes;
    use kafka_protocol::{
        messages::*,
        protocol::{Decodable, Encodable, Message},
    };

    /// Runs the crate's decoder: bytes left over, or why not; and the message encoded again.
    fn decode(key: i16, version: i16, body: &[u8]) -> Result<(usize, Vec<u8>), String> {
        fn run<M: Decodable + Encodable>(version: i16, body: &[u8]) -> Result<(usize, Vec<u8>), String> {
            let mut bytes = Bytes::copy_from_slice(body);
            let message = M::decode(&mut bytes, version).map_err(|e| e.to_string())?;
            let mut again = Vec::new();
            message.encode(&mut again, version).map_err(|e| e.to_string())?;
            Ok((bytes.len(), again))
        }
        match key {
            0 => run::<ProduceResponse>(version, body),
            1 => run::<FetchResponse>(version, body),
            2 => run::<ListOffsetsResponse>(version, body),
            3 => run::<MetadataResponse>(version, body),
            8 => run::<OffsetCommitResponse>(version, body),
            9 => run::<OffsetFetchResponse>(version, body),
            10 => run::<FindCoordinatorResponse>(version, body),
            11 => run::<JoinGroupResponse>(version, body),
            12 => run::<HeartbeatResponse>(version, body),
            13 => run::<LeaveGroupResponse>(version, body),
            14 => run::<SyncGroupResponse>(version, body),
            15 => run::<DescribeGroupsResponse>(version, body),
            16 => run::<ListGroupsResponse>(version, body),
            18 => run::<ApiVersionsResponse>(version, body),
            19 => run::<CreateTopicsResponse>(version, body),
            20 => run::<DeleteTopicsResponse>(version, body),
            21 => run::<DeleteRecordsResponse>(version, body),
            22 => run::<InitProducerIdResponse>(version, body),
            32 => run::<DescribeConfigsResponse>(version, body),
            37 => run::<CreatePartitionsResponse>(version, body),
            42 => run::<DeleteGroupsResponse>(version, body),
            44 => run::<IncrementalAlterConfigsResponse>(version, body),
            47 => run::<OffsetDeleteResponse>(version, body),
            60 => run::<DescribeClusterResponse>(version, body),
            key => panic!("add API {key} here"),
        }
    }

    fn versions(key: i16) -> std::ops::RangeInclusive<i16> {
        let range = match key {
            0 => ProduceResponse::VERSIONS,
            1 => FetchResponse::VERSIONS,
            2 => ListOffsetsResponse::VERSIONS,
            3 => MetadataResponse::VERSIONS,
            8 => OffsetCommitResponse::VERSIONS,
            9 => OffsetFetchResponse::VERSIONS,
            10 => FindCoordinatorResponse::VERSIONS,
            11 => JoinGroupResponse::VERSIONS,
            12 => HeartbeatResponse::VERSIONS,
            13 => LeaveGroupResponse::VERSIONS,
            14 => SyncGroupResponse::VERSIONS,
            15 => DescribeGroupsResponse::VERSIONS,
            16 => ListGroupsResponse::VERSIONS,
            18 => ApiVersionsResponse::VERSIONS,
            19 => CreateTopicsResponse::VERSIONS,
            20 => DeleteTopicsResponse::VERSIONS,
            21 => DeleteRecordsResponse::VERSIONS,
            22 => InitProducerIdResponse::VERSIONS,
            32 => DescribeConfigsResponse::VERSIONS,
            37 => CreatePartitionsResponse::VERSIONS,
            42 => DeleteGroupsResponse::VERSIONS,
            44 => IncrementalAlterConfigsResponse::VERSIONS,
            47 => OffsetDeleteResponse::VERSIONS,
            60 => DescribeClusterResponse::VERSIONS,
            key => panic!("add API {key} here"),
        };
        range.min..=range.max
    }

    fn read() -> impl Iterator<Item = (&'static Shape, i16)> {
        SHAPES.iter().flat_map(|shape| versions(shape.key).map(move |version| (shape, version)))
    }

    fn same_verdict(shape: &Shape, version: i16, body: &[u8], what: &str) {
        let verdict = check(shape.key, version, body);
        if matches!(verdict, Err(Refused::TooManyElements(_) | Refused::OverBudget)) {
            return;
        }
        let decoded = decode(shape.key, version, body);
        let decoded = decoded.or_else(|e| match e.contains("not available on the selected") {
            true => Ok((0, vec![])),
            false => Err(e),
        });
        assert_eq!(
            verdict.is_ok(),
            decoded.is_ok(),
            "API {} v{version}, {what}: preflight {verdict:?}, decoder {decoded:?}, body {body:?}",
            shape.key
        );
    }

    #[test]
    fn shapes_are_sorted_by_key() {
        assert!(SHAPES.is_sorted_by(|a, b| a.key < b.key));
    }

    #[test]
    fn shapes_are_what_the_decoder_reads() {
        let mut random = Random::seeded(0x5eed);
        for (shape, version) in read() {
            for round in 0..rounds(50) {
                let (body, _) = write(shape, version, &mut random);
                let what = format!("API {} v{version} round {round} {body:?}", shape.key);
                assert_eq!(check(shape.key, version, &body), Ok(()), "{what}");
                let (left, again) = decode(shape.key, version, &body).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(left, 0, "{what}");
                assert_eq!(check(shape.key, version, &again), Ok(()), "{what}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_flipped_gets_the_same_verdict() {
        let mut random = Random::seeded(0xcafe);
        for (shape, version) in read() {
            for _ in 0..rounds(5) {
                let (mut body, _) = write(shape, version, &mut random);
                for end in 0..body.len() {
                    assert!(check(shape.key, version, &body[..end]).is_err(), "API {} v{version} {end}", shape.key);
                    same_verdict(shape, version, &body[..end], "truncated");
                }
                for _ in 0..1 + random.below(3) {
                    let at = random.below(body.len() as u64) as usize;
                    body[at] = random.next() as u8;
                    same_verdict(shape, version, &body, "flipped");
                }
            }
        }
    }

    #[test]
    fn two_billion_elements_in_a_small_answer_are_refused() {
        assert_eq!(check(3, 1, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]), Err(Refused::TooManyElements(i32::MAX as u32)));
    }
}

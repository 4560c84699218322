//! Versions that the message crate does not have: what goes over the wire, byte by byte where it differs from the version before.

use crate::{
    support::{Options, temp},
    wire::{ANYONE, Client, batch, code, now_ms, string, topic_name},
};
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiVersionsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, FindCoordinatorRequest,
        ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, OffsetCommitResponse, OffsetFetchResponse,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_fetch_response::OffsetFetchResponseTopics,
    },
    protocol::{Decodable, Encodable},
};

fn encoded<T: Encodable>(message: &T, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

fn compact(text: &str) -> Vec<u8> {
    [&[text.len() as u8 + 1], text.as_bytes()].concat()
}

#[test]
fn api_versions_5_says_whether_the_client_means_this_broker() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    let cluster = c.call(12, &kafka_protocol::messages::MetadataRequest::default()).cluster_id.unwrap().to_string();
    let mut ask = |cluster: Option<&str>, node: i32| {
        let cluster = cluster.map_or(vec![0], compact);
        let body = [&compact("it")[..], &compact("1"), &cluster, &node.to_be_bytes(), &[0]].concat();
        let mut reply = c.call_raw(18, 5, &body);
        let reply = ApiVersionsResponse::decode(&mut reply, 4).unwrap();
        (reply.error_code, reply.api_keys.len())
    };
    let (error, all) = ask(None, -1);
    assert!(error == 0 && all > 20, "{error} {all}");
    assert_eq!(ask(Some(&cluster), 1), (0, all));
    for (cluster, node) in [(Some("other"), 1), (Some(&*cluster), 2), (Some(""), 1)] {
        assert_eq!(ask(cluster, node), (129, 0), "{cluster:?} {node}");
    }
    for (cluster, node) in [(None, 1), (Some(&*cluster), -1)] {
        assert_eq!(ask(cluster, node), (42, 0), "{cluster:?} {node}");
    }
}

#[test]
fn list_offsets_11_knows_of_uploads() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x", "y"]), -1).error_code, 0);
    let mut ask = |timestamp: i64| {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        let mut reply = c.call_raw(2, 11, &encoded(&request, 10));
        let reply = ListOffsetsResponse::decode(&mut reply, 10).unwrap();
        let p = &reply.topics[0].partitions[0];
        (p.error_code, p.offset)
    };
    assert_eq!([-1, -2, -6].map(&mut ask), [(0, 2), (0, 0), (0, -1)]);
    assert_eq!(ask(-7), (code::UNSUPPORTED_VERSION, -1));
}

#[test]
fn describe_log_dirs_5_says_that_nothing_is_cordoned() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 2, &[]), 0);
    let reply = c.call_raw(35, 5, &encoded(&DescribeLogDirsRequest::default().with_topics(None), 4));
    // One byte more than before, in front of the tagged fields of the one directory.
    let (before, after) = reply.split_at(reply.len() - 3);
    assert_eq!(after, [0, 0, 0]);
    let mut older = Bytes::from([before, &after[1..]].concat());
    let older = DescribeLogDirsResponse::decode(&mut older, 4).unwrap();
    let result = &older.results[0];
    assert_eq!((result.error_code, result.topics[0].partitions.len()), (0, 2));
    assert!(result.total_bytes >= result.usable_bytes && result.usable_bytes > 0);
}

#[test]
fn delete_groups_3_has_room_for_a_sentence() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    let found = c.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![string("nogroup")]));
    assert_eq!(found.coordinators[0].error_code, 0);
    let reply = c.call_raw(42, 3, &[&[2][..], &compact("nogroup"), &[0]].concat());
    assert_eq!(reply, &b"\0\0\0\0\x02\x08nogroup\0\x45\0\0\0"[..]);
}

#[test]
fn offset_commit_and_offset_fetch_10_name_topics_by_id() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let found = c.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![string("g")]));
    assert_eq!(found.coordinators[0].error_code, 0);
    let named = MetadataRequestTopic::default().with_name(Some(topic_name("a")));
    let metadata = MetadataRequest::default().with_topics(Some(vec![named]));
    let id = |c: &mut Client| c.call(12, &metadata).topics[0].topic_id;
    let first = id(&mut c);
    let unknown = uuid::Uuid::from_u128(9);

    // Group, generation -1, no member, no instance, two topics of one partition each.
    let topic = |id: uuid::Uuid| {
        let partition = [&0i32.to_be_bytes()[..], &7i64.to_be_bytes(), &(-1i32).to_be_bytes(), &compact("m"), &[0]];
        [&id.as_bytes()[..], &[2], &partition.concat(), &[0]].concat()
    };
    let body = [&compact("g")[..], &[255; 4], &[1, 0, 3], &topic(first), &topic(unknown), &[0]].concat();
    let mut reply = c.call_raw(8, 10, &body);
    let reply = OffsetCommitResponse::decode(&mut reply, 10).unwrap();
    let shown: Vec<_> = reply.topics.iter().map(|t| (t.topic_id, t.partitions[0].error_code)).collect();
    assert_eq!(shown, [(first, 0), (unknown, code::UNKNOWN_TOPIC_ID)]);

    // One group without a member: everything, or two topics of one partition each; not stable ones only.
    let fetch = |c: &mut Client, topics: Option<[uuid::Uuid; 2]>| {
        let topic = |id: uuid::Uuid| [&id.as_bytes()[..], &[2, 0, 0, 0, 0, 0]].concat();
        let topics = topics.map_or(vec![0], |ids| [&[3][..], &ids.map(topic).concat()].concat());
        let body = [&[2][..], &compact("g"), &[0], &[255; 4], &topics, &[0, 0, 0]].concat();
        let mut reply = c.call_raw(9, 10, &body);
        let reply = OffsetFetchResponse::decode(&mut reply, 10).unwrap();
        let topics = &reply.groups[0].topics;
        let one =
            |t: &OffsetFetchResponseTopics| (t.topic_id, t.partitions[0].committed_offset, t.partitions[0].error_code);
        topics.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(fetch(&mut c, None), [(first, 7, 0)]);
    assert_eq!(fetch(&mut c, Some([unknown, first])), [(unknown, -1, code::UNKNOWN_TOPIC_ID), (first, 7, 0)]);

    // Another topic of the name has no commit, and the old id is none any more.
    assert_eq!((c.delete_topic("a"), c.create_topic("a", 1, &[])), (0, 0));
    let second = id(&mut c);
    assert_ne!(first, second);
    assert_eq!(fetch(&mut c, None), []);
    assert_eq!(fetch(&mut c, Some([first, second])), [(first, -1, code::UNKNOWN_TOPIC_ID), (second, -1, 0)]);
}

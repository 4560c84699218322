//! Versions that the message crate does not have: what goes over the wire, byte by byte where it differs from the version before.

use crate::{
    support::{Options, temp},
    wire::{ANYONE, Client, batch, code, now_ms, string, topic_name},
};
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiVersionsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, FindCoordinatorRequest,
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
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

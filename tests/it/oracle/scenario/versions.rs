//! ApiVersions, DescribeCluster, and what closes a connection.

use super::super::session::{Session, versions};
use crate::wire::string;
use kafka_protocol::messages::*;

pub fn run(s: &mut Session) {
    let named = |name: &str, version: &str| {
        ApiVersionsRequest::default()
            .with_client_software_name(string(name))
            .with_client_software_version(string(version))
    };
    for v in versions::<ApiVersionsRequest>() {
        let request = if v < 3 { ApiVersionsRequest::default() } else { named("it", "1.0") };
        s.call("what is there", v, &request);
    }
    super::newer::versions(s);
    for v in 3..=4 {
        s.call("no software name", v, &named("", "1.0"));
        s.call("no software version", v, &named("it", ""));
        s.call("blanks in the name", v, &named("i t", "1.0"));
        s.call("a strange version", v, &named("it", "1/0"));
        s.call("a version that ends in a dash", v, &named("it", "1-"));
    }
    // Null client id; from flexible versions on with tagged fields.
    for v in [99, i16::MAX, -1] {
        s.raw("a version that nobody knows", 18, v, &[0xff, 0xff, 0]);
    }
    // The first version above and below what Kafka serves.
    for (key, below, above) in [
        (0, 2, 14),
        (1, 3, 19),
        (2, 0, 12),
        (3, -1, 14),
        (8, 1, 11),
        (9, 0, 11),
        (10, -1, 7),
        (11, -1, 10),
        (12, -1, 5),
        (13, -1, 6),
        (14, -1, 6),
        (15, -1, 7),
        (16, -1, 6),
        (19, 1, 8),
        (20, 0, 7),
        (21, -1, 3),
        (22, -1, 7),
        (23, 1, 5),
        (32, 0, 5),
        (33, -1, 3),
        (35, 0, 6),
        (37, -1, 4),
        (42, -1, 4),
        (44, -1, 2),
        (47, -1, 1),
        (60, -1, 3),
        (61, -1, 1),
        (75, -1, 1),
    ] {
        s.raw("below what is served", key, below, &[0xff, 0xff, 0, 0, 0, 0, 0]);
        s.raw("above what is served", key, above, &[0xff, 0xff, 0, 0, 0, 0, 0]);
    }
    for key in [-1, 4, 5, 6, 7, 52, 99, 1000, i16::MAX] {
        s.raw("no such API", key, 0, &[0xff, 0xff, 0, 0, 0, 0, 0]);
    }
    s.raw("a body cut short", 3, 1, &[0xff, 0xff, 0, 0, 0, 9]);
    s.raw("a length below -1", 3, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]);
    s.raw("a client id cut short", 3, 1, &[0, 9, b'a']);
    s.raw("bytes behind the body", 3, 1, &[0xff, 0xff, 0, 0, 0, 0, 1, 2, 3]);
    cluster(s);
}

fn cluster(s: &mut Session) {
    for v in versions::<DescribeClusterRequest>() {
        s.call("the cluster", v, &DescribeClusterRequest::default());
        let asked = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        s.call("with operations", v, &asked);
    }
    for v in 1..=2 {
        for kind in [0, 2, 9, -1] {
            s.call(&format!("endpoint type {kind}"), v, &DescribeClusterRequest::default().with_endpoint_type(kind));
        }
    }
    s.call("with fenced brokers", 2, &DescribeClusterRequest::default().with_include_fenced_brokers(true));
}

//! The address that clients are told: the one they came in by, or `advertised.listeners`; the same in every answer.

use crate::{
    support::{Broker, Options, temp},
    wire::{Client, string},
};
use kafka_protocol::messages::{DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest};

/// Host and port in every answer that names this broker, to a client that came in by `address`.
fn told(address: &str) -> (String, i32) {
    let mut c = Client::connect(address);
    let mut all = Vec::new();
    for version in [0, 1, 9, 12, 13] {
        let node = c.call(version, &MetadataRequest::default().with_topics(None)).brokers.remove(0);
        all.push((node.host.to_string(), node.port));
    }
    for version in 0..=2 {
        let node = c.call(version, &DescribeClusterRequest::default()).brokers.remove(0);
        all.push((node.host.to_string(), node.port));
    }
    let find = FindCoordinatorRequest::default();
    for version in 0..=3 {
        let node = c.call(version, &find.clone().with_key(string("g")));
        assert_eq!(node.error_code, 0, "v{version}");
        all.push((node.host.to_string(), node.port));
    }
    for version in 4..=6 {
        let node = c.call(version, &find.clone().with_coordinator_keys(vec![string("g")])).coordinators.remove(0);
        assert_eq!(node.error_code, 0, "v{version}");
        all.push((node.host.to_string(), node.port));
    }
    assert!(all.iter().all(|a| a == &all[0]), "{all:?}");
    all.remove(0)
}

fn port(broker: &Broker) -> i32 {
    broker.kafka.rsplit(':').next().unwrap().parse().unwrap()
}

fn on(listener: &str) -> (Broker, tempfile::TempDir) {
    let dir = temp();
    let mut options = Options::new(dir.path());
    options.kafka = listener.into();
    (options.start(), dir)
}

#[test]
fn a_wildcard_listener_tells_each_client_the_address_it_came_in_by() {
    let (broker, _dir) = on("0.0.0.0:0");
    let port = port(&broker);
    for host in ["127.0.0.1", "127.0.0.2"] {
        assert_eq!(told(&format!("{host}:{port}")), (host.to_string(), port));
    }
}

#[test]
fn an_ipv6_address_is_told_without_brackets() {
    let (broker, _dir) = on("[::1]:0");
    let port = port(&broker);
    assert_eq!(told(&format!("[::1]:{port}")), ("::1".to_string(), port));
}

#[test]
fn a_client_by_ipv4_on_an_ipv6_wildcard_is_told_an_ipv4_address() {
    let (broker, _dir) = on("[::]:0");
    let port = port(&broker);
    assert_eq!(told(&format!("[::1]:{port}")), ("::1".to_string(), port));
    assert_eq!(told(&format!("127.0.0.1:{port}")), ("127.0.0.1".to_string(), port));
}

#[test]
fn advertised_listeners_wins_whatever_the_client_came_in_by() {
    for (given, host) in [
        ("PLAINTEXT://kafka.example.com:19092", "kafka.example.com"),
        ("PLAINTEXT://[2001:db8::1]:19092", "2001:db8::1"),
    ] {
        let dir = temp();
        let mut options = Options::new(dir.path()).set("advertised.listeners", given);
        options.kafka = "0.0.0.0:0".into();
        let broker = options.start();
        assert_eq!(told(&format!("127.0.0.1:{}", port(&broker))), (host.to_string(), 19092));
    }
}

//! The address that clients are told: the one they came in by, or what their listener advertises; the same in every answer.

use crate::{
    clients::{all_acked, consume, producer, send},
    serve::refused,
    support::{Broker, Options, Proxy, eventually, temp},
    wire::{ANYONE, Client, batch, now_ms, string},
};
use kafka_protocol::messages::{DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest};
use rdkafka::{Message, Offset, producer::BaseRecord};

/// Host and port in every answer that names this broker, to a client that came in by `address`.
pub fn told(address: &str) -> (String, i32) {
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
    port_of(&broker.kafka)
}

fn port_of(address: &str) -> i32 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Listeners PLAINTEXT, INTERNAL and OTHER as `listeners` says.
fn several(listeners: &str) -> (Options, tempfile::TempDir) {
    let dir = temp();
    let map = "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,OTHER:PLAINTEXT,TLS:SSL";
    let mut options = Options::new(dir.path()).set("listener.security.protocol.map", map).set("listeners", listeners);
    options.kafka = String::new();
    (options, dir)
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

#[test]
fn clients_of_each_listener_are_told_its_own_address_and_publish_and_consume_by_it() {
    let (host, containers) = (Proxy::new(), Proxy::new());
    let (options, _dir) = several("PLAINTEXT://127.0.0.1:0,INTERNAL://0.0.0.0:0,OTHER://127.0.0.3:0");
    let advertised = format!("INTERNAL://{},PLAINTEXT://{}", containers.address, host.address);
    let broker = options.set("advertised.listeners", &advertised).start();
    let inner = format!("127.0.0.1:{}", port_of(broker.listener("INTERNAL")));
    let other = broker.listener("OTHER").to_string();
    assert_eq!(told(&broker.kafka), ("127.0.0.1".into(), port_of(&host.address)));
    assert_eq!(told(&inner), ("127.0.0.1".into(), port_of(&containers.address)));
    assert_eq!(told(&other), ("127.0.0.3".into(), port_of(&other)));

    let log = broker.stderr();
    for line in [
        format!("listener PLAINTEXT {}: clients are told {}", broker.kafka, host.address),
        format!("listener INTERNAL 0.0.0.0:{}: clients are told {}", port_of(&inner), containers.address),
        format!("listener OTHER {other}: clients are told the address they connected to"),
    ] {
        assert!(log.contains(&line), "`{line}` is not in:\n{log}");
    }

    assert_eq!(Client::connect(&broker.kafka).create_topic("a", 1, &[]), 0);
    // Only the address that the listener advertises leads anywhere.
    for (n, (address, own, foreign)) in
        [(&broker.kafka, &host, &containers), (&inner, &containers, &host)].into_iter().enumerate()
    {
        foreign.to(None);
        own.to(Some(address));
        let p = producer(address, &[("acks", "all")]);
        send(&p, BaseRecord::with_opaque_to("a", Box::new(0)).key(&b"k"[..]).payload(&[n as u8][..]));
        assert_eq!(all_acked(&p), [(0, 0, n as i64)]);
        let got = consume(address, "a", &[(0, Offset::Beginning)], n + 1);
        assert_eq!(got[n].payload(), Some(&[n as u8][..]));
    }
}

#[test]
fn the_command_line_takes_several_listeners() {
    let dir = temp();
    let mut options = Options::new(dir.path()).set("listener.security.protocol.map", "INNER:PLAINTEXT");
    options.kafka = "127.0.0.1:0,INNER://127.0.0.2:0".into();
    let broker = options.start();
    assert_eq!(told(&broker.kafka), ("127.0.0.1".into(), port(&broker)));
    let inner = broker.listener("INNER");
    assert_eq!(told(inner), ("127.0.0.2".into(), port_of(inner)));
}

#[test]
fn a_listener_of_each_address_family_serves_its_own_clients() {
    let (options, _dir) = several("PLAINTEXT://127.0.0.1:0,INTERNAL://[::1]:0");
    let broker = options.set("advertised.listeners", "INTERNAL://[2001:db8::1]:0").start();
    let inner = broker.listener("INTERNAL");
    assert!(inner.starts_with("[::1]:"), "{inner}");
    assert_eq!(told(&broker.kafka), ("127.0.0.1".into(), port(&broker)));
    assert_eq!(told(inner), ("2001:db8::1".into(), port_of(inner)), "port 0 is the one bound");
    let mut c = Client::connect(inner);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1).base_offset, 0);
    assert_eq!(Client::connect(&broker.kafka).read_all("a", 0, 0).len(), 1);
}

#[test]
fn a_bound_on_connections_counts_those_of_all_listeners() {
    let (options, _dir) = several("PLAINTEXT://127.0.0.1:0,INTERNAL://127.0.0.1:0");
    let broker = options.set("max.connections.per.ip", "2").start();
    let mut open = [Client::connect(&broker.kafka), Client::connect(broker.listener("INTERNAL"))];
    for c in &mut open {
        c.call(12, &MetadataRequest::default());
    }
    let mut third = Client::connect(broker.listener("INTERNAL"));
    let closed = third.read_frame().unwrap_err();
    assert_ne!(closed.kind(), std::io::ErrorKind::WouldBlock, "one too many is closed");
    let [first, _second] = open;
    drop(first);
    eventually("its place is free", || {
        let mut c = Client::connect(broker.listener("INTERNAL"));
        c.try_call(12, &MetadataRequest::default()).ok().map(drop)
    });
}

#[test]
fn listeners_that_cannot_be_are_refused_in_one_sentence() {
    for (listeners, advertised, words) in [
        ("PLAINTEXT://127.0.0.1:0,PLAINTEXT://127.0.0.2:0", "", ["PLAINTEXT twice", "a name of its own"]),
        ("PLAINTEXT://127.0.0.1:7,INTERNAL://127.0.0.2:7", "", ["port 7", "one IPv4 and one IPv6"]),
        ("PLAINTEXT://127.0.0.1:0,TLS://127.0.0.1:0", "", ["TLS speaks SSL", "only PLAINTEXT"]),
        ("PLAINTEXT://127.0.0.1:0,NEW://127.0.0.1:0", "", ["listener.security.protocol.map", "NEW:PLAINTEXT"]),
        ("PLAINTEXT://127.0.0.1:0", "INTERNAL://a:1", ["advertised.listeners", "INTERNAL"]),
        ("PLAINTEXT://127.0.0.1:0", "PLAINTEXT://0.0.0.0:1", ["advertised.listeners", "name a host"]),
        ("PLAINTEXT://127.0.0.1:0,INTERNAL://127.0.0.1", "", ["127.0.0.1", "HOST:PORT"]),
    ] {
        let (options, _dir) = several(listeners);
        refused(&options.set("advertised.listeners", advertised), &words);
    }
    let (options, _dir) = several("PLAINTEXT://127.0.0.1:0");
    let broker = options.start();
    let (options, _dir) = several(&format!("PLAINTEXT://127.0.0.1:0,INTERNAL://{}", broker.kafka));
    refused(&options, &[&broker.kafka, "listener INTERNAL", "in use"]);
}

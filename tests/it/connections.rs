//! What one connection may do, over real sockets.

use crate::{
    support::{Options, eventually, foreign, temp},
    wire::{ANYONE, Client, batch, now_ms, produce_request, string},
};
use kafka_protocol::messages::*;
use std::io::Read;

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default().with_client_software_name(string("it")).with_client_software_version(string("1"))
}

#[test]
fn replies_leave_in_request_order_past_a_long_poll() {
    if foreign().is_some() {
        return;
    }
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let (mut c, mut other) = (Client::connect(&broker.kafka), Client::connect(&broker.kafka));
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic =
        fetch_request::FetchTopic::default().with_topic(crate::wire::topic_name("a")).with_partitions(vec![partition]);
    let fetch = FetchRequest::default()
        .with_max_wait_ms(600_000)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let first = c.send(12, &fetch);
    let second = c.send(3, &api_versions());
    let third = c.send(9, &produce_request("a", &[(0, batch(ANYONE, now_ms(), &["x"]))], -1));
    // The produce behind the long poll is accepted all the same, and ends it.
    let (correlation, response) = c.receive::<FetchRequest>(12).unwrap();
    assert_eq!((correlation, response.responses[0].partitions[0].high_watermark), (first, 1));
    assert_eq!(c.receive::<ApiVersionsRequest>(3).unwrap().0, second);
    let (correlation, response) = c.receive::<ProduceRequest>(9).unwrap();
    assert_eq!((correlation, response.responses[0].partition_responses[0].error_code), (third, 0));
    assert_eq!(other.read_all("a", 0, 0).len(), 1);
}

#[test]
fn a_frame_above_socket_request_max_bytes_closes_its_connection() {
    if foreign().is_some() {
        return;
    }
    let dir = temp();
    let broker =
        Options::new(dir.path()).set("socket.request.max.bytes", "300000").set("message.max.bytes", "1000000").start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let value = |bytes: usize| batch(ANYONE, now_ms(), &["x".repeat(bytes)]);
    assert_eq!(c.produce("a", 0, value(299_000), -1).error_code, 0);
    c.send(9, &produce_request("a", &[(0, value(301_000))], -1));
    assert!(c.read_frame().is_err(), "the connection is closed");
    let mut again = Client::connect(&broker.kafka);
    assert_eq!(again.read_all("a", 0, 0).len(), 1);
}

#[test]
fn one_address_has_no_more_connections_than_it_may() {
    if foreign().is_some() {
        return;
    }
    let dir = temp();
    let options = Options::new(dir.path()).set("max.connections.per.ip", "2");
    let broker = options.set("max.connections.per.ip.overrides", "127.0.0.9:3").start();
    let alive = |c: &mut Client| !c.call(3, &api_versions()).api_keys.is_empty();
    // Against one that may be closed under our hands.
    let try_alive = |c: &mut Client| {
        let frame = [0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        c.write_frame(&frame).is_ok() && c.read_frame().is_ok()
    };
    let mut open = [Client::connect(&broker.kafka), Client::connect(&broker.kafka)];
    assert!(open.iter_mut().all(alive));
    let mut third = Client::connect(&broker.kafka);
    assert_eq!(third.stream.read(&mut [0; 1]).ok().unwrap_or(0), 0, "closed without a word");
    // Another address is another's affair.
    let mut others: Vec<Client> = (0..3).map(|_| Client::connect_from("127.0.0.9", &broker.kafka)).collect();
    assert!(others.iter_mut().all(alive));
    let mut fourth = Client::connect_from("127.0.0.9", &broker.kafka);
    assert_eq!(fourth.stream.read(&mut [0; 1]).ok().unwrap_or(0), 0);
    // One that ends makes room; the bound changes at run time.
    let [mut first, second] = open;
    drop(second);
    let _again = eventually("there is room again", || {
        let mut c = Client::connect(&broker.kafka);
        try_alive(&mut c).then_some(c)
    });
    let set = |c: &mut Client, count: &str| {
        use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let config = AlterableConfig::default().with_name(string("max.connections.per.ip"));
        let resource = AlterConfigsResource::default().with_resource_type(4).with_resource_name(string("1"));
        let resource = resource.with_configs(vec![config.with_value(Some(string(count)))]);
        c.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource])).responses[0].error_code
    };
    assert_eq!(set(&mut first, "3"), 0);
    let mut third = Client::connect(&broker.kafka);
    assert!(alive(&mut third));
}

#[test]
fn connections_beyond_max_connections_wait_for_their_turn() {
    if foreign().is_some() {
        return;
    }
    let dir = temp();
    let broker = Options::new(dir.path()).set("max.connections", "2").start();
    let mut open = [Client::connect(&broker.kafka), Client::connect(&broker.kafka)];
    for c in &mut open {
        c.call(3, &api_versions());
    }
    let mut waiting = Client::connect(&broker.kafka);
    waiting.send(3, &api_versions());
    waiting.stream.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    assert!(waiting.stream.read(&mut [0; 1]).is_err(), "not served while two are open");
    waiting.stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    drop(open);
    assert!(!waiting.receive::<ApiVersionsRequest>(3).unwrap().1.api_keys.is_empty());
}

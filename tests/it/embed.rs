//! The same broker in this process.

use crate::{
    support::{http_get, temp},
    wire::{ANYONE, Client, batch, code, now_ms},
};
use millstream::{
    Config, Env, Node,
    partition::waiters::{ReadyList, Watcher},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Wake, Waker},
};

#[test]
fn a_node_starts_serves_and_stops_in_process() {
    let dir = temp();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..2 {
        let node = runtime.block_on(Node::start(Config::local(dir.path()), Env::real())).unwrap();
        let mut c = Client::connect(&node.kafka().to_string());
        if round == 0 {
            assert_eq!(c.create_topic("a", 1, &[]), 0);
        }
        assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1).base_offset, round);
        assert_eq!(http_get(&node.http().to_string(), "/readyz").0, 200);
        runtime.block_on(node.stop());
    }
}

#[test]
fn two_nodes_live_in_one_process() {
    let (one, two) = (temp(), temp());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let nodes: Vec<Node> = [&one, &two]
        .map(|d| {
            runtime.block_on(Node::start(Config::local(d.path()).set("num.partitions", "3"), Env::real())).unwrap()
        })
        .into();
    let mut c = Client::connect(&nodes[0].kafka().to_string());
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let mut other = Client::connect(&nodes[1].kafka().to_string());
    assert_ne!(other.list_offset("a", 0, -1).0, 0, "the other node knows nothing of it");
    assert_eq!(c.list_offset("a", 0, -1), (0, -1, 0));
    for node in nodes {
        runtime.block_on(node.stop());
    }
}

#[test]
fn a_stop_answers_long_polls_that_have_minutes_to_go() {
    let dir = temp();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = runtime.block_on(Node::start(Config::local(dir.path()), Env::real())).unwrap();
    let mut c = Client::connect(&node.kafka().to_string());
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let requests = || {
        let page = node.broker().metrics.render();
        let line = page.lines().find(|line| line.starts_with("millstream_requests_total ")).unwrap().to_string();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = requests();
    let poll = std::thread::spawn(move || c.fetch("a", 0, 0, 600_000));
    while requests() == before {
        std::thread::yield_now();
    }
    runtime.block_on(node.stop());
    assert_eq!(poll.join().expect("an answer, not a closed connection").error_code, 0);
}

#[test]
fn a_node_that_cannot_go_on_says_so_refuses_writes_and_still_stops() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }
    let dir = temp();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = runtime.block_on(Node::start(Config::local(dir.path()), Env::real())).unwrap();
    let mut c = Client::connect(&node.kafka().to_string());
    assert_eq!((c.create_topic("a", 1, &[]), c.create_topic("b", 1, &[])), (0, 0));
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1).base_offset, 0);
    // The round that settles the next record wakes this long poll, and panics.
    let list = ReadyList::new();
    let watcher = Watcher::new(&list, 0);
    node.broker().partitions.get("a", 0).unwrap().waiters().watch(&watcher).unwrap();
    let mut ready = list.ready();
    assert!(Pin::new(&mut ready).poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    c.produce("a", 0, batch(ANYONE, now_ms(), &["y"]), 1);
    let reason = runtime.block_on(node.died());
    assert!(reason.contains("panicked: woken"), "{reason}");
    for (topic, acks) in [("a", -1), ("b", -1), ("b", 1)] {
        let error = c.produce(topic, 0, batch(ANYONE, now_ms(), &["z"]), acks).error_code;
        assert_eq!(error, code::KAFKA_STORAGE_ERROR, "{topic} acks={acks}");
    }
    let (status, body) = http_get(&node.http().to_string(), "/readyz");
    assert!(status == 503 && body.contains("panicked: woken"), "{status} {body}");
    assert_eq!(c.read_all("a", 0, 0).len(), 2, "what was settled is read");
    runtime.block_on(node.stop());
    // What a start finds is what was acknowledged.
    let node = runtime.block_on(Node::start(Config::local(dir.path()), Env::real())).unwrap();
    assert_eq!(Client::connect(&node.kafka().to_string()).list_offset("a", 0, -1), (0, -1, 2));
    runtime.block_on(node.stop());
}

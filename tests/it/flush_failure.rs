//! Acknowledgement and flush, seen from outside: each acks=all reply leaves after a flush that began behind its append has returned; a flush that fails
//! once is final.

use crate::{
    support::{Broker, Options, eventually, temp},
    wire::{ANYONE, Client, batch, code, now_ms},
};
use kafka_protocol::messages::DescribeLogDirsRequest;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles the shim into `dir`.
pub fn shim(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&source, include_str!("sync_shim.c")).unwrap();
    let out = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .args(["-ldl", "-lpthread"])
        .output();
    let out = out.expect("cc: the tests need a C compiler");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    library
}

#[derive(Debug)]
struct Event {
    kind: String,
    begin: u64,
    end: u64,
    result: i64,
    detail: String,
}

fn events(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap();
    let event = |line: &str| {
        let mut f = line.splitn(5, ' ');
        let kind = f.next().unwrap().to_string();
        let mut number = || f.next().unwrap().parse::<i64>().unwrap();
        let (begin, end, result) = (number() as u64, number() as u64, number());
        Event { kind, begin, end, result, detail: f.next().unwrap_or_default().to_string() }
    };
    let mut all: Vec<Event> = text.lines().map(event).collect();
    all.sort_by_key(|e| e.begin);
    all
}

/// Each reply sent to `port` in answer to a request that `acked` says was acknowledged: a good flush of the partition's log lies between the request's
/// arrival and the reply. `acked` holds one entry a request, in order, all sent one after another.
fn every_reply_is_covered(events: &[Event], port: u16, partition: &str, acked: &[bool]) {
    let of = |kind: &str| {
        let port = port.to_string();
        events.iter().filter(|e| e.kind == kind && e.detail == port).collect::<Vec<_>>()
    };
    let (received, sent) = (of("recv"), of("send"));
    assert_eq!(sent.len(), acked.len(), "one reply a request in the trace of {partition}");
    let log = format!("/{partition}/");
    let flushes: Vec<&Event> =
        events.iter().filter(|e| e.kind == "sync" && e.detail.contains(&log) && e.detail.ends_with(".log")).collect();
    assert!(!flushes.is_empty(), "no flush of {partition} in the trace");
    for (i, reply) in sent.iter().enumerate().filter(|(i, _)| acked[*i]) {
        let request = received
            .iter()
            .filter(|r| r.begin < reply.begin)
            .max_by_key(|r| r.end)
            .expect("a request before its reply");
        let covered = flushes.iter().any(|f| f.begin >= request.end && f.end <= reply.begin && f.result == 0);
        assert!(
            covered,
            "reply {i} of {partition} left at {} for a request that came at {}, no flush between",
            reply.begin, request.end
        );
    }
}

/// The trace, once `replies` to `port` are in it: the shim writes a line after the call it tells of, the client may be faster.
fn events_with(path: &Path, port: u16, replies: usize) -> Vec<Event> {
    eventually("every reply is in the trace", || {
        let events = events(path);
        let sent = events.iter().filter(|e| e.kind == "send" && e.detail == port.to_string()).count();
        (sent >= replies).then_some(events)
    })
}

fn port(c: &Client) -> u16 {
    c.stream.local_addr().unwrap().port()
}

#[test]
fn each_acks_all_reply_leaves_after_the_flush_that_covers_it() {
    let dir = temp();
    let log = dir.path().join("trace");
    let options = Options::new(&dir.path().join("data")).env("LD_PRELOAD", shim(dir.path())).env("SHIM_LOG", &log);
    let broker = options.start();
    let mut setup = Client::connect(&broker.kafka);
    assert_eq!(setup.create_topic("t", 4, &[]), 0);
    let workers: Vec<_> = (0..4)
        .map(|p| {
            let address = broker.kafka.clone();
            std::thread::spawn(move || {
                let mut c = Client::connect(&address);
                let acked: Vec<bool> = (0..100)
                    .map(|i| {
                        let size = 1 + (i * 997 + p as usize * 131) % 20_000;
                        let sent = c.produce("t", p, batch(ANYONE, now_ms(), &[vec![b'x'; size]]), -1);
                        assert_eq!((sent.error_code, sent.base_offset), (0, i as i64));
                        true
                    })
                    .collect();
                (p, port(&c), acked, c)
            })
        })
        .collect();
    let done: Vec<_> = workers.into_iter().map(|w| w.join().unwrap()).collect();
    for (p, port, acked, _c) in &done {
        every_reply_is_covered(&events_with(&log, *port, acked.len()), *port, &format!("t-{p}"), acked);
    }
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_and_reads_go_on() {
    for failing in [0, 1, 7] {
        let dir = temp();
        let (log, trigger, data) = (dir.path().join("trace"), dir.path().join("trigger"), dir.path().join("data"));
        let options =
            Options::new(&data).env("LD_PRELOAD", shim(dir.path())).env("SHIM_LOG", &log).env("SHIM_TRIGGER", &trigger);
        let mut broker = options.start();
        let mut setup = Client::connect(&broker.kafka);
        assert_eq!(setup.create_topic("t", 2, &[]), 0);
        assert_eq!(setup.produce("t", 1, batch(ANYONE, now_ms(), &["other"]), -1).error_code, 0);
        let mut c = Client::connect(&broker.kafka);
        let mut acked = Vec::new();
        let mut produce = |c: &mut Client, acks: i16| {
            let error = c.produce("t", 0, batch(ANYONE, now_ms(), &[format!("{}", acked.len())]), acks).error_code;
            acked.push(error == 0);
            error
        };
        for _ in 0..10 {
            assert_eq!(produce(&mut c, -1), 0);
        }
        // Written aside and renamed: the shim must not read half of it.
        std::fs::write(dir.path().join("new"), failing.to_string()).unwrap();
        std::fs::rename(dir.path().join("new"), &trigger).unwrap();
        let first = (0..100)
            .find_map(|_| Some(produce(&mut c, -1)).filter(|e| *e != 0))
            .expect("the flush failed, yet 100 produces were acknowledged");
        assert_eq!(first, code::KAFKA_STORAGE_ERROR);
        // Later flushes would succeed (the kernel forgot the error): it is final all the same.
        for acks in [-1, 1, -1] {
            assert_eq!(produce(&mut c, acks), code::KAFKA_STORAGE_ERROR);
        }
        assert_eq!(setup.produce("t", 1, batch(ANYONE, now_ms(), &["x"]), -1).error_code, code::KAFKA_STORAGE_ERROR);
        every_reply_is_covered(&events_with(&log, port(&c), acked.len()), port(&c), "t-0", &acked);
        let count = acked.iter().filter(|a| **a).count();
        let read = setup.read_all("t", 0, 0);
        assert_eq!(read.len(), count, "what was settled is read, no more");
        assert_eq!(setup.read_all("t", 1, 0).len(), 1);
        let dirs = setup.call(4, &DescribeLogDirsRequest::default().with_topics(None)).results;
        assert_eq!((dirs.len(), dirs[0].error_code, dirs[0].topics.len()), (1, code::KAFKA_STORAGE_ERROR, 0));
        let (status, why) = broker.get("/readyz");
        assert_eq!(status, 503, "{why}");
        assert!(!why.trim().is_empty(), "the reason is given");
        assert_eq!(broker.get("/healthz").0, 200);
        assert!(broker.alive());
        broker.kill();
        recovered(&data, count);
    }
}

/// A start without the shim has every acknowledged record and takes new ones.
fn recovered(data: &Path, count: usize) {
    let broker: Broker = Options::new(data).start();
    let mut c = Client::connect(&broker.kafka);
    let read = c.read_all("t", 0, 0);
    assert!(read.len() >= count, "{} of {count} acknowledged records", read.len());
    for (i, r) in read.iter().enumerate().take(count) {
        assert_eq!((r.0, &r.2[..]), (i as i64, i.to_string().as_bytes()));
    }
    assert_eq!(c.produce("t", 0, batch(ANYONE, now_ms(), &["after"]), -1).error_code, 0);
    assert_eq!(broker.get("/readyz").0, 200);
}

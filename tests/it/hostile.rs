//! Hostile lengths and random bodies at every advertised API and version: the broker lives, its memory does not grow, a good client is served beside it.
//!
//! `MILLSTREAM_SEED` replays the random bodies, `MILLSTREAM_HOSTILE_ROUNDS` asks for more of them.

use crate::{
    clients::fresh,
    support::{Broker, Random, SetOnDrop, foreign},
    wire::{ANYONE, Client, batch, now_ms, topic_name},
};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest,
    fetch_request::{FetchPartition, FetchTopic},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// MiB that the broker may grow by, its own working set for some thousand connections included.
const GROWTH_MIB_MAX: u64 = 96;

fn memory_mib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Sends bytes on a connection of its own and waits a moment for what comes of it: a reply, a close, or nothing.
fn throw(address: &str, bytes: &[u8]) {
    let mut s = TcpStream::connect(address).expect("the broker accepts connections");
    s.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let _ = s.write_all(bytes);
    let _ = s.read(&mut [0; 64]);
}

fn framed(api: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(api.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(1i32.to_be_bytes());
    frame.extend([0, 1, b'x']);
    if flexible {
        frame.push(0);
    }
    frame.extend(body);
    let mut all = (frame.len() as u32).to_be_bytes().to_vec();
    all.extend(frame);
    all
}

#[test]
fn hostile_frames_and_bodies_cost_their_connection_only() {
    if foreign().is_some() {
        return;
    }
    let (mut broker, _dir) = Broker::any();
    let topic = fresh("good");
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic(&topic, 1, &[]), 0);
    let apis = c.call(
        3,
        &ApiVersionsRequest::default()
            .with_client_software_name(crate::wire::string("it"))
            .with_client_software_version(crate::wire::string("1")),
    );
    let apis: Vec<(i16, i16, i16)> = apis.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
    assert!(apis.len() > 10, "{apis:?}");
    let mut random = Random::from_environment();
    let rounds: u64 = std::env::var("MILLSTREAM_HOSTILE_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(4);

    let stop = AtomicBool::new(false);
    let address = broker.kafka.clone();
    let before = memory_mib(broker.pid(), "VmRSS");
    let good = std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(c.produce(&topic, 0, batch(ANYONE, now_ms(), &[n.to_string()]), -1).base_offset, n);
                assert_eq!(c.fetch(&topic, 0, n, 0).high_watermark, n + 1);
                n += 1;
            }
            n
        });
        let end = SetOnDrop(&stop);
        // Frame lengths, with and without something behind them.
        for length in [-1i32, 0, 1, 3, 8, i32::MAX, i32::MIN, 200 << 20] {
            for rest in [0, 1, 100] {
                let mut bytes = length.to_be_bytes().to_vec();
                bytes.extend(random.bytes(rest));
                throw(&address, &bytes);
            }
        }
        // Headers: unknown APIs and versions, client ids of hostile lengths.
        for (api, version) in [(-1, 0), (999, 0), (0, -1), (1, 999), (18, -5), (4, 0), (55, 1)] {
            throw(&address, &framed(api, version, false, &random.bytes(20)));
        }
        for length in [-2i16, 0, i16::MAX, i16::MIN] {
            let mut frame = [0, 18, 0, 3, 0, 0, 0, 1].to_vec();
            frame.extend(length.to_be_bytes());
            let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
            bytes.extend(frame);
            throw(&address, &bytes);
        }
        // Bodies: the lengths of arrays, strings and bytes, in their three encodings, at every place up to the 64th byte.
        let lengths: [&[u8]; 7] = [
            &[0xff; 4],
            &[0x7f, 0xff, 0xff, 0xff],
            &[0, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0x07],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x7f, 0xff],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
        ];
        for (api, min, max) in &apis {
            for version in *min..=*max {
                for flexible in [false, true] {
                    for length in lengths {
                        throw(&address, &framed(*api, version, flexible, &length.repeat(20)));
                        let at = random.below(64) as usize;
                        let mut body = vec![if random.below(2) == 0 { 0 } else { 1 }; at];
                        body.extend(length);
                        body.extend(random.bytes(30));
                        throw(&address, &framed(*api, version, flexible, &body));
                    }
                }
                for _ in 0..rounds {
                    let size = random.below(300) as usize;
                    let body = random.bytes(size);
                    throw(&address, &framed(*api, version, random.below(2) == 0, &body));
                }
            }
        }
        drop(end);
        good.join().expect("the good client was served all the time")
    });
    assert!(broker.alive());
    let (after, peak) = (memory_mib(broker.pid(), "VmRSS"), memory_mib(broker.pid(), "VmHWM"));
    println!("{good} good rounds beside; {before} MiB before, {after} after, {peak} at the peak");
    assert!(good > 0);
    assert!(peak < before + GROWTH_MIB_MAX, "{before} MiB before, {peak} at the peak");
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.read_all(&topic, 0, 0).len(), good as usize);
}

#[test]
fn a_fetch_that_names_one_partition_many_times_and_many_that_are_not_there_costs_little() {
    if foreign().is_some() {
        return;
    }
    let (broker, _dir) = Broker::any();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let fetch = |topic: &str, partitions: Vec<i32>, session_epoch: i32| {
        let partitions = partitions
            .into_iter()
            .map(|p| FetchPartition::default().with_partition(p).with_partition_max_bytes(1 << 20))
            .collect();
        FetchRequest::default()
            .with_max_wait_ms(10)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(session_epoch)
            .with_topics(vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(partitions)])
    };
    for session_epoch in [-1, 0] {
        let response = c.call(12, &fetch("a", vec![0; 100_000], session_epoch));
        assert_eq!((response.error_code, response.responses[0].partitions.len()), (0, 1));
    }
    // As many as there may be, then one more.
    let response = c.call(12, &fetch("none", (0..100_000).collect(), 0));
    assert_eq!(response.responses[0].partitions.len(), 100_000);
    assert_ne!(response.session_id, 0);
    let more = fetch("none", vec![100_000], 1).with_session_id(response.session_id);
    assert_eq!(c.call(12, &more).error_code, 70, "FETCH_SESSION_ID_NOT_FOUND: the consumer begins anew");
    let response = c.call(12, &fetch("none", (0..100_001).collect(), 0));
    assert_eq!((response.error_code, response.session_id), (42, 0), "INVALID_REQUEST");
    assert_eq!(c.call(12, &fetch("a", vec![0], 0)).responses[0].partitions[0].error_code, 0);
}

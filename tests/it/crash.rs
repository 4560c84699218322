//! `kill -9` at random moments under load: nothing acknowledged is lost, nothing doubled, order kept, nothing shown is taken back.
//!
//! `MILLSTREAM_CRASH_ROUNDS` (5) kills; `MILLSTREAM_SEED` replays the moments.

use crate::{
    clients::{all_acked, consumer, producer, send},
    support::{Options, Proxy, Random, SetOnDrop, eventually, foreign, temp},
    wire::Client,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::Consumer,
    producer::{BaseRecord, Producer},
};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

const PARTITIONS: i32 = 4;
/// Asked for by the promise "start and recovery do not grow with the data"; the median is far below.
const READY: Duration = Duration::from_secs(1);

#[test]
fn kill_9_under_idempotent_load_loses_and_doubles_nothing() {
    if foreign().is_some() {
        return;
    }
    let rounds: usize = std::env::var("MILLSTREAM_CRASH_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    under_load("fsync", rounds);
    // Of a process that is killed the page cache keeps all.
    under_load("page-cache", rounds.div_ceil(2));
}

fn under_load(durability: &str, rounds: usize) {
    let mut random = Random::from_environment();
    let (dir, proxy, topic) = (temp(), Proxy::new(), "crash");
    // Small segments, so that rolls are hit too.
    let options =
        Options::new(dir.path()).set("advertised.listeners", &proxy.advertised()).set("log.segment.bytes", "1048576");
    let broker = options.start();
    assert_eq!(
        Client::connect(&broker.kafka).create_topic(topic, PARTITIONS, &[("millstream.durability", durability)]),
        0
    );
    proxy.to(Some(&broker.kafka));

    let sender = producer(
        &proxy.address,
        &[("enable.idempotence", "true"), ("queue.buffering.max.messages", "3000"), ("linger.ms", "1")],
    );
    let (stop, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (sent, shown) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut random = Random(1);
            let filler = random.bytes(2000);
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let mut value = n.to_be_bytes().to_vec();
                value.extend_from_slice(&filler[..random.below(2000) as usize]);
                send(
                    &sender,
                    BaseRecord::with_opaque_to(topic, Box::new(n))
                        .partition((n % PARTITIONS as u64) as i32)
                        .key(&b"k"[..])
                        .payload(&value),
                );
                n += 1;
            }
            n
        });
        let reading = scope.spawn(|| {
            let c = consumer(&proxy.address);
            let mut list = TopicPartitionList::new();
            for p in 0..PARTITIONS {
                list.add_partition_offset(topic, p, Offset::Beginning).unwrap();
            }
            c.assign(&list).unwrap();
            let mut shown: Vec<(i32, i64, u64)> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                if let Some(Ok(m)) = c.poll(Duration::from_millis(20)) {
                    shown.push((m.partition(), m.offset(), number(m.payload().unwrap())));
                    seen.store(shown.len(), Ordering::Relaxed);
                }
            }
            shown
        });
        let end = SetOnDrop(&stop);
        let mut broker = broker;
        // The clients take their time to connect; crashes before that would prove nothing.
        eventually("the first record is read", || (seen.load(Ordering::Relaxed) > 0).then_some(()));
        for round in 0..rounds {
            std::thread::sleep(Duration::from_millis(20 + random.below(500)));
            let acked = sender.context().acked.lock().unwrap().len();
            proxy.to(None);
            broker.kill();
            broker = options.start();
            proxy.to(Some(&broker.kafka));
            println!(
                "{durability}, round {round}: {acked} acknowledged, {} read, ready after {:?}",
                seen.load(Ordering::Relaxed),
                broker.ready_after
            );
            assert!(broker.ready_after <= READY, "ready after {:?}", broker.ready_after);
        }
        drop(end);
        let result = (sending.join().unwrap(), reading.join().unwrap());
        // The sender's queue drains against the last broker.
        let acked = all_acked(&sender);
        assert_eq!(acked.len() as u64, result.0, "everything sent is acknowledged at last");
        let mut c = Client::connect(&broker.kafka);
        let mut log: HashMap<(i32, i64), u64> = HashMap::new();
        let mut total = 0;
        for p in 0..PARTITIONS {
            for (i, (offset, _, value)) in c.read_all(topic, p, 0).into_iter().enumerate() {
                assert_eq!(offset, i as i64, "partition {p}: offsets are dense");
                assert_eq!(
                    number(&value),
                    i as u64 * PARTITIONS as u64 + p as u64,
                    "partition {p}, offset {offset}: in order, once"
                );
                log.insert((p, offset), number(&value));
                total += 1;
            }
        }
        assert_eq!(total, result.0, "nothing lost, nothing doubled");
        for (n, p, offset) in acked {
            assert_eq!(log.get(&(p, offset)), Some(&n), "record {n} was acknowledged at {p}:{offset}");
        }
        for (p, offset, n) in &result.1 {
            assert_eq!(log.get(&(*p, *offset)), Some(n), "what was shown at {p}:{offset} is gone");
        }
        result
    });
    println!("{sent} records sent, {} read along the way", shown.len());
    assert!(sent > 100 && !shown.is_empty(), "there was load");
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

#[test]
fn kill_9_at_any_moment_of_the_first_boot_leaves_a_directory_that_starts() {
    if foreign().is_some() {
        return;
    }
    let mut random = Random::from_environment();
    for _ in 0..10 {
        let dir = temp();
        let options = Options::new(dir.path());
        options.start_and_kill_after(Duration::from_micros(random.below(30_000)));
        let broker = options.start();
        assert_eq!(Client::connect(&broker.kafka).create_topic("a", 1, &[]), 0);
    }
}

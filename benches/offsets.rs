//! What committed offsets cost the machine of groups alone, without sockets and disk: CPU of a commit of ten (events, records, replay), and memory of an offset.
//! `cargo bench --bench offsets`. One line a measurement, no pass condition.

use millstream::{
    config::GroupSettings,
    coordinator::{
        group::{Commit, CommitPartition, CommitTopic, Event, Groups},
        machine::{Machine, Now, Output, Ticket},
    },
};
use std::{fs, sync::Arc};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const COMMITS: usize = 500_000;
const PARTITIONS: i32 = 10;
const OFFSETS: usize = 2_000_000;

fn settings() -> GroupSettings {
    GroupSettings {
        session_timeout_min_ms: 6_000,
        session_timeout_max_ms: 1_800_000,
        initial_rebalance_delay_ms: 50,
        size_max: 1000,
        offset_metadata_bytes_max: 4096,
        offsets_retention_ms: 1 << 40,
        offsets_retention_given: false,
    }
}

/// CPU seconds of this process so far, in steps of 10 ms.
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) as f64 / 100.0
}

fn rss_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn event(group: &Arc<str>, topic: &Arc<str>, metadata: &Arc<str>, from: i32, count: i32) -> Event {
    let partition = |index| CommitPartition { index, offset: 1_234_567, leader_epoch: 3, metadata: metadata.clone() };
    Event::Commit(Commit {
        group: group.clone(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        retention_ms: None,
        topics: vec![CommitTopic {
            name: topic.clone(),
            id: Uuid::from_u128(7),
            partitions: (from..from + count).map(partition).collect(),
        }],
    })
}

/// What a shard does with it, but for the disk.
fn turn(machine: &mut Groups, event: Event, settings: &GroupSettings) {
    let now = Now { wall_ms: 1_800_000_000_000, ticks_ms: 0 };
    let mut out = Output::default();
    machine.handle(Ticket(1), event, now, settings, &mut out);
    for (records, pending) in std::mem::take(&mut out.appends) {
        for record in &records {
            machine.replay(&record.key, record.value.as_deref(), now).unwrap();
        }
        machine.appended(pending, now, settings, &mut out);
    }
    assert_eq!(out.replies.len(), 1);
}

fn main() {
    let (settings, topic, empty): (_, Arc<str>, Arc<str>) = (settings(), "orders-of-the-shop".into(), "".into());
    let mark: Arc<str> = "AgAAAZ3vmK4".into();
    for (groups, metadata) in [(1, &empty), (10_000, &empty), (10_000, &mark)] {
        let names: Vec<Arc<str>> = (0..groups).map(|n| format!("group-{n}").into()).collect();
        let mut machine = Groups::default();
        let run = |machine: &mut Groups, count: usize| {
            for n in 0..count {
                turn(machine, event(&names[n % groups], &topic, metadata, 0, PARTITIONS), &settings);
            }
        };
        run(&mut machine, groups);
        let before = cpu_s();
        run(&mut machine, COMMITS);
        let us = (cpu_s() - before) * 1e6 / COMMITS as f64;
        println!("{groups} groups, {} bytes of metadata: {us:.2} us a commit of {PARTITIONS}", metadata.len());
    }
    for (groups, partitions) in [(20, 100_000), (200_000, 10)] {
        let before = rss_bytes();
        let mut machine = Groups::default();
        assert_eq!(groups * partitions, OFFSETS);
        for n in 0..groups {
            let name = format!("group-{n}").into();
            for from in (0..partitions as i32).step_by(1000.min(partitions)) {
                turn(&mut machine, event(&name, &topic, &empty, from, 1000.min(partitions as i32)), &settings);
            }
        }
        let bytes = rss_bytes().saturating_sub(before) as f64 / OFFSETS as f64;
        println!("{groups} groups with {partitions} offsets: {bytes:.0} bytes an offset");
        drop(machine);
    }
}

//! Shards of a toy machine over a simulated disk: what is answered is kept, what is not settled is not answered.

use super::*;
use crate::{
    Config,
    coordinator::{
        group,
        machine::{Record, Refusal},
    },
    metadata::PartitionFacts,
    partition::tests::{NOW, World, simulated},
};
use millstream_storage::{
    self as storage,
    batch::HEADER_BYTES,
    record::BatchBuilder,
    sim::{Rng, SimDisk},
};
use std::{collections::BTreeMap, io::Write, path::PathBuf};

/// Numbers by name.
#[derive(Debug, Default)]
struct Toy {
    /// Stored.
    numbers: BTreeMap<String, i64>,
    /// Soft: who is to be answered when.
    alarms: BTreeMap<u64, Vec<Ticket>>,
}

#[derive(Debug)]
enum Do {
    Set(String, Option<i64>),
    /// Each is one append of its own, all wanted in one call.
    SetAll(Vec<(String, i64)>),
    /// Value of this many bytes, all nines; read back as -9.
    Large(usize),
    Get,
    /// Answers after so many ms.
    Alarm(u64),
    /// Answers never.
    Ignore,
    Panic,
}

type Got = Result<BTreeMap<String, i64>, Refusal>;

#[derive(Debug)]
struct Then(Ticket, bool);

fn record(name: &str, value: Option<i64>) -> Record {
    Record { key: name.into(), value: value.map(|v| v.to_string().into_bytes()) }
}

impl Machine for Toy {
    type Event = Do;
    type Reply = Got;
    type Pending = Then;
    type Settings = ();

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>, _: Now) -> Result<(), String> {
        let name = String::from_utf8(key.to_vec()).map_err(|e| e.to_string())?;
        match value {
            None => self.numbers.remove(&name),
            Some(v) if v.len() > 20 => self.numbers.insert(name, -9),
            Some(v) => {
                let text = std::str::from_utf8(v).map_err(|e| e.to_string())?;
                self.numbers.insert(name, text.parse().map_err(|_| format!("{text} is no number"))?)
            }
        };
        Ok(())
    }

    fn loaded(&mut self, _: Now, (): &(), _: &mut Output<Self>) {}

    fn may_skip(event: &Do) -> bool {
        // Told apart from `Set`, which nothing skips.
        matches!(event, Do::Large(_))
    }

    fn handle(&mut self, ticket: Ticket, event: Do, now: Now, (): &(), out: &mut Output<Self>) {
        match event {
            Do::Set(name, value) => out.append(vec![record(&name, value)], Then(ticket, true)),
            Do::SetAll(all) => {
                let last = all.len() - 1;
                for (n, (name, value)) in all.into_iter().enumerate() {
                    out.append(vec![record(&name, Some(value))], Then(ticket, n == last));
                }
            }
            Do::Large(bytes) => {
                let records =
                    vec![record("small", Some(1)), Record { key: b"large".to_vec(), value: Some(vec![b'9'; bytes]) }];
                out.append(records, Then(ticket, true));
            }
            Do::Get => out.reply(ticket, Ok(self.numbers.clone())),
            Do::Alarm(ms) => self.alarms.entry(now.ticks_ms + ms).or_default().push(ticket),
            Do::Ignore => {}
            Do::Panic => panic!("as asked"),
        }
    }

    fn appended(&mut self, pending: Then, _: Now, (): &(), out: &mut Output<Self>) {
        if pending.1 {
            out.reply(pending.0, Ok(self.numbers.clone()));
        }
    }

    fn refused(&mut self, pending: Then, why: &Refusal, _: Now, (): &(), out: &mut Output<Self>) {
        if pending.1 {
            out.reply(pending.0, Err(why.clone()));
        }
    }

    fn next_tick(&self) -> Option<u64> {
        self.alarms.keys().next().copied()
    }

    fn tick(&mut self, now: Now, (): &(), out: &mut Output<Self>) {
        while let Some(first) = self.alarms.first_entry().filter(|first| *first.key() <= now.ticks_ms) {
            for ticket in first.remove() {
                out.reply(ticket, Ok(BTreeMap::from([("now".to_string(), now.wall_ms)])));
            }
        }
    }

    fn live(&self, put: &mut dyn FnMut(Record)) {
        self.numbers.iter().for_each(|(name, value)| put(record(name, Some(*value))));
    }
}

fn start(world: &World, partition: &Arc<Partition>, snapshot_bytes: u64) -> Shard<Toy> {
    let settings = Arc::new(ArcSwap::from_pointee(()));
    Shard::start_with(&world.shared.env, partition.clone(), Toy::default(), settings, snapshot_bytes)
}

async fn ask(shard: &Shard<Toy>, event: Do) -> Result<Got, ShardError> {
    shard.ask(event).await?.answer().await
}

fn set(name: &str, value: i64) -> Do {
    Do::Set(name.into(), Some(value))
}

fn map(all: &[(&str, i64)]) -> BTreeMap<String, i64> {
    all.iter().map(|(name, value)| (name.to_string(), *value)).collect()
}

const NEVER: u64 = u64::MAX / 4;

fn log_end(partition: &Partition) -> i64 {
    partition.offsets().unwrap().log_end
}

#[tokio::test(start_paused = true)]
async fn what_was_set_is_there_after_a_kill_and_after_a_stop() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let shard = start(&world, &world.partition(), NEVER);
    assert_eq!(ask(&shard, Do::Get).await.unwrap().unwrap(), map(&[]));
    assert_eq!(ask(&shard, set("a", 1)).await.unwrap().unwrap(), map(&[("a", 1)]));
    ask(&shard, set("b", 2)).await.unwrap().unwrap();
    ask(&shard, Do::Set("a".into(), None)).await.unwrap().unwrap();
    let all = Do::SetAll(vec![("c".into(), 3), ("d".into(), 4)]);
    let live = ask(&shard, all).await.unwrap().unwrap();
    assert_eq!(live, map(&[("b", 2), ("c", 3), ("d", 4)]));

    let disk = disk.kill();
    let world = simulated(&disk, &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    assert_eq!(ask(&shard, Do::Get).await.unwrap().unwrap(), live);
    shard.stop().await;
    assert!(shard.is_over());
    assert!(matches!(ask(&shard, Do::Get).await, Err(ShardError::NotHere(_))));
    partition.stop().await;
    let shard = start(&world, &world.partition(), NEVER);
    assert_eq!(ask(&shard, Do::Get).await.unwrap().unwrap(), live);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_until_all_before_it_is_durable_and_a_look_does_too() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 0)).await.unwrap().unwrap();
    for n in 1..20 {
        let set = shard.ask(set("a", n)).await.unwrap();
        let look = shard.ask(Do::Get).await.unwrap();
        let (first, second) = tokio::join!(
            async {
                let got = set.answer().await.unwrap().unwrap();
                assert!(partition.has_reached(Goal::Durable, n + 1), "answered before it is durable");
                got
            },
            async {
                let got = look.answer().await.unwrap().unwrap();
                assert!(partition.has_reached(Goal::Durable, n + 1), "shown before it is durable");
                got
            }
        );
        assert_eq!((first["a"], second["a"]), (n, n));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_flush_nobody_is_told_what_may_be_lost() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    disk.fail_nth_sync(1);
    let lost = shard.ask(set("a", 2)).await.unwrap();
    let look = shard.ask(Do::Get).await.unwrap();
    assert!(matches!(lost.answer().await, Err(ShardError::NotHere(_))));
    assert!(matches!(look.answer().await, Err(ShardError::NotHere(_))));
    shard.stop().await;
    // Nor is what the next one would read.
    let shard = start(&world, &partition, NEVER);
    assert!(matches!(ask(&shard, Do::Get).await, Err(ShardError::NotAvailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_shard_and_the_next_one_loads() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    let waits = shard.ask(Do::Ignore).await.unwrap();
    assert!(matches!(ask(&shard, Do::Panic).await, Err(ShardError::NotHere(_))));
    assert!(matches!(waits.answer().await, Err(ShardError::NotHere(_))));
    assert!(shard.is_over());
    assert!(world.shared.metrics.render().contains("millstream_coordinator_panics_total 1"));
    let shard = start(&world, &partition, NEVER);
    assert_eq!(ask(&shard, set("b", 2)).await.unwrap().unwrap(), map(&[("a", 1), ("b", 2)]));
}

#[tokio::test(start_paused = true)]
async fn timers_fire_at_their_time() {
    let world = simulated(&SimDisk::new(), &[]);
    let shard = start(&world, &world.partition(), NEVER);
    ask(&shard, Do::Get).await.unwrap().unwrap();
    let late = shard.ask(Do::Alarm(60_000)).await.unwrap();
    let early = shard.ask(Do::Alarm(250)).await.unwrap();
    let begun = Instant::now();
    assert!(early.answer().await.unwrap().unwrap()["now"] >= NOW + 250);
    assert!((250..260).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    // An earlier one than the one waited for.
    let soon = shard.ask(Do::Alarm(10)).await.unwrap();
    soon.answer().await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(300));
    late.answer().await.unwrap().unwrap();
    assert!((60_000..60_010).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_mailbox_is_bounded_and_nothing_is_lost() {
    let world = simulated(&SimDisk::new(), &[]);
    let shard = start(&world, &world.partition(), NEVER);
    // The shard's task does not run while this one does not wait.
    let mut asked = Vec::new();
    for n in 0..COORDINATOR_MAILBOX_MAX {
        let mut ask = Box::pin(tokio::task::unconstrained(shard.ask(set("a", n as i64))));
        match poll_fn(|cx| Poll::Ready(ask.as_mut().poll(cx))).await {
            Poll::Ready(one) => asked.push(one.unwrap()),
            Poll::Pending => panic!("no room for question {n}"),
        }
    }
    let mut further = Box::pin(tokio::task::unconstrained(shard.ask(set("b", 1))));
    assert!(poll_fn(|cx| Poll::Ready(further.as_mut().poll(cx).is_pending())).await);
    // Who asks and goes away is no harm.
    drop(asked.remove(0));
    let last = further.await.unwrap();
    for one in asked {
        one.answer().await.unwrap().unwrap();
    }
    let end = map(&[("a", COORDINATOR_MAILBOX_MAX as i64 - 1), ("b", 1)]);
    assert_eq!(last.answer().await.unwrap().unwrap(), end);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_appended_is_refused_and_changes_nothing() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[("max.message.bytes", "2000")]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    let refused = ask(&shard, Do::Large(2000)).await.unwrap();
    assert!(matches!(refused, Err(Refusal::TooLarge { max_bytes: 2000, .. })), "{refused:?}");
    assert_eq!(log_end(&partition), 1);
    assert_eq!(ask(&shard, Do::Large(1800)).await.unwrap().unwrap(), map(&[("a", 1), ("large", -9), ("small", 1)]));
    // A full disk, and room again.
    disk.set_capacity(Some(disk.used_bytes()));
    let mut refused = None;
    for n in 0..2000 {
        if let Err(why) = ask(&shard, set(&format!("{:0>900}", n % 2), n)).await.unwrap() {
            refused = Some((n, why));
            break;
        }
    }
    let (n, why) = refused.unwrap();
    assert_eq!(why, Refusal::DiskFull);
    let before = ask(&shard, Do::Get).await.unwrap().unwrap();
    assert!(!before.values().any(|v| *v == n), "the refused one is not in force");
    disk.set_capacity(None);
    ask(&shard, set("b", 2)).await.unwrap().unwrap();
    let world = simulated(&disk.kill(), &[]);
    let mut expected = before;
    expected.insert("b".into(), 2);
    assert_eq!(ask(&start(&world, &world.partition(), NEVER), Do::Get).await.unwrap().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_ends_the_shard() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    partition.delete().await;
    let refused = ask(&shard, set("a", 2)).await;
    assert!(matches!(refused, Err(ShardError::NotHere(_))), "{refused:?}");
    assert!(matches!(ask(&start(&world, &partition, NEVER), Do::Get).await, Err(ShardError::NotHere(_))));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_what_was_asked_before_and_nothing_after() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    let waits = shard.ask(Do::Ignore).await.unwrap();
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    let mut asked = Vec::new();
    for n in 2..200 {
        asked.push(shard.ask(set("a", n)).await.unwrap());
    }
    let parks = shard.ask(Do::Ignore).await.unwrap();
    shard.stop().await;
    assert!(matches!(ask(&shard, set("a", 1000)).await, Err(ShardError::NotHere(_))));
    for one in asked {
        one.answer().await.unwrap().unwrap();
    }
    assert!(matches!(waits.answer().await, Err(ShardError::NotHere(_))));
    assert!(matches!(parks.answer().await, Err(ShardError::NotHere(_))));
    assert_eq!(log_end(&partition), 199);
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_for_long_keep_nobody_from_an_answer() {
    let world = simulated(&SimDisk::new(), &[]);
    let shard = start(&world, &world.partition(), NEVER);
    let mut parked = Vec::new();
    for _ in 0..=COORDINATOR_OPEN_MAX {
        parked.push(shard.ask(Do::Ignore).await.unwrap());
    }
    assert_eq!(ask(&shard, set("a", 1)).await.unwrap().unwrap(), map(&[("a", 1)]));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_skipped_where_it_may_be() {
    let world = simulated(&SimDisk::new(), &[]);
    let shard = start(&world, &world.partition(), NEVER);
    // Not handled before this task waits.
    drop(shard.ask(Do::Large(30)).await.unwrap());
    drop(shard.ask(set("a", 1)).await.unwrap());
    assert_eq!(ask(&shard, Do::Get).await.unwrap().unwrap(), map(&[("a", 1)]));
}

#[tokio::test(start_paused = true)]
async fn another_epoch_ends_the_shard() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    let again =
        PartitionFacts { replicas: [1].into(), isr: [1].into(), leader: 1, leader_epoch: 5, partition_epoch: 2 };
    partition.set_facts(&again);
    assert!(matches!(ask(&shard, set("a", 2)).await, Ok(Err(Refusal::NotHere(_))) | Err(ShardError::NotHere(_))));
    shard.stop().await;
    assert_eq!(log_end(&partition), 1);
    let shard = start(&world, &partition, NEVER);
    assert_eq!((shard.epoch(), ask(&shard, Do::Get).await.unwrap().unwrap()), (5, map(&[("a", 1)])));
}

#[tokio::test(start_paused = true)]
async fn a_shard_waits_its_turn_where_too_many_others_wait() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    // Never reached: they leave no room until their partition fails.
    let acks = Acks::new();
    while partition.park(Goal::Watermark, i64::MAX, 0, &acks).is_ok() {}
    assert_eq!(ask(&shard, set("a", 2)).await.unwrap().unwrap(), map(&[("a", 2)]));
    let last = shard.ask(set("a", 3)).await.unwrap();
    shard.stop().await;
    assert_eq!(last.answer().await.unwrap().unwrap(), map(&[("a", 3)]));
}

#[tokio::test(start_paused = true)]
async fn a_log_cut_while_it_is_read_is_read_from_its_new_start() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    for n in 0..4 {
        ask(&shard, set(&format!("k{n}"), n)).await.unwrap().unwrap();
    }
    let reader = partition.opened_reader().await.unwrap();
    let mut replay = load::Replay::new(&reader, &partition.topic().name, 0);
    partition.delete_records(2).unwrap();
    // Read before; what took it back was between.
    let mut toy = Toy { numbers: map(&[("gone", 1)]), ..Toy::default() };
    while !replay.is_done() {
        replay.step(&reader, &mut toy, Now::default()).unwrap();
    }
    assert_eq!(toy.numbers, map(&[("k2", 2), ("k3", 3)]));
}

#[tokio::test(start_paused = true)]
async fn an_idle_log_that_was_closed_is_opened_again() {
    let world = simulated(&SimDisk::new(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    ask(&shard, set("a", 1)).await.unwrap().unwrap();
    partition.cool().await;
    assert!(!partition.is_open());
    assert_eq!(ask(&shard, Do::Get).await.unwrap().unwrap(), map(&[("a", 1)]));
    assert_eq!(ask(&shard, set("b", 2)).await.unwrap().unwrap(), map(&[("a", 1), ("b", 2)]));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_replaces_the_log_below_it() {
    for durability in ["fsync", "page-cache"] {
        let disk = SimDisk::new();
        let overrides = [("millstream.durability", durability), ("segment.bytes", "16384")];
        let world = simulated(&disk, &overrides);
        let partition = world.partition();
        let shard = start(&world, &partition, 40_000);
        for n in 0..3000 {
            ask(&shard, set(&format!("k{}", n % 17), n)).await.unwrap().unwrap();
        }
        let live = ask(&shard, Do::Get).await.unwrap().unwrap();
        // Its deletion follows the flush, which for page-cache comes by the clock.
        while partition.offsets().unwrap().log_start == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(log_end(&partition) - partition.offsets().unwrap().log_start < 1600, "{durability}");
        shard.stop().await;
        partition.stop().await;
        let world = simulated(&disk.kill(), &overrides);
        let partition = world.partition();
        let shard = start(&world, &partition, 40_000);
        assert_eq!(ask(&shard, Do::Get).await.unwrap().unwrap(), live, "{durability}");
        assert_eq!(live.len(), 17);
    }
}

#[test]
fn a_state_larger_than_the_period_is_not_written_with_every_load() {
    let mut toy = Toy::default();
    let numbers = (0..100).map(|n| (format!("{n:0>1000}"), n));
    toy.numbers.extend(numbers);
    let mut snapshots = Snapshots::of(&toy, 110_000, 50_000);
    assert!(!snapshots.is_due(), "{snapshots:?}");
    snapshots = Snapshots::of(&toy, 330_000, 50_000);
    assert!(snapshots.is_due(), "{snapshots:?}");
}

#[test]
fn an_old_log_with_part_of_a_snapshot_behind_it_gives_the_same_state() {
    let mut rng = Rng::new(7);
    let now = Now::default();
    let apply = |toy: &mut Toy, records: &[Record]| {
        records.iter().for_each(|r| toy.replay(&r.key, r.value.as_deref(), now).unwrap());
    };
    let mut log = Vec::new();
    for _ in 0..200 {
        let name = format!("k{}", rng.below(12));
        let value = rng.percent(70).then(|| rng.below(1000) as i64);
        log.push(record(&name, value));
        let mut live = Toy::default();
        apply(&mut live, &log);
        let mut snapshot = Vec::new();
        live.live(&mut |r| snapshot.push(r));
        for part in 0..=snapshot.len() {
            let mut toy = Toy::default();
            apply(&mut toy, &log);
            apply(&mut toy, &snapshot[..part]);
            assert_eq!(toy.numbers, live.numbers);
        }
        let mut toy = Toy::default();
        apply(&mut toy, &snapshot);
        assert_eq!(toy.numbers, live.numbers);
    }
}

#[tokio::test(start_paused = true)]
async fn compressed_batches_are_read_and_control_batches_passed_over() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let partition = world.partition();
    partition.open().await.unwrap();
    let builder = BatchBuilder::new().record(NOW, Some(b"a"), Some(b"1"), &[]).record(NOW, Some(b"b"), Some(b"2"), &[]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(builder.payload()).unwrap();
    let packed = gzip.finish().unwrap();
    let bad = BatchBuilder::new()
        .record(NOW, Some(b"c"), Some(b"no number"), &[])
        .record(NOW, None, Some(b"7"), &[])
        .record(NOW, Some(b"d"), Some(b"4"), &[]);
    let mut effects = Effects::default();
    for bytes in [
        builder.build_with(1, &packed),
        BatchBuilder::new().producer(1, 0, 0).control().record(NOW, Some(b"zz"), Some(b"9"), &[]).build(),
        bad.build(),
        builder.build_with(1, &packed[..packed.len() / 2]),
        BatchBuilder::new().record(NOW, Some(b"e"), Some(b"5"), &[]).build(),
    ] {
        let header = storage::Batch::parse(&bytes).unwrap();
        partition.append_as_leader(&bytes, &header, -1, NOW, &mut effects).unwrap();
    }
    drop(effects);
    let shard = start(&world, &partition, NEVER);
    let expected = map(&[("a", 1), ("b", 2), ("d", 4), ("e", 5)]);
    assert_eq!(ask(&shard, Do::Get).await.unwrap().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_costs_itself_only() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, NEVER);
    let sizes: Vec<usize> = {
        for n in 0..10 {
            ask(&shard, set(&format!("k{n}"), n)).await.unwrap().unwrap();
        }
        (0..10)
            .map(|n| BatchBuilder::new().record(NOW, Some(format!("k{n}").as_bytes()), Some(b"0"), &[]).size_bytes())
            .collect()
    };
    shard.stop().await;
    partition.stop().await;
    world.directory.close(NOW).unwrap();
    drop((world, partition, shard));
    let log: PathBuf =
        disk.files().into_iter().find(|p| p.to_string_lossy().ends_with("t-0/00000000000000000000.log")).unwrap();
    let at: usize = sizes[..4].iter().sum();
    disk.flip_bit(&log, (at + HEADER_BYTES + 2) as u64, 3).unwrap();
    let world = simulated(&disk.kill(), &[]);
    let partition = world.partition();
    let shard = start(&world, &partition, 500);
    let got = ask(&shard, Do::Get).await.unwrap().unwrap();
    let expected: BTreeMap<String, i64> = (0..10).filter(|n| *n != 4).map(|n| (format!("k{n}"), n)).collect();
    assert_eq!(got, expected);
    assert_eq!(ask(&shard, set("k4", 44)).await.unwrap().unwrap()["k4"], 44);
    // Nothing takes the place of what only the log has.
    for n in 0..40 {
        ask(&shard, set("k5", n)).await.unwrap().unwrap();
    }
    shard.stop().await;
    assert_eq!((partition.offsets().unwrap().log_start, log_end(&partition)), (0, 51), "no snapshot");
}

/// One life: what was answered before must be there; then more is set until the power goes. Gives the name's numbers answered last, and those sent.
fn one_life(
    disk: &SimDisk,
    answered: &mut BTreeMap<String, i64>,
    sent: &mut BTreeMap<String, Vec<i64>>,
    rng: &mut Rng,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = match std::panic::catch_unwind(AssertUnwindSafe(|| simulated(disk, &[("segment.bytes", "16384")])))
        {
            Ok(world) => world,
            Err(_) if disk.crashed() => return,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let partition = world.partition();
        let shard = start(&world, &partition, 12_000);
        let got = match ask(&shard, Do::Get).await {
            Ok(got) => got.unwrap(),
            Err(_) if disk.crashed() => return,
            Err(e) => panic!("not loaded: {e}"),
        };
        for (name, value) in answered.iter() {
            // The one answered, or one that was sent after it.
            let later = sent[name].iter().any(|s| s == &got[name]);
            assert!(
                got.get(name).is_some_and(|g| g == value || (later && g > value)),
                "{name}: {got:?}, answered {value}"
            );
        }
        *sent = BTreeMap::new();
        *answered = got;
        for (name, value) in answered.iter() {
            sent.insert(name.clone(), vec![*value]);
        }
        let mut n = answered.values().max().copied().unwrap_or(0);
        while !disk.crashed() {
            let mut asked = Vec::new();
            for _ in 0..1 + rng.below(8) {
                n += 1;
                let name = format!("{:0>200}", rng.below(9));
                sent.entry(name.clone()).or_default().push(n);
                match shard.ask(set(&name, n)).await {
                    Ok(one) => asked.push((name, n, one)),
                    Err(_) => return,
                }
            }
            for (name, n, one) in asked {
                match one.answer().await {
                    Ok(Ok(_)) => drop(answered.insert(name, n)),
                    _ if disk.crashed() => return,
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_answered() {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let (mut disk, mut answered, mut sent) = (SimDisk::new(), BTreeMap::new(), BTreeMap::new());
        for _ in 0..4 {
            disk.crash_after_ops(rng.below(700));
            one_life(&disk, &mut answered, &mut sent, &mut rng);
            disk = disk.crash(rng.next_u64());
        }
    }
}

fn commit(group: usize, offset: i64) -> group::Event {
    let partition = |index| group::CommitPartition { index, offset, leader_epoch: -1, metadata: "".into() };
    let topic = group::CommitTopic {
        name: "t".into(),
        id: uuid::Uuid::from_u128(3),
        partitions: (0..3).map(partition).collect(),
    };
    group::Event::Commit(group::Commit {
        group: format!("group {group}").into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        retention_ms: None,
        topics: vec![topic],
    })
}

/// What every group has committed.
async fn committed(shard: &Shard<group::Groups>) -> Vec<String> {
    let mut all = Vec::new();
    for n in 0..20 {
        let group = format!("group {n}").into();
        let fetch = group::Event::Fetch(group::Fetch { group, topics: None });
        let got = shard.ask(fetch).await.unwrap().answer().await.unwrap();
        let group::Reply::Fetch(Ok(mut got)) = got else { panic!("{got:?}") };
        got.sort_by_key(|c| c.partition);
        all.push(format!("{got:?}"));
    }
    all
}

/// The machine of groups, whose snapshots are made and cut by the power at any moment.
#[test]
fn groups_outlive_their_snapshots() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let overrides = [("segment.bytes", "16384")];
        let start = |world: &World| {
            let settings = Config::local("/nowhere").broker(&Default::default()).groups;
            let settings = Arc::new(ArcSwap::from_pointee(settings));
            Shard::start_with(&world.shared.env, world.partition(), group::Groups::default(), settings, 20_000)
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let disk = SimDisk::new();
        let cut = 200 + rng.below(3000);
        let (mut before, mut last) = (Vec::new(), (0, 0));
        runtime().block_on(async {
            let world = simulated(&disk, &overrides);
            let shard = start(&world);
            before = committed(&shard).await;
            disk.crash_after_ops(cut);
            for n in 1.. {
                let group = rng.below(20) as usize;
                last = (group, n);
                let answer = shard.ask(commit(group, n)).await.unwrap().answer().await;
                let Ok(group::Reply::Commit(Ok(codes))) = answer else { break };
                if codes.concat().iter().any(Result::is_err) {
                    break;
                }
                let now = committed(&shard).await;
                assert_eq!(now.iter().zip(&before).filter(|(a, b)| a != b).count(), 1);
                before = now;
            }
            assert!(disk.crashed());
        });
        let disk = disk.crash(rng.next_u64());
        runtime().block_on(async {
            let world = simulated(&disk, &overrides);
            let after = committed(&start(&world)).await;
            for (n, (after, before)) in after.iter().zip(&before).enumerate() {
                // The one under way when the power went may have been made.
                let made = n == last.0 && after.matches(&format!("offset: {},", last.1)).count() == 3;
                assert!(after == before || made, "seed {seed}, group {n}: {after} {before}");
            }
        });
    }
}

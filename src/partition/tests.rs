//! A partition over a real directory, and over a simulated disk that fails.

use super::{
    leader::{Appended, check},
    waiters::{Acks, ReadyList, Watcher},
    *,
};
use crate::{Config, limits::PRODUCER_BATCHES};
use millstream_storage::{Batch, DirectoryOptions, Disk, record::BatchBuilder, sim::SimDisk};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A partition with its directory; the topic has `overrides`.
pub(crate) struct World {
    pub directory: Directory,
    vital: vital::Vital,
    pub shared: Arc<Shared>,
    overrides: BTreeMap<String, String>,
}

impl World {
    fn new(env: Env, path: &Path, overrides: &[(&str, &str)]) -> World {
        let options = DirectoryOptions {
            node_id: 1,
            cluster_id: "c".into(),
            directory_id: Uuid::from_u128(9).to_string(),
            now_ms: NOW,
            open_segments_max: 64,
        };
        let directory = Directory::open(env.disk().clone(), path, options).unwrap();
        let metrics = Metrics::new();
        let vital = vital::Vital::new(&env, &directory);
        let shared = Arc::new(Shared {
            flusher: Flusher::start(&vital, &metrics),
            env: env.clone(),
            directory: directory.clone(),
            metrics,
            node_id: 1,
            catalogue_stale: AtomicBool::new(false),
            disk_full: Notify::new(),
            room_wanted_bytes: AtomicU64::new(0),
            deleting: watch::Sender::default(),
            sweep: cleaner::Sweep::default(),
            open_logs: AtomicUsize::new(0),
            open_logs_max: 64,
            crowded: Notify::new(),
            figures: true,
            active: traffic::Active::default(),
        });
        let overrides = overrides.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        World { directory, vital, shared, overrides }
    }

    pub fn partition(&self) -> Arc<Partition> {
        let settings = Config::local("/nowhere").topic(&self.overrides, &Default::default());
        let topic = TopicState::new(Uuid::from_u128(7), "t".into(), Arc::new(settings));
        let facts =
            PartitionFacts { replicas: [1].into(), isr: [1].into(), leader: 1, leader_epoch: 3, partition_epoch: 0 };
        Partition::new(self.shared.clone(), Arc::new(topic), 0, &facts)
    }
}

fn real(path: &Path, overrides: &[(&str, &str)]) -> World {
    World::new(Env::real(), path, overrides)
}

pub(crate) fn simulated(disk: &SimDisk, overrides: &[(&str, &str)]) -> World {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    World::new(Env::simulated(disk, 1, NOW), Path::new("/d"), overrides)
}

fn batch(producer: (i64, i16, i32), records: usize) -> Vec<u8> {
    let mut b = BatchBuilder::new().producer(producer.0, producer.1, producer.2);
    for _ in 0..records {
        b.push(NOW, Some(b"k"), Some(b"value"), &[]);
    }
    b.build()
}

const ANYONE: (i64, i16, i32) = (-1, -1, -1);

async fn append(p: &Arc<Partition>, bytes: &[u8], acks: i16) -> Result<Appended, PartitionError> {
    let header = check(bytes, &p.topic().settings.load(), NOW)?;
    p.open().await?;
    p.append_as_leader(bytes, &header, acks, NOW, &mut Effects::default())
}

/// Waits as a produce with acks=all does; whether it was acknowledged.
async fn acknowledged(p: &Arc<Partition>, appended: Appended) -> bool {
    let Some((goal, offset)) = appended.wait else { return true };
    let acks = Acks::new();
    p.park(goal, offset, 0, &acks).unwrap();
    acks.done().await.is_empty()
}

fn query(offset: i64) -> Query {
    Query { offset, bytes_max: 1 << 20, at_least_one: true, current_leader_epoch: -1, last_fetched_epoch: -1 }
}

fn base_offsets(read: &Read) -> Vec<i64> {
    let mut bytes = read.slice.as_ref().map_or(&[][..], |s| &s.bytes[..]);
    let mut out = vec![];
    while let Ok(b) = Batch::parse(bytes) {
        out.push(b.base_offset);
        bytes = &bytes[b.size_bytes..];
    }
    out
}

#[tokio::test]
async fn a_durable_record_is_shown_and_acknowledged_after_its_flush_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let world = real(dir.path(), &[]);
    let p = world.partition();
    p.open().await.unwrap();
    let bytes = batch(ANYONE, 2);
    let header = check(&bytes, &p.topic().settings.load(), NOW).unwrap();
    let mut effects = Effects::default();
    let appended = p.append_as_leader(&bytes, &header, -1, NOW, &mut effects).unwrap();
    assert_eq!((appended.base_offset, appended.wait), (0, Some((Goal::Watermark, 2))));
    let one = p.append_as_leader(&bytes, &header, 1, NOW, &mut effects).unwrap();
    assert_eq!((one.base_offset, one.wait), (2, None), "acks=1 waits for nothing");
    // No round was asked for yet.
    let offsets = p.offsets().unwrap();
    assert_eq!((offsets.high_watermark, offsets.log_end), (0, 4));
    assert!(p.read(&query(0)).unwrap().slice.is_none());
    drop(effects);
    assert!(acknowledged(&p, appended).await);
    assert!(world.directory.failure().is_none());
    assert_eq!(p.reader.load().as_ref().unwrap().durable_end(), 4);
    assert_eq!(base_offsets(&p.read(&query(1)).unwrap()), [0, 2]);
    assert!(matches!(p.read(&query(5)), Err(PartitionError::OffsetOutOfRange { offset: 5, start: 0, end: 4 })));
}

#[tokio::test]
async fn a_relaxed_record_is_shown_at_once_and_wakes_the_long_poll() {
    let dir = tempfile::tempdir().unwrap();
    let world = real(dir.path(), &[("millstream.durability", "page-cache")]);
    let p = world.partition();
    p.open().await.unwrap();
    let list = ReadyList::new();
    let watcher = Watcher::new(&list, 0);
    p.waiters().watch(&watcher).unwrap();
    let appended = append(&p, &batch(ANYONE, 1), -1).await.unwrap();
    assert_eq!(p.offsets().unwrap().high_watermark, 1);
    assert_eq!(list.pop(), Some(0));
    assert!(acknowledged(&p, appended).await);
    // flush.messages makes the acknowledgement wait all the same.
    let world = real(&dir.path().join("b"), &[("millstream.durability", "page-cache"), ("flush.messages", "2")]);
    let p = world.partition();
    assert_eq!(append(&p, &batch(ANYONE, 1), 1).await.unwrap().wait, None);
    let second = append(&p, &batch(ANYONE, 1), 1).await.unwrap();
    assert_eq!(second.wait, Some((Goal::Durable, 2)));
    assert!(acknowledged(&p, second).await);
    assert_eq!(p.reader.load().as_ref().unwrap().durable_end(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_has_the_old_offset_and_waits_as_the_original_does_across_a_crash_too() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let p = world.partition();
    for i in 0..PRODUCER_BATCHES as i32 {
        append(&p, &batch((5, 0, i * 3), 3), 1).await.unwrap();
    }
    let again = append(&p, &batch((5, 0, 3), 3), -1).await.unwrap();
    assert_eq!((again.base_offset, again.wait), (3, Some((Goal::Watermark, 6))));
    assert!(matches!(append(&p, &batch((5, 0, 99), 3), -1).await, Err(PartitionError::Producer(_))));
    let last = append(&p, &batch((5, 0, 15), 1), -1).await.unwrap();
    assert!(acknowledged(&p, last).await);
    let live = match &*p.lock() {
        Phase::Open(open) => open.producers.clone(),
        phase => panic!("{phase:?}"),
    };
    // The process ends without a stop.
    let world = simulated(&disk.kill(), &[]);
    let p = world.partition();
    let again = append(&p, &batch((5, 0, 6), 3), -1).await.unwrap();
    assert_eq!(again.base_offset, 6);
    assert_eq!(p.offsets().unwrap().log_end, 16);
    match &*p.lock() {
        Phase::Open(open) => assert_eq!(open.producers.encode(), live.encode()),
        phase => panic!("{phase:?}"),
    }
    // A clean stop writes a snapshot; what is loaded from it is the same.
    p.stop().await;
    assert!(matches!(append(&p, &batch((5, 0, 16), 1), -1).await, Err(PartitionError::Stopping)));
    let p = world.partition();
    p.open().await.unwrap();
    match &*p.lock() {
        Phase::Open(open) => {
            assert_eq!(open.log.producer_snapshots()[0].0, 16);
            assert_eq!(open.producers.encode(), live.encode());
        }
        phase => panic!("{phase:?}"),
    };
}

#[tokio::test]
async fn a_cold_partition_answers_from_the_catalogue_and_opens_when_its_records_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let world = real(dir.path(), &[]);
    let p = world.partition();
    assert_eq!(p.offsets().unwrap().log_end, 0);
    assert!(p.read(&query(0)).unwrap().slice.is_none());
    assert!(!p.is_open());
    let appended = append(&p, &batch(ANYONE, 4), -1).await.unwrap();
    assert!(acknowledged(&p, appended).await);
    assert_eq!(world.shared.open_logs.load(Ordering::Relaxed), 1);
    p.cool().await;
    assert!(!p.is_open());
    assert_eq!(world.shared.open_logs.load(Ordering::Relaxed), 0);
    assert_eq!(p.offsets().unwrap(), Offsets { log_start: 0, last_stable: 4, high_watermark: 4, log_end: 4 });
    assert!(p.read(&query(4)).unwrap().slice.is_none());
    assert!(matches!(p.read(&query(0)), Err(PartitionError::NotOpen)));
    // Many at once share one opening.
    let (a, b) = tokio::join!(p.open(), p.open());
    a.unwrap();
    b.unwrap();
    assert_eq!(base_offsets(&p.read(&query(0)).unwrap()), [0]);
    assert_eq!(append(&p, &batch(ANYONE, 1), 1).await.unwrap().base_offset, 4);
}

#[tokio::test]
async fn a_deleted_topic_ends_what_waits_and_serves_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let world = real(dir.path(), &[]);
    let p = world.partition();
    p.open().await.unwrap();
    let bytes = batch(ANYONE, 1);
    let header = check(&bytes, &p.topic().settings.load(), NOW).unwrap();
    let mut effects = Effects::default();
    let appended = p.append_as_leader(&bytes, &header, -1, NOW, &mut effects).unwrap();
    let (goal, offset) = appended.wait.unwrap();
    let acks = Acks::new();
    p.park(goal, offset, 4, &acks).unwrap();
    let list = ReadyList::new();
    let watcher = Watcher::new(&list, 0);
    p.waiters().watch(&watcher).unwrap();
    p.delete().await;
    assert_eq!(acks.done().await, [4]);
    assert_eq!(list.pop(), Some(0));
    assert!(matches!(p.read(&query(0)), Err(PartitionError::Deleted)));
    assert!(matches!(append(&p, &bytes, 1).await, Err(PartitionError::Deleted)));
    assert!(world.directory.stat(p.id()).is_none());
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_flush_nothing_is_acknowledged_ever_and_settled_records_are_read() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let p = world.partition();
    let settled = append(&p, &batch(ANYONE, 1), -1).await.unwrap();
    assert!(acknowledged(&p, settled).await);
    p.open().await.unwrap();
    disk.fail_nth_sync(1);
    let lost = append(&p, &batch(ANYONE, 1), -1).await.unwrap();
    assert!(!acknowledged(&p, lost).await);
    // A retry of the flush would succeed, and lie.
    for acks in [-1, 0, 1] {
        assert!(matches!(append(&p, &batch(ANYONE, 1), acks).await, Err(PartitionError::Storage(_))));
    }
    assert!(!acknowledged(&p, lost).await, "parked after the failure");
    assert_eq!(base_offsets(&p.read(&query(0)).unwrap()), [0]);
    assert_eq!(p.offsets().unwrap().high_watermark, 1);
    assert!(world.directory.failure().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_finds_no_descriptors_is_tried_again_until_it_does() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let p = world.partition();
    p.open().await.unwrap();
    let bytes = batch(ANYONE, 1);
    let header = check(&bytes, &p.topic().settings.load(), NOW).unwrap();
    let mut effects = Effects::default();
    let appended = p.append_as_leader(&bytes, &header, -1, NOW, &mut effects).unwrap();
    disk.set_no_descriptors(true);
    drop(effects);
    let minute = tokio::time::timeout(Duration::from_secs(60), acknowledged(&p, appended)).await;
    assert!(minute.is_err(), "acknowledged without a flush, or refused for good");
    assert_eq!((p.offsets().unwrap().high_watermark, world.directory.failure()), (0, None));
    disk.set_no_descriptors(false);
    assert!(acknowledged(&p, appended).await);
}

#[tokio::test(start_paused = true)]
async fn relaxed_records_are_flushed_in_the_background_after_five_seconds() {
    let world = simulated(&SimDisk::new(), &[("millstream.durability", "page-cache")]);
    let p = world.partition();
    append(&p, &batch(ANYONE, 1), 1).await.unwrap();
    let acks = Acks::new();
    let started = tokio::time::Instant::now();
    p.park(Goal::Durable, 1, 0, &acks).unwrap();
    assert!(acks.done().await.is_empty());
    let waited = started.elapsed().as_millis() as i64;
    assert!((1..=flusher::BACKGROUND_MS + 1).contains(&waited), "{waited} ms");
}

/// Gives the topic of `p` other settings, as the reconciler does.
fn change(p: &Arc<Partition>, overrides: &[(&str, &str)]) {
    let overrides = overrides.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    p.topic().settings.store(Arc::new(Config::local("/nowhere").topic(&overrides, &Default::default())));
    p.settings_changed();
}

/// How long it takes until all that `p` holds is durable, ms.
async fn durable_after_ms(p: &Arc<Partition>) -> i64 {
    let (acks, started) = (Acks::new(), tokio::time::Instant::now());
    p.park(Goal::Durable, p.offsets().unwrap().log_end, 0, &acks).unwrap();
    assert!(acks.done().await.is_empty());
    started.elapsed().as_millis() as i64
}

#[tokio::test(start_paused = true)]
async fn changed_settings_move_the_flush_of_what_is_there() {
    let relaxed = ("millstream.durability", "page-cache");
    let world = simulated(&SimDisk::new(), &[relaxed]);
    let p = world.partition();
    append(&p, &batch(ANYONE, 1), 1).await.unwrap();
    change(&p, &[relaxed, ("flush.ms", "10")]);
    let ms = durable_after_ms(&p).await;
    assert!((1..=11).contains(&ms), "flush.ms is shorter now: {ms} ms");
    // The time that it had before does not count any more.
    change(&p, &[relaxed]);
    tokio::time::advance(Duration::from_millis(1000)).await;
    append(&p, &batch(ANYONE, 1), 1).await.unwrap();
    let ms = durable_after_ms(&p).await;
    assert!((flusher::BACKGROUND_MS - 1..=flusher::BACKGROUND_MS + 1).contains(&ms), "{ms} ms");
    append(&p, &batch(ANYONE, 1), 1).await.unwrap();
    change(&p, &[]);
    let ms = durable_after_ms(&p).await;
    assert!(ms <= 1, "durable now: {ms} ms");
    assert_eq!(p.offsets().unwrap().high_watermark, 3);
}

#[tokio::test(start_paused = true)]
async fn with_flush_messages_a_retry_waits_for_the_disk_as_the_original_does() {
    let world = simulated(&SimDisk::new(), &[("millstream.durability", "page-cache"), ("flush.messages", "1")]);
    let p = world.partition();
    p.open().await.unwrap();
    let bytes = batch((5, 0, 0), 2);
    let header = check(&bytes, &p.topic().settings.load(), NOW).unwrap();
    // Keeps the original's own flush from starting.
    let mut held = Effects::default();
    for acks in [1, -1] {
        let appended = p.append_as_leader(&bytes, &header, acks, NOW, &mut held).unwrap();
        assert_eq!((appended.base_offset, appended.wait), (0, Some((Goal::Durable, 2))), "acks={acks}");
    }
    let again = append(&p, &bytes, 1).await.unwrap();
    assert_eq!((again.base_offset, again.wait), (0, Some((Goal::Durable, 2))));
    let flushed = tokio::time::timeout(Duration::from_secs(1), acknowledged(&p, again)).await;
    assert_eq!(flushed, Ok(true), "the retry starts the flush itself");
    assert_eq!(p.reader.load().as_ref().unwrap().durable_end(), 2);
    // On disk already: nothing to wait for.
    assert_eq!(append(&p, &bytes, 1).await.unwrap().wait, None);
    assert_eq!(append(&p, &bytes, 0).await.unwrap().wait, None);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn with_flush_messages_acks_all_of_a_durable_topic_waits_for_the_watermark() {
    let world = simulated(&SimDisk::new(), &[("flush.messages", "1")]);
    let p = world.partition();
    for (sequence, again) in [(0, false), (0, true)] {
        let mut held = Effects::default();
        let bytes = batch((5, 0, sequence), 1);
        let header = check(&bytes, &p.topic().settings.load(), NOW).unwrap();
        p.open().await.unwrap();
        let mut wait = |acks| p.append_as_leader(&bytes, &header, acks, NOW, &mut held).unwrap().wait;
        assert_eq!(wait(-1), Some((Goal::Watermark, 1)), "again: {again}");
        assert_eq!(wait(1), Some((Goal::Durable, 1)), "again: {again}");
    }
}

#[tokio::test]
async fn a_reader_of_an_epoch_that_never_was_is_out_of_range_and_does_not_spin() {
    let dir = tempfile::tempdir().unwrap();
    let world = real(dir.path(), &[("millstream.durability", "page-cache")]);
    let p = world.partition();
    p.open().await.unwrap();
    let read = |offset, last_fetched_epoch| p.read(&Query { last_fetched_epoch, ..query(offset) });
    // The leader's epoch is 3, and known before its first record.
    assert_eq!(read(0, 3).unwrap().diverging, None);
    assert_eq!(read(5, 3).unwrap().diverging, Some((3, 0)));
    assert!(matches!(read(0, 4), Err(PartitionError::OffsetOutOfRange { offset: 0, start: 0, end: 0 })));
    append(&p, &batch(ANYONE, 2), -1).await.unwrap();
    assert_eq!(base_offsets(&read(0, 3).unwrap()), [0]);
    assert_eq!(base_offsets(&read(0, 2).unwrap()), [0], "older than all known: ends where the first one begins");
    assert_eq!(read(1, 2).unwrap().diverging, Some((2, 0)));
    assert!(matches!(read(1, 4), Err(PartitionError::OffsetOutOfRange { offset: 1, start: 0, end: 2 })));
}

#[tokio::test(start_paused = true)]
async fn a_vital_task_that_panics_fails_the_directory_and_says_why_and_one_that_ends_does_not() {
    let world = simulated(&SimDisk::new(), &[]);
    world.vital.spawn("good one", async {}).await.unwrap();
    let aborted = world.vital.spawn("aborted one", std::future::pending());
    aborted.abort();
    assert!(aborted.await.unwrap_err().is_cancelled());
    let quiet = tokio::time::timeout(Duration::from_secs(60), world.vital.died()).await;
    assert!(quiet.is_err() && world.directory.failure().is_none());
    world.vital.spawn("bad one", async { panic!("of all {}", "things") }).await.unwrap();
    world.vital.spawn("next one", async { panic!("too") }).await.unwrap();
    assert_eq!(&*world.vital.died().await, "the bad one panicked: of all things");
    assert_eq!(world.directory.failure().unwrap(), "the bad one panicked: of all things");
}

#[tokio::test]
async fn a_topic_created_anew_opens_its_log_when_the_old_data_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let world = real(dir.path(), &[]);
    let p = world.partition();
    world.shared.deleting.send_modify(|names| _ = names.insert("t".into(), 1));
    let opening = p.clone();
    let opened = tokio::spawn(async move { opening.open().await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!opened.is_finished() && !p.is_open());
    world.shared.deleting.send_modify(|names| _ = names.remove("t"));
    opened.await.unwrap().unwrap();
    assert!(p.is_open());
}

#[test]
fn a_cold_partition_is_small() {
    // Ten thousand of them fit into 40 MiB with all else.
    assert!(size_of::<Partition>() <= 384, "{} bytes", size_of::<Partition>());
}

#[test]
fn what_a_topic_does_not_allow_is_refused_before_any_lock() {
    let settings = |overrides: &[(&str, &str)]| {
        let overrides = overrides.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::local("/nowhere").topic(&overrides, &Default::default())
    };
    let plain = settings(&[]);
    let good = batch(ANYONE, 2);
    assert!(check(&good, &plain, NOW).is_ok());
    let two = [good.clone(), good.clone()].concat();
    assert!(matches!(check(&two, &plain, NOW), Err(PartitionError::InvalidRecord(_))));
    let mut flipped = good.clone();
    flipped[70] ^= 1;
    assert!(matches!(check(&flipped, &plain, NOW), Err(PartitionError::Batch(_))));
    assert!(matches!(check(&good[..50], &plain, NOW), Err(PartitionError::Batch(_))));
    let small = settings(&[("max.message.bytes", "80")]);
    assert!(matches!(check(&good, &small, NOW), Err(PartitionError::TooLarge { max_bytes: 80, .. })));
    let keyless = BatchBuilder::new().producer(-1, -1, -1).record(NOW, None, Some(b"v"), &[]).build();
    assert!(check(&keyless, &plain, NOW).is_ok());
    let compact = settings(&[("cleanup.policy", "compact")]);
    assert!(check(&good, &compact, NOW).is_ok());
    assert!(matches!(check(&keyless, &compact, NOW), Err(PartitionError::InvalidRecord(_))));
    let control = BatchBuilder::new().producer(1, 0, 0).control().record(NOW, None, None, &[]).build();
    assert!(matches!(check(&control, &plain, NOW), Err(PartitionError::InvalidRecord(_))));
    let transactional = BatchBuilder::new().producer(1, 0, 0).transactional().record(NOW, None, None, &[]).build();
    assert!(matches!(check(&transactional, &plain, NOW), Err(PartitionError::InvalidTransactionState(_))));
    let tight = settings(&[("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "1000")]);
    assert!(check(&good, &tight, NOW + 1000).is_ok() && check(&good, &tight, NOW - 1000).is_ok());
    assert!(matches!(check(&good, &tight, NOW + 1001), Err(PartitionError::InvalidTimestamp { .. })));
    assert!(matches!(check(&good, &tight, NOW - 1001), Err(PartitionError::InvalidTimestamp { .. })));
}

/// Appends `records` records without the round that an append asks for.
async fn append_unflushed(p: &Arc<Partition>, records: usize) -> Appended {
    p.open().await.unwrap();
    let bytes = batch(ANYONE, records);
    let header = check(&bytes, &p.topic().settings.load(), NOW).unwrap();
    let mut effects = Effects::default();
    let appended = p.append_as_leader(&bytes, &header, -1, NOW, &mut effects).unwrap();
    effects.dirty.clear();
    appended
}

/// As [`World::partition`], number `index`.
fn numbered(world: &World, index: i32) -> Arc<Partition> {
    let p = world.partition();
    let facts =
        PartitionFacts { replicas: [1].into(), isr: [1].into(), leader: 1, leader_epoch: 3, partition_epoch: 0 };
    Partition::new(world.shared.clone(), p.topic().clone(), index, &facts)
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_an_opening_that_waits_for_the_name() {
    let world = simulated(&SimDisk::new(), &[]);
    let p = world.partition();
    // An older topic of the name is being deleted; this one is opened, and deleted too.
    world.shared.deleting.send_modify(|names| _ = names.insert("t".into(), 2));
    let opening = p.clone();
    let opened = tokio::spawn(async move { opening.open().await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!opened.is_finished());
    world.shared.deleting.send_modify(|names| _ = names.insert("t".into(), 1));
    // The name stays taken until this deletion is done. (The clock is a paused one: it moves when nothing else does.)
    tokio::time::timeout(std::time::Duration::from_secs(60), p.delete()).await.expect("both wait for each other");
    assert!(matches!(opened.await.unwrap(), Err(PartitionError::Deleted)));
    assert!(!p.is_open());
    assert!(world.directory.partitions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_log_closed_between_its_flush_and_the_end_of_the_round_leaves_nobody_waiting() {
    for (overrides, goal) in [
        (&[][..], Goal::Watermark),
        (&[("millstream.durability", "page-cache"), ("flush.messages", "1")][..], Goal::Durable),
    ] {
        let world = simulated(&SimDisk::new(), overrides);
        let p = world.partition();
        let appended = append_unflushed(&p, 2).await;
        assert_eq!(appended.wait, Some((goal, 2)));
        let acks = Acks::new();
        p.park(goal, 2, 0, &acks).unwrap();
        // The round has made this log durable and is still at another.
        let dirty = p.reader.load().as_ref().unwrap().dirty().unwrap();
        world.directory.flush(&[dirty]).ends.pop().unwrap().unwrap();
        assert!(!acks.is_done());
        p.cool().await;
        assert!(!p.is_open());
        // Now it comes to settle what it flushed.
        p.settle(&mut Wakers::default());
        assert!(acks.is_done() && acks.take_failed().is_empty(), "{goal:?}");
        assert_eq!(p.high_watermark.load(Ordering::Acquire), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_log_is_closed_takes_the_partition_offline_and_nobody_waits() {
    let world = simulated(&SimDisk::new(), &[]);
    let p = world.partition();
    let appended = append(&p, &batch(ANYONE, 1), -1).await.unwrap();
    assert!(acknowledged(&p, appended).await);
    if let Phase::Open(open) = &mut *p.lock() {
        open.producers = Producers::that_panic();
    }
    p.cool().await;
    let limit = std::time::Duration::from_secs(60);
    let opened = tokio::time::timeout(limit, p.open()).await.expect("busy for ever");
    assert!(matches!(opened, Err(PartitionError::Storage(_))), "{opened:?}");
    tokio::time::timeout(limit, p.stop()).await.expect("busy for ever");
}

#[tokio::test(start_paused = true)]
async fn a_stop_whose_flush_fails_writes_down_no_producers_and_acknowledges_nothing() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let p = world.partition();
    let settled = append(&p, &batch((5, 0, 0), 1), -1).await.unwrap();
    assert!(acknowledged(&p, settled).await);
    let appended = append_unflushed(&p, 1).await;
    let acks = Acks::new();
    let (goal, offset) = appended.wait.unwrap();
    p.park(goal, offset, 0, &acks).unwrap();
    disk.fail_nth_sync(1);
    p.stop().await;
    assert_eq!(acks.done().await, [0]);
    let limit = std::time::Duration::from_secs(60);
    let after = tokio::time::timeout(limit, acknowledged(&p, appended)).await;
    assert_eq!(after, Ok(false), "parked after the stop");
    let files = disk.read_dir(Path::new("/d/t-0")).unwrap();
    assert!(!files.iter().any(|f| f.name.ends_with(".snapshot")), "{files:?}");
}

#[tokio::test(start_paused = true)]
async fn a_producer_snapshot_above_the_end_of_the_log_is_gone_before_the_log_is_that_long() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let p = world.partition();
    append(&p, &batch((5, 0, 0), 3), 1).await.unwrap();
    // A crash took the records that these know of.
    let later = (0..=100).fold(Producers::default(), |mut producers, i| {
        let sent = Batch::parse(&batch((6, 0, i), 1)).unwrap();
        producers.record(&sent, i64::from(i), NOW, NOW);
        producers
    });
    if let Phase::Open(open) = &*p.lock() {
        open.log.flush().unwrap();
        open.log.write_producer_snapshot(4, &later.encode()).unwrap();
    }
    let world = simulated(&disk.kill(), &[]);
    let p = world.partition();
    append(&p, &batch((5, 0, 3), 2), 1).await.unwrap();
    if let Phase::Open(open) = &*p.lock() {
        assert_eq!(open.log.reader().log_end(), 5);
        assert!(open.log.producer_snapshots().is_empty());
    };
}

#[tokio::test(start_paused = true)]
async fn in_a_failed_directory_no_log_is_closed_that_can_still_be_read() {
    let disk = SimDisk::new();
    let world = simulated(&disk, &[]);
    let (p, other) = (world.partition(), numbered(&world, 1));
    let settled = append(&p, &batch(ANYONE, 1), -1).await.unwrap();
    assert!(acknowledged(&p, settled).await);
    other.open().await.unwrap();
    disk.fail_nth_sync(1);
    let lost = append(&other, &batch(ANYONE, 1), -1).await.unwrap();
    assert!(!acknowledged(&other, lost).await);
    assert!(world.directory.failure().is_some());
    p.cool().await;
    other.cool().await;
    assert!(p.is_open() && other.is_open());
    assert_eq!(base_offsets(&p.read(&query(0)).unwrap()), [0]);
    assert_eq!(other.offsets().unwrap().high_watermark, 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_a_panic_took_offline_tells_no_offsets_of_unflushed_records() {
    let world = simulated(&SimDisk::new(), &[]);
    let p = world.partition();
    append_unflushed(&p, 2).await;
    let under_lock = p.clone();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = under_lock.lock();
        panic!("under the lock");
    }));
    assert!(panicked.is_err());
    let opened = p.open().await;
    assert!(matches!(opened, Err(PartitionError::Storage(_))), "{opened:?}");
    assert!(matches!(p.offsets(), Err(PartitionError::NotOpen)), "{:?}", p.offsets());
    assert!(matches!(p.read(&query(2)), Err(PartitionError::NotOpen)));
}

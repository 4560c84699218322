use super::*;
use crate::metadata::{ConfigResource, NewTopic, apply::tests::new_topic};
use millstream_storage::{
    DirectoryOptions, Disk, PartitionId,
    sim::{Rng, SimDisk},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const NOW_MS: i64 = 1_700_000_000_000;

/// A node of which only the metadata runs.
struct Node {
    env: Env,
    directory: Directory,
    quorum: Quorum,
}

fn options() -> QuorumOptions {
    QuorumOptions {
        node_id: 1,
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        directory_id: Uuid::from_u128(5),
        advertised: None,
        rack: Some("r".into()),
    }
}

fn open(env: &Env, path: &Path) -> Result<Directory, String> {
    let options = DirectoryOptions {
        node_id: 1,
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        directory_id: Uuid::from_u128(5).to_string(),
        now_ms: env.now_ms(),
        open_segments_max: 64,
    };
    Directory::open(env.disk().clone(), path, options).map_err(|e| format!("{e:?}"))
}

impl Node {
    async fn boot(env: Env, path: &Path) -> Result<Node, String> {
        let directory = open(&env, path)?;
        let quorum = Quorum::start(env.clone(), directory.clone(), options()).await?;
        Ok(Node { env, directory, quorum })
    }
    async fn on(disk: &SimDisk) -> Result<Node, String> {
        Node::boot(Env::simulated(Arc::new(disk.clone()), 1, NOW_MS), &path()).await
    }
    async fn stop(self) {
        self.quorum.stop().await;
        self.directory.close(self.env.now_ms()).unwrap();
    }
    async fn create(&self, id: u128, name: &str) -> Result<Vec<Outcome>, ProposeError> {
        self.quorum.propose(create(id, name)).await
    }
}

fn path() -> PathBuf {
    "/data".into()
}

fn create(id: u128, name: &str) -> Command {
    Command::CreateTopics { topics: vec![new_topic(id, name, &[&[1]])] }
}

fn done() -> Result<Vec<Outcome>, ProposeError> {
    Ok(vec![Outcome::Done])
}

/// What a restart must keep: all but what this broker's registration changes.
fn facts(quorum: &Quorum) -> Image {
    Image { index: 0, brokers: Default::default(), ..(*quorum.image()).clone() }
}

#[tokio::test]
async fn a_new_cluster_takes_proposals_and_a_restart_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::boot(Env::real(), dir.path()).await.unwrap();
    let image = node.quorum.image();
    assert_eq!((&*image.cluster_id, image.feature_level), ("AAAAAAAAAAAAAAAAAAAAAA", FEATURE_LEVEL));
    let broker = image.brokers.get(&1).unwrap();
    assert_eq!((broker.directory_id, broker.rack.as_deref()), (Uuid::from_u128(5), Some("r")));

    let mut watch = node.quorum.watch();
    watch.mark_unchanged();
    assert_eq!(node.create(1, "a").await, done());
    assert!(watch.has_changed().unwrap(), "the image is out before the answer");
    assert_eq!(node.create(1, "a").await, Ok(vec![Outcome::Refused(Refusal::TopicExists)]));
    let take = Command::AllocateProducerIds { node_id: 1, count: 1000 };
    assert_eq!(node.quorum.propose(take.clone()).await, Ok(vec![Outcome::ProducerIds { first: 0, count: 1000 }]));
    let before = facts(&node.quorum);
    let epoch = node.quorum.image().brokers.get(&1).unwrap().epoch;
    node.stop().await;

    for _ in 0..3 {
        let node = Node::boot(Env::real(), dir.path()).await.unwrap();
        assert_eq!(facts(&node.quorum), before);
        assert!(node.quorum.image().brokers.get(&1).unwrap().epoch > epoch);
        node.stop().await;
    }
    let node = Node::boot(Env::real(), dir.path()).await.unwrap();
    assert_eq!(node.quorum.propose(take).await, Ok(vec![Outcome::ProducerIds { first: 1000, count: 1000 }]));
    node.stop().await;
}

#[tokio::test]
async fn a_killed_node_keeps_what_was_answered() {
    let mut disk = SimDisk::new();
    for round in 0..5u128 {
        let node = Node::on(&disk).await.unwrap();
        assert_eq!(node.quorum.image().topics.len() as u128, round);
        assert_eq!(node.create(round + 1, &format!("t{round}")).await, done());
        // A power cut and the end of the process by turns.
        disk = if round % 2 == 0 { disk.crash(round as u64) } else { disk.kill() };
    }
    assert_eq!(Node::on(&disk).await.unwrap().quorum.image().topics.len(), 5);
}

#[tokio::test]
async fn a_node_killed_before_its_start_was_durable_starts_again() {
    let mut disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    assert_eq!(node.create(1, "a").await, done());
    node.stop().await;
    for round in 0..8 {
        let node = Node::on(&disk).await.unwrap();
        assert!(node.quorum.image().topic("a").is_some());
        disk = if round % 2 == 0 { disk.crash(round) } else { disk.kill() };
    }
    let node = Node::on(&disk).await.unwrap();
    assert_eq!(node.create(2, "b").await, done());
    let node = Node::on(&disk.crash(9)).await.unwrap();
    assert_eq!(node.quorum.image().topics.len(), 2);
}

/// The very first boot, killed or powered off after each of its operations on the disk: the next boot succeeds, and keeps what was answered.
#[tokio::test]
async fn a_first_boot_may_end_after_any_operation() {
    for power_cut in [false, true] {
        let mut n = 0;
        loop {
            let disk = SimDisk::new();
            disk.crash_after_ops(n);
            let mut answered = false;
            if let Ok(node) = Node::on(&disk).await {
                answered = node.create(1, "a").await.is_ok();
                if !disk.crashed() {
                    node.quorum.stop().await;
                }
            }
            let finished = !disk.crashed();
            let left = if power_cut { disk.crash(n) } else { disk.kill() };
            let node =
                Node::on(&left).await.unwrap_or_else(|e| panic!("after {n} operations, power cut {power_cut}: {e}"));
            let there = node.quorum.image().topic("a").is_some();
            assert!(there || !answered, "the topic was lost, after {n} operations, power cut {power_cut}");
            assert_eq!(node.create(2, "b").await, done(), "after {n} operations, power cut {power_cut}");
            node.stop().await;
            if finished {
                break;
            }
            n += 1;
            assert!(n < 500, "a boot takes {n} operations and is not done");
        }
        assert!(n > 5, "only {n} operations");
    }
}

/// Several lives of a node, each ended at a random operation, by a power cut, by kill -9 or by a stop: what was answered is there.
#[tokio::test]
async fn what_was_answered_outlives_any_number_of_crashes() {
    let seeds = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new();
        let mut answered: Vec<u128> = Vec::new();
        let mut next = 1;
        for life in 0..6 {
            disk.crash_after_ops(rng.below(120));
            let story = format!("SEEDS={} seed {seed}, life {life}", seed + 1);
            match Node::on(&disk).await {
                Err(why) => assert!(disk.crashed(), "{story}: {why}"),
                Ok(node) => {
                    for id in &answered {
                        let topic = node.quorum.image().topic_by_id(Uuid::from_u128(*id)).cloned();
                        assert!(topic.is_some(), "{story}: topic {id} is lost");
                    }
                    for _ in 0..rng.below(25) {
                        let id = next;
                        next += 1;
                        match node.create(id, &format!("t{id}")).await {
                            Ok(outcomes) => {
                                assert_eq!(outcomes, [Outcome::Done], "{story}");
                                answered.push(id);
                            }
                            Err(e) => assert!(disk.crashed(), "{story}: {e}"),
                        }
                    }
                    if rng.percent(40) {
                        node.quorum.stop().await;
                        let _ = node.directory.close(NOW_MS);
                    }
                }
            }
            disk = if rng.percent(50) { disk.crash(rng.next_u64()) } else { disk.kill() };
        }
        let node = Node::on(&disk).await.unwrap_or_else(|e| panic!("SEEDS={} seed {seed}: {e}", seed + 1));
        let image = node.quorum.image();
        for id in answered {
            assert!(image.topic_by_id(Uuid::from_u128(id)).is_some(), "SEEDS={} seed {seed}: {id} is lost", seed + 1);
        }
    }
}

#[tokio::test]
async fn proposals_made_at_once_share_entries() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::boot(Env::real(), dir.path()).await.unwrap();
    let before = node.quorum.image().index;
    let tasks: Vec<_> = (0..1000u128)
        .map(|n| {
            let quorum = node.quorum.clone();
            node.env.spawn("test", async move { quorum.propose(create(n + 1, &format!("t.{n}"))).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), done());
    }
    assert_eq!(node.quorum.image().topics.len(), 1000);
    let entries = node.quorum.image().index - before;
    assert!(entries <= 100, "{entries} entries for 1,000 proposals made at once");
    node.stop().await;
}

#[tokio::test]
async fn snapshots_cut_the_log_and_restore_the_image() {
    let mut disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    for n in 0..2 * limits::METADATA_SNAPSHOT_ENTRIES + 50 {
        let value = Some(n.to_string());
        let changes = vec![(ConfigResource::Group(format!("g{}", n % 7)), BTreeMap::from([("k".to_string(), value)]))];
        assert_eq!(node.quorum.propose(Command::AlterConfigs { changes }).await, done());
    }
    let before = facts(&node.quorum);
    let snapshots = disk.files().iter().filter(|p| p.ends_with("metadata.snapshot")).count();
    assert_eq!(snapshots, 1);
    let mut node = Some(node);
    for round in 0..4 {
        if let Some(node) = node.take().filter(|_| round == 0) {
            node.stop().await;
        }
        disk = if round % 2 == 0 { disk.kill() } else { disk.crash(round) };
        let again = Node::on(&disk).await.unwrap();
        assert_eq!(facts(&again.quorum), before);
        node = Some(again);
    }
    let id = PartitionId { topic_id: crate::metadata::METADATA_TOPIC_ID.into_bytes(), partition: 0 };
    let node = node.unwrap();
    node.stop().await;
    let env = Env::simulated(Arc::new(disk), 1, NOW_MS);
    let stat = open(&env, &path()).unwrap().stat(id).unwrap();
    assert!(stat.log_start > limits::METADATA_SNAPSHOT_ENTRIES as i64, "{stat:?}");
}

/// A snapshot, and the cut of the log after it, may end after any operation (of which each fourth is tried; `EACH=1` tries all).
#[tokio::test]
async fn a_snapshot_may_be_cut_short_anywhere() {
    let each = std::env::var("EACH").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let set = |n: u64| {
        let value = Some(n.to_string());
        Command::AlterConfigs {
            changes: vec![(ConfigResource::BrokerDefault, BTreeMap::from([("n".to_string(), value)]))],
        }
    };
    let base = SimDisk::new();
    let node = Node::on(&base).await.unwrap();
    let mut last = 0;
    while node.quorum.image().index + 20 < limits::METADATA_SNAPSHOT_ENTRIES {
        last += 1;
        assert_eq!(node.quorum.propose(set(last)).await, done());
    }
    node.stop().await;
    let (mut n, mut snapshots) = (0, 0);
    loop {
        let disk = base.kill();
        disk.crash_after_ops(n);
        let mut answered = last;
        if let Ok(node) = Node::on(&disk).await {
            for value in last + 1..last + 40 {
                match node.quorum.propose(set(value)).await {
                    Ok(_) => answered = value,
                    Err(_) => break,
                }
            }
            if !disk.crashed() {
                node.quorum.stop().await;
            }
        }
        let finished = !disk.crashed();
        let left = if (n / each).is_multiple_of(2) { disk.crash(n) } else { disk.kill() };
        snapshots += usize::from(left.files().contains(&path().join("metadata.snapshot")));
        let node = Node::on(&left).await.unwrap_or_else(|e| panic!("after {n} operations: {e}"));
        let found = node.quorum.image().config(&ConfigResource::BrokerDefault).unwrap()["n"].parse::<u64>().unwrap();
        assert!(found >= answered, "after {n} operations: {found}, but {answered} was answered");
        if finished {
            break;
        }
        n += each;
    }
    assert!(n > 60 && snapshots > 0, "{n} operations, {snapshots} snapshots");
}

#[tokio::test]
async fn large_entries_bring_a_snapshot_before_their_number_does() {
    let disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    let value = "v".repeat(limits::METADATA_SNAPSHOT_BYTES / 2);
    for n in 0..3 {
        let configs = BTreeMap::from([("k".to_string(), value.clone())]);
        let topics = vec![NewTopic { configs, ..new_topic(n + 1, &format!("t{n}"), &[&[1]]) }];
        assert_eq!(node.quorum.propose(Command::CreateTopics { topics }).await, done());
    }
    let snapshot = path().join("metadata.snapshot");
    while !disk.files().contains(&snapshot) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = facts(&node.quorum);
    assert_eq!(facts(&Node::on(&disk.crash(1)).await.unwrap().quorum), before);
}

#[tokio::test]
async fn a_failed_flush_makes_the_quorum_read_only_and_the_image_stays() {
    let disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    assert_eq!(node.create(1, "a").await, done());
    disk.fail_nth_sync(1);
    let failed = node.create(2, "b").await;
    assert!(matches!(failed, Err(ProposeError::ReadOnly(_))), "{failed:?}");
    assert!(node.quorum.failure().is_some());
    let later = node.create(3, "c").await;
    assert!(matches!(later, Err(ProposeError::ReadOnly(_))), "{later:?}");
    assert!(node.quorum.image().topic("a").is_some());
    assert!(node.quorum.image().topic("b").is_none());
    node.quorum.stop().await;

    let node = Node::on(&disk.crash(3)).await.unwrap();
    assert!(node.quorum.image().topic("a").is_some());
    assert_eq!(node.quorum.failure(), None);
    assert_eq!(node.create(4, "d").await, done());
}

#[tokio::test]
async fn on_a_full_disk_topics_can_still_be_deleted() {
    let disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    assert_eq!(node.create(1, "a").await, done());
    let ballast = path().join("metadata.ballast");
    while !disk.files().contains(&ballast) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    disk.set_capacity(Some(disk.used_bytes()));
    let fill = |n: u128| NewTopic {
        configs: BTreeMap::from([("k".to_string(), "v".repeat(50_000))]),
        ..new_topic(n, &format!("t{n}"), &[&[1]])
    };
    let mut n = 10;
    let refused = loop {
        n += 1;
        match node.quorum.propose(Command::CreateTopics { topics: vec![fill(n)] }).await {
            Ok(outcomes) => assert_eq!(outcomes, [Outcome::Done]),
            Err(e) => break e,
        }
        assert!(n < 1000, "the disk never fills");
    };
    assert!(matches!(refused, ProposeError::ReadOnly(_)), "{refused:?}");
    assert_eq!(node.quorum.failure(), None);
    let delete = Command::DeleteTopics { ids: vec![Uuid::from_u128(1)] };
    assert_eq!(node.quorum.propose(delete).await, done());
    disk.set_capacity(None);
    assert_eq!(node.create(2, "b").await, done());
    node.stop().await;
}

#[tokio::test]
async fn a_full_disk_does_not_keep_a_node_from_starting() {
    let disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    assert_eq!(node.create(1, "a").await, done());
    let disk = disk.kill();
    disk.set_capacity(Some(disk.used_bytes()));
    let node = Node::on(&disk).await.unwrap();
    assert!(node.quorum.image().topic("a").is_some());
}

#[tokio::test]
async fn a_stopped_quorum_refuses_and_can_be_stopped_again() {
    let disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    node.quorum.stop().await;
    assert_eq!(node.create(1, "a").await, Err(ProposeError::Stopping));
    node.quorum.stop().await;
    assert!(node.quorum.image().brokers.contains_key(&1));
}

#[tokio::test]
async fn a_command_too_large_for_an_entry_is_refused_alone() {
    let disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    let configs = BTreeMap::from([("k".to_string(), "v".repeat(limits::METADATA_ENTRY_BYTES_MAX))]);
    let topics = vec![NewTopic { configs, ..new_topic(1, "a", &[&[1]]) }];
    let refused = node.quorum.propose(Command::CreateTopics { topics }).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
    assert_eq!(node.create(1, "a").await, done());
    // The largest that is taken, in bytes that JSON writes as six each.
    let configs = BTreeMap::from([("k".to_string(), "\u{1}".repeat(limits::METADATA_ENTRY_BYTES_MAX - 1024))]);
    let topics = vec![NewTopic { configs, ..new_topic(2, "b", &[&[1]]) }];
    assert_eq!(node.quorum.propose(Command::CreateTopics { topics }).await, done());
    node.stop().await;
}

#[tokio::test]
async fn damage_is_a_sentence_not_a_new_cluster() {
    for name in ["metadata.vote", "metadata.snapshot"] {
        let disk = SimDisk::new();
        let node = Node::on(&disk).await.unwrap();
        for n in 0..limits::METADATA_SNAPSHOT_ENTRIES + 10 {
            let _ = node.quorum.propose(Command::AllocateProducerIds { node_id: 1, count: n as i64 }).await.unwrap();
        }
        node.stop().await;
        let file = path().join(name);
        assert!(disk.files().contains(&file), "{:?}", disk.files());
        disk.flip_bit(&file, 3, 1).unwrap();
        let refused = Node::on(&disk.kill()).await.err().unwrap();
        assert!(refused.contains(name) && refused.contains("damaged"), "{refused}");
    }
}

#[tokio::test]
async fn a_lost_vote_is_taken_from_the_log() {
    let disk = SimDisk::new();
    let node = Node::on(&disk).await.unwrap();
    assert_eq!(node.create(1, "a").await, done());
    node.stop().await;
    let disk = disk.kill();
    disk.remove_file(&path().join("metadata.vote")).unwrap();
    let node = Node::on(&disk).await.unwrap();
    assert!(node.quorum.image().topic("a").is_some());
    assert_eq!(node.create(2, "b").await, done());
}

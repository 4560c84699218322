//! Power loss under the group coordinators: what was committed and answered, or shown, is there after it; a commit is there whole or not at all; and a member that was told its
//! generation goes on with it.

use crate::client::{Client, TOPIC};
use kafka_protocol::{
    messages::{
        DeleteTopicsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
        OffsetFetchRequest, SyncGroupRequest, TopicName,
        join_group_request::JoinGroupRequestProtocol,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};
use millstream::{Config, Env, broker::Broker, metrics::Metrics, server};
use millstream_storage::sim::{Rng, SimDisk};
use std::{path::PathBuf, sync::Arc, time::Duration};

const LIVES: u64 = 5;
const GROUPS: usize = 7;
pub const PARTITIONS: i32 = 3;
const NOT_COORDINATOR: i16 = 16;

/// What is known of a group's offsets.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Answered or shown.
    least: i64,
    sent: i64,
}

/// A member that was answered: its id and generation.
type Member = (StrBytes, i32);

#[derive(Debug)]
struct World {
    topic_created: bool,
    groups: Vec<Known>,
    member: Option<Member>,
}

fn group(n: usize) -> GroupId {
    GroupId(StrBytes::from_string(format!("group-{n}")))
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// Commits `offset` to every partition in one request; Kafka's code.
pub async fn commit(client: &Client, n: usize, offset: i64) -> i16 {
    let partition = |p| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(p)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::from_string("m".repeat(offset as usize % 50))))
    };
    let wanted = OffsetCommitRequestTopic::default()
        .with_name(topic())
        .with_partitions((0..PARTITIONS).map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(group(n))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![wanted]);
    let answer = client.send(7, &request).await.await;
    answer.topics[0].partitions.iter().map(|p| p.error_code).find(|code| *code != 0).unwrap_or(0)
}

/// The offsets committed to the partitions (-1 = none), or Kafka's code.
pub async fn fetch(client: &Client, n: usize) -> Result<Vec<i64>, i16> {
    let request = OffsetFetchRequest::default().with_group_id(group(n)).with_topics(None);
    let answer = client.send(7, &request).await.await;
    if answer.error_code != 0 {
        return Err(answer.error_code);
    }
    let mut offsets = vec![-1; PARTITIONS as usize];
    for p in answer.topics.iter().flat_map(|t| &t.partitions) {
        offsets[p.partition_index as usize] = p.committed_offset;
    }
    Ok(offsets)
}

async fn delete_offsets_topic(client: &Client) {
    let names = vec![TopicName(StrBytes::from_static_str("__consumer_offsets"))];
    let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(30_000);
    assert_eq!(client.send(4, &request).await.await.responses[0].error_code, 0);
}

pub async fn find(client: &Client) -> i16 {
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("group-0")).with_key_type(0);
    client.send(3, &request).await.await.error_code
}

/// Joins the group of one member and syncs: the member, or Kafka's code.
async fn join(client: &Client) -> Result<Member, i16> {
    let members = GroupId(StrBytes::from_static_str("members"));
    let protocol = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(members.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    let joined = client.send(3, &request).await.await;
    if joined.error_code != 0 {
        return Err(joined.error_code);
    }
    let mine = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(bytes::Bytes::from_static(b"all of it"));
    let request = SyncGroupRequest::default()
        .with_group_id(members)
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![mine]);
    let synced = client.send(3, &request).await.await;
    match synced.error_code {
        0 => Ok((joined.member_id, joined.generation_id)),
        code => Err(code),
    }
}

async fn heartbeat(client: &Client, member: &Member) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("members")))
        .with_generation_id(member.1)
        .with_member_id(member.0.clone());
    client.send(3, &request).await.await.error_code
}

/// Holds what the broker shows against what is known.
async fn check(client: &Client, world: &mut World) -> Result<(), String> {
    match find(client).await {
        0 => {}
        code => return Err(format!("no coordinator: {code}")),
    }
    for (n, known) in world.groups.iter_mut().enumerate() {
        let offsets = fetch(client, n).await.map_err(|code| format!("group {n}: refused with {code}"))?;
        if offsets.iter().any(|o| *o != offsets[0]) {
            return Err(format!("group {n}: half a commit: {offsets:?}"));
        }
        // No commit at all is -1.
        if offsets[0].max(0) < known.least || offsets[0] > known.sent {
            return Err(format!("group {n}: {offsets:?}, {known:?}"));
        }
        known.least = known.least.max(offsets[0]);
    }
    if let Some(member) = &world.member {
        match heartbeat(client, member).await {
            0 => {}
            code => return Err(format!("heartbeat of {member:?}: {code}")),
        }
    }
    Ok(())
}

async fn live(disk: &SimDisk, world: &mut World, rng: &mut Rng, epoch_ms: i64, last: bool) -> Result<(), String> {
    let env = Env::simulated(Arc::new(disk.clone()), rng.next_u64(), epoch_ms);
    if !last {
        disk.crash_after_ops(rng.below(900));
    }
    let mut config = Config::local(PathBuf::from("/data"));
    config = config.set("offsets.topic.num.partitions", "4");
    let crashed = |e: String| if disk.crashed() { Ok(()) } else { Err(e) };
    let broker: Arc<Broker> = match server::boot(config, env, Metrics::new()).await {
        Ok(broker) => broker,
        Err(e) => return crashed(format!("the boot failed: {e}")),
    };
    let client = Client::new(&broker, 1);
    if !world.topic_created {
        match client.create_topic(PARTITIONS, "fsync").await {
            // 36: a cut took the answer, not the topic.
            0 | 36 => world.topic_created = true,
            code => return crashed(format!("the topic was not created: {code}")),
        }
    }
    if let Err(e) = check(&client, world).await {
        return crashed(e);
    }
    if last {
        broker.stop().await;
        return Ok(());
    }
    let rounds = 5 + rng.below(60);
    for _ in 0..rounds {
        let mut under_way = Vec::new();
        for _ in 0..1 + rng.below(4) {
            let n = rng.below(GROUPS as u64) as usize;
            world.groups[n].sent += 1;
            under_way.push((n, world.groups[n].sent));
        }
        // Each on a connection of its own; those of one group as they come.
        let commits = under_way.iter().map(|(n, offset)| {
            let client = Client::new(&broker, 10);
            async move { (*n, *offset, commit(&client, *n, *offset).await) }
        });
        let joins = rng.percent(10).then_some(async { join(&Client::new(&broker, 20)).await });
        let (answers, joined) = tokio::join!(all(commits), async {
            match joins {
                Some(join) => Some(join.await),
                None => None,
            }
        });
        for (n, offset, code) in answers {
            match code {
                0 => world.groups[n].least = world.groups[n].least.max(offset),
                _ if disk.crashed() => return Ok(()),
                code => return Err(format!("group {n}: commit of {offset} refused with {code}")),
            }
        }
        match joined {
            // The one before has to come again or is expired: the heartbeat that checks it is the last one's.
            Some(Ok(member)) => world.member = Some(member),
            // What is in force now nobody knows.
            Some(Err(_)) if disk.crashed() => world.member = None,
            Some(Err(code)) => return Err(format!("a member was refused with {code}")),
            None => {}
        }
        if disk.crashed() {
            return Ok(());
        }
        if let Some(member) = &world.member
            && let code @ 1.. = heartbeat(&client, member).await
            && !disk.crashed()
        {
            return Err(format!("heartbeat of {member:?}: {code}"));
        }
        tokio::time::sleep(Duration::from_millis(rng.below(300))).await;
    }
    if rng.percent(50) {
        broker.stop().await;
    }
    Ok(())
}

/// All at once, their answers in order.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    let mut out: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, out) in pinned.iter_mut().zip(&mut out) {
            if out.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *out = Some(value);
            }
        }
        if out.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    out.into_iter().flatten().collect()
}

#[test]
fn a_power_loss_takes_no_commit_and_no_generation_that_was_answered() {
    for seed in crate::power::seeds(40) {
        let mut rng = Rng::new(seed);
        let mut world = World { topic_created: false, groups: vec![Known::default(); GROUPS], member: None };
        let mut disk = SimDisk::new();
        for life in 0..=LIVES {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            let epoch_ms = 1_700_000_000_000 + life as i64 * 10_000_000;
            let lived = runtime.block_on(live(&disk, &mut world, &mut rng, epoch_ms, life == LIVES));
            drop(runtime);
            if let Err(e) = lived {
                panic!("seed {seed}, life {life}: {e}\nreplay with MILLSTREAM_SEED={seed}");
            }
            disk = disk.crash(rng.next_u64());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_members_that_wait_and_the_offsets_topic_can_be_deleted() {
    let env = Env::simulated(Arc::new(SimDisk::new()), 1, 1_700_000_000_000);
    let broker = server::boot(Config::local("/data"), env, Metrics::new()).await.unwrap();
    let client = Client::new(&broker, 1);
    assert_eq!(client.create_topic(PARTITIONS, "fsync").await, 0);
    assert_eq!(commit(&client, 0, 1).await, NOT_COORDINATOR, "nobody has asked for a coordinator");
    // Many at once create it once.
    let finders = (0..20).map(|n| {
        let client = Client::new(&broker, 30 + n);
        async move { find(&client).await }
    });
    assert!(all(finders).await.iter().all(|code| *code == 0));
    assert_eq!(commit(&client, 0, 1).await, 0);
    assert_eq!(fetch(&client, 0).await.unwrap(), [1, 1, 1]);
    // What was committed to a topic that is gone is gone.
    assert_eq!(client.delete_topic().await, 0);
    assert_eq!(client.create_topic(PARTITIONS, "fsync").await, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fetch(&client, 0).await.unwrap(), [-1, -1, -1]);
    assert_eq!(commit(&client, 0, 2).await, 0);
    // All groups go with the topic that holds them.
    delete_offsets_topic(&client).await;
    assert_eq!(fetch(&client, 0).await, Err(NOT_COORDINATOR));
    assert_eq!(find(&client).await, 0);
    assert_eq!(fetch(&client, 0).await.unwrap(), [-1, -1, -1]);
    assert_eq!(commit(&client, 0, 2).await, 0);
    // A second member of a group waits for the first, which does not come.
    let member = join(&client).await.unwrap();
    assert_eq!(heartbeat(&client, &member).await, 0);
    let other = Client::new(&broker, 2);
    let mut waits = Box::pin(join(&other));
    let early = tokio::time::timeout(Duration::from_secs(5), &mut waits).await;
    assert!(early.is_err(), "{early:?}");
    broker.begin_stop();
    assert_eq!(waits.await, Err(NOT_COORDINATOR));
    assert_eq!(commit(&client, 0, 3).await, NOT_COORDINATOR);
    broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_start_sessions_pass_though_nobody_asks() {
    let disk = SimDisk::new();
    let boot = |disk: &SimDisk| {
        let env = Env::simulated(Arc::new(disk.clone()), 1, 1_700_000_000_000);
        server::boot(Config::local("/data"), env, Metrics::new())
    };
    let broker = boot(&disk).await.unwrap();
    let client = Client::new(&broker, 1);
    assert_eq!(find(&client).await, 0);
    let member = join(&client).await.unwrap();
    drop((broker, client));
    let broker = boot(&disk.kill()).await.unwrap();
    let client = Client::new(&broker, 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(heartbeat(&client, &member).await, 0, "its session begins anew with the start");
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(heartbeat(&client, &member).await, 25, "it is gone");
    // One that nobody speaks to at all.
    let member = join(&client).await.unwrap();
    broker.stop().await;
    let broker = boot(&disk.kill()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(heartbeat(&Client::new(&broker, 1), &member).await, 25, "it went while nobody asked");
}

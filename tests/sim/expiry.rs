//! Weeks without consumers: which offsets of a group are still there.

use crate::{
    client::Client,
    groups::{PARTITIONS, commit, fetch, find},
    panics::batch,
};
use kafka_protocol::{
    messages::{
        CreateTopicsRequest, DeleteTopicsRequest, DescribeGroupsRequest, GroupId, TopicName,
        create_topics_request::CreatableTopic,
    },
    protocol::StrBytes,
};
use millstream::{
    Config, Env,
    broker::Broker,
    coordinator::group::{Commit, CommitPartition, CommitTopic, Event, Reply},
    metrics::Metrics,
    server,
};
use millstream_storage::sim::SimDisk;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A broker with a group that has committed offset 2 of three partitions: one with three records, one that never had any, one whose records were all removed.
async fn start(config: Config) -> (Arc<Broker>, Client) {
    let env = Env::simulated(Arc::new(SimDisk::new()), 1, 1_700_000_000_000);
    // Few wake-ups: the test passes a week.
    let config = config.set("log.retention.ms", "-1").set("log.retention.check.interval.ms", "36000000");
    let config = config.set("offsets.retention.check.interval.ms", "36000000").set("millstream.figures", "false");
    let broker = server::boot(config, env, Metrics::new()).await.unwrap();
    let client = Client::new(&broker, 1);
    assert_eq!(client.create_topic(PARTITIONS, "fsync").await, 0);
    assert_eq!(find(&client).await, 0);
    for partition in [0, 2] {
        for n in 0..3 {
            assert_eq!(client.produce(partition, -1, batch()).await.await, (0, n));
        }
    }
    assert_eq!(client.delete_records(2, 3).await, (0, 3));
    assert_eq!(commit(&client, 0, 2).await, 0);
    (broker, client)
}

/// Kafka's name of the group's state.
async fn state(client: &Client) -> String {
    let group = GroupId(StrBytes::from_static_str("group-0"));
    let request = DescribeGroupsRequest::default().with_groups(vec![group]);
    client.send(0, &request).await.await.groups[0].group_state.to_string()
}

#[tokio::test(start_paused = true)]
async fn an_offset_outlives_its_retention_while_it_points_into_data() {
    let (broker, client) = start(Config::local("/data")).await;
    tokio::time::sleep(6 * DAY).await;
    assert_eq!(fetch(&client, 0).await.unwrap(), [2, 2, 2]);
    tokio::time::sleep(2 * DAY).await;
    assert_eq!(fetch(&client, 0).await.unwrap(), [2, -1, -1]);
    assert_eq!(state(&client).await, "Empty");
    // The rest of the data goes, and the group with it.
    assert_eq!(client.delete_records(0, 3).await, (0, 3));
    tokio::time::sleep(DAY).await;
    assert_eq!(fetch(&client, 0).await.unwrap(), [-1, -1, -1]);
    assert_eq!(state(&client).await, "Dead");
    broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retention_that_a_person_has_set_is_kept_to() {
    let (broker, client) = start(Config::local("/data").set("offsets.retention.minutes", "2880")).await;
    tokio::time::sleep(DAY).await;
    assert_eq!(fetch(&client, 0).await.unwrap(), [2, 2, 2]);
    tokio::time::sleep(2 * DAY).await;
    assert_eq!(fetch(&client, 0).await.unwrap(), [-1, -1, -1]);
    assert_eq!(state(&client).await, "Dead");
    broker.stop().await;
}

/// Deletes a topic of another name each five hours; the look is due each ten.
#[tokio::test(start_paused = true)]
async fn offsets_expire_however_often_topics_are_deleted() {
    let (broker, client) = start(Config::local("/data").set("offsets.retention.minutes", "2880")).await;
    let other = || TopicName(StrBytes::from_static_str("other"));
    let topic = CreatableTopic::default().with_name(other()).with_num_partitions(1).with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![other()]).with_timeout_ms(30_000);
    for _ in 0..14 {
        assert_eq!(client.send(5, &create).await.await.topics[0].error_code, 0);
        assert_eq!(client.send(4, &delete).await.await.responses[0].error_code, 0);
        tokio::time::sleep(5 * HOUR).await;
    }
    assert_eq!(state(&client).await, "Dead");
    broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_go_with_their_topic() {
    let (broker, client) = start(Config::local("/data")).await;
    assert_eq!(client.delete_topic().await, 0);
    tokio::time::sleep(HOUR).await;
    assert_eq!(state(&client).await, "Dead");
    broker.stop().await;
}

/// As if the deletion of the topic had crossed the commit.
#[tokio::test(start_paused = true)]
async fn offsets_of_a_topic_that_went_unseen_go_at_a_start() {
    let disk = Arc::new(SimDisk::new());
    let boot = |epoch_ms| {
        let env = Env::simulated(disk.clone(), 1, epoch_ms);
        server::boot(Config::local("/data"), env, Metrics::new())
    };
    let broker = boot(1_700_000_000_000).await.unwrap();
    let client = Client::new(&broker, 1);
    assert_eq!(find(&client).await, 0);
    let partition = CommitPartition { index: 0, offset: 2, leader_epoch: -1, metadata: "".into() };
    let topic = CommitTopic { name: "gone".into(), id: Uuid::from_u128(7), partitions: vec![partition] };
    let commit = Commit {
        group: "group-0".into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        retention_ms: None,
        topics: vec![topic],
    };
    let committed = broker.ask_group("group-0", Event::Commit(commit)).await.unwrap().answer().await;
    assert!(matches!(committed, Ok(Reply::Commit(Ok(_)))), "{committed:?}");
    assert_eq!(state(&client).await, "Empty");
    broker.stop().await;

    let broker = boot(1_700_000_001_000).await.unwrap();
    // Long before the first look.
    tokio::time::sleep(HOUR / 60).await;
    assert_eq!(state(&Client::new(&broker, 2)).await, "Dead");
    broker.stop().await;
}

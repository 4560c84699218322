//! Which offset is where: the beginning, the end, a time.

use super::{
    cluster::{Backoff, Cluster},
    error::ClientError,
};
use kafka_protocol::{
    messages::{
        ListOffsetsRequest, TopicName,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
    protocol::StrBytes,
};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Where to begin, or which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first offset there is.
    Earliest,
    /// The end: only what comes later.
    Latest,
    /// That offset.
    Offset(i64),
    /// So many before the end, but not before the first there is.
    BeforeEnd(i64),
    /// The first record with this timestamp (ms since 1970) or a later one; the end if there is none.
    Time(i64),
}

/// ListOffsets' name for the first offset, and for the end.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// A partition of a topic by its name.
pub type TopicPartition = (String, i32);

/// The offset that a start means in a partition now, asked of its leader, with new tries while it moves.
///
/// # Errors
/// `UnknownTopic`, `UnknownPartition`, the broker's code, those of the connection.
pub async fn offset(cluster: &Cluster, topic: &str, partition: i32, start: Start) -> Result<i64, ClientError> {
    let wanted = (topic.to_string(), partition);
    let found = offsets(cluster, std::slice::from_ref(&wanted), start).await?;
    found.get(&wanted).copied().ok_or_else(|| ClientError::NoLeader { topic: topic.to_string(), partition })
}

/// The same for many partitions: one request a leader.
pub async fn offsets(
    cluster: &Cluster,
    wanted: &[TopicPartition],
    start: Start,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    match start {
        Start::Offset(offset) => Ok(wanted.iter().map(|key| (key.clone(), offset)).collect()),
        Start::Earliest => list(cluster, wanted, EARLIEST).await,
        Start::Latest => list(cluster, wanted, LATEST).await,
        Start::BeforeEnd(count) => {
            let first = list(cluster, wanted, EARLIEST).await?;
            let mut end = list(cluster, wanted, LATEST).await?;
            for (key, offset) in &mut end {
                *offset = offset.saturating_sub(count).max(first.get(key).copied().unwrap_or(0));
            }
            Ok(end)
        }
        Start::Time(time_ms) => {
            let mut found = list(cluster, wanted, time_ms.max(0)).await?;
            // None as late as that: the end.
            let none: Vec<TopicPartition> =
                found.iter().filter(|(_, at)| **at < 0).map(|(key, _)| key.clone()).collect();
            if !none.is_empty() {
                found.extend(list(cluster, &none, LATEST).await?);
            }
            Ok(found)
        }
    }
}

/// Asks until each partition has answered or the time is over; -1 = none has that time.
async fn list(
    cluster: &Cluster,
    wanted: &[TopicPartition],
    timestamp: i64,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    let deadline = Instant::now() + cluster.timeout();
    let mut backoff = Backoff::default();
    let mut found = BTreeMap::new();
    loop {
        let missing: Vec<&TopicPartition> = wanted.iter().filter(|key| !found.contains_key(*key)).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        match list_once(cluster, &missing, timestamp, &mut found).await {
            Ok(()) => {}
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                missing.iter().for_each(|(topic, _)| cluster.forget(topic));
                backoff.wait().await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn list_once(
    cluster: &Cluster,
    wanted: &[&TopicPartition],
    timestamp: i64,
    found: &mut BTreeMap<TopicPartition, i64>,
) -> Result<(), ClientError> {
    let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
    for (topic, partition) in wanted {
        let leader = cluster.leader(topic, *partition).await?;
        by_leader.entry(leader).or_default().entry(topic).or_default().push(*partition);
    }
    for (leader, topics) in by_leader {
        let connection = cluster.broker(leader).await?;
        let of_topic = |(topic, partitions): (&&str, &Vec<i32>)| {
            let asked = |p: &i32| ListOffsetsPartition::default().with_partition_index(*p).with_timestamp(timestamp);
            ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.to_string())))
                .with_partitions(partitions.iter().map(asked).collect())
        };
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(topics.iter().map(of_topic).collect());
        let answer = connection.call(&request, cluster.timeout()).await?;
        let mut count = 0;
        for topic in &answer.topics {
            for p in &topic.partitions {
                let what =
                    || format!("cannot look up offsets of partition {} of `{}`", p.partition_index, &*topic.name.0);
                ClientError::check(p.error_code, None, what)?;
                found.insert((topic.name.0.to_string(), p.partition_index), p.offset);
                count += 1;
            }
        }
        if count < topics.values().map(Vec::len).sum::<usize>() {
            return Err(ClientError::Unreadable {
                address: connection.address().to_string(),
                api: "ListOffsets".into(),
                why: "partitions are missing in it".into(),
            });
        }
    }
    Ok(())
}

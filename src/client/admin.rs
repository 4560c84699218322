//! Changes to and questions about topics, settings, groups and committed offsets. Each waits until the broker has answered; what may pass by itself (a coordinator that is loading, a
//! leader that moves) is tried again for the cluster's timeout.

use super::{
    Connection,
    cluster::{Backoff, Cluster},
    error::ClientError,
    membership::{self, Assignment},
    offsets::TopicPartition,
};
use kafka_protocol::{
    ResponseError,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
        DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, GroupId, IncrementalAlterConfigsRequest,
        ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, TopicName,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        describe_configs_request::DescribeConfigsResource,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::OffsetFetchRequestGroup,
    },
    protocol::{Request, StrBytes},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// DescribeConfigs' and IncrementalAlterConfigs' number of a topic.
const TOPIC: i8 = 2;
/// IncrementalAlterConfigs: set, and back to the default.
const SET: i8 = 0;
const DELETE: i8 = 1;

pub(crate) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_string())
}

pub(crate) fn topic_name(s: &str) -> TopicName {
    TopicName(text(s))
}

fn timeout_ms(cluster: &Cluster) -> i32 {
    cluster.timeout().as_millis().min(i32::MAX as u128) as i32
}

fn missing(connection: &Connection, api: &str) -> ClientError {
    ClientError::Unreadable {
        address: connection.address().to_string(),
        api: api.into(),
        why: "what was asked for is missing in it".into(),
    }
}

/// Runs `attempt` until it goes well, fails for good, or the cluster's timeout is over.
async fn persist<T>(
    cluster: &Cluster,
    mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let deadline = Instant::now() + cluster.timeout();
    let mut backoff = Backoff::default();
    loop {
        match attempt().await {
            Err(error) if error.is_retriable() && Instant::now() < deadline => backoff.wait().await,
            result => return result,
        }
    }
}

/// Asks the controller, and where the metadata named one that is not (any more), the broker that it names now.
/// `code` finds the error code in an answer.
async fn ask_controller<R: Request>(
    cluster: &Cluster,
    request: &R,
    code: impl Fn(&R::Response) -> Option<i16>,
) -> Result<(Connection, R::Response), ClientError> {
    let connection = cluster.controller().await?;
    let answer = connection.call(request, cluster.timeout()).await?;
    if code(&answer) != Some(ResponseError::NotController.code()) {
        return Ok((connection, answer));
    }
    cluster.refresh().await?;
    let connection = cluster.controller().await?;
    let answer = connection.call(request, cluster.timeout()).await?;
    Ok((connection, answer))
}

// ---- topics ----

/// Creates a topic; `None` = as many as the broker's settings say. Waits a moment until brokers name it with its leaders, so that it can be used.
///
/// # Errors
/// The broker's code with its words (TOPIC_ALREADY_EXISTS, INVALID_CONFIG, …).
pub async fn create_topic(
    cluster: &Cluster,
    name: &str,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    configs: &[(String, String)],
) -> Result<(), ClientError> {
    let config = |(name, value): &(String, String)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions.unwrap_or(-1))
        .with_replication_factor(replication_factor.unwrap_or(-1))
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms(cluster));
    let (connection, answer) = ask_controller(cluster, &request, |a| a.topics.first().map(|r| r.error_code)).await?;
    let result = answer.topics.first().ok_or_else(|| missing(&connection, "CreateTopics"))?;
    ClientError::check(result.error_code, result.error_message.as_deref(), || format!("cannot create topic `{name}`"))?;
    until_shown(cluster, name, 1).await;
    Ok(())
}

/// A controller answers before other brokers have heard: waits until one names the topic with so many partitions, all led. It is there in any case, so not for long.
async fn until_shown(cluster: &Cluster, name: &str, partitions: usize) {
    let deadline = Instant::now() + cluster.timeout().min(Duration::from_secs(5));
    let mut backoff = Backoff::default();
    while Instant::now() < deadline {
        if let Ok(facts) = cluster.fresh_topic(name).await
            && facts.partitions.len() >= partitions
            && facts.partitions.iter().all(|p| p.leader.is_some())
        {
            return;
        }
        backoff.wait().await;
    }
}

/// Deletes a topic.
///
/// # Errors
/// `UnknownTopic`, the broker's code.
pub async fn delete_topic(cluster: &Cluster, name: &str) -> Result<(), ClientError> {
    // By name in an array of names until version 5, of structs from version 6 on.
    let version = cluster.controller().await?.version::<DeleteTopicsRequest>()?;
    let request = DeleteTopicsRequest::default().with_timeout_ms(timeout_ms(cluster));
    let request = match version {
        ..=5 => request.with_topic_names(vec![topic_name(name)]),
        _ => request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name(name)))]),
    };
    let (connection, answer) = ask_controller(cluster, &request, |a| a.responses.first().map(|r| r.error_code)).await?;
    let result = answer.responses.first().ok_or_else(|| missing(&connection, "DeleteTopics"))?;
    cluster.forget(name);
    if result.error_code == ResponseError::UnknownTopicOrPartition.code() {
        return Err(ClientError::UnknownTopic(name.to_string()));
    }
    ClientError::check(result.error_code, result.error_message.as_deref(), || format!("cannot delete topic `{name}`"))
}

/// Raises a topic's number of partitions to `count`.
///
/// # Errors
/// The broker's code with its words.
pub async fn grow_topic(cluster: &Cluster, name: &str, count: i32) -> Result<(), ClientError> {
    let topic = CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms(cluster));
    let (connection, answer) = ask_controller(cluster, &request, |a| a.results.first().map(|r| r.error_code)).await?;
    let result = answer.results.first().ok_or_else(|| missing(&connection, "CreatePartitions"))?;
    cluster.forget(name);
    ClientError::check(result.error_code, result.error_message.as_deref(), || {
        format!("cannot give topic `{name}` {count} partitions")
    })?;
    until_shown(cluster, name, usize::try_from(count).unwrap_or(0)).await;
    Ok(())
}

/// Deletes the records of a partition before an offset (-1 = all); gives the first offset there is then.
///
/// # Errors
/// OFFSET_OUT_OF_RANGE, POLICY_VIOLATION (compacted topics), other codes.
pub async fn delete_records(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    before_offset: i64,
) -> Result<i64, ClientError> {
    persist(cluster, async || {
        let asked = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before_offset);
        let request = DeleteRecordsRequest::default()
            .with_timeout_ms(timeout_ms(cluster))
            .with_topics(vec![DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked])]);
        let connection = cluster.broker(cluster.leader(topic, partition).await?).await?;
        let answer = connection.call(&request, cluster.timeout()).await?;
        let result = answer.topics.iter().flat_map(|t| &t.partitions).next();
        let result = result.ok_or_else(|| missing(&connection, "DeleteRecords"))?;
        let error = ClientError::of(result.error_code, || {
            let what = match before_offset {
                -1 => "all records".to_string(),
                offset => format!("the records before offset {offset}"),
            };
            format!("cannot delete {what} of partition {partition} of `{topic}`")
        });
        match error {
            None => Ok(result.low_watermark),
            Some(error) => {
                cluster.forget(topic);
                Err(error)
            }
        }
    })
    .await
}

// ---- settings ----

/// One setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` = none, or secret.
    pub value: Option<String>,
    /// Where the value comes from: `topic`, `broker`, `cluster`, `file`, `default` or `unknown`.
    pub source: &'static str,
}

/// The settings of a topic, by name.
pub async fn topic_configs(cluster: &Cluster, topic: &str) -> Result<Vec<ConfigEntry>, ClientError> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let connection = cluster.any().await?;
    let answer = connection.call(&request, cluster.timeout()).await?;
    let result = answer.results.into_iter().next().ok_or_else(|| missing(&connection, "DescribeConfigs"))?;
    ClientError::check(result.error_code, result.error_message.as_deref(), || {
        format!("cannot read the settings of topic `{topic}`")
    })?;
    let entry = |c: kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult| ConfigEntry {
        name: c.name.to_string(),
        value: c.value.filter(|_| !c.is_sensitive).map(|v| v.to_string()),
        source: match c.config_source {
            1 => "topic",
            2 => "broker",
            3 => "cluster",
            4 => "file",
            5 => "default",
            _ => "unknown",
        },
    };
    let mut entries: Vec<ConfigEntry> = result.configs.into_iter().map(entry).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Changes settings of a topic: each name gets a value, or (`None`) its default. All or none.
///
/// # Errors
/// INVALID_CONFIG and other codes, with the broker's words.
pub async fn alter_topic_configs(
    cluster: &Cluster,
    topic: &str,
    changes: &[(String, Option<String>)],
) -> Result<(), ClientError> {
    let config = |(name, value): &(String, Option<String>)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.as_deref().map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(changes.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let (connection, answer) = ask_controller(cluster, &request, |a| a.responses.first().map(|r| r.error_code)).await?;
    let result = answer.responses.first().ok_or_else(|| missing(&connection, "IncrementalAlterConfigs"))?;
    ClientError::check(result.error_code, result.error_message.as_deref(), || {
        format!("cannot change the settings of topic `{topic}`")
    })
}

// ---- the cluster ----

/// What DescribeCluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    pub id: String,
    pub controller: i32,
    /// (id, `HOST:PORT`, rack), by id.
    pub brokers: Vec<(i32, String, Option<String>)>,
}

/// Who the cluster is.
pub async fn describe_cluster(cluster: &Cluster) -> Result<ClusterFacts, ClientError> {
    let answer = cluster.ask(&DescribeClusterRequest::default()).await?;
    ClientError::check(answer.error_code, answer.error_message.as_deref(), || "cannot describe the cluster".into())?;
    let mut brokers: Vec<_> = answer
        .brokers
        .iter()
        .map(|b| (b.broker_id.0, format!("{}:{}", b.host, b.port), b.rack.as_ref().map(|r| r.to_string())))
        .collect();
    brokers.sort();
    Ok(ClusterFacts { id: answer.cluster_id.to_string(), controller: answer.controller_id.0, brokers })
}

// ---- groups ----

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group: String,
    /// `consumer` where its members read topics; empty where only offsets are committed.
    pub protocol_type: String,
    /// Empty before Kafka 2.6.
    pub state: String,
    /// `classic`, `consumer`, `share`, …; empty before Kafka 3.8.
    pub kind: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

/// All groups of all brokers, by name.
pub async fn list_groups(cluster: &Cluster) -> Result<Vec<GroupListing>, ClientError> {
    let mut groups = BTreeMap::new();
    for broker in cluster.brokers().into_keys() {
        let answer = persist(cluster, async || {
            let answer = cluster.broker(broker).await?.call(&ListGroupsRequest::default(), cluster.timeout()).await?;
            ClientError::check(answer.error_code, None, || format!("broker {broker} cannot list its groups"))?;
            Ok(answer)
        })
        .await?;
        for g in answer.groups {
            let listing = GroupListing {
                group: g.group_id.0.to_string(),
                protocol_type: g.protocol_type.to_string(),
                state: g.group_state.to_string(),
                kind: g.group_type.to_string(),
                coordinator: broker,
            };
            groups.insert(listing.group.clone(), listing);
        }
    }
    Ok(groups.into_values().collect())
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberFacts {
    pub id: String,
    /// Its name if it is a static member.
    pub instance: Option<String>,
    pub client_id: String,
    pub host: String,
    /// Empty where it is not readable, or the group's members do not read topics.
    pub assignment: Assignment,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    pub group: String,
    /// Empty, PreparingRebalance, CompletingRebalance, Stable or Dead (there is no such group).
    pub state: String,
    pub protocol_type: String,
    /// How partitions are shared out.
    pub protocol: String,
    pub members: Vec<MemberFacts>,
}

impl GroupFacts {
    /// Whether there is such a group.
    pub fn exists(&self) -> bool {
        self.state != "Dead"
    }
}

/// State and members of a classic group. One that is not there is `Dead`, as the protocol has it.
pub async fn describe_group(cluster: &Cluster, group: &str) -> Result<GroupFacts, ClientError> {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    let described = persist(cluster, async || {
        let connection = cluster.coordinator(group).await?;
        let answer = connection.call(&request, cluster.timeout()).await?;
        let described = answer.groups.into_iter().next().ok_or_else(|| missing(&connection, "DescribeGroups"))?;
        // From version 6 on this code says that there is none.
        if described.error_code != ResponseError::GroupIdNotFound.code() {
            ClientError::check(described.error_code, described.error_message.as_deref(), || {
                format!("cannot describe group `{group}`")
            })?;
        }
        Ok(described)
    })
    .await?;
    let is_consumer = &*described.protocol_type == "consumer";
    let mut members: Vec<MemberFacts> = described
        .members
        .iter()
        .map(|m| MemberFacts {
            id: m.member_id.to_string(),
            instance: m.group_instance_id.as_ref().map(|i| i.to_string()),
            client_id: m.client_id.to_string(),
            host: m.client_host.to_string(),
            assignment: match is_consumer {
                true => membership::assigned(&m.member_assignment).unwrap_or_default(),
                false => Assignment::new(),
            },
        })
        .collect();
    members.sort_by(|a, b| a.id.cmp(&b.id));
    let state = match described.error_code {
        0 => described.group_state.to_string(),
        _ => "Dead".to_string(),
    };
    Ok(GroupFacts {
        group: group.to_string(),
        state,
        protocol_type: described.protocol_type.to_string(),
        protocol: described.protocol_data.to_string(),
        members,
    })
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    /// The text that was committed with it.
    pub metadata: String,
}

/// All committed offsets of a group; empty when there is no such group.
pub async fn committed(cluster: &Cluster, group: &str) -> Result<BTreeMap<TopicPartition, Committed>, ClientError> {
    persist(cluster, async || {
        let connection = cluster.coordinator(group).await?;
        // One group until version 7, several from version 8 on.
        let request = match connection.version::<OffsetFetchRequest>()? {
            ..=7 => OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(None),
            _ => OffsetFetchRequest::default().with_groups(vec![
                OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(None),
            ]),
        };
        let answer = connection.call(&request, cluster.timeout()).await?;
        let what = || format!("cannot read the offsets of group `{group}`");
        ClientError::check(answer.error_code, None, what)?;
        let mut out = BTreeMap::new();
        let mut add = |topic: &TopicName, partition: i32, offset: i64, metadata: Option<&StrBytes>, code: i16| {
            ClientError::check(code, None, what)?;
            if offset >= 0 {
                let metadata = metadata.map(|m| m.to_string()).unwrap_or_default();
                out.insert((topic.0.to_string(), partition), Committed { offset, metadata });
            }
            Ok::<(), ClientError>(())
        };
        for topic in &answer.topics {
            for p in &topic.partitions {
                add(&topic.name, p.partition_index, p.committed_offset, p.metadata.as_ref(), p.error_code)?;
            }
        }
        for group in &answer.groups {
            ClientError::check(group.error_code, None, what)?;
            for topic in &group.topics {
                for p in &topic.partitions {
                    add(&topic.name, p.partition_index, p.committed_offset, p.metadata.as_ref(), p.error_code)?;
                }
            }
        }
        Ok(out)
    })
    .await
}

/// As which member offsets are committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committer {
    /// Generation and member id; `None` = from outside, which a group allows that has no members.
    pub member: Option<(i32, String)>,
    /// Its instance id, if it is a static member: so that it hears when another took its place.
    pub instance: Option<String>,
}

/// Commits offsets of a group.
///
/// # Errors
/// UNKNOWN_MEMBER_ID (from outside while the group has members), ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS and other codes: then not all were committed.
pub async fn commit(
    cluster: &Cluster,
    group: &str,
    as_whom: &Committer,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<(), ClientError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let asked = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::default()));
        topics.entry(topic).or_default().push(asked);
    }
    let of_topic = |(topic, partitions): (&str, Vec<_>)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
    };
    let (generation, member) = as_whom.member.as_ref().map_or((-1, ""), |(g, m)| (*g, m));
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_group_instance_id(as_whom.instance.as_deref().map(text))
        .with_retention_time_ms(-1)
        .with_topics(topics.into_iter().map(of_topic).collect());
    persist(cluster, async || {
        let connection = cluster.coordinator(group).await?;
        let answer = connection.call(&request, cluster.timeout()).await?;
        let mut told = 0;
        for topic in &answer.topics {
            for p in &topic.partitions {
                told += 1;
                // Not by itself: who is in the group must join it again.
                if p.error_code == ResponseError::RebalanceInProgress.code() {
                    return Ok(Some(p.error_code));
                }
                ClientError::check(p.error_code, None, || {
                    format!(
                        "cannot commit offsets of group `{group}` for partition {} of `{}`",
                        p.partition_index, &*topic.name.0
                    )
                })?;
            }
        }
        match told == offsets.len() {
            true => Ok(None),
            false => Err(missing(&connection, "OffsetCommit")),
        }
    })
    .await?
    .map_or(Ok(()), |code| ClientError::check(code, None, || format!("cannot commit offsets of group `{group}`")))
}

/// Deletes a group with its offsets.
///
/// # Errors
/// NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, other codes.
pub async fn delete_group(cluster: &Cluster, group: &str) -> Result<(), ClientError> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
    persist(cluster, async || {
        let connection = cluster.coordinator(group).await?;
        let answer = connection.call(&request, cluster.timeout()).await?;
        let result = answer.results.first().ok_or_else(|| missing(&connection, "DeleteGroups"))?;
        ClientError::check(result.error_code, None, || format!("cannot delete group `{group}`"))
    })
    .await
}

/// Deletes a group's committed offsets of some partitions of a topic.
///
/// # Errors
/// GROUP_SUBSCRIBED_TO_TOPIC, GROUP_ID_NOT_FOUND, other codes.
pub async fn delete_offsets(
    cluster: &Cluster,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<(), ClientError> {
    let asked = |p: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*p);
    let of_topic = OffsetDeleteRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.iter().map(asked).collect());
    let request = OffsetDeleteRequest::default().with_group_id(GroupId(text(group))).with_topics(vec![of_topic]);
    persist(cluster, async || {
        let connection = cluster.coordinator(group).await?;
        let answer = connection.call(&request, cluster.timeout()).await?;
        let what = || format!("cannot delete offsets of group `{group}` for `{topic}`");
        ClientError::check(answer.error_code, None, what)?;
        let mut told = 0;
        for p in answer.topics.iter().flat_map(|t| &t.partitions) {
            ClientError::check(p.error_code, None, what)?;
            told += 1;
        }
        match told == partitions.len() {
            true => Ok(()),
            false => Err(missing(&connection, "OffsetDelete")),
        }
    })
    .await
}

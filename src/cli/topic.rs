//! `millstream topic`: lists, describes, creates, changes, trims and deletes topics of any Kafka cluster.

use super::{
    remote::{self, Failure, Outcome, Output, Remote, or_dash, say, table, topic_partitions},
    serve::name_value,
};
use crate::client::{
    ClientError, Cluster, Start, admin,
    cluster::TopicFacts,
    offsets::{self, TopicPartition},
};
use clap::{Args, Subcommand};
use kafka_protocol::ResponseError;
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

/// Look at and change topics.
#[derive(Debug, Args)]
pub struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
    #[command(flatten)]
    remote: Remote,
    /// A table for people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// List topics.
    List(ListArgs),
    /// Show a topic's partitions and settings; exit code 1 when there is no such topic.
    Describe(DescribeArgs),
    /// Create a topic.
    Create(CreateArgs),
    /// Change a topic's settings or its number of partitions.
    Alter(AlterArgs),
    /// Delete the records of partitions before an offset.
    Trim(TrimArgs),
    /// Delete a topic with all its records.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only topics whose name holds this text.
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    /// Also the cluster's own bookkeeping.
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, Args)]
struct DescribeArgs {
    topic: String,
    /// Every setting, not only those that the topic has of its own.
    #[arg(long)]
    all_configs: bool,
}

#[derive(Debug, Args)]
struct CreateArgs {
    topic: String,
    /// [default: what the broker's settings say]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// [default: what the broker's settings say]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topic; may be repeated.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = name_value)]
    configs: Vec<(String, String)>,
    /// Be content when the topic is there already.
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
struct AlterArgs {
    topic: String,
    /// A setting to set; may be repeated.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = name_value)]
    configs: Vec<(String, String)>,
    /// A setting to take back to its default; may be repeated.
    #[arg(long = "unset", value_name = "NAME")]
    unset: Vec<String>,
    /// Partitions the topic is to have: more than now.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
}

#[derive(Debug, Args)]
struct TrimArgs {
    /// The topic, and which partitions if not all.
    #[arg(value_name = "TOPIC[:P,P]", value_parser = topic_partitions)]
    topic: (String, Option<Vec<i32>>),
    /// The first offset to keep, or `end` to delete all records.
    #[arg(long, value_name = "OFFSET|end", value_parser = before)]
    before: i64,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    topic: String,
}

/// DeleteRecords' name for the end.
const END: i64 = -1;

fn before(text: &str) -> Result<i64, String> {
    match text {
        "end" => Ok(END),
        _ => text.parse().ok().filter(|o| *o >= 0).ok_or_else(|| format!("`{text}` is neither an offset nor `end`")),
    }
}

/// Runs it; exit code 0 ok, 1 there is no such topic, 2 failure.
pub fn run(args: TopicArgs) -> ExitCode {
    remote::run(async || {
        let cluster = args.remote.cluster("millstream-topic").await?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let outcome = match &args.command {
            TopicCommand::List(list) => topics(&cluster, list, args.output, &mut out).await,
            TopicCommand::Describe(describe) => show(&cluster, describe, args.output, &mut out).await,
            TopicCommand::Create(create) => made(&cluster, create, args.output, &mut out).await,
            TopicCommand::Alter(alter) => altered(&cluster, alter, args.output, &mut out).await,
            TopicCommand::Trim(trim) => trimmed(&cluster, trim, args.output, &mut out).await,
            TopicCommand::Delete(delete) => {
                admin::delete_topic(&cluster, &delete.topic).await?;
                done(args.output, &mut out, "deleted", &delete.topic)
            }
        }?;
        out.flush()?;
        Ok(outcome)
    })
}

/// Says that something was done.
fn done(output: Output, out: &mut impl Write, what: &str, topic: &str) -> Outcome {
    match output {
        Output::Json => writeln!(out, "{}", json!({ "topic": topic, "done": what }))?,
        Output::Table => say(&format!("topic `{topic}` {what}")),
    }
    Ok(true)
}

async fn topics(cluster: &Cluster, args: &ListArgs, output: Output, out: &mut impl Write) -> Outcome {
    let wanted = |t: &&TopicFacts| {
        (args.internal || !t.is_internal) && args.filter.as_ref().is_none_or(|text| t.name.contains(text.as_str()))
    };
    let topics = cluster.topics().await?;
    let shown: Vec<&TopicFacts> = topics.iter().map(|t| &**t).filter(wanted).collect();
    let factor = |t: &TopicFacts| t.partitions.iter().map(|p| p.replicas.len()).max().unwrap_or(0);
    let leaderless = |t: &TopicFacts| t.partitions.iter().filter(|p| p.leader.is_none()).count();
    match output {
        Output::Json => {
            for t in shown {
                let line = json!({
                    "topic": t.name, "partitions": t.partitions.len(), "replication_factor": factor(t), "internal": t.is_internal,
                    "leaderless": leaderless(t),
                });
                writeln!(out, "{line}")?;
            }
        }
        Output::Table => {
            let row = |t: &&TopicFacts| {
                vec![
                    t.name.clone(),
                    t.partitions.len().to_string(),
                    factor(t).to_string(),
                    leaderless(t).to_string(),
                    if t.is_internal { "yes".into() } else { "no".into() },
                ]
            };
            let head = ["TOPIC", "PARTITIONS", "REPLICAS", "LEADERLESS", "INTERNAL"];
            write!(out, "{}", table(&head, shown.iter().map(row).collect()))?;
        }
    }
    Ok(true)
}

/// First and end offset of each partition that has a leader.
async fn ends(
    cluster: &Cluster,
    topic: &TopicFacts,
) -> Result<(BTreeMap<TopicPartition, i64>, BTreeMap<TopicPartition, i64>), ClientError> {
    let led = topic.partitions.iter().zip(0i32..).filter(|(p, _)| p.leader.is_some());
    let led: Vec<TopicPartition> = led.map(|(_, index)| (topic.name.clone(), index)).collect();
    let first = offsets::offsets(cluster, &led, Start::Earliest).await?;
    Ok((first, offsets::offsets(cluster, &led, Start::Latest).await?))
}

async fn show(cluster: &Cluster, args: &DescribeArgs, output: Output, out: &mut impl Write) -> Outcome {
    let topic = match cluster.fresh_topic(&args.topic).await {
        Ok(topic) => topic,
        Err(error @ ClientError::UnknownTopic(_)) => {
            say(&error.to_string());
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let (first, end) = ends(cluster, &topic).await?;
    let mut configs = admin::topic_configs(cluster, &topic.name).await?;
    configs.retain(|c| args.all_configs || c.source == "topic");
    let at = |offsets: &BTreeMap<TopicPartition, i64>, p: i32| offsets.get(&(topic.name.clone(), p)).copied();
    let records = |p: i32| Some(at(&end, p)?.saturating_sub(at(&first, p)?));
    match output {
        Output::Json => {
            let partition = |(facts, p): (&crate::client::cluster::PartitionFacts, i32)| {
                json!({
                    "partition": p, "leader": facts.leader, "replicas": facts.replicas, "in_sync": facts.in_sync,
                    "start_offset": at(&first, p), "end_offset": at(&end, p), "records": records(p),
                })
            };
            let config = |c: &admin::ConfigEntry| json!({ "name": c.name, "value": c.value, "source": c.source });
            let line = json!({
                "topic": topic.name, "id": topic.id.to_string(), "internal": topic.is_internal,
                "partitions": topic.partitions.iter().zip(0..).map(partition).collect::<Vec<_>>(),
                "configs": configs.iter().map(config).collect::<Vec<_>>(),
            });
            writeln!(out, "{line}")?;
        }
        Output::Table => {
            let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
            writeln!(out, "Topic {}, id {}", topic.name, topic.id)?;
            let row = |(facts, p): (&crate::client::cluster::PartitionFacts, i32)| {
                vec![
                    p.to_string(),
                    or_dash(facts.leader),
                    ids(&facts.replicas),
                    ids(&facts.in_sync),
                    or_dash(at(&first, p)),
                    or_dash(at(&end, p)),
                    or_dash(records(p)),
                ]
            };
            let head = ["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "START", "END", "RECORDS"];
            write!(out, "{}", table(&head, topic.partitions.iter().zip(0..).map(row).collect()))?;
            if !configs.is_empty() {
                let row =
                    |c: &admin::ConfigEntry| vec![c.name.clone(), or_dash(c.value.as_deref()), c.source.to_string()];
                write!(out, "\n{}", table(&["SETTING", "VALUE", "SOURCE"], configs.iter().map(row).collect()))?;
            }
        }
    }
    Ok(true)
}

async fn made(cluster: &Cluster, args: &CreateArgs, output: Output, out: &mut impl Write) -> Outcome {
    let (partitions, factor) = (args.partitions, args.replication_factor);
    match admin::create_topic(cluster, &args.topic, partitions, factor, &args.configs).await {
        Err(error) if args.if_not_exists && error.code() == Some(ResponseError::TopicAlreadyExists) => {
            done(output, out, "was there already", &args.topic)
        }
        Err(error) => Err(error.into()),
        Ok(()) => done(output, out, "created", &args.topic),
    }
}

async fn altered(cluster: &Cluster, args: &AlterArgs, output: Output, out: &mut impl Write) -> Outcome {
    let set = args.configs.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    let changes: Vec<_> = set.chain(args.unset.iter().map(|name| (name.clone(), None))).collect();
    if changes.is_empty() && args.partitions.is_none() {
        let hint = "nothing to change; give --config NAME=VALUE, --unset NAME or --partitions N";
        return Err(Failure::Sentence(hint.into()));
    }
    if !changes.is_empty() {
        admin::alter_topic_configs(cluster, &args.topic, &changes).await?;
    }
    if let Some(count) = args.partitions {
        admin::grow_topic(cluster, &args.topic, count).await.map_err(|error| match changes.is_empty() {
            true => error.into(),
            false => Failure::Sentence(format!("{error}; its settings were changed before that")),
        })?;
    }
    done(output, out, "changed", &args.topic)
}

async fn trimmed(cluster: &Cluster, args: &TrimArgs, output: Output, out: &mut impl Write) -> Outcome {
    let (topic, partitions) = &args.topic;
    let facts = cluster.fresh_topic(topic).await?;
    let partitions = partitions.clone().unwrap_or_else(|| (0..facts.partitions.len() as i32).collect());
    for partition in &partitions {
        facts.partition(*partition)?;
    }
    let mut rows = Vec::new();
    for partition in partitions {
        let start = admin::delete_records(cluster, topic, partition, args.before).await.map_err(|error| {
            let before: Vec<String> = rows.iter().map(|(p, _): &(i32, i64)| p.to_string()).collect();
            match before.is_empty() {
                true => error.into(),
                false => Failure::Sentence(format!("{error}; done before that: partitions {}", before.join(", "))),
            }
        })?;
        rows.push((partition, start));
    }
    match output {
        Output::Json => {
            for (partition, start) in rows {
                writeln!(out, "{}", json!({ "topic": topic, "partition": partition, "start_offset": start }))?;
            }
        }
        Output::Table => {
            let rows = rows.iter().map(|(p, start)| vec![p.to_string(), start.to_string()]).collect();
            write!(out, "{}", table(&["PARTITION", "START"], rows))?;
        }
    }
    Ok(true)
}

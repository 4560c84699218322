//! `millstream group`: lists, describes, resets and deletes consumer groups of any Kafka cluster.

use super::{
    moment,
    remote::{self, Failure, Outcome, Output, Remote, or_dash, say, table, topic_partitions},
};
use crate::client::{
    ClientError, Cluster, Start,
    admin::{self, Committer, GroupFacts},
    offsets::{self, TopicPartition},
};
use clap::{ArgGroup, Args, Subcommand};
use kafka_protocol::ResponseError;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    process::ExitCode,
};

/// Look at and change consumer groups.
#[derive(Debug, Args)]
pub struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
    #[command(flatten)]
    remote: Remote,
    /// A table for people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups.
    List,
    /// Show a group's members, what each was given, and how far it is; exit code 1 when there is no such group.
    Describe(NameArgs),
    /// Move a group's committed offsets. Shows what would be done; does it with --execute.
    Reset(ResetArgs),
    /// Delete a group, or (with --topic) only its offsets of a topic.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct NameArgs {
    group: String,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    group: String,
    /// Only the committed offsets of this topic; may be repeated.
    #[arg(long = "topic", value_name = "TOPIC[:P,P]", value_parser = topic_partitions)]
    topics: Vec<(String, Option<Vec<i32>>)>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["topics", "all_topics"])))]
#[command(group(ArgGroup::new("where").required(true).args(["to_earliest", "to_latest", "to_offset", "shift", "to_time"])))]
struct ResetArgs {
    group: String,
    /// Offsets of this topic; may be repeated.
    #[arg(long = "topic", value_name = "TOPIC[:P,P]", value_parser = topic_partitions)]
    topics: Vec<(String, Option<Vec<i32>>)>,
    /// Every offset that the group has committed.
    #[arg(long)]
    all_topics: bool,
    /// To the first record there is.
    #[arg(long)]
    to_earliest: bool,
    /// To the end.
    #[arg(long)]
    to_latest: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// So many records on (below 0: back).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift: Option<i64>,
    /// To the first record of this time or later: 2026-11-24T18:00:00Z, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to_time: Option<i64>,
    /// Do it, not only show it.
    #[arg(long)]
    execute: bool,
}

/// Runs it; exit code 0 ok, 1 there is no such group, 2 failure.
pub fn run(args: GroupArgs) -> ExitCode {
    remote::run(async || {
        let cluster = args.remote.cluster("millstream-group").await?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let outcome = match &args.command {
            GroupCommand::List => groups(&cluster, args.output, &mut out).await,
            GroupCommand::Describe(name) => show(&cluster, &name.group, args.output, &mut out).await,
            GroupCommand::Reset(reset) => moved(&cluster, reset, args.output, &mut out).await,
            GroupCommand::Delete(delete) => deleted(&cluster, delete, args.output, &mut out).await,
        }?;
        out.flush()?;
        Ok(outcome)
    })
}

async fn groups(cluster: &Cluster, output: Output, out: &mut impl Write) -> Outcome {
    let groups = admin::list_groups(cluster).await?;
    match output {
        Output::Json => {
            for g in groups {
                let line = json!({
                    "group": g.group, "state": g.state, "kind": g.kind, "protocol_type": g.protocol_type, "coordinator": g.coordinator,
                });
                writeln!(out, "{line}")?;
            }
        }
        Output::Table => {
            let full = |text: &str| or_dash(Some(text).filter(|t| !t.is_empty()));
            let row = |g: &admin::GroupListing| {
                vec![g.group.clone(), full(&g.state), full(&g.kind), full(&g.protocol_type), g.coordinator.to_string()]
            };
            let head = ["GROUP", "STATE", "KIND", "PROTOCOL TYPE", "COORDINATOR"];
            write!(out, "{}", table(&head, groups.iter().map(row).collect()))?;
        }
    }
    Ok(true)
}

/// How far a group is in a partition.
struct Progress {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    /// `None` where the topic is gone, or the partition has no leader.
    end: Option<i64>,
    /// Index of the member that has it.
    member: Option<usize>,
}

impl Progress {
    fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.committed?).max(0))
    }
}

/// Every partition that the group has committed or given to a member.
async fn progress(cluster: &Cluster, facts: &GroupFacts) -> Result<Vec<Progress>, ClientError> {
    let committed = admin::committed(cluster, &facts.group).await?;
    let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    for (index, member) in facts.members.iter().enumerate() {
        for (topic, partitions) in &member.assignment {
            owners.extend(partitions.iter().map(|p| ((topic.clone(), *p), index)));
        }
    }
    let all: BTreeSet<TopicPartition> = committed.keys().chain(owners.keys()).cloned().collect();
    let ends = ends(cluster, &all).await?;
    let of = |key: TopicPartition| Progress {
        committed: committed.get(&key).map(|c| c.offset),
        end: ends.get(&key).copied(),
        member: owners.get(&key).copied(),
        topic: key.0,
        partition: key.1,
    };
    Ok(all.into_iter().map(of).collect())
}

/// The ends of those partitions that are there and led.
async fn ends(
    cluster: &Cluster,
    wanted: &BTreeSet<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    let mut there = Vec::new();
    for key in wanted {
        match cluster.leader(&key.0, key.1).await {
            Ok(_) => there.push(key.clone()),
            Err(ClientError::UnknownTopic(_) | ClientError::UnknownPartition { .. } | ClientError::NoLeader { .. }) => {
            }
            Err(error) => return Err(error),
        }
    }
    offsets::offsets(cluster, &there, Start::Latest).await
}

async fn show(cluster: &Cluster, group: &str, output: Output, out: &mut impl Write) -> Outcome {
    let facts = admin::describe_group(cluster, group).await?;
    if !facts.exists() {
        let listed = admin::list_groups(cluster).await?.into_iter().find(|g| g.group == group);
        match listed {
            Some(other) => say(&format!("group `{group}` is of kind {}, which cannot be described yet", other.kind)),
            None => say(&format!("there is no group `{group}`; `millstream group list` shows which there are")),
        }
        return Ok(false);
    }
    let progress = progress(cluster, &facts).await?;
    let total: i64 = progress.iter().filter_map(Progress::lag).sum();
    match output {
        Output::Json => {
            let member = |m: &admin::MemberFacts| json!({ "id": m.id, "instance": m.instance, "client_id": m.client_id, "host": m.host, "assignment": m.assignment });
            let partition = |p: &Progress| {
                json!({
                    "topic": p.topic, "partition": p.partition, "committed": p.committed, "end_offset": p.end, "lag": p.lag(),
                    "member": p.member.map(|m| &facts.members[m].id),
                })
            };
            let line = json!({
                "group": facts.group, "state": facts.state, "protocol_type": facts.protocol_type, "protocol": facts.protocol, "lag": total,
                "members": facts.members.iter().map(member).collect::<Vec<_>>(),
                "partitions": progress.iter().map(partition).collect::<Vec<_>>(),
            });
            writeln!(out, "{line}")?;
        }
        Output::Table => {
            let how =
                if facts.protocol.is_empty() { String::new() } else { format!(", shared out by {}", facts.protocol) };
            writeln!(out, "Group {}: {}, {} members{how}, lag {total}", facts.group, facts.state, facts.members.len())?;
            if !facts.members.is_empty() {
                let row = |m: &admin::MemberFacts| {
                    let count: usize = m.assignment.values().map(Vec::len).sum();
                    vec![
                        m.id.clone(),
                        or_dash(m.instance.as_deref()),
                        m.client_id.clone(),
                        m.host.clone(),
                        count.to_string(),
                    ]
                };
                let head = ["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"];
                write!(out, "\n{}", table(&head, facts.members.iter().map(row).collect()))?;
            }
            if !progress.is_empty() {
                let row = |p: &Progress| {
                    vec![
                        p.topic.clone(),
                        p.partition.to_string(),
                        or_dash(p.committed),
                        or_dash(p.end),
                        or_dash(p.lag()),
                        or_dash(p.member.map(|m| &facts.members[m].id)),
                    ]
                };
                let head = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
                write!(out, "\n{}", table(&head, progress.iter().map(row).collect()))?;
            }
        }
    }
    Ok(true)
}

/// Partitions named by `TOPIC[:P,P]`, all of a topic where it names none.
async fn named(
    cluster: &Cluster,
    topics: &[(String, Option<Vec<i32>>)],
) -> Result<BTreeSet<TopicPartition>, ClientError> {
    let mut out = BTreeSet::new();
    for (topic, partitions) in topics {
        let facts = cluster.topic(topic).await?;
        let all = || (0..facts.partitions.len() as i32).collect();
        for partition in partitions.clone().unwrap_or_else(all) {
            facts.partition(partition)?;
            out.insert((topic.clone(), partition));
        }
    }
    Ok(out)
}

/// Those partitions that are there and led; says which are not.
async fn still_there(
    cluster: &Cluster,
    mut wanted: BTreeSet<TopicPartition>,
) -> Result<BTreeSet<TopicPartition>, ClientError> {
    let ends = ends(cluster, &wanted).await?;
    let mut gone: BTreeMap<String, Vec<String>> = BTreeMap::new();
    wanted.retain(|key| {
        let is_there = ends.contains_key(key);
        if !is_there {
            gone.entry(key.0.clone()).or_default().push(key.1.to_string());
        }
        is_there
    });
    for (topic, partitions) in gone {
        say(&format!("left out: `{topic}`, partition {}; it is gone, or has no leader", partitions.join(", ")));
    }
    Ok(wanted)
}

async fn moved(cluster: &Cluster, args: &ResetArgs, output: Output, out: &mut impl Write) -> Outcome {
    let group = &args.group;
    let facts = admin::describe_group(cluster, group).await?;
    if args.execute && !facts.members.is_empty() {
        return Err(Failure::Sentence(format!(
            "group `{group}` has {} members ({}); its offsets can be moved once they are stopped",
            facts.members.len(),
            facts.state
        )));
    }
    let committed = admin::committed(cluster, group).await?;
    let wanted = match args.all_topics {
        true => still_there(cluster, committed.keys().cloned().collect()).await?,
        false => named(cluster, &args.topics).await?,
    };
    if wanted.is_empty() {
        say(&format!("group `{group}` has no committed offsets to move; --topic says which to give it"));
        return Ok(false);
    }
    let wanted: Vec<TopicPartition> = wanted.into_iter().collect();
    let first = offsets::offsets(cluster, &wanted, Start::Earliest).await?;
    let end = offsets::offsets(cluster, &wanted, Start::Latest).await?;
    let at_time = match args.to_time {
        Some(ms) => offsets::offsets(cluster, &wanted, Start::Time(ms)).await?,
        None => BTreeMap::new(),
    };
    let mut plan: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for key in &wanted {
        let (Some(first), Some(end)) = (first.get(key).copied(), end.get(key).copied()) else { continue };
        let target = match (args.to_offset, args.shift) {
            (Some(offset), _) => offset,
            (_, Some(by)) => match committed.get(key) {
                Some(now) => now.offset.saturating_add(by),
                None => {
                    return Err(Failure::Sentence(format!(
                        "group `{group}` has committed nothing for partition {} of `{}`, so there is nothing to shift",
                        key.1, key.0
                    )));
                }
            },
            _ if args.to_earliest => first,
            _ if args.to_latest => end,
            _ => at_time.get(key).copied().unwrap_or(end),
        };
        // What the log does not hold nobody can read: the nearest that it does.
        plan.insert(key.clone(), target.clamp(first, end.max(first)));
    }
    if args.execute {
        admin::commit(cluster, group, &Committer::default(), &plan).await?;
    }
    let now = |key: &TopicPartition| committed.get(key).map(|c| c.offset);
    match output {
        Output::Json => {
            for (key, to) in &plan {
                let line = json!({
                    "group": group, "topic": key.0, "partition": key.1, "committed": now(key), "new_offset": to, "executed": args.execute,
                });
                writeln!(out, "{line}")?;
            }
        }
        Output::Table => {
            let row = |(key, to): (&TopicPartition, &i64)| {
                let by = now(key).map(|now| format!("{:+}", to - now));
                vec![key.0.clone(), key.1.to_string(), or_dash(now(key)), to.to_string(), or_dash(by)]
            };
            let head = ["TOPIC", "PARTITION", "COMMITTED", "NEW", "CHANGE"];
            write!(out, "{}", table(&head, plan.iter().map(row).collect()))?;
        }
    }
    out.flush()?;
    match args.execute {
        true => say(&format!("{} offsets of group `{group}` were committed", plan.len())),
        false if !facts.members.is_empty() => say(&format!(
            "nothing was changed; --execute does it, once the {} members of the group are stopped",
            facts.members.len()
        )),
        false => say("nothing was changed; --execute does it"),
    }
    Ok(true)
}

async fn deleted(cluster: &Cluster, args: &DeleteArgs, output: Output, out: &mut impl Write) -> Outcome {
    let group = &args.group;
    let none = || {
        say(&format!("there is no group `{group}`; `millstream group list` shows which there are"));
        Ok(false)
    };
    let what = if args.topics.is_empty() {
        match admin::delete_group(cluster, group).await {
            Err(error) if error.code() == Some(ResponseError::GroupIdNotFound) => return none(),
            deleted => deleted?,
        }
        "deleted"
    } else {
        // A topic may be gone while its offsets are still there.
        let committed = admin::committed(cluster, group).await?;
        for (topic, partitions) in &args.topics {
            let all = || committed.keys().filter(|key| key.0 == *topic).map(|key| key.1).collect::<Vec<i32>>();
            let partitions = partitions.clone().unwrap_or_else(all);
            if partitions.is_empty() {
                say(&format!("group `{group}` has no committed offsets of topic `{topic}`"));
                return Ok(false);
            }
            match admin::delete_offsets(cluster, group, topic, &partitions).await {
                Err(error) if error.code() == Some(ResponseError::GroupIdNotFound) => return none(),
                deleted => deleted?,
            }
        }
        "without these offsets now"
    };
    match output {
        Output::Json => writeln!(out, "{}", json!({ "group": group, "done": what }))?,
        Output::Table => say(&format!("group `{group}` {what}")),
    }
    Ok(true)
}

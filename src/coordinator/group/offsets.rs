//! What a group has committed (Kafka's `OffsetMetadataManager`), and what is shown and deleted of groups.
//!
//! Stored state is [`Offsets`] of each group, changed by [`replay`] only. A committed offset costs 32 bytes (and a box where it has metadata, an expiry of its own or is of another topic id than
//! its neighbours); names of topics are shared between the groups of a shard.

mod entries;
mod expiry;

pub use entries::Offsets;

use super::{
    Commit, CommitTopic, Committed, Event, Fetch, GroupError, Groups, Listed, Pending as AnyPending, Reply, State,
    classic, overview,
    records::{self, OffsetValue, TooLong},
};
use crate::{
    config::GroupSettings,
    coordinator::machine::{Now, Output, Record, Refusal, Ticket},
    limits::TOMBSTONES_BYTES_MAX,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What is remembered of an append until its outcome is known.
#[derive(Debug)]
pub enum Pending {
    /// One commit: what it is answered with once stored.
    Commit { ticket: Ticket, results: Vec<Vec<Result<Option<i64>, GroupError>>> },
    /// One of several batches of tombstones.
    Tombstones {
        /// Offsets in it.
        offsets: usize,
        all: Arc<Progress>,
        /// Of the last batch: what is answered once all have an outcome.
        answer: Option<(Ticket, Answer)>,
    },
}

/// How far several appends that belong together have come.
#[derive(Debug, Default)]
pub struct Progress {
    dropped: AtomicUsize,
    failed: OnceLock<GroupError>,
}

/// What to answer when tombstones are stored.
#[derive(Debug)]
pub enum Answer {
    Delete,
    DeleteOffsets(Vec<Vec<Result<(), GroupError>>>),
    Dropped,
}

/// An offset record: from the log at load, or just appended. `value` is still encoded; `None` = tombstone.
pub(super) fn replay(
    groups: &mut Groups,
    group: &str,
    topic: &str,
    partition: i32,
    value: Option<&[u8]>,
    _now: Now,
) -> Result<(), String> {
    let Some(value) = value else {
        if let Some(it) = groups.groups.get_mut(group) {
            it.offsets.remove(topic, partition);
            if it.offsets.is_empty() && it.classic.is_nothing() {
                groups.groups.remove(group);
            }
        }
        return Ok(());
    };
    let value = OffsetValue::decode(value)?;
    if !groups.groups.contains_key(group) {
        groups.groups.insert(group.into(), Default::default());
    }
    if let Some(it) = groups.groups.get_mut(group) {
        it.offsets.put(topic, partition, &value, &mut groups.topics);
    }
    Ok(())
}

/// The log has been read; called before the classic part's.
pub(super) fn loaded(_groups: &mut Groups, _now: Now, _settings: &GroupSettings, _out: &mut Output<Groups>) {}

/// Commit, Fetch, Describe, Delete, DeleteOffsets, List, Overview, ExpiryCandidates, Expire, Topics, TopicsDeleted.
pub(super) fn handle(
    groups: &mut Groups,
    ticket: Ticket,
    event: Event,
    now: Now,
    settings: &GroupSettings,
    out: &mut Output<Groups>,
) {
    match event {
        Event::Commit(commit) => match records_of(groups, &commit, now, settings) {
            Err(e) => out.reply(ticket, Reply::Commit(Err(e))),
            Ok((records, results)) => {
                if !commit.member_id.is_empty() {
                    classic::heartbeat(groups, &commit.group, &commit.member_id, now);
                }
                if records.is_empty() {
                    out.reply(ticket, Reply::Commit(Ok(results)));
                } else {
                    out.append(records, AnyPending::Offsets(Pending::Commit { ticket, results }));
                }
            }
        },
        Event::Fetch(fetch) => out.reply(ticket, Reply::Fetch(Ok(fetched(groups, &fetch)))),
        Event::Describe { group } => {
            let found = groups.groups.get(&group).map(|it| it.classic.describe(&group));
            out.reply(ticket, Reply::Describe(found.ok_or(GroupError::GroupIdNotFound)));
        }
        Event::List => out.reply(ticket, Reply::List(list(groups))),
        Event::Overview(wanted) => out.reply(ticket, Reply::Overview(overview::page(groups, &wanted))),
        Event::Delete { group } => delete(groups, ticket, &group, out),
        Event::DeleteOffsets { group, topics } => delete_offsets(groups, ticket, &group, &topics, out),
        Event::ExpiryCandidates => {
            out.reply(ticket, Reply::ExpiryCandidates(expiry::candidates(groups, now.wall_ms, settings)));
        }
        Event::Expire(candidates) => {
            let tombstones = expiry::tombstones(groups, &candidates, now.wall_ms, settings);
            tombstones.append(ticket, Answer::Dropped, out);
        }
        Event::Topics => {
            let topics: BTreeSet<_> = groups.groups.values().flat_map(|group| group.offsets.topics()).collect();
            let topics = topics.into_iter().map(|(name, id)| (name.clone(), id)).collect();
            out.reply(ticket, Reply::Topics(topics));
        }
        Event::TopicsDeleted(topics) => {
            let mut tombstones = Tombstones::default();
            for (name, group) in groups.in_order() {
                for (topic, id) in &topics {
                    for it in group.offsets.of_topic(topic) {
                        if it.topic_id == *id {
                            tombstones.offset(name, topic, it.partition);
                        }
                    }
                }
            }
            tombstones.append(ticket, Answer::Dropped, out);
        }
        // The parent hands no others here.
        Event::Join(_) | Event::Sync(_) | Event::Heartbeat(_) | Event::Leave(_) => {}
    }
}

/// Its append was made.
pub(super) fn appended(
    groups: &mut Groups,
    pending: Pending,
    _now: Now,
    _settings: &GroupSettings,
    out: &mut Output<Groups>,
) {
    match pending {
        Pending::Commit { ticket, results } => out.reply(ticket, Reply::Commit(Ok(results))),
        Pending::Tombstones { offsets, all, answer } => {
            all.dropped.fetch_add(offsets, Ordering::Relaxed);
            if matches!(answer, Some((_, Answer::Dropped))) {
                groups.topics.retain(|name| Arc::strong_count(name) > 1);
            }
            finish(&all, answer, out);
        }
    }
}

/// Its append was not made.
pub(super) fn refused(
    _groups: &mut Groups,
    pending: Pending,
    why: &Refusal,
    _now: Now,
    _settings: &GroupSettings,
    out: &mut Output<Groups>,
) {
    let error = match why {
        Refusal::TooLarge { .. } => GroupError::CommitTooLarge,
        Refusal::NotEnoughReplicas | Refusal::DiskFull => GroupError::NotAvailable(why.to_string()),
        Refusal::NotHere(why) => GroupError::NotCoordinator(why.clone()),
    };
    match pending {
        Pending::Commit { ticket, .. } => out.reply(ticket, Reply::Commit(Err(error))),
        Pending::Tombstones { all, answer, .. } => {
            let _ = all.failed.set(error);
            finish(&all, answer, out);
        }
    }
}

fn finish(all: &Progress, answer: Option<(Ticket, Answer)>, out: &mut Output<Groups>) {
    let Some((ticket, answer)) = answer else { return };
    let failed = all.failed.get().cloned();
    let reply = match answer {
        Answer::Delete => Reply::Delete(failed.map_or(Ok(()), Err)),
        Answer::DeleteOffsets(results) => Reply::DeleteOffsets(failed.map_or(Ok(results), Err)),
        Answer::Dropped => {
            let dropped = all.dropped.load(Ordering::Relaxed);
            failed.map_or(Reply::Dropped(dropped), |error| Reply::DroppedInPart(dropped, error))
        }
    };
    out.reply(ticket, reply);
}

/// Puts the record of each offset, group after group by name.
pub(super) fn live(groups: &Groups, put: &mut dyn FnMut(Record)) {
    for (name, group) in groups.in_order() {
        for (topic, it) in group.offsets.iter() {
            // What was decoded from such bytes fits into them.
            if let (Ok(key), Ok(value)) = (records::offset_key(name, topic, it.partition), it.encode()) {
                put(Record { key, value: Some(value) });
            }
        }
    }
}

/// What to store for each partition of the commit, and each one's result.
type Stored = (Vec<Record>, Vec<Vec<Result<Option<i64>, GroupError>>>);

fn records_of(groups: &Groups, commit: &Commit, now: Now, settings: &GroupSettings) -> Result<Stored, GroupError> {
    match groups.groups.get(&commit.group) {
        Some(group) => {
            group.classic.check_commit(&commit.member_id, commit.instance_id.as_deref(), commit.generation)?
        }
        // Clients without a group: their first commit makes it.
        None if commit.generation < 0 => {
            classic::Classic::default().check_commit(
                &commit.member_id,
                commit.instance_id.as_deref(),
                commit.generation,
            )?;
        }
        None => return Err(GroupError::GroupIdNotFound),
    }
    // Before version 4 of the record; 0 is the earliest there is.
    let expire_ms = commit.retention_ms.map_or(-1, |ms| now.wall_ms.saturating_add(ms).max(0));
    let mut records = Vec::with_capacity(commit.topics.iter().map(|t| t.partitions.len()).sum());
    let mut results = Vec::with_capacity(commit.topics.len());
    for topic in &commit.topics {
        let mut of_topic = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            if let Err(e) = check_metadata(&partition.metadata, settings.offset_metadata_bytes_max) {
                of_topic.push(Err(e));
                continue;
            }
            let value = OffsetValue {
                offset: partition.offset,
                leader_epoch: partition.leader_epoch,
                metadata: &partition.metadata,
                commit_ms: now.wall_ms,
                expire_ms,
                topic_id: topic.id,
            };
            let key = records::offset_key(&commit.group, &topic.name, partition.index);
            let too_long = |e: TooLong| GroupError::InvalidRequest(e.to_string());
            let key = key.map_err(too_long)?;
            records.push(Record { key, value: Some(value.encode().map_err(too_long)?) });
            of_topic.push(Ok(before(groups, commit, topic, partition.index)));
        }
        results.push(of_topic);
    }
    Ok((records, results))
}

/// Where the group stands in a partition that it commits to.
fn before(groups: &Groups, commit: &Commit, topic: &CommitTopic, partition: i32) -> Option<i64> {
    let (_, it) = groups.groups.get(&commit.group)?.offsets.get(&topic.name, partition)?;
    (it.topic_id == topic.id || it.topic_id.is_nil()).then_some(it.offset)
}

/// Kafka counts Java's characters (UTF-16), of which there are at most as many as bytes.
fn check_metadata(metadata: &str, max: usize) -> Result<(), GroupError> {
    if metadata.len() <= max || metadata.encode_utf16().count() <= max {
        return Ok(());
    }
    Err(GroupError::OffsetMetadataTooLarge { size_bytes: metadata.len(), max_bytes: max })
}

/// A group that is not there has committed nothing. Members are not asked for: only KIP-848 groups do that.
fn fetched(groups: &Groups, fetch: &Fetch) -> Vec<Committed> {
    let Some(group) = groups.groups.get(&fetch.group) else { return Vec::new() };
    let Some(topics) = &fetch.topics else {
        return group.offsets.iter().map(|(topic, it)| it.committed(topic)).collect();
    };
    let mut found = Vec::new();
    for topic in topics.iter().filter(|topic| !topic.id.is_nil()) {
        for &partition in &topic.partitions {
            if let Some((name, it)) = group.offsets.get(&topic.name, partition)
                && (it.topic_id == topic.id || it.topic_id.is_nil())
            {
                found.push(it.committed(name));
            }
        }
    }
    found
}

fn list(groups: &Groups) -> Vec<Listed> {
    let listed = groups.in_order().into_iter().map(|(name, group)| Listed {
        group: name.clone(),
        state: group.classic.state(),
        protocol_type: group.classic.protocol_type().cloned().unwrap_or_default(),
    });
    listed.collect()
}

/// DeleteGroups (Kafka's `validateDeleteGroup`): offsets first, the group last.
fn delete(groups: &Groups, ticket: Ticket, name: &Arc<str>, out: &mut Output<Groups>) {
    let refusal = match groups.groups.get(name).map(|group| group.classic.state()) {
        None | Some(State::Dead) => Some(GroupError::GroupIdNotFound),
        Some(State::Empty) => None,
        Some(_) => Some(GroupError::NonEmptyGroup),
    };
    if let Some(e) = refusal {
        return out.reply(ticket, Reply::Delete(Err(e)));
    }
    let mut tombstones = Tombstones::default();
    for (topic, it) in groups.groups.get(name).into_iter().flat_map(|group| group.offsets.iter()) {
        tombstones.offset(name, topic, it.partition);
    }
    tombstones.group(name);
    tombstones.append(ticket, Answer::Delete, out);
}

/// OffsetDelete (Kafka's `validateOffsetDelete`). What was never committed is deleted just as well.
fn delete_offsets(
    groups: &Groups,
    ticket: Ticket,
    name: &Arc<str>,
    topics: &[(Arc<str>, Vec<i32>)],
    out: &mut Output<Groups>,
) {
    let group = match groups.groups.get(name) {
        None => return out.reply(ticket, Reply::DeleteOffsets(Err(GroupError::GroupIdNotFound))),
        Some(group) => group,
    };
    match group.classic.state() {
        State::Dead => return out.reply(ticket, Reply::DeleteOffsets(Err(GroupError::GroupIdNotFound))),
        State::Empty => {}
        // Members of another kind: nobody knows what they read.
        _ if !group.classic.is_consumer() => {
            return out.reply(ticket, Reply::DeleteOffsets(Err(GroupError::NonEmptyGroup)));
        }
        _ => {}
    }
    let mut tombstones = Tombstones::default();
    let mut results = Vec::with_capacity(topics.len());
    for (topic, partitions) in topics {
        let subscribed = group.classic.subscribes(topic);
        let of_topic = partitions.iter().map(|&partition| {
            if subscribed {
                return Err(GroupError::GroupSubscribedToTopic);
            }
            if group.offsets.get(topic, partition).is_some() {
                tombstones.offset(name, topic, partition);
            }
            Ok(())
        });
        results.push(of_topic.collect());
    }
    tombstones.append(ticket, Answer::DeleteOffsets(results), out);
}

/// Tombstones on their way, in batches that fit.
#[derive(Debug, Default)]
struct Tombstones {
    full: Vec<Batch>,
    open: Batch,
}

#[derive(Debug, Default)]
struct Batch {
    records: Vec<Record>,
    bytes: usize,
    offsets: usize,
}

impl Tombstones {
    fn offset(&mut self, group: &str, topic: &str, partition: i32) {
        // A name that does not fit is not stored.
        if let Ok(key) = records::offset_key(group, topic, partition) {
            self.put(key);
            self.open.offsets += 1;
        }
    }

    fn group(&mut self, group: &str) {
        if let Ok(key) = records::group_key(group) {
            self.put(key);
        }
    }

    fn put(&mut self, key: Vec<u8>) {
        // Lengths, deltas, attributes: at most 5 varints and a byte.
        let bytes = key.len() + 32;
        if self.open.bytes + bytes > TOMBSTONES_BYTES_MAX && !self.open.records.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
        self.open.bytes += bytes;
        self.open.records.push(Record { key, value: None });
    }

    /// Wants them stored; `ticket` is answered when the last one has an outcome, at once if there are none.
    fn append(self, ticket: Ticket, answer: Answer, out: &mut Output<Groups>) {
        let all = Arc::new(Progress::default());
        let Tombstones { full, open } = self;
        if open.records.is_empty() {
            return finish(&all, Some((ticket, answer)), out);
        }
        for batch in full {
            let pending = Pending::Tombstones { offsets: batch.offsets, all: all.clone(), answer: None };
            out.append(batch.records, AnyPending::Offsets(pending));
        }
        let pending = Pending::Tombstones { offsets: open.offsets, all, answer: Some((ticket, answer)) };
        out.append(open.records, AnyPending::Offsets(pending));
    }
}

#[cfg(test)]
mod tests;

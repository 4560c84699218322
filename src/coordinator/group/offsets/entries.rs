//! The offsets of one group, kept small: a table of topics, a sorted list of partitions each.

use super::super::{
    Committed,
    records::{OffsetValue, TooLong},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// Offsets of one group.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    topics: HashMap<Arc<str>, Topic>,
}

#[derive(Debug, PartialEq, Eq)]
struct Topic {
    /// Of all entries that do not say otherwise.
    id: Uuid,
    /// By partition.
    entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    partition: i32,
    leader_epoch: i32,
    offset: i64,
    commit_ms: i64,
    /// What most have not.
    more: Option<Box<More>>,
}

#[derive(Debug, PartialEq, Eq)]
struct More {
    metadata: Arc<str>,
    expire_ms: i64,
    topic_id: Uuid,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// One committed offset, looked at.
#[derive(Clone, Copy, Debug)]
pub(in crate::coordinator::group) struct Stored<'a> {
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub commit_ms: i64,
    /// -1 = by the broker's retention.
    pub expire_ms: i64,
    /// Nil = unknown.
    pub topic_id: Uuid,
    metadata: Option<&'a Arc<str>>,
}

impl Stored<'_> {
    pub fn committed(&self, topic: &Arc<str>) -> Committed {
        Committed {
            topic: topic.clone(),
            topic_id: self.topic_id,
            partition: self.partition,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.cloned().unwrap_or_default(),
            commit_ms: self.commit_ms,
        }
    }

    /// Bytes of its record.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let value = OffsetValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.map_or("", |text| text),
            commit_ms: self.commit_ms,
            expire_ms: self.expire_ms,
            topic_id: self.topic_id,
        };
        value.encode()
    }
}

impl Topic {
    fn find(&self, partition: i32) -> Result<usize, usize> {
        // Most ask for the last one, or put one behind it.
        match self.entries.last() {
            Some(last) if last.partition < partition => Err(self.entries.len()),
            _ => self.entries.binary_search_by_key(&partition, |entry| entry.partition),
        }
    }

    fn stored<'a>(&self, entry: &'a Entry) -> Stored<'a> {
        let more = entry.more.as_deref();
        Stored {
            partition: entry.partition,
            offset: entry.offset,
            leader_epoch: entry.leader_epoch,
            commit_ms: entry.commit_ms,
            expire_ms: more.map_or(-1, |more| more.expire_ms),
            topic_id: more.map_or(self.id, |more| more.topic_id),
            metadata: more.map(|more| &more.metadata),
        }
    }
}

impl Offsets {
    /// Nothing is committed.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.topics.values().map(|topic| topic.entries.len()).sum()
    }

    /// Stores one. `names` holds the names of topics, for all groups.
    pub(super) fn put(&mut self, topic: &str, partition: i32, value: &OffsetValue, names: &mut HashSet<Arc<str>>) {
        if !self.topics.contains_key(topic) {
            let name: Arc<str> = names.get(topic).cloned().unwrap_or_else(|| {
                let name: Arc<str> = topic.into();
                names.insert(name.clone());
                name
            });
            self.topics.insert(name, Topic { id: value.topic_id, entries: Vec::new() });
        }
        let Some(topic) = self.topics.get_mut(topic) else { return };
        let at = topic.find(partition);
        if topic.entries.is_empty() || (topic.entries.len() == 1 && at.is_ok()) {
            topic.id = value.topic_id;
        }
        let plain = value.metadata.is_empty() && value.expire_ms < 0 && value.topic_id == topic.id;
        let more = (!plain).then(|| {
            // The same again, as a rule (a client's own mark): then it is the same memory.
            let before = at.ok().and_then(|at| topic.entries[at].more.as_ref()).map(|more| &more.metadata);
            let metadata = match before {
                Some(before) if **before == *value.metadata => before.clone(),
                _ if value.metadata.is_empty() => Arc::default(),
                _ => value.metadata.into(),
            };
            Box::new(More { metadata, expire_ms: value.expire_ms.max(-1), topic_id: value.topic_id })
        });
        let entry = Entry {
            partition,
            leader_epoch: value.leader_epoch,
            offset: value.offset,
            commit_ms: value.commit_ms,
            more,
        };
        match at {
            Ok(at) => topic.entries[at] = entry,
            Err(at) => {
                // Most topics have few partitions, and many groups have offsets of them: a quarter of room at most.
                if topic.entries.len() == topic.entries.capacity() {
                    topic.entries.reserve_exact(topic.entries.len() / 4 + 1);
                }
                topic.entries.insert(at, entry);
            }
        }
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        let Some(it) = self.topics.get_mut(topic) else { return };
        if let Ok(at) = it.find(partition) {
            it.entries.remove(at);
        }
        if it.entries.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// One, with the name of its topic.
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<(&Arc<str>, Stored<'_>)> {
        let (name, it) = self.topics.get_key_value(topic)?;
        let at = it.find(partition).ok()?;
        Some((name, it.stored(&it.entries[at])))
    }

    /// Those of one topic, by partition.
    pub(in crate::coordinator::group) fn of_topic(&self, topic: &str) -> impl Iterator<Item = Stored<'_>> {
        self.topics.get(topic).into_iter().flat_map(|it| it.entries.iter().map(|entry| it.stored(entry)))
    }

    /// Topics and ids committed to; one of them may come several times.
    pub(super) fn topics(&self) -> impl Iterator<Item = (&Arc<str>, Uuid)> {
        self.topics.iter().flat_map(|(name, it)| {
            let others = it.entries.iter().filter_map(|entry| entry.more.as_deref()).map(|more| more.topic_id);
            // It may be that none is left of the first one's id.
            let first = it.entries.iter().any(|entry| entry.more.is_none()).then_some(it.id);
            first.into_iter().chain(others).map(move |id| (name, id))
        })
    }

    /// All, by topic and partition.
    pub(in crate::coordinator::group) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Stored<'_>)> {
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_unstable_by_key(|(name, _)| *name);
        topics.into_iter().flat_map(|(name, it)| it.entries.iter().map(move |entry| (name, it.stored(entry))))
    }
}

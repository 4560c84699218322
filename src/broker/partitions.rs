//! The partition table: which partitions live here. Swapped whole by the reconciler, read by everybody without a lock.

use crate::partition::{Partition, TopicState};
use arc_swap::{ArcSwap, Guard};
use imbl::OrdMap;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

/// One topic with its partitions.
#[derive(Debug)]
pub struct TopicEntry {
    pub state: Arc<TopicState>,
    /// Index = partition.
    pub partitions: Vec<Arc<Partition>>,
}

impl TopicEntry {
    /// A partition by its number as a client gives it.
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// All topics as of one image. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Table {
    by_name: OrdMap<Arc<str>, Arc<TopicEntry>>,
    by_id: OrdMap<Uuid, Arc<TopicEntry>>,
}

impl Table {
    /// A topic by name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicEntry>> {
        self.by_name.get(name)
    }
    /// A topic by id.
    pub fn by_id(&self, id: Uuid) -> Option<&Arc<TopicEntry>> {
        self.by_id.get(&id)
    }
    /// Every topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicEntry>> {
        self.by_name.values()
    }
    /// Every partition, by topic name.
    pub fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.topics().flat_map(|t| &t.partitions)
    }

    pub(super) fn insert(&mut self, entry: TopicEntry) {
        let entry = Arc::new(entry);
        self.by_name.insert(entry.state.name.clone(), entry.clone());
        self.by_id.insert(entry.state.id, entry);
    }
    pub(super) fn remove(&mut self, id: Uuid) -> Option<Arc<TopicEntry>> {
        let entry = self.by_id.remove(&id)?;
        // The name may already belong to a topic created anew.
        if self.by_name.get(&entry.state.name).is_some_and(|e| e.state.id == id) {
            self.by_name.remove(&entry.state.name);
        }
        Some(entry)
    }
}

/// The table in force, and up to which metadata index it has followed.
#[derive(Debug, Default)]
pub struct Partitions {
    table: ArcSwap<Table>,
    applied: watch::Sender<Applied>,
}

/// How far the table has followed the metadata.
#[derive(Clone, Copy, Debug, Default)]
struct Applied {
    index: u64,
    /// Nobody follows any more.
    ended: bool,
}

impl Partitions {
    /// The table now, for a few look-ups: hold it briefly.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }
    /// The table now, to keep.
    pub fn snapshot(&self) -> Arc<Table> {
        self.table.load_full()
    }
    /// A partition by topic name.
    pub fn get(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.table().by_name(topic)?.partition(index).cloned()
    }
    /// A partition by topic id.
    pub fn get_by_id(&self, topic: Uuid, index: i32) -> Option<Arc<Partition>> {
        self.table().by_id(topic)?.partition(index).cloned()
    }
    /// Metadata index that the table has followed to.
    pub fn applied(&self) -> u64 {
        self.applied.borrow().index
    }
    /// Waits until the table has followed the metadata to `index` (an image's index after a proposal): what was created is known here then. False when it never
    /// will, since the broker is about to end.
    #[must_use]
    pub async fn wait_applied(&self, index: u64) -> bool {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as `self`.
        applied.wait_for(|applied| applied.index >= index || applied.ended).await.is_ok_and(|a| a.index >= index)
    }

    /// The table follows nothing from now on.
    pub(super) fn end(&self) {
        self.applied.send_modify(|applied| applied.ended = true);
    }

    pub(super) fn publish(&self, table: Table, index: u64) {
        self.table.store(Arc::new(table));
        self.applied.send_modify(|applied| applied.index = index);
    }
}

//! Follows the metadata: what the image says is there, is there.
//!
//! Topics are known by id: one that was deleted and created again under its name is another topic with other partitions, and a producer still
//! writing to the old one is told so.

use super::{
    Broker,
    partitions::{Table, TopicEntry},
};
use crate::{
    config::TopicSettings,
    metadata::{
        Image, Topic,
        delta::{Delta, TopicChange},
    },
    partition::{Partition, Shared, TopicState},
};
use std::sync::Arc;
use tokio::sync::watch;

/// Held while the metadata is followed; by whatever way that ends, nobody waits for the table any more.
struct Following(Arc<Broker>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.partitions.end();
    }
}

/// Follows `images` from `current` on, for ever.
pub(super) async fn follow(broker: Arc<Broker>, mut current: Arc<Image>, mut images: watch::Receiver<Arc<Image>>) {
    let _following = Following(broker.clone());
    loop {
        let next = images.borrow_and_update().clone();
        if next.index != current.index {
            broker.reconcile(&current, &next);
            current = next;
        }
        tokio::select! {
            biased;
            changed = images.changed() => if changed.is_err() { return },
            () = broker.reloaded.notified() => {
                broker.refresh_settings(&current);
                broker.refresh_topics(&broker.partitions.snapshot(), &current);
            }
        }
    }
}

/// Deletes the data of topics that are gone.
async fn delete(gone: Vec<Deletion>) {
    for deletion in gone {
        for partition in &deletion.topic.partitions {
            partition.delete().await;
        }
    }
}

/// A topic whose data is being deleted: its name counts in [`Shared::deleting`] until this is dropped, whatever becomes of the work.
struct Deletion {
    shared: Arc<Shared>,
    topic: Arc<TopicEntry>,
}

impl Deletion {
    fn begin(shared: &Arc<Shared>, topic: Arc<TopicEntry>) -> Deletion {
        shared.deleting.send_modify(|names| *names.entry(topic.state.name.clone()).or_default() += 1);
        Deletion { shared: shared.clone(), topic }
    }
}

impl Drop for Deletion {
    fn drop(&mut self) {
        self.shared.deleting.send_modify(|names| {
            if let Some(count) = names.get_mut(&self.topic.state.name) {
                *count -= 1;
                if *count == 0 {
                    names.remove(&self.topic.state.name);
                }
            }
        });
    }
}

impl Broker {
    /// Brings the partition table from one image to another: pure look-ups and small objects, no I/O. Data of deleted topics goes by a task of its own.
    pub(super) fn reconcile(self: &Arc<Self>, before: &Image, after: &Image) {
        let delta = Delta::between(before, after);
        let defaults_changed = delta.broker_configs_changed(self.config().node_id);
        if defaults_changed {
            self.refresh_settings(after);
        }
        let mut table = (*self.partitions.snapshot()).clone();
        let gone: Vec<_> = delta.deleted.iter().filter_map(|topic| table.remove(topic.id)).collect();
        for topic in &delta.created {
            let entry = self.new_topic(topic);
            table.insert(entry);
        }
        for change in &delta.changed {
            if let Some(entry) = self.change_topic(&table.by_id(change.after.id).cloned(), change) {
                table.insert(entry);
            }
        }
        if defaults_changed {
            self.refresh_topics(&table, after);
        }
        for partition in gone.iter().flat_map(|t| &t.partitions) {
            partition.mark_deleted();
        }
        // Before anybody can see a topic of the same name.
        let gone: Vec<_> = gone.into_iter().map(|topic| Deletion::begin(&self.shared, topic)).collect();
        self.groups_follow(&table);
        self.partitions.publish(table, after.index);
        if !gone.is_empty() {
            self.expiry.topics_gone(gone.iter().map(|it| (it.topic.state.name.clone(), it.topic.state.id)));
            self.env.spawn("delete topics", delete(gone));
        }
    }

    fn new_topic(&self, topic: &Topic) -> TopicEntry {
        let state = Arc::new(TopicState::new(topic.id, topic.name.clone(), self.topic_settings(topic)));
        let partition = |(index, facts)| Partition::new(self.shared.clone(), state.clone(), index as i32, facts);
        let partitions = topic.partitions.iter().enumerate().map(partition).collect();
        TopicEntry { state, partitions }
    }

    /// Follows a change of a topic; a new entry when it grew.
    fn change_topic(&self, entry: &Option<Arc<TopicEntry>>, change: &TopicChange) -> Option<TopicEntry> {
        let entry = entry.as_ref()?;
        if change.configs {
            self.refresh_topic(entry, &change.after);
        }
        for index in &change.partitions {
            if let (Some(p), Some(facts)) = (entry.partition(*index), change.after.partitions.get(*index as usize)) {
                p.set_facts(facts);
            }
        }
        let from = change.grown_from?;
        let mut partitions = entry.partitions.clone();
        for (index, facts) in change.after.partitions.iter().enumerate().skip(from as usize) {
            partitions.push(Partition::new(self.shared.clone(), entry.state.clone(), index as i32, facts));
        }
        Some(TopicEntry { state: entry.state.clone(), partitions })
    }

    /// Broker settings changed: every topic's may have.
    fn refresh_topics(&self, table: &Table, image: &Image) {
        for topic in image.topics.values() {
            if let Some(entry) = table.by_id(topic.id) {
                self.refresh_topic(entry, topic);
            }
        }
    }

    fn refresh_topic(&self, entry: &TopicEntry, topic: &Topic) {
        let settings = self.topic_settings(topic);
        if **entry.state.settings.load() == *settings {
            return;
        }
        entry.state.settings.store(settings);
        for partition in &entry.partitions {
            partition.settings_changed();
        }
    }

    /// Settings of a topic; topics without overrides share one value.
    fn topic_settings(&self, topic: &Topic) -> Arc<TopicSettings> {
        if topic.configs.is_empty() {
            return self.topic_defaults.load_full();
        }
        Arc::new(self.config().topic(&topic.configs, &self.dynamic()))
    }
}

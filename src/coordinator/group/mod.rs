//! The group coordinator: classic consumer groups and the offsets of every group (Kafka's `GroupCoordinator`, `GroupMetadata`, `OffsetMetadataManager`).
//!
//! Belongs here: [`Groups`], the machine over one partition of `__consumer_offsets`; [`event`], what is asked of it and what it answers; [`classic`], members and rebalances
//! of one group; [`offsets`], what a group has committed, and what is shown and deleted of groups; `overview`, groups at a glance; [`consumer`], what consumers say to each other; [`records`], the bytes stored, which are Kafka's own. Must not: know
//! connections or protocol messages.
//!
//! A group with offsets but without members is *Empty*; one that has neither is gone with the next look at what expired. KIP-848 groups will stand beside [`classic::Classic`].

pub mod classic;
pub mod consumer;
mod event;
pub mod offsets;
mod overview;
pub mod records;

use super::{
    machine::{Machine, Now, Output, Record, Refusal, Ticket},
    timers::Timers,
};
use crate::config::GroupSettings;
pub use event::*;
pub use overview::{CommittedAt, GroupOverview, Overview, OverviewPage};
use records::Key;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// One group.
#[derive(Debug, Default)]
pub struct Group {
    pub classic: classic::Classic,
    pub offsets: offsets::Offsets,
}

/// The machine over one partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub struct Groups {
    groups: HashMap<Arc<str>, Group>,
    /// Names of the topics that groups have committed to, one copy each; those of no use any more go with the next look at what expired.
    topics: HashSet<Arc<str>>,
    /// Records that this release cannot read, key and value as they are: the latest of each key. They say nothing here, and are written anew with all the rest.
    unread: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the members of all groups take, and the ids handed out: see `classic::weight`.
    members_bytes: usize,
    /// Deadlines of members and rebalances.
    timers: Timers<classic::Timer>,
    /// The log has been read to its end.
    loaded: bool,
}

impl Groups {
    /// Every group, by name: the order in which they are shown and stored.
    fn in_order(&self) -> Vec<(&Arc<str>, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_unstable_by_key(|(name, _)| *name);
        groups
    }
}

/// What is remembered of an append until its outcome is known.
#[derive(Debug)]
pub enum Pending {
    /// See `classic.rs`; of the group named.
    Classic(Arc<str>, classic::Pending),
    /// See `offsets.rs`.
    Offsets(offsets::Pending),
}

impl Machine for Groups {
    type Event = Event;
    type Reply = Reply;
    type Pending = Pending;
    type Settings = GroupSettings;

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>, now: Now) -> Result<(), String> {
        let (is_read, outcome) = match Key::decode(key) {
            Ok(Key::Offset { group, topic, partition }) => {
                let outcome = offsets::replay(self, group, topic, partition, value, now);
                (outcome.is_ok(), outcome)
            }
            Ok(Key::Group { group }) => {
                let outcome = classic::replay(self, group.into(), value, now);
                (outcome.is_ok(), outcome)
            }
            Ok(Key::Unknown(_)) => (false, Ok(())),
            Err(why) => (false, Err(why)),
        };
        match value {
            Some(value) if !is_read => {
                self.unread.insert(key.to_vec(), value.to_vec());
            }
            _ if self.unread.is_empty() => {}
            _ => {
                self.unread.remove(key);
            }
        }
        outcome
    }

    fn loaded(&mut self, now: Now, settings: &GroupSettings, out: &mut Output<Self>) {
        self.loaded = true;
        offsets::loaded(self, now, settings, out);
        classic::loaded(self, now, settings, out);
    }

    fn may_skip(event: &Event) -> bool {
        match event {
            Event::Join(_) | Event::Sync(_) | Event::Heartbeat(_) | Event::Fetch(_) => true,
            Event::Describe { .. } | Event::List | Event::Overview(_) => true,
            Event::ExpiryCandidates | Event::Topics => true,
            Event::Leave(_) | Event::Commit(_) | Event::Delete { .. } | Event::DeleteOffsets { .. } => false,
            Event::Expire(_) | Event::TopicsDeleted(_) => false,
        }
    }

    fn handle(&mut self, ticket: Ticket, event: Event, now: Now, settings: &GroupSettings, out: &mut Output<Self>) {
        match event {
            Event::Join(_) | Event::Sync(_) | Event::Heartbeat(_) | Event::Leave(_) => {
                classic::handle(self, ticket, event, now, settings, out);
            }
            Event::Commit(_)
            | Event::Fetch(_)
            | Event::Describe { .. }
            | Event::Delete { .. }
            | Event::DeleteOffsets { .. }
            | Event::List
            | Event::Overview(_)
            | Event::ExpiryCandidates
            | Event::Expire(_)
            | Event::Topics
            | Event::TopicsDeleted(_) => offsets::handle(self, ticket, event, now, settings, out),
        }
    }

    fn appended(&mut self, pending: Pending, now: Now, settings: &GroupSettings, out: &mut Output<Self>) {
        match pending {
            Pending::Classic(group, pending) => classic::appended(self, &group, pending, now, settings, out),
            Pending::Offsets(pending) => offsets::appended(self, pending, now, settings, out),
        }
    }

    fn refused(&mut self, pending: Pending, why: &Refusal, now: Now, settings: &GroupSettings, out: &mut Output<Self>) {
        match pending {
            Pending::Classic(group, pending) => classic::refused(self, &group, pending, why, now, settings, out),
            Pending::Offsets(pending) => offsets::refused(self, pending, why, now, settings, out),
        }
    }

    fn next_tick(&self) -> Option<u64> {
        classic::next_tick(self)
    }

    fn tick(&mut self, now: Now, settings: &GroupSettings, out: &mut Output<Self>) {
        classic::tick(self, now, settings, out);
    }

    fn live(&self, put: &mut dyn FnMut(Record)) {
        classic::live(self, put);
        offsets::live(self, put);
        // Last: what is known of such a key was stored before.
        for (key, value) in &self.unread {
            put(Record { key: key.clone(), value: Some(value.clone()) });
        }
    }
}

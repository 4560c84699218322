//! Which offsets have had their time (Kafka's `OffsetExpirationCondition`, `ClassicGroup.offsetExpirationCondition`).
//!
//! - An offset with an expiry of its own: when that has come.
//! - A group that had members and has none: the retention after it became empty or after the commit, whichever is later.
//! - A Stable group of consumers: the retention after the commit, of topics no member subscribes to.
//! - A group that never had members (clients that assign themselves): the retention after the commit.
//! - Any other group keeps what it has.

use super::{
    super::{Candidate, Group, Groups, OffsetKey, State},
    Tombstones,
    entries::Stored,
};
use crate::config::GroupSettings;
use std::{collections::HashMap, sync::Arc};

/// Offsets whose time has passed at `now_ms` (wall clock), by group.
pub(super) fn candidates(groups: &Groups, now_ms: i64, settings: &GroupSettings) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (name, group) in groups.in_order() {
        // The subscription is asked once a topic.
        let mut last: Option<(&Arc<str>, bool)> = None;
        for (topic, it) in group.offsets.iter() {
            let subscribed = match last {
                Some((name, subscribed)) if Arc::ptr_eq(name, topic) => subscribed,
                _ => group.classic.subscribes(topic),
            };
            last = Some((topic, subscribed));
            if !subscribed && is_over(group, &it, now_ms, settings) {
                found.push(Candidate {
                    key: OffsetKey { group: name.clone(), topic: topic.clone(), partition: it.partition },
                    topic_id: it.topic_id,
                    offset: it.offset,
                    commit_ms: it.commit_ms,
                    own_expiry: it.expire_ms >= 0,
                });
            }
        }
    }
    found
}

/// Tombstones of those of `candidates` that are still as they were, and of every group without members that has nothing then.
pub(super) fn tombstones(
    groups: &Groups,
    candidates: &[Candidate],
    now_ms: i64,
    settings: &GroupSettings,
) -> Tombstones {
    let mut tombstones = Tombstones::default();
    let mut dropped: HashMap<&str, usize> = HashMap::new();
    for candidate in candidates {
        let OffsetKey { group: name, topic, partition } = &candidate.key;
        let Some(group) = groups.groups.get(name) else { continue };
        let Some((_, it)) = group.offsets.get(topic, *partition) else { continue };
        let same =
            (it.topic_id, it.offset, it.commit_ms) == (candidate.topic_id, candidate.offset, candidate.commit_ms);
        if same && !group.classic.subscribes(topic) && is_over(group, &it, now_ms, settings) {
            tombstones.offset(name, topic, *partition);
            *dropped.entry(name).or_default() += 1;
        }
    }
    for (name, group) in groups.in_order() {
        let nobody = group.classic.is_vacant() && group.classic.state() == State::Empty;
        if nobody && group.offsets.len() == dropped.get(&**name).copied().unwrap_or(0) {
            tombstones.group(name);
        }
    }
    tombstones
}

/// Whether the offset's time has passed; its topic is one that no member subscribes to.
fn is_over(group: &Group, it: &Stored<'_>, now_ms: i64, settings: &GroupSettings) -> bool {
    let since_ms = match (group.classic.protocol_type(), group.classic.state()) {
        (None, State::Empty) => it.commit_ms,
        (Some(_), State::Empty) => group.classic.state_ms().map_or(it.commit_ms, |ms| ms.max(it.commit_ms)),
        (_, State::Stable) if group.classic.is_consumer() => it.commit_ms,
        _ => return false,
    };
    match it.expire_ms {
        -1 => now_ms.saturating_sub(since_ms) >= settings.offsets_retention_ms,
        expire_ms => now_ms >= expire_ms,
    }
}

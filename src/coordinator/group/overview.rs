//! Groups of one shard at a glance: what lag is computed from. Looks only, and never at more than was asked for.

use super::{Committed, Group, Groups, State};
use std::{collections::BinaryHeap, sync::Arc};
use uuid::Uuid;

/// Which groups of a shard are wanted, by name.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Those behind this name; `None` = from the first.
    pub after: Option<Arc<str>>,
    /// Those whose name begins so.
    pub prefix: Arc<str>,
    /// Those that have committed to this topic, or whose members subscribe to it.
    pub topic: Option<Arc<str>>,
    /// Those in this state.
    pub state: Option<State>,
    /// At most so many.
    pub groups_max: usize,
    /// At most so many committed offsets in all; one group is given in any case.
    pub offsets_max: usize,
}

/// Answer to [`Overview`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverviewPage {
    /// By name.
    pub groups: Vec<GroupOverview>,
    /// How many that are wanted are behind the last one.
    pub behind: usize,
}

/// One group of an [`OverviewPage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOverview {
    pub group: Arc<str>,
    pub state: State,
    /// Wall clock of the last change of state, ms; `None` = unknown.
    pub state_ms: Option<i64>,
    /// Empty where none was ever given.
    pub protocol_type: Arc<str>,
    pub members: usize,
    /// By topic and partition.
    pub committed: Vec<CommittedAt>,
}

/// A committed offset without the text beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedAt {
    pub topic: Arc<str>,
    /// Nil = belongs to any topic of the name.
    pub topic_id: Uuid,
    pub partition: i32,
    pub offset: i64,
    /// -1 = not given.
    pub leader_epoch: i32,
    /// Wall clock of the commit, ms since 1970.
    pub commit_ms: i64,
}

impl From<Committed> for CommittedAt {
    fn from(it: Committed) -> CommittedAt {
        CommittedAt {
            topic: it.topic,
            topic_id: it.topic_id,
            partition: it.partition,
            offset: it.offset,
            leader_epoch: it.leader_epoch,
            commit_ms: it.commit_ms,
        }
    }
}

/// The page asked for. Looks at the name of each group, and at no more of those that are not in it.
pub(super) fn page(groups: &Groups, wanted: &Overview) -> OverviewPage {
    let is_wanted = |(name, group): &(&Arc<str>, &Group)| {
        wanted.after.as_ref().is_none_or(|after| *name > after)
            && name.starts_with(&*wanted.prefix)
            && wanted.state.is_none_or(|state| group.classic.state() == state)
            && wanted.topic.as_ref().is_none_or(|topic| is_about(group, topic))
    };
    let (names, all) = lowest(groups.groups.iter().filter(is_wanted).map(|(name, _)| name), wanted.groups_max);
    let mut page = OverviewPage { groups: Vec::with_capacity(names.len()), behind: 0 };
    let mut offsets = 0;
    for name in names {
        let Some(group) = groups.groups.get(name) else { continue };
        offsets += group.offsets.len();
        if offsets > wanted.offsets_max && !page.groups.is_empty() {
            break;
        }
        page.groups.push(overview(name, group));
    }
    page.behind = all - page.groups.len();
    page
}

/// The `max` lowest of `names` in order, and how many names there are.
fn lowest<'a>(names: impl Iterator<Item = &'a Arc<str>>, max: usize) -> (Vec<&'a Arc<str>>, usize) {
    let mut kept = BinaryHeap::new();
    let mut all = 0;
    for name in names {
        all += 1;
        kept.push(name);
        if kept.len() > max {
            kept.pop();
        }
    }
    (kept.into_sorted_vec(), all)
}

fn is_about(group: &Group, topic: &str) -> bool {
    group.offsets.of_topic(topic).next().is_some()
        || (group.classic.knows_subscriptions() && group.classic.subscribes(topic))
}

fn overview(name: &Arc<str>, group: &Group) -> GroupOverview {
    let committed = group.offsets.iter().map(|(topic, it)| CommittedAt {
        topic: topic.clone(),
        topic_id: it.topic_id,
        partition: it.partition,
        offset: it.offset,
        leader_epoch: it.leader_epoch,
        commit_ms: it.commit_ms,
    });
    GroupOverview {
        group: name.clone(),
        state: group.classic.state(),
        state_ms: group.classic.state_ms(),
        protocol_type: group.classic.protocol_type().cloned().unwrap_or_default(),
        members: group.classic.members_count(),
        committed: committed.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::{
        group::records::{OffsetValue, offset_key},
        machine::{Machine, Now},
    };

    const ALL: usize = usize::MAX;

    fn all() -> Overview {
        Overview { after: None, prefix: "".into(), topic: None, state: None, groups_max: ALL, offsets_max: ALL }
    }

    fn groups(offsets: &[(&str, &str, i32, i64)]) -> Groups {
        let mut groups = Groups::default();
        for (group, topic, partition, offset) in offsets {
            let value = OffsetValue {
                offset: *offset,
                leader_epoch: -1,
                metadata: "m",
                commit_ms: 7,
                expire_ms: -1,
                topic_id: Uuid::from_u128(9),
            };
            let (key, value) = (offset_key(group, topic, *partition).unwrap(), value.encode().unwrap());
            groups.replay(&key, Some(&value), Now::default()).unwrap();
        }
        groups
    }

    fn names(page: &OverviewPage) -> Vec<&str> {
        page.groups.iter().map(|group| &*group.group).collect()
    }

    #[test]
    fn groups_come_by_name_with_what_they_committed() {
        let groups = groups(&[("b", "t", 1, 5), ("a", "u", 0, 4), ("b", "t", 0, 3)]);
        let page = page(&groups, &all());
        assert_eq!((names(&page), page.behind), (vec!["a", "b"], 0));
        let b = &page.groups[1];
        assert_eq!((b.state, b.members, b.state_ms, &*b.protocol_type), (State::Empty, 0, None, ""));
        let shown: Vec<_> = b.committed.iter().map(|c| (&*c.topic, c.partition, c.offset, c.commit_ms)).collect();
        assert_eq!(shown, [("t", 0, 3, 7), ("t", 1, 5, 7)]);
        assert!(b.committed.iter().all(|c| c.topic_id == Uuid::from_u128(9)));
    }

    #[test]
    fn pages_follow_each_other_without_gap() {
        let groups =
            groups(&[("a", "t", 0, 1), ("ab", "t", 0, 1), ("b", "t", 0, 1), ("b", "t", 1, 1), ("c", "t", 0, 1)]);
        for (groups_max, offsets_max) in [(1, ALL), (2, ALL), (3, ALL), (ALL, 1), (ALL, 2), (ALL, 3), (2, 0)] {
            let (mut wanted, mut seen) = (Overview { groups_max, offsets_max, ..all() }, Vec::new());
            loop {
                let page = page(&groups, &wanted);
                seen.extend(names(&page).iter().map(|name| name.to_string()));
                wanted.after = seen.last().map(|name| name.as_str().into());
                assert_eq!(seen.len() + page.behind, 4, "{groups_max} {offsets_max}");
                if page.behind == 0 {
                    break;
                }
                assert!(!page.groups.is_empty(), "{groups_max} {offsets_max}");
            }
            assert_eq!(seen, ["a", "ab", "b", "c"], "{groups_max} {offsets_max}");
        }
    }

    #[test]
    fn only_what_is_wanted_is_given() {
        let groups = groups(&[("pay", "orders", 0, 1), ("pay-2", "clicks", 0, 1), ("mail", "orders", 0, 1)]);
        let of = |wanted: Overview| names(&page(&groups, &wanted)).join(" ");
        assert_eq!(of(Overview { prefix: "pay".into(), ..all() }), "pay pay-2");
        assert_eq!(of(Overview { topic: Some("orders".into()), ..all() }), "mail pay");
        assert_eq!(of(Overview { topic: Some("none".into()), ..all() }), "");
        assert_eq!(of(Overview { state: Some(State::Empty), ..all() }), "mail pay pay-2");
        assert_eq!(of(Overview { state: Some(State::Stable), ..all() }), "");
        assert_eq!(of(Overview { after: Some("pay".into()), ..all() }), "pay-2");
    }
}

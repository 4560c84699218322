use super::*;
use crate::partition::Offsets;
use uuid::Uuid;

pub(super) fn at(topic: &str, partition: i32, offset: i64) -> CommittedAt {
    CommittedAt { topic: topic.into(), topic_id: Uuid::nil(), partition, offset, leader_epoch: -1, commit_ms: 1_000 }
}

/// A partition with (log start, watermark) and a commit.
pub(super) fn lag(partition: i32, committed: Option<i64>, ends: (i64, i64), oldest: Oldest) -> PartitionLag {
    PartitionLag {
        topic: "t".into(),
        partition,
        committed: committed.map(|offset| at("t", partition, offset)),
        ends: Some(Offsets { log_start: ends.0, last_stable: ends.1, high_watermark: ends.1, log_end: ends.1 }),
        oldest,
        basis: None,
        unknown: None,
        log: None,
    }
}

#[test]
fn lag_is_to_the_watermark_and_to_the_last_stable_offset_and_never_negative() {
    let mut it = lag(0, Some(4), (0, 10), Oldest::Unknown);
    it.ends = Some(Offsets { log_start: 0, last_stable: 7, high_watermark: 10, log_end: 12 });
    assert_eq!((it.lag_records(), it.lag_records_stable(), it.first_unread()), (Some(6), Some(3), Some(4)));
    it.committed = Some(at("t", 0, 11));
    assert_eq!((it.lag_records(), it.lag_records_stable(), it.first_unread()), (Some(0), Some(0), None));
    it.committed = None;
    assert_eq!((it.lag_records(), it.lag_records_stable(), it.first_unread()), (None, None, None));
    let it = lag(0, Some(4), (6, 10), Oldest::Unknown);
    assert_eq!((it.lag_records(), it.lost_records(), it.first_unread()), (Some(6), 2, Some(6)));
    let it = lag(0, Some(i64::MAX), (0, 10), Oldest::Unknown);
    assert_eq!(it.lag_records(), Some(0));
}

#[test]
fn the_oldest_record_of_all_partitions_counts() {
    let none = lag(0, None, (0, 10), Oldest::Unknown);
    let caught_up = lag(1, Some(10), (0, 10), Oldest::None);
    let old = lag(2, Some(5), (0, 10), Oldest::Since(100));
    let new = lag(3, Some(5), (0, 10), Oldest::Since(900));
    let untimed = lag(4, Some(9), (0, 10), Oldest::Unknown);
    let of = |all: &[&PartitionLag]| total(&all.iter().copied().cloned().collect::<Vec<_>>());
    assert_eq!(of(&[]), (0, Oldest::Unknown));
    assert_eq!(of(&[&none]), (0, Oldest::Unknown), "nothing committed, nothing known");
    assert_eq!(of(&[&caught_up, &none]), (0, Oldest::None));
    assert_eq!(of(&[&new, &old, &caught_up]), (10, Oldest::Since(100)));
    assert_eq!(of(&[&untimed, &caught_up]), (1, Oldest::Unknown), "never 0 seconds while records wait");
    assert_eq!(of(&[&untimed, &new]), (6, Oldest::Since(900)));
}

fn page(names: &[&str], more: bool) -> OverviewPage {
    let group = |name: &&str| GroupOverview {
        group: (*name).into(),
        state: State::Empty,
        state_ms: None,
        protocol_type: "".into(),
        members: 0,
        committed: Vec::new(),
    };
    OverviewPage { groups: names.iter().map(group).collect(), behind: usize::from(more) }
}

#[test]
fn pages_of_shards_become_one_without_gap() {
    let merged = |pages: &[OverviewPage], limit| {
        let (groups, next) = merge(pages.to_vec(), limit);
        let names: Vec<_> = groups.iter().map(|g| g.group.to_string()).collect();
        (names.join(" "), next.map(|n| n.to_string()).unwrap_or_default())
    };
    let (one, two) = (page(&["a", "d"], false), page(&["b", "c"], false));
    assert_eq!(merged(&[one.clone(), two.clone()], 10), ("a b c d".into(), "".into()));
    assert_eq!(merged(&[one.clone(), two.clone()], 4), ("a b c d".into(), "".into()));
    assert_eq!(merged(&[one.clone(), two], 3), ("a b c".into(), "c".into()));
    // The second may have others before d.
    assert_eq!(merged(&[one.clone(), page(&["b", "c"], true)], 10), ("a b c".into(), "c".into()));
    assert_eq!(merged(&[one, page(&["b", "e"], true)], 10), ("a b d e".into(), "e".into()));
    assert_eq!(merged(&[page(&[], false)], 10), ("".into(), "".into()));
}

//! What goes on in a group, in a sentence. Pure.

use super::{GroupLag, PartitionLag, Unknown};
use crate::{coordinator::group::State, limits::LAG_RATE_MS};
use std::sync::Arc;

/// Rates that differ by less than this part are the same.
const SAME_RATE: f64 = 0.01;

/// The member that owns a topic's partition.
type Owner<'a> = dyn Fn(&(Arc<str>, i32)) -> Option<&'a str> + 'a;

/// The one thing about a group that a person should know first: why it stands still, what it lost, or that all is well. `owner` gives the member that owns a partition.
pub fn explain<'a>(group: &GroupLag, owner: &Owner<'a>) -> String {
    let lag = group.lag_records;
    match group.state {
        State::PreparingRebalance => {
            return format!("Rebalancing{}: it waits for its members to join anew.", since(group));
        }
        State::CompletingRebalance => {
            return format!("Rebalancing{}: it waits for its leader's assignment.", since(group));
        }
        State::Dead => return "The group is being removed.".into(),
        State::Empty | State::Stable => {}
    }
    if let Some((lost, at)) = most(group, PartitionLag::lost_records) {
        let (place, offset) = (place(at), committed(at));
        return format!(
            "{} of {place} were deleted before they were read: offset {offset} is committed, and the log begins at {}.",
            records(lost),
            at.ends.map_or(0, |ends| ends.log_start)
        );
    }
    if let Some((_, at)) = most(group, beyond) {
        return format!(
            "Offset {} is committed to {}, which ends at {}: consumers will go where auto.offset.reset sends them.",
            committed(at),
            place(at),
            at.ends.map_or(0, |ends| ends.high_watermark)
        );
    }
    if group.members == 0 {
        return empty(group);
    }
    if let Some((waiting, at)) = most(group, |at| uncommitted(at, owner)) {
        return format!(
            "Member {} owns {} with {} and has committed nothing there.",
            owner(&(at.topic.clone(), at.partition)).unwrap_or_default(),
            place(at),
            records(waiting)
        );
    }
    if let Some((waiting, at)) = most(group, |at| standing(at, group.at_ms)) {
        let age_ms = group.at_ms.saturating_sub(at.committed.as_ref().map_or(0, |it| it.commit_ms));
        let who = match owner(&(at.topic.clone(), at.partition)) {
            Some(member) => format!("by its owner {member}"),
            None => "and no member owns it".into(),
        };
        return format!(
            "Nothing was committed to {} for {} {who}, with {} waiting.",
            place(at),
            duration(age_ms),
            records(waiting)
        );
    }
    if lag == 0 {
        return match gone(group) {
            Some(gone) => gone,
            None if group.partitions.iter().all(|at| at.committed.is_none()) => "Nothing is committed yet.".into(),
            None => "Caught up: everything up to the watermark is committed.".into(),
        };
    }
    let Some(rates) = group.rates else {
        return format!("Behind by {}; the rates are not known yet.", records(lag));
    };
    // Over a minute both are the same but for what came or went at its ends.
    if rates.produce_per_s > 0.0 && (rates.consume_per_s / rates.produce_per_s - 1.0).abs() < SAME_RATE {
        return format!(
            "Keeping pace, {} behind: {:.1} records come a second, and {:.1} are committed.",
            records(lag),
            rates.produce_per_s,
            rates.consume_per_s
        );
    }
    match rates.drain_s(lag) {
        Some(s) => format!(
            "Catching up: at the rates of the last minute {} are read in {}.",
            records(lag),
            duration((s * 1000.0) as i64)
        ),
        None if rates.consume_per_s <= 0.0 => {
            let committed_now = group.last_commit_ms().is_some_and(|ms| group.at_ms.saturating_sub(ms) <= LAG_RATE_MS);
            let what = if committed_now { "the same was committed again" } else { "nothing was committed" };
            format!("Behind by {}; {what} within the last minute.", records(lag))
        }
        None => format!(
            "Falling behind by {}: {:.1} records come a second, {:.1} are committed.",
            records(lag),
            rates.produce_per_s,
            rates.consume_per_s
        ),
    }
}

fn empty(group: &GroupLag) -> String {
    if group.lag_records > 0 {
        let grows = if group.rates.is_some_and(|rates| rates.produce_per_s > 0.0) { ", and more come" } else { "" };
        let wait = if group.lag_records == 1 { "waits" } else { "wait" };
        return format!("{}: {} {wait}{grows}.", no_members(group), records(group.lag_records));
    }
    match gone(group) {
        Some(gone) => gone,
        None if group.partitions.is_empty() => format!("{} and nothing is committed.", no_members(group)),
        None => format!("{}; everything up to the watermark is committed.", no_members(group)),
    }
}

/// How a sentence about an empty group begins.
fn no_members(group: &GroupLag) -> String {
    match since(group) {
        since if since.is_empty() => "It has no members".into(),
        since => format!("It has had no members{since}"),
    }
}

/// Offsets of topics that are gone.
fn gone(group: &GroupLag) -> Option<String> {
    let is_gone = |at: &&PartitionLag| matches!(at.unknown, Some(Unknown::TopicGone | Unknown::TopicAnew));
    let first = group.partitions.iter().find(is_gone)?;
    let count = group.partitions.iter().filter(is_gone).count();
    Some(format!("{count} of its offsets are of topics that do not exist any more ({}).", first.topic))
}

/// Records that a partition's owner has not committed anything of.
fn uncommitted<'a>(at: &PartitionLag, owner: &Owner<'a>) -> i64 {
    match (&at.committed, at.ends) {
        (None, Some(ends)) if owner(&(at.topic.clone(), at.partition)).is_some() => {
            ends.high_watermark - ends.log_start
        }
        _ => 0,
    }
}

/// Records that wait where nothing was committed for longer than rates are taken over, though the first of them is as old.
fn standing(at: &PartitionLag, now_ms: i64) -> i64 {
    let Some(committed) = &at.committed else { return 0 };
    let stands = now_ms.saturating_sub(committed.commit_ms) > LAG_RATE_MS;
    let waits = at.oldest.age_s(now_ms).is_none_or(|s| s * 1000.0 > LAG_RATE_MS as f64);
    if stands && waits { at.lag_records().unwrap_or(0) } else { 0 }
}

/// Records by which a commit lies behind the end of the log.
fn beyond(at: &PartitionLag) -> i64 {
    match (&at.committed, at.ends) {
        (Some(committed), Some(ends)) => committed.offset.saturating_sub(ends.log_end),
        _ => 0,
    }
}

/// The partition of which `count` says most, if it says anything of any.
fn most(group: &GroupLag, count: impl Fn(&PartitionLag) -> i64) -> Option<(i64, &PartitionLag)> {
    let counted = group.partitions.iter().map(|at| (count(at), at)).filter(|(count, _)| *count > 0);
    counted.max_by_key(|(count, at)| (*count, std::cmp::Reverse(at.partition)))
}

fn committed(at: &PartitionLag) -> i64 {
    at.committed.as_ref().map_or(-1, |it| it.offset)
}

fn place(at: &PartitionLag) -> String {
    format!("{}-{}", at.topic, at.partition)
}

fn since(group: &GroupLag) -> String {
    match group.state_ms {
        Some(ms) => format!(" for {}", duration(group.at_ms.saturating_sub(ms))),
        None => String::new(),
    }
}

fn records(count: i64) -> String {
    if count == 1 { "1 record".into() } else { format!("{count} records") }
}

/// In the unit that fits: `1.5 s`, `12 min`, `3 h`, `2 days`.
fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    if ms < 60_000 {
        format!("{:.1} s", ms as f64 / 1000.0)
    } else if ms < 7_200_000 {
        format!("{} min", ms / 60_000)
    } else if ms < 172_800_000 {
        format!("{} h", ms / 3_600_000)
    } else {
        format!("{} days", ms / 86_400_000)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Oldest, super::Rates, super::tests::lag, *};

    const NOW: i64 = 1_000_000;

    fn group(state: State, members: usize, partitions: Vec<PartitionLag>) -> GroupLag {
        let (lag_records, oldest) = super::super::total(&partitions);
        GroupLag {
            group: "g".into(),
            state,
            state_ms: Some(NOW - 90_000),
            protocol_type: "consumer".into(),
            members,
            partitions,
            lag_records,
            oldest,
            rates: Some(Rates::default()),
            at_ms: NOW,
        }
    }

    fn owned<'a>(_: &(Arc<str>, i32)) -> Option<&'a str> {
        Some("m-1")
    }

    fn says(group: &GroupLag, wanted: &str) {
        let said = explain(group, &owned);
        assert!(said.contains(wanted) && said.ends_with('.'), "{said:?} should say {wanted:?}");
    }

    fn committed_ago(mut at: PartitionLag, ms: i64) -> PartitionLag {
        if let Some(committed) = &mut at.committed {
            committed.commit_ms = NOW - ms;
        }
        at
    }

    #[test]
    fn a_rebalance_comes_first() {
        let behind = || vec![lag(0, Some(1), (5, 10), Oldest::Since(0))];
        says(&group(State::PreparingRebalance, 1, behind()), "Rebalancing for 1 min: it waits for its members");
        says(&group(State::CompletingRebalance, 1, behind()), "leader's assignment");
    }

    #[test]
    fn what_is_lost_or_past_the_end_is_told() {
        let lost = lag(3, Some(1), (5, 10), Oldest::Since(0));
        says(&group(State::Stable, 1, vec![lost.clone()]), "4 records of t-3 were deleted before they were read");
        says(&group(State::Empty, 0, vec![lost]), "offset 1 is committed, and the log begins at 5");
        says(&group(State::Empty, 0, vec![lag(0, Some(12), (0, 10), Oldest::None)]), "which ends at 10");
    }

    #[test]
    fn a_group_without_members_is_told_from_one_that_is_done() {
        let mut behind = group(State::Empty, 0, vec![lag(0, Some(5), (0, 10), Oldest::Since(0))]);
        says(&behind, "It has had no members for 1 min: 5 records wait.");
        behind.rates = Some(Rates { produce_per_s: 3.0, ..Rates::default() });
        says(&behind, "and more come");
        behind.state_ms = None;
        says(&behind, "It has no members: 5 records wait, and more come.");
        says(&group(State::Empty, 0, vec![lag(0, Some(9), (0, 10), Oldest::Since(0))]), "1 record waits.");
        says(&group(State::Empty, 0, vec![lag(0, Some(10), (0, 10), Oldest::None)]), "everything up to the watermark");
        says(&group(State::Empty, 0, vec![]), "nothing is committed");
        let mut gone = lag(0, None, (0, 0), Oldest::Unknown);
        (gone.ends, gone.unknown) = (None, Some(Unknown::TopicGone));
        says(&group(State::Empty, 0, vec![gone]), "1 of its offsets are of topics that do not exist any more (t)");
    }

    #[test]
    fn a_member_that_does_not_commit_is_named() {
        let silent = lag(2, None, (0, 10), Oldest::Unknown);
        says(&group(State::Stable, 1, vec![silent.clone()]), "Member m-1 owns t-2 with 10 records");
        let nobody = explain(&group(State::Stable, 1, vec![silent]), &|_| None);
        assert!(nobody.contains("Nothing is committed yet"), "{nobody}");
        let stands = committed_ago(lag(1, Some(5), (0, 10), Oldest::Since(NOW - 300_000)), 300_000);
        says(
            &group(State::Stable, 1, vec![stands]),
            "Nothing was committed to t-1 for 5 min by its owner m-1, with 5 records",
        );
        // One record that has just come is no reason for alarm.
        let fresh = committed_ago(lag(1, Some(9), (0, 10), Oldest::Since(NOW - 10)), 300_000);
        says(&group(State::Stable, 1, vec![fresh]), "Behind by 1 record; nothing was committed within the last minute");
    }

    #[test]
    fn rates_say_where_it_goes() {
        let at = || committed_ago(lag(0, Some(4), (0, 10), Oldest::Since(NOW - 10)), 10);
        let mut it = group(State::Stable, 1, vec![at()]);
        it.rates = Some(Rates { consume_per_s: 3.0, produce_per_s: 1.0 });
        says(&it, "Catching up: at the rates of the last minute 6 records are read in 3.0 s");
        it.rates = Some(Rates { consume_per_s: 1.0, produce_per_s: 3.0 });
        says(&it, "Falling behind by 6 records: 3.0 records come a second, 1.0 are committed");
        it.rates = Some(Rates { consume_per_s: 200.2, produce_per_s: 200.0 });
        says(&it, "Keeping pace, 6 records behind: 200.0 records come a second, and 200.2 are committed");
        it.rates = None;
        says(&it, "Behind by 6 records; the rates are not known yet");
        assert_eq!(it.drain_s(), None);
        it.rates = Some(Rates::default());
        says(&it, "Behind by 6 records; the same was committed again within the last minute");
        says(&group(State::Stable, 1, vec![lag(0, Some(10), (0, 10), Oldest::None)]), "Caught up");
    }
}

//! Committed offsets: commit, fetch, delete.

use super::{super::session::Session, by_id, groups::group, led};
use crate::wire::{string, topic_name};
use kafka_protocol::messages::{
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    *,
};
use std::collections::BTreeMap;
use uuid::Uuid;

pub fn run(s: &mut Session) {
    commit(s);
    fetch(s);
    delete(s);
}

pub fn at(partition: i32, offset: i64, metadata: Option<&str>) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(metadata.map(string))
}

pub fn committing(
    name: &str,
    member: &str,
    generation: i32,
    topics: &[(&str, Vec<OffsetCommitRequestPartition>)],
) -> OffsetCommitRequest {
    let topic = |(name, partitions): &(&str, Vec<_>)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions.clone())
    };
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_member_id(string(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(topics.iter().map(topic).collect())
}

/// Ids of the topics that are asked for by name.
fn ids(s: &mut Session) -> BTreeMap<&'static str, Uuid> {
    [("data", 2), ("many", 1), ("nobody", 1)].map(|(name, partitions)| (name, led(s, name, partitions))).into()
}

fn commit(s: &mut Session) {
    // The only member of `stable`, as the steps before left it.
    let described = s.quiet(5, &DescribeGroupsRequest::default().with_groups(vec![group("stable")]));
    let member =
        described.groups.first().and_then(|g| g.members.first()).map_or(String::new(), |m| m.member_id.to_string());
    let ids = ids(s);
    let ask = |s: &mut Session, step: &str, v: i16, request: &OffsetCommitRequest| match v {
        by_id::VERSION => {
            let (request, body) = by_id::commit(request.clone(), &ids);
            s.call_written(step, v, &request, &body)
        }
        _ => s.call(step, v, request),
    };
    for v in 2..=by_id::VERSION {
        let simple = |topics: &[_]| committing("simple", "", -1, topics);
        let n = i64::from(v);
        ask(s, "outside of generations", v, &simple(&[("data", vec![at(0, n, Some("note")), at(1, n + 1, None)])]));
        if v >= 6 {
            ask(s, "with an epoch", v, &simple(&[("data", vec![at(0, n, Some("")).with_committed_leader_epoch(0)])]));
            ask(
                s,
                "with an epoch to come",
                v,
                &simple(&[("data", vec![at(0, n, Some("")).with_committed_leader_epoch(9)])]),
            );
        }
        if v <= 4 {
            ask(
                s,
                "with a retention",
                v,
                &simple(&[("data", vec![at(0, n, Some(""))])]).with_retention_time_ms(86_400_000),
            );
        }
        let data = || vec![at(0, 5, Some("by the member"))];
        ask(s, "by the member", v, &committing("stable", &member, 1, &[("data", data())]));
        ask(s, "a generation to come", v, &committing("stable", &member, 2, &[("data", data())]));
        ask(s, "the generation before", v, &committing("stable", &member, 0, &[("data", data())]));
        ask(s, "outside of generations, but there are members", v, &committing("stable", "", -1, &[("data", data())]));
        ask(s, "a member without a generation", v, &committing("stable", &member, -1, &[("data", data())]));
        ask(s, "a stranger", v, &committing("stable", "stranger", 1, &[("data", data())]));
        ask(s, "a stranger in an unknown group", v, &committing("nope", "stranger", 1, &[("data", data())]));
        ask(s, "a generation in an unknown group", v, &committing("nope", "", 1, &[("data", data())]));
        ask(s, "empty group", v, &committing("", "", -1, &[("data", data())]));
        if v >= 7 {
            let fixed = committing("stable", &member, 1, &[("data", data())]).with_group_instance_id(Some(string("i")));
            ask(s, "unknown instance", v, &fixed);
        }
        let long = |n: usize| Some("m".repeat(n));
        ask(s, "4,096 bytes of metadata", v, &simple(&[("data", vec![at(1, 1, long(4096).as_deref())])]));
        ask(
            s,
            "4,097 bytes of metadata",
            v,
            &simple(&[("data", vec![at(1, 1, long(4097).as_deref()), at(0, n, Some("good"))])]),
        );
        ask(
            s,
            "unknown topic",
            v,
            &simple(&[("nope", vec![at(0, 1, None)]), ("data", vec![at(0, n, Some("beside"))])]),
        );
        ask(s, "partitions 9 and -1", v, &simple(&[("data", vec![at(9, 1, None), at(-1, 1, None)])]));
        ask(s, "negative offsets", v, &simple(&[("many", vec![at(0, -1, None)]), ("data", vec![at(1, -7, None)])]));
        ask(s, "behind the end", v, &simple(&[("nobody", vec![at(0, 1_000_000, None)])]));
        ask(s, "one partition twice", v, &simple(&[("data", vec![at(0, 3, Some("first")), at(0, 4, Some("second"))])]));
        ask(
            s,
            "one topic twice",
            v,
            &simple(&[("data", vec![at(0, 3, Some("first"))]), ("data", vec![at(1, 4, Some("second"))])]),
        );
        ask(s, "no topics", v, &simple(&[]));
        ask(s, "no partitions", v, &simple(&[("data", vec![])]));
    }
}

/// What is asked of OffsetFetch: topics with partitions, or everything.
type Asked<'a> = Option<&'a [(&'a str, &'a [i32])]>;

fn fetching(v: i16, groups: &[(&str, Asked)]) -> OffsetFetchRequest {
    if v >= 8 {
        let group_of = |(name, asked): &(&str, Asked)| {
            let topic = |(name, partitions): &(&str, &[i32])| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(partitions.to_vec())
            };
            OffsetFetchRequestGroup::default()
                .with_group_id(group(name))
                .with_topics(asked.map(|t| t.iter().map(topic).collect()))
        };
        return OffsetFetchRequest::default().with_groups(groups.iter().map(group_of).collect());
    }
    let (name, asked) = groups[0];
    let topic = |(name, partitions): &(&str, &[i32])| {
        OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(partitions.to_vec())
    };
    OffsetFetchRequest::default().with_group_id(group(name)).with_topics(asked.map(|t| t.iter().map(topic).collect()))
}

fn fetch(s: &mut Session) {
    let known: Asked = Some(&[("data", &[0, 1])]);
    let ids = ids(s);
    let ask = |s: &mut Session, step: &str, v: i16, request: &OffsetFetchRequest| match v {
        by_id::VERSION => {
            let (request, body) = by_id::fetch(request.clone(), &ids);
            s.call_written(step, v, &request, &body)
        }
        _ => s.call(step, v, request),
    };
    for v in 1..=by_id::VERSION {
        ask(s, "two partitions", v, &fetching(v, &[("simple", known)]));
        ask(s, "partitions 9 and -1", v, &fetching(v, &[("simple", Some(&[("data", &[9, -1])]))]));
        ask(s, "unknown topic", v, &fetching(v, &[("simple", Some(&[("nope", &[0])]))]));
        ask(s, "nothing committed", v, &fetching(v, &[("stable", Some(&[("many", &[0])]))]));
        ask(s, "unknown group", v, &fetching(v, &[("nope", known)]));
        ask(s, "empty group", v, &fetching(v, &[("", known)]));
        ask(s, "one partition twice", v, &fetching(v, &[("simple", Some(&[("data", &[0, 0])]))]));
        ask(s, "one topic twice", v, &fetching(v, &[("simple", Some(&[("data", &[0]), ("data", &[1])]))]));
        ask(s, "no topics", v, &fetching(v, &[("simple", Some(&[]))]));
        ask(s, "no partitions", v, &fetching(v, &[("simple", Some(&[("data", &[])]))]));
        if v >= 2 {
            ask(s, "everything", v, &fetching(v, &[("simple", None)]));
            ask(s, "everything of an unknown group", v, &fetching(v, &[("nope", None)]));
            ask(s, "everything of an empty group", v, &fetching(v, &[("", None)]));
        }
        if v >= 7 {
            ask(s, "only stable", v, &fetching(v, &[("simple", known)]).with_require_stable(true));
        }
        if v >= 8 {
            ask(s, "two groups", v, &fetching(v, &[("simple", known), ("stable", None), ("nope", known)]));
            ask(s, "one group twice", v, &fetching(v, &[("simple", known), ("simple", known)]));
            ask(s, "no groups", v, &fetching(v, &[]));
        }
        if v >= 9 {
            let as_member = |name: &str, member: Option<&str>, epoch: i32| {
                let mut request = fetching(v, &[(name, known)]);
                request.groups[0].member_id = member.map(string);
                request.groups[0].member_epoch = epoch;
                request
            };
            ask(s, "a stranger", v, &as_member("stable", Some("stranger"), 1));
            ask(s, "a stranger of a group without members", v, &as_member("simple", Some("stranger"), 1));
            ask(s, "a stranger of an unknown group", v, &as_member("nope", Some("stranger"), 1));
            ask(s, "an empty member", v, &as_member("stable", Some(""), 0));
            ask(s, "an epoch without a member", v, &as_member("stable", None, 5));
        }
    }
}

fn delete(s: &mut Session) {
    let request = |name: &str, topics: &[(&str, &[i32])]| {
        let one = |p: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*p);
        let topic = |(name, partitions): &(&str, &[i32])| {
            OffsetDeleteRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions.iter().map(one).collect())
        };
        OffsetDeleteRequest::default().with_group_id(group(name)).with_topics(topics.iter().map(topic).collect())
    };
    s.call("a partition", 0, &request("simple", &[("data", &[1])]));
    s.call("again", 0, &request("simple", &[("data", &[1])]));
    s.call("unknown topic", 0, &request("simple", &[("nope", &[0])]));
    s.call("partitions 9 and -1", 0, &request("simple", &[("data", &[9, -1])]));
    s.call("a topic that a member reads", 0, &request("stable", &[("data", &[0])]));
    s.call("a topic that no member reads", 0, &request("stable", &[("many", &[0])]));
    s.call("unknown group", 0, &request("nope", &[("data", &[0])]));
    s.call("empty group", 0, &request("", &[("data", &[0])]));
    s.call("no topics", 0, &request("simple", &[]));
    s.call("no partitions", 0, &request("simple", &[("data", &[])]));
    s.call("of an unknown group, no topics", 0, &request("nope", &[]));
    s.call("after deletion", 9, &fetching(9, &[("simple", None)]));
}

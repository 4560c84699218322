//! Committed offsets: commit, fetch, delete.

use super::{
    super::session::{Session, versions},
    groups::group,
};
use crate::wire::{string, topic_name};
use kafka_protocol::messages::{
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    *,
};

pub fn run(s: &mut Session) {
    commit(s);
    fetch(s);
    delete(s);
}

fn at(partition: i32, offset: i64, metadata: Option<&str>) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(metadata.map(string))
}

fn committing(
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

fn commit(s: &mut Session) {
    // The only member of `stable`, as the steps before left it.
    let described = s.quiet(5, &DescribeGroupsRequest::default().with_groups(vec![group("stable")]));
    let member =
        described.groups.first().and_then(|g| g.members.first()).map_or(String::new(), |m| m.member_id.to_string());
    for v in versions::<OffsetCommitRequest>() {
        let simple = |topics: &[_]| committing("simple", "", -1, topics);
        let n = i64::from(v);
        s.call("outside of generations", v, &simple(&[("data", vec![at(0, n, Some("note")), at(1, n + 1, None)])]));
        if v >= 6 {
            s.call("with an epoch", v, &simple(&[("data", vec![at(0, n, Some("")).with_committed_leader_epoch(0)])]));
            s.call(
                "with an epoch to come",
                v,
                &simple(&[("data", vec![at(0, n, Some("")).with_committed_leader_epoch(9)])]),
            );
        }
        if v <= 4 {
            s.call(
                "with a retention",
                v,
                &simple(&[("data", vec![at(0, n, Some(""))])]).with_retention_time_ms(86_400_000),
            );
        }
        let data = || vec![at(0, 5, Some("by the member"))];
        s.call("by the member", v, &committing("stable", &member, 1, &[("data", data())]));
        s.call("a generation to come", v, &committing("stable", &member, 2, &[("data", data())]));
        s.call("the generation before", v, &committing("stable", &member, 0, &[("data", data())]));
        s.call("outside of generations, but there are members", v, &committing("stable", "", -1, &[("data", data())]));
        s.call("a member without a generation", v, &committing("stable", &member, -1, &[("data", data())]));
        s.call("a stranger", v, &committing("stable", "stranger", 1, &[("data", data())]));
        s.call("a stranger in an unknown group", v, &committing("nope", "stranger", 1, &[("data", data())]));
        s.call("a generation in an unknown group", v, &committing("nope", "", 1, &[("data", data())]));
        s.call("empty group", v, &committing("", "", -1, &[("data", data())]));
        if v >= 7 {
            let fixed = committing("stable", &member, 1, &[("data", data())]).with_group_instance_id(Some(string("i")));
            s.call("unknown instance", v, &fixed);
        }
        let long = |n: usize| Some("m".repeat(n));
        s.call("4,096 bytes of metadata", v, &simple(&[("data", vec![at(1, 1, long(4096).as_deref())])]));
        s.call(
            "4,097 bytes of metadata",
            v,
            &simple(&[("data", vec![at(1, 1, long(4097).as_deref()), at(0, n, Some("good"))])]),
        );
        s.call(
            "unknown topic",
            v,
            &simple(&[("nope", vec![at(0, 1, None)]), ("data", vec![at(0, n, Some("beside"))])]),
        );
        s.call("partitions 9 and -1", v, &simple(&[("data", vec![at(9, 1, None), at(-1, 1, None)])]));
        s.call("negative offsets", v, &simple(&[("many", vec![at(0, -1, None)]), ("data", vec![at(1, -7, None)])]));
        s.call("behind the end", v, &simple(&[("nobody", vec![at(0, 1_000_000, None)])]));
        s.call("one partition twice", v, &simple(&[("data", vec![at(0, 3, Some("first")), at(0, 4, Some("second"))])]));
        s.call(
            "one topic twice",
            v,
            &simple(&[("data", vec![at(0, 3, Some("first"))]), ("data", vec![at(1, 4, Some("second"))])]),
        );
        s.call("no topics", v, &simple(&[]));
        s.call("no partitions", v, &simple(&[("data", vec![])]));
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
    for v in versions::<OffsetFetchRequest>() {
        s.call("two partitions", v, &fetching(v, &[("simple", known)]));
        s.call("partitions 9 and -1", v, &fetching(v, &[("simple", Some(&[("data", &[9, -1])]))]));
        s.call("unknown topic", v, &fetching(v, &[("simple", Some(&[("nope", &[0])]))]));
        s.call("nothing committed", v, &fetching(v, &[("stable", Some(&[("many", &[0])]))]));
        s.call("unknown group", v, &fetching(v, &[("nope", known)]));
        s.call("empty group", v, &fetching(v, &[("", known)]));
        s.call("one partition twice", v, &fetching(v, &[("simple", Some(&[("data", &[0, 0])]))]));
        s.call("one topic twice", v, &fetching(v, &[("simple", Some(&[("data", &[0]), ("data", &[1])]))]));
        s.call("no topics", v, &fetching(v, &[("simple", Some(&[]))]));
        s.call("no partitions", v, &fetching(v, &[("simple", Some(&[("data", &[])]))]));
        if v >= 2 {
            s.call("everything", v, &fetching(v, &[("simple", None)]));
            s.call("everything of an unknown group", v, &fetching(v, &[("nope", None)]));
            s.call("everything of an empty group", v, &fetching(v, &[("", None)]));
        }
        if v >= 7 {
            s.call("only stable", v, &fetching(v, &[("simple", known)]).with_require_stable(true));
        }
        if v >= 8 {
            s.call("two groups", v, &fetching(v, &[("simple", known), ("stable", None), ("nope", known)]));
            s.call("one group twice", v, &fetching(v, &[("simple", known), ("simple", known)]));
            s.call("no groups", v, &fetching(v, &[]));
        }
        if v >= 9 {
            let as_member = |name: &str, member: Option<&str>, epoch: i32| {
                let mut request = fetching(v, &[(name, known)]);
                request.groups[0].member_id = member.map(string);
                request.groups[0].member_epoch = epoch;
                request
            };
            s.call("a stranger", v, &as_member("stable", Some("stranger"), 1));
            s.call("a stranger of a group without members", v, &as_member("simple", Some("stranger"), 1));
            s.call("a stranger of an unknown group", v, &as_member("nope", Some("stranger"), 1));
            s.call("an empty member", v, &as_member("stable", Some(""), 0));
            s.call("an epoch without a member", v, &as_member("stable", None, 5));
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

//! Members of classic groups: join, sync, heartbeat, leave; two of them; static ones.

use super::{
    super::session::{Session, versions},
    groups::group,
};
use crate::wire::string;
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment, *,
    },
    protocol::StrBytes,
};

/// A subscription to topic `data` in the format of the consumer protocol.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x04data\xff\xff\xff\xff";
/// An assignment of data-0.
const ASSIGNMENT: &[u8] = b"\0\0\0\0\0\x01\0\x04data\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";

pub fn run(s: &mut Session) {
    join(s);
    stable(s);
    leave(s);
    two(s);
    fixed(s);
}

pub fn protocols(names: &[&str]) -> Vec<JoinGroupRequestProtocol> {
    let one = |n: &&str| {
        JoinGroupRequestProtocol::default().with_name(string(n)).with_metadata(Bytes::from_static(SUBSCRIPTION))
    };
    names.iter().map(one).collect()
}

pub fn joining(v: i16, name: &str, member: &StrBytes) -> JoinGroupRequest {
    let request = JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(300_000)
        .with_member_id(member.clone())
        .with_protocol_type(string("consumer"))
        .with_protocols(protocols(&["range"]));
    if v >= 1 { request.with_rebalance_timeout_ms(300_000) } else { request }
}

pub fn no_one() -> StrBytes {
    StrBytes::default()
}

/// Joins beside the comparison as the only member; its id, called by `name`, and the generation.
fn joined(s: &mut Session, name: &str) -> (StrBytes, i32) {
    let member = s.quiet(9, &joining(9, name, &no_one())).member_id;
    s.bind(&format!("member of {name}"), &member);
    let generation = s.quiet(9, &joining(9, name, &member)).generation_id;
    (member, generation)
}

pub fn assigning(v: i16, name: &str, member: &StrBytes, generation: i32, members: &[&StrBytes]) -> SyncGroupRequest {
    let one = |m: &&StrBytes| {
        SyncGroupRequestAssignment::default()
            .with_member_id((*m).clone())
            .with_assignment(Bytes::from_static(ASSIGNMENT))
    };
    let request = SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_assignments(members.iter().map(one).collect());
    match v {
        5.. => request.with_protocol_type(Some(string("consumer"))).with_protocol_name(Some(string("range"))),
        _ => request,
    }
}

pub fn beat(name: &str, member: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(group(name)).with_generation_id(generation).with_member_id(member.clone())
}

pub fn leaving(v: i16, name: &str, members: &[(&StrBytes, Option<&str>)]) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group(name));
    let one = |(m, instance): &(&StrBytes, Option<&str>)| {
        MemberIdentity::default().with_member_id((*m).clone()).with_group_instance_id(instance.map(string))
    };
    match v {
        3.. => request.with_members(members.iter().map(one).collect()),
        _ => request.with_member_id(members[0].0.clone()),
    }
}

fn join(s: &mut Session) {
    let stranger = string("stranger");
    for v in versions::<JoinGroupRequest>() {
        let name = format!("joined.v{v}");
        let bind = |s: &mut Session, r: &JoinGroupResponse| s.bind(&format!("member of joined.v{v}"), &r.member_id);
        let first = s.call_and("first member", v, &joining(v, &name, &no_one()), bind);
        let mut member = first.member_id.clone();
        if v >= 4 {
            member = s.call_and("first member with its id", v, &joining(v, &name, &member), bind).member_id;
        }
        s.call("again, unchanged", v, &joining(v, &name, &member));
        s.call("a stranger", v, &joining(v, &name, &stranger));
        s.call("empty group", v, &joining(v, "", &no_one()));
        s.call("a stranger to a new group", v, &joining(v, "fresh", &stranger));
        s.call("session too short", v, &joining(v, "fresh", &no_one()).with_session_timeout_ms(5_999));
        s.call("session too long", v, &joining(v, "fresh", &no_one()).with_session_timeout_ms(1_800_001));
        s.call("session negative", v, &joining(v, "fresh", &no_one()).with_session_timeout_ms(-1));
        s.call("no protocols", v, &joining(v, "fresh", &no_one()).with_protocols(vec![]));
        s.call("no protocol type", v, &joining(v, "fresh", &no_one()).with_protocol_type(no_one()));
        s.call("another protocol", v, &joining(v, &name, &no_one()).with_protocols(protocols(&["other"])));
        s.call("another protocol type", v, &joining(v, &name, &no_one()).with_protocol_type(string("connect")));
        if v >= 5 {
            // Each to a group of its own: one that is let in would keep the next waiting.
            let fixed = |kind: &str, instance: &str| {
                joining(v, &format!("{kind}.v{v}"), &no_one()).with_group_instance_id(Some(string(instance)))
            };
            s.call("empty instance", v, &fixed("empty", ""));
            s.call("bad instance", v, &fixed("slash", "a/b"));
            s.call("instance of dots", v, &fixed("dots", ".."));
            s.call("a long instance", v, &fixed("long", &"i".repeat(250)));
            s.call("a stranger with an instance", v, &fixed("alien", "i").with_member_id(stranger.clone()));
        }
    }
}

/// One member of group `stable`; it stays.
fn stable(s: &mut Session) {
    let (member, generation) = joined(s, "stable");
    let stranger = string("stranger");
    s.call("before the leader's assignment", 4, &beat("stable", &member, generation));
    for v in versions::<SyncGroupRequest>() {
        let sync = |name: &str, member: &StrBytes, generation| assigning(v, name, member, generation, &[]);
        if v == 0 {
            s.call("assigned", v, &assigning(v, "stable", &member, generation, &[&member]));
        } else {
            s.call("asked again", v, &sync("stable", &member, generation));
            s.call("assigned again", v, &assigning(v, "stable", &member, generation, &[&member]));
        }
        s.call("a generation to come", v, &sync("stable", &member, generation + 1));
        s.call("generation -1", v, &sync("stable", &member, -1));
        s.call("a stranger", v, &sync("stable", &stranger, generation));
        s.call("nobody", v, &sync("stable", &no_one(), generation));
        s.call("unknown group", v, &sync("nope", &member, generation));
        s.call("empty group", v, &sync("", &member, generation));
        if v >= 3 {
            s.call(
                "unknown instance",
                v,
                &sync("stable", &member, generation).with_group_instance_id(Some(string("i"))),
            );
        }
        if v >= 5 {
            let sync = sync("stable", &member, generation);
            s.call("another protocol type", v, &sync.clone().with_protocol_type(Some(string("connect"))));
            s.call("another protocol", v, &sync.clone().with_protocol_name(Some(string("other"))));
            s.call("no protocol", v, &sync.with_protocol_type(None).with_protocol_name(None));
        }
    }
    for v in versions::<HeartbeatRequest>() {
        s.call("in time", v, &beat("stable", &member, generation));
        s.call("a generation to come", v, &beat("stable", &member, generation + 1));
        s.call("generation -1", v, &beat("stable", &member, -1));
        s.call("a stranger", v, &beat("stable", &stranger, generation));
        s.call("nobody", v, &beat("stable", &no_one(), generation));
        s.call("unknown group", v, &beat("nope", &member, generation));
        s.call("empty group", v, &beat("", &member, generation));
        if v >= 3 {
            s.call(
                "unknown instance",
                v,
                &beat("stable", &member, generation).with_group_instance_id(Some(string("i"))),
            );
        }
    }
}

fn leave(s: &mut Session) {
    let stranger = string("stranger");
    for v in versions::<LeaveGroupRequest>() {
        let name = format!("left.v{v}");
        let (member, generation) = joined(s, &name);
        s.quiet(5, &assigning(5, &name, &member, generation, &[&member]));
        s.call("a stranger", v, &leaving(v, &name, &[(&stranger, None)]));
        s.call("nobody", v, &leaving(v, &name, &[(&no_one(), None)]));
        s.call("unknown group", v, &leaving(v, "nope", &[(&member, None)]));
        s.call("empty group", v, &leaving(v, "", &[(&member, None)]));
        if v >= 3 {
            s.call("unknown instance", v, &leaving(v, &name, &[(&no_one(), Some("i"))]));
            s.call("a member with an unknown instance", v, &leaving(v, &name, &[(&member, Some("i"))]));
            s.call("no members", v, &leaving(v, &name, &[]));
            s.call(
                "a stranger and the member, twice",
                v,
                &leaving(v, &name, &[(&stranger, None), (&member, None), (&member, None)]),
            );
        } else {
            s.call("the member", v, &leaving(v, &name, &[(&member, None)]));
        }
        s.call("the member again", v, &leaving(v, &name, &[(&member, None)]));
    }
    for v in 3..=5 {
        let name = format!("left.alone.v{v}");
        let (member, _) = joined(s, &name);
        s.call("the only member", v, &leaving(v, &name, &[(&member, None)]));
    }
    s.call("after leaving", 4, &beat("left.v5", &string("stranger"), 1));
}

/// Two members: a rebalance.
fn two(s: &mut Session) {
    let describe = DescribeGroupsRequest::default().with_groups(vec![group("two")]);
    let (a, generation) = joined(s, "two");
    s.bind("a of two", &a);
    s.call("two: the leader has not assigned", 5, &describe);
    s.quiet(5, &assigning(5, "two", &a, generation, &[&a]));
    s.call("two: one of them is stable", 5, &describe);
    let b = s
        .call_and("two: b without an id", 6, &joining(6, "two", &no_one()), |s, r| s.bind("b of two", &r.member_id))
        .member_id;
    s.call("two: b is pending", 5, &describe);
    s.call("two: the heartbeat of one pending", 3, &beat("two", &b, generation));
    s.call("two: nothing has changed for a", 3, &beat("two", &a, generation));
    let joins = s.start("b", "two: b joins", 6, &joining(6, "two", &b));
    s.until(3, &beat("two", &a, generation), |r| r.error_code == 27);
    s.call("two: a is told to join", 3, &beat("two", &a, generation));
    s.call("two: b joins, seen from outside", 5, &describe);
    s.call("two: sync of the generation before", 4, &assigning(4, "two", &a, generation, &[]));
    let rejoined =
        s.call("two: a joins again", 7, &joining(7, "two", &a).with_protocols(protocols(&["range", "other"])));
    let generation = rejoined.generation_id;
    s.finish(joins);
    s.call("two: b before the assignment", 3, &beat("two", &b, generation));
    let waits = s.start("b", "two: b waits for its assignment", 3, &assigning(3, "two", &b, generation, &[]));
    s.call("two: a assigns", 5, &assigning(5, "two", &a, generation, &[&a, &b]));
    s.finish(waits);
    s.call("two: a after the assignment", 4, &beat("two", &a, generation));
    s.call("two: stable", 6, &describe);
    s.call("two: b joins again unchanged", 9, &joining(9, "two", &b));
    s.call("two: still stable", 4, &beat("two", &a, generation));
    s.call("two: b leaves", 2, &leaving(2, "two", &[(&b, None)]));
    s.call("two: a is told", 4, &beat("two", &a, generation));
    s.call("two: a joins alone", 4, &joining(4, "two", &a));
    s.call("two: a leaves", 1, &leaving(1, "two", &[(&a, None)]));
    s.call("two: empty", 5, &describe);
}

/// Static members.
fn fixed(s: &mut Session) {
    let describe = DescribeGroupsRequest::default().with_groups(vec![group("static")]);
    let with = |v: i16, member: &StrBytes| joining(v, "static", member).with_group_instance_id(Some(string("i1")));
    let first = s.call_and("static: first", 5, &with(5, &no_one()), |s, r| s.bind("i1, first", &r.member_id));
    let (a, generation) = (first.member_id, first.generation_id);
    s.call(
        "static: assigned",
        3,
        &assigning(3, "static", &a, generation, &[&a]).with_group_instance_id(Some(string("i1"))),
    );
    s.call("static: seen", 5, &describe);
    s.call("static: heartbeat", 3, &beat("static", &a, generation).with_group_instance_id(Some(string("i1"))));
    s.call("static: heartbeat without the instance", 4, &beat("static", &a, generation));
    s.call(
        "static: heartbeat by a stranger",
        4,
        &beat("static", &string("stranger"), generation).with_group_instance_id(Some(string("i1"))),
    );
    s.call("static: joins again with its id", 9, &with(9, &a));
    s.call("static: a stranger joins", 9, &with(9, &string("stranger")));
    let again = s.call_and("static: comes back", 9, &with(9, &no_one()), |s, r| s.bind("i1, second", &r.member_id));
    let (b, generation) = (again.member_id, again.generation_id);
    s.call(
        "static: the first is fenced",
        4,
        &beat("static", &a, generation).with_group_instance_id(Some(string("i1"))),
    );
    s.call(
        "static: sync of the fenced",
        5,
        &assigning(5, "static", &a, generation, &[]).with_group_instance_id(Some(string("i1"))),
    );
    s.call("static: the fenced without its instance", 4, &beat("static", &a, generation));
    s.call("static: the second", 4, &beat("static", &b, generation).with_group_instance_id(Some(string("i1"))));
    s.call(
        "static: sync of the second",
        5,
        &assigning(5, "static", &b, generation, &[]).with_group_instance_id(Some(string("i1"))),
    );
    let older =
        s.call_and("static: comes back in version 5", 5, &with(5, &no_one()), |s, r| s.bind("i1, third", &r.member_id));
    let c = older.member_id;
    s.call("static: the fenced leaves", 5, &leaving(5, "static", &[(&a, Some("i1"))]));
    s.call("static: the instance leaves", 3, &leaving(3, "static", &[(&no_one(), Some("i1"))]));
    s.call(
        "static: it is gone",
        4,
        &beat("static", &c, older.generation_id).with_group_instance_id(Some(string("i1"))),
    );
    s.call("static: empty", 5, &describe);
}

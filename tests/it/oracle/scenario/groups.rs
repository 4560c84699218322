//! Groups seen from outside: find, list, describe, delete.

use super::super::session::{Session, versions};
use crate::wire::string;
use kafka_protocol::{messages::*, protocol::StrBytes};

pub fn group(name: &str) -> GroupId {
    GroupId(string(name))
}

/// FindCoordinator, which makes the internal topic.
pub fn find(s: &mut Session) {
    let request = |v: i16, keys: &[&str], kind: i8| {
        let request = match v {
            4.. => FindCoordinatorRequest::default().with_coordinator_keys(keys.iter().map(|k| string(k)).collect()),
            _ => FindCoordinatorRequest::default().with_key(string(keys[0])),
        };
        if v >= 1 { request.with_key_type(kind) } else { request }
    };
    s.until(4, &request(4, &["g"], 0), |r| r.coordinators.iter().all(|c| c.error_code == 0));
    loaded(s);
    for v in versions::<FindCoordinatorRequest>() {
        s.call("of a group", v, &request(v, &["g"], 0));
        s.call("of an empty group", v, &request(v, &[""], 0));
        if v >= 1 {
            s.call("type 9", v, &request(v, &["g"], 9));
            s.call("type -1", v, &request(v, &["g"], -1));
        }
        if v >= 4 {
            s.call("of two groups", v, &request(v, &["g", "h"], 0));
            s.call("of one group twice", v, &request(v, &["g", "g"], 0));
            s.call("of none", v, &request(v, &[], 0));
        }
        if (1..6).contains(&v) {
            s.call("of a share group, too early", v, &request(v, &["g:AAAAAAAAAAAAAAAAAAAAAQ:0"], 2));
        }
        if v >= 6 {
            s.call("of a share group, bad key", v, &request(v, &["g"], 2));
        }
    }
}

/// Waits until the shard of every group of the scenario is loaded.
fn loaded(s: &mut Session) {
    let numbered = |name: &str| (0..10).map(|v| format!("{name}.v{v}")).collect::<Vec<_>>();
    let kinds = ["joined", "left", "left.alone", "empty", "slash", "dots", "long", "alien"];
    let mut names = kinds.map(numbered).concat();
    names.extend(["stable", "simple", "two", "static", "fresh", "nope"].map(String::from));
    names.extend(super::rebalances::GROUPS.map(String::from));
    let request = DescribeGroupsRequest::default().with_groups(names.iter().map(|n| group(n)).collect());
    let loading = [14, 15, 16];
    s.until(5, &request, |r| r.groups.iter().all(|g| !loading.contains(&g.error_code)));
}

fn describe(s: &mut Session) {
    let request =
        |names: &[&str]| DescribeGroupsRequest::default().with_groups(names.iter().map(|n| group(n)).collect());
    for v in versions::<DescribeGroupsRequest>() {
        s.call("a stable group", v, &request(&["stable"]));
        s.call("a group of commits only", v, &request(&["simple"]));
        s.call("a group that its members left", v, &request(&["left.v5"]));
        s.call("unknown group", v, &request(&["nope"]));
        s.call("empty name", v, &request(&[""]));
        s.call("two groups", v, &request(&["stable", "nope"]));
        s.call("a group twice", v, &request(&["stable", "stable"]));
        s.call("no groups", v, &request(&[]));
        if v >= 3 {
            s.call("with operations", v, &request(&["stable", "nope"]).with_include_authorized_operations(true));
        }
    }
}

fn list(s: &mut Session) {
    let words = |all: &[&str]| -> Vec<StrBytes> { all.iter().map(|w| string(w)).collect() };
    for v in versions::<ListGroupsRequest>() {
        s.call("every group", v, &ListGroupsRequest::default());
    }
    for v in 4..=5 {
        for states in [
            &["Stable"][..],
            &["stable"],
            &["Empty", "Stable"],
            &["nonsense"],
            &[""],
            &["Dead"],
            &["PreparingRebalance"],
        ] {
            s.call(&format!("states {states:?}"), v, &ListGroupsRequest::default().with_states_filter(words(states)));
        }
    }
    for types in
        [&["classic"][..], &["Classic"], &["consumer"], &["share"], &["nonsense"], &[""], &["classic", "consumer"]]
    {
        s.call(&format!("types {types:?}"), 5, &ListGroupsRequest::default().with_types_filter(words(types)));
    }
    let both =
        ListGroupsRequest::default().with_types_filter(words(&["classic"])).with_states_filter(words(&["Stable"]));
    s.call("a type and a state", 5, &both);
}

fn delete(s: &mut Session) {
    let request =
        |names: &[&str]| DeleteGroupsRequest::default().with_groups_names(names.iter().map(|n| group(n)).collect());
    for v in versions::<DeleteGroupsRequest>() {
        s.call("an empty group", v, &request(&[&format!("left.v{v}")]));
        s.call("again", v, &request(&[&format!("left.v{v}")]));
        s.call("a group with members", v, &request(&["stable"]));
        s.call("empty name", v, &request(&[""]));
        s.call("no groups", v, &request(&[]));
        s.call("one of two", v, &request(&[&format!("left.v{}", v + 3), "nope"]));
        s.call("a group twice", v, &request(&["nope", "nope"]));
    }
    s.call("a group of commits only", 2, &request(&["simple"]));
}

pub fn run(s: &mut Session) {
    describe(s);
    list(s);
    delete(s);
    super::newer::groups(s);
}

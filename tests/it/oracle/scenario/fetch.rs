//! Fetch: records, errors, epochs, sessions.

use super::{
    super::session::{Session, versions},
    T0, data, led,
};
use crate::wire::{ANYONE, batch, topic_name};
use kafka_protocol::messages::{
    fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState},
    *,
};
use uuid::Uuid;

pub fn run(s: &mut Session) {
    single(s);
    for v in [7, 12, 13, 18] {
        sessions(s, v);
    }
    for v in [4, 12, 13, 18] {
        waiting(s, v);
    }
}

fn at(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
}

fn of(v: i16, name: &str, id: Uuid, partitions: Vec<FetchPartition>) -> FetchTopic {
    let topic = if v >= 13 {
        FetchTopic::default().with_topic_id(id)
    } else {
        FetchTopic::default().with_topic(topic_name(name))
    };
    topic.with_partitions(partitions)
}

/// Outside of sessions, answered at once.
fn request(v: i16, topics: Vec<FetchTopic>) -> FetchRequest {
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(topics);
    if v >= 7 { request.with_session_epoch(-1) } else { request }
}

fn single(s: &mut Session) {
    let id = led(s, "data", 2);
    let (nobody, many) = (led(s, "nobody", 1), led(s, "many", 1));
    for v in versions::<FetchRequest>() {
        let data = |partitions| request(v, vec![of(v, "data", id, partitions)]);
        s.call("from an offset", v, &data(vec![at(0, 7)]));
        s.call("from within a batch, committed", v, &data(vec![at(0, 16), at(1, 19)]).with_isolation_level(1));
        s.call("one byte", v, &data(vec![at(0, 0).with_partition_max_bytes(1), at(1, 0)]).with_max_bytes(1));
        s.call("no bytes of a partition", v, &data(vec![at(0, 0).with_partition_max_bytes(0)]));
        s.call("negative bytes", v, &data(vec![at(0, 0).with_partition_max_bytes(-1)]));
        s.call("behind the end", v, &data(vec![at(0, 99)]));
        s.call("offset -1", v, &data(vec![at(0, -1)]));
        s.call("an empty partition", v, &request(v, vec![of(v, "nobody", nobody, vec![at(0, 0)])]));
        s.call("deleted records", v, &request(v, vec![of(v, "many", many, vec![at(0, 0)])]));
        s.call("partitions 9 and -1", v, &data(vec![at(9, 0), at(-1, 0)]));
        s.call("unknown topic", v, &request(v, vec![of(v, "nope", Uuid::from_u128(7), vec![at(0, 0)])]));
        s.call("nil id or empty name", v, &request(v, vec![of(v, "", Uuid::nil(), vec![at(0, 0)])]));
        s.call("one partition twice", v, &data(vec![at(0, 20), at(0, 21)]));
        s.call("no topics", v, &request(v, vec![]));
        s.call("no partitions", v, &data(vec![]));
        s.call("isolation level 9", v, &data(vec![at(0, 20)]).with_isolation_level(9));
        if v >= 5 {
            s.call("with a start", v, &data(vec![at(0, 20).with_log_start_offset(3)]));
        }
        if v >= 9 {
            s.call("right epoch", v, &data(vec![at(0, 20).with_current_leader_epoch(0)]));
            s.call("an epoch to come", v, &data(vec![at(0, 20).with_current_leader_epoch(5)]));
            s.call("a negative epoch", v, &data(vec![at(0, 20).with_current_leader_epoch(-2)]));
        }
        if v >= 12 {
            s.call("last epoch", v, &data(vec![at(0, 20).with_last_fetched_epoch(0)]));
            s.call("last epoch to come", v, &data(vec![at(0, 20).with_last_fetched_epoch(5)]));
            s.call(
                "cluster id of another",
                v,
                &data(vec![at(0, 20)]).with_cluster_id(Some(crate::wire::string("other"))),
            );
        }
        let replica = |id: i32| match v {
            15.. => data(vec![at(0, 20)]).with_replica_state(ReplicaState::default().with_replica_id(BrokerId(id))),
            _ => data(vec![at(0, 20)]).with_replica_id(BrokerId(id)),
        };
        s.call("as a debugger", v, &replica(-2));
    }
}

fn sessions(s: &mut Session, v: i16) {
    let id = led(s, "data", 2);
    let in_session = |id: i32, epoch: i32, topics| request(v, topics).with_session_id(id).with_session_epoch(epoch);
    let data = |partitions| vec![of(v, "data", id, partitions)];
    let end =
        i64::from(s.quiet(5, &super::data::ends("data")).topics.first().map_or(0, |t| t.partitions[0].offset as i32));
    let opened = s.call("session: opened", v, &in_session(0, 0, data(vec![at(0, end), at(1, 20)])));
    let session = opened.session_id;
    s.call("session: nothing new", v, &in_session(session, 1, vec![]));
    let written = batch(ANYONE, T0 + 50_000, &[format!("for a session of version {v}")]);
    s.quiet(9, &data::to(9, "data", id, 0, Some(written), -1));
    s.call("session: something new", v, &in_session(session, 2, vec![]));
    s.call("session: it moves on", v, &in_session(session, 3, data(vec![at(0, end + 1)])));
    s.call("session: an unknown partition joins", v, &in_session(session, 4, data(vec![at(9, 0)])));
    s.call("session: it is told again", v, &in_session(session, 5, vec![]));
    let forgotten = match v {
        13.. => ForgottenTopic::default().with_topic_id(id),
        _ => ForgottenTopic::default().with_topic(topic_name("data")),
    };
    let forget =
        in_session(session, 6, vec![]).with_forgotten_topics_data(vec![forgotten.with_partitions(vec![9, 1, 7])]);
    s.call("session: forgotten", v, &forget);
    s.call("session: an offset out of range", v, &in_session(session, 7, data(vec![at(0, 999)])));
    s.call("session: a wrong epoch", v, &in_session(session, 77, vec![]));
    s.call("session: the right epoch after that", v, &in_session(session, 8, vec![]));
    s.call("session: closed", v, &in_session(session, -1, vec![]));
    s.call("session: used after that", v, &in_session(session, 9, vec![]));
    s.call("session: unknown", v, &in_session(12_345, 1, vec![]));
    s.call("session: epoch 1 without one", v, &in_session(0, 1, data(vec![at(0, end)])));
    s.call("session: epoch -2", v, &in_session(0, -2, data(vec![at(0, end)])));
}

/// Long polls.
fn waiting(s: &mut Session, v: i16) {
    let id = led(s, "data", 2);
    let end = s.quiet(5, &data::ends("data")).topics.first().map_or(0, |t| t.partitions[0].offset);
    let ask = |offset: i64, wait_ms: i32, min_bytes: i32| {
        request(v, vec![of(v, "data", id, vec![at(0, offset)])]).with_max_wait_ms(wait_ms).with_min_bytes(min_bytes)
    };
    let write = |s: &mut Session| {
        let written = batch(ANYONE, T0 + 60_000, &[format!("for one who waits in version {v}")]);
        s.quiet(9, &data::to(9, "data", id, 0, Some(written), -1));
    };
    let waits = s.start("b", "waiting: for a record", v, &ask(end, 60_000, 1));
    write(s);
    s.finish(waits);
    s.call("waiting: there is enough", v, &ask(end, 60_000, 1));
    let waits = s.start("b", "waiting: for two records", v, &ask(end + 1, 60_000, 150));
    write(s);
    write(s);
    s.finish(waits);
    s.call("waiting: not for errors", v, &ask(end + 99, 60_000, 1));
    s.call("waiting: for nothing, to the end", v, &ask(end + 3, 20, 1));
    s.call("waiting: for more than comes, to the end", v, &ask(end + 1, 20, 1 << 19));
}

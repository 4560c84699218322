//! The group machine alone: pure functions, neither disk nor sockets nor tasks. `cargo bench --bench groups_machine`, in short with `-- --quick`.
//!
//! What is appended is replayed at once, as the shard does once it is in the log; what the log and the wire cost is in `storage.rs`, `wire.rs` and `groups.rs`.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream::{
    config::GroupSettings,
    coordinator::{
        group::{
            Caller, Commit, CommitPartition, CommitTopic, Event, Fetch, Groups, Heartbeat, Join, Reply, State, Sync,
        },
        machine::{Machine, Now, Output, Record, Ticket},
    },
};
use std::{hint::black_box, sync::Arc, time::Duration};
use uuid::Uuid;

const TOPIC_ID: Uuid = Uuid::from_u128(7);
const GROUPS: usize = 1_000;
const MEMBERS: usize = 10;
const PARTITIONS: i32 = 10;

fn settings() -> GroupSettings {
    GroupSettings {
        session_timeout_min_ms: 6_000,
        session_timeout_max_ms: 1_800_000,
        initial_rebalance_delay_ms: 50,
        size_max: 10_000,
        offset_metadata_bytes_max: 4_096,
        offsets_retention_ms: 604_800_000,
        offsets_retention_given: false,
    }
}

/// A group and one of its members.
type Place = (Arc<str>, Arc<str>);

/// A machine, a clock, and the log it writes.
struct Shard {
    groups: Groups,
    settings: GroupSettings,
    now: Now,
    log: Vec<Record>,
    asked: u64,
}

impl Shard {
    fn new() -> Shard {
        let now = Now { wall_ms: 1_700_000_000_000, ticks_ms: 1_000 };
        let mut shard = Shard { groups: Groups::default(), settings: settings(), now, log: Vec::new(), asked: 0 };
        shard.turn(|groups, now, settings, out| groups.loaded(now, settings, out));
        shard
    }

    /// One call of the machine, with all that follows from what it wants stored. `log` grows by that.
    fn turn(
        &mut self,
        act: impl FnOnce(&mut Groups, Now, &GroupSettings, &mut Output<Groups>),
    ) -> Vec<(Ticket, Reply)> {
        let mut out = Output::default();
        act(&mut self.groups, self.now, &self.settings, &mut out);
        let mut replies = out.replies;
        let mut appends: std::collections::VecDeque<_> = out.appends.into();
        while let Some((records, pending)) = appends.pop_front() {
            for record in &records {
                self.groups.replay(&record.key, record.value.as_deref(), self.now).unwrap();
            }
            self.log.extend(records);
            let mut out = Output::default();
            self.groups.appended(pending, self.now, &self.settings, &mut out);
            replies.extend(out.replies);
            appends.extend(out.appends);
        }
        replies
    }

    fn ask(&mut self, event: Event) -> Vec<(Ticket, Reply)> {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        self.turn(|groups, now, settings, out| groups.handle(ticket, event, now, settings, out))
    }

    /// Time passes at once; what is due is done.
    fn pass(&mut self, ms: u64) -> Vec<(Ticket, Reply)> {
        self.now = Now { wall_ms: self.now.wall_ms + ms as i64, ticks_ms: self.now.ticks_ms + ms };
        match self.groups.next_tick() {
            Some(due) if due <= self.now.ticks_ms => {
                self.turn(|groups, now, settings, out| groups.tick(now, settings, out))
            }
            _ => Vec::new(),
        }
    }

    /// A generation from nothing: everybody joins, the first delay passes, everybody syncs. Gives the members' ids.
    fn stable(&mut self, group: &Arc<str>, members: usize) -> Vec<Arc<str>> {
        let mut replies: Vec<_> = (0..members).flat_map(|n| self.ask(Event::Join(join(group, n)))).collect();
        replies.extend(self.pass(500));
        let mut joined: Vec<_> = replies
            .into_iter()
            .map(|(_, reply)| match reply {
                Reply::Join(joined) => joined,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(joined.len(), members);
        joined.sort_by_key(|it| it.member_id != it.leader);
        let ids: Vec<Arc<str>> = joined.iter().map(|it| it.member_id.clone()).collect();
        let assigned = Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\0\0\0\0\0");
        for id in &ids {
            let leads = *id == joined[0].leader;
            let assignments =
                if leads { ids.iter().map(|id| (id.clone(), assigned.clone())).collect() } else { Vec::new() };
            let event = Sync {
                group: group.clone(),
                generation: joined[0].generation,
                member_id: id.clone(),
                instance_id: None,
                protocol_type: Some("consumer".into()),
                protocol: Some("range".into()),
                assignments,
            };
            let replies = self.ask(Event::Sync(event));
            assert!(matches!(&replies[..], [(_, Reply::Sync(synced))] if synced.result.is_ok()));
        }
        ids
    }

    /// [`GROUPS`] groups of [`MEMBERS`] members; the members by turns of the groups.
    fn full() -> (Shard, Vec<Place>) {
        let mut shard = Shard::new();
        let mut members = Vec::new();
        for n in 0..GROUPS {
            let group: Arc<str> = format!("group-{n}").into();
            members.extend(shard.stable(&group, MEMBERS).into_iter().map(|id| (group.clone(), id)));
            // Nobody's session ends while the others join.
            shard.now.ticks_ms -= 500;
        }
        (
            shard,
            (0..MEMBERS).flat_map(|m| (0..GROUPS).map(move |g| g * MEMBERS + m)).map(|n| members[n].clone()).collect(),
        )
    }
}

fn join(group: &Arc<str>, n: usize) -> Join {
    Join {
        group: group.clone(),
        member_id: "".into(),
        instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\0\0\0\0\0"))],
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        caller: Caller { client_id: "bench".into(), client_host: "/127.0.0.1".into() },
        require_known_member_id: false,
        supports_skip_assignment: true,
        new_member: Uuid::from_u128(n as u128),
    }
}

fn commit(group: &Arc<str>, member_id: &Arc<str>, offset: i64) -> Event {
    let at = |index| CommitPartition { index, offset, leader_epoch: 0, metadata: "".into() };
    Event::Commit(Commit {
        group: group.clone(),
        generation: 1,
        member_id: member_id.clone(),
        instance_id: None,
        retention_ms: None,
        topics: vec![CommitTopic {
            name: "orders".into(),
            id: TOPIC_ID,
            partitions: (0..PARTITIONS).map(at).collect(),
        }],
    })
}

fn generations(c: &mut Criterion) {
    let mut bench = c.benchmark_group("a group from nothing to Stable, by members");
    let group: Arc<str> = "group".into();
    for members in [1, 10, 100, 1_000] {
        bench.throughput(Throughput::Elements(members as u64));
        bench.bench_function(BenchmarkId::from_parameter(members), |b| {
            b.iter_batched_ref(Shard::new, |shard| shard.stable(&group, members), BatchSize::SmallInput)
        });
    }
    let mut shard = Shard::new();
    shard.stable(&group, 10);
    let [(_, Reply::Describe(Ok(shown)))] = &shard.ask(Event::Describe { group })[..] else { panic!("no such group") };
    assert_eq!((shown.state, shown.members.len()), (State::Stable, 10), "what was measured is not what it says");
}

fn questions(c: &mut Criterion) {
    let mut bench = c.benchmark_group(format!("one of {GROUPS} groups of {MEMBERS} members"));
    let (mut shard, members) = Shard::full();
    let mut next = 0;
    bench.throughput(Throughput::Elements(1));
    bench.bench_function("heartbeat", |b| {
        b.iter(|| {
            let (group, member_id) = &members[next % members.len()];
            next += 1;
            // 10,000 members in 3 s, as clients send them.
            if next % 10 == 0 {
                shard.pass(3);
            }
            let beat =
                Heartbeat { group: group.clone(), generation: 1, member_id: member_id.clone(), instance_id: None };
            let replies = shard.ask(Event::Heartbeat(beat));
            assert!(matches!(&replies[..], [(_, Reply::Heartbeat(Ok(())))]), "{replies:?}");
        })
    });
    bench.throughput(Throughput::Elements(PARTITIONS as u64));
    let (mut shard, members) = Shard::full();
    members.iter().take(GROUPS).for_each(|(group, member_id)| drop(shard.ask(commit(group, member_id, 0))));
    bench.bench_function(format!("commit {PARTITIONS} partitions and replay them"), |b| {
        b.iter(|| {
            let (group, member_id) = &members[next % members.len()];
            next += 1;
            let replies = shard.ask(commit(group, member_id, next as i64));
            assert!(matches!(&replies[..], [(_, Reply::Commit(Ok(_)))]), "{replies:?}");
            shard.log.clear();
        })
    });
    bench.bench_function(format!("fetch all offsets of a group ({PARTITIONS} partitions)"), |b| {
        b.iter(|| {
            let (group, _) = &members[next % members.len()];
            next += 1;
            let replies = shard.ask(Event::Fetch(Fetch { group: group.clone(), topics: None }));
            assert!(matches!(&replies[..], [(_, Reply::Fetch(Ok(found)))] if found.len() == PARTITIONS as usize));
        })
    });
}

fn loads(c: &mut Criterion) {
    let (mut shard, members) = Shard::full();
    for round in 0..10 {
        for (group, member_id) in members.iter().take(GROUPS) {
            shard.ask(commit(group, member_id, round));
        }
    }
    let log = &shard.log;
    let load = |log: &[Record]| {
        let mut groups = Groups::default();
        for record in log {
            groups.replay(&record.key, record.value.as_deref(), Now::default()).unwrap();
        }
        groups
    };
    let snapshot = |groups: &Groups| {
        let mut records = 0usize;
        groups.live(&mut |record| {
            black_box(&record);
            records += 1;
        });
        records
    };
    let live = snapshot(&load(log));
    assert_eq!(live, GROUPS * (1 + PARTITIONS as usize));
    let mut bench = c.benchmark_group("a shard's log, by record");
    bench.throughput(Throughput::Elements(log.len() as u64));
    bench.bench_function(format!("replay {} records", log.len()), |b| b.iter(|| load(log)));
    bench.throughput(Throughput::Elements(live as u64));
    bench.bench_function(format!("snapshot {live} records"), |b| b.iter(|| snapshot(&shard.groups)));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = generations, questions, loads
}
criterion_main!(benches);

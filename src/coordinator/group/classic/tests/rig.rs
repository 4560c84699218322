//! A machine with a log behind it, for tests: time is what the test says, and so is when appends have an outcome.

use super::*;
use crate::coordinator::group::classic::Classic;
use std::collections::{BTreeMap, VecDeque};

pub const T0: i64 = 1_700_000_000_000;

pub fn settings() -> GroupSettings {
    GroupSettings {
        session_timeout_min_ms: 100,
        session_timeout_max_ms: 100_000,
        initial_rebalance_delay_ms: 50,
        size_max: 1_000_000,
        offset_metadata_bytes_max: 4096,
        offsets_retention_ms: 1_000_000,
        offsets_retention_given: false,
    }
}

pub struct Rig {
    pub groups: Groups,
    pub settings: GroupSettings,
    pub now: Now,
    /// Everything appended.
    pub log: Vec<Record>,
    /// Answers nobody has looked at.
    pub replies: BTreeMap<Ticket, Reply>,
    /// Asked and not answered.
    pub waiting: std::collections::BTreeSet<Ticket>,
    /// Appends without an outcome.
    pub appends: VecDeque<(Vec<Record>, Pending)>,
    /// Appends are made at once.
    pub at_once: bool,
    next: u64,
}

impl Rig {
    pub fn new() -> Rig {
        let mut rig = Rig {
            groups: Groups::default(),
            settings: settings(),
            now: Now { wall_ms: T0, ticks_ms: 1000 },
            log: Vec::new(),
            replies: BTreeMap::new(),
            waiting: Default::default(),
            appends: VecDeque::new(),
            at_once: true,
            next: 0,
        };
        rig.run(|groups, now, settings, out| groups.loaded(now, settings, out));
        rig
    }

    fn run(&mut self, act: impl FnOnce(&mut Groups, Now, &GroupSettings, &mut Output<Groups>)) {
        self.turn(act);
        while self.at_once && self.settle() {}
    }

    fn turn(&mut self, act: impl FnOnce(&mut Groups, Now, &GroupSettings, &mut Output<Groups>)) {
        let mut out = Output::default();
        act(&mut self.groups, self.now, &self.settings, &mut out);
        for (ticket, reply) in out.replies {
            assert!(self.waiting.remove(&ticket), "{ticket:?} is answered twice, or was never asked: {reply:?}");
            self.replies.insert(ticket, reply);
        }
        self.appends.extend(out.appends);
    }

    /// Makes the oldest append. `false`: there is none.
    pub fn settle(&mut self) -> bool {
        let Some((records, pending)) = self.appends.pop_front() else { return false };
        for record in records {
            self.groups.replay(&record.key, record.value.as_deref(), self.now).unwrap();
            self.log.push(record);
        }
        self.turn(|groups, now, settings, out| groups.appended(pending, now, settings, out));
        true
    }

    /// Refuses the oldest append.
    pub fn refuse(&mut self, why: Refusal) -> bool {
        let Some((_, pending)) = self.appends.pop_front() else { return false };
        self.turn(|groups, now, settings, out| groups.refused(pending, &why, now, settings, out));
        true
    }

    pub fn ask(&mut self, event: Event) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.waiting.insert(ticket);
        self.run(|groups, now, settings, out| groups.handle(ticket, event, now, settings, out));
        ticket
    }

    /// Time passes, in the steps the machine asks for.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.ticks_ms + ms;
        let mut last = None;
        while let Some(due) = self.groups.next_tick().filter(|due| *due <= end) {
            let due = due.max(self.now.ticks_ms);
            assert!(last != Some((due, 1000)), "tick does not get on");
            last = match last {
                Some((at, n)) if at == due => Some((at, n + 1)),
                _ => Some((due, 0)),
            };
            self.now.wall_ms += (due - self.now.ticks_ms) as i64;
            self.now.ticks_ms = due;
            self.run(|groups, now, settings, out| groups.tick(now, settings, out));
        }
        self.now.wall_ms += (end - self.now.ticks_ms) as i64;
        self.now.ticks_ms = end;
    }

    /// The shard ends and another one loads the first `records` of the log. Who waited is told so by the shard.
    pub fn restart(&mut self, records: usize) {
        self.log.truncate(records);
        self.appends.clear();
        self.waiting.clear();
        self.groups = replayed(&self.log);
        self.run(|groups, now, settings, out| groups.loaded(now, settings, out));
    }

    pub fn group(&self) -> &Classic {
        &self.groups.groups["g"].classic
    }

    pub fn state(&self) -> State {
        self.groups.groups.get("g").map_or(State::Dead, |found| found.classic.state())
    }

    pub fn join(&mut self, join: Join) -> Ticket {
        self.ask(Event::Join(join))
    }

    pub fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> Ticket {
        let assignments = assignments.iter().map(|(id, a)| (Arc::from(*id), Bytes::copy_from_slice(a.as_bytes())));
        self.ask(Event::Sync(Sync {
            group: "g".into(),
            generation,
            member_id: member.into(),
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        }))
    }

    pub fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let (group, member_id) = ("g".into(), member.into());
        let beat = Heartbeat { group, generation, member_id, instance_id: None };
        let ticket = self.ask(Event::Heartbeat(beat));
        self.heard(ticket)
    }

    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<Result<(), GroupError>> {
        let members = members.iter().map(|(id, instance)| (Arc::from(*id), instance.map(Arc::from))).collect();
        let ticket = self.ask(Event::Leave(Leave { group: "g".into(), members }));
        match self.replies.remove(&ticket) {
            Some(Reply::Leave(Ok(results))) => results,
            other => panic!("{other:?}"),
        }
    }

    pub fn heard(&mut self, ticket: Ticket) -> Result<(), GroupError> {
        match self.replies.remove(&ticket) {
            Some(Reply::Heartbeat(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn waits(&self, ticket: Ticket) -> bool {
        self.waiting.contains(&ticket)
    }

    pub fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.replies.remove(&ticket) {
            Some(Reply::Join(joined)) => joined,
            other => panic!("{other:?}"),
        }
    }

    pub fn synced(&mut self, ticket: Ticket) -> Synced {
        match self.replies.remove(&ticket) {
            Some(Reply::Sync(synced)) => synced,
            other => panic!("{other:?}"),
        }
    }

    /// A stable group of members that have joined by these questions, and the ids they got; the first leads. Each one's assignment is its place.
    pub fn stable(&mut self, joins: &[Join]) -> Vec<Arc<str>> {
        let tickets: Vec<_> = joins.iter().map(|it| self.join(it.clone())).collect();
        self.pass(500);
        let joined: Vec<_> = tickets.into_iter().map(|ticket| self.joined(ticket)).collect();
        let ids: Vec<Arc<str>> = joined.iter().map(|it| it.member_id.clone()).collect();
        let generation = joined[0].generation;
        assert!(joined.iter().all(|it| it.result.is_ok() && it.leader == ids[0] && it.generation == generation));
        self.synced_all(&ids, generation);
        ids
    }

    /// Every member syncs; the first assigns.
    pub fn synced_all(&mut self, ids: &[Arc<str>], generation: i32) {
        let places: Vec<_> = (0..ids.len()).map(|n| n.to_string()).collect();
        let assignments: Vec<_> = ids.iter().zip(&places).map(|(id, place)| (&**id, &**place)).collect();
        let tickets: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| self.sync(id, generation, if n == 0 { &assignments } else { &[] }))
            .collect();
        for (ticket, place) in tickets.into_iter().zip(places) {
            let synced = self.synced(ticket);
            assert_eq!((synced.result, &synced.assignment[..]), (Ok(()), place.as_bytes()));
        }
        assert_eq!(self.state(), State::Stable);
    }
}

/// A machine that has read `log` and not been told that this was all.
pub fn replayed(log: &[Record]) -> Groups {
    let mut groups = Groups::default();
    for record in log {
        groups.replay(&record.key, record.value.as_deref(), Now::default()).unwrap();
    }
    groups
}

pub fn records(groups: &Groups) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    groups.live(&mut |record| {
        records.insert(record.key, record.value.unwrap());
    });
    records
}

/// A dynamic member that joins as clients before KIP-394 did: at once.
pub fn new(client: &str) -> Join {
    Join {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"\0\0\0\0\0\0"))],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        caller: Caller { client_id: client.into(), client_host: "/127.0.0.1".into() },
        require_known_member_id: false,
        supports_skip_assignment: false,
        new_member: Uuid::from_u128(client.bytes().fold(7, |n, b| n * 31 + u128::from(b))),
    }
}

pub fn fixed(instance: &str) -> Join {
    Join { instance_id: Some(instance.into()), ..new(instance) }
}

pub fn again(join: &Join, id: &str) -> Join {
    Join { member_id: id.into(), ..join.clone() }
}

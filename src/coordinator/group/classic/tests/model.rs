//! Random histories of a group: clients that join, sync, lead, assign, leave, forget and err; time that passes; appends that are made or refused late; restarts. What must hold
//! all the way is checked at every step, by what clients were told; at the end clients behave, and everything must come right.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const CLIENTS: usize = 4;
const PARTITIONS: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    /// What a client that keeps to the protocol does next.
    Act(usize),
    /// Joins whatever it is doing; with other metadata than before if so.
    Join(usize, bool),
    /// Syncs again, with an assignment of its own whether it leads or not.
    Sync(usize),
    /// Syncs a generation that is not.
    Stale(usize, i32),
    Heartbeat(usize),
    Leave(usize),
    /// Starts anew without knowing its id.
    Forget(usize),
    Pass(u64),
    Settle,
    Refuse(u8),
    /// Of the appends without outcome so many reach the log.
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..CLIENTS;
    let step = prop_oneof![
        30 => who.clone().prop_map(Step::Act),
        5 => (who.clone(), any::<bool>()).prop_map(|(who, change)| Step::Join(who, change)),
        3 => who.clone().prop_map(Step::Sync),
        1 => (who.clone(), -1..3i32).prop_map(|(who, by)| Step::Stale(who, by)),
        5 => who.clone().prop_map(Step::Heartbeat),
        1 => who.clone().prop_map(Step::Leave),
        3 => who.prop_map(Step::Forget),
        8 => prop_oneof![3 => 0..60u64, 1 => 0..1_500u64].prop_map(Step::Pass),
        12 => Just(Step::Settle),
        2 => (0..4u8).prop_map(Step::Refuse),
        1 => (0..3usize).prop_map(Step::Restart),
    ];
    proptest::collection::vec(step, 0..120)
}

/// Where a client is in the protocol, as far as it knows.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Out,
    Joining(Ticket),
    Joined { members: Vec<Arc<str>> },
    Syncing(Ticket),
    Member,
}

#[derive(Clone, Debug)]
struct Client {
    instance: Option<Arc<str>>,
    id: Arc<str>,
    generation: i32,
    place: Place,
    metadata: u8,
    owned: BTreeSet<usize>,
}

struct World {
    rig: Rig,
    clients: Vec<Client>,
    /// What was asked by whom: client, id, generation.
    asked: BTreeMap<Ticket, (usize, Arc<str>, i32)>,
    /// Partition's owner in a generation, as members were told; and which assignment they were told of.
    owners: BTreeMap<(i32, usize), String>,
    assignments: BTreeMap<i32, u64>,
    /// Highest generation since the start of the machine that a member was told of.
    told: i32,
    random: u128,
}

impl World {
    fn new() -> World {
        let mut rig = Rig::new();
        rig.at_once = false;
        let clients = (0..CLIENTS).map(|n| Client {
            instance: (n % 2 == 1).then(|| format!("i{n}").into()),
            id: "".into(),
            generation: -1,
            place: Place::Out,
            metadata: 0,
            owned: BTreeSet::new(),
        });
        World {
            rig,
            clients: clients.collect(),
            asked: BTreeMap::new(),
            owners: BTreeMap::new(),
            assignments: BTreeMap::new(),
            told: 0,
            random: 1,
        }
    }

    fn ask(&mut self, who: usize, event: Event) -> Ticket {
        let ticket = self.rig.ask(event);
        let client = &self.clients[who];
        self.asked.insert(ticket, (who, client.id.clone(), client.generation));
        ticket
    }

    fn join(&mut self, who: usize) {
        self.random += 1;
        let client = &self.clients[who];
        let protocols = ["range", "sticky"].map(|name| (Arc::from(name), Bytes::copy_from_slice(&[client.metadata])));
        let join = Join {
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            protocols: protocols.into(),
            session_timeout_ms: 1_000,
            rebalance_timeout_ms: 500,
            require_known_member_id: who % 4 != 2,
            supports_skip_assignment: who % 4 == 1,
            new_member: Uuid::from_u128(self.random),
            ..new(&format!("c{who}"))
        };
        let ticket = self.ask(who, Event::Join(join));
        self.clients[who].place = Place::Joining(ticket);
    }

    /// With an assignment over `members` where there are any: partitions in turn, and a number that tells this assignment from all others.
    fn sync(&mut self, who: usize, members: &[Arc<str>], generation: i32) -> Ticket {
        self.random += 1;
        let assignments = members.iter().enumerate().map(|(n, id)| {
            let of = (0..PARTITIONS).filter(|p| p % members.len() == n).map(|p| p.to_string());
            let of = std::iter::once(self.random.to_string()).chain(of).collect::<Vec<_>>();
            (id.clone(), of.join(",").into())
        });
        let client = &self.clients[who];
        let sync = Sync {
            group: "g".into(),
            generation,
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments: assignments.collect(),
        };
        self.ask(who, Event::Sync(sync))
    }

    fn heartbeat(&mut self, who: usize) {
        let Client { id, instance, generation, .. } = self.clients[who].clone();
        let group = "g".into();
        self.ask(who, Event::Heartbeat(Heartbeat { group, generation, member_id: id, instance_id: instance }));
    }

    fn act(&mut self, who: usize) {
        match self.clients[who].place.clone() {
            Place::Out => self.join(who),
            Place::Joined { members } => {
                let ticket = self.sync(who, &members, self.clients[who].generation);
                self.clients[who].place = Place::Syncing(ticket);
            }
            Place::Joining(_) | Place::Syncing(_) => {}
            Place::Member => self.heartbeat(who),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Act(who) => self.act(who),
            Step::Join(who, change) => {
                self.clients[who].metadata += u8::from(change);
                self.join(who);
            }
            Step::Sync(who) => {
                let everybody: Vec<_> = self.clients.iter().map(|it| it.id.clone()).collect();
                let ticket = self.sync(who, &everybody, self.clients[who].generation);
                if matches!(self.clients[who].place, Place::Joined { .. } | Place::Syncing(_)) {
                    self.clients[who].place = Place::Syncing(ticket);
                }
            }
            Step::Stale(who, by) => {
                self.sync(who, &[], self.clients[who].generation.wrapping_add(by));
            }
            Step::Heartbeat(who) => self.heartbeat(who),
            Step::Leave(who) => {
                let Client { id, instance, .. } = self.clients[who].clone();
                self.ask(who, Event::Leave(Leave { group: "g".into(), members: vec![(id, instance)] }));
                self.forget(who);
            }
            Step::Forget(who) => self.forget(who),
            Step::Pass(ms) => self.rig.pass(ms),
            Step::Settle => {
                self.rig.settle();
            }
            Step::Refuse(why) => {
                let why = match why {
                    0 => Refusal::DiskFull,
                    1 => Refusal::NotEnoughReplicas,
                    2 => Refusal::NotHere("elsewhere".into()),
                    _ => Refusal::TooLarge { size_bytes: 2, max_bytes: 1 },
                };
                self.rig.refuse(why);
            }
            Step::Restart(more) => {
                for (records, _) in self.rig.appends.drain(..).take(more) {
                    self.rig.log.extend(records);
                }
                let lost = self.rig.waiting.clone();
                self.rig.restart(self.rig.log.len());
                self.told = self.rig.groups.groups.get("g").map_or(0, |found| found.classic.generation());
                for client in &mut self.clients {
                    match client.place {
                        Place::Joining(ticket) | Place::Syncing(ticket) if lost.contains(&ticket) => {
                            client.place = Place::Out;
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn forget(&mut self, who: usize) {
        let client = &mut self.clients[who];
        (client.id, client.generation, client.place) = ("".into(), -1, Place::Out);
        client.owned.clear();
    }

    /// Clients hear what they were told.
    fn listen(&mut self) {
        for (ticket, reply) in std::mem::take(&mut self.rig.replies) {
            let (who, id, generation) = self.asked.remove(&ticket).unwrap();
            match reply {
                Reply::Join(joined) => self.heard_join(who, ticket, joined),
                Reply::Sync(synced) => self.heard_sync(who, ticket, &id, synced),
                Reply::Heartbeat(Ok(())) => {
                    assert!(generation <= self.told && !id.is_empty(), "a heartbeat of {generation}, {} is", self.told);
                }
                Reply::Heartbeat(Err(error)) => {
                    let client = &mut self.clients[who];
                    if client.id == id && client.generation == generation && client.place == Place::Member {
                        client.place = Place::Out;
                        if matches!(error, GroupError::UnknownMemberId | GroupError::FencedInstanceId) {
                            client.id = "".into();
                        }
                    }
                }
                Reply::Leave(results) => assert_eq!(results.unwrap().len(), 1),
                other => panic!("{other:?}"),
            }
        }
    }

    fn heard_join(&mut self, who: usize, ticket: Ticket, joined: Joined) {
        if joined.result.is_ok() {
            assert!(joined.generation >= self.told, "generation {} after {}", joined.generation, self.told);
            self.told = joined.generation;
            assert!(joined.protocol.is_some() && !joined.leader.is_empty() && !joined.member_id.is_empty());
            let leads = joined.leader == joined.member_id;
            assert_eq!(!joined.members.is_empty(), leads, "the leader sees the members, nobody else does");
        } else {
            assert_eq!((joined.generation, joined.members.len()), (-1, 0));
        }
        let client = &mut self.clients[who];
        if client.place != Place::Joining(ticket) {
            return; // it has given up on that
        }
        client.place = Place::Out;
        match joined.result {
            Ok(()) => {
                (client.id, client.generation) = (joined.member_id, joined.generation);
                let members = joined.members.into_iter().filter(|_| !joined.skip_assignment);
                client.place = Place::Joined { members: members.map(|(id, ..)| id).collect() };
            }
            Err(GroupError::MemberIdRequired) => client.id = joined.member_id,
            Err(GroupError::UnknownMemberId | GroupError::FencedInstanceId) => client.id = "".into(),
            Err(_) => {}
        }
    }

    fn heard_sync(&mut self, who: usize, ticket: Ticket, id: &Arc<str>, synced: Synced) {
        let mut owned = BTreeSet::new();
        if synced.result.is_ok() && !synced.assignment.is_empty() {
            let text = std::str::from_utf8(&synced.assignment).unwrap();
            let mut numbers = text.split(',').map(|number| number.parse::<u64>().unwrap());
            // The question was of this generation, else it had not been taken.
            let generation = self.told_generation(who, ticket);
            let assignment = numbers.next().unwrap();
            assert_eq!(*self.assignments.entry(generation).or_insert(assignment), assignment, "two of {generation}");
            owned = numbers.map(|number| number as usize).collect();
            let owner = self.clients[who].instance.clone().unwrap_or_else(|| id.clone()).to_string();
            for partition in &owned {
                let before = self.owners.entry((generation, *partition)).or_insert_with(|| owner.clone());
                assert_eq!(*before, owner, "two owners of {partition} in generation {generation}");
            }
        }
        let client = &mut self.clients[who];
        if client.place != Place::Syncing(ticket) {
            return;
        }
        client.place = Place::Out;
        match synced.result {
            Ok(()) => (client.place, client.owned) = (Place::Member, owned),
            Err(GroupError::UnknownMemberId | GroupError::FencedInstanceId) => client.id = "".into(),
            Err(_) => {}
        }
    }

    /// Generation of the group: a sync that was answered well was of it (nothing ran between answer and now but the step that answered).
    fn told_generation(&self, _who: usize, _ticket: Ticket) -> i32 {
        self.rig.group().generation()
    }

    fn check(&mut self) {
        self.listen();
        let log = &self.rig.log;
        assert_eq!(records(&replayed(log)), records(&self.rig.groups), "replay is not what lives");
        let all = self.rig.groups.groups.iter();
        let members_bytes: usize = all.map(|(name, group)| classic::weight(name, &group.classic)).sum();
        assert_eq!(self.rig.groups.members_bytes, members_bytes);
        let Some(found) = self.rig.groups.groups.get("g") else { return };
        let live = &found.classic;
        live.members.check_counts();
        assert!(live.generation() >= self.told, "generation {} after {}", live.generation(), self.told);
        assert!(!live.is_vacant() || live.is_stored() || live.generation() > 0, "an idle group is kept");
        if live.state() == State::Stable && self.rig.appends.is_empty() {
            // Nothing is on its way: a load brings back the same group.
            let mut loaded = replayed(log);
            loaded.loaded(self.rig.now, &self.rig.settings, &mut Output::default());
            let loaded = &loaded.groups["g"].classic;
            let shape = |it: &classic::Classic| {
                let members = it.describe(&"g".into()).members.into_iter();
                let members: Vec<_> = members.map(|m| (m.member_id, m.instance_id, m.assignment)).collect();
                (it.state(), it.generation(), it.protocol.clone(), members)
            };
            assert_eq!(shape(loaded), shape(live));
        }
    }

    /// Clients keep to the protocol and nothing goes wrong: the group settles with all of them, and every partition has its owner.
    fn settle_down(&mut self) {
        self.rig.at_once = true;
        while self.rig.settle() {}
        for _ in 0..200 {
            self.check();
            let calm = self.clients.iter().all(|it| it.place == Place::Member && it.generation == self.told);
            if calm && self.rig.group().members.len() == CLIENTS && self.rig.state() == State::Stable {
                let owned: Vec<usize> = self.clients.iter().flat_map(|it| it.owned.iter().copied()).collect();
                assert_eq!(owned.len(), PARTITIONS, "{:?}", self.clients);
                assert_eq!(owned.into_iter().collect::<BTreeSet<_>>().len(), PARTITIONS);
                return;
            }
            (0..CLIENTS).for_each(|who| self.act(who));
            self.rig.pass(50);
        }
        panic!("the group does not come to rest: {:?}\n{:?}", self.clients, self.rig.groups.groups);
    }

    /// Everybody goes silent: whoever waits is answered, nobody stays.
    fn fall_silent(&mut self) {
        self.rig.at_once = true;
        while self.rig.settle() {}
        self.rig.pass(1_000_000);
        self.check();
        assert!(self.rig.waiting.is_empty(), "{:?} wait for ever", self.rig.waiting);
        assert!(self.rig.groups.groups.get("g").is_none_or(|found| found.classic.is_vacant()));
        assert_eq!(self.rig.groups.next_tick(), None);
    }
}

/// Stored generations do not fall.
fn check_log(log: &[Record]) {
    let values = log.iter().map(|record| records::GroupValue::decode(record.value.as_ref().unwrap()).unwrap());
    let generations: Vec<i32> = values.map(|value| value.generation).collect();
    assert!(generations.is_sorted(), "{generations:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_partitions_have_one_owner_and_everybody_is_answered(steps in steps(), calm in any::<bool>()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        if calm {
            world.settle_down();
        }
        world.fall_silent();
        check_log(&world.rig.log);
        // At every prefix: what a load makes of it stores what the prefix says.
        for end in 0..=world.rig.log.len() {
            let mut loaded = replayed(&world.rig.log[..end]);
            let before = records(&loaded);
            let mut out = Output::default();
            loaded.loaded(world.rig.now, &world.rig.settings, &mut out);
            prop_assert!(out.replies.is_empty() && out.appends.is_empty());
            prop_assert_eq!(&before, &records(&loaded));
        }
    }
}

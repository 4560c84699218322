//! Members and rebalances of one classic group (Kafka's `ClassicGroup` and the classic half of its `GroupMetadataManager`; KIP-62, 345, 394, 429, 814).
//!
//! Stored is one record a group: the members and assignments of the last generation that had any, or that it is empty. Everything else is soft: while the shard lives, members and
//! their generation are here and run ahead of the record; a load makes them from it. So a rebalance that a crash cut off has not happened, and its members join anew.
//!
//! [`join`] takes members in, [`rebalance`] leads from one generation to the next, [`sync`] hands assignments out and hears heartbeats and farewells.

mod join;
mod members;
mod rebalance;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

use super::{
    Caller, Description, Event, GroupError, Groups, Joined, MemberDescription, Reply, State, Synced,
    records::{GroupValue, MemberValue, group_key},
};
use crate::{
    config::GroupSettings,
    coordinator::{
        machine::{Now, Output, Record, Refusal, Ticket},
        timers::Timers,
    },
    limits::COORDINATOR_MEMBERS_BYTES_MAX,
};
use bytes::Bytes;
use members::{Member, Members, Terms};
use std::sync::Arc;
use subscription::Subscriptions;

/// What a group with members takes by itself, bytes (an estimate).
const GROUP_BYTES: usize = 512;

/// Protocol type of consumers: their metadata names topics.
pub const CONSUMER: &str = "consumer";

/// Members, generation and state of a group.
#[derive(Debug)]
pub struct Classic {
    /// The value of its record as it is in the log.
    stored: Option<Bytes>,
    state: State,
    /// Wall clock of the last change of state.
    state_ms: Option<i64>,
    /// It waits for its first members, at most until then (ticks).
    initial_until: Option<u64>,
    generation: i32,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    members: Members,
    /// The generation whose assignment is being appended.
    storing: Option<i32>,
    /// How many static members' new ids are being appended.
    replacing: usize,
    subscriptions: Subscriptions,
}

impl Default for Classic {
    fn default() -> Self {
        Classic {
            stored: None,
            state: State::Empty,
            state_ms: None,
            initial_until: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            storing: None,
            replacing: 0,
            subscriptions: Subscriptions::default(),
        }
    }
}

/// What is remembered of an append until its outcome is known.
#[derive(Debug)]
pub enum Pending {
    /// The leader's assignment: by member id.
    Assignment(rebalance::Assignment),
    /// A static member that has come back under a new id.
    Replacement(Box<join::Replacement>),
    /// The group is empty now.
    Empty,
}

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Timer {
    /// The member has not been heard of: group, member.
    Session(Arc<str>, Arc<str>),
    /// Members had until now to join.
    Join(Arc<str>),
    /// Members had until now to sync.
    Sync(Arc<str>),
}

/// What one step on a group works with.
struct Turn<'a> {
    group: &'a Arc<str>,
    timers: &'a mut Timers<Timer>,
    now: Now,
    settings: &'a GroupSettings,
    out: &'a mut Output<Groups>,
    /// What the groups of the shard may still grow by, bytes.
    free_bytes: usize,
}

impl Turn<'_> {
    fn joined(&mut self, ticket: Ticket, joined: Joined) {
        self.out.reply(ticket, Reply::Join(joined));
    }

    fn refuse_join(&mut self, ticket: Ticket, member_id: &Arc<str>, error: GroupError) {
        self.joined(ticket, Joined::refused(member_id.clone(), error));
    }

    fn synced(&mut self, ticket: Ticket, synced: Result<Synced, GroupError>) {
        self.out.reply(ticket, Reply::Sync(synced.unwrap_or_else(Synced::refused)));
    }

    fn heard(&mut self, ticket: Ticket, result: Result<(), GroupError>) {
        self.out.reply(ticket, Reply::Heartbeat(result));
    }

    /// The member's session starts anew.
    fn expect_member(&mut self, id: &Arc<str>, within_ms: i32) {
        let within_ms = u64::try_from(within_ms).unwrap_or(0).max(1);
        let at = self.now.ticks_ms.saturating_add(within_ms);
        self.timers.set(Timer::Session(self.group.clone(), id.clone()), at);
    }

    /// Whatever waited for this member (that is gone) is told so, and no deadline of it is left.
    fn dismiss(&mut self, member: Member, why: &GroupError) {
        self.timers.remove(&Timer::Session(self.group.clone(), member.id.clone()));
        let waiting = [member.joining(), member.syncing];
        self.dismiss_waiting(waiting, &"".into(), why);
    }

    /// Join and sync of a member; its JoinGroup is answered with `named`.
    fn dismiss_waiting(&mut self, waiting: [Option<Ticket>; 2], named: &Arc<str>, why: &GroupError) {
        let [joining, syncing] = waiting;
        if let Some(ticket) = joining {
            self.refuse_join(ticket, named, why.clone());
        }
        if let Some(ticket) = syncing {
            self.synced(ticket, Err(why.clone()));
        }
    }

    /// Wants the group's record stored. A group that does not fit the format is refused at once: `Err` gives back what was pending.
    fn store(&mut self, value: &GroupValue, pending: Pending) -> Result<(), (Pending, Refusal)> {
        match (group_key(self.group), value.encode()) {
            (Ok(key), Ok(value)) => {
                let pending = super::Pending::Classic(self.group.clone(), pending);
                self.out.append(vec![Record { key, value: Some(value) }], pending);
                Ok(())
            }
            (Err(e), _) | (_, Err(e)) => {
                Err((pending, Refusal::TooLarge { size_bytes: e.size_bytes, max_bytes: e.max_bytes }))
            }
        }
    }
}

impl Joined {
    /// A join that came to nothing, and the member id it is answered with.
    pub fn refused(member_id: Arc<str>, error: GroupError) -> Joined {
        Joined {
            result: Err(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

impl Synced {
    /// A sync that came to nothing.
    pub fn refused(error: GroupError) -> Synced {
        Synced { result: Err(error), protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// What members are told when the log did not take what the group wanted stored (Kafka's `appendGroupMetadataErrorToResponseError`).
fn refusal(why: &Refusal) -> GroupError {
    match why {
        Refusal::TooLarge { .. } => GroupError::Unknown(why.to_string()),
        Refusal::NotEnoughReplicas | Refusal::DiskFull => GroupError::NotAvailable(why.to_string()),
        Refusal::NotHere(_) => GroupError::NotCoordinator(why.to_string()),
    }
}

/// A group record: from the log at load, or just appended. `None` = tombstone. While the shard lives only what is stored changes: its members are ahead of the record.
pub(super) fn replay(groups: &mut Groups, group: Arc<str>, value: Option<&[u8]>, _now: Now) -> Result<(), String> {
    match value {
        Some(value) => {
            if !groups.loaded {
                GroupValue::decode(value)?;
            }
            groups.groups.entry(group).or_default().classic.stored = Some(Bytes::copy_from_slice(value));
        }
        None => {
            if let Some(found) = groups.groups.get_mut(&group) {
                found.classic.forget();
            }
            reap(groups, &group);
        }
    }
    Ok(())
}

/// The log has been read: groups are as their records say and their members' sessions begin.
pub(super) fn loaded(groups: &mut Groups, now: Now, settings: &GroupSettings, out: &mut Output<Groups>) {
    let mut names: Vec<Arc<str>> = groups.groups.keys().cloned().collect();
    names.sort();
    for name in names {
        step(groups, &name, now, settings, out, |classic, turn| classic.load(turn));
    }
}

/// Join, Sync, Heartbeat, Leave.
pub(super) fn handle(
    groups: &mut Groups,
    ticket: Ticket,
    event: Event,
    now: Now,
    settings: &GroupSettings,
    out: &mut Output<Groups>,
) {
    match event {
        Event::Join(join) => match join::check(&join, settings) {
            Err(error) => out.reply(ticket, Reply::Join(Joined::refused(join.member_id, error))),
            Ok(()) if is_full(groups, &join) => {
                let error = GroupError::NotAvailable("its groups take all the memory they may".into());
                out.reply(ticket, Reply::Join(Joined::refused(join.member_id, error)));
            }
            Ok(()) => {
                if join.member_id.is_empty() && !groups.groups.contains_key(&join.group) {
                    groups.groups.insert(join.group.clone(), Default::default());
                }
                let (group, member_id) = (join.group.clone(), join.member_id.clone());
                let known = step(groups, &group, now, settings, out, |classic, turn| classic.join(turn, ticket, join));
                if known.is_none() {
                    out.reply(ticket, Reply::Join(Joined::refused(member_id, GroupError::UnknownMemberId)));
                }
            }
        },
        Event::Sync(sync) if sync.group.is_empty() => {
            out.reply(ticket, Reply::Sync(Synced::refused(GroupError::InvalidGroupId)));
        }
        Event::Sync(sync) => {
            let group = sync.group.clone();
            let known = step(groups, &group, now, settings, out, |classic, turn| classic.sync(turn, ticket, sync));
            if known.is_none() {
                out.reply(ticket, Reply::Sync(Synced::refused(GroupError::UnknownMemberId)));
            }
        }
        Event::Heartbeat(heartbeat) if heartbeat.group.is_empty() => {
            out.reply(ticket, Reply::Heartbeat(Err(GroupError::InvalidGroupId)));
        }
        Event::Heartbeat(heartbeat) => {
            let hear = |classic: &mut Classic, turn: &mut Turn| classic.heartbeat(turn, ticket, &heartbeat);
            if step(groups, &heartbeat.group, now, settings, out, hear).is_none() {
                out.reply(ticket, Reply::Heartbeat(Err(GroupError::UnknownMemberId)));
            }
        }
        Event::Leave(leave) if leave.group.is_empty() => {
            out.reply(ticket, Reply::Leave(Err(GroupError::InvalidGroupId)));
        }
        Event::Leave(leave) => {
            let part = |classic: &mut Classic, turn: &mut Turn| classic.leave(turn, &leave.members);
            let results = step(groups, &leave.group, now, settings, out, part);
            let results =
                results.unwrap_or_else(|| leave.members.iter().map(|_| Err(GroupError::UnknownMemberId)).collect());
            out.reply(ticket, Reply::Leave(Ok(results)));
        }
        _ => unreachable!("not an event of members"),
    }
}

/// Its append was made.
pub(super) fn appended(
    groups: &mut Groups,
    group: &Arc<str>,
    pending: Pending,
    now: Now,
    settings: &GroupSettings,
    out: &mut Output<Groups>,
) {
    step(groups, group, now, settings, out, |classic, turn| match pending {
        Pending::Assignment(assignment) => classic.assignment_stored(turn, assignment),
        Pending::Replacement(replacement) => classic.replacement_stored(turn, &replacement),
        Pending::Empty => {}
    });
}

/// Its append was not made.
pub(super) fn refused(
    groups: &mut Groups,
    group: &Arc<str>,
    pending: Pending,
    why: &Refusal,
    now: Now,
    settings: &GroupSettings,
    out: &mut Output<Groups>,
) {
    step(groups, group, now, settings, out, |classic, turn| classic.not_stored(turn, pending, why));
}

/// The earliest deadline, ticks.
pub(super) fn next_tick(groups: &Groups) -> Option<u64> {
    groups.timers.next()
}

/// Does what is due.
pub(super) fn tick(groups: &mut Groups, now: Now, settings: &GroupSettings, out: &mut Output<Groups>) {
    while let Some(timer) = groups.timers.pop_due(now.ticks_ms) {
        match timer {
            Timer::Session(group, member) => {
                step(groups, &group, now, settings, out, |classic, turn| classic.session_over(turn, &member));
            }
            Timer::Join(group) => {
                step(groups, &group, now, settings, out, |classic, turn| classic.complete_join(turn));
            }
            Timer::Sync(group) => {
                step(groups, &group, now, settings, out, |classic, turn| classic.sync_over(turn));
            }
        }
    }
}

/// Puts the record of each group that has one.
pub(super) fn live(groups: &Groups, put: &mut dyn FnMut(Record)) {
    for (group, found) in groups.in_order() {
        if let (Some(value), Ok(key)) = (&found.classic.stored, group_key(group)) {
            put(Record { key, value: Some(value.to_vec()) });
        }
    }
}

/// Counts as a heartbeat of a member that has just shown life by a commit: its session starts anew. Nothing for an unknown one.
pub fn heartbeat(groups: &mut Groups, group: &Arc<str>, member_id: &str, now: Now) {
    if let Some(member) = groups.groups.get(group).and_then(|found| found.classic.members.get(member_id)) {
        let session_ms = u64::try_from(member.terms.session_timeout_ms).unwrap_or(0).max(1);
        let timer = Timer::Session(group.clone(), member.id.clone());
        groups.timers.set(timer, now.ticks_ms.saturating_add(session_ms));
    }
}

/// One step on a group there is; `None` = there is none. Afterwards it is dropped if nothing is left of it.
fn step<R>(
    groups: &mut Groups,
    group: &Arc<str>,
    now: Now,
    settings: &GroupSettings,
    out: &mut Output<Groups>,
    act: impl FnOnce(&mut Classic, &mut Turn) -> R,
) -> Option<R> {
    let (name, _) = groups.groups.get_key_value(group)?;
    let name = name.clone();
    let free_bytes = COORDINATOR_MEMBERS_BYTES_MAX.saturating_sub(groups.members_bytes);
    let classic = &mut groups.groups.get_mut(group)?.classic;
    let before = weight(&name, classic);
    let result = act(classic, &mut Turn { group: &name, timers: &mut groups.timers, now, settings, out, free_bytes });
    groups.members_bytes = groups.members_bytes + weight(&name, classic) - before;
    reap(groups, &name);
    Some(result)
}

/// What a group counts in [`Groups::members_bytes`]: 0 without members and ids handed out.
fn weight(name: &str, classic: &Classic) -> usize {
    match classic.members.size_bytes() {
        0 => 0,
        size_bytes => size_bytes + GROUP_BYTES + name.len(),
    }
}

/// Whether a join would add more than the shard has room for. A member that comes back with what it had adds nothing.
fn is_full(groups: &Groups, join: &super::Join) -> bool {
    let found = groups.groups.get(&join.group);
    let member = found.and_then(|found| found.classic.members.get(&join.member_id));
    let brought_bytes: usize = join.protocols.iter().map(|(name, metadata)| 64 + name.len() + metadata.len()).sum();
    let added_bytes = match member {
        Some(member) => brought_bytes.saturating_sub(member.terms.size_bytes()),
        None => brought_bytes + GROUP_BYTES + join.group.len() + 4 * join.caller.client_id.len(),
    };
    added_bytes > 0 && groups.members_bytes + added_bytes > COORDINATOR_MEMBERS_BYTES_MAX
}

/// Drops a group that holds nothing.
fn reap(groups: &mut Groups, group: &Arc<str>) {
    let idle = |found: &super::Group| found.classic.is_nothing() && found.offsets.is_empty();
    if groups.groups.get(group).is_some_and(idle) {
        groups.groups.remove(group);
    }
}

impl Classic {
    /// Its state; Empty for a group of offsets only.
    pub fn state(&self) -> State {
        self.state
    }

    /// Generation; 0 before the first.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Protocol type, once a member has given one.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// Its members are consumers (or were the last to be).
    pub fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Wall clock of the last change of state, ms since 1970; `None` = unknown (Kafka's `currentStateTimestamp`).
    pub fn state_ms(&self) -> Option<i64> {
        self.state_ms
    }

    /// How many members it has.
    pub fn members_count(&self) -> usize {
        self.members.len()
    }

    /// A record of the group is stored: deleting it takes a tombstone.
    pub fn is_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// Nobody is in the group, is joining it, or has been given an id to join with.
    pub fn is_vacant(&self) -> bool {
        self.state == State::Empty && self.members.is_empty() && !self.members.has_pending()
    }

    /// Nothing would be lost without it. A group that has had a generation goes with its tombstone only: its record may be on its way, and generations do not start over by
    /// themselves.
    pub fn is_nothing(&self) -> bool {
        self.is_vacant() && !self.is_stored() && self.generation == 0
    }

    /// Whether a commit is taken from this member (Kafka's `validateOffsetCommit`). Clients that assign themselves (generation -1, no member) only while the group is Empty.
    pub fn check_commit(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> Result<(), GroupError> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.members.check(member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration { given: generation, current: self.generation });
        }
        if self.state == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// A member may be reading `topic` (Kafka's `isSubscribedToTopic`): by the subscriptions of the generation; everything when a consumer's subscription cannot be read.
    pub fn subscribes(&self, topic: &str) -> bool {
        match self.subscriptions.topics() {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    /// The topics of the generation's subscriptions can be told (Kafka: else nothing of a group with members expires).
    pub fn knows_subscriptions(&self) -> bool {
        self.subscriptions.topics().is_some()
    }

    /// What DescribeGroups shows of it.
    pub fn describe(&self, group: &Arc<str>) -> Description {
        let protocol = self.protocol.clone().filter(|_| self.state == State::Stable);
        let members = self.members.iter().map(|member| MemberDescription {
            member_id: member.id.clone(),
            instance_id: member.instance.clone(),
            caller: member.caller.clone(),
            metadata: protocol.as_ref().map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: member.assignment.clone(),
        });
        Description {
            group: group.clone(),
            state: self.state,
            state_ms: self.state_ms,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol: protocol.unwrap_or_default(),
        }
    }

    /// Its record is gone. With nobody in it all that it remembers goes too, but for the ids handed out.
    fn forget(&mut self) {
        self.stored = None;
        if self.state == State::Empty && self.members.is_empty() {
            *self = Classic { members: std::mem::take(&mut self.members), ..Classic::default() };
        }
    }

    /// Takes over what the record says; sessions begin.
    fn load(&mut self, turn: &mut Turn) {
        let Some(Ok(value)) = self.stored.as_ref().map(|stored| GroupValue::decode(stored)) else { return };
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
        self.protocol = value.protocol;
        self.state_ms = Some(value.state_ms).filter(|ms| *ms != -1);
        for member in value.members {
            // A record that no coordinator has written may name one twice: the first counts.
            let instance_taken = member.instance_id.as_ref().is_some_and(|i| self.members.of_instance(i).is_some());
            if instance_taken || self.members.contains(&member.member_id) {
                continue;
            }
            let terms = Terms {
                protocols: vec![(self.protocol.clone().unwrap_or_default(), member.subscription)],
                session_timeout_ms: member.session_timeout_ms,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
            };
            let caller = Caller { client_id: member.client_id, client_host: member.client_host };
            turn.expect_member(&member.member_id, member.session_timeout_ms);
            let mut seated = Member::new(member.member_id, member.instance_id, caller, terms);
            seated.assignment = member.assignment;
            self.members.add(seated);
        }
        self.leader = value.leader.filter(|leader| self.members.contains(leader));
        if self.leader.is_none() {
            self.leader = self.members.first().map(|member| member.id.clone());
        }
        self.read_subscriptions();
        if self.members.is_empty() {
            return;
        }
        self.state = State::Stable;
        if self.members.len() > turn.settings.size_max {
            // The bound has been lowered: the last to come back do not get in.
            self.prepare_rebalance(turn);
        }
    }

    /// The record of the group as it is, with assignments given by member id.
    fn value(&self, state_ms: i64, mut assignment: impl FnMut(&Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|member| MemberValue {
            member_id: member.id.clone(),
            instance_id: member.instance.clone(),
            client_id: member.caller.client_id.clone(),
            client_host: member.caller.client_host.clone(),
            rebalance_timeout_ms: member.terms.rebalance_timeout_ms,
            session_timeout_ms: member.terms.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: assignment(member),
        });
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_ms,
            members: members.collect(),
        }
    }

    fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_ms = Some(now.wall_ms);
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Remembers what the members of this generation subscribe to (Kafka's `computeSubscribedTopics`).
    fn read_subscriptions(&mut self) {
        let protocol = self.protocol.as_deref();
        self.subscriptions = match protocol {
            _ if !self.is_consumer() => Subscriptions::default(),
            None if !self.members.is_empty() => Subscriptions::default(),
            protocol => {
                let protocol = protocol.unwrap_or_default();
                Subscriptions::of(self.members.iter().map(|member| member.metadata(protocol)).collect())
            }
        };
    }

    /// Takes a member out; another one leads if it led. It comes back with all that waits for it.
    fn unseat(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if self.is_leader(id) {
            self.leader = self.members.first().map(|member| member.id.clone());
        }
        Some(member)
    }
}

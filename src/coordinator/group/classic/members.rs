//! Who is in a group: members in the order they came, static instances, ids handed out but not yet joined with, and the counts a rebalance asks for at every step.
//!
//! Every change goes through [`Members`], which keeps its counts true; so no step of a rebalance looks at all members but the one that ends it.

use super::super::{Caller, GroupError};
use crate::coordinator::machine::Ticket;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// What a member costs beside its bytes, for the bound of a group.
const MEMBER_BYTES: usize = 512;

/// Name and metadata, in the member's order of preference.
pub(super) type Protocols = Vec<(Arc<str>, Bytes)>;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub id: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub caller: Caller,
    pub terms: Terms,
    pub assignment: Bytes,
    /// Has joined for the first time and not been answered: its session ends even while it waits (it may have gone, unseen).
    pub is_new: bool,
    /// Its JoinGroup that waits.
    joining: Option<Ticket>,
    /// Its SyncGroup that waits.
    pub syncing: Option<Ticket>,
    /// Has not sent its SyncGroup in this generation.
    unsynced: bool,
}

/// What a member asks for when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub protocols: Protocols,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
}

impl Terms {
    /// By what it counts against the bound of the group, bytes.
    pub fn size_bytes(&self) -> usize {
        self.protocols.iter().map(|(name, metadata)| 64 + name.len() + metadata.len()).sum()
    }
}

impl Member {
    pub fn new(id: Arc<str>, instance: Option<Arc<str>>, caller: Caller, terms: Terms) -> Member {
        Member {
            id,
            instance,
            caller,
            terms,
            assignment: Bytes::new(),
            is_new: false,
            joining: None,
            syncing: None,
            unsynced: false,
        }
    }

    pub fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    pub fn joining(&self) -> Option<Ticket> {
        self.joining
    }

    /// Metadata for `protocol`; empty where it does not know it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.terms.protocols.iter().find(|(name, _)| &**name == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }

    /// A member that waits for the others cannot send heartbeats and needs none.
    pub fn is_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    fn size_bytes(&self) -> usize {
        let instance = self.instance.as_ref().map_or(0, |instance| 2 * instance.len());
        let caller = self.caller.client_id.len() + self.caller.client_host.len();
        MEMBER_BYTES + 2 * self.id.len() + instance + caller + self.terms.size_bytes() + self.assignment.len()
    }
}

/// The members of a group and those about to become some.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// By the order in which they came: decisions that go through all of them come out the same every time.
    seats: BTreeMap<u64, Member>,
    by_id: HashMap<Arc<str>, u64>,
    /// Static members: instance id to seat.
    by_instance: HashMap<Arc<str>, u64>,
    /// Ids handed out (KIP-394) and not yet joined with.
    pending: HashSet<Arc<str>>,
    /// How many members know a protocol.
    known_by: HashMap<Arc<str>, usize>,
    joining: usize,
    unsynced: usize,
    size_bytes: usize,
    /// Of these, what ids handed out take.
    pending_bytes: usize,
    next_seat: u64,
}

impl Members {
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// In the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.seats.values()
    }

    /// What they hold, bytes (an estimate).
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The same without ids handed out: nobody but members counts against their group.
    pub fn seated_bytes(&self) -> usize {
        self.size_bytes - self.pending_bytes
    }

    pub fn get(&self, id: &str) -> Option<&Member> {
        self.seats.get(self.by_id.get(id)?)
    }

    /// For fields that nothing is counted by.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.seats.get_mut(self.by_id.get(id)?)
    }

    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Id of the member that has the instance id.
    pub fn of_instance(&self, instance: &str) -> Option<&Arc<str>> {
        Some(&self.seats.get(self.by_instance.get(instance)?)?.id)
    }

    /// Who says to be `id` (and `instance`) is a member (Kafka's `validateMember`).
    pub fn check(&self, id: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.of_instance(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if &**current != id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.contains(id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    pub fn first(&self) -> Option<&Member> {
        self.seats.values().next()
    }

    /// How many wait for the answer to their JoinGroup.
    pub fn joining(&self) -> usize {
        self.joining
    }

    /// Every member has joined and nobody has yet to come back with an id handed out.
    pub fn all_joined(&self) -> bool {
        self.joining == self.seats.len() && self.pending.is_empty()
    }

    pub fn all_synced(&self) -> bool {
        self.unsynced == 0
    }

    /// Longest rebalance timeout of a member, ms. Looks at all.
    pub fn rebalance_timeout_ms(&self) -> u64 {
        self.iter().map(|m| u64::try_from(m.terms.rebalance_timeout_ms).unwrap_or(0)).max().unwrap_or(0)
    }

    pub fn is_pending(&self, id: &str) -> bool {
        self.pending.contains(id)
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn add_pending(&mut self, id: Arc<str>) {
        let size_bytes = pending_bytes(&id);
        if self.pending.insert(id) {
            self.size_bytes += size_bytes;
            self.pending_bytes += size_bytes;
        }
    }

    pub fn remove_pending(&mut self, id: &str) -> bool {
        let was = self.pending.remove(id);
        if was {
            self.size_bytes -= pending_bytes(id);
            self.pending_bytes -= pending_bytes(id);
        }
        was
    }

    /// Seats a member that has no seat yet, nor its instance.
    pub fn add(&mut self, member: Member) {
        assert!(!self.contains(&member.id), "member {} is seated twice", member.id);
        self.remove_pending(&member.id);
        let seat = self.next_seat;
        self.next_seat += 1;
        if let Some(instance) = &member.instance {
            let before = self.by_instance.insert(instance.clone(), seat);
            assert!(before.is_none(), "instance {instance} is seated twice");
        }
        self.by_id.insert(member.id.clone(), seat);
        self.count(&member);
        self.seats.insert(seat, member);
    }

    /// Takes a member out; what waits for it is in what comes back.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let seat = self.by_id.remove(id)?;
        let member = self.seats.remove(&seat)?;
        if let Some(instance) = &member.instance {
            self.by_instance.remove(instance);
        }
        self.discount(&member);
        Some(member)
    }

    /// Gives the seat of `old` to `new`, with all that belongs to it but what waits, which comes back: join, sync.
    pub fn replace(&mut self, old: &str, new: Arc<str>) -> Option<[Option<Ticket>; 2]> {
        let seat = self.by_id.remove(old)?;
        let mut member = self.seats.remove(&seat)?;
        self.discount(&member);
        let waiting = [member.joining.take(), member.syncing.take()];
        member.id = new.clone();
        member.is_new = false;
        self.by_id.insert(new, seat);
        self.count(&member);
        self.seats.insert(seat, member);
        Some(waiting)
    }

    /// The member asks for other terms; `ticket` waits for the answer. The terms and the ticket before come back.
    pub fn rejoin(&mut self, id: &str, terms: Terms, ticket: Option<Ticket>) -> Option<(Terms, Option<Ticket>)> {
        let seat = *self.by_id.get(id)?;
        let mut member = self.seats.remove(&seat)?;
        self.discount(&member);
        let before = (std::mem::replace(&mut member.terms, terms), std::mem::replace(&mut member.joining, ticket));
        self.count(&member);
        self.seats.insert(seat, member);
        Some(before)
    }

    /// Whoever waits for its JoinGroup to be answered does no longer.
    pub fn take_joining(&mut self, id: &str) -> Option<Ticket> {
        let ticket = self.get_mut(id)?.joining.take();
        self.joining -= usize::from(ticket.is_some());
        ticket
    }

    /// A new generation: nobody has synced.
    pub fn expect_syncs(&mut self) {
        for member in self.seats.values_mut() {
            member.unsynced = true;
        }
        self.unsynced = self.seats.len();
    }

    /// Nobody's sync is waited for any more.
    pub fn forget_syncs(&mut self) {
        if self.unsynced > 0 {
            self.seats.values_mut().for_each(|member| member.unsynced = false);
            self.unsynced = 0;
        }
    }

    /// The member has synced.
    pub fn synced(&mut self, id: &str) {
        if let Some(member) = self.get_mut(id)
            && std::mem::replace(&mut member.unsynced, false)
        {
            self.unsynced -= 1;
        }
    }

    /// Ids of those that have not synced.
    pub fn unsynced(&self) -> Vec<Arc<str>> {
        self.iter().filter(|member| member.unsynced).map(|member| member.id.clone()).collect()
    }

    pub fn ids(&self) -> Vec<Arc<str>> {
        self.iter().map(|member| member.id.clone()).collect()
    }

    /// Every member's assignment anew: `of` by member id.
    pub fn assign(&mut self, mut of: impl FnMut(&str) -> Bytes) {
        for member in self.seats.values_mut() {
            self.size_bytes -= member.assignment.len();
            member.assignment = of(&member.id);
            self.size_bytes += member.assignment.len();
        }
    }

    /// Some of `protocols` is known by every member there is (with none: anything).
    pub fn all_know_one_of(&self, protocols: &Protocols) -> bool {
        protocols.iter().any(|(name, _)| self.known_by.get(name).copied().unwrap_or(0) == self.len())
    }

    /// The protocol that most members prefer among those that all know; the first by name of those with as many votes (Kafka: any of them). `None` without members, or when
    /// nothing is known by all.
    pub fn vote(&self) -> Option<Arc<str>> {
        let all = self.len();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.iter() {
            let mut names = member.terms.protocols.iter().map(|(name, _)| name);
            *votes.entry(names.find(|name| self.known_by.get(*name) == Some(&all))?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    fn count(&mut self, member: &Member) {
        self.size_bytes += member.size_bytes();
        self.joining += usize::from(member.joining.is_some());
        self.unsynced += usize::from(member.unsynced);
        for (name, _) in &member.terms.protocols {
            *self.known_by.entry(name.clone()).or_default() += 1;
        }
    }

    fn discount(&mut self, member: &Member) {
        self.size_bytes -= member.size_bytes();
        self.joining -= usize::from(member.joining.is_some());
        self.unsynced -= usize::from(member.unsynced);
        for (name, _) in &member.terms.protocols {
            if let Some(count) = self.known_by.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.known_by.remove(name);
                }
            }
        }
    }

    /// Every count is what counting gives: for tests.
    #[cfg(test)]
    pub fn check_counts(&self) {
        assert_eq!(self.joining, self.iter().filter(|m| m.is_joining()).count());
        assert_eq!(self.unsynced, self.iter().filter(|m| m.unsynced).count());
        let pending = self.pending.iter().map(|id| pending_bytes(id)).sum::<usize>();
        assert_eq!(self.size_bytes, pending + self.iter().map(Member::size_bytes).sum::<usize>());
        assert_eq!(self.by_id.len(), self.seats.len());
        assert!(self.by_id.iter().all(|(id, seat)| self.seats[seat].id == *id));
        assert_eq!(self.by_instance.len(), self.iter().filter(|m| m.instance.is_some()).count());
        for (name, count) in &self.known_by {
            assert_eq!(*count, self.iter().filter(|m| m.terms.protocols.iter().any(|(n, _)| n == name)).count());
        }
    }
}

fn pending_bytes(id: &str) -> usize {
    MEMBER_BYTES + id.len()
}

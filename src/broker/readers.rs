//! Who reads what: members of classic groups by client id and address, so that a fetch, which names neither group nor member, can be laid to one.
//!
//! Noted when a member gets its assignment (SyncGroup), replaced by its next, gone when it leaves, when its group has a newer generation, and [`READER_IDLE_MS`] after its last sign of life.
//! A fetch belongs to a group where exactly one member with its client id and address owns the partition: clients that share both in one group are told apart by what they own, those of
//! two groups that read the same partition are not.

use crate::limits::{READER_IDLE_MS, READERS_MAX, READERS_PARTITIONS_MAX};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Partitions by topic name.
pub type Owned = BTreeMap<Arc<str>, Vec<i32>>;

/// All members known.
#[derive(Debug, Default)]
pub struct Readers {
    state: Mutex<State>,
    /// How many, so that fetches need no lock where there are none.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    clients: BTreeMap<IpAddr, BTreeMap<Arc<str>, Vec<Member>>>,
    groups: BTreeMap<Arc<str>, Group>,
    /// Partitions of all members.
    partitions: usize,
    members: usize,
}

#[derive(Debug, Default)]
struct Group {
    generation: i32,
    /// Where each member is found.
    members: BTreeMap<Arc<str>, (IpAddr, Arc<str>)>,
}

#[derive(Debug)]
struct Member {
    group: Arc<str>,
    id: Arc<str>,
    /// Sorted.
    owned: Owned,
    used_ms: i64,
}

/// A member that got its assignment.
#[derive(Debug)]
pub struct Assigned<'a> {
    pub group: &'a Arc<str>,
    pub generation: i32,
    pub member: &'a Arc<str>,
    pub client_id: &'a str,
    pub address: IpAddr,
    pub owned: Owned,
}

impl Readers {
    /// Members known.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over a member's assignment. Where there is no room it stays unknown.
    pub fn assigned(&self, mut assigned: Assigned<'_>, now_ms: i64) {
        let mut state = self.lock();
        match state.groups.get(assigned.group).map(|group| group.generation) {
            Some(known) if known > assigned.generation => return,
            Some(known) if known < assigned.generation => state.remove_group(assigned.group),
            _ => state.remove(assigned.group, assigned.member),
        }
        let count: usize = assigned.owned.values().map(Vec::len).sum();
        if !state.has_room(count) {
            state.expire(now_ms);
        }
        if state.has_room(count) && count > 0 {
            let client_id: Arc<str> = assigned.client_id.into();
            let group = state.groups.entry(assigned.group.clone()).or_default();
            group.generation = assigned.generation;
            group.members.insert(assigned.member.clone(), (assigned.address, client_id.clone()));
            assigned.owned.values_mut().for_each(|partitions| partitions.sort_unstable());
            let (group, id, owned) = (assigned.group.clone(), assigned.member.clone(), assigned.owned);
            let members = state.clients.entry(assigned.address).or_default().entry(client_id).or_default();
            members.push(Member { group, id, owned, used_ms: now_ms });
            state.members += 1;
            state.partitions += count;
        }
        self.count.store(state.members, Ordering::Relaxed);
    }

    /// A member left its group.
    pub fn left(&self, group: &str, member: &str) {
        if self.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.remove(group, member);
        self.count.store(state.members, Ordering::Relaxed);
    }

    /// A client gave a sign of life.
    pub fn seen(&self, client_id: &str, address: IpAddr, now_ms: i64) {
        if self.is_empty() {
            return;
        }
        let mut state = self.lock();
        let members = state.clients.get_mut(&address).and_then(|clients| clients.get_mut(client_id));
        members.into_iter().flatten().for_each(|member| member.used_ms = now_ms);
    }

    /// The group that a client reads a partition for; `None` where it is none that is known, or not one alone.
    pub fn group_of(&self, client_id: &str, address: IpAddr, topic: &str, partition: i32) -> Option<Arc<str>> {
        if self.is_empty() {
            return None;
        }
        let state = self.lock();
        let members = state.clients.get(&address)?.get(client_id)?;
        let owns = |member: &&Member| {
            let partitions = member.owned.get(topic);
            partitions.is_some_and(|partitions| partitions.binary_search(&partition).is_ok())
        };
        let mut owners = members.iter().filter(owns);
        let owner = owners.next()?;
        owners.next().is_none().then(|| owner.group.clone())
    }

    /// Forgets those without a sign of life.
    pub fn expire(&self, now_ms: i64) {
        if self.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.expire(now_ms);
        self.count.store(state.members, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn has_room(&self, partitions: usize) -> bool {
        self.members < READERS_MAX && self.partitions + partitions <= READERS_PARTITIONS_MAX
    }

    fn remove(&mut self, group: &str, id: &str) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        let Some((address, client_id)) = of_group.members.remove(id) else { return };
        if of_group.members.is_empty() {
            self.groups.remove(group);
        }
        let Some(clients) = self.clients.get_mut(&address) else { return };
        let Some(members) = clients.get_mut(&client_id) else { return };
        if let Some(at) = members.iter().position(|m| *m.group == *group && *m.id == *id) {
            let gone = members.swap_remove(at);
            self.members -= 1;
            self.partitions -= gone.owned.values().map(Vec::len).sum::<usize>();
        }
        if members.is_empty() {
            clients.remove(&client_id);
        }
        if clients.is_empty() {
            self.clients.remove(&address);
        }
    }

    fn remove_group(&mut self, group: &str) {
        let members = self.groups.get(group).map(|it| it.members.keys().cloned().collect::<Vec<_>>());
        members.iter().flatten().for_each(|id| self.remove(group, id));
    }

    fn expire(&mut self, now_ms: i64) {
        let all = self.clients.values().flat_map(|clients| clients.values().flatten());
        let idle = all.filter(|member| now_ms.saturating_sub(member.used_ms) >= READER_IDLE_MS);
        let idle: Vec<_> = idle.map(|member| (member.group.clone(), member.id.clone())).collect();
        idle.iter().for_each(|(group, id)| self.remove(group, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn assign(
        readers: &Readers,
        group: &str,
        generation: i32,
        member: &str,
        client_id: &str,
        owned: &[i32],
        now_ms: i64,
    ) {
        let (group, member) = (&group.into(), &member.into());
        let owned = [("t".into(), owned.to_vec())].into();
        readers.assigned(Assigned { group, generation, member, client_id, address: HERE, owned }, now_ms);
    }

    fn group_of(readers: &Readers, client_id: &str, partition: i32) -> Option<String> {
        readers.group_of(client_id, HERE, "t", partition).map(|group| group.to_string())
    }

    #[test]
    fn a_fetch_belongs_to_the_one_member_that_owns_the_partition() {
        let readers = Readers::default();
        assign(&readers, "g", 1, "a", "app", &[2, 0], 0);
        assign(&readers, "g", 1, "b", "app", &[1], 0);
        assign(&readers, "h", 7, "c", "app", &[1, 3], 0);
        let told = [0, 1, 2, 3, 4].map(|p| group_of(&readers, "app", p));
        assert_eq!(told, [Some("g".into()), None, Some("g".into()), Some("h".into()), None]);
        assert_eq!(group_of(&readers, "other", 0), None);
        assert_eq!(readers.group_of("app", "10.0.0.1".parse().unwrap(), "t", 0), None);
        assert_eq!(readers.group_of("app", HERE, "u", 0), None);
        readers.left("h", "c");
        assert_eq!(group_of(&readers, "app", 1), Some("g".into()));
    }

    #[test]
    fn a_new_generation_takes_the_place_of_the_old_one_whoever_was_in_it() {
        let readers = Readers::default();
        assign(&readers, "g", 1, "a", "app", &[0], 0);
        assign(&readers, "g", 1, "b", "app", &[1], 0);
        assign(&readers, "g", 2, "b", "app", &[0], 0);
        assert_eq!(
            (readers.len(), group_of(&readers, "app", 0), group_of(&readers, "app", 1)),
            (1, Some("g".into()), None)
        );
        // An answer that was late.
        assign(&readers, "g", 1, "a", "app", &[0], 0);
        assert_eq!(group_of(&readers, "app", 0), Some("g".into()));
        // The same generation told again.
        assign(&readers, "g", 2, "b", "app", &[0], 0);
        assert_eq!((readers.len(), readers.lock().partitions), (1, 1));
    }

    #[test]
    fn members_without_a_sign_of_life_are_forgotten_and_leave_nothing() {
        let readers = Readers::default();
        assign(&readers, "g", 1, "a", "app", &[0, 1], 0);
        assign(&readers, "h", 1, "b", "web", &[5], 0);
        readers.seen("app", HERE, 5);
        readers.expire(READER_IDLE_MS);
        assert_eq!((group_of(&readers, "app", 1), group_of(&readers, "web", 5)), (Some("g".into()), None));
        readers.expire(READER_IDLE_MS + 5);
        let state = readers.lock();
        assert!(state.clients.is_empty() && state.groups.is_empty() && state.partitions == 0 && readers.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let readers = Readers::default();
        let half: Vec<i32> = (0..READERS_PARTITIONS_MAX as i32 / 2).collect();
        assign(&readers, "a", 1, "m", "1", &half, 0);
        assign(&readers, "b", 1, "m", "2", &half, 1);
        assign(&readers, "c", 1, "m", "3", &[0], 2);
        assert_eq!((readers.len(), group_of(&readers, "3", 0)), (2, None));
        assign(&readers, "c", 1, "m", "3", &[0], READER_IDLE_MS);
        assert_eq!((readers.len(), group_of(&readers, "3", 0)), (2, Some("c".into())), "who is idle makes room");
        let many = Readers::default();
        (0..READERS_MAX + 2).for_each(|n| assign(&many, &format!("g{n}"), 1, "m", "app", &[0], 0));
        assert_eq!(many.len(), READERS_MAX);
    }
}

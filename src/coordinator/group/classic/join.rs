//! Joining: new members, those that come back, and static ones that come back under a new id.

use super::{
    super::{GroupError, Join, Joined, State, records::GroupValue},
    Classic, Pending, Turn,
    members::{Member, Protocols, Terms},
};
use crate::{
    config::GroupSettings,
    coordinator::machine::Ticket,
    limits::{GROUP_BYTES_MAX, GROUP_TEXT_BYTES_MAX, MEMBER_ID_CLIENT_BYTES_MAX},
};
use std::{collections::HashSet, sync::Arc};

/// How long a new member may wait for its first answer before it is taken for gone, ms (Kafka's `classicGroupNewMemberJoinTimeoutMs`).
const NEW_MEMBER_MS: i32 = 5 * 60 * 1000;

/// A static member that has come back under a new id while nothing else changed.
#[derive(Debug)]
pub struct Replacement {
    pub(super) ticket: Ticket,
    pub(super) generation: i32,
    pub(super) new_id: Arc<str>,
    pub(super) old_terms: Terms,
    /// Before the replacement: a client that cannot skip the assignment is told of the old one, so that it does not think itself the leader.
    pub(super) old_leader: Option<Arc<str>>,
    pub(super) supports_skip_assignment: bool,
}

/// What is wrong with a JoinGroup whatever the group is.
pub(super) fn check(join: &Join, settings: &GroupSettings) -> Result<(), GroupError> {
    if join.group.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    let (given, min, max) = (join.session_timeout_ms, settings.session_timeout_min_ms, settings.session_timeout_max_ms);
    if given < min || given > max {
        return Err(GroupError::InvalidSessionTimeout { given, min, max });
    }
    // Texts are stored with a length of 16 bits.
    let texts = [&join.group, &join.member_id, &join.protocol_type, &join.caller.client_id, &join.caller.client_host];
    let names = join.protocols.iter().map(|(name, _)| name);
    match texts.into_iter().chain(&join.instance_id).chain(names).map(|text| text.len()).max() {
        Some(len) if len > GROUP_TEXT_BYTES_MAX => Err(GroupError::InvalidRequest(format!(
            "a text of {len} bytes, at most {GROUP_TEXT_BYTES_MAX} are allowed"
        ))),
        _ => Ok(()),
    }
}

fn terms(join: &mut Join) -> Terms {
    let mut protocols: Protocols = std::mem::take(&mut join.protocols);
    if protocols.len() > 1 {
        // A name given twice would be counted twice.
        let mut seen = HashSet::new();
        protocols.retain(|(name, _)| seen.insert(name.clone()));
    }
    Terms {
        protocols,
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms.max(0),
    }
}

/// Client id or instance id, `-`, and something random.
fn new_member_id(join: &Join) -> Arc<str> {
    let name = join.instance_id.as_deref().unwrap_or(&join.caller.client_id);
    let name = &name[..name.floor_char_boundary(MEMBER_ID_CLIENT_BYTES_MAX)];
    format!("{name}-{}", join.new_member).into()
}

impl Classic {
    /// JoinGroup. The answer comes when the generation begins.
    pub(super) fn join(&mut self, turn: &mut Turn, ticket: Ticket, mut join: Join) {
        let terms = terms(&mut join);
        let given = join.member_id.clone();
        if !self.has_room_for(&given, turn.settings) {
            turn.refuse_join(ticket, &"".into(), GroupError::GroupMaxSizeReached { max: turn.settings.size_max });
            if let Some(member) = self.unseat(&given) {
                turn.dismiss(member, &GroupError::GroupMaxSizeReached { max: turn.settings.size_max });
                self.maybe_complete_join(turn);
            }
            return self.give_up_pending(turn, &given);
        }
        if !self.takes(&join.protocol_type, &terms.protocols) {
            return turn.refuse_join(ticket, &given, GroupError::InconsistentGroupProtocol);
        }
        let before = self.members.get(&given).map_or(0, |member| member.terms.size_bytes());
        if self.members.seated_bytes() + terms.size_bytes() - before > GROUP_BYTES_MAX {
            turn.refuse_join(ticket, &given, GroupError::GroupMaxSizeReached { max: turn.settings.size_max });
            return self.give_up_pending(turn, &given);
        }
        if !given.is_empty() {
            return self.join_again(turn, ticket, join, terms);
        }
        let id = new_member_id(&join);
        let replaced = join.instance_id.as_ref().and_then(|instance| self.members.of_instance(instance)).cloned();
        match replaced {
            Some(old_id) => self.replace(turn, ticket, &join, terms, old_id, id),
            None if join.instance_id.is_none() && join.require_known_member_id => {
                self.members.add_pending(id.clone());
                turn.expect_member(&id, join.session_timeout_ms);
                self.extend_initial(turn);
                turn.refuse_join(ticket, &id, GroupError::MemberIdRequired);
            }
            None => self.admit(turn, ticket, &join, terms, id),
        }
    }

    /// Kafka's `acceptJoiningMember`: during a rebalance those count that have joined, so that a group above its bound sheds the last to come.
    fn has_room_for(&self, member_id: &str, settings: &GroupSettings) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                member.is_some_and(Member::is_joining) || self.members.joining() < settings.size_max
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < settings.size_max,
        }
    }

    /// Whoever was told for good that it does not get in will not come back with the id handed out to it: nobody waits for that.
    fn give_up_pending(&mut self, turn: &mut Turn, id: &Arc<str>) {
        if self.members.remove_pending(id) {
            turn.timers.remove(&super::Timer::Session(turn.group.clone(), id.clone()));
            self.maybe_complete_join(turn);
        }
    }

    /// The protocols fit the group's (Kafka's `supportsProtocols`).
    fn takes(&self, protocol_type: &str, protocols: &Protocols) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type) && self.members.all_know_one_of(protocols)
    }

    /// With a member id.
    fn join_again(&mut self, turn: &mut Turn, ticket: Ticket, join: Join, terms: Terms) {
        let id = join.member_id.clone();
        if self.members.is_pending(&id) {
            if join.instance_id.is_some() {
                let error = GroupError::Unknown("an id handed out to a dynamic member".into());
                return turn.refuse_join(ticket, &id, error);
            }
            return self.admit(turn, ticket, &join, terms, id);
        }
        if let Err(error) = self.members.check(&id, join.instance_id.as_deref()) {
            return turn.refuse_join(ticket, &id, error);
        }
        let unchanged = self.members.get(&id).is_some_and(|member| member.terms.protocols == terms.protocols);
        match self.state {
            // It has missed the answer, or is a follower to whom nothing is new.
            State::CompletingRebalance if unchanged => {
                let joined = self.joined(&id, false);
                turn.joined(ticket, joined);
            }
            State::Stable if unchanged && !self.is_leader(&id) => {
                let joined = self.joined(&id, false);
                turn.joined(ticket, joined);
            }
            // The leader forces a rebalance by joining anew: something it assigns by may have changed.
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.park_join(turn, ticket, &id, terms);
                self.rebalance(turn);
            }
            State::Empty | State::Dead => turn.refuse_join(ticket, &id, GroupError::UnknownMemberId),
        }
    }

    /// The member waits for the next generation. If it did already (it has lost its connection), the older question is answered.
    fn park_join(&mut self, turn: &mut Turn, ticket: Ticket, id: &Arc<str>, terms: Terms) -> Option<Terms> {
        let (old_terms, superseded) = self.members.rejoin(id, terms, Some(ticket))?;
        if let Some(ticket) = superseded {
            turn.refuse_join(ticket, id, GroupError::RebalanceInProgress);
        }
        Some(old_terms)
    }

    /// A new member.
    fn admit(&mut self, turn: &mut Turn, ticket: Ticket, join: &Join, terms: Terms, id: Arc<str>) {
        let mut member = Member::new(id.clone(), join.instance_id.clone(), join.caller.clone(), terms.clone());
        member.is_new = true;
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.members.add(member);
        self.park_join(turn, ticket, &id, terms);
        turn.expect_member(&id, NEW_MEMBER_MS);
        self.extend_initial(turn);
        self.rebalance(turn);
    }

    /// A static member has come back without its id (KIP-345): whoever has the old one is fenced.
    fn replace(&mut self, turn: &mut Turn, ticket: Ticket, join: &Join, terms: Terms, old_id: Arc<str>, id: Arc<str>) {
        let old_leader = self.leader.clone();
        self.rename(turn, &old_id, &id, &GroupError::FencedInstanceId);
        turn.expect_member(&id, terms.session_timeout_ms);
        let Some(old_terms) = self.park_join(turn, ticket, &id, terms) else { return };
        match self.state {
            State::Stable if self.members.vote() == self.protocol => {
                // Nothing changes for the others: the new id is stored and the member goes on with what it had.
                let value = self.value(self.state_ms.unwrap_or(-1), |member| member.assignment.clone());
                let replacement = Replacement {
                    ticket,
                    generation: self.generation,
                    new_id: id,
                    old_terms,
                    old_leader,
                    supports_skip_assignment: join.supports_skip_assignment,
                };
                self.replacing += 1;
                if let Err((pending, why)) = turn.store(&value, Pending::Replacement(Box::new(replacement))) {
                    self.not_stored(turn, pending, &why);
                }
            }
            State::Stable => self.rebalance(turn),
            // The old id may be with the leader already: its assignment would name somebody who is gone.
            State::CompletingRebalance => self.prepare_rebalance(turn),
            _ => self.maybe_complete_join(turn),
        }
    }

    /// A member goes on under another id.
    fn rename(&mut self, turn: &mut Turn, old_id: &Arc<str>, id: &Arc<str>, why: &GroupError) {
        let Some(waiting) = self.members.replace(old_id, id.clone()) else { return };
        turn.timers.remove(&super::Timer::Session(turn.group.clone(), old_id.clone()));
        turn.dismiss_waiting(waiting, old_id, why);
        if self.is_leader(old_id) {
            self.leader = Some(id.clone());
        }
    }

    /// The new id of a static member is in the log.
    pub(super) fn replacement_stored(&mut self, turn: &mut Turn, replacement: &Replacement) {
        self.replacing = self.replacing.saturating_sub(1);
        let id = &replacement.new_id;
        let waits = self.members.get(id).is_some_and(|member| member.joining() == Some(replacement.ticket));
        if !waits || self.state != State::Stable || self.generation != replacement.generation {
            return; // it has been answered, or will be when the rebalance that has begun is over
        }
        self.members.take_joining(id);
        let mut joined = self.joined(id, replacement.supports_skip_assignment);
        if !replacement.supports_skip_assignment {
            joined.leader = replacement.old_leader.clone().unwrap_or_default();
            joined.members = Vec::new();
        }
        turn.joined(replacement.ticket, joined);
    }

    /// It is not: the member keeps its old id. While other replacements are on their way (whose records name this new id as well) that is left open; the last one decides.
    pub(super) fn replacement_refused(&mut self, turn: &mut Turn, replacement: Replacement, error: &GroupError) {
        self.replacing = self.replacing.saturating_sub(1);
        if self.state != State::Stable || self.generation != replacement.generation {
            return; // a rebalance has begun, which answers, and whose outcome is stored
        }
        let id = &replacement.new_id;
        if self.members.get(id).is_some_and(|member| member.joining() == Some(replacement.ticket)) {
            self.members.take_joining(id);
            turn.refuse_join(replacement.ticket, &"".into(), error.clone());
        }
        if self.replacing > 0 {
            return;
        }
        if self.members.contains(id) {
            self.members.rejoin(id, replacement.old_terms, None);
        }
        let stored = self.stored.as_ref().and_then(|stored| GroupValue::decode(stored).ok());
        for member in stored.into_iter().flat_map(|value| value.members) {
            let instance = member.instance_id.as_deref();
            let current = instance.and_then(|instance| self.members.of_instance(instance)).cloned();
            if let Some(current) = current.filter(|current| *current != member.member_id) {
                self.rename(turn, &current, &member.member_id, error);
                turn.expect_member(&member.member_id, member.session_timeout_ms);
            }
        }
    }

    /// The answer to a member of this generation.
    pub(super) fn joined(&self, id: &Arc<str>, skip_assignment: bool) -> Joined {
        let leads = self.is_leader(id);
        let protocol = self.protocol.as_deref().unwrap_or_default();
        // Looked at for the leader only: everybody is answered when a generation begins.
        let listed = leads.then(|| self.members.iter()).into_iter().flatten();
        Joined {
            result: Ok(()),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: skip_assignment && leads,
            member_id: id.clone(),
            members: listed.map(|m| (m.id.clone(), m.instance.clone(), m.metadata(protocol))).collect(),
        }
    }
}

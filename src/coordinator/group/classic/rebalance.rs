//! From one generation to the next: members join, one of them assigns, the assignment is stored and handed out.

use super::{
    super::{GroupError, State, Synced},
    Classic, Pending, Timer, Turn,
    join::Replacement,
};
use crate::coordinator::machine::Refusal;
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};

/// A new group waits for further first members so many times its delay at most.
const INITIAL_DELAYS_MAX: u64 = 10;

/// What the leader has assigned, on its way into the log.
#[derive(Debug)]
pub struct Assignment {
    pub(super) generation: i32,
    /// Wall clock as stored.
    pub(super) state_ms: i64,
    /// By member id.
    pub(super) of: HashMap<Arc<str>, Bytes>,
}

impl Classic {
    /// Something about the members has changed: a rebalance begins, or goes on.
    pub(super) fn rebalance(&mut self, turn: &mut Turn) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(turn),
            State::PreparingRebalance => self.maybe_complete_join(turn),
            State::Dead => {}
        }
    }

    /// Members are to join anew.
    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn) {
        if self.state == State::CompletingRebalance {
            self.propagate_error(turn, &GroupError::RebalanceInProgress);
        }
        self.members.forget_syncs();
        turn.timers.remove(&Timer::Sync(turn.group.clone()));
        let is_first = self.state == State::Empty;
        self.enter(State::PreparingRebalance, turn.now);
        let now = turn.now.ticks_ms;
        let timeout_ms = self.members.rebalance_timeout_ms();
        if is_first {
            let delay_ms = turn.settings.initial_rebalance_delay_ms;
            let until = now.saturating_add(delay_ms.saturating_mul(INITIAL_DELAYS_MAX).min(timeout_ms));
            self.initial_until = Some(until);
            turn.timers.set(Timer::Join(turn.group.clone()), now.saturating_add(delay_ms).min(until));
        } else if self.members.all_joined() {
            self.complete_join(turn);
        } else {
            self.expect_joins(turn, timeout_ms);
        }
    }

    /// A further first member: the group waits anew.
    pub(super) fn extend_initial(&mut self, turn: &mut Turn) {
        if let Some(until) = self.initial_until {
            let at = turn.now.ticks_ms.saturating_add(turn.settings.initial_rebalance_delay_ms).min(until);
            turn.timers.set(Timer::Join(turn.group.clone()), at);
        }
    }

    fn expect_joins(&self, turn: &mut Turn, timeout_ms: u64) {
        let at = turn.now.ticks_ms.saturating_add(timeout_ms.max(1));
        turn.timers.set(Timer::Join(turn.group.clone()), at);
    }

    /// The last one may have joined. (A group that waits for its first members waits on: who else will come is not known.)
    pub(super) fn maybe_complete_join(&mut self, turn: &mut Turn) {
        if self.state == State::PreparingRebalance && self.initial_until.is_none() && self.members.all_joined() {
            self.complete_join(turn);
        }
    }

    /// Everybody has joined, or has had time to: the next generation.
    pub(super) fn complete_join(&mut self, turn: &mut Turn) {
        turn.timers.remove(&Timer::Join(turn.group.clone()));
        if self.state != State::PreparingRebalance {
            return;
        }
        self.initial_until = None;
        self.drop_unjoined(turn);
        if !self.members.is_empty() && !self.elect() {
            // Only static members, none of which is back: until their sessions end they keep their place.
            let timeout_ms = self.members.rebalance_timeout_ms();
            return self.expect_joins(turn, timeout_ms);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            return self.become_empty(turn);
        }
        self.protocol = self.members.vote();
        assert!(self.protocol.is_some(), "{} members without a protocol in common", self.members.len());
        self.read_subscriptions();
        self.enter(State::CompletingRebalance, turn.now);
        self.members.expect_syncs();
        for id in self.members.ids() {
            if let Some(ticket) = self.members.take_joining(&id) {
                let joined = self.joined(&id, false);
                turn.joined(ticket, joined);
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                turn.expect_member(&id, member.terms.session_timeout_ms);
            }
        }
        let at = turn.now.ticks_ms.saturating_add(self.members.rebalance_timeout_ms().max(1));
        turn.timers.set(Timer::Sync(turn.group.clone()), at);
    }

    /// Members that have not joined in time are out; static ones stay until their session ends.
    fn drop_unjoined(&mut self, turn: &mut Turn) {
        if self.members.joining() == self.members.len() {
            return;
        }
        let late = self.members.iter().filter(|member| !member.is_joining() && member.instance.is_none());
        let late: Vec<Arc<str>> = late.map(|member| member.id.clone()).collect();
        for id in late {
            if let Some(member) = self.unseat(&id) {
                turn.dismiss(member, &GroupError::UnknownMemberId);
            }
        }
    }

    /// A leader that has not joined does not lead. `false`: nobody has.
    fn elect(&mut self) -> bool {
        let led = self.leader.as_deref().and_then(|leader| self.members.get(leader));
        if led.is_some_and(|leader| leader.is_joining()) {
            return true;
        }
        match self.members.iter().find(|member| member.is_joining()) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    fn become_empty(&mut self, turn: &mut Turn) {
        self.protocol = None;
        self.leader = None;
        self.read_subscriptions();
        self.enter(State::Empty, turn.now);
        let value = self.value(turn.now.wall_ms, |_| Bytes::new());
        // Not stored: the generation before comes back with the next load and its members time out. So nothing is to be done about it.
        let _ = turn.store(&value, Pending::Empty);
    }

    /// The leader's assignment is in the log: it is handed out, if the generation still stands.
    pub(super) fn assignment_stored(&mut self, turn: &mut Turn, mut assignment: Assignment) {
        if self.storing == Some(assignment.generation) {
            self.storing = None;
        }
        if self.state != State::CompletingRebalance || self.generation != assignment.generation {
            return;
        }
        self.members.assign(|id| assignment.of.remove(id).unwrap_or_default());
        self.state = State::Stable;
        self.state_ms = Some(assignment.state_ms);
        for id in self.members.ids() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.syncing.take() {
                let (session_ms, assignment) = (member.terms.session_timeout_ms, member.assignment.clone());
                turn.expect_member(&id, session_ms);
                let synced = self.synced(assignment);
                turn.synced(ticket, Ok(synced));
            }
        }
    }

    pub(super) fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            result: Ok(()),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }

    /// The log did not take it.
    pub(super) fn not_stored(&mut self, turn: &mut Turn, pending: Pending, why: &Refusal) {
        let error = super::refusal(why);
        match pending {
            Pending::Assignment(Assignment { generation, .. }) => {
                if self.storing == Some(generation) {
                    self.storing = None;
                }
                if self.state == State::CompletingRebalance && self.generation == generation {
                    self.propagate_error(turn, &error);
                    self.prepare_rebalance(turn);
                }
            }
            Pending::Replacement(replacement) => {
                let replacement: Replacement = *replacement;
                self.replacement_refused(turn, replacement, &error);
            }
            Pending::Empty => {}
        }
    }

    /// Nobody is assigned anything; who waits for an assignment is told why.
    fn propagate_error(&mut self, turn: &mut Turn, error: &GroupError) {
        self.members.assign(|_| Bytes::new());
        for id in self.members.ids() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.syncing.take() {
                turn.expect_member(&id, member.terms.session_timeout_ms);
                turn.synced(ticket, Err(error.clone()));
            }
        }
    }

    /// Members had their time to sync: those that did not are out.
    pub(super) fn sync_over(&mut self, turn: &mut Turn) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.members.all_synced() {
            return;
        }
        for id in self.members.unsynced() {
            if let Some(member) = self.unseat(&id) {
                turn.dismiss(member, &GroupError::UnknownMemberId);
            }
        }
        self.prepare_rebalance(turn);
    }
}

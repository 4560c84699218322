//! Members of a generation: they fetch their assignment, show that they live, and leave.

use super::{
    super::{GroupError, Heartbeat, State, Sync},
    Classic, Pending, Timer, Turn,
    rebalance::Assignment,
};
use crate::{
    coordinator::machine::{Refusal, Ticket},
    limits::GROUP_BYTES_MAX,
};
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};

impl Classic {
    /// SyncGroup. The answer comes when the leader's assignment is stored.
    pub(super) fn sync(&mut self, turn: &mut Turn, ticket: Ticket, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return turn.synced(ticket, Err(error));
        }
        let id = sync.member_id.clone();
        match self.state {
            State::Empty | State::Dead => turn.synced(ticket, Err(GroupError::UnknownMemberId)),
            State::PreparingRebalance => turn.synced(ticket, Err(GroupError::RebalanceInProgress)),
            State::CompletingRebalance => {
                self.has_synced(turn, &id);
                let superseded = self.members.get_mut(&id).and_then(|member| member.syncing.replace(ticket));
                if let Some(ticket) = superseded {
                    turn.synced(ticket, Err(GroupError::RebalanceInProgress));
                }
                // A second assignment for a generation whose first is on its way would be in the log where the first was handed out.
                if self.is_leader(&id) && self.storing != Some(self.generation) {
                    self.store_assignment(turn, sync.assignments);
                }
            }
            State::Stable => {
                self.has_synced(turn, &id);
                let assignment = self.members.get(&id).map(|member| member.assignment.clone()).unwrap_or_default();
                let synced = self.synced(assignment);
                turn.synced(ticket, Ok(synced));
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        self.members.check(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration { given: sync.generation, current: self.generation });
        }
        let differs =
            |given: &Option<Arc<str>>, ours: &Option<Arc<str>>| given.is_some() && ours.is_some() && given != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, turn: &mut Turn, id: &str) {
        self.members.synced(id);
        if self.members.all_synced() {
            turn.timers.remove(&Timer::Sync(turn.group.clone()));
        }
    }

    /// The assignment goes into the log. Members it does not name get an empty one; names of nobody are passed over.
    fn store_assignment(&mut self, turn: &mut Turn, assignments: Vec<(Arc<str>, Bytes)>) {
        let known = assignments.into_iter().filter(|(id, _)| self.members.contains(id));
        let of: HashMap<Arc<str>, Bytes> = known.collect();
        let size_bytes = of.values().map(Bytes::len).sum::<usize>();
        let held_bytes = self.members.seated_bytes() - self.members.iter().map(|m| m.assignment.len()).sum::<usize>();
        let assignment = Assignment { generation: self.generation, state_ms: turn.now.wall_ms, of };
        let outcome = if held_bytes + size_bytes > GROUP_BYTES_MAX || size_bytes > turn.free_bytes {
            let why = Refusal::TooLarge { size_bytes: held_bytes + size_bytes, max_bytes: GROUP_BYTES_MAX };
            Err((Pending::Assignment(assignment), why))
        } else {
            let value = self.value(turn.now.wall_ms, |m| assignment.of.get(&m.id).cloned().unwrap_or_default());
            self.storing = Some(self.generation);
            turn.store(&value, Pending::Assignment(assignment))
        };
        if let Err((pending, why)) = outcome {
            self.not_stored(turn, pending, &why);
        }
    }

    /// Heartbeat.
    pub(super) fn heartbeat(&mut self, turn: &mut Turn, ticket: Ticket, heartbeat: &Heartbeat) {
        if let Err(error) = self.members.check(&heartbeat.member_id, heartbeat.instance_id.as_deref()) {
            return turn.heard(ticket, Err(error));
        }
        if heartbeat.generation != self.generation {
            let error = GroupError::IllegalGeneration { given: heartbeat.generation, current: self.generation };
            return turn.heard(ticket, Err(error));
        }
        let Some(member) = self.members.get(&heartbeat.member_id) else { return };
        let (id, session_ms) = (member.id.clone(), member.terms.session_timeout_ms);
        turn.expect_member(&id, session_ms);
        match self.state {
            State::PreparingRebalance => turn.heard(ticket, Err(GroupError::RebalanceInProgress)),
            _ => turn.heard(ticket, Ok(())),
        }
    }

    /// LeaveGroup: member id (may be empty where the instance id says who), instance id. Each one's outcome.
    pub(super) fn leave(
        &mut self,
        turn: &mut Turn,
        members: &[(Arc<str>, Option<Arc<str>>)],
    ) -> Vec<Result<(), GroupError>> {
        let results: Vec<_> =
            members.iter().map(|(id, instance)| self.leave_one(turn, id, instance.as_deref())).collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
                State::PreparingRebalance => self.maybe_complete_join(turn),
                State::Empty | State::Dead => {}
            }
        }
        results
    }

    fn leave_one(&mut self, turn: &mut Turn, id: &Arc<str>, instance: Option<&str>) -> Result<(), GroupError> {
        let id = if id.is_empty() {
            // An administrator takes a static member out.
            instance.and_then(|instance| self.members.of_instance(instance)).ok_or(GroupError::UnknownMemberId)?.clone()
        } else if self.members.remove_pending(id) {
            turn.timers.remove(&Timer::Session(turn.group.clone(), id.clone()));
            return Ok(());
        } else {
            self.members.check(id, instance)?;
            id.clone()
        };
        if let Some(member) = self.unseat(&id) {
            turn.dismiss(member, &GroupError::UnknownMemberId);
        }
        Ok(())
    }

    /// A member has not been heard of for too long.
    pub(super) fn session_over(&mut self, turn: &mut Turn, id: &str) {
        if self.members.remove_pending(id) {
            return self.maybe_complete_join(turn);
        }
        if self.members.get(id).is_none_or(|member| member.is_waiting()) {
            return; // when it is answered its session starts anew
        }
        if let Some(member) = self.unseat(id) {
            turn.dismiss(member, &GroupError::UnknownMemberId);
        }
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            _ => self.maybe_complete_join(turn),
        }
    }
}

//! Members and rebalances of one classic group (Kafka's `ClassicGroup`, KIP-62, 345, 394, 429, 814).

use super::{Event, GroupError, Groups, State};
use crate::{
    config::GroupSettings,
    coordinator::machine::{Now, Output, Record, Refusal, Ticket},
};
use std::sync::Arc;

/// Members, generation and state of a group.
#[derive(Debug, Default)]
pub struct Classic {}

/// What is remembered of an append until its outcome is known.
#[derive(Debug)]
pub enum Pending {}

/// A group record: from the log at load, or just appended. `None` = tombstone.
pub(super) fn replay(_groups: &mut Groups, _group: Arc<str>, _value: Option<&[u8]>, _now: Now) -> Result<(), String> {
    todo!()
}

/// The log has been read: sessions begin.
pub(super) fn loaded(_groups: &mut Groups, _now: Now, _settings: &GroupSettings, _out: &mut Output<Groups>) {
    todo!()
}

/// Join, Sync, Heartbeat, Leave.
pub(super) fn handle(
    _groups: &mut Groups,
    _ticket: Ticket,
    _event: Event,
    _now: Now,
    _settings: &GroupSettings,
    _out: &mut Output<Groups>,
) {
    todo!()
}

/// Its append was made.
pub(super) fn appended(
    _groups: &mut Groups,
    pending: Pending,
    _now: Now,
    _settings: &GroupSettings,
    _out: &mut Output<Groups>,
) {
    match pending {}
}

/// Its append was not made.
pub(super) fn refused(
    _groups: &mut Groups,
    pending: Pending,
    _why: &Refusal,
    _now: Now,
    _settings: &GroupSettings,
    _out: &mut Output<Groups>,
) {
    match pending {}
}

/// The earliest deadline, ticks.
pub(super) fn next_tick(_groups: &Groups) -> Option<u64> {
    None
}

/// Does what is due.
pub(super) fn tick(_groups: &mut Groups, _now: Now, _settings: &GroupSettings, _out: &mut Output<Groups>) {}

/// Puts the record of each group that has one.
pub(super) fn live(groups: &Groups, _put: &mut dyn FnMut(Record)) {
    let _ = &groups.groups;
}

/// Counts as a heartbeat of a member that has just shown life by a commit: its session starts anew. Nothing for an unknown one.
pub fn heartbeat(_groups: &mut Groups, _group: &str, _member_id: &str, _now: Now) {}

impl Classic {
    /// Its state; Empty for a group of offsets only.
    pub fn state(&self) -> State {
        State::Empty
    }

    /// Protocol type, once a member has given one.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        None
    }

    /// Wall clock of the last change of state, ms since 1970; `None` = unknown (Kafka's `currentStateTimestamp`).
    pub fn state_ms(&self) -> Option<i64> {
        None
    }

    /// A record of the group is stored: deleting it takes a tombstone.
    pub fn is_stored(&self) -> bool {
        false
    }

    /// Nobody is in the group, is joining it, or has been given an id to join with.
    pub fn is_vacant(&self) -> bool {
        true
    }

    /// Whether a commit is taken from this member (Kafka's `validateOffsetCommit`). Clients that assign themselves (generation -1, no member) only while the group is Empty.
    pub fn check_commit(
        &self,
        _member_id: &str,
        _instance_id: Option<&str>,
        _generation: i32,
    ) -> Result<(), GroupError> {
        Ok(())
    }

    /// A member may be reading `topic` (Kafka's `isSubscribedToTopic`): by the subscriptions of the generation; everything when a consumer's subscription cannot be read.
    pub fn subscribes(&self, _topic: &str) -> bool {
        false
    }

    /// What DescribeGroups shows of it.
    pub fn describe(&self, group: &Arc<str>) -> super::Description {
        super::Description {
            group: group.clone(),
            state: self.state(),
            protocol_type: "".into(),
            protocol: "".into(),
            members: Vec::new(),
        }
    }
}

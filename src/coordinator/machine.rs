//! What a machine is: pure functions from (state, event, now) to (records, replies, timers).

/// Time as a machine sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, ms since 1970: for what is stored.
    pub wall_ms: i64,
    /// A clock that never jumps, ms since some beginning of its own: for timers.
    pub ticks_ms: u64,
}

/// One record as stored. `value: None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Names one question to a shard; its answer goes where it says. Unique within the life of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Why records were not appended. The state is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Larger than one batch may be, bytes.
    #[error("{size_bytes} bytes of records, at most {max_bytes} fit a batch")]
    TooLarge { size_bytes: usize, max_bytes: usize },
    /// Not enough replicas in sync: the asker tries again.
    #[error("not enough replicas are in sync")]
    NotEnoughReplicas,
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The partition takes no appends (any more): it is led elsewhere, deleted, failed, stopping.
    #[error("{0}")]
    NotHere(String),
}

/// What a machine wants done, gathered over one call.
#[derive(Debug)]
pub struct Output<M: Machine> {
    /// Answers that need nothing stored first. They still wait until everything appended before them is settled.
    pub replies: Vec<(Ticket, M::Reply)>,
    /// Records to append, each group of them as one batch (all or nothing), in order; [`Machine::appended`] or [`Machine::refused`] follows for each.
    pub appends: Vec<(Vec<Record>, M::Pending)>,
}

impl<M: Machine> Default for Output<M> {
    fn default() -> Self {
        Output { replies: Vec::new(), appends: Vec::new() }
    }
}

impl<M: Machine> Output<M> {
    /// Answers a question.
    pub fn reply(&mut self, ticket: Ticket, reply: M::Reply) {
        self.replies.push((ticket, reply));
    }
    /// Wants `records` stored; `pending` comes back with the outcome.
    pub fn append(&mut self, records: Vec<Record>, pending: M::Pending) {
        self.appends.push((records, pending));
    }
}

/// A keyed state machine. Two kinds of state: *stored* state changes by [`Machine::replay`] only; *soft* state (who waits for what, sessions) changes in any call
/// and is lost with the shard. No locks, clocks, I/O or randomness inside (what is random comes in with the event).
///
/// Its default is the empty state.
pub trait Machine: Default + Send + 'static {
    /// What is asked of it.
    type Event: Send + 'static;
    /// What it answers.
    type Reply: Send + 'static;
    /// What it must remember of an append until its outcome is known.
    type Pending: Send + 'static;
    /// Settings in force, read anew for each call.
    type Settings: Send + Sync + 'static;

    /// Applies one record: from the log at load, and after each append that was made. A record that cannot be read changes nothing here and is kept as it is, for [`Machine::live`]; the error says for the log what is wrong with it.
    fn replay(&mut self, key: &[u8], value: Option<&[u8]>, now: Now) -> Result<(), String>;

    /// The log has been read to its end: time to start timers.
    fn loaded(&mut self, now: Now, settings: &Self::Settings, out: &mut Output<Self>);

    /// Whether `event` need not be handled when nobody waits for its answer any more: it asks only, or its asker has to come again anyway.
    fn may_skip(_event: &Self::Event) -> bool {
        false
    }

    /// One question.
    fn handle(
        &mut self,
        ticket: Ticket,
        event: Self::Event,
        now: Now,
        settings: &Self::Settings,
        out: &mut Output<Self>,
    );

    /// Records of `pending` are in the log and have been replayed.
    fn appended(&mut self, pending: Self::Pending, now: Now, settings: &Self::Settings, out: &mut Output<Self>);

    /// Records of `pending` are not in the log.
    fn refused(
        &mut self,
        pending: Self::Pending,
        why: &Refusal,
        now: Now,
        settings: &Self::Settings,
        out: &mut Output<Self>,
    );

    /// When [`Machine::tick`] is due next, in [`Now::ticks_ms`]; `None` = never. Asked after each call: cheap.
    fn next_tick(&self) -> Option<u64>;

    /// The time has come (or a little more): does what is due.
    fn tick(&mut self, now: Now, settings: &Self::Settings, out: &mut Output<Self>);

    /// Hands every record that makes up the stored state to `put` (a snapshot: the log below it can go then).
    fn live(&self, put: &mut dyn FnMut(Record));
}

//! What is asked of the group machine and what it answers.

use super::{Overview, OverviewPage};
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// Why a group did not do what was asked. Each variant is one of Kafka's codes (`api/errors.rs`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// COORDINATOR_NOT_AVAILABLE: `__consumer_offsets` is not there (yet), or its partition cannot be read or written now.
    #[error("the coordinator is not available: {0}")]
    NotAvailable(String),
    /// NOT_COORDINATOR: led elsewhere, or what was appended was lost before it was settled. The client looks the coordinator up anew.
    #[error("not the coordinator of this group: {0}")]
    NotCoordinator(String),
    /// COORDINATOR_LOAD_IN_PROGRESS: it reads its log, or its mailbox has been full for long. The client tries again.
    #[error("the coordinator is loading")]
    Loading,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("no such member")]
    UnknownMemberId,
    #[error("generation {given} is not {current}")]
    IllegalGeneration { given: i32, current: i32 },
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the group's members have no protocol in common with this one")]
    InconsistentGroupProtocol,
    #[error("session timeout {given} ms, allowed are {min} to {max}")]
    InvalidSessionTimeout { given: i32, min: i32, max: i32 },
    /// KIP-394: join again with this id.
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// KIP-345: another member has taken the instance over.
    #[error("another member has the instance id")]
    FencedInstanceId,
    #[error("the group has {max} members already, or is too large in bytes")]
    GroupMaxSizeReached { max: usize },
    #[error("no such group")]
    GroupIdNotFound,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("a member of the group subscribes to the topic")]
    GroupSubscribedToTopic,
    #[error("{size_bytes} bytes of metadata, at most {max_bytes} are allowed (offset.metadata.max.bytes)")]
    OffsetMetadataTooLarge { size_bytes: usize, max_bytes: usize },
    /// INVALID_COMMIT_OFFSET_SIZE: more than fits one batch.
    #[error("the commit is too large")]
    CommitTooLarge,
    /// INCONSISTENT... the group is of another kind (consumer, share): GROUP_ID_NOT_FOUND or UNKNOWN_MEMBER_ID by API.
    #[error("the request is not valid: {0}")]
    InvalidRequest(String),
    #[error("{0}")]
    Unknown(String),
}

/// Who calls, as it is shown and as member ids are made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub client_id: Arc<str>,
    /// Kafka's form: `/127.0.0.1`.
    pub client_host: Arc<str>,
}

/// JoinGroup. Bytes are copies of their own, never slices of a receive buffer (they stay for as long as the member does).
#[derive(Clone, Debug)]
pub struct Join {
    pub group: Arc<str>,
    /// Empty = none yet.
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub protocol_type: Arc<str>,
    /// In the member's order of preference: name, metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub caller: Caller,
    /// KIP-394 (v4 and later): a dynamic member without id is told one first.
    pub require_known_member_id: bool,
    /// KIP-814 (v9 and later): a static leader that comes back may be told to skip its assignment.
    pub supports_skip_assignment: bool,
    /// Random: what a new member's id ends with.
    pub new_member: Uuid,
}

/// Answer to [`Join`].
#[derive(Clone, Debug)]
pub struct Joined {
    pub result: Result<(), GroupError>,
    /// -1 with an error.
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// Empty with an error.
    pub leader: Arc<str>,
    pub skip_assignment: bool,
    pub member_id: Arc<str>,
    /// For the leader only: member id, instance id, metadata of the protocol chosen.
    pub members: Vec<(Arc<str>, Option<Arc<str>>, Bytes)>,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct Sync {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    /// v5 and later; checked against the group's where given.
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// From the leader: member id, assignment (copies of their own, as in [`Join`]).
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Answer to [`Sync`].
#[derive(Clone, Debug)]
pub struct Synced {
    pub result: Result<(), GroupError>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
}

/// LeaveGroup: several members at once since v3.
#[derive(Clone, Debug)]
pub struct Leave {
    pub group: Arc<str>,
    /// Member id (may be empty where the instance id says who), instance id.
    pub members: Vec<(Arc<str>, Option<Arc<str>>)>,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub group: Arc<str>,
    /// -1 with an empty member id: a client that assigns itself (or a tool).
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    /// v2 to v4: kept at least so long, ms; `None` = the broker's retention.
    pub retention_ms: Option<i64>,
    pub topics: Vec<CommitTopic>,
}

/// One topic of a [`Commit`]; it exists (the asker has looked).
#[derive(Clone, Debug)]
pub struct CommitTopic {
    pub name: Arc<str>,
    pub id: Uuid,
    pub partitions: Vec<CommitPartition>,
}

/// One partition of a [`Commit`].
#[derive(Clone, Debug)]
pub struct CommitPartition {
    pub index: i32,
    pub offset: i64,
    /// -1 = not given.
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
}

/// OffsetFetch.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub group: Arc<str>,
    /// `None` = everything the group has committed.
    pub topics: Option<Vec<FetchTopic>>,
}

/// One topic of a [`Fetch`].
#[derive(Clone, Debug)]
pub struct FetchTopic {
    pub name: Arc<str>,
    /// Its id now; an offset committed to another topic of that name is none. Nil = the topic does not exist: none either.
    pub id: Uuid,
    pub partitions: Vec<i32>,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub topic: Arc<str>,
    /// Nil = stored without one (by a release or a broker that did not know ids): belongs to any topic of the name.
    pub topic_id: Uuid,
    pub partition: i32,
    /// -1 = none.
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
    /// Wall clock of the commit, ms since 1970.
    pub commit_ms: i64,
}

/// What DescribeGroups shows.
#[derive(Clone, Debug)]
pub struct Description {
    pub group: Arc<str>,
    pub state: State,
    /// Wall clock of the last change of state, ms since 1970; `None` = unknown.
    pub state_ms: Option<i64>,
    /// Empty where none was ever given.
    pub protocol_type: Arc<str>,
    /// Chosen protocol; empty unless Stable (as in Kafka).
    pub protocol: Arc<str>,
    pub members: Vec<MemberDescription>,
}

/// One member of a [`Description`].
#[derive(Clone, Debug)]
pub struct MemberDescription {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub caller: Caller,
    /// Of the protocol chosen; empty unless Stable.
    pub metadata: Bytes,
    /// The last one handed out (Kafka shows it in every state).
    pub assignment: Bytes,
}

/// One line of ListGroups.
#[derive(Clone, Debug)]
pub struct Listed {
    pub group: Arc<str>,
    pub state: State,
    pub protocol_type: Arc<str>,
}

/// Kafka's states of a classic group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No members.
    Empty,
    /// Waits for its members to join anew.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    Stable,
    Dead,
}

impl State {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A committed offset by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OffsetKey {
    pub group: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
}

/// An offset whose time has passed: it goes if whoever asked says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub key: OffsetKey,
    pub topic_id: Uuid,
    pub offset: i64,
    pub commit_ms: i64,
    /// Whoever committed it named the time itself.
    pub own_expiry: bool,
}

/// What is asked of the machine. One group an event, but for those from `List` on.
#[derive(Debug)]
pub enum Event {
    Join(Join),
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Leave),
    Commit(Commit),
    Fetch(Fetch),
    Describe {
        group: Arc<str>,
    },
    /// DeleteGroups, one of them.
    Delete {
        group: Arc<str>,
    },
    /// OffsetDelete: topic, partitions.
    DeleteOffsets {
        group: Arc<str>,
        topics: Vec<(Arc<str>, Vec<i32>)>,
    },
    /// Every group of the shard.
    List,
    /// Groups of the shard with what they have committed, a page.
    Overview(Overview),
    /// Offsets whose retention has passed.
    ExpiryCandidates,
    /// Of those, the ones to drop: removed if they are still as they were. Groups left with nothing go too.
    Expire(Vec<Candidate>),
    /// Topics that groups of the shard have committed to, by name and id.
    Topics,
    /// Topics were deleted: what was committed to them (by name and id) goes. A nil id says that no topic of the name is left, and means offsets stored without an id.
    TopicsDeleted(Vec<(Arc<str>, Uuid)>),
}

/// What became of one partition of a [`Commit`]: the offset before, if any.
pub type CommitResult = Result<Option<i64>, GroupError>;

/// Answers, by the event of the same name.
#[derive(Debug)]
pub enum Reply {
    Join(Joined),
    Sync(Synced),
    Heartbeat(Result<(), GroupError>),
    /// The whole; and each member's, in order.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// Whole request; else each partition's, in the order of the event, with the offset that it was committed at before (to the same topic), if any.
    Commit(Result<Vec<Vec<CommitResult>>, GroupError>),
    /// Only what there is: one asked for and not among them has no commit.
    Fetch(Result<Vec<Committed>, GroupError>),
    /// `GroupIdNotFound` for an unknown one.
    Describe(Result<Description, GroupError>),
    Delete(Result<(), GroupError>),
    /// Whole request; else each partition's, in the order of the event.
    DeleteOffsets(Result<Vec<Vec<Result<(), GroupError>>>, GroupError>),
    List(Vec<Listed>),
    Overview(OverviewPage),
    ExpiryCandidates(Vec<Candidate>),
    /// Each once; with a nil id where offsets are stored without one.
    Topics(Vec<(Arc<str>, Uuid)>),
    /// How many were dropped (Expire, TopicsDeleted).
    Dropped(usize),
    /// How many were dropped (Expire, TopicsDeleted), and why not all that should have been.
    DroppedInPart(usize, GroupError),
}

//! The one place where errors become Kafka's codes.
//!
//! Handlers speak [`ResponseError`] (its `code()` is what goes on the wire, 0 is no error) and, where the message has room for a sentence, [`Fault`].

pub use kafka_protocol::ResponseError;

use crate::{
    broker::changes::ChangeError,
    coordinator::group::GroupError,
    metadata::{ProposeError, Refusal},
    partition::{PartitionError, producers::ProducerError},
};
use kafka_protocol::protocol::StrBytes;
use millstream_storage::{Error, batch::BatchError};

/// Longest sentence sent, bytes.
const SENTENCE_BYTES_MAX: usize = 1000;

/// A code and the sentence that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub error: ResponseError,
    pub message: String,
}

impl Fault {
    /// A fault with its sentence.
    pub fn new(error: ResponseError, message: impl Into<String>) -> Fault {
        Fault { error, message: message.into() }
    }
    /// The code on the wire.
    pub fn code(&self) -> i16 {
        self.error.code()
    }
    /// The sentence on the wire, cut to a length that every version has room for (it may quote what came from outside).
    pub fn text(&self) -> Option<StrBytes> {
        let end = self.message.floor_char_boundary(SENTENCE_BYTES_MAX);
        Some(StrBytes::from_string(self.message[..end].to_owned()))
    }
}

/// The code of a result on the wire: 0 when it is one.
pub fn code<T>(result: &Result<T, Fault>) -> i16 {
    result.as_ref().err().map_or(0, Fault::code)
}

/// The sentence of a result on the wire.
pub fn text<T>(result: &Result<T, Fault>) -> Option<StrBytes> {
    result.as_ref().err().and_then(Fault::text)
}

impl From<ChangeError> for Fault {
    fn from(error: ChangeError) -> Fault {
        Fault::new(change(&error), error.to_string())
    }
}

/// Code of a change of topics or settings that was not made.
pub fn change(error: &ChangeError) -> ResponseError {
    match error {
        ChangeError::InvalidName(_) | ChangeError::Internal(_) => ResponseError::InvalidTopicException,
        ChangeError::Reserved(_) | ChangeError::Request(_) => ResponseError::InvalidRequest,
        ChangeError::Exists(_) => ResponseError::TopicAlreadyExists,
        ChangeError::UnknownTopic(_) | ChangeError::UnknownPartition { .. } => ResponseError::UnknownTopicOrPartition,
        ChangeError::UnknownId => ResponseError::UnknownTopicId,
        ChangeError::Partitions(_) => ResponseError::InvalidPartitions,
        ChangeError::ReplicationFactor(_) | ChangeError::Placement(_) => ResponseError::InvalidReplicationFactor,
        ChangeError::Assignment(_) => ResponseError::InvalidReplicaAssignment,
        ChangeError::Config(_) => ResponseError::InvalidConfig,
        ChangeError::TooManyTopics { .. } | ChangeError::CompactedOnly(_) => ResponseError::PolicyViolation,
        ChangeError::DeletionDisabled => ResponseError::TopicDeletionDisabled,
        ChangeError::Refused(refusal) => match refusal {
            Refusal::TopicExists => ResponseError::TopicAlreadyExists,
            Refusal::TopicNameCollision(_) => ResponseError::InvalidTopicException,
            Refusal::UnknownTopic => ResponseError::UnknownTopicOrPartition,
            Refusal::UnknownBroker(_) => ResponseError::InvalidReplicaAssignment,
            Refusal::NotMorePartitions => ResponseError::InvalidPartitions,
            Refusal::FeatureLevel { .. } => ResponseError::UnsupportedVersion,
        },
        ChangeError::Propose(error) => match error {
            ProposeError::ReadOnly(_) => ResponseError::KafkaStorageError,
            ProposeError::TooLarge { .. } => ResponseError::PolicyViolation,
            // Retriable: the client asks again, here or elsewhere.
            ProposeError::NoLeader | ProposeError::Stopping => ResponseError::RequestTimedOut,
        },
        // Retriable, as what a stopping broker answers is.
        ChangeError::Stopping => ResponseError::RequestTimedOut,
        ChangeError::Unanswered => ResponseError::UnknownServerError,
        ChangeError::Partition(error) => partition(error),
    }
}

/// Code of a storage error.
pub fn storage(error: &Error) -> ResponseError {
    match error {
        Error::NoSpace { .. } | Error::Exhausted { .. } | Error::Io { .. } | Error::DirectoryFailed { .. } => {
            ResponseError::KafkaStorageError
        }
        Error::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        Error::Corrupt { .. } => ResponseError::CorruptMessage,
        // Of what is stored already; what a producer sent is judged before it comes there.
        Error::Batch(BatchError::Truncated { .. }) => ResponseError::CorruptMessage,
        Error::Batch(error) => batch(error),
        // The partition is going or gone: the client looks it up anew.
        Error::Closed => ResponseError::NotLeaderOrFollower,
        Error::NotContiguous { .. } => ResponseError::UnknownServerError,
    }
}

/// Code of a batch that is not accepted.
pub fn batch(error: &BatchError) -> ResponseError {
    match error {
        // Kafka knows formats 0 to 2; what claims another one was damaged on its way, and is sent again.
        BatchError::Magic(0..=1) | BatchError::Truncated { .. } | BatchError::Invalid(_) => {
            ResponseError::InvalidRecord
        }
        BatchError::Magic(_) | BatchError::Crc { .. } => ResponseError::CorruptMessage,
    }
}

/// Code of what a partition refused.
pub fn partition(error: &PartitionError) -> ResponseError {
    match error {
        PartitionError::NotOpen | PartitionError::NotLeader { .. } | PartitionError::Stopping => {
            ResponseError::NotLeaderOrFollower
        }
        PartitionError::FencedLeaderEpoch { .. } => ResponseError::FencedLeaderEpoch,
        PartitionError::UnknownLeaderEpoch { .. } => ResponseError::UnknownLeaderEpoch,
        PartitionError::NotEnoughReplicas { .. } => ResponseError::NotEnoughReplicas,
        PartitionError::TooLarge { .. } => ResponseError::MessageTooLarge,
        PartitionError::InvalidTimestamp { .. } => ResponseError::InvalidTimestamp,
        PartitionError::InvalidRecord(_) => ResponseError::InvalidRecord,
        PartitionError::UnsupportedCompression => ResponseError::UnsupportedCompressionType,
        PartitionError::InvalidTransactionState(_) => ResponseError::InvalidTxnState,
        PartitionError::Batch(error) => batch(error),
        PartitionError::Producer(ProducerError::Fenced { .. }) => ResponseError::InvalidProducerEpoch,
        PartitionError::Producer(ProducerError::OutOfOrder { .. }) => ResponseError::OutOfOrderSequenceNumber,
        PartitionError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        PartitionError::Corrupt { .. } => ResponseError::CorruptMessage,
        PartitionError::Storage(_) | PartitionError::DiskFull(_) => ResponseError::KafkaStorageError,
        PartitionError::Deleted => ResponseError::UnknownTopicOrPartition,
        // The record may be in the log: retriable, as a time-out is.
        PartitionError::TooManyWaiters => ResponseError::RequestTimedOut,
    }
}

/// Code of what a group coordinator refused.
pub fn group(error: &GroupError) -> ResponseError {
    match error {
        GroupError::NotAvailable(_) => ResponseError::CoordinatorNotAvailable,
        GroupError::NotCoordinator(_) => ResponseError::NotCoordinator,
        GroupError::Loading => ResponseError::CoordinatorLoadInProgress,
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::UnknownMemberId => ResponseError::UnknownMemberId,
        GroupError::IllegalGeneration { .. } => ResponseError::IllegalGeneration,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::InconsistentGroupProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout { .. } => ResponseError::InvalidSessionTimeout,
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::FencedInstanceId => ResponseError::FencedInstanceId,
        GroupError::GroupMaxSizeReached { .. } => ResponseError::GroupMaxSizeReached,
        GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
        GroupError::NonEmptyGroup => ResponseError::NonEmptyGroup,
        GroupError::GroupSubscribedToTopic => ResponseError::GroupSubscribedToTopic,
        GroupError::OffsetMetadataTooLarge { .. } => ResponseError::OffsetMetadataTooLarge,
        GroupError::CommitTooLarge => ResponseError::InvalidCommitOffsetSize,
        GroupError::InvalidRequest(_) => ResponseError::InvalidRequest,
        GroupError::Unknown(_) => ResponseError::UnknownServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_metadata_log_is_a_storage_error() {
        assert_eq!(change(&ProposeError::ReadOnly("disk".into()).into()).code(), 56);
        assert!(change(&ProposeError::NoLeader.into()).is_retriable());
    }

    #[test]
    fn a_sentence_that_quotes_a_long_name_is_cut() {
        let fault = Fault::new(ResponseError::InvalidRequest, "ä".repeat(40_000));
        let text = fault.text().unwrap();
        assert!(text.len() <= SENTENCE_BYTES_MAX && text.len() > SENTENCE_BYTES_MAX - 2);
    }

    #[test]
    fn no_error_is_zero() {
        assert_eq!(code(&Ok(())), 0);
        assert_eq!(text(&Ok(())), None);
        let said: Result<(), _> = Err(Fault::new(ResponseError::InvalidConfig, "why"));
        assert_eq!((code(&said), text(&said).as_deref()), (40, Some("why")));
    }
}

//! Why a change of topics or settings is not made, and how one is proposed.

use super::Broker;
use crate::{
    metadata::{Command, Outcome, ProposeError, Refusal, placement::PlacementError},
    partition::PartitionError,
};

/// Why a change was not made. The sentence (`Display`) is meant for whoever asked. Kafka's codes: `api/errors.rs`; HTTP: `admin/error.rs`.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No name for a topic (Kafka's `Topic.validate`, or it collides with another one).
    #[error("{0}")]
    InvalidName(String),
    /// The name of the metadata log.
    #[error("{0} is the cluster's own log")]
    Reserved(String),
    /// A topic of this name is there.
    #[error("topic {0} exists")]
    Exists(String),
    /// No topic of this name.
    #[error("there is no topic {0}")]
    UnknownTopic(String),
    /// No topic of this id.
    #[error("this server has no topic of this id")]
    UnknownId,
    /// No such partition of a topic that is there.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition { topic: String, partition: i32 },
    /// A number of partitions that cannot be.
    #[error("{0}")]
    Partitions(String),
    /// A replication factor that cannot be.
    #[error("{0}")]
    ReplicationFactor(String),
    /// Replicas chosen by the caller that cannot be.
    #[error("{0}")]
    Assignment(String),
    /// A setting that there is not, or a value that it cannot have.
    #[error("{0}")]
    Config(String),
    /// What is asked contradicts itself, or is never done.
    #[error("{0}")]
    Request(String),
    /// More at once than is taken.
    #[error("at most {max} topics can be created by one request")]
    TooManyTopics { max: usize },
    /// delete.topic.enable=false.
    #[error("topics cannot be deleted here (delete.topic.enable=false)")]
    DeletionDisabled,
    /// Records of a topic of the broker's own are not deleted by hand: only its coordinators know what may go.
    #[error("records of {0} cannot be deleted: only the coordinators know what may go")]
    Internal(String),
    /// What only compaction may take from a topic is not deleted by hand.
    #[error("records of {0} cannot be deleted: its cleanup.policy does not name delete")]
    CompactedOnly(String),
    /// There is no placement.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The metadata refused it.
    #[error("{0}")]
    Refused(Refusal),
    /// It was not proposed, or what became of it is not known.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The change was made, but this broker is about to end and does not serve it.
    #[error("the broker is stopping")]
    Stopping,
    /// The cluster said nothing of this change.
    #[error("the cluster did not answer for this topic")]
    Unanswered,
    /// A partition did not do it.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

/// Proposes a command of `changes` changes; one result for each. What they changed is in force on this broker when it returns.
pub async fn propose(broker: &Broker, command: Command, changes: usize) -> Vec<Result<(), ChangeError>> {
    match broker.quorum.propose(command).await {
        Ok(outcomes) => {
            // Followed here, or the broker is about to end: the change was made, but this broker does not serve it.
            let settled = broker.partitions.wait_applied(broker.quorum.image().index).await;
            let result = |outcome: Outcome| match outcome {
                Outcome::Refused(refusal) => Err(ChangeError::Refused(refusal)),
                Outcome::Done | Outcome::ProducerIds { .. } if settled => Ok(()),
                Outcome::Done | Outcome::ProducerIds { .. } => Err(ChangeError::Stopping),
            };
            outcomes.into_iter().map(result).collect()
        }
        Err(error) => (0..changes).map(|_| Err(error.clone().into())).collect(),
    }
}

//! What can go wrong with a broker, as sentences a person can act on.

use kafka_protocol::{ResponseError, messages::ApiKey};

/// Why a request, a record or a wait failed. Cheap enough to hand one to each record of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No `HOST:PORT`.
    #[error("`{0}` is no address; give HOST:PORT, several with commas between")]
    Address(String),
    /// Nothing listens, or no such host.
    #[error("cannot connect to {address}: {why}; is a broker running there, and is the address right?")]
    Connect { address: String, why: String },
    /// The connection broke or the broker closed it.
    #[error("the connection to {address} ended: {why}")]
    Closed { address: String, why: String },
    /// No answer in time; the connection is closed then.
    #[error("{address} did not answer {api} within {timeout_ms} ms; is it overloaded, or not a Kafka listener?")]
    Timeout { address: String, api: String, timeout_ms: u64 },
    /// The broker knows no version of the API that this client knows.
    #[error("{address} does not serve {api} in a version that this client knows; it may be too old")]
    Unsupported { address: String, api: String },
    /// The request cannot be said in the version that the broker knows.
    #[error("{api} cannot ask {address} for this: {why}; it may be too old")]
    Unsayable { address: String, api: String, why: String },
    /// The answer is not what the protocol says.
    #[error("{address} answered {api} with what cannot be read: {why}; is it a Kafka listener?")]
    Unreadable { address: String, api: String, why: String },
    /// The broker said no.
    #[error("{what}: {}", sentence(code, message))]
    Kafka { what: String, code: ResponseError, message: Option<String> },
    /// The topic is not there.
    #[error("topic `{0}` does not exist; `millstream topic list` shows what does")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("topic `{topic}` has no partition {partition}, it has {count} (0 to {})", count.saturating_sub(1))]
    UnknownPartition { topic: String, partition: i32, count: usize },
    /// The partition has no leader now.
    #[error("partition {partition} of `{topic}` has no leader at the moment; is its broker down?")]
    NoLeader { topic: String, partition: i32 },
    /// The broker with this id is not in the metadata.
    #[error("broker {0} is not in the cluster's metadata")]
    UnknownBroker(i32),
    /// Records that were fetched are damaged.
    #[error("partition {partition} of `{topic}`: the batch at offset {offset} is damaged: {why}")]
    Damaged { topic: String, partition: i32, offset: i64, why: String },
    /// A record cannot be sent as it is.
    #[error("the record cannot be sent: {0}")]
    Record(String),
    /// The time for delivering it is over; what stood in the way last.
    #[error("not delivered within {timeout_ms} ms; last: {last}")]
    Expired { timeout_ms: u64, last: Box<ClientError> },
    /// It waited for its turn, and never got one.
    #[error("it waited behind others and was never sent")]
    Unsent,
    /// A try may have gone well, but its answer is lost, and trying again could write it twice (or there is no more time).
    #[error("it is not known whether the broker has written the batch: {last}")]
    Uncertain { last: Box<ClientError> },
    /// The producer or consumer was closed.
    #[error("it was closed before")]
    Ended,
}

impl ClientError {
    /// The error of a broker's code; `None` for 0. `what` says what was asked, on what.
    pub fn of(code: i16, what: impl FnOnce() -> String) -> Option<ClientError> {
        Self::told(code, None, what)
    }

    /// The same with the broker's own words.
    pub fn told(code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> Option<ClientError> {
        let code = ResponseError::try_from_code(code)?;
        let message = message.filter(|m| !m.is_empty()).map(str::to_string);
        Some(ClientError::Kafka { what: what(), code, message })
    }

    /// The same as a result.
    pub fn check(code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> Result<(), ClientError> {
        Self::told(code, message, what).map_or(Ok(()), Err)
    }

    /// Kafka's code, if a broker answered one.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            ClientError::Kafka { code, .. } => Some(*code),
            ClientError::Expired { last, .. } | ClientError::Uncertain { last } => last.code(),
            _ => None,
        }
    }

    /// Whether the same may go well a little later, after a look at fresh metadata.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Closed { .. }
            | ClientError::Timeout { .. }
            | ClientError::NoLeader { .. }
            | ClientError::UnknownBroker(_) => true,
            ClientError::Kafka { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}

/// Kafka's name of an API key, for words.
pub(crate) fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| format!("API {key}"), |key| format!("{key:?}"))
}

fn sentence(code: &ResponseError, message: &Option<String>) -> String {
    match message {
        Some(message) => format!("{message} ({code})"),
        None => match hint(*code) {
            Some(hint) => format!("{code}; {hint}"),
            None => format!("{code}"),
        },
    }
}

/// What a bare code means to who must act on it.
fn hint(code: ResponseError) -> Option<&'static str> {
    use ResponseError::*;
    Some(match code {
        UnknownTopicOrPartition => "there is no such topic or partition",
        OffsetOutOfRange => "the log does not hold that offset (any more)",
        MessageTooLarge => "raise max.message.bytes of the topic, or send less",
        RecordListTooLarge => "raise segment.bytes of the topic, or send smaller batches",
        TopicAlreadyExists => "a topic of that name is there already",
        NonEmptyGroup => "the group still has members; stop them first",
        GroupIdNotFound => "there is no such group",
        GroupSubscribedToTopic => "the group consumes that topic at this moment; stop its members first",
        TopicAuthorizationFailed | GroupAuthorizationFailed | ClusterAuthorizationFailed => "this user may not",
        NotEnoughReplicas | NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than min.insync.replicas asks for"
        }
        InvalidReplicationFactor => "there are not that many brokers",
        InvalidPartitions => "the number of partitions must be above what is there, and above 0",
        KafkaStorageError => "the broker's disk failed, or is full",
        InconsistentGroupProtocol => {
            "the group's other members share partitions out in a way that this one does not know (it knows range)"
        }
        UnknownMemberId | IllegalGeneration => "the group has moved on without this member",
        UnsupportedVersion => "the broker is too old for this",
        InvalidTopicException => "a topic's name has 1 to 249 letters, digits, dots, dashes and underscores",
        PolicyViolation => "the cluster's policy forbids it",
        _ => return None,
    })
}

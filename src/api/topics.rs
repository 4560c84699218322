//! What the requests about topics share: names, placement, creating, how a partition is shown.

use super::errors::{Fault, ResponseError};
use crate::{
    broker::Broker,
    limits::TOPIC_NAME_BYTES_MAX,
    metadata::{Command, Image, NewTopic, Outcome, PartitionFacts, placement},
};
use kafka_protocol::{
    messages::{BrokerId, TopicName},
    protocol::StrBytes,
};

/// Bits of "authorized operations" when nobody asked.
pub const NOT_ASKED: i32 = i32::MIN;
/// Everything there is to do with a topic: read, write, create, delete, alter, describe, describe and alter configs (Kafka's AclOperation numbers as bits).
pub const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Everything there is to do with a cluster: create, alter, describe, cluster action, describe and alter configs, idempotent write.
pub const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// The topic that would lie where the metadata log lies.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// Kafka's internal topics.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Whether Kafka calls a topic of this name internal.
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Kafka's rules for topic names (`Topic.validate`): 1 to 249 of letters, digits, '.', '_', '-', but not "." or "..".
pub fn check_name(name: &str) -> Result<(), Fault> {
    let refuse = |why: String| Err(Fault::new(ResponseError::InvalidTopicException, why));
    if name.is_empty() {
        return refuse("a topic name cannot be empty".into());
    }
    if name == "." || name == ".." {
        return refuse(format!("a topic cannot be called {name}"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse(format!(
            "a topic name of {} characters is too long; at most {TOPIC_NAME_BYTES_MAX}",
            name.len()
        ));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return refuse(format!("topic name {name} holds a character other than letters, digits, '.', '_' and '-'"));
    }
    if name == METADATA_TOPIC {
        return Err(Fault::new(ResponseError::InvalidRequest, format!("{name} is the cluster's own log")));
    }
    Ok(())
}

/// Places the replicas of `partitions` new partitions of a topic that has `first` already; `seed` is random.
pub fn place(
    image: &Image,
    first: usize,
    partitions: usize,
    replication_factor: usize,
    seed: u64,
) -> Result<Vec<Vec<i32>>, Fault> {
    placement::place(&placement::candidates(image), first, partitions, replication_factor, seed)
        .map_err(|e| Fault::from(&e))
}

/// Checks replicas that a client chose for new partitions: each has as many as `replication_factor` (where that is given, else as the first one), each once, on registered
/// brokers.
pub fn check_assignments(
    image: &Image,
    assignments: &[Vec<i32>],
    replication_factor: Option<usize>,
) -> Result<(), Fault> {
    let refuse = |why: String| Err(Fault::new(ResponseError::InvalidReplicaAssignment, why));
    let expected = replication_factor.or(assignments.first().map(Vec::len)).unwrap_or(0);
    for (n, replicas) in assignments.iter().enumerate() {
        if replicas.is_empty() {
            return refuse(format!("assignment {n} names no replica"));
        }
        if replicas.len() != expected {
            return refuse(format!("assignment {n} names {} replicas, where there must be {expected}", replicas.len()));
        }
        for (m, id) in replicas.iter().enumerate() {
            if !image.brokers.contains_key(id) {
                return refuse(format!("assignment {n} names broker {id}, which is not registered"));
            }
            if replicas[..m].contains(id) {
                return refuse(format!("assignment {n} names broker {id} twice"));
            }
        }
    }
    Ok(())
}

/// Creates topics in one proposal; one result for each, in order. Those created are served here when it returns.
pub async fn create(broker: &Broker, topics: Vec<NewTopic>) -> Vec<Result<(), Fault>> {
    if topics.is_empty() {
        return Vec::new();
    }
    let count = topics.len();
    propose(broker, Command::CreateTopics { topics }, count).await
}

/// Proposes a command of `changes` changes; one result for each. What they changed is in force on this broker when it returns.
pub async fn propose(broker: &Broker, command: Command, changes: usize) -> Vec<Result<(), Fault>> {
    match broker.quorum.propose(command).await {
        Ok(outcomes) => {
            // Followed here, or the broker is about to end: the change was made, but this broker does not serve it.
            let settled = broker.partitions.wait_applied(broker.quorum.image().index).await;
            let result = |outcome: &Outcome| match outcome {
                Outcome::Refused(refusal) => Err(refusal.into()),
                Outcome::Done | Outcome::ProducerIds { .. } if settled => Ok(()),
                // Retriable, as what a stopping broker answers is.
                Outcome::Done | Outcome::ProducerIds { .. } => {
                    Err(Fault::new(ResponseError::RequestTimedOut, "the broker is stopping"))
                }
            };
            outcomes.iter().map(result).collect()
        }
        Err(error) => vec![Err((&error).into()); changes],
    }
}

/// Node ids as the messages have them.
pub fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().map(|id| BrokerId(*id)).collect()
}

/// Whether a broker is registered and not fenced.
pub fn is_live(image: &Image, id: i32) -> bool {
    image.brokers.get(&id).is_some_and(|b| !b.fenced)
}

/// Replicas on brokers that are not there.
pub fn offline(image: &Image, partition: &PartitionFacts) -> Vec<BrokerId> {
    partition.replicas.iter().filter(|id| !is_live(image, **id)).map(|id| BrokerId(*id)).collect()
}

/// The leader as clients are told: (error code, node id).
pub fn leader(image: &Image, partition: &PartitionFacts) -> (i16, BrokerId) {
    if is_live(image, partition.leader) {
        (0, BrokerId(partition.leader))
    } else {
        (ResponseError::LeaderNotAvailable.code(), BrokerId(-1))
    }
}

/// A string as the messages have it.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A topic name as the messages have it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metadata::apply::apply;
    use uuid::Uuid;

    /// The image of a cluster of brokers 1 to `brokers`.
    pub fn cluster(brokers: i32) -> Image {
        let init = Command::InitCluster { cluster_id: "c".into(), feature_level: 1 };
        let register = |node_id| Command::RegisterBroker {
            node_id,
            directory_id: Uuid::nil(),
            advertised: Some((format!("b{node_id}"), 9092)),
            rack: None,
            feature_level_max: 1,
            clean: true,
        };
        let commands = std::iter::once(init).chain((1..=brokers).map(register));
        commands.fold(Image::default(), |image, command| apply(&image, &command, image.index + 1).0)
    }

    /// The image with one more topic, on broker 1.
    pub fn with_topic(image: &Image, name: &str, partitions: usize) -> Image {
        let id = Uuid::from_u128(u128::from(image.index) + 1);
        let assignments = vec![vec![1]; partitions];
        let topic = NewTopic { id, name: name.into(), assignments, configs: Default::default() };
        let (image, outcomes) = apply(image, &Command::CreateTopics { topics: vec![topic] }, image.index + 1);
        assert_eq!(outcomes, [Outcome::Done]);
        image
    }

    #[test]
    fn names_are_kafkas() {
        for good in ["a", "A.b_c-9", &"x".repeat(249), "...", "__consumer_offsets"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a\0", "ä", &"x".repeat(250), "a:b"] {
            assert_eq!(check_name(bad).unwrap_err().error, ResponseError::InvalidTopicException, "{bad}");
        }
        assert_eq!(check_name("__cluster_metadata").unwrap_err().error, ResponseError::InvalidRequest);
    }

    #[test]
    fn operation_bits_are_those_kafka_answers() {
        assert_eq!(TOPIC_OPERATIONS, 3576);
        assert_eq!(CLUSTER_OPERATIONS, 8096);
    }
}

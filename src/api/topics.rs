//! What the requests about topics share: how topics and their partitions are shown.

pub use crate::broker::topics::{check_name, is_internal};

use super::errors::ResponseError;
use crate::metadata::{Image, PartitionFacts};
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
    pub(crate) use crate::broker::topics::tests::{cluster, with_topic};

    #[test]
    fn operation_bits_are_those_kafka_answers() {
        assert_eq!(TOPIC_OPERATIONS, 3576);
        assert_eq!(CLUSTER_OPERATIONS, 8096);
    }
}

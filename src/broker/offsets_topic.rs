//! `__consumer_offsets`: created when the first client looks a coordinator up.

use super::{
    Broker,
    groups::{OFFSETS_TOPIC, stopping},
};
use crate::{
    config::BrokerSettings,
    coordinator::group::GroupError,
    metadata::{
        Command, NewTopic, Outcome, Refusal,
        placement::{self, Candidate},
    },
};
use uuid::Uuid;

impl Broker {
    /// Creates `__consumer_offsets` where it is not there; returns once this broker serves it.
    ///
    /// # Errors
    ///
    /// `NotAvailable` where it was not created (too few brokers, no quorum), `NotCoordinator` where this broker is about to end.
    pub async fn ensure_offsets_topic(&self) -> Result<(), GroupError> {
        if self.partitions.table().by_name(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let brokers = placement::candidates(&self.quorum.image());
        let topic = plan(&brokers, &self.settings(), self.env.random_uuid(), self.env.random_u64());
        let topic = topic.map_err(GroupError::NotAvailable)?;
        let proposed = self.quorum.propose(Command::CreateTopics { topics: vec![topic] }).await;
        match proposed.map_err(|e| GroupError::NotAvailable(e.to_string()))?.first() {
            // Others may have been faster.
            Some(Outcome::Done | Outcome::Refused(Refusal::TopicExists)) => {}
            other => return Err(GroupError::NotAvailable(format!("{OFFSETS_TOPIC} was not created: {other:?}"))),
        }
        match self.partitions.wait_applied(self.quorum.image().index).await {
            true => Ok(()),
            false => Err(stopping()),
        }
    }
}

/// As Kafka creates it (`GroupCoordinator.groupMetadataTopicConfigs`), with no more replicas than there are brokers.
fn plan(brokers: &[Candidate], settings: &BrokerSettings, id: Uuid, seed: u64) -> Result<NewTopic, String> {
    let replicas = usize::try_from(settings.offsets_topic_replication_factor).unwrap_or(1);
    // Without any broker, placing says what is missing.
    let replicas = replicas.min(brokers.len()).max(1);
    let partitions = usize::try_from(settings.offsets_topic_partitions).unwrap_or(1);
    let assignments = placement::place(brokers, 0, partitions, replicas, seed).map_err(|e| e.to_string())?;
    let configs = [
        ("cleanup.policy", "compact".to_string()),
        ("compression.type", "producer".to_string()),
        ("segment.bytes", settings.offsets_topic_segment_bytes.to_string()),
    ];
    let configs = configs.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Ok(NewTopic { id, name: OFFSETS_TOPIC.to_string(), assignments, configs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, config::Dynamic};

    fn plan_for(brokers: i32) -> Result<NewTopic, String> {
        let broker = |node_id| Candidate { node_id, rack: None, fenced: false };
        let brokers: Vec<_> = (1..=brokers).map(broker).collect();
        plan(&brokers, &Config::local("/data").broker(&Dynamic::default()), Uuid::from_u128(7), 0)
    }

    #[test]
    fn no_more_replicas_than_brokers() {
        for (brokers, replicas) in [(1, 1), (2, 2), (3, 3), (5, 3)] {
            let topic = plan_for(brokers).unwrap();
            assert_eq!((topic.assignments.len(), topic.assignments[0].len()), (50, replicas), "{brokers}");
            assert_eq!(topic.configs["cleanup.policy"], "compact");
        }
    }

    #[test]
    fn without_brokers_it_is_refused() {
        assert!(plan_for(0).is_err());
    }
}

//! A cluster as a client sees it: brokers, topics, leaders, coordinators; a connection to each broker that was needed.

use super::{Connection, error::ClientError};
use crate::{
    Env,
    limits::{CLIENT_BACKOFF_MS, CLIENT_BACKOFF_MS_MAX},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName, metadata_request::MetadataRequestTopic,
    },
    protocol::{Request, StrBytes},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `HOST:PORT`, in the order they are tried.
    pub bootstrap: Vec<String>,
    /// What brokers are told that this client is called.
    pub client_id: String,
    /// Longest wait for a connection, and for an answer that does not wait itself.
    pub timeout: Duration,
}

impl ClusterOptions {
    /// From `HOST:PORT,HOST:PORT`, with a client id of `millstream` and 30 s (Kafka: `request.timeout.ms`).
    ///
    /// # Errors
    /// `Address`.
    pub fn parse(bootstrap: &str) -> Result<ClusterOptions, ClientError> {
        let addresses: Vec<String> =
            bootstrap.split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_string).collect();
        let well_formed = |a: &String| {
            a.rsplit_once(':').is_some_and(|(host, port)| {
                let bare_ip6 = host.contains(':') && !host.starts_with('[');
                !host.is_empty() && !bare_ip6 && port.parse::<u16>().is_ok_and(|p| p > 0)
            })
        };
        match addresses.iter().find(|a| !well_formed(a)) {
            Some(wrong) => Err(ClientError::Address(wrong.clone())),
            None if addresses.is_empty() => Err(ClientError::Address(bootstrap.to_string())),
            None => Ok(ClusterOptions {
                bootstrap: addresses,
                client_id: "millstream".into(),
                timeout: Duration::from_secs(30),
            }),
        }
    }
}

/// One partition as the metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFacts {
    /// Broker that leads it; `None` = nobody now.
    pub leader: Option<i32>,
    /// -1 = unknown.
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// One topic as the metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    pub name: String,
    /// All zero before Metadata v10.
    pub id: uuid::Uuid,
    pub is_internal: bool,
    /// By index; dense from 0.
    pub partitions: Vec<PartitionFacts>,
}

impl TopicFacts {
    /// The partition, or the error that says which there are.
    pub fn partition(&self, partition: i32) -> Result<&PartitionFacts, ClientError> {
        let unknown =
            || ClientError::UnknownPartition { topic: self.name.clone(), partition, count: self.partitions.len() };
        usize::try_from(partition).ok().and_then(|p| self.partitions.get(p)).ok_or_else(unknown)
    }
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFacts {
    /// `HOST:PORT` as it advertises itself.
    pub address: String,
    pub rack: Option<String>,
}

/// A cluster; cheap to clone, all clones share connections and metadata.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    options: ClusterOptions,
    known: Mutex<Known>,
}

/// What is known; guarded shortly, never across a wait.
#[derive(Debug, Default)]
struct Known {
    cluster_id: Option<String>,
    controller: Option<i32>,
    brokers: BTreeMap<i32, BrokerFacts>,
    topics: HashMap<String, Arc<TopicFacts>>,
    connections: HashMap<String, Connection>,
}

impl Cluster {
    /// Connects to the first bootstrap address that answers and learns who is there.
    ///
    /// # Errors
    /// What the last address failed with.
    pub async fn connect(env: &Env, options: ClusterOptions) -> Result<Cluster, ClientError> {
        let cluster = Cluster(Arc::new(Inner { env: env.clone(), options, known: Mutex::default() }));
        cluster.ask_metadata(Some(&[]), false).await?;
        Ok(cluster)
    }

    /// Asks who is there now, and which broker is the controller.
    pub(crate) async fn refresh(&self) -> Result<(), ClientError> {
        self.ask_metadata(Some(&[]), false).await.map(drop)
    }

    /// The world it runs in.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// Longest wait for an answer that does not wait itself.
    pub fn timeout(&self) -> Duration {
        self.0.options.timeout
    }

    /// How it was reached.
    pub fn options(&self) -> &ClusterOptions {
        &self.0.options
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Its id, if the broker said one.
    pub fn id(&self) -> Option<String> {
        self.known().cluster_id.clone()
    }

    /// Brokers by id.
    pub fn brokers(&self) -> BTreeMap<i32, BrokerFacts> {
        self.known().brokers.clone()
    }

    /// A connection that works, to any broker: one there is, else to a known broker, else to a bootstrap address.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        let (there, mut addresses) = {
            let known = self.known();
            let there = known.connections.values().find(|c| c.closed().is_none()).cloned();
            (there, known.brokers.values().map(|b| b.address.clone()).collect::<Vec<_>>())
        };
        if let Some(connection) = there {
            return Ok(connection);
        }
        for address in &self.0.options.bootstrap {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let mut last = ClientError::Ended;
        for address in addresses {
            match self.to(&address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The connection to a broker.
    ///
    /// # Errors
    /// `UnknownBroker`, and those of [`Connection::open`].
    pub async fn broker(&self, id: i32) -> Result<Connection, ClientError> {
        let address = self.known().brokers.get(&id).map(|b| b.address.clone());
        let address = address.ok_or(ClientError::UnknownBroker(id))?;
        self.to(&address).await
    }

    /// The connection to a broker, if there is one that works.
    pub(crate) fn connected(&self, id: i32) -> Option<Connection> {
        let known = self.known();
        known.connections.get(&known.brokers.get(&id)?.address).filter(|c| c.closed().is_none()).cloned()
    }

    /// The connection to the broker that changes topics and settings.
    pub async fn controller(&self) -> Result<Connection, ClientError> {
        let id = self.known().controller;
        match id {
            Some(id) => self.broker(id).await,
            None => self.any().await,
        }
    }

    async fn to(&self, address: &str) -> Result<Connection, ClientError> {
        let there = self.known().connections.get(address).filter(|c| c.closed().is_none()).cloned();
        if let Some(connection) = there {
            return Ok(connection);
        }
        let options = &self.0.options;
        let connection = Connection::open(&self.0.env, address, &options.client_id, options.timeout).await?;
        let mut known = self.known();
        // Another caller may have been quicker: one connection a broker.
        if let Some(there) = known.connections.get(address).filter(|c| c.closed().is_none()) {
            return Ok(there.clone());
        }
        known.connections.insert(address.to_string(), connection.clone());
        Ok(connection)
    }

    /// A new connection to a broker, beside the one that all share: for requests that wait long at the broker (a long poll holds up what follows it).
    pub async fn own_connection(&self, id: i32) -> Result<Connection, ClientError> {
        let address = self.known().brokers.get(&id).map(|b| b.address.clone());
        let address = address.ok_or(ClientError::UnknownBroker(id))?;
        let options = &self.0.options;
        Connection::open(&self.0.env, &address, &options.client_id, options.timeout).await
    }

    /// Asks `connection`'s kind of question of any broker, and once more where the connection had ended unnoticed.
    pub async fn ask<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        match self.any().await?.call(request, self.timeout()).await {
            Err(ClientError::Closed { .. }) => self.any().await?.call(request, self.timeout()).await,
            answer => answer,
        }
    }

    /// A topic: what is known of it, else what a broker says now. Never creates it.
    ///
    /// # Errors
    /// `UnknownTopic`, the broker's code, those of the connection.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicFacts>, ClientError> {
        let known = self.known().topics.get(name).cloned();
        match known {
            Some(topic) => Ok(topic),
            None => self.fresh_topic(name).await,
        }
    }

    /// A topic as a broker says now.
    pub async fn fresh_topic(&self, name: &str) -> Result<Arc<TopicFacts>, ClientError> {
        self.look_up(name, false).await
    }

    /// A topic, created by the broker with its defaults if it is not there and the broker's settings allow that (`auto.create.topics.enable`).
    pub async fn topic_or_new(&self, name: &str) -> Result<Arc<TopicFacts>, ClientError> {
        let known = self.known().topics.get(name).cloned();
        if let Some(topic) = known {
            return Ok(topic);
        }
        let mut backoff = Backoff::default();
        let mut last = ClientError::UnknownTopic(name.to_string());
        // A new topic takes a moment to have leaders.
        for _ in 0..10 {
            match self.look_up(name, true).await {
                Ok(topic) if topic.partitions.iter().all(|p| p.leader.is_some()) => return Ok(topic),
                Ok(_) => {}
                Err(error) if error.is_retriable() || matches!(error, ClientError::UnknownTopic(_)) => last = error,
                Err(error) => return Err(error),
            }
            backoff.wait().await;
        }
        Err(last)
    }

    async fn look_up(&self, name: &str, create: bool) -> Result<Arc<TopicFacts>, ClientError> {
        let answer = self.ask_metadata(Some(&[name]), create).await?;
        let topic = answer.topics.iter().find(|t| t.name.as_deref().is_some_and(|n| n.as_str() == name));
        let unknown = || ClientError::UnknownTopic(name.to_string());
        let topic = topic.ok_or_else(unknown)?;
        match ResponseError::try_from_code(topic.error_code) {
            None => Ok(self.known().topics.get(name).cloned().ok_or_else(unknown)?),
            Some(ResponseError::UnknownTopicOrPartition) => Err(unknown()),
            Some(code) => {
                Err(ClientError::Kafka { what: format!("cannot look up topic `{name}`"), code, message: None })
            }
        }
    }

    /// All topics, sorted by name.
    pub async fn topics(&self) -> Result<Vec<Arc<TopicFacts>>, ClientError> {
        let answer = self.ask_metadata(None, false).await?;
        let mut topics: Vec<_> = answer.topics.iter().filter_map(facts).map(Arc::new).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Forgets what is known of a topic: the next look asks.
    pub fn forget(&self, topic: &str) {
        self.known().topics.remove(topic);
    }

    /// Who leads a partition, by what is known (else asks).
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `NoLeader`.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        let facts = self.topic(topic).await?;
        let no_leader = || ClientError::NoLeader { topic: topic.to_string(), partition };
        facts.partition(partition)?.leader.ok_or_else(no_leader)
    }

    /// The connection to a group's coordinator; waits while it is being found (at most the timeout).
    pub async fn coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        let address = self.coordinator_address(group).await?;
        self.to(&address).await
    }

    /// A new connection to a group's coordinator, beside the one that all share: joining a group may take long, and holds up what follows.
    pub async fn own_coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        let address = self.coordinator_address(group).await?;
        let options = &self.0.options;
        Connection::open(&self.0.env, &address, &options.client_id, options.timeout).await
    }

    async fn coordinator_address(&self, group: &str) -> Result<String, ClientError> {
        let deadline = tokio::time::Instant::now() + self.timeout();
        let mut backoff = Backoff::default();
        loop {
            match self.find_coordinator(group).await {
                Err(error) if error.is_retriable() && tokio::time::Instant::now() < deadline => backoff.wait().await,
                found => return found,
            }
        }
    }

    async fn find_coordinator(&self, group: &str) -> Result<String, ClientError> {
        let connection = self.any().await?;
        let text = |s: &str| StrBytes::from_string(s.to_string());
        let what = || format!("cannot find the coordinator of group `{group}`");
        // One key until version 3, several from version 4 on.
        let version = connection.version::<FindCoordinatorRequest>()?;
        let request = match version {
            ..=3 => FindCoordinatorRequest::default().with_key(text(group)),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]),
        };
        let answer = connection.call(&request, self.timeout()).await?;
        let (code, message, id, host, port) = match version {
            ..=3 => (answer.error_code, answer.error_message, answer.node_id, answer.host, answer.port),
            _ => {
                let unknown =
                    || ClientError::Kafka { what: what(), code: ResponseError::CoordinatorNotAvailable, message: None };
                let c = answer.coordinators.into_iter().next().ok_or_else(unknown)?;
                (c.error_code, c.error_message, c.node_id, c.host, c.port)
            }
        };
        ClientError::check(code, message.as_deref(), what)?;
        let address = address(&host, port);
        self.known().brokers.entry(id.0).or_insert(BrokerFacts { address: address.clone(), rack: None });
        Ok(address)
    }

    /// Asks for brokers, and for all topics (`None`) or those named; learns what the answer says.
    async fn ask_metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse, ClientError> {
        let named = |name: &&str| {
            MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string((*name).to_string()))))
        };
        let request = MetadataRequest::default()
            .with_topics(topics.map(|names| names.iter().map(named).collect()))
            .with_allow_auto_topic_creation(create);
        let answer = self.ask(&request).await?;
        ClientError::check(answer.error_code, None, || "cannot get the cluster's metadata".into())?;
        let mut known = self.known();
        known.cluster_id = answer.cluster_id.as_ref().map(|id| id.to_string());
        known.controller = Some(answer.controller_id.0).filter(|id| *id >= 0);
        if !answer.brokers.is_empty() {
            known.brokers = answer
                .brokers
                .iter()
                .map(|b| {
                    let rack = b.rack.as_ref().map(|r| r.to_string());
                    (b.node_id.0, BrokerFacts { address: address(&b.host, b.port), rack })
                })
                .collect();
        }
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            match facts(topic) {
                // Of all topics only what was asked by name is kept.
                Some(facts) if topics.is_some() => drop(known.topics.insert(name.to_string(), Arc::new(facts))),
                Some(_) => {}
                None => drop(known.topics.remove(name.as_str())),
            }
        }
        Ok(answer)
    }
}

/// What an answer says of a topic; `None` with an error code, or with partitions that are not 0, 1, 2 and so on.
fn facts(topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic) -> Option<TopicFacts> {
    if topic.error_code != 0 {
        return None;
    }
    let mut sorted: Vec<_> = topic.partitions.iter().collect();
    sorted.sort_by_key(|p| p.partition_index);
    if sorted.iter().zip(0i32..).any(|(p, index)| p.partition_index != index) {
        return None;
    }
    let ids = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
    let partitions = sorted.iter().map(|p| PartitionFacts {
        leader: Some(p.leader_id.0).filter(|id| *id >= 0),
        leader_epoch: p.leader_epoch,
        replicas: ids(&p.replica_nodes),
        in_sync: ids(&p.isr_nodes),
    });
    Some(TopicFacts {
        name: topic.name.as_ref()?.to_string(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
    })
}

/// An address as it is connected to; IPv6 in brackets.
fn address(host: &str, port: i32) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Waits between attempts, doubling.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next_ms: CLIENT_BACKOFF_MS }
    }
}

impl Backoff {
    /// How long the next wait is.
    pub(crate) fn step(&mut self) -> Duration {
        let wait = Duration::from_millis(self.next_ms);
        self.next_ms = (self.next_ms * 2).min(CLIENT_BACKOFF_MS_MAX);
        wait
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anybody_connects() {
        let ok = ClusterOptions::parse("a:9092, [::1]:1 ,b:2").unwrap();
        assert_eq!(ok.bootstrap, ["a:9092", "[::1]:1", "b:2"]);
        for wrong in ["", " ", "a", "a:", ":9092", "a:70000", "a:0", "::1", "a:1,b"] {
            assert!(matches!(ClusterOptions::parse(wrong), Err(ClientError::Address(_))), "{wrong:?}");
        }
    }

    #[test]
    fn an_ip6_host_gets_its_brackets() {
        assert_eq!(address("::1", 9092), "[::1]:9092");
        assert_eq!(address("localhost", 1), "localhost:1");
    }
}

//! Changes of settings, whoever asks: which resource is meant, what its settings may be, and one proposal for all of a request.

use super::{
    Broker,
    changes::{ChangeError, propose},
    topics,
};
use crate::{
    config::{
        Config, Dynamic, Kind, Resolved, broker_definition, group_definition, topic_definition,
        validate_broker_dynamic, validate_group, validate_topic,
    },
    metadata::{Command, ConfigResource},
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// New values by name; `None` takes the override away.
pub type Change = BTreeMap<String, Option<String>>;

/// What has settings, as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    /// A broker by its id; empty = all brokers.
    Broker(&'a str),
    Group(&'a str),
}

/// What a change hangs on.
#[derive(Debug, Clone)]
enum Target {
    Topic(Uuid),
    Other(ConfigResource),
}

/// One resource that was found.
#[derive(Debug)]
pub struct Subject {
    target: Target,
    /// Settings in force.
    pub now: Vec<Resolved>,
    /// Those that are set on the resource itself.
    pub own: BTreeMap<String, String>,
    pub rules: &'static Rules,
}

type Together = fn(&Config, &BTreeMap<String, String>, &Dynamic) -> Result<(), String>;

/// What differs between the settings of topics, brokers and groups.
#[derive(Debug)]
pub struct Rules {
    /// What a value that is refused is called (Kafka has two codes for it).
    pub refusal: fn(String) -> ChangeError,
    pub kind: fn(&str) -> Option<Kind>,
    pub validate: fn(&str, &str) -> Result<(), String>,
    /// Judges all overrides of the resource together, as the change would leave them.
    together: Together,
}

impl Rules {
    /// Judges every new value alone.
    pub fn check(&self, change: &Change) -> Result<(), ChangeError> {
        let values = change.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (name, value) in values {
            (self.validate)(name, value).map_err(self.refusal)?;
        }
        Ok(())
    }
}

pub const TOPICS: Rules = Rules {
    refusal: ChangeError::Config,
    kind: |name| topic_definition(name).map(|d| d.kind),
    validate: validate_topic,
    together: Config::check_topic,
};
pub const BROKERS: Rules = Rules {
    refusal: ChangeError::Request,
    kind: |name| broker_definition(name).map(|d| d.kind),
    validate: validate_broker_dynamic,
    together: |_, _, _| Ok(()),
};
const GROUPS: Rules = Rules {
    refusal: ChangeError::Config,
    kind: |name| group_definition(name).map(|d| d.kind),
    validate: validate_group,
    together: Config::check_group,
};

/// The resource, if it is one whose settings can be changed here.
pub fn subject(broker: &Broker, resource: Resource<'_>) -> Result<Subject, ChangeError> {
    let refuse = |why: &str| Err(ChangeError::Request(why.into()));
    let (config, dynamic, image) = (broker.config(), broker.dynamic(), broker.quorum.image());
    match resource {
        Resource::Topic("") => refuse("the topic has no name"),
        Resource::Topic(name) => {
            let Some(topic) = image.topic(name) else {
                topics::check_name(name)?;
                return Err(ChangeError::UnknownTopic(name.into()));
            };
            let now = config.resolve_topic(&topic.configs, &dynamic);
            Ok(Subject { target: Target::Topic(topic.id), now, own: (*topic.configs).clone(), rules: &TOPICS })
        }
        Resource::Broker(name) => {
            let (resource, own) = match name {
                "" => (ConfigResource::BrokerDefault, dynamic.default.clone()),
                _ => {
                    check_broker(broker, name)?;
                    (ConfigResource::Broker(config.node_id), dynamic.broker.clone())
                }
            };
            let now = config.resolve_broker(&dynamic);
            Ok(Subject { target: Target::Other(resource), now, own, rules: &BROKERS })
        }
        Resource::Group("") => refuse("the group has no name; there are no settings for all groups"),
        Resource::Group(name) => {
            let resource = ConfigResource::Group(name.to_owned());
            let own = image.config(&resource).map(|c| (**c).clone()).unwrap_or_default();
            let now = config.resolve_group(&own, &dynamic);
            Ok(Subject { target: Target::Other(resource), now, own, rules: &GROUPS })
        }
    }
}

/// Whether `name` is the id of this broker.
pub fn check_broker(broker: &Broker, name: &str) -> Result<(), ChangeError> {
    let own = broker.config().node_id;
    match name.parse::<i32>() {
        // One spelling only ("+1" is none): a resource is answered once.
        Ok(id) if id == own && name == own.to_string() => Ok(()),
        Ok(id) => Err(ChangeError::Request(format!("this is broker {own}, not {id}"))),
        Err(_) => Err(ChangeError::Request(format!("{name} is not the id of a broker"))),
    }
}

/// Checks what `change`, whose values were judged one by one, leaves of a resource, and gives what is to be proposed.
pub fn checked(broker: &Broker, subject: Subject, change: Change) -> Result<Planned, ChangeError> {
    let mut left = subject.own;
    for (name, value) in &change {
        match value {
            Some(value) => left.insert(name.clone(), value.clone()),
            None => left.remove(name),
        };
    }
    (subject.rules.together)(&broker.config(), &left, &broker.dynamic()).map_err(subject.rules.refusal)?;
    Ok(Planned { target: subject.target, change })
}

/// A change that passed.
#[derive(Debug)]
pub struct Planned {
    target: Target,
    change: Change,
}

/// Carries out the changes that passed, all topics in one proposal and all other resources in another; one result for each, in order. They are in force on this
/// broker when it returns.
pub async fn carry_out<E: From<ChangeError>>(
    broker: &Broker,
    planned: impl IntoIterator<Item = Result<Planned, E>>,
) -> Vec<Result<(), E>> {
    let mut results = Vec::new();
    let (mut of_topics, mut of_others) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (place, planned) in planned.into_iter().enumerate() {
        match planned {
            Ok(planned) => {
                results.push(Ok(()));
                match planned.target {
                    _ if planned.change.is_empty() => {}
                    Target::Topic(id) => {
                        of_topics.0.push(place);
                        of_topics.1.push((id, planned.change));
                    }
                    Target::Other(resource) => {
                        of_others.0.push(place);
                        of_others.1.push((resource, planned.change));
                    }
                }
            }
            Err(fault) => results.push(Err(fault)),
        }
    }
    let commands = [
        (of_topics.0, Command::AlterTopicConfigs { changes: of_topics.1 }),
        (of_others.0, Command::AlterConfigs { changes: of_others.1 }),
    ];
    for (places, command) in commands {
        if !places.is_empty() {
            let done = propose(broker, command, places.len()).await;
            places.into_iter().zip(done).for_each(|(place, result)| results[place] = result.map_err(E::from));
        }
    }
    results
}

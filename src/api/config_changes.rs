//! What both ways to change settings share (AlterConfigs and IncrementalAlterConfigs): which resource is meant, what its settings may be, and one proposal for
//! all of a request.

use super::{
    describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC, check_broker},
    errors::{Fault, ResponseError},
    topics,
};
use crate::{
    broker::Broker,
    config::{
        Config, Dynamic, Kind, Resolved, broker_definition, group_definition, topic_definition,
        validate_broker_dynamic, validate_group, validate_topic,
    },
    metadata::{Command, ConfigResource},
};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// New values by name; `None` takes the override away.
pub(super) type Change = BTreeMap<String, Option<String>>;

/// What a change hangs on.
#[derive(Debug, Clone)]
enum Target {
    Topic(Uuid),
    Other(ConfigResource),
}

/// One resource that a request names.
#[derive(Debug)]
pub(super) struct Subject {
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
pub(super) struct Rules {
    /// What a value that is refused is called (Kafka has two codes for it).
    pub refusal: ResponseError,
    pub kind: fn(&str) -> Option<Kind>,
    pub validate: fn(&str, &str) -> Result<(), String>,
    /// Judges all overrides of the resource together, as the change would leave them.
    together: Together,
}

pub(super) const TOPICS: Rules = Rules {
    refusal: ResponseError::InvalidConfig,
    kind: |name| topic_definition(name).map(|d| d.kind),
    validate: validate_topic,
    together: Config::check_topic,
};
pub(super) const BROKERS: Rules = Rules {
    refusal: ResponseError::InvalidRequest,
    kind: |name| broker_definition(name).map(|d| d.kind),
    validate: validate_broker_dynamic,
    together: |_, _, _| Ok(()),
};
const GROUPS: Rules = Rules {
    refusal: ResponseError::InvalidConfig,
    kind: |name| group_definition(name).map(|d| d.kind),
    validate: validate_group,
    together: Config::check_group,
};

/// The resource of a type and name, if it is one whose settings can be changed here.
pub(super) fn subject(broker: &Broker, kind: i8, name: &str) -> Result<Subject, Fault> {
    let refuse = |why: String| Err(Fault::new(ResponseError::InvalidRequest, why));
    let (config, dynamic, image) = (broker.config(), broker.dynamic(), broker.quorum.image());
    match kind {
        TOPIC if name.is_empty() => refuse("the topic has no name".into()),
        TOPIC => {
            let Some(topic) = image.topic(name) else {
                topics::check_name(name)?;
                return Err(Fault::new(ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}")));
            };
            let now = config.resolve_topic(&topic.configs, &dynamic);
            Ok(Subject { target: Target::Topic(topic.id), now, own: (*topic.configs).clone(), rules: &TOPICS })
        }
        BROKER => {
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
        GROUP if name.is_empty() => refuse("the group has no name; there are no settings for all groups".into()),
        GROUP => {
            let resource = ConfigResource::Group(name.to_owned());
            let own = image.config(&resource).map(|c| (**c).clone()).unwrap_or_default();
            let now = config.resolve_group(&own, &dynamic);
            Ok(Subject { target: Target::Other(resource), now, own, rules: &GROUPS })
        }
        BROKER_LOGGER => {
            check_broker(broker, name)?;
            Err(Fault::new(ResponseError::InvalidConfig, "there are no loggers with levels of their own here"))
        }
        CLIENT_METRICS => refuse("client metrics are not collected here".into()),
        other => refuse(format!("there is no resource type {other}")),
    }
}

/// Checks what `change` leaves of a resource, and gives what is to be proposed.
pub(super) fn checked(broker: &Broker, subject: Subject, change: Change) -> Result<Planned, Fault> {
    let mut left = subject.own;
    for (name, value) in &change {
        match value {
            Some(value) => left.insert(name.clone(), value.clone()),
            None => left.remove(name),
        };
    }
    (subject.rules.together)(&broker.config(), &left, &broker.dynamic())
        .map_err(|why| Fault::new(subject.rules.refusal, why))?;
    Ok(Planned { target: subject.target, change })
}

/// A change that passed.
#[derive(Debug)]
pub(super) struct Planned {
    target: Target,
    change: Change,
}

/// Carries the changes out, all topics in one proposal and all other resources in another; one result for each of `resources` (type and name), in order. One
/// that the request names more than once is refused. With `validate_only` nothing is changed.
pub(super) async fn carry_out(
    broker: &Broker,
    resources: &[(i8, &str)],
    mut plan: impl FnMut(usize) -> Result<Planned, Fault>,
    validate_only: bool,
) -> Vec<Result<(), Fault>> {
    let mut times: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in resources {
        *times.entry(*resource).or_default() += 1;
    }
    let mut results = Vec::with_capacity(resources.len());
    let (mut of_topics, mut of_others) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (place, resource) in resources.iter().enumerate() {
        let planned = match times[resource] {
            1 => plan(place),
            _ => Err(Fault::new(ResponseError::InvalidRequest, "the request names this resource more than once")),
        };
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
    if validate_only {
        return results;
    }
    let commands = [
        (of_topics.0, Command::AlterTopicConfigs { changes: of_topics.1 }),
        (of_others.0, Command::AlterConfigs { changes: of_others.1 }),
    ];
    for (places, command) in commands {
        if !places.is_empty() {
            let done = topics::propose(broker, command, places.len()).await;
            places.into_iter().zip(done).for_each(|(place, result)| results[place] = result);
        }
    }
    results
}

//! DescribeConfigs (32), v1–4: every setting of a topic, of a group or of this broker, where its value comes from, what it means.
//!
//! v3: type and documentation. v4 is flexible. A password's value is never shown. Client metrics and loggers have no settings here: they are answered with none.

use super::{
    Outcome, Request,
    errors::{self, Fault, ResponseError},
    reply, topics,
};
use crate::{
    broker::{Broker, changes::ChangeError, configs::check_broker},
    config::{Kind, Resolved, Source, broker_definition},
    metadata::ConfigResource,
};
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse,
    describe_configs_request::DescribeConfigsResource,
    describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym},
};
use std::collections::HashSet;

/// Kafka's `ConfigResource.Type` on the wire.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

/// Kafka's `ConfigSource` on the wire.
pub fn source_code(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::DynamicBroker => 2,
        Source::DynamicDefault => 3,
        Source::File | Source::Environment | Source::CommandLine => 4,
        Source::Default => 5,
        Source::Group => 8,
    }
}

/// Answers each resource asked for.
pub async fn handle(request: Request<'_>, message: DescribeConfigsRequest) -> Outcome {
    // Each resource once: an answer is thousands of times as large as a question.
    let mut seen = HashSet::new();
    let once = message.resources.iter().filter(|r| seen.insert((r.resource_type, r.resource_name.as_str())));
    let results = once.map(|resource| {
        let found = describe(request.broker, resource);
        // Kafka says "" where there is no error, not null.
        let (error_code, error_message) = (errors::code(&found), errors::text(&found).or(Some(topics::text(""))));
        let shown = found.unwrap_or_default();
        let keys = resource.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
        let keys: Option<HashSet<&str>> = keys.map(|keys| keys.iter().map(|k| k.as_str()).collect());
        let wanted = |r: &&Resolved| keys.as_ref().is_none_or(|keys| keys.contains(r.definition.name));
        let of_broker = resource.resource_type == BROKER;
        DescribeConfigsResult::default()
            .with_error_code(error_code)
            .with_error_message(error_message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_configs(shown.iter().filter(wanted).map(|r| entry(r, of_broker, &message)).collect())
    });
    let response = DescribeConfigsResponse::default().with_results(results.collect());
    Outcome::Reply(reply::message(&request.header, &response))
}

fn describe(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Resolved>, Fault> {
    let name = resource.resource_name.as_str();
    let dynamic = broker.dynamic();
    match resource.resource_type {
        TOPIC => {
            topics::check_name(name)?;
            match broker.quorum.image().topic(name) {
                Some(topic) => Ok(broker.config().resolve_topic(&topic.configs, &dynamic)),
                None => Err(ChangeError::UnknownTopic(name.into()).into()),
            }
        }
        // Settings for all brokers: those that were set.
        BROKER if name.is_empty() => Ok(dynamic
            .default
            .iter()
            .filter_map(|(name, value)| {
                let definition = broker_definition(name)?;
                let (value, source) = (value.clone(), Source::DynamicDefault);
                let synonyms = vec![(definition.name, value.clone(), source)];
                Some(Resolved { definition, value: Some(value), source, synonyms })
            })
            .collect()),
        BROKER => {
            check_broker(broker, name)?;
            Ok(broker.config().resolve_broker(&dynamic))
        }
        BROKER_LOGGER => Ok(check_broker(broker, name).map(|()| Vec::new())?),
        GROUP if !name.is_empty() => {
            let image = broker.quorum.image();
            let own = image.config(&ConfigResource::Group(name.to_owned())).map(|c| (**c).clone()).unwrap_or_default();
            Ok(broker.config().resolve_group(&own, &dynamic))
        }
        CLIENT_METRICS if !name.is_empty() => Ok(Vec::new()),
        CLIENT_METRICS | GROUP => Err(Fault::new(ResponseError::InvalidRequest, "the resource has no name")),
        other => Err(Fault::new(ResponseError::InvalidRequest, format!("there is no resource type {other}"))),
    }
}

fn entry(resolved: &Resolved, of_broker: bool, message: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let definition = resolved.definition;
    let secret = definition.kind == Kind::Password;
    let shown = |value: &str| if secret { None } else { Some(topics::text(value)) };
    let synonyms = resolved.synonyms.iter().filter(|_| message.include_synonyms);
    let synonym = |(name, value, source): &(&'static str, String, Source)| {
        DescribeConfigsSynonym::default()
            .with_name((*name).into())
            .with_value(shown(value))
            .with_source(source_code(*source))
    };
    DescribeConfigsResourceResult::default()
        .with_name(definition.name.into())
        .with_value(resolved.value.as_deref().and_then(shown))
        .with_read_only(of_broker && !definition.dynamic)
        .with_config_source(source_code(resolved.source))
        .with_is_sensitive(secret)
        .with_synonyms(synonyms.map(synonym).collect())
        .with_config_type(definition.kind as i8)
        .with_documentation(message.include_documentation.then(|| definition.doc.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Dynamic};

    fn shown(name: &str, config: &Config) -> DescribeConfigsResourceResult {
        let all = config.resolve_broker(&Dynamic::default());
        let message = DescribeConfigsRequest::default().with_include_synonyms(true).with_include_documentation(true);
        entry(all.iter().find(|r| r.definition.name == name).unwrap(), true, &message)
    }

    #[test]
    fn a_password_is_never_shown() {
        let config = Config::local("/nowhere").set("ssl.key.password", "secret");
        let e = shown("ssl.key.password", &config);
        assert!(e.is_sensitive);
        assert_eq!(e.value, None);
        assert!(e.synonyms.iter().all(|s| s.value.is_none()));
    }

    #[test]
    fn an_entry_says_where_its_value_comes_from() {
        let config = Config::local("/nowhere").set("num.partitions", "4");
        let e = shown("num.partitions", &config);
        assert_eq!((e.value.as_deref(), e.config_source, e.read_only, e.config_type), (Some("4"), 4, true, 3));
        let levels: Vec<_> = e.synonyms.iter().map(|s| (s.value.as_deref().unwrap(), s.source)).collect();
        assert_eq!(levels, [("4", 4), ("1", 5)]);
        assert!(e.documentation.is_some());
        let e = shown("log.retention.ms", &config);
        assert_eq!((e.value, e.config_source, e.read_only), (None, 5, false));
    }
}

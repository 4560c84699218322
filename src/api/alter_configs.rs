//! AlterConfigs (33), v0–2: replaces all settings of topics, brokers and groups; what the request does not name is no longer set.
//!
//! v2 is flexible. Older than IncrementalAlterConfigs; old tools and clients still send it. Each resource succeeds or fails as a whole and alone.

use super::{
    Outcome, Request,
    config_changes::{carry_out, subject},
    describe_configs::BROKER_LOGGER,
    errors::{self, Fault, ResponseError},
    reply,
};
use crate::broker::configs::{Change, Rules, checked};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, alter_configs_request::AlterableConfig,
    alter_configs_response::AlterConfigsResourceResponse,
};
use std::collections::BTreeMap;

/// Checks each resource; changes those that pass.
pub async fn handle(request: Request<'_>, message: AlterConfigsRequest) -> Outcome {
    let broker = request.broker;
    let resources: Vec<_> = message.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())).collect();
    let plan = |place: usize| {
        let (kind, name) = resources[place];
        if kind == BROKER_LOGGER {
            return Err(Fault::new(ResponseError::InvalidRequest, "AlterConfigs does not reach loggers"));
        }
        let subject = subject(broker, kind, name)?;
        let change = replacement(&message.resources[place].configs, &subject.own, subject.rules)?;
        Ok(checked(broker, subject, change)?)
    };
    let results = carry_out(broker, &resources, plan, message.validate_only).await;
    let answers = message.resources.iter().zip(results).map(|(resource, result)| {
        AlterConfigsResourceResponse::default()
            .with_error_code(errors::code(&result))
            .with_error_message(errors::text(&result))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    let response = AlterConfigsResponse::default().with_responses(answers.collect());
    Outcome::Reply(reply::message(&request.header, &response))
}

/// The change that leaves `configs` and nothing else of what is set now, `own`.
fn replacement(configs: &[AlterableConfig], own: &BTreeMap<String, String>, rules: &Rules) -> Result<Change, Fault> {
    let mut change: Change = own.keys().map(|name| (name.clone(), None)).collect();
    for config in configs {
        let name = config.name.as_str();
        let Some(value) = &config.value else {
            return Err(Fault::new(ResponseError::InvalidRequest, format!("{name} has no value")));
        };
        if let Some(Some(_)) = change.insert(name.to_owned(), Some(value.trim().to_owned())) {
            let why = format!("{name} is named more than once for one resource");
            return Err(Fault::new(ResponseError::InvalidRequest, why));
        }
    }
    rules.check(&change)?;
    // What stays as it is, is no change.
    change.retain(|name, value| own.get(name) != value.as_ref());
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::topics, broker::configs::TOPICS};

    fn config(name: &str, value: Option<&str>) -> AlterableConfig {
        AlterableConfig::default().with_name(topics::text(name)).with_value(value.map(topics::text))
    }

    fn replaced(configs: &[AlterableConfig]) -> Result<Vec<(String, Option<String>)>, ResponseError> {
        let own = [("cleanup.policy", "compact"), ("retention.ms", "7")];
        let own = own.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        replacement(configs, &own, &TOPICS).map(|c| c.into_iter().collect()).map_err(|f| f.error)
    }

    #[test]
    fn what_is_not_named_is_taken_away() {
        let none = vec![("cleanup.policy".to_string(), None), ("retention.ms".to_string(), None)];
        assert_eq!(replaced(&[]), Ok(none.clone()));
        let one = replaced(&[config("retention.ms", Some(" 7 "))]);
        assert_eq!(one, Ok(none[..1].to_vec()), "the other is as it was");
        let two = [config("segment.ms", Some("5")), config("retention.ms", Some("8"))];
        let mut all = none;
        all[1].1 = Some("8".into());
        all.push(("segment.ms".into(), Some("5".into())));
        assert_eq!(replaced(&two), Ok(all));
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        assert_eq!(replaced(&[config("no.such", Some("1"))]), Err(ResponseError::InvalidConfig));
        assert_eq!(replaced(&[config("retention.ms", Some("x"))]), Err(ResponseError::InvalidConfig));
        assert_eq!(replaced(&[config("retention.ms", None)]), Err(ResponseError::InvalidRequest));
        let twice = [config("segment.ms", Some("1")), config("segment.ms", Some("1"))];
        assert_eq!(replaced(&twice), Err(ResponseError::InvalidRequest));
    }
}

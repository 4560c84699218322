//! IncrementalAlterConfigs (44), v0–1: sets, deletes, appends to and subtracts from single settings of topics, brokers and groups.
//!
//! v1 is flexible. Each resource succeeds or fails as a whole and alone. A name that is not known may be deleted (replication tools delete every name they know), but not set.

use super::{
    Outcome, Request,
    config_changes::{carry_out, subject},
    errors::{self, Fault, ResponseError},
    reply,
};
use crate::{
    broker::configs::{Change, Rules, checked},
    config::{Kind, Resolved},
};
use kafka_protocol::messages::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    incremental_alter_configs_request::AlterableConfig,
    incremental_alter_configs_response::AlterConfigsResourceResponse,
};
use std::collections::HashSet;

/// Kafka's `AlterConfigOp.OpType` on the wire.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Checks each resource; changes those that pass.
pub async fn handle(request: Request<'_>, message: IncrementalAlterConfigsRequest) -> Outcome {
    let broker = request.broker;
    let resources: Vec<_> = message.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())).collect();
    let plan = |place: usize| {
        let (kind, name) = resources[place];
        let subject = subject(broker, kind, name)?;
        let change = change(&message.resources[place].configs, &subject.now, subject.rules)?;
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
    let response = IncrementalAlterConfigsResponse::default().with_responses(answers.collect());
    Outcome::Reply(reply::message(&request.header, &response))
}

/// The change that `configs` make to the settings in force `now`.
fn change(configs: &[AlterableConfig], now: &[Resolved], rules: &Rules) -> Result<Change, Fault> {
    let mut seen = HashSet::new();
    let mut change = Change::new();
    for config in configs {
        let name = config.name.as_str();
        if !seen.insert(name) {
            let why = format!("{name} is named more than once for one resource");
            return Err(Fault::new(ResponseError::InvalidRequest, why));
        }
        let value = || match &config.value {
            Some(value) => Ok(value.trim()),
            None => Err(Fault::new(ResponseError::InvalidRequest, format!("{name} has no value"))),
        };
        let list = |op: &str| match (rules.kind)(name) {
            Some(Kind::List) | None => Ok(()),
            Some(_) => {
                Err(Fault::new(ResponseError::InvalidConfig, format!("cannot {op} {name}, which is not a list")))
            }
        };
        let new = match config.config_operation {
            DELETE => None,
            SET => Some(value()?.to_owned()),
            APPEND => {
                list("append to")?;
                let mut items = items(in_force(name, now));
                let more = self::items(value()?);
                items.extend(more.iter().filter(|item| !items.contains(item)).copied().collect::<Vec<_>>());
                Some(items.join(","))
            }
            SUBTRACT => {
                list("subtract from")?;
                let less = self::items(value()?);
                let kept: Vec<_> = items(in_force(name, now)).into_iter().filter(|item| !less.contains(item)).collect();
                Some(kept.join(","))
            }
            other => {
                let why = format!("{name}: there is no operation {other}");
                return Err(Fault::new(ResponseError::InvalidRequest, why));
            }
        };
        if let Some(new) = &new {
            (rules.validate)(name, new).map_err(rules.refusal)?;
        }
        change.insert(name.to_owned(), new);
    }
    Ok(change)
}

fn in_force<'a>(name: &str, now: &'a [Resolved]) -> &'a str {
    now.iter().find(|r| r.definition.name == name).and_then(|r| r.value.as_deref()).unwrap_or("")
}

fn items(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::topics,
        broker::configs::{BROKERS, TOPICS},
        config::{Config, Dynamic},
    };
    use std::collections::BTreeMap;

    fn op(name: &str, op: i8, value: Option<&str>) -> AlterableConfig {
        let config = AlterableConfig::default().with_name(topics::text(name)).with_config_operation(op);
        config.with_value(value.map(topics::text))
    }

    fn of_topic(ops: &[AlterableConfig]) -> Result<Vec<(String, Option<String>)>, ResponseError> {
        let own = BTreeMap::from([("cleanup.policy".to_string(), "compact".to_string())]);
        let now = Config::local("/nowhere").resolve_topic(&own, &Dynamic::default());
        change(ops, &now, &TOPICS).map(|c| c.into_iter().collect()).map_err(|f| f.error)
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from() {
        let one = |o, v| of_topic(&[op("cleanup.policy", o, Some(v))]).unwrap()[0].1.clone().unwrap();
        assert_eq!(one(APPEND, "delete"), "compact,delete");
        assert_eq!(one(APPEND, "compact"), "compact");
        assert_eq!(one(SUBTRACT, "compact"), "");
        assert_eq!(one(SUBTRACT, "delete"), "compact");
        assert_eq!(one(SET, " delete "), "delete");
        assert_eq!(of_topic(&[op("retention.ms", APPEND, Some("1"))]), Err(ResponseError::InvalidConfig));
        assert_eq!(of_topic(&[op("cleanup.policy", APPEND, Some("x"))]), Err(ResponseError::InvalidConfig));
    }

    #[test]
    fn any_name_may_be_deleted_but_only_known_ones_set() {
        assert_eq!(of_topic(&[op("no.such", DELETE, None)]), Ok(vec![("no.such".into(), None)]));
        assert_eq!(of_topic(&[op("no.such", SET, Some("1"))]), Err(ResponseError::InvalidConfig));
        assert_eq!(of_topic(&[op("retention.ms", SET, None)]), Err(ResponseError::InvalidRequest));
        assert_eq!(of_topic(&[op("retention.ms", 9, Some("1"))]), Err(ResponseError::InvalidRequest));
        let twice = [op("retention.ms", DELETE, None), op("retention.ms", SET, Some("1"))];
        assert_eq!(of_topic(&twice), Err(ResponseError::InvalidRequest));
    }

    #[test]
    fn only_dynamic_settings_of_brokers_change() {
        let now = Config::local("/nowhere").resolve_broker(&Dynamic::default());
        let set = |name, value| change(&[op(name, SET, Some(value))], &now, &BROKERS).map_err(|f| f.error);
        assert!(set("log.retention.ms", "5").is_ok());
        assert_eq!(set("num.partitions", "5"), Err(ResponseError::InvalidRequest));
        assert_eq!(set("log.retention.ms", "x"), Err(ResponseError::InvalidRequest));
    }
}

//! What both ways to change settings share (AlterConfigs and IncrementalAlterConfigs): which resource a request means, and each of them once.

use super::{
    describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC},
    errors::{Fault, ResponseError},
};
use crate::broker::{
    Broker,
    configs::{self, Planned, Resource, Subject, check_broker},
};
use std::collections::HashMap;

/// The resource of a type and name, if it is one whose settings can be changed here.
pub(super) fn subject(broker: &Broker, kind: i8, name: &str) -> Result<Subject, Fault> {
    let refuse = |why: String| Err(Fault::new(ResponseError::InvalidRequest, why));
    let resource = match kind {
        TOPIC => Resource::Topic(name),
        BROKER => Resource::Broker(name),
        GROUP => Resource::Group(name),
        BROKER_LOGGER => {
            check_broker(broker, name)?;
            let why = "there are no loggers with levels of their own here";
            return Err(Fault::new(ResponseError::InvalidConfig, why));
        }
        CLIENT_METRICS => return refuse("client metrics are not collected here".into()),
        other => return refuse(format!("there is no resource type {other}")),
    };
    Ok(configs::subject(broker, resource)?)
}

/// Carries the changes of `resources` (type and name) out; one result for each, in order. One that the request names more than once is refused. With `validate_only`
/// nothing is changed.
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
    let planned = resources.iter().enumerate().map(|(place, resource)| match times[resource] {
        1 => plan(place),
        _ => Err(Fault::new(ResponseError::InvalidRequest, "the request names this resource more than once")),
    });
    let planned: Vec<_> = planned.collect();
    match validate_only {
        true => planned.into_iter().map(|planned| planned.map(drop)).collect(),
        false => configs::carry_out(broker, planned).await,
    }
}

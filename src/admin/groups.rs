//! `/v1/groups`: consumer groups, how far they are behind, and their offsets.

use super::{
    Admin, Problem,
    extract::{Body, Name, Nothing, Params},
    json,
};
use crate::{
    broker::lag::{self, GroupDetail, GroupLag, PartitionLag, Reset, ResetTo, Unknown},
    coordinator::group::State as GroupState,
    limits::LAG_PAGE_GROUPS_MAX,
};
use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Topics named in a line of the list.
const TOPICS_SHOWN_MAX: usize = 100;

/// The routes.
pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(get_groups))
        .routes(routes!(get_group, delete_group))
        .routes(routes!(delete_offsets))
        .routes(routes!(reset_offsets))
}

/// Which groups are wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GroupQuery {
    /// Groups on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Only those in this state, by Kafka's name of it.
    #[param(example = "Stable")]
    pub state: Option<String>,
    /// Only those that have committed to this topic, or whose members subscribe to it.
    #[param(example = "orders")]
    pub topic: Option<String>,
    /// Only those whose name begins so.
    pub prefix: Option<String>,
}

/// Which offsets are to be forgotten.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct OffsetsQuery {
    /// The topic.
    #[param(example = "orders")]
    pub topic: String,
    /// One partition of it; all where it is not given.
    #[param(minimum = 0)]
    pub partition: Option<i32>,
}

/// A page of the list of groups, as pages and JSON show it.
pub async fn list(admin: &Admin, query: GroupQuery) -> Result<json::GroupList, Problem> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=LAG_PAGE_GROUPS_MAX).contains(&limit) {
        return Err(bad(format!("limit is 1 to {LAG_PAGE_GROUPS_MAX}, not {limit}")));
    }
    let state = query.state.as_deref().map(state_of).transpose()?;
    let page = lag::Page {
        after: query.cursor.map(Into::into),
        prefix: query.prefix.unwrap_or_default().into(),
        topic: query.topic.map(Into::into),
        state,
        limit,
    };
    let page = admin.serving()?.lag_page(&page).await;
    Ok(json::GroupList {
        groups: page.groups.iter().map(summary).collect(),
        next: page.next.map(|name| name.to_string()),
        missing: page.missing,
    })
}

/// One group in full, as pages and JSON show it.
pub async fn describe(admin: &Admin, group: &str) -> Result<json::Group, Problem> {
    Ok(shown(admin.serving()?.lag_of(group).await?))
}

/// Groups, by name
///
/// With their lag in records and seconds, how fast they consume, and when they will have caught up.
#[utoipa::path(get, path = "/v1/groups", tag = "groups", params(GroupQuery), responses(
    (status = 200, description = "A page of groups", body = json::GroupList),
    (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The broker is starting", body = Problem, content_type = "application/problem+json"),
))]
async fn get_groups(
    State(admin): State<Admin>,
    Params(query): Params<GroupQuery>,
) -> Result<Json<json::GroupList>, Problem> {
    list(&admin, query).await.map(Json)
}

/// A group
///
/// Its members and what they own, its place in each partition, its lag over time, and what is going on in a sentence.
#[utoipa::path(get, path = "/v1/groups/{group}", tag = "groups", params(("group" = String, Path, description = "The group", example = "billing")), responses(
    (status = 200, description = "The group", body = json::Group),
    (status = 404, description = "There is no such group", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Its coordinator does not answer now", body = Problem, content_type = "application/problem+json"),
))]
async fn get_group(
    State(admin): State<Admin>,
    Name(group): Name,
    Params(Nothing {}): Params<Nothing>,
) -> Result<Json<json::Group>, Problem> {
    describe(&admin, &group).await.map(Json)
}

/// Delete a group
///
/// With all it has committed. Refused while it has members.
#[utoipa::path(delete, path = "/v1/groups/{group}", tag = "groups", params(("group" = String, Path, description = "The group", example = "billing")), responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "There is no such group", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has members", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Its coordinator does not answer now", body = Problem, content_type = "application/problem+json"),
))]
async fn delete_group(
    State(admin): State<Admin>,
    Name(group): Name,
    Params(Nothing {}): Params<Nothing>,
) -> Result<StatusCode, Problem> {
    admin.serving()?.delete_group(&group).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forget offsets
///
/// What the group has committed to a topic, or to one partition of it. Refused while its members subscribe to the topic.
#[utoipa::path(delete, path = "/v1/groups/{group}/offsets", tag = "groups", params(("group" = String, Path, description = "The group", example = "billing"), OffsetsQuery), responses(
    (status = 200, description = "What was forgotten", body = json::DeletedOffsets),
    (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such group", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Its members subscribe to the topic", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Its coordinator does not answer now", body = Problem, content_type = "application/problem+json"),
))]
async fn delete_offsets(
    State(admin): State<Admin>,
    Name(group): Name,
    Params(query): Params<OffsetsQuery>,
) -> Result<Json<json::DeletedOffsets>, Problem> {
    let OffsetsQuery { topic, partition } = query;
    let partitions = admin.serving()?.delete_offsets(&group, &topic, partition.map(|it| vec![it])).await?;
    Ok(Json(json::DeletedOffsets { group, topic, partitions }))
}

/// Reset offsets
///
/// Only shows what would be done unless `dry_run` is false. Refused while the group has members. Each partition tells what was done with it.
#[utoipa::path(post, path = "/v1/groups/{group}/offsets/reset", tag = "groups", params(("group" = String, Path, description = "The group", example = "billing")),
    request_body(content = json::OffsetReset, example = json!({ "topic": "orders", "to": { "time_ms": 1767225600000_i64 }, "dry_run": false })),
    responses(
    (status = 200, description = "What was done, or would be", body = json::ResetResult),
    (status = 400, description = "The request is not JSON, or asks for too much", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such group, topic or partition", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The group has members", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The request is too large", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The request is not said to be JSON", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The request is not what is asked for", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The coordinator does not answer now", body = Problem, content_type = "application/problem+json"),
))]
async fn reset_offsets(
    State(admin): State<Admin>,
    Name(group): Name,
    Params(Nothing {}): Params<Nothing>,
    Body(asked): Body<json::OffsetReset>,
) -> Result<Json<json::ResetResult>, Problem> {
    let json::OffsetReset { topic, partitions, to, dry_run } = asked;
    let to = match to {
        json::ResetTo::Earliest => ResetTo::Earliest,
        json::ResetTo::Latest => ResetTo::Latest,
        json::ResetTo::Offset(offset) => ResetTo::Offset(offset),
        json::ResetTo::Shift(by) => ResetTo::Shift(by),
        json::ResetTo::TimeMs(ms) => ResetTo::TimeMs(ms),
    };
    let reset = Reset { group: group.as_str().into(), topic: topic.as_str().into(), partitions, to, dry_run };
    let done = admin.serving()?.reset_offsets(reset).await?;
    let partitions = done.partitions.into_iter().map(|it| json::ResetPartition {
        partition: it.partition,
        from_offset: it.from,
        to_offset: it.to.as_ref().ok().copied(),
        error: it.to.err(),
    });
    Ok(Json(json::ResetResult { group, topic, dry_run, partitions: partitions.collect() }))
}

fn bad(why: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, why)
}

fn state_of(name: &str) -> Result<GroupState, Problem> {
    const ALL: [GroupState; 4] =
        [GroupState::Empty, GroupState::PreparingRebalance, GroupState::CompletingRebalance, GroupState::Stable];
    // As in Kafka whatever the case.
    ALL.into_iter()
        .find(|state| state.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| bad(format!("state is one of {}, not {name}", ALL.map(GroupState::name).join(", "))))
}

fn summary(it: &GroupLag) -> json::GroupSummary {
    let mut topics: Vec<String> = Vec::new();
    for at in it.partitions.iter().filter(|at| at.committed.is_some()) {
        if topics.len() < TOPICS_SHOWN_MAX && topics.last().is_none_or(|last| **last != *at.topic) {
            topics.push(at.topic.to_string());
        }
    }
    json::GroupSummary {
        group: it.group.to_string(),
        state: it.state.name().into(),
        protocol_type: it.protocol_type.to_string(),
        members: it.members,
        topics,
        lag_records: it.lag_records,
        lag_seconds: it.oldest.age_s(it.at_ms),
        consume_records_per_s: it.rates.map(|rates| rates.consume_per_s),
        produce_records_per_s: it.rates.map(|rates| rates.produce_per_s),
        drain_seconds: it.drain_s(),
    }
}

fn shown(it: GroupDetail) -> json::Group {
    let GroupDetail { lag, description, owned, subscribed, owners, explanation, series, missing } = it;
    let members = description.members.iter().zip(owned).zip(subscribed).map(|((member, owned), subscribed)| {
        let owned = owned.unwrap_or_default().into_iter();
        json::Member {
            member_id: member.member_id.to_string(),
            instance_id: member.instance_id.as_ref().map(|id| id.to_string()),
            client_id: member.caller.client_id.to_string(),
            client_host: member.caller.client_host.to_string(),
            assignment: owned.map(|(topic, partitions)| json::TopicPartitions { topic, partitions }).collect(),
            subscription: subscribed.unwrap_or_default(),
        }
    });
    let mut member_details: Vec<json::Member> = members.collect();
    member_details.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    let partition = |at: &PartitionLag| {
        let owner = owners.get(&(at.topic.clone(), at.partition)).and_then(|index| description.members.get(*index));
        json::GroupPartition {
            topic: at.topic.to_string(),
            partition: at.partition,
            member_id: owner.map(|member| member.member_id.to_string()),
            committed_offset: at.committed.as_ref().map(|it| it.offset),
            committed_ms: at.committed.as_ref().map(|it| it.commit_ms),
            start_offset: at.ends.map(|ends| ends.log_start),
            high_watermark: at.ends.map(|ends| ends.high_watermark),
            last_stable_offset: at.ends.map(|ends| ends.last_stable),
            lag_records: at.lag_records(),
            lag_records_stable: at.lag_records_stable(),
            lost_records: at.lost_records(),
            lag_seconds: at.committed.as_ref().and_then(|_| at.oldest.age_s(lag.at_ms)),
            basis: at.basis.map(|basis| match basis {
                lag::Basis::Append => json::Basis::Append,
                lag::Basis::Timestamp => json::Basis::Timestamp,
            }),
            error: at.unknown.as_ref().map(Unknown::to_string),
        }
    };
    let points = series.points().map(|point| json::LagPoint {
        at_ms: point.at_ms,
        lag_records: point.lag_records,
        lag_seconds: point.oldest.age_s(point.at_ms),
    });
    json::Group {
        summary: summary(&lag),
        protocol: description.protocol.to_string(),
        explanation,
        member_details,
        partitions: lag.partitions.iter().map(partition).collect(),
        series: points.collect(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_known_by_kafkas_names() {
        assert_eq!(state_of("stable").unwrap(), GroupState::Stable);
        assert_eq!(state_of("CompletingRebalance").unwrap(), GroupState::CompletingRebalance);
        assert!(state_of("Dead").is_err() && state_of("").is_err());
    }
}

//! `/v1/topics`: list, create, look, change, delete, trim. The functions that make the shapes are apart from the handlers, for the pages.

use super::{
    Admin, Problem,
    error::{BadBody, Missing, Refusals},
    extract::{Body, Name, Nothing, Params, limit},
    json::{
        AtRisk, DeleteRecords, DeletedBefore, DeletedRecords, NewTopic, Partition, Rates, Setting, Topic, TopicChanges,
        TopicList, TopicSummary,
    },
};
use crate::{
    broker::{
        Broker, changes::ChangeError, configs, opening::Opening, partitions::TopicEntry, throughput, topics, trimming,
    },
    config::{Kind, Resolved, Source},
    limits::{HTTP_LIST_DEFAULT, HTTP_LIST_MAX, HTTP_PARTITIONS_DEFAULT, HTTP_PARTITIONS_MAX, HTTP_TRIM_MS_MAX},
    metadata::{self, Image, PartitionFacts},
};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{collections::BTreeSet, ops::Bound, sync::Arc, time::Duration};
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes here.
pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(list_topics, create_topic))
        .routes(routes!(get_topic, change_topic, delete_topic))
        .routes(routes!(delete_records))
}

/// Which topics.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Only topics whose name holds this text.
    pub filter: Option<String>,
    /// Whether Kafka's own topics are listed: yes where it is not given.
    pub internal: Option<bool>,
    /// Topics in one answer; 100 where it is not given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// `next` of the answer before.
    pub cursor: Option<String>,
}

/// Topics, by name.
#[utoipa::path(get, path = "/v1/topics", tag = "topics", params(ListParams),
    responses((status = 200, description = "A page of topics", body = TopicList), Refusals))]
async fn list_topics(
    State(admin): State<Admin>,
    Params(params): Params<ListParams>,
) -> Result<Json<TopicList>, Problem> {
    Ok(Json(list(admin.serving()?, &params)?))
}

/// Creates a topic. It takes records when this is answered.
#[utoipa::path(post, path = "/v1/topics", tag = "topics", request_body = NewTopic,
    responses((status = 201, description = "Created", body = Topic, headers(("location" = String, description = "Where it is")),
        links(("look" = (operation_id = "get_topic", parameters(("topic" = "$response.body#/name")))), ("change" = (operation_id = "change_topic", parameters(("topic" = "$response.body#/name")))),
            ("delete" = (operation_id = "delete_topic", parameters(("topic" = "$response.body#/name")))), ("trim" = (operation_id = "delete_records", parameters(("topic" = "$response.body#/name")))))),
        (status = 409, description = "A topic of this name exists", body = Problem, content_type = "application/problem+json"), Refusals, BadBody))]
async fn create_topic(
    State(admin): State<Admin>,
    Params(_): Params<Nothing>,
    Body(new): Body<NewTopic>,
) -> Result<Response, Problem> {
    let broker = admin.serving()?;
    if new.partitions == Some(-1) || new.replication_factor == Some(-1) {
        return Err(refused("leave partitions or replication_factor out for the default"));
    }
    let wanted = topics::Wanted {
        name: &new.name,
        partitions: new.partitions.unwrap_or(-1),
        replication_factor: new.replication_factor.unwrap_or(-1),
        assignments: Vec::new(),
        configs: new.configs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).collect(),
    };
    for (_, made) in topics::create(broker, &[wanted], false).await {
        made?;
    }
    let location = [(header::LOCATION, format!("/v1/topics/{}", new.name))];
    Ok((StatusCode::CREATED, location, Json(describe(broker, &new.name, &TopicParams::default())?)).into_response())
}

/// Which partitions of a topic.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TopicParams {
    /// Partitions in one answer; 1000 where it is not given.
    #[param(minimum = 1, maximum = 10_000)]
    pub limit: Option<usize>,
    /// `next` of the answer before.
    pub cursor: Option<String>,
}

/// A topic: partitions with their offsets and sizes, settings, rates, what is at risk.
#[utoipa::path(get, path = "/v1/topics/{topic}", tag = "topics", params(("topic" = String, Path, description = "Its name"), TopicParams),
    responses((status = 200, description = "The topic", body = Topic), Refusals, Missing))]
async fn get_topic(
    State(admin): State<Admin>,
    Name(topic): Name,
    Params(params): Params<TopicParams>,
) -> Result<Json<Topic>, Problem> {
    Ok(Json(describe(admin.serving()?, &topic, &params)?))
}

/// Changes settings, adds partitions. Everything is checked before anything is changed.
#[utoipa::path(patch, path = "/v1/topics/{topic}", tag = "topics", params(("topic" = String, Path, description = "Its name")),
    request_body = TopicChanges,
    responses((status = 200, description = "The topic as it is now", body = Topic),
        (status = 409, description = "Another change came between", body = Problem, content_type = "application/problem+json"), Refusals, Missing, BadBody))]
async fn change_topic(
    State(admin): State<Admin>,
    Name(topic): Name,
    Params(_): Params<Nothing>,
    Body(changes): Body<TopicChanges>,
) -> Result<Json<Topic>, Problem> {
    let broker = admin.serving()?;
    find(broker, &topic)?;
    let subject = configs::subject(broker, configs::Resource::Topic(&topic))?;
    let trimmed = changes.configs.into_iter().map(|(name, value)| (name, value.map(|v| v.trim().to_owned())));
    let change: configs::Change = trimmed.collect();
    let known = |name: &str| subject.own.contains_key(name) || (subject.rules.kind)(name).is_some();
    if let Some(name) = change.keys().find(|name| !known(name)) {
        // Setting it says what it may have meant; taking it away would say nothing.
        (subject.rules.validate)(name, "").map_err(subject.rules.refusal)?;
    }
    subject.rules.check(&change)?;
    let growth = changes.partitions.map(|partitions| topics::Growth { name: &topic, partitions, assignments: None });
    let growth: Vec<_> = growth.into_iter().collect();
    for (_, checked) in topics::grow(broker, &growth, true).await {
        checked?;
    }
    let planned = configs::checked(broker, subject, change);
    for done in configs::carry_out(broker, [planned]).await {
        done?;
    }
    for (_, done) in topics::grow(broker, &growth, false).await {
        done?;
    }
    Ok(Json(describe(broker, &topic, &TopicParams::default())?))
}

/// Deletes a topic with all its records.
#[utoipa::path(delete, path = "/v1/topics/{topic}", tag = "topics", params(("topic" = String, Path, description = "Its name")),
    responses((status = 204, description = "Deleted"), Refusals, Missing))]
async fn delete_topic(
    State(admin): State<Admin>,
    Name(topic): Name,
    Params(_): Params<Nothing>,
) -> Result<StatusCode, Problem> {
    let broker = admin.serving()?;
    topics::check_deletion(broker)?;
    let id = find(broker, &topic)?.id;
    for done in topics::delete(broker, vec![id]).await {
        done?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes records from the start of partitions. Everything is checked before anything is deleted; what fails all the same is said by partition.
#[utoipa::path(post, path = "/v1/topics/{topic}/delete-records", tag = "topics", params(("topic" = String, Path, description = "Its name")),
    request_body = DeleteRecords,
    responses((status = 200, description = "What was deleted", body = DeletedRecords), Refusals, Missing, BadBody))]
async fn delete_records(
    State(admin): State<Admin>,
    Name(topic): Name,
    Params(_): Params<Nothing>,
    Body(wanted): Body<DeleteRecords>,
) -> Result<Json<DeletedRecords>, Problem> {
    let broker = admin.serving()?;
    find(broker, &topic)?;
    let entry = entry(broker, &topic)?;
    let mut seen = BTreeSet::new();
    let mut opening = Opening::new(&broker.opening_bytes, 0);
    if wanted.partitions.is_empty() {
        return Err(refused("partitions: name one at least"));
    }
    for one in &wanted.partitions {
        let number = one.partition;
        if !seen.insert(number) {
            return Err(refused(format!("partition {number} is named twice")));
        }
        let Some(partition) = entry.partition(number) else {
            // Named by the body: what the path names is there.
            return Err(refused(ChangeError::UnknownPartition { topic, partition: number }.to_string()));
        };
        opening.wait(partition.open()).await?;
        let offsets = partition.offsets()?;
        let (start, end) = (offsets.log_start, offsets.log_end);
        if let Some(offset) = one.before_offset.filter(|offset| !(start..=end).contains(offset)) {
            return Err(refused(format!("partition {number}: offset {offset} is outside {start} to {end}")));
        }
    }
    let deadline = Instant::now() + Duration::from_millis(HTTP_TRIM_MS_MAX);
    let mut partitions = Vec::with_capacity(wanted.partitions.len());
    for one in wanted.partitions {
        let offset = one.before_offset.unwrap_or(-1);
        let done = trimming::delete_records(broker, &mut opening, &topic, one.partition, offset, deadline).await;
        // What is true of the whole topic is true of its first partition.
        if let (true, Err(error @ (ChangeError::Internal(_) | ChangeError::CompactedOnly(_)))) =
            (partitions.is_empty(), &done)
        {
            return Err(refused(error.to_string()));
        }
        let error = done.as_ref().err().map(ToString::to_string);
        partitions.push(DeletedBefore { partition: one.partition, start_offset: done.ok(), error });
    }
    Ok(Json(DeletedRecords { partitions }))
}

fn refused(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}

/// A topic of the image by name.
pub fn find(broker: &Broker, name: &str) -> Result<Arc<metadata::Topic>, Problem> {
    let found = broker.quorum.image().topic(name).cloned();
    found.ok_or_else(|| ChangeError::UnknownTopic(name.chars().take(300).collect()).into())
}

/// A topic served here by name.
pub fn entry(broker: &Broker, name: &str) -> Result<Arc<TopicEntry>, Problem> {
    let found = broker.partitions.table().by_name(name).cloned();
    found.ok_or_else(|| ChangeError::UnknownTopic(name.chars().take(300).collect()).into())
}

/// What stands before the name in a cursor of the list.
const AFTER: &str = "after.";

/// A page of topics, by name.
pub fn list(broker: &Broker, params: &ListParams) -> Result<TopicList, Problem> {
    let limit = limit(params.limit, HTTP_LIST_DEFAULT, HTTP_LIST_MAX)?;
    let image = broker.quorum.image();
    let from = match params.cursor.as_deref().map(|cursor| cursor.strip_prefix(AFTER)) {
        None => Bound::Unbounded,
        Some(Some(name)) if topics::check_name(name).is_ok() => Bound::Excluded(Arc::<str>::from(name)),
        Some(_) => return Err(Problem::new(StatusCode::BAD_REQUEST, "cursor: not one that an answer gave")),
    };
    let wanted = |name: &str| {
        params.filter.as_deref().is_none_or(|text| name.contains(text))
            && (params.internal != Some(false) || !topics::is_internal(name))
    };
    let mut found = image.topics.range((from, Bound::Unbounded)).filter(|(name, _)| wanted(name));
    let topics: Vec<TopicSummary> = found.by_ref().take(limit).map(|(_, topic)| summary(broker, topic)).collect();
    let next = found.next().and_then(|_| topics.last()).map(|last| format!("{AFTER}{}", last.name));
    Ok(TopicList { topics, next })
}

/// The line of the list.
pub fn summary(broker: &Broker, topic: &metadata::Topic) -> TopicSummary {
    let entry = broker.partitions.table().by_id(topic.id).cloned();
    let partitions = entry.as_ref().map_or(&[][..], |entry| &entry.partitions);
    let offsets = partitions.iter().filter_map(|p| p.offsets().ok());
    let settings = entry.as_ref().map(|entry| entry.state.settings.load_full());
    let durable = settings.is_none_or(|settings| settings.durable);
    TopicSummary {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        internal: topics::is_internal(&topic.name),
        partitions: topic.partitions.len(),
        replication_factor: topic.partitions.first().map_or(0, |p| p.replicas.len()),
        records: offsets.map(|o| (o.high_watermark - o.log_start).max(0)).sum(),
        size_bytes: partitions.iter().map(|p| p.size_bytes()).sum(),
        durability: if durable { "fsync" } else { "page-cache" }.into(),
        rates: broker.throughput.rates(&topic.name).map(|rates| rates.minute.into()).unwrap_or_default(),
        at_risk: entry.map(|entry| broker.at_risk(&entry).into()).unwrap_or_default(),
    }
}

/// A topic in full.
pub fn describe(broker: &Broker, name: &str, params: &TopicParams) -> Result<Topic, Problem> {
    let limit = limit(params.limit, HTTP_PARTITIONS_DEFAULT, HTTP_PARTITIONS_MAX)?;
    let from = match params.cursor.as_deref().map(str::parse::<u32>) {
        None => 0,
        Some(Ok(from)) => from as usize,
        Some(Err(_)) => return Err(Problem::new(StatusCode::BAD_REQUEST, "cursor: not one that an answer gave")),
    };
    let image = broker.quorum.image();
    let topic = image.topic(name).cloned();
    let topic = topic.ok_or_else(|| Problem::from(ChangeError::UnknownTopic(name.chars().take(300).collect())))?;
    let entry = broker.partitions.table().by_id(topic.id).cloned();
    let shown = topic.partitions.iter().enumerate().skip(from).take(limit);
    let partition_details: Vec<Partition> =
        shown.map(|(index, facts)| partition(&image, entry.as_deref(), index, facts)).collect();
    let end = from + partition_details.len();
    let next = (end < topic.partitions.len() && end > from).then(|| end.to_string());
    let resolved = broker.config().resolve_topic(&topic.configs, &broker.dynamic());
    let configs = resolved.iter().map(|r| setting(r, true)).collect();
    Ok(Topic { summary: summary(broker, &topic), partition_details, next, configs })
}

fn partition(image: &Image, entry: Option<&TopicEntry>, index: usize, facts: &PartitionFacts) -> Partition {
    let live = image.brokers.get(&facts.leader).is_some_and(|b| !b.fenced);
    let number = i32::try_from(index).unwrap_or(i32::MAX);
    let here = entry.and_then(|entry| entry.partition(number));
    let offsets = here.map(|p| p.offsets());
    let error = match &offsets {
        Some(Err(error)) => Some(error.to_string()),
        Some(Ok(_)) => None,
        None => Some("it is not served here".into()),
    };
    let offsets = offsets.and_then(Result::ok);
    Partition {
        partition: number,
        leader: if live { facts.leader } else { -1 },
        leader_epoch: facts.leader_epoch,
        replicas: facts.replicas.to_vec(),
        isr: facts.isr.to_vec(),
        start_offset: offsets.as_ref().map(|o| o.log_start),
        high_watermark: offsets.as_ref().map(|o| o.high_watermark),
        last_stable_offset: offsets.as_ref().map(|o| o.last_stable),
        end_offset: offsets.as_ref().map(|o| o.log_end),
        size_bytes: here.map_or(0, |p| p.size_bytes()),
        segments: here.and_then(|p| p.segments()),
        error,
    }
}

/// A setting as it is shown; a secret's value never is.
pub fn setting(resolved: &Resolved, dynamic: bool) -> Setting {
    let definition = resolved.definition;
    let secret = definition.kind == Kind::Password;
    let source = match resolved.source {
        Source::Default => "default",
        Source::File => "file",
        Source::Environment => "environment",
        Source::CommandLine => "command-line",
        Source::DynamicDefault => "dynamic-default",
        Source::DynamicBroker => "dynamic-broker",
        Source::Topic => "topic",
        Source::Group => "group",
    };
    Setting {
        name: definition.name.into(),
        value: resolved.value.clone().filter(|_| !secret),
        source: source.into(),
        dynamic: dynamic || definition.dynamic,
        secret,
        meaning: definition.doc.into(),
    }
}

impl From<throughput::Rate> for Rates {
    fn from(rate: throughput::Rate) -> Rates {
        Rates {
            in_bytes_per_s: rate.bytes_in,
            in_records_per_s: rate.records_in,
            out_bytes_per_s: rate.bytes_out,
            out_records_per_s: rate.records_out,
        }
    }
}

impl From<crate::broker::AtRisk> for AtRisk {
    fn from(at_risk: crate::broker::AtRisk) -> AtRisk {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        AtRisk { records: whole(at_risk.records), bytes: whole(at_risk.bytes), oldest_ms: at_risk.oldest_ms }
    }
}

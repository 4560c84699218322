//! `/v1/cluster` and `/v1/config`: the broker, its neighbours, its settings.

use super::{
    Admin, Problem,
    error::Refusals,
    extract::{Nothing, Params},
    health,
    json::{AtRisk, Cluster, ConfigList, Listener, Node},
    topics::setting,
};
use crate::broker::Broker;
use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::atomic::Ordering;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes here.
pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(get_cluster)).routes(routes!(get_config))
}

/// The cluster: its brokers, its size, whether it takes records.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster",
    responses((status = 200, description = "The cluster as this broker sees it", body = Cluster), Refusals))]
async fn get_cluster(State(admin): State<Admin>, Params(_): Params<Nothing>) -> Result<Json<Cluster>, Problem> {
    let broker = admin.serving()?;
    Ok(Json(cluster(&admin, broker).await))
}

/// Which settings.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ConfigParams {
    /// Only settings whose name holds this text.
    pub filter: Option<String>,
    /// Only settings that are not at their default.
    pub changed: Option<bool>,
}

/// Settings of this broker: value in force, where it comes from, what it means. Secrets are not shown.
#[utoipa::path(get, path = "/v1/config", tag = "cluster", params(ConfigParams),
    responses((status = 200, description = "The settings", body = ConfigList), Refusals))]
async fn get_config(
    State(admin): State<Admin>,
    Params(params): Params<ConfigParams>,
) -> Result<Json<ConfigList>, Problem> {
    Ok(Json(config(admin.serving()?, &params)))
}

/// Settings, by name.
pub fn config(broker: &Broker, params: &ConfigParams) -> ConfigList {
    let resolved = broker.config().resolve_broker(&broker.dynamic());
    let mut settings: Vec<_> = resolved.iter().map(|r| setting(r, false)).collect();
    settings.retain(|s| {
        params.filter.as_deref().is_none_or(|text| s.name.contains(text))
            && (params.changed != Some(true) || s.source != "default")
    });
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    ConfigList { settings }
}

/// The cluster. Its cost grows with the partitions.
pub async fn cluster(admin: &Admin, broker: &Broker) -> Cluster {
    let reason = health::reason(admin).await;
    let (image, config) = (broker.quorum.image(), broker.config());
    let table = broker.partitions.snapshot();
    let mut at_risk = AtRisk::default();
    for topic in table.topics() {
        let of_topic = AtRisk::from(broker.at_risk(topic));
        at_risk.records += of_topic.records;
        at_risk.bytes += of_topic.bytes;
        at_risk.oldest_ms = at_risk.oldest_ms.max(of_topic.oldest_ms);
    }
    let node = |b: &std::sync::Arc<crate::metadata::BrokerRegistration>| Node {
        node_id: b.node_id,
        advertised: b.advertised.as_ref().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }),
        rack: b.rack.as_ref().map(ToString::to_string),
        fenced: b.fenced,
    };
    let listener =
        |l: &crate::config::Listener| Listener { name: l.name.clone(), address: l.address(), told: l.told() };
    Cluster {
        cluster_id: image.cluster_id.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        node_id: config.node_id,
        uptime_s: admin.uptime().as_secs_f64(),
        ready: reason.is_none(),
        reason,
        // A quorum of one: this node leads it, as long as its log takes writes.
        controller: if broker.quorum.failure().is_none() { config.node_id } else { -1 },
        metadata_index: image.index,
        feature_level: image.feature_level,
        listeners: config.listeners.iter().map(listener).collect(),
        nodes: image.brokers.values().map(node).collect(),
        topics: image.topics.len(),
        partitions: image.topics.values().map(|t| t.partitions.len()).sum(),
        connections: broker.metrics.connections_open.load(Ordering::Relaxed),
        size_bytes: table.partitions().map(|p| p.size_bytes()).sum(),
        rates: broker.throughput.all().rates().minute.into(),
        at_risk,
    }
}

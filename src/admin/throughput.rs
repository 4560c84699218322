//! `/v1/throughput`: what went in and out, over the last quarter of an hour.

use super::{
    Admin, Problem,
    error::{Missing, Refusals},
    extract::Params,
    json::{Throughput, ThroughputPoint, TopicRates},
    topics::find,
};
use crate::{
    broker::{Broker, throughput::Series},
    limits::{HTTP_LIST_MAX, SERIES_STEP_MS},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes here.
pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(get_throughput))
}

/// Whose throughput.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ThroughputParams {
    /// One topic; all together where it is not given.
    pub topic: Option<String>,
}

/// Bytes and records in and out, in steps of five seconds.
#[utoipa::path(get, path = "/v1/throughput", tag = "figures", params(ThroughputParams),
    responses((status = 200, description = "The series", body = Throughput), Refusals, Missing))]
async fn get_throughput(
    State(admin): State<Admin>,
    Params(params): Params<ThroughputParams>,
) -> Result<Json<Throughput>, Problem> {
    Ok(Json(throughput(admin.serving()?, params.topic.as_deref())?))
}

/// The series of a topic, or of the broker with the rates of its topics. A topic without traffic has no points.
pub fn throughput(broker: &Broker, topic: Option<&str>) -> Result<Throughput, Problem> {
    let series = match topic {
        None => broker.throughput.all(),
        Some(name) => {
            find(broker, name)?;
            broker.throughput.topic(name).unwrap_or_default()
        }
    };
    let topics = match topic {
        None => broker.throughput.topics(),
        Some(_) => Vec::new(),
    };
    let rates_of = |(topic, rates): (std::sync::Arc<str>, crate::broker::throughput::Rates)| TopicRates {
        topic: topic.to_string(),
        rates: rates.minute.into(),
    };
    Ok(Throughput {
        topic: topic.map(str::to_owned),
        interval_ms: SERIES_STEP_MS,
        rates: series.rates().minute.into(),
        points: points(&series),
        topics: topics.into_iter().take(HTTP_LIST_MAX).map(rates_of).collect(),
    })
}

/// Points with their times, counted back from the newest.
fn points(series: &Series) -> Vec<ThroughputPoint> {
    let mut at_ms = series.end_ms;
    let mut points: Vec<_> = Vec::with_capacity(series.points.len());
    for p in series.points.iter().rev() {
        points.push(ThroughputPoint {
            at_ms,
            in_bytes: p.bytes_in,
            in_records: p.records_in,
            out_bytes: p.bytes_out,
            out_records: p.records_out,
        });
        at_ms -= i64::from(p.ms);
    }
    points.reverse();
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::throughput::Point;

    #[test]
    fn a_point_stands_at_the_end_of_its_step() {
        let point = |ms, bytes_in| Point { ms, bytes_in, ..Point::default() };
        let series = Series { end_ms: 100_000, points: vec![point(5000, 1), point(7000, 2), point(5000, 3)] };
        let at: Vec<_> = points(&series).iter().map(|p| (p.at_ms, p.in_bytes)).collect();
        assert_eq!(at, [(88_000, 1), (95_000, 2), (100_000, 3)]);
    }
}

//! DescribeLogDirs (35): the data directory, how large its partitions are, and what room is left.
//!
//! Served: v1–5. v2+ have tagged fields, v3+ an error of their own, v4+ total and usable bytes of the file system, v5 whether a directory is cordoned (never). There is one directory and nothing moves between
//! directories: no lag, no future replicas. A partition is in it as soon as the metadata knows it, with or without files.

use super::{Outcome, Request, errors::ResponseError, reply, topics};
use crate::{
    broker::Broker,
    partition::Partition,
    wire::newer::{self, As, DescribeLogDirsRequest},
};
use kafka_protocol::{
    messages::{
        DescribeLogDirsResponse,
        describe_log_dirs_request::DescribableLogDirTopic,
        describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic},
    },
    protocol::StrBytes,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) async fn handle(request: Request<'_>, As(message): DescribeLogDirsRequest) -> Outcome {
    let (broker, header) = (request.broker.clone(), request.header);
    Outcome::Later(Box::pin(async move {
        let path = broker.directory.path();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let name = StrBytes::from_string(path.display().to_string());
        let mut result = DescribeLogDirsResult::default().with_log_dir(name);
        match space(&broker).await {
            Some((total, usable)) => {
                result.topics = sizes(&broker, message.topics.as_deref());
                if header.api_version >= 4 {
                    result.total_bytes = total;
                    result.usable_bytes = usable;
                }
            }
            None => result.error_code = ResponseError::KafkaStorageError.code(),
        }
        let response = DescribeLogDirsResponse::default().with_results(vec![result]);
        match header.api_version {
            5.. => reply::body(&header, &newer::describe_log_dirs_5(&response)),
            _ => reply::message(&header, &response),
        }
    }))
}

/// Total and usable bytes; `None` when the directory has failed.
async fn space(broker: &Arc<Broker>) -> Option<(i64, i64)> {
    if broker.directory.failure().is_some() {
        return None;
    }
    let (disk, path) = (broker.directory.disk().clone(), broker.directory.path().to_path_buf());
    match broker.env.blocking(move || disk.space(&path)).await {
        Ok((total, usable)) => Some((total.try_into().unwrap_or(i64::MAX), usable.try_into().unwrap_or(i64::MAX))),
        Err(e) => {
            tracing::warn!(error = %e, "the data directory could not be asked for its space");
            None
        }
    }
}

/// The partitions asked for (`None` = all) that live here, each once.
fn sizes(broker: &Broker, asked: Option<&[DescribableLogDirTopic]>) -> Vec<DescribeLogDirsTopic> {
    let table = broker.partitions.snapshot();
    let topic = |name: &str, partitions: Vec<DescribeLogDirsPartition>| {
        DescribeLogDirsTopic::default().with_name(topics::topic_name(name)).with_partitions(partitions)
    };
    let Some(asked) = asked else {
        return table.topics().map(|t| topic(&t.state.name, t.partitions.iter().map(size).collect())).collect();
    };
    let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for t in asked {
        wanted.entry(t.topic.as_str()).or_default().extend(&t.partitions);
    }
    let found = wanted.into_iter().filter_map(|(name, partitions)| {
        let entry = table.by_name(name)?;
        let found: Vec<_> = partitions.into_iter().filter_map(|p| entry.partition(p)).map(size).collect();
        (!found.is_empty()).then(|| topic(name, found))
    });
    found.collect()
}

fn size(partition: &Arc<Partition>) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition::default()
        .with_partition_index(partition.index())
        .with_partition_size(partition.size_bytes().try_into().unwrap_or(i64::MAX))
        .with_offset_lag(0)
        .with_is_future_key(false)
}

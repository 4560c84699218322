//! Metric names and handles. Every metric is declared here; handles are made once, from the node's own recorder.

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::{Arc, atomic::AtomicU64};

/// A node's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// Connections now open.
    pub connections: Gauge,
    /// The same, for whoever wants to read it.
    pub connections_open: Arc<AtomicU64>,
    /// Connections accepted.
    pub connections_opened: Counter,
    /// Connections closed for a broken bound or an unreadable frame.
    pub connections_refused: Counter,
    /// Requests taken.
    pub requests: Counter,
    /// Bytes received in requests.
    pub request_bytes: Counter,
    /// Bytes sent in replies.
    pub reply_bytes: Counter,
    /// Flush rounds done.
    pub flush_rounds: Counter,
    /// Flush rounds that failed.
    pub flush_failures: Counter,
    /// Bytes appended by producers.
    pub appended_bytes: Counter,
    /// Record batches appended by producers.
    pub appended_batches: Counter,
    /// Partitions taken offline by an error.
    pub partitions_offline: Gauge,
    /// Coordinator shards ended by a panic.
    pub coordinator_panics: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// A fresh recorder with all handles made.
    pub fn new() -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let counter = |name: &'static str| recorder.register_counter(&Key::from_name(name), &META);
        let gauge = |name: &'static str| recorder.register_gauge(&Key::from_name(name), &META);
        Metrics {
            connections: gauge("millstream_connections"),
            connections_open: Arc::default(),
            connections_opened: counter("millstream_connections_opened_total"),
            connections_refused: counter("millstream_connections_refused_total"),
            requests: counter("millstream_requests_total"),
            request_bytes: counter("millstream_request_bytes_total"),
            reply_bytes: counter("millstream_reply_bytes_total"),
            flush_rounds: counter("millstream_flush_rounds_total"),
            flush_failures: counter("millstream_flush_failures_total"),
            appended_bytes: counter("millstream_appended_bytes_total"),
            appended_batches: counter("millstream_appended_batches_total"),
            partitions_offline: gauge("millstream_partitions_offline"),
            coordinator_panics: counter("millstream_coordinator_panics_total"),
            recorder: Arc::new(recorder),
            handle,
        }
    }

    /// Counts a connection closed for an unsupported API version: `millstream_unsupported_version_total{api_key,version}`. Keys and versions are
    /// clamped to what could exist, so that labels stay bounded.
    pub fn unsupported_version(&self, api_key: i16, version: i16) {
        let labels = vec![
            Label::new("api_key", if (0..=127).contains(&api_key) { api_key.to_string() } else { "other".into() }),
            Label::new("version", if (0..=31).contains(&version) { version.to_string() } else { "other".into() }),
        ];
        self.recorder
            .register_counter(&Key::from_parts("millstream_unsupported_version_total", labels), &META)
            .increment(1);
    }

    /// The Prometheus text page.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Housekeeping of the recorder; call every 5 s.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

static META: Metadata<'static> = Metadata::new("millstream", Level::INFO, None);

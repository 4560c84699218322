//! Which partitions live here, and questions that span them.
//!
//! Belongs here: the partition table, its reconciler, fetch sessions, producer ids, which group coordinators run here (`groups.rs`), the topic they write to
//! (`offsets_topic.rs`), when offsets expire (`expiry.rs`), how far groups are behind (`lag.rs`); checking and proposing what Kafka's protocol and the HTTP API both change (`topics.rs`, `configs.rs`, `trimming.rs`; refusals
//! in `changes.rs`). Must not: parse or build protocol messages, know the rules of groups (`coordinator`).
//!
//! State: the table is swapped by the reconciler alone; a session has a mutex of its own; the coordinators are a map under one mutex, never held while awaiting;
//! settings are swapped when the image changes them.

mod at_risk;
pub mod browse;
pub mod changes;
pub mod configs;
mod expiry;
pub mod groups;
pub mod lag;
pub mod latency;
mod offsets_topic;
pub mod opening;
pub mod partitions;
mod producer_ids;
pub mod publish;
pub mod readers;
pub mod reconciler;
pub mod sessions;
pub mod throughput;
pub mod topics;
pub mod trimming;

pub use at_risk::AtRisk;

use crate::{
    Config, Env,
    config::{BrokerSettings, Dynamic, TopicSettings},
    limits::{DISK_FULL_PAUSE_MS, METADATA_BALLAST_BYTES, OPENING_BYTES_MAX, PUBLISHES_MAX, UNPACKING_MAX},
    metadata::{ConfigResource, Image, Quorum},
    metrics::Metrics,
    partition::{Partition, Shared, cleaner::Sweep, flusher::Flusher, traffic::Active, vital::Vital},
};
use arc_swap::ArcSwap;
use millstream_storage::{Directory, PartitionId, disk::Open};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use uuid::Uuid;

/// How often the catalogue is written while anything changes, ms.
const CATALOGUE_MS: u64 = 60_000;
/// Logs opened, cleaned or closed at once.
const PARALLEL: usize = 8;

/// One broker: everything the request handlers need. Shared as `Arc<Broker>`.
#[derive(Debug)]
pub struct Broker {
    pub env: Env,
    config: ArcSwap<Config>,
    /// Wakes the reconciler when `config` was swapped.
    reloaded: Notify,
    pub metrics: Metrics,
    pub quorum: Quorum,
    pub directory: Directory,
    pub partitions: partitions::Partitions,
    pub sessions: sessions::Sessions,
    /// Group coordinators that live here.
    pub groups: groups::GroupShards,
    expiry: expiry::Expiry,
    /// Histograms.
    pub latency: Arc<latency::Latency>,
    /// What goes in and out.
    pub throughput: throughput::Throughput,
    /// How far they are behind.
    pub lag: lag::Lag,
    /// Which group's member a fetch is from.
    pub readers: readers::Readers,
    /// Bytes of requests that may wait for logs to be opened.
    pub opening_bytes: Semaphore,
    /// Batches that may be unpacked at once.
    pub unpacking: Semaphore,
    /// Bodies of records to be published that may be received at once.
    pub publishing: Semaphore,
    /// What looks at records share.
    browse: browse::Browse,
    vital: Vital,
    shared: Arc<Shared>,
    producer_ids: producer_ids::ProducerIds,
    settings: ArcSwap<BrokerSettings>,
    /// Settings of a topic without overrides.
    topic_defaults: ArcSwap<TopicSettings>,
    /// Set when the node begins to stop: long polls answer at once.
    draining: watch::Sender<bool>,
    stopping: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Broker {
    /// Starts the broker over an open directory and quorum: partition table, reconciler, flusher, cleaner. Returns once every partition of the image is known here
    /// (those that need it recover behind).
    pub async fn start(
        env: Env,
        config: Config,
        metrics: Metrics,
        directory: Directory,
        quorum: Quorum,
    ) -> Result<Arc<Broker>, String> {
        let image = quorum.image();
        let dynamic = dynamic_of(&image, config.node_id);
        let settings = config.broker(&dynamic);
        let vital = Vital::new(&env, &directory);
        let shared = Arc::new(Shared {
            env: env.clone(),
            directory: directory.clone(),
            metrics: metrics.clone(),
            node_id: config.node_id,
            flusher: Flusher::start(&vital, &metrics),
            catalogue_stale: AtomicBool::new(true),
            disk_full: Notify::new(),
            room_wanted_bytes: AtomicU64::new(0),
            sweep: Sweep::default(),
            deleting: watch::Sender::default(),
            open_logs: AtomicUsize::new(0),
            // A log in use has its active segment open and, while old records are read, one more.
            open_logs_max: (directory.open_segments_max() / 2).max(1),
            crowded: Notify::new(),
            figures: settings.figures,
            active: Active::default(),
        });
        let broker = Arc::new(Broker {
            partitions: partitions::Partitions::default(),
            sessions: sessions::Sessions::new(settings.fetch_session_slots),
            expiry: expiry::Expiry::default(),
            latency: Arc::new(latency::Latency::new(settings.figures, settings.histograms_max)),
            throughput: throughput::Throughput::default(),
            lag: lag::Lag::new(),
            readers: readers::Readers::default(),
            groups: groups::GroupShards::new(&settings.groups),
            opening_bytes: Semaphore::new(OPENING_BYTES_MAX),
            unpacking: Semaphore::new(UNPACKING_MAX),
            publishing: Semaphore::new(PUBLISHES_MAX),
            browse: browse::Browse::new(env.http_tails_max()),
            producer_ids: producer_ids::ProducerIds::default(),
            topic_defaults: ArcSwap::from_pointee(config.topic(&BTreeMap::new(), &dynamic)),
            settings: ArcSwap::from_pointee(settings),
            draining: watch::Sender::new(false),
            stopping: AtomicBool::new(false),
            tasks: Mutex::default(),
            env,
            config: ArcSwap::from_pointee(config),
            reloaded: Notify::new(),
            metrics,
            quorum,
            directory,
            vital,
            shared,
        });
        broker.reconcile(&Image::default(), &image);
        let reconciler = reconciler::follow(broker.clone(), image, broker.quorum.watch());
        broker.keep(broker.vital.spawn("reconciler", reconciler));
        broker.spawn("quorum watch", broker.clone().watch_quorum());
        broker.spawn("quarantine", broker.clone().quarantine(broker.quorum.image()));
        broker.spawn("recovery", broker.clone().recover());
        broker.spawn("cleaner", broker.clone().clean());
        broker.spawn("offset expiry", broker.clone().expire_offsets());
        broker.spawn("lag sampler", broker.clone().sample_lag());
        broker.spawn("catalogue", broker.clone().write_catalogue());
        broker.spawn("sweeper", broker.clone().sweep());
        broker.spawn("cooler", broker.clone().cool());
        if broker.shared.figures {
            broker.spawn("sampler", broker.clone().sample());
        }
        broker.spawn("group coordinators", broker.clone().start_groups());
        // What a stop left behind.
        broker.shared.sweep.after(0);
        Ok(broker)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.keep(self.env.spawn(name, task));
    }

    /// A task that ends with the broker.
    fn keep(&self, task: JoinHandle<()>) {
        self.tasks.lock().unwrap_or_else(|p| p.into_inner()).push(task);
    }

    /// Waits until something that the broker cannot live without has died (a panic in the flusher, the reconciler or the quorum); says why. No writes are
    /// taken from then on: the process should end.
    pub async fn died(&self) -> Arc<str> {
        self.vital.died().await
    }

    /// A panic within raft ends the broker too.
    async fn watch_quorum(self: Arc<Self>) {
        let reason = self.quorum.died().await;
        self.vital.fail(&reason);
    }

    /// Dynamic settings now in the image.
    pub fn dynamic(&self) -> Dynamic {
        dynamic_of(&self.quorum.image(), self.config().node_id)
    }

    /// What the node was started with, and what a reload changed since.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Takes over the settings of `new` that act at run time (SIGHUP); topics and limits follow at once. Names of those given anew that want a restart are returned.
    pub fn reload(&self, new: &Config) -> Vec<String> {
        let (config, restart) = self.config().reloaded(new);
        self.config.store(Arc::new(config));
        self.reloaded.notify_one();
        restart
    }

    /// Broker settings now in force (cached; swapped when the image changes).
    pub fn settings(&self) -> Arc<BrokerSettings> {
        self.settings.load_full()
    }

    fn refresh_settings(&self, image: &Image) {
        let dynamic = dynamic_of(image, self.config().node_id);
        let settings = self.config().broker(&dynamic);
        self.groups.set_settings(&settings.groups);
        self.settings.store(Arc::new(settings));
        self.topic_defaults.store(Arc::new(self.config().topic(&BTreeMap::new(), &dynamic)));
    }

    /// Directories of partitions that the metadata does not know are set aside, never deleted. Reads a file of each partition: behind the ready line.
    async fn quarantine(self: Arc<Self>, started: Arc<Image>) {
        let (broker, directory) = (self.clone(), self.directory.clone());
        let known = move |id: PartitionId| {
            let topic = Uuid::from_bytes(id.topic_id);
            let knows = |image: &Image| {
                let partitions = image.topic_by_id(topic).map_or(0, |t| t.partitions.len());
                usize::try_from(id.partition).is_ok_and(|p| p < partitions)
            };
            // What was created since is in the image before it has a directory; what was deleted since is deleted by another task.
            topic == METADATA_TOPIC_ID || knows(&started) || knows(&broker.quorum.image())
        };
        match self.env.blocking(move || directory.quarantine_unknown(&known)).await {
            Ok(moved) => {
                for name in moved {
                    tracing::error!(directory = name, "the metadata knows no such partition: moved to quarantine/");
                }
            }
            Err(e) => tracing::error!(error = %e, "directories were not compared with the metadata"),
        }
    }

    /// Opens what was open at an unclean stop, several at once.
    async fn recover(self: Arc<Self>) {
        let ids = self.directory.to_recover();
        let table = self.partitions.snapshot();
        let known = |id: &PartitionId| {
            table.by_id(Uuid::from_bytes(id.topic_id)).and_then(|t| t.partition(id.partition)).cloned()
        };
        let partitions: Vec<_> = ids.iter().filter_map(known).collect();
        let count = partitions.len();
        in_parallel(&self.env, partitions, |p| async move {
            if let Err(e) = p.open().await {
                tracing::error!(topic = %p.topic().name, partition = p.index(), error = %e, "not recovered");
            }
        })
        .await;
        if count > 0 {
            tracing::info!(partitions = count, "recovered");
        }
    }

    /// Retention and expiry of producers, each log.retention.check.interval.ms; on a full disk at once (though no more than once in
    /// [`DISK_FULL_PAUSE_MS`]), and then what was deleted goes without its delay.
    async fn clean(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(DISK_FULL_PAUSE_MS)).await;
            let period_ms = self.settings().retention_check_interval_ms.saturating_sub(DISK_FULL_PAUSE_MS).max(1);
            let full = tokio::time::timeout(Duration::from_millis(period_ms), self.shared.disk_full.notified()).await;
            let full = full.is_ok();
            let expiration_ms = self.settings().producer_id_expiration_ms;
            let now_ms = self.env.now_ms();
            let table = self.partitions.snapshot();
            let due: Vec<_> = table.partitions().filter(|p| p.wants_cleaning(now_ms)).cloned().collect();
            in_parallel(&self.env, due, move |p| async move {
                if let Err(e) = p.clean(expiration_ms).await {
                    tracing::warn!(topic = %p.topic().name, partition = p.index(), error = %e, "not cleaned");
                }
            })
            .await;
            if full {
                self.unlink(i64::MAX).await;
            }
        }
    }

    /// Why the disk has no room for what it refused last, if so. Asks the disk only after it has refused something, so that it costs nothing while there is room;
    /// and asks by allocating, since what a file system calls free leaves quotas out.
    pub async fn disk_full(&self) -> Option<String> {
        let wanted = self.shared.room_wanted_bytes.load(Ordering::Acquire);
        let metadata = if self.quorum.is_full() { METADATA_BALLAST_BYTES } else { 0 };
        let bytes = wanted.max(metadata);
        if bytes == 0 {
            return None;
        }
        let (disk, path) = (self.directory.disk().clone(), self.directory.path().join(ROOM_FILE));
        // Unlinked before it is filled: a crash leaves nothing behind that takes room.
        let allocate = move || {
            let file = disk.open(&path, Open::Create)?;
            disk.remove_file(&path)?;
            file.allocate(bytes)
        };
        match self.env.blocking(allocate).await {
            Ok(()) => {
                // Unless another batch was refused meanwhile.
                let _ = self.shared.room_wanted_bytes.compare_exchange(wanted, 0, Ordering::AcqRel, Ordering::Relaxed);
                None
            }
            Err(e) => Some(format!(
                "the disk is full: no room for {bytes} bytes in {} ({e})",
                self.directory.path().display()
            )),
        }
    }

    /// Unlinks deleted files as their delay passes.
    async fn sweep(self: Arc<Self>) {
        loop {
            self.shared.sweep.next().await;
            self.unlink(self.env.now_ms()).await;
        }
    }

    /// Unlinks what was deleted and whose delay has passed at `passed_ms`.
    async fn unlink(&self, passed_ms: i64) {
        let table = self.partitions.snapshot();
        let open: Vec<_> = table.partitions().filter(|p| p.is_open()).cloned().collect();
        let directory = self.directory.clone();
        let remove = move || {
            open.iter().for_each(|p| p.remove_deleted(passed_ms));
            directory.remove_deleted(passed_ms);
        };
        self.env.blocking(remove).await;
    }

    /// Closes the logs unused for longest when more are open than the machine allows files and maps for.
    async fn cool(self: Arc<Self>) {
        loop {
            self.shared.crowded.notified().await;
            let max = self.shared.open_logs_max;
            let open = self.shared.open_logs.load(Ordering::Relaxed);
            if open <= max {
                continue;
            }
            let table = self.partitions.snapshot();
            let mut idle: Vec<_> = table.partitions().filter_map(|p| Some((p.idle_since_ms()?, p))).collect();
            idle.sort_by_key(|(since_ms, _)| *since_ms);
            // Some at once, so that the look at all partitions is not made for each.
            let count = open - max + max / 16;
            let victims = idle.into_iter().take(count).map(|(_, p)| p.clone()).collect();
            in_parallel(&self.env, victims, |p: Arc<Partition>| async move { p.cool().await }).await;
        }
    }

    /// Writes the catalogue each minute in which anything changed.
    async fn write_catalogue(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(CATALOGUE_MS)).await;
            if !self.shared.catalogue_stale.swap(false, Ordering::AcqRel) {
                continue;
            }
            let (directory, now_ms) = (self.directory.clone(), self.env.now_ms());
            let written = self.env.blocking(move || directory.write_catalogue(now_ms));
            if let Err(e) = written.await {
                self.shared.catalogue_stale.store(true, Ordering::Release);
                tracing::error!(error = %e, "the catalogue was not written");
            }
        }
    }

    /// Tells long polls and waiting members to be answered with what there is: the node is about to stop.
    pub fn begin_stop(&self) {
        self.groups.begin_stop();
        self.draining.send_replace(true);
    }

    /// Returns once the node begins to stop.
    pub async fn draining(&self) {
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Stops: no more appends, everything flushed, logs and directory closed cleanly. The metadata log is closed too.
    pub async fn stop(&self) {
        if self.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(|p| p.into_inner()));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.groups.stop().await;
        let _ = self.shared.deleting.subscribe().wait_for(BTreeMap::is_empty).await;
        let partitions = self.partitions.snapshot().partitions().cloned().collect();
        in_parallel(&self.env, partitions, |p: Arc<Partition>| async move { p.stop().await }).await;
        self.quorum.stop().await;
        let (directory, now_ms) = (self.directory.clone(), self.env.now_ms());
        if let Err(e) = self.env.blocking(move || directory.close(now_ms)).await {
            tracing::error!(error = %e, "the data directory was not closed cleanly");
        }
    }
}

/// Made and unlinked at once to ask whether the disk has room.
const ROOM_FILE: &str = "room.tmp";

/// Kafka's id of `__cluster_metadata`.
const METADATA_TOPIC_ID: Uuid = Uuid::from_u128(1);

fn dynamic_of(image: &Image, node_id: i32) -> Dynamic {
    let of = |r: &ConfigResource| image.config(r).map(|c| (**c).clone()).unwrap_or_default();
    Dynamic { default: of(&ConfigResource::BrokerDefault), broker: of(&ConfigResource::Broker(node_id)) }
}

/// Runs `work` over all of `partitions`, [`PARALLEL`] at a time.
async fn in_parallel<F, W>(env: &Env, partitions: Vec<Arc<Partition>>, work: W)
where
    F: Future<Output = ()> + Send,
    W: Fn(Arc<Partition>) -> F + Clone + Send + 'static,
{
    so_many_at_once(env, PARALLEL, partitions, work).await;
}

/// Runs `work` over all of `partitions`, `count` at a time.
async fn so_many_at_once<F, W>(env: &Env, count: usize, partitions: Vec<Arc<Partition>>, work: W)
where
    F: Future<Output = ()> + Send,
    W: Fn(Arc<Partition>) -> F + Clone + Send + 'static,
{
    let left = Arc::new(Mutex::new(partitions.into_iter()));
    let workers = (0..count).map(|_| {
        let (left, work) = (left.clone(), work.clone());
        env.spawn("partition worker", async move {
            loop {
                let next = left.lock().unwrap_or_else(|p| p.into_inner()).next();
                match next {
                    Some(partition) => work(partition).await,
                    None => return,
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        let _ = worker.await;
    }
}

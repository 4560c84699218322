//! openraft on a storage log: the only folder that names it.
//!
//! Belongs here: the types openraft runs on, the log ([`log`], entries in [`entry`]), the state machine that owns the image and its
//! snapshots ([`machine`]), the network to the other nodes ([`network`]). Must not: decide what a command does (`apply` does).
//!
//! Files beside the log `__cluster_metadata-0`, in the root of the data directory: `metadata.vote` (the vote), `metadata.snapshot` (an image
//! and the log id it stands for), `metadata.purged` (the last log id that only a snapshot covers), `metadata.ballast` (room on a full disk).

mod entry;
mod log;
mod machine;
mod network;

use self::{
    log::MetadataLog,
    machine::{Snapshots, StateMachine},
};
use super::{Command, Image, Outcome};
use crate::{Env, limits};
use millstream_storage::Directory;
use openraft::{
    BasicNode, Config, Raft, ServerState, SnapshotPolicy,
    error::{ClientWriteError, Fatal, RaftError},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::Cursor,
    sync::{Arc, OnceLock},
};
use tokio::sync::watch;

openraft::declare_raft_types!(
    /// The types openraft runs on.
    pub(in crate::metadata) Types:
        D = Proposal,
        R = Answers,
        NodeId = i32,
        Node = BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
);

type LogId = openraft::LogId<i32>;
type Vote = openraft::Vote<i32>;
type Membership = openraft::Membership<i32, BasicNode>;
type StoredMembership = openraft::StoredMembership<i32, BasicNode>;
type SnapshotMeta = openraft::SnapshotMeta<i32, BasicNode>;
type StorageError = openraft::StorageError<i32>;
type StorageIoError = openraft::StorageIOError<i32>;
type Entry = openraft::Entry<Types>;

/// What one raft entry carries: commands that were proposed at about the same time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::metadata) struct Proposal(pub Arc<[Command]>);

/// The outcomes of each command of a [`Proposal`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::metadata) struct Answers(pub Vec<Vec<Outcome>>);

/// Why an entry has no answer.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Another node leads, or nobody.
    NotLeader,
    /// Raft has stopped: why. Whether the entry survives is not known.
    Stopped(String),
}

/// The first reason why the metadata log takes no more writes. Final until restart.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<OnceLock<String>>);

impl Failure {
    fn set(&self, reason: &str) {
        if self.0.set(reason.to_string()).is_ok() {
            tracing::error!(reason, "the metadata log takes no more writes");
        }
    }
    fn get(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// One node's running raft.
pub(super) struct Consensus {
    raft: Raft<Types>,
    log: MetadataLog,
    failure: Failure,
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus").field("failure", &self.failure.0.get()).finish_non_exhaustive()
    }
}

impl Consensus {
    /// Opens log, vote and snapshot, forms a quorum of this node where there is none yet, and returns once it leads. Images go to `image`.
    pub(super) async fn start(
        env: &Env,
        directory: &Directory,
        node_id: i32,
        image: watch::Sender<Arc<Image>>,
    ) -> Result<Consensus, String> {
        let failure = Failure::default();
        let opened = {
            let (env_, directory, failure) = (env.clone(), directory.clone(), failure.clone());
            env.blocking(move || {
                let snapshots = Snapshots::open(&env_, &directory)?;
                let log = MetadataLog::open(env_, directory, snapshots.clone(), failure)?;
                Ok::<_, String>((log, snapshots))
            })
        };
        let (log, snapshots) = opened.await?;
        let machine = StateMachine::new(image, snapshots, log.clone());
        let raft = Raft::new(node_id, Arc::new(config()), network::Network, log.clone(), machine)
            .await
            .map_err(|e| format!("the metadata log cannot be replayed: {e}"))?;
        let consensus = Consensus { raft, log, failure };
        if let Err(why) = consensus.lead(node_id).await {
            consensus.stop(env).await;
            return Err(why);
        }
        Ok(consensus)
    }

    /// Becomes leader of a quorum of one.
    async fn lead(&self, node_id: i32) -> Result<(), String> {
        let raft = &self.raft;
        let failed = |e: &dyn std::fmt::Display| match self.failure.get() {
            Some(reason) => format!("the metadata log takes no writes: {reason}"),
            None => format!("the metadata quorum does not start: {e}"),
        };
        let members = BTreeMap::from([(node_id, BasicNode::default())]);
        if raft.is_initialized().await.map_err(|e| failed(&e))? {
            let effective =
                |s: &openraft::RaftState<i32, BasicNode, _>| s.membership_state.effective().voter_ids().collect();
            let voters: Vec<i32> = raft.with_raft_state(effective).await.map_err(|e| failed(&e))?;
            if voters != [node_id] {
                return Err(format!(
                    "the metadata log is of a cluster with the nodes {voters:?}; this release runs a cluster of one node, here node {node_id}"
                ));
            }
            self.log.set_alone();
            // Of no effect where the last stop left this node leader: its vote says so, and it leads at once.
            raft.trigger().elect().await.map_err(|e| failed(&e))?;
        } else {
            self.log.set_alone();
            raft.initialize(members).await.map_err(|e| failed(&e))?;
        }
        let mut metrics = raft.metrics();
        loop {
            {
                let now = metrics.borrow_and_update();
                now.running_state.as_ref().map_err(|e| failed(e))?;
                if now.state == ServerState::Leader {
                    return Ok(());
                }
            }
            metrics.changed().await.map_err(|e| failed(&e))?;
        }
    }

    /// Writes one entry; its answers once it is durable and applied here.
    pub(super) async fn write(&self, commands: Arc<[Command]>) -> Result<Vec<Vec<Outcome>>, WriteError> {
        match self.raft.client_write(Proposal(commands)).await {
            Ok(response) => Ok(response.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(WriteError::NotLeader),
            Err(e) => {
                if !matches!(e, RaftError::Fatal(Fatal::Stopped)) {
                    self.failure.set(&e.to_string());
                }
                Err(WriteError::Stopped(self.failure.get().unwrap_or_else(|| e.to_string())))
            }
        }
    }

    /// Why the metadata log takes no more writes, if so.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get()
    }

    /// Waits until raft has ended by a panic; says so in one sentence. Any other end says nothing: a failed log has made the node read-only.
    pub(super) async fn died(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            let state = metrics.borrow_and_update().running_state.clone();
            match state {
                Ok(()) if metrics.changed().await.is_ok() => {}
                // Its core went away without a last word, or with this one.
                Ok(()) | Err(Fatal::Panicked) => return "the metadata quorum panicked".to_string(),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Makes durable what the start left to be, and keeps a little room on the disk for commands that make more. To be called once, soon after
    /// the start, when it delays nobody.
    pub(super) async fn settle(&self) {
        self.log.settle().await;
        let _ = self.log.keep_ballast().await;
    }

    /// Whether the disk was full and the ballast has not come back since. No I/O.
    pub(super) fn is_full(&self) -> bool {
        self.log.is_full()
    }

    /// Why the disk has no room for commands other than those that make some, if so.
    pub(super) async fn full(&self) -> Option<String> {
        if self.log.is_full() { self.log.keep_ballast().await.err() } else { None }
    }

    /// Has a snapshot made, by and by: large entries should not wait for their number.
    pub(super) async fn snapshot(&self) {
        // Raft that has stopped says so to the next write.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// Stops raft and closes the log cleanly.
    pub(super) async fn stop(&self, env: &Env) {
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!(error = %e, "raft did not stop in order");
        }
        self.log.close(env).await;
    }
}

fn config() -> Config {
    #[allow(deprecated)]
    Config {
        cluster_name: "millstream".to_string(),
        // A quorum of one has nobody to wait for: it elects itself at start, and the timers only tick.
        election_timeout_min: 15_000,
        election_timeout_max: 30_000,
        heartbeat_interval: 5_000,
        install_snapshot_timeout: 10_000,
        send_snapshot_timeout: 0,
        max_payload_entries: 300,
        replication_lag_threshold: 5_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits::METADATA_SNAPSHOT_ENTRIES),
        snapshot_max_chunk_size: 3 << 20,
        max_in_snapshot_log_to_keep: 100,
        purge_batch_size: 1,
        enable_tick: true,
        enable_heartbeat: true,
        enable_elect: true,
    }
}

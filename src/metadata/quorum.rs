//! Proposing commands and watching the image.
//!
//! Proposals go to one task by a bounded mailbox; it makes one raft entry of all that wait (up to a size), so that proposals made at the
//! same time share one flush.

use super::{
    Command, FEATURE_LEVEL, Image, Outcome, Refusal,
    raft::{Consensus, WriteError},
};
use crate::{Env, limits};
use millstream_storage::Directory;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

/// What a quorum is started with.
#[derive(Debug, Clone)]
pub struct QuorumOptions {
    pub node_id: i32,
    /// Cluster id for a new cluster; an existing one keeps its own.
    pub cluster_id: String,
    pub directory_id: Uuid,
    pub advertised: Option<(String, u16)>,
    pub rack: Option<String>,
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("no leader of the metadata quorum is known")]
    NoLeader,
    /// The log failed (final until restart; whether this change survives shows then), or the disk is full (this change was not made; deletions
    /// and settings are still taken).
    #[error("the metadata log is read-only: {0}")]
    ReadOnly(String),
    #[error("the node is stopping")]
    Stopping,
    /// The command was not made.
    #[error("a command of about {bytes} bytes is larger than {max}, the most that one entry takes")]
    TooLarge { bytes: usize, max: usize },
}

/// This node's seat in the metadata quorum. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Quorum(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    directory: Directory,
    image: watch::Receiver<Arc<Image>>,
    mailbox: mpsc::Sender<Proposed>,
    consensus: Arc<Consensus>,
    stopping: Arc<AtomicBool>,
    /// The proposer; taken by the first to stop.
    proposer: Mutex<Option<JoinHandle<()>>>,
    /// Tells the proposer to stop by going away.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

/// A command and who waits for its outcomes.
type Proposed = (Command, oneshot::Sender<Result<Vec<Outcome>, ProposeError>>);

impl Quorum {
    /// Opens the metadata log in `directory` (`__cluster_metadata-0`), replays it, becomes leader (a quorum of one), initialises a new cluster and registers this
    /// broker. Returns once a proposal would succeed; or, where this broker was registered before and the disk takes no more, read-only
    /// (see [`Quorum::failure`]).
    pub async fn start(env: Env, directory: Directory, options: QuorumOptions) -> Result<Quorum, String> {
        let (publish, image) = watch::channel(Arc::new(Image::default()));
        let consensus = Arc::new(Consensus::start(&env, &directory, options.node_id, publish).await?);
        if let Err(why) = enter(&consensus, &options, directory.was_clean()).await {
            let known =
                image.borrow().brokers.get(&options.node_id).is_some_and(|b| b.directory_id == options.directory_id);
            if !known || consensus.failure().is_none() {
                consensus.stop(&env).await;
                return Err(why);
            }
            tracing::error!(reason = why, "the node starts read-only");
        }
        let (mailbox, proposals) = mpsc::channel(limits::METADATA_PROPOSALS_MAX);
        let (stop, stopped) = oneshot::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let proposer = env.spawn("metadata proposer", propose_all(consensus.clone(), proposals, stopped));
        Ok(Quorum(Arc::new(Inner {
            env,
            directory,
            image,
            mailbox,
            consensus,
            stopping,
            proposer: Mutex::new(Some(proposer)),
            stop: Mutex::new(Some(stop)),
        })))
    }

    /// The image now.
    pub fn image(&self) -> Arc<Image> {
        self.0.image.borrow().clone()
    }

    /// Follows the image.
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.0.image.clone()
    }

    /// Makes a change: durable and applied here when it returns. One outcome for each change of the command, in order.
    pub async fn propose(&self, command: Command) -> Result<Vec<Outcome>, ProposeError> {
        if self.0.stopping.load(Ordering::Acquire) {
            return Err(ProposeError::Stopping);
        }
        if let Some(reason) = self.failure() {
            return Err(ProposeError::ReadOnly(reason));
        }
        let (bytes, max) = (command.size_bytes(), limits::METADATA_ENTRY_BYTES_MAX);
        if bytes > max {
            return Err(ProposeError::TooLarge { bytes, max });
        }
        let (answer, outcome) = oneshot::channel();
        self.0.mailbox.send((command, answer)).await.map_err(|_| ProposeError::Stopping)?;
        outcome.await.unwrap_or(Err(ProposeError::Stopping))
    }

    /// Why the metadata log takes no more writes, if so.
    pub fn failure(&self) -> Option<String> {
        self.0.consensus.failure().or_else(|| self.0.directory.failure())
    }

    /// Whether the metadata log has met a full disk, and no proposal since found room again: only what makes room is taken.
    pub fn is_full(&self) -> bool {
        self.0.consensus.is_full()
    }

    /// Waits until raft has ended by a panic; says so in one sentence. An orderly stop says nothing.
    pub async fn died(&self) -> String {
        self.0.consensus.died().await
    }

    /// Stops raft; the log is closed cleanly. Proposals under way are answered `Stopping` or finish.
    pub async fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        let take = |m: &Mutex<Option<oneshot::Sender<()>>>| m.lock().unwrap_or_else(|e| e.into_inner()).take();
        drop(take(&self.0.stop));
        let proposer = self.0.proposer.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(proposer) = proposer {
            let _ = proposer.await;
        }
        self.0.consensus.stop(&self.0.env).await;
    }
}

/// Initialises a new cluster and registers this broker, in one entry.
async fn enter(consensus: &Consensus, options: &QuorumOptions, clean: bool) -> Result<(), String> {
    let commands = [
        // Changes nothing in a cluster that has an id.
        Command::InitCluster { cluster_id: options.cluster_id.clone(), feature_level: FEATURE_LEVEL },
        Command::RegisterBroker {
            node_id: options.node_id,
            directory_id: options.directory_id,
            advertised: options.advertised.clone(),
            rack: options.rack.clone(),
            feature_level_max: FEATURE_LEVEL,
            clean,
        },
    ];
    let answers = consensus.write(Arc::new(commands)).await.map_err(|e| match e {
        WriteError::NotLeader => "this node does not lead the metadata quorum".to_string(),
        WriteError::Stopped(why) => format!("the metadata log takes no writes: {why}"),
    })?;
    match answers.into_iter().flatten().find(|o| *o != Outcome::Done) {
        None => Ok(()),
        Some(Outcome::Refused(Refusal::FeatureLevel { needed, have })) => Err(format!(
            "the cluster has feature level {needed}, this release understands {have} at most: run a newer release"
        )),
        Some(other) => Err(format!("this broker cannot be registered: {other:?}")),
    }
}

/// Makes entries of the proposals that wait, one after another, until told to stop. What the start left to the disk is done in the first pause.
async fn propose_all(
    consensus: Arc<Consensus>,
    mut proposals: mpsc::Receiver<Proposed>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut next: Option<Proposed> = None;
    let mut settling = std::pin::pin!(tokio::time::sleep(Duration::from_millis(limits::METADATA_SETTLE_MS)));
    let mut settled = false;
    let mut unsnapped_bytes = 0;
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = &mut settling, if !settled => {
                    consensus.settle().await;
                    settled = true;
                    continue;
                }
                first = proposals.recv() => match first {
                    Some(first) => first,
                    None => break,
                },
            },
        };
        let mut bytes = first.0.size_bytes();
        let (mut commands, mut waiting) = (vec![first.0], vec![first.1]);
        while let Ok(more) = proposals.try_recv() {
            bytes += more.0.size_bytes();
            if bytes > limits::METADATA_ENTRY_BYTES_MAX {
                next = Some(more);
                break;
            }
            commands.push(more.0);
            waiting.push(more.1);
        }
        if let Some(why) = consensus.full().await {
            (commands, waiting) = refuse_all_but_relief(commands, waiting, &why);
            if commands.is_empty() {
                continue;
            }
        }
        let written = consensus.write(commands.into()).await;
        let answers = match written {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(WriteError::NotLeader) => vec![Err(ProposeError::NoLeader); waiting.len()],
            Err(WriteError::Stopped(why)) => vec![Err(ProposeError::ReadOnly(why)); waiting.len()],
        };
        unsnapped_bytes += bytes;
        if unsnapped_bytes > limits::METADATA_SNAPSHOT_BYTES {
            unsnapped_bytes = 0;
            consensus.snapshot().await;
        }
        // Who no longer waits has gone away.
        for (answer, to) in answers.into_iter().zip(waiting) {
            let _ = to.send(answer);
        }
    }
}

type Answer = oneshot::Sender<Result<Vec<Outcome>, ProposeError>>;

/// Keeps the commands that make room on a full disk, and refuses the others.
fn refuse_all_but_relief(commands: Vec<Command>, waiting: Vec<Answer>, why: &str) -> (Vec<Command>, Vec<Answer>) {
    let (mut kept, mut kept_waiting) = (Vec::new(), Vec::new());
    for (command, answer) in commands.into_iter().zip(waiting) {
        match command {
            Command::DeleteTopics { .. } | Command::AlterTopicConfigs { .. } | Command::AlterConfigs { .. } => {
                kept.push(command);
                kept_waiting.push(answer);
            }
            _ => {
                let _ = answer.send(Err(ProposeError::ReadOnly(why.to_string())));
            }
        }
    }
    (kept, kept_waiting)
}

#[cfg(test)]
mod tests;

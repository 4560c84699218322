//! Proposing commands and watching the image.

use super::{Command, Image, Outcome};
use crate::Env;
use millstream_storage::Directory;
use std::sync::Arc;
use tokio::sync::watch;
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
    #[error("the metadata log is read-only: {0}")]
    ReadOnly(String),
    #[error("the node is stopping")]
    Stopping,
}

/// This node's seat in the metadata quorum. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Quorum {
    #[allow(dead_code)]
    image: watch::Receiver<Arc<Image>>,
}

impl Quorum {
    /// Opens the metadata log in `directory` (`__cluster_metadata-0`), replays it, becomes leader (a quorum of one), initialises a new cluster and registers this
    /// broker. Returns once a proposal would succeed.
    pub async fn start(env: Env, directory: Directory, options: QuorumOptions) -> Result<Quorum, String> {
        todo!("{env:?} {directory:?} {options:?}")
    }
    /// The image now.
    pub fn image(&self) -> Arc<Image> {
        todo!()
    }
    /// Follows the image.
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        todo!()
    }
    /// Makes a change: durable and applied here when it returns. One outcome for each change of the command, in order.
    pub async fn propose(&self, command: Command) -> Result<Vec<Outcome>, ProposeError> {
        todo!("{command:?}")
    }
    /// Why the metadata log takes no more writes, if so.
    pub fn failure(&self) -> Option<String> {
        todo!()
    }
    /// Stops raft; the log is closed cleanly.
    pub async fn stop(&self) {
        todo!()
    }
}

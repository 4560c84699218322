//! One coordinator shard: the task that owns a machine and its partition.
//!
//! Life: load (the partition is opened and its log replayed; questions wait in the mailbox), then one turn after another: take what the mailbox holds, call the machine,
//! append what it wants stored, replay it, and let the replies go once the watermark has passed all that was appended before them. A panic in the machine ends the
//! shard: its askers are told to look the coordinator up anew, and whoever asks next starts another one, which loads.
//!
//! Until the log is compacted, a shard writes its whole state at the end of the log every 64 MiB and deletes the log below it.

use super::machine::Machine;
use crate::{Env, partition::Partition};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Why a shard did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The log cannot be read (now): ask again later.
    #[error("not available: {0}")]
    NotAvailable(Arc<str>),
    /// The shard has ended, or what it appended was lost before it was settled: look the coordinator up anew.
    #[error("not here: {0}")]
    NotHere(Arc<str>),
}

/// A way to one shard. Cheap to clone; the shard ends with the last one, or with [`Shard::stop`].
#[derive(Debug)]
pub struct Shard<M: Machine> {
    mailbox: mpsc::Sender<Question<M>>,
}

impl<M: Machine> Clone for Shard<M> {
    fn clone(&self) -> Self {
        Shard { mailbox: self.mailbox.clone() }
    }
}

#[derive(Debug)]
struct Question<M: Machine> {
    #[expect(dead_code)]
    event: M::Event,
    #[expect(dead_code)]
    answer: oneshot::Sender<Result<M::Reply, ShardError>>,
}

/// An answer under way. Dropping it gives up waiting, nothing else.
#[derive(Debug)]
pub struct Asked<R>(oneshot::Receiver<Result<R, ShardError>>);

impl<R> Asked<R> {
    /// Waits for the answer.
    pub async fn answer(self) -> Result<R, ShardError> {
        self.0.await.unwrap_or_else(|_| Err(ShardError::NotHere("the coordinator has ended".into())))
    }
}

impl<M: Machine> Shard<M> {
    /// Starts a shard over `partition` with an empty `machine`; it loads at once. `settings` are read anew for each turn.
    pub fn start(env: &Env, partition: Arc<Partition>, machine: M, settings: Arc<ArcSwap<M::Settings>>) -> Shard<M> {
        let _ = (env, partition, machine, settings);
        todo!()
    }

    /// Puts a question into the mailbox, waiting for room: questions of one asker are handled in the order asked.
    pub async fn ask(&self, event: M::Event) -> Result<Asked<M::Reply>, ShardError> {
        let (answer, asked) = oneshot::channel();
        match self.mailbox.send(Question { event, answer }).await {
            Ok(()) => Ok(Asked(asked)),
            Err(_) => Err(ShardError::NotHere("the coordinator has ended".into())),
        }
    }

    /// Whether it has ended (or will, by a panic).
    pub fn is_over(&self) -> bool {
        self.mailbox.is_closed()
    }
}

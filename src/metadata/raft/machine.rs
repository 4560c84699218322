//! The state machine: owns the image, and stores it as a snapshot now and then.
//!
//! `metadata.snapshot` is a checkpoint file (CRC-32, replaced atomically): one line of JSON that says which log id it stands for, then the image as JSON.

use super::{
    Answers, Entry, LogId, Proposal, SnapshotMeta, StorageError, StorageIoError, StoredMembership, Types,
    log::MetadataLog,
};
use crate::{
    Env,
    metadata::{Image, apply::apply},
};
use millstream_storage::{Directory, checkpoint};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, storage::RaftStateMachine};
use std::{
    io::Cursor,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::watch;

const SNAPSHOT_FILE: &str = "metadata.snapshot";

/// Owns the image; applies entries to it.
pub(super) struct StateMachine {
    image: watch::Sender<Arc<Image>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Snapshots,
    log: MetadataLog,
}

impl StateMachine {
    /// Starts from the snapshot there is.
    pub(super) fn new(image: watch::Sender<Arc<Image>>, snapshots: Snapshots, log: MetadataLog) -> StateMachine {
        let (mut applied, mut membership) = (None, StoredMembership::default());
        if let Some((meta, stored)) = snapshots.take_opened() {
            (applied, membership) = (meta.last_log_id, meta.last_membership);
            image.send_replace(stored);
        }
        StateMachine { image, applied, membership, snapshots, log }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let before = self.image.borrow().clone();
        let mut image: Option<Image> = None;
        let mut answers = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            let mut answer = Answers::default();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(m) => self.membership = StoredMembership::new(Some(entry.log_id), m),
                EntryPayload::Normal(Proposal(commands)) => {
                    for command in commands.iter() {
                        let (next, outcomes) = apply(image.as_ref().unwrap_or(&before), command, index);
                        image = Some(next);
                        answer.0.push(outcomes);
                    }
                }
            }
            self.applied = Some(entry.log_id);
            answers.push(answer);
        }
        if let Some(image) = image {
            self.image.send_replace(Arc::new(image));
        }
        if let Some(applied) = self.applied {
            self.log.applied(applied.index);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            image: self.image.borrow().clone(),
            applied: self.applied,
            membership: self.membership.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let json = snapshot.into_inner();
        let refused = |why: String| -> StorageError {
            StorageIoError::write_snapshot(Some(meta.signature()), AnyError::error(why)).into()
        };
        let image: Image = serde_json::from_slice(&json).map_err(|e| refused(e.to_string()))?;
        self.snapshots.save(meta.clone(), json).await.map_err(refused)?;
        (self.applied, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        self.image.send_replace(Arc::new(image));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let current = self.snapshots.current().await;
        let current = current.map_err(|why| StorageIoError::read_snapshot(None, AnyError::error(why)))?;
        Ok(current.map(|(meta, json)| Snapshot { meta, snapshot: Box::new(Cursor::new(json)) }))
    }
}

/// Writes one image as a snapshot.
pub(super) struct Builder {
    image: Arc<Image>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<Types> for Builder {
    /// A disk that refuses costs nothing: the snapshot stays in memory, and the log keeps its entries until one was stored.
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let image = self.image.clone();
        let json = self.snapshots.0.env.blocking(move || serde_json::to_vec(&*image)).await;
        let json = json.map_err(|e| StorageIoError::write_snapshot(None, AnyError::new(&e)))?;
        let snapshot_id = self.applied.map_or("none".to_string(), |l| format!("{}-{}", l.leader_id.term, l.index));
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id };
        if let Err(why) = self.snapshots.save(meta.clone(), json.clone()).await {
            tracing::warn!(error = why, "the metadata snapshot was not stored; the metadata log grows meanwhile");
        }
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(json)) })
    }
}

/// The stored snapshot. Clones share it.
#[derive(Clone)]
pub(super) struct Snapshots(Arc<SnapshotsInner>);

struct SnapshotsInner {
    env: Env,
    directory: Directory,
    state: Mutex<State>,
    /// Writers take turns.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What the file holds.
    stored: Option<SnapshotMeta>,
    /// What was read at start, until the state machine takes it.
    opened: Option<Arc<Image>>,
    /// A newer snapshot that the disk refused.
    unsaved: Option<(SnapshotMeta, Vec<u8>)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Snapshots {
    /// Where the file is.
    pub(super) fn path(directory: &Directory) -> PathBuf {
        directory.path().join(SNAPSHOT_FILE)
    }

    /// Reads the snapshot there is. Blocks.
    pub(super) fn open(env: &Env, directory: &Directory) -> Result<Snapshots, String> {
        let path = Snapshots::path(directory);
        let bytes =
            checkpoint::read(&**directory.disk(), &path).map_err(|e| format!("{e}; restore it from a backup"))?;
        let mut state = State::default();
        if let Some(bytes) = bytes {
            let broken = |why: String| format!("{} is not understood: {why}", path.display());
            let (meta, json) = parts(&bytes).map_err(broken)?;
            let image: Image = serde_json::from_slice(json).map_err(|e| broken(e.to_string()))?;
            state = State { stored: Some(meta), opened: Some(Arc::new(image)), unsaved: None };
        }
        let (env, directory) = (env.clone(), directory.clone());
        Ok(Snapshots(Arc::new(SnapshotsInner { env, directory, state: Mutex::new(state), writing: Mutex::default() })))
    }

    /// The log id that the stored snapshot stands for.
    pub(super) fn last_log_id(&self) -> Option<LogId> {
        locked(&self.0.state).stored.as_ref().and_then(|m| m.last_log_id)
    }

    fn take_opened(&self) -> Option<(SnapshotMeta, Arc<Image>)> {
        let mut state = locked(&self.0.state);
        Some((state.stored.clone()?, state.opened.take()?))
    }

    /// Replaces the stored snapshot; durable when it returns. Where that fails, it is kept in memory.
    async fn save(&self, meta: SnapshotMeta, json: Vec<u8>) -> Result<(), String> {
        let this = self.clone();
        let save = move || {
            let _turn = locked(&this.0.writing);
            if locked(&this.0.state).stored.as_ref().is_some_and(|s| s.last_log_id > meta.last_log_id) {
                return Ok(());
            }
            let mut bytes = serde_json::to_vec(&meta).map_err(|e| e.to_string())?;
            bytes.push(b'\n');
            bytes.extend_from_slice(&json);
            let directory = &this.0.directory;
            let written = checkpoint::write_atomic(&**directory.disk(), &Snapshots::path(directory), &bytes);
            let mut state = locked(&this.0.state);
            match written {
                Ok(()) => (state.stored, state.unsaved) = (Some(meta), None),
                Err(_) => state.unsaved = Some((meta, json)),
            }
            written.map_err(|e| e.to_string())
        };
        self.0.env.blocking(save).await
    }

    /// The newest snapshot: what it stands for, and the image as JSON.
    async fn current(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, String> {
        {
            let state = locked(&self.0.state);
            if state.unsaved.is_some() {
                return Ok(state.unsaved.clone());
            }
            if state.stored.is_none() {
                return Ok(None);
            }
        }
        let directory = self.0.directory.clone();
        let read = move || {
            let bytes =
                checkpoint::read(&**directory.disk(), &Snapshots::path(&directory)).map_err(|e| e.to_string())?;
            let bytes = bytes.ok_or("the metadata snapshot is gone")?;
            let (meta, json) = parts(&bytes)?;
            Ok(Some((meta, json.to_vec())))
        };
        self.0.env.blocking(read).await
    }
}

/// A snapshot file's two parts.
fn parts(bytes: &[u8]) -> Result<(SnapshotMeta, &[u8]), String> {
    let line = bytes.iter().position(|b| *b == b'\n').ok_or("it has one line only")?;
    let meta = serde_json::from_slice(&bytes[..line]).map_err(|e| e.to_string())?;
    Ok((meta, &bytes[line + 1..]))
}

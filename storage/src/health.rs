//! Whether a data directory still takes writes: one mark shared by a [`crate::Directory`], all its logs and the SIGBUS handler.
//!
//! A failed flush or a page that could not be read is final until the process starts anew: after a failed fsync the
//! page cache no longer says what is on disk (ATC'20, "Can Applications Recover from fsync Failures?").

use crate::{Error, Result};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// The mark. Set at most once; the first reason stays.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: AtomicBool,
    /// A page of a map could not be read: zeros were seen in its place.
    unread: Arc<AtomicBool>,
    reason: OnceLock<String>,
}

#[allow(dead_code)]
impl Health {
    /// A mark that is not set.
    pub(crate) fn new() -> Arc<Health> {
        Arc::default()
    }

    /// Marks the directory failed. A later reason is dropped: the first one is the cause.
    pub(crate) fn fail(&self, reason: String) {
        let _ = self.reason.set(reason);
        self.failed.store(true, Ordering::Release);
    }

    /// Marks the directory failed because of `e`, and gives it back. What only could not be opened for want of descriptors or memory
    /// marks nothing: nothing was synced or lost.
    pub(crate) fn fail_of(&self, e: Error) -> Error {
        if !matches!(e, Error::Exhausted { .. }) {
            self.fail(e.to_string());
        }
        e
    }

    /// The mark of unread pages by itself, for a signal handler, which can store a flag but not allocate a reason.
    pub(crate) fn mark(&self) -> &Arc<AtomicBool> {
        &self.unread
    }

    /// `DirectoryFailed` once the mark is set. Two loads when healthy.
    pub(crate) fn check(&self) -> Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(reason) => Err(Error::DirectoryFailed { reason }),
        }
    }

    /// `DirectoryFailed` once a page could not be read: what was made of bytes of a map since may be made of zeros. A failed flush
    /// is no reason: reads go on.
    pub(crate) fn check_read(&self) -> Result<()> {
        if self.unread.load(Ordering::Acquire) { self.check() } else { Ok(()) }
    }

    /// The first reason, if the mark is set.
    pub(crate) fn failure(&self) -> Option<String> {
        if !self.failed.load(Ordering::Acquire) && !self.unread.load(Ordering::Acquire) {
            return None;
        }
        let unread = "a page of a mapped file could not be read (SIGBUS): the disk failed or the file was cut";
        Some(self.reason.get().cloned().unwrap_or_else(|| unread.to_string()))
    }
}

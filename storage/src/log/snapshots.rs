//! The files beside a log that say which producers wrote what, up to an offset.

use super::{Log, SNAPSHOTS};
use crate::{Error, Result, checkpoint, disk::Open, segment};
use std::path::PathBuf;

impl Log {
    /// Stores a producer snapshot, opaque bytes in Kafka's format, as `<offset>.snapshot` (atomically, unsynced; bad ones are ignored at
    /// load) and drops all but the two newest. Nothing before the first append. Blocks.
    pub fn write_producer_snapshot(&self, offset: i64, bytes: &[u8]) -> Result<()> {
        if !self.has_dir {
            return Ok(());
        }
        self.writable()?;
        let disk = &*self.shared().disk;
        let path = segment::file_name(&self.shared().dir, offset, "snapshot");
        let tmp = path.with_extension("snapshot.new");
        let write = || {
            let file = disk.open(&tmp, Open::Create)?;
            file.set_len(0)?;
            file.write_all_at(bytes, 0)?;
            drop(file);
            disk.rename(&tmp, &path)
        };
        if let Err(e) = write() {
            let _ = disk.remove_file(&tmp);
            return Err(Error::io("write", &path, e));
        }
        for (_, path) in self.snapshot_files().into_iter().skip(SNAPSHOTS) {
            let _ = disk.remove_file(&path);
        }
        Ok(())
    }

    /// Newest producer snapshots first: (offset, bytes). Those above the log end know of records that are gone: they are removed, since they would
    /// be believed once the log is that long again. Blocks.
    pub fn producer_snapshots(&self) -> Vec<(i64, Vec<u8>)> {
        let shared = self.shared();
        let (disk, end) = (&*shared.disk, self.log_end());
        let (known, above): (Vec<_>, Vec<_>) = self.snapshot_files().into_iter().partition(|s| s.0 <= end);
        for (_, path) in &above {
            let _ = disk.remove_file(path);
        }
        if !above.is_empty() {
            let _ = disk.sync_dir(&shared.dir);
        }
        let read = |(offset, path): (i64, PathBuf)| Some((offset, checkpoint::read_plain(disk, &path).ok()??));
        known.into_iter().filter_map(read).collect()
    }

    /// Removes one (it was damaged). Blocks.
    pub fn remove_producer_snapshot(&self, offset: i64) {
        let path = segment::file_name(&self.shared().dir, offset, "snapshot");
        let _ = self.shared().disk.remove_file(&path);
    }

    /// Newest first.
    pub(super) fn snapshot_files(&self) -> Vec<(i64, PathBuf)> {
        if !self.has_dir {
            return Vec::new();
        }
        let dir = &self.shared().dir;
        let mut found: Vec<_> = self
            .shared()
            .disk
            .read_dir(dir)
            .unwrap_or_default()
            .iter()
            .filter_map(|e| segment::base_of(&e.name, "snapshot"))
            .map(|offset| (offset, segment::file_name(dir, offset, "snapshot")))
            .collect();
        found.sort_by_key(|f| std::cmp::Reverse(f.0));
        found
    }
}

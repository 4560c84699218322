//! A disk whose syncs of partition logs answer `Ok` without syncing: what a broker without its flush would be. The checks must notice.

use millstream_storage::{
    Disk, DiskFile,
    disk::{Entry, Open},
    sim::SimDisk,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct LyingDisk(pub SimDisk);

impl Disk for LyingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.open(path, how)?;
        let of_a_topic = path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("t-"));
        if of_a_topic && path.extension().is_some_and(|e| e == "log") {
            return Ok(Arc::new(LyingFile(file)));
        }
        Ok(file)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.0.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::any::Any + Send + Sync>> {
        self.0.lock(path)
    }
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.0.space(path)
    }
    fn deterministic(&self) -> bool {
        self.0.deterministic()
    }
}

#[derive(Debug)]
struct LyingFile(Arc<dyn DiskFile>);

impl DiskFile for LyingFile {
    fn path(&self) -> PathBuf {
        self.0.path()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_range(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
    fn map(&self, len: usize, writable: bool) -> io::Result<memmap2::MmapRaw> {
        self.0.map(len, writable)
    }
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

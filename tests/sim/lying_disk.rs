//! A disk whose syncs of partition logs do something else: answer `Ok` without syncing (what a broker without its flush would be: the checks must notice), or panic.

use millstream_storage::{
    Disk, DiskFile,
    disk::{Entry, Open},
    sim::SimDisk,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// See the module.
#[derive(Debug, Clone)]
pub struct LyingDisk {
    disk: SimDisk,
    /// When there is one: syncs are honest, but panic while it is set.
    panics: Option<Arc<AtomicBool>>,
}

impl LyingDisk {
    /// One that lies.
    pub fn new(disk: &SimDisk) -> LyingDisk {
        LyingDisk { disk: disk.clone(), panics: None }
    }

    /// One that panics while the switch is set.
    pub fn panicking(disk: &SimDisk, switch: &Arc<AtomicBool>) -> LyingDisk {
        LyingDisk { disk: disk.clone(), panics: Some(switch.clone()) }
    }
}

impl Disk for LyingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        let of_a_topic = path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("t-"));
        if of_a_topic && path.extension().is_some_and(|e| e == "log") {
            return Ok(Arc::new(LyingFile(file, self.panics.clone())));
        }
        Ok(file)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::any::Any + Send + Sync>> {
        self.disk.lock(path)
    }
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.disk.space(path)
    }
    fn deterministic(&self) -> bool {
        self.disk.deterministic()
    }
}

#[derive(Debug)]
struct LyingFile(Arc<dyn DiskFile>, Option<Arc<AtomicBool>>);

impl LyingFile {
    fn instead(&self, honest: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match &self.1 {
            None => Ok(()),
            Some(panics) if panics.load(Ordering::Relaxed) => panic!("a sync was told to"),
            Some(_) => honest(),
        }
    }
}

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
        self.instead(|| self.0.sync())
    }
    fn sync_range(&self, offset: u64, len: u64) -> io::Result<()> {
        self.instead(|| self.0.sync_range(offset, len))
    }
    fn map(&self, len: usize, writable: bool) -> io::Result<memmap2::MmapRaw> {
        self.0.map(len, writable)
    }
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

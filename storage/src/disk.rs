//! The seam to the file system: [`OsDisk`] is the real one, `sim::SimDisk` the one of tests.
//!
//! Every call blocks. Durability is explicit: bytes survive a power loss only after [`DiskFile::sync`] or
//! [`DiskFile::sync_range`] returned `Ok`, names only after [`Disk::sync_dir`] on their directory did.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Existing, read only.
    Read,
    /// Existing, read and write.
    Write,
    /// Read and write; must not exist yet.
    CreateNew,
    /// Read and write; created when absent, never cut.
    Create,
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
}

/// A file system.
pub trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a directory and its parents; `Ok` when it is there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, in no order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Renames a file or directory; an existing file at `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `path` durable. An error with code EMFILE, ENFILE or ENOMEM says that the directory could not be opened.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether there is a file or directory, as far as one can tell: a failing disk says no (see [`Disk::has_dir`]).
    fn exists(&self, path: &Path) -> bool;
    /// Whether there is such a directory; an error where that cannot be said, which must not pass for "no".
    fn has_dir(&self, path: &Path) -> io::Result<bool> {
        if self.exists(path) {
            return Ok(true);
        }
        match self.read_dir(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
    /// Takes the exclusive lock file `path` of this process; an error of kind `WouldBlock` when another holds it.
    /// Released when the box drops.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::any::Any + Send + Sync>>;
    /// Total and usable bytes of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<(u64, u64)>;
    /// Whether calls must come one after another from one thread (simulation).
    fn deterministic(&self) -> bool {
        false
    }
}

/// An open file.
#[allow(clippy::len_without_is_empty)] // a file is not a collection: nobody asks
pub trait DiskFile: Send + Sync + std::fmt::Debug + 'static {
    /// Where it was opened (for messages; a rename does not change it).
    fn path(&self) -> PathBuf;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Allocates blocks so that bytes `0..len` can be written without ENOSPC, and makes the file at least `len` long.
    /// ENOSPC leaves the file usable. Never sparse (where fallocate is not supported, zeros are written).
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// fdatasync: all bytes and the size. An error says that bytes may be lost, and has none of the codes of an open that found no
    /// descriptor or memory (EMFILE, ENFILE, ENOMEM).
    fn sync(&self) -> io::Result<()>;
    /// Makes `offset..offset + len` durable, stores through a map included, and the size that covers them.
    fn sync_range(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Maps `len` bytes of address space from the start of the file (shared; may reach past its end; such pages must not be touched).
    fn map(&self, len: usize, writable: bool) -> io::Result<memmap2::MmapRaw>;
    /// The descriptor, for sendfile; `None` when simulated.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// When its bytes last changed, ms since 1970; `None` where that is not known (simulated).
    fn modified_ms(&self) -> Option<i64> {
        let stat = rustix::fs::fstat(self.fd()?).ok()?;
        Some(stat.st_mtime.saturating_mul(1000).saturating_add(stat.st_mtime_nsec as i64 / 1_000_000))
    }
    /// Writes `head` and then `rest` at `offset`, as [`DiskFile::write_all_at`] writes one buffer.
    fn write_both_at(&self, head: &[u8], rest: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(head, offset)?;
        self.write_all_at(rest, offset + head.len() as u64)
    }
}

/// The operating system's file system.
#[derive(Debug, Default, Clone)]
pub struct OsDisk;

#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::CreateNew => options.write(true).create_new(true),
            Open::Create => options.write(true).create(true).truncate(false),
        };
        Ok(Arc::new(OsFile { file: options.open(path)?, path: path.to_path_buf() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        fs::read_dir(path)?
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok(Entry { name, is_dir: entry.file_type()?.is_dir() })
            })
            .collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all().map_err(of_sync)
    }

    fn exists(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::any::Any + Send + Sync>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let s = rustix::fs::statvfs(path)?;
        Ok((s.f_blocks.saturating_mul(s.f_frsize), s.f_bavail.saturating_mul(s.f_frsize)))
    }
}

impl OsDisk {
    /// Raises this process's soft limit of open files to its hard limit and returns how many segments may be open at once:
    /// half of that limit, the other half is for connections, or three quarters of `vm.max_map_count` where that is less (a segment
    /// takes a descriptor and a map). At least 64.
    pub fn raise_open_files() -> usize {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
            if setrlimit(Resource::Nofile, wanted).is_ok() {
                limit = getrlimit(Resource::Nofile);
            }
        }
        let files = limit.current.unwrap_or(u64::MAX);
        let maps = fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|s| s.trim().parse().ok());
        segments_max(files, maps.unwrap_or(65_530))
    }
}

impl OsDisk {
    /// Files that this process may have open, of all kinds.
    pub fn open_files_max() -> usize {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
    }
}

/// The error of a sync, without the code that would make it pass for an open that found no memory.
fn of_sync(e: io::Error) -> io::Error {
    if e.raw_os_error() == Some(libc::ENOMEM) { io::Error::other(e.to_string()) } else { e }
}

fn segments_max(files: u64, maps: u64) -> usize {
    usize::try_from((files / 2).min(maps / 4 * 3)).unwrap_or(usize::MAX).max(64)
}

impl DiskFile for OsFile {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_both_at(&self, head: &[u8], rest: &[u8], offset: u64) -> io::Result<()> {
        let (both, total) = ([io::IoSlice::new(head), io::IoSlice::new(rest)], head.len() + rest.len());
        let done = match rustix::io::pwritev(&self.file, &both, offset) {
            Ok(n) if n == total => return Ok(()),
            Ok(n) => n,
            Err(rustix::io::Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
        };
        // A short write: what is left, or the error that cut it short.
        if done < head.len() {
            self.write_all_at(&head[done..], offset + done as u64)?;
        }
        let from_rest = done.saturating_sub(head.len());
        self.write_all_at(&rest[from_rest..], offset + (head.len() + from_rest) as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let now = self.file.metadata()?;
        // From the present end on, unless what lies before it has holes: some file systems (tmpfs) walk every page they are
        // asked about, so asking for all of it at each step would cost the square of the file.
        let from = if now.blocks() * 512 >= now.len() { now.len() } else { 0 };
        if from >= len {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), from, len - from) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    return self.write_zeros(now.len(), len);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(of_sync)
    }

    fn sync_range(&self, _offset: u64, _len: u64) -> io::Result<()> {
        // fdatasync writes pages dirtied through a map too, and costs the same as msync of the range.
        self.file.sync_data().map_err(of_sync)
    }

    fn map(&self, len: usize, writable: bool) -> io::Result<memmap2::MmapRaw> {
        let mut options = memmap2::MmapOptions::new();
        options.len(len);
        if writable { options.map_raw(&self.file) } else { options.map_raw_read_only(&self.file) }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

impl OsFile {
    /// Grows the file from `from` to `to` with zeros; a refusal gives back what was taken.
    fn write_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = [0u8; 64 << 10];
        let mut at = from;
        while at < to {
            let n = (to - at).min(zeros.len() as u64);
            if let Err(e) = self.file.write_all_at(&zeros[..n as usize], at) {
                let _ = self.file.set_len(from);
                return Err(e);
            }
            at += n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_grows_the_file_with_real_blocks_and_keeps_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let f = OsDisk.open(&dir.path().join("a"), Open::CreateNew).unwrap();
        f.write_all_at(b"abc", 0).unwrap();
        f.allocate(1 << 20).unwrap();
        f.allocate(4096).unwrap();
        assert_eq!(f.len().unwrap(), 1 << 20);
        let on_disk = fs::metadata(f.path()).unwrap();
        assert!(on_disk.blocks() * 512 >= 1 << 20, "{} blocks", on_disk.blocks());
        let mut buf = [1u8; 5];
        assert_eq!(f.read_at(&mut buf, 0).unwrap(), 5);
        assert_eq!(&buf, b"abc\0\0");
    }

    #[test]
    fn allocation_fills_the_holes_of_a_sparse_file() {
        let dir = tempfile::tempdir().unwrap();
        let f = OsDisk.open(&dir.path().join("a"), Open::CreateNew).unwrap();
        f.set_len(1 << 20).unwrap();
        f.allocate((1 << 20) + 4096).unwrap();
        assert!(fs::metadata(f.path()).unwrap().blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn zeros_stand_in_for_fallocate() {
        let dir = tempfile::tempdir().unwrap();
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.path().join("a")).unwrap();
        let f = OsFile { file, path: dir.path().join("a") };
        f.write_all_at(b"abc", 0).unwrap();
        f.write_zeros(3, 200_001).unwrap();
        assert_eq!(f.len().unwrap(), 200_001);
        let mut buf = [1u8; 4];
        f.read_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"abc\0");
    }

    #[test]
    fn a_second_lock_would_block_until_the_first_drops() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = OsDisk.lock(&path).unwrap();
        assert_eq!(OsDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        OsDisk.lock(&path).unwrap();
    }

    #[test]
    fn create_keeps_what_is_there_and_create_new_refuses_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        OsDisk.open(&path, Open::CreateNew).unwrap().write_all_at(b"abc", 0).unwrap();
        assert_eq!(OsDisk.open(&path, Open::Create).unwrap().len().unwrap(), 3);
        assert_eq!(OsDisk.open(&path, Open::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(OsDisk.open(&path, Open::Read).unwrap().write_all_at(b"x", 0).is_err());
    }

    #[test]
    fn a_map_sees_writes_and_a_file_sees_stores() {
        let dir = tempfile::tempdir().unwrap();
        let f = OsDisk.open(&dir.path().join("a"), Open::CreateNew).unwrap();
        f.allocate(8192).unwrap();
        let map = f.map(1 << 20, true).unwrap();
        assert_eq!(map.len(), 1 << 20);
        assert!(f.map(8192, false).is_ok());
        f.sync_range(0, 8192).unwrap();
        let (total, usable) = OsDisk.space(dir.path()).unwrap();
        assert!(total >= usable && total > 0);
    }

    #[test]
    fn open_segments_leave_half_of_the_files_and_a_quarter_of_the_maps() {
        assert_eq!(segments_max(1024, 65_530), 512);
        assert_eq!(segments_max(1 << 20, 65_530), 49_146);
        assert_eq!(segments_max(20, 65_530), 64);
        assert!(OsDisk::raise_open_files() >= 64);
    }
}

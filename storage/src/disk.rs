//! The seam to the file system: [`OsDisk`] is the real one, `sim::SimDisk` the one of tests.
//!
//! Every call blocks. Durability is explicit: bytes survive a power loss only after [`DiskFile::sync`] or
//! [`DiskFile::sync_range`] returned `Ok`, names only after [`Disk::sync_dir`] on their directory did.

use std::{io, path::{Path, PathBuf}, sync::Arc};

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
    /// Makes the names in `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether there is a file or directory.
    fn exists(&self, path: &Path) -> bool;
    /// Takes the exclusive lock file `path` of this process; an error of kind `WouldBlock` when another holds it.
    /// Released when the box drops.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::any::Any + Send + Sync>>;
    /// Total and usable bytes of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<(u64, u64)>;
}

/// An open file.
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
    /// fdatasync: all bytes and the size.
    fn sync(&self) -> io::Result<()>;
    /// Makes `offset..offset + len` durable, stores through a map included, and the size that covers them.
    fn sync_range(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Maps `len` bytes of address space from the start of the file (shared; may reach past its end; such pages must not be touched).
    fn map(&self, len: usize, writable: bool) -> io::Result<memmap2::MmapRaw>;
    /// The descriptor, for sendfile; `None` when simulated.
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
}

/// The operating system's file system.
#[derive(Debug, Default, Clone)]
pub struct OsDisk;

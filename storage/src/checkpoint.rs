//! Small files that are replaced whole: either the old content or the new one survives a crash, never a mixture.
//!
//! ```text
//! payload | payload length u32 | CRC-32 u32 (IEEE; of payload and length)      (big endian)
//! ```
//! A half-written, cut, zeroed or altered file is told apart from a missing one.

use crate::{Disk, Error, Result, disk::Open};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Bytes after the payload.
pub const TRAILER_BYTES: usize = 8;

/// Largest file [`read`] takes in (1 GiB: a catalogue of some ten million partitions).
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Why a checkpoint could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file is there, but its bytes are not what was written.
    Damaged { path: PathBuf, why: &'static str },
    /// The file system refused.
    Io(Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Damaged { path, why } => write!(f, "{} is damaged: {why}", path.display()),
            ReadError::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// Replaces `path` with `payload` and its trailer; durable when it returns. Two writers of one path must take turns. Blocks.
pub fn write_atomic(disk: &dyn Disk, path: &Path, payload: &[u8]) -> Result<()> {
    let mut bytes = Vec::with_capacity(payload.len() + TRAILER_BYTES);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    replace(disk, path, &bytes)
}

/// The payload last written; `None` when there is no such file. Blocks.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let Some(mut bytes) = read_plain(disk, path)? else { return Ok(None) };
    let damaged = |why| Err(ReadError::Damaged { path: path.to_path_buf(), why });
    let Some(payload_len) = bytes.len().checked_sub(TRAILER_BYTES) else { return damaged("too short") };
    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if word(payload_len) as usize != payload_len {
        return damaged("its length is not the one written");
    }
    if word(payload_len + 4) != crc32fast::hash(&bytes[..payload_len + 4]) {
        return damaged("its CRC-32 is not that of its bytes");
    }
    bytes.truncate(payload_len);
    Ok(Some(bytes))
}

/// Replaces a file that has a format of its own (Kafka's text files) with exactly `bytes`, by way of `<path>.tmp`; durable when
/// it returns. Blocks.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let tmp = PathBuf::from(name);
    let write = || {
        let file = disk.open(&tmp, Open::Create)?;
        file.set_len(0)?; // what an earlier crash left
        file.write_all_at(bytes, 0)?;
        file.sync()
    };
    write().map_err(|e| {
        let _ = disk.remove_file(&tmp);
        Error::io("write", &tmp, e)
    })?;
    disk.rename(&tmp, path).map_err(|e| Error::io("rename", path, e))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

/// All bytes of a small file; `None` when it is not there. Blocks.
pub fn read_plain(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let failed = |e| ReadError::Io(Error::io("read", path, e));
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let len = file.len().map_err(failed)?;
    if len > FILE_BYTES_MAX {
        return Err(ReadError::Damaged { path: path.to_path_buf(), why: "too large" });
    }
    let mut bytes = vec![0; len as usize];
    let n = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(n);
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsDisk;

    #[test]
    fn what_was_written_is_read_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        assert!(read(&OsDisk, &path).unwrap().is_none());
        write_atomic(&OsDisk, &path, b"a longer first content").unwrap();
        std::fs::write(dir.path().join("c.tmp"), vec![7; 100]).unwrap(); // a crash in the middle of the next one
        assert_eq!(read(&OsDisk, &path).unwrap().unwrap(), b"a longer first content");
        write_atomic(&OsDisk, &path, b"short").unwrap();
        assert_eq!(read(&OsDisk, &path).unwrap().unwrap(), b"short");
        write_atomic(&OsDisk, &path, b"").unwrap();
        assert_eq!(read(&OsDisk, &path).unwrap().unwrap(), b"");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file stayed");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_damage_not_absence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        write_atomic(&OsDisk, &path, b"payload").unwrap();
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(matches!(read(&OsDisk, &path), Err(ReadError::Damaged { .. })), "cut at {cut}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(read(&OsDisk, &path), Err(ReadError::Damaged { .. })), "bit {bit}");
        }
        for zeros in 0..64 {
            std::fs::write(&path, vec![0; zeros]).unwrap();
            assert!(matches!(read(&OsDisk, &path), Err(ReadError::Damaged { .. })), "{zeros} zeros");
        }
    }
}

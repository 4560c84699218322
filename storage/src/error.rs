//! The one error type of the storage crate.

use std::{fmt, io, path::PathBuf};

/// Result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong; one variant for each thing a caller does differently.
#[derive(Debug)]
pub enum Error {
    /// The disk is full. The append was not made; nothing else is affected; try again once room is made.
    NoSpace { path: PathBuf },
    /// The process or the system has no descriptor or memory left to open or map something (EMFILE, ENFILE, ENOMEM). The call was not
    /// made; nothing is lost, in a flush neither; try again once others have been closed.
    Exhausted { path: PathBuf },
    /// An I/O call failed. The call was not made; the log is as before.
    Io { op: &'static str, path: PathBuf, source: io::Error },
    /// The directory was marked failed (a flush failed, a page could not be read): no more writes until a restart.
    DirectoryFailed { reason: String },
    /// No such offset in this log: `start..=end` is what there is.
    OffsetOutOfRange { offset: i64, start: i64, end: i64 },
    /// The batch at `offset` is damaged on disk. Later offsets may be readable.
    Corrupt { path: PathBuf, offset: i64 },
    /// A follower's append does not continue the log.
    NotContiguous { expected: i64, found: i64 },
    /// The batch handed in is not acceptable.
    Batch(crate::batch::BatchError),
    /// The log was closed or deleted.
    Closed,
}

impl Error {
    /// An I/O error of `op` on `path`; a full disk or quota becomes [`Error::NoSpace`], a lack of descriptors or memory
    /// [`Error::Exhausted`] (a sync gives none of them: see [`crate::DiskFile::sync`]).
    pub fn io(op: &'static str, path: &std::path::Path, source: io::Error) -> Error {
        if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) {
            return Error::Exhausted { path: path.to_path_buf() };
        }
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { path: path.to_path_buf() },
            _ => Error::Io { op, path: path.to_path_buf(), source },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSpace { path } => write!(f, "no space left on device for {}", path.display()),
            Error::Exhausted { path } => write!(f, "no file descriptors or memory left for {}", path.display()),
            Error::Io { op, path, source } => write!(f, "{op} {}: {source}", path.display()),
            Error::DirectoryFailed { reason } => write!(f, "data directory failed: {reason}"),
            Error::OffsetOutOfRange { offset, start, end } => {
                write!(f, "offset {offset} is outside {start}..={end}")
            }
            Error::Corrupt { path, offset } => {
                write!(f, "damaged batch at offset {offset} in {}", path.display())
            }
            Error::NotContiguous { expected, found } => {
                write!(f, "append at offset {found} does not follow {expected}")
            }
            Error::Batch(e) => e.fmt(f),
            Error::Closed => f.write_str("log is closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<crate::batch::BatchError> for Error {
    fn from(e: crate::batch::BatchError) -> Self {
        Error::Batch(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_lack_of_descriptors_or_memory_is_told_from_a_failing_disk() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            let e = Error::io("open", Path::new("/x"), io::Error::from_raw_os_error(errno));
            assert!(matches!(e, Error::Exhausted { .. }), "{e}");
        }
        for errno in [libc::EIO, libc::EACCES, libc::ENOENT] {
            let e = Error::io("open", Path::new("/x"), io::Error::from_raw_os_error(errno));
            assert!(matches!(e, Error::Io { .. }), "{e}");
        }
    }
}

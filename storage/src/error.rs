//! The one error type of the storage crate.

use std::{fmt, io, path::PathBuf};

/// Result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong; one variant for each thing a caller does differently.
#[derive(Debug)]
pub enum Error {
    /// The disk is full. The append was not made; nothing else is affected; try again once room is made.
    NoSpace { path: PathBuf },
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
    /// An I/O error of `op` on `path`; a full disk or quota becomes [`Error::NoSpace`].
    pub fn io(op: &'static str, path: &std::path::Path, source: io::Error) -> Error {
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

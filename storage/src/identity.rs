//! `meta.properties`: whose data directory this is. Kafka's text form (`MetaPropertiesEnsemble`), with a format version of ours.

use crate::{DirectoryOptions, Disk, Error, OpenError, checkpoint, checkpoint::ReadError};
use std::path::Path;

/// Format of a data directory as a whole; a newer one is refused.
pub(crate) const FORMAT: u32 = 1;

/// Content of `meta.properties`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    pub(crate) directory_id: String,
}

impl Identity {
    /// Reads and checks the file, or makes it from `options` where there is none (or an empty one). Blocks.
    pub(crate) fn load_or_create(
        disk: &dyn Disk,
        root: &Path,
        options: &DirectoryOptions,
    ) -> Result<Identity, OpenError> {
        let path = root.join("meta.properties");
        let damaged = |why| OpenError::Damaged { path: path.clone(), why };
        let bytes = match checkpoint::read_plain(disk, &path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(ReadError::Damaged { why, .. }) => return Err(damaged(why)),
            Err(ReadError::Io(e)) => return Err(OpenError::Io(e)),
        };
        // Zeros are what some file systems leave of a file whose bytes never reached the disk.
        if bytes.iter().all(|b| *b == 0 || b.is_ascii_whitespace()) {
            let new = Identity {
                cluster_id: options.cluster_id.clone(),
                node_id: options.node_id,
                directory_id: options.directory_id.clone(),
            };
            checkpoint::replace(disk, &path, new.text().as_bytes()).map_err(OpenError::Io)?;
            return Ok(new);
        }
        let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let found = Self::parse(&path, &text)?;
        if found.node_id != options.node_id {
            return Err(OpenError::Foreign {
                path,
                field: "node.id",
                found: found.node_id.to_string(),
                expected: options.node_id.to_string(),
            });
        }
        Ok(found)
    }

    fn text(&self) -> String {
        let Identity { cluster_id, node_id, directory_id } = self;
        format!(
            "version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\nmillstream.format={FORMAT}\n"
        )
    }

    fn parse(path: &Path, text: &str) -> Result<Identity, OpenError> {
        let damaged = |why| OpenError::Damaged { path: path.to_path_buf(), why };
        let value = |key: &str| {
            let mut pairs = text.lines().filter(|l| !l.starts_with(['#', '!'])).filter_map(|l| l.split_once('='));
            pairs.find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().to_string())
        };
        let format = value("millstream.format").ok_or_else(|| damaged("it names no millstream.format"))?;
        let format: u32 = format.parse().map_err(|_| damaged("its millstream.format is no number"))?;
        if format > FORMAT {
            return Err(OpenError::NewerFormat { path: path.to_path_buf(), found: format, supported: FORMAT });
        }
        let node_id = value("node.id").ok_or_else(|| damaged("it names no node.id"))?;
        Ok(Identity {
            cluster_id: value("cluster.id").ok_or_else(|| damaged("it names no cluster.id"))?,
            node_id: node_id.parse().map_err(|_| damaged("its node.id is no number"))?,
            directory_id: value("directory.id").ok_or_else(|| damaged("it names no directory.id"))?,
        })
    }
}

impl From<Error> for OpenError {
    fn from(e: Error) -> OpenError {
        OpenError::Io(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsDisk;

    fn options(node_id: i32) -> DirectoryOptions {
        DirectoryOptions { node_id, cluster_id: "c".into(), directory_id: "d".into(), now_ms: 0, open_segments_max: 64 }
    }

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let made = Identity::load_or_create(&OsDisk, dir.path(), &options(3)).unwrap();
        let other = DirectoryOptions { cluster_id: "x".into(), directory_id: "y".into(), ..options(3) };
        assert_eq!(Identity::load_or_create(&OsDisk, dir.path(), &other).unwrap(), made);
    }

    #[test]
    fn an_empty_or_zeroed_file_is_made_anew() {
        for left in [vec![], vec![0; 80], b"\n".to_vec()] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("meta.properties"), left).unwrap();
            assert_eq!(Identity::load_or_create(&OsDisk, dir.path(), &options(3)).unwrap().node_id, 3);
        }
    }

    #[test]
    fn another_node_a_newer_format_and_garbage_are_refused_in_a_sentence() {
        let refuse = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("meta.properties"), text).unwrap();
            let e = Identity::load_or_create(&OsDisk, dir.path(), &options(3)).unwrap_err();
            assert!(!e.to_string().contains('\n') && e.to_string().contains("meta.properties"), "{e}");
            e
        };
        let base = "#made by hand\nversion=1\ncluster.id=c\ndirectory.id=d\n";
        let e = refuse(&format!("{base}node.id=4\nmillstream.format=1\n"));
        assert!(matches!(e, OpenError::Foreign { field: "node.id", .. }));
        let e = refuse(&format!("{base}node.id=3\nmillstream.format=2\n"));
        assert!(matches!(e, OpenError::NewerFormat { found: 2, supported: 1, .. }));
        assert!(matches!(refuse(&format!("{base}node.id=3\n")), OpenError::Damaged { .. }));
        assert!(matches!(refuse("garbage"), OpenError::Damaged { .. }));
    }
}

//! Names and small text files of a data directory, as Kafka has them (`LogDirUtils`, `PartitionMetadataFile`, `Uuid`).

use crate::PartitionId;

/// Longest file name that Linux file systems take.
const NAME_BYTES_MAX: usize = 255;

/// Name of a partition's directory: `<topic>-<partition>`.
pub(crate) fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Topic and partition of such a name; `None` for any other name (`quarantine`, `x-0.<id>-delete`, `x-01`).
pub(crate) fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    let (topic, index) = name.rsplit_once('-')?;
    let partition: i32 = index.parse().ok()?;
    (!topic.is_empty() && partition >= 0 && partition.to_string() == index).then_some((topic, partition))
}

/// Name for a partition's directory that waits for its removal: `<topic>-<partition>.<unique>-delete`; the front is cut where
/// the whole would be too long (Kafka does the same).
pub(crate) fn deleted_dir(id: PartitionId, topic: &str, attempt: u32) -> String {
    let unique: String = id.topic_id.iter().map(|b| format!("{b:02x}")).collect();
    let tail = if attempt == 0 { format!(".{unique}-delete") } else { format!(".{unique}.{attempt}-delete") };
    let mut name = partition_dir(topic, id.partition);
    name.truncate((0..=NAME_BYTES_MAX - tail.len()).rev().find(|n| name.is_char_boundary(*n)).unwrap_or(0));
    name + &tail
}

/// Whether a name is one of [`deleted_dir`]'s.
pub(crate) fn is_deleted_dir(name: &str) -> bool {
    name.ends_with("-delete") && name.contains('.')
}

/// Content of `partition.metadata`.
pub(crate) fn partition_metadata(topic_id: [u8; 16]) -> String {
    format!("version: 0\ntopic_id: {}", uuid_text(topic_id))
}

/// Topic id from the content of `partition.metadata`; `None` when it is not readable.
pub(crate) fn parse_partition_metadata(bytes: &[u8]) -> Option<[u8; 16]> {
    let text = std::str::from_utf8(bytes).ok()?;
    let field = |name: &str| text.lines().find_map(|l| Some(l.strip_prefix(name)?.strip_prefix(':')?.trim()));
    if field("version")? != "0" {
        return None;
    }
    parse_uuid(field("topic_id")?)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's text for a UUID: base64 for URLs of its 16 bytes, without padding (22 characters).
pub(crate) fn uuid_text(uuid: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(uuid);
    let digit = |i: u32| {
        let value = if i == 21 { bits << 4 } else { bits >> (122 - 6 * i) };
        char::from(ALPHABET[(value & 63) as usize])
    };
    (0..22).map(digit).collect()
}

/// Reads what [`uuid_text`] writes.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 22 {
        return None;
    }
    let mut bits = 0u128;
    for (i, c) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|a| *a == c)? as u128;
        bits = if i < 21 {
            bits << 6 | value
        } else if value & 15 == 0 {
            bits << 2 | value >> 4
        } else {
            return None;
        };
    }
    Some(bits.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partition_directories_parse() {
        assert_eq!(parse_partition_dir("orders-7"), Some(("orders", 7)));
        assert_eq!(parse_partition_dir("a-b-0"), Some(("a-b", 0)));
        for other in ["quarantine", "x-01", "-3", "x-", "x-0.ab-delete", "x-99999999999", "opened.1"] {
            assert_eq!(parse_partition_dir(other), None, "{other}");
        }
    }

    #[test]
    fn deleted_names_are_unique_and_fit() {
        let id = PartitionId { topic_id: [0xab; 16], partition: 12 };
        assert_eq!(deleted_dir(id, "t", 0), "t-12.abababababababababababababababab-delete");
        let long = deleted_dir(id, &"x".repeat(249), 3);
        assert_eq!(long.len(), 255);
        assert!(is_deleted_dir(&long) && long.ends_with(".3-delete") && parse_partition_dir(&long).is_none());
    }

    #[test]
    fn uuids_read_as_kafka_writes_them() {
        // Kafka's Uuid.ONE_UUID (reserved) and a random one with its bytes.
        let mut one = [0; 16];
        one[15] = 1;
        assert_eq!(uuid_text(one), "AAAAAAAAAAAAAAAAAAAAAQ");
        let bytes = *b"0123456789abcdef";
        assert_eq!(uuid_text(bytes), "MDEyMzQ1Njc4OWFiY2RlZg");
        assert_eq!(parse_uuid("MDEyMzQ1Njc4OWFiY2RlZg"), Some(bytes));
        for bad in ["", "MDEyMzQ1Njc4OWFiY2RlZh", "MDEyMzQ1Njc4OWFiY2RlZ+", "MDEyMzQ1Njc4OWFiY2RlZgA"] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
        assert_eq!(parse_partition_metadata(partition_metadata(bytes).as_bytes()), Some(bytes));
        assert_eq!(parse_partition_metadata(b"version: 1\ntopic_id: MDEyMzQ1Njc4OWFiY2RlZg"), None);
        assert_eq!(parse_partition_metadata(&[0; 40]), None);
    }
}

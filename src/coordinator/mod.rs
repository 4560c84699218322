//! Keyed state machines whose state is the content of a partition, and the loop that runs them.
//!
//! Belongs here: the frame ([`machine`], [`shard`], [`timers`]) and the machines ([`group`]). Must not: do I/O inside a machine; change stored state except by replay;
//! know connections or protocol messages (events, replies and errors are named here and become Kafka's in `api`).
//!
//! State: a [`shard::Shard`] is one task that owns one machine and is the only writer of its partition. Others reach it through a bounded mailbox; each question carries
//! a place for its answer.
//!
//! Flow: event → [`machine::Machine::handle`] (pure) → records → appended to the partition → [`machine::Machine::replay`] (the only way stored state changes; the same
//! function that reads the log at load) → replies, which leave once the partition's high watermark has passed everything appended before them. So no answer
//! ever shows what a power loss could take back.

pub mod group;
pub mod machine;
pub mod shard;
pub mod timers;

/// Partition of an internal topic that a key (group id, transactional id) belongs to: the absolute value of Java's `String.hashCode` over UTF-16, modulo `count`,
/// as in Kafka's `Utils.abs(key.hashCode()) % count`, so that tools that work it out themselves find it. `count` is 1 or more.
pub fn partition_for(key: &str, count: i32) -> i32 {
    let hash = key.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // `Utils.abs`: i32::MIN, which has no positive counterpart, becomes 0.
    hash.checked_abs().unwrap_or(0) % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_where_kafka_puts_them() {
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("a", 50), 97 % 50);
        assert_eq!(partition_for("my-group", 50), 12, "hashCode is -1906497762");
        assert_eq!(
            partition_for("java-tool-format-d6239a969de", 50),
            48,
            "hashCode is -1092387498: the absolute value, not the sign bit dropped"
        );
        assert_eq!(partition_for("polygenelubricants", 50), 0, "hashCode is i32::MIN");
        for n in 1..60 {
            assert!((0..n).contains(&partition_for("ж-group-\u{1F600}", n)));
        }
    }
}

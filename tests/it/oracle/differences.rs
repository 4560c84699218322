//! What this broker answers otherwise than Apache Kafka, and why.

use std::ops::RangeInclusive;

/// One difference. `step`, `field` and `values` are patterns in which `*` stands for anything.
#[derive(Debug)]
pub struct Difference {
    pub key: i16,
    pub versions: RangeInclusive<i16>,
    pub step: &'static str,
    pub field: &'static str,
    /// Kafka's value and ours, as the messages of the test show them: patterns as well.
    pub values: (&'static str, &'static str),
    #[allow(dead_code, reason = "read by people, and printed")]
    pub why: &'static str,
}

/// The list. An entry that no step meets makes the test fail.
#[rustfmt::skip]
pub const LIST: &[Difference] = &[
    // ApiVersions
    differs(18, 0..=5, "what is there", "api_keys[*]", ("{*", "nothing"), "Not built yet, or Kafka's own affair between brokers."),
    differs(18, 3..=5, "what is there", "*_features*", ("*", "*"), "Features are finalized here as they are built."),
    // Sentences
    differs(0, 3..=13, "*", "*.error_message", ("null", "\"<text>\""), "We say what is wrong where Kafka gives the code only."),
    differs(37, 0..=3, "*", "*.error_message", ("null", "\"<text>\""), "We say what is wrong where Kafka gives the code only."),
    differs(32, 1..=4, "*", "*.error_message", ("\"\"", "\"<text>\""), "We say what is wrong where Kafka gives the code only."),
    // Produce
    differs(0, 3..=13, "*", "*.partition_responses[*].log_start_offset", ("0", "-1"), "The start is told with what was appended, not with an error."),
    differs(0, 8..=13, "*", "*.record_errors[*]", ("{*", "nothing"), "The error is that of the batch; its records are not named."),
    differs(0, 9..=9, "* again", "*.log_append_time_ms", ("\"<time>\"", "-1"), "Kafka gives a duplicate the time of its records where the topic keeps their own time."),
    differs(0, 3..=13, "one partition twice", "*", ("*", "*"), "Kafka appends one of the two and is silent about the other; here both are appended and answered."),
    differs(0, 3..=13, "zstd that is none", "*.error_code", ("-1", "0"), "Compressed batches are checked by header and checksum (`millstream.validate`)."),
    differs(0, 3..=13, "codec 7", "*.error_code", ("-1", "87"), "Kafka fails inside."),
    differs(0, 3..=13, "marked as appended", "*.error_code", ("0", "32"), "A producer cannot know the append time."),
    differs(0, 3..=13, "a transactional id", "*.error_code", ("0", "48"), "Transactions are not built yet."),
    differs(0, 3..=13, "one good, one unknown", "*.base_offset", ("*", "*"), "Offsets are lower by those of the step before."),
    differs(0, 3..=13, "transactional without a transaction", "*.error_code", ("53", "87"), "Transactions are not built yet."),
    differs(0, 3..=13, "length zero", "*.error_code", ("2", "87"), "What claims to be no batch does not become one by being sent again."),
    // OffsetFetch, DescribeGroups
    differs(9, 1..=10, "one partition twice", "*.partitions[0#2]", ("{*", "nothing"), "Answered once: a small request must not make a large answer."),
    differs(15, 0..=6, "a group twice", "groups[stable#2]", ("{*", "nothing"), "Answered once: a small request must not make a large answer."),
    // Fetch
    differs(1, 4..=18, "isolation level 9", "*error_code", ("-1", "0"), "Kafka fails inside; here what is not 1 is read uncommitted."),
    differs(1, 4..=18, "negative bytes", "*.error_code", ("-1", "0"), "Kafka fails inside; here a negative bound is none, and one batch goes out."),
    differs(1, 7..=18, "session: epoch -2", "error_code", ("70", "71"), "There is no such epoch, whatever the session."),
    differs(1, 4..=18, "*", "*.aborted_transactions", ("[]", "null"), "Nothing was read, so nothing is known of transactions; clients read both alike."),
    // ListOffsets
    differs(2, 1..=10, "no partitions", "topics[data]", ("nothing", "{*"), "A topic asked for without partitions is answered without partitions; Kafka leaves it out."),
    differs(2, 2..=10, "isolation level 2", "*.error_code", ("-1", "0"), "Kafka fails inside; here what is not 1 is read uncommitted."),
    differs(2, 7..=7, "largest time after deletion", "*", ("*", "*"), "Kafka looks at deleted records too as long as their file is there."),
    // Metadata
    differs(3, 0..=12, "created on demand", "*.error_code", ("3", "0"), "A topic created on demand is answered with its leaders at once."),
    differs(3, 13..=13, "neither name nor id", "*error_code", ("-1", "*"), "Kafka fails inside."),
    differs(3, 12..=12, "neither name nor id", "*error_code", ("-1", "42"), "Kafka fails inside."),
    differs(3, 1..=1, "a length below -1", "*", ("*", "\"closed\""), "Only -1 is null; Kafka takes any negative length for it."),
    differs(3, 10..=12, "*", "brokers[*]", ("nothing", "{*"), "A request that is not understood says so of its topics; the brokers are told all the same."),
    differs(3, 10..=12, "*", "cluster_id", ("null", "*"), "A request that is not understood says so of its topics; the brokers are told all the same."),
    differs(3, 10..=12, "*", "controller_id", ("-1", "1"), "A request that is not understood says so of its topics; the brokers are told all the same."),
    differs(3, 0..=13, "everything", "topics[o.rm]", ("nothing", "{*"), "A topic that Kafka did not create."),
    differs(3, 12..=13, "one by name, one by id", "topics[created.v2]", ("nothing", "{*"), "Kafka leaves out those named where others have ids."),
    differs(3, 10..=11, "one by name, one by id", "topics[*].error_code", ("42", "0"), "Only the topic that is asked for by its id fails."),
    // CreateTopics
    differs(19, 5..=7, "*", "topics[*].configs[millstream.*]", ("nothing", "{*"), "Our own settings."),
    differs(19, 5..=7, "*", "topics[*].configs[min.insync.replicas].config_source", ("3", "5"), "Kafka with eligible leader replicas stores this for all brokers."),
    differs(19, 3..=7, "removed setting*", "*.error_code", ("40", "0"), "Settings that Kafka 4 dropped are accepted: older tools still send them."),
    differs(19, 7..=7, "no time", "*.error_code", ("7", "36"), "The answer does not wait for anything that could take longer."),
    // DeleteRecords
    differs(21, 0..=2, "no partitions", "topics[many]", ("nothing", "{*"), "A topic asked for without partitions is answered without partitions; Kafka leaves it out."),
    differs(21, 2..=2, "one partition twice", "*", ("nothing", "{*"), "A partition named twice is answered twice."),
    // OffsetForLeaderEpoch
    differs(23, 2..=4, "a negative epoch", "*.end_offset", ("0", "-1"), "There is no such epoch: undefined. Kafka answers with the first epoch that it knows."),
    differs(23, 2..=4, "a negative epoch", "*.leader_epoch", ("-2", "-1"), "There is no such epoch: undefined. Kafka answers with the first epoch that it knows."),
    // DescribeConfigs
    differs(32, 4..=4, "one twice", "results[2:settings#2]", ("{*", "nothing"), "A resource named twice is answered once."),
    differs(32, 4..=4, "a plus before the broker", "*.error_code", ("0", "42"), "A number has digits."),
    differs(32, 1..=4, "* of a broker", "*source", ("4", "5"), "Kafka's was set in its file."),
    differs(32, 4..=4, "*", "*[min.insync.replicas]*source", ("3", "5"), "Kafka with eligible leader replicas stores this for all brokers."),
    differs(32, 4..=4, "all of a broker", "*[controller.*].value", ("*", "*"), "There are no controllers apart."),
    differs(32, 4..=4, "all of a broker", "*[listener.security.protocol.map].value", ("*", "*"), "There are no controllers apart."),
    differs(32, 4..=4, "all of a broker", "*[log.dir].value", ("*", "null"), "The directory is what `log.dirs` says."),
    differs(32, 4..=4, "all of a broker", "*[metric.reporters].value", ("*", "\"\""), "No Java classes here."),
    differs(32, 4..=4, "all of a broker", "*[principal.builder.class].value", ("*", "null"), "No Java classes here."),
    differs(32, 4..=4, "all of a broker", "*.configs[*]", ("nothing", "{*"), "Settings of Kafka's that its own answer leaves out."),
    differs(32, 4..=4, "all of a broker", "*.read_only", ("false", "true"), "Listeners and security cannot be changed at run time yet."),
    differs(32, 1..=4, "*", "*.configs[millstream.*]", ("nothing", "{*"), "Our own settings."),
    differs(32, 4..=4, "defaults of brokers", "*.configs[min.insync.replicas]", ("{*", "nothing"), "Kafka with eligible leader replicas stores this for all brokers."),
    differs(32, 4..=4, "all of a topic", "*.synonyms[min.insync.replicas#2]", ("{*", "nothing"), "Kafka with eligible leader replicas stores this for all brokers."),
    differs(32, 1..=4, "*", "*.synonyms[*]", ("nothing", "{*"), "Each broker setting that may stand in is told; Kafka leaves out those in hours."),
    // IncrementalAlterConfigs
    differs(44, 1..=1, "unknown operation", "*.error_code", ("-1", "42"), "Kafka fails inside."),
    differs(44, 1..=1, "broker, unknown name", "*.error_code", ("0", "42"), "Kafka stores what it does not know."),
    // DescribeTopicPartitions
    differs(75, 0..=0, "*", "*.topic_authorized_operations", ("3576", "-2147483648"), "Of a topic that is not there nothing is allowed or forbidden."),
    differs(75, 0..=0, "empty name", "*.error_code", ("-1", "17"), "Kafka fails inside."),
    differs(75, 0..=0, "a cursor at a*", "*", ("*", "*"), "Kafka refuses a cursor whose topic is not asked for; here it is a place in the order of names, as it must be when its topic is deleted between two pages."),
    // AlterConfigs
    differs(33, 2..=2, "all brokers*", "*.error_code", ("40", "0"), "Kafka with eligible leader replicas stores min.insync.replicas for all brokers, and does not let it be taken away."),
    // DescribeLogDirs
    differs(35, 1..=4, "everything", "results[*].topics[*].partitions[*].partition_size", ("*", "*"), "Follows from what Produce takes and Kafka does not, and the other way round."),
    differs(35, 1..=4, "everything", "results[*].topics[o.rm]", ("nothing", "{*"), "A topic that Kafka did not create."),
    // DescribeProducers
    differs(61, 0..=0, "partition *", "*.error_message", ("null", "\"<text>\""), "We say what is wrong where Kafka gives the code only."),
    // Groups
    differs(10, 4..=6, "of a share group*", "*.error_message", ("\"\"", "\"<text>\""), "We say what is wrong where Kafka gives the code only."),
    differs(10, 4..=6, "*", "*.error_message", ("\"\"", "null"), "No error, no sentence."),
    differs(16, 0..=5, "*", "groups[fresh]", ("{*", "nothing"), "Kafka makes a group for a member that it turns away; here there is none."),
    differs(8, 2..=10, "no partitions", "topics[*data*]", ("nothing", "{*"), "A topic asked for without partitions is answered without partitions; Kafka leaves it out."),
    differs(47, 0..=0, "no partitions", "topics[data]", ("nothing", "{*"), "A topic asked for without partitions is answered without partitions; Kafka leaves it out."),
];

const fn differs(
    key: i16,
    versions: RangeInclusive<i16>,
    step: &'static str,
    field: &'static str,
    values: (&'static str, &'static str),
    why: &'static str,
) -> Difference {
    Difference { key, versions, step, field, values, why }
}

/// The first entry that covers this.
pub fn find(key: i16, version: i16, step: &str, field: &str, kafka: &str, ours: &str) -> Option<usize> {
    LIST.iter().position(|d| {
        d.key == key
            && d.versions.contains(&version)
            && matches(d.step, step)
            && matches(d.field, field)
            && matches(d.values.0, kafka)
            && matches(d.values.1, ours)
    })
}

/// Whether `text` is what `pattern` says.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| matches(rest, &text[i..]))
        }),
    }
}

#[test]
fn patterns_match_the_whole() {
    assert!(matches("a*c", "abc") && matches("a*c", "ac") && matches("*", "") && matches("a*b*", "aXbY"));
    assert!(!matches("a*c", "abd") && !matches("a", "ab") && !matches("", "a"));
}

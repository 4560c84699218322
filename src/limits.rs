//! Every bound of the broker in one place: what an outsider can make it hold, wait for, or queue.

/// Largest frame before authentication, bytes.
pub const FRAME_UNAUTHENTICATED_BYTES_MAX: usize = 64 << 10;
/// Largest frame of a request other than Produce, bytes. Produce is bounded by `socket.request.max.bytes`.
pub const FRAME_OTHER_BYTES_MAX: usize = 16 << 20;
/// Frames above this draw on a pool of permits of their own, bytes.
pub const FRAME_LARGE_BYTES: usize = 8 << 20;
/// A connection's own receive buffer, bytes.
pub const CONNECTION_BUFFER_BYTES: usize = 64 << 10;
/// Request bytes in flight over all connections, bytes.
pub const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Request bytes in flight in frames above [`FRAME_LARGE_BYTES`], bytes.
pub const REQUEST_LARGE_BYTES_MAX: usize = 512 << 20;
/// Requests of one connection accepted and not yet answered.
pub const PIPELINE_DEPTH_MAX: usize = 1024;
/// Reply bytes of one connection not yet taken by the peer before it stops being read, bytes.
pub const REPLY_BYTES_MAX: usize = 64 << 20;
/// Reply bytes of all connections held at once, bytes: beyond it a connection that holds more than [`REPLY_SHARE_BYTES`] is not read.
pub const REPLY_BYTES_TOTAL_MAX: usize = 512 << 20;
/// What each connection may hold in any case, bytes.
pub const REPLY_SHARE_BYTES: usize = 1 << 20;
/// Slowest that a connection may bring a frame for which it holds permits, bytes per second, over [`RECEIVE_WINDOW_MS`].
pub const RECEIVE_BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Time over which the speed of receiving is judged, ms.
pub const RECEIVE_WINDOW_MS: u64 = 5_000;
/// How long a connection may leave replies unread past [`REPLY_BYTES_MAX`], and how long one that is being closed has for its last replies, ms.
pub const REPLY_UNREAD_MS_MAX: u64 = 30_000;
/// Permits taken at once while a frame arrives, bytes; never more than have arrived.
pub const REQUEST_STEP_BYTES_MAX: usize = 1 << 20;
/// Memory asked for at the start of a large frame, bytes; more only as bytes arrive.
pub const REQUEST_BUFFER_BYTES_FIRST: usize = 8 << 20;
/// Receive buffers kept for reuse in each size class, bytes (one buffer at least).
pub const POOLED_BYTES_PER_CLASS_MAX: usize = 16 << 20;
/// Pieces handed to the system in one write (Linux: IOV_MAX).
pub const WRITE_PIECES_MAX: usize = 1024;
/// Pause of the accept loop when the system has no more files or memory for connections, ms.
pub const ACCEPT_PAUSE_MS: u64 = 100;
/// A connection without a byte for this long is asked whether its peer is still there, and then this often, ms; after so many times without an answer it is gone.
pub const KEEPALIVE_IDLE_MS: u64 = 60_000;
pub const KEEPALIVE_INTERVAL_MS: u64 = 10_000;
pub const KEEPALIVE_PROBES: u32 = 6;
/// Tails (live streams of records) at once; fewer where the machine allows few files.
pub const HTTP_TAILS_MAX: usize = 1_024;
/// Tails there is room for in any case.
pub const HTTP_TAILS_MIN: usize = 16;
/// HTTP connections at once beside tails; further ones wait in the kernel's queue.
pub const HTTP_OTHERS_MAX: usize = 64;
/// What HTTP holds of one answer until the peer takes it, bytes; as much again in the kernel.
pub const HTTP_WRITE_BYTES_MAX: usize = 64 << 10;
/// How long an HTTP connection may take to bring the head of its next request, ms.
pub const HTTP_HEAD_MS_MAX: u64 = 10_000;
/// How long an HTTP connection lives; a response under way then has as long again, ms. A tail is cut then: its reader comes back with the id of the last event.
pub const HTTP_CONNECTION_MS_MAX: u64 = 300_000;
/// How long a stop waits for HTTP requests under way, ms; streams of events are not waited for.
pub const HTTP_STOP_MS_MAX: u64 = 3_000;
/// Records of one page of a browse.
pub const BROWSE_RECORDS_MAX: usize = 1_000;
/// Records of a page that does not say how many.
pub const BROWSE_RECORDS_DEFAULT: usize = 50;
/// Bytes shown of a key, a value, and of all headers of a record together, on a page or in a tail.
pub const BROWSE_PAYLOAD_BYTES_MAX: usize = 16 << 10;
/// Headers shown of a record.
pub const BROWSE_HEADERS_MAX: usize = 64;
/// Bytes of payload on a page (JSON writes a byte as up to six).
pub const BROWSE_ANSWER_BYTES_MAX: usize = 2 << 20;
/// Bytes, unpacked, that one page looks at before it ends with a cursor.
pub const BROWSE_SCAN_BYTES_MAX: usize = 64 << 20;
/// Bytes of log read in one go.
pub const BROWSE_STEP_BYTES: usize = 256 << 10;
/// Bytes looked at in one window of a partition that is read backwards.
pub const BROWSE_WINDOW_BYTES: usize = 8 << 20;
/// Partitions that are merged by time, or followed by one tail.
pub const BROWSE_PARTITIONS_MAX: usize = 1_024;
/// Unreadable places named on a page.
pub const BROWSE_HOLES_MAX: usize = 100;
/// Longest cursor, bytes: all of [`BROWSE_PARTITIONS_MAX`] offsets in base64.
pub const BROWSE_CURSOR_BYTES_MAX: usize = 16 << 10;
/// Longest text to look for, bytes.
pub const BROWSE_FILTER_BYTES_MAX: usize = 1 << 10;
/// Pages put together at once: each may unpack a batch of [`UNPACKED_BATCH_BYTES_MAX`].
pub const BROWSES_MAX: usize = 2;
/// Batches unpacked last that are kept for the next page.
pub const BROWSE_CACHED_BATCHES_MAX: usize = 8;
/// The same, bytes.
pub const BROWSE_CACHED_BYTES_MAX: usize = 16 << 20;
/// Bytes shown of a key, a value, and of all headers, where one record is asked for.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Pages kept up to date at once (a stream each); further ones stay as they were loaded.
pub const LIVE_PAGES_MAX: usize = 32;
/// How often a page that is kept up to date is looked at, ms.
pub const LIVE_PERIOD_MS: u64 = 1_000;
/// Body of an HTTP request, bytes.
pub const HTTP_BODY_BYTES_MAX: usize = 4 << 20;
/// Entries in one answer of the HTTP API where no limit is asked for, and the largest that may be.
pub const HTTP_LIST_DEFAULT: usize = 100;
pub const HTTP_LIST_MAX: usize = 1_000;
/// Partitions of a topic in one answer of the HTTP API where no limit is asked for, and the largest that may be.
pub const HTTP_PARTITIONS_DEFAULT: usize = 1_000;
pub const HTTP_PARTITIONS_MAX: usize = 10_000;
/// Histograms with all their buckets in one answer of the HTTP API.
pub const HTTP_BUCKET_LISTS_MAX: usize = 20;
/// How long deleting records by HTTP waits for what is not settled yet, ms.
pub const HTTP_TRIM_MS_MAX: u64 = 10_000;
/// Bytes of payload that a tail reads at once: what it holds while its reader takes nothing (at most one record more).
pub const TAIL_CHUNK_BYTES: usize = 16 << 10;
/// Bytes, unpacked, that a tail looks at for one chunk.
pub const TAIL_SCAN_BYTES: usize = 4 << 20;
/// Chunks read for tails at once.
pub const TAIL_TURNS_MAX: usize = 2;
/// A tail that has nothing to tell says so after this long, ms.
pub const TAIL_IDLE_MS: u64 = 15_000;
/// Partitions of a tail up to which each of its events carries a cursor; above that the last one of a chunk does.
pub const TAIL_CURSORS_PARTITIONS_MAX: usize = 64;
/// Records of one such request.
pub const PUBLISH_RECORDS_MAX: usize = 10_000;
/// Headers of one record of it.
pub const PUBLISH_HEADERS_MAX: usize = 1_000;
/// Such requests received and worked on at once.
pub const PUBLISHES_MAX: usize = 16;
/// How long such a request may take to arrive, and waits for its turn, ms.
pub const PUBLISH_RECEIVE_MS_MAX: u64 = 10_000;
/// How long it waits for its records to be durable, ms.
pub const PUBLISH_WAIT_MS_MAX: u64 = 30_000;
/// How often buffers nobody needs are freed and the metrics tended, ms.
pub const HOUSEKEEPING_MS: u64 = 5_000;
/// Idempotent producers remembered per partition.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// Producers in one answer to DescribeProducers.
pub const DESCRIBED_PRODUCERS_MAX: usize = 500_000;
/// Batches of one idempotent producer remembered per partition (Kafka: five in flight).
pub const PRODUCER_BATCHES: usize = 5;
/// What one compressed batch may unpack to where the broker looks inside, bytes.
pub const UNPACKED_BATCH_BYTES_MAX: usize = 128 << 20;
/// Batches unpacked at once for what producers send, each of up to [`UNPACKED_BATCH_BYTES_MAX`].
pub const UNPACKING_MAX: usize = 2;
/// How long one request waits for logs to be opened before it is told to try again, ms.
pub const OPENING_WAIT_MS_MAX: u64 = 10_000;
/// Bytes of requests that wait for logs to be opened: further ones are told at once to try again, so that partitions that recover slowly leave the others room.
pub const OPENING_BYTES_MAX: usize = REQUEST_BYTES_MAX / 4;
/// Partitions of one fetch or fetch session.
pub const FETCH_PARTITIONS_MAX: usize = 100_000;
/// Partitions of all fetch sessions together.
pub const SESSION_PARTITIONS_MAX: usize = 500_000;
/// Producer ids handed to a broker at once (Kafka: blocks of 1,000).
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// Partitions of one topic, and of one creation request.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 100_000;
/// Topics created by one request (Kafka: 10,000 changes); the answer shows every setting of each.
pub const TOPICS_PER_REQUEST_MAX: usize = 10_000;
/// Length of a topic name (Kafka: 249).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Groups (or coordinator keys) of one request.
pub const GROUPS_PER_REQUEST_MAX: usize = 100_000;
/// Partitions of one request about committed offsets.
pub const OFFSETS_PER_REQUEST_MAX: usize = 100_000;
/// Text beside a committed offset, bytes, whatever `offset.metadata.max.bytes` says (OffsetFetch before v6 has 16 bits for its length).
pub const OFFSET_METADATA_BYTES_MAX: usize = i16::MAX as usize;
/// Waiters (long polls, parked acknowledgements) of one partition.
pub const WAITERS_PER_PARTITION_MAX: usize = 100_000;
/// Proposals that wait for the metadata log.
pub const METADATA_PROPOSALS_MAX: usize = 1024;
/// Commands in one entry of the metadata log, bytes by their own estimate (as JSON with every byte escaped at most six times that).
pub const METADATA_ENTRY_BYTES_MAX: usize = 8 << 20;
/// A segment of the metadata log, bytes.
pub const METADATA_SEGMENT_BYTES: u32 = 64 << 20;
/// Entries of the metadata log kept decoded until they are applied.
pub const METADATA_TAIL_ENTRIES_MAX: usize = 1024;
/// Entries of the metadata log between two snapshots.
pub const METADATA_SNAPSHOT_ENTRIES: u64 = 1000;
/// Bytes of commands, by their own estimate, after which a snapshot is made before [`METADATA_SNAPSHOT_ENTRIES`] came together.
pub const METADATA_SNAPSHOT_BYTES: usize = 4 << 20;
/// How long after its start the metadata log makes durable what the start appended, if no proposal did before, ms.
pub const METADATA_SETTLE_MS: u64 = 100;
/// File that makes room for deletions when the disk is full, bytes.
pub const METADATA_BALLAST_BYTES: u64 = 256 << 10;
/// Tombstones (of groups and offsets) stored as one batch, bytes: what any sensible `max.message.bytes` of the topic has room for.
pub const TOMBSTONES_BYTES_MAX: usize = 64 << 10;
/// Questions that wait in the mailbox of a coordinator shard; further askers wait for room.
pub const COORDINATOR_MAILBOX_MAX: usize = 1024;
/// Questions that a coordinator shard handles before it looks at what else there is to do.
pub const COORDINATOR_TURN_QUESTIONS_MAX: usize = 64;
/// Answers of a coordinator shard that wait for a flush: further questions are told to try again. Members that wait for a rebalance are bounded by [`COORDINATOR_MEMBERS_BYTES_MAX`].
pub const COORDINATOR_OPEN_MAX: usize = 100_000;
/// What a coordinator shard reads of its log in one go off the runtime's threads, bytes.
pub const COORDINATOR_LOAD_STEP_BYTES: u64 = 2 << 20;
/// Bytes of log behind a coordinator's last snapshot after which it writes another (or twice that snapshot, if that is more).
pub const COORDINATOR_SNAPSHOT_BYTES: u64 = 64 << 20;
/// Batches that a snapshot is written in, bytes at most.
pub const COORDINATOR_SNAPSHOT_BATCH_BYTES: usize = 1 << 20;
/// Between two attempts to make room on a full disk, ms.
pub const DISK_FULL_PAUSE_MS: u64 = 250;
/// Members of one classic group with their metadata and assignments, bytes (an estimate).
pub const GROUP_BYTES_MAX: usize = 16 << 20;
/// The same of all groups of one coordinator shard, the names of groups that have members included, bytes (an estimate): beyond it what would add to them is told to try again.
pub const COORDINATOR_MEMBERS_BYTES_MAX: usize = 64 << 20;
/// Longest id or name that a member brings, bytes (stored with 16 bits of length).
pub const GROUP_TEXT_BYTES_MAX: usize = 16 << 10;
/// Of a client id or instance id goes into a member id so much at most, bytes.
pub const MEMBER_ID_CLIENT_BYTES_MAX: usize = 1024;
/// Largest reply that our own client takes from a broker, bytes; its memory grows only as bytes arrive.
pub const CLIENT_REPLY_BYTES_MAX: usize = 256 << 20;
/// Memory that the client asks for at once while a reply arrives, bytes.
pub const CLIENT_REPLY_STEP_BYTES: usize = 1 << 20;
/// Requests of one outgoing connection that wait to be written; further callers wait.
pub const CLIENT_QUEUE_MAX: usize = 256;
/// Longest record that `millstream produce` reads, bytes.
pub const CLI_RECORD_BYTES_MAX: usize = 64 << 20;
/// Longest wait between two attempts of the client, ms.
pub const CLIENT_BACKOFF_MS_MAX: u64 = 1_000;
/// First wait between two attempts of the client, ms.
pub const CLIENT_BACKOFF_MS: u64 = 50;

/// Marks of a partition's append clock.
pub const CLOCK_MARKS_MAX: usize = 256;
/// Time without traffic after which a partition's append clock and a topic's throughput series are freed, ms.
pub const FIGURES_IDLE_MS: u64 = 15 * 60_000;
/// Points of a throughput series.
pub const SERIES_POINTS: usize = 180;
/// Time between two points of a throughput series, ms.
pub const SERIES_STEP_MS: u64 = 5_000;
/// Topics with a throughput series of their own, 7 KiB each.
pub const SERIES_TOPICS_MAX: usize = 2_000;
/// Of `millstream.histograms.max` so many are kept for the APIs.
pub const HISTOGRAMS_OF_APIS: usize = 128;
/// Group members whose client and partitions are remembered, so that what they fetch counts for their group.
pub const READERS_MAX: usize = 10_000;
/// Partitions of all these together.
pub const READERS_PARTITIONS_MAX: usize = 200_000;
/// How long a member is remembered without a sign of life, ms.
pub const READER_IDLE_MS: i64 = 10 * 60_000;
/// Topics shown in the metrics by name, and groups.
pub const METRICS_NAMES_MAX: usize = 1_000;
/// Partitions shown in the metrics where they are asked for.
pub const METRICS_PARTITIONS_MAX: usize = 20_000;
/// How often the lag of groups is sampled, ms.
pub const LAG_SAMPLE_MS: u64 = 5_000;
/// Points kept of a group's lag: 15 minutes.
pub const LAG_POINTS_MAX: usize = 180;
/// Time over which the rates of a group are taken, ms.
pub const LAG_RATE_MS: i64 = 60_000;
/// A group of which neither commits nor lag have moved for so long keeps no points, ms.
pub const LAG_IDLE_MS: i64 = 900_000;
/// Groups that keep points, and groups whose last lag is kept.
pub const LAG_GROUPS_MAX: usize = 1_000;
/// Committed offsets that the sampler keeps, of all groups together.
pub const LAG_OFFSETS_MAX: usize = 100_000;
/// Groups on a page of the list of groups.
pub const LAG_PAGE_GROUPS_MAX: usize = 1_000;
/// Committed offsets that one coordinator shard gives in one answer about many groups (one group is given whole).
pub const LAG_PAGE_OFFSETS_MAX: usize = 20_000;
/// Partitions shown of one group.
pub const LAG_PARTITIONS_MAX: usize = 10_000;
/// How long an answer about lag waits for coordinators and logs, ms: what has not answered then is named as missing.
pub const LAG_WAIT_MS_MAX: u64 = 3_000;
/// Timestamps that one answer about lag reads from logs (a microsecond each where the log is in memory).
pub const LAG_TIMES_MAX: usize = 16_384;
/// How long the list of groups waits for these, ms: a disk that is slow costs it seconds behind, not the answer.
pub const LAG_LIST_TIMES_MS_MAX: u64 = 500;
/// Logs that the answer about one group opens, for times and ends that are not known otherwise.
pub const LAG_OPEN_MAX: usize = 256;
/// Timestamps that the sampler reads in one go.
pub const LAG_SAMPLE_TIMES_MAX: usize = 1_024;
/// Of these, on one thread after the other.
pub const LAG_TIMES_PER_JOB: usize = 64;
/// Threads that read timestamps at once, for all answers together: flushes need threads too.
pub const LAG_TIMES_AT_ONCE: usize = 2;
/// Offsets that one commit of a reset stores: what any sensible `max.message.bytes` has room for.
pub const RESET_COMMIT_PARTITIONS: usize = 500;
/// Logs that a reset looks into at once.
pub const RESET_AT_ONCE: usize = 4;

const _: () = assert!(LAG_POINTS_MAX as u64 * LAG_SAMPLE_MS == LAG_IDLE_MS as u64 && LAG_RATE_MS < LAG_IDLE_MS);
// Open pages leave connections for what else is asked.
const _: () = assert!(2 * LIVE_PAGES_MAX <= HTTP_OTHERS_MAX);
const _: () = assert!(2 * GROUP_BYTES_MAX <= COORDINATOR_MEMBERS_BYTES_MAX);
const _: () =
    assert!(GROUP_TEXT_BYTES_MAX <= i16::MAX as usize && MEMBER_ID_CLIENT_BYTES_MAX + 64 < GROUP_TEXT_BYTES_MAX);
const _: () = assert!(6 * METADATA_ENTRY_BYTES_MAX + (1 << 20) < METADATA_SEGMENT_BYTES as usize);
const _: () = assert!(BROWSE_CURSOR_BYTES_MAX * 3 / 4 > 32 + 10 * BROWSE_PARTITIONS_MAX);
const _: () = assert!(CONNECTION_BUFFER_BYTES <= FRAME_OTHER_BYTES_MAX);
const _: () = assert!(FRAME_LARGE_BYTES < FRAME_OTHER_BYTES_MAX);
const _: () = assert!(FRAME_OTHER_BYTES_MAX < REQUEST_LARGE_BYTES_MAX);
const _: () = assert!(REPLY_SHARE_BYTES < REPLY_BYTES_MAX && REPLY_BYTES_MAX < REPLY_BYTES_TOTAL_MAX);
const _: () = assert!(FETCH_PARTITIONS_MAX <= SESSION_PARTITIONS_MAX && FETCH_PARTITIONS_MAX <= u32::MAX as usize);
const _: () = assert!(OPENING_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(PRODUCERS_PER_PARTITION_MAX <= DESCRIBED_PRODUCERS_MAX);
const _: () = assert!(SERIES_POINTS as u64 * SERIES_STEP_MS == FIGURES_IDLE_MS);

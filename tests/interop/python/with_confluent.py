"""confluent-kafka (librdkafka, as of today) against the broker named by the first argument."""
import sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition, TopicCollection
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic, OffsetSpec, ResourceType
from support import PATIENCE, done, equal, fresh, report

BROKER = sys.argv[1]
warnings.simplefilter("ignore")  # AlterConfigs of the old style is tested on purpose.
BASE = {"bootstrap.servers": BROKER, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "topic.metadata.refresh.interval.ms": 500, "log_level": 0}
admin = AdminClient(BASE)


def until(what, f, beside=lambda: time.sleep(0.01)):
    deadline = time.monotonic() + PATIENCE
    while True:
        v = f()
        if v:
            return v
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what() if callable(what) else what}")
        beside()


def each(futures):
    return {k: f.result(PATIENCE) for k, f in futures.items()}


def code(f):
    """The error code that f ends with; None when it does not."""
    try:
        f()
    except (KafkaException, KafkaError) as e:
        return (e if isinstance(e, KafkaError) else e.args[0]).code()
    return None


def create(kind, partitions, **config):
    topic = fresh(kind)
    each(admin.create_topics([NewTopic(topic, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})]))
    return topic


def produce(topic, records, **config):
    """records: (partition, key, value, headers); the offsets they got, in order."""
    p = Producer({**BASE, "acks": "all", "linger.ms": 2, "message.timeout.ms": PATIENCE * 1000, **config})
    got = [None] * len(records)

    def delivered(i):
        def f(error, m):
            got[i] = error or m.offset()

        return f

    for i, (partition, key, value, headers) in enumerate(records):
        p.produce(topic, value, key, partition, on_delivery=delivered(i), headers=headers)
        p.poll(0)
    equal(0, p.flush(PATIENCE), "records without an answer")
    bad = [g for g in got if not isinstance(g, int)]
    equal([], bad, "errors")
    return got


def numbered(topic, partitions, numbers):
    return produce(topic, [(i % partitions, b"k", str(i).encode(), None) for i in numbers])


def consumer(group, **config):
    c = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 150, "fetch.wait.max.ms": 50}
    return Consumer({**BASE, **c, **{k.replace("_", "."): v for k, v in config.items()}})


class Member:
    """A consumer of a group, what it owns, what happened to it, what it read. Commits what it read when it loses a partition."""

    def __init__(self, group, topics, **config):
        self.c = consumer(group, **config)
        self.cooperative = config.get("partition_assignment_strategy") == "cooperative-sticky"
        self.owned, self.events, self.got, self.next, self.errors = set(), [], [], {}, []
        self.commits = True
        self.c.subscribe(topics, on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)

    def assigned(self, c, partitions):
        new = {p.partition for p in partitions}
        self.events.append(("assigned", new))
        self.owned = self.owned | new

    def revoked(self, c, partitions):
        gone = {p.partition for p in partitions}
        self.events.append(("revoked", gone))
        keep = [TopicPartition(p.topic, p.partition, self.next[p.partition]) for p in partitions if p.partition in self.next]
        if keep and self.commits:
            try:
                c.commit(offsets=keep, asynchronous=False)
            except KafkaException as e:
                self.errors.append(e.args[0])
        self.owned = self.owned - gone
        for p in gone:
            self.next.pop(p, None)

    def lost(self, c, partitions):
        self.events.append(("lost", {p.partition for p in partitions}))
        self.owned = set()

    def poll(self):
        m = self.c.poll(0.01)
        if m is None:
            return
        if m.error():
            self.errors.append(m.error())
            return
        if m.partition() not in self.owned:
            raise AssertionError(f"a record of partition {m.partition()}, which it does not own ({self.owned})")
        self.got.append((m.partition(), m.offset(), m.value()))
        self.next[m.partition()] = m.offset() + 1

    def close(self):
        self.c.close()


def pump(members, what, condition):
    until(lambda: f"{what}; owned {[m.owned for m in members]}, events {[m.events for m in members]}", condition, lambda: [m.poll() for m in members])


def shared(members, partitions):
    """Everything owned once, everybody owns something."""
    return all(m.owned for m in members) and sorted(p for m in members for p in m.owned) == list(range(partitions))


def codecs():
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        topic = create(codec, 3)
        records = [(i % 3, None if i % 7 == 0 else f"key {i}".encode(), None if i % 11 == 0 else f"value {i} ".encode() * (i % 50 + 1), [("n", str(i).encode()), ("null", None), ("n", b"twice")]) for i in range(300)]
        offsets = produce(topic, records, **{"compression.type": codec, "enable.idempotence": codec != "none"})
        equal([i // 3 for i in range(300)], offsets, f"{codec}: offsets")
        c = consumer("none", **{"check.crcs": True})
        c.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(3)])
        got = {}
        until(f"all records of {codec}", lambda: len(got) == 300, lambda: [got.__setitem__((m.partition(), m.offset()), (m.partition(), m.key(), m.value(), m.headers())) for m in c.consume(500, 0.1) if not m.error()])
        for record, offset in zip(records, offsets):
            equal(record, got[(record[0], offset)], f"{codec}: record {offset}")
        c.close()


def eager():
    for strategy in ("range", "roundrobin"):
        topic, group = create("eager", 6), fresh("group")
        numbered(topic, 6, range(300))
        a = Member(group, [topic], partition_assignment_strategy=strategy)
        pump([a], "the first owns all", lambda: shared([a], 6) and len(a.got) >= 100)
        b = Member(group, [topic], partition_assignment_strategy=strategy)
        pump([a, b], "two share", lambda: shared([a, b], 6))
        equal([3, 3], [len(a.owned), len(b.owned)], "partitions of each")
        equal(("revoked", set(range(6))), a.events[1], "an eager member gives up all")
        equal({0, 1, 2} if strategy == "range" else {0, 2, 4}, min(a.owned, b.owned, key=min), "who has partition 0")
        numbered(topic, 6, range(300, 600))
        pump([a, b], "all read", lambda: len(a.got) + len(b.got) >= 600)
        b.close()
        equal(set(), b.owned, "after closing")
        pump([a], "the one left owns all", lambda: shared([a], 6))
        numbered(topic, 6, range(600, 660))
        pump([a], "the rest read", lambda: len(a.got) + len(b.got) >= 660)
        a.close()
        # Committed when revoked, so that nobody reads twice.
        equal(sorted(range(660)), sorted(int(v) for m in (a, b) for _, _, v in m.got), "each record once")
        c = consumer(group)
        equal([110] * 6, [p.offset for p in c.committed([TopicPartition(topic, p) for p in range(6)], PATIENCE)], "committed")
        c.close()


def cooperative():
    topic, group = create("cooperative", 6), fresh("group")
    s = {"partition_assignment_strategy": "cooperative-sticky"}
    numbered(topic, 6, range(300))
    a = Member(group, [topic], **s)
    pump([a], "the first owns all", lambda: shared([a], 6) and len(a.got) >= 50)
    b = Member(group, [topic], **s)
    pump([a, b], "two share", lambda: shared([a, b], 6))
    equal([3, 3], [len(a.owned), len(b.owned)], "partitions of each")
    gone = set().union(*(p for kind, p in a.events if kind == "revoked"))
    equal(b.owned, gone, "the first gave up only what the second got")
    c = Member(group, [topic], **s)
    pump([a, b, c], "three share", lambda: shared([a, b, c], 6))
    equal([2, 2, 2], [len(m.owned) for m in (a, b, c)], "partitions of each")
    numbered(topic, 6, range(300, 600))
    pump([a, b, c], "all read", lambda: sum(len(m.got) for m in (a, b, c)) >= 600)
    kept = set(b.owned)
    a.close()
    pump([b, c], "two are left", lambda: shared([b, c], 6))
    if not kept <= b.owned:
        raise AssertionError(f"sticky: had {kept}, has {b.owned}")
    equal([], [e for m in (a, b, c) for e in m.events if e[0] == "lost"], "lost partitions")
    b.close()
    c.close()
    equal(sorted(range(600)), sorted(int(v) for m in (a, b, c) for _, _, v in m.got), "each record once")


def static():
    topic, group = create("static", 4), fresh("group")
    numbered(topic, 4, range(40))
    member = lambda name: Member(group, [topic], group_instance_id=name, session_timeout_ms=20000)
    a, b = member("a"), member("b")
    pump([a, b], "two share", lambda: shared([a, b], 4) and len(a.got) + len(b.got) >= 40)
    for which in ("a", "b"):
        # Either of them may be the leader.
        old, other = (a, b) if which == "a" else (b, a)
        had, before = set(old.owned), len(other.events)
        old.close()
        new = member(which)
        pump([new, other], "the restarted one is back", lambda: new.owned)
        equal(had, new.owned, "what the restarted one owns")
        # A whole round of heartbeats later the other one still knows of no rebalance.
        numbered(topic, 4, range(100, 140))
        n = len(other.got)
        pump([new, other], "both read on", lambda: len(new.got) >= 20 and len(other.got) >= n + 20)
        equal(before, len(other.events), f"rebalances that the other one saw: {other.events}")
        a, b = (new, b) if which == "a" else (a, new)
    d = admin.describe_consumer_groups([group])[group].result(PATIENCE)
    equal({"a", "b"}, {m.group_instance_id for m in d.members}, "instances described")
    # A second one with the same name fences the first.
    second = member("a")
    pump([a, b, second], "the second one has the place", lambda: second.owned and any(e.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID) for e in a.errors))
    for m in (a, b, second):
        m.close()


def commits():
    topic, group = create("commit", 3), fresh("group")
    numbered(topic, 3, range(30))
    a = Member(group, [topic])
    pump([a], "it owns all and read all", lambda: shared([a], 3) and len(a.got) == 30)
    done = a.c.commit(offsets=[TopicPartition(topic, 0, 4, metadata="four ü"), TopicPartition(topic, 1, 7, metadata="")], asynchronous=False)
    equal([None, None], [p.error for p in done], "errors of a commit")
    found = lambda: {p.partition: (p.offset, p.metadata) for p in consumer_committed(group, topic, 3)}
    equal({0: (4, "four ü"), 1: (7, None), 2: (OFFSET_INVALID, None)}, {k: (o, m or None) for k, (o, m) in found().items()}, "committed")
    # Asynchronous, from the callback; lower than before is allowed.
    a.c.commit(offsets=[TopicPartition(topic, 1, 3)], asynchronous=True)
    until("the lower offset", lambda: found()[1][0] == 3, a.poll)
    # Of the last message.
    a.c.seek(TopicPartition(topic, 2, 5))
    m = until("a record after a seek", lambda: a.c.poll(0.1))
    equal((2, 5), (m.partition(), m.offset()), "record after a seek")
    a.c.commit(message=m, asynchronous=False)
    equal(6, found()[2][0], "committed by message")
    # Too much metadata harms only its partition.
    try:
        result = a.c.commit(offsets=[TopicPartition(topic, 0, 9, metadata="x" * 5000), TopicPartition(topic, 1, 9)], asynchronous=False)
        codes = [p.error and p.error.code() for p in result]
    except KafkaException as e:
        codes = [e.args[0].code(), None]
    equal([KafkaError.OFFSET_METADATA_TOO_LARGE, None], codes, "codes")
    equal([4, 9], [found()[0][0], found()[1][0]], "committed beside it")
    # Nobody else commits for a live group.
    stranger = consumer(group)
    stranger.assign([TopicPartition(topic, 0, 0)])
    equal(KafkaError.UNKNOWN_MEMBER_ID, code(lambda: stranger.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)), "a stranger's commit")
    stranger.close()
    a.commits = False
    a.close()
    # The next one goes on there.
    b = Member(group, [topic])
    pump([b], "the rest", lambda: len(b.got) >= 11)
    equal([(0, o) for o in range(4, 10)] + [(1, 9)] + [(2, o) for o in range(6, 10)], sorted((p, o) for p, o, _ in b.got), "what was left")
    b.close()


def consumer_committed(group, topic, partitions):
    c = consumer(group)
    try:
        return c.committed([TopicPartition(topic, p) for p in range(partitions)], PATIENCE)
    finally:
        c.close()


def automatic():
    """Automatic commits, at their interval and when closed; offsets stored by hand."""
    topic, group = create("auto", 1), fresh("group")
    numbered(topic, 1, range(10))
    a = consumer(group, enable_auto_commit=True, auto_commit_interval_ms=100)
    a.subscribe([topic])
    got = []
    until("ten", lambda: len(got) == 10, lambda: got.extend(m for m in a.consume(10, 0.05) if not m.error()))
    until("the commit at its interval", lambda: consumer_committed(group, topic, 1)[0].offset == 10, lambda: a.poll(0.01))
    a.close()
    numbered(topic, 1, range(10, 20))
    b = consumer(group, enable_auto_commit=True, enable_auto_offset_store=False, auto_commit_interval_ms=3600000)
    b.subscribe([topic])
    got.clear()
    until("ten more", lambda: len(got) == 10, lambda: got.extend(m for m in b.consume(10, 0.05) if not m.error()))
    equal([10 + i for i in range(10)], [m.offset() for m in got], "where it went on")
    b.store_offsets(got[4])
    b.close()
    equal(15, consumer_committed(group, topic, 1)[0].offset, "the stored offset, committed when closed")


def resets():
    topic = create("reset", 1)
    numbered(topic, 1, range(20))
    low = admin.delete_records([TopicPartition(topic, 0, 5)])
    equal([5], [f.result(PATIENCE).low_watermark for f in low.values()], "low watermark")

    def first(reset, committed):
        group = fresh("group")
        if committed is not None:
            g = each(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, committed)])]))[group]
            equal([None], [p.error for p in g.topic_partitions], "altered")
        c = consumer(group, auto_offset_reset=reset)
        c.subscribe([topic])
        m = until(f"a record or an error with {reset}, {committed}", lambda: c.poll(0.1))
        c.close()
        return m.error().code() if m.error() else m.offset()

    equal(5, first("earliest", None), "earliest without a commit")
    equal(5, first("earliest", 2), "earliest, committed below the start")
    equal(5, first("earliest", 50), "earliest, committed above the end")
    equal(12, first("latest", 12), "latest, committed in between")
    equal(KafkaError._AUTO_OFFSET_RESET, first("error", 2), "no reset")
    equal(KafkaError._AUTO_OFFSET_RESET, first("error", None), "no reset, no commit")
    # Latest: only what comes after.
    c = consumer(fresh("group"), auto_offset_reset="latest")
    c.subscribe([topic])
    got, n = [], iter(range(20, 100000))
    until("a record that came after", lambda: got, lambda: (numbered(topic, 1, [next(n)]), got.extend(m for m in c.consume(10, 0.05) if not m.error())))
    if got[0].offset() < 20:
        raise AssertionError(f"latest began at {got[0].offset()}")
    equal(str(got[0].offset()).encode(), got[0].value(), "its value")
    c.close()


def seeks():
    topic, group = create("seek", 2), fresh("group")
    start = int(time.time() * 1000) - 1_000_000
    p = Producer(BASE)
    for i in range(200):
        p.produce(topic, str(i).encode(), partition=i % 2, timestamp=start + i * 1000)
    equal(0, p.flush(PATIENCE), "unsent")
    a = Member(group, [topic])
    pump([a], "all", lambda: len(a.got) == 200)
    nothing = lambda: equal([], [m for m in a.c.consume(10, 0.3)], "records while paused")
    a.c.pause([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    numbered(topic, 2, range(200, 210))
    nothing()
    a.c.resume([TopicPartition(topic, 1)])
    a.got.clear()
    pump([a], "those of the one that goes on", lambda: len(a.got) >= 5)
    equal([(1, 100 + i) for i in range(5)], [(p, o) for p, o, _ in a.got], "of partition 1 only")
    a.c.resume([TopicPartition(topic, 0)])
    a.got.clear()
    pump([a], "those of the other", lambda: len(a.got) >= 5)
    equal([(0, 100 + i) for i in range(5)], [(p, o) for p, o, _ in a.got], "of partition 0")
    # A seek while paused counts when resumed.
    a.c.pause([TopicPartition(topic, 0)])
    a.c.seek(TopicPartition(topic, 0, 41))
    nothing()
    a.c.resume([TopicPartition(topic, 0)])
    a.got.clear()
    pump([a], "from the place sought", lambda: len(a.got) >= 3)
    equal([(0, 41, b"82"), (0, 42, b"84"), (0, 43, b"86")], a.got[:3], "from the place sought")
    times = a.c.offsets_for_times([TopicPartition(topic, 0, start + 41_500), TopicPartition(topic, 1, start - 5)], PATIENCE)
    equal([21, 0], [t.offset for t in times], "offsets of times")
    equal((0, 105), a.c.get_watermark_offsets(TopicPartition(topic, 0), PATIENCE), "watermarks")
    equal([TopicPartition(topic, 0), TopicPartition(topic, 1)], sorted(a.c.assignment(), key=lambda t: t.partition), "assignment")
    a.close()


def groups():
    """Listing, describing, altering, deleting groups and their offsets."""
    topic, group = create("groups", 2), fresh("group")
    numbered(topic, 2, range(20))
    a = Member(group, [topic], client_id="the client")
    pump([a], "it owns all", lambda: shared([a], 2) and len(a.got) == 20)
    a.c.commit(offsets=[TopicPartition(topic, 0, 10), TopicPartition(topic, 1, 9)], asynchronous=False)

    def listed():
        r = admin.list_consumer_groups(request_timeout=PATIENCE).result()
        equal([], r.errors, "errors of a listing")
        return {g.group_id: g for g in r.valid}

    g = listed()[group]
    equal((ConsumerGroupState.STABLE, False), (g.state, g.is_simple_consumer_group), "as listed")
    empty = admin.list_consumer_groups(states={ConsumerGroupState.EMPTY}, request_timeout=PATIENCE).result().valid
    if group in {g.group_id for g in empty}:
        raise AssertionError("a live group is listed as empty")
    d = admin.describe_consumer_groups([group], request_timeout=PATIENCE)[group].result()
    equal((group, "range", ConsumerGroupState.STABLE, 1), (d.group_id, d.partition_assignor, d.state, d.coordinator.id), "as described")
    (m,) = d.members
    equal("the client", m.client_id, "client id")
    if "127.0.0.1" not in m.host:
        raise AssertionError(f"host {m.host}")
    equal([(topic, 0), (topic, 1)], sorted((t.topic, t.partition) for t in m.assignment.topic_partitions), "its assignment")
    offsets = each(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group].topic_partitions
    equal([(topic, 0, 10), (topic, 1, 9)], sorted((t.topic, t.partition, t.offset) for t in offsets), "its offsets")
    # A group with members can be neither deleted nor moved.
    equal(KafkaError.NON_EMPTY_GROUP, code(lambda: each(admin.delete_consumer_groups([group]))), "deleting a live group")
    alter = lambda offset: each(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, offset)])]))[group]
    try:
        found = [t.error and t.error.code() for t in alter(3).topic_partitions]
    except KafkaException as e:
        found = [e.args[0].code()]
    equal([KafkaError.UNKNOWN_MEMBER_ID], found, "altering a live group")
    a.commits = False
    a.close()
    until("it is empty", lambda: listed()[group].state == ConsumerGroupState.EMPTY)
    alter(3)
    equal([3, 9], [p.offset for p in consumer_committed(group, topic, 2)], "altered")
    d = each(admin.describe_consumer_groups([group]))[group]
    equal((ConsumerGroupState.EMPTY, []), (d.state, d.members), "an empty group")
    each(admin.delete_consumer_groups([group]))
    if group in listed():
        raise AssertionError("a deleted group is listed")
    equal([OFFSET_INVALID] * 2, [p.offset for p in consumer_committed(group, topic, 2)], "offsets of a deleted group")
    equal(KafkaError.GROUP_ID_NOT_FOUND, code(lambda: each(admin.delete_consumer_groups([group]))), "deleting it again")
    d = each(admin.describe_consumer_groups([group]))[group]
    equal((ConsumerGroupState.DEAD, []), (d.state, d.members), "a group that is not there")


def topics():
    topic = fresh("topics")
    each(admin.create_topics([NewTopic(topic, 2, 1, config={"retention.ms": "3600000", "cleanup.policy": "delete"})]))
    equal(KafkaError.TOPIC_ALREADY_EXISTS, code(lambda: each(admin.create_topics([NewTopic(topic, 2, 1)]))), "created again")
    equal(KafkaError.TOPIC_EXCEPTION, code(lambda: each(admin.create_topics([NewTopic("no name!", 2, 1)]))), "a bad name")
    equal(KafkaError.INVALID_CONFIG, code(lambda: each(admin.create_topics([NewTopic(topic + "x", 1, 1, config={"retention.ms": "soon"})]))), "a bad config")
    equal(KafkaError.INVALID_REPLICATION_FACTOR, code(lambda: each(admin.create_topics([NewTopic(topic + "x", 1, 3)]))), "three replicas on one broker")
    each(admin.create_topics([NewTopic(topic + "x", 1, 1)], validate_only=True))
    meta = admin.list_topics(timeout=PATIENCE)
    if topic + "x" in meta.topics:
        raise AssertionError("created by a dry run")
    equal([0, 1], sorted(meta.topics[topic].partitions), "partitions")
    each(admin.create_partitions([NewPartitions(topic, 4)]))
    equal(KafkaError.INVALID_PARTITIONS, code(lambda: each(admin.create_partitions([NewPartitions(topic, 3)]))), "fewer partitions")
    d = each(admin.describe_topics(TopicCollection([topic])))[topic]
    equal((topic, False, [0, 1, 2, 3], {1}), (d.name, d.is_internal, [p.id for p in d.partitions], {p.leader.id for p in d.partitions}), "as described")
    equal([[1]] * 4, [[n.id for n in p.isr] for p in d.partitions], "in sync")
    equal(KafkaError.UNKNOWN_TOPIC_OR_PART, code(lambda: each(admin.describe_topics(TopicCollection([topic + "x"])))), "one that is not there")
    resource = lambda: ConfigResource(ResourceType.TOPIC, topic)
    shown = lambda: next(iter(each(admin.describe_configs([resource()])).values()))
    c = shown()
    equal(("3600000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value, False), (c["retention.ms"].value, c["retention.ms"].source, c["retention.ms"].is_default), "retention.ms")
    equal(("-1", True), (c["retention.bytes"].value, c["retention.bytes"].is_default), "retention.bytes")
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("max.message.bytes", "70000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND)])
    each(admin.incremental_alter_configs([change]))
    c = shown()
    equal(("604800000", "70000", {"delete", "compact"}), (c["retention.ms"].value, c["max.message.bytes"].value, set(c["cleanup.policy"].value.split(","))), "changed")
    bad = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[ConfigEntry("no.such", "1", incremental_operation=AlterConfigOpType.SET)])
    equal(KafkaError.INVALID_CONFIG, code(lambda: each(admin.incremental_alter_configs([bad]))), "an unknown config")
    each(admin.delete_topics([topic]))
    until("it is gone", lambda: topic not in admin.list_topics(timeout=PATIENCE).topics)
    equal(KafkaError.UNKNOWN_TOPIC_OR_PART, code(lambda: each(admin.delete_topics([topic]))), "deleted again")


def old_configs():
    """AlterConfigs replaces everything."""
    topic = create("old", 1, retention_ms="3600000", max_message_bytes="70000")
    each(admin.alter_configs([ConfigResource(ResourceType.TOPIC, topic, set_config={"retention.ms": "7200000"})]))
    c = next(iter(each(admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)])).values()))
    equal(("7200000", "1048588"), (c["retention.ms"].value, c["max.message.bytes"].value), "replaced")


def cluster():
    d = admin.describe_cluster(request_timeout=PATIENCE).result()
    equal((1, [1]), (d.controller.id, [n.id for n in d.nodes]), "controller and nodes")
    if not d.cluster_id:
        raise AssertionError("no cluster id")
    c = next(iter(each(admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")])).values()))
    for name in ("log.retention.ms", "message.max.bytes", "num.partitions", "auto.create.topics.enable"):
        if name not in c:
            raise AssertionError(f"{name} is no config of the broker")
    topic = create("offsets", 1)
    start = int(time.time() * 1000) - 100_000
    p = Producer(BASE)
    for i, at in enumerate((5, 9, 7)):
        p.produce(topic, b"v", partition=0, timestamp=start + at * 1000)
    equal(0, p.flush(PATIENCE), "unsent")
    listed = lambda spec: next(iter(each(admin.list_offsets({TopicPartition(topic, 0): spec})).values())).offset
    found = [listed(s) for s in (OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.max_timestamp(), OffsetSpec.for_timestamp(start + 6000))]
    equal([0, 3, 1, 1], found, "offsets listed")
    (deleted,) = each(admin.delete_records([TopicPartition(topic, 0, 2)])).values()
    equal(2, deleted.low_watermark, "low watermark")
    equal([2, 3], [listed(OffsetSpec.earliest()), listed(OffsetSpec.latest())], "after deleting")
    equal(KafkaError.OFFSET_OUT_OF_RANGE, code(lambda: each(admin.delete_records([TopicPartition(topic, 0, 9)]))), "past the end")


def recreated():
    """A topic is deleted and made again, with fewer partitions, under a consumer that lives on."""
    topic, group = create("again", 3), fresh("group")
    numbered(topic, 3, range(30))
    a = Member(group, [topic])
    pump([a], "the first topic", lambda: len(a.got) == 30)
    a.c.commit(offsets=[TopicPartition(topic, p, 10) for p in range(3)], asynchronous=False)
    each(admin.delete_topics([topic]))
    pump([a], "it has nothing", lambda: not a.owned)
    until("its offsets are gone", lambda: all(p.offset == OFFSET_INVALID for p in consumer_committed(group, topic, 3)), a.poll)
    a.got.clear()
    a.next.clear()
    until("the name is free", lambda: code(lambda: each(admin.create_topics([NewTopic(topic, 2, 1)]))) is None, a.poll)
    produce(topic, [(i % 2, None, f"new {i}".encode(), None) for i in range(10)])
    pump([a], "the second topic", lambda: len(a.got) >= 10)
    equal({0, 1}, a.owned, "partitions")
    equal(sorted((i % 2, i // 2, f"new {i}".encode()) for i in range(10)), sorted(a.got), "its records, from the first on")
    a.close()
    equal([5, 5], [p.offset for p in consumer_committed(group, topic, 2)], "committed")


def patterns():
    """A subscription by pattern takes up topics made later, and partitions added."""
    stem, group = fresh("pattern"), fresh("group")
    each(admin.create_topics([NewTopic(f"{stem}.a", 1, 1)]))
    c = consumer(group)
    c.subscribe([f"^{stem}\\..*"])
    names = lambda: sorted((t.topic[len(stem):], t.partition) for t in c.assignment())
    until("the first", lambda: names() == [(".a", 0)], lambda: c.poll(0.02))
    each(admin.create_topics([NewTopic(f"{stem}.b", 1, 1)]))
    until("one made later", lambda: names() == [(".a", 0), (".b", 0)], lambda: c.poll(0.02))
    each(admin.create_partitions([NewPartitions(f"{stem}.a", 2)]))
    until("a partition added", lambda: names() == [(".a", 0), (".a", 1), (".b", 0)], lambda: c.poll(0.02))
    each(admin.delete_topics([f"{stem}.b"]))
    until("one taken away", lambda: names() == [(".a", 0), (".a", 1)], lambda: c.poll(0.02))
    c.close()


TESTS = {
    "round trips in every codec": codecs,
    "eager rebalances, range and round robin": eager,
    "cooperative rebalances": cooperative,
    "static members come back unnoticed, a second one fences the first": static,
    "commits, with metadata, by message, of strangers": commits,
    "automatic commits": automatic,
    "resets": resets,
    "seeks, pauses, times": seeks,
    "groups are listed, described, moved and deleted": groups,
    "topics are created, described, grown, configured and deleted": topics,
    "AlterConfigs replaces": old_configs,
    "the cluster, offsets, deleted records": cluster,
    "a topic is deleted and made again under a consumer": recreated,
    "a pattern takes up what comes later": patterns,
}


def one(name):
    began, error = time.monotonic(), None
    try:
        TESTS[name]()
    except BaseException as e:
        error = e
    with lock:
        report(f"confluent-kafka: {name}", began, error)


lock = threading.Lock()
wanted = [name for name in TESTS if not sys.argv[2:] or any(w in name for w in sys.argv[2:])]
with ThreadPoolExecutor(4) as pool:
    list(pool.map(one, wanted))
done()

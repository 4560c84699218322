"""aiokafka, a client written in Python alone, against the broker named by the first argument. Further arguments pick tests by a part of their names."""
import asyncio, sys, time
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, KafkaError, OffsetMetadataTooLargeError
from aiokafka.structs import OffsetAndMetadata
from support import PATIENCE, done, equal, fresh, report
import logging

logging.disable(logging.CRITICAL)
BROKER = sys.argv[1]
admin = None


async def until(what, f):
    deadline = time.monotonic() + PATIENCE
    while True:
        v = f()
        if asyncio.iscoroutine(v):
            v = await v
        if v:
            return v
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what() if callable(what) else what}")
        await asyncio.sleep(0.01)


async def create(kind, partitions):
    topic = fresh(kind)
    r = await admin.create_topics([NewTopic(topic, partitions, 1)])
    equal([0], [e[1] for e in r.topic_errors], "created")
    await answers(topic, partitions)
    return topic


async def answers(topic, partitions):
    """Each partition answers: what is refused for a moment could be sent twice."""
    c = AIOKafkaConsumer(bootstrap_servers=BROKER)
    await c.start()

    async def all_there():
        try:
            return len(await c.end_offsets([TopicPartition(topic, p) for p in range(partitions)])) == partitions
        except KafkaError:
            return False

    try:
        await until(f"{topic} answers", all_there)
    finally:
        await c.stop()


async def numbered(topic, partitions, numbers, **settings):
    p = AIOKafkaProducer(bootstrap_servers=BROKER, acks="all", metadata_max_age_ms=500, **settings)
    await p.start()
    try:
        return [await f for f in [await p.send(topic, str(i).encode(), partition=i % partitions) for i in numbers]]
    finally:
        await p.stop()


class Member(ConsumerRebalanceListener):
    """A consumer of a group in a task of its own: what it owns, what happened to it, what it read. Commits what it read when it loses partitions."""

    def __init__(self, group, topic, assignor=RangePartitionAssignor, **settings):
        self.topic, self.owned, self.events, self.got, self.error, self.commits = topic, set(), [], [], None, True
        settings = {"auto_offset_reset": "earliest", "session_timeout_ms": 10_000, "heartbeat_interval_ms": 100, "max_poll_interval_ms": 20_000, **settings}
        self.c = AIOKafkaConsumer(bootstrap_servers=BROKER, group_id=group, enable_auto_commit=False, metadata_max_age_ms=500, fetch_max_wait_ms=100, retry_backoff_ms=30,
                                  partition_assignment_strategy=[assignor], **settings)

    async def start(self):
        self.c.subscribe([self.topic], listener=self)
        await self.c.start()
        self.task = asyncio.create_task(self.read())
        return self

    async def read(self):
        try:
            async for m in self.c:
                if m.partition not in self.owned:
                    raise AssertionError(f"a record of {m.partition}, which it does not own")
                self.got.append((m.partition, m.offset, m.value))
        except BaseException as e:
            self.error = e

    async def on_partitions_revoked(self, revoked):
        if revoked and self.commits:
            await self.c.commit()
        if revoked:
            self.events.append(("revoked", {p.partition for p in revoked}))
        self.owned = set()

    async def on_partitions_assigned(self, assigned):
        self.owned = {p.partition for p in assigned}
        self.events.append(("assigned", set(self.owned)))

    async def stop(self):
        if self.commits and self.owned:
            await self.c.commit()
        await self.c.stop()
        await asyncio.wait([self.task])
        self.owned = set()


async def shared(partitions, *members):
    await until(lambda: f"{[m.owned for m in members]} share {partitions}; {[m.events for m in members]} {[m.error for m in members]}",
                lambda: all(m.owned for m in members) and sorted(p for m in members for p in m.owned) == list(range(partitions)))


async def read(n, *members):
    await until(lambda: f"{n} records, but {[len(m.got) for m in members]} {[m.error for m in members]}", lambda: sum(len(m.got) for m in members) >= n)


async def committed(group, topic):
    found = await admin.list_consumer_group_offsets(group)
    return {p.partition: (o.offset, o.metadata) for p, o in sorted(found.items()) if p.topic == topic and o.offset >= 0}


async def codecs():
    for codec, idempotent in ((None, False), ("gzip", True), ("snappy", False), ("lz4", True), ("zstd", False)):
        topic = await create("codec", 3)
        p = AIOKafkaProducer(bootstrap_servers=BROKER, acks="all", compression_type=codec, enable_idempotence=idempotent)
        await p.start()
        records = [(i % 3, f"key {i}".encode() if i % 7 or i % 11 == 0 else None, f"value {i} ".encode() * (i % 50 + 1) if i % 11 else None, (("n", str(i).encode()), ("n", b"twice"))) for i in range(300)]
        sent = [await f for f in [await p.send(topic, value, key, partition, headers=list(headers)) for partition, key, value, headers in records]]
        equal([i // 3 for i in range(300)], [s.offset for s in sent], f"{codec}: offsets")
        await p.stop()
        c = AIOKafkaConsumer(bootstrap_servers=BROKER, auto_offset_reset="earliest")
        await c.start()
        c.assign([TopicPartition(topic, p) for p in range(3)])
        got = {}

        async def more():
            for batch in (await c.getmany(timeout_ms=200)).values():
                got.update({(m.partition, m.offset): (m.partition, m.key, m.value, tuple(m.headers)) for m in batch})
            return len(got) == 300

        await until(lambda: f"300 records of {codec}, but {len(got)}", more)
        await c.stop()
        for record, s in zip(records, sent):
            equal(record, got[(s.partition, s.offset)], f"{codec}: a record")


async def rebalances():
    for assignor in (RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor):
        topic, group = await create("group", 6), fresh("group")
        await numbered(topic, 6, range(300))
        a = await Member(group, topic, assignor).start()
        await shared(6, a)
        await read(300, a)
        b = await Member(group, topic, assignor).start()
        await shared(6, a, b)
        equal([3, 3], [len(a.owned), len(b.owned)], "partitions of each")
        equal(("revoked", set(range(6))), a.events[1], "an eager member gives up all")
        await numbered(topic, 6, range(300, 600))
        await read(600, a, b)
        await b.stop()
        await shared(6, a)
        await numbered(topic, 6, range(600, 660))
        await read(660, a, b)
        await a.stop()
        equal(list(range(660)), sorted(int(v) for m in (a, b) for _, _, v in m.got), f"{assignor.name}: each record once")
        equal({p: (110, "") for p in range(6)}, await committed(group, topic), "committed")


async def static():
    topic, group = await create("static", 4), fresh("group")
    await numbered(topic, 4, range(40))
    member = lambda name: Member(group, topic, group_instance_id=name, session_timeout_ms=20_000).start()
    members = {"a": await member("a"), "b": await member("b")}
    await shared(4, *members.values())
    await read(40, *members.values())
    for name, other in (("a", "b"), ("b", "a")):
        # Either of them may be the leader. aiokafka's JoinGroup is one of those that learn of that by the member id.
        had, before = set(members[name].owned), len(members[other].events)
        await members[name].stop()
        members[name] = await member(name)
        await until("the restarted one is back", lambda: members[name].owned)
        equal(had, members[name].owned, "what the restarted one owns")
        n = len(members[other].got)
        await numbered(topic, 4, range(100, 140))
        await read(20, members[name])
        await read(n + 20, members[other])
        equal(before, len(members[other].events), f"rebalances that the other one saw: {members[other].events}")
    for m in members.values():
        await m.stop()


async def commits():
    topic, group = await create("commit", 2), fresh("group")
    await numbered(topic, 2, range(20))
    p0, p1 = TopicPartition(topic, 0), TopicPartition(topic, 1)
    a = await Member(group, topic).start()
    a.commits = False
    await shared(2, a)
    await read(20, a)
    await a.c.commit({p0: OffsetAndMetadata(4, "four ü"), p1: 7})
    equal([4, 7], [await a.c.committed(p) for p in (p0, p1)], "committed")
    equal({0: (4, "four ü"), 1: (7, "")}, await committed(group, topic), "as an administrator sees it")
    try:
        await a.c.commit({p0: OffsetAndMetadata(9, "x" * 5000)})
        raise AssertionError("too much metadata was taken")
    except OffsetMetadataTooLargeError:
        pass
    await a.stop()
    b = await Member(group, topic).start()
    await read(9, b)
    equal([(0, o) for o in range(4, 10)] + [(1, o) for o in range(7, 10)], sorted((p, o) for p, o, _ in b.got), "what was left")
    await b.stop()
    # Automatic, at its interval.
    await numbered(topic, 2, range(20, 24))
    c = AIOKafkaConsumer(topic, bootstrap_servers=BROKER, group_id=group, auto_commit_interval_ms=50, heartbeat_interval_ms=100)
    await c.start()
    got = []

    async def more():
        got.extend(m for batch in (await c.getmany(timeout_ms=50)).values() for m in batch)
        return len(got) >= 4 and await committed(group, topic) == {0: (12, ""), 1: (12, "")}

    await until(lambda: f"automatic commits; {len(got)} read", more)
    await c.stop()
    equal(4, len(got), "records after the commits")


async def seeks():
    topic, group = await create("seek", 2), fresh("group")
    start = int(time.time() * 1000) - 1_000_000
    p = AIOKafkaProducer(bootstrap_servers=BROKER, acks="all")
    await p.start()
    for f in [await p.send(topic, str(i).encode(), partition=i % 2, timestamp_ms=start + i * 1000) for i in range(200)]:
        await f
    await p.stop()
    p0, p1 = TopicPartition(topic, 0), TopicPartition(topic, 1)
    c = AIOKafkaConsumer(topic, bootstrap_servers=BROKER, group_id=group, auto_offset_reset="earliest", heartbeat_interval_ms=100, enable_auto_commit=False)
    await c.start()
    got = []

    async def take(n):
        async def more():
            got.extend((m.partition, m.offset, m.value) for batch in (await c.getmany(timeout_ms=50)).values() for m in batch)
            return len(got) >= n

        got.clear()
        await until(lambda: f"{n} records, but {len(got)}", more)
        return got

    await take(200)
    equal([100, 100], [await c.position(p) for p in (p0, p1)], "positions")
    c.pause(p0)
    await numbered(topic, 2, range(200, 210))
    equal([(1, 100 + i) for i in range(5)], [g[:2] for g in await take(5)], "while one is paused")
    c.resume(p0)
    equal([(0, 100 + i) for i in range(5)], [g[:2] for g in await take(5)], "when resumed")
    c.seek(p0, 41)
    equal([(0, 41, b"82"), (0, 42, b"84")], (await take(64))[:2], "from the place sought")
    await c.seek_to_beginning(p1)
    equal([(1, i) for i in range(105)], [g[:2] for g in await take(105)], "from the beginning")
    await c.seek_to_end(p0, p1)
    equal([105, 105], [await c.position(p) for p in (p0, p1)], "the end")
    times = await c.offsets_for_times({p0: start + 41_500, p1: start - 5})
    equal([21, 0], [times[p].offset for p in (p0, p1)], "offsets of times")
    equal({p0: 0, p1: 0}, await c.beginning_offsets([p0, p1]), "beginnings")
    equal({p0: 105, p1: 105}, await c.end_offsets([p0, p1]), "ends")
    await c.stop()
    # No reset: the consumer is told.
    await admin.delete_records({p0: RecordsToDelete(before_offset=50)})
    await until("the new beginning", lambda: beginning(p0, 50))
    d = AIOKafkaConsumer(bootstrap_servers=BROKER, auto_offset_reset="none")
    await d.start()
    d.assign([p0])
    d.seek(p0, 3)
    try:
        found = await asyncio.wait_for(d.getone(), PATIENCE)
        raise AssertionError(f"a deleted record: {found.offset}")
    except KafkaError as e:
        equal("OffsetOutOfRangeError", type(e).__name__, "below the beginning")
    await d.stop()


async def beginning(p, wanted):
    c = AIOKafkaConsumer(bootstrap_servers=BROKER)
    await c.start()
    try:
        return (await c.beginning_offsets([p]))[p] == wanted
    finally:
        await c.stop()


async def administration():
    topic, group = await create("admin", 2), fresh("group")
    again = await admin.create_topics([NewTopic(topic, 2, 1)], validate_only=True)
    equal([36], [e[1] for e in again.topic_errors], "created again")
    await admin.create_partitions({topic: NewPartitions(3)})

    async def three():
        (d,) = await admin.describe_topics([topic])
        return len(d["partitions"]) == 3

    await until("three partitions", three)
    d = await admin.describe_cluster()
    equal([1], [b["node_id"] for b in d["brokers"]], "brokers")
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "3600000"})
    await admin.alter_configs([resource])

    async def retention():
        (r,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return {c[0]: c[1] for c in r.resources[0][4]}["retention.ms"] == "3600000"

    await until("the config", retention)
    await numbered(topic, 3, range(30))
    a = await Member(group, topic, client_id="the client").start()
    await shared(3, a)
    await read(30, a)
    equal([(group, "consumer")], [g[:2] for g in await admin.list_consumer_groups() if g[0] == group], "listed")
    equal(1, await admin.find_coordinator(group), "coordinator")
    (r,) = await admin.describe_consumer_groups([group])
    error, name, state, kind, protocol, members = r.groups[0][:6]
    equal((0, group, "Stable", "consumer", "range", 1, "the client"), (error, name, state, kind, protocol, len(members), members[0][1]), "described")
    await a.stop()
    equal({p: (10, "") for p in range(3)}, await committed(group, topic), "committed")
    (r,) = await admin.describe_consumer_groups([group])
    equal(("Empty", []), (r.groups[0][2], list(r.groups[0][5])), "when all are gone")
    equal([0], [e[1] for e in (await admin.delete_topics([topic])).topic_error_codes], "deleted")

    async def gone():
        return topic not in await admin.list_topics()

    await until("it is gone", gone)
    await until("its offsets are gone", lambda: no_offsets(group, topic))


async def no_offsets(group, topic):
    return await committed(group, topic) == {}


TESTS = {
    "round trips in every codec": codecs,
    "rebalances, by range, round robin and sticky": rebalances,
    "static members come back unnoticed": static,
    "commits, with metadata and automatic": commits,
    "seeks, pauses, times, deleted records": seeks,
    "topics, configs and groups of an administrator": administration,
}


async def one(name, slots):
    async with slots:
        began, error = time.monotonic(), None
        try:
            await asyncio.wait_for(TESTS[name](), 2 * PATIENCE)
        except Exception as e:
            error = e
        report(f"aiokafka: {name}", began, error)


async def main():
    global admin
    admin = AIOKafkaAdminClient(bootstrap_servers=BROKER)
    await admin.start()
    slots = asyncio.Semaphore(4)
    await asyncio.gather(*(one(name, slots) for name in TESTS if not sys.argv[2:] or any(w in name for w in sys.argv[2:])))
    done()


asyncio.run(main())

"""Apache Kafka's dump tool, and our own, against the files of a broker that was stopped."""
import glob, json, os, re
from harness import equal, run, test
from java import CLASSPATH


def written(data, kinds, prefixes):
    """The files of these kinds in the partitions of these topics, but not of those that are being deleted: nobody closes their open segment."""
    found = sorted(f for kind in kinds for f in glob.glob(f"{data}/*/*.{kind}"))
    return [f for f in found if (name := os.path.basename(os.path.dirname(f))).startswith(prefixes) and not name.endswith("-delete")]


FIELDS = ["baseOffset", "lastOffset", "count", "baseSequence", "lastSequence", "producerId", "producerEpoch", "partitionLeaderEpoch",
          "isTransactional", "isControl", "position", "CreateTime", "LogAppendTime", "size", "magic", "compresscodec", "crc", "isvalid"]


def kafka_dump(files):
    """Kafka's dump of each file: a list of batches, and of the records in them."""
    out = run("java", "-cp", CLASSPATH, "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files", ",".join(files), timeout=300).stdout
    found, current = {}, None
    for line in out.splitlines():
        if line.startswith("Dumping "):
            current = found.setdefault(line[len("Dumping "):], ([], []))
        elif line.startswith("baseOffset: "):
            current[0].append({k: v for k, v in re.findall(r"(\w+): (\S+)", line) if k in FIELDS})
        elif line.startswith("| offset: "):
            current[1].append({k: int(v) for k, v in re.findall(r"(\w+): (-?\d+)", line) if k in ("offset", "CreateTime", "keySize", "valueSize")})
        elif not line.startswith("Log starting offset"):
            raise AssertionError(f"Kafka's dump tool says: {line}")
    return found


def our_dump(binary, file):
    text = lambda v: str(v).lower() if isinstance(v, bool) else str(v)
    lines = [json.loads(l) for l in run(binary, "log", "dump", "--records", "--output", "json", file).stdout.split("\n") if l]
    records = [{"offset": r["offset"], "CreateTime": r["timestamp"], "keySize": r["keySize"], "valueSize": r["valueSize"]} for l in lines for r in l.get("records", [])]
    return [{k: text(v) for k, v in l.items() if k in FIELDS} for l in lines], records


def dumps_agree(binary, data):
    logs = written(data, ["log"], ("java-", "kcat-", "rolled-"))
    if len(logs) < 40:
        raise AssertionError(f"only {len(logs)} logs to compare")
    batches = 0
    kafka = kafka_dump(logs)
    for file in logs:
        theirs, their_records = kafka[file]
        ours, our_records = our_dump(binary, file)
        equal(theirs, ours, file)
        batches += len(ours)
        compressed = any(b["compresscodec"] != "none" for b in ours)
        if not compressed:
            equal(their_records, our_records, f"records of {file}")
    if batches < 500:
        raise AssertionError(f"only {batches} batches to compare")
    print(f"        {len(logs)} logs, {batches} batches compared", flush=True)


def indexes_agree(data):
    files = written(data, ["index", "timeindex", "snapshot"], ("java-", "rolled-"))
    if not any(f.endswith(".timeindex") for f in files):
        raise AssertionError("no time index to look at")
    out = run("java", "-cp", CLASSPATH, "org.apache.kafka.tools.DumpLogSegments", "--files", ",".join(files), timeout=300)
    for word in ("ismatch", "rror", "xception", "orrupt"):
        bad = [l for l in (out.stdout + out.stderr).splitlines() if word in l]
        if bad:
            raise AssertionError(bad[0])
    entries = len(re.findall(r"^(offset|timestamp): ", out.stdout, re.M))
    if entries < 20:
        raise AssertionError(f"only {entries} index entries")
    print(f"        {len(files)} index files and snapshots, {entries} entries", flush=True)


def partition_for(group, count=50):
    """As Kafka does it: the absolute value of Java's hash, modulo the number of partitions."""
    h = 0
    for c in group:
        h = (31 * h + ord(c)) & 0xFFFFFFFF
    return (2**32 - h if h > 2**31 else h % 2**31) % count


def offsets_decode(data):
    """Each record of __consumer_offsets must be one that Kafka knows; those of the group that was left behind are looked at."""
    logs = sorted(f for f in glob.glob(f"{data}/__consumer_offsets-*/*.log") if os.path.getsize(f))
    out = run("java", "-cp", CLASSPATH, "org.apache.kafka.tools.DumpLogSegments", "--offsets-decoder", "--files", ",".join(logs), timeout=300).stdout
    offsets, generations, records, partition = [], [], 0, None
    for line in out.splitlines():
        if not line.startswith("| "):
            if not re.match(r"Dumping |Log starting offset|baseOffset: ", line) or "isvalid: false" in line:
                raise AssertionError(f"Kafka's dump tool says: {line}")
            if line.startswith("Dumping "):
                partition = int(re.search(r"__consumer_offsets-(\d+)/", line)[1])
            continue
        found = re.search(r" key: (\{.*?\}) payload: (\{.*\}|<DELETE>)$", line)
        if not found:
            raise AssertionError(f"not a record that Kafka knows: {line}")
        records += 1
        key, value = json.loads(found[1]), None if found[2] == "<DELETE>" else json.loads(found[2])
        equal(True, key["type"] in ("0", "1", "2"), f"known type of {line}")
        equal(partition_for(key["data"]["group"]), partition, f"partition of the group {key['data']['group']}")
        if key["data"]["group"] == "grouped-1":
            (generations if key["type"] == "2" else offsets).append((key["data"], value and value["data"]))
    equal(1, len(offsets), "offsets of the group")
    equal({"group": "grouped-1", "topic": "rolled-1", "partition": 0}, offsets[0][0], "key of the offset")
    equal((1234, 0, "a word"), tuple(offsets[0][1][k] for k in ("offset", "leaderEpoch", "metadata")), "offset")
    last = [value for _, value in generations if value and value["members"]][-1]
    equal(("consumer", "range", ["kept"]), (last["protocolType"], last["protocol"], [m["groupInstanceId"] for m in last["members"]]), "the group")
    equal(last["leader"], last["members"][0]["memberId"], "its leader")
    print(f"        {len(logs)} logs of __consumer_offsets, {records} records", flush=True)


def tests(binary, data, broker):
    test("log: a clean stop ends with exit code 0", lambda: equal(0, broker.stop(), "exit code"))
    test("log: verify finds no damage", lambda: run(binary, "log", "verify", data))
    test("log: Kafka's dump tool and `millstream log dump` agree", lambda: dumps_agree(binary, data))
    test("log: Kafka's dump tool finds the indexes and snapshots in order", lambda: indexes_agree(data))
    test("log: Kafka's dump tool understands every record of __consumer_offsets", lambda: offsets_decode(data))

"""Latencies: the HDR logs of the broker and of `millstream bench`, opened by the standard reader, and the broker's clock against the bench's."""
import json, os, tempfile, urllib.request
from harness import equal, run, test
from java import CLASSPATH

TOPIC = "figures-1"
RECORDS = 600


def read(path):
    """What HdrHistogram's own reader finds: by tag (count, p50, p99, max)."""
    out = run("java", "-XX:TieredStopAtLevel=1", "-cp", CLASSPATH, "HdrLog", path).stdout
    lines = [line.rsplit(" ", 4) for line in out.splitlines()]
    return {tag: tuple(int(n) for n in numbers) for tag, *numbers in lines}


def get(http, path):
    with urllib.request.urlopen(f"http://{http}{path}", timeout=30) as answer:
        return answer.read().decode()


def tests(binary, broker):
    with tempfile.TemporaryDirectory(prefix="millstream-figures-") as work:
        tests_in(work, binary, broker)


def tests_in(work, binary, broker):
    log = os.path.join(work, "bench.hlog")
    seen = {}

    def bench():
        run(binary, "topic", "create", TOPIC, "--partitions", "1", "--bootstrap", broker.kafka)
        out = run(binary, "bench", "produce", TOPIC, "--records", RECORDS, "--rate", "300", "--hdr", log, "--output", "json", "--bootstrap", broker.kafka).stdout
        seen.update(json.loads(out)["latency"]["from due to acknowledged"])
        equal(RECORDS, seen["count"], "latencies measured")
        count, p50, p99, most = read(log)["-"]
        equal(RECORDS, count, "latencies in the HDR log")
        for name, wanted, found in (("p50", seen["percentiles"]["p50"], p50), ("p99", seen["percentiles"]["p99"], p99), ("max", seen["max"], most)):
            # Two readers of the same buckets of three digits.
            if abs(found / 1000 - wanted) > wanted * 0.002 + 0.002:
                raise AssertionError(f"{name}: the log says {found} ns, the report {wanted} us")

    def broker_log():
        path = os.path.join(work, "broker.hlog")
        with open(path, "w") as f:
            f.write(get(broker.http, f"/v1/latency?kind=topic&name={TOPIC}&format=hdr"))
        by_tag = read(path)
        told = json.loads(get(broker.http, f"/v1/latency?kind=topic&name={TOPIC}"))["histograms"]
        equal(sorted(f"{h['kind']}/{h['name']}/{h['stage']}" for h in told), sorted(by_tag), "the histograms of the topic")
        for h in told:
            count, p50, p99, most = by_tag[f"{h['kind']}/{h['name']}/{h['stage']}"]
            equal(h["count"], count, f"samples of {h['stage']}")

    def clocks():
        """Every request lies within the latency of the records it brought: the broker can have seen none longer, and the two middles are near each other's."""
        total = json.loads(get(broker.http, f"/v1/latency?kind=topic&name={TOPIC}&stage=received_to_acknowledged"))["histograms"][0]
        if not 0 < total["count"] <= RECORDS:
            raise AssertionError(f"{total['count']} requests for {RECORDS} records")
        # Two digits of precision.
        if total["max_us"] > seen["max"] * 1.02 + 1:
            raise AssertionError(f"the broker saw a request of {total['max_us']} us, the bench none above {seen['max']} us")
        stages = json.loads(get(broker.http, f"/v1/latency?kind=topic&name={TOPIC}"))["histograms"]
        means = {h["stage"]: h["mean_us"] for h in stages}
        parts = sum(mean for stage, mean in means.items() if stage != "received_to_acknowledged")
        whole = means["received_to_acknowledged"]
        # Each stage is cut to whole microseconds and kept to two digits.
        if abs(parts - whole) > whole * 0.03 + 3:
            raise AssertionError(f"the stages take {parts} us together, the whole {whole} us: {means}")

    test("hdr: a bench's log opens in HdrHistogram's reader", bench)
    test("hdr: the broker's log opens in HdrHistogram's reader", broker_log)
    test("hdr: the broker's clock and the bench's agree", clocks)

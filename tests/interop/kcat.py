"""kcat (librdkafka 2.0 on Debian 12): an old client, as people have it."""
import os, time
from harness import equal, run, test


def kcat_lines(broker):
    topic = f"kcat-{os.getpid()}-{time.time_ns()}"
    for codec in ("none", "gzip", "snappy", "lz4"):
        lines = "".join(f"{codec}{i}:value {i}\n" for i in range(100))
        run("kcat", "-b", broker, "-q", "-P", "-t", topic, "-K:", "-z", codec, "-X", "acks=all", stdin=lines)
    out = run("kcat", "-b", broker, "-q", "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-f", "%o %k %s\n").stdout
    equal([f"{i} {('none', 'gzip', 'snappy', 'lz4')[i // 100]}{i % 100} value {i % 100}" for i in range(400)], out.splitlines(), "lines")
    out = run("kcat", "-b", broker, "-q", "-C", "-t", topic, "-p", "0", "-o", "-3", "-e", "-f", "%o\n").stdout
    equal("397\n398\n399\n", out, "the last three")
    out = run("kcat", "-b", broker, "-Q", "-t", f"{topic}:0:{int(time.time() * 1000) - 600_000}").stdout
    equal(f"{topic} [0] offset 0", out.strip(), "offset by time")


def kcat_nulls(broker):
    topic = f"kcat-null-{os.getpid()}-{time.time_ns()}"
    run("kcat", "-b", broker, "-q", "-P", "-t", topic, "-K:", "-Z", stdin="key:\n:value\n")
    out = run("kcat", "-b", broker, "-q", "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-f", "%K %S\n").stdout
    equal("3 -1\n-1 5\n", out, "key and value sizes")


def tests(broker):
    test("kcat: lines in every codec, by offset and by time", lambda: kcat_lines(broker))
    test("kcat: null keys and values", lambda: kcat_nulls(broker))

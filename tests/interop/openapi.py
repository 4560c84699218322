"""The HTTP API against its own document: schemathesis asks for whatever the document allows, and for what it does not. And a standard reader opens the HDR log."""
import json, os, shutil, subprocess, sys, tempfile, urllib.request
from harness import HERE, Broker, equal, run, test

OWN = os.path.join(HERE, "openapi")
VENV = f"{OWN}/target/venv"
KEPT = "kept-as-it-is"
SEED = "1"
# In all, over examples, bounds, random requests and sequences of requests.
SECONDS = "75"


def build():
    wanted = open(f"{OWN}/requirements.txt").read()
    stamp = f"{OWN}/target/installed"
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([f"{VENV}/bin/pip", "install", "-q", "--disable-pip-version-check", "-r", f"{OWN}/requirements.txt"], check=True)
    with open(stamp, "w") as f:
        f.write(wanted)


def ask(broker, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{broker.http}{path}", data, {"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def shown(broker):
    topic = json.loads(ask(broker, f"/v1/topics/{KEPT}"))
    return {name: topic[name] for name in ("name", "id", "partitions", "records", "size_bytes", "configs")}


def keeps_to_its_document(broker, work):
    log = f"{work}/schemathesis.log"
    env = dict(os.environ, SCHEMATHESIS_HOOKS="hooks", PYTHONPATH=OWN, MILLSTREAM_KEPT_TOPIC=KEPT, NO_COLOR="1")
    # The hook that keeps a run away from one topic leads a request elsewhere, where nothing was created: that is no resource that went missing.
    # Live streams have no end; what they answer at the start is tested elsewhere.
    command = [f"{VENV}/bin/st", "--config-file", f"{OWN}/schemathesis.toml", "run", f"http://{broker.http}/v1/openapi.json", "--checks", "all", "--exclude-checks", "ensure_resource_availability", "--seed", SEED,
               "--max-time", SECONDS, "--request-timeout", "20", "--exclude-path-regex", "/(tail|events|live)$", "--continue-on-failure", "--no-shrink"]
    with open(log, "w") as out:
        p = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=work, timeout=300)
    text = open(log).read()
    if p.returncode:
        begin = text.find("= FAILURES =")
        lines = [line[:300] for line in text[max(begin, 0):].splitlines() if line.strip()]
        raise AssertionError(f"schemathesis gave {p.returncode} (all of it in {log}):\n" + "\n".join(lines[:120]))
    if " generated" not in text:
        raise AssertionError(f"schemathesis asked nothing: {text[-500:]}")


def histograms(broker, work):
    file = f"{work}/latency.hlog"
    with open(file, "wb") as f:
        f.write(ask(broker, "/v1/latency?format=hdr&kind=topic&limit=1000"))
    read = json.loads(run(f"{VENV}/bin/python", f"{OWN}/histograms.py", file).stdout)
    wanted = json.loads(ask(broker, f"/v1/latency?kind=topic&name={KEPT}"))["histograms"]
    if not wanted:
        raise AssertionError("nothing was measured")
    for histogram in wanted:
        tag = f"topic/{KEPT}/{histogram['stage']}"
        count, largest = read[tag]
        equal(histogram["count"], count, f"samples of {tag}")
        # The reader gives the middle or the end of the bucket: two digits are exact.
        if abs(largest - histogram["max_us"]) > 1 + histogram["max_us"] / 50:
            raise AssertionError(f"{tag}: largest {largest}, but {histogram['max_us']} by JSON")


def tests(binary):
    work = tempfile.mkdtemp(prefix="millstream-openapi-")
    broker = Broker(binary, f"{work}/data")
    bad = False
    try:
        ask(broker, "/v1/topics", {"name": KEPT, "partitions": 2, "configs": {"retention.ms": "86400000"}})
        run("kcat", "-P", "-b", broker.kafka, "-t", KEPT, stdin="".join(f"record {n}\n" for n in range(100)))
        before = shown(broker)
        equal(100, before["records"], "records published")
        test("openapi: every route keeps to its document", lambda: keeps_to_its_document(broker, work))

        def survived():
            equal(None, broker.process.poll(), "exit code of the broker")
            equal(before, shown(broker), "the topic that nobody touched")
            if "panicked" in open(f"{work}/data.log").read():
                raise AssertionError(f"something panicked: {work}/data.log")

        test("openapi: the broker lives, and what was not touched is as it was", survived)
        test("openapi: a standard reader opens the HDR log", lambda: histograms(broker, work))
        test("openapi: the broker stops cleanly afterwards", lambda: equal(0, broker.stop(), "exit code"))
    finally:
        if broker.process.poll() is None:
            broker.process.kill()
        import harness
        if not harness.failed:
            shutil.rmtree(work, ignore_errors=True)

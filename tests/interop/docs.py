"""The programs of docs/clients.md, and the shell commands of the README and the quick start, as they stand there: what is shown is what is run.

A block of python, java, go or js in docs/clients.md is a complete program. A block of sh with `<!-- run -->` above it is run as it stands, but that its addresses are
those of the broker under test; the block of text that follows it is what it must print, where "…" stands for anything and "⋮" for any lines.
"""
import itertools, json, os, re, shutil, subprocess, tempfile, time, urllib.request
import go, java, node, python
from harness import GO_ENV, ROOT, Broker, equal, run, test

RECORD = re.compile(r"(\S+)/(\d+) offset (\d+): (customer-\d) (order \d)$")


def blocks(page):
    """(language, text, whether it is marked to be run, the block of text that follows or None) of each fenced block."""
    lines, found, at, previous = open(f"{ROOT}/{page}").read().split("\n"), [], 0, 0
    while at < len(lines):
        fence = re.match(r"```(\w+)$", lines[at])
        if fence:
            end = lines.index("```", at)
            found.append([fence[1], "\n".join(lines[at + 1 : end]) + "\n", at > 0 and lines[at - 1].strip() == "<!-- run -->", None])
            between = "".join(l for l in lines[previous:at]).strip() if len(found) > 1 else "-"
            if fence[1] == "text" and len(found) > 1 and found[-2][2] and not between:
                found[-2][3] = found[-1][1]
            previous, at = end + 1, end
        at += 1
    return [tuple(b) for b in found]


def started(language, text, work):
    """The command that runs a program with the tools of the other suites."""
    name = {"python": "orders.py", "java": "Orders.java", "go": "main.go", "js": "orders.mjs"}[language]
    with open(f"{work}/{name}", "w") as f:
        f.write(text)
    if language == "python":
        return [f"{python.VENV}/bin/python", f"{work}/{name}"]
    if language == "java":
        return ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{java.JAVA}/target/lib/*", f"{work}/{name}"]
    if language == "js":
        os.symlink(f"{node.NODE}/node_modules", f"{work}/node_modules")
        return ["node", f"{work}/{name}"]
    for f in ("go.mod", "go.sum"):
        shutil.copy(f"{go.GO}/{f}", work)
    subprocess.run([go.compiler(), "build", "-buildvcs=false", "-o", "orders", "."], cwd=work, check=True, env={**os.environ, **GO_ENV})
    return [f"{work}/orders"]


def program(language, text, broker):
    work = tempfile.mkdtemp(prefix="millstream-docs-")
    try:
        lines = text.count("\n")
        assert lines < 50, f"{lines} lines are no short program"
        topic = f"docs-{language}-{os.getpid()}-{time.time_ns()}"
        out = run(*started(language, text, work), broker, topic, f"{topic}-group", timeout=90).stdout.splitlines()
        records = [RECORD.match(line) for line in out]
        assert all(records), f"not a record: {out}"
        records = [r.groups() for r in records]
        equal({topic}, {r[0] for r in records}, "topics")
        equal([(f"customer-{n % 3}", f"order {n}") for n in range(10)], sorted((r[3:] for r in records), key=lambda r: r[1]), "records")
        for key in {r[3] for r in records}:
            own = [r for r in records if r[3] == key]
            equal(1, len({r[1] for r in own}), f"partitions of {key}")
            equal(sorted(own, key=lambda r: int(r[2])), own, f"order of {key}")
        # As a member of the group, and committed: another one starts behind them. kcat says so when it is at the end of a partition.
        rest = run("kcat", "-b", broker, "-q", "-G", f"{topic}-group", "-X", "enable.partition.eof=true", "-X", "auto.offset.reset=earliest", "-e", topic, timeout=60).stdout
        equal("", rest, "records left to the group")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def prints(wanted, out):
    """Whether `out` is what the page shows."""
    pattern = re.escape(wanted.strip("\n")).replace(re.escape("⋮"), r"[^\n]*(?:\n[^\n]*)*?").replace(re.escape("…"), r"[^\n]*?")
    return re.fullmatch(pattern, out.strip("\n")) is not None


def shell(page, text, wanted, broker, work):
    for shown, real in (("localhost:9092", broker.kafka), ("localhost:9080", broker.http)):
        text = text.replace(shown, real)
    env = {**os.environ, "PATH": f"{work}/bin:{os.environ['PATH']}"}
    p = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=work, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    if p.returncode:
        raise AssertionError(f"exit code {p.returncode} of {text!r}: {p.stderr.strip()[-500:]}")
    if wanted is not None and not prints(wanted, p.stdout):
        raise AssertionError(f"{page} shows {wanted!r}, it prints {p.stdout!r} ({p.stderr.strip()[-500:]})")


def routes(broker):
    """The table of docs/http.md has every route of the OpenAPI document with its methods, and no other."""
    rows = re.findall(r"^\| (`/.*`) \| ([A-Z, ]+) \|", open(f"{ROOT}/docs/http.md").read(), re.M)
    rows = [(path, methods) for paths, methods in rows for path in re.findall(r"`(\S+)`", paths)]
    with urllib.request.urlopen(f"http://{broker.http}/v1/openapi.json", timeout=60) as answer:
        served = json.load(answer)["paths"]
    equal({path: sorted(m.upper() for m in methods) for path, methods in served.items()}, {path: sorted(methods.split(", ")) for path, methods in rows}, "routes")


def mentioned(binary):
    """Each `millstream COMMAND --flag` that a page names exists, by the program's own help."""
    wrong = []
    for page in ["README.md", *sorted(f"docs/{p}" for p in os.listdir(f"{ROOT}/docs") if p.endswith(".md"))]:
        for code in re.findall(r"`millstream ([a-z][^`]*)`", open(f"{ROOT}/{page}").read()):
            words = code.split()
            command = list(itertools.takewhile(lambda w: re.fullmatch("[a-z-]+", w) and not w.startswith("-"), words))
            while command:
                help = run(binary, *command, "--help", ok=False)
                # `config listeners`: the last word is an argument.
                if help.returncode == 0 or len(command) == 1:
                    break
                command.pop()
            flags = [w for w in words if w.startswith("--")]
            if command == ["help"]:
                continue
            if help.returncode or any(flag not in help.stdout for flag in flags):
                wrong.append(f"{page}: millstream {code}")
    equal([], wrong, "commands that are not there")


def commands(binary):
    """Each page's commands in their order, on a broker of the page's own."""
    for page in ("README.md", "docs/quickstart.md", "docs/http.md", "docs/cli.md"):
        if not os.path.exists(f"{ROOT}/{page}"):
            continue
        todo = [b for b in blocks(page) if b[0] == "sh" and b[2]]
        if not todo:
            continue
        work = tempfile.mkdtemp(prefix="millstream-docs-")
        os.makedirs(f"{work}/bin")
        # The defaults of a person's broker, so that the page's names of files are right as well.
        broker = Broker(binary, f"{work}/data")
        # `millstream` itself looks at localhost:9092.
        with open(f"{work}/bin/millstream", "w") as f:
            f.write(f'''#!/bin/sh
case $1 in topic | group | produce | consume | bench) exec {os.path.abspath(binary)} "$@" --bootstrap {broker.kafka};; esac
exec {os.path.abspath(binary)} "$@"
''')
        os.chmod(f"{work}/bin/millstream", 0o755)
        try:
            if page == "docs/http.md":
                test("docs: docs/http.md: every route is in its table", lambda: routes(broker))
            for _, text, _, wanted in todo:
                test(f"docs: {page}: {text.strip().splitlines()[0][:90]}", lambda: shell(page, text, wanted, broker, work))
        finally:
            broker.stop()
            shutil.rmtree(work, ignore_errors=True)


def tests(broker, binary=None):
    programs = [b for b in blocks("docs/clients.md") if b[0] in ("python", "java", "go", "js")]
    equal(["go", "java", "js", "python"], sorted(b[0] for b in programs), "programs in docs/clients.md")
    for language, text, _, _ in programs:
        test(f"docs: docs/clients.md: {language}", lambda: program(language, text, broker))
    if binary:
        test("docs: every command that a page names is there", lambda: mentioned(os.path.abspath(binary)))
        commands(binary)

"""What every interop test needs: one line a test, the broker under test, and a way to run a program."""
import os, re, signal, subprocess, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# The Go that is there: no other one is fetched.
GO_ENV = {"GOTOOLCHAIN": "local"}
passed = failed = 0


def test(name, f):
    global passed, failed
    began = time.monotonic()
    try:
        f()
        passed += 1
        print(f"ok      {name} ({(time.monotonic() - began) * 1000:.0f} ms)", flush=True)
    except Exception as e:
        failed += 1
        print(f"FAILED  {name}: {type(e).__name__}: {e}", flush=True)


def program(name, command, timeout=400):
    """A program with tests of its own, that prints "ok      NAME (N ms)" or "FAILED  NAME: why" for each: shown and counted."""
    global passed, failed
    try:
        p = subprocess.run([str(a) for a in command], capture_output=True, text=True, timeout=timeout)
        out, err = p.stdout, p.stderr
    except subprocess.TimeoutExpired as e:
        out, err = ((b or b"").decode(errors="replace") for b in (e.stdout, e.stderr))
        err += f"\nnot done after {timeout} s"
        p = None
    print("\n".join(l for l in out.splitlines() if not re.match(r"\d+ passed", l)), flush=True)
    good, bad = len(re.findall(r"^ok ", out, re.M)), len(re.findall(r"^FAILED ", out, re.M))
    passed, failed = passed + good, failed + bad
    if good + bad == 0 or p is None or (p.returncode != 0 and bad == 0):
        failed += 1
        print(f"FAILED  {name} did not run to its end: {err.strip()[-1000:]}", flush=True)


def equal(wanted, found, what):
    if wanted != found:
        raise AssertionError(f"{what}: wanted {wanted!r}, found {found!r}")


def run(*args, stdin="", timeout=120, ok=True):
    p = subprocess.run([str(a) for a in args], input=stdin, capture_output=True, text=True, timeout=timeout)
    if ok and p.returncode:
        raise AssertionError(f"{args[0]} {args[1]} gave {p.returncode}: {(p.stderr or p.stdout).strip()[-500:]}")
    return p


class Broker:
    """The real binary; `settings` as --set takes them."""

    def __init__(self, binary, data, *settings, kafka="127.0.0.1:0"):
        self.log = open(data + ".log", "a")
        args = [binary, "serve", "--data-dir", data, "--kafka", kafka, "--http", "127.0.0.1:0"]
        for s in settings:
            args += ["--set", s]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        found = re.match(r"ready kafka=(\S+) http=(\S+)", line)
        if not found:
            self.process.kill()
            raise RuntimeError(f"no ready line but {line!r}; stderr: {open(data + '.log').read()[-2000:]}")
        self.kafka, self.http = found.groups()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("still there 60 s after SIGTERM")

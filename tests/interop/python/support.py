"""One line a test, names of one's own, and waiting for what must come."""
import os, sys, time, traceback

PATIENCE = 45  # seconds; no wait is longer, and none is expected to come near.
passed = failed = 0
RUN = f"{os.getpid():x}{time.time_ns() // 1_000_000 & 0xFFFFFF:x}"


def report(name, began, error):
    global passed, failed
    if error is None:
        passed += 1
        print(f"ok      {name} ({(time.monotonic() - began) * 1000:.0f} ms)", flush=True)
    else:
        failed += 1
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in where if os.path.dirname(f.filename) == os.path.dirname(os.path.abspath(__file__))]
        text = " ".join(str(error).split())
        print(f"FAILED  {name}: {type(error).__name__}: {text} (at {' < '.join(reversed(ours))})", flush=True)


def done():
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # Clients of a failed test may still hold threads.


def equal(wanted, found, what):
    if wanted != found:
        raise AssertionError(f"{what}: wanted {wanted!r}, found {found!r}")


def fresh(kind):
    """A name of a topic or group that no other run uses."""
    fresh.count = getattr(fresh, "count", 0) + 1
    return f"py-{kind}-{RUN}-{fresh.count}"

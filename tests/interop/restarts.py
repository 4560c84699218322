"""A Java group whose broker dies under it: twice by kill -9, once in an orderly way."""
import random, shutil, socket, subprocess, tempfile
import harness
from harness import Broker
from java import CLASSPATH


def free_port():
    """Below the ports that connections get: else a client that tries again and again to reach a broker that is gone can reach itself."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def deaths(binary):
    work = tempfile.mkdtemp(prefix="millstream-interop-")
    address = f"127.0.0.1:{free_port()}"
    broker = Broker(binary, f"{work}/data", kafka=address)
    survivors = subprocess.Popen(["java", "-XX:TieredStopAtLevel=1", "-cp", CLASSPATH, "Survivors", address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    good = False
    try:
        said, died = [], 0
        for line in survivors.stdout:
            if line != "now\n":
                said.append(line.rstrip())
                continue
            if died < 2:
                broker.process.kill()
                broker.process.wait()
            else:
                harness.equal(0, broker.stop(), "exit code of an orderly stop")
            died += 1
            broker = Broker(binary, f"{work}/data", kafka=address)
            survivors.stdin.write("back\n")
            survivors.stdin.flush()
        good = survivors.wait(60) == 0
        if not good:
            raise AssertionError(f"after {died} deaths: " + "\n".join(said)[:3000])
        harness.equal(3, died, "deaths")
    finally:
        for process in (survivors, broker.process):
            if process.poll() is None:
                process.kill()
        if good:
            shutil.rmtree(work, ignore_errors=True)
        else:
            print(f"kept for a look: {work}", flush=True)


def tests(binary):
    harness.test("restart: a Java group lives through three deaths of its broker", lambda: deaths(binary))

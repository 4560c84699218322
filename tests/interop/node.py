"""kafkajs; node/ is a package with one program."""
import os, subprocess
from harness import HERE, program

NODE = os.path.join(HERE, "node")


def build():
    wanted, stamp = open(f"{NODE}/package-lock.json").read(), f"{NODE}/node_modules/.installed"
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE, check=True)
    with open(stamp, "w") as f:
        f.write(wanted)


def tests(broker):
    program("kafkajs", ["node", f"{NODE}/interop.js", broker])

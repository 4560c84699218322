"""Python's clients, confluent-kafka and aiokafka; python/ holds one program a client and what they need."""
import os, shutil, subprocess, sys
from harness import HERE, program

PYTHON = os.path.join(HERE, "python")
VENV = f"{PYTHON}/target/venv"


def build():
    wanted = open(f"{PYTHON}/requirements.txt").read()
    stamp = f"{PYTHON}/target/installed"
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([f"{VENV}/bin/pip", "install", "-q", "--disable-pip-version-check", "-r", f"{PYTHON}/requirements.txt"], check=True)
    with open(stamp, "w") as f:
        f.write(wanted)


def tests(broker):
    program("confluent-kafka", [f"{VENV}/bin/python", f"{PYTHON}/with_confluent.py", broker])
    program("aiokafka", [f"{VENV}/bin/python", f"{PYTHON}/with_aiokafka.py", broker])

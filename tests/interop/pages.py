"""The pages in a real browser: headless Chromium, driven by pages/, against the real broker with data of a real client."""
import os, subprocess
from harness import HERE, program

PAGES = os.path.join(HERE, "pages")


def build():
    wanted, stamp = open(f"{PAGES}/package-lock.json").read(), f"{PAGES}/node_modules/.installed"
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=PAGES, check=True)
    with open(stamp, "w") as f:
        f.write(wanted)


def tests(broker):
    program("pages", ["node", f"{PAGES}/pages.js", broker.kafka, broker.http])

"""franz-go with kadm; go/ is a module with one program. Its versions are the newest that Go 1.21 builds: Debian 12 has 1.19, its backports 1.23."""
import os, re, shutil, subprocess
from harness import GO_ENV, HERE, program

GO = os.path.join(HERE, "go")
BACKPORT = "/usr/lib/go-1.23/bin/go"


def compiler():
    """A Go of 1.21 or later; none when there is only an older one."""
    for go in filter(None, (shutil.which("go"), BACKPORT)):
        if os.path.exists(go):
            found = re.search(r"go1\.(\d+)", subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout)
            if found and int(found[1]) >= 21:
                return go
    return None


def build():
    go = compiler()
    if not go:
        raise SystemExit("no Go of 1.21 or later: .ci/run tools installs one")
    # Go itself knows whether anything must be built. The commit is of no interest, nor git needed.
    subprocess.run([go, "build", "-buildvcs=false", "-o", "target/interop", "."], cwd=GO, check=True, env={**os.environ, **GO_ENV})


def tests(broker):
    program("franz-go", [f"{GO}/target/interop", broker])


if __name__ == "__main__":
    raise SystemExit(0 if compiler() else 1)

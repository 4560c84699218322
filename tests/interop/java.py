"""Apache Kafka's own Java client; java/ is a Maven project with one main class a theme."""
import glob, os, subprocess
from harness import HERE, program, run, test

JAVA = os.path.join(HERE, "java")
CLASSPATH = f"{JAVA}/target/classes:{JAVA}/target/lib/*"


def build():
    newest = max(os.path.getmtime(p) for p in [f"{JAVA}/pom.xml", *glob.glob(f"{JAVA}/src/main/java/*.java")])
    stamp = f"{JAVA}/target/built"
    if not os.path.exists(stamp) or os.path.getmtime(stamp) < newest:
        subprocess.run(["mvn", "-q", "-B", "-f", f"{JAVA}/pom.xml", "package"], check=True)
        open(stamp, "w").close()


def rolled(broker):
    """A topic with small segments, so that closed ones are looked at too."""
    run("java", "-cp", CLASSPATH, "Rolled", broker, "rolled-1")


def grouped(broker):
    """A group of a static member, with a committed offset: what must be found in __consumer_offsets."""
    run("java", "-cp", CLASSPATH, "Grouped", broker, "rolled-1", "grouped-1")


def tests(broker):
    program("java", ["java", "-XX:TieredStopAtLevel=1", "-cp", CLASSPATH, "Interop", broker])

//! Starts and stops the real binary.

#[allow(unused_imports)]
pub use crate::http::{Answer, Event, Events, Http, http};

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// No wait of the suite is longer than this; nothing is expected to take it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A new empty directory on the disk that holds the build (not on a tmpfs), removed when dropped.
pub fn temp() -> TempDir {
    tempfile::Builder::new().prefix("it-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The address of a foreign broker to test the tests against.
pub fn foreign() -> Option<String> {
    std::env::var("MILLSTREAM_TEST_KAFKA").ok()
}

/// Says that a test is passed over for want of `what`: a failure where `MILLSTREAM_TEST_REQUIRE` (names with blanks between; `.ci/run` sets it) asks for that.
pub fn passed_over(what: &str, why: &str) {
    let required = std::env::var("MILLSTREAM_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(' ').any(|r| r == what), "{what} is required here, but {why}");
    println!("passed over: {why}");
}

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    /// What `--kafka` says; empty = not given.
    pub kafka: String,
    args: Vec<String>,
    env: Vec<(String, OsString)>,
    ephemeral: bool,
    exact: bool,
}

impl Options {
    pub fn new(dir: &Path) -> Options {
        Options {
            dir: dir.to_owned(),
            kafka: "127.0.0.1:0".into(),
            args: Vec::new(),
            env: Vec::new(),
            ephemeral: false,
            exact: false,
        }
    }

    pub fn set(mut self, name: &str, value: &str) -> Options {
        self.args.extend(["--set".into(), format!("{name}={value}")]);
        self
    }

    /// With a throw-away data directory, which it makes in `dir`.
    pub fn ephemeral(mut self) -> Options {
        self.ephemeral = true;
        self.env.push(("TMPDIR".into(), self.dir.clone().into()));
        self
    }

    /// With these arguments and no others; the environment says the rest.
    pub fn exactly(mut self, args: &[String]) -> Options {
        self.args = args.to_vec();
        self.exact = true;
        self
    }

    /// Reads settings from `file`.
    pub fn config(mut self, file: &Path) -> Options {
        self.args.extend(["--config".into(), file.to_str().unwrap().into()]);
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Options {
        self.env.push((name.into(), value.into()));
        self
    }

    fn command(&self) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_millstream"));
        if !self.exact {
            c.args(["serve", "--http", "127.0.0.1:0"]);
            if !self.kafka.is_empty() {
                c.args(["--kafka", &self.kafka]);
            }
            match self.ephemeral {
                true => c.arg("--ephemeral"),
                false => c.arg("--data-dir").arg(&self.dir),
            };
        }
        c.args(&self.args);
        // What steers the tests is no setting of the broker.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MILLSTREAM_")) {
            c.env_remove(name);
        }
        c.envs(self.env.iter().map(|(k, v)| (k, v))).env("RUST_BACKTRACE", "1");
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        c
    }

    /// Starts and waits for the ready line.
    pub fn start(&self) -> Broker {
        self.try_start().unwrap_or_else(|(status, stderr)| panic!("no ready line ({status:?}):\n{stderr}"))
    }

    /// Starts and kills it after a while, ready or not.
    pub fn start_and_kill_after(&self, wait: Duration) {
        let mut child = self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts one whose stdout nobody reads; its addresses are taken from the log.
    pub fn start_unheard(&self) -> Broker {
        let began = Instant::now();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = self.command().stdout(writer).spawn().unwrap();
        let (stderr, reader) = gather(&mut child);
        let field = |name: &str| {
            eventually("the log has the addresses", || {
                let text = stderr.lock().unwrap();
                let line = text.lines().find(|line| line.contains(" ready "))?;
                Some(line.split(' ').find_map(|f| f.strip_prefix(name))?.to_string())
            })
        };
        let (kafka, http) = (field("kafka="), field("http="));
        let (reader, ready_after) = (Some(reader), began.elapsed());
        Broker { child: Some(child), kafka, http, further: Vec::new(), stderr, reader, ready_after }
    }

    /// Starts; gives exit status and stderr when the broker ends before it is ready.
    pub fn try_start(&self) -> Result<Broker, (ExitStatus, String)> {
        let began = Instant::now();
        let mut child = self.command().spawn().unwrap();
        let (stderr, reader) = gather(&mut child);
        let (tx, rx) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            // Keeps reading to the end, so that the broker never meets a closed pipe.
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if line.starts_with("ready ") {
                    let _ = tx.send((line, Instant::now()));
                }
            }
        });
        match rx.recv_timeout(PATIENCE) {
            Ok((line, at)) => {
                let field = |name: &str| {
                    let found = line.split(' ').find_map(|f| f.strip_prefix(name));
                    found.unwrap_or_else(|| panic!("no {name} in {line:?}")).to_string()
                };
                let (kafka, http) = (field("kafka="), field("http="));
                let further = line.split(' ').filter_map(|f| f.strip_prefix("kafka.")?.split_once('='));
                let further = further.map(|(name, address)| (name.to_string(), address.to_string())).collect();
                let (reader, ready_after) = (Some(reader), at - began);
                Ok(Broker { child: Some(child), kafka, http, further, stderr, reader, ready_after })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait().unwrap();
                reader.join().unwrap();
                Err((status, Arc::try_unwrap(stderr).unwrap().into_inner().unwrap()))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("neither ready nor gone after {PATIENCE:?}:\n{}", stderr.lock().unwrap());
            }
        }
    }
}

/// Gathers what it writes to stderr.
fn gather(child: &mut Child) -> (Arc<Mutex<String>>, std::thread::JoinHandle<()>) {
    let stderr = Arc::new(Mutex::new(String::new()));
    let mut err = child.stderr.take().unwrap();
    let sink = stderr.clone();
    let reader = std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = err.read(&mut buf) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buf[..n]));
        }
    });
    (stderr, reader)
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub struct Broker {
    child: Option<Child>,
    /// Address of the Kafka listener.
    pub kafka: String,
    /// Address of the HTTP listener.
    pub http: String,
    /// Name and address of each Kafka listener behind the first.
    pub further: Vec<(String, String)>,
    stderr: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    /// From exec to the ready line.
    pub ready_after: Duration,
}

impl Broker {
    /// A broker on an empty directory with default settings, or the foreign one.
    pub fn any() -> (Broker, TempDir) {
        let dir = temp();
        let broker = match foreign() {
            Some(kafka) => Broker {
                child: None,
                kafka,
                http: String::new(),
                further: Vec::new(),
                stderr: Arc::default(),
                reader: None,
                ready_after: Duration::ZERO,
            },
            None => Options::new(dir.path()).start(),
        };
        (broker, dir)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a foreign broker").id()
    }

    /// Address of a Kafka listener behind the first.
    pub fn listener(&self, name: &str) -> &str {
        let found = self.further.iter().find(|(n, _)| n == name);
        &found.unwrap_or_else(|| panic!("no listener {name}: {:?}", self.further)).1
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Whether the process still runs.
    pub fn alive(&mut self) -> bool {
        self.child.as_mut().is_none_or(|c| c.try_wait().unwrap().is_none())
    }

    /// kill -9, and waits for the end.
    pub fn kill(mut self) {
        let mut child = self.child.take().expect("a foreign broker");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        // By pid only; the child is not reaped before `child.wait`, so the pid is ours. The shell's own `kill`: not every machine has another.
        let pid = self.pid().to_string();
        let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// SIGTERM; waits for the end and gives exit code (`None` = by a signal) and all of stderr.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("still there {PATIENCE:?} after SIGTERM:\n{}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.reader.take().unwrap().join().unwrap();
        (status.code(), self.stderr())
    }

    /// GET over HTTP: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        http_get(&self.http, path)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("--- stderr of the broker ---\n{}", self.stderr());
            }
        }
    }
}

/// GET over HTTP/1.1: status and body.
pub fn http_get(address: &str, path: &str) -> (u16, String) {
    let mut s = TcpStream::connect(address).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(s, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    s.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"));
    (status, body.to_string())
}

/// Waits until `f` gives something, asking again every few ms; panics with `what` when it never does.
pub fn eventually<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(v) = f() {
            return v;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sets the flag when dropped, by a panic too, so that threads beside end.
#[derive(Debug)]
pub struct SetOnDrop<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A small generator (splitmix64) for tests that print their seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// From `MILLSTREAM_SEED`, else from the clock; printed, so that a failure can be replayed.
    pub fn from_environment() -> Random {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("MILLSTREAM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(now);
        println!("MILLSTREAM_SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// A fixed address in front of a broker that comes back on another port: forwards bytes both ways, closes what its broker closes, refuses
/// (accepts and closes) while there is none.
#[derive(Debug)]
pub struct Proxy {
    pub address: String,
    target: Arc<Mutex<Option<String>>>,
}

impl Proxy {
    pub fn new() -> Proxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target: Arc<Mutex<Option<String>>> = Arc::default();
        let wanted = target.clone();
        // Ends with the process; a test binary has few of them.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let to = wanted.lock().unwrap().clone();
                let Some(server) = to.and_then(|a| TcpStream::connect(a).ok()) else { continue };
                for s in [&client, &server] {
                    let _ = s.set_nodelay(true);
                }
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pipe(client, server));
                std::thread::spawn(move || pipe(back.0, back.1));
            }
        });
        Proxy { address, target }
    }

    /// Points new connections at `address`, or at nothing.
    pub fn to(&self, address: Option<&str>) {
        *self.target.lock().unwrap() = address.map(str::to_string);
    }

    /// The setting that makes a broker send its clients here.
    pub fn advertised(&self) -> String {
        format!("PLAINTEXT://{}", self.address)
    }
}

fn pipe(mut from: TcpStream, mut to: TcpStream) {
    let mut buf = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        if to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

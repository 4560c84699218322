//! Runs the steps of the scenario against a broker and records or compares the answers.

use super::{differences, tree};
use crate::wire::Client;
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    marker::PhantomData,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A step as it is kept: what was asked and what Kafka answered, both masked.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub version: i16,
    pub name: String,
    pub request: Value,
    /// "closed" where Kafka closed the connection.
    pub answer: Value,
}

/// Steps by API key, in the order of the scenario.
pub type Recording = BTreeMap<i16, Vec<Step>>;

/// Where the recordings lie: one file an API.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/oracle/recorded")
}

/// Reads the recordings.
pub fn recording() -> Recording {
    let mut all = Recording::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let step = |step: &Value| Step {
            version: step["version"].as_i64().unwrap() as i16,
            name: step["step"].as_str().unwrap().to_string(),
            request: step["request"].clone(),
            answer: step["answer"].clone(),
        };
        let steps = file["steps"].as_array().unwrap().iter().map(step).collect();
        all.insert(file["key"].as_i64().unwrap() as i16, steps);
    }
    all
}

/// Where keys are filed that are no API.
const NO_API: i16 = -1;

/// Kafka's name of an API.
pub fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|_| "None".to_string(), |key| format!("{key:?}"))
}

/// The versions of a request that both Kafka 4.4 and our message types know.
pub fn versions<R: Request>() -> RangeInclusive<i16> {
    R::VERSIONS.min..=R::VERSIONS.max
}

/// A request that was sent and whose answer is outstanding.
pub struct Pending<R> {
    connection: &'static str,
    step: String,
    version: i16,
    request: Value,
    sent: bool,
    kind: PhantomData<R>,
}

/// The scenario on its way.
pub struct Session {
    address: String,
    connections: BTreeMap<&'static str, Client>,
    /// Ids that answers brought, and what the scenario calls them.
    names: BTreeMap<String, String>,
    /// What Kafka answered; `None` while that is being recorded.
    known: Option<Recording>,
    /// Versions that this broker serves.
    served: BTreeMap<i16, RangeInclusive<i16>>,
    asked: BTreeSet<(i16, i16, String)>,
    taken: Recording,
    problems: Vec<String>,
    /// Entries of the list of differences that were met.
    met: BTreeSet<usize>,
}

/// The connection that steps use which name none.
const MAIN: &str = "main";

impl Session {
    pub fn new(address: &str, known: Option<Recording>) -> Session {
        let listed = Client::connect(address).call(0, &ApiVersionsRequest::default());
        let served = listed.api_keys.iter().map(|a| (a.api_key, a.min_version..=a.max_version)).collect();
        Session {
            address: address.to_string(),
            connections: BTreeMap::new(),
            names: BTreeMap::new(),
            known,
            served,
            asked: BTreeSet::new(),
            taken: Recording::new(),
            problems: Vec::new(),
            met: BTreeSet::new(),
        }
    }

    /// Calls a value by a name from now on, in requests and answers.
    pub fn bind(&mut self, name: &str, value: impl ToString) {
        let value = value.to_string();
        if !value.is_empty() && value != uuid::Uuid::nil().to_string() {
            self.names.insert(value, name.to_string());
        }
    }

    /// One request on the main connection and its answer. Gives an empty answer where the connection was closed or the broker does not serve the request.
    pub fn call<R: Request<Response: Debug + Default> + Debug>(
        &mut self,
        step: &str,
        version: i16,
        request: &R,
    ) -> R::Response {
        self.call_and(step, version, request, |_, _| ())
    }

    /// As `call`; `bind` sees the answer before it is masked.
    pub fn call_and<R: Request<Response: Debug + Default> + Debug>(
        &mut self,
        step: &str,
        version: i16,
        request: &R,
        bind: impl FnOnce(&mut Session, &R::Response),
    ) -> R::Response {
        let pending = self.start(MAIN, step, version, request);
        self.finish_and(pending, bind)
    }

    /// As `call`, of a request whose body is written already: where the message types do not know its version.
    pub fn call_written<R: Request<Response: Debug + Default> + Debug>(
        &mut self,
        step: &str,
        version: i16,
        request: &R,
        body: &[u8],
    ) -> R::Response {
        let sent = self.serves(R::KEY, version);
        if sent {
            let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
            let mut frame = BytesMut::new();
            header.encode(&mut frame, R::header_version(version)).unwrap();
            frame.extend_from_slice(body);
            self.connection(MAIN).write_frame(&frame).unwrap();
        }
        let request = tree::mask("", tree::of(request), &self.names);
        let step = step.to_string();
        self.finish(Pending::<R> { connection: MAIN, step, version, request, sent, kind: PhantomData })
    }

    /// A request and its answer in a version that the message types do not know: `body` is written already, `read` makes the tree of the answer (after its
    /// header, which has tagged fields but for ApiVersions).
    pub fn call_by_hand(
        &mut self,
        step: &str,
        key: i16,
        version: i16,
        request: Value,
        body: &[u8],
        read: impl FnOnce(&mut Bytes) -> Option<Value>,
    ) {
        if !self.serves(key, version) {
            return;
        }
        let header = RequestHeader::default().with_request_api_key(key).with_request_api_version(version);
        let mut frame = BytesMut::new();
        header.encode(&mut frame, 2).unwrap();
        frame.extend_from_slice(body);
        let client = self.connection(MAIN);
        client.write_frame(&frame).unwrap();
        let answer = match client.read_frame() {
            Ok(mut answer) => {
                let header = if key == ApiVersionsRequest::KEY { 0 } else { 1 };
                let known = ResponseHeader::decode(&mut answer, header).is_ok();
                let tree = read(&mut answer).filter(|_| known && answer.is_empty());
                tree.map_or(json!("not readable"), |tree| tree::mask("", tree, &self.names))
            }
            Err(error) => {
                self.connections.remove(MAIN);
                json!(unanswered(&error))
            }
        };
        let request = tree::mask("", request, &self.names);
        self.take(key, Step { version, name: step.to_string(), request, answer });
    }

    /// Sends a request by a connection of its own.
    pub fn start<R: Request + Debug>(
        &mut self,
        connection: &'static str,
        step: &str,
        version: i16,
        request: &R,
    ) -> Pending<R> {
        let sent = self.serves(R::KEY, version);
        let request_tree = tree::mask("", tree::of(request), &self.names);
        if sent {
            self.connection(connection).send(version, request);
        }
        Pending { connection, step: step.to_string(), version, request: request_tree, sent, kind: PhantomData }
    }

    /// Takes the answer to it.
    pub fn finish<R: Request<Response: Debug + Default>>(&mut self, pending: Pending<R>) -> R::Response {
        self.finish_and(pending, |_, _| ())
    }

    /// As `finish`; `bind` sees the answer before it is masked.
    pub fn finish_and<R: Request<Response: Debug + Default>>(
        &mut self,
        pending: Pending<R>,
        bind: impl FnOnce(&mut Session, &R::Response),
    ) -> R::Response {
        if !pending.sent {
            return R::Response::default();
        }
        let Pending { connection, step, version, request, .. } = pending;
        match self.receive::<R>(connection, version) {
            Ok(response) => {
                bind(self, &response);
                let answer = tree::mask("", tree::of(&response), &self.names);
                self.take(R::KEY, Step { version, name: step, request, answer });
                response
            }
            Err(reason) => {
                self.take(R::KEY, Step { version, name: step, request, answer: json!(reason) });
                R::Response::default()
            }
        }
    }

    /// A request that is not part of the comparison.
    pub fn quiet<R: Request<Response: Default>>(&mut self, version: i16, request: &R) -> R::Response {
        if !self.serves(R::KEY, version) {
            return R::Response::default();
        }
        self.connection(MAIN).send(version, request);
        self.receive::<R>(MAIN, version).unwrap_or_default()
    }

    /// Asks until the answer is as wanted: where Kafka lets a change take effect behind its answer.
    pub fn until<R: Request<Response: Debug + Default>>(
        &mut self,
        version: i16,
        request: &R,
        wanted: impl Fn(&R::Response) -> bool,
    ) -> R::Response {
        if !self.serves(R::KEY, version) {
            return R::Response::default();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let last = self.quiet(version, request);
            if wanted(&last) {
                return last;
            }
            if Instant::now() > deadline {
                self.problems.push(format!("{} v{version} never answers as wanted: {last:?}", api_name(R::KEY)));
                return last;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A request as raw bytes after the header fields (key, version, correlation id), on a connection of its own; the answer as it came.
    pub fn raw(&mut self, step: &str, key: i16, version: i16, rest: &[u8]) {
        let mut client = Client::connect(&self.address);
        let mut frame = key.to_be_bytes().to_vec();
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&7i32.to_be_bytes());
        frame.extend_from_slice(rest);
        client.write_frame(&frame).unwrap();
        let answer = match client.read_frame() {
            Ok(bytes) => json!(format!("{:?}", Bytes::copy_from_slice(&bytes[..bytes.len().min(12)]))),
            Err(error) => json!(unanswered(&error)),
        };
        let request = json!(format!("{:?}", Bytes::copy_from_slice(rest)));
        match ApiKey::try_from(key) {
            Ok(_) => self.take(key, Step { version, name: step.to_string(), request, answer }),
            Err(_) => self.take(NO_API, Step { version, name: format!("{step}: {key}"), request, answer }),
        }
    }

    /// Ends the scenario: the problems found, or the recording.
    pub fn end(mut self) -> (Recording, Vec<String>) {
        if let Some(known) = &self.known {
            for (key, steps) in known {
                for step in steps.iter().filter(|s| !self.asked.contains(&(*key, s.version, s.name.clone()))) {
                    if self.serves(*key, step.version) {
                        let name = api_name(*key);
                        self.problems
                            .push(format!("{name} v{} {:?} is recorded, but no step", step.version, step.name));
                    }
                }
            }
            for (i, difference) in differences::LIST.iter().enumerate() {
                if !self.met.contains(&i) && self.served.contains_key(&difference.key) {
                    self.problems.push(format!("no longer differs, to be taken off the list: {difference:?}"));
                }
            }
        }
        (self.taken, self.problems)
    }

    /// Whether the broker serves this.
    pub fn serves(&self, key: i16, version: i16) -> bool {
        self.served.get(&key).is_some_and(|served| served.contains(&version))
    }

    fn connection(&mut self, name: &'static str) -> &mut Client {
        self.connections.entry(name).or_insert_with(|| {
            let client = Client::connect(&self.address);
            if self.known.is_none() {
                // Some requests make Kafka fail inside and never answer: they are not for the scenario.
                client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            }
            client
        })
    }

    /// The answer, or why there is none. A closed connection is opened anew by the next request.
    fn receive<R: Request>(&mut self, connection: &'static str, version: i16) -> Result<R::Response, String> {
        let mut frame = match self.connection(connection).read_frame() {
            Ok(frame) => frame,
            Err(error) => {
                self.connections.remove(connection);
                return Err(unanswered(&error));
            }
        };
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).map_err(|e| format!("header: {e}"))?;
        let body = R::Response::decode(&mut frame, version).map_err(|e| format!("not readable: {e}"))?;
        match frame.remaining() {
            0 => Ok(body),
            left => Err(format!("{left} bytes behind the answer")),
        }
    }

    /// Keeps the step, or compares it with the one that is kept.
    fn take(&mut self, key: i16, step: Step) {
        let what = format!("{} v{} {:?}", api_name(key), step.version, step.name);
        println!("{what}: {}", shown(&Some(step.answer.clone())));
        if !self.asked.insert((key, step.version, step.name.clone())) {
            self.problems.push(format!("{what}: two steps of one name"));
        }
        let Some(known) = &self.known else {
            if step.answer == json!(unanswered(&std::io::ErrorKind::TimedOut.into())) {
                self.problems.push(format!("{what}: no answer to record"));
            }
            self.taken.entry(key).or_default().push(step);
            return;
        };
        let same = |s: &&Step| s.version == step.version && s.name == step.name;
        let Some(kept) = known.get(&key).and_then(|steps| steps.iter().find(same)) else {
            self.problems.push(format!("{what}: not recorded"));
            return;
        };
        for (path, old, new) in tree::differences(&kept.request, &step.request) {
            self.problems.push(format!(
                "{what}: the request is not the one recorded: {path}: {} {}",
                shown(&old),
                shown(&new)
            ));
        }
        for (path, kafka, ours) in tree::differences(&kept.answer, &step.answer) {
            let (kafka, ours) = (shown(&kafka), shown(&ours));
            match differences::find(key, step.version, &step.name, &path, &kafka, &ours) {
                Some(i) => {
                    self.met.insert(i);
                }
                None => self.problems.push(format!("{what}: {path}: Kafka {kafka}, ours {ours}")),
            }
        }
    }
}

/// Why there is no answer.
fn unanswered(error: &std::io::Error) -> String {
    let waited = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    if waited { "no answer in time" } else { "closed" }.to_string()
}

/// A value for a message, cut to a readable length.
fn shown(value: &Option<Value>) -> String {
    let text = value.as_ref().map_or("nothing".to_string(), Value::to_string);
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Writes a recording, replacing what was there.
pub fn write(recording: &Recording) {
    let folder = folder();
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (key, steps) in recording {
        let mut text = format!("{{\"key\": {key}, \"steps\": [\n");
        for (i, step) in steps.iter().enumerate() {
            let comma = if i == 0 { "" } else { ",\n" };
            text.push_str(&format!(
                "{comma}{{\"version\": {}, \"step\": {},\n \"request\": ",
                step.version,
                json!(step.name)
            ));
            tree::write(&step.request, 1, &mut text);
            text.push_str(",\n \"answer\": ");
            tree::write(&step.answer, 1, &mut text);
            text.push('}');
        }
        text.push_str("\n]}\n");
        std::fs::write(folder.join(format!("{key:02}-{}.json", api_name(*key))), text).unwrap();
    }
}

//! A small HTTP/1.1 client: one connection a request; chunked bodies, and server-sent events as they come.

// What one test needs another one does not.
#![allow(dead_code)]

use crate::support::PATIENCE;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// A client of the listener at `address` (`HOST:PORT`).
pub fn http(address: &str) -> Http {
    Http { address: address.to_owned(), host: address.to_owned(), headers: Vec::new() }
}

/// Sends requests, each over a connection of its own.
#[derive(Clone, Debug)]
pub struct Http {
    address: String,
    host: String,
    headers: Vec<(String, String)>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
    /// The body as JSON of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { serde_json::Value::Null } else { self.json() }
    }
    /// The sentence of a problem document (RFC 9457) that must have this status, in itself too.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], status);
        document["detail"].as_str().expect("a sentence").to_owned()
    }
}

impl Http {
    /// With this header in each request; a `host` replaces the usual one.
    pub fn with(mut self, name: &str, value: &str) -> Http {
        match name.eq_ignore_ascii_case("host") {
            true => self.host = value.to_owned(),
            false => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, b"")
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        self.json("POST", path, body)
    }

    /// Any method with a body of JSON.
    pub fn json(&self, method: &str, path: &str, body: &serde_json::Value) -> Answer {
        self.send(method, path, Some("application/json"), body.to_string().as_bytes())
    }

    /// Any request. A body is sent where there is a content type.
    pub fn send(&self, method: &str, path: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
        let mut stream = self.begin(method, path, content_type, body);
        let (status, headers) = head(&mut stream);
        let length = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let mut body = Vec::new();
        match (length("transfer-encoding"), length("content-length")) {
            (Some("chunked"), _) => while chunk(&mut stream, &mut body) {},
            (_, Some(bytes)) if method != "HEAD" => {
                body.resize(bytes.parse().expect("a content length"), 0);
                stream.read_exact(&mut body).unwrap();
            }
            _ => drop(stream.read_to_end(&mut body).unwrap()),
        }
        Answer { status, headers, body }
    }

    /// Server-sent events of `path`, which must answer 200.
    pub fn events(&self, path: &str) -> Events {
        let mut stream = self.begin("GET", path, None, b"");
        let (status, headers) = head(&mut stream);
        if status != 200 {
            let mut body = String::new();
            let _ = stream.read_to_string(&mut body);
            panic!("{path} is answered {status}: {body}");
        }
        let kind = headers.iter().find(|(n, _)| n == "content-type").map(|(_, v)| v.as_str());
        assert!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{headers:?}");
        let chunked = headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked");
        Events { stream, chunked, pending: Vec::new(), ended: false }
    }

    fn begin(&self, method: &str, path: &str, content_type: Option<&str>, body: &[u8]) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(kind) = content_type {
            text.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        if content_type.is_some() || !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        // One that refuses early may close before it has read all; its answer is read all the same.
        let _ = (&stream).write_all(&bytes);
        BufReader::new(stream)
    }
}

/// Status and headers (names in lower case).
fn head(stream: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let first = line(stream);
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status: {first:?}"));
    let mut headers = Vec::new();
    loop {
        let line = line(stream);
        let Some((name, value)) = line.split_once(':') else { return (status, headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end_matches(['\r', '\n']).to_owned()
}

/// Reads a chunk onto `body`; false at the last one.
fn chunk(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> bool {
    let size = line(stream);
    let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
        .unwrap_or_else(|_| panic!("no size of a chunk: {size:?}"));
    let at = body.len();
    body.resize(at + size, 0);
    stream.read_exact(&mut body[at..]).unwrap();
    line(stream);
    size > 0
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `message` where it is not named.
    pub event: String,
    pub id: Option<String>,
    /// Its lines of data.
    pub data: String,
}

/// A stream of server-sent events; closed when dropped.
#[derive(Debug)]
pub struct Events {
    stream: BufReader<TcpStream>,
    chunked: bool,
    pending: Vec<u8>,
    ended: bool,
}

impl Iterator for Events {
    type Item = Event;

    /// The next event; `None` at the end of the stream. Comments (keep-alives) are passed over. Panics when nothing comes for [`PATIENCE`].
    fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(at) = self.pending.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = self.pending.drain(..at + 2).collect();
                if let Some(event) = event(std::str::from_utf8(&block).expect("events are text")) {
                    return Some(event);
                }
            }
            if self.ended {
                return None;
            }
            self.ended = match self.chunked {
                true => !chunk(&mut self.stream, &mut self.pending),
                false => {
                    let got = self.stream.fill_buf().unwrap().to_vec();
                    self.stream.consume(got.len());
                    self.pending.extend_from_slice(&got);
                    got.is_empty()
                }
            };
        }
    }
}

/// An event of its lines, if they are one.
fn event(block: &str) -> Option<Event> {
    let (mut event, mut id, mut data) = ("message".to_owned(), None, Vec::new());
    let mut any = false;
    for line in block.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => event = value.to_owned(),
            "id" => id = Some(value.to_owned()),
            "data" => data.push(value),
            _ => continue,
        }
        any = true;
    }
    any.then(|| Event { event, id, data: data.join("\n") })
}

#[test]
fn the_client_reads_chunks_and_events() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap());
            while !line(&mut request).is_empty() {}
            let text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                        b\r\n: hi\n\nid: 1\r\n14\r\n\ndata: a\ndata: b\n\nev\r\n10\r\nent: x\ndata: c\n\n\r\n0\r\n\r\n";
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    let answer = http(&address).get("/");
    assert_eq!((answer.status, answer.body.len()), (200, 0xb + 0x14 + 0x10), "{answer:?}");
    let events: Vec<Event> = http(&address).events("/").collect();
    let wanted = [("message", Some("1"), "a\nb"), ("x", None, "c")];
    let wanted =
        wanted.map(|(event, id, data)| Event { event: event.into(), id: id.map(str::to_owned), data: data.into() });
    assert_eq!(events, wanted);
    server.join().unwrap();
}

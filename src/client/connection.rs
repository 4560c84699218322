//! One TCP connection to a broker: versions agreed at its start, requests pipelined, a deadline for each.

use super::error::{ClientError, api_name};
use crate::{
    Env,
    limits::{CLIENT_QUEUE_MAX, CLIENT_REPLY_BYTES_MAX, CLIENT_REPLY_STEP_BYTES},
    wire::{frame::PREFIX_BYTES, preflight},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use std::{
    collections::HashMap,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};

/// Version of ApiVersions asked for first; who does not know it answers with what it knows, in version 0.
const API_VERSIONS: i16 = 3;
/// UNSUPPORTED_VERSION.
const UNSUPPORTED_VERSION: i16 = 35;
/// Highest versions used where the crate knows higher ones: from 13 on Produce and Fetch name topics by id.
const VERSIONS_MAX: &[(i16, i16)] = &[(0, 12), (1, 12)];
/// Small requests are written together up to so many bytes.
const GATHER_BYTES: usize = 32 << 10;

/// A connection; cheap to clone, closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client_id: StrBytes,
    /// Lowest and highest version of each API that the broker serves.
    versions: HashMap<i16, (i16, i16)>,
    queue: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What is to be written, and who waits for that.
#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    written: Option<oneshot::Sender<()>>,
}

/// What callers and the two tasks share.
#[derive(Debug)]
struct Shared {
    address: String,
    correlation: AtomicI32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that an answer is due to.
    pending: HashMap<i32, oneshot::Sender<Result<Bytes, ClientError>>>,
    /// Why the connection is over.
    closed: Option<ClientError>,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The connection is over: whoever waits is told.
    fn fail(&self, error: ClientError) {
        let pending = {
            let mut state = self.state();
            state.closed.get_or_insert_with(|| error.clone());
            std::mem::take(&mut state.pending)
        };
        for waiting in pending.into_values() {
            let _ = waiting.send(Err(error.clone()));
        }
    }

    fn closed(&self, why: impl ToString) -> ClientError {
        ClientError::Closed { address: self.address.clone(), why: why.to_string() }
    }
}

/// A request that was queued in its place; its answer is waited for with [`Started::wait`].
#[derive(Debug)]
pub struct Started<R> {
    connection: Connection,
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    version: i16,
    late: Late,
    request: PhantomData<fn() -> R>,
}

/// A request without an answer that was queued in its place.
#[derive(Debug)]
pub struct Posted {
    connection: Connection,
    written: oneshot::Receiver<()>,
    late: Late,
}

/// When something is too late, and what.
#[derive(Debug)]
struct Late {
    deadline: Instant,
    timeout: Duration,
    api: i16,
}

impl Connection {
    /// Connects to `HOST:PORT` and agrees on versions, within `timeout` each.
    ///
    /// # Errors
    /// `Connect`, `Timeout`, `Closed`, `Unreadable`.
    pub async fn open(env: &Env, address: &str, client_id: &str, timeout: Duration) -> Result<Connection, ClientError> {
        let refused = |why: String| ClientError::Connect { address: address.to_string(), why };
        let stream = match tokio::time::timeout(timeout, env.connect(address)).await {
            Err(_) => return Err(refused(format!("no answer within {} ms", timeout.as_millis()))),
            Ok(Err(e)) => return Err(refused(e.to_string())),
            Ok(Ok(stream)) => stream,
        };
        let (reader, writer) = stream.into_split();
        let (queue, queued) = mpsc::channel(CLIENT_QUEUE_MAX);
        let shared =
            Arc::new(Shared { address: address.to_string(), correlation: AtomicI32::new(0), state: Mutex::default() });
        let tasks = [
            env.spawn("client writer", write(writer, queued, shared.clone())).abort_handle(),
            env.spawn("client reader", read(reader, shared.clone())).abort_handle(),
        ];
        let client_id = StrBytes::from_string(client_id.to_string());
        let mut inner = Inner { client_id, versions: HashMap::new(), queue, shared, tasks };
        inner.versions.insert(ApiVersionsRequest::KEY, (0, API_VERSIONS));
        let first = Connection(Arc::new(inner));
        let versions = first.agree(timeout).await?;
        // Nobody else holds it yet.
        let mut inner = Arc::try_unwrap(first.0).map_err(|_| refused("it is in use already".into()))?;
        inner.versions = versions;
        Ok(Connection(Arc::new(inner)))
    }

    async fn agree(&self, timeout: Duration) -> Result<HashMap<i16, (i16, i16)>, ClientError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("millstream"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer = self.queue(&request, API_VERSIONS, timeout).await?.bytes().await?;
        let mut version = API_VERSIONS;
        // The code stands behind the correlation id in every version.
        if answer.len() >= 6 && i16::from_be_bytes([answer[4], answer[5]]) == UNSUPPORTED_VERSION {
            version = 0;
            answer = self.queue(&ApiVersionsRequest::default(), version, timeout).await?.bytes().await?;
        }
        let answer: ApiVersionsResponse = self.decode::<ApiVersionsRequest>(answer, version)?;
        ClientError::check(answer.error_code, None, || format!("{} refuses ApiVersions", self.address()))?;
        Ok(answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect())
    }

    /// Where it goes to, `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.0.shared.address
    }

    /// Why it is over, if it is.
    pub fn closed(&self) -> Option<ClientError> {
        self.0.shared.state().closed.clone()
    }

    /// The version in which requests of this kind are sent: the highest that both know.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn version<R: Request>(&self) -> Result<i16, ClientError> {
        let ours = R::VERSIONS;
        let max = VERSIONS_MAX.iter().find(|(key, _)| *key == R::KEY).map_or(ours.max, |(_, max)| ours.max.min(*max));
        let theirs = self.0.versions.get(&R::KEY);
        let agreed = theirs.map(|(low, high)| (ours.min.max(*low), max.min(*high))).filter(|(low, high)| low <= high);
        let unsupported = || ClientError::Unsupported { address: self.address().to_string(), api: api_name(R::KEY) };
        agreed.map(|(_, version)| version).ok_or_else(unsupported)
    }

    /// Sends a request and waits for its answer. Whether the answer holds an error code is for the caller to see.
    ///
    /// # Errors
    /// Those of the connection, `Unsupported`, `Unsayable`, `Unreadable`.
    pub async fn call<R: Request>(&self, request: &R, timeout: Duration) -> Result<R::Response, ClientError> {
        self.start(request, timeout).await?.wait().await
    }

    /// Puts a request in its place behind those started before; waits only while [`CLIENT_QUEUE_MAX`] others wait to be written. The time for the answer runs
    /// from here.
    pub async fn start<R: Request>(&self, request: &R, timeout: Duration) -> Result<Started<R>, ClientError> {
        let version = self.version::<R>()?;
        self.queue(request, version, timeout).await
    }

    /// Puts a request that is never answered (Produce with acks=0) in its place; [`Posted::wait`] tells when it was written to the connection. The time for that runs from here.
    ///
    /// # Errors
    /// Then it was not queued: see [`Connection::call`].
    pub async fn post<R: Request>(&self, request: &R, timeout: Duration) -> Result<Posted, ClientError> {
        let version = self.version::<R>()?;
        if let Some(error) = self.closed() {
            return Err(error);
        }
        let correlation = self.0.shared.correlation.fetch_add(1, Ordering::Relaxed);
        let bytes = self.encode(request, version, correlation)?;
        let (tell, written) = oneshot::channel();
        let late = Late { deadline: Instant::now() + timeout, timeout, api: R::KEY };
        self.write(Frame { bytes, written: Some(tell) }, &late).await?;
        Ok(Posted { connection: self.clone(), written, late })
    }

    async fn queue<R: Request>(&self, request: &R, version: i16, timeout: Duration) -> Result<Started<R>, ClientError> {
        let shared = &self.0.shared;
        let correlation = shared.correlation.fetch_add(1, Ordering::Relaxed);
        let frame = self.encode(request, version, correlation)?;
        let (tell, answer) = oneshot::channel();
        {
            let mut state = shared.state();
            if let Some(error) = &state.closed {
                return Err(error.clone());
            }
            state.pending.insert(correlation, tell);
        }
        let late = Late { deadline: Instant::now() + timeout, timeout, api: R::KEY };
        self.write(Frame { bytes: frame, written: None }, &late).await?;
        Ok(Started { connection: self.clone(), answer, version, late, request: PhantomData })
    }

    /// Queues a frame; a broker that does not read until the deadline ends the connection.
    async fn write(&self, frame: Frame, late: &Late) -> Result<(), ClientError> {
        match tokio::time::timeout_at(late.deadline, self.0.queue.send(frame)).await {
            Ok(queued) => queued.map_err(|_| self.ended()),
            Err(_) => Err(self.give_up(late)),
        }
    }

    /// Why it is over.
    fn ended(&self) -> ClientError {
        self.closed().unwrap_or_else(|| self.0.shared.closed("it was closed"))
    }

    /// Closes it because something did not come in time: what follows on it would be late as well.
    fn give_up(&self, late: &Late) -> ClientError {
        let timeout_ms = late.timeout.as_millis() as u64;
        let error = ClientError::Timeout { address: self.address().to_string(), api: api_name(late.api), timeout_ms };
        self.0.shared.fail(error.clone());
        self.0.tasks.iter().for_each(AbortHandle::abort);
        error
    }

    fn encode<R: Request>(&self, request: &R, version: i16, correlation: i32) -> Result<Bytes, ClientError> {
        let unsayable = |why: String| ClientError::Unsayable {
            address: self.address().to_string(),
            api: format!("{} v{version}", api_name(R::KEY)),
            why,
        };
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.0.client_id.clone()));
        let body_bytes = request.compute_size(version).map_err(|e| unsayable(e.to_string()))?;
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + 64 + self.0.client_id.len() + body_bytes);
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version)).map_err(|e| unsayable(e.to_string()))?;
        request.encode(&mut frame, version).map_err(|e| unsayable(e.to_string()))?;
        let frame_bytes = i32::try_from(frame.len() - PREFIX_BYTES).map_err(|_| unsayable("it is too large".into()))?;
        frame[..PREFIX_BYTES].copy_from_slice(&frame_bytes.to_be_bytes());
        Ok(frame.freeze())
    }

    fn decode<R: Request>(&self, answer: Bytes, version: i16) -> Result<R::Response, ClientError> {
        decode::<R>(answer, version).map_err(|why| ClientError::Unreadable {
            address: self.address().to_string(),
            api: format!("{} v{version}", api_name(R::KEY)),
            why,
        })
    }
}

impl<R: Request> Started<R> {
    /// The answer. When it does not come in time the connection is closed: what follows on it would be late as well.
    pub async fn wait(self) -> Result<R::Response, ClientError> {
        let (connection, version) = (self.connection.clone(), self.version);
        connection.decode::<R>(self.bytes().await?, version)
    }

    /// The version in which it was sent.
    pub fn version(&self) -> i16 {
        self.version
    }

    async fn bytes(self) -> Result<Bytes, ClientError> {
        match tokio::time::timeout_at(self.late.deadline, self.answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(self.connection.ended())),
            Err(_) => Err(self.connection.give_up(&self.late)),
        }
    }
}

impl Posted {
    /// Done when all of it was written to the connection (the broker need not have read it). When that does not happen in time the connection is closed.
    pub async fn wait(self) -> Result<(), ClientError> {
        match tokio::time::timeout_at(self.late.deadline, self.written).await {
            Ok(written) => written.map_err(|_| self.connection.ended()),
            Err(_) => Err(self.connection.give_up(&self.late)),
        }
    }
}

/// An answer after its length prefix: header, then body.
fn decode<R: Request>(mut answer: Bytes, version: i16) -> Result<R::Response, String> {
    let run = AssertUnwindSafe(|| {
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(|e| e.to_string())?;
        preflight::check_response(R::KEY, version, &answer).map_err(|e| e.to_string())?;
        R::Response::decode(&mut answer, version).map_err(|e| e.to_string())
    });
    catch_unwind(run).unwrap_or_else(|_| Err("the decoder panicked".into()))
}

async fn write(mut to: impl AsyncWrite + Unpin, mut queued: mpsc::Receiver<Frame>, shared: Arc<Shared>) {
    let mut frames = Vec::new();
    let mut gathered = Vec::new();
    // Whose frames are in `gathered`, or further.
    let mut told: Vec<oneshot::Sender<()>> = Vec::new();
    while queued.recv_many(&mut frames, CLIENT_QUEUE_MAX).await > 0 {
        let result: std::io::Result<()> = async {
            for Frame { bytes, written } in frames.drain(..) {
                told.extend(written);
                let is_small = bytes.len() <= GATHER_BYTES;
                if is_small {
                    gathered.extend_from_slice(&bytes);
                }
                if !is_small || gathered.len() > GATHER_BYTES {
                    to.write_all(&gathered).await?;
                    gathered.clear();
                    if !is_small {
                        to.write_all(&bytes).await?;
                    }
                    tell(&mut told);
                }
            }
            to.write_all(&gathered).await?;
            gathered.clear();
            to.flush().await
        }
        .await;
        if let Err(e) = result {
            shared.fail(shared.closed(e));
            return;
        }
        tell(&mut told);
    }
}

/// Who gave up waiting has dropped its end.
fn tell(written: &mut Vec<oneshot::Sender<()>>) {
    for one in written.drain(..) {
        let _ = one.send(());
    }
}

async fn read(mut from: impl AsyncRead + Unpin, shared: Arc<Shared>) {
    let error = loop_of_replies(&mut from, &shared).await;
    shared.fail(error);
}

async fn loop_of_replies(from: &mut (impl AsyncRead + Unpin), shared: &Shared) -> ClientError {
    let mut received = BytesMut::with_capacity(64 << 10);
    let broken = |why: String| ClientError::Closed { address: shared.address.clone(), why };
    loop {
        let wanted = match received.split_first_chunk::<PREFIX_BYTES>() {
            None => PREFIX_BYTES,
            Some((prefix, _)) => match usize::try_from(i32::from_be_bytes(*prefix)) {
                Ok(bytes @ 4..=CLIENT_REPLY_BYTES_MAX) => PREFIX_BYTES + bytes,
                _ => {
                    let length = i32::from_be_bytes(*prefix);
                    return broken(format!("it answers with a frame of length {length}; is it a Kafka listener?"));
                }
            },
        };
        if received.len() >= wanted && wanted > PREFIX_BYTES {
            let mut frame = received.split_to(wanted).freeze();
            frame.advance(PREFIX_BYTES);
            let correlation = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
            let waiting = shared.state().pending.remove(&correlation);
            match waiting {
                // Who gave up waiting has dropped its end.
                Some(waiting) => drop(waiting.send(Ok(frame))),
                None => return broken(format!("it answers request {correlation}, which was not asked")),
            }
            continue;
        }
        // Memory grows with what arrived, never by what a length claims.
        let missing = wanted.saturating_sub(received.len()).max(1);
        let step = missing.min(CLIENT_REPLY_STEP_BYTES.max(received.len())).max(16 << 10);
        received.reserve(step);
        match from.read_buf(&mut received).await {
            Ok(0) => return broken("the broker closed it".into()),
            Ok(_) => {}
            Err(e) => return broken(e.to_string()),
        }
    }
}

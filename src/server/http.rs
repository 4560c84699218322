//! The HTTP listener: one server from the first moment to the last; what it can answer grows as the broker comes up.
//!
//! Bounds: [`Env::http_connections_max`] at once (the next waits in the kernel's queue), [`HTTP_HEAD_MS_MAX`] for the head of a request, also where it is the next one on a
//! connection kept open, [`HTTP_CONNECTION_MS_MAX`] in all: so that a flood of idle connections takes neither the process's files nor this listener for long.

use super::{connection::Phase, listener::is_peers};
use crate::{
    Env,
    limits::{ACCEPT_PAUSE_MS, HTTP_CONNECTION_MS_MAX, HTTP_HEAD_MS_MAX, HTTP_WRITE_BYTES_MAX},
};
use axum::{Router, http::header};
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// Connections that a stop waits for: those that were asked for something since they were opened, and do not stream events.
///
/// A connection counts to its end, and those without a request under way end when the server drains: so an answer that waits for its reader counts too.
#[derive(Debug, Default)]
pub struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    /// Returns once there is none.
    pub async fn none(&self) {
        // The sender is ours.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Whether one connection counts.
#[derive(Debug)]
struct Counted {
    under_way: Arc<UnderWay>,
    counts: AtomicBool,
}

impl Counted {
    fn count(&self, counts: bool) {
        if self.counts.swap(counts, Ordering::AcqRel) != counts {
            self.under_way.0.send_modify(|count| *count = if counts { *count + 1 } else { count.saturating_sub(1) });
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count(false);
    }
}

/// Serves until the server drains; connections that are still busy then are cut when it closes. The router is made for the first connection: a broker that nobody asks
/// has none (it comes with its document, which would add a third to the time of a start).
pub async fn serve(
    env: Env,
    listener: TcpListener,
    router: impl FnOnce() -> Router + Send,
    phases: watch::Receiver<Phase>,
    under_way: Arc<UnderWay>,
) {
    let connections_max = env.http_connections_max();
    serve_at_most(connections_max, env, listener, router, phases, under_way).await;
}

async fn serve_at_most(
    connections_max: usize,
    env: Env,
    listener: TcpListener,
    router: impl FnOnce() -> Router + Send,
    mut phases: watch::Receiver<Phase>,
    under_way: Arc<UnderWay>,
) {
    let permits = Arc::new(Semaphore::new(connections_max));
    let phase = phases.clone();
    let router = LazyLock::new(router);
    let accepting = async {
        loop {
            // Never closed.
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) if is_peers(&error) => continue,
                Err(error) => {
                    tracing::debug!(%error, "no HTTP connection accepted: waiting for room");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    continue;
                }
            };
            let counted = Counted { under_way: under_way.clone(), counts: AtomicBool::new(false) };
            let served = serve_one(socket, Router::clone(&router), phase.clone(), counted);
            env.spawn("http connection", async move {
                served.await;
                drop(permit);
            });
        }
    };
    tokio::select! {
        biased;
        _ = phases.wait_for(|phase| *phase > Phase::Serving) => {}
        () = accepting => {}
    }
    drop(listener);
    tokio::select! {
        biased;
        _ = phases.wait_for(|phase| *phase == Phase::Closing) => {}
        _ = permits.acquire_many(connections_max as u32) => {}
    }
}

/// One connection to its end; what ends it early is the peer's affair.
async fn serve_one(socket: TcpStream, router: Router, mut phases: watch::Receiver<Phase>, counted: Counted) {
    let life = Duration::from_millis(HTTP_CONNECTION_MS_MAX);
    let mut closing = phases.clone();
    let mut closing = pin!(closing.wait_for(|phase| *phase == Phase::Closing));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(HTTP_HEAD_MS_MAX));
    // A peer that takes nothing holds so much of its answer, and no more in the kernel.
    http.max_buf_size(HTTP_WRITE_BYTES_MAX);
    let _ = SockRef::from(&socket).set_send_buffer_size(HTTP_WRITE_BYTES_MAX);
    let _ = socket.set_nodelay(true);
    let (router, counted) = (TowerToHyperService::new(router), Arc::new(counted));
    let service = service_fn(|request| {
        counted.count(true);
        let (answer, counted) = (router.call(request), counted.clone());
        async move {
            let answer = answer.await?;
            let streams = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
            counted.count(!streams);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        biased;
        _ = phases.wait_for(|phase| *phase > Phase::Serving) => {}
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(life) => {}
    }
    // What is being answered still is.
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = closing.as_mut() => {}
        _ = connection.as_mut() => {}
        () = tokio::time::sleep(life) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        response::sse::{Event, Sse},
        routing::{get, post},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Notify,
    };

    const CONNECTIONS_MAX: usize = 20;

    async fn start() -> (std::net::SocketAddr, watch::Sender<Phase>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello"));
        let (phase, phases) = watch::channel(Phase::Serving);
        let serving = serve_at_most(CONNECTIONS_MAX, Env::real(), listener, || router, phases, Default::default());
        (address, phase, tokio::spawn(serving))
    }

    async fn ask(socket: &mut TcpStream) -> String {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let got = socket.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..got]).into_owned()
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_until_another_ends() {
        let (address, _phase, _server) = start().await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut socket = TcpStream::connect(address).await.unwrap();
            assert!(ask(&mut socket).await.contains("hello"));
            held.push(socket);
        }
        let mut next = TcpStream::connect(address).await.unwrap();
        let mut asked = pin!(ask(&mut next));
        for _ in 0..1000 {
            tokio::select! {
                biased;
                answer = asked.as_mut() => panic!("answered beside {CONNECTIONS_MAX} others: {answer}"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(held.pop());
        assert!(asked.await.contains("hello"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_brings_no_whole_head_is_closed() {
        let (address, _phase, _server) = start().await;
        // The clock moves by itself while everybody waits.
        for begun in ["", "GET / HTTP/1.1\r\nHost:"] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(begun.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
        }
        let mut kept_open = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut kept_open).await.contains("hello"));
        let _ = kept_open.read_to_end(&mut Vec::new()).await;
    }

    #[tokio::test]
    async fn a_stop_waits_for_requests_under_way_and_not_for_streams() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (asked, release) = (asked.clone(), release.clone());
            post(async move || {
                asked.notify_one();
                release.notified().await;
                "done"
            })
        };
        let events = get(async || Sse::new(futures_util::stream::pending::<Result<Event, Infallible>>()));
        let router = Router::new().route("/slow", slow).route("/events", events);
        let (phase, phases) = watch::channel(Phase::Serving);
        let under_way = Arc::new(UnderWay::default());
        let server = tokio::spawn(serve_at_most(20, Env::real(), listener, || router, phases, under_way.clone()));

        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let mut posted = TcpStream::connect(address).await.unwrap();
        posted.write_all(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        asked.notified().await;

        phase.send(Phase::Draining).unwrap();
        let mut none = pin!(under_way.none());
        for _ in 0..100 {
            tokio::select! {
                biased;
                () = none.as_mut() => panic!("a request is under way"),
                () = tokio::task::yield_now() => {}
            }
        }
        release.notify_one();
        none.await;
        let mut answer = String::new();
        posted.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        assert!(!server.is_finished(), "the stream is still there");
        phase.send(Phase::Closing).unwrap();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn idle_connections_do_not_hold_up_a_stop() {
        let (address, phase, server) = start().await;
        let mut kept_open = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut kept_open).await.contains("hello"));
        phase.send(Phase::Draining).unwrap();
        server.await.unwrap();
        assert_eq!(kept_open.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

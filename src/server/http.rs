//! The HTTP listener: one server from the first moment to the last; what it can answer grows as the broker comes up.
//!
//! Bounds: [`Env::http_connections_max`] at once (the next waits in the kernel's queue), [`HTTP_HEAD_MS_MAX`] for the head of a request, also where it is the next one on a
//! connection kept open, [`HTTP_CONNECTION_MS_MAX`] in all: so that a flood of idle connections takes neither the process's files nor this listener for long.

use super::{connection::Phase, listener::is_peers};
use crate::{
    Env,
    limits::{ACCEPT_PAUSE_MS, HTTP_CONNECTION_MS_MAX, HTTP_HEAD_MS_MAX, HTTP_WRITE_BYTES_MAX},
};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use std::{
    pin::pin,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// Serves until the server drains; connections that are still busy then are cut when it closes. The router is made for the first connection: a broker that nobody asks
/// has none (it comes with its document, which would add a third to the time of a start).
pub async fn serve(
    env: Env,
    listener: TcpListener,
    router: impl FnOnce() -> Router + Send,
    phases: watch::Receiver<Phase>,
) {
    let connections_max = env.http_connections_max();
    serve_at_most(connections_max, env, listener, router, phases).await;
}

async fn serve_at_most(
    connections_max: usize,
    env: Env,
    listener: TcpListener,
    router: impl FnOnce() -> Router + Send,
    mut phases: watch::Receiver<Phase>,
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
            let served = serve_one(socket, Router::clone(&router), phase.clone());
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
async fn serve_one(socket: TcpStream, router: Router, mut phases: watch::Receiver<Phase>) {
    let life = Duration::from_millis(HTTP_CONNECTION_MS_MAX);
    let mut closing = phases.clone();
    let mut closing = pin!(closing.wait_for(|phase| *phase == Phase::Closing));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(HTTP_HEAD_MS_MAX));
    // A peer that takes nothing holds so much of its answer, and no more in the kernel.
    http.max_buf_size(HTTP_WRITE_BYTES_MAX);
    let _ = SockRef::from(&socket).set_send_buffer_size(HTTP_WRITE_BYTES_MAX);
    let _ = socket.set_nodelay(true);
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router)));
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
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const CONNECTIONS_MAX: usize = 20;

    async fn start() -> (std::net::SocketAddr, watch::Sender<Phase>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello"));
        let (phase, phases) = watch::channel(Phase::Serving);
        (address, phase, tokio::spawn(serve_at_most(CONNECTIONS_MAX, Env::real(), listener, || router, phases)))
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
    async fn idle_connections_do_not_hold_up_a_stop() {
        let (address, phase, server) = start().await;
        let mut kept_open = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut kept_open).await.contains("hello"));
        phase.send(Phase::Draining).unwrap();
        server.await.unwrap();
        assert_eq!(kept_open.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

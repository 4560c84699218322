//! Listening sockets and the accept loop.

use super::connection::{Phase, Service, Shared, serve};
use crate::{
    Env,
    api::Connection,
    limits::{ACCEPT_PAUSE_MS, KEEPALIVE_IDLE_MS, KEEPALIVE_INTERVAL_MS, KEEPALIVE_PROBES},
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{
    collections::{HashMap, hash_map::Entry},
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

/// Connections the kernel keeps for us before they are accepted.
const BACKLOG: i32 = 1024;

/// Binds `HOST:PORT` (port 0 = any free one); `what` names the listener in the sentence that says why it cannot be. A wildcard IPv6 address takes IPv4 too, unless
/// `only_v6`.
pub async fn bind(address: &str, what: &str, only_v6: bool) -> Result<TcpListener, String> {
    let cannot = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another process uses this port",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
            io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            _ => "",
        };
        format!("cannot listen on {address} for {what}: {error}{hint}")
    };
    let resolved = tokio::net::lookup_host(address).await.map_err(cannot)?.next();
    let resolved = resolved.ok_or_else(|| cannot(io::ErrorKind::AddrNotAvailable.into()))?;
    listen(resolved, only_v6).map_err(cannot)
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(only_v6)?;
    }
    // A restart must not wait for connections in TIME_WAIT; a second listener is refused all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connections now open, and a wake-up for each that ends.
#[derive(Debug, Default)]
pub struct Open {
    count: AtomicUsize,
    /// By the peer's address.
    of_peers: Mutex<HashMap<IpAddr, usize>>,
    ended: Notify,
}

impl Open {
    /// Returns once none is open.
    pub async fn none(&self) {
        self.fewer_than(1).await
    }

    /// How many connections of one address are open.
    fn of(&self, peer: IpAddr) -> usize {
        self.peers().get(&peer).copied().unwrap_or(0)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.of_peers.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// Returns once fewer than `bound` are open.
    async fn fewer_than(&self, bound: usize) {
        loop {
            let ended = self.ended.notified();
            if self.count.load(Ordering::SeqCst) < bound {
                return;
            }
            ended.await;
        }
    }
}

/// Counts one connection as long as it lives.
struct Counted<S> {
    open: Arc<Open>,
    peer: IpAddr,
    shared: Arc<Shared<S>>,
}

impl<S> Counted<S> {
    fn new(open: &Arc<Open>, peer: IpAddr, shared: &Arc<Shared<S>>) -> Counted<S> {
        open.count.fetch_add(1, Ordering::SeqCst);
        *open.peers().entry(peer).or_default() += 1;
        shared.metrics.connections.increment(1.0);
        shared.metrics.connections_open.fetch_add(1, Ordering::Relaxed);
        shared.metrics.connections_opened.increment(1);
        Counted { open: open.clone(), peer, shared: shared.clone() }
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.shared.metrics.connections.decrement(1.0);
        self.shared.metrics.connections_open.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut count) = self.open.peers().entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.open.count.fetch_sub(1, Ordering::SeqCst);
        self.open.ended.notify_waiters();
    }
}

/// Accepts connections of all `listeners` and starts a task for each, until the server drains; the place of a listener there is what its connections know it by. At `connections_max` open ones the next waits in the kernel's queue; one above `of_peer_max`
/// of its address is closed at once. Running out of files or memory pauses the loop, never ends it.
pub async fn accept<S: Service>(
    env: Env,
    shared: Arc<Shared<S>>,
    listeners: Vec<TcpListener>,
    open: Arc<Open>,
    mut phase: watch::Receiver<Phase>,
    connections_max: impl Fn() -> usize + Send,
    of_peer_max: impl Fn(IpAddr) -> usize + Send,
) {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let phases = phase.clone();
    let accepting = async {
        let (mut short_of_room, mut was_at_bound, mut turn) = (false, false, 0);
        loop {
            let bound = connections_max().max(1);
            let at_bound = open.count.load(Ordering::SeqCst) >= bound;
            if at_bound && !was_at_bound {
                tracing::warn!(connections = bound, "as many connections as there may be: further ones wait");
            }
            was_at_bound = at_bound;
            open.fewer_than(bound).await;
            let (socket, connection) = match accept_one(&listeners, &mut turn).await {
                Ok(accepted) => accepted,
                Err(error) if is_peers(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                    continue;
                }
                Err(error) => {
                    // Said once, however long it lasts.
                    if !std::mem::replace(&mut short_of_room, true) {
                        let open = open.count.load(Ordering::SeqCst);
                        tracing::error!(%error, open, "no connection accepted: waiting for room");
                    }
                    let pause = Duration::from_millis(ACCEPT_PAUSE_MS);
                    let _ = tokio::time::timeout(pause, open.ended.notified()).await;
                    continue;
                }
            };
            if std::mem::take(&mut short_of_room) {
                tracing::info!("connections are accepted again");
            }
            // An IPv4 client on a dual-stack listener has a mapped address.
            let peer = connection.peer.ip().to_canonical();
            if open.of(peer) >= of_peer_max(peer) {
                tracing::debug!(%peer, "connection refused: as many of this address as there may be");
                shared.metrics.connections_refused.increment(1);
                continue;
            }
            let connection = Connection { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), ..connection };
            let counted = Counted::new(&open, peer, &shared);
            let served = serve(shared.clone(), socket, connection, phases.clone());
            env.spawn("connection", async move {
                served.await;
                drop(counted);
            });
        }
    };
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase > Phase::Serving) => {}
        () = accepting => {}
    }
}

/// The next connection of any listener; `turn` is the one asked first, so that a busy one does not keep the others waiting.
async fn accept_one(listeners: &[TcpListener], turn: &mut usize) -> io::Result<(TcpStream, Connection)> {
    let (listener, accepted) = poll_fn(|context| {
        let order = (0..listeners.len()).map(|i| (*turn + i) % listeners.len());
        for at in order {
            if let Poll::Ready(accepted) = listeners[at].poll_accept(context) {
                *turn = at + 1;
                return Poll::Ready((at, accepted));
            }
        }
        Poll::Pending
    })
    .await;
    let (socket, peer) = accepted?;
    // Replies are written whole: waiting for more would only delay them.
    socket.set_nodelay(true)?;
    // A peer that vanished without a word is found out even while nothing is to be sent to it.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_millis(KEEPALIVE_IDLE_MS))
        .with_interval(Duration::from_millis(KEEPALIVE_INTERVAL_MS))
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    let local = socket.local_addr()?;
    Ok((socket, Connection { id: 0, listener, local, peer }))
}

/// Whether an accept failed because the peer was gone; anything else is a lack of files or memory.
pub(super) fn is_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | NotConnected | InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_said_in_one_sentence() {
        let first = bind("127.0.0.1:0", "Kafka clients", false).await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let refused = bind(&address, "Kafka clients", false).await.unwrap_err();
        assert!(refused.contains(&address) && refused.contains("another process"), "{refused}");
        assert!(!refused.contains('\n'));
        let nonsense = bind("nowhere", "HTTP", false).await.unwrap_err();
        assert!(nonsense.contains("nowhere"), "{nonsense}");
    }

    #[tokio::test]
    async fn peers_that_vanish_are_asked_for() {
        let listener = bind("127.0.0.1:0", "Kafka clients", false).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = accept_one(std::slice::from_ref(&listener), &mut 0).await.unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_millis(KEEPALIVE_IDLE_MS));
    }

    #[tokio::test]
    async fn a_busy_listener_does_not_keep_another_waiting() {
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(bind("127.0.0.1:0", "Kafka clients", false).await.unwrap());
        }
        let mut clients = Vec::new();
        for at in [0, 0, 0, 1] {
            clients.push(TcpStream::connect(listeners[at].local_addr().unwrap()).await.unwrap());
        }
        let (mut turn, mut order) = (0, Vec::new());
        for _ in 0..4 {
            let (socket, connection) = accept_one(&listeners, &mut turn).await.unwrap();
            assert_eq!(socket.local_addr().unwrap(), listeners[connection.listener].local_addr().unwrap());
            order.push(connection.listener);
        }
        assert_eq!(order, [0, 1, 0, 0]);
    }

    #[tokio::test]
    async fn ipv4_and_ipv6_share_a_port_where_asked() {
        let four = bind("0.0.0.0:0", "Kafka clients", false).await.unwrap();
        let port = four.local_addr().unwrap().port();
        let Ok(_six) = bind(&format!("[::]:{port}"), "Kafka clients", true).await else {
            assert!(bind("[::1]:0", "Kafka clients", false).await.is_err(), "this machine has IPv6");
            return;
        };
        TcpStream::connect(("::1", port)).await.unwrap();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[tokio::test]
    async fn ipv6_is_bound_and_a_wildcard_takes_both() {
        let Ok(six) = bind("[::1]:0", "Kafka clients", false).await else {
            return; // This machine has no IPv6.
        };
        TcpStream::connect(six.local_addr().unwrap()).await.unwrap();
        let any = bind("[::]:0", "Kafka clients", false).await.unwrap();
        let port = any.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        TcpStream::connect(("::1", port)).await.unwrap();
    }
}

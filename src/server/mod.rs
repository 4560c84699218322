//! Boot order, accept loops, connection loops, shutdown. Knows no single API.
//!
//! State: each connection's buffers and reply queue belong to its task ([`connection`]); request bytes in flight are permits of the server; the listeners ([`listener`])
//! count what is open. Everything else is the broker's.

mod buffers;
pub mod connection;
mod http;
mod inbox;
pub mod listener;
mod replies;

use crate::{
    Config, Env,
    admin::Admin,
    api::{self, Class, Connection, Outcome},
    broker::Broker,
    limits::{FRAME_OTHER_BYTES_MAX, FRAME_UNAUTHENTICATED_BYTES_MAX, HOUSEKEEPING_MS, HTTP_STOP_MS_MAX},
    metadata::{Quorum, QuorumOptions},
    metrics::Metrics,
};
use bytes::Bytes;
use connection::{Phase, Service, Shared};
use millstream_storage::{Directory, DirectoryOptions};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};

/// A running broker in this process. Dropping it without [`Node::stop`] closes its connections but leaves its data as a crash would.
#[derive(Debug)]
pub struct Node {
    broker: Arc<Broker>,
    admin: Admin,
    kafka: Vec<(String, SocketAddr)>,
    http: SocketAddr,
    phase: watch::Sender<Phase>,
    open: Arc<listener::Open>,
    http_under_way: Arc<http::UnderWay>,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    /// Boots a broker and returns once a produce would succeed. An error is one sentence for the person who started it.
    ///
    /// The listeners are bound first: a port in use fails before anything is written, `/healthz` answers from then on, and Kafka connections that come early
    /// wait in the kernel's queue.
    pub async fn start(mut config: Config, env: Env) -> Result<Node, String> {
        let metrics = Metrics::new();
        let (phase, phases) = watch::channel(Phase::Serving);
        let (kafka, kafka_listeners) = bind_kafka(&mut config).await?;
        let http_listener = listener::bind(&config.http, "HTTP", false).await?;
        let http_address = http_listener.local_addr().map_err(|e| e.to_string())?;
        let admin = Admin::new(&config, metrics.clone());
        let router = {
            let admin = admin.clone();
            move || admin.router()
        };
        let http_under_way = Arc::<http::UnderWay>::default();
        let serving = http::serve(env.clone(), http_listener, router, phases.clone(), http_under_way.clone());
        let http_task = env.spawn("http", serving);

        let broker = boot(config, env.clone(), metrics.clone()).await?;

        let shared = Arc::new(Shared::new(Kafka { broker: broker.clone() }, metrics));
        let open = Arc::<listener::Open>::default();
        let connections_max = {
            let (broker, files) = (broker.clone(), env.connections_max());
            move || broker.settings().max_connections.min(files)
        };
        let of_peer_max = {
            let broker = broker.clone();
            move |peer| broker.settings().max_connections_of(peer)
        };
        let accept = listener::accept(
            env.clone(),
            shared.clone(),
            kafka_listeners,
            open.clone(),
            phases.clone(),
            connections_max,
            of_peer_max,
        );
        admin.up(broker.clone());
        let tasks =
            vec![env.spawn("accept", accept), http_task, env.spawn("housekeeping", housekeeping(shared, phases))];
        tracing::info!(kafka = %kafka[0].1, http = %http_address, "ready");
        Ok(Node { broker, admin, kafka, http: http_address, phase, open, http_under_way, tasks })
    }

    /// Bound address of the first Kafka listener.
    pub fn kafka(&self) -> SocketAddr {
        self.kafka[0].1
    }

    /// Name and bound address of every Kafka listener, in the order of [`Config::listeners`].
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.kafka
    }

    /// Bound address of the HTTP listener.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The broker itself.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Waits until something that the node cannot live without has died (see [`Broker::died`]); gives one sentence for the person who runs it. Stop the node then,
    /// and end the process: the next start recovers.
    pub async fn died(&self) -> String {
        self.broker.died().await.to_string()
    }

    /// Takes over settings read anew (SIGHUP); says in the log what wants a restart.
    pub fn reload(&self, new: &Config) {
        let restart = self.broker.reload(new);
        match restart.is_empty() {
            true => tracing::info!("settings were read anew"),
            false => tracing::warn!(restart = restart.join(", "), "settings were read anew; some want a restart"),
        }
    }

    /// Graceful stop: no new connections or requests, requests in flight finish within `stop_timeout_ms` (those over HTTP within [`HTTP_STOP_MS_MAX`] of it), then
    /// everything is flushed and closed.
    pub async fn stop(self) {
        let Node { broker, admin, phase, open, http_under_way, tasks, .. } = self;
        admin.stopping();
        let _ = phase.send(Phase::Draining);
        broker.begin_stop();
        let timeout = Duration::from_millis(broker.config().stop_timeout_ms);
        let http_timeout = timeout.min(Duration::from_millis(HTTP_STOP_MS_MAX));
        let http = tokio::time::timeout(http_timeout, http_under_way.none());
        let (kafka, http) = tokio::join!(tokio::time::timeout(timeout, open.none()), http);
        if http.is_err() {
            tracing::warn!(timeout_ms = http_timeout.as_millis() as u64, "HTTP requests under way were given up");
        }
        if kafka.is_err() {
            tracing::warn!(timeout_ms = broker.config().stop_timeout_ms, "requests in flight were given up");
        }
        let _ = phase.send(Phase::Closing);
        open.none().await;
        for task in tasks {
            let _ = task.await;
        }
        broker.stop().await;
        tracing::info!("stopped");
    }
}

/// Binds the Kafka listeners and says in the log what each of them tells its clients. A port 0 becomes the bound one, an advertised one, too, as in Kafka.
async fn bind_kafka(config: &mut Config) -> Result<(Vec<(String, SocketAddr)>, Vec<TcpListener>), String> {
    let (mut addresses, mut bound) = (Vec::new(), Vec::new());
    let several = config.listeners.len() > 1;
    for listener in &mut config.listeners {
        let what = match several {
            true => format!("Kafka clients (listener {})", listener.name),
            false => "Kafka clients".to_owned(),
        };
        let socket = listener::bind(&listener.address(), &what, listener.only_v6).await?;
        let address = socket.local_addr().map_err(|e| e.to_string())?;
        listener.port = address.port();
        if let Some((_, port @ 0)) = &mut listener.advertised {
            *port = address.port();
        }
        tracing::info!("listener {} {address}: clients are told {}", listener.name, listener.told());
        addresses.push((listener.name.clone(), address));
        bound.push(socket);
    }
    Ok((addresses, bound))
}

/// The part of a boot behind the sockets: data directory, metadata quorum, broker. For simulations, which have no sockets; others want [`Node::start`].
/// An error is one sentence.
pub async fn boot(config: Config, env: Env, metrics: Metrics) -> Result<Arc<Broker>, String> {
    let directory = open_directory(&config, &env).await?;
    let quorum = start_quorum(&config, &env, &directory).await?;
    Broker::start(env, config, metrics, directory, quorum).await
}

/// Opens the data directory, made if absent.
async fn open_directory(config: &Config, env: &Env) -> Result<Directory, String> {
    let options = DirectoryOptions {
        node_id: config.node_id,
        cluster_id: kafka_id(env.random_uuid()),
        directory_id: env.random_uuid().to_string(),
        now_ms: env.now_ms(),
        open_segments_max: env.open_segments_max(),
    };
    let (disk, path) = (env.disk().clone(), config.data_dir.clone());
    env.blocking(move || Directory::open(disk, &path, options)).await.map_err(|error| error.to_string())
}

/// Takes this node's seat in the metadata quorum.
async fn start_quorum(config: &Config, env: &Env, directory: &Directory) -> Result<Quorum, String> {
    let options = QuorumOptions {
        node_id: config.node_id,
        cluster_id: directory.cluster_id().to_string(),
        directory_id: directory
            .directory_id()
            .parse()
            .map_err(|e| format!("directory.id of the data directory: {e}"))?,
        advertised: config.listeners.first().and_then(|listener| listener.advertised.clone()),
        rack: config.rack(),
    };
    Quorum::start(env.clone(), directory.clone(), options).await
}

/// A UUID as Kafka writes ids: 22 characters of base64url.
fn kafka_id(id: uuid::Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 22 characters hold 132 bits: the last four are zero.
    let bits = id.as_u128();
    let sextet = |i: u32| match 122u32.checked_sub(6 * i) {
        Some(shift) => (bits >> shift) as usize & 63,
        None => (bits << (6 * i - 122)) as usize & 63,
    };
    (0..22).map(|i| ALPHABET[sextet(i)] as char).collect()
}

/// Frees buffers nobody needs and tends the metrics, until the server drains.
async fn housekeeping(shared: Arc<Shared<Kafka>>, mut phases: watch::Receiver<Phase>) {
    let period = Duration::from_millis(HOUSEKEEPING_MS);
    let draining = phases.wait_for(|phase| *phase > Phase::Serving);
    let work = async {
        loop {
            tokio::time::sleep(period).await;
            shared.buffers.trim();
            shared.metrics.upkeep();
        }
    };
    tokio::select! {
        biased;
        _ = draining => {}
        () = work => {}
    }
}

/// The API layer as the connections see it.
#[derive(Debug)]
struct Kafka {
    broker: Arc<Broker>,
}

impl Service for Kafka {
    fn accept<'a>(
        &'a self,
        connection: &'a Connection,
        frame: Bytes,
        received: Instant,
    ) -> impl Future<Output = Outcome> + Send + use<'a> {
        api::accept(&self.broker, connection, frame, received)
    }

    fn measures(&self) -> bool {
        self.broker.latency.is_on()
    }

    fn sent(&self, api_key: i16, took: Duration, worked: Option<Duration>) {
        self.broker.latency.api(api_key, took, worked);
    }

    fn frame_bytes_max(&self, api_key: i16) -> usize {
        match api::find(api_key).map(|api| api.class) {
            Some(Class::Produce) => self.broker.settings().socket_request_max_bytes,
            Some(Class::Fetch | Class::Control) => FRAME_OTHER_BYTES_MAX,
            None => FRAME_UNAUTHENTICATED_BYTES_MAX,
        }
    }

    fn idle_ms(&self) -> u64 {
        self.broker.settings().connections_max_idle_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        assert_eq!(kafka_id(uuid::Uuid::from_u128(0)), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(kafka_id(uuid::Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(kafka_id(uuid::Uuid::from_u128(u128::MAX)), "_____________________w");
    }
}

//! The HTTP listener: health while the broker boots, then the admin router.

use super::connection::Phase;
use crate::Env;
use axum::{Router, http::StatusCode, routing::get};
use std::future::IntoFuture;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// The HTTP server of a node that boots.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    booted: oneshot::Sender<()>,
    boot: JoinHandle<()>,
}

impl Http {
    /// Answers `/healthz` with 200 and all else with 503 until [`Http::serve`] takes over; returns the server to be.
    pub fn start(env: &Env, listener: TcpListener, phases: watch::Receiver<Phase>) -> Result<Http, String> {
        let listener = listener.into_std().map_err(|e| e.to_string())?;
        let second = listener.try_clone().and_then(TcpListener::from_std).map_err(|e| e.to_string())?;
        let listener = TcpListener::from_std(listener).map_err(|e| e.to_string())?;
        let (booted, over) = oneshot::channel();
        let starting = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") };
        let router = Router::new().route("/healthz", get(|| async { "ok\n" })).fallback(starting);
        let boot = env.spawn("http while booting", run(second, router, phases, over));
        Ok(Http { listener, booted, boot })
    }

    /// Serves `router` until the server closes.
    pub async fn serve(self, router: Router, phases: watch::Receiver<Phase>) {
        // Both accept from one socket; the first stops accepting now and finishes what it has.
        let _ = self.booted.send(());
        let (_never, over) = oneshot::channel();
        run(self.listener, router, phases, over).await;
        let _ = self.boot.await;
    }
}

/// Serves until `over` or the server drains; connections that are still busy then are cut when it closes.
async fn run(listener: TcpListener, router: Router, mut phases: watch::Receiver<Phase>, over: oneshot::Receiver<()>) {
    let mut draining = phases.clone();
    let done = async move {
        tokio::select! {
            biased;
            _ = draining.wait_for(|phase| *phase > Phase::Serving) => {}
            _ = over => {}
        }
    };
    tokio::select! {
        biased;
        _ = phases.wait_for(|phase| *phase == Phase::Closing) => {}
        _ = axum::serve(listener, router).with_graceful_shutdown(done).into_future() => {}
    }
}

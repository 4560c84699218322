//! The HTTP listener: one server from the first moment to the last; what it can answer grows as the broker comes up.

use super::connection::Phase;
use axum::Router;
use std::future::IntoFuture;
use tokio::{net::TcpListener, sync::watch};

/// Serves until the server drains; connections that are still busy then are cut when it closes.
pub async fn serve(listener: TcpListener, router: Router, mut phases: watch::Receiver<Phase>) {
    let mut draining = phases.clone();
    let done = async move {
        let _ = draining.wait_for(|phase| *phase > Phase::Serving).await;
    };
    tokio::select! {
        biased;
        _ = phases.wait_for(|phase| *phase == Phase::Closing) => {}
        _ = axum::serve(listener, router).with_graceful_shutdown(done).into_future() => {}
    }
}

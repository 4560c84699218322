//! Tasks that the node cannot live without: a panic in one of them ends the node.
//!
//! Such a panic leaves a process that looks alive and does half of its work. So the data directory is marked failed at once (writes are refused, `/readyz` gives the
//! reason), and whoever runs the node hears of it and stops it. What has no guard of its own here stays as it was: an abort or an orderly end says nothing.

use crate::Env;
use millstream_storage::Directory;
use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
};
use tokio::{sync::watch, task::JoinHandle};

/// Starts vital tasks and says when one died. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vital {
    env: Env,
    directory: Directory,
    died: watch::Sender<Option<Arc<str>>>,
}

impl Vital {
    /// Nothing died yet.
    pub fn new(env: &Env, directory: &Directory) -> Vital {
        Vital { env: env.clone(), directory: directory.clone(), died: watch::Sender::default() }
    }

    /// The world the tasks run in.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The directory that fails with them.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Starts a task as [`Env::spawn`] does; a panic in it is reported as [`Vital::panicked`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let (vital, mut task) = (self.clone(), Box::pin(task));
        let watched = poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => {
                vital.panicked(name, &*panic);
                Poll::Ready(())
            }
        });
        self.env.spawn(name, watched)
    }

    /// `name` panicked: no more writes, and the node is to stop. Only the first one is told.
    pub fn panicked(&self, name: &str, panic: &(dyn Any + Send)) {
        let message = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        self.fail(&format!("the {name} panicked: {}", message.unwrap_or("no message")));
    }

    /// The node cannot go on, for `reason`. Only the first one is told.
    pub fn fail(&self, reason: &str) {
        self.directory.fail(reason);
        let first = self.died.send_if_modified(|died| {
            let first = died.is_none();
            if first {
                *died = Some(reason.into());
            }
            first
        });
        if first {
            tracing::error!(reason, "the node cannot go on: no more writes, it stops");
        }
    }

    /// Waits until one of the tasks died; says why.
    pub async fn died(&self) -> Arc<str> {
        let mut died = self.died.subscribe();
        // The sender lives as long as `self`.
        match died.wait_for(Option::is_some).await.ok().and_then(|died| died.clone()) {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }
}

//! A panic where the node cannot live without what panicked: nobody waits for ever, no write is taken, and the node says that it has to stop.

use crate::{
    client::{Client, TOPIC},
    history,
    lying_disk::LyingDisk,
};
use bytes::Bytes;
use millstream::{
    Config, Env,
    broker::Broker,
    metrics::Metrics,
    partition::waiters::{ReadyList, Watcher},
    server,
};
use millstream_storage::{record::BatchBuilder, sim::SimDisk};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

const KAFKA_STORAGE_ERROR: i16 = 56;
const REQUEST_TIMED_OUT: i16 = 7;
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A broker with the topic, and the switch that makes its flushes panic.
async fn broker(durability: &'static str) -> (Arc<Broker>, Client, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let disk = Arc::new(LyingDisk::panicking(&SimDisk::new(), &switch));
    let env = Env::simulated(disk, 1, 1_700_000_000_000);
    let broker = server::boot(Config::local("/data"), env, Metrics::new()).await.unwrap();
    let client = Client::new(&broker, 1);
    assert_eq!(client.create_topic(1, durability).await, 0);
    (broker, client, switch)
}

pub fn batch() -> Bytes {
    BatchBuilder::new().record(1_700_000_000_000, None, Some(&history::value((0, 0), 10)), &[]).build().into()
}

async fn soon<T>(what: &str, f: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, f).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// The node says that it is dead, and takes no writes.
async fn is_dead(broker: &Arc<Broker>, client: &Client, who: &str) {
    let reason = soon("the node says that it died", broker.died()).await;
    assert!(reason.contains(who) && reason.contains("panicked"), "{reason}");
    assert_eq!(broker.directory.failure().as_deref(), Some(&*reason), "what /readyz says");
    for acks in [-1, 1] {
        let later = soon("a produce is accepted", client.produce(0, acks, batch())).await;
        assert_eq!(soon("a produce is answered", later).await.0, KAFKA_STORAGE_ERROR, "acks={acks}");
    }
    assert_ne!(soon("a proposal is answered", client.create_topic(1, "fsync")).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_flush_round_ends_what_waits_for_it() {
    let (broker, client, switch) = broker("fsync").await;
    assert_eq!(client.produce(0, -1, batch()).await.await, (0, 0));
    switch.store(true, Ordering::Relaxed);
    let waiting = client.produce(0, -1, batch()).await;
    assert_eq!(soon("the waiting produce is answered", waiting).await.0, KAFKA_STORAGE_ERROR);
    is_dead(&broker, &client, "flush round").await;
    // What was settled is still read.
    let (code, watermark, bytes) = client.fetch(0, 0, 0).await;
    assert_eq!((code, watermark, history::records(&bytes).len()), (0, 1, 1));
    soon("a stop ends", broker.stop()).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_background_flusher_ends_the_node() {
    let (broker, client, switch) = broker("page-cache").await;
    switch.store(true, Ordering::Relaxed);
    assert_eq!(client.produce(0, -1, batch()).await.await, (0, 0));
    is_dead(&broker, &client, "flush round").await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_reconciler_leaves_nobody_waiting_for_the_table() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }
    let (broker, client, _) = broker("fsync").await;
    // A long poll whose task cannot be woken: the reconciler does it when the topic is deleted.
    let list = ReadyList::new();
    let watcher = Watcher::new(&list, 0);
    broker.partitions.get(TOPIC, 0).unwrap().waiters().watch(&watcher).unwrap();
    let mut ready = list.ready();
    assert!(Pin::new(&mut ready).poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    assert_eq!(soon("the deletion is answered", client.delete_topic()).await, REQUEST_TIMED_OUT);
    let reason = soon("the node says that it died", broker.died()).await;
    assert_eq!(&*reason, "the reconciler panicked: woken");
    assert_eq!(broker.directory.failure().as_deref(), Some(&*reason));
    assert_ne!(soon("a proposal is answered", client.create_topic(1, "fsync")).await, 0);
    soon("a stop ends", broker.stop()).await;
}

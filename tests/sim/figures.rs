//! Throughput series and append clocks over simulated time.

use crate::{client::Client, panics::batch};
use millstream::{Config, Env, broker::throughput::Point, metrics::Metrics, server};
use millstream_storage::sim::SimDisk;
use std::{sync::Arc, time::Duration};

const START_MS: i64 = 1_700_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn series_and_append_clocks_begin_with_traffic_and_end_a_quarter_of_an_hour_after_it() {
    let env = Env::simulated(Arc::new(SimDisk::new()), 1, START_MS);
    let broker = server::boot(Config::local("/data"), env.clone(), Metrics::new()).await.unwrap();
    let client = Client::new(&broker, 1);
    assert_eq!(client.create_topic(2, "fsync").await, 0);
    let name = broker.partitions.snapshot().topics().next().unwrap().state.name.clone();
    tokio::time::sleep(12 * SECOND).await;
    assert_eq!(broker.throughput.topic(&name), None);
    let first_ms = env.now_ms();
    let sent = batch();
    let bytes = sent.len() as u64;
    assert_eq!(client.produce(0, -1, sent).await.await, (0, 0));
    let partition = broker.partitions.get(&name, 0).unwrap();
    assert_eq!((partition.appended_ms(0), partition.appended_ms(1)), (Some(first_ms), None));
    tokio::time::sleep(SECOND).await;
    assert_eq!(client.produce(0, -1, batch()).await.await, (0, 1));
    let told = (partition.appended_ms(0), partition.appended_ms(1));
    assert_eq!((told.0, told.1.map(|ms| ms > first_ms)), (Some(first_ms), Some(true)));
    assert_eq!(client.fetch(0, 0, 0).await.1, 2);
    tokio::time::sleep(5 * SECOND).await;
    let series = broker.throughput.topic(&name).unwrap();
    let point = series.points[0];
    assert_eq!((point.bytes_in, point.records_in, point.bytes_out, point.records_out), (2 * bytes, 2, 2 * bytes, 2));
    assert_eq!((series.end_ms % 5_000, point.ms), (START_MS % 5_000, 5_000));
    assert_eq!(broker.throughput.all().points.iter().filter(|p| p.bytes_in > 0).count(), 1);
    let minute = broker.throughput.rates(&name).unwrap().minute;
    assert_eq!((minute.records_in, minute.bytes_out), (2.0 / 60.0, 2.0 * bytes as f64 / 60.0));
    // Nothing for a while: kept, and empty points follow.
    tokio::time::sleep(14 * 60 * SECOND).await;
    let series = broker.throughput.topic(&name).unwrap();
    assert_eq!((series.points[0], series.points.last()), (point, Some(&Point { ms: 5_000, ..Point::default() })));
    assert_eq!(partition.appended_ms(0), Some(first_ms));
    tokio::time::sleep(3 * 60 * SECOND).await;
    assert_eq!((broker.throughput.topic(&name), partition.appended_ms(0)), (None, None));
    assert_eq!(broker.throughput.all().points.len(), 180);
    // Traffic again is a new beginning.
    let again_ms = env.now_ms();
    assert_eq!(client.produce(0, -1, batch()).await.await, (0, 2));
    assert_eq!((partition.appended_ms(1), partition.appended_ms(2)), (None, Some(again_ms)));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(broker.throughput.topic(&name).unwrap().points.len(), 1);
    broker.stop().await;
}

//! A group's lag, in records and in seconds, over HTTP: `cargo run --example lag -- [HOST:PORT [GROUP]]`.
//!
//! The whole answer, and everything else there is to ask, is described at `/v1/openapi.json`.

use serde_json::Value;
use std::{
    error::Error,
    io::{Read, Write},
    net::TcpStream,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let broker = args.next().unwrap_or("localhost:9080".into());
    let group = args.next().unwrap_or("billing".into());
    let group = get(&broker, &format!("/v1/groups/{group}"))?;
    // A number that is not known is null, never guessed.
    println!("{} is {}: {}", text(&group["group"]), text(&group["state"]), text(&group["explanation"]));
    println!("{} records behind, {} s", group["lag_records"], group["lag_seconds"]);
    if let Some(seconds) = group["drain_seconds"].as_f64() {
        println!("caught up in {seconds} s, if it goes on so");
    }
    for p in group["partitions"].as_array().into_iter().flatten() {
        println!(
            "{}/{}: committed {} of {}, {} records, {} s",
            text(&p["topic"]),
            p["partition"],
            p["committed_offset"],
            p["high_watermark"],
            p["lag_records"],
            p["lag_seconds"]
        );
    }
    Ok(())
}

/// The JSON at `path`. HTTP/1.0 by hand, so that there is nothing to install: a program of yours has its own HTTP client (names with other
/// characters than letters, digits, `.`, `_` and `-` are to be percent-encoded).
fn get(host: &str, path: &str) -> Result<Value, Box<dyn Error>> {
    let mut stream = TcpStream::connect(host)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("not HTTP")?;
    let body: Value = serde_json::from_str(body)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body),
        // Errors are problem documents (RFC 9457).
        _ => Err(format!("{}: {}", text(&body["title"]), text(&body["detail"])).into()),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

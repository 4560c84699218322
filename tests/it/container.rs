//! What the Dockerfile and docs/compose promise, without an engine: their environment, command and health check are read from the files and run with the real binary.

use crate::{
    addresses::told,
    clients::{all_acked, consume, producer, send},
    support::{Broker, Options, PATIENCE, Proxy, passed_over, temp},
    wire::Client,
};
use rdkafka::{Offset, producer::BaseRecord};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The instructions of the Dockerfile's last stage, in order.
struct Dockerfile(Vec<(String, String)>);

impl Dockerfile {
    fn read() -> Dockerfile {
        let mut instructions: Vec<(String, String)> = Vec::new();
        let mut open = false;
        for line in file("Dockerfile").lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let more = line.strip_suffix('\\');
            let text = more.unwrap_or(line).trim();
            match open {
                true => {
                    *instructions.last_mut().unwrap() = {
                        let (name, value) = instructions.last().unwrap();
                        (name.clone(), format!("{value} {text}"))
                    }
                }
                false => {
                    let (name, value) = text.split_once(' ').unwrap();
                    instructions.push((name.to_string(), value.trim().to_string()));
                }
            }
            open = more.is_some();
        }
        let last = instructions.iter().rposition(|(name, _)| name == "FROM").unwrap();
        Dockerfile(instructions.split_off(last))
    }

    fn one(&self, name: &str) -> &str {
        let found: Vec<&str> = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    }

    fn words(&self, name: &str) -> Vec<String> {
        serde_json::from_str(self.one(name)).unwrap_or_else(|e| panic!("{name} is not in the exec form: {e}"))
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let pairs = self.one("ENV").split_whitespace().map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn health_check(&self) -> Vec<String> {
        let (_, words) = self.one("HEALTHCHECK").split_once("CMD ").unwrap();
        serde_json::from_str(words).unwrap()
    }
}

/// Ports that a container has to itself and this machine may not: any free ones instead. What is advertised stays as it is.
fn on_free_ports(environment: &mut BTreeMap<String, String>) -> Vec<String> {
    let mut ports = Vec::new();
    for name in ["MILLSTREAM_LISTENERS", "MILLSTREAM_HTTP"] {
        let value = environment.get_mut(name).unwrap();
        let listeners = value.split(',').map(|listener| {
            let (rest, port) = listener.rsplit_once(':').unwrap();
            ports.push(port.to_string());
            format!("{rest}:0")
        });
        *value = listeners.collect::<Vec<_>>().join(",");
    }
    ports
}

/// The container: environment and command of the Dockerfile with `more` laid over them, as `docker run -e` does.
fn container(more: &BTreeMap<String, String>) -> (Broker, tempfile::TempDir) {
    let dockerfile = Dockerfile::read();
    let mut environment = dockerfile.environment();
    environment.extend(more.clone());
    on_free_ports(&mut environment);
    let dir = temp();
    assert_eq!(environment.insert("MILLSTREAM_LOG_DIRS".into(), dir.path().to_str().unwrap().into()).unwrap(), "/data");
    assert_eq!(dockerfile.words("ENTRYPOINT"), ["millstream"]);
    let mut options = Options::new(dir.path()).exactly(&dockerfile.words("CMD"));
    for (name, value) in environment {
        options = options.env(&name, value);
    }
    (options.start(), dir)
}

/// The address of a listener by `host`, an address of this machine.
fn by(host: &str, address: &str) -> String {
    format!("{host}:{}", address.rsplit(':').next().unwrap())
}

/// Publishes and consumes one record.
fn there_and_back(address: &str, topic: &str) {
    assert_eq!(Client::connect(&address.replace("localhost", "127.0.0.1")).create_topic(topic, 1, &[]), 0);
    let p = producer(address, &[("acks", "all")]);
    send(&p, BaseRecord::with_opaque_to(topic, Box::new(0)).key(&b"k"[..]).payload(&b"v"[..]));
    all_acked(&p);
    assert_eq!(consume(address, topic, &[(0, Offset::Beginning)], 1).len(), 1);
}

/// GET with a Host of our choice; gives the status.
fn get(address: &str, host: &str, path: &str) -> u16 {
    let mut s = TcpStream::connect(address).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(s, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut head = String::new();
    BufReader::new(s).read_line(&mut head).unwrap();
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head:?}"))
}

#[test]
fn clients_on_the_host_and_in_other_containers_reach_the_image() {
    let (broker, _dir) = container(&BTreeMap::new());
    // As `docker run -p 9092:9092` leads to it.
    assert_eq!(told(&by("127.0.0.1", &broker.kafka)), ("localhost".into(), 9092));
    // By whatever name another container found it, it came in by an address that it is told again.
    let inner = by("127.0.0.2", broker.listener("INTERNAL"));
    let (host, port) = told(&inner);
    assert_eq!(format!("{host}:{port}"), inner);
    there_and_back(&inner, "a");
    assert_eq!(broker.stop().0, Some(0));

    // As `docker run -p PORT:9092 -e MILLSTREAM_ADVERTISED_LISTENERS=PLAINTEXT://localhost:PORT`.
    let published = Proxy::new();
    let port = published.address.rsplit(':').next().unwrap();
    let advertised = format!("PLAINTEXT://localhost:{port}");
    let (broker, _dir) = container(&BTreeMap::from([("MILLSTREAM_ADVERTISED_LISTENERS".into(), advertised)]));
    published.to(Some(&by("127.0.0.1", &broker.kafka)));
    there_and_back(&format!("localhost:{port}"), "a");
}

#[test]
fn the_image_is_put_together_as_its_command_needs_it() {
    let dockerfile = Dockerfile::read();
    let mut environment = dockerfile.environment();
    assert_eq!(dockerfile.one("VOLUME"), environment["MILLSTREAM_LOG_DIRS"]);
    let open: BTreeSet<String> = dockerfile.one("EXPOSE").split_whitespace().map(str::to_string).collect();
    assert_eq!(open, on_free_ports(&mut environment).into_iter().collect());
    let (user, group) = dockerfile.one("USER").split_once(':').unwrap();
    let made = dockerfile.one("RUN");
    assert!(made.contains(&format!("--uid {user} ")) && made.contains(&format!("--gid {group} ")), "{made}");
    assert_ne!(user.parse(), Ok(0), "not root");
    assert_eq!(dockerfile.one("STOPSIGNAL"), "SIGTERM");
}

#[test]
fn the_health_check_of_the_image_tells_ready_from_not_ready() {
    let words = Dockerfile::read().health_check();
    // None: there is no bash here.
    let healthy = |http: &str| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("MILLSTREAM_HTTP", http).stderr(Stdio::null());
        match command.status() {
            Ok(status) => Some(status.success()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => panic!("{words:?}: {e}"),
        }
    };
    let (broker, _dir) = container(&BTreeMap::new());
    let http = broker.http.clone();
    let Some(ready) = healthy(&http) else { return passed_over("bash", "bash is not installed") };
    assert!(ready);
    broker.stop();
    assert_eq!(healthy(&http), Some(false), "nobody listens");

    let unready = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = unready.local_addr().unwrap().to_string();
    let asked = std::thread::spawn(move || {
        let (mut s, _) = unready.accept().unwrap();
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            s.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        s.write_all(b"HTTP/1.0 503 Service Unavailable\r\ncontent-length: 5\r\n\r\n 200 ").unwrap();
        String::from_utf8(asked).unwrap()
    });
    assert_eq!(healthy(&http), Some(false), "not ready");
    assert!(asked.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\nHost: localhost\r\n"));
}

const COMPOSE: &str = "docs/compose/compose.yaml";

/// `NAME: VALUE` lines that are settings of the broker.
fn compose_environment() -> BTreeMap<String, String> {
    let text = file(COMPOSE);
    let settings = text.lines().map(str::trim).filter(|line| line.starts_with("MILLSTREAM_"));
    let found: BTreeMap<String, String> =
        settings.map(|l| l.split_once(": ").unwrap()).map(|(n, v)| (n.to_string(), v.to_string())).collect();
    assert!(!found.is_empty());
    found
}

/// What `line` says in `text` behind `name`, as `name: value` or `- name: [value]`.
fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines =
        text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name)?.strip_prefix(':'));
    lines.map(|value| value.trim().trim_matches(['[', ']', '"'])).collect()
}

#[test]
fn the_composed_broker_tells_each_side_its_name_and_lets_prometheus_and_browsers_in() {
    let (broker, _dir) = container(&compose_environment());
    assert_eq!(told(&by("127.0.0.1", &broker.kafka)), ("localhost".into(), 9092));
    assert_eq!(told(&by("127.0.0.1", broker.listener("INTERNAL"))), ("millstream".into(), 19092));

    let http = by("127.0.0.1", &broker.http);
    let prometheus = file("docs/compose/prometheus.yml");
    let [target] = values(&prometheus, "targets")[..] else { panic!("one target: {prometheus}") };
    let (service, port) = target.split_once(':').unwrap();
    let compose = file(COMPOSE);
    assert!(compose.contains(&format!("\n  {service}:\n")), "{target} is a service");
    assert!(compose.contains(&format!(":{port}:{port}\n")) && Dockerfile::read().one("EXPOSE").contains(port));
    assert_eq!(get(&http, target, "/metrics"), 200);
    assert_eq!(get(&http, "localhost:9080", "/metrics"), 200);
    assert_eq!(get(&http, "evil.example", "/metrics"), 403);
}

#[test]
fn what_compose_mounts_is_there_and_fits_together() {
    let compose = file(COMPOSE);
    let mut mounted = BTreeMap::new();
    for line in compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")) {
        let (here, there) = line.split_once(':').unwrap();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/compose").join(here);
        assert!(path.exists(), "{}", path.display());
        mounted.insert(here, there.trim_end_matches(":ro"));
    }
    assert!(file("docs/compose/prometheus.yml").contains("\n  - rules.yml\n"));
    let beside = |name: &str| Path::new(mounted[name]).parent().unwrap();
    assert_eq!(beside("rules.yml"), beside("prometheus.yml"));
    let provider = file("docs/compose/grafana/provisioning/dashboards/millstream.yml");
    assert_eq!(values(&provider, "path"), [mounted["grafana/dashboards"]]);
    let source = file("docs/compose/grafana/provisioning/datasources/prometheus.yml");
    let dashboard = dashboard();
    let asked: BTreeSet<String> = found(&dashboard["panels"], "uid").into_iter().collect();
    assert_eq!(asked.iter().map(String::as_str).collect::<Vec<_>>(), values(&source, "uid"));
    let home = values(&compose, "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH")[0];
    assert_eq!(home, format!("{}/millstream.json", mounted["grafana/dashboards"]));
}

fn dashboard() -> serde_json::Value {
    serde_json::from_str(&file("docs/compose/grafana/dashboards/millstream.json")).unwrap()
}

/// Every text named `name` anywhere in `value`.
fn found(value: &serde_json::Value, name: &str) -> Vec<String> {
    match value {
        serde_json::Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(text) if key == name => vec![text.to_string()],
                _ => found(value, name),
            })
            .collect(),
        serde_json::Value::Array(all) => all.iter().flat_map(|value| found(value, name)).collect(),
        _ => Vec::new(),
    }
}

/// Our metrics in `text`, each with the labels that are asked of it: `name{label="…",…}`.
fn metrics(text: &str) -> Vec<(&str, BTreeSet<&str>)> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("millstream_").map(|(at, _)| at);
    let whole = starts.filter(|&at| !text[..at].ends_with(in_name));
    let of = |at: usize| {
        let rest = &text[at..];
        let (name, rest) = rest.split_at(rest.find(|c| !in_name(c)).unwrap_or(rest.len()));
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter(|label| !label.is_empty());
        (name, labels.map(|label| label.split(['=', '!']).next().unwrap()).collect())
    };
    whole.map(of).collect()
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let page = file("docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>());
    let mut documented: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for row in cells {
        let (name, kind) = (row[1].to_string(), row[2]);
        // Those that Prometheus adds, too.
        let labels: BTreeSet<&str> = row[3].split(", ").chain(["instance", "job"]).collect();
        if kind == "summary" {
            documented.extend(["_sum", "_count"].map(|part| (format!("{name}{part}"), labels.clone())));
        }
        documented.insert(name, labels);
    }
    let dashboard = dashboard();
    let queries = [found(&dashboard, "expr"), found(&dashboard, "query")].concat().join("\n");
    let rules = file("docs/compose/rules.yml");
    for text in [&queries, &rules] {
        let asked = metrics(text);
        assert!(asked.len() > 4, "{asked:?}");
        for (name, labels) in asked {
            let known = documented.get(name).unwrap_or_else(|| panic!("{name} is not in docs/metrics.md"));
            assert!(labels.is_subset(known), "{name} has {known:?}, not all of {labels:?}");
        }
    }
}

#[test]
fn panels_of_the_dashboard_have_a_place_each() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeMap::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title}");
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            if let Some(other) = cells.insert(cell, title) {
                panic!("{title} lies over {other}");
            }
        }
    }
}

//! What a node was started with: file, environment, command line, each over the one before.

use super::{
    Config, Dynamic, Effect, Source, broker_definition, broker_definitions, check,
    listeners::{self, Given, Listener, host_port},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

const KAFKA_PORT: u16 = 9092;
const HTTP: &str = "127.0.0.1:9080";
const DATA_DIR: &str = "./data";

impl Config {
    /// Reads `file` (`key=value`, as server.properties), then the environment (`MILLSTREAM_` + name in capitals, dots as underscores; ours without a second
    /// `MILLSTREAM_`), then `sets`. A misspelled name is refused with the nearest valid one, a bad value with what is allowed. `data_dir`, `kafka`, `http` of the command line win
    /// over the names for them (log.dirs, listeners, millstream.http); where nobody says: ./data, 127.0.0.1:9092, 127.0.0.1:9080. Each of `kafka` is `HOST:PORT` or
    /// `NAME://HOST:PORT`; empty = not given.
    pub fn load(
        data_dir: Option<PathBuf>,
        kafka: &[String],
        http: Option<&str>,
        file: Option<&str>,
        environment: &[(String, String)],
        sets: &[(String, String)],
    ) -> Result<Config, String> {
        let mut given = BTreeMap::new();
        let mut put = |name: String, value: String, source: Source| -> Result<(), String> {
            check::validate_static(&name, &value)?;
            given.insert(name, (value, source));
            Ok(())
        };
        for (line, name, value) in file.map(properties).unwrap_or_default() {
            put(name, value, Source::File).map_err(|e| format!("{e} (line {line} of the settings file)"))?;
        }
        for (variable, value) in environment {
            if let Some(name) = of_variable(variable)? {
                put(name.to_owned(), value.trim().to_owned(), Source::Environment)
                    .map_err(|e| format!("{e} (environment variable {variable})"))?;
            }
        }
        for (name, value) in sets {
            put(name.trim().to_owned(), value.trim().to_owned(), Source::CommandLine)?;
        }
        if !kafka.is_empty() {
            let beneath = given.get("listeners").map(|(text, _)| text.as_str());
            let listeners = listeners::of_command_line(kafka, beneath)?;
            given.insert("listeners".to_owned(), (listeners, Source::CommandLine));
        }
        let mut config = Config {
            data_dir: DATA_DIR.into(),
            listeners: vec![Listener::loopback(KAFKA_PORT)],
            http: HTTP.into(),
            node_id: 1,
            given: Arc::new(given),
            stop_timeout_ms: 30_000,
        };
        config.fields_from_names()?;
        if let Some(http) = http {
            host_port(http)?;
            config.http = http.to_owned();
            Arc::make_mut(&mut config.given).remove("millstream.http");
        }
        config.data_dir = data_dir.unwrap_or(config.data_dir);
        Ok(config)
    }

    /// Defaults on free loopback ports: for tests and embedding.
    pub fn local(data_dir: impl Into<PathBuf>) -> Config {
        Config {
            data_dir: data_dir.into(),
            listeners: vec![Listener::loopback(0)],
            http: "127.0.0.1:0".into(),
            node_id: 1,
            given: Arc::default(),
            stop_timeout_ms: 30_000,
        }
    }

    /// The same with one setting given.
    ///
    /// # Panics
    /// On an unknown name or an invalid value.
    pub fn set(mut self, name: &str, value: &str) -> Config {
        let result = check::validate_static(name, value).and_then(|()| {
            Arc::make_mut(&mut self.given).insert(name.to_owned(), (value.to_owned(), Source::CommandLine));
            self.fields_from_names()
        });
        match result {
            Ok(()) => self,
            Err(e) => panic!("{e}"),
        }
    }

    /// This configuration with the settings of `new` that act at run time, and the names of those that differ and want a restart.
    pub fn reloaded(&self, new: &Config) -> (Config, Vec<String>) {
        let (mut given, mut restart) = ((*self.given).clone(), Vec::new());
        let names: std::collections::BTreeSet<&String> = self.given.keys().chain(new.given.keys()).collect();
        for name in names {
            let value = |c: &Config| c.given.get(name).map(|(value, _)| value.clone());
            if value(self) == value(new) {
                continue;
            }
            if !broker_definition(name).is_some_and(|d| d.dynamic) {
                restart.push(name.clone());
                continue;
            }
            match new.given.get(name) {
                Some(pair) => given.insert(name.clone(), pair.clone()),
                None => given.remove(name),
            };
        }
        (Config { given: Arc::new(given), ..self.clone() }, restart)
    }

    /// One sentence for each setting given that does nothing here.
    pub fn warnings(&self) -> Vec<String> {
        let ignored = |name: &&String| match broker_definition(name) {
            // These tell the listener apart from those of controllers: read, then nothing more to do.
            _ if ["controller.listener.names", "process.roles"].contains(&name.as_str()) => false,
            Some(d) => matches!(d.effect, Effect::Accepted | Effect::Removed),
            None => true,
        };
        let names = self.given.keys().filter(ignored);
        names.map(|name| format!("{name} is a setting of Kafka that does nothing here")).collect()
    }

    fn given_text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|(value, _)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Carries the names that stand for fields into them.
    fn fields_from_names(&mut self) -> Result<(), String> {
        let ids = [self.given_text("node.id"), self.given_text("broker.id").filter(|id| *id != "-1")];
        match ids {
            [Some(a), Some(b)] if a != b => {
                return Err(format!("node.id={a} and broker.id={b} are two ids for one node; give only node.id"));
            }
            [Some(id), _] | [None, Some(id)] => {
                self.node_id =
                    id.parse().map_err(|_| format!("node.id={id} is not valid: it must be a whole number"))?;
            }
            [None, None] => {}
        }
        if let Some(dirs) = self.given_text("log.dirs").or(self.given_text("log.dir")) {
            let dirs: Vec<PathBuf> = check::items(dirs).map(PathBuf::from).collect();
            match <[PathBuf; 1]>::try_from(dirs) {
                Ok([dir]) => self.data_dir = dir,
                Err(_) => return Err("log.dirs names several directories; one is used for now: name one".into()),
            }
        }
        for name in ["controller.quorum.voters", "controller.quorum.bootstrap.servers"] {
            if self.given_text(name).is_some_and(|members| check::items(members).count() > 1) {
                return Err(format!("{name} names several nodes; clusters are not built yet: this broker runs alone"));
            }
        }
        if let Some(roles) = self.given_text("process.roles")
            && check::items(roles).count() < 2
        {
            return Err(format!("process.roles={roles}: a node is always both, broker and controller"));
        }
        let groups = self.broker(&Dynamic::default()).groups;
        if groups.session_timeout_min_ms > groups.session_timeout_max_ms {
            return Err(format!(
                "group.min.session.timeout.ms={} is above group.max.session.timeout.ms={}: no member could join",
                groups.session_timeout_min_ms, groups.session_timeout_max_ms
            ));
        }
        if let Some(http) = self.given_text("millstream.http") {
            host_port(http)?;
            self.http = http.to_owned();
        }
        let unnamed = listeners::setting(&self.listeners);
        let given = Given {
            listeners: self.given_text("listeners").unwrap_or(&unnamed),
            advertised: self.given_text("advertised.listeners"),
            protocols: self.given_text("listener.security.protocol.map"),
            controllers: self.given_text("controller.listener.names"),
        };
        self.listeners = given.resolve()?;
        Ok(())
    }
}

/// Lines of a properties file as (line number, name, value): `#` and `!` begin comments, a backslash at the end continues a line, a later line wins.
fn properties(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            let Some((_, more)) = lines.next() else { break };
            line.push_str(more.trim_start());
        }
        let (name, value) = line.split_once(['=', ':']).unwrap_or((&line, ""));
        found.push((number + 1, name.trim().to_owned(), value.trim().to_owned()));
    }
    found
}

/// The setting an environment variable names; `None` when the variable is not meant for us.
fn of_variable(variable: &str) -> Result<Option<&'static str>, String> {
    let Some(rest) = variable.strip_prefix("MILLSTREAM_") else { return Ok(None) };
    let spelled = |name: &str| name.to_ascii_uppercase().replace('.', "_");
    let known = broker_definitions().iter().map(|d| d.name);
    let named = known.clone().find(|name| {
        let full = spelled(name);
        full == rest || full.strip_prefix("MILLSTREAM_") == Some(rest)
    });
    // The filter of the log lines, and what steers tests, are no settings.
    if named.is_some() || rest == "LOG" || rest.starts_with("TEST_") {
        return Ok(named);
    }
    // Kubernetes puts the addresses of a service named millstream into every container.
    if rest == "PORT" || rest.starts_with("PORT_") || rest.contains("_PORT") || rest.contains("SERVICE_HOST") {
        return Ok(None);
    }
    let names: Vec<String> = known.map(spelled).collect();
    let nearest = check::nearest_of(rest, names.iter().map(String::as_str)).unwrap_or_default();
    Err(format!("environment variable {variable} names no setting; the nearest is MILLSTREAM_{nearest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<Config, String> {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        Config::load(None, &[], None, Some(file), &owned(environment), &owned(sets))
    }

    fn kafka(config: &Config) -> String {
        listeners::setting(&config.listeners)
    }

    #[test]
    fn a_reload_takes_what_acts_at_run_time_and_names_the_rest() {
        let load = |file: &str| Config::load(None, &[], None, Some(file), &[], &[]).unwrap();
        let before = load("log.retention.ms=1000\nmessage.max.bytes=2000\nnode.id=1\n");
        let (after, restart) = before.reloaded(&load("log.retention.ms=5000\nnode.id=7\n"));
        assert_eq!(restart, ["node.id"]);
        assert_eq!(after.node_id, 1);
        assert_eq!(after.given["log.retention.ms"].0, "5000");
        assert!(!after.given.contains_key("message.max.bytes"));
        assert_eq!(before.reloaded(&before).1, Vec::<String>::new());
    }

    #[test]
    fn bounds_that_no_member_could_meet_are_refused() {
        let said =
            load("group.min.session.timeout.ms=7000\ngroup.max.session.timeout.ms=6000\n", &[], &[]).unwrap_err();
        assert!(said.contains("group.min.session.timeout.ms=7000"), "{said}");
    }

    #[test]
    fn command_line_wins_over_environment_wins_over_file() {
        let file =
            "# comment\n! too\n num.partitions = 2 \nlog.retention.ms:10\nlog.cleanup.policy=compact,\\\n   delete\n";
        let c = load(file, &[], &[]).unwrap();
        assert_eq!(c.broker(&Dynamic::default()).num_partitions, 2);
        assert_eq!(c.given["num.partitions"], ("2".into(), Source::File));
        assert_eq!(c.given["log.cleanup.policy"].0, "compact,delete");
        assert_eq!(c.given["log.retention.ms"].0, "10");
        let c = load(file, &[("MILLSTREAM_NUM_PARTITIONS", "3")], &[]).unwrap();
        assert_eq!(c.given["num.partitions"], ("3".into(), Source::Environment));
        let c = load(file, &[("MILLSTREAM_NUM_PARTITIONS", "3")], &[("num.partitions", "4")]).unwrap();
        assert_eq!(c.given["num.partitions"], ("4".into(), Source::CommandLine));
        assert_eq!((kafka(&c).as_str(), c.http.as_str(), c.node_id), ("PLAINTEXT://127.0.0.1:9092", HTTP, 1));
    }

    #[test]
    fn our_names_need_no_second_prefix_in_the_environment() {
        let c = load("", &[("MILLSTREAM_DURABILITY", "page-cache")], &[]).unwrap();
        assert_eq!(c.given["millstream.durability"].0, "page-cache");
        let c = load("", &[("MILLSTREAM_MILLSTREAM_DURABILITY", "page-cache")], &[]).unwrap();
        assert_eq!(c.given["millstream.durability"].0, "page-cache");
        let c =
            load("", &[("MILLSTREAM_SERVICE_HOST", "10.0.0.1"), ("MILLSTREAM_PORT_9092_TCP", "x"), ("PATH", "/")], &[]);
        assert!(c.unwrap().given.is_empty());
        let said = load("", &[("MILLSTREAM_NUM_PARTITION", "3")], &[]).unwrap_err();
        assert!(said.ends_with("MILLSTREAM_NUM_PARTITIONS"), "{said}");
    }

    #[test]
    fn the_file_that_ships_with_kafka_is_read() {
        let file = "process.roles=broker,controller\nnode.id=7\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
            listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
            advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\ncontroller.listener.names=CONTROLLER\n\
            listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
            num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\nsocket.receive.buffer.bytes=102400\n\
            socket.request.max.bytes=104857600\nlog.dirs=/tmp/kraft-combined-logs\nnum.partitions=1\n\
            num.recovery.threads.per.data.dir=1\noffsets.topic.replication.factor=1\n\
            share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
            transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\nlog.retention.hours=168\n\
            log.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n";
        let c = load(file, &[], &[]).unwrap();
        assert_eq!(kafka(&c), "PLAINTEXT://0.0.0.0:9092");
        assert_eq!(c.listeners[0].advertised, Some(("localhost".into(), 9092)));
        assert_eq!(c.node_id, 7);
        assert_eq!(c.data_dir, PathBuf::from("/tmp/kraft-combined-logs"));
        assert!(c.warnings().iter().any(|w| w.starts_with("num.io.threads")));
        assert!(!c.warnings().iter().any(|w| w.starts_with("num.partitions")));
    }

    #[test]
    fn arguments_win_over_names() {
        let file = "listeners=PLAINTEXT://0.0.0.0:1\nlog.dirs=/a\nmillstream.http=[::1]:2";
        let c = Config::load(None, &[], None, Some(file), &[], &[]).unwrap();
        assert_eq!((kafka(&c).as_str(), c.http.as_str()), ("PLAINTEXT://0.0.0.0:1", "[::1]:2"));
        let one = ["[::1]:3".to_owned()];
        let c = Config::load(Some("/b".into()), &one, Some("127.0.0.1:4"), Some(file), &[], &[]).unwrap();
        assert_eq!((kafka(&c).as_str(), c.http.as_str()), ("PLAINTEXT://[::1]:3", "127.0.0.1:4"));
        assert_eq!(c.data_dir, PathBuf::from("/b"));
        assert_eq!(c.given["listeners"], ("PLAINTEXT://[::1]:3".into(), Source::CommandLine));
        let two = ["0.0.0.0:5".to_owned(), "SSL://[::]:5".to_owned()];
        let map = "listener.security.protocol.map=SSL:PLAINTEXT\nadvertised.listeners=SSL://b:7";
        let c = Config::load(None, &two, None, Some(map), &[], &[]).unwrap();
        assert_eq!(kafka(&c), "PLAINTEXT://0.0.0.0:5,SSL://[::]:5");
        assert_eq!(c.listeners[1].advertised, Some(("b".into(), 7)));
    }

    #[test]
    fn what_cannot_be_done_is_said_in_one_sentence() {
        let cases = [
            ("listeners=SASL_SSL://:9092", "only PLAINTEXT"),
            ("listeners=A://:9092\nlistener.security.protocol.map=A:SSL", "only PLAINTEXT"),
            ("listeners=PLAINTEXT://:9092,PLAINTEXT://:9093", "PLAINTEXT twice"),
            (
                "advertised.listeners=INTERNAL://a:1\nlistener.security.protocol.map=INTERNAL:PLAINTEXT",
                "listeners does not",
            ),
            ("listeners=9092", "NAME://HOST:PORT"),
            ("listeners=PLAINTEXT://a:99999", "not a port"),
            ("listeners=PLAINTEXT://::1:9092", "[IPV6]"),
            ("advertised.listeners=PLAINTEXT://0.0.0.0:9092", "name a host"),
            ("log.dirs=/a,/b", "name one"),
            ("controller.quorum.voters=1@a:1,2@b:1", "clusters are not built"),
            ("node.id=1\nbroker.id=2", "two ids"),
            ("process.roles=broker", "always both"),
            ("node.id=-5", "at least 0"),
            ("num.partitons=3", "num.partitions"),
            ("\n\nlog.retention.hours=soon", "line 3"),
        ];
        for (file, part) in cases {
            let said = load(file, &[], &[]).unwrap_err();
            assert!(said.contains(part), "{file}: {said}");
        }
    }
}

//! From names to values: which level wins, in which unit, and what type it has.

use super::{
    BrokerSettings, Config, Definition, Dynamic, Effect, GroupSettings, Resolved, Source, TopicSettings,
    broker_definition, broker_definitions, check, group_definitions, listeners, topic_definition, topic_definitions,
};
use millstream_storage::LogConfig;
use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    str::FromStr,
};

impl TopicSettings {
    /// What the log of one partition is opened with: `segment.ms` less a share of the jitter that is the partition's own and always the same.
    pub fn log_of(&self, topic_id: [u8; 16], partition: i32) -> LogConfig {
        let mut log = self.log.clone();
        if self.segment_jitter_ms > 0 {
            // FNV-1a over id and index.
            let bytes = topic_id.into_iter().chain(partition.to_be_bytes());
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
            let jitter = (hash % self.segment_jitter_ms as u64) as i64;
            log.segment_ms = log.segment_ms.saturating_sub(jitter).max(1);
        }
        log
    }
}

impl BrokerSettings {
    /// Most connections from `peer`.
    pub fn max_connections_of(&self, peer: IpAddr) -> usize {
        self.max_connections_per_ip_overrides.get(&peer).copied().unwrap_or(self.max_connections_per_ip)
    }
}

impl Config {
    /// Typed broker settings under `dynamic`.
    pub fn broker(&self, dynamic: &Dynamic) -> BrokerSettings {
        let idle: i64 = self.broker_value("connections.max.idle.ms", dynamic);
        let bytes = |name| usize::try_from(self.broker_value::<i64>(name, dynamic)).unwrap_or(0);
        BrokerSettings {
            auto_create_topics: self.broker_flag("auto.create.topics.enable", dynamic),
            num_partitions: self.broker_value("num.partitions", dynamic),
            default_replication_factor: self
                .broker_value::<i32>("default.replication.factor", dynamic)
                .clamp(1, i32::from(i16::MAX)) as i16,
            delete_topic_enable: self.broker_flag("delete.topic.enable", dynamic),
            socket_request_max_bytes: bytes("socket.request.max.bytes"),
            fetch_max_bytes: bytes("fetch.max.bytes"),
            connections_max_idle_ms: u64::try_from(idle).unwrap_or(u64::MAX),
            max_connections: bytes("max.connections"),
            max_connections_per_ip: bytes("max.connections.per.ip"),
            max_connections_per_ip_overrides: {
                let text = self.broker_text("max.connections.per.ip.overrides", dynamic);
                check::items(&text).filter_map(check::count_of_address).collect()
            },
            producer_id_expiration_ms: self.broker_value("producer.id.expiration.ms", dynamic),
            retention_check_interval_ms: self.broker_value("log.retention.check.interval.ms", dynamic),
            fetch_session_slots: bytes("max.incremental.fetch.session.cache.slots"),
            request_partitions_max: bytes("max.request.partition.size.limit"),
            figures: self.broker_flag("millstream.figures", dynamic),
            histograms_max: bytes("millstream.histograms.max"),
            groups: self.groups(dynamic),
            offsets_topic_partitions: self.broker_value("offsets.topic.num.partitions", dynamic),
            offsets_topic_replication_factor: self.broker_value("offsets.topic.replication.factor", dynamic),
            offsets_topic_segment_bytes: self.broker_value("offsets.topic.segment.bytes", dynamic),
            offsets_retention_check_interval_ms: self.broker_value("offsets.retention.check.interval.ms", dynamic),
        }
    }

    fn groups(&self, dynamic: &Dynamic) -> GroupSettings {
        let retention_minutes: i64 = self.broker_value("offsets.retention.minutes", dynamic);
        let bytes = |name| usize::try_from(self.broker_value::<i64>(name, dynamic)).unwrap_or(0);
        GroupSettings {
            session_timeout_min_ms: self.broker_value("group.min.session.timeout.ms", dynamic),
            session_timeout_max_ms: self.broker_value("group.max.session.timeout.ms", dynamic),
            initial_rebalance_delay_ms: self.broker_value("group.initial.rebalance.delay.ms", dynamic),
            size_max: bytes("group.max.size"),
            offset_metadata_bytes_max: bytes("offset.metadata.max.bytes"),
            offsets_retention_ms: retention_minutes.saturating_mul(60_000),
            offsets_retention_given: self.given.contains_key("offsets.retention.minutes"),
        }
    }

    /// Typed settings of a topic with overrides `topic`.
    pub fn topic(&self, topic: &BTreeMap<String, String>, dynamic: &Dynamic) -> TopicSettings {
        let text = |name| self.topic_text(name, topic, dynamic);
        let policy = text("cleanup.policy");
        let cleanup_delete = check::items(&policy).any(|p| p == "delete");
        let retained = |limit: i64| if cleanup_delete && limit >= 0 { limit } else { -1 };
        let number = |name| self.topic_value::<i64>(name, topic, dynamic);
        let small = |name| u32::try_from(number(name)).unwrap_or(u32::MAX);
        let durable = text("millstream.durability") == "fsync";
        TopicSettings {
            cleanup_delete,
            cleanup_compact: check::items(&policy).any(|p| p == "compact"),
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            min_insync_replicas: self.topic_value("min.insync.replicas", topic, dynamic),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            compression: codec(&text("compression.type")),
            flush_messages: number("flush.messages"),
            flush_ms: number("flush.ms"),
            segment_jitter_ms: number("segment.jitter.ms"),
            durable,
            validate_full: text("millstream.validate") == "full",
            log: LogConfig {
                segment_bytes: small("segment.bytes"),
                segment_ms: number("segment.ms"),
                index_interval_bytes: small("index.interval.bytes"),
                segment_index_bytes: small("segment.index.bytes"),
                retention_ms: retained(number("retention.ms")),
                retention_bytes: retained(number("retention.bytes")),
                file_delete_delay_ms: number("file.delete.delay.ms"),
                durable,
            },
        }
    }

    /// Every topic setting with value, source and synonyms. Those that Kafka dropped are there only where the topic has them.
    pub fn resolve_topic(&self, topic: &BTreeMap<String, String>, dynamic: &Dynamic) -> Vec<Resolved> {
        topic_definitions()
            .iter()
            .filter(|d| d.effect != Effect::Removed || topic.contains_key(d.name))
            .map(|d| resolved(d, self.topic_levels(d, topic, dynamic)))
            .collect()
    }

    /// Every group setting of a group with overrides `group`, with value, source and synonyms.
    pub fn resolve_group(&self, group: &BTreeMap<String, String>, dynamic: &Dynamic) -> Vec<Resolved> {
        let levels = |d| self.levels(d, group, Source::Group, dynamic);
        group_definitions().iter().map(|d| resolved(d, levels(d))).collect()
    }

    /// Checks the settings of a group, each valid by itself, against each other and the bounds that the broker sets (`group.consumer.min.session.timeout.ms`, …), as
    /// Kafka's `GroupConfigManager` does.
    pub fn check_group(&self, group: &BTreeMap<String, String>, dynamic: &Dynamic) -> Result<(), String> {
        let all = self.resolve_group(group, dynamic);
        let number = |r: &Resolved| r.value.as_deref().and_then(|v| v.trim().parse::<i64>().ok());
        for r in all.iter().filter(|r| r.source == Source::Group) {
            let (name, Some(value)) = (r.definition.name, number(r)) else { continue };
            let bound = |which| {
                let broker = bound_of(r.definition.synonyms.first()?, which)?;
                Some((self.broker_value::<i64>(broker, dynamic), broker))
            };
            if let Some((least, broker)) = bound("min").filter(|(least, _)| value < *least) {
                return Err(format!("{name}={value} is not valid: it must be at least {least} ({broker})"));
            }
            if let Some((most, broker)) = bound("max").filter(|(most, _)| value > *most) {
                return Err(format!("{name}={value} is not valid: it must be at most {most} ({broker})"));
            }
        }
        if let Some(name) = group.get("streams.assignor.name").map(|name| name.trim()) {
            let known = self.broker_text("group.streams.assignors", dynamic);
            if !check::items(&known).any(|assignor| assignor == name) {
                return Err(format!("streams.assignor.name={name} is not valid: it must be one of {known}"));
            }
        }
        if group.get("errors.deadletterqueue.topic.name").is_some_and(|topic| topic.starts_with("__")) {
            return Err("errors.deadletterqueue.topic.name is not valid: it must not begin with __".into());
        }
        if let Some(tags) = group.get("streams.rack.aware.assignment.tags") {
            let mut seen = HashSet::new();
            if !check::items(tags).all(|tag| seen.insert(tag)) {
                return Err("streams.rack.aware.assignment.tags is not valid: it names a tag twice".into());
            }
        }
        let of = |name: String| all.iter().find(|r| r.definition.name == name).and_then(number);
        for kind in ["consumer", "share", "streams"] {
            let heartbeat = of(format!("{kind}.heartbeat.interval.ms"));
            let session = of(format!("{kind}.session.timeout.ms"));
            if heartbeat >= session {
                return Err(format!("{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms"));
            }
        }
        Ok(())
    }

    /// Checks the settings of a topic, each valid by itself, against each other (Kafka's `LogConfig.validateValues`).
    pub fn check_topic(&self, topic: &BTreeMap<String, String>, dynamic: &Dynamic) -> Result<(), String> {
        if !["min.compaction.lag.ms", "max.compaction.lag.ms"].iter().any(|name| topic.contains_key(*name)) {
            return Ok(());
        }
        let number = |name| self.topic_value::<i64>(name, topic, dynamic);
        let (least, most) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
        if least > most {
            return Err(format!(
                "min.compaction.lag.ms={least} is not valid: it must be at most max.compaction.lag.ms={most}"
            ));
        }
        Ok(())
    }

    /// Every broker setting with value, source and synonyms.
    pub fn resolve_broker(&self, dynamic: &Dynamic) -> Vec<Resolved> {
        broker_definitions()
            .iter()
            .filter(|d| d.effect != Effect::Removed || self.given.contains_key(d.name))
            .map(|d| resolved(d, self.broker_levels(d, dynamic)))
            .collect()
    }

    /// broker.rack, if given.
    pub fn rack(&self) -> Option<String> {
        self.given.get("broker.rack").map(|(rack, _)| rack.clone()).filter(|rack| !rack.is_empty())
    }

    /// millstream.http.hosts: further names by which the HTTP listener may be called.
    pub fn http_hosts(&self) -> Vec<String> {
        let hosts = self.given.get("millstream.http.hosts").map_or("", |(hosts, _)| hosts);
        check::items(hosts).map(str::to_ascii_lowercase).collect()
    }

    /// Every level that gives `definition` a value, strongest first.
    fn broker_levels(&self, definition: &'static Definition, dynamic: &Dynamic) -> Vec<(&'static str, String, Source)> {
        let name = definition.name;
        let mut levels = Vec::new();
        if definition.dynamic {
            levels.extend(dynamic.broker.get(name).map(|v| (name, v.clone(), Source::DynamicBroker)));
            levels.extend(dynamic.default.get(name).map(|v| (name, v.clone(), Source::DynamicDefault)));
        }
        levels.extend(self.given.get(name).map(|(v, source)| (name, v.clone(), *source)));
        let of_fields = self.of_fields(name).filter(|v| Some(v.as_str()) != definition.default);
        levels.extend(of_fields.map(|v| (name, v, Source::CommandLine)));
        if name == "broker.id" && !self.given.contains_key(name) {
            // The older name shows what the newer one says.
            let source = self.given.get("node.id").map_or(Source::Default, |(_, source)| *source);
            levels.push((name, self.node_id.to_string(), source));
        }
        levels.extend(definition.default.map(|v| (name, v.to_owned(), Source::Default)));
        levels
    }

    /// Settings that live in fields of the configuration: their value when no source names them.
    fn of_fields(&self, name: &str) -> Option<String> {
        if self.given.contains_key(name) {
            return None;
        }
        match name {
            "node.id" => Some(self.node_id.to_string()),
            "log.dirs" => Some(self.data_dir.display().to_string()),
            "listeners" => Some(listeners::setting(&self.listeners)),
            "millstream.http" => Some(self.http.clone()),
            _ => None,
        }
    }

    fn topic_levels(
        &self,
        definition: &'static Definition,
        topic: &BTreeMap<String, String>,
        dynamic: &Dynamic,
    ) -> Vec<(&'static str, String, Source)> {
        // One that no setting of brokers gives a default shows no level for it, as in Kafka.
        self.levels(definition, topic, Source::Topic, dynamic)
    }

    /// Every level that gives a setting of a topic or group a value, strongest first: `own`, then the broker settings that are its synonyms.
    fn levels(
        &self,
        definition: &'static Definition,
        own: &BTreeMap<String, String>,
        source: Source,
        dynamic: &Dynamic,
    ) -> Vec<(&'static str, String, Source)> {
        let mut levels: Vec<_> =
            own.get(definition.name).map(|v| (definition.name, v.clone(), source)).into_iter().collect();
        let brokers = definition.synonyms.iter().filter_map(|name| broker_definition(name));
        levels.extend(brokers.flat_map(|broker| self.broker_levels(broker, dynamic)));
        if definition.synonyms.is_empty() && source != Source::Topic {
            levels.extend(definition.default.map(|v| (definition.name, v.to_owned(), Source::Default)));
        }
        levels
    }

    fn broker_text(&self, name: &str, dynamic: &Dynamic) -> String {
        let Some(definition) = broker_definition(name) else { unreachable!("{name} is not in the table") };
        self.broker_levels(definition, dynamic).into_iter().next().map_or_else(String::new, |(_, value, _)| value)
    }

    /// A value that does not parse (another release wrote it) gives the default.
    fn broker_value<T: FromStr + Default>(&self, name: &str, dynamic: &Dynamic) -> T {
        let value = self.broker_text(name, dynamic);
        let default = || broker_definition(name).and_then(|d| d.default).and_then(|v| v.parse().ok());
        value.trim().parse().ok().or_else(default).unwrap_or_default()
    }

    fn broker_flag(&self, name: &str, dynamic: &Dynamic) -> bool {
        check::boolean(self.broker_text(name, dynamic).trim()).unwrap_or(false)
    }

    /// The value in force of a topic setting, in its own unit.
    fn topic_text(&self, name: &str, topic: &BTreeMap<String, String>, dynamic: &Dynamic) -> String {
        let Some(definition) = topic_definition(name) else { unreachable!("{name} is not in the table") };
        let value = resolved(definition, self.topic_levels(definition, topic, dynamic)).value;
        value.unwrap_or_default().trim().to_owned()
    }

    fn topic_value<T: FromStr + Default>(&self, name: &str, topic: &BTreeMap<String, String>, dynamic: &Dynamic) -> T {
        let value = self.topic_text(name, topic, dynamic);
        let default = || topic_definition(name).and_then(|d| d.default).and_then(|v| v.parse().ok());
        value.parse().ok().or_else(default).unwrap_or_default()
    }
}

/// The strongest level wins. A topic setting is in ms where a broker's may be in hours.
fn resolved(definition: &'static Definition, synonyms: Vec<(&'static str, String, Source)>) -> Resolved {
    let first = synonyms.first();
    let value = match first {
        Some((name, value, _)) if *name == definition.name => Some(value.clone()),
        Some((name, value, _)) => Some(translated(name, value)),
        None => definition.default.map(str::to_owned),
    };
    let source = first.map_or(Source::Default, |(_, _, source)| *source);
    Resolved { definition, value, source, synonyms }
}

/// The broker setting that bounds, as `which` ("min", "max"), the settings of groups whose default is `name`, if there is one.
fn bound_of(name: &str, which: &str) -> Option<&'static str> {
    let (kind, setting) = name.strip_prefix("group.")?.split_once('.')?;
    let setting = setting.strip_prefix("num.").unwrap_or(setting);
    broker_definition(&format!("group.{kind}.{which}.{setting}")).map(|d| d.name)
}

/// `value` of the broker setting `name` as the setting of a topic or group has it: in ms where the broker's counts hours or minutes, the first where the broker's is a
/// list of assignors.
fn translated(name: &str, value: &str) -> String {
    let unit = match name {
        "group.streams.assignors" => return check::items(value).next().unwrap_or("").to_owned(),
        "log.retention.hours" | "log.roll.hours" | "log.roll.jitter.hours" => 3_600_000,
        "log.retention.minutes" => 60_000,
        _ => return value.to_owned(),
    };
    match value.trim().parse::<i64>() {
        Ok(n) if n < 0 => "-1".to_owned(),
        Ok(n) => n.saturating_mul(unit).to_string(),
        Err(_) => value.to_owned(),
    }
}

/// Kafka's codec number; `None` = what the producer chose.
fn codec(name: &str) -> Option<u8> {
    match name {
        "uncompressed" => Some(0),
        "gzip" => Some(1),
        "snappy" => Some(2),
        "lz4" => Some(3),
        "zstd" => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn plain() -> Config {
        Config::local("/nowhere")
    }

    #[test]
    fn defaults_are_kafkas() {
        let t = plain().topic(&map(&[]), &Dynamic::default());
        assert_eq!(t.log.retention_ms, 604_800_000);
        assert_eq!(t.log.retention_bytes, -1);
        assert_eq!(t.log.segment_ms, 604_800_000);
        assert_eq!(t.log.segment_bytes, 1 << 30);
        assert_eq!(t.max_message_bytes, 1_048_588);
        assert_eq!((t.flush_ms, t.flush_messages), (i64::MAX, i64::MAX));
        assert_eq!(t.timestamp_after_max_ms, 3_600_000);
        assert!(t.durable && t.cleanup_delete && !t.cleanup_compact && !t.log_append_time);
        assert_eq!(t.compression, None);
        let b = plain().broker(&Dynamic::default());
        assert!(b.auto_create_topics && b.delete_topic_enable);
        assert_eq!((b.num_partitions, b.default_replication_factor), (1, 1));
        assert_eq!(b.socket_request_max_bytes, 104_857_600);
        assert_eq!(b.max_connections, i32::MAX as usize);
    }

    #[test]
    fn the_table_agrees_with_its_synonyms() {
        for r in plain().resolve_topic(&map(&[]), &Dynamic::default()) {
            assert_eq!(r.value.as_deref(), r.definition.default, "{}", r.definition.name);
            assert_eq!(r.source, Source::Default, "{}", r.definition.name);
        }
        for r in plain().resolve_group(&map(&[]), &Dynamic::default()) {
            assert_eq!(r.value.as_deref(), r.definition.default, "{}", r.definition.name);
        }
        for d in topic_definitions().iter().chain(group_definitions()) {
            for s in d.synonyms {
                assert!(broker_definition(s).is_some(), "{s}");
            }
        }
    }

    #[test]
    fn a_stronger_synonym_wins_and_units_convert() {
        let config = plain().set("log.retention.hours", "1");
        let none = map(&[]);
        let still = Dynamic::default();
        assert_eq!(config.topic(&none, &still).log.retention_ms, 3_600_000);
        let config = config.set("log.retention.minutes", "2");
        assert_eq!(config.topic(&none, &still).log.retention_ms, 120_000);
        let config = config.set("log.retention.ms", "3");
        assert_eq!(config.topic(&none, &still).log.retention_ms, 3);
        let dynamic = Dynamic { default: map(&[("log.retention.ms", "4")]), broker: map(&[]) };
        assert_eq!(config.topic(&none, &dynamic).log.retention_ms, 4);
        let dynamic = Dynamic { broker: map(&[("log.retention.ms", "5")]), ..dynamic };
        assert_eq!(config.topic(&none, &dynamic).log.retention_ms, 5);
        let own = map(&[("retention.ms", "6")]);
        assert_eq!(config.topic(&own, &dynamic).log.retention_ms, 6);
        let all = config.resolve_topic(&own, &dynamic);
        let r = all.iter().find(|r| r.definition.name == "retention.ms").unwrap();
        let levels: Vec<_> = r.synonyms.iter().map(|(n, v, s)| (*n, v.as_str(), *s)).collect();
        assert_eq!(
            levels,
            [
                ("retention.ms", "6", Source::Topic),
                ("log.retention.ms", "5", Source::DynamicBroker),
                ("log.retention.ms", "4", Source::DynamicDefault),
                ("log.retention.ms", "3", Source::CommandLine),
                ("log.retention.minutes", "2", Source::CommandLine),
                ("log.retention.hours", "1", Source::CommandLine),
                ("log.retention.hours", "168", Source::Default),
            ]
        );
        assert_eq!(plain().set("log.retention.hours", "-1").topic(&none, &still).log.retention_ms, -1);
        assert_eq!(plain().set("log.roll.hours", "2").topic(&none, &still).log.segment_ms, 7_200_000);
        assert_eq!(plain().set("log.flush.scheduler.interval.ms", "9").topic(&none, &still).flush_ms, 9);
        assert_eq!(plain().set("message.max.bytes", "77").topic(&none, &still).max_message_bytes, 77);
    }

    #[test]
    fn a_compacted_topic_is_not_cut_by_retention() {
        let t = plain().topic(&map(&[("cleanup.policy", "compact"), ("retention.ms", "1")]), &Dynamic::default());
        assert!(t.cleanup_compact && !t.cleanup_delete);
        assert_eq!((t.log.retention_ms, t.log.retention_bytes), (-1, -1));
        let t =
            plain().topic(&map(&[("cleanup.policy", "compact, delete"), ("retention.ms", "1")]), &Dynamic::default());
        assert!(t.cleanup_compact && t.cleanup_delete);
        assert_eq!(t.log.retention_ms, 1);
    }

    #[test]
    fn a_group_keeps_to_the_bounds_of_the_broker() {
        let config = plain().set("group.consumer.max.session.timeout.ms", "50000");
        let check = |pairs: &[(&str, &str)]| config.check_group(&map(pairs), &Dynamic::default());
        assert_eq!(check(&[("consumer.session.timeout.ms", "50000"), ("streams.num.standby.replicas", "2")]), Ok(()));
        for (name, value, bound) in [
            ("consumer.session.timeout.ms", "50001", "group.consumer.max.session.timeout.ms"),
            ("consumer.session.timeout.ms", "44999", "group.consumer.min.session.timeout.ms"),
            ("consumer.heartbeat.interval.ms", "15001", "group.consumer.max.heartbeat.interval.ms"),
            ("consumer.assignment.interval.ms", "15001", "group.consumer.max.assignment.interval.ms"),
            ("share.session.timeout.ms", "60001", "group.share.max.session.timeout.ms"),
            ("share.heartbeat.interval.ms", "4999", "group.share.min.heartbeat.interval.ms"),
            ("share.record.lock.duration.ms", "14999", "group.share.min.record.lock.duration.ms"),
            ("share.delivery.count.limit", "11", "group.share.max.delivery.count.limit"),
            ("share.partition.max.record.locks", "4001", "group.share.max.partition.max.record.locks"),
            ("streams.session.timeout.ms", "44999", "group.streams.min.session.timeout.ms"),
            ("streams.heartbeat.interval.ms", "15001", "group.streams.max.heartbeat.interval.ms"),
            ("streams.num.standby.replicas", "3", "group.streams.max.standby.replicas"),
        ] {
            let said = check(&[(name, value)]).unwrap_err();
            assert!(said.contains(name) && said.contains(bound), "{said}");
        }
        for (name, value) in [
            ("streams.assignor.name", "other"),
            ("errors.deadletterqueue.topic.name", "__x"),
            ("streams.rack.aware.assignment.tags", "a,b,a"),
        ] {
            assert!(check(&[(name, value)]).unwrap_err().contains(name));
        }
        let wide = plain().set("group.consumer.min.session.timeout.ms", "5000");
        let said = wide.check_group(&map(&[("consumer.session.timeout.ms", "5000")]), &Dynamic::default());
        assert!(said.unwrap_err().contains("greater than consumer.heartbeat.interval.ms"));
    }

    #[test]
    fn a_group_setting_shows_its_levels() {
        let config = plain().set("group.consumer.session.timeout.ms", "46000").set("group.streams.assignors", "a, b");
        let all = config.resolve_group(&map(&[("consumer.session.timeout.ms", "47000")]), &Dynamic::default());
        let of = |name: &str| all.iter().find(|r| r.definition.name == name).unwrap();
        let r = of("consumer.session.timeout.ms");
        let levels: Vec<_> = r.synonyms.iter().map(|(n, v, s)| (*n, v.as_str(), *s)).collect();
        assert_eq!(
            levels,
            [
                ("consumer.session.timeout.ms", "47000", Source::Group),
                ("group.consumer.session.timeout.ms", "46000", Source::CommandLine),
                ("group.consumer.session.timeout.ms", "45000", Source::Default),
            ]
        );
        assert_eq!((r.value.as_deref(), r.source), (Some("47000"), Source::Group));
        assert_eq!(of("streams.assignor.name").value.as_deref(), Some("a"));
        let none: Vec<_> = of("share.isolation.level").synonyms.iter().map(|(n, v, _)| (*n, v.as_str())).collect();
        assert_eq!(none, [("share.isolation.level", "read_uncommitted")]);
    }

    #[test]
    fn compaction_may_not_wait_longer_than_it_must_not() {
        let check = |pairs: &[(&str, &str)]| plain().check_topic(&map(pairs), &Dynamic::default());
        assert!(check(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")]).is_err());
        assert_eq!(check(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "5")]), Ok(()));
    }

    #[test]
    fn partitions_roll_apart_by_at_most_the_jitter() {
        let t = plain().set("log.roll.jitter.hours", "1").topic(&map(&[]), &Dynamic::default());
        let all: Vec<i64> = (0..100).map(|p| t.log_of([7; 16], p).segment_ms).collect();
        assert!(all.iter().all(|ms| (604_800_000 - 3_600_000..=604_800_000).contains(ms)), "{all:?}");
        assert!(all.iter().collect::<std::collections::BTreeSet<_>>().len() > 90, "{all:?}");
        assert_eq!(t.log_of([7; 16], 3), t.log_of([7; 16], 3));
        let t = plain()
            .topic(&map(&[("segment.jitter.ms", "9223372036854775807"), ("segment.ms", "5")]), &Dynamic::default());
        assert!((0..100).all(|p| (1..=5).contains(&t.log_of([7; 16], p).segment_ms)));
        assert_eq!(plain().topic(&map(&[]), &Dynamic::default()).log_of([7; 16], 1).segment_ms, 604_800_000);
    }

    #[test]
    fn a_setting_in_hours_is_shown_in_hours() {
        let all = plain().resolve_broker(&Dynamic::default());
        let of = |name: &str| all.iter().find(|r| r.definition.name == name).unwrap();
        for d in broker_definitions().iter().filter(|d| d.effect != Effect::Removed) {
            if !["listeners", "log.dirs", "millstream.http", "broker.id"].contains(&d.name) {
                assert_eq!(of(d.name).value.as_deref(), d.default, "{}", d.name);
            }
        }
        assert_eq!(of("listeners").value.as_deref(), Some("PLAINTEXT://127.0.0.1:0"));
        assert_eq!(of("log.dirs").value.as_deref(), Some("/nowhere"));
    }

    #[test]
    fn static_settings_ignore_the_dynamic_level() {
        let dynamic =
            Dynamic { default: map(&[("num.partitions", "9"), ("max.connections", "5")]), ..Dynamic::default() };
        let b = plain().broker(&dynamic);
        assert_eq!((b.num_partitions, b.max_connections), (1, 5));
    }
}

//! `millstream config`: prints every setting, its value, where the value comes from and what it means.

use super::serve::name_value;
use crate::{
    Config,
    config::{Dynamic, Effect, Kind, Resolved, Source},
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Print every setting, its value, source and meaning, as `serve` would take them.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Only settings whose name holds this text.
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    /// Settings file, as for `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as for `serve`; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_value)]
    sets: Vec<(String, String)>,
    /// Only settings that file, environment or command line give.
    #[arg(long)]
    given: bool,
    /// A table for people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Runs it; exit code 0 ok, 2 a setting is refused.
pub fn run(args: ConfigArgs) -> ExitCode {
    let environment: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_")).collect();
    match load(&args, &environment) {
        Err(sentence) => {
            eprintln!("millstream: {sentence}");
            ExitCode::from(2)
        }
        Ok(config) => {
            for warning in config.warnings() {
                eprintln!("warning: {warning}");
            }
            // Who reads our output may have seen enough (`| head`).
            let _ = print(&config, &args, &mut io::stdout().lock());
            ExitCode::SUCCESS
        }
    }
}

fn load(args: &ConfigArgs, environment: &[(String, String)]) -> Result<Config, String> {
    let file = match &args.config {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?),
        None => None,
    };
    Config::load(None, &[], None, file.as_deref(), environment, &args.sets)
}

fn print(config: &Config, args: &ConfigArgs, out: &mut impl Write) -> io::Result<()> {
    let brokers = config.resolve_broker(&Dynamic::default());
    let topics = config.resolve_topic(&BTreeMap::new(), &Dynamic::default());
    let wanted = |r: &&Resolved| {
        args.filter.as_ref().is_none_or(|text| r.definition.name.contains(text.as_str()))
            && (!args.given || config.given.contains_key(r.definition.name))
    };
    let groups = config.resolve_group(&BTreeMap::new(), &Dynamic::default());
    let levels = [("broker", &brokers), ("topic", &topics), ("group", &groups)];
    let all = levels.iter().flat_map(|(level, settings)| settings.iter().map(|r| (*level, r)));
    let shown: Vec<(&str, &Resolved)> = all.filter(|(_, r)| wanted(r)).collect();
    // What makes the first hour fail where it is wrong: said whenever the settings behind it are shown.
    let about_listeners =
        |text: &String| ["listeners", "advertised.listeners"].iter().any(|name| name.contains(text.as_str()));
    let told = match args.filter.as_ref().is_none_or(about_listeners) {
        true => config.listeners.as_slice(),
        false => &[],
    };
    match args.output {
        Output::Json => {
            for (level, r) in shown {
                let d = r.definition;
                let line = json!({
                    "level": level, "name": d.name, "value": value(r), "source": source(r), "effect": effect(d.effect),
                    "dynamic": d.dynamic, "default": d.default, "meaning": d.doc, "synonyms": d.synonyms,
                });
                writeln!(out, "{line}")?;
            }
            for l in told {
                let advertised = l.advertised.as_ref().map(|_| l.told());
                let line = json!({
                    "level": "listener", "name": l.name, "value": l.address(), "advertised": advertised,
                    "meaning": format!("Clients are told {}.", l.told()),
                });
                writeln!(out, "{line}")?;
            }
            Ok(())
        }
        Output::Table => {
            table(&shown, out)?;
            if !told.is_empty() {
                let gap = if shown.is_empty() { "" } else { "\n" };
                writeln!(out, "{gap}Kafka listeners")?;
            }
            for l in told {
                writeln!(out, "listener {} {}: clients are told {}", l.name, l.address(), l.told())?;
            }
            Ok(())
        }
    }
}

fn table(shown: &[(&str, &Resolved)], out: &mut impl Write) -> io::Result<()> {
    const VALUE: usize = 32;
    let cell = |r: &Resolved| {
        let value = value(r).unwrap_or_else(|| "-".into());
        match value.chars().count() > VALUE {
            true => value.chars().take(VALUE - 1).chain(['…']).collect(),
            false => value,
        }
    };
    let width = |of: &dyn Fn(&Resolved) -> usize, head: usize| shown.iter().map(|(_, r)| of(r)).fold(head, usize::max);
    let name = width(&|r| r.definition.name.len(), 4);
    let values = width(&|r| cell(r).chars().count(), 5);
    let mut last = "";
    for (level, r) in shown {
        if *level != last {
            let gap = if last.is_empty() { "" } else { "\n" };
            let of = match *level {
                "topic" => "a topic that has none of its own",
                "group" => "a group that has none of its own",
                _ => "the broker",
            };
            writeln!(out, "{gap}Settings of {of}")?;
            writeln!(out, "{:name$}  {:values$}  {:11}  {:8}  MEANING", "NAME", "VALUE", "SOURCE", "EFFECT")?;
            last = level;
        }
        let d = r.definition;
        let (cell, source, effect) = (cell(r), source(r), effect(d.effect));
        writeln!(out, "{:name$}  {cell:values$}  {source:11}  {effect:8}  {}", d.name, d.doc)?;
    }
    Ok(())
}

/// The value in force; a password is not shown.
fn value(r: &Resolved) -> Option<String> {
    match r.definition.kind {
        Kind::Password => r.value.as_ref().map(|_| "(hidden)".into()),
        _ => r.value.clone(),
    }
}

fn source(r: &Resolved) -> &'static str {
    match r.source {
        Source::Default => "default",
        Source::File => "file",
        Source::Environment => "environment",
        Source::CommandLine => "command",
        Source::DynamicDefault | Source::DynamicBroker => "cluster",
        Source::Topic => "topic",
        Source::Group => "group",
    }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Acts => "acts",
        Effect::Accepted => "none",
        Effect::Later => "not yet",
        Effect::Removed => "removed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(args: &ConfigArgs) -> String {
        let config = load(args, &[("MILLSTREAM_NUM_PARTITIONS".into(), "6".into())]).unwrap();
        let mut out = Vec::new();
        print(&config, args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn args(filter: &str, sets: &[(&str, &str)], output: Output) -> ConfigArgs {
        let sets = sets.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        ConfigArgs { filter: Some(filter.into()), config: None, sets, given: false, output }
    }

    #[test]
    fn a_line_says_value_source_and_meaning() {
        let text = printed(&args("num.partitions", &[], Output::Table));
        let line = text.lines().find(|l| l.starts_with("num.partitions")).unwrap();
        let words: Vec<_> = line.split_whitespace().take(4).collect();
        assert_eq!(words, ["num.partitions", "6", "environment", "acts"]);
        assert!(line.ends_with("does not say how many."), "{line}");
    }

    #[test]
    fn a_topic_setting_shows_what_the_broker_gives_it() {
        let text = printed(&args("retention", &[("log.retention.hours", "2")], Output::Json));
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let topic = lines.iter().find(|l| l["name"] == "retention.ms").unwrap();
        assert_eq!(
            (&topic["value"], &topic["source"], &topic["level"]),
            (&json!("7200000"), &json!("command"), &json!("topic"))
        );
    }

    #[test]
    fn a_group_setting_shows_what_the_broker_gives_it() {
        let sets = [("group.consumer.session.timeout.ms", "46000")];
        let text = printed(&args("consumer.session.timeout.ms", &sets, Output::Table));
        let (_, groups) = text.split_once("Settings of a group that has none of its own").unwrap();
        let line = groups.lines().find(|l| l.starts_with("consumer.session.timeout.ms")).unwrap();
        let words: Vec<_> = line.split_whitespace().take(4).collect();
        assert_eq!(words, ["consumer.session.timeout.ms", "46000", "command", "none"]);
    }

    #[test]
    fn what_each_listener_tells_its_clients_is_said() {
        let sets = [
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT"),
            ("listeners", "PLAINTEXT://:9092,INTERNAL://[::]:19092"),
            ("advertised.listeners", "PLAINTEXT://localhost:9092"),
        ];
        let text = printed(&args("advertised", &sets, Output::Table));
        let (_, listeners) = text.split_once("Kafka listeners\n").unwrap();
        assert_eq!(
            listeners,
            "listener PLAINTEXT 0.0.0.0:9092: clients are told localhost:9092\n\
             listener INTERNAL [::]:19092: clients are told the address they connected to\n"
        );
        let text = printed(&args("listeners", &sets, Output::Json));
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let told: Vec<_> = lines.iter().filter(|l| l["level"] == "listener").collect();
        assert_eq!((&told[0]["name"], &told[0]["advertised"]), (&json!("PLAINTEXT"), &json!("localhost:9092")));
        assert_eq!((&told[1]["value"], &told[1]["advertised"]), (&json!("[::]:19092"), &json!(null)));
        assert!(!printed(&args("num.partitions", &sets, Output::Table)).contains("Kafka listeners"));
    }

    #[test]
    fn passwords_stay_hidden() {
        let text = printed(&args("ssl.key", &[("ssl.key.password", "secret")], Output::Table));
        assert!(text.contains("(hidden)") && !text.contains("secret"), "{text}");
    }
}

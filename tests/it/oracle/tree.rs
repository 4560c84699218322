//! Messages as trees that can be compared and read: what `{:#?}` prints, read back into JSON, with what differs from run to run masked.

use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt::Debug};

/// The tree of a message.
pub fn of(message: &impl Debug) -> Value {
    let text = format!("{message:#?}");
    let mut lines = text.lines();
    value(lines.next().expect("a message prints something").trim(), &mut lines)
}

/// The value that begins with `text`, going on in `lines` where it opens something. Some(x) and Name(x) are x.
fn value(text: &str, lines: &mut std::str::Lines<'_>) -> Value {
    let text = text.strip_suffix(',').unwrap_or(text);
    let quoted = text.starts_with('"') || text.starts_with("b\"");
    let close = match text.chars().next_back() {
        Some('{') if !quoted => "}",
        Some('[') if !quoted => "]",
        Some('(') if !quoted => ")",
        _ => return scalar(text),
    };
    let (mut fields, mut elements) = (Map::new(), Vec::new());
    loop {
        let line = lines.next().expect("what opens is closed").trim();
        if line.strip_suffix(',').unwrap_or(line) == close {
            break;
        }
        match line.split_once(": ") {
            Some((name, rest)) if close == "}" => {
                fields.insert(name.to_string(), value(rest, lines));
            }
            _ => elements.push(value(line, lines)),
        }
    }
    match close {
        "}" => {
            if fields.get("unknown_tagged_fields") == Some(&json!({})) {
                fields.remove("unknown_tagged_fields");
            }
            Value::Object(fields)
        }
        ")" if elements.len() == 1 => elements.remove(0),
        _ => Value::Array(elements),
    }
}

fn scalar(text: &str) -> Value {
    match text {
        "None" => Value::Null,
        "[]" => json!([]),
        "{}" => json!({}),
        _ => {
            let unquoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
            let number = || text.parse::<i64>().ok().map(Value::from);
            let other = || text.parse::<bool>().map(Value::from).unwrap_or_else(|_| Value::from(text));
            unquoted.map(Value::from).or_else(number).unwrap_or_else(other)
        }
    }
}

/// Replaces what may differ without meaning: values that `names` knows by their name, other ids, times, addresses, sentences and sizes of disks by a word.
/// Whether there is one stays visible: null, empty, -1, 0 and nil are kept.
pub fn mask(field: &str, tree: Value, names: &BTreeMap<String, String>) -> Value {
    let word = match field {
        "error_message" | "batch_index_error_message" | "error_string" | "documentation" | "config_documentation" => {
            "<text>"
        }
        "host" | "client_host" => "<host>",
        "port" => "<port>",
        "cluster_id" => "<cluster>",
        "log_dir" => "<directory>",
        "total_bytes" | "usable_bytes" => "<bytes>",
        "topic_id" => "<topic id>",
        "member_id" | "leader" => "<member>",
        "producer_id" => "<producer>",
        "session_id" => "<session>",
        "log_append_time_ms" | "last_timestamp" => "<time>",
        "finalized_features_epoch" => "<epoch>",
        _ => "",
    };
    match tree {
        Value::Object(fields) => {
            let of_this_machine = ["log.dir", "log.dirs", "listeners", "controller.quorum.voters"];
            let setting =
                fields.get("name").and_then(Value::as_str).is_some_and(|name| of_this_machine.contains(&name));
            let masked = fields.into_iter().map(|(name, v)| match name.as_str() {
                "value" if setting && v.as_str().is_some_and(|v| !v.is_empty()) => {
                    (name, Value::from("<of the machine>"))
                }
                _ => (name.clone(), mask(&name, v, names)),
            });
            Value::Object(masked.collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(|v| mask(field, v, names)).collect()),
        Value::String(s) if names.contains_key(&s) => Value::String(format!("<{}>", names[&s])),
        // Compared, but not for reading.
        Value::String(s) if word.is_empty() && s.len() > 120 => {
            Value::String(format!("<{} characters, CRC-32C {:08x}>", s.len(), super::crc32c(s.as_bytes())))
        }
        Value::String(s) if word.is_empty() || s.is_empty() || s == uuid::Uuid::nil().to_string() => Value::String(s),
        Value::Number(n) if word.is_empty() || n.as_i64().is_some_and(|n| n <= 0) => Value::Number(n),
        Value::String(_) | Value::Number(_) => Value::from(word),
        other => other,
    }
}

/// Where two trees differ: path, value there in the one and the other (`None`: absent). Elements of an array of structs are matched by what identifies
/// them (name, index, id), whatever their order; other arrays are compared whole. Of structs whose error codes differ only those are told.
pub fn differences(one: &Value, other: &Value) -> Vec<(String, Option<Value>, Option<Value>)> {
    let mut found = Vec::new();
    compare(String::new(), one, other, &mut found);
    found
}

type Found = Vec<(String, Option<Value>, Option<Value>)>;

fn compare(path: String, one: &Value, other: &Value, found: &mut Found) {
    let (a, b) = match (one, other) {
        // Where the error is another one, the rest of the struct follows from that.
        (Value::Object(a), Value::Object(b)) if a.get("error_code") != b.get("error_code") => {
            let dot = if path.is_empty() { "" } else { "." };
            let code = |of: &Map<String, Value>| of.get("error_code").cloned();
            found.push((format!("{path}{dot}error_code"), code(a), code(b)));
            return;
        }
        (Value::Object(a), Value::Object(b)) => {
            let dot = if path.is_empty() { "" } else { "." };
            let path_of = |name: &String| format!("{path}{dot}{name}");
            (
                a.iter().map(|(n, v)| (path_of(n), v)).collect::<BTreeMap<_, _>>(),
                b.iter().map(|(n, v)| (path_of(n), v)).collect(),
            )
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).all(Value::is_object) => {
            (identified(&path, a), identified(&path, b))
        }
        _ => {
            if one != other {
                found.push((path, Some(one.clone()), Some(other.clone())));
            }
            return;
        }
    };
    for (path, v) in &a {
        match b.get(path) {
            Some(w) => compare(path.clone(), v, w, found),
            None => found.push((path.clone(), Some((*v).clone()), None)),
        }
    }
    for (path, w) in b.iter().filter(|(path, _)| !a.contains_key(*path)) {
        found.push((path.clone(), None, Some((*w).clone())));
    }
}

/// Elements by their path; a second one of the same identity gets `#2`.
fn identified<'a>(path: &str, elements: &'a [Value]) -> BTreeMap<String, &'a Value> {
    let mut all = BTreeMap::new();
    for (i, element) in elements.iter().enumerate() {
        let field = |name: &&str| match element.get(name) {
            Some(Value::String(s))
                if !s.is_empty() && !["<member>", "<topic id>", "<producer>"].contains(&s.as_str()) =>
            {
                Some(s.clone())
            }
            // Kafka knows a group without a name.
            Some(Value::String(s)) if s.is_empty() && *name == "group_id" => Some(s.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            _ => None,
        };
        let pair =
            field(&"resource_type").map(|kind| format!("{kind}:{}", field(&"resource_name").unwrap_or_default()));
        let keys = [
            "name",
            "topic",
            "topic_name",
            "group_id",
            "key",
            "api_key",
            "member_id",
            "partition_index",
            "partition",
            "index",
            "node_id",
            "broker_id",
            "topic_id",
            "log_dir",
        ];
        let identity = pair.or_else(|| keys.iter().find_map(field)).unwrap_or_else(|| format!("#{i}"));
        let mut path_of = format!("{path}[{identity}]");
        for n in 2.. {
            if !all.contains_key(&path_of) {
                break;
            }
            path_of = format!("{path}[{identity}#{n}]");
        }
        all.insert(path_of, element);
    }
    all
}

/// Every value of a field of this name, at any depth.
pub fn values_of<'a>(field: &str, tree: &'a Value, into: &mut Vec<&'a Value>) {
    match tree {
        Value::Object(fields) => fields.iter().for_each(|(name, v)| match name == field {
            true => into.push(v),
            false => values_of(field, v, into),
        }),
        Value::Array(elements) => elements.iter().for_each(|v| values_of(field, v, into)),
        _ => {}
    }
}

/// Writes JSON with as much in a line as is easily read.
pub fn write(tree: &Value, indent: usize, out: &mut String) {
    let line = tree.to_string();
    if line.len() + indent <= 160 {
        out.push_str(&line);
        return;
    }
    let pad = " ".repeat(indent + 1);
    let mut first = true;
    let mut begin = |out: &mut String| {
        out.push_str(if first { "\n" } else { ",\n" });
        out.push_str(&pad);
        first = false;
    };
    match tree {
        Value::Object(fields) => {
            out.push('{');
            for (name, v) in fields {
                begin(out);
                out.push_str(&format!("{}: ", json!(name)));
                write(v, indent + 1, out);
            }
            out.push_str(&format!("\n{}}}", " ".repeat(indent)));
        }
        Value::Array(elements) => {
            out.push('[');
            for v in elements {
                begin(out);
                write(v, indent + 1, out);
            }
            out.push_str(&format!("\n{}]", " ".repeat(indent)));
        }
        _ => out.push_str(&line),
    }
}

#[test]
fn trees_are_read_back_and_compared_by_identity() {
    use crate::wire::{string, topic_name};
    use kafka_protocol::messages::{BrokerId, MetadataResponse, metadata_response::*};
    let partition = |i: i32| {
        MetadataResponsePartition::default().with_partition_index(i).with_isr_nodes(vec![BrokerId(1), BrokerId(2)])
    };
    let topic = |name: &str, partitions: Vec<MetadataResponsePartition>| {
        MetadataResponseTopic::default().with_name(Some(topic_name(name))).with_partitions(partitions)
    };
    let response = |topics: Vec<MetadataResponseTopic>| {
        MetadataResponse::default().with_topics(topics).with_cluster_id(Some(string("x: [{(")))
    };
    let one = of(&response(vec![topic("a", vec![partition(0)]), topic("b", vec![partition(0), partition(1)])]));
    assert_eq!(one["cluster_id"], json!("x: [{("));
    assert_eq!(one["topics"][1]["partitions"][1]["isr_nodes"], json!([1, 2]));
    let mut other = of(&response(vec![topic("b", vec![partition(1)]), topic("a", vec![partition(0)])]));
    other["topics"][1]["error_code"] = json!(3);
    let found: Vec<String> = differences(&one, &other).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(found, ["topics[a].error_code", "topics[b].partitions[0]"]);
    let masked = mask("", one, &BTreeMap::new());
    assert_eq!((&masked["cluster_id"], &masked["topics"][0]["name"]), (&json!("<cluster>"), &json!("a")));
}

//! Is this a setting, and may it have this value? Every refusal is a sentence for the person who typed it.

use super::{
    Definition, Effect, Kind, Range, broker_definition, broker_definitions, group_definition, group_definitions,
    topic_definition, topic_definitions,
};

use std::net::IpAddr;

/// Longest value of a setting, bytes: nothing a person writes is longer, it goes into every image of the cluster, and the older messages that show it have room
/// for 32,767.
const VALUE_BYTES_MAX: usize = 32_000;

/// Checks one topic setting: unknown name, value out of range, or not acted on yet; the sentence goes to the client with INVALID_CONFIG.
pub fn validate_topic(name: &str, value: &str) -> Result<(), String> {
    match topic_definition(name) {
        Some(definition) => value_of(definition, value),
        None => Err(unknown("topic setting", name, topic_definitions())),
    }
}

/// Checks one dynamic broker setting.
pub fn validate_broker_dynamic(name: &str, value: &str) -> Result<(), String> {
    match broker_definition(name) {
        Some(definition) if definition.dynamic => value_of(definition, value),
        Some(_) => {
            Err(format!("{name} cannot be changed while the broker runs; set it in its configuration and restart"))
        }
        None => Err(unknown("broker setting", name, broker_definitions())),
    }
}

/// Checks one group setting by itself; [`super::Config::check_group`] holds it against the broker's bounds.
pub fn validate_group(name: &str, value: &str) -> Result<(), String> {
    match group_definition(name) {
        Some(definition) => value_of(definition, value),
        None => Err(unknown("group setting", name, group_definitions())),
    }
}

/// Checks one setting given at start.
pub(super) fn validate_static(name: &str, value: &str) -> Result<(), String> {
    if let Some(definition) = broker_definition(name) {
        return value_of(definition, value);
    }
    if listener_prefixed(name) {
        return Ok(());
    }
    if let Some(definition) = topic_definition(name) {
        return Err(match definition.synonyms.first() {
            Some(broker) => {
                format!("{name} is a setting of topics; for all topics of this broker it is called {broker}")
            }
            None => format!("{name} is a setting of topics; there is none for all topics of a broker"),
        });
    }
    if group_definition(name).is_some() {
        return Err(format!("{name} is a setting of single groups; it is set on a group at run time"));
    }
    Err(unknown("setting", name, broker_definitions()))
}

/// `listener.name.<listener>.<setting>`: Kafka's names for one listener. Known, but nothing of them acts here.
pub(super) fn listener_prefixed(name: &str) -> bool {
    name.strip_prefix("listener.name.").is_some_and(|rest| rest.contains('.'))
}

/// The items of a list.
pub(super) fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// true or false, in any case.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value {
        v if v.eq_ignore_ascii_case("true") => Some(true),
        v if v.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn value_of(definition: &Definition, value: &str) -> Result<(), String> {
    let name = definition.name;
    let value = value.trim();
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("{name} is {} bytes long; at most {VALUE_BYTES_MAX} are taken", value.len()));
    }
    let refuse = |allowed: String| Err(format!("{name}={value} is not valid: it must be {allowed}"));
    let whole = |from: i64, to: i64| match value.parse::<i64>() {
        Err(_) => refuse("a whole number".into()),
        Ok(n) if n < from => refuse(format!("at least {from}")),
        Ok(n) if n > to => refuse(format!("at most {to}")),
        Ok(_) => Ok(()),
    };
    match definition.kind {
        Kind::Boolean if boolean(value).is_none() => return refuse("true or false".into()),
        Kind::Short => whole(i64::from(i16::MIN), i64::from(i16::MAX))?,
        Kind::Int => whole(i64::from(i32::MIN), i64::from(i32::MAX))?,
        Kind::Long => whole(i64::MIN, i64::MAX)?,
        Kind::Double if !value.parse::<f64>().is_ok_and(f64::is_finite) => return refuse("a number".into()),
        _ => {}
    }
    match definition.range {
        Range::Any => {}
        Range::Whole(from, to) => whole(from, to)?,
        Range::Real(from, to) => {
            if !value.parse::<f64>().is_ok_and(|n| (from..=to).contains(&n)) {
                return refuse(format!("from {from} to {to}"));
            }
        }
        Range::OneOf(words) if !words.contains(&value) => return refuse(format!("one of {}", words.join(", "))),
        Range::OneOf(_) => {}
        Range::CountsOfAddresses => {
            if !items(value).all(|item| count_of_address(item).is_some()) {
                return refuse("a list of ADDRESS:COUNT, each address an IP address".into());
            }
        }
        Range::OffsetReset => {
            let duration = || value.strip_prefix("by_duration:").is_some_and(is_duration);
            if !["earliest", "latest"].contains(&value) && !duration() {
                return refuse("earliest, latest, or by_duration:PnDTnHnMn.nS".into());
            }
        }
        Range::ListOf(words) => {
            if !items(value).all(|item| words.contains(&item)) {
                return refuse(format!("a list of {}", words.join(", ")));
            }
        }
    }
    if definition.effect == Effect::Later && !same(definition, value) {
        return Err(match definition.default {
            Some(default) if !default.is_empty() => {
                format!("{name}={value} is not acted on yet; only {default} is accepted")
            }
            _ => format!("{name} is not acted on yet; leave it empty"),
        });
    }
    Ok(())
}

/// `ADDRESS:COUNT` apart; an IPv6 address may stand in brackets.
pub(super) fn count_of_address(item: &str) -> Option<(IpAddr, usize)> {
    let (address, count) = item.rsplit_once(':')?;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    Some((address.trim().parse().ok()?, count.trim().parse().ok()?))
}

/// Whether `text` is an ISO 8601 duration of days to seconds that is not negative (`P1DT2H3M4.5S`), as Java's `Duration.parse` reads it.
fn is_duration(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let Some(text) = text.strip_prefix('P') else { return false };
    let (days, time) = match text.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return false,
        None => (text, ""),
    };
    // Each unit at most once, in order; only seconds have a fraction.
    let parts = |mut text: &str, units: &[char]| {
        let mut count = 0;
        for unit in units {
            if let Some((number, rest)) = text.split_once(*unit) {
                let number = number.strip_prefix('+').unwrap_or(number);
                let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
                let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
                let dotted = number.contains('.');
                if whole.is_empty() || whole.len() > 12 || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
                    return None;
                }
                if dotted && *unit != 'S' {
                    return None;
                }
                (text, count) = (rest, count + 1);
            }
        }
        text.is_empty().then_some(count)
    };
    match (parts(days, &['D']), parts(time, &['H', 'M', 'S'])) {
        (Some(days), Some(times)) => days + times > 0,
        _ => false,
    }
}

/// Whether `value` means the default.
fn same(definition: &Definition, value: &str) -> bool {
    let default = definition.default.unwrap_or("");
    match definition.kind {
        Kind::Boolean => boolean(value) == boolean(default),
        Kind::Int | Kind::Short | Kind::Long => value.parse::<i64>().ok() == default.parse().ok(),
        _ => value == default,
    }
}

fn unknown(what: &str, name: &str, definitions: &'static [Definition]) -> String {
    let shown: String = name.chars().take(100).collect();
    format!("there is no {what} named {shown}; the nearest name is {}", nearest(&shown, definitions))
}

/// The name fewest edits away.
fn nearest(name: &str, definitions: &'static [Definition]) -> &'static str {
    definitions.iter().map(|d| d.name).min_by_key(|known| edits(name, known)).unwrap_or("")
}

/// The name of `names` fewest edits away from `name`.
pub fn nearest_of<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.min_by_key(|known| edits(name, known))
}

/// Letters inserted, removed, replaced, or swapped with their neighbour (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_every_name_unique() {
        for definitions in [topic_definitions(), broker_definitions(), group_definitions()] {
            for (i, d) in definitions.iter().enumerate() {
                if let Some(default) = d.default {
                    assert_eq!(value_of(d, default), Ok(()), "default of {}", d.name);
                }
                assert!(!definitions[..i].iter().any(|other| other.name == d.name), "{} is twice in the table", d.name);
                assert!(d.doc.ends_with('.') && d.doc.len() > 15, "doc of {}", d.name);
            }
        }
    }

    #[test]
    fn a_misspelled_name_is_answered_with_the_nearest() {
        let said = validate_topic("retention.sm", "1").unwrap_err();
        assert!(said.contains("retention.sm") && said.ends_with("retention.ms"), "{said}");
        let said = validate_static("log.retention.hour", "1").unwrap_err();
        assert!(said.ends_with("log.retention.hours"), "{said}");
        let said = validate_static("retention.ms", "1").unwrap_err();
        assert!(said.contains("log.retention.ms"), "{said}");
        assert_eq!(edits("ab", "ba"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn ranges_are_kafkas() {
        let bad = [
            ("segment.bytes", "1048575"),
            ("segment.bytes", "2147483648"),
            ("segment.ms", "0"),
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("min.insync.replicas", "0"),
            ("max.message.bytes", "-1"),
            ("flush.messages", "0"),
            ("cleanup.policy", "compress"),
            ("message.timestamp.type", "createtime"),
            ("preallocate", "yes"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("millstream.durability", "maybe"),
        ];
        for (name, value) in bad {
            let said = validate_topic(name, value).unwrap_err();
            assert!(said.contains(name), "{said}");
        }
        let good = [
            ("segment.bytes", "1048576"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("cleanup.policy", "compact, delete"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "delete,delete"),
            ("preallocate", "TRUE"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("millstream.durability", "page-cache"),
            ("message.format.version", "2.8"),
        ];
        for (name, value) in good {
            assert_eq!(validate_topic(name, value), Ok(()), "{name}={value}");
        }
    }

    #[test]
    fn bounds_of_single_addresses_are_lists_of_address_and_count() {
        let set = |value| validate_broker_dynamic("max.connections.per.ip.overrides", value);
        for good in ["", "127.0.0.1:5", "127.0.0.1:5, ::1:0", "[2001:db8::1]:7"] {
            assert_eq!(set(good), Ok(()), "{good}");
        }
        for bad in ["127.0.0.1", "host:5", "127.0.0.1:-1", "127.0.0.1:x", ":5"] {
            assert!(set(bad).is_err(), "{bad}");
        }
        assert_eq!(count_of_address("::1:3"), Some(("::1".parse().unwrap(), 3)));
    }

    #[test]
    fn where_a_share_group_begins_may_be_a_duration() {
        let says = |value: &str| validate_group("share.auto.offset.reset", value).is_ok();
        for good in ["earliest", "latest", "by_duration:PT1H", "by_duration:P1DT2H3M4.5S", "by_duration:P2D"] {
            assert!(says(good), "{good}");
        }
        for bad in [
            "",
            "none",
            "Latest",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:1H",
            "by_duration:PT1D",
            "by_duration:PT1M2H",
            "by_duration:PT-1H",
            "by_duration:PT1.5H",
            "by_duration:P1DT",
            "by_duration:PT1",
        ] {
            assert!(!says(bad), "{bad}");
        }
    }

    #[test]
    fn what_would_be_ignored_in_silence_is_refused() {
        let said = validate_topic("errors.deadletterqueue.group.enable", "true").unwrap_err();
        assert!(said.contains("not acted on yet") && said.contains("only false"), "{said}");
        assert!(validate_topic("remote.storage.enable", "true").is_err());
        assert_eq!(validate_topic("remote.storage.enable", "False"), Ok(()));
        assert!(
            validate_static("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
                .is_err()
        );
    }

    #[test]
    fn only_dynamic_broker_settings_change_at_run_time() {
        assert_eq!(validate_broker_dynamic("log.retention.ms", "1000"), Ok(()));
        assert!(validate_broker_dynamic("log.retention.hours", "1").unwrap_err().contains("restart"));
        assert!(validate_broker_dynamic("node.id", "1").is_err());
        assert!(validate_broker_dynamic("log.retention.m", "1").is_err());
    }
}

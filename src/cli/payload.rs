//! Keys and values as text, base64, hexadecimal digits or JSON, to read and to write.
//!
//! A record as JSON is an object: `key` and `value` are a string, null, or for bytes that are no text `{"base64": "…"}`; `headers` an array of pairs `["name", value]`; `timestamp`
//! milliseconds since 1970; further `partition`, and of records that were read `topic` and `offset`. What is read may also have an object for `headers`, RFC 3339 for `timestamp`, and for `key` and
//! `value` any other JSON, which is sent as it is.

use super::moment;
use crate::client::Record;
use bytes::Bytes;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// How keys and values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// The bytes as they are.
    Text,
    /// One JSON object a record.
    Json,
    /// RFC 4648, with padding.
    Base64,
    /// Two digits a byte.
    Hex,
}

/// Names and values, in order.
pub(super) type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
    pub partition: Option<i32>,
    pub timestamp_ms: Option<i64>,
}

/// Bytes that a text stands for (of a JSON format: the text itself).
///
/// # Errors
/// A sentence.
pub(super) fn decode(format: Format, text: &[u8]) -> Result<Vec<u8>, String> {
    match format {
        Format::Text | Format::Json => Ok(text.to_vec()),
        Format::Base64 => from_base64(text.trim_ascii()).ok_or_else(|| "it is not base64".into()),
        Format::Hex => from_hex(text.trim_ascii()).ok_or_else(|| "it is not pairs of hexadecimal digits".into()),
    }
}

/// Appends bytes as text (of a JSON format: as they are).
pub(super) fn encode(format: Format, bytes: &[u8], out: &mut Vec<u8>) {
    match format {
        Format::Text | Format::Json => out.extend_from_slice(bytes),
        Format::Base64 => out.extend_from_slice(base64(bytes).as_bytes()),
        Format::Hex => out.extend(bytes.iter().flat_map(|b| [hex_digit(b >> 4), hex_digit(b & 15)])),
    }
}

// ---- JSON ----

/// A record read from JSON.
///
/// # Errors
/// A sentence.
pub(super) fn draft(line: &[u8]) -> Result<Draft, String> {
    let value: Value = serde_json::from_slice(line).map_err(|e| format!("it is not JSON: {e}"))?;
    let Value::Object(fields) = value else { return Err("it is no JSON object".into()) };
    let mut draft = Draft::default();
    for (name, value) in fields {
        match name.as_str() {
            "key" => draft.key = payload(value).map_err(|e| format!("`key`: {e}"))?,
            "value" => draft.value = payload(value).map_err(|e| format!("`value`: {e}"))?,
            "headers" => draft.headers = headers(value)?,
            "partition" => {
                let number = value.as_i64().and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0);
                draft.partition = match value.is_null() {
                    true => None,
                    false => Some(number.ok_or("`partition` is no partition")?),
                };
            }
            "timestamp" => {
                draft.timestamp_ms = match &value {
                    Value::Null => None,
                    Value::String(text) => Some(moment::parse(text)?),
                    other => Some(other.as_i64().filter(|ms| *ms >= 0).ok_or("`timestamp` is no time since 1970")?),
                };
            }
            // What `consume` writes can be read again.
            "topic" | "offset" => {}
            other => {
                return Err(format!(
                    "`{other}` is no field of a record; key, value, headers, partition and timestamp are"
                ));
            }
        }
    }
    Ok(draft)
}

fn payload(value: Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.into_bytes())),
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("base64") => {
            let bytes = fields["base64"].as_str().and_then(|text| from_base64(text.as_bytes()));
            bytes.map(Some).ok_or_else(|| "what is said to be base64 is not".into())
        }
        other => Ok(Some(other.to_string().into_bytes())),
    }
}

fn headers(value: Value) -> Result<Headers, String> {
    let wrong = || "`headers` is neither an object nor an array of pairs".to_string();
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| Ok((name, payload(value)?))).collect(),
        Value::Array(pairs) => {
            let pair = |pair: Value| match pair {
                Value::Array(mut pair) if pair.len() == 2 => {
                    let value = payload(pair.remove(1))?;
                    Ok((pair[0].as_str().ok_or_else(wrong)?.to_string(), value))
                }
                _ => Err(wrong()),
            };
            pairs.into_iter().map(pair).collect()
        }
        _ => Err(wrong()),
    }
}

/// A record as a JSON object.
pub(super) fn object(topic: &str, partition: i32, record: &Record) -> Value {
    let one = |bytes: &Option<Bytes>| bytes.as_ref().map_or(Value::Null, |bytes| shown(bytes));
    let headers = record.headers.iter().map(|(name, value)| json!([String::from_utf8_lossy(name), one(value)]));
    let mut object = Map::new();
    object.insert("topic".into(), topic.into());
    object.insert("partition".into(), partition.into());
    object.insert("offset".into(), record.offset.into());
    object.insert("timestamp".into(), if record.timestamp_ms < 0 { Value::Null } else { record.timestamp_ms.into() });
    object.insert("key".into(), one(&record.key));
    object.insert("value".into(), one(&record.value));
    object.insert("headers".into(), headers.collect());
    Value::Object(object)
}

fn shown(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": base64(bytes) }),
    }
}

// ---- base64 and hexadecimal digits ----

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            match i <= chunk.len() {
                true => out.push(char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

/// The same back; padding may be missing, the alphabet for URLs will do as well. `None` = it is not base64.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let bare = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let is_padded = bare.len() < text.len();
    if bare.len() % 4 == 1 || is_padded && !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(bare.len() / 4 * 3 + 2);
    for chunk in bare.chunks(4) {
        let mut word = 0u32;
        for b in chunk {
            let six = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(six);
        }
        word <<= 6 * (4 - chunk.len());
        let bytes = word.to_be_bytes();
        out.extend_from_slice(&bytes[1..chunk.len()]);
        // Bits of no byte are zero in what an encoder writes.
        if bytes[chunk.len()..].iter().any(|b| *b != 0) {
            return None;
        }
    }
    Some(out)
}

fn hex_digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble)]
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let digit = |d: u8| char::from(d).to_digit(16);
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), text);
            assert_eq!(from_base64(text.as_bytes()).as_deref(), Some(plain.as_bytes()), "{text}");
            assert_eq!(from_base64(text.trim_end_matches('=').as_bytes()).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(from_base64(b"-_-_"), from_base64(b"+/+/"));
        for wrong in ["A", "AA=A", "A===", "AA=", "Zh==", "Zm9=", "a b=", "é"] {
            assert_eq!(from_base64(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn every_byte_survives_every_format() {
        let all: Vec<u8> = (0..=255).collect();
        for format in [Format::Base64, Format::Hex, Format::Text] {
            for end in 0..all.len() {
                let mut text = Vec::new();
                encode(format, &all[..end], &mut text);
                if format != Format::Text {
                    assert!(text.is_ascii());
                }
                assert_eq!(decode(format, &text).as_deref(), Ok(&all[..end]));
            }
        }
        assert!(decode(Format::Hex, b"abc").is_err() && decode(Format::Hex, b"zz").is_err());
        assert_eq!(decode(Format::Hex, b" FFfe "), Ok(vec![255, 254]));
    }

    #[test]
    fn what_is_written_as_json_is_read_back() {
        let record = Record {
            offset: 7,
            timestamp_ms: 99,
            key: None,
            value: Some(Bytes::from_static(b"\xff\0")),
            headers: vec![("h".into(), Some("x".into())), ("h".into(), None)],
        };
        let text = object("t", 3, &record).to_string();
        assert_eq!(
            text,
            r#"{"headers":[["h","x"],["h",null]],"key":null,"offset":7,"partition":3,"timestamp":99,"topic":"t","value":{"base64":"/wA="}}"#
        );
        let draft = draft(text.as_bytes()).unwrap();
        let headers = vec![("h".to_string(), Some(b"x".to_vec())), ("h".to_string(), None)];
        let same = Draft { key: None, value: Some(vec![255, 0]), headers, partition: Some(3), timestamp_ms: Some(99) };
        assert_eq!(draft, same);
    }

    #[test]
    fn json_of_other_shapes_is_taken_or_refused_with_a_reason() {
        let value = |text: &str| draft(text.as_bytes()).map(|d| d.value);
        assert_eq!(value(r#"{"value":{"a":[1]}}"#), Ok(Some(br#"{"a":[1]}"#.to_vec())));
        assert_eq!(value(r#"{"value":5}"#), Ok(Some(b"5".to_vec())));
        assert_eq!(value(r#"{}"#), Ok(None));
        assert_eq!(
            draft(br#"{"headers":{"a":"b"},"timestamp":"1970-01-01T00:00:01Z"}"#).unwrap().timestamp_ms,
            Some(1000)
        );
        for wrong in [
            "",
            "[]",
            "{",
            r#"{"vaule":1}"#,
            r#"{"partition":-1}"#,
            r#"{"partition":"x"}"#,
            r#"{"timestamp":-5}"#,
            r#"{"headers":3}"#,
            r#"{"headers":[["a"]]}"#,
            r#"{"headers":[[1,2]]}"#,
            r#"{"value":{"base64":"?"}}"#,
        ] {
            assert!(draft(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}

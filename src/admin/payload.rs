//! Bytes of records as JSON shows them, and back.

use super::json::{Encoding, Header, Hole, Message, Payload};
use crate::broker::browse::{self, Cut, Found};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

/// How payloads are to be shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Objects and arrays of JSON as JSON, other UTF-8 as text, anything else in base64.
    #[default]
    Auto,
    /// Every JSON as JSON, single numbers and strings too; else as `auto`.
    Json,
    /// Always text; bytes that are no UTF-8 become U+FFFD.
    Text,
    /// Always base64.
    Base64,
}

/// A record as JSON.
pub fn message(found: &Found, format: Format) -> Message {
    let shown = |cut: &Option<Cut>| cut.as_ref().map(|cut| payload(cut, format));
    Message {
        partition: found.partition,
        offset: found.offset,
        timestamp_ms: (found.timestamp_ms >= 0).then_some(found.timestamp_ms),
        timestamp_type: if found.append_time { "append" } else { "create" }.into(),
        key: shown(&found.key),
        value: shown(&found.value),
        headers: found
            .headers
            .iter()
            .map(|(key, value)| Header { key: String::from_utf8_lossy(&key.bytes).into_owned(), value: shown(value) })
            .collect(),
        header_count: found.header_count,
    }
}

/// A hole as JSON.
pub fn hole(hole: browse::Hole) -> Hole {
    let browse::Hole { partition, offset, next_offset, reason } = hole;
    Hole { partition, offset, next_offset, reason }
}

/// Bytes as JSON.
pub fn payload(cut: &Cut, format: Format) -> Payload {
    let truncated = cut.bytes.len() < cut.size_bytes;
    let text = text(&cut.bytes, truncated);
    let json = |text: &str| match format {
        _ if truncated => None,
        Format::Json => raw(text),
        Format::Auto if text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with(['{', '[']) => raw(text),
        _ => None,
    };
    let (encoding, data) = match (format, text) {
        (Format::Base64, _) => (Encoding::Base64, string(&STANDARD.encode(&cut.bytes))),
        (Format::Text, _) => (Encoding::Text, string(&String::from_utf8_lossy(&cut.bytes))),
        (_, None) => (Encoding::Base64, string(&STANDARD.encode(&cut.bytes))),
        (_, Some(text)) => match json(text) {
            Some(raw) => (Encoding::Json, raw),
            None => (Encoding::Text, string(text)),
        },
    };
    Payload { encoding, data, size_bytes: Some(cut.size_bytes), truncated }
}

/// UTF-8; the last character may have been cut.
fn text(bytes: &[u8], truncated: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) if truncated && e.error_len().is_none() => std::str::from_utf8(&bytes[..e.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// The JSON as it stands, if it is one.
fn raw(text: &str) -> Option<Box<RawValue>> {
    serde_json::from_str::<&RawValue>(text).ok().map(RawValue::to_owned)
}

fn string(text: &str) -> Box<RawValue> {
    // A string is always JSON.
    to_raw_value(text).unwrap_or_else(|e| panic!("a string as JSON: {e}"))
}

/// The bytes that a payload stands for; a sentence where it stands for none.
pub fn bytes(payload: &Payload) -> Result<Vec<u8>, &'static str> {
    if payload.truncated {
        return Err("a truncated payload cannot be published: the rest of it is not there");
    }
    let string = || serde_json::from_str::<String>(payload.data.get()).map_err(|_| "data must be a string");
    match payload.encoding {
        Encoding::Json => Ok(payload.data.get().as_bytes().to_vec()),
        Encoding::Text => Ok(string()?.into_bytes()),
        Encoding::Base64 => STANDARD.decode(string()?).map_err(|_| "data must be base64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8], size_bytes: usize) -> Cut {
        Cut { bytes: bytes::Bytes::copy_from_slice(bytes), size_bytes }
    }

    fn shown(bytes: &[u8], format: Format) -> (Encoding, String) {
        let shown = payload(&cut(bytes, bytes.len()), format);
        assert_eq!((shown.size_bytes, shown.truncated), (Some(bytes.len()), false));
        (shown.encoding, shown.data.get().to_owned())
    }

    #[test]
    fn json_is_json_text_is_text_and_the_rest_base64() {
        use Encoding::{Base64, Json, Text};
        for (bytes, encoding, data) in [
            (&br#"{"a":1}"#[..], Json, r#"{"a":1}"#),
            (b" [1, 2]", Json, " [1, 2]"),
            (b"{oops", Text, r#""{oops""#),
            (b"42", Text, r#""42""#),
            (b"", Text, r#""""#),
            ("gr\u{fc}n\n".as_bytes(), Text, "\"gr\u{fc}n\\n\""),
            (b"\xff\x00", Base64, r#""/wA=""#),
        ] {
            let (got, text) = shown(bytes, Format::Auto);
            assert_eq!((got, text.trim()), (encoding, data.trim()), "{bytes:?}");
        }
        assert_eq!(shown(b"42", Format::Json), (Json, "42".into()));
        assert_eq!(shown(b"{}", Format::Text), (Text, "\"{}\"".into()));
        assert_eq!(shown(b"{}", Format::Base64), (Base64, "\"e30=\"".into()));
        assert_eq!(shown(b"a\xff", Format::Text), (Text, "\"a\u{fffd}\"".into()));
    }

    #[test]
    fn numbers_keep_all_their_digits_both_ways() {
        let json = r#"{"n":123456789012345678901234567890.10,"m":1E400,"n":0}"#;
        let (encoding, data) = shown(json.as_bytes(), Format::Auto);
        assert_eq!((encoding, data.as_str()), (Encoding::Json, json));
        let sent: Payload = serde_json::from_str(&format!(r#"{{"encoding":"json","data":{json}}}"#)).unwrap();
        assert_eq!(bytes(&sent).unwrap(), json.as_bytes());
    }

    #[test]
    fn what_is_cut_is_not_taken_for_json_and_may_end_within_a_character() {
        let long = payload(&cut(b"{}", 100), Format::Auto);
        assert_eq!((long.encoding, long.truncated, long.size_bytes), (Encoding::Text, true, Some(100)));
        assert!(bytes(&long).is_err());
        let within = payload(&cut(&"\u{fc}\u{fc}".as_bytes()[..3], 4), Format::Auto);
        assert_eq!((within.encoding, within.data.get()), (Encoding::Text, "\"\u{fc}\""));
        assert_eq!(payload(&cut(&"\u{fc}".as_bytes()[..1], 1), Format::Auto).encoding, Encoding::Base64);
    }

    #[test]
    fn what_was_shown_can_be_published_again() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for data in [&b"plain"[..], b"{\"a\": 1 }", b"\x00\x01\xfe", b"", b"\"", deep.as_bytes()] {
            for format in [Format::Auto, Format::Base64] {
                assert_eq!(bytes(&payload(&cut(data, data.len()), format)).unwrap(), data, "{format:?}");
            }
        }
    }

    #[test]
    fn a_payload_that_is_none_is_refused() {
        for text in [
            r#"{"encoding":"text","data":1}"#,
            r#"{"encoding":"base64","data":"%"}"#,
            r#"{"encoding":"text","data":null}"#,
        ] {
            assert!(bytes(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }
}

//! Templates for records, in the manner of kcat's `-f`.

use super::{
    moment,
    payload::{self, Format},
};
use crate::client::Record;

/// A template, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Key,
    KeyBytes,
    Value,
    ValueBytes,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Moment,
    Headers,
}

impl Template {
    /// Reads a template: `%k` key, `%v` or `%s` value, `%K` and `%S` their sizes in bytes (-1 = null), `%t` topic, `%p` partition, `%o` offset, `%T` timestamp in ms since 1970, `%I` the same as RFC 3339, `%h` headers
    /// (`a=1,b=2`), `%%` a percent sign; `\n`, `\t`, `\r`, `\0`, `\xHH`, `\\`.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '\\' => {
                    literal.push(escape(&mut chars)?);
                    continue;
                }
                '%' => match chars.next() {
                    Some('%') => {
                        literal.push(b'%');
                        continue;
                    }
                    Some('k') => Piece::Key,
                    Some('K') => Piece::KeyBytes,
                    Some('v' | 's') => Piece::Value,
                    Some('S') => Piece::ValueBytes,
                    Some('t') => Piece::Topic,
                    Some('p') => Piece::Partition,
                    Some('o') => Piece::Offset,
                    Some('T') => Piece::Timestamp,
                    Some('I') => Piece::Moment,
                    Some('h') => Piece::Headers,
                    Some(other) => {
                        return Err(format!("`%{other}` stands for nothing; %k %v %t %p %o %T %I %h %K %S and %% do"));
                    }
                    None => return Err("the template ends in a bare `%`; `%%` is a percent sign".into()),
                },
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Template { pieces })
    }

    /// Appends a record. Null keys and values are nothing.
    pub(super) fn write(&self, topic: &str, partition: i32, record: &Record, out: &mut Vec<u8>) {
        let size = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(-1, |b| b.len() as i64).to_string();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Piece::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Piece::KeyBytes => out.extend_from_slice(size(&record.key).as_bytes()),
                Piece::ValueBytes => out.extend_from_slice(size(&record.value).as_bytes()),
                Piece::Topic => out.extend_from_slice(topic.as_bytes()),
                Piece::Partition => out.extend_from_slice(partition.to_string().as_bytes()),
                Piece::Offset => out.extend_from_slice(record.offset.to_string().as_bytes()),
                Piece::Timestamp => out.extend_from_slice(record.timestamp_ms.to_string().as_bytes()),
                Piece::Moment => out.extend_from_slice(moment::format(record.timestamp_ms).as_bytes()),
                Piece::Headers => {
                    for (i, (name, value)) in record.headers.iter().enumerate() {
                        if i > 0 {
                            out.push(b',');
                        }
                        out.extend_from_slice(name);
                        out.push(b'=');
                        match value {
                            Some(value) => payload::encode(Format::Text, value, out),
                            None => out.extend_from_slice(b"NULL"),
                        }
                    }
                }
            }
        }
    }
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, String> {
    Ok(match chars.next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let mut digit = || chars.next().and_then(|d| d.to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err("`\\x` wants two hexadecimal digits behind it".into());
            };
            (high << 4 | low) as u8
        }
        Some(other) => return Err(format!("`\\{other}` stands for nothing; \\n \\t \\r \\0 \\xHH and \\\\ do")),
        None => return Err("the text ends in a bare backslash; `\\\\` is one".into()),
    })
}

/// A delimiter, in which the escapes of templates stand for their bytes.
///
/// # Errors
/// A sentence; also for nothing at all.
pub(super) fn delimiter(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(escape(&mut chars)?),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if out.is_empty() { Err("a delimiter has one byte at least".into()) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(template: &str, record: &Record) -> Result<String, String> {
        let mut out = Vec::new();
        Template::parse(template)?.write("topic", 3, record, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_letter_stands_for_its_part() {
        let record = Record {
            offset: 42,
            timestamp_ms: 1_000,
            key: Some("key".into()),
            value: Some("välue".into()),
            headers: vec![("a".into(), Some("1".into())), ("b".into(), None)],
        };
        let all = r"%t/%p@%o %T %I %k=%v|%s (%K,%S) [%h] 100%%\t\x41\\\n";
        assert_eq!(
            written(all, &record).unwrap(),
            "topic/3@42 1000 1970-01-01T00:00:01.000Z key=välue|välue (3,6) [a=1,b=NULL] 100%\tA\\\n"
        );
        let bare = Record { offset: 0, timestamp_ms: -1, key: None, value: None, headers: vec![] };
        assert_eq!(written("<%k|%v|%K|%S|%h|%T>é", &bare).unwrap(), "<||-1|-1||-1>é");
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for wrong in ["%", "%x", r"\", r"\q", r"\x1", r"\xzz", "%v%"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(delimiter(r"\t"), Ok(vec![b'\t']));
        assert_eq!(delimiter("::"), Ok(b"::".to_vec()));
        assert!(delimiter("").is_err() && delimiter(r"\").is_err());
    }
}

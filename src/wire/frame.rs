//! Frames: a 32-bit length, then so many bytes.

use crate::limits::CONNECTION_BUFFER_BYTES;
use std::fmt;

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// What the front of a receive buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Less than a frame that fits the connection's own buffer.
    Partial,
    /// A whole frame of so many bytes follows the prefix.
    Whole { frame_bytes: usize },
    /// A frame too large for the connection's own buffer has begun; its API key allows it.
    Large { frame_bytes: usize },
}

/// Why the stream cannot be cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Negative, zero, or too short for any header.
    Length(i32),
    /// Longer than requests of the API may be.
    TooLarge { frame_bytes: usize, frame_bytes_max: usize, api_key: i16 },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Length(length) => write!(f, "frame of length {length}"),
            FrameError::TooLarge { frame_bytes, frame_bytes_max, api_key } => {
                write!(f, "frame of {frame_bytes} bytes for API {api_key}, at most {frame_bytes_max} are taken")
            }
        }
    }
}

/// Looks at the front of `received`. A length above what the connection's own buffer holds is believed only once the API key is there too; `frame_bytes_max` gives
/// the bound of a key.
pub fn next(received: &[u8], frame_bytes_max: impl Fn(i16) -> usize) -> Result<Next, FrameError> {
    let Some((prefix, rest)) = received.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(Next::Partial);
    };
    let length = i32::from_be_bytes(*prefix);
    let frame_bytes = match usize::try_from(length) {
        Ok(0) | Err(_) => return Err(FrameError::Length(length)),
        Ok(frame_bytes) => frame_bytes,
    };
    let is_large = frame_bytes > CONNECTION_BUFFER_BYTES - PREFIX_BYTES;
    match (is_large, super::header::peek_api_key(rest)) {
        (false, _) if rest.len() >= frame_bytes => Ok(Next::Whole { frame_bytes }),
        (false, _) | (true, None) => Ok(Next::Partial),
        (true, Some(api_key)) => {
            let frame_bytes_max = frame_bytes_max(api_key);
            match frame_bytes <= frame_bytes_max {
                true => Ok(Next::Large { frame_bytes }),
                false => Err(FrameError::TooLarge { frame_bytes, frame_bytes_max, api_key }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_of(length: i32, rest: &[u8]) -> Result<Next, FrameError> {
        next(&[&length.to_be_bytes()[..], rest].concat(), |key| if key == 0 { 1 << 20 } else { 1 << 17 })
    }

    #[test]
    fn whole_and_partial_frames() {
        assert_eq!(next(&[0, 0, 0], |_| 0), Ok(Next::Partial));
        assert_eq!(next_of(3, b"ab"), Ok(Next::Partial));
        assert_eq!(next_of(3, b"abc"), Ok(Next::Whole { frame_bytes: 3 }));
        assert_eq!(next_of(3, b"abcdef"), Ok(Next::Whole { frame_bytes: 3 }));
    }

    #[test]
    fn hostile_lengths_are_errors() {
        for length in [0, -1, i32::MIN] {
            assert_eq!(next_of(length, b"abc"), Err(FrameError::Length(length)));
        }
        let too_large = next_of(i32::MAX, &[0, 3]);
        assert!(matches!(too_large, Err(FrameError::TooLarge { api_key: 3, .. })), "{too_large:?}");
    }

    #[test]
    fn a_large_length_waits_for_the_api_key() {
        assert_eq!(next_of(i32::MAX, &[]), Ok(Next::Partial));
        assert_eq!(next_of(i32::MAX, &[0]), Ok(Next::Partial));
        assert_eq!(next_of(1 << 20, &[0, 0]), Ok(Next::Large { frame_bytes: 1 << 20 }));
        assert!(next_of((1 << 20) + 1, &[0, 0]).is_err());
        assert!(next_of(1 << 20, &[0, 1]).is_err());
        let fits = (CONNECTION_BUFFER_BYTES - PREFIX_BYTES) as i32;
        assert_eq!(next_of(fits, &[0, 1]), Ok(Next::Partial));
        assert_eq!(next_of(fits + 1, &[0, 1]), Ok(Next::Large { frame_bytes: fits as usize + 1 }));
    }
}

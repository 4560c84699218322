//! Encoding replies.

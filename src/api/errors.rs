//! The one place where errors become Kafka's codes.

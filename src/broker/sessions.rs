//! sessions

/// Sessions.
#[derive(Debug)]
pub struct Sessions {}

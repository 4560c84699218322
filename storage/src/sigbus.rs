//! sigbus

//! fetch_response

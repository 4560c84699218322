//! Who may call: a web page must not reach a broker on 127.0.0.1.
//!
//! A page of another site can make a browser send requests here, under its own name (DNS rebinding: a foreign Host) or with its own name beside it (a foreign Origin). Both are
//! refused. Names allowed: localhost, addresses of this machine as the listener is bound, the host of `advertised.listeners`, and `millstream.http.hosts`.

use super::{Admin, Problem};
use crate::Config;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::net::IpAddr;

/// Hosts by which the listener may be called.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Address the listener is bound to, if it was given as one.
    bound: Option<IpAddr>,
    /// Further names, lower case.
    names: Vec<String>,
}

impl Hosts {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Hosts {
        let mut names = config.http_hosts();
        names.extend(config.advertised.as_ref().map(|(host, _)| host.to_ascii_lowercase()));
        let host = host_of(&config.http).unwrap_or_default();
        let bound = host.parse().ok();
        if bound.is_none() && !host.is_empty() {
            names.push(host);
        }
        Hosts { bound, names }
    }

    /// Whether `authority` (`HOST` or `HOST:PORT`) names this node.
    fn allows(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        if let Ok(ip) = host.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            // On a wildcard listener every address that leads here is ours; an address is no name that a foreign site could point elsewhere.
            let ours = |bound: IpAddr| bound.is_unspecified() || bound.to_canonical() == ip;
            return ip.is_loopback() || self.bound.is_some_and(ours) || self.names.contains(&host);
        }
        host == "localhost" || host.ends_with(".localhost") || self.names.contains(&host)
    }

    /// Why a request is refused, if so.
    fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
        let foreign_uri = uri.authority().is_some_and(|authority| !self.allows(authority.as_str()));
        let foreign = |value: &header::HeaderValue| !value.to_str().is_ok_and(|host| self.allows(host));
        if foreign_uri || headers.get_all(header::HOST).iter().any(foreign) {
            return Some("this host name is not ours; add it to millstream.http.hosts");
        }
        let of_site = |value: &header::HeaderValue| {
            let origin = value.to_str().ok()?;
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).map(|host| self.allows(host))
        };
        if headers.get_all(header::ORIGIN).iter().any(|value| of_site(value) != Some(true)) {
            return Some("requests from pages of another site are refused; add its host to millstream.http.hosts");
        }
        None
    }
}

/// Host of `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`, lower case, without brackets and without the dot at the end.
fn host_of(authority: &str) -> Option<String> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            if !(port.is_empty() || port.starts_with(':')) {
                return None;
            }
            host
        }
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// Lets a request through or refuses it.
pub async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match admin.0.hosts.refusal(request.uri(), request.headers()) {
        Some(why) => Problem::new(StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn refused(config: &Config, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Hosts::of(config).refusal(&Uri::from_static("/metrics"), &map).is_some()
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let config = Config::local("/nowhere");
        for host in [
            "localhost",
            "LOCALHOST:9080",
            "a.localhost",
            "127.0.0.1:9080",
            "127.9.9.9",
            "[::1]:9080",
            "[::1]",
            "localhost.",
        ] {
            assert!(!refused(&config, &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9080",
            "10.0.0.1",
            "localhost.evil.example",
            "",
            ":80",
            "[::1",
            "[::1]x",
            "127.0.0.1.evil",
        ] {
            assert!(refused(&config, &[("host", host)]), "{host}");
        }
        assert!(!refused(&config, &[]));
        assert!(refused(&config, &[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let config = Config::local("/nowhere");
        let with = |origin| refused(&config, &[("host", "localhost:9080"), ("origin", origin)]);
        assert!(!with("http://localhost:9080") && !with("https://127.0.0.1"));
        for origin in ["http://evil.example", "null", "", "file://", "http://", "ftp://localhost"] {
            assert!(with(origin), "{origin}");
        }
    }

    #[test]
    fn what_was_configured_is_allowed() {
        let config = Config::local("/nowhere")
            .set("millstream.http", "0.0.0.0:9080")
            .set("millstream.http.hosts", "millstream, Broker.Example")
            .set("advertised.listeners", "PLAINTEXT://kafka.example:9092");
        for host in ["10.1.2.3:9080", "[fe80::1]:9080", "millstream:9080", "broker.example", "kafka.example"] {
            assert!(!refused(&config, &[("host", host)]), "{host}");
        }
        assert!(refused(&config, &[("host", "evil.example")]));
        let config = Config::local("/nowhere").set("millstream.http", "10.1.2.3:9080");
        assert!(!refused(&config, &[("host", "10.1.2.3:9080")]));
        assert!(refused(&config, &[("host", "10.1.2.4:9080")]));
    }
}

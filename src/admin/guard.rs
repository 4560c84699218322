//! Who may call: a web page must not reach a broker on 127.0.0.1.
//!
//! A page of another site can make a browser send requests here, under its own name (DNS rebinding: a foreign Host), with its own name beside it (a foreign Origin), or with neither
//! (an image, a script, a frame: `Sec-Fetch-Site` says so). All are refused; only a link that a person follows from elsewhere is not. Hosts allowed: localhost, addresses of this
//! machine as the listener is bound, the hosts of `advertised.listeners`, and `millstream.http.hosts`. Another port of the same host is another site: an Origin is ours where host and
//! port are those of the Host of the same request, or where `millstream.http.hosts` names them (a name without a port stands for ports 80 and 443).
//!
//! Every answer carries the headers that keep a page of ours from being framed, sniffed, or made to run what it did not bring.

use super::{Admin, Problem};
use crate::Config;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::net::IpAddr;

/// What a page may load, and who may frame it: nothing but our own style sheet, script and streams; nobody.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Said where another site's page asked.
const ANOTHER_SITE: &str =
    "requests from pages of another site are refused; add its host and port to millstream.http.hosts";

/// Hosts by which the listener may be called.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Address the listener is bound to, if it was given as one.
    bound: Option<IpAddr>,
    /// Further names.
    names: Vec<Authority>,
    /// How many of `names`, from the first on, are `millstream.http.hosts`: those are allowed as an Origin, too.
    origins: usize,
}

/// `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    /// Lower case, without brackets and without the dot at the end.
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// From `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
    fn parse(text: &str) -> Option<Authority> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return None,
                }
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None | Some("") => None,
            Some(digits) => Some(digits.parse().ok()?),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // One address, one spelling.
        let host = host.parse::<IpAddr>().map_or(host, |ip| ip.to_canonical().to_string());
        (!host.is_empty()).then_some(Authority { host, port })
    }
}

impl Hosts {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Hosts {
        let mut names: Vec<Authority> = config.http_hosts().iter().filter_map(|name| Authority::parse(name)).collect();
        let origins = names.len();
        let further = |host: &str| Authority { host: host.to_ascii_lowercase(), port: None };
        let advertised = config.listeners.iter().filter_map(|listener| listener.advertised.as_ref());
        names.extend(advertised.map(|(host, _)| further(host)));
        let host = Authority::parse(&config.http).map(|listener| listener.host).unwrap_or_default();
        let bound = host.parse().ok();
        if bound.is_none() && !host.is_empty() {
            names.push(further(&host));
        }
        Hosts { bound, names, origins }
    }

    /// Whether `authority` (`HOST` or `HOST:PORT`) names this node.
    fn allows(&self, authority: &Authority) -> bool {
        let host = authority.host.as_str();
        let named = || self.names.iter().any(|name| name.host == host);
        if let Ok(ip) = host.parse::<IpAddr>() {
            // On a wildcard listener every address that leads here is ours; an address is no name that a foreign site could point elsewhere.
            let ours = |bound: IpAddr| bound.is_unspecified() || bound.to_canonical() == ip;
            return ip.is_loopback() || self.bound.is_some_and(ours) || named();
        }
        host == "localhost" || host.ends_with(".localhost") || named()
    }

    /// Whether a page of `origin` is one of ours, in a request to `host`.
    fn allows_origin(&self, origin: &str, host: Option<&Authority>) -> bool {
        let (rest, default) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
            (Some(rest), _) => (rest, 80),
            (_, Some(rest)) => (rest, 443),
            _ => return false,
        };
        let Some(page) = Authority::parse(rest) else { return false };
        let same = |of: &Authority| of.host == page.host && of.port.unwrap_or(default) == page.port.unwrap_or(default);
        host.is_some_and(|host| self.allows(host) && same(host)) || self.names[..self.origins].iter().any(same)
    }

    /// Why a request is refused, if so.
    fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
        let of = |value: &HeaderValue| value.to_str().ok().and_then(Authority::parse);
        let mut host = None;
        let targets = uri.authority().map(|authority| Authority::parse(authority.as_str())).into_iter();
        for target in targets.chain(headers.get_all(header::HOST).iter().map(of)) {
            match target {
                Some(target) if self.allows(&target) => host = Some(target),
                _ => return Some("this host name is not ours; add it to millstream.http.hosts"),
            }
        }
        let mut origins = headers.get_all(header::ORIGIN).iter().peekable();
        if origins.peek().is_some() {
            let ours =
                |value: &HeaderValue| value.to_str().is_ok_and(|origin| self.allows_origin(origin, host.as_ref()));
            return (!origins.all(ours)).then_some(ANOTHER_SITE);
        }
        let is = |name: &'static str, values: &[&str]| {
            headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(|value| values.contains(&value)))
        };
        // A browser that does not send these is not told from a program.
        let ours = is("sec-fetch-site", &["same-origin", "none"]);
        let followed = headers.contains_key("sec-fetch-mode")
            && is("sec-fetch-mode", &["navigate"])
            && is("sec-fetch-dest", &["document"]);
        (!ours && !followed).then_some(ANOTHER_SITE)
    }
}

/// Lets a request through or refuses it.
pub async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut response = match admin.0.hosts.refusal(request.uri(), request.headers()) {
        Some(why) => Problem::new(StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!with("http://localhost:9080") && !with("http://LOCALHOST:9080") && !with("https://localhost:9080"));
        for origin in ["http://evil.example", "null", "", "file://", "http://", "ftp://localhost:9080"] {
            assert!(with(origin), "{origin}");
        }
        // Another port, or another name, is another site, though it is the same machine.
        for origin in
            ["http://localhost:9081", "http://localhost", "http://127.0.0.1:9080", "http://localhost:9080.evil.example"]
        {
            assert!(with(origin), "{origin}");
        }
        let evil = ("origin", "http://evil.example");
        assert!(refused(&config, &[("host", "localhost:9080"), ("origin", "http://localhost:9080"), evil]));
        assert!(refused(&config, &[("origin", "http://localhost:9080")]), "with no host to hold it against");
        for (host, origin) in [("localhost", "http://localhost"), ("localhost:443", "https://localhost")] {
            assert!(!refused(&config, &[("host", host), ("origin", origin)]), "{host} {origin}");
        }
        assert!(!refused(&config, &[("host", "[::1]:9080"), ("origin", "http://[::1]:9080")]));
        assert!(refused(&config, &[("host", "localhost:443"), ("origin", "http://localhost")]));
    }

    #[test]
    fn what_pages_of_other_sites_load_without_an_origin_is_refused_but_a_link_is_followed() {
        let config = Config::local("/nowhere");
        let with = |site, mode, dest| {
            let fetched = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
            refused(&config, &[&[("host", "localhost:9080")], &fetched[..]].concat())
        };
        for (site, mode, dest) in [
            ("none", "navigate", "document"),
            ("same-origin", "cors", "empty"),
            ("same-origin", "no-cors", "style"),
            ("cross-site", "navigate", "document"),
            ("same-site", "navigate", "document"),
        ] {
            assert!(!with(site, mode, dest), "{site} {mode} {dest}");
        }
        for (site, mode, dest) in [
            ("cross-site", "no-cors", "image"),
            ("cross-site", "no-cors", "script"),
            ("same-site", "no-cors", "empty"),
            ("cross-site", "navigate", "iframe"),
            ("cross-site", "navigate", "object"),
            ("nonsense", "", ""),
        ] {
            assert!(with(site, mode, dest), "{site} {mode} {dest}");
        }
        assert!(refused(&config, &[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn what_was_configured_is_allowed() {
        let config = Config::local("/nowhere")
            .set("millstream.http", "0.0.0.0:9080")
            .set("millstream.http.hosts", "millstream, Broker.Example")
            .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT")
            .set("listeners", "PLAINTEXT://:0,INTERNAL://:0")
            .set("advertised.listeners", "INTERNAL://inner:19092,PLAINTEXT://kafka.example:9092");
        for host in ["10.1.2.3:9080", "[fe80::1]:9080", "millstream:9080", "broker.example", "kafka.example", "inner"] {
            assert!(!refused(&config, &[("host", host)]), "{host}");
        }
        assert!(refused(&config, &[("host", "evil.example")]));
        // A proxy in front that hands on its own name, or ours.
        for (host, origin, allowed) in [
            ("broker.example", "https://broker.example", true),
            ("127.0.0.1:9080", "https://broker.example", true),
            ("127.0.0.1:9080", "https://broker.example:8443", false),
            ("127.0.0.1:9080", "http://kafka.example", false),
            ("kafka.example:9080", "http://kafka.example:9080", true),
        ] {
            assert_eq!(!refused(&config, &[("host", host), ("origin", origin)]), allowed, "{host} {origin}");
        }
        let config = Config::local("/nowhere").set("millstream.http.hosts", "[::1]:3000,console.example:8443");
        for (origin, allowed) in [
            ("https://console.example:8443", true),
            ("https://console.example", false),
            ("http://[::1]:3000", true),
            ("http://[::1]:3001", false),
        ] {
            assert_eq!(!refused(&config, &[("host", "127.0.0.1:9080"), ("origin", origin)]), allowed, "{origin}");
        }
        let config = Config::local("/nowhere").set("millstream.http", "10.1.2.3:9080");
        assert!(!refused(&config, &[("host", "10.1.2.3:9080")]));
        assert!(refused(&config, &[("host", "10.1.2.4:9080")]));
    }
}

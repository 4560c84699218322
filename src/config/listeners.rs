//! Kafka listeners: where clients connect, and the address each of them is told.
//!
//! `listeners` says what is bound, `advertised.listeners` what is told to those who came in by the listener of that name, `listener.security.protocol.map` how each name
//! speaks. Names are compared without case (Kafka's `ListenerName.normalised`). Rules are those of Kafka's `SocketServerConfigs.listenerListToEndPoints`, two listeners
//! on one port by IPv4 and IPv6 included (KIP-797).

use super::check::items;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// Name of a listener that nobody named.
const PLAINTEXT: &str = "PLAINTEXT";

/// One Kafka listener of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Name in capitals; unique in the node.
    pub name: String,
    /// Host to bind, an IPv6 address without brackets; `0.0.0.0` = every IPv4 address of the machine.
    pub host: String,
    /// Port to bind; 0 = any free one.
    pub port: u16,
    /// Host and port that clients of this listener are told, an IPv6 address without brackets; port 0 = the one that is bound. `None` = the local address of
    /// their connection.
    pub advertised: Option<(String, u16)>,
    /// Another listener has this port by IPv4, so an IPv6 wildcard must not take IPv4 too.
    pub only_v6: bool,
}

impl Listener {
    /// One named PLAINTEXT on 127.0.0.1 that advertises nothing.
    pub(super) fn loopback(port: u16) -> Listener {
        Listener { name: PLAINTEXT.into(), host: "127.0.0.1".into(), port, advertised: None, only_v6: false }
    }

    /// `HOST:PORT` to bind.
    pub fn address(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// What its clients are told, for a person: `localhost:9092`, or that it is the address they connected to.
    pub fn told(&self) -> String {
        match &self.advertised {
            Some((host, port)) => format!("{}:{port}", bracketed(host)),
            None => "the address they connected to".into(),
        }
    }

    /// Host and port told to a client whose connection was accepted on `local`.
    pub fn told_to(&self, local: std::net::SocketAddr) -> (String, u16) {
        match &self.advertised {
            Some((host, 0)) => (host.clone(), local.port()),
            Some((host, port)) => (host.clone(), *port),
            // An IPv4 client on a dual-stack listener has a mapped address, which few clients can use.
            None => (local.ip().to_canonical().to_string(), local.port()),
        }
    }
}

/// As in `listeners`: `NAME://HOST:PORT`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.address())
    }
}

/// The value of `listeners` that gives these.
pub(super) fn setting(listeners: &[Listener]) -> String {
    listeners.iter().map(Listener::to_string).collect::<Vec<_>>().join(",")
}

/// The settings that make the listeners, as they were given; `None` = not given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub listeners: &'a str,
    pub advertised: Option<&'a str>,
    pub protocols: Option<&'a str>,
    /// controller.listener.names: left out of both lists.
    pub controllers: Option<&'a str>,
}

impl<'a> Given<'a> {
    /// The listeners for clients, at least one, in the order given. An error is one sentence.
    pub fn resolve(&self) -> Result<Vec<Listener>, String> {
        let text = self.listeners;
        let mut found: Vec<Listener> = Vec::new();
        for (name, address) in self.entries("listeners", text)? {
            let (host, port) = host_port(address)?;
            let host = if host.is_empty() { "0.0.0.0".to_owned() } else { host };
            found.push(Listener { name, host, port, advertised: None, only_v6: false });
        }
        if found.is_empty() {
            return Err(format!("listeners={text} names no listener for clients"));
        }
        self.separate_ports(&mut found)?;
        let Some(text) = self.advertised else { return Ok(found) };
        for (name, address) in self.entries("advertised.listeners", text)? {
            let (host, port) = host_port(address)?;
            if host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
                return Err(format!(
                    "advertised.listeners={text} tells clients no address they could connect to; name a host"
                ));
            }
            let names: Vec<String> = found.iter().map(|l| l.name.clone()).collect();
            match found.iter_mut().find(|l| l.name == name) {
                Some(listener) => listener.advertised = Some((host, port)),
                None => {
                    let names = names.join(", ");
                    return Err(format!(
                        "advertised.listeners names listener {name}, which listeners does not; there it is {names}"
                    ));
                }
            }
        }
        Ok(found)
    }

    /// (name, address) of each PLAINTEXT listener in `text`, the value of the setting `of`; those of controllers are left out.
    fn entries(&self, of: &str, text: &'a str) -> Result<Vec<(String, &'a str)>, String> {
        let mut found: Vec<(String, &str)> = Vec::new();
        for entry in items(text) {
            let shape = || format!("{of}={text} is not valid: each listener is NAME://HOST:PORT");
            let (given, address) = entry.split_once("://").ok_or_else(shape)?;
            let in_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if given.is_empty() || !given.chars().all(in_name) {
                return Err(shape());
            }
            if items(self.controllers.unwrap_or("")).any(|c| c.eq_ignore_ascii_case(given)) {
                continue;
            }
            let name = given.to_ascii_uppercase();
            self.speaks_plaintext(of, given, &name)?;
            if found.iter().any(|(other, _)| *other == name) {
                return Err(format!("{of}={text} names {name} twice; each listener has a name of its own"));
            }
            found.push((name, address));
        }
        Ok(found)
    }

    fn speaks_plaintext(&self, of: &str, given: &str, name: &str) -> Result<(), String> {
        let pairs = items(self.protocols.unwrap_or("")).filter_map(|pair| pair.split_once(':'));
        let mapped = pairs.map(|(n, protocol)| (n.trim(), protocol.trim())).find(|(n, _)| n.eq_ignore_ascii_case(name));
        let known = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
        let protocol = match mapped {
            Some((_, protocol)) => protocol,
            None if known.contains(&name) => name,
            None => {
                return Err(format!(
                    "{of}: listener.security.protocol.map does not say what listener {given} speaks; add {name}:PLAINTEXT there"
                ));
            }
        };
        match protocol.eq_ignore_ascii_case(PLAINTEXT) {
            true => Ok(()),
            false => Err(format!("{of}: listener {given} speaks {protocol}; only PLAINTEXT is served so far")),
        }
    }

    /// Each listener has a port of its own, but that one IPv4 and one IPv6 address may share it.
    fn separate_ports(&self, found: &mut [Listener]) -> Result<(), String> {
        for i in 0..found.len() {
            let port = found[i].port;
            let same: Vec<usize> = (0..found.len()).filter(|&j| port != 0 && found[j].port == port).collect();
            let ips: Vec<bool> =
                same.iter().filter_map(|&j| found[j].host.parse::<IpAddr>().ok()).map(|ip| ip.is_ipv6()).collect();
            match (same.len(), ips.as_slice()) {
                (0 | 1, _) => {}
                (2, [a, b]) if a != b => found[i].only_v6 = found[i].host.parse::<Ipv6Addr>().is_ok(),
                _ => {
                    return Err(format!(
                        "listeners={} uses port {port} more than once; only one IPv4 and one IPv6 address may share a port",
                        self.listeners
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What `--kafka` asks for, as the value of `listeners`: `HOST:PORT` is the listener `given` (the value of `listeners` beneath it) names, if it names just one, else PLAINTEXT.
///
/// # Errors
/// One sentence where an address is none.
pub(super) fn of_command_line(kafka: &[String], given: Option<&str>) -> Result<String, String> {
    let named: Vec<&str> = items(given.unwrap_or("")).filter_map(|l| l.split_once("://")).map(|(n, _)| n).collect();
    let mut all = Vec::new();
    for text in kafka.iter().flat_map(|text| items(text)) {
        if text.contains("://") {
            all.push(text.to_owned());
            continue;
        }
        host_port(text)?;
        let name = match named.as_slice() {
            [name] => name,
            _ => PLAINTEXT,
        };
        all.push(format!("{name}://{text}"));
    }
    Ok(all.join(","))
}

/// `HOST:PORT` apart; an IPv6 address is in brackets, which are taken off. The host may be empty.
pub(super) fn host_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text} is not an address; write HOST:PORT, or [IPV6]:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| format!("{port} in {text} is not a port; ports go from 0 to 65535"))?;
    let plain = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match plain {
        Some(v6) if v6.parse::<Ipv6Addr>().is_ok() => Ok((v6.to_owned(), port)),
        Some(_) => Err(wrong()),
        None if host.contains([':', '/', '[', ']', ' ', '@']) => Err(wrong()),
        None => Ok((host.to_owned(), port)),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "PLAINTEXT:PLAINTEXT, internal:plaintext,OTHER:PLAINTEXT,TLS:SSL";

    fn resolve(listeners: &str, advertised: Option<&str>) -> Result<Vec<Listener>, String> {
        Given { listeners, advertised, protocols: Some(MAP), controllers: Some("CONTROLLER") }.resolve()
    }

    #[test]
    fn each_listener_tells_its_own_address() {
        let found = resolve(
            "PLAINTEXT://:9092,Internal://0.0.0.0:19092, OTHER://[::1]:0,CONTROLLER://:9093",
            Some("INTERNAL://millstream:19092,PLAINTEXT://localhost:9092,CONTROLLER://x:9093"),
        )
        .unwrap();
        let shown: Vec<_> = found.iter().map(|l| (l.to_string(), l.told())).collect();
        let shown: Vec<_> = shown.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("PLAINTEXT://0.0.0.0:9092", "localhost:9092"),
                ("INTERNAL://0.0.0.0:19092", "millstream:19092"),
                ("OTHER://[::1]:0", "the address they connected to"),
            ]
        );
        let local = "[::ffff:10.1.2.3]:7".parse().unwrap();
        assert_eq!(found[0].told_to(local), ("localhost".into(), 9092));
        assert_eq!(found[2].told_to(local), ("10.1.2.3".into(), 7));
    }

    #[test]
    fn an_advertised_port_of_zero_is_the_one_bound() {
        let found = resolve("PLAINTEXT://:0", Some("PLAINTEXT://[2001:db8::1]:0")).unwrap();
        assert_eq!(found[0].told_to("127.0.0.1:7".parse().unwrap()), ("2001:db8::1".into(), 7));
        assert_eq!(found[0].told(), "[2001:db8::1]:0");
    }

    #[test]
    fn one_port_may_be_shared_by_ipv4_and_ipv6() {
        let found = resolve("PLAINTEXT://0.0.0.0:9092,INTERNAL://[::]:9092", None).unwrap();
        assert_eq!(found.iter().map(|l| l.only_v6).collect::<Vec<_>>(), [false, true]);
        let found = resolve("PLAINTEXT://0.0.0.0:0,INTERNAL://[::]:0", None).unwrap();
        assert!(found.iter().all(|l| !l.only_v6));
        for shared in [
            "PLAINTEXT://:9092,INTERNAL://:9092",
            "PLAINTEXT://127.0.0.1:9092,INTERNAL://127.0.0.2:9092",
            "PLAINTEXT://localhost:9092,INTERNAL://[::1]:9092",
            "PLAINTEXT://0.0.0.0:9092,INTERNAL://[::]:9092,OTHER://host:9092",
        ] {
            let said = resolve(shared, None).unwrap_err();
            assert!(said.contains("port 9092 more than once"), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_said_in_one_sentence() {
        let cases = [
            ("PLAINTEXT://:1,plaintext://:2", None, "names PLAINTEXT twice"),
            ("PLAINTEXT://:1,TLS://:2", None, "TLS speaks SSL; only PLAINTEXT"),
            ("PLAINTEXT://:1,SASL_SSL://:2", None, "only PLAINTEXT"),
            ("PLAINTEXT://:1,NEW://:2", None, "add NEW:PLAINTEXT"),
            ("CONTROLLER://:1", None, "no listener for clients"),
            ("PLAINTEXT:1", None, "NAME://HOST:PORT"),
            ("://:1", None, "NAME://HOST:PORT"),
            ("A B://:1", None, "NAME://HOST:PORT"),
            ("PLAINTEXT://::1:1", None, "[IPV6]"),
            ("PLAINTEXT://:1", Some("INTERNAL://a:1"), "which listeners does not; there it is PLAINTEXT"),
            ("PLAINTEXT://:1", Some("PLAINTEXT://a:1,PLAINTEXT://b:1"), "names PLAINTEXT twice"),
            ("PLAINTEXT://:1", Some("PLAINTEXT://:1"), "name a host"),
            ("PLAINTEXT://:1", Some("PLAINTEXT://0.0.0.0:1"), "name a host"),
            ("PLAINTEXT://:1", Some("PLAINTEXT://[0:0::0]:1"), "name a host"),
            ("PLAINTEXT://:1", Some("PLAINTEXT://a"), "not an address"),
        ];
        for (listeners, advertised, part) in cases {
            let said = resolve(listeners, advertised).unwrap_err();
            assert!(said.contains(part) && !said.contains('\n'), "{listeners} {advertised:?}: {said}");
        }
    }

    #[test]
    fn the_command_line_names_listeners_or_takes_the_only_name() {
        let of =
            |kafka: &[&str], given| of_command_line(&kafka.iter().map(ToString::to_string).collect::<Vec<_>>(), given);
        assert_eq!(of(&["[::1]:0"], None).unwrap(), "PLAINTEXT://[::1]:0");
        assert_eq!(of(&["h:1"], Some("OTHER://:9")).unwrap(), "OTHER://h:1");
        assert_eq!(of(&["h:1"], Some("OTHER://:9,A://:8")).unwrap(), "PLAINTEXT://h:1");
        assert_eq!(of(&["h:1", "A://h:2"], None).unwrap(), "PLAINTEXT://h:1,A://h:2");
        assert_eq!(of(&["h:1,A://h:2"], None).unwrap(), "PLAINTEXT://h:1,A://h:2");
        assert!(of(&["9092"], None).unwrap_err().contains("HOST:PORT"));
    }
}

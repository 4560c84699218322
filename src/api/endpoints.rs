//! Brokers as clients are told of them: node id, address, rack.

use super::Connection;
use crate::{config::Config, metadata::Image};

/// One broker and where a client that came in by some connection reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub node_id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
    pub fenced: bool,
}

/// All registered brokers, by node id. This node tells what the listener of the connection advertises, else the local address of the connection: whoever came in
/// by it reaches it again. A broker whose address is not known is left out.
pub fn endpoints(image: &Image, config: &Config, connection: &Connection) -> Vec<Endpoint> {
    let own = config.listeners[connection.listener].told_to(connection.local);
    let endpoint = |b: &std::sync::Arc<crate::metadata::BrokerRegistration>| {
        let (host, port) = match b.node_id == config.node_id {
            true => own.clone(),
            false => b.advertised.as_ref().map(|(host, port)| (host.to_string(), *port))?,
        };
        let rack = b.rack.as_ref().map(ToString::to_string);
        Some(Endpoint { node_id: b.node_id, host, port, rack, fenced: b.fenced })
    };
    image.brokers.values().filter_map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Command, apply::apply};

    fn image(nodes: &[(i32, Option<(&str, u16)>)]) -> Image {
        let init = Command::InitCluster { cluster_id: "c".into(), feature_level: 1 };
        let (mut image, _) = apply(&Image::default(), &init, 1);
        for (node_id, advertised) in nodes {
            let register = Command::RegisterBroker {
                node_id: *node_id,
                directory_id: uuid::Uuid::nil(),
                advertised: advertised.map(|(h, p)| (h.to_string(), p)),
                rack: Some("r".into()),
                feature_level_max: 1,
                clean: true,
            };
            image = apply(&image, &register, 2).0;
        }
        image
    }

    fn connection(local: &str) -> Connection {
        Connection { id: 1, listener: 0, local: local.parse().unwrap(), peer: "127.0.0.1:1".parse().unwrap() }
    }

    #[test]
    fn a_node_alone_advertises_the_address_a_client_came_in_by() {
        let config = Config::local("/nowhere");
        for (local, host) in
            [("127.0.0.1:9092", "127.0.0.1"), ("[::ffff:10.1.2.3]:9092", "10.1.2.3"), ("[::1]:9092", "::1")]
        {
            let found = endpoints(&image(&[(1, None)]), &config, &connection(local));
            let rack = Some("r".to_string());
            assert_eq!(found, [Endpoint { node_id: 1, host: host.into(), port: 9092, rack, fenced: false }]);
        }
    }

    #[test]
    fn advertised_listeners_overrides_it() {
        let config = Config::local("/nowhere").set("advertised.listeners", "PLAINTEXT://kafka.example:1234");
        let found =
            endpoints(&image(&[(1, None), (2, Some(("other", 7))), (3, None)]), &config, &connection("[::1]:1"));
        let shown: Vec<_> = found.iter().map(|e| (e.node_id, e.host.as_str(), e.port)).collect();
        assert_eq!(shown, [(1, "kafka.example", 1234), (2, "other", 7)]);
    }

    #[test]
    fn each_listener_has_an_address_of_its_own() {
        let config = Config::local("/nowhere")
            .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,OTHER:PLAINTEXT")
            .set("listeners", "PLAINTEXT://:0,INTERNAL://:0,OTHER://:0")
            .set("advertised.listeners", "INTERNAL://inner:19092,PLAINTEXT://localhost:9092");
        let told = |listener| {
            let connection = Connection { listener, ..connection("10.1.2.3:5") };
            let found = endpoints(&image(&[(1, None)]), &config, &connection).remove(0);
            (found.host, found.port)
        };
        let own = [("localhost", 9092), ("inner", 19092), ("10.1.2.3", 5)].map(|(h, p)| (h.to_string(), p));
        assert_eq!([0, 1, 2].map(told), own);
    }
}

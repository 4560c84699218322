//! DescribeCluster (60), v0–2: the brokers and who controls them.
//!
//! v1: which endpoints are wanted; controllers have none of their own here. v2: fenced brokers on request.

use super::{Outcome, Request, endpoints::endpoints, errors::ResponseError, reply, topics};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, describe_cluster_response::DescribeClusterBroker,
};

/// Kafka's `EndpointType` on the wire.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers from the image.
pub async fn handle(request: Request<'_>, message: DescribeClusterRequest) -> Outcome {
    let broker = request.broker;
    let refused = match message.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((ResponseError::MismatchedEndpointType, "this endpoint is that of a broker")),
        _ => Some((ResponseError::UnsupportedEndpointType, "there is no such type of endpoint")),
    };
    if let Some((error, why)) = refused {
        let response =
            DescribeClusterResponse::default().with_error_code(error.code()).with_error_message(Some(why.into()));
        return Outcome::Reply(reply::message(&request.header, &response));
    }
    let image = broker.quorum.image();
    let wanted = endpoints(&image, &broker.config(), request.connection).into_iter();
    let brokers = wanted.filter(|e| message.include_fenced_brokers || !e.fenced).map(|e| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(e.node_id))
            .with_host(e.host.into())
            .with_port(e.port.into())
            .with_rack(e.rack.map(Into::into))
            .with_is_fenced(e.fenced)
    });
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(topics::text(&image.cluster_id))
        .with_controller_id(BrokerId(broker.config().node_id))
        .with_brokers(brokers.collect());
    if message.include_cluster_authorized_operations {
        response.cluster_authorized_operations = topics::CLUSTER_OPERATIONS;
    }
    Outcome::Reply(reply::message(&request.header, &response))
}

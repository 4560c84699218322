//! InitProducerId (key 22).
//!
//! Served: v0–5 for idempotent producers (no transactional id). v3+ name the id and epoch that the producer has; without a transactional id it gets a new id
//! all the same, as in Kafka. Transactions are not built: a transactional id is refused with an error that no client retries.

use super::{
    Outcome, Request,
    errors::{Fault, ResponseError},
    reply,
};
use crate::broker::changes::ChangeError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

pub(super) async fn handle(request: Request<'_>, message: InitProducerIdRequest) -> Outcome {
    let (broker, header) = (request.broker.clone(), request.header);
    let refused = move |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    // v3+ name both or neither.
    let half = (message.producer_id.0 == -1) != (message.producer_epoch == -1);
    if message.transactional_id.is_some() || half {
        return Outcome::Reply(reply::message(&header, &refused(ResponseError::InvalidRequest)));
    }
    Outcome::Later(Box::pin(async move {
        let response = match broker.next_producer_id().await {
            Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
            Err(e) => {
                let fault = Fault::from(ChangeError::from(e));
                tracing::warn!(error = fault.message, "no producer id");
                refused(fault.error)
            }
        };
        reply::message(&header, &response)
    }))
}

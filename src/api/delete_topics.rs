//! DeleteTopics (20), v1–6: by name, since v6 also by id.
//!
//! v4 is flexible. v5: a sentence beside the code. `delete.topic.enable=false` is TOPIC_DELETION_DISABLED (INVALID_REQUEST before v3, which does not know it).

use super::{
    Outcome, Request,
    errors::{self, Fault, ResponseError},
    reply, topics,
};
use crate::{
    broker::{changes::ChangeError, topics as change},
    metadata::Image,
};
use kafka_protocol::messages::{
    DeleteTopicsRequest, DeleteTopicsResponse, delete_topics_request::DeleteTopicState,
    delete_topics_response::DeletableTopicResult,
};
use std::collections::HashMap;
use uuid::Uuid;

/// A topic asked for, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    name: Option<String>,
    id: Uuid,
    /// Whether it is to be deleted, or why not.
    verdict: Result<(), Fault>,
}

/// Deletes what can be, in one proposal; answers every topic asked for.
pub async fn handle(request: Request<'_>, message: DeleteTopicsRequest) -> Outcome {
    let broker = request.broker;
    let version = request.header.api_version;
    let asked = match version {
        6.. => message.topics,
        _ => message.topic_names.into_iter().map(|n| DeleteTopicState::default().with_name(Some(n))).collect(),
    };
    let mut targets = targets(&broker.quorum.image(), &asked);
    if let Err(error) = change::check_deletion(broker) {
        let mut fault = Fault::from(error);
        if version < 3 {
            fault.error = ResponseError::InvalidRequest;
        }
        targets.iter_mut().for_each(|target| target.verdict = Err(fault.clone()));
    }
    let ids: Vec<Uuid> = targets.iter().filter(|t| t.verdict.is_ok()).map(|t| t.id).collect();
    let results = change::delete(broker, ids).await;
    let doomed = targets.iter_mut().filter(|t| t.verdict.is_ok());
    doomed.zip(results).for_each(|(target, result)| target.verdict = result.map_err(Fault::from));
    let answers = targets.iter().map(|target| {
        DeletableTopicResult::default()
            // Before v6 the name is never null.
            .with_name(target.name.as_deref().map(topics::topic_name))
            .with_topic_id(target.id)
            .with_error_code(errors::code(&target.verdict))
            .with_error_message(errors::text(&target.verdict))
    });
    let response = DeleteTopicsResponse::default().with_responses(answers.collect());
    Outcome::Reply(reply::message(&request.header, &response))
}

/// What is asked for, found in the image. A topic asked for twice (by name, by id, or both) is answered once and not deleted.
fn targets(image: &Image, asked: &[DeleteTopicState]) -> Vec<Target> {
    let twice = || Err(Fault::new(ResponseError::InvalidRequest, "the request names this topic more than once"));
    let mut found: Vec<Target> = Vec::with_capacity(asked.len());
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut ids: HashMap<Uuid, usize> = HashMap::new();
    for topic in asked {
        let place = found.len();
        let by_name = topic.name.as_ref().filter(|_| topic.topic_id.is_nil());
        if let Some(name) = by_name {
            let first = *names.entry(name.as_str()).or_insert(place);
            if first != place {
                (found[first].id, found[first].verdict) = (Uuid::nil(), twice());
                continue;
            }
        }
        let target = target(image, topic);
        let known = target.verdict.is_ok() || (topic.name.is_none() && !target.id.is_nil());
        if known && let Some(first) = ids.get(&target.id) {
            if let Some(name) = by_name {
                names.insert(name.as_str(), *first);
            }
            (found[*first].id, found[*first].verdict) = (target.id, twice());
            continue;
        }
        if known {
            ids.insert(target.id, place);
        }
        found.push(target);
    }
    found
}

fn target(image: &Image, topic: &DeleteTopicState) -> Target {
    let name = topic.name.as_ref().map(|name| name.to_string());
    let refuse =
        |name: Option<String>, error: ChangeError| Target { name, id: topic.topic_id, verdict: Err(error.into()) };
    let request = |why: &str| ChangeError::Request(why.into());
    match (name, topic.topic_id.is_nil()) {
        (Some(name), true) => match image.topic(&name) {
            Some(found) => Target { name: Some(name), id: found.id, verdict: Ok(()) },
            None => refuse(Some(name.clone()), ChangeError::UnknownTopic(name)),
        },
        (None, false) => match image.topic_by_id(topic.topic_id) {
            Some(found) => Target { name: Some(found.name.to_string()), id: found.id, verdict: Ok(()) },
            None => refuse(None, ChangeError::UnknownId),
        },
        (name @ Some(_), false) => refuse(name, request("give a name or an id, not both")),
        (None, true) => refuse(None, request("neither a name nor an id is given")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::tests::{cluster, with_topic};

    #[test]
    fn a_topic_is_found_by_name_or_by_id_and_deleted_once() {
        use ResponseError::*;
        let image = with_topic(&with_topic(&cluster(1), "a", 1), "b", 1);
        let (a, b) = (image.topic("a").unwrap().id, image.topic("b").unwrap().id);
        let by = |name: Option<&str>, id: Uuid| {
            DeleteTopicState::default().with_name(name.map(topics::topic_name)).with_topic_id(id)
        };
        let codes = |asked: &[DeleteTopicState]| -> Vec<Option<ResponseError>> {
            targets(&image, asked).into_iter().map(|t| t.verdict.err().map(|f| f.error)).collect()
        };
        assert_eq!(codes(&[by(Some("a"), Uuid::nil()), by(None, b)]), [None, None]);
        assert_eq!(
            codes(&[
                by(Some("x"), Uuid::nil()),
                by(None, Uuid::from_u128(99)),
                by(Some("a"), a),
                by(None, Uuid::nil())
            ]),
            [Some(UnknownTopicOrPartition), Some(UnknownTopicId), Some(InvalidRequest), Some(InvalidRequest)]
        );
        assert_eq!(codes(&[by(Some("a"), Uuid::nil()), by(None, a), by(None, b)]), [Some(InvalidRequest), None]);
        assert_eq!(codes(&[by(None, a), by(Some("a"), Uuid::nil()), by(None, a)]), [Some(InvalidRequest)]);
        assert_eq!(codes(&[by(Some("a"), Uuid::nil()), by(Some("a"), Uuid::nil())]), [Some(InvalidRequest)]);
        assert_eq!(codes(&[by(Some("x"), Uuid::nil()), by(Some("x"), Uuid::nil())]), [Some(InvalidRequest)]);
        let (a_by_name, b_by_name) = (by(Some("a"), Uuid::nil()), by(Some("b"), Uuid::nil()));
        assert_eq!(codes(&[by(None, a), a_by_name.clone(), b_by_name, a_by_name]), [Some(InvalidRequest), None]);
        assert_eq!(targets(&image, &[by(None, b)])[0].name.as_deref(), Some("b"));
    }
}

//! What is done with topics, whoever asks: names, placement, creating, growing, deleting. Checks first, then one proposal for all of a request.

use super::{
    Broker,
    changes::{ChangeError, propose},
};
use crate::{
    config::{BrokerSettings, validate_topic},
    limits::{PARTITIONS_PER_REQUEST_MAX, TOPIC_NAME_BYTES_MAX, TOPICS_PER_REQUEST_MAX},
    metadata::{Command, Image, NewPartitions, NewTopic, placement},
};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// The topic that would lie where the metadata log lies.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// Kafka's internal topics.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Whether Kafka calls a topic of this name internal.
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Kafka's rules for topic names (`Topic.validate`): 1 to 249 of letters, digits, '.', '_', '-', but not "." or "..".
pub fn check_name(name: &str) -> Result<(), ChangeError> {
    let refuse = |why: String| Err(ChangeError::InvalidName(why));
    if name.is_empty() {
        return refuse("a topic name cannot be empty".into());
    }
    if name == "." || name == ".." {
        return refuse(format!("a topic cannot be called {name}"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse(format!(
            "a topic name of {} characters is too long; at most {TOPIC_NAME_BYTES_MAX}",
            name.len()
        ));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return refuse(format!("topic name {name} holds a character other than letters, digits, '.', '_' and '-'"));
    }
    if name == METADATA_TOPIC {
        return Err(ChangeError::Reserved(name.into()));
    }
    Ok(())
}

/// Places the replicas of `partitions` new partitions of a topic that has `first` already; `seed` is random.
pub fn place(
    image: &Image,
    first: usize,
    partitions: usize,
    replication_factor: usize,
    seed: u64,
) -> Result<Vec<Vec<i32>>, ChangeError> {
    Ok(placement::place(&placement::candidates(image), first, partitions, replication_factor, seed)?)
}

/// A topic as it is asked for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub name: &'a str,
    /// -1 = `num.partitions`, or as many as are assigned.
    pub partitions: i32,
    /// -1 = `default.replication.factor`, or as assigned.
    pub replication_factor: i16,
    /// Replicas by partition, where the caller chooses them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Settings of its own; none may be without a value.
    pub configs: Vec<(&'a str, Option<&'a str>)>,
}

/// Checks each topic and creates those that pass, in one proposal; one result for each name, in the order asked (a name asked for twice is refused, and answered
/// once). Those created take records here when it returns. With `validate_only` nothing is created.
pub async fn create<'a>(
    broker: &Broker,
    wanted: &[Wanted<'a>],
    validate_only: bool,
) -> Vec<(&'a str, Result<NewTopic, ChangeError>)> {
    let (image, settings) = (broker.quorum.image(), broker.settings());
    let (config, dynamic) = (broker.config(), broker.dynamic());
    let mut planned: Vec<(&str, Result<NewTopic, ChangeError>)> = Vec::new();
    let mut partitions = 0usize;
    for (topic, duplicate) in once_each(wanted) {
        let made = match duplicate {
            _ if planned.len() >= TOPICS_PER_REQUEST_MAX => {
                Err(ChangeError::TooManyTopics { max: TOPICS_PER_REQUEST_MAX })
            }
            true => Err(ChangeError::Request("the request names this topic more than once".into())),
            false => plan(&image, &settings, topic, broker.env.random_uuid(), broker.env.random_u64(), partitions)
                .and_then(|new| match config.check_topic(&new.configs, &dynamic) {
                    Ok(()) => Ok(new),
                    Err(why) => Err(ChangeError::Config(why)),
                }),
        };
        partitions += made.as_ref().map_or(0, |new| new.assignments.len());
        planned.push((topic.name, made));
    }
    if validate_only {
        return planned;
    }
    let passed = planned.iter().filter_map(|(_, made)| made.as_ref().ok().cloned()).collect();
    let mut results = create_planned(broker, passed).await.into_iter();
    let answer = |(name, made): (&'a str, Result<NewTopic, ChangeError>)| {
        let made = made.and_then(|new| results.next().unwrap_or(Err(ChangeError::Unanswered)).map(|()| new));
        (name, made)
    };
    planned.into_iter().map(answer).collect()
}

/// Creates topics that were checked, in one proposal; one result for each, in order. Those created are served here when it returns.
pub async fn create_planned(broker: &Broker, topics: Vec<NewTopic>) -> Vec<Result<(), ChangeError>> {
    if topics.is_empty() {
        return Vec::new();
    }
    let count = topics.len();
    propose(broker, Command::CreateTopics { topics }, count).await
}

/// The topics of a request, each name once in the order asked, with whether it was there more than once.
fn once_each<'a, 'b>(asked: &'b [Wanted<'a>]) -> Vec<(&'b Wanted<'a>, bool)> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut once: Vec<(&Wanted<'_>, bool)> = Vec::with_capacity(asked.len());
    for topic in asked {
        match places.get(topic.name) {
            Some(place) => once[*place].1 = true,
            None => {
                places.insert(topic.name, once.len());
                once.push((topic, false));
            }
        }
    }
    once
}

/// What is to be created for `topic`, or why nothing can be. `before` partitions are planned in the same request.
fn plan(
    image: &Image,
    settings: &BrokerSettings,
    topic: &Wanted<'_>,
    id: Uuid,
    seed: u64,
    before: usize,
) -> Result<NewTopic, ChangeError> {
    let name = topic.name;
    check_name(name)?;
    if image.topic(name).is_some() {
        return Err(ChangeError::Exists(name.into()));
    }
    if let Some(other) = image.collision(name) {
        let why = format!("topic {name} collides with topic {other}: '.' and '_' are one in metric names");
        return Err(ChangeError::InvalidName(why));
    }
    let configs = settings_of(&topic.configs)?;
    let assignments = match topic.assignments.is_empty() {
        true => placed(image, settings, topic, seed, before)?,
        false => chosen(image, topic)?,
    };
    if before + assignments.len() > PARTITIONS_PER_REQUEST_MAX {
        return Err(too_many());
    }
    Ok(NewTopic { id, name: name.to_owned(), assignments, configs })
}

fn too_many() -> ChangeError {
    ChangeError::Partitions(format!("at most {PARTITIONS_PER_REQUEST_MAX} partitions can be created by one request"))
}

/// Replicas chosen here.
fn placed(
    image: &Image,
    settings: &BrokerSettings,
    topic: &Wanted<'_>,
    seed: u64,
    before: usize,
) -> Result<Vec<Vec<i32>>, ChangeError> {
    let partitions = match topic.partitions {
        -1 => settings.num_partitions,
        n if n < 1 => return Err(ChangeError::Partitions("a topic has at least one partition".into())),
        n => n,
    };
    let replication_factor = match topic.replication_factor {
        -1 => settings.default_replication_factor,
        n if n < 1 => return Err(ChangeError::ReplicationFactor("the replication factor is at least 1".into())),
        n => n,
    };
    let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
    if before.saturating_add(partitions) > PARTITIONS_PER_REQUEST_MAX {
        return Err(too_many());
    }
    place(image, 0, partitions, usize::try_from(replication_factor).unwrap_or(0), seed)
}

/// Replicas chosen by the caller.
fn chosen(image: &Image, topic: &Wanted<'_>) -> Result<Vec<Vec<i32>>, ChangeError> {
    if topic.partitions != -1 || topic.replication_factor != -1 {
        let why = "with a manual assignment, the number of partitions and the replication factor must be -1";
        return Err(ChangeError::Request(why.into()));
    }
    let count = topic.assignments.len();
    let mut by_partition: Vec<Option<Vec<i32>>> = vec![None; count];
    for (index, replicas) in &topic.assignments {
        let place = usize::try_from(*index).ok().and_then(|i| by_partition.get_mut(i));
        let refuse = |why| Err(ChangeError::Assignment(why));
        match place {
            None => return refuse(format!("partition {index} is outside 0 to {}", count - 1)),
            Some(Some(_)) => return refuse(format!("partition {index} is assigned twice")),
            Some(place) => *place = Some(replicas.clone()),
        }
    }
    let assignments: Vec<Vec<i32>> = by_partition.into_iter().flatten().collect();
    check_assignments(image, &assignments, None)?;
    Ok(assignments)
}

/// Checks replicas that a caller chose for new partitions: each has as many as `replication_factor` (where that is given, else as the first one), each once, on
/// registered brokers.
fn check_assignments(
    image: &Image,
    assignments: &[Vec<i32>],
    replication_factor: Option<usize>,
) -> Result<(), ChangeError> {
    let refuse = |why: String| Err(ChangeError::Assignment(why));
    let expected = replication_factor.or(assignments.first().map(Vec::len)).unwrap_or(0);
    for (n, replicas) in assignments.iter().enumerate() {
        if replicas.is_empty() {
            return refuse(format!("assignment {n} names no replica"));
        }
        if replicas.len() != expected {
            return refuse(format!("assignment {n} names {} replicas, where there must be {expected}", replicas.len()));
        }
        for (m, id) in replicas.iter().enumerate() {
            if !image.brokers.contains_key(id) {
                return refuse(format!("assignment {n} names broker {id}, which is not registered"));
            }
            if replicas[..m].contains(id) {
                return refuse(format!("assignment {n} names broker {id} twice"));
            }
        }
    }
    Ok(())
}

fn settings_of(configs: &[(&str, Option<&str>)]) -> Result<BTreeMap<String, String>, ChangeError> {
    let mut settings = BTreeMap::new();
    for (name, value) in configs {
        let Some(value) = value else { return Err(ChangeError::Config(format!("{name} has no value"))) };
        validate_topic(name, value).map_err(ChangeError::Config)?;
        settings.insert((*name).to_owned(), value.trim().to_owned());
    }
    Ok(settings)
}

/// A topic that is to grow.
#[derive(Clone, Debug)]
pub struct Growth<'a> {
    pub name: &'a str,
    /// Partitions it is to have.
    pub partitions: i32,
    /// Replicas of each partition added, where the caller chooses them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// Checks each topic and grows those that pass, in one proposal; one result for each name, in the order asked (a name asked for twice is refused, and answered once).
/// New partitions take records here when it returns. With `validate_only` nothing grows.
pub async fn grow<'a>(
    broker: &Broker,
    asked: &[Growth<'a>],
    validate_only: bool,
) -> Vec<(&'a str, Result<(), ChangeError>)> {
    let image = broker.quorum.image();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for topic in asked {
        *times.entry(topic.name).or_default() += 1;
    }
    let mut before = 0usize;
    let mut planned: Vec<(&str, Result<NewPartitions, ChangeError>)> = Vec::with_capacity(asked.len());
    for topic in asked {
        let made = match times.remove(topic.name) {
            // Answered already.
            None => continue,
            Some(1) => plan_growth(&image, topic, broker.env.random_u64(), before),
            Some(_) => Err(ChangeError::Request("the request names this topic more than once".into())),
        };
        before += made.as_ref().map_or(0, |new| new.assignments.len());
        planned.push((topic.name, made));
    }
    let wanted: Vec<NewPartitions> = planned.iter().filter_map(|(_, made)| made.as_ref().ok().cloned()).collect();
    let mut results = match (validate_only, wanted.len()) {
        (true, _) | (false, 0) => Vec::new(),
        (false, count) => propose(broker, Command::CreatePartitions { topics: wanted }, count).await,
    }
    .into_iter();
    planned.into_iter().map(|(name, made)| (name, made.and_then(|_| results.next().unwrap_or(Ok(()))))).collect()
}

/// What is to be added to `topic`, or why nothing can be. `before` partitions are planned in the same request.
fn plan_growth(image: &Image, topic: &Growth<'_>, seed: u64, before: usize) -> Result<NewPartitions, ChangeError> {
    let Some(found) = image.topic(topic.name) else { return Err(ChangeError::UnknownTopic(topic.name.into())) };
    if is_internal(&found.name) {
        let why = format!("{} cannot grow: groups would be sought where their state is not", found.name);
        return Err(ChangeError::Request(why));
    }
    let have = found.partitions.len();
    let wanted = usize::try_from(topic.partitions).unwrap_or(0);
    if wanted <= have {
        let why = format!("the topic has {have} partitions; {} is not more", topic.partitions);
        return Err(ChangeError::Partitions(why));
    }
    if wanted > PARTITIONS_PER_REQUEST_MAX {
        let why = format!("a topic has at most {PARTITIONS_PER_REQUEST_MAX} partitions");
        return Err(ChangeError::Partitions(why));
    }
    let added = wanted - have;
    if before.saturating_add(added) > PARTITIONS_PER_REQUEST_MAX {
        return Err(too_many());
    }
    let replication_factor = found.partitions.first().map_or(1, |p| p.replicas.len());
    let assignments = match &topic.assignments {
        None => place(image, have, added, replication_factor, seed)?,
        Some(chosen) => {
            if chosen.len() != added {
                let why = format!("{added} partitions are to be added, but {} are assigned", chosen.len());
                return Err(ChangeError::Assignment(why));
            }
            check_assignments(image, chosen, Some(replication_factor))?;
            chosen.clone()
        }
    };
    Ok(NewPartitions { id: found.id, first: have as u32, assignments })
}

/// Whether topics may be deleted here.
pub fn check_deletion(broker: &Broker) -> Result<(), ChangeError> {
    if broker.settings().delete_topic_enable { Ok(()) } else { Err(ChangeError::DeletionDisabled) }
}

/// Deletes topics in one proposal; one result for each, in order. They are no longer served here when it returns.
pub async fn delete(broker: &Broker, ids: Vec<Uuid>) -> Vec<Result<(), ChangeError>> {
    if check_deletion(broker).is_err() {
        return ids.iter().map(|_| Err(ChangeError::DeletionDisabled)).collect();
    }
    match ids.len() {
        0 => Vec::new(),
        count => propose(broker, Command::DeleteTopics { ids }, count).await,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        config::{Config, Dynamic},
        metadata::{Outcome, apply::apply},
    };

    /// The image of a cluster of brokers 1 to `brokers`.
    pub(crate) fn cluster(brokers: i32) -> Image {
        let init = Command::InitCluster { cluster_id: "c".into(), feature_level: 1 };
        let register = |node_id| Command::RegisterBroker {
            node_id,
            directory_id: Uuid::nil(),
            advertised: Some((format!("b{node_id}"), 9092)),
            rack: None,
            feature_level_max: 1,
            clean: true,
        };
        let commands = std::iter::once(init).chain((1..=brokers).map(register));
        commands.fold(Image::default(), |image, command| apply(&image, &command, image.index + 1).0)
    }

    /// The image with one more topic, on broker 1.
    pub(crate) fn with_topic(image: &Image, name: &str, partitions: usize) -> Image {
        let id = Uuid::from_u128(u128::from(image.index) + 1);
        let assignments = vec![vec![1]; partitions];
        let topic = NewTopic { id, name: name.into(), assignments, configs: Default::default() };
        let (image, outcomes) = apply(image, &Command::CreateTopics { topics: vec![topic] }, image.index + 1);
        assert_eq!(outcomes, [Outcome::Done]);
        image
    }

    fn asked(name: &str, partitions: i32, replication_factor: i16) -> Wanted<'_> {
        Wanted { name, partitions, replication_factor, assignments: Vec::new(), configs: Vec::new() }
    }

    fn try_plan(image: &Image, topic: &Wanted<'_>) -> Result<NewTopic, ChangeError> {
        let settings = Config::local("/nowhere").set("num.partitions", "3").broker(&Dynamic::default());
        plan(image, &settings, topic, Uuid::from_u128(5), 0, 0)
    }

    #[test]
    fn names_are_kafkas() {
        for good in ["a", "A.b_c-9", &"x".repeat(249), "...", "__consumer_offsets"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a\0", "ä", &"x".repeat(250), "a:b"] {
            assert!(matches!(check_name(bad), Err(ChangeError::InvalidName(_))), "{bad}");
        }
        assert!(matches!(check_name("__cluster_metadata"), Err(ChangeError::Reserved(_))));
    }

    #[test]
    fn defaults_stand_for_minus_one() {
        let new = try_plan(&cluster(1), &asked("t", -1, -1)).unwrap();
        assert_eq!(new.assignments, vec![vec![1]; 3]);
        assert_eq!(try_plan(&cluster(3), &asked("t", 2, 3)).unwrap().assignments.len(), 2);
    }

    #[test]
    fn each_refusal_says_what_it_is() {
        let image = with_topic(&cluster(1), "a.b", 1);
        let with = |name, value| Wanted { configs: vec![(name, value)], ..asked("t", 1, 1) };
        let by_hand = |parts: &[(i32, &[i32])], count: i32| {
            let assignments = parts.iter().map(|(index, ids)| (*index, ids.to_vec())).collect();
            Wanted { assignments, ..asked("t", count, -1) }
        };
        use ChangeError::*;
        let kind = |e: &ChangeError| match e {
            Exists(_) => "exists",
            InvalidName(_) => "name",
            Partitions(_) => "partitions",
            ReplicationFactor(_) | Placement(_) => "factor",
            Config(_) => "config",
            Request(_) => "request",
            Assignment(_) => "assignment",
            _ => "else",
        };
        for (topic, expected) in [
            (asked("a.b", 1, 1), "exists"),
            (asked("a_b", 1, 1), "name"),
            (asked("a/b", 1, 1), "name"),
            (asked("t", 0, 1), "partitions"),
            (asked("t", -2, 1), "partitions"),
            (asked("t", i32::MAX, 1), "partitions"),
            (asked("t", 1, 0), "factor"),
            (asked("t", 1, 2), "factor"),
            (with("retention.sm", Some("1")), "config"),
            (with("retention.ms", Some("-9")), "config"),
            (with("retention.ms", None), "config"),
            (by_hand(&[(0, &[1])], 1), "request"),
            (by_hand(&[(1, &[1])], -1), "assignment"),
            (by_hand(&[(0, &[1]), (0, &[1])], -1), "assignment"),
            (by_hand(&[(0, &[])], -1), "assignment"),
            (by_hand(&[(0, &[2])], -1), "assignment"),
            (by_hand(&[(0, &[1, 1])], -1), "assignment"),
        ] {
            let error = try_plan(&image, &topic).unwrap_err();
            assert_eq!(kind(&error), expected, "{topic:?}: {error:?}");
        }
        let new = try_plan(&image, &by_hand(&[(1, &[1]), (0, &[1])], -1)).unwrap();
        assert_eq!(new.assignments, [[1], [1]]);
        let new = try_plan(&image, &with("retention.ms", Some("-1"))).unwrap();
        assert_eq!(new.configs["retention.ms"], "-1");
    }

    #[test]
    fn a_name_asked_for_twice_is_answered_once() {
        let topics = [asked("a", 1, 1), asked("b", 1, 1), asked("a", 2, 1)];
        let once: Vec<_> = once_each(&topics).into_iter().map(|(t, d)| (t.name, d)).collect();
        assert_eq!(once, [("a", true), ("b", false)]);
    }

    #[test]
    fn topics_only_grow() {
        let image = with_topic(&cluster(2), "t", 2);
        let to = |name, partitions| Growth { name, partitions, assignments: None };
        let by_hand = |partitions, ids: &[&[i32]]| Growth {
            assignments: Some(ids.iter().map(|ids| ids.to_vec()).collect()),
            ..to("t", partitions)
        };
        let error = |topic| plan_growth(&image, &topic, 0, 0).unwrap_err();
        assert!(matches!(error(to("x", 3)), ChangeError::UnknownTopic(name) if name == "x"));
        for count in [-1, 0, 1, 2, PARTITIONS_PER_REQUEST_MAX as i32 + 1, i32::MAX] {
            assert!(matches!(error(to("t", count)), ChangeError::Partitions(_)));
        }
        for chosen in [by_hand(4, &[&[1]]), by_hand(3, &[&[1, 2]]), by_hand(3, &[&[9]])] {
            assert!(matches!(error(chosen), ChangeError::Assignment(_)));
        }
        let new = plan_growth(&image, &by_hand(4, &[&[1], &[2]]), 0, 0).unwrap();
        assert_eq!((new.first, new.assignments), (2, vec![vec![1], vec![2]]));
        assert_eq!(plan_growth(&image, &to("t", 5), 0, 0).unwrap().assignments.len(), 3);
    }

    #[test]
    fn topics_of_coordinators_do_not_grow() {
        let image = with_topic(&cluster(1), "__consumer_offsets", 3);
        let asked = Growth { name: "__consumer_offsets", partitions: 4, assignments: None };
        assert!(matches!(plan_growth(&image, &asked, 0, 0), Err(ChangeError::Request(_))));
    }
}

//! One coordinator shard: the task that owns a machine and its partition.
//!
//! Life: load (the partition is opened and its log replayed; questions wait in the mailbox), then one turn after another: take what the mailbox holds, call the machine,
//! append what it wants stored, replay it, and let the replies go once the watermark has passed all that was appended before them. A panic in the machine ends the
//! shard: its askers are told to look the coordinator up anew, and whoever asks next starts another one, which loads.
//!
//! Until the log is compacted, a shard writes its whole state at the end of the log every 64 MiB and deletes the log below it. A crash in between leaves the old
//! log and some of the new state behind it, and replaying both gives the same state.

mod append;
mod load;
#[cfg(test)]
mod tests;

use super::machine::{Machine, Now, Output, Ticket};
use crate::{
    Env,
    limits::{
        COORDINATOR_MAILBOX_MAX, COORDINATOR_OPEN_MAX, COORDINATOR_SNAPSHOT_BYTES, COORDINATOR_TURN_QUESTIONS_MAX,
    },
    partition::{
        Effects, Partition,
        waiters::{Acks, AcksDone, Goal},
    },
};
use append::Snapshots;
use arc_swap::ArcSwap;
use load::Loaded;
use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, Sleep},
};

/// Until a shard looks again whether the partition has room for it to wait.
const PARK_PAUSE: Duration = Duration::from_millis(20);

/// Why a shard did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The log cannot be read (now): ask again later.
    #[error("not available: {0}")]
    NotAvailable(Arc<str>),
    /// The shard has ended, or what it appended was lost before it was settled: look the coordinator up anew.
    #[error("not here: {0}")]
    NotHere(Arc<str>),
}

/// A way to one shard. Cheap to clone; the shard ends with the last one, or with [`Shard::stop`].
#[derive(Debug)]
pub struct Shard<M: Machine> {
    mailbox: mpsc::Sender<Question<M>>,
    stop: watch::Sender<bool>,
    /// Ends with the task.
    alive: watch::Receiver<()>,
    /// Of the partition's leadership that it belongs to.
    epoch: i32,
}

impl<M: Machine> Clone for Shard<M> {
    fn clone(&self) -> Self {
        Shard { mailbox: self.mailbox.clone(), stop: self.stop.clone(), alive: self.alive.clone(), epoch: self.epoch }
    }
}

type Answer<R> = oneshot::Sender<Result<R, ShardError>>;

#[derive(Debug)]
struct Question<M: Machine> {
    event: M::Event,
    answer: Answer<M::Reply>,
}

/// An answer under way. Dropping it gives up waiting, nothing else.
#[derive(Debug)]
pub struct Asked<R>(oneshot::Receiver<Result<R, ShardError>>);

impl<R> Asked<R> {
    /// Waits for the answer.
    pub async fn answer(self) -> Result<R, ShardError> {
        self.0.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> ShardError {
    ShardError::NotHere("the coordinator has ended".into())
}

impl<M: Machine> Shard<M> {
    /// Starts a shard over `partition` with an empty `machine`; it loads at once. `settings` are read anew for each turn. It must be the only shard of the partition:
    /// start another one only after this one [`Shard::is_over`].
    pub fn start(env: &Env, partition: Arc<Partition>, machine: M, settings: Arc<ArcSwap<M::Settings>>) -> Shard<M> {
        Shard::start_with(env, partition, machine, settings, COORDINATOR_SNAPSHOT_BYTES)
    }

    /// With a snapshot each `snapshot_bytes` of log.
    fn start_with(
        env: &Env,
        partition: Arc<Partition>,
        machine: M,
        settings: Arc<ArcSwap<M::Settings>>,
        snapshot_bytes: u64,
    ) -> Shard<M> {
        let (mailbox, questions) = mpsc::channel(COORDINATOR_MAILBOX_MAX);
        let (stop, stopped) = watch::channel(false);
        let (living, alive) = watch::channel(());
        let place = partition.clone();
        let epoch = partition.leader().1;
        let task = Task { env: env.clone(), partition, epoch, settings, questions, stopped, snapshot_bytes };
        let mut life = Box::pin(task.live(machine));
        let watched = poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => {
                panicked(&place, &*panic);
                Poll::Ready(())
            }
        });
        env.spawn("coordinator shard", async move {
            watched.await;
            drop(living);
        });
        Shard { mailbox, stop, alive, epoch }
    }

    /// Puts a question into the mailbox, waiting for room: questions of one asker are handled in the order asked.
    pub async fn ask(&self, event: M::Event) -> Result<Asked<M::Reply>, ShardError> {
        self.try_ask(event).await.map_err(|_| ended())
    }

    /// The same; the event comes back when the shard is over.
    pub async fn try_ask(&self, event: M::Event) -> Result<Asked<M::Reply>, M::Event> {
        let (answer, asked) = oneshot::channel();
        match self.mailbox.send(Question { event, answer }).await {
            Ok(()) => Ok(Asked(asked)),
            Err(refused) => Err(refused.0.event),
        }
    }

    /// Whether it has ended (or will, by a panic): it appends nothing any more.
    pub fn is_over(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// The leader epoch that it began in: under another one it appends nothing and has to end, for others may have written meanwhile.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Asks it to end, and does not wait: what is in the mailbox is done once, no more questions are taken, those without an answer are told [`ShardError::NotHere`], and answers that only wait for
    /// the watermark still go when it passes them.
    pub fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends it (see [`Shard::begin_stop`]) and waits for the end.
    pub async fn stop(&self) {
        self.begin_stop();
        // Nothing is ever sent: the other side goes.
        let _ = self.alive.clone().changed().await;
    }
}

fn panicked(partition: &Partition, panic: &(dyn Any + Send)) {
    let message = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    partition.metrics().coordinator_panics.increment(1);
    tracing::error!(
        topic = %partition.topic().name,
        partition = partition.index(),
        panic = message.unwrap_or("no message"),
        "the coordinator panicked; it is loaded anew when it is asked again"
    );
}

/// A reply that waits until the watermark reaches this offset, and for whom it is.
type Waiting<M> = (i64, Answer<<M as Machine>::Reply>, <M as Machine>::Reply);

/// The task of a shard once it has loaded.
struct Life<M: Machine> {
    env: Env,
    partition: Arc<Partition>,
    /// Leader epoch that it writes in.
    epoch: i32,
    machine: M,
    settings: Arc<ArcSwap<M::Settings>>,
    clock: Clock,
    questions: mpsc::Receiver<Question<M>>,
    stopped: watch::Receiver<bool>,
    /// Who has no answer yet.
    open: BTreeMap<Ticket, Answer<M::Reply>>,
    next_ticket: u64,
    /// By the log end that the watermark has to reach first, ascending.
    waiting: VecDeque<Waiting<M>>,
    /// Registered with the partition for the front of `waiting` as it was then.
    parked: Option<AcksDone>,
    /// Wakes for [`Machine::next_tick`], which it was set to.
    timer: Option<(u64, Pin<Box<Sleep>>)>,
    /// End of the log after our last append.
    end: i64,
    /// The same without snapshots, which say nothing new: what answers wait for.
    state_end: i64,
    snapshots: Snapshots,
    /// Why it has to end.
    over: Option<ShardError>,
}

/// The two clocks of a machine.
#[derive(Clone, Debug)]
struct Clock {
    env: Env,
    started: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        Now { wall_ms: self.env.now_ms(), ticks_ms: self.started.elapsed().as_millis() as u64 }
    }
}

/// Why a shard that waited goes on.
enum Wake<M: Machine> {
    Stop,
    /// What was parked has come to an end; false = it never will be settled.
    Settled(bool),
    Tick,
    Question(Question<M>),
    /// Nobody can ask any more.
    Left,
}

/// What a shard begins with besides its machine.
struct Task<M: Machine> {
    env: Env,
    partition: Arc<Partition>,
    epoch: i32,
    settings: Arc<ArcSwap<M::Settings>>,
    questions: mpsc::Receiver<Question<M>>,
    stopped: watch::Receiver<bool>,
    snapshot_bytes: u64,
}

impl<M: Machine> Task<M> {
    /// The whole life of a shard.
    async fn live(self, machine: M) {
        let Task { env, partition, epoch, settings, mut questions, mut stopped, snapshot_bytes } = self;
        let clock = Clock { env: env.clone(), started: Instant::now() };
        let loaded = tokio::select! {
            biased;
            () = told_to_stop(&mut stopped) => Err(ShardError::NotHere("the coordinator ends".into())),
            loaded = load::load(&env, &partition, epoch, machine, &clock) => loaded,
        };
        let Loaded { mut machine, end, log_bytes, damaged } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::debug!(topic = %partition.topic().name, partition = partition.index(), %error, "coordinator not loaded");
                return refuse_all(&mut questions, &error).await;
            }
        };
        let (now, in_force) = (clock.now(), settings.load_full());
        // Both look at the whole state.
        let begin = move || {
            let mut out = Output::default();
            machine.loaded(now, &in_force, &mut out);
            let snapshots = match damaged {
                false => Snapshots::of(&machine, log_bytes, snapshot_bytes),
                true => Snapshots::none(),
            };
            (machine, out, snapshots)
        };
        let (machine, out, snapshots) = env.blocking(begin).await;
        let mut life = Life {
            env,
            partition,
            epoch,
            machine,
            settings,
            clock,
            questions,
            stopped,
            open: BTreeMap::new(),
            next_ticket: 0,
            waiting: VecDeque::new(),
            parked: None,
            timer: None,
            end,
            state_end: end,
            snapshots,
            over: None,
        };
        let error = life.serve(out).await;
        life.finish(error).await;
    }
}

/// Returns once the shard is to end; never if nobody is left to say so (then the mailbox is closed too).
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        pending().await
    }
}

/// Waits until `goal` of the partition has reached `offset`; false = it never will.
async fn settled(partition: &Partition, goal: Goal, offset: i64) -> bool {
    loop {
        let acks = Acks::new();
        match partition.park(goal, offset, 0, &acks) {
            Ok(()) => return acks.done().await.is_empty(),
            Err(_) => tokio::time::sleep(PARK_PAUSE).await,
        }
    }
}

/// Nobody is answered any more.
async fn refuse_all<M: Machine>(questions: &mut mpsc::Receiver<Question<M>>, error: &ShardError) {
    questions.close();
    while let Some(question) = questions.recv().await {
        let _ = question.answer.send(Err(error.clone()));
    }
}

impl<M: Machine> Life<M> {
    /// Does what the load wants done, then turn after turn; gives the reason of the end.
    async fn serve(&mut self, out: Output<M>) -> ShardError {
        let settings = self.settings.load_full();
        let mut effects = Effects::default();
        self.carry_out(out, &settings, &mut effects).await;
        drop(effects);
        while self.over.is_none() {
            let question = match self.wait().await {
                Wake::Stop => {
                    // What was asked before is still done; what would wait longer is told when all else is.
                    self.questions.close();
                    while self.over.is_none() && self.turn(None).await {
                        tokio::task::yield_now().await;
                    }
                    return ShardError::NotHere("the coordinator ends".into());
                }
                Wake::Left => return ended(),
                Wake::Settled(false) => return ShardError::NotHere("what was appended was not settled".into()),
                Wake::Settled(true) | Wake::Tick => None,
                Wake::Question(question) => Some(question),
            };
            if self.turn(question).await {
                // Others have their turn on this thread.
                tokio::task::yield_now().await;
            }
        }
        self.over.take().unwrap_or_else(ended)
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) -> Wake<M> {
        let mut crowded = false;
        if self.parked.is_none()
            && let Some((end, ..)) = self.waiting.front()
        {
            let acks = Acks::new();
            match self.partition.park(Goal::Watermark, *end, 0, &acks) {
                Ok(()) => self.parked = Some(acks.done()),
                // Too many others wait for this partition.
                Err(_) => crowded = true,
            }
        }
        self.set_timer();
        let Life { stopped, parked, timer, questions, .. } = self;
        let settled = async {
            match parked {
                Some(done) => done.await.is_empty(),
                None if crowded => {
                    tokio::time::sleep(PARK_PAUSE).await;
                    true
                }
                None => pending().await,
            }
        };
        let tick = async {
            match timer {
                Some((_, sleep)) => sleep.as_mut().await,
                None => pending().await,
            }
        };
        let wake = tokio::select! {
            biased;
            () = told_to_stop(stopped) => Wake::Stop,
            settled = settled => Wake::Settled(settled),
            () = tick => Wake::Tick,
            question = questions.recv() => question.map_or(Wake::Left, Wake::Question),
        };
        match wake {
            Wake::Settled(_) => self.parked = None,
            Wake::Tick => self.timer = None,
            _ => {}
        }
        wake
    }

    /// Sets the timer to when the machine wants to be called.
    fn set_timer(&mut self) {
        let due = self.machine.next_tick();
        if due == self.timer.as_ref().map(|(at, _)| *at) {
            return;
        }
        let at = due.and_then(|ms| Some((ms, self.clock.started.checked_add(Duration::from_millis(ms))?)));
        match (at, &mut self.timer) {
            (None, timer) => *timer = None,
            (Some((ms, at)), Some((was, sleep))) => {
                *was = ms;
                sleep.as_mut().reset(at);
            }
            (Some((ms, at)), none) => *none = Some((ms, Box::pin(tokio::time::sleep_until(at)))),
        }
    }

    /// Lets go what is settled, does what is due, then what is asked. Whether more may have been asked than is done in one turn.
    async fn turn(&mut self, mut question: Option<Question<M>>) -> bool {
        let settings = self.settings.load_full();
        let mut effects = Effects::default();
        self.release();
        let now = self.clock.now();
        if self.machine.next_tick().is_some_and(|at| at <= now.ticks_ms) {
            let mut out = Output::default();
            self.machine.tick(now, &settings, &mut out);
            self.carry_out(out, &settings, &mut effects).await;
        }
        let mut room = COORDINATOR_TURN_QUESTIONS_MAX;
        while room > 0
            && self.over.is_none()
            && let Some(Question { event, answer }) = question.take().or_else(|| self.questions.try_recv().ok())
        {
            room -= 1;
            if answer.is_closed() && M::may_skip(&event) {
                continue;
            }
            // Those that the machine lets wait are its own to bound: they keep nobody else from an answer.
            if self.waiting.len() >= COORDINATOR_OPEN_MAX {
                let _ = answer.send(Err(ShardError::NotAvailable("too many answers wait for the disk".into())));
                continue;
            }
            self.next_ticket += 1;
            let ticket = Ticket(self.next_ticket);
            self.open.insert(ticket, answer);
            let mut out = Output::default();
            self.machine.handle(ticket, event, self.clock.now(), &settings, &mut out);
            self.carry_out(out, &settings, &mut effects).await;
        }
        if self.over.is_none() {
            self.snapshot(&mut effects).await;
        }
        room == 0
    }

    /// Does what the machine wants done, and what it wants done because of that.
    async fn carry_out(&mut self, out: Output<M>, settings: &M::Settings, effects: &mut Effects) {
        let mut appends = VecDeque::new();
        self.answer(out.replies);
        appends.extend(out.appends);
        while let Some((records, pending)) = appends.pop_front() {
            let appended = self.append(&records, effects).await;
            let (mut out, now) = (Output::default(), self.clock.now());
            match appended {
                Ok(()) => {
                    self.replay(&records, now);
                    self.machine.appended(pending, now, settings, &mut out);
                }
                Err(why) => self.machine.refused(pending, &why, now, settings, &mut out),
            }
            self.answer(out.replies);
            appends.extend(out.appends);
        }
    }

    /// Answers go when everything appended so far is settled.
    fn answer(&mut self, replies: Vec<(Ticket, M::Reply)>) {
        for (ticket, reply) in replies {
            let Some(answer) = self.open.remove(&ticket) else {
                debug_assert!(false, "{ticket:?} was answered twice, or never asked");
                tracing::error!(?ticket, "an answer to nobody");
                continue;
            };
            if self.partition.has_reached(Goal::Watermark, self.state_end) {
                // Who went away does not want it.
                let _ = answer.send(Ok(reply));
            } else {
                self.waiting.push_back((self.state_end, answer, reply));
            }
        }
    }

    /// Lets go what the watermark has passed.
    fn release(&mut self) {
        while let Some((end, ..)) = self.waiting.front()
            && self.partition.has_reached(Goal::Watermark, *end)
            && let Some((_, answer, reply)) = self.waiting.pop_front()
        {
            let _ = answer.send(Ok(reply));
        }
    }

    /// No more questions and no more appends. What only waits for the watermark is answered when it comes, or with `error`.
    async fn finish(mut self, error: ShardError) {
        for answer in std::mem::take(&mut self.open).into_values() {
            let _ = answer.send(Err(error.clone()));
        }
        refuse_all(&mut self.questions, &error).await;
        self.parked = None;
        self.release();
        while let Some((end, ..)) = self.waiting.front() {
            if !settled(&self.partition, Goal::Watermark, *end).await {
                break;
            }
            self.release();
        }
        for (_, answer, _) in self.waiting.drain(..) {
            let _ = answer.send(Err(error.clone()));
        }
    }
}

//! Outward: what is put in here goes to the other host, and is kept until that has it.

use super::wire::{Kind, Sent, State, Taken};
use super::{BEAT, Carrier, Event, fresh};
use atomic_matrix::Error;
use atomic_matrix::ipc::{Delivery, Sample, Topic, Unreceived};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::{Result, Wait};

/// As many are kept that were not acknowledged.
const MESSAGES: usize = 256;
/// And as many bytes, but one message at least.
const BYTES: usize = 16 << 20;
/// After so long without an answer it greets.
const PATIENCE: Duration = Duration::from_secs(1);
/// And again after each such time.
const GREETINGS: Duration = Duration::from_millis(200);
/// After such a time at least what was sent is sent again, if that is asked for.
const AGAIN: Duration = Duration::from_millis(50);
/// How long it looks for more before it looks for answers.
const GLANCE: Duration = Duration::from_millis(2);

/// What was put in, kept here for as long.
trait Kept {
    fn bytes(&self) -> &[u8];
    /// The other host has it.
    fn done(self);
}

impl Kept for Sample<[u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }
    fn done(self) {}
}

impl Kept for Delivery<'_, [u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }
    fn done(self) {
        self.ack();
    }
}

/// Where it comes from.
trait Source {
    type Kept: Kept;
    /// The next one and its number, waited for as long.
    fn next(&mut self, wait: Duration) -> Result<Option<(u64, Self::Kept)>>;
    /// How many there ever were.
    fn ever(&self) -> u64;
    /// Who counts; another one if `anew`.
    fn identity(&mut self, anew: bool) -> Result<u64>;
}

struct Outward<'s, S: Source> {
    source: S,
    identity: u64,
    publisher: Publisher<'s>,
    answers: Subscriber<FifoChannelHandler<zenoh::sample::Sample>>,
    kept: VecDeque<(u64, S::Kept)>,
    bytes: usize,
    /// The other host has all before this one.
    passed: u64,
    /// How many of those kept were sent.
    sent: usize,
    /// None while it carries; else when it has greeted.
    greeted: Option<Instant>,
    /// When there was an answer, or what waits for one was first sent.
    heard: Instant,
    sent_again: Instant,
    full: bool,
    silent: bool,
    tell: &'s (dyn Fn(Event) + Sync),
}

impl<S: Source> Outward<'_, S> {
    fn has_room(&self) -> bool {
        self.kept.len() < MESSAGES && self.bytes < BYTES
    }

    /// One more is kept, if there is one.
    fn keep(&mut self) -> Result<()> {
        let wait = match (self.kept.len(), self.greeted) {
            (0, _) => BEAT,
            (kept, None) if self.sent < kept => Duration::ZERO,
            _ => GLANCE,
        };
        if let Some((number, one)) = self.source.next(wait)? {
            if number < self.passed {
                one.done();
                return Ok(());
            }
            if self.kept.is_empty() {
                self.heard = Instant::now();
            }
            self.bytes += one.bytes().len();
            self.kept.push_back((number, one));
        }
        Ok(())
    }

    /// The other host has all before this one.
    fn pass(&mut self, next: u64) {
        self.passed = self.passed.max(next);
        while self.kept.front().is_some_and(|(number, _)| *number < next) {
            let (_, one) = self.kept.pop_front().expect("there is one");
            self.bytes -= one.bytes().len();
            self.sent = self.sent.saturating_sub(1);
            one.done();
        }
    }

    fn put(&self, kind: Kind, number: u64, bytes: &[u8]) -> Result<()> {
        let attachment = Sent { kind, source: self.identity, number }.packed();
        self.publisher.put(bytes).attachment(attachment).wait()
    }

    /// Sends what was not sent, or a greeting if it is time.
    fn send(&mut self) -> Result<()> {
        match (self.greeted, self.kept.front()) {
            (Some(when), Some((first, _))) if when.elapsed() >= GREETINGS => {
                self.put(Kind::Greeting, *first, &[])?;
                self.greeted = Some(Instant::now());
            }
            (None, _) => {
                while let Some((number, one)) = self.kept.get(self.sent) {
                    self.put(Kind::Message, *number, one.bytes())?;
                    self.sent += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn greet_at_once(&mut self) {
        self.greeted = Instant::now().checked_sub(GREETINGS).or_else(|| Some(Instant::now()));
    }

    fn answered(&mut self, answer: Taken) -> Result<()> {
        if answer.source != self.identity {
            return Ok(());
        }
        self.heard = Instant::now();
        if answer.next > self.source.ever() {
            // It is another topic's number: this one's name was made anew.
            (self.identity, self.passed) = (self.source.identity(true)?, 0);
            self.greet_at_once();
            return Ok(());
        }
        self.pass(answer.next);
        match answer.state {
            State::Greeted if self.greeted.is_some() => {
                (self.greeted, self.sent, self.silent, self.full) = (None, 0, false, false);
                (self.tell)(Event::Carries(answer.next));
            }
            State::Unknown if self.greeted.is_none() => self.greet_at_once(),
            State::Gap if self.sent_again.elapsed() >= AGAIN => (self.sent, self.sent_again) = (0, Instant::now()),
            State::Full if !self.full => {
                self.full = true;
                (self.tell)(Event::HeldUp);
            }
            State::Takes if self.full => {
                self.full = false;
                (self.tell)(Event::GoesOn);
            }
            _ => {}
        }
        Ok(())
    }

    fn run(&mut self, carrier: &Carrier<'_>) -> Result<()> {
        self.greet_at_once();
        while !carrier.is_over() {
            while let Some(answer) = self.answers.try_recv()? {
                Taken::of(&answer).map_or(Ok(()), |answer| self.answered(answer))?;
            }
            if self.has_room() {
                self.keep()?;
            } else if let Some(answer) = self.answers.recv_timeout(BEAT)? {
                Taken::of(&answer).map_or(Ok(()), |answer| self.answered(answer))?;
            }
            self.send()?;
            if !self.kept.is_empty() && self.heard.elapsed() >= PATIENCE {
                self.greeted.get_or_insert_with(Instant::now);
                if !std::mem::replace(&mut self.silent, true) {
                    (self.tell)(Event::NoAnswer);
                }
            }
        }
        Ok(())
    }
}

fn run<S: Source>(mut source: S, carrier: Carrier<'_>) -> Result<()> {
    let Carrier { session, carried, tell, .. } = carrier;
    let publisher = session.declare_publisher(format!("{}/sent", carried.key));
    let mut outward = Outward {
        identity: source.identity(false)?,
        source,
        publisher: publisher.congestion_control(CongestionControl::Block).wait()?,
        answers: session.declare_subscriber(format!("{}/taken", carried.key)).wait()?,
        kept: VecDeque::new(),
        bytes: 0,
        passed: 0,
        sent: 0,
        greeted: None,
        heard: Instant::now(),
        sent_again: Instant::now(),
        full: false,
        silent: false,
        tell,
    };
    outward.run(&carrier)
}

/// A topic, whose cursor stays at the oldest that is kept.
struct Publications<'h> {
    carrier: Carrier<'h>,
    topic: Topic<[u8]>,
    samples: atomic_matrix::ipc::Samples<[u8]>,
}

impl Source for Publications<'_> {
    type Kept = Sample<[u8]>;
    fn next(&mut self, wait: Duration) -> Result<Option<(u64, Sample<[u8]>)>> {
        Ok(self.samples.next_timeout(wait)?.map(|sample| (sample.number(), sample)))
    }
    fn ever(&self) -> u64 {
        // One that was read is there, although whoever published it may not have counted it yet.
        self.topic.published() + 1
    }
    /// Drawn once for a topic, and kept in the segment. It is another topic's if that has another block, or another
    /// generation of the same.
    fn identity(&mut self, anew: bool) -> Result<u64> {
        let Carrier { handler, carried, .. } = self.carrier;
        let board = handler.board::<[u64; 2]>(&format!("bridge {carried}"))?;
        let topic = handler.names().into_iter().find(|one| one.name == carried.name);
        let place = topic.map(|topic| u64::from(topic.generation) << 32 | u64::from(topic.offset));
        match board.get()? {
            Some([identity, at]) if !anew && place.is_none_or(|place| place == at) => Ok(identity),
            _ => {
                let identity = fresh();
                board.set([identity, place.unwrap_or_default()])?;
                Ok(identity)
            }
        }
    }
}

/// Every publication of a topic.
pub(super) fn topic(carrier: Carrier<'_>) -> Result<()> {
    let Carrier { handler, carried, .. } = carrier;
    let topic = handler.topic::<[u8]>(&carried.name).cells(carried.cells()).open_or_create()?;
    let samples = topic.subscribe(u64::MAX)?.into_samples();
    run(Publications { carrier, topic, samples }, carrier)
}

/// A channel's worker; its messages are counted anew by each bridge.
struct Deliveries<'w> {
    worker: &'w atomic_matrix::ipc::Worker<[u8]>,
    identity: u64,
    ever: u64,
}

impl<'w> Source for Deliveries<'w> {
    type Kept = Delivery<'w, [u8]>;
    fn next(&mut self, wait: Duration) -> Result<Option<(u64, Delivery<'w, [u8]>)>> {
        match self.worker.recv_timeout(wait) {
            Ok(delivery) => {
                self.ever += 1;
                Ok(Some((self.ever - 1, delivery)))
            }
            Err(Unreceived::Empty | Unreceived::Timeout) => Ok(None),
            Err(Unreceived::Disconnected { .. }) => {
                // Senders may come.
                std::thread::sleep(wait);
                Ok(None)
            }
            Err(why) => Err(why.into()),
        }
    }
    fn ever(&self) -> u64 {
        self.ever
    }
    fn identity(&mut self, anew: bool) -> Result<u64> {
        if anew {
            self.identity = fresh();
        }
        Ok(self.identity)
    }
}

/// Every message of a redelivering channel.
pub(super) fn channel(carrier: Carrier<'_>) -> Result<()> {
    let Carrier { handler, carried, .. } = carrier;
    let options = handler.channel::<[u8]>(&carried.name).capacity(carried.cells()).redeliver(MESSAGES as u16);
    let worker = options.open_or_create()?.worker()?;
    run(Deliveries { worker: &worker, identity: fresh(), ever: 0 }, carrier)
}

/// Copies of what a topic's way has room for.
pub(super) fn lossy(carrier: Carrier<'_>) -> Result<()> {
    let Carrier { handler, session, carried, tell, .. } = carrier;
    let topic = handler.topic::<[u8]>(&carried.name).cells(carried.cells()).open_or_create()?;
    let mut subscriber = topic.subscribe_lossy(0)?;
    let publisher = session.declare_publisher(format!("{}/sent", carried.key));
    let publisher = publisher.congestion_control(CongestionControl::Drop).wait()?;
    let (source, mut number) = (fresh(), 0);
    tell(Event::Carries(topic.published()));
    while !carrier.is_over() {
        match subscriber.next_timeout(BEAT) {
            Ok(Some(bytes)) => {
                let attachment = Sent { kind: Kind::Lossy, source, number }.packed();
                publisher.put(bytes).attachment(attachment).wait()?;
                number += 1;
            }
            Ok(None) => {}
            Err(Error::Lagged { missed }) => {
                number += missed;
                tell(Event::Missed(missed));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

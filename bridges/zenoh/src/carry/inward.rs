//! Inward: what comes from the other host is put in here, in its order, each once.

use super::wire::{Kind, Sent, State, Taken};
use super::{BEAT, Carried, Carrier, Event, Sort};
use atomic_matrix::ipc::{self, Board, Message, Redelivering, SendError, Topic, Unsent};
use atomic_matrix::{Error, Handler};
use zenoh::handlers::{FifoChannel, FifoChannelHandler};
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::{Result, Wait};

/// More than an outward bridge sends without an answer, greetings and repetitions included.
const QUEUE: usize = 4096;
/// After so many there is an answer, although more wait.
const AT_ONCE: u64 = 32;

/// Where it is put.
enum Sink {
    Topic(Topic<[u8]>),
    Channel(ipc::Sender<[u8]>),
    Redelivering(ipc::Sender<[u8], Redelivering>),
}

impl Sink {
    fn open(handler: &Handler, carried: &Carried) -> Result<Self> {
        let channel = || handler.channel::<[u8]>(&carried.name).capacity(carried.cells());
        Ok(match carried.sort {
            Sort::Channel => match channel().open() {
                Ok(there) => Self::Channel(there.sender()?),
                Err(Error::NameUnknown { .. } | Error::TypeMismatch { .. }) => {
                    Self::Redelivering(channel().redeliver(256).open_or_create()?.sender()?)
                }
                Err(other) => return Err(other.into()),
            },
            _ => Self::Topic(handler.topic(&carried.name).cells(carried.cells()).open_or_create()?),
        })
    }

    /// One try, for a beat at most. Some: there was no room, and the message comes back.
    fn put<'m>(&self, message: Message<'m, [u8]>) -> Result<Option<Message<'m, [u8]>>> {
        let put = match self {
            Self::Topic(topic) => topic.publish_timeout(message, BEAT),
            Self::Channel(sender) => sender.send_timeout(message, BEAT),
            Self::Redelivering(sender) => sender.send_timeout(message, BEAT),
        };
        match put {
            Ok(()) => Ok(None),
            Err(SendError { message, why: Unsent::Full | Unsent::Timeout }) => Ok(Some(message)),
            Err(SendError { message, why: Unsent::Disconnected { .. } }) => {
                // Receivers may come.
                std::thread::sleep(BEAT);
                Ok(Some(message))
            }
            Err(refused) => Err(refused.why.into()),
        }
    }

    /// How many were ever published, for a topic. One whose publisher was killed in the middle may not have been
    /// counted, but is there (`subscribe_lossy` finds it).
    fn ever(&self, handler: &Handler) -> Result<u64> {
        let Self::Topic(topic) = self else { return Ok(0) };
        handler.reap()?;
        let mut behind = topic.subscribe_lossy(0)?;
        let counted = topic.published();
        Ok(counted + u64::from(behind.try_next()?.is_some()))
    }
}

/// What is kept in the segment: who sends, which number is next, and how many the topic had published before that
/// one was put in.
struct Kept {
    board: Board<[u64; 3]>,
    source: u64,
    next: u64,
}

impl Kept {
    fn load(handler: &Handler, carried: &Carried, ever: u64) -> Result<Self> {
        let board = handler.board(&format!("bridge {carried}"))?;
        let [source, next, before] = board.get()?.unwrap_or_default();
        let was_put = carried.sort != Sort::Channel && ever > before;
        Ok(Self { board, source, next: next + u64::from(was_put) })
    }
    fn save(&self, ever: u64) -> atomic_matrix::Result<()> {
        self.board.set([self.source, self.next, ever])
    }
}

struct Inward<'r> {
    carrier: Carrier<'r>,
    sink: Sink,
    kept: Kept,
    /// How many the topic has published.
    ever: u64,
    sent: Subscriber<FifoChannelHandler<Sample>>,
    taken: Publisher<'r>,
    unanswered: u64,
    repeated: u64,
    in_gap: bool,
}

impl Inward<'_> {
    fn tell(&self, event: Event) {
        (self.carrier.tell)(event);
    }

    fn answer_as(&mut self, state: State, source: u64) -> Result<()> {
        self.unanswered = 0;
        // Of another's numbers nothing has been put in.
        let next = if source == self.kept.source { self.kept.next } else { 0 };
        let attachment = Taken { state, source, next }.packed();
        self.taken.put(&[] as &[u8]).attachment(attachment).wait()
    }
    fn answer(&mut self, state: State) -> Result<()> {
        self.answer_as(state, self.kept.source)
    }

    fn greeted(&mut self, sent: Sent) -> Result<()> {
        if sent.source != self.kept.source {
            if self.kept.source != 0 {
                self.tell(Event::Another);
            }
            (self.kept.source, self.kept.next) = (sent.source, sent.number);
        } else if sent.number > self.kept.next {
            self.tell(Event::Missed(sent.number - self.kept.next));
            self.kept.next = sent.number;
        }
        self.kept.save(self.ever)?;
        (self.in_gap, self.repeated) = (false, 0);
        self.tell(Event::Carries(self.kept.next));
        self.answer(State::Greeted)
    }

    /// Tries until there is room, and answers meanwhile that there is none. None if it is to stop.
    fn with_room<T>(&mut self, mut attempt: impl FnMut(&Self) -> Result<Option<T>>) -> Result<Option<T>> {
        while !self.carrier.is_over() {
            if let Some(done) = attempt(self)? {
                return Ok(Some(done));
            }
            self.answer(State::Full)?;
        }
        Ok(None)
    }

    /// Puts the next one in. False if it is to stop.
    fn put(&mut self, bytes: &[u8]) -> Result<bool> {
        let handler = self.carrier.handler;
        let mut told = false;
        let made = self.with_room(|inward| match handler.message_from(bytes) {
            Ok(message) => Ok(Some(message)),
            Err(Error::OutOfMemory { .. }) => {
                if !std::mem::replace(&mut told, true) {
                    inward.tell(Event::NoRoom);
                }
                std::thread::sleep(BEAT);
                Ok(None)
            }
            Err(other) => Err(other.into()),
        })?;
        let Some(message) = made else { return Ok(false) };
        if let Sink::Topic(topic) = &self.sink {
            self.ever = self.ever.max(topic.published());
            self.kept.save(self.ever)?;
        }
        let mut message = Some(message);
        let put = self.with_room(|inward| {
            let one = message.take().expect("it came back");
            message = inward.sink.put(one)?;
            Ok(message.is_none().then_some(()))
        })?;
        if put.is_some() {
            self.ever += 1;
            self.kept.next += 1;
            if !matches!(self.sink, Sink::Topic(_)) {
                self.kept.save(0)?;
            }
        }
        Ok(put.is_some())
    }

    fn message(&mut self, sent: Sent, bytes: &[u8]) -> Result<()> {
        let many_wait = || !self.sent.is_empty();
        if sent.source != self.kept.source {
            return if many_wait() { Ok(()) } else { self.answer_as(State::Unknown, sent.source) };
        }
        if sent.number > self.kept.next {
            return if std::mem::replace(&mut self.in_gap, true) { Ok(()) } else { self.answer(State::Gap) };
        }
        if sent.number < self.kept.next {
            self.repeated += 1;
            return if many_wait() { Ok(()) } else { self.answer(State::Takes) };
        }
        self.in_gap = false;
        if self.repeated > 0 {
            let many = std::mem::take(&mut self.repeated);
            self.tell(Event::Repeated(many));
        }
        if !self.put(bytes)? {
            return Ok(());
        }
        self.unanswered += 1;
        if self.unanswered < AT_ONCE && !self.sent.is_empty() { Ok(()) } else { self.answer(State::Takes) }
    }

    /// Puts in what came without a promise, if there is room now.
    fn lossy(&mut self, bytes: &[u8]) -> Result<()> {
        let put = match (&self.sink, self.carrier.handler.message_from(bytes)) {
            (Sink::Topic(topic), Ok(message)) => topic.try_publish(message).map_err(|no| no.why),
            (_, Err(Error::OutOfMemory { .. })) => Err(Unsent::Full),
            (_, Err(other)) => return Err(other.into()),
            // A channel's messages are for one, and not for whoever is there.
            (_, Ok(_)) => Err(Unsent::Full),
        };
        match put {
            Ok(()) => Ok(()),
            Err(Unsent::Full) => {
                self.tell(Event::Missed(1));
                Ok(())
            }
            Err(why) => Err(why.into()),
        }
    }

    fn run(&mut self) -> Result<()> {
        // Whoever waits for an answer of the one before greets.
        self.answer(State::Unknown)?;
        while !self.carrier.is_over() {
            let Some(sample) = self.sent.recv_timeout(BEAT)? else {
                // What was in a gap was lost on the way: it is asked for again when more comes.
                self.in_gap = false;
                continue;
            };
            let Some(sent) = Sent::of(&sample) else { continue };
            match sent.kind {
                Kind::Greeting => self.greeted(sent)?,
                Kind::Message => self.message(sent, &sample.payload().to_bytes())?,
                Kind::Lossy => self.lossy(&sample.payload().to_bytes())?,
            }
        }
        Ok(())
    }
}

pub(super) fn run(carrier: Carrier<'_>) -> Result<()> {
    let Carrier { handler, session, carried, .. } = carrier;
    let sink = Sink::open(handler, carried)?;
    let ever = sink.ever(handler)?;
    let sent = session.declare_subscriber(format!("{}/sent", carried.key)).with(FifoChannel::new(QUEUE)).wait()?;
    let taken = session.declare_publisher(format!("{}/taken", carried.key));
    let mut inward = Inward {
        carrier,
        sink,
        kept: Kept::load(handler, carried, ever)?,
        ever,
        sent,
        taken: taken.congestion_control(CongestionControl::Block).wait()?,
        unanswered: 0,
        repeated: 0,
        in_gap: false,
    };
    inward.run()
}

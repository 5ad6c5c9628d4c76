//! Topics and channels of bytes, carried between hosts by zenoh.
//!
//! On each host a bridge ([`Carrier`], or the program `matrix-bridge`) takes what is published there *out*, and puts
//! what comes from the other host *in*, under the same names.
//!
//! # The protocol
//!
//! A publication has a number, which its topic counts. The outward bridge keeps what it has sent until the other
//! one acknowledges it, and with it the topic keeps it: so a slow or broken way holds up the topic's publishers as
//! a slow subscriber does, and nothing else. The inward bridge takes numbers in their order alone, acknowledges
//! all below its next one, and says while its own topic or channel is full. Without an answer the outward bridge
//! *greets*: it tells from which number on it can send, and the answer says from which one it is to. (Go-back-N.
//! Two publications of zenoh's, `KEY/sent` and `KEY/taken`; connections are zenoh's matter.)
//!
//! What the inward bridge expects next is kept in its segment, in a board, and written *before* it publishes, with
//! how many its topic has published: whether the one publication was made is told by that count afterwards. So
//! neither a loss nor a second copy comes of killing either bridge, at any step, as long as
//! - the topic still has what was not acknowledged when the outward bridge comes back: while it is away nobody
//!   holds the publishers up, and as many are there as the topic has cells, less one. What is gone is told
//!   ([`Event::Missed`]);
//! - nobody else publishes in the inward bridge's topic at that moment. (One bridge at a time does: [`Event::Waits`].)
//!
//! A topic that was removed and made anew, also while its outward bridge was away, begins anew: what numbers are of is
//! told by its block and that one's generation. So does one of another host, of which there is one at a time under a
//! key: what of the former was not acknowledged is sent by it when it greets again, and may come twice
//! ([`Event::Another`]).
//!
//! A channel is carried at least once: it must be a redelivering one, whose messages the outward bridge acknowledges
//! when the other one has. Killed in between, a bridge leaves messages that come again.
//!
//! A lossy way carries copies of what is published, holds nobody up, and asks for no answer.

mod inward;
mod outward;
mod wire;

use atomic_matrix::Handler;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zenoh::key_expr::KeyExpr;
use zenoh::{Result, Session};

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A topic, every publication of which is to arrive.
    Topic,
    /// A topic, as fast as the way allows; what is too much is left out.
    Lossy,
    /// A redelivering channel.
    Channel,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What is put in here goes to the other host.
    Out,
    /// What comes from the other host is put in here.
    In,
}

/// One topic or channel to be carried one way.
#[derive(Debug, Clone)]
pub struct Carried {
    /// Whether it comes or goes.
    pub way: Way,
    /// What it is.
    pub sort: Sort,
    /// Its name in the segment.
    pub name: String,
    /// Zenoh's key for it; [`Carried::key`] makes one of the name.
    pub key: String,
    /// Room for so many publications or messages, if it is made here; 0 for 64.
    pub cells: usize,
}

impl Carried {
    /// The key of a sort and a name, the same on both hosts.
    pub fn key(sort: Sort, name: &str) -> String {
        let sort = if sort == Sort::Channel { "channel" } else { "topic" };
        format!("atomic-matrix/{sort}/{name}")
    }
    fn cells(&self) -> usize {
        if self.cells == 0 { 64 } else { self.cells }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.way == Way::Out { "out" } else { "in" };
        write!(f, "{} {way}", self.name)
    }
}

/// What a bridge tells of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It carries, from this number on.
    Carries(u64),
    /// The other bridge does not answer; what is put in here waits.
    NoAnswer,
    /// The other host's topic or channel is full: what is put in here waits.
    HeldUp,
    /// It goes on.
    GoesOn,
    /// So many were gone before they could be sent, or could not be taken: they are lost.
    Missed(u64),
    /// So many came a second time, and were dropped.
    Repeated(u64),
    /// Another bridge of this host carries the same one this way; this one waits until that one ends.
    Waits,
    /// The segment has no room for what came; it waits.
    NoRoom,
    /// What comes is of another topic or channel than before: that was made anew, or two hosts send under one key.
    Another,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Carries(number) => write!(f, "carries, from number {number} on"),
            Self::NoAnswer => f.write_str("no answer from the other bridge; what is put in waits"),
            Self::HeldUp => f.write_str("held up: it is full on the other host"),
            Self::GoesOn => f.write_str("goes on"),
            Self::Missed(many) => write!(f, "{many} are lost: they were gone before they could be carried"),
            Self::Repeated(many) => write!(f, "{many} came a second time, and were dropped"),
            Self::Waits => f.write_str("another bridge carries it; waits until that one ends"),
            Self::NoRoom => f.write_str("the segment has no room for what came; waits"),
            Self::Another => f.write_str(
                "what comes is another's from here on: it was made anew there, or two hosts send under one key; give \
                 each a key of its own, if so",
            ),
        }
    }
}

/// How often whoever waits looks up.
const BEAT: Duration = Duration::from_millis(100);

/// What carries one topic or channel one way, in a thread of its own.
#[derive(Clone, Copy)]
pub struct Carrier<'r> {
    /// The segment.
    pub handler: &'r Handler,
    /// How the other host is reached.
    pub session: &'r Session,
    /// What is carried.
    pub carried: &'r Carried,
    /// Set, it ends.
    pub stop: &'r AtomicBool,
    /// What is told of it.
    pub tell: &'r (dyn Fn(Event) + Sync),
}

impl Carrier<'_> {
    /// Carries until `stop` is set.
    ///
    /// # Errors
    /// What the segment refuses (of another type, not redelivering, removed, no place for a subscriber, a message that
    /// is larger than it), and zenoh's: a key that is none, or that has wildcards and so would mix others'.
    pub fn run(self) -> Result<()> {
        let key = KeyExpr::try_from(self.carried.key.as_str())?;
        if key.is_wild() {
            let refused =
                format!("the key {key:?} stands for several; give a key of its own: {}=KEY", self.carried.name);
            return Err(refused.into());
        }
        if (self.carried.way, self.carried.sort) == (Way::Out, Sort::Lossy) {
            return outward::lossy(self);
        }
        // One bridge at a time: two would count differently.
        let one_at_a_time = self.handler.mutex::<u64>(&format!("bridge alone {}", self.carried))?;
        let mut told = false;
        let mut alone = loop {
            if let Some(alone) = one_at_a_time.lock(5 * BEAT)? {
                break alone;
            }
            if self.is_over() {
                return Ok(());
            }
            if !std::mem::replace(&mut told, true) {
                (self.tell)(Event::Waits);
            }
        };
        // The one before was killed: what it was doing is told elsewhere.
        alone.cure()?;
        match (self.carried.way, self.carried.sort) {
            (Way::In, _) => inward::run(self),
            (Way::Out, Sort::Channel) => outward::channel(self),
            (Way::Out, _) => outward::topic(self),
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A random number.
fn fresh() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

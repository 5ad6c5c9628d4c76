//! AtomicMatrix: a channel, and a topic with one subscriber.

use super::{In, Out, Peer, fill, read};
use crate::Outcome;
use crate::run::Task;
use atomic_matrix::Handler;
use atomic_matrix::Options;
use atomic_matrix::ipc::{Channel, Message, Receiver, SendError, Sender, Subscriber, Topic, Unreceived, Unsent};

const WAYS: [&str; 2] = ["there", "back"];
const BYTES: usize = 64 << 20;

/// A segment. It stays mapped until the process ends: messages are borrowed of it.
fn make(task: &Task) -> Outcome<&'static Handler> {
    let handler = Options::new().name(&task.name).size(BYTES).populate(true).create()?;
    Ok(Box::leak(Box::new(handler)))
}
fn open(task: &Task) -> Outcome<&'static Handler> {
    let handler = Options::new().name(&task.name).populate(true).attach()?;
    Ok(Box::leak(Box::new(handler)))
}

/// Removes the segment of a run, if it is there.
pub(crate) fn clean(name: &str) {
    if let Ok(left) = Options::new().name(name).attach() {
        let _ = left.unlink(); // Gone already: fine.
    }
}

/// Whether it was sent; if there was no room, the message is kept for the next call.
fn sent<T: atomic_matrix::ipc::Payload + ?Sized>(
    put: Result<(), SendError<'static, T>>,
    kept: &mut Option<Message<'static, T>>,
) -> Outcome<bool> {
    match put {
        Ok(()) => Ok(true),
        Err(SendError { message, why: Unsent::Full }) => {
            *kept = Some(message);
            Ok(false)
        }
        Err(SendError { why, .. }) => Err(why.into()),
    }
}

type Small = [u64; 8];

/// Messages of one size, or of any.
macro_rules! sizes {
    ($peer:ident, $out:ident, $in:ident, $put:ident, $get:ident, $take:expr) => {
        pub(crate) struct $peer {
            handler: &'static Handler,
            small: bool,
            cells: usize,
        }
        pub(crate) enum $out {
            Small($put<Small>, &'static Handler, Option<Message<'static, Small>>),
            Large($put<[u64]>, &'static Handler, Option<Message<'static, [u64]>>),
        }
        pub(crate) enum $in {
            Small($get<Small>),
            Large($get<[u64]>),
        }
        impl $peer {
            fn over(handler: &'static Handler, task: &Task) -> Self {
                Self { handler, small: task.setting.size == size_of::<Small>(), cells: task.setting.cells }
            }
        }
        impl In for $in {
            #[inline(always)]
            fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
                match self {
                    Self::Small(from) => $take(from, |message: &Small| read(message)),
                    Self::Large(from) => $take(from, |message: &[u64]| read(message)),
                }
            }
        }
    };
}

sizes!(Channels, ChannelOut, ChannelIn, Sender, Receiver, receive);
sizes!(Topics, TopicOut, TopicIn, Topic, Subscriber, next);

#[inline(always)]
fn receive<T: atomic_matrix::ipc::Payload + ?Sized>(
    from: &mut Receiver<T>,
    read: impl FnOnce(&T) -> u64,
) -> Outcome<Option<u64>> {
    match from.try_recv() {
        Ok(message) => Ok(Some(read(&message))),
        Err(Unreceived::Empty | Unreceived::Disconnected { .. }) => Ok(None),
        Err(why) => Err(why.into()),
    }
}

#[inline(always)]
fn next<T: atomic_matrix::ipc::Payload + ?Sized>(
    from: &mut Subscriber<T>,
    read: impl FnOnce(&T) -> u64,
) -> Outcome<Option<u64>> {
    Ok(from.try_next()?.map(|message| read(&message)))
}

impl Out for ChannelOut {
    #[inline(always)]
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool> {
        match self {
            Self::Small(to, handler, kept) => {
                let mut message = kept.take().map_or_else(|| handler.message(), Ok)?;
                fill(&mut *message, value);
                sent(to.try_send(message), kept)
            }
            Self::Large(to, handler, kept) => {
                let message = match kept.take() {
                    Some(message) => message,
                    None => {
                        let mut message = handler.message_slice(size / 8)?;
                        fill(&mut message, value);
                        message
                    }
                };
                sent(to.try_send(message), kept)
            }
        }
    }
}

impl Out for TopicOut {
    #[inline(always)]
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool> {
        match self {
            Self::Small(to, handler, kept) => {
                let mut message = kept.take().map_or_else(|| handler.message(), Ok)?;
                fill(&mut *message, value);
                sent(to.try_publish(message), kept)
            }
            Self::Large(to, handler, kept) => {
                let message = match kept.take() {
                    Some(message) => message,
                    None => {
                        let mut message = handler.message_slice(size / 8)?;
                        fill(&mut message, value);
                        message
                    }
                };
                sent(to.try_publish(message), kept)
            }
        }
    }
}

impl Channels {
    fn channel<T: atomic_matrix::ipc::Payload + ?Sized>(&self, way: usize) -> Outcome<Channel<T>> {
        Ok(self.handler.channel::<T>(WAYS[way]).capacity(self.cells).open_or_create()?)
    }
}

impl Peer for Channels {
    type Out = ChannelOut;
    type In = ChannelIn;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self::over(make(task)?, task))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Ok(Self::over(open(task)?, task))
    }
    fn output(&self, way: usize) -> Outcome<ChannelOut> {
        Ok(match self.small {
            true => ChannelOut::Small(self.channel(way)?.sender()?, self.handler, None),
            false => ChannelOut::Large(self.channel(way)?.sender()?, self.handler, None),
        })
    }
    fn input(&self, way: usize) -> Outcome<ChannelIn> {
        Ok(match self.small {
            true => ChannelIn::Small(self.channel(way)?.receiver()?),
            false => ChannelIn::Large(self.channel(way)?.receiver()?),
        })
    }
}

impl Topics {
    fn topic<T: atomic_matrix::ipc::Payload + ?Sized>(&self, way: usize) -> Outcome<Topic<T>> {
        Ok(self.handler.topic::<T>(WAYS[way]).cells(self.cells).open_or_create()?)
    }
}

impl Peer for Topics {
    type Out = TopicOut;
    type In = TopicIn;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self::over(make(task)?, task))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Ok(Self::over(open(task)?, task))
    }
    fn output(&self, way: usize) -> Outcome<TopicOut> {
        Ok(match self.small {
            true => TopicOut::Small(self.topic(way)?, self.handler, None),
            false => TopicOut::Large(self.topic(way)?, self.handler, None),
        })
    }
    fn input(&self, way: usize) -> Outcome<TopicIn> {
        Ok(match self.small {
            true => TopicIn::Small(self.topic(way)?.subscribe(0)?),
            false => TopicIn::Large(self.topic(way)?.subscribe(0)?),
        })
    }
}

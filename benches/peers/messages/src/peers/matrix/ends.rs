//! What sends and receives messages one by one, of 64 bytes or of any size.

use super::{Segment, Small, WAYS};
use crate::Outcome;
use crate::peers::{BOUND, In, Out, Peer, fill, read};
use crate::run::Task;
use atomic_matrix::Handler;
use atomic_matrix::ipc::{
    LossySubscriber, Message, Payload, Receiver, SendError, Sender, Single, Subscriber, Topic, Unreceived, Unsent,
};

/// What sends messages of a type.
pub(crate) trait Puts<T: Payload + ?Sized> {
    fn put(&self, message: Message<'static, T>) -> Result<(), SendError<'static, T>>;
}
/// What receives them; one that is there is read.
pub(crate) trait Gets<T: ?Sized> {
    fn get(&mut self, read: impl FnOnce(&T) -> u64) -> Outcome<Option<u64>>;
    fn await_one(&mut self, read: impl FnOnce(&T) -> u64) -> Outcome<Option<u64>>;
}

macro_rules! channel {
    ($($mode:tt)*) => {
        impl<T: Payload + ?Sized> Puts<T> for Sender<T $($mode)*> {
            #[inline(always)]
            fn put(&self, message: Message<'static, T>) -> Result<(), SendError<'static, T>> {
                self.try_send(message)
            }
        }
        impl<T: Payload + ?Sized> Gets<T> for Receiver<T $($mode)*> {
            #[inline(always)]
            fn get(&mut self, read: impl FnOnce(&T) -> u64) -> Outcome<Option<u64>> {
                match self.try_recv() {
                    Ok(message) => Ok(Some(read(&message))),
                    Err(Unreceived::Empty | Unreceived::Disconnected { .. }) => Ok(None),
                    Err(why) => Err(why.into()),
                }
            }
            #[inline(always)]
            fn await_one(&mut self, read: impl FnOnce(&T) -> u64) -> Outcome<Option<u64>> {
                match self.recv_timeout(BOUND) {
                    Ok(message) => Ok(Some(read(&message))),
                    Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) => Ok(None),
                    Err(why) => Err(why.into()),
                }
            }
        }
    };
}
channel!();
channel!(, Single);

impl<T: Payload + ?Sized> Puts<T> for Topic<T> {
    #[inline(always)]
    fn put(&self, message: Message<'static, T>) -> Result<(), SendError<'static, T>> {
        self.try_publish(message)
    }
}

macro_rules! topic {
    ($subscriber:ident<$type:ty>, $($generic:tt)*) => {
        impl $($generic)* Gets<$type> for $subscriber<$type> {
            #[inline(always)]
            fn get(&mut self, read: impl FnOnce(&$type) -> u64) -> Outcome<Option<u64>> {
                Ok(self.try_next()?.map(|message| read(&message)))
            }
            #[inline(always)]
            fn await_one(&mut self, read: impl FnOnce(&$type) -> u64) -> Outcome<Option<u64>> {
                Ok(self.next_timeout(BOUND)?.map(|message| read(&message)))
            }
        }
    };
}
topic!(Subscriber<T>, <T: Payload + ?Sized>);
topic!(LossySubscriber<Small>,);
topic!(LossySubscriber<[u64]>,);

/// Sends; a message that there was no room for is kept for the next call.
pub(crate) enum Giver<S, L> {
    Small(S, &'static Handler, Option<Message<'static, Small>>),
    Large(L, &'static Handler, Option<Message<'static, [u64]>>),
}
/// Receives.
pub(crate) enum Taker<S, L> {
    Small(S),
    Large(L),
}

#[inline(always)]
fn put<T: Payload + ?Sized>(
    to: &impl Puts<T>,
    kept: &mut Option<Message<'static, T>>,
    make: impl FnOnce() -> Outcome<Message<'static, T>>,
) -> Outcome<bool> {
    let message = match kept.take() {
        Some(message) => message,
        None => make()?,
    };
    match to.put(message) {
        Ok(()) => Ok(true),
        Err(SendError { message, why: Unsent::Full }) => {
            *kept = Some(message);
            Ok(false)
        }
        Err(SendError { why, .. }) => Err(why.into()),
    }
}

impl<S: Puts<Small>, L: Puts<[u64]>> Out for Giver<S, L> {
    #[inline(always)]
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool> {
        match self {
            Self::Small(to, handler, kept) => put(to, kept, || {
                let mut message = handler.message::<Small>()?;
                fill(&mut *message, value);
                Ok(message)
            }),
            Self::Large(to, handler, kept) => put(to, kept, || {
                let mut message = handler.message_slice(size / 8)?;
                fill(&mut message, value);
                Ok(message)
            }),
        }
    }
}

impl<S: Gets<Small>, L: Gets<[u64]>> In for Taker<S, L> {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        match self {
            Self::Small(from) => from.get(|message| read(message)),
            Self::Large(from) => from.get(read),
        }
    }
    #[inline(always)]
    fn wait(&mut self, _: usize) -> Outcome<Option<u64>> {
        match self {
            Self::Small(from) => from.await_one(|message| read(message)),
            Self::Large(from) => from.await_one(read),
        }
    }
}

/// A structure whose ends are made by these expressions.
macro_rules! peer {
    ($peer:ident($of:ident, $way:ident): $out:ty, $large_out:ty = $output:expr; $in:ty, $large_in:ty = $input:expr) => {
        pub(crate) struct $peer(Segment);
        impl Peer for $peer {
            type Out = Giver<$out, $large_out>;
            type In = Taker<$in, $large_in>;
            fn make(task: &Task) -> Outcome<Self> {
                Ok(Self(Segment::make(task)?))
            }
            fn open(task: &Task) -> Outcome<Self> {
                Ok(Self(Segment::open(task)?))
            }
            fn output(&self, $way: usize) -> Outcome<Self::Out> {
                let $of = &self.0;
                Ok(match $of.is_small() {
                    true => Giver::Small($output, $of.handler, None),
                    false => Giver::Large($output, $of.handler, None),
                })
            }
            fn input(&self, $way: usize) -> Outcome<Self::In> {
                let $of = &self.0;
                Ok(match $of.is_small() {
                    true => Taker::Small($input),
                    false => Taker::Large($input),
                })
            }
            fn taken(&self) -> Outcome<u64> {
                self.0.taken()
            }
        }
    };
}

peer!(Channels(of, way):
    Sender<Small>, Sender<[u64]> =
        of.handler.channel(WAYS[way]).capacity(of.cells).open_or_create()?.sender()?;
    Receiver<Small>, Receiver<[u64]> =
        of.handler.channel(WAYS[way]).capacity(of.cells).open_or_create()?.receiver()?);
peer!(Singles(of, way):
    Sender<Small, Single>, Sender<[u64], Single> =
        of.handler.channel(WAYS[way]).single().capacity(of.cells).open_or_create()?.sender()?;
    Receiver<Small, Single>, Receiver<[u64], Single> =
        of.handler.channel(WAYS[way]).single().capacity(of.cells).open_or_create()?.receiver()?);
peer!(Topics(of, way):
    Topic<Small>, Topic<[u64]> =
        of.handler.topic(WAYS[way]).cells(of.cells).subscribers(of.readers as u16).open_or_create()?;
    Subscriber<Small>, Subscriber<[u64]> =
        of.handler.topic(WAYS[way]).cells(of.cells).subscribers(of.readers as u16).open_or_create()?.subscribe(0)?);
peer!(LossyTopics(of, way):
    Topic<Small>, Topic<[u64]> =
        of.handler.topic(WAYS[way]).cells(of.cells).subscribers(0).open_or_create()?;
    LossySubscriber<Small>, LossySubscriber<[u64]> =
        of.handler.topic(WAYS[way]).cells(of.cells).subscribers(0).open_or_create()?.subscribe_lossy(0)?);

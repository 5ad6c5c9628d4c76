//! Channels whose messages of 64 bytes are sent and received in batches.

use super::{Segment, Small, WAYS};
use crate::Outcome;
use crate::peers::{In, Out, Peer, fill, read};
use crate::run::Task;
use atomic_matrix::Handler;
use atomic_matrix::ipc::{Message, Receiver, Sender, Single, Unreceived, Unsent};

/// Messages of a batch.
const BATCH: usize = 32;

/// Sends once a batch is whole.
pub(crate) struct BatchOut<S>(S, &'static Handler, Vec<Message<'static, Small>>);
/// Receives a batch, oldest message first; messages are borrowed of the receiver, which lives as long as the process.
pub(crate) struct BatchIn<R: 'static>(&'static R, Vec<Message<'static, Small>>);

macro_rules! batches {
    ($peer:ident, [$($mode:tt)*], $($single:tt)*) => {
        pub(crate) struct $peer(Segment);

        impl Peer for $peer {
            type Out = BatchOut<Sender<Small $($mode)*>>;
            type In = BatchIn<Receiver<Small $($mode)*>>;
            fn make(task: &Task) -> Outcome<Self> {
                Ok(Self(Segment::make(task)?))
            }
            fn open(task: &Task) -> Outcome<Self> {
                Ok(Self(Segment::open(task)?))
            }
            fn output(&self, way: usize) -> Outcome<Self::Out> {
                let Segment { handler, cells, .. } = self.0;
                let channel = handler.channel(WAYS[way]) $($single)* .capacity(cells).open_or_create()?;
                Ok(BatchOut(channel.sender()?, handler, Vec::with_capacity(BATCH)))
            }
            fn input(&self, way: usize) -> Outcome<Self::In> {
                let Segment { handler, cells, .. } = self.0;
                let channel = handler.channel(WAYS[way]) $($single)* .capacity(cells).open_or_create()?;
                Ok(BatchIn(Box::leak(Box::new(channel.receiver()?)), Vec::with_capacity(BATCH)))
            }
        }

        impl Out for BatchOut<Sender<Small $($mode)*>> {
            #[inline(always)]
            fn send(&mut self, _: usize, value: u64) -> Outcome<bool> {
                let Self(to, handler, batch) = self;
                if batch.len() == BATCH {
                    match to.try_send_many(batch) {
                        Ok(_) => {}
                        Err(Unsent::Full) => return Ok(false),
                        Err(why) => return Err(why.into()),
                    }
                }
                let mut message = handler.message::<Small>()?;
                fill(&mut *message, value);
                batch.push(message);
                Ok(true)
            }
            fn flush(&mut self) -> Outcome<()> {
                Ok(self.0.send_many(&mut self.2)?)
            }
        }

        impl In for BatchIn<Receiver<Small $($mode)*>> {
            #[inline(always)]
            fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
                let Self(from, batch) = self;
                if batch.is_empty() {
                    match from.try_recv_many(BATCH, batch) {
                        Ok(_) => batch.reverse(),
                        Err(Unreceived::Empty | Unreceived::Disconnected { .. }) => return Ok(None),
                        Err(why) => return Err(why.into()),
                    }
                }
                Ok(batch.pop().map(|message| read(&*message)))
            }
        }
    };
}

batches!(Batches, [],);
batches!(SingleBatches, [, Single], .single());

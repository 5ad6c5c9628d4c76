//! Descriptors for poll(2), epoll(7) and their like.

use crate::call::{Outcome, answer, call, give, given};
use crate::channel::amx_receiver;
use crate::status::{Failure, amx_status};
use crate::topic::amx_topic;
use atomic_matrix::ipc::{Readable, Receiver, Topic};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

/// What a descriptor waits at.
enum Of {
    Receiver(Arc<Receiver<[u8]>>),
    Topic(Arc<Topic<[u8]>>),
}

/// A descriptor of this process that is readable when something may be there. It serves one thread
/// at a time: AMX_BUSY.
pub struct amx_readable {
    /// In front of what it borrows from: dropped before it.
    readable: Mutex<Readable<'static>>,
    _of: Of,
}

impl amx_readable {
    fn new(of: Of) -> Outcome<Option<Box<Self>>> {
        let readable = match &of {
            Of::Receiver(receiver) => receiver.readable()?,
            Of::Topic(topic) => topic.readable()?,
        };
        // SAFETY: it borrows what the Arc beside it keeps at its place, and is dropped before that,
        // as the first field.
        let readable = unsafe { std::mem::transmute::<Readable<'_>, Readable<'static>>(readable) };
        Ok(Some(Box::new(Self { readable: Mutex::new(readable), _of: of })))
    }
}

/// A descriptor that is readable when there may be a message. It outlives the receiver's handle.
#[unsafe(no_mangle)]
pub extern "C" fn amx_receiver_readable(
    receiver: Option<&amx_receiver>,
    readable: Option<&mut MaybeUninit<Option<Box<amx_readable>>>>,
) -> amx_status {
    call(|| {
        let receiver = given(receiver, "receiver")?.0.clone();
        give(readable, "readable", || amx_readable::new(Of::Receiver(receiver)))
    })
}

/// A descriptor that is readable when something may have been published, for any of the topic's
/// subscribers.
#[unsafe(no_mangle)]
pub extern "C" fn amx_topic_readable(
    topic: Option<&amx_topic>,
    readable: Option<&mut MaybeUninit<Option<Box<amx_readable>>>>,
) -> amx_status {
    call(|| {
        let topic = given(topic, "topic")?.0.clone();
        give(readable, "readable", || amx_readable::new(Of::Topic(topic)))
    })
}

/// The descriptor's number, to be waited at and not to be read or closed; -1 if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn amx_readable_fd(readable: Option<&amx_readable>) -> i32 {
    answer(-1, || Ok(given(readable, "readable")?.readable.lock().map_or(-1, |readable| readable.as_raw_fd())))
}

/// It is not readable any more, until something is put from now on, or for 50 ms. Call it before
/// you take what is there, not behind.
#[unsafe(no_mangle)]
pub extern "C" fn amx_readable_arm(readable: Option<&amx_readable>) -> amx_status {
    call(|| {
        let busy =
            |_| Failure::new(amx_status::AmxBusy, "another thread uses this descriptor; make one for each thread");
        Ok(given(readable, "readable")?.readable.try_lock().map_err(busy)?.arm()?)
    })
}

/// Closes the descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn amx_readable_close(readable: Option<Box<amx_readable>>) {
    call(|| {
        drop(readable);
        Ok(())
    });
}

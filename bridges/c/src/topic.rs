//! Topics: every subscriber sees every publication, where it lies.

use crate::call::{Outcome, answer, call, give, given, text, timeout};
use crate::channel::given_back;
use crate::message::amx_message;
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::ipc::{Message, SendError, Subscriber, Topic};
use std::ffi::c_char;
use std::mem::{MaybeUninit, forget};
use std::sync::{Arc, Mutex, MutexGuard};

/// A topic of bytes: what a Rust program opens as `topic::<[u8]>`. Any thread may publish, and
/// several at once.
pub struct amx_topic(pub(crate) Arc<Topic<[u8]>>);
/// Reads what is published. It serves one thread at a time: AMX_BUSY.
pub struct amx_subscriber(Mutex<Subscriber<[u8]>>);

/// Opens the topic of that name, or makes it: `cells` publications that somebody has yet to read
/// (rounded up to a power of two, at most 2^20; 0 for 64), `subscribers` at once (0 for 16).
/// AMX_WRONG_TYPE if that name is something else's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_topic_open(
    segment: Option<&amx_segment>,
    name: *const c_char,
    cells: usize,
    subscribers: u16,
    topic: Option<&mut MaybeUninit<Option<Box<amx_topic>>>>,
) -> amx_status {
    call(|| {
        let mut options = given(segment, "segment")?.handler.topic(text(name, "name")?);
        if cells > 0 {
            options = options.cells(cells);
        }
        if subscribers > 0 {
            options = options.subscribers(subscribers);
        }
        give(topic, "topic", || Ok(Some(Box::new(amx_topic(Arc::new(options.open_or_create()?))))))
    })
}

/// Closes the handle; the topic stays.
#[unsafe(no_mangle)]
pub extern "C" fn amx_topic_close(topic: Option<Box<amx_topic>>) {
    call(|| {
        drop(topic);
        Ok(())
    });
}

/// Removes the topic: its name is free, nobody publishes any more, and its memory is freed after
/// the last user.
#[unsafe(no_mangle)]
pub extern "C" fn amx_topic_remove(topic: Option<&amx_topic>) -> amx_status {
    call(|| Ok(given(topic, "topic")?.0.remove()?))
}

/// How many were ever published.
#[unsafe(no_mangle)]
pub extern "C" fn amx_topic_published(topic: Option<&amx_topic>) -> u64 {
    answer(0, || Ok(given(topic, "topic")?.0.published()))
}

fn publish(
    topic: Option<&amx_topic>,
    message: Option<&mut amx_message>,
    publish: impl for<'h> FnOnce(&Topic<[u8]>, Message<'h, [u8]>) -> Result<(), SendError<'h, [u8]>>,
) -> Outcome {
    let topic = &given(topic, "topic")?.0;
    amx_message::pass(message, topic.handler(), |message| given_back(publish(topic, message)))
}

/// Publishes a message, if there is room now: AMX_FULL. Lock-free. AMX_CLOSED, AMX_FOREIGN. What is
/// not published stays in the caller's hands.
#[unsafe(no_mangle)]
pub extern "C" fn amx_topic_try_publish(topic: Option<&amx_topic>, message: Option<&mut amx_message>) -> amx_status {
    call(|| publish(topic, message, |topic, message| topic.try_publish(message)))
}

/// Publishes a message, and waits for the slowest subscriber for so many nanoseconds: AMX_TIMEOUT.
/// Otherwise as amx_topic_try_publish().
#[unsafe(no_mangle)]
pub extern "C" fn amx_topic_publish(
    topic: Option<&amx_topic>,
    message: Option<&mut amx_message>,
    nanoseconds: u64,
) -> amx_status {
    call(|| publish(topic, message, |topic, message| topic.publish_timeout(message, timeout(nanoseconds))))
}

/// Subscribes to all that is published from now on, and to as many as `history` of the last before
/// that. AMX_NO_PLACE.
#[unsafe(no_mangle)]
pub extern "C" fn amx_subscriber_open(
    topic: Option<&amx_topic>,
    history: u64,
    subscriber: Option<&mut MaybeUninit<Option<Box<amx_subscriber>>>>,
) -> amx_status {
    call(|| {
        let topic = &given(topic, "topic")?.0;
        give(subscriber, "subscriber", || Ok(Some(Box::new(amx_subscriber(Mutex::new(topic.subscribe(history)?))))))
    })
}

/// Closes the handle, and gives its place up.
#[unsafe(no_mangle)]
pub extern "C" fn amx_subscriber_close(subscriber: Option<Box<amx_subscriber>>) {
    call(|| {
        drop(subscriber);
        Ok(())
    });
}

fn lock(subscriber: Option<&amx_subscriber>) -> Outcome<MutexGuard<'_, Subscriber<[u8]>>> {
    given(subscriber, "subscriber")?
        .0
        .try_lock()
        .map_err(|_| Failure::new(amx_status::AmxBusy, "another thread uses this subscriber; open one for each thread"))
}

/// What was published next, where it lies, to be read only; if there is nothing, it is waited for,
/// for so many nanoseconds: AMX_TIMEOUT. It stays as it is until amx_subscriber_done(), and is
/// given again by each call before that. AMX_CLOSED if nothing will come any more.
#[unsafe(no_mangle)]
pub extern "C" fn amx_subscriber_next(
    subscriber: Option<&amx_subscriber>,
    nanoseconds: u64,
    data: Option<&mut MaybeUninit<*const u8>>,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    call(|| {
        let mut subscriber = lock(subscriber)?;
        let (data, size) = (given(data, "data")?, given(size, "size")?);
        let Some(reading) = subscriber.next_timeout(timeout(nanoseconds))? else {
            return Err(Failure::new(amx_status::AmxTimeout, "nothing was published until the time was over"));
        };
        data.write(reading.as_ptr());
        size.write(reading.len());
        // The subscriber stays where it is, so that the publication does: see `amx_subscriber_done`.
        forget(reading);
        Ok(())
    })
}

/// The publication that amx_subscriber_next() gave is read: the next one may be. AMX_EMPTY if there
/// was none.
#[unsafe(no_mangle)]
pub extern "C" fn amx_subscriber_done(subscriber: Option<&amx_subscriber>) -> amx_status {
    call(|| match lock(subscriber)?.try_next()? {
        Some(reading) => {
            drop(reading);
            Ok(())
        }
        None => Err(Failure::new(amx_status::AmxEmpty, "there was no publication to be done with; call next first")),
    })
}

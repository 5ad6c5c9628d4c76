//! Channels: bounded queues of messages, any number of senders and receivers.

use crate::call::{Outcome, answer, call, give, given, text, timeout};
use crate::message::amx_message;
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::ipc::{Channel, Message, Receiver, SendError, Sender, Unsent};
use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A channel of bytes: what a Rust program opens as `channel::<[u8]>`. Any thread may use it.
pub struct amx_channel(Channel<[u8]>);
/// Sends. Any thread may use it, and several at once.
pub struct amx_sender(Sender<[u8]>);
/// Receives. Any thread may use it, and several at once: each message goes to one of them.
pub struct amx_receiver(pub(crate) Arc<Receiver<[u8]>>);

pub(crate) type Sent<'h> = Result<(), (Message<'h, [u8]>, Unsent)>;

pub(crate) fn given_back<'h>(sent: Result<(), SendError<'h, [u8]>>) -> Sent<'h> {
    sent.map_err(|SendError { message, why }| (message, why))
}

/// Opens the channel of that name, or makes it, with room for `capacity` messages (rounded up to a
/// power of two, at most 2^20). With a capacity of 0 it must be there: AMX_NAME_UNKNOWN.
/// AMX_WRONG_TYPE if that name is something else's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_channel_open(
    segment: Option<&amx_segment>,
    name: *const c_char,
    capacity: usize,
    channel: Option<&mut MaybeUninit<Option<Box<amx_channel>>>>,
) -> amx_status {
    call(|| {
        let options = given(segment, "segment")?.handler.channel(text(name, "name")?);
        give(channel, "channel", || {
            let opened = if capacity == 0 { options.open()? } else { options.capacity(capacity).open_or_create()? };
            Ok(Some(Box::new(amx_channel(opened))))
        })
    })
}

/// Closes the handle; the channel stays, with what is in it.
#[unsafe(no_mangle)]
pub extern "C" fn amx_channel_close(channel: Option<Box<amx_channel>>) {
    call(|| {
        drop(channel);
        Ok(())
    });
}

/// Messages in it: exact when nobody is inside a call.
#[unsafe(no_mangle)]
pub extern "C" fn amx_channel_length(channel: Option<&amx_channel>) -> usize {
    answer(0, || Ok(given(channel, "channel")?.0.len()))
}

/// Nobody sends any more, in any process: receivers get what is in it, then AMX_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn amx_channel_end(channel: Option<&amx_channel>) -> amx_status {
    call(|| {
        given(channel, "channel")?.0.close();
        Ok(())
    })
}

/// Takes its name away and ends it. The last one to leave frees it, with what nobody received.
#[unsafe(no_mangle)]
pub extern "C" fn amx_channel_remove(channel: Option<&amx_channel>) -> amx_status {
    call(|| Ok(given(channel, "channel")?.0.remove()?))
}

/// A sender, which counts as one until it is closed or its process ends.
#[unsafe(no_mangle)]
pub extern "C" fn amx_sender_open(
    channel: Option<&amx_channel>,
    sender: Option<&mut MaybeUninit<Option<Box<amx_sender>>>>,
) -> amx_status {
    call(|| give(sender, "sender", || Ok(Some(Box::new(amx_sender(given(channel, "channel")?.0.sender()?))))))
}

/// Closes the handle.
#[unsafe(no_mangle)]
pub extern "C" fn amx_sender_close(sender: Option<Box<amx_sender>>) {
    call(|| {
        drop(sender);
        Ok(())
    });
}

fn send(
    sender: Option<&amx_sender>,
    message: Option<&mut amx_message>,
    send: impl for<'h> FnOnce(&Sender<[u8]>, Message<'h, [u8]>) -> Result<(), SendError<'h, [u8]>>,
) -> Outcome {
    let sender = &given(sender, "sender")?.0;
    amx_message::pass(message, sender.handler(), |message| given_back(send(sender, message)))
}

/// Sends a message, if there is room now: AMX_FULL. Lock-free. AMX_CLOSED, AMX_FOREIGN. What is not
/// sent stays in the caller's hands.
#[unsafe(no_mangle)]
pub extern "C" fn amx_sender_try_send(sender: Option<&amx_sender>, message: Option<&mut amx_message>) -> amx_status {
    call(|| send(sender, message, |sender, message| sender.try_send(message)))
}

/// Sends a message, and waits for room for so many nanoseconds: AMX_TIMEOUT. AMX_DISCONNECTED if it
/// is full and no receiver is there any more; AMX_CLOSED, AMX_FOREIGN. What is not sent stays in
/// the caller's hands.
#[unsafe(no_mangle)]
pub extern "C" fn amx_sender_send(
    sender: Option<&amx_sender>,
    message: Option<&mut amx_message>,
    nanoseconds: u64,
) -> amx_status {
    call(|| send(sender, message, |sender, message| sender.send_timeout(message, timeout(nanoseconds))))
}

/// A receiver, which counts as one until it is closed or its process ends.
#[unsafe(no_mangle)]
pub extern "C" fn amx_receiver_open(
    channel: Option<&amx_channel>,
    receiver: Option<&mut MaybeUninit<Option<Box<amx_receiver>>>>,
) -> amx_status {
    call(|| {
        let open = || Ok(Some(Box::new(amx_receiver(Arc::new(given(channel, "channel")?.0.receiver()?)))));
        give(receiver, "receiver", open)
    })
}

/// Closes the handle. What it received stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_receiver_close(receiver: Option<Box<amx_receiver>>) {
    call(|| {
        drop(receiver);
        Ok(())
    });
}

/// Receives the oldest message, if there is one now: AMX_EMPTY. Lock-free. AMX_DISCONNECTED if
/// there is no sender any more either; AMX_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn amx_receiver_try_recv(
    receiver: Option<&amx_receiver>,
    message: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let receive = || Ok::<_, Failure>(amx_message::of(given(receiver, "receiver")?.0.try_recv()?));
        give(message, "message", receive)
    })
}

/// Receives the oldest message, and waits for one for so many nanoseconds: AMX_TIMEOUT.
/// AMX_DISCONNECTED, AMX_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn amx_receiver_recv(
    receiver: Option<&amx_receiver>,
    message: Option<&mut MaybeUninit<amx_message>>,
    nanoseconds: u64,
) -> amx_status {
    call(|| {
        let receiver = given(receiver, "receiver")?;
        give(message, "message", || Ok(amx_message::of(receiver.0.recv_timeout(timeout(nanoseconds))?)))
    })
}

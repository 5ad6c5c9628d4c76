//! Streams: calls of a service that have several responses.

use crate::call::{answer, call, give, given, timeout};
use crate::message::amx_message;
use crate::service::{amx_client, amx_request, given_request};
use crate::status::{Failure, amx_status};
use atomic_matrix::ipc::{CallError, Client, RespondError, Responses};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

/// The responses to one call, as they come. Until it is closed its client makes no other call: AMX_BUSY.
pub struct amx_responses {
    // Dropped before the client that it borrows.
    responses: Mutex<Responses<'static, [u8], [u8]>>,
    client: Arc<Client<[u8], [u8]>>,
}

/// Sends the request, whose server may give several responses, and waits for room for it for so many nanoseconds:
/// AMX_TIMEOUT. As amx_client_call(), but the request stays in the caller's hands whenever it was not sent.
#[unsafe(no_mangle)]
pub extern "C" fn amx_client_stream(
    client: Option<&amx_client>,
    request: Option<&mut amx_message>,
    nanoseconds: u64,
    responses: Option<&mut MaybeUninit<Option<Box<amx_responses>>>>,
) -> amx_status {
    call(|| {
        let client = &given(client, "client")?.0;
        let handle = given(request, "request")?;
        give(responses, "responses", || {
            let stream = client.stream(handle.take(client.handler())?, timeout(nanoseconds));
            let stream = stream.map_err(|CallError { request, why }| {
                if let Some(request) = request {
                    *handle = amx_message::of(request);
                }
                Failure::from(why)
            })?;
            // SAFETY: the responses borrow the client, which stays where it is as long as the handle beside them, and
            // that is dropped after them.
            let stream = unsafe { std::mem::transmute::<Responses<'_, [u8], [u8]>, Responses<'static, _, _>>(stream) };
            Ok(Some(Box::new(amx_responses { responses: Mutex::new(stream), client: client.clone() })))
        })
    })
}

/// The next response, waited for so many nanoseconds: AMX_TIMEOUT, and then it may be tried again.
/// AMX_CLOSED behind the last one; AMX_DISCONNECTED if none comes any more because the server died, or dropped the
/// request. What was received stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_responses_next(
    responses: Option<&amx_responses>,
    nanoseconds: u64,
    response: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let stream = given(responses, "responses")?;
        give(response, "response", || {
            let mut responses = stream.responses.lock().unwrap_or_else(PoisonError::into_inner);
            match responses.next_timeout(timeout(nanoseconds))? {
                Some(response) => Ok(amx_message::of(response)),
                None => Err(Failure::new(amx_status::AmxClosed, "the stream has ended: there are no more responses")),
            }
        })
    })
}

/// Closes the handle, whose client may make another call then. A server that goes on is told that nobody waits.
#[unsafe(no_mangle)]
pub extern "C" fn amx_responses_close(responses: Option<Box<amx_responses>>) {
    call(|| {
        if let Some(stream) = responses {
            let amx_responses { responses, client } = *stream;
            drop(responses);
            drop(client);
        }
        Ok(())
    });
}

/// Sends a response behind which others will come, and waits for room for so many nanoseconds: AMX_FULL if there was
/// none. AMX_DISCONNECTED if nobody waits for it any more; AMX_FOREIGN, AMX_OUT_OF_MEMORY; AMX_BAD_ARGUMENT if the
/// request was answered before. Not sent, the response stays in the caller's hands, and the request is open still.
#[unsafe(no_mangle)]
pub extern "C" fn amx_request_send(
    request: Option<&amx_request>,
    response: Option<&mut amx_message>,
    nanoseconds: u64,
) -> amx_status {
    call(|| {
        let handle = given(request, "request")?;
        amx_message::pass(response, handle.handler(), |message| {
            handle.with(|request| match given_request(request.as_ref()) {
                Ok(request) => request
                    .send(message, timeout(nanoseconds))
                    .map_err(|RespondError { message, why }| (message, Failure::from(why))),
                Err(failure) => Err((message, failure)),
            })
        })
    })
}

/// Ends a stream without another response: it is over in any case. As amx_request_respond().
#[unsafe(no_mangle)]
pub extern "C" fn amx_request_finish(request: Option<&amx_request>) -> amx_status {
    call(|| {
        let request = given(request, "request")?.with(|request| request.take());
        Ok(given_request(request)?.finish()?)
    })
}

/// Whether the caller is alive, as far as anybody has found out, and waits for this request's responses.
#[unsafe(no_mangle)]
pub extern "C" fn amx_request_is_awaited(request: Option<&amx_request>) -> bool {
    answer(false, || given(request, "request")?.with(|request| Ok(given_request(request.as_ref())?.is_awaited())))
}

//! Services: requests, and a response to each.

use crate::call::{Outcome, call, give, given, text, timeout};
use crate::message::amx_message;
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::Handler;
use atomic_matrix::ipc::{CallError, Client, Request, RespondError, Server, Service};
use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

/// A service with requests and responses of bytes: what a Rust program opens as
/// `service::<[u8], [u8]>`. Any thread may use it.
pub struct amx_service(Service<[u8], [u8]>);
/// Calls, one call at a time: another thread opens a client of its own, or is told AMX_BUSY.
pub struct amx_client(pub(crate) Arc<Client<[u8], [u8]>>);
/// Receives requests. Any thread may use it, and several at once: each request goes to one of them.
pub struct amx_server(Arc<Server<[u8], [u8]>>);

/// A request that this server works at. Any thread may use it; it is answered once.
pub struct amx_request {
    // Dropped before the server that it borrows.
    request: Mutex<Option<Request<'static, [u8], [u8]>>>,
    server: Arc<Server<[u8], [u8]>>,
}

impl amx_request {
    /// Does something with the request, which is there no more afterwards if it was taken.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Option<Request<'static, [u8], [u8]>>) -> T) -> T {
        act(&mut self.request.lock().unwrap_or_else(PoisonError::into_inner))
    }
    pub(crate) fn handler(&self) -> &Handler {
        self.server.handler()
    }
}

/// Opens the service of that name, or makes it, with room for `capacity` requests that wait (rounded up
/// to a power of two, at most 2^20; 0 for 64). AMX_WRONG_TYPE if that name is something else's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_service_open(
    segment: Option<&amx_segment>,
    name: *const c_char,
    capacity: usize,
    service: Option<&mut MaybeUninit<Option<Box<amx_service>>>>,
) -> amx_status {
    call(|| {
        let mut options = given(segment, "segment")?.handler.service(text(name, "name")?);
        if capacity > 0 {
            options = options.capacity(capacity);
        }
        give(service, "service", || Ok(Some(Box::new(amx_service(options.open_or_create()?)))))
    })
}

/// Closes the handle; the service stays.
#[unsafe(no_mangle)]
pub extern "C" fn amx_service_close(service: Option<Box<amx_service>>) {
    call(|| {
        drop(service);
        Ok(())
    });
}

/// Removes the service: its name is free, nobody calls any more, and its memory is freed after the last user.
#[unsafe(no_mangle)]
pub extern "C" fn amx_service_remove(service: Option<&amx_service>) -> amx_status {
    call(|| Ok(given(service, "service")?.0.remove()?))
}

/// A client, which counts as one until it is closed or its process ends.
#[unsafe(no_mangle)]
pub extern "C" fn amx_client_open(
    service: Option<&amx_service>,
    client: Option<&mut MaybeUninit<Option<Box<amx_client>>>>,
) -> amx_status {
    call(|| give(client, "client", || Ok(Some(Box::new(amx_client(Arc::new(given(service, "service")?.0.client()?)))))))
}

/// Closes the handle. What it received stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_client_close(client: Option<Box<amx_client>>) {
    call(|| {
        drop(client);
        Ok(())
    });
}

/// Allocates a request of `size` bytes that is sent without a copy.
#[unsafe(no_mangle)]
pub extern "C" fn amx_client_allocate(
    client: Option<&amx_client>,
    size: usize,
    request: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let client = &given(client, "client")?.0;
        give(request, "request", || Ok(amx_message::of(client.request_slice(size)?)))
    })
}

/// Sends the request, and waits for the response for so many nanoseconds: AMX_TIMEOUT.
/// AMX_DISCONNECTED if no server is there any more, or the one that had the request died or dropped it;
/// AMX_CLOSED, AMX_FOREIGN, AMX_BUSY. What no server can have stays in the caller's hands; a request
/// that amx_client_allocate() did not make may be copied.
#[unsafe(no_mangle)]
pub extern "C" fn amx_client_call(
    client: Option<&amx_client>,
    request: Option<&mut amx_message>,
    nanoseconds: u64,
    response: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let client = &given(client, "client")?.0;
        let handle = given(request, "request")?;
        give(response, "response", || {
            let called = client.call(handle.take(client.handler())?, timeout(nanoseconds));
            called.map(amx_message::of).map_err(|CallError { request, why }| {
                if let Some(request) = request {
                    *handle = amx_message::of(request);
                }
                why.into()
            })
        })
    })
}

/// A server, which counts as one until it is closed or its process ends.
#[unsafe(no_mangle)]
pub extern "C" fn amx_server_open(
    service: Option<&amx_service>,
    server: Option<&mut MaybeUninit<Option<Box<amx_server>>>>,
) -> amx_status {
    call(|| give(server, "server", || Ok(Some(Box::new(amx_server(Arc::new(given(service, "service")?.0.server()?)))))))
}

/// Closes the handle. The requests that it gave are answered still.
#[unsafe(no_mangle)]
pub extern "C" fn amx_server_close(server: Option<Box<amx_server>>) {
    call(|| {
        drop(server);
        Ok(())
    });
}

/// The oldest request that somebody waits for, and waits for one for so many nanoseconds: AMX_TIMEOUT.
/// AMX_DISCONNECTED once there is no client any more; AMX_CLOSED. `data` and `size` say where its bytes lie,
/// which are this request's alone until it is answered or closed.
#[unsafe(no_mangle)]
pub extern "C" fn amx_server_next(
    server: Option<&amx_server>,
    nanoseconds: u64,
    request: Option<&mut MaybeUninit<Option<Box<amx_request>>>>,
    data: Option<&mut MaybeUninit<*mut u8>>,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    call(|| {
        let server = &given(server, "server")?.0;
        let (data, size) = (given(data, "data")?, given(size, "size")?);
        give(request, "request", || {
            let mut next = server.next_timeout(timeout(nanoseconds))?;
            data.write(next.as_mut_ptr());
            size.write(next.len());
            // SAFETY: the request borrows the server, which stays where it is as long as the handle beside it,
            // and that is dropped after it.
            let next = unsafe { std::mem::transmute::<Request<'_, [u8], [u8]>, Request<'static, [u8], [u8]>>(next) };
            Ok(Some(Box::new(amx_request { request: Mutex::new(Some(next)), server: server.clone() })))
        })
    })
}

/// Allocates a response of `size` bytes that is sent without a copy.
#[unsafe(no_mangle)]
pub extern "C" fn amx_request_allocate(
    request: Option<&amx_request>,
    size: usize,
    response: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let request = given(request, "request")?;
        give(response, "response", || request.with(|request| allocated(request, size)))
    })
}

fn allocated(request: &Option<Request<'static, [u8], [u8]>>, size: usize) -> Outcome<amx_message> {
    Ok(amx_message::of(given_request(request.as_ref())?.response_slice(size)?))
}

pub(crate) fn given_request<T>(request: Option<T>) -> Outcome<T> {
    request.ok_or_else(|| Failure::bad("the request was answered before; close it, and take the next"))
}

/// Answers the request. It is over in any case: where the response is not sent, it stays in the caller's hands,
/// and whoever waits is told that nobody answers. AMX_DISCONNECTED if nobody waits for it any more;
/// AMX_FOREIGN, AMX_OUT_OF_MEMORY; AMX_BAD_ARGUMENT if it was answered before.
#[unsafe(no_mangle)]
pub extern "C" fn amx_request_respond(request: Option<&amx_request>, response: Option<&mut amx_message>) -> amx_status {
    call(|| {
        let handle = given(request, "request")?;
        let response = given(response, "response")?;
        let message = response.take(handle.handler())?;
        let respond = |request: Option<Request<'static, [u8], [u8]>>| match given_request(request) {
            Ok(request) => request.respond(message).map_err(|RespondError { message, why }| (message, why.into())),
            Err(failure) => Err((message, failure)),
        };
        handle.with(|request| respond(request.take())).map_err(|(message, failure)| {
            *response = amx_message::of(message);
            failure
        })
    })
}

/// Closes the request. If it was not answered, whoever waits is told so.
#[unsafe(no_mangle)]
pub extern "C" fn amx_request_close(request: Option<Box<amx_request>>) {
    call(|| {
        drop(request);
        Ok(())
    });
}

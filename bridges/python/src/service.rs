//! Services: requests, and the responses to each.

use crate::aio::{self, Bell, Source};
use crate::error::{Closed, Released, Timeout as TimedOut, failed, forked, raised, unanswered, unreceived};
use crate::held::{Held, bytes_like};
use crate::message::{Bytes, Message, Refusal, give};
use crate::open::Open;
use crate::process::Process;
use crate::wait::Timeout;
use atomic_matrix::ipc::{self, CallError, Failed, RespondError, Unreceived};
use atomic_matrix::{Error, Handler};
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use self_cell::self_cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Caller = ipc::Client<[u8], [u8]>;
type Answers<'c> = ipc::Responses<'c, [u8], [u8]>;
type Serving = ipc::Server<[u8], [u8]>;
type Asked<'s> = ipc::Request<'s, [u8], [u8]>;

/// How long a server that is iterated waits for clients before it looks again.
const NOBODY: Duration = Duration::from_millis(50);

/// Requests and responses of bytes between processes.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Service {
    service: Arc<ipc::Service<[u8], [u8]>>,
}

impl Service {
    pub fn open(handler: &Handler, name: &str, capacity: usize) -> PyResult<Self> {
        let service = handler.service(name).capacity(capacity).open_or_create();
        Ok(Self { service: Arc::new(service.map_err(raised)?) })
    }
}

#[pymethods]
impl Service {
    fn client(&self) -> PyResult<Client> {
        let first = self.service.client().map_err(raised)?;
        let callers = Callers { service: self.service.clone(), idle: Mutex::new(vec![Arc::new(first)]) };
        Ok(Client { callers: Open::of(callers) })
    }
    fn server(&self) -> PyResult<Server> {
        Ok(Server { server: Open::of(self.service.server().map_err(raised)?) })
    }
    fn remove(&self) -> PyResult<()> {
        self.service.remove().map_err(raised)
    }
}

/// Each makes a call at a time: there are as many as calls are made at once.
struct Callers {
    service: Arc<ipc::Service<[u8], [u8]>>,
    idle: Mutex<Vec<Arc<Caller>>>,
}

impl Callers {
    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Caller>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn one(&self) -> Result<Arc<Caller>, Error> {
        let idle = self.idle().pop();
        idle.map_or_else(|| self.service.client().map(Arc::new), Ok)
    }
}

/// Calls a service.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Client {
    callers: Open<Callers>,
}

#[pymethods]
impl Client {
    #[pyo3(signature = (data, timeout=None))]
    fn call(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Message> {
        let timeout = Timeout::of(timeout)?;
        let responses = self.ask(py, data, &timeout)?;
        responses.wait(py, &timeout)?.ok_or_else(|| failed(Failed::Unanswered { died: false }))
    }
    #[pyo3(signature = (data, timeout=None))]
    fn stream(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Responses> {
        self.ask(py, data, &Timeout::of(timeout)?)
    }
    fn call_async(slf: Bound<'_, Self>, data: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "call", (slf, data))
    }
    fn stream_async(slf: Bound<'_, Self>, data: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "ask", (slf, data))
    }
    fn close(&self) {
        self.callers.close();
    }
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
}

impl Client {
    /// Sends a request, once there is room.
    fn ask(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: &Timeout) -> PyResult<Responses> {
        let callers = self.callers.get()?;
        let caller = callers.one().map_err(raised)?;
        let stream = Mutex::new(None);
        let sent = give(py, caller.handler(), data, timeout, &|message, wait| {
            let begun = Stream::try_new(caller.clone(), |caller| caller.stream(message, wait.unwrap_or_default()));
            let begun = begun.map_err(|CallError { request, why }| {
                let request = request.expect("a stream that does not begin gives its request back");
                Refusal { message: request, why: (!is_no_room(why)).then(|| failed(why)) }
            })?;
            *stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
            Ok(())
        });
        let stream = stream.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = sent {
            callers.idle().push(caller);
            return Err(why);
        }
        Ok(Responses { stream: Mutex::new(stream), caller, callers, process: Process::this() })
    }
}

fn is_no_room(why: Failed) -> bool {
    matches!(why, Failed::Timeout | Failed::Unsent { why: ipc::Unsent::Full | ipc::Unsent::Timeout })
}

self_cell!(
    struct Stream {
        owner: Arc<Caller>,
        #[not_covariant]
        dependent: Answers,
    }
);

/// The responses to one call, as they come.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Responses {
    stream: Mutex<Option<Stream>>,
    caller: Arc<Caller>,
    callers: Arc<Callers>,
    process: Process,
}

/// What there is of a stream.
enum Next {
    Response(Message),
    End,
}

impl Responses {
    fn stream(&self) -> PyResult<MutexGuard<'_, Option<Stream>>> {
        if !self.process.is_this() {
            return Err(forked());
        }
        Ok(self.stream.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next one, if it comes in this time.
    fn next(&self, wait: Duration) -> PyResult<Option<Next>> {
        let mut stream = self.stream()?;
        let stream = stream.as_mut().ok_or_else(|| Closed::new_err("these responses were closed; call again"))?;
        match stream.with_dependent_mut(|_, answers| answers.next_timeout(wait)) {
            Ok(Some(response)) => Ok(Some(Next::Response(Message::of(response, false)))),
            Ok(None) => Ok(Some(Next::End)),
            Err(Error::CallFailed { why: Failed::Timeout }) => Ok(None),
            Err(why) => Err(raised(why)),
        }
    }

    fn wait(&self, py: Python<'_>, timeout: &Timeout) -> PyResult<Option<Message>> {
        match timeout.patiently(py, |slice| self.next(slice).transpose())? {
            Some(Ok(Next::Response(message))) => Ok(Some(message)),
            Some(Ok(Next::End)) => Ok(None),
            Some(Err(why)) => Err(why),
            None => Err(failed(Failed::Timeout)),
        }
    }

    /// Ends the call; its caller may make another. A forked child has no part in it.
    fn end(&self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (self.process.is_this(), stream) {
            (true, Some(stream)) => {
                drop(stream);
                self.callers.idle().push(self.caller.clone());
            }
            (false, stream) => std::mem::forget(stream),
            (true, None) => {}
        }
    }
}

#[pymethods]
impl Responses {
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Message>> {
        self.wait(py, &Timeout::of(timeout)?)
    }
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Message> {
        self.wait(py, &Timeout::of(None)?)?.ok_or_else(|| PyStopIteration::new_err(()))
    }
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __anext__(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "get", (slf,))
    }
    fn _try(&self) -> PyResult<Option<Message>> {
        match self.next(Duration::ZERO)? {
            Some(Next::Response(message)) => Ok(Some(message)),
            Some(Next::End) => Err(PyStopAsyncIteration::new_err(())),
            None => Ok(None),
        }
    }
    fn _bell(&self) -> PyResult<Bell> {
        Bell::of(Source::Client(self.caller.clone()))
    }
    fn close(&self) {
        self.end();
    }
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.end();
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.end();
    }
}

/// Receives requests.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Server {
    server: Open<Serving>,
}

impl Server {
    /// A request, if one comes in this time.
    fn take(&self, wait: Duration) -> Result<Option<Request>, Refused> {
        let server = self.server.get().map_err(Refused::Raised)?;
        let taken = Taking::try_new(server, |server| match wait.is_zero() {
            true => server.try_next(),
            false => server.next_timeout(wait),
        });
        match taken {
            Ok(taken) => Ok(Some(Request::of(taken))),
            Err(Unreceived::Empty | Unreceived::Timeout) => Ok(None),
            Err(why) => Err(Refused::Nothing(why)),
        }
    }
}

/// Why there is no request.
enum Refused {
    Nothing(Unreceived),
    Raised(PyErr),
}

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Nothing(why) => unreceived(why),
            Refused::Raised(why) => why,
        }
    }
}

#[pymethods]
impl Server {
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Request> {
        match Timeout::of(timeout)?.patiently(py, |slice| self.take(slice).transpose())? {
            Some(taken) => Ok(taken?),
            None => Err(TimedOut::new_err("no request came until the time was over; wait longer")),
        }
    }
    fn try_next(&self) -> PyResult<Option<Request>> {
        Ok(self.take(Duration::ZERO)?)
    }
    fn next_async(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "get", (slf,))
    }
    fn _try(&self) -> PyResult<Option<Request>> {
        self.try_next()
    }
    fn _bell(&self) -> PyResult<Bell> {
        Bell::of(Source::Server(self.server.get()?))
    }
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    /// Where there is no client, one may come.
    fn __next__(&self, py: Python<'_>) -> PyResult<Request> {
        let next = Timeout::of(None)?.patiently(py, |slice| match self.take(slice) {
            Err(Refused::Nothing(Unreceived::Disconnected { .. })) => {
                std::thread::sleep(NOBODY);
                None
            }
            taken => taken.transpose(),
        })?;
        match next {
            Some(Ok(request)) => Ok(request),
            Some(Err(Refused::Nothing(Unreceived::Closed))) | None => Err(PyStopIteration::new_err(())),
            Some(Err(why)) => Err(why.into()),
        }
    }
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __anext__(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "serving", (slf,))
    }
    fn close(&self) {
        self.server.close();
    }
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
}

self_cell!(
    struct Taking {
        owner: Arc<Serving>,
        #[not_covariant]
        dependent: Asked,
    }
);

/// A request, where it lies, and the one response or several to it.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Request {
    held: Held<Taken>,
}

struct Taken {
    request: Taking,
    answered: bool,
}

bytes_like!(Request
    fn writable(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().held.make_writable()?;
        Ok(slf)
    }
    #[getter]
    fn awaited(&self) -> PyResult<bool> {
        self.held.with(|taken| Ok(!taken.answered && taken.request.with_dependent(|_, request| request.is_awaited())))
    }
    #[pyo3(signature = (data, timeout=None))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        give(py, &self.handler()?, data, &Timeout::of(timeout)?, &|message, wait| {
            self.put(message, |request, message| request.send(message, wait.unwrap_or_default()))
        })
    }
    fn respond(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        // The library waits for room a second itself.
        give(py, &self.handler()?, data, &Timeout::of(Some(0.0))?, &|message, _| {
            self.put(message, |request, message| request.respond_and_keep(message))?;
            let _ = self.held.with(|taken| {
                taken.answered = true;
                Ok(())
            });
            Ok(())
        })
    }
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.open(|taken| {
            taken.request.with_dependent_mut(|_, request| request.finish_and_keep()).map_err(raised)?;
            taken.answered = true;
            Ok(())
        }))
    }
);

impl Request {
    fn of(mut request: Taking) -> Self {
        let (address, bytes) = request.with_dependent_mut(|_, request| (request.as_mut_ptr().addr(), request.len()));
        let taken = Taken { request, answered: false };
        // SAFETY: the request's bytes, which are there until it is dropped: it is their only handle.
        Self { held: unsafe { Held::new(address, bytes, taken, false) } }
    }

    fn handler(&self) -> PyResult<Handler> {
        self.held.with(|taken| Ok(taken.request.borrow_owner().handler().clone()))
    }

    /// Does something with a request that was not answered yet.
    fn open<T>(&self, act: impl FnOnce(&mut Taken) -> PyResult<T>) -> PyResult<T> {
        self.held.with(|taken| match taken.answered {
            true => Err(Released::new_err("the request was answered before; answer each once, and take the next")),
            false => act(taken),
        })
    }

    fn put<'h>(
        &self,
        message: Bytes<'h>,
        act: impl FnOnce(&mut Asked<'_>, Bytes<'h>) -> Result<(), RespondError<'h, [u8]>>,
    ) -> Result<(), Refusal<'h>> {
        let mut message = Some(message);
        let put = self.open(|taken| {
            let message = message.take().expect("it is given once");
            Ok(taken.request.with_dependent_mut(|_, request| act(request, message)))
        });
        match put {
            Ok(Ok(())) => Ok(()),
            Ok(Err(RespondError { message, why })) => {
                let full = why == ipc::Unanswered::Full;
                Err(Refusal { message, why: (!full).then(|| unanswered(why)) })
            }
            Err(why) => Err(Refusal { message: message.expect("nobody took it"), why: Some(why) }),
        }
    }
}

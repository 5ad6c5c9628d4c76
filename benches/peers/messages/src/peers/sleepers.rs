//! What wakes and carries nothing: a bare futex, and iceoryx2's event.

use super::iceoryx::{Service, named, node};
use super::{BOUND, In, Out, Peer};
use crate::Outcome;
use crate::run::Task;
use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::service::port_factory::event::PortFactory;
use memmap2::{MmapOptions, MmapRaw};
use rustix::thread::futex::{self, Timespec};
use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Two words in a file, a line apart.
pub(crate) struct Futexes(Arc<MmapRaw>);
/// One of them, and what it was last.
pub(crate) struct Futex(Arc<MmapRaw>, usize, u32);

impl Futex {
    fn word(&self) -> &AtomicU32 {
        // SAFETY: within the mapping of a page, which lives as long as this; all that is there is atomic.
        unsafe { &*self.0.as_ptr().add(256 * self.1).cast::<AtomicU32>() }
    }
}

impl Peer for Futexes {
    type Out = Futex;
    type In = Futex;
    fn make(task: &Task) -> Outcome<Self> {
        let path = format!("/dev/shm/{}-futex", task.name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(4096)?;
        Ok(Self(Arc::new(MmapOptions::new().len(4096).map_raw(&file)?)))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Self::make(task)
    }
    fn output(&self, way: usize) -> Outcome<Futex> {
        Ok(Futex(self.0.clone(), way, 0))
    }
    fn input(&self, way: usize) -> Outcome<Futex> {
        self.output(way)
    }
}

impl Out for Futex {
    #[inline(always)]
    fn send(&mut self, _: usize, _: u64) -> Outcome<bool> {
        self.word().fetch_add(1, Ordering::Release);
        futex::wake(self.word(), futex::Flags::empty(), 1)?;
        Ok(true)
    }
}

impl In for Futex {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        let now = self.word().load(Ordering::Acquire);
        let came = now != self.2;
        self.2 = now;
        Ok(came.then_some(now.into()))
    }
    #[inline(always)]
    fn wait(&mut self, size: usize) -> Outcome<Option<u64>> {
        let nap = Timespec { tv_sec: 0, tv_nsec: BOUND.subsec_nanos().into() };
        let _ = futex::wait(self.word(), futex::Flags::empty(), self.2, Some(&nap)); // Looked at again.
        self.receive(size)
    }
}

pub(crate) struct Events(Node<Service>);
/// The notifier, and what made it.
pub(crate) struct Notifies(Notifier<Service>, #[expect(dead_code, reason = "it lives as long")] PortFactory<Service>);
/// The listener, and what made it.
pub(crate) struct Listens(Listener<Service>, #[expect(dead_code, reason = "it lives as long")] PortFactory<Service>);

impl Events {
    fn service(&self, way: usize) -> Outcome<PortFactory<Service>> {
        let name = named(&format!("event {way}"))?;
        let made = self.0.service_builder(&name).event().open_or_create();
        Ok(made.map_err(|error| format!("no service: {error:?}"))?)
    }
}

impl Peer for Events {
    type Out = Notifies;
    type In = Listens;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self(node(task)?))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Self::make(task)
    }
    fn output(&self, way: usize) -> Outcome<Notifies> {
        let service = self.service(way)?;
        let made = service.notifier_builder().create().map_err(|error| format!("no notifier: {error:?}"))?;
        Ok(Notifies(made, service))
    }
    fn input(&self, way: usize) -> Outcome<Listens> {
        let service = self.service(way)?;
        let made = service.listener_builder().create().map_err(|error| format!("no listener: {error:?}"))?;
        Ok(Listens(made, service))
    }
}

impl Out for Notifies {
    #[inline(always)]
    fn send(&mut self, _: usize, _: u64) -> Outcome<bool> {
        self.0.notify().map_err(|error| format!("not notified: {error:?}"))?;
        Ok(true)
    }
}

impl In for Listens {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        let came = self.0.try_wait(|_| {}).map_err(|error| format!("not heard: {error:?}"))?;
        Ok((came > 0).then_some(came))
    }
    #[inline(always)]
    fn wait(&mut self, _: usize) -> Outcome<Option<u64>> {
        let came = self.0.timed_wait(|_| {}, BOUND).map_err(|error| format!("not heard: {error:?}"))?;
        Ok((came > 0).then_some(came))
    }
}

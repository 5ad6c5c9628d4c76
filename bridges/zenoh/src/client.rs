//! Whoever receives: maps providers' segments.

use crate::provider::PROTOCOL;
use crate::{abandoned, look};
use atomic_matrix::{Handler, Options};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use zenoh::Result;
use zenoh::shm::{ChunkID, ProtocolID, SegmentID, ShmClient, ShmClientStorage, ShmSegment, WithProtocolID};

/// Zenoh's own shared memory, and this one: for `zenoh::open(config).with_shm_clients(clients())`.
pub fn clients() -> Arc<ShmClientStorage> {
    let builder = ShmClientStorage::builder().with_default_client_set();
    Arc::new(builder.with_clients(&[Arc::new(Client::default())]).build())
}

/// Maps the segments of providers that publications come from.
#[derive(Debug, Default)]
pub struct Client {
    options: Options,
    mapped: Mutex<Vec<Weak<Mapped>>>,
}

impl Client {
    /// A client that attaches with these options: [`Options::trust_owner`] for another user's providers.
    pub fn with(options: Options) -> Self {
        Self { options, mapped: Mutex::default() }
    }
}

impl WithProtocolID for Client {
    fn id(&self) -> ProtocolID {
        PROTOCOL
    }
}

impl ShmClient for Client {
    fn attach(&self, segment: SegmentID) -> Result<Arc<dyn ShmSegment>> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.retain(|one| one.upgrade().is_some_and(|one| !one.unmap_abandoned()));
        let new = Arc::new(Mapped { options: look(&self.options, segment), handler: RwLock::default() });
        new.handler()?;
        mapped.push(Arc::downgrade(&new));
        Ok(new)
    }
}

/// A provider's segment. Zenoh keeps it for ever, and a clone for each buffer.
#[derive(Debug)]
struct Mapped {
    options: Options,
    /// None once its provider was gone and nobody had a buffer of it.
    handler: RwLock<Option<Arc<Handler>>>,
}

impl Mapped {
    /// The mapping, which lasts as long as somebody has a clone of this segment.
    fn handler(&self) -> Result<Arc<Handler>> {
        if let Some(handler) = &*self.handler.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(handler.clone());
        }
        let mut handler = self.handler.write().unwrap_or_else(PoisonError::into_inner);
        if handler.is_none() {
            // Takes no slot: the provider's process is the only participant.
            *handler = Some(Arc::new(self.options.inspect()?));
        }
        Ok(handler.as_ref().expect("it was just put there").clone())
    }

    /// Unmaps it, if its provider is gone and nobody has a buffer of it.
    fn unmap_abandoned(self: Arc<Self>) -> bool {
        let mut handler = self.handler.write().unwrap_or_else(PoisonError::into_inner);
        // Zenoh's storage has one, and this call. Whoever gets another one now maps behind this lock.
        if Arc::strong_count(&self) > 2 {
            return false;
        }
        let gone = handler.as_ref().is_none_or(|handler| abandoned::has_no_provider(handler));
        if gone {
            *handler = None;
        }
        gone
    }
}

impl ShmSegment for Mapped {
    fn map(&self, chunk: ChunkID) -> Result<*mut u8> {
        // Refused if no live block begins there: zenoh refuses the buffer.
        Ok(self.handler()?.resolve_at(chunk)?)
    }
}

//! iceoryx2's publish and subscribe: the publisher borrows, fills and sends, and waits for a subscriber that is behind.

use super::{In, Out, Peer, fill, read};
use crate::Outcome;
use crate::memory::{BEHIND, LARGEST, SUBSCRIBERS, sizes};
use crate::run::Task;
use crate::setting::Kind;
use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    AllocationStrategy, BackpressureStrategy, Config, FileName, NodeBuilder, Path, SemanticString, ServiceName,
    ipc_threadsafe,
};
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

pub(super) type Service = ipc_threadsafe::Service;

/// A node of the run's own.
pub(super) fn node(task: &Task) -> Outcome<Node<Service>> {
    node_of(&task.name)
}

fn node_of(name: &str) -> Outcome<Node<Service>> {
    let mut config = Config::default();
    let prefix = format!("{name}-");
    config.global.prefix = FileName::new(prefix.as_bytes()).map_err(|error| format!("{error:?}"))?;
    let root = format!("/tmp/{name}");
    config.global.set_root_path(&Path::new(root.as_bytes()).map_err(|error| format!("{error:?}"))?);
    Ok(NodeBuilder::new().config(&config).create::<Service>().map_err(|error| format!("no node: {error:?}"))?)
}

pub(super) fn named(name: &str) -> Outcome<ServiceName> {
    Ok(ServiceName::new(name).map_err(|error| format!("{error:?}"))?)
}

/// A service's receiving end.
pub(crate) struct End(Subscriber<Service, [u64], ()>);

pub(crate) struct Services {
    node: Node<Service>,
    task: Task,
}

impl Services {
    fn service(&self, way: usize) -> Outcome<PortFactory<Service, [u64], ()>> {
        let setting = &self.task.setting;
        Ok(self
            .node
            .service_builder(&named(&format!("way {way}"))?)
            .publish_subscribe::<[u64]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(setting.cells)
            .max_subscribers(setting.pairs)
            .max_nodes(if setting.kind == Kind::Kill { 256 } else { setting.workers() })
            .max_publishers(if setting.kind == Kind::Kill { 256 } else { setting.senders })
            .open_or_create()
            .map_err(|error| format!("no service: {error:?}"))?)
    }
}

impl Peer for Services {
    type Out = Publisher<Service, [u64], ()>;
    type In = End;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self { node: node(task)?, task: task.clone() })
    }
    fn open(task: &Task) -> Outcome<Self> {
        Self::make(task)
    }
    fn output(&self, way: usize) -> Outcome<Self::Out> {
        let service = self.service(way)?;
        let builder = service
            .publisher_builder()
            .initial_max_slice_len(self.task.setting.size / 8)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
        Ok(builder.create().map_err(|error| format!("no publisher: {error:?}"))?)
    }
    fn input(&self, way: usize) -> Outcome<Self::In> {
        let made = self.service(way)?.subscriber_builder().create();
        Ok(End(made.map_err(|error| format!("no subscriber: {error:?}"))?))
    }
}

impl Out for Publisher<Service, [u64], ()> {
    #[inline(always)]
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool> {
        let Ok(mut loan) = self.loan_slice_uninit(size / 8) else { return Ok(false) };
        // SAFETY: a loan of so many words, and this worker's alone; any bytes are words.
        let words = unsafe { &mut *(loan.payload_mut() as *mut [_] as *mut [u64]) };
        fill(words, value);
        // SAFETY: any bytes are words.
        unsafe { loan.assume_init() }.send().map_err(|error| format!("not sent: {error:?}"))?;
        Ok(true)
    }
}

impl In for End {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        let received = self.0.receive().map_err(|error| format!("nothing received: {error:?}"))?;
        Ok(received.map(|sample| read(&sample)))
    }
}

/// Which payloads a publisher reserves memory for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Largest {
    /// The largest that there will be.
    AtOnce,
    /// Those of 4 KiB; larger ones when one is asked for.
    WhenNeeded,
}

/// Publishes messages of many sizes, with subscribers as far behind as they may be: what `measure` says then.
pub(crate) fn fill_up(name: &str, largest: Largest, measure: &dyn Fn() -> Outcome<f64>) -> Outcome<f64> {
    let node = node_of(name)?;
    let service = node
        .service_builder(&named("memory")?)
        .publish_subscribe::<[u64]>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(BEHIND)
        .subscriber_max_borrowed_samples(1)
        .history_size(0)
        .max_publishers(1)
        .max_subscribers(SUBSCRIBERS)
        .create()
        .map_err(|error| format!("no service: {error:?}"))?;
    let builder = service.publisher_builder().max_loaned_samples(1);
    let builder = match largest {
        Largest::AtOnce => builder.initial_max_slice_len(LARGEST / 8).allocation_strategy(AllocationStrategy::Static),
        Largest::WhenNeeded => {
            builder.initial_max_slice_len(4096 / 8).allocation_strategy(AllocationStrategy::PowerOfTwo)
        }
    };
    let publisher = builder.create().map_err(|error| format!("no publisher: {error:?}"))?;
    let made = (0..SUBSCRIBERS).map(|_| service.subscriber_builder().create()).collect::<Result<Vec<_>, _>>();
    let subscribers = made.map_err(|error| format!("no subscriber: {error:?}"))?;
    for (number, size) in sizes().enumerate() {
        if number >= BEHIND {
            for subscriber in &subscribers {
                let received = subscriber.receive().map_err(|error| format!("nothing received: {error:?}"))?;
                std::hint::black_box(received.ok_or("nothing to read")?[0]);
            }
        }
        let mut loan = publisher.loan_slice_uninit(size / 8).map_err(|error| format!("no loan: {error:?}"))?;
        loan.payload_mut().fill(std::mem::MaybeUninit::new(number as u64));
        // SAFETY: all of it is written.
        unsafe { loan.assume_init() }.send().map_err(|error| format!("not sent: {error:?}"))?;
    }
    measure()
}

//! iceoryx2's publish and subscribe: the publisher borrows, fills and sends, and waits for a subscriber that is behind.

use super::{In, Out, Peer, fill, read};
use crate::Outcome;
use crate::run::Task;
use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    BackpressureStrategy, Config, FileName, NodeBuilder, Path, SemanticString, ServiceName, ipc_threadsafe,
};
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

type Service = ipc_threadsafe::Service;

/// A service's receiving end.
pub(crate) struct End(Subscriber<Service, [u64], ()>);

pub(crate) struct Services {
    node: Node<Service>,
    task: Task,
}

impl Services {
    fn service(&self, way: usize) -> Outcome<PortFactory<Service, [u64], ()>> {
        let name = ServiceName::new(&format!("way {way}")).map_err(|error| format!("{error:?}"))?;
        Ok(self
            .node
            .service_builder(&name)
            .publish_subscribe::<[u64]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(self.task.setting.cells)
            .open_or_create()
            .map_err(|error| format!("no service: {error:?}"))?)
    }
}

impl Peer for Services {
    type Out = Publisher<Service, [u64], ()>;
    type In = End;
    fn make(task: &Task) -> Outcome<Self> {
        let mut config = Config::default();
        let prefix = format!("{}-", task.name);
        config.global.prefix = FileName::new(prefix.as_bytes()).map_err(|error| format!("{error:?}"))?;
        let root = format!("/tmp/{}", task.name);
        config.global.set_root_path(&Path::new(root.as_bytes()).map_err(|error| format!("{error:?}"))?);
        let node = NodeBuilder::new().config(&config).create::<Service>();
        Ok(Self { node: node.map_err(|error| format!("no node: {error:?}"))?, task: task.clone() })
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

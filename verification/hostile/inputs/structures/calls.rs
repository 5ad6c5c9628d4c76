//! Every call of every structure.

use super::super::calls::accepted;
use arbitrary::Arbitrary;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::log::Log;
use atomic_matrix::ipc::structure::Structure;
use atomic_matrix::ipc::{
    Barrier, Board, Channel, Client, Delivery, Displaced, Entry, Event, LossySubscriber, Map, Message, Mutex,
    MutexGuard, Receiver, Redelivering, Request, RespondError, Responses, Sample, Samples, Select, Semaphore, Sender,
    Server, Service, Single, Subscriber, Topic, Unanswered, Worker,
};
use atomic_matrix::segment::layout::Granule;
use std::cell::RefCell;
use std::time::Duration;

/// A wait that ends at once, and a short one.
pub(crate) const Q: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(1);
/// Things that are held at once.
const KEPT: usize = 8;

/// The structures, by name.
pub(crate) struct Names {
    pub(crate) queue: Channel<u64>,
    pub(crate) single: Channel<u64, Single>,
    pub(crate) jobs: Channel<u64, Redelivering>,
    pub(crate) topic: Topic<[u8]>,
    pub(crate) board: Board<u64>,
    pub(crate) map: Map<[u8]>,
    pub(crate) service: Service<u64, u64>,
    pub(crate) mutex: Mutex<[u64; 2]>,
    pub(crate) event: Event,
    pub(crate) desks: Semaphore,
    pub(crate) barrier: Barrier,
}

impl Names {
    pub(crate) fn open(h: &Handler) -> atomic_matrix::Result<Self> {
        Ok(Self {
            queue: h.channel("queue").capacity(8).open_or_create()?,
            single: h.channel("single").capacity(4).single().open_or_create()?,
            jobs: h.channel("jobs").capacity(4).redeliver(4).open_or_create()?,
            topic: topic(h)?,
            board: h.board("board")?,
            map: map(h)?,
            service: h.service("service").capacity(4).open_or_create()?,
            mutex: h.mutex("mutex")?,
            event: h.event("event")?,
            desks: h.semaphore("desks", 2)?,
            barrier: h.barrier("barrier", 2)?,
        })
    }
}

fn topic(h: &Handler) -> atomic_matrix::Result<Topic<[u8]>> {
    h.topic("topic").cells(4).subscribers(5).open_or_create()
}
fn map(h: &Handler) -> atomic_matrix::Result<Map<[u8]>> {
    h.map("map").capacity(4).guards(4).open_or_create()
}

/// What a call gave, and is held while others are made.
pub(crate) enum Kept<'h> {
    Message(Message<'h, u64>),
    Delivery(Delivery<'h, u64>),
    Sample(Sample<[u8]>),
    Entry(Entry<'h, [u8]>),
    Displaced(Displaced<'h, [u8]>),
    Request(Request<'h, u64, u64>),
    Responses(Responses<'h, u64, u64>),
    Guard(MutexGuard<'h, [u64; 2]>),
}

/// One call: of what, and which.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Deed {
    of: Of,
    how: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Of {
    Queue,
    Single,
    Jobs,
    Topic,
    Board,
    Map,
    Service,
    Sync,
    Select,
    Kept,
    Heap,
}

/// Calls of each.
const HOWS: [(Of, u8); 11] = [
    (Of::Queue, 10),
    (Of::Single, 10),
    (Of::Jobs, 7),
    (Of::Topic, 9),
    (Of::Board, 4),
    (Of::Map, 9),
    (Of::Service, 6),
    (Of::Sync, 12),
    (Of::Select, 2),
    (Of::Kept, 8),
    (Of::Heap, 4),
];

impl Deed {
    /// Every call but removals and ends, what waits at once.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        HOWS.into_iter().flat_map(|(of, most)| (0..most).map(move |how| Self { of, how }))
    }
    fn wait(self) -> Duration {
        if self.how & 0x80 == 0 { Q } else { SHORT }
    }
}

type SingleEnds = (Option<Sender<u64, Single>>, Option<Receiver<u64, Single>>);

/// All handles that there are to the structures of a segment.
pub(crate) struct Handles {
    h: Handler,
    queue: Option<Channel<u64>>,
    queue_ends: (Option<Sender<u64>>, Option<Receiver<u64>>),
    single: Option<Channel<u64, Single>>,
    single_ends: SingleEnds,
    jobs: Option<Channel<u64, Redelivering>>,
    jobs_ends: (Option<Sender<u64, Redelivering>>, Option<Worker<u64>>),
    topic: Option<Topic<[u8]>>,
    subscriber: RefCell<Option<Subscriber<[u8]>>>,
    samples: Option<Samples<[u8]>>,
    lossy: RefCell<Option<LossySubscriber<[u8]>>>,
    board: Option<Board<u64>>,
    map: Option<Map<[u8]>>,
    service: Option<Service<u64, u64>>,
    client: Option<Client<u64, u64>>,
    server: Option<Server<u64, u64>>,
    mutex: Option<Mutex<[u64; 2]>>,
    event: Option<Event>,
    desks: Option<Semaphore>,
    barrier: Option<Barrier>,
}

/// A value for each kind of caller's error, whose text is not looked at.
fn tried<T, E>(result: Result<T, E>) -> Option<T> {
    result.ok()
}

impl Handles {
    pub(crate) fn open(h: &Handler) -> Self {
        let queue = accepted(h.channel("queue").capacity(8).open_or_create());
        let single = accepted(h.channel("single").capacity(4).single().open_or_create());
        let jobs = accepted(h.channel("jobs").capacity(4).redeliver(4).open_or_create());
        let topic = accepted(topic(h));
        let service = accepted(h.service("service").capacity(4).open_or_create());
        Self {
            h: h.clone(),
            queue_ends: (
                queue.as_ref().and_then(|it| accepted(it.sender())),
                queue.as_ref().and_then(|it| accepted(it.receiver())),
            ),
            single_ends: (
                single.as_ref().and_then(|it| accepted(it.sender())),
                single.as_ref().and_then(|it| accepted(it.receiver())),
            ),
            jobs_ends: (
                jobs.as_ref().and_then(|it| accepted(it.sender())),
                jobs.as_ref().and_then(|it| accepted(it.worker())),
            ),
            subscriber: RefCell::new(topic.as_ref().and_then(|it| accepted(it.subscribe(0)))),
            samples: topic.as_ref().and_then(|it| accepted(it.subscribe(3))).map(Subscriber::into_samples),
            lossy: RefCell::new(topic.as_ref().and_then(|it| accepted(it.subscribe_lossy(2)))),
            board: accepted(h.board("board")),
            map: accepted(map(h)),
            client: service.as_ref().and_then(|it| accepted(it.client())),
            server: service.as_ref().and_then(|it| accepted(it.server())),
            mutex: accepted(h.mutex("mutex")),
            event: accepted(h.event("event")),
            desks: accepted(h.semaphore("desks", 2)),
            barrier: accepted(h.barrier("barrier", 2)),
            queue,
            single,
            jobs,
            topic,
            service,
        }
    }

    /// Makes a call; what it gives may be kept.
    pub(crate) fn make<'h>(&'h self, deed: Deed, kept: &mut Vec<Kept<'h>>) {
        let made = match deed.of {
            Of::Queue => self.of_queue(deed),
            Of::Single => self.of_single(deed),
            Of::Jobs => self.of_jobs(deed),
            Of::Topic => self.of_topic(deed),
            Of::Board => self.of_board(deed),
            Of::Map => self.of_map(deed),
            Of::Service => self.of_service(deed),
            Of::Sync => self.of_sync(deed),
            Of::Select => self.of_select(deed),
            Of::Kept if !kept.is_empty() => self.of_kept(deed, kept.remove(0)),
            Of::Kept => None,
            Of::Heap => self.of_heap(deed),
        };
        kept.extend(made);
        if kept.len() > KEPT {
            kept.remove(0);
        }
    }

    fn value(&self, number: u8) -> Option<Message<'_, u64>> {
        accepted(self.h.message_of(number.into()))
    }
    fn values(&self, count: u8) -> Vec<Message<'_, u64>> {
        (0..count).filter_map(|number| self.value(number)).collect()
    }
    fn bytes(&self, length: u8) -> Option<Message<'_, [u8]>> {
        accepted(self.h.message_from(&vec![length; length.into()]))
    }
}

/// The calls of a channel with senders and receivers.
macro_rules! of_channel {
    ($name:ident, $channel:ident, $ends:ident) => {
        impl Handles {
            fn $name(&self, deed: Deed) -> Option<Kept<'_>> {
                let (channel, wait) = (self.$channel.as_ref()?, deed.wait());
                let (tx, rx) = (self.$ends.0.as_ref(), self.$ends.1.as_ref());
                let mut got = vec![];
                match deed.how & 0x7F {
                    0 => _ = tried(tx?.try_send(self.value(1)?)),
                    1 => return tried(rx?.try_recv()).map(Kept::Message),
                    2 => _ = tried(tx?.send_timeout(self.value(2)?, wait)),
                    3 => _ = tried(tx?.try_send_many(&mut self.values(3))),
                    4 => drop(tried(rx?.recv_timeout(wait))),
                    5 => _ = tried(rx?.try_recv_many(3, &mut got)),
                    6 => drop((channel.capacity(), channel.len(), channel.is_empty(), channel.ends())),
                    7 => rx?.try_iter().take(100).for_each(drop),
                    8 => {
                        let until = std::time::Instant::now() + wait;
                        _ = tried(tx?.send_many_until(&mut self.values(9), Some(until)));
                        _ = tried(rx?.recv_many_until(9, &mut got, Some(until)));
                    }
                    9 => drop((accepted(channel.sender()), accepted(channel.receiver()))),
                    10 => channel.close(),
                    11 => _ = accepted(channel.remove()),
                    _ => return tried(rx?.try_recv()).map(Kept::Message),
                }
                None
            }
        }
    };
}
of_channel!(of_queue, queue, queue_ends);
of_channel!(of_single, single, single_ends);

impl Handles {
    fn of_jobs(&self, deed: Deed) -> Option<Kept<'_>> {
        let (channel, wait) = (self.jobs.as_ref()?, deed.wait());
        let (tx, worker) = (self.jobs_ends.0.as_ref(), self.jobs_ends.1.as_ref());
        match deed.how & 0x7F {
            0 => _ = tried(tx?.try_send(self.value(1)?)),
            1 => return tried(worker?.try_recv()).map(Kept::Delivery),
            2 => tried(worker?.try_recv()).into_iter().for_each(Delivery::ack),
            3 => drop(tried(worker?.try_recv())),
            4 => return tried(worker?.recv_timeout(wait)).map(|got| Kept::Message(got.take())),
            5 => _ = tried(tried(worker?.try_recv())?.forward_until(self.queue_ends.0.as_ref()?, Some(now()))),
            6 => drop((channel.unacknowledged(), channel.len(), channel.ends())),
            7 => channel.close(),
            8 => _ = accepted(channel.remove()),
            _ => return tried(worker?.try_recv()).map(Kept::Delivery),
        }
        None
    }

    fn of_topic(&self, deed: Deed) -> Option<Kept<'_>> {
        let (topic, wait) = (self.topic.as_ref()?, deed.wait());
        match deed.how & 0x7F {
            0 => _ = tried(topic.try_publish(self.bytes(9)?)),
            1 => return accepted(self.samples.as_ref()?.try_next())?.map(Kept::Sample),
            2 => _ = tried(topic.publish_timeout(self.bytes(70)?, wait)),
            3 => drop(accepted(self.subscriber.borrow_mut().as_mut()?.try_next())),
            4 => drop(accepted(self.subscriber.borrow_mut().as_mut()?.next_timeout(wait))),
            5 => drop(accepted(self.lossy.borrow_mut().as_mut()?.try_next())),
            6 => drop(accepted(self.lossy.borrow_mut().as_mut()?.next_timeout(wait))),
            7 => {
                let mut another = accepted(topic.subscribe(u64::MAX))?;
                (0..8).for_each(|_| drop(accepted(another.try_next())));
                let _ = topic.published();
            }
            8 => return accepted(self.samples.as_ref()?.next_timeout(wait))?.map(Kept::Sample),
            9 => _ = accepted(topic.remove()),
            _ => return accepted(self.samples.as_ref()?.try_next())?.map(Kept::Sample),
        }
        None
    }

    fn of_board(&self, deed: Deed) -> Option<Kept<'_>> {
        let board = self.board.as_ref()?;
        match deed.how & 0x7F {
            0 => _ = accepted(board.get()),
            1 => _ = accepted(board.set(deed.how.into())),
            2 => _ = accepted(board.changed(&mut 1, deed.wait())),
            3 => self.newest_unhelped(),
            _ => _ = accepted(board.remove()),
        }
        None
    }

    /// As whoever may not write looks for it.
    fn newest_unhelped(&self) {
        let heap = self.h.matrix().heap();
        let (layout, unit) = (heap.layout(), self.h.offset_unit() as u64);
        let granule =
            |offset: u32| Granule(((u64::from(offset) * unit - layout.sector) >> layout.params.granule_shift) as u32);
        for found in accepted(self.h.structures()).unwrap_or_default() {
            let at = granule(found.offset);
            let live = heap.live_at(at).ok();
            let structure = live.and_then(|live| Structure::at(heap, live));
            if let Some(structure) = structure.filter(|_| matches!(found.kind, "topic" | "board")) {
                let _ = Log::of(structure).newest_unhelped();
            }
        }
    }

    fn of_map(&self, deed: Deed) -> Option<Kept<'_>> {
        let map = self.map.as_ref()?;
        // Some of which are in it.
        let key = [deed.how % 12; 3];
        match deed.how & 0x7F {
            0 => return accepted(map.get(&key))?.map(Kept::Entry),
            1 => return tried(map.insert(&key, self.bytes(30)?))?.map(Kept::Displaced),
            2 => _ = tried(map.insert_new(&key, accepted(map.message_slice(&key, 11))?)),
            3 => return tried(map.replace(&key, self.bytes(31)?))?.map(Kept::Displaced),
            4 => return accepted(map.take(&key))?.map(Kept::Displaced),
            5 => drop(accepted(map.keys())),
            6 => accepted(map.iter())?.for_each(|entry| drop(accepted(entry))),
            7 => drop((map.len(), map.is_empty(), map.capacity())),
            8 => {
                for key in 0..12_u8 {
                    let _ = tried(map.insert(&[key; 3], self.bytes(key)?));
                    let _ = accepted(map.get(&[key; 3]));
                    drop(accepted(map.take(&[key; 3])));
                }
            }
            9 => _ = accepted(map.remove()),
            _ => return accepted(map.get(&key))?.map(Kept::Entry),
        }
        None
    }

    fn of_service(&self, deed: Deed) -> Option<Kept<'_>> {
        let (client, server, wait) = (self.client.as_ref(), self.server.as_ref(), deed.wait());
        match deed.how & 0x7F {
            0 => return tried(server?.try_next()).map(Kept::Request),
            1 => return tried(client?.stream(self.value(1)?, wait)).map(Kept::Responses),
            2 => return tried(server?.next_timeout(wait)).map(Kept::Request),
            3 => drop(tried(client?.call(self.value(2)?, wait))),
            4 => {
                let mut responses = tried(client?.stream(self.value(3)?, wait))?;
                let request = tried(server?.try_next());
                if let Some(request) = request {
                    let _ = request.is_awaited();
                    if self.has_room(&request, wait) {
                        let _ = accepted(request.finish());
                    }
                }
                (0..3).for_each(|_| drop(accepted(responses.next_timeout(wait))));
            }
            5 => {
                let service = self.service.as_ref()?;
                drop((accepted(service.client()), accepted(service.server())));
            }
            _ => _ = accepted(self.service.as_ref()?.remove()),
        }
        None
    }

    /// Sends one of several responses. The last one waits a second for room: it is left out where this one found none.
    fn has_room(&self, request: &Request<'_, u64, u64>, wait: Duration) -> bool {
        let Some(response) = self.value(4) else { return false };
        !matches!(request.send(response, wait), Err(RespondError { why: Unanswered::Full, .. }))
    }

    fn of_sync(&self, deed: Deed) -> Option<Kept<'_>> {
        let wait = deed.wait();
        match deed.how & 0x7F {
            0 => return accepted(self.mutex.as_ref()?.try_lock())?.map(Kept::Guard),
            1 => {
                let mut guard = accepted(self.mutex.as_ref()?.lock(wait))??;
                let _ = (guard.is_poisoned(), accepted(guard.cure()));
                guard[1] = guard[0].wrapping_add(1);
            }
            2 => _ = accepted(self.event.as_ref()?.set()),
            3 => _ = accepted(self.event.as_ref()?.wait(wait)),
            4 => _ = accepted(self.event.as_ref()?.wait_and_clear(wait)),
            5 => drop((accepted(self.event.as_ref()?.is_set()), accepted(self.event.as_ref()?.clear()))),
            6 => _ = accepted(self.desks.as_ref()?.give(3)),
            7 => _ = accepted(self.desks.as_ref()?.take(wait)),
            8 => _ = accepted(self.desks.as_ref()?.try_take()),
            9 => _ = accepted(self.desks.as_ref()?.available()),
            10 | 11 => _ = accepted(self.barrier.as_ref()?.meet(wait)),
            12 => _ = accepted(self.barrier.as_ref()?.remove()),
            13 => _ = accepted(self.mutex.as_ref()?.remove()),
            14 => _ = accepted(self.event.as_ref()?.remove()),
            _ => _ = accepted(self.desks.as_ref()?.remove()),
        }
        None
    }

    fn of_select(&self, deed: Deed) -> Option<Kept<'_>> {
        let (mut seen, mut subscriber) = (0, self.subscriber.borrow_mut());
        let mut lossy = self.lossy.borrow_mut();
        let mut select = Select::new()
            .recv(self.queue_ends.1.as_ref()?, drop)
            .recv(self.single_ends.1.as_ref()?, drop)
            .work(self.jobs_ends.1.as_ref()?, drop)
            .next(subscriber.as_mut()?, |got| drop(got))
            .next_copy(lossy.as_mut()?, drop)
            .request(self.server.as_ref()?, drop)
            .changed(self.board.as_ref()?, &mut seen, drop)
            .set_and_clear(self.event.as_ref()?, drop)
            .take(self.desks.as_ref()?, drop);
        match deed.how & 0x7F {
            0 => (0..12).for_each(|_| _ = select.try_now()),
            _ => (0..3).for_each(|_| _ = select.wait(deed.wait())),
        }
        None
    }

    /// Something that is held is used, and let go or held again.
    fn of_kept<'h>(&'h self, deed: Deed, kept: Kept<'h>) -> Option<Kept<'h>> {
        match kept {
            Kept::Message(mut message) => {
                *message += 1;
                if deed.how.is_multiple_of(2) {
                    tried(self.single_ends.0.as_ref()?.send_timeout(message, deed.wait()));
                } else {
                    tried(self.queue_ends.0.as_ref()?.try_send(message));
                }
                None
            }
            Kept::Delivery(delivery) => {
                let _ = (*delivery, delivery.deliveries());
                match deed.how % 3 {
                    0 => delivery.ack(),
                    1 => drop(delivery),
                    _ => return Some(Kept::Message(delivery.take())),
                }
                None
            }
            Kept::Sample(sample) => (sample.number() == 0 || sample.len() > 1000).then_some(Kept::Sample(sample)),
            Kept::Entry(entry) => (entry.len() > 1000).then_some(Kept::Entry(entry)),
            Kept::Displaced(displaced) => {
                let mut message = displaced.into_message(deed.wait()).ok()?;
                message.fill(deed.how);
                let _ = tried(self.map.as_ref()?.insert(&[1; 3], message));
                None
            }
            Kept::Request(request) => {
                let _ = (*request, request.is_awaited());
                match deed.how % 3 {
                    0 => _ = tried(request.send(self.value(5)?, deed.wait())),
                    1 if self.has_room(&request, deed.wait()) => _ = tried(request.respond(self.value(6)?)),
                    _ => return Some(Kept::Request(request)),
                }
                None
            }
            Kept::Responses(mut responses) => {
                let got = accepted(responses.next_timeout(deed.wait()))?;
                got.map(|_| Kept::Responses(responses))
            }
            Kept::Guard(mut guard) => {
                guard[0] = 1;
                None
            }
        }
    }

    fn of_heap(&self, deed: Deed) -> Option<Kept<'_>> {
        match deed.how & 0x7F {
            0 => _ = accepted(self.h.reap()),
            1 => super::look_at_structures(&self.h),
            2 => _ = accepted(self.h.heal()),
            _ => _ = accepted(self.h.verify()),
        }
        None
    }
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

//! Threads that share structures and access what is in messages plainly (Q1, T1, M1).
//!
//! Without copies of what nothing protects (boards, lossy subscribers): those race with the next write by design, and
//! the cell tells afterwards (B1).

use super::{Weakened, for_two, forever, join, spawn};
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::ring::Ring;
use atomic_matrix::ipc::structure::{Shape, Sort, Structure};
use atomic_matrix::ipc::{
    Client, Map, Message, Mutex, Receiver, Redelivering, Samples, Sender, Server, Single, Subscriber, Topic, Worker,
};
use atomic_matrix::matrix::heap::{Heap, Kind, ThreadCache};
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::Layout;
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const THREADS: usize = 4;
/// What is waited for another's step.
const WAIT: Duration = Duration::from_millis(1);

type Value = [u64; 16];

fn check(value: &Value) {
    assert!(value.iter().all(|&word| word == value[0]), "Q1: broken payload");
}

/// What was done, how often.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Did {
    Receive,
    ReceiveSingle,
    Work,
    Read,
    Hold,
    Get,
    Take,
    Lock,
    Call,
    Serve,
}

const NAMES: [&str; 10] =
    ["received", "by one", "worked at", "read", "held", "got", "taken", "locked", "called", "served"];

struct Shared {
    over: AtomicBool,
    done: [AtomicU64; NAMES.len()],
}

type SingleEnds = (Option<Sender<Value, Single>>, Option<Receiver<Value, Single>>);

/// What a thread has of each structure.
struct Ends {
    handler: &'static Handler,
    queue: (Sender<Value>, Receiver<Value>),
    single: SingleEnds,
    jobs: (Sender<Value, Redelivering>, Worker<Value>),
    topic: Topic<Value>,
    subscriber: Subscriber<Value>,
    samples: Samples<Value>,
    map: Map<Value>,
    mutex: Mutex<Value>,
    client: Client<Value, Value>,
    server: Option<Server<Value, Value>>,
}

impl Ends {
    fn open(me: usize, h: &'static Handler) -> atomic_matrix::Result<Self> {
        let queue = h.channel("queue").capacity(8).open_or_create()?;
        let single = h.channel("single").capacity(8).single().open_or_create()?;
        let jobs = h.channel("jobs").capacity(8).redeliver(8).open_or_create()?;
        let topic = h.topic("topic").cells(8).subscribers(2 * THREADS as u16).open_or_create()?;
        let service = h.service("service").capacity(4).open_or_create()?;
        Ok(Self {
            handler: h,
            queue: (queue.sender()?, queue.receiver()?),
            single: (
                (me == 0).then(|| single.sender()).transpose()?,
                (me == 1).then(|| single.receiver()).transpose()?,
            ),
            jobs: (jobs.sender()?, jobs.worker()?),
            subscriber: topic.subscribe(0)?,
            samples: topic.subscribe(0)?.into_samples(),
            topic,
            map: h.map("map").capacity(8).guards(2 * THREADS as u16).open_or_create()?,
            mutex: h.mutex("mutex")?,
            client: service.client()?,
            server: (me % 2 == 1).then(|| service.server()).transpose()?,
        })
    }

    /// Makes calls of one structure.
    fn step(&mut self, random: &mut fastrand::Rng, serial: u64, did: &impl Fn(Did)) {
        let Ok(mut message) = self.handler.message_of([serial; 16]) else { return };
        message.fill(serial);
        match random.u32(..8) {
            0 => {
                let _ = self.queue.0.try_send(message);
                if let Ok(mut got) = self.queue.1.try_recv() {
                    check(&got);
                    got.fill(serial);
                    let _ = self.queue.0.try_send(got);
                    did(Did::Receive);
                }
            }
            1 => {
                self.single.0.as_ref().map(|sender| sender.try_send(message));
                if let Some(Ok(got)) = self.single.1.as_ref().map(Receiver::try_recv) {
                    check(&got);
                    did(Did::ReceiveSingle);
                }
            }
            2 => {
                let _ = self.jobs.0.try_send(message);
                if let Ok(delivery) = self.jobs.1.try_recv() {
                    check(&delivery);
                    // Otherwise another is given it.
                    if random.bool() {
                        delivery.ack();
                    }
                    did(Did::Work);
                }
            }
            3 => {
                let _ = self.topic.try_publish(message);
            }
            4 => self.read(did),
            5 => self.keyed(&[random.u8(..4)], message, random.bool(), did),
            6 => {
                if let Ok(Some(mut guard)) = self.mutex.lock(WAIT) {
                    check(&guard);
                    guard.fill(serial);
                    did(Did::Lock);
                }
            }
            _ => self.call(message, serial, did),
        }
    }

    fn read(&mut self, did: &impl Fn(Did)) {
        while let Ok(Some(reading)) = self.subscriber.try_next() {
            check(&reading);
            did(Did::Read);
        }
        let mut held = vec![];
        while let Ok(Some(sample)) = self.samples.try_next() {
            check(&sample);
            held.push(sample);
            did(Did::Hold);
        }
        held.iter().for_each(|sample| check(sample));
    }

    fn keyed(&self, key: &[u8], message: Message<'_, Value>, take: bool, did: &impl Fn(Did)) {
        drop(self.map.insert(key, message));
        if let Ok(Some(entry)) = self.map.get(key) {
            check(&entry);
            did(Did::Get);
        }
        if take
            && let Ok(Some(displaced)) = self.map.take(key)
            && let Ok(mut message) = displaced.into_message(WAIT)
        {
            check(&message);
            message.fill(1);
            did(Did::Take);
        }
    }

    fn call(&self, message: Message<'_, Value>, serial: u64, did: &impl Fn(Did)) {
        let Some(server) = &self.server else {
            if let Ok(response) = self.client.call(message, 4 * WAIT) {
                check(&response);
                did(Did::Call);
            }
            return;
        };
        while let Ok(request) = server.next_timeout(WAIT) {
            check(&request);
            if let Ok(response) = self.handler.message_of([serial; 16]) {
                let _ = request.respond(response);
            }
            did(Did::Serve);
        }
    }
}

/// All structures for a while.
pub(crate) fn clean(time: Duration) {
    let handler = forever(Options::new().memfd().size(2 << 20).create().expect("memory"));
    let shared = forever(Shared { over: AtomicBool::new(false), done: [const { AtomicU64::new(0) }; NAMES.len()] });
    let start = Instant::now();
    for me in 0..THREADS {
        spawn(move || {
            let ends: &mut Ends = Box::leak(Box::new(Ends::open(me, handler).expect("room")));
            let mut random = fastrand::Rng::with_seed(me as u64);
            let mut serial = (me as u64) << 56;
            while !shared.over.load(Ordering::Relaxed) {
                serial += 1;
                ends.step(&mut random, serial, &|did| _ = shared.done[did as usize].fetch_add(1, Ordering::Relaxed));
            }
        });
    }
    std::thread::sleep(time);
    shared.over.store(true, Ordering::Relaxed);
    join();
    handler.verify().expect("S4: sound");
    let done = shared.done.each_ref().map(|count| count.load(Ordering::Relaxed));
    let told: Vec<String> = NAMES.iter().zip(done).map(|(name, count)| format!("{count} {name}")).collect();
    println!("structures: {}, {:.1?}", told.join(", "), start.elapsed());
    assert!(!done.contains(&0), "some of the calls were never made");
}

/// One thread uses a block and sends it; another receives and uses it.
pub(crate) fn sent<const SITE: usize>() {
    let layout = Layout::new(256, for_two(true));
    let heap = forever(Heap::format(BoxedRegion::<Weakened<SITE>>::with_payload(layout, 256)));
    let shape = Shape { sort: Sort::Channel, cells_shift: 1, readers: 0, content: 7 };
    let made = Structure::make(heap, &mut ThreadCache::new(1), shape).expect("room");
    let ring = move || Ring::of(Structure::at(heap, made).expect("it was made"));
    spawn(move || {
        let mut cache = ThreadCache::new(1);
        let live = heap.allocate(&mut cache, 1, 1, Kind::Raw).expect("room");
        heap.region().touch(live.at, 1);
        ring().send(1, live).expect("room");
    });
    spawn(move || {
        let taken = loop {
            if let Ok(taken) = ring().receive(2) {
                break taken;
            }
            std::thread::yield_now();
        };
        heap.region().touch(taken.live.at, 1);
    });
    join();
    println!("a block is sent to another thread");
}

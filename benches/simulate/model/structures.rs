//! The library's structures on the simulated machine: the production code, generic over its backend.
//!
//! Who waits looks again after one pause, as in production before a thread sleeps: sleeping is not simulated.

use super::costs::Costs;
use super::machine::{self, Access, Made, Place, Simulated, SimulatedRegion, spend, touch};
use super::workloads::{Count, SimulatedHeap, Workload};
use atomic_matrix::backend::Backend;
use atomic_matrix::ipc::log::{Log, Lowest, ReadStatus};
use atomic_matrix::ipc::ring::{NotReceived, NotSent, Ring};
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::layout::{Layout, Params, Usual};
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Bytes of the segment.
const ARENA: u64 = 64 << 20;
/// Granules with payload, for the structures.
const PAYLOAD: u32 = (4 << 20) / 16;
/// log2 of the messages that a structure holds.
const CELLS_SHIFT: u32 = 10;
/// Granules of a message: 64 bytes.
const MESSAGE: u32 = 4;
/// The fingerprint of a message's type.
const CONTENT: u32 = 7;

/// What became of the messages. Nobody's cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// Messages put in, in the whole run.
    pub(crate) sent: u64,
    /// Messages taken out, or read by a subscriber, in the whole run,
    pub(crate) received: u64,
    /// and those that were still in when it ended.
    pub(crate) left: u64,
    /// Blocks that are in a channel, or about to be.
    within: BTreeSet<u32>,
    /// Blocks that were published, in their order.
    published: Vec<u32>,
}

impl Books {
    fn enter(&mut self, block: Live) {
        assert!(self.within.insert(block.at.0), "a block is sent that is in the channel");
        self.sent += 1;
    }
    fn withdraw(&mut self, block: Live) {
        assert!(self.within.remove(&block.at.0), "a block is not sent that was");
        self.sent -= 1;
    }
    fn leave(&mut self, block: Live) {
        assert!(self.within.remove(&block.at.0), "a message is received that nobody sent");
        self.received += 1;
    }
    /// A subscriber has read the `ticket`th.
    fn read(&mut self, ticket: usize, block: Live) {
        assert_eq!(self.published.get(ticket), Some(&block.at.0), "a subscriber is told what was not published next");
        self.received += 1;
    }
}

/// What all cores of a run have to do with.
struct Scene {
    heap: Rc<SimulatedHeap>,
    structures: Vec<(Live, Shape)>,
    books: RefCell<Books>,
    count: Count,
    costs: Costs,
}

/// What a core has.
struct Core {
    scene: Rc<Scene>,
    cache: ThreadCache,
    structure: Live,
}

impl Scene {
    fn make(workload: Workload, cores: usize, count: Count, costs: Costs) -> Self {
        let params = Params { biased: true, ..Params::for_segment(ARENA) };
        let layout = Layout::fit(ARENA, params).expect("a segment of 64 MiB has a sector");
        let heap: Rc<SimulatedHeap> = Rc::new(Heap::format(SimulatedRegion::new(layout, PAYLOAD)));
        let (sort, number, readers) = match workload {
            Workload::Pairs => (Sort::Single, cores / 2, 0),
            Workload::Topic => (Sort::Topic, 1, cores - 1),
            _ => (Sort::Channel, 1, 0),
        };
        let shape = Shape { sort, cells_shift: CELLS_SHIFT, readers: readers as u16, content: CONTENT };
        let mut maker = ThreadCache::with_ceiling(machine::MOST as u16 + 1, 0);
        let structures = (0..number).map(|_| {
            let made = Structure::make(&heap, &mut maker, shape).expect("there is room");
            let header = heap.adoption().rename(made.at, made.header, 0).expect("it is the maker's");
            (Live { at: made.at, header }, shape)
        });
        let structures = structures.collect();
        Self { heap, structures, books: RefCell::default(), count, costs }
    }

    /// The lines of the structures, by name.
    fn made(&self) -> Vec<Made> {
        self.structures.iter().map(|&(live, shape)| (live.at, shape)).collect()
    }

    fn structure(&self, live: Live) -> Structure<'_, SimulatedRegion> {
        Structure::at(&self.heap, live).expect("it was made")
    }

    /// A message of the core's, filled.
    fn message(&self, cache: &mut ThreadCache) -> Live {
        spend(self.costs.message);
        let kind = Kind::Typed(CONTENT);
        // SAFETY: there is one heap.
        let own = unsafe { self.heap.allocate_own(cache, MESSAGE as usize, 0, kind, &Usual) };
        let live =
            own.or_else(|| self.heap.allocate(cache, MESSAGE, 1, kind).ok()).expect("there is room for everybody");
        touch(Place::Payload(live.at), Access::Store);
        // A send looks whether the block is still the message's.
        self.heap.live_at(live.at).expect("it was allocated")
    }

    /// Frees a message of the core's own.
    fn free(&self, cache: &mut ThreadCache, live: Live) {
        // SAFETY: there is one heap.
        let freed = unsafe { self.heap.free_own(cache, live.at, live.header, true, &Usual) };
        if !freed {
            self.heap.free(cache, live.at, Some(live.header.generation())).expect("the block is live");
        }
    }

    /// What is still in the structures, behind the run.
    fn drain(&self) {
        let mut cache = ThreadCache::new(1);
        for &(live, shape) in &self.structures {
            if shape.sort == Sort::Topic {
                continue;
            }
            while let Ok(taken) = Ring::of(self.structure(live)).receive(1) {
                let books = &mut self.books.borrow_mut();
                books.leave(taken.live);
                (books.received, books.left) = (books.received - 1, books.left + 1);
                self.free(&mut cache, taken.live);
            }
        }
        assert!(self.books.borrow().within.is_empty(), "a message is lost");
    }
}

impl Core {
    fn me(&self) -> u16 {
        self.cache.owner()
    }

    fn join(&self, role: Role) {
        let structure = self.scene.structure(self.structure);
        structure.join(self.me(), Role::User).expect("it is not removed");
        if role != Role::User {
            structure.join(self.me(), role).expect("once");
        }
        if structure.shape.sort == Sort::Single {
            structure.take_role(self.me(), role).expect("it is the only one");
        }
    }

    /// Allocates and sends.
    fn send(&mut self) {
        let (scene, me) = (self.scene.clone(), self.me());
        let structure = scene.structure(self.structure);
        while scene.count.goes_on() {
            let block = scene.message(&mut self.cache);
            scene.books.borrow_mut().enter(block);
            while let Err(why) = Ring::of(structure).send(me, block) {
                assert_eq!(why, NotSent::Full);
                Simulated::pause();
                if !scene.count.goes_on() {
                    scene.books.borrow_mut().withdraw(block);
                    return scene.free(&mut self.cache, block);
                }
            }
            structure.bell(Role::Receiver).ring(1);
        }
    }

    /// Receives, reads and frees.
    fn receive(&mut self) {
        let (scene, me) = (self.scene.clone(), self.me());
        let structure = scene.structure(self.structure);
        while scene.count.goes_on() {
            match Ring::of(structure).receive(me) {
                Ok(taken) => {
                    scene.books.borrow_mut().leave(taken.live);
                    structure.bell(Role::Sender).ring(1);
                    spend(scene.costs.message);
                    touch(Place::Payload(taken.live.at), Access::Load);
                    scene.free(&mut self.cache, taken.live);
                    scene.count.one();
                }
                Err(NotReceived::Empty) => Simulated::pause(),
                Err(why) => panic!("{why:?}"),
            }
        }
    }

    /// Allocates and publishes.
    fn publish(&mut self) {
        let scene = self.scene.clone();
        let structure = scene.structure(self.structure);
        let mut lowest = Lowest::default();
        while scene.count.goes_on() {
            let block = scene.message(&mut self.cache);
            scene.books.borrow_mut().published.push(block.at.0);
            while let Err(why) = Log::of(structure).publish(&mut self.cache, block, &mut lowest) {
                assert_eq!(why, NotSent::Full);
                Simulated::pause();
                if !scene.count.goes_on() {
                    scene.books.borrow_mut().published.pop();
                    return scene.free(&mut self.cache, block);
                }
            }
            structure.bell(Role::Receiver).ring(u32::MAX);
            scene.books.borrow_mut().sent += 1;
            scene.count.one();
        }
    }

    /// Reads what is published, from the `next`th on; to the end if it is over. How many were read.
    fn subscribe(&mut self, index: usize, next: &Cell<usize>) {
        let scene = self.scene.clone();
        let structure = scene.structure(self.structure);
        while scene.count.goes_on() {
            if read_next(&scene, structure, index, next).is_none() {
                Simulated::pause();
            }
        }
    }
}

/// Reads what is at a subscriber's cursor, if there is something, and moves it on.
fn read_next(scene: &Scene, structure: Structure<'_, SimulatedRegion>, index: usize, next: &Cell<usize>) -> Option<()> {
    let log = Log::of(structure);
    match log.look(index) {
        ReadStatus::Block(live, _) => {
            scene.books.borrow_mut().read(next.replace(next.get() + 1), live);
            spend(scene.costs.message);
            touch(Place::Payload(live.at), Access::Load);
            log.advance(index);
            structure.bell(Role::Sender).ring_after_store(u32::MAX);
            Some(())
        }
        ReadStatus::Nothing => None,
        status => panic!("{status:?} of a lossless topic"),
    }
}

/// One run of a workload with structures.
pub(super) fn simulate(
    workload: Workload,
    cores: usize,
    costs: Costs,
    count: Count,
    seeds: &mut Rng,
) -> (machine::Seen, Books) {
    let from = count.from;
    let scene = Rc::new(Scene::make(workload, cores, count, costs));
    let mut bodies: Vec<Box<dyn FnOnce()>> = vec![];
    let mut cursors = vec![];
    for at in 0..cores {
        let place = if workload == Workload::Pairs { at / 2 } else { 0 };
        // Of an odd number of cores of pairs the last one has nobody.
        let Some(&(structure, _)) = scene.structures.get(place) else { continue };
        let mut core = Core { scene: scene.clone(), cache: ThreadCache::new(at as u16 + 1), structure };
        let role = match workload {
            Workload::Topic => Role::User,
            _ if at % 2 == 0 => Role::Sender,
            _ => Role::Receiver,
        };
        core.join(role);
        // A little apart, as threads begin.
        let late = seeds.fork().f64() * 1000.0;
        bodies.push(match (workload, role) {
            (Workload::Topic, _) if at > 0 => {
                let log = Log::of(scene.structure(structure));
                let index = log.join(core.me(), 0).expect("a cursor for each");
                let next = Rc::new(Cell::new(0));
                cursors.push((index, next.clone()));
                Box::new(move || {
                    spend(late);
                    core.subscribe(index, &next);
                })
            }
            (Workload::Topic, _) => Box::new(move || core.publish()),
            (_, Role::Sender) => Box::new(move || {
                spend(late);
                core.send();
            }),
            _ => Box::new(move || {
                spend(late);
                core.receive();
            }),
        });
    }
    let seen = machine::run(scene.heap.region(), &scene.made(), costs, from, bodies);
    scene.drain();
    for (index, next) in cursors {
        let structure = scene.structure(scene.structures[0].0);
        while read_next(&scene, structure, index, &next).is_some() {
            let books = &mut scene.books.borrow_mut();
            (books.received, books.left) = (books.received - 1, books.left + 1);
        }
    }
    let books = scene.books.take();
    (seen, books)
}

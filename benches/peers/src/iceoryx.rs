//! iceoryx2: its pool allocator, buckets of one size; and what its users hold, a publisher's loans and the
//! messages made of them.

use crate::list::{A, B, C, D, FIXED};
use crate::support::control::{Control, Patience};
use crate::support::peers::Peer;
use crate::support::registry::{self, Entry};
use crate::support::work::{self, Done, Role};
use crate::support::{ARENA, Outcome, processes};
use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::prelude::{
    Alignment, BackpressureStrategy, Config, FileName, NodeBuilder, Path, SemanticString, ServiceName, ipc,
};
use iceoryx2::sample_mut_uninit::SampleMutUninit;
use iceoryx2_bb_elementary::bump_allocator::BumpAllocator;
use iceoryx2_bb_memory::pool_allocator::{Allocate, Deallocate, PoolAllocator};
use memmap2::{MmapMut, MmapOptions};
use std::alloc::Layout;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// The largest size of the mix, in whole lines.
const BUCKET: usize = 576;
/// The largest size of the mix.
const LARGEST: usize = 544;

struct Pool {
    /// In a box: it must not move once it is initialised.
    pool: Box<PoolAllocator>,
    arena: MmapMut,
}

// SAFETY: by its documentation the pool is safe to use from any number of threads.
unsafe impl Sync for Pool {}

impl Pool {
    fn create() -> Outcome<Self> {
        let mut arena = MmapOptions::new().len(ARENA).populate().map_anon()?;
        let bucket = Layout::from_size_align(BUCKET, 64)?;
        // Its list of free buckets comes out of the same arena.
        let list = PoolAllocator::memory_size(bucket, ARENA).next_multiple_of(4096);
        let start = NonNull::new(arena.as_mut_ptr()).ok_or("no arena")?;
        // SAFETY: within the arena.
        let payload = unsafe { start.add(list) };
        // SAFETY: that many bytes are there, ours alone, as long as the pool lives: they are dropped together.
        let mut pool = Box::new(unsafe { PoolAllocator::new_uninit(bucket, payload, ARENA - list) });
        // SAFETY: once, before anything else, and the box stays where it is.
        unsafe { pool.init(&BumpAllocator::new(start, list)) }.map_err(|error| format!("no pool: {error:?}"))?;
        Ok(Self { pool, arena })
    }
}

impl Peer for Pool {
    type Block = NonNull<u8>;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        if size > BUCKET {
            return None; // It would say so in its log.
        }
        self.pool.allocate(crate::support::peers::layout(size)).ok()
    }
    #[inline(always)]
    fn touch(&self, block: &mut NonNull<u8>, value: u64) {
        // SAFETY: a live bucket of 576 bytes, aligned to 64, and this worker's alone.
        unsafe { block.cast::<u64>().as_ptr().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: the bucket is live.
        unsafe { self.pool.deallocate(block, crate::support::peers::layout(size)) }
    }
    #[inline(always)]
    fn pass(&self, block: NonNull<u8>) -> u64 {
        (block.addr().get() - self.arena.as_ptr().addr()) as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        let block = self.arena.as_ptr().cast_mut().wrapping_add(message as usize);
        self.free(NonNull::new(block).expect("an offset that was passed"), size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((ARENA, ARENA))
    }
}

type Loan = SampleMutUninit<ipc::Service, [MaybeUninit<u8>], ()>;

thread_local! {
    /// A publisher belongs to one thread.
    static PUBLISHER: RefCell<Option<Publisher<ipc::Service, [u8], ()>>> = const { RefCell::new(None) };
}

/// Each worker borrows of a publisher of its own and gives back unsent.
struct Loans;

/// The prefix of the shared memory of what the process with this number does, and where its other files are.
fn place(process: u32) -> (String, std::path::PathBuf) {
    let prefix = format!("atomic-matrix-peers-{process}-");
    let root = std::env::temp_dir().join(prefix.trim_end_matches('-'));
    (prefix, root)
}

/// Removes what the library keeps when all its processes are gone, or leaves when one is killed.
pub(crate) fn clean(process: u32) {
    let (prefix, root) = place(process);
    let _ = std::fs::remove_dir_all(root); // Never made: fine.
    for file in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

fn node(process: u32) -> Outcome<Node<ipc::Service>> {
    let (prefix, root) = place(process);
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix.as_bytes()).map_err(|error| format!("{prefix}: {error:?}"))?;
    let root = Path::new(root.as_os_str().as_encoded_bytes()).map_err(|error| format!("{root:?}: {error:?}"))?;
    config.global.set_root_path(&root);
    Ok(NodeBuilder::new().config(&config).create::<ipc::Service>().map_err(|error| format!("no node: {error:?}"))?)
}

fn service_name(name: &str) -> Outcome<ServiceName> {
    Ok(name.try_into().map_err(|error| format!("{name}: {error:?}"))?)
}

fn publisher() -> Outcome<Publisher<ipc::Service, [u8], ()>> {
    let service = node(conductor())?
        .service_builder(&service_name(&uuid::Uuid::new_v4().to_string())?)
        .publish_subscribe::<[u8]>()
        .payload_alignment(Alignment::new(8).ok_or("8 is a power of two")?)
        .create()
        .map_err(|error| format!("no service: {error:?}"))?;
    let builder = service.publisher_builder().initial_max_slice_len(LARGEST).max_loaned_samples(256);
    Ok(builder.create().map_err(|error| format!("no publisher: {error:?}"))?)
}

impl Peer for Loans {
    type Block = Loan;
    fn enter(&self) {
        PUBLISHER.set(Some(publisher().expect("a publisher for each worker")));
    }
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<Loan> {
        PUBLISHER.with_borrow(|publisher| publisher.as_ref()?.loan_slice_uninit(size).ok())
    }
    #[inline(always)]
    fn touch(&self, block: &mut Loan, value: u64) {
        // SAFETY: a loan of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.payload_mut().as_mut_ptr().cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: Loan, _: usize) {
        drop(block);
    }
    fn pass(&self, _: Loan) -> u64 {
        unreachable!("a loan belongs to its thread: no hand-over")
    }
    fn free_passed(&self, _: u64, _: usize) {
        unreachable!("a loan belongs to its thread: no hand-over")
    }
}

/// A message of the hand-over's size.
type Message = [u64; 16];
/// Messages on their way at most: as many as in the harness's ring.
const QUEUE: usize = 1024;

/// One side of a hand-over: the producer borrows, fills and sends; the consumer receives and gives back. The
/// queue between them is the library's.
fn side(process: u32, name: &str, control: &Control, role: Role) -> Outcome<Done> {
    work::part(role);
    let node = node(process)?;
    let service = node
        .service_builder(&service_name(name)?)
        .publish_subscribe::<Message>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(QUEUE)
        .open_or_create()
        .map_err(|error| format!("no service: {error:?}"))?;
    if role == Role::Consume {
        let subscriber = service.subscriber_builder().create().map_err(|error| format!("no subscriber: {error:?}"))?;
        if !control.await_start() {
            return Ok(Done::default());
        }
        let before = work::processor();
        let (mut operations, mut patience) = (0, Patience::default());
        loop {
            // In this order: what was sent before the end is received after it is seen.
            let ended = control.ended();
            match subscriber.receive().map_err(|error| format!("nothing received: {error:?}"))? {
                Some(message) => {
                    drop(message);
                    (operations, patience) = (operations + 1, Patience::default());
                }
                None if ended => break,
                None => patience.wait(),
            }
        }
        return Ok(Done { operations, processor: work::processor() - before, refused: 0 });
    }
    let builder = service.publisher_builder().backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
    let publisher = builder.create().map_err(|error| format!("no publisher: {error:?}"))?;
    if !control.await_start() {
        return Ok(Done::default());
    }
    let before = work::processor();
    let (mut messages, mut refused) = (0, 0);
    while !control.stopped() {
        let Ok(mut loan) = publisher.loan_uninit() else {
            refused += 1;
            continue;
        };
        // SAFETY: a loan of this size, and this worker's alone; no bytes of the message are invalid.
        let message = unsafe {
            loan.payload_mut().as_mut_ptr().cast::<u64>().write_volatile(messages);
            loan.assume_init()
        };
        message.send().map_err(|error| format!("not sent: {error:?}"))?;
        messages += 1;
    }
    control.end();
    Ok(Done { operations: 0, processor: work::processor() - before, refused })
}

/// A worker process of a hand-over; the arena is the service's name, behind the number of the process that places it.
pub(crate) fn worker(arena: &str, control: &Control, role: Role) -> Outcome<Done> {
    let (process, name) = arena.split_once(' ').ok_or("no such arena")?;
    side(process.parse()?, name, control, role)
}

/// The process that cleans up when all runs are over: this one's parent.
fn conductor() -> u32 {
    std::os::unix::process::parent_id()
}

fn messages_in_threads(roles: &[Role], seconds: f64) -> Outcome<crate::support::Work> {
    let name = uuid::Uuid::new_v4().to_string();
    registry::threads_with(roles, seconds, |control, role, _| {
        side(conductor(), &name, control, role).unwrap_or_else(|error| panic!("{error}"))
    })
}

fn messages_in_processes(roles: &[Role], seconds: f64) -> Outcome<crate::support::Work> {
    let arena = format!("{} {}", conductor(), uuid::Uuid::new_v4());
    processes::run(roles, seconds, PEER, &arena, || Ok(()))
}

/// What worker processes call this.
pub(crate) const PEER: &str = "iceoryx2";

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::threads("iceoryx2 0.10 pool", FIXED, |_| Pool::create()).only(&[A, B, C, D]),
        Entry::threads("iceoryx2 0.10 loan and drop", "shared, one size; own memory for each worker", |_| Ok(Loans))
            .only(&[A, B]),
        Entry::own("iceoryx2 0.10 messages, threads", "shared, a queue of one size", messages_in_threads).only(&[C]),
        Entry::own("iceoryx2 0.10 messages, processes", "shared, a queue of one size", messages_in_processes)
            .only(&[C]),
    ]
}

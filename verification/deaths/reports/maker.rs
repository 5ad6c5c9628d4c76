//! 12: whoever makes a structure is killed at every step of making it.
//!
//! A thread makes one with the processor's trap flag set, so that a signal comes behind each instruction. What an instruction
//! that changed the segment has left there is what a kill just then would leave: written into a file of its own, of which nobody
//! holds a lock, so its maker is dead. In each somebody else opens or makes that structure, uses it and removes it, and nothing is left.

use crate::{LONG, common, support};
use atomic_matrix::handlers::Handler;
use atomic_matrix::segment::Options;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicPtr};
use support::Dir;

const SIZE: usize = 256 << 10;
const AT_ONCE: usize = 64;

/// A structure; who makes it, and keeps it; who comes after that one, uses it and removes it.
type Made = (&'static str, fn(&'static Handler), fn(&Handler));

const MADE: &[Made] = &[
    (
        "channel",
        |handler| std::mem::forget(handler.channel::<u64>("it").capacity(4).open_or_create().expect("made")),
        |handler| {
            let channel = handler.channel::<u64>("it").open_or_create().expect("opened or made");
            let (sender, receiver) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
            sender.send_value(7).expect("room");
            assert_eq!(*receiver.try_recv().expect("it was sent"), 7);
            assert_eq!(channel.ends(), (1, 1));
            channel.remove().expect("ours");
        },
    ),
    (
        "line",
        |handler| std::mem::forget(handler.channel::<u64>("it").single().capacity(4).open_or_create().expect("made")),
        |handler| {
            let line = handler.channel::<u64>("it").single().open_or_create().expect("opened or made");
            let (sender, receiver) = (line.sender().expect("a sender"), line.receiver().expect("a receiver"));
            sender.send_value(7).expect("room");
            assert_eq!(*receiver.try_recv().expect("it was sent"), 7);
            line.remove().expect("ours");
        },
    ),
    (
        "work",
        |handler| std::mem::forget(handler.channel::<u64>("it").redeliver(4).open_or_create().expect("made")),
        |handler| {
            let jobs = handler.channel::<u64>("it").redeliver(4).open_or_create().expect("opened or made");
            let (sender, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
            sender.send_value(7).expect("room");
            let job = worker.try_recv().expect("it was sent");
            assert_eq!((*job, job.deliveries()), (7, 1));
            job.ack();
            jobs.remove().expect("ours");
        },
    ),
    (
        "topic",
        |handler| std::mem::forget(handler.topic::<u64>("it").cells(2).subscribers(2).open_or_create().expect("made")),
        |handler| {
            let topic = handler.topic::<u64>("it").open_or_create().expect("opened or made");
            let mut subscriber = topic.subscribe(9).expect("a place");
            topic.publish_value(7).expect("room");
            assert_eq!(subscriber.try_next().expect("open").as_deref(), Some(&7), "it is the first");
            topic.remove().expect("ours");
        },
    ),
    (
        "board",
        |handler| std::mem::forget(handler.board::<u64>("it").expect("made")),
        |handler| {
            let board = handler.board::<u64>("it").expect("opened or made");
            assert_eq!(board.get().expect("readable"), None);
            board.set(7).expect("room");
            assert_eq!(board.get().expect("readable"), Some(7));
            board.remove().expect("ours");
        },
    ),
    (
        "map",
        |handler| std::mem::forget(handler.map::<u64>("it").capacity(8).guards(2).open_or_create().expect("made")),
        |handler| {
            let map = handler.map::<u64>("it").open_or_create().expect("opened or made");
            assert!(map.is_empty());
            map.insert_value(b"one", 7).expect("room");
            assert_eq!(map.get(b"one").expect("a guard").as_deref(), Some(&7));
            map.remove().expect("ours");
        },
    ),
    (
        "service",
        |handler| {
            let service = handler.service::<u64, u64>("it").capacity(4).open_or_create().expect("made");
            let client = service.client().expect("a client, with a ring of its own");
            std::mem::forget((service, client));
        },
        |handler| {
            let service = handler.service::<u64, u64>("it").open_or_create().expect("opened or made");
            let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
            let mut responses = client.stream(client.request().expect("room"), LONG).expect("there is a server");
            let request = server.try_next().expect("it was sent");
            let mut response = request.response().expect("room");
            *response = 7;
            request.respond(response).expect("it is waited for");
            assert_eq!(responses.next_timeout(LONG).expect("it is there").as_deref(), Some(&7));
            drop(responses);
            service.remove().expect("ours");
        },
    ),
    (
        "event",
        |handler| std::mem::forget(handler.event("it").expect("made")),
        |handler| {
            let event = handler.event("it").expect("opened or made");
            assert!(!event.is_set().expect("no fork"));
            event.set().expect("no fork");
            assert!(event.clear().expect("no fork"));
            event.remove().expect("ours");
        },
    ),
    (
        "semaphore",
        |handler| std::mem::forget(handler.semaphore("it", 2).expect("made")),
        |handler| {
            let permits = handler.semaphore("it", 2).expect("opened or made");
            assert_eq!([(); 3].map(|()| permits.try_take().expect("no fork")), [true, true, false]);
            permits.remove().expect("ours");
        },
    ),
    (
        "barrier",
        |handler| std::mem::forget(handler.barrier("it", 1).expect("made")),
        |handler| {
            let gate = handler.barrier("it", 1).expect("opened or made");
            assert_eq!(gate.meet(LONG).expect("no fork"), Some(true));
            gate.remove().expect("ours");
        },
    ),
    (
        "mutex",
        |handler| std::mem::forget(handler.mutex::<u64>("it").expect("made")),
        |handler| {
            let mutex = handler.mutex::<u64>("it").expect("opened or made");
            {
                let mut held = mutex.lock(LONG).expect("a participant").expect("it is free");
                assert_eq!((*held, held.is_poisoned()), (0, false));
                *held = 7;
            }
            mutex.remove().expect("ours");
        },
    ),
];

/// The processor's trap flag: a signal behind each instruction.
const TRAP_FLAG: i64 = 0x100;

/// What the signal's handler looks at and writes, all of it made before.
struct Watched {
    words: *const u64,
    /// The words as they were behind the last instruction.
    before: Vec<u64>,
    instructions: u64,
    /// Behind which instruction which word became what.
    changes: Vec<(u64, usize, u64)>,
}

static WATCHED: AtomicPtr<Watched> = AtomicPtr::new(std::ptr::null_mut());
static OVER: AtomicBool = AtomicBool::new(false);

impl Watched {
    fn look(&mut self) {
        self.instructions += 1;
        for (at, before) in self.before.iter_mut().enumerate() {
            // SAFETY: a word of the mapping, which is there; only this thread writes it, and stands still.
            let now = unsafe { self.words.add(at).read_volatile() };
            if now != *before && self.changes.len() < self.changes.capacity() {
                *before = now;
                self.changes.push((self.instructions, at, now));
            }
        }
    }
}

extern "C" fn trapped(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let context: *mut libc::ucontext_t = context.cast();
    // SAFETY: the kernel gives the handler its thread's registers, to be changed.
    let flags = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_EFL as usize] };
    if OVER.load(SeqCst) {
        *flags &= !TRAP_FLAG;
        return;
    }
    *flags |= TRAP_FLAG;
    // SAFETY: it is there until this is over, and nobody else uses it meanwhile.
    unsafe { (*WATCHED.load(SeqCst)).look() };
}

/// Over once this is dropped.
struct Watch;

impl Watch {
    fn begins(watched: &mut Watched) -> Self {
        WATCHED.store(watched, SeqCst);
        OVER.store(false, SeqCst);
        // SAFETY: zeros are an action without flags and with an empty mask; the handler calls nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = trapped as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut()), 0);
            // On this thread, and behind that at each of its instructions.
            libc::raise(libc::SIGTRAP);
        }
        Self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        OVER.store(true, SeqCst);
    }
}

/// The segment as each instruction that changed it has left it, and how many instructions there were.
fn each_step(path: &Path, make: fn(&'static Handler)) -> (Vec<Vec<u8>>, u64) {
    // Leaked: its owner ends by dying.
    let handler = Box::leak(Box::new(Options::new().path(path).attach().expect("it is there")));
    drop(handler.message_of(0_u64).expect("room"));
    let segment = handler.matrix().segment();
    let first = std::fs::read(path).expect("readable");
    let before = first.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().expect("whole words"))).collect();
    let words = segment.base().as_ptr().cast_const().cast();
    let mut watched = Watched { words, before, instructions: 0, changes: Vec::with_capacity(1 << 16) };
    assert!(watched.before.len() * 8 <= segment.len(), "all of it is mapped");
    let watch = Watch::begins(&mut watched);
    make(handler);
    drop(watch);
    let (changes, mut left) = (watched.changes, vec![first]);
    assert!(changes.len() < changes.capacity(), "all were noted");
    for all in changes.chunk_by(|one, other| one.0 == other.0) {
        let mut now = left[left.len() - 1].clone();
        all.iter().for_each(|&(_, at, word)| now[8 * at..][..8].copy_from_slice(&word.to_ne_bytes()));
        left.push(now);
    }
    assert_eq!(left.last(), Some(&std::fs::read(path).expect("readable")), "nothing was missed");
    (left, watched.instructions)
}

/// Whoever comes to the segment as it was left, also if it came before, and has yet to find out that anybody died.
fn comes_after(path: &Path, before: bool, uses: fn(&Handler)) {
    let options = Options::new().path(path);
    let handler = if before { options.inspect() } else { options.attach() }.expect("it is whole");
    uses(&handler);
    handler.reap().expect("a slot");
    handler.heal().expect("a slot");
    assert!(handler.names().is_empty(), "{:?}", handler.names());
    common::rest_is_one_block(&handler);
}

#[test]
fn q3_q6_whoever_makes_a_structure_is_killed_at_every_step() {
    for &(name, make, uses) in MADE {
        let dir = Dir::new();
        let path = dir.0.join("made");
        drop(Options::new().path(&path).size(SIZE).create().expect("created"));
        let (left, instructions) = each_step(&path, make);
        println!("{name}: {instructions} instructions, {} of them change the segment", left.len() - 1);
        assert!(left.len() > 20, "{name}: it makes something");
        // Several at once: each waits for the kernel's barriers most of its time.
        let comes = &|k: usize| {
            let copy = dir.0.join(k.to_string());
            std::fs::write(&copy, &left[k]).expect("room");
            std::fs::set_permissions(&copy, Permissions::from_mode(0o600)).expect("ours");
            comes_after(&copy, k % 2 == 1, uses);
            std::fs::remove_file(&copy).expect("ours");
        };
        for (at, some) in left.chunks(AT_ONCE).enumerate() {
            std::thread::scope(|scope| {
                let each = (at * AT_ONCE..).take(some.len()).map(|k| (k, scope.spawn(move || comes(k))));
                for (k, come) in each.collect::<Vec<_>>() {
                    assert!(come.join().is_ok(), "{name}: killed at change {k} of {}", left.len() - 1);
                }
            });
        }
    }
}

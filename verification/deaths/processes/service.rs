//! A service whose clients and servers are killed or stopped all the time: each call gets its own response,
//! or its caller is told; nobody who is told that nobody answers was answered; and nothing is left.

use crate::common::{Rng, Scratch, setting};
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions};
use atomic_matrix::ipc::{Failed, Unanswered, Unreceived, Unsent};
use atomic_matrix::segment::Options;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Workers that there may be one after the other, and calls that each client makes at most.
const LIVES: usize = 512;
const EACH: usize = 1 << 15;
const WORDS: usize = EACH / 64;
/// Books: a bit for each call that a server has answered, and for each whose caller was told that nobody answers.
const ANSWERED: usize = 0;
const TOLD: usize = LIVES * WORDS;
const GOT: usize = 2 * LIVES * WORDS;
const WRONG: usize = GOT + 1;
const MISSED: usize = GOT + 2;
const STOP: usize = GOT + 3;
const ALL: usize = GOT + 4;
const NAME: &str = "calls";

struct Books {
    handler: Handler,
    block: Block<[u64; ALL]>,
}

impl Books {
    fn word(&self, i: usize) -> &AtomicU64 {
        assert!(i < ALL);
        let first: *mut u64 = self.handler.resolve(&self.block.pointer()).cast();
        // SAFETY: in range of the live block; everybody accesses it atomically; the handler lives as long.
        unsafe { AtomicU64::from_ptr(first.add(i)) }
    }
    fn stopped(&self) -> bool {
        self.word(STOP).load(SeqCst) != 0
    }
    fn tick(&self, book: usize, call: u64) {
        let (life, k) = ((call >> 32) as usize, call & 0xFFFF_FFFF);
        assert!(life < LIVES && (k as usize) < EACH);
        self.word(book + life * WORDS + k as usize / 64).fetch_or(1 << (k % 64), SeqCst);
    }
}

fn response_to(call: u64) -> impl Iterator<Item = u64> {
    (0..1 + call % 30).map(move |i| call ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn service_worker() {
    let Ok(segment) = std::env::var("MATRIX_SERVICE_SEGMENT") else { return };
    let attach = |id: &str| Options::new().id(Uuid::parse_str(id).expect("an id")).attach().expect("it exists");
    let handler = attach(&segment);
    let side = attach(&std::env::var("MATRIX_SERVICE_BOOKS").expect("said"));
    let block = side.lookup::<[u64; ALL]>("books").expect("published");
    let books = Books { handler: side, block };
    match setting("MATRIX_SERVICE_LIFE", 0) {
        0 => serve(&handler, &books),
        life => call(&handler, &books, life),
    }
}

fn call(handler: &Handler, books: &Books, life: u64) {
    let service = handler.service::<u64, [u64]>(NAME).open_or_create().expect("it is there");
    let client = service.client().expect("a client");
    for k in 0..EACH as u64 {
        if books.stopped() {
            return;
        }
        let number = life << 32 | k;
        let mut request = client.request().expect("room");
        *request = number;
        match client.call(request, Duration::from_secs(5)) {
            Ok(response) if response.iter().copied().eq(response_to(number)) => {
                books.word(GOT).fetch_add(1, SeqCst);
            }
            Ok(_) => _ = books.word(WRONG).fetch_add(1, SeqCst),
            Err(failed) => match failed.why {
                Failed::Unanswered { .. } => {
                    books.tick(TOLD, number);
                    books.word(MISSED).fetch_add(1, SeqCst);
                }
                Failed::NoServer { .. } | Failed::Timeout => {}
                Failed::Unsent { why: Unsent::Timeout | Unsent::Disconnected { .. } } => {}
                why => panic!("{why}"),
            },
        }
    }
}

fn serve(handler: &Handler, books: &Books) {
    let service = handler.service::<u64, [u64]>(NAME).open_or_create().expect("it is there");
    let server = service.server().expect("a server");
    let mut random = Rng(std::process::id().into());
    while !books.stopped() {
        match server.next_timeout(Duration::from_millis(50)) {
            Ok(request) => {
                let number = *request;
                // Dropped, sometimes.
                if random.below(20) == 0 {
                    continue;
                }
                let mut response = request.response_slice(response_to(number).count()).expect("room");
                response.iter_mut().zip(response_to(number)).for_each(|(word, value)| *word = value);
                match request.respond(response) {
                    Ok(()) => books.tick(ANSWERED, number),
                    Err(refused) => {
                        assert!(matches!(refused.why, Unanswered::Gone | Unanswered::GivenUp), "{refused:?}");
                    }
                }
            }
            Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) => std::thread::yield_now(),
            Err(why) => panic!("{why}"),
        }
    }
}

fn spawn(heap: &Scratch, side: &Scratch, life: u64) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "service::service_worker"])
        .env("MATRIX_SERVICE_SEGMENT", heap.0.to_string())
        .env("MATRIX_SERVICE_BOOKS", side.0.to_string())
        .env("MATRIX_SERVICE_LIFE", life.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("spawned")
}

/// Two clients and two servers, killed and replaced, or stopped for a while, until the time is over or so
/// many were killed: how many.
fn round(seed: u64, kills: u64, end: Instant) -> u64 {
    let (heap, side) = (Scratch::new(), Scratch::new());
    let handler = heap.options().size(4 << 20).create().expect("created");
    let books = side.options().size(8 << 20).create().expect("created");
    let block = books.allocate::<[u64; ALL]>().expect("room");
    books.publish("books", &block).expect("published");
    let books = Books { block: books.lookup("books").expect("published"), handler: books };
    let service = handler.service::<u64, [u64]>(NAME).capacity(8).open_or_create().expect("made");
    let mut random = Rng(seed);
    let (mut lives, mut killed) = (2, 0);
    let mut workers: Vec<(u64, Child)> = [1, 2, 0, 0].map(|life| (life, spawn(&heap, &side, life))).into();
    while Instant::now() < end && killed < kills && (lives as usize) + 1 < LIVES {
        std::thread::sleep(Duration::from_millis(5 + random.below(25) as u64));
        let at = random.below(4);
        if random.below(5) == 0 {
            crate::map::signal(&workers[at].1, rustix::process::Signal::STOP);
            std::thread::sleep(Duration::from_millis(random.below(30) as u64));
            crate::map::signal(&workers[at].1, rustix::process::Signal::CONT);
            continue;
        }
        workers[at].1.kill().expect("it runs");
        workers[at].1.wait().expect("it has ended");
        killed += 1;
        if workers[at].0 != 0 {
            lives += 1;
            workers[at].0 = lives;
        }
        workers[at].1 = spawn(&heap, &side, workers[at].0);
    }
    // The last ones come to something before they end.
    let got = books.word(GOT).load(SeqCst);
    let patience = Instant::now();
    while books.word(GOT).load(SeqCst) < got + 10 && patience.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    books.word(STOP).store(1, SeqCst);
    for (_, mut worker) in workers {
        assert!(worker.wait().expect("it has ended").success(), "a worker failed");
    }
    handler.reap().expect("a slot");
    let both =
        (0..LIVES * WORDS).any(|i| books.word(ANSWERED + i).load(SeqCst) & books.word(TOLD + i).load(SeqCst) != 0);
    assert!(!both, "Q3: told that nobody answers, and answered");
    assert_eq!(books.word(WRONG).load(SeqCst), 0, "Q1: another's response, or torn");
    assert!(books.word(GOT).load(SeqCst) > 10, "nothing happened");
    println!(
        "{} calls answered, {} told, {killed} killed",
        books.word(GOT).load(SeqCst),
        books.word(MISSED).load(SeqCst)
    );
    // What still waits is dropped: nobody waits for it.
    let server = service.server().expect("a server");
    assert!(matches!(server.try_next(), Err(Unreceived::Empty | Unreceived::Disconnected { .. })));
    drop(server);
    service.remove().expect("ours");
    drop(service);
    crate::common::rest_is_one_block(&handler);
    killed
}

/// Two seconds, or as many kills as `MATRIX_KILLS` says, in rounds.
#[test]
fn q3_clients_and_servers_are_killed() {
    crate::map::in_rounds(round);
}

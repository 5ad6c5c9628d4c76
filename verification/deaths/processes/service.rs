//! A service whose clients and servers are killed or stopped all the time: each call gets its own response,
//! or its caller is told; nobody who is told that nobody answers was answered; and nothing is left.

use crate::books::{Books, Crew, all_end, at_work, grows, in_rounds};
use crate::common::Rng;
use crate::held::Times;
use crate::woken::{Waited, Way};
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{CallError, Failed, Message, Unanswered, Unreceived, Unsent};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

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
const ALL: usize = GOT + 4;
const NAME: &str = "calls";

/// Ticks a call off.
fn tick(books: &Books<ALL>, book: usize, call: u64) {
    let (life, k) = ((call >> 32) as usize, call & 0xFFFF_FFFF);
    assert!(life < LIVES && (k as usize) < EACH);
    books.tick(book + life * WORDS, k);
}

fn response_to(call: u64) -> impl Iterator<Item = u64> {
    (0..1 + call % 30).map(move |i| call ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn service_worker() {
    let Some((handler, books, life)) = at_work::<ALL>() else { return };
    match life {
        0 => serve(&handler, &books),
        life => call(&handler, &books, life),
    }
}

fn call(handler: &Handler, books: &Books<ALL>, life: u64) {
    let service = handler.service::<u64, [u64]>(NAME).open_or_create().expect("it is there");
    let (client, clocks) = (service.client().expect("a client"), books.clocks());
    for k in 0..EACH as u64 {
        if books.stopped() {
            return;
        }
        let number = life << 32 | k;
        let mut request = clocks.heap(|| client.request()).expect("room");
        *request = number;
        let since = |called: &Result<Message<'_, [u64]>, CallError<'_, u64>>| {
            let dead = || clocks.dead_at(life as usize, k);
            match called {
                Ok(_) => clocks.said(Way::To, life as usize, k).or_else(dead).map(Waited::There),
                Err(failed) if matches!(failed.why, Failed::Unanswered { .. }) => dead().map(Waited::Dead),
                Err(_) => None,
            }
        };
        match clocks.waits_for(|| client.call(request, Duration::from_secs(5)), since) {
            Ok(response) if response.iter().copied().eq(response_to(number)) => {
                books.word(GOT).fetch_add(1, SeqCst);
            }
            Ok(_) => _ = books.word(WRONG).fetch_add(1, SeqCst),
            Err(failed) => match failed.why {
                Failed::Unanswered { .. } => {
                    tick(books, TOLD, number);
                    books.word(MISSED).fetch_add(1, SeqCst);
                }
                Failed::NoServer { .. } | Failed::Timeout => {}
                Failed::Unsent { why: Unsent::Timeout | Unsent::Disconnected { .. } } => {}
                why => panic!("{why}"),
            },
        }
    }
}

fn serve(handler: &Handler, books: &Books<ALL>) {
    let service = handler.service::<u64, [u64]>(NAME).open_or_create().expect("it is there");
    let (server, clocks) = (service.server().expect("a server"), books.clocks());
    let mut random = Rng(std::process::id().into());
    while !books.stopped() {
        let next = match clocks.timed(|| server.try_next()) {
            Err(Unreceived::Empty) => clocks.waits(|| server.next_timeout(Duration::from_millis(300))),
            next => next,
        };
        match next {
            Ok(request) => {
                let number = *request;
                let (life, k) = ((number >> 32) as usize, number & 0xFFFF_FFFF);
                clocks.works_for(life, k);
                // Dropped, sometimes.
                if random.below(20) == 0 {
                    continue;
                }
                let length = response_to(number).count();
                let mut response = clocks.heap(|| request.response_slice(length)).expect("room");
                response.iter_mut().zip(response_to(number)).for_each(|(word, value)| *word = value);
                match clocks.timed(|| request.respond(response)) {
                    Ok(()) => {
                        clocks.there(Way::To, life, k);
                        tick(books, ANSWERED, number);
                    }
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

/// Two clients and two servers, killed and replaced, or stopped for a while, until the time is over or so
/// many were killed: how many.
fn round(seed: u64, kills: u64, end: Instant) -> (u64, Times) {
    let (crew, books) = Crew::new::<ALL>("service::service_worker", false);
    let handler = crew.heap.options().size(4 << 20).create().expect("created");
    let service = handler.service::<u64, [u64]>(NAME).capacity(8).open_or_create().expect("made");
    let mut random = Rng(seed);
    let mut workers = [1, 2, 0, 0].map(|life| (life, crew.spawn(life)));
    let killed =
        crew.kills(books.clocks(), &mut workers, &mut random, (kills, end, LIVES - 1), 5..30, |_| true).iter().sum();
    // The last ones come to something before they end.
    grows(&books, GOT, 10);
    all_end(&books, workers.into_iter().map(|(_, worker)| worker));
    handler.reap().expect("a slot");
    let both = (0..LIVES * WORDS).any(|i| books.get(ANSWERED + i) & books.get(TOLD + i) != 0);
    assert!(!both, "Q3: told that nobody answers, and answered");
    assert_eq!(books.get(WRONG), 0, "Q1: another's response, or torn");
    assert!(books.get(GOT) > 10, "nothing happened");
    println!("{} calls answered, {} told, {killed} killed", books.get(GOT), books.get(MISSED));
    // What still waits is dropped: nobody waits for it.
    let server = service.server().expect("a server");
    assert!(matches!(server.try_next(), Err(Unreceived::Empty | Unreceived::Disconnected { .. })));
    drop(server);
    service.remove().expect("ours");
    drop(service);
    crate::common::rest_is_one_block(&handler);
    (killed, books.clocks().times())
}

/// Two seconds, or as many kills as `MATRIX_KILLS` says, in rounds.
#[test]
fn q3_clients_and_servers_are_killed() {
    in_rounds("service", round);
}

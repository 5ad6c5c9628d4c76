//! A service whose responses are streams, longer than the ring that they come through; clients and servers are killed or
//! stopped all the time. Each client gets its stream's responses once each, whole and in order, and its end; or all that its
//! server had sent, and then is told; and nothing is left.

use crate::books::{Books, Crew, all_end, at_work, grows, in_rounds};
use crate::common::Rng;
use crate::held::{Clocks, Times};
use crate::woken::{Waited, Way};
use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{Failed, Message, Request, Responses, Unanswered, Unreceived, Unsent};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Workers that there may be one after the other, and calls that each client makes at most.
const LIVES: usize = 512;
const EACH: usize = 1 << 15;
const WORDS: usize = EACH / 64;
/// Books: a bit for each call whose stream a server has ended, and for each whose caller was told that it does not end; of each
/// client's last call, how many responses were sent to it.
const ENDED: usize = 0;
const TOLD: usize = LIVES * WORDS;
const SENT: usize = 2 * LIVES * WORDS;
/// Responses that were got; streams to their end, broken off, given up; responses that were got and whose server died before it counted them.
const GOT: usize = SENT + LIVES;
const WHOLE: usize = GOT + 1;
const BROKEN: usize = GOT + 2;
const GIVEN_UP: usize = GOT + 3;
const UNCOUNTED: usize = GOT + 4;
/// Torn, or not the next one; an end before the last one, or none behind it; sent, and lost.
const WRONG: usize = GOT + 5;
const SHORT: usize = GOT + 6;
const LOST: usize = GOT + 7;
const ALL: usize = GOT + 9;
const NAME: &str = "streams";
/// A ring has 16.
const LONGEST: u64 = 40;
const PATIENCE: Duration = Duration::from_millis(300);

fn parts(call: u64) -> (usize, u64) {
    ((call >> 32) as usize, call & 0xFFFF_FFFF)
}

fn tick(books: &Books<ALL>, book: usize, call: u64) {
    let (life, k) = parts(call);
    assert!(life < LIVES && (k as usize) < EACH);
    books.tick(book + life * WORDS, k);
}

fn mixed(call: u64) -> u64 {
    call.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

/// How many responses a call has.
fn responses(call: u64) -> u64 {
    mixed(call) % (LONGEST + 1)
}

fn response(call: u64, i: u64) -> impl Iterator<Item = u64> {
    (0..2 + (call + i) % 30).map(move |at| call ^ (i << 8 | at).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// A response's number among all that a life gets.
fn turn(k: u64, i: u64) -> u64 {
    k * (LONGEST + 1) + i
}

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn stream_worker() {
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
        let call = life << 32 | k;
        let mut request = clocks.heap(|| client.request()).expect("room");
        *request = call;
        match clocks.waits(|| client.stream(request, Duration::from_secs(5))) {
            Ok(stream) => {
                clocks.there(Way::From, life as usize, k);
                take(books, stream, call);
            }
            Err(failed) => {
                let known = matches!(failed.why, Failed::Unsent { why: Unsent::Timeout | Unsent::Disconnected { .. } });
                assert!(known, "{failed:?}");
            }
        }
    }
}

/// Takes a stream to its end, or half of it.
fn take(books: &Books<ALL>, mut stream: Responses<'_, u64, [u64]>, call: u64) {
    let (clocks, (life, k)) = (books.clocks(), parts(call));
    let count = |book| _ = books.word(book).fetch_add(1, SeqCst);
    let most = if (mixed(call) / 64).is_multiple_of(8) { responses(call) / 2 } else { u64::MAX };
    let mut got = 0;
    while got < most {
        let since = |next: &Result<Option<Message<'_, [u64]>>, Error>| since(clocks, next, (life, k), got);
        match clocks.waits_for(|| stream.next_timeout(PATIENCE), since) {
            Ok(Some(next)) => {
                count(if next.iter().copied().eq(response(call, got)) { GOT } else { WRONG });
                got += 1;
            }
            Ok(None) => {
                count(if got == responses(call) { WHOLE } else { SHORT });
                return;
            }
            Err(Error::CallFailed { why: Failed::Timeout }) if books.stopped() => return,
            Err(Error::CallFailed { why: Failed::Timeout }) => {}
            Err(Error::CallFailed { why: Failed::Unanswered { died } }) => return broken_off(books, call, got, died),
            // No server has had it.
            Err(Error::CallFailed { why: Failed::NoServer { .. } }) if got == 0 => return count(BROKEN),
            Err(error) => panic!("{error}"),
        }
    }
    count(GIVEN_UP);
}

/// Since when the next response is there, or its server dead.
fn since(
    clocks: Clocks<'_>,
    next: &Result<Option<Message<'_, [u64]>>, Error>,
    (life, k): (usize, u64),
    got: u64,
) -> Option<Waited> {
    let dead = || clocks.dead_at(life, k);
    match next {
        Ok(_) => clocks.said(Way::To, life, turn(k, got)).or_else(dead).map(Waited::There),
        Err(Error::CallFailed { why: Failed::Unanswered { .. } }) => dead().map(Waited::Dead),
        Err(_) => None,
    }
}

/// The server has died, or dropped the request: what it had sent was got. Of a dead one's that may be one that it did not count any more.
fn broken_off(books: &Books<ALL>, call: u64, got: u64, died: bool) {
    let (life, k) = parts(call);
    tick(books, TOLD, call);
    books.word(BROKEN).fetch_add(1, SeqCst);
    let word = books.get(SENT + life);
    let sent = if word >> 32 == k + 1 { word & 0xFFFF_FFFF } else { 0 };
    match got {
        _ if got == sent => {}
        _ if got == sent + 1 && died => _ = books.word(UNCOUNTED).fetch_add(1, SeqCst),
        _ => _ = books.word(LOST).fetch_add(1, SeqCst),
    }
}

fn serve(handler: &Handler, books: &Books<ALL>) {
    let service = handler.service::<u64, [u64]>(NAME).open_or_create().expect("it is there");
    let (server, clocks) = (service.server().expect("a server"), books.clocks());
    let mut random = Rng(std::process::id().into());
    let since = |next: &Result<Request<'_, u64, [u64]>, Unreceived>| {
        let (life, k) = parts(**next.as_ref().ok()?);
        clocks.since(life, k)
    };
    while !books.stopped() {
        let next = match clocks.timed(|| server.try_next()) {
            Err(Unreceived::Empty) => clocks.waits_for(|| server.next_timeout(PATIENCE), since),
            next => next,
        };
        match next {
            Ok(request) => {
                let (life, k) = parts(*request);
                clocks.works_for(life, k);
                // Broken off, sometimes.
                let most = if random.below(20) == 0 { responses(*request) / 2 } else { u64::MAX };
                answer(books, request, most);
            }
            Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) => std::thread::yield_now(),
            Err(why) => panic!("{why}"),
        }
    }
}

/// Sends a call's responses, but no more than so many; and ends the stream with the last one, or behind it.
fn answer(books: &Books<ALL>, mut request: Request<'_, u64, [u64]>, most: u64) {
    let (clocks, call) = (books.clocks(), *request);
    let ((life, k), all) = (parts(call), responses(call));
    for i in 0..all {
        if i == most {
            return;
        }
        let length = response(call, i).count();
        let mut message = clocks.heap(|| request.response_slice(length)).expect("room");
        message.iter_mut().zip(response(call, i)).for_each(|(word, value)| *word = value);
        let last = i + 1 == all && call.is_multiple_of(2);
        let mut next = Some(message);
        while let Some(message) = next.take() {
            let sent = clocks.waits(|| match last {
                true => request.respond_and_keep(message),
                false => request.send(message, PATIENCE),
            });
            match sent {
                Ok(()) => {}
                // Its caller may be stopped.
                Err(refused) if refused.why == Unanswered::Full && !books.stopped() => next = Some(refused.message),
                Err(refused) => {
                    let known = matches!(refused.why, Unanswered::Gone | Unanswered::GivenUp | Unanswered::Full);
                    assert!(known, "{refused:?}");
                    return;
                }
            }
        }
        clocks.there(Way::To, life, turn(k, i));
        books.word(SENT + life).fetch_max((k + 1) << 32 | (i + 1), SeqCst);
        if last {
            return tick(books, ENDED, call);
        }
    }
    loop {
        match clocks.waits(|| request.finish_and_keep()) {
            Ok(()) => {
                clocks.there(Way::To, life, turn(k, all));
                return tick(books, ENDED, call);
            }
            Err(Error::NotAnswered { why: Unanswered::Full }) if !books.stopped() => {}
            Err(Error::NotAnswered { why: Unanswered::Gone | Unanswered::GivenUp | Unanswered::Full }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Two clients and two servers, killed and replaced, or stopped for a while, until the time is over or so many were killed: how many.
fn round(seed: u64, kills: u64, end: Instant) -> (u64, Times) {
    let (crew, books) = Crew::new::<ALL>("streams::stream_worker", false);
    let handler = crew.heap.options().size(4 << 20).create().expect("created");
    let service = handler.service::<u64, [u64]>(NAME).capacity(8).open_or_create().expect("made");
    let mut random = Rng(seed);
    let mut workers = [1, 2, 0, 0].map(|life| (life, crew.spawn(life)));
    let limits = (kills, end, LIVES - 2);
    let killed = crew.kills(books.clocks(), &mut workers, &mut random, limits, 5..30, |_| true).iter().sum();
    // The last ones come to something before they end.
    grows(&books, WHOLE, 10);
    all_end(&books, workers.into_iter().map(|(_, worker)| worker));
    handler.reap().expect("a slot");
    balance(&books, killed);
    // What still waits is dropped: nobody waits for it.
    let server = service.server().expect("a server");
    assert!(matches!(server.try_next(), Err(Unreceived::Empty | Unreceived::Disconnected { .. })));
    drop(server);
    service.remove().expect("ours");
    drop(service);
    crate::common::rest_is_one_block(&handler);
    (killed, books.clocks().times())
}

/// Each response came once, and each stream ended as its server said.
fn balance(books: &Books<ALL>, killed: u64) {
    let [got, whole, broken, given_up, uncounted] =
        [GOT, WHOLE, BROKEN, GIVEN_UP, UNCOUNTED].map(|book| books.get(book));
    println!(
        "{got} responses of {whole} streams to their end, {broken} broken off, {given_up} given up, {killed} killed, \
        {uncounted} of them between a response and its count"
    );
    let both = (0..LIVES * WORDS).any(|i| books.get(ENDED + i) & books.get(TOLD + i) != 0);
    assert!(!both, "Q3: told that nobody answers, and a stream that was ended");
    assert_eq!(books.get(WRONG), 0, "Q1: another's response, torn, twice, or out of order");
    assert_eq!(books.get(SHORT), 0, "Q6: an end that is not the end");
    assert_eq!(books.get(LOST), 0, "Q3: what a server had sent before it died was not got");
    assert!(uncounted <= killed, "Q3: responses that nobody sent");
    assert!(whole > 10 && got > 100, "nothing happened");
}

#[test]
fn q3_clients_and_servers_of_streams_are_killed() {
    in_rounds("streams", round);
}

//! 11: the wall clock is set back while somebody waits.
//!
//! Nobody here may set this machine's clock, so this binary's own `clock_gettime` stands in front of the C library's: it
//! tells the kernel's time, but on a thread that asked for it each look at the wall clock is an hour before the last.

use crate::{LONG, SHORT, common};
use atomic_matrix::ipc::{Unreceived, Unsent};
use std::cell::Cell;
use std::time::{Instant, SystemTime};

thread_local! {
    /// On this thread: how often the wall clock was looked at, once it runs back.
    static LOOKS: Cell<Option<i64>> = const { Cell::new(None) };
}

/// # Safety
/// As clock_gettime(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's own arguments.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let wall = [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE, libc::CLOCK_TAI].contains(&clock);
    if let Ok(Some(looks)) = LOOKS.try_with(Cell::get)
        && wall
        && done == 0
    {
        LOOKS.set(Some(looks + 1));
        // SAFETY: the kernel has just written it.
        unsafe { (*time).tv_sec -= 3600 * (looks + 1) };
    }
    done as libc::c_int
}

/// Every wait with a bound ends after it, and not before, whatever the wall clock says; nobody even looks at it.
#[test]
fn q5_the_wall_clock_is_set_back_while_somebody_waits() {
    let (scratch, handler) = common::segment();
    let full = handler.channel::<u64>("full").capacity(1).create().expect("made");
    let empty = handler.channel::<u64>("empty").create().expect("made");
    let (sender, _keeps) = (full.sender().expect("a sender"), full.receiver().expect("a receiver"));
    let (receiver, _alive) = (empty.receiver().expect("a receiver"), empty.sender().expect("a sender"));
    sender.send_value(1).expect("room");
    let (event, permits) = (handler.event("event").expect("made"), handler.semaphore("permits", 0).expect("made"));
    let (mutex, gate) = (handler.mutex::<u64>("mutex").expect("made"), handler.barrier("gate", 2).expect("made"));
    let topic = handler.topic::<u64>("topic").open_or_create().expect("made");
    let mut subscriber = topic.subscribe(0).expect("a place");
    let board = handler.board::<u64>("board").expect("made");
    let service = handler.service::<u64, u64>("service").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let other = scratch.attach();
    let theirs = other.mutex::<u64>("mutex").expect("made");
    let held = theirs.lock(LONG).expect("a participant").expect("it is free");
    LOOKS.set(Some(0));
    let (first, second) = (SystemTime::now(), SystemTime::now());
    assert!(second < first && LOOKS.replace(Some(0)) == Some(2), "the clock runs back here");
    let ends = |what: &str, wait: &mut dyn FnMut()| {
        let begun = Instant::now();
        wait();
        assert!((SHORT..LONG).contains(&begun.elapsed()), "{what}: {:?}", begun.elapsed());
    };
    ends("send", &mut || {
        let refused = sender.send_timeout(handler.message_of(2).expect("room"), SHORT);
        assert_eq!(refused.expect_err("full").why, Unsent::Timeout);
    });
    ends("receive", &mut || assert_eq!(receiver.recv_timeout(SHORT).err(), Some(Unreceived::Timeout)));
    ends("event", &mut || assert!(!event.wait(SHORT).expect("no fork")));
    ends("semaphore", &mut || assert!(!permits.take(SHORT).expect("no fork")));
    ends("barrier", &mut || assert!(gate.meet(SHORT).expect("no fork").is_none()));
    ends("mutex", &mut || assert!(mutex.lock(SHORT).expect("a participant").is_none()));
    ends("subscriber", &mut || assert!(subscriber.next_timeout(SHORT).expect("open").is_none()));
    ends("board", &mut || assert!(board.changed(&mut 0, SHORT).expect("readable").is_none()));
    ends("server", &mut || assert_eq!(server.next_timeout(SHORT).err(), Some(Unreceived::Timeout)));
    ends("client", &mut || {
        let call = client.call(client.request().expect("room"), SHORT);
        assert!(call.is_err(), "nobody answers");
    });
    assert_eq!(LOOKS.get(), Some(0), "nobody looks at the wall clock");
    drop(held);
}

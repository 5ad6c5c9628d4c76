//! A barrier that is refused after attaching: what another thread or process has parked can't be taken, and
//! whoever asks for it is told.

use crate::common::MIB;
use crate::filter::{Ended, watched};
use crate::support::{Dir, argument, child};
use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::segment::Options;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Leaves 256 bytes live and much parked.
fn park(handler: &Handler) -> u32 {
    let kept = handler.allocate_raw(256).expect("room").offset();
    let parked: Vec<_> = (1..60).filter_map(|n| handler.allocate_raw(n * 16).ok()).collect();
    parked.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
    kept
}

/// What needs the barrier is refused as long as it is, and done when it is to be had again. `theirs`:
/// another's live block.
fn without_a_fence(options: Options, theirs: u32) {
    let missing = Arc::new(AtomicBool::new(false));
    let switch = missing.clone();
    let body = move || {
        let refused = |told: Result<(), Error>| {
            let error = told.expect_err("without a barrier it can't be done");
            assert!(matches!(error, Error::NoMembarrier) && error.to_string().contains("membarrier(2)"), "{error}");
        };
        let handler = options.attach().expect("nothing is refused yet");
        let own = handler.allocate::<u64>().expect("room");
        let sector = handler.stats().expect("sound").sector_bytes as usize;
        switch.store(true, Ordering::SeqCst);
        refused(handler.heal());
        refused(handler.adopt_at(theirs, None).map(drop));
        refused(handler.allocate_raw(sector - 4096).map(drop));
        let foreign = handler.allocate::<[u64; 40]>().expect("room");
        handler.free(foreign);
        handler.publish("own", &own).expect("an own block needs no barrier");
        assert!(handler.stats().expect("sound").parked_blocks > 0, "there was something to take");
        switch.store(false, Ordering::SeqCst);
        handler.heal().expect("the barrier is to be had again");
        assert_eq!(handler.stats().expect("sound").parked_blocks, 0);
        let adopted = handler.adopt_at(theirs, None).expect("the same");
        handler.free_raw(adopted).expect("live");
    };
    let refuse = move |call: crate::filter::Call| {
        (call.number == libc::SYS_membarrier && missing.load(Ordering::SeqCst)).then_some(libc::EPERM)
    };
    match watched(refuse, body) {
        Ended::With(()) => {}
        Ended::Panicked(text) => panic!("{text}"),
        Ended::Endless => panic!("it does not end"),
    }
}

#[test]
fn a_barrier_refused_after_attaching_is_told_beside_another_thread() {
    let dir = Dir::new();
    let options = Options::new().path(dir.0.join("segment")).size(MIB);
    let handler = options.create().expect("created");
    without_a_fence(options, park(&handler));
}

#[test]
fn a_barrier_refused_after_attaching_is_told_beside_another_process() {
    let dir = Dir::new();
    let options = Options::new().path(dir.0.join("segment")).size(MIB);
    let _made = options.create().expect("created");
    let mut peer = child("fences::parks_and_waits", &dir.0.join("segment").display().to_string());
    let mut told = BufReader::new(peer.stdout.take().expect("piped")).lines().map(|line| line.expect("readable"));
    let theirs = told.find_map(|line| line.strip_prefix("parked ")?.parse().ok()).expect("it parks");
    without_a_fence(options, theirs);
    drop(peer.stdin.take());
    assert!(peer.wait().expect("it ends").success());
}

#[test]
#[ignore = "a role: parks blocks, and waits until its input ends"]
fn parks_and_waits() {
    let Some(path) = argument() else { return };
    let handler = Options::new().path(PathBuf::from(path)).attach().expect("attached");
    println!("\nparked {}", park(&handler));
    std::io::stdout().flush().expect("written");
    let _ = std::io::stdin().read_line(&mut String::new());
}

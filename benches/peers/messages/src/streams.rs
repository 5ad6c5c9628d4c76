//! Streams, and there and back: all sides poll.

use crate::Outcome;
use crate::control::{Control, Patience, Words};
use crate::peers::{In, Out, Peer};
use crate::run::Task;
use crate::setting::{Kind, Setting};
use crate::worker::{Chunks, each};
use std::sync::atomic::AtomicU64;

/// One process's part, for one peer.
pub(crate) fn part<P: Peer>(task: &Task) -> Outcome<()> {
    let control = Control::open(&task.name)?;
    let peer = control.words().first_makes(task.first, || P::make(task), || P::open(task))?;
    each(task, &|worker| one(&peer, control.words(), &task.setting, worker))
}

fn one<P: Peer>(peer: &P, words: &Words, setting: &Setting, worker: usize) -> Outcome<()> {
    let (sends, back) = (worker.is_multiple_of(2), setting.kind == Kind::Latency);
    let (mut tx, mut rx) = (None, None);
    // Whoever receives comes first, since some peers' receivers are what a sender finds; but of two that do both, one.
    if back && !sends {
        tx = Some(peer.output(1)?);
    }
    if back || !sends {
        rx = Some(peer.input(usize::from(back && sends))?);
    }
    if sends {
        tx = Some(peer.output(0)?);
    }
    let fastest = &words.results[worker].fastest;
    words.await_start();
    words.timed(worker, || match (tx, rx) {
        (Some(tx), Some(rx)) if sends => ping(tx, rx, words, setting, fastest),
        (Some(tx), Some(rx)) => pong(tx, rx, words, setting.size),
        (Some(tx), None) => send(tx, words, setting),
        (None, Some(rx)) => receive(rx, words, setting, fastest),
        (None, None) => Ok(0),
    })
}

#[inline(never)]
fn send(mut tx: impl Out, words: &Words, setting: &Setting) -> Outcome<u64> {
    let (mut sent, size) = (0, setting.size);
    'all: while !words.stopped() {
        for _ in 0..32 {
            let mut patience = Patience::default();
            while !tx.send(size, sent)? {
                if words.stopped() {
                    break 'all;
                }
                patience.wait();
            }
            sent += 1;
            if sent == 1 {
                tx.flush()?;
                words.await_meeting();
            }
        }
    }
    tx.flush()?;
    words.end();
    words.await_drained(setting.pairs);
    Ok(sent)
}

#[inline(never)]
fn receive(mut rx: impl In, words: &Words, setting: &Setting, fastest: &AtomicU64) -> Outcome<u64> {
    let (mut received, mut patience) = (0, Patience::default());
    let mut chunks = Chunks::new(setting, fastest);
    loop {
        // In this order: what was sent before the end is received after it is seen.
        let ended = words.ended() == setting.pairs;
        match rx.receive(setting.size)? {
            Some(value) => {
                std::hint::black_box(value);
                (received, patience) = (received + 1, Patience::default());
                chunks.one(received);
                if received == 1 {
                    words.meet();
                }
            }
            None if ended => {
                words.drain();
                return Ok(received);
            }
            None => patience.wait(),
        }
    }
}

/// Polls, and gives the core away now and then.
#[inline(always)]
fn poll(words: &Words, mut act: impl FnMut() -> Outcome<bool>) -> Outcome<bool> {
    for tries in 1_u32.. {
        if act()? {
            return Ok(true);
        }
        std::hint::spin_loop();
        if tries.is_multiple_of(4096) {
            if words.ended() > 0 {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }
    Ok(false)
}

#[inline(never)]
fn ping(mut tx: impl Out, mut rx: impl In, words: &Words, setting: &Setting, fastest: &AtomicU64) -> Outcome<u64> {
    let (mut trips, size) = (0, setting.size);
    let mut chunks = Chunks::new(setting, fastest);
    while !words.stopped() {
        poll(words, || tx.send(size, trips))?;
        tx.flush()?;
        poll(words, || Ok(rx.receive(size)?.is_some()))?;
        trips += 1;
        chunks.one(trips);
    }
    words.end();
    Ok(trips)
}

#[inline(never)]
fn pong(mut tx: impl Out, mut rx: impl In, words: &Words, size: usize) -> Outcome<u64> {
    let mut trips = 0;
    loop {
        let mut value = 0;
        let came = poll(words, || {
            let got = rx.receive(size)?;
            value = got.unwrap_or(0);
            Ok(got.is_some())
        })?;
        if !came {
            return Ok(trips);
        }
        poll(words, || tx.send(size, value))?;
        tx.flush()?;
        trips += 1;
    }
}

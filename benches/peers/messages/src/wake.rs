//! There and back between two who sleep: the price of being woken.

use crate::Outcome;
use crate::control::{Control, Words};
use crate::peers::{In, Out, Peer};
use crate::run::Task;
use crate::setting::Setting;
use crate::worker::each;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// So long nothing is sent, so that the other side sleeps.
const QUIET: Duration = Duration::from_micros(150);

/// One process's part, for one peer.
pub(crate) fn part<P: Peer>(task: &Task) -> Outcome<()> {
    let control = Control::open(&task.name)?;
    let (words, setting) = (control.words(), &task.setting);
    let peer = words.first_makes(task.first, || P::make(task), || P::open(task))?;
    each(task, &|worker| {
        // Each receiver is there before the other side's sender, which some peers' senders ask for.
        let rx = peer.input(1 - worker)?;
        let tx = peer.output(worker)?;
        words.await_start();
        words.timed(worker, || match worker {
            0 => ping(tx, rx, words, setting),
            _ => pong(tx, rx, words, setting.size),
        })
    })
}

#[inline(never)]
fn ping(mut tx: impl Out, mut rx: impl In, words: &Words, setting: &Setting) -> Outcome<u64> {
    let (mut trips, mut spent) = (0, vec![]);
    while !words.stopped() {
        std::thread::sleep(QUIET);
        let begun = Instant::now();
        if !tx.send(setting.size, trips)? {
            return Err("no room for one message".into());
        }
        while rx.wait(setting.size)?.is_none() {}
        spent.push(begun.elapsed().as_nanos() as u64 * 1000 / 2);
        trips += 1;
    }
    words.end();
    spent.sort_unstable();
    let result = &words.results[0];
    result.fastest.store(spent.get(spent.len() / 10).copied().ok_or("too short a run")?, Ordering::Release);
    result.median.store(spent[spent.len() / 2], Ordering::Release);
    Ok(trips)
}

#[inline(never)]
fn pong(mut tx: impl Out, mut rx: impl In, words: &Words, size: usize) -> Outcome<u64> {
    let mut trips = 0;
    while words.ended() == 0 {
        if let Some(value) = rx.wait(size)? {
            if !tx.send(size, value)? {
                return Err("no room for one message".into());
            }
            trips += 1;
        }
    }
    Ok(trips)
}

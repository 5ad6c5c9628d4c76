//! Fan-out: one publishes a burst while the subscribers sleep, then each of them reads all of it; in turns. So the
//! price of a publication is the publisher's own, on a machine with fewer cores than subscribers, too.

use crate::Outcome;
use crate::control::{Control, Patience, Words};
use crate::peers::{In, Out, Peer};
use crate::run::Task;
use crate::setting::Setting;
use crate::worker::each;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// One process's part, for one peer.
pub(crate) fn part<P: Peer>(task: &Task) -> Outcome<()> {
    let control = Control::open(&task.name)?;
    let (words, setting) = (control.words(), &task.setting);
    let peer = words.first_makes(task.first, || P::make(task), || P::open(task))?;
    each(task, &|worker| {
        if worker == 0 {
            let tx = peer.output(0)?;
            words.await_start();
            return words.timed(worker, || publish(tx, words, setting));
        }
        let rx = peer.input(0)?;
        words.await_start();
        words.timed(worker, || read(rx, words, setting))
    })
}

/// Publications of a burst: half of what there is room for, so that nobody is waited for.
fn burst(setting: &Setting) -> u64 {
    setting.cells as u64 / 2
}

#[inline(never)]
fn publish(mut tx: impl Out, words: &Words, setting: &Setting) -> Outcome<u64> {
    let (burst, size) = (burst(setting), setting.size);
    let (mut times, mut spent) = (0, vec![]);
    loop {
        let begun = Instant::now();
        for value in 0..burst {
            let mut patience = Patience::default();
            while !tx.send(size, value)? {
                patience.wait();
            }
        }
        tx.flush()?;
        spent.push(begun.elapsed().as_nanos() as u64 * 1000 / burst);
        let last = words.stopped();
        if last {
            words.end();
        }
        times += 1;
        words.give_turn(times, setting.pairs);
        if last {
            break;
        }
    }
    // The first one maps and fills what the others find ready.
    spent.remove(0);
    spent.sort_unstable();
    let result = &words.results[0];
    result.fastest.store(spent.first().copied().ok_or("too short a run")?, Ordering::Release);
    result.median.store(spent[spent.len() / 2], Ordering::Release);
    Ok(u64::from(times) * burst)
}

#[inline(never)]
fn read(mut rx: impl In, words: &Words, setting: &Setting) -> Outcome<u64> {
    let mut read = 0;
    for times in 1.. {
        words.await_turn(times);
        // Asked before the turn is over: behind it the publisher may be at its last one already.
        let last = words.ended() > 0;
        let mut patience = Patience::default();
        let mut missing = burst(setting);
        while missing > 0 {
            match rx.receive(setting.size)? {
                Some(value) => {
                    std::hint::black_box(value);
                    (read, missing) = (read + 1, missing - 1);
                }
                None => patience.wait(),
            }
        }
        words.turn_over();
        if last {
            break;
        }
    }
    Ok(read)
}

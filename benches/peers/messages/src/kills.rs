//! Kills at full load: one who sends is killed inside its calls, again and again, while a survivor sends and receives
//! through the same structure. Told is how long the survivor was held up, and a run ends where it stands still, where
//! a message that was sent is lost or comes twice, or where memory stays taken.

use crate::Outcome;
use crate::control::{Control, KILLS, Words};
use crate::peers::{Entry, In, Out, Peer};
use crate::run::{Conducted, Run, Task};
use crate::setting::Setting;
use crate::worker::{each, processor};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Operations of the survivor that are timed together.
const PART: u64 = 64;
/// Without progress for so long the survivor stands still.
const STILL: Duration = Duration::from_secs(2);
/// Messages of the survivor's own that are on their way at most.
const OWN: u64 = 16;
/// Above a message's number: who sent it.
const SENDER_AT: u32 = 40;

/// One process's part, for one peer. Worker 0 survives; a victim's number is that of its kill, from 1 on.
pub(crate) fn part<P: Peer>(task: &Task) -> Outcome<()> {
    let control = Control::open(&task.name)?;
    let words = control.words();
    if !task.first {
        let peer = P::open(task)?;
        let mut tx = peer.output(0)?;
        return match task.workers.first() {
            Some(&victim) => send_until_killed(&mut tx, words, victim as u64),
            None => Ok(()),
        };
    }
    let peer = words.first_makes(true, || P::make(task), || P::open(task))?;
    each(task, &|_| {
        let mut rx = peer.input(0)?;
        let mut tx = peer.output(0)?;
        // What a structure keeps of the past is there before anything is counted.
        for number in 0..2 * task.setting.cells as u64 {
            if !tx.send(task.setting.size, number)? || rx.receive(task.setting.size)? != Some(number) {
                return Err(format!("message {number} does not go through").into());
            }
        }
        let before = peer.taken()?;
        words.await_start();
        words.timed(0, || survive(tx, rx, words, task.setting.size))?;
        if peer.taken()? > before {
            return Err(format!("{} bytes stay taken", peer.taken()? - before).into());
        }
        Ok(())
    })
}

fn send_until_killed(tx: &mut impl Out, words: &Words, victim: u64) -> Outcome<()> {
    for number in 0.. {
        while !tx.send(64, victim << SENDER_AT | number)? {
            std::hint::spin_loop();
        }
        // What it has been told is sent.
        words.results[1].done.store(number + 1, Ordering::Release);
        // Some peers' receivers connect when they first receive, and what was sent before and found no room is dropped.
        while number == 0 && words.received[victim as usize - 1].load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    }
    Ok(())
}

#[inline(never)]
fn survive(mut tx: impl Out, mut rx: impl In, words: &Words, size: usize) -> Outcome<u64> {
    let (mut sent, mut received, mut done) = (0, 0, 0_u64);
    let (mut longest, mut quiet, mut before, mut part) = (0, 0_u32, processor(), PART);
    let mut next = [0; KILLS + 1];
    let result = &words.results[0];
    loop {
        let stopped = words.stopped();
        if !stopped && sent - received < OWN && tx.send(size, sent)? {
            (sent, done) = (sent + 1, done + 1);
        }
        // All that is there: some peers' receivers look at one sender's messages until there are none.
        let mut took = 0;
        while took < PART
            && let Some(value) = rx.receive(size)?
        {
            took += 1;
            let (sender, number) = ((value >> SENDER_AT) as usize, value & ((1 << SENDER_AT) - 1));
            let expected = if sender == 0 { &mut received } else { &mut next[sender] };
            if number != *expected {
                return Err(format!("sender {sender}'s message {number} came, not {expected}").into());
            }
            *expected += 1;
            if sender > 0 && number == 0 {
                words.received[sender - 1].store(1, Ordering::Release);
            }
        }
        done += took;
        quiet = if took == 0 { quiet + 1 } else { 0 };
        if done >= part {
            let now = processor();
            longest = longest.max(now - before);
            (before, part) = (now, done + PART);
            result.done.store(done, Ordering::Release);
        }
        // The others are dead.
        if stopped && quiet > 10_000 {
            break;
        }
    }
    if sent != received {
        return Err(format!("{} of the survivor's own messages are lost", sent - received).into());
    }
    result.median.store(longest, Ordering::Release);
    for (word, next) in words.received.iter().zip(&next[1..]) {
        word.store(*next, Ordering::Release);
    }
    Ok(done)
}

/// One run: so many kills.
pub(crate) fn once(entry: &Entry, setting: &Setting) -> Outcome<Run> {
    let mut run = Conducted::new(entry, setting)?;
    run.start(true, vec![0])?;
    run.await_ready(1)?;
    let control = run.control();
    let words = control.words();
    words.start();
    let mut completed = vec![];
    for kill in 1..=KILLS {
        words.results[1].done.store(0, Ordering::Release);
        run.start(false, vec![kill])?;
        let sends = |words: &Words| Ok(words.results[1].done.load(Ordering::Acquire) > 1000);
        run.wait("the victim's first messages", sends)
            .map_err(|error| still(words, completed.len()).unwrap_or(error))?;
        // At another moment each time.
        std::thread::sleep(Duration::from_micros(200 + 37 * kill as u64));
        run.kill_last()?;
        completed.push(words.results[1].done.load(Ordering::Acquire));
        if let Some(error) = still(words, kill) {
            return Err(error);
        }
    }
    words.stop();
    run.await_end()?;
    for (kill, &sent) in completed.iter().enumerate() {
        let received = words.received[kill].load(Ordering::Acquire);
        // It may have been killed between its last call and saying so.
        if received < sent || received > sent + 1 {
            return Err(format!("{sent} messages were sent before kill {}, and {received} received", kill + 1).into());
        }
    }
    let result = &words.results[0];
    let done = result.done.load(Ordering::Acquire) as f64;
    let processor = result.processor.load(Ordering::Acquire) as f64;
    let held_up = result.median.load(Ordering::Acquire) as f64 / 1e6;
    Ok(Run { value: held_up, fastest: None, processor: processor / done, share: f64::NAN })
}

/// Whether the survivor gets nothing done any more.
fn still(words: &Words, kill: usize) -> Option<Box<dyn std::error::Error + Send + Sync>> {
    let done = || words.results[0].done.load(Ordering::Acquire);
    let (before, end) = (done(), Instant::now() + STILL);
    while done() == before {
        if Instant::now() > end {
            return Some(format!("the survivor stands still after kill {kill}").into());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    None
}

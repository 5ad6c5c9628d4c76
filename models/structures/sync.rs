//! What waits by nature (src/ipc/sync): semaphore, event, lock and barrier, but for the sleep.

use crate::engine::{Step, Word};
use crate::waiting::{Call, Fault, Look, Run, STATE, Seer, Sleep, Todo, word};

pub fn take(cpu: &mut Run<'_>, bell: u8) -> Step<bool> {
    let at = word(bell, STATE);
    let taken = |world: &mut Seer| {
        world.check(world.spec.permits[bell as usize] > 0, "S3: a permit is taken twice");
        world.spec.permits[bell as usize] -= u8::from(world.spec.permits[bell as usize] > 0);
    };
    loop {
        let count = cpu.load(at)?;
        if count.number() == 0 {
            return Ok(false);
        }
        let fewer = Word::Number(count.number() - 1);
        if cpu.planted(Fault::TakenPlainly) {
            cpu.store_and(at, fewer, taken)?;
            return Ok(true);
        }
        if cpu.cas_and(at, count, fewer, taken)? {
            return Ok(true);
        }
    }
}

pub fn clear(cpu: &mut Run<'_>) -> Step<bool> {
    if cpu.load(STATE)?.number() == 0 {
        return Ok(false);
    }
    let believes = cpu.planted(Fault::ClearedByTwo);
    let look = |before: Word, world: &mut Seer| {
        world.check(before.number() == 1 || !believes, "S3: two go on for one setting");
    };
    let was_set = cpu.change_and(STATE, |_| Word::Number(0), look)?.number() == 1;
    Ok(was_set || believes)
}

/// Takes the lock, or takes it over.
pub fn lock(cpu: &mut Run<'_>, look: Look) -> Step<bool> {
    let me = cpu.me;
    let mut now = cpu.load(STATE)?;
    loop {
        let (poisoned, holder) = now.pair();
        let taken = |told: bool| {
            move |world: &mut Seer| {
                let before = std::mem::replace(&mut world.spec.holder, me);
                world.check(before == 0 || world.is_dead(before), "S3: two have a lock");
                world.spec.is_poisoned |= before != 0;
                world.check(
                    world.spec.is_poisoned == told,
                    "S3: what a dead holder left is not told, or told of the living",
                );
            }
        };
        if holder == 0 {
            if cpu.cas_and(STATE, now, Word::Pair(poisoned, me), taken(poisoned == 1))? {
                return Ok(true);
            }
            now = cpu.load(STATE)?;
            continue;
        }
        if look == Look::Quick || cpu.planted(Fault::DeadHold) {
            return Ok(false);
        }
        let clock = cpu.planted(Fault::ClockDecides);
        let is_dead = cpu.access(|cpu| Word::Number((cpu.world.is_dead(holder) || clock).into()))?.number() == 1;
        if is_dead && cpu.planted(Fault::TakenOverPlainly) {
            cpu.store_and(STATE, Word::Pair(1, me), taken(true))?;
            return Ok(true);
        }
        return Ok(is_dead && cpu.cas_and(STATE, now, Word::Pair(1, me), taken(true))?);
    }
}

pub fn meet(cpu: &mut Run<'_>, call: Call, parties: u8) -> Step<Todo> {
    let mut now = cpu.load(STATE)?;
    loop {
        let (round, arrived) = now.pair();
        let last = arrived + 1 >= parties;
        let next = if last { Word::Pair(round + 1, 0) } else { Word::Pair(round, arrived + 1) };
        let came = |world: &mut Seer| {
            world.spec.arrived += 1;
            world.check(
                last == (world.spec.arrived == parties),
                "S3: a barrier opens before all have arrived, or after",
            );
            world.spec.arrived %= parties;
        };
        if cpu.cas_and(STATE, now, next, came)? {
            return Ok(match last {
                true => Todo::Ring { bell: 0, most: u8::MAX },
                false => Todo::Await(Sleep::of(call, round)),
            });
        }
        now = cpu.load(STATE)?;
    }
}

pub fn give_up(cpu: &mut Run<'_>, round: u8) -> Step<()> {
    let gone = |world: &mut Seer| {
        world.check(world.spec.arrived > 0, "S3: who gives up takes back what has counted");
        world.spec.arrived -= u8::from(world.spec.arrived > 0);
    };
    if cpu.planted(Fault::ArrivalKept) {
        return cpu
            .access(|cpu| {
                gone(cpu.world);
                Word::Number(0)
            })
            .map(drop);
    }
    loop {
        let now = cpu.load(STATE)?;
        let (current, arrived) = now.pair();
        if current != round && !cpu.planted(Fault::ArrivalUnchecked) {
            return Ok(());
        }
        if cpu.cas_and(STATE, now, Word::Pair(current, arrived.saturating_sub(1)), gone)? {
            return Ok(());
        }
    }
}

/// What is put, in front of the ring.
pub fn put(cpu: &mut Run<'_>, call: Call) -> Step<()> {
    match call {
        Call::Give(bell, permits) => {
            let given = |_: Word, world: &mut Seer| world.spec.permits[bell as usize] += permits;
            cpu.change_and(word(bell, STATE), |word| Word::Number(word.number() + permits), given)?;
        }
        Call::Unlock => {
            let forgets = cpu.planted(Fault::PoisonForgotten);
            let free = |word: Word| Word::Pair(if forgets { 0 } else { word.pair().0 }, 0);
            let freed = |_: Word, world: &mut Seer| world.spec.holder = 0;
            cpu.change_and(STATE, free, freed)?;
            *cpu.own = false;
        }
        _ => _ = cpu.change_and(STATE, |_| Word::Number(1), |_, _| {})?,
    }
    Ok(())
}

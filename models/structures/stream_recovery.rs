//! What a recovery does for a stream of responses, whichever side has died (src/ipc/settle.rs, src/matrix/recovery.rs).

use crate::engine::{Standing, Step, Stop, Word};
use crate::stream::{
    CLIENT, EMPTY, Fault, NO, REQUEST, RESPONSE, Role, Run, SEALED, Seer, Todo, USED, YES, ring, take,
};

/// The dead one's link in a cell is completed, and a void one is cleared.
fn settle(cpu: &mut Run<'_>, dead: u8, cell: usize) -> Step<Todo> {
    if let Word::Link(link) = cpu.load(cell)? {
        match cpu.standing(link)? {
            Standing::Pending(header) if link.giver == dead => _ = cpu.let_go(link, header)?,
            Standing::Void => _ = cpu.cas(cell, Word::Link(link), EMPTY)?,
            _ => {}
        }
    }
    Ok(if cell == REQUEST { Todo::Settle { dead, cell: RESPONSE } } else { Todo::RingAll { dead } })
}

/// What is left in a dead client's ring is freed, and it is sealed: whoever comes late finds the seal, or is received.
fn drain(cpu: &mut Run<'_>, dead: u8) -> Step<Todo> {
    if !cpu.planted(Fault::Undrained)
        && let Some((link, ..)) = take(cpu, RESPONSE, |_, _| {})?
    {
        return Ok(Todo::Drained { dead, link });
    }
    let now = cpu.load(RESPONSE)?;
    let sealed = now == SEALED
        || (now == EMPTY || cpu.planted(Fault::Undrained)) && {
            let lost = |world: &mut Seer| world.check(now == EMPTY, "Q3: a ring is sealed with a response in it");
            cpu.cas_and(RESPONSE, now, SEALED, lost)?
        };
    if sealed { Ok(Todo::RingSenders { dead }) } else { Err(Stop::Again) }
}

pub fn recover(cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
    let early = cpu.planted(Fault::BlocksBeforeLinks);
    Ok(match todo {
        Todo::Recover { dead } if early => Todo::FreeBlocks { dead, at: 0 },
        Todo::Recover { dead } => Todo::Settle { dead, cell: REQUEST },
        Todo::Settle { dead, cell } => settle(cpu, dead, cell)?,
        Todo::RingAll { dead } => {
            ring(cpu, Role::Receiver, u8::MAX)?;
            ring(cpu, Role::Sender, u8::MAX)?;
            Todo::Forget { dead }
        }
        Todo::Forget { dead } => {
            if dead == CLIENT {
                cpu.cas(USED, YES, NO)?;
            }
            match cpu.load(USED)? == NO {
                true => Todo::Drain { dead },
                false if early => Todo::Release { dead },
                false => Todo::FreeBlocks { dead, at: 0 },
            }
        }
        Todo::Drain { dead } => drain(cpu, dead)?,
        Todo::Drained { dead, link } => {
            cpu.cas(RESPONSE, Word::Link(link), EMPTY)?;
            cpu.free(link.block, link.generation)?;
            Todo::Drain { dead }
        }
        Todo::RingSenders { dead } => {
            if !cpu.planted(Fault::SealUntold) {
                ring(cpu, Role::Sender, u8::MAX)?;
            }
            if early { Todo::Release { dead } } else { Todo::FreeBlocks { dead, at: 0 } }
        }
        Todo::FreeBlocks { dead, at } => match cpu.free_of_the_dead(dead, at)? {
            true => Todo::FreeBlocks { dead, at: at + 1 },
            false if early => Todo::Settle { dead, cell: REQUEST },
            false => Todo::RingClient { dead },
        },
        Todo::RingClient { dead } => {
            if !cpu.planted(Fault::RungEarly) {
                ring(cpu, Role::Receiver, u8::MAX)?;
            }
            Todo::Release { dead }
        }
        Todo::Release { dead } => {
            cpu.release(dead)?;
            Todo::Done
        }
        other => unreachable!("{other:?}"),
    })
}

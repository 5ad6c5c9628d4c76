//! The protocol of announced operations (src/matrix/operation.rs), for a model checker: the same steps in the
//! same order, one access each, without hints, parking and memory orderings.

use crate::steps::{Cpu, Mutant, Step};
use crate::words::{Header, Kind, NOBODY, Op};

/// Where a participant's code goes on: what it knows there is in here, so that answers before it can be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Todo {
    /// Frees the live block at `at`.
    Free {
        at: u8,
    },
    /// Frees a held block, merging it with its neighbours.
    Ripple {
        at: u8,
        held: Header,
    },
    /// The recheck at the neighbours of a block that became free.
    Settle {
        at: u8,
        then: Then,
    },
    /// Looks for a free block of `size` granules, so many more times.
    Find {
        size: u8,
        tries: u8,
    },
    /// Makes a held block live.
    Keep {
        at: u8,
        held: Header,
    },
    /// Walks over the tiles and merges what is left.
    Sweep {
        at: u8,
        restarts: u8,
    },
    Done,
}

/// What comes after a recheck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Then {
    Done,
    Find { size: u8, tries: u8 },
    Keep { at: u8, held: Header },
    Sweep { restarts: u8 },
}

/// Granules of a block that may be held while it is merged; larger ones are freed under an announcement.
const LARGEST_HELD: u8 = 1;
/// Starts of a sweep from the beginning, before it goes on granule by granule.
pub const RESTARTS: u8 = 3;

enum Joined {
    Whole,
    Aborted,
    Elsewhere,
    NotAnnounced,
}

impl Then {
    fn go(self, at: u8) -> Todo {
        match self {
            Self::Done => Todo::Done,
            Self::Find { size, tries } => Todo::Find { size, tries },
            Self::Keep { at, held } => Todo::Keep { at, held },
            Self::Sweep { restarts } => Todo::Sweep { at, restarts },
        }
    }
}

/// Runs to the next resting place.
pub fn run(cpu: &mut Cpu, todo: Todo) -> Step<Todo> {
    match todo {
        Todo::Free { at } => free(cpu, at),
        Todo::Ripple { at, held } => ripple(cpu, at, held, Then::Done),
        Todo::Settle { at, then } => settle(cpu, at, then),
        Todo::Find { size, tries } => find(cpu, size, tries),
        Todo::Keep { at, held } => {
            cpu.store_held(at, held, Header::new(Kind::Live, cpu.me, held.generation, held.low))?;
            Ok(Todo::Done)
        }
        Todo::Sweep { at, restarts } => sweep(cpu, at, restarts),
        Todo::Done => Ok(Todo::Done),
    }
}

fn still(cpu: &mut Cpu, at: u8, head: Header) -> Step<bool> {
    Ok(cpu.look(at)? == head)
}

fn free(cpu: &mut Cpu, at: u8) -> Step<Todo> {
    let live = cpu.look(at)?;
    let acked = Header::new(Kind::Acked, cpu.me, live.generation, live.low);
    if live.kind != Kind::Live || cpu.cas(at, live, acked)? != live {
        *cpu.fault = Some("S1: a live block was lost");
        return Ok(Todo::Done);
    }
    coalesce(cpu, at, acked, Then::Done)
}

fn coalesce(cpu: &mut Cpu, at: u8, acked: Header, then: Then) -> Step<Todo> {
    let held = Header::new(Kind::Coalescing, cpu.me, cpu.after(acked), acked.low);
    if acked.low <= LARGEST_HELD {
        if cpu.cas(at, acked, held)? != acked {
            return Ok(then.go(at));
        }
        return match then {
            Then::Done => Ok(Todo::Ripple { at, held }),
            then => ripple(cpu, at, held, then),
        };
    }
    cpu.write_op(Op::Free { at })?;
    let announced = cpu.cas(at, acked, held)? == acked;
    if announced {
        finish_free(cpu, at, held)?;
    }
    cpu.write_op(Op::None)?;
    Ok(if announced { Todo::Settle { at, then } } else { then.go(at) })
}

fn finish_free(cpu: &mut Cpu, at: u8, announced: Header) -> Step<()> {
    if write_footer(cpu, at, announced, announced.low)? {
        commit(cpu, at, announced, announced.low)?;
    }
    Ok(())
}

/// FREE of this size instead of the announcement; false if that was over.
fn commit(cpu: &mut Cpu, at: u8, announced: Header, size: u8) -> Step<bool> {
    let free = Header::new(Kind::Free, NOBODY, cpu.after(announced), size);
    Ok(cpu.cas(at, announced, free)? == announced)
}

fn write_footer(cpu: &mut Cpu, at: u8, head: Header, size: u8) -> Step<bool> {
    if size < 2 {
        return Ok(true);
    }
    let last = at + size - 1;
    let word = cpu.look(last)?;
    if !cpu.mutated(Mutant::FooterRecheckDropped) && !still(cpu, at, head)? {
        return Ok(false);
    }
    if word.kind == Kind::Inside && word.low != size - 1 {
        cpu.cas(last, word, Header::new(Kind::Inside, NOBODY, cpu.after(word), size - 1))?;
    }
    Ok(true)
}

fn cut(cpu: &mut Cpu, at: u8, header: Header, size: u8, again: Todo) -> Step<Todo> {
    cpu.write_op(Op::Cut { at, size })?;
    let announced = Header::new(Kind::Coalescing, cpu.me, cpu.after(header), header.low);
    if cpu.cas(at, header, announced)? != header {
        cpu.write_op(Op::None)?;
        return Ok(again);
    }
    if cpu.mutated(Mutant::TakenDownEarly) {
        cpu.write_op(Op::None)?;
    }
    finish_cut(cpu, at, announced, size)?;
    cpu.write_op(Op::None)?;
    let tail = at + header.low - size;
    let held = cpu.look(tail)?;
    if (held.kind, held.owner, held.low) != (Kind::Coalescing, cpu.me, size) {
        *cpu.fault = Some("S1: a cut lost its tail");
        return Ok(Todo::Done);
    }
    Ok(Todo::Settle { at, then: Then::Keep { at: tail, held } })
}

fn finish_cut(cpu: &mut Cpu, at: u8, announced: Header, size: u8) -> Step<()> {
    let rest = announced.low - size;
    let tail = at + rest;
    if !cpu.mutated(Mutant::FooterDropped) && !write_footer(cpu, at, announced, rest)? {
        return Ok(());
    }
    let inside = cpu.look(tail)?;
    if !cpu.mutated(Mutant::CutRecheckDropped) && !still(cpu, at, announced)? {
        return Ok(());
    }
    if inside.kind == Kind::Inside {
        cpu.cas(tail, inside, Header::new(Kind::Coalescing, announced.owner, cpu.after(inside), size))?;
    }
    commit(cpu, at, announced, rest).map(drop)
}

fn join(cpu: &mut Cpu, at: u8, left: Header, right: Header) -> Step<Joined> {
    let announced = Header::new(Kind::Coalescing, cpu.me, cpu.after(left), left.low);
    let late = cpu.mutated(Mutant::QuoteLate);
    if !late {
        cpu.quote(right)?;
    }
    cpu.write_op(Op::Join { at })?;
    if cpu.cas(at, left, announced)? != left {
        cpu.write_op(Op::None)?;
        return Ok(Joined::NotAnnounced);
    }
    if late {
        cpu.quote(right)?;
    }
    if cpu.mutated(Mutant::TakenDownEarly) {
        cpu.write_op(Op::None)?;
    }
    let joined = finish_join(cpu, at, announced, right)?;
    cpu.write_op(Op::None)?;
    Ok(joined)
}

fn finish_join(cpu: &mut Cpu, at: u8, announced: Header, quoted: Header) -> Step<Joined> {
    let left = announced.low;
    let both = left + quoted.low;
    let frozen = cpu.memory.frozen(left, quoted);
    let right = at + left;
    let mut found = cpu.cas(right, quoted, frozen)?;
    if cpu.mutated(Mutant::FreezeInexact) && found != quoted && (found.kind, found.low) == (quoted.kind, quoted.low) {
        let other = found;
        found = if cpu.cas(right, other, frozen)? == other { quoted } else { other };
    }
    let froze = found == quoted || found == frozen && !cpu.mutated(Mutant::FrozenUnrecognised);
    if !froze && !cpu.mutated(Mutant::CommitUnfrozen) {
        return Ok(if commit(cpu, at, announced, left)? { Joined::Aborted } else { Joined::Elsewhere });
    }
    if quoted.low > 1 && !write_footer(cpu, at, announced, both)? {
        return Ok(Joined::Whole);
    }
    commit(cpu, at, announced, both)?;
    Ok(Joined::Whole)
}

/// Finishes what `header` at `at` announces; false if it announces nothing.
fn help(cpu: &mut Cpu, at: u8, header: Header) -> Step<bool> {
    let op = cpu.read_op(header.owner)?;
    let quoted = cpu.read_quote(header.owner)?;
    if !cpu.mutated(Mutant::HelperRecheckDropped) && !still(cpu, at, header)? {
        return Ok(true);
    }
    match op {
        Op::Cut { at: there, size } if there == at && size < header.low => finish_cut(cpu, at, header, size)?,
        Op::Free { at: there } if there == at => finish_free(cpu, at, header)?,
        Op::Join { at: there } if there == at && at + header.low + quoted.low <= cpu.granules() => {
            finish_join(cpu, at, header, quoted)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn ripple(cpu: &mut Cpu, at: u8, held: Header, then: Then) -> Step<Todo> {
    if let Some((l, left)) = left_of(cpu, at)? {
        return match join(cpu, l, left, held)? {
            Joined::Whole | Joined::Elsewhere => Ok(Todo::Settle { at: l, then }),
            Joined::Aborted => {
                *cpu.fault = Some("S1: a held block was taken");
                Ok(Todo::Done)
            }
            Joined::NotAnnounced => match then {
                Then::Done => Ok(Todo::Ripple { at, held }),
                then => ripple(cpu, at, held, then),
            },
        };
    }
    write_footer(cpu, at, held, held.low)?;
    let right = cpu.look(at + held.low)?;
    if right.is_free() {
        // The held block's header is announcement enough.
        cpu.quote(right)?;
        cpu.write_op(Op::Join { at })?;
        finish_join(cpu, at, held, right)?;
        cpu.write_op(Op::None)?;
    } else {
        cpu.store_held(at, held, Header::new(Kind::Free, NOBODY, cpu.after(held), held.low))?;
    }
    Ok(Todo::Settle { at, then })
}

/// One round of the recheck.
fn settle(cpu: &mut Cpu, at: u8, then: Then) -> Step<Todo> {
    if cpu.mutated(Mutant::RecheckDropped) {
        return Ok(then.go(at));
    }
    let header = cpu.look(at)?;
    if !header.is_free() {
        return Ok(then.go(at));
    }
    let right = cpu.look(at + header.low)?;
    if right.is_free() {
        let joined = join(cpu, at, header, right)?;
        if matches!(joined, Joined::Aborted) && cpu.mutated(Mutant::AbortUnsettled) {
            return Ok(then.go(at));
        }
        return Ok(Todo::Settle { at, then });
    }
    if cpu.mutated(Mutant::LeftLookDropped) {
        return Ok(then.go(at));
    }
    let Some((l, left)) = left_of(cpu, at)? else { return Ok(then.go(at)) };
    Ok(match join(cpu, l, left, header)? {
        Joined::Aborted if cpu.mutated(Mutant::AbortUnsettled) => then.go(at),
        Joined::Whole | Joined::Elsewhere | Joined::Aborted => Todo::Settle { at: l, then },
        Joined::NotAnnounced => Todo::Settle { at, then },
    })
}

fn left_of(cpu: &mut Cpu, at: u8) -> Step<Option<(u8, Header)>> {
    let Some(last) = at.checked_sub(1) else { return Ok(None) };
    let word = cpu.look(last)?;
    let (l, header) = match word.kind {
        Kind::Inside if word.low == 0 => return Ok(None),
        Kind::Inside => match last.checked_sub(word.low) {
            Some(l) => (l, cpu.look(l)?),
            None => return Ok(None),
        },
        _ => (last, word),
    };
    let adjacent = l + header.low == at || cpu.mutated(Mutant::AdjacencyUnchecked);
    Ok((header.is_free() && adjacent).then_some((l, header)))
}

fn find(cpu: &mut Cpu, size: u8, tries: u8) -> Step<Todo> {
    let would_do = |header: Header| header.kind == Kind::Coalescing || header.is_free() && header.low >= size;
    let (Some((at, header)), Some(left)) = (cpu.find(would_do)?, tries.checked_sub(1)) else { return Ok(Todo::Done) };
    let again = Todo::Find { size, tries: left };
    if header.kind == Kind::Coalescing {
        let helped = help(cpu, at, header)? && !cpu.mutated(Mutant::HelperLeaves);
        let then = Then::Find { size, tries: left };
        return Ok(if helped { Todo::Settle { at, then } } else { again });
    }
    if header.low > size {
        return cut(cpu, at, header, size, again);
    }
    let held = Header::new(Kind::Coalescing, cpu.me, cpu.after(header), size);
    Ok(if cpu.cas(at, header, held)? == header { Todo::Keep { at, held } } else { again })
}

/// One tile of a sweep.
fn sweep(cpu: &mut Cpu, at: u8, restarts: u8) -> Step<Todo> {
    if at >= cpu.granules() {
        return Ok(Todo::Done);
    }
    let header = cpu.look(at)?;
    if header.kind == Kind::Inside || header.low == 0 || header.low > cpu.granules() - at {
        let from = if restarts < RESTARTS { 0 } else { at + 1 };
        return Ok(Todo::Sweep { at: from, restarts: (restarts + 1).min(RESTARTS) });
    }
    let (then, next) = (Then::Sweep { restarts }, Todo::Sweep { at: at + header.low, restarts });
    match header.kind {
        Kind::Acked => coalesce(cpu, at, header, then),
        Kind::Coalescing if help(cpu, at, header)? => {
            Ok(if cpu.mutated(Mutant::HelperLeaves) { then.go(at) } else { Todo::Settle { at, then } })
        }
        Kind::Free => {
            let right = cpu.look(at + header.low)?;
            let touched = matches!(right.kind, Kind::Free | Kind::Inside) && at + header.low < cpu.granules();
            Ok(if touched { Todo::Settle { at, then } } else { next })
        }
        _ => Ok(next),
    }
}

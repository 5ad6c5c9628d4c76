//! Calls (src/ipc/call.rs): a request in one cell, its responses in a ring of the client's own, which servers visit; the same
//! steps in the same order. Both rings have one cell, and a message is taken from them as `channel` has it.

use crate::engine::{Cpu, Header, Link, Standing, Step, Stop, Structure, Word, World};

/// Of one client, the first participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Calls;

const CLIENT: u8 = 1;
const REQUEST: usize = 0;
const RESPONSE: usize = 1;
/// Which call the client waits for.
const AWAITED: usize = 2;
/// Whether the client is counted among the ring's users; whether the ring is there.
const USED: usize = 3;
const RING: usize = 4;
/// Who visits the ring: a word for each participant.
const VISITING: usize = 5;

const EMPTY: Word = Word::Empty(0);
const SEALED: Word = Word::Sealed(0);
const YES: Word = Word::Number(1);
const NO: Word = Word::Number(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// The client's next call, with the block that it got first.
    Ask,
    /// One look for a response, or for why there is none.
    Look,
    /// The client leaves, and its ring with it.
    Leave,
    /// A server receives a request, if there is one; puts a response; frees the request.
    Serve,
    Answer,
    Finish,
    Allocate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Todo {
    Done,
    Ask {
        block: u8,
        generation: u8,
        call: u8,
    },
    LetGo {
        link: Link,
        then: Then,
    },
    Look,
    Again,
    Leave,
    Serve,
    Clear {
        cell: usize,
        link: Link,
        then: Then,
    },
    Answer {
        block: u8,
        generation: u8,
    },
    /// In a visit: is it waited for? Then it is put.
    Put {
        block: u8,
        generation: u8,
    },
    EndVisit,
    /// Whoever came last frees the ring.
    Drain,
    FreeRing,
    Finish,
    Allocate,
    Recover {
        dead: u8,
    },
    Settle {
        dead: u8,
        cell: usize,
    },
    Forget {
        dead: u8,
    },
    FreeBlocks {
        dead: u8,
        at: u8,
    },
    Release {
        dead: u8,
    },
}

/// What comes behind a step that several calls have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Then {
    End,
    EndVisit,
    Look,
    Drain,
}

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Who finds its request gone does not look for a response once more.
    GoneUnchecked,
    /// A response to an earlier call is taken for one to this.
    CallUnchecked,
    /// Whoever visited a ring that nobody uses any more leaves it.
    RingLeft,
    /// A ring is freed although somebody visits it.
    VisitIgnored,
    /// A visitor looks whether the ring is there before it says that it comes.
    VisitLate,
    /// A server frees the request before the response is in the ring.
    FinishedFirst,
    /// A ring that nobody uses and that is empty is not sealed.
    SealDropped,
    /// The ring is freed with what is in it.
    Undrained,
    /// A recovery leaves the dead client among the ring's users.
    ClientKept,
    BlocksBeforeLinks,
}

pub const FAULTS: &[Fault] = &[
    Fault::GoneUnchecked,
    Fault::CallUnchecked,
    Fault::RingLeft,
    Fault::VisitIgnored,
    Fault::VisitLate,
    Fault::FinishedFirst,
    Fault::SealDropped,
    Fault::Undrained,
    Fault::ClientKept,
    Fault::BlocksBeforeLinks,
];

/// What was asked and answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// What stands in each cell, in the order in which it was put: block, generation, call.
    requests: Vec<(u8, u8, u8)>,
    responses: Vec<(u8, u8, u8)>,
    /// Who believes that the ring is there, and may write it: a bit each.
    visitors: u8,
    ring_is_freed: bool,
    /// Of which calls the client was told that nobody answers: a bit each.
    unanswered: u8,
}

/// A client's call and its request; a server's request and its call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Own {
    call: u8,
    request: Option<(u8, u8)>,
    /// Whom it recovers.
    recovers: Option<u8>,
}

type Run<'a> = Cpu<'a, Calls>;
type Seer = World<Seen>;

fn link(cpu: &Run<'_>, block: u8, generation: u8) -> Link {
    Link { lap: 0, giver: cpu.me, generation: generation + 1, block }
}

/// What stands in a cell becomes the caller's: its link and its call. The cell is not emptied yet.
fn take(cpu: &mut Run<'_>, cell: usize, look: impl FnOnce(Word, &mut Seer)) -> Step<Option<(Link, u8)>> {
    let Word::Link(link) = cpu.load_and(cell, look)? else { return Ok(None) };
    let (Standing::Pending(header) | Standing::Present(header)) = cpu.standing(link)? else {
        cpu.cas(cell, Word::Link(link), EMPTY)?;
        return Err(Stop::Again);
    };
    let me = cpu.me;
    let mine = Header { live: true, owner: me, generation: link.generation };
    let taken = |world: &mut Seer| {
        let queue = if cell == REQUEST { &mut world.spec.requests } else { &mut world.spec.responses };
        queue.retain(|one| (one.0, one.1) != (link.block, link.generation));
        world.held[me as usize - 1].push((link.block, link.generation));
    };
    // Which call it is for stands in the block.
    let call = cpu.access(|cpu| {
        let of = |one: &&(u8, u8, u8)| (one.0, one.1) == (link.block, link.generation);
        let spec = &cpu.world.spec;
        Word::Number(spec.requests.iter().chain(&spec.responses).find(of).map_or(0, |one| one.2))
    })?;
    match cpu.cas_header(link.block, header, mine, taken)? {
        true => Ok(Some((link, call.number()))),
        false => Err(Stop::Again),
    }
}

/// A response to the client's call, or a step towards it. None if the ring is empty.
fn response(cpu: &mut Run<'_>, look: impl FnOnce(Word, &mut Seer)) -> Step<Option<Todo>> {
    let Some((link, call)) = take(cpu, RESPONSE, look)? else { return Ok(None) };
    let mine = call == cpu.own.call;
    let believed = mine || cpu.planted(Fault::CallUnchecked);
    cpu.access(|cpu| {
        cpu.world.check(mine || !believed, "Q6: a response to another call");
        NO
    })?;
    Ok(Some(Todo::Clear { cell: RESPONSE, link, then: if believed { Then::End } else { Then::Look } }))
}

fn put(cpu: &mut Run<'_>, block: u8, generation: u8) -> Step<Todo> {
    let (me, call) = (cpu.me, cpu.own.call);
    if cpu.load(AWAITED)?.number() != call {
        return Ok(Todo::EndVisit);
    }
    let link = link(cpu, block, generation);
    let sent = |world: &mut Seer| {
        world.check(!world.spec.ring_is_freed, "Q3: a ring is written that was freed");
        world.check(world.spec.unanswered >> call & 1 == 0, "Q6: a response, and its caller was told that none comes");
        world.spec.responses.push((block, link.generation, call));
        world.held[me as usize - 1].retain(|held| held.0 != block);
    };
    Ok(match cpu.cas_and(RESPONSE, EMPTY, Word::Link(link), sent)? {
        true => Todo::LetGo { link, then: Then::EndVisit },
        false => Todo::EndVisit,
    })
}

fn is_drained(cpu: &mut Run<'_>) -> Step<bool> {
    let empty = if cpu.planted(Fault::SealDropped) { EMPTY } else { SEALED };
    Ok(cpu.load(RESPONSE)? == empty)
}

/// Says that it comes, and looks whether the ring is there, and not over. Only then may it be written.
fn comes(cpu: &mut Run<'_>) -> Step<bool> {
    let bit = 1 << cpu.me;
    let visiting = VISITING + cpu.me as usize - 1;
    let late = cpu.planted(Fault::VisitLate);
    if !late {
        cpu.store(visiting, YES)?;
    }
    let there = cpu.load(RING)? == YES && (cpu.load(USED)? == YES || !is_drained(cpu)?);
    let believed = |word: Word, world: &mut Seer| world.spec.visitors |= if word == YES { bit } else { 0 };
    let there = there && cpu.load_and(RING, believed)? == YES;
    if late {
        cpu.store(visiting, YES)?;
    }
    Ok(there)
}

fn goes(cpu: &mut Run<'_>) -> Step<()> {
    let bit = 1 << cpu.me;
    cpu.store_and(VISITING + cpu.me as usize - 1, NO, |world| world.spec.visitors &= !bit)
}

fn end_visit(cpu: &mut Run<'_>) -> Step<Todo> {
    goes(cpu)?;
    let over = !cpu.planted(Fault::RingLeft) && cpu.load(RING)? == YES && cpu.load(USED)? == NO;
    Ok(if over { Todo::Drain } else { Todo::Done })
}

/// What is left in a ring that nobody uses is freed, by who visits it; then the ring.
fn drain(cpu: &mut Run<'_>) -> Step<Todo> {
    if comes(cpu)? && cpu.load(USED)? == NO && !cpu.planted(Fault::Undrained) {
        if let Some((link, _)) = take(cpu, RESPONSE, |_, _| {})? {
            return Ok(Todo::Clear { cell: RESPONSE, link, then: Then::Drain });
        }
        // Whoever comes late finds the seal, or is received.
        let sealed = cpu.planted(Fault::SealDropped) || cpu.cas(RESPONSE, EMPTY, SEALED)?;
        if !sealed && cpu.load(RESPONSE)? != SEALED {
            return Err(Stop::Again);
        }
    }
    goes(cpu)?;
    Ok(Todo::FreeRing)
}

/// What comes behind the end of a call, or of the first part of a recovery.
fn over(cpu: &Run<'_>) -> Todo {
    match cpu.own.recovers {
        Some(dead) if cpu.planted(Fault::BlocksBeforeLinks) => Todo::Release { dead },
        Some(dead) => Todo::FreeBlocks { dead, at: 0 },
        None => Todo::Done,
    }
}

fn free_ring(cpu: &mut Run<'_>) -> Step<Todo> {
    let participants = cpu.world.held.len();
    for _ in 0..2 {
        if cpu.load(USED)? == YES || cpu.load(RING)? == NO {
            return Ok(over(cpu));
        }
        if !is_drained(cpu)? && !cpu.planted(Fault::Undrained) {
            return Ok(over(cpu));
        }
        for other in 0..participants {
            let visits = cpu.load(VISITING + other)? == YES;
            let dead =
                visits && cpu.access(|cpu| Word::Number(cpu.world.is_dead(other as u8 + 1).into()))?.number() == 1;
            if visits && !dead && other + 1 != cpu.me as usize && !cpu.planted(Fault::VisitIgnored) {
                return Ok(over(cpu));
            }
        }
    }
    let freed = |world: &mut Seer| {
        world.check(world.spec.visitors == 0, "Q3: a ring is freed beside who visits it");
        world.check(world.spec.responses.is_empty(), "Q3: a ring is freed with a response in it");
        world.spec.ring_is_freed = true;
    };
    cpu.cas_and(RING, YES, NO, freed)?;
    Ok(over(cpu))
}

fn look(cpu: &mut Run<'_>) -> Step<Todo> {
    let Some((block, generation)) = cpu.own.request else { return Ok(Todo::Done) };
    if let Some(found) = response(cpu, |_, _| {})? {
        return Ok(found);
    }
    let header = cpu.header(block)?;
    let there = header.live && header.generation == generation;
    Ok(if there { Todo::Done } else { Todo::Again })
}

/// The request is gone: a response was sent before that, if one was.
fn look_again(cpu: &mut Run<'_>) -> Step<Todo> {
    let call = cpu.own.call;
    let none = |word: Word, world: &mut Seer| {
        let missed = world.spec.responses.iter().any(|one| one.2 == call);
        world.check(word != EMPTY || !missed, "Q6: nobody answers, and there is a response");
        world.spec.unanswered |= u8::from(word == EMPTY) << call;
    };
    if cpu.planted(Fault::GoneUnchecked) {
        cpu.access(|cpu| {
            none(EMPTY, cpu.world);
            NO
        })?;
        return Ok(Todo::Done);
    }
    Ok(response(cpu, none)?.unwrap_or(Todo::Done))
}

/// A cell whose message was taken is emptied.
fn clear(cpu: &mut Run<'_>, cell: usize, link: Link, then: Then) -> Step<Todo> {
    let written = |world: &mut Seer| {
        let freed = cell == RESPONSE && world.spec.ring_is_freed;
        world.check(!freed, "Q3: a ring is written that was freed");
    };
    cpu.cas_and(cell, Word::Link(link), EMPTY, written)?;
    Ok(match then {
        Then::End => Todo::Done,
        Then::EndVisit => Todo::EndVisit,
        Then::Look => Todo::Look,
        Then::Drain => {
            cpu.free(link.block, link.generation)?;
            Todo::Drain
        }
    })
}

/// The dead one's link in a cell is completed, and a void one is cleared; of the client's ring in a visit.
fn settle(cpu: &mut Run<'_>, dead: u8, cell: usize) -> Step<Todo> {
    let next = if cell == REQUEST { Todo::Settle { dead, cell: RESPONSE } } else { Todo::Forget { dead } };
    let there = cell == REQUEST || comes(cpu)?;
    if there && let Word::Link(link) = cpu.load(cell)? {
        match cpu.standing(link)? {
            Standing::Pending(header) if link.giver == dead => _ = cpu.let_go(link, header)?,
            Standing::Void => _ = clear(cpu, cell, link, Then::End)?,
            _ => {}
        }
    }
    if cell == RESPONSE {
        goes(cpu)?;
    }
    Ok(next)
}

impl Structure for Calls {
    type Todo = Todo;
    type Call = Call;
    type Spec = Seen;
    type Own = Own;
    type Fault = Fault;
    const DONE: Todo = Todo::Done;

    fn words(&self, participants: usize) -> Vec<Word> {
        [EMPTY, EMPTY, NO, YES, YES].into_iter().chain((0..participants).map(|_| NO)).collect()
    }
    fn spec(&self, _: usize) -> Seen {
        Seen::default()
    }
    fn begin(&self, call: Call, held: &[(u8, u8)], own: &Own) -> Option<Todo> {
        let other = held.iter().find(|held| own.request != Some(**held));
        Some(match call {
            Call::Ask => {
                held.first().map(|&(block, generation)| Todo::Ask { block, generation, call: own.call + 1 })?
            }
            Call::Look => own.request.map(|_| Todo::Look)?,
            Call::Leave => Todo::Leave,
            Call::Serve => Todo::Serve,
            Call::Answer => {
                own.request?;
                other.map(|&(block, generation)| Todo::Answer { block, generation })?
            }
            Call::Finish => own.request.map(|_| Todo::Finish)?,
            Call::Allocate => Todo::Allocate,
        })
    }
    fn recovery(&self, dead: u8) -> Todo {
        Todo::Recover { dead }
    }
    fn all(spec: &Seen) -> Vec<(u8, u8)> {
        spec.requests.iter().chain(&spec.responses).map(|one| (one.0, one.1)).collect()
    }
    fn is_whole(&self, words: &[Word], world: &World<Seen>) -> bool {
        let left = words[USED] == NO;
        (left || !world.is_dead(CLIENT)) && (!left || words[RING] == NO)
    }
    fn died(spec: &mut Seen, who: u8) {
        spec.visitors &= !(1 << who);
    }

    fn run(&self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        let me = cpu.me;
        match todo {
            Todo::Done => Ok(Todo::Done),
            Todo::Ask { block, generation, call } => {
                cpu.own.call = call;
                cpu.own.request = None;
                cpu.store(AWAITED, Word::Number(call))?;
                let link = link(cpu, block, generation);
                let asked = |world: &mut Seer| {
                    world.spec.requests.push((block, link.generation, call));
                    world.held[me as usize - 1].retain(|held| held.0 != block);
                };
                if !cpu.cas_and(REQUEST, EMPTY, Word::Link(link), asked)? {
                    return Ok(Todo::Done);
                }
                cpu.own.request = Some((block, link.generation));
                Ok(Todo::LetGo { link, then: Then::End })
            }
            Todo::LetGo { link, then } => {
                cpu.let_go(link, Header { live: true, owner: me, generation: link.generation - 1 })?;
                Ok(if then == Then::EndVisit { Todo::EndVisit } else { Todo::Done })
            }
            Todo::Look => look(cpu),
            Todo::Again => look_again(cpu),
            Todo::Leave => cpu.store(USED, NO).map(|()| Todo::Drain),
            Todo::Serve => match take(cpu, REQUEST, |_, _| {})? {
                Some((link, call)) => {
                    (cpu.own.call, cpu.own.request) = (call, Some((link.block, link.generation)));
                    Ok(Todo::Clear { cell: REQUEST, link, then: Then::End })
                }
                None => Ok(Todo::Done),
            },
            Todo::Clear { cell, link, then } => clear(cpu, cell, link, then),
            Todo::Answer { block, generation } => {
                if cpu.planted(Fault::FinishedFirst)
                    && let Some((request, generation)) = cpu.own.request
                {
                    cpu.free(request, generation)?;
                    cpu.own.request = None;
                    return Err(Stop::Again);
                }
                Ok(if comes(cpu)? { Todo::Put { block, generation } } else { Todo::EndVisit })
            }
            Todo::Put { block, generation } => put(cpu, block, generation),
            Todo::EndVisit => end_visit(cpu),
            Todo::Drain => drain(cpu),
            Todo::FreeRing => free_ring(cpu),
            Todo::Finish => {
                if let Some((block, generation)) = cpu.own.request {
                    cpu.free(block, generation)?;
                    cpu.own.request = None;
                }
                Ok(Todo::Done)
            }
            Todo::Allocate => {
                let names = |word: &Word, block: u8| matches!(word, Word::Link(link) if link.block == block);
                cpu.allocate(|words, block| words.iter().any(|word| names(word, block)))?;
                Ok(Todo::Done)
            }
            Todo::Recover { dead } => {
                cpu.own.recovers = Some(dead);
                Ok(match cpu.planted(Fault::BlocksBeforeLinks) {
                    true => Todo::FreeBlocks { dead, at: 0 },
                    false => Todo::Settle { dead, cell: REQUEST },
                })
            }
            Todo::Settle { dead, cell } => settle(cpu, dead, cell),
            Todo::Forget { dead } => {
                if dead == CLIENT && !cpu.planted(Fault::ClientKept) {
                    cpu.cas(USED, YES, NO)?;
                }
                Ok(if cpu.load(USED)? == NO { Todo::Drain } else { over(cpu) })
            }
            Todo::FreeBlocks { dead, at } => Ok(match cpu.free_of_the_dead(dead, at)? {
                true => Todo::FreeBlocks { dead, at: at + 1 },
                false if cpu.planted(Fault::BlocksBeforeLinks) => Todo::Settle { dead, cell: REQUEST },
                false => Todo::Release { dead },
            }),
            Todo::Release { dead } => {
                cpu.release(dead)?;
                cpu.own.recovers = None;
                Ok(Todo::Done)
            }
        }
    }
}

//! The ring of many senders and receivers (src/ipc/ring.rs): the same steps in the same order.

use crate::engine::{Cpu, Header, Link, Standing, Step, Stop, Structure, Word, World};

/// Its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel(pub u8);

const HEAD: usize = 0;
const TAIL: usize = 1;
const STATE: usize = 2;
const CELLS: usize = 3;
const CLOSED: Word = Word::Number(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Sends the block that it got first.
    Send,
    Receive,
    Free,
    Allocate,
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Todo {
    Done,
    /// May it send?
    Send {
        block: u8,
        generation: u8,
    },
    Put {
        block: u8,
        generation: u8,
    },
    LetGo {
        link: Link,
        ticket: u8,
    },
    Receive,
    /// Clears a cell whose block was taken: the call has ended then, or goes on.
    Clear {
        link: Link,
        ticket: u8,
        ends: bool,
    },
    Free {
        block: u8,
        generation: u8,
    },
    Allocate,
    Close,
    Recover {
        dead: u8,
    },
    SettleLinks {
        dead: u8,
        head: u8,
        at: u8,
    },
    SettleHead {
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

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A sender lets go before it puts its link in.
    HeaderBeforeCell,
    /// A block is sent under the generation that it has.
    SentUnderOneGeneration,
    /// What was read in a cell counts although tail, or head, has moved on.
    TailUnvalidated,
    HeadUnvalidated,
    /// A receiver leaves the cell of what it has taken to others.
    TakenBeforeCleared,
    PendingTakenForVoid,
    /// A recovery frees the dead one's blocks first.
    BlocksBeforeLinks,
    LinksUnsettled,
    VoidWordsKept,
    /// Whoever finds a closed channel empty says so and seals nothing.
    SealDropped,
}

pub const FAULTS: &[Fault] = &[
    Fault::HeaderBeforeCell,
    Fault::SentUnderOneGeneration,
    Fault::TailUnvalidated,
    Fault::HeadUnvalidated,
    Fault::TakenBeforeCleared,
    Fault::PendingTakenForVoid,
    Fault::BlocksBeforeLinks,
    Fault::LinksUnsettled,
    Fault::VoidWordsKept,
    Fault::SealDropped,
];

/// The sequential queue: blocks and generations, the oldest first; whether its end was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Queue {
    messages: Vec<(u8, u8)>,
    ended: bool,
}

type Run<'a> = Cpu<'a, Channel>;

impl Channel {
    fn cell(self, ticket: u8) -> usize {
        CELLS + (ticket % self.0) as usize
    }
    /// Two laps are told apart, where the code tells 32.
    fn lap(self, ticket: u8) -> u8 {
        ticket / self.0 % 2
    }
    fn advance(cpu: &mut Run<'_>, word: usize, ticket: u8) -> Step<()> {
        cpu.cas(word, Word::Number(ticket), Word::Number(ticket + 1)).map(drop)
    }

    fn put(self, cpu: &mut Run<'_>, block: u8, generation: u8) -> Step<Todo> {
        let t = cpu.load(TAIL)?.number();
        let (at, before) = (self.cell(t), t.wrapping_sub(self.0));
        let word = cpu.load(at)?;
        match word {
            Word::Empty(ticket) if ticket == t => {
                let next = generation + u8::from(!cpu.planted(Fault::SentUnderOneGeneration));
                let link = Link { lap: self.lap(t), giver: cpu.me, generation: next, block };
                if cpu.planted(Fault::HeaderBeforeCell) {
                    cpu.let_go(link, Header { live: true, owner: cpu.me, generation })?;
                }
                let me = cpu.me as usize - 1;
                let sent = |world: &mut World<Queue>| {
                    world.check(!world.spec.ended, "Q6: a message behind the end");
                    world.spec.messages.push((block, next));
                    world.held[me].retain(|held| held.0 != block);
                };
                if cpu.cas_and(at, word, Word::Link(link), sent)? {
                    return Ok(Todo::LetGo { link, ticket: t });
                }
            }
            Word::Empty(ticket) if ticket == t + self.0 => Self::advance(cpu, TAIL, t)?,
            Word::Link(link) if link.lap == self.lap(t) => Self::advance(cpu, TAIL, t)?,
            Word::Link(link) if t >= self.0 && link.lap == self.lap(before) => {
                if !cpu.planted(Fault::TailUnvalidated) && cpu.load(TAIL)?.number() != t {
                    return Err(Stop::Again);
                }
                let n = self.0 as usize;
                let full = |standing: Standing, world: &mut World<Queue>| {
                    let exact = standing == Standing::Void || world.spec.messages.len() == n;
                    world.check(exact, "Q2: Full, and it is not");
                };
                if standing_and(cpu, link, full)? != Standing::Void {
                    return Ok(Todo::Done);
                }
                cpu.cas(at, word, Word::Empty(t))?;
                Self::advance(cpu, HEAD, before)?;
            }
            Word::Sealed(_) => return Ok(Todo::Done),
            _ => {
                let moved = |word: Word, world: &mut World<Queue>| world.check(word.number() != t, "Q2: damaged");
                cpu.load_and(TAIL, moved)?;
            }
        }
        Err(Stop::Again)
    }

    fn receive(self, cpu: &mut Run<'_>) -> Step<Todo> {
        let h = cpu.load(HEAD)?.number();
        let at = self.cell(h);
        let empty = |word: Word, world: &mut World<Queue>| {
            world.check(word != Word::Empty(h) || world.spec.messages.is_empty(), "Q2: Empty, and it is not");
        };
        let word = cpu.load_and(at, empty)?;
        match word {
            Word::Empty(ticket) if ticket == h => {
                if cpu.load(STATE)? != CLOSED {
                    return Ok(Todo::Done);
                }
                let ends = |world: &mut World<Queue>| {
                    world.check(world.spec.messages.is_empty(), "Q6: the end in front of a message");
                    world.spec.ended = true;
                };
                if cpu.planted(Fault::SealDropped) {
                    cpu.access(|cpu| {
                        ends(cpu.world);
                        Word::Number(0)
                    })?;
                    return Ok(Todo::Done);
                }
                cpu.cas_and(at, word, Word::Sealed(h), ends)?;
            }
            Word::Sealed(_) => return Ok(Todo::Done),
            Word::Link(link) if link.lap == self.lap(h) => {
                if !cpu.planted(Fault::HeadUnvalidated) && cpu.load(HEAD)?.number() != h {
                    return Err(Stop::Again);
                }
                let (Standing::Pending(header) | Standing::Present(header)) = standing_and(cpu, link, |_, _| {})?
                else {
                    return Ok(Todo::Clear { link, ticket: h, ends: false });
                };
                let (me, what) = (cpu.me, (link.block, link.generation));
                let mine = Header { live: true, owner: me, generation: link.generation };
                let taken = |world: &mut World<Queue>| {
                    world.check(world.spec.messages.first() == Some(&what), "Q2: not the oldest");
                    world.spec.messages.retain(|message| *message != what);
                    world.held[me as usize - 1].push(what);
                };
                if cpu.cas_header(link.block, header, mine, taken)? {
                    return Ok(match cpu.planted(Fault::TakenBeforeCleared) {
                        true => Todo::Done,
                        false => Todo::Clear { link, ticket: h, ends: true },
                    });
                }
            }
            Word::Empty(ticket) if ticket == h + self.0 => Self::advance(cpu, HEAD, h)?,
            Word::Link(link) if link.lap == self.lap(h + self.0) => Self::advance(cpu, HEAD, h)?,
            _ => {
                let moved = |word: Word, world: &mut World<Queue>| world.check(word.number() != h, "Q2: damaged");
                cpu.load_and(HEAD, moved)?;
            }
        }
        Err(Stop::Again)
    }

    /// The dead one's pending links are completed: one cell after the other.
    fn settle_links(self, cpu: &mut Run<'_>, dead: u8, head: u8, at: u8) -> Step<Todo> {
        if at == self.0 || cpu.planted(Fault::LinksUnsettled) {
            return Ok(Todo::SettleHead { dead });
        }
        let head = if at == 0 { cpu.load(HEAD)?.number() } else { head };
        if let Word::Link(link) = cpu.load(self.cell(head + at))?
            && link.giver == dead
            && let Standing::Pending(header) = standing_and(cpu, link, |_, _| {})?
        {
            cpu.let_go(link, header)?;
        }
        Ok(Todo::SettleLinks { dead, head, at: at + 1 })
    }

    /// The head passes what the dead one has taken.
    fn settle_head(self, cpu: &mut Run<'_>, dead: u8) -> Step<Todo> {
        let settled = match cpu.planted(Fault::BlocksBeforeLinks) {
            true => Todo::Release { dead },
            false => Todo::FreeBlocks { dead, at: 0 },
        };
        if cpu.planted(Fault::VoidWordsKept) {
            return Ok(settled);
        }
        let h = cpu.load(HEAD)?.number();
        let word = cpu.load(self.cell(h))?;
        match word {
            Word::Link(link) if link.lap == self.lap(h) => {
                if cpu.load(HEAD)?.number() != h {
                    return Err(Stop::Again);
                }
                if standing_and(cpu, link, |_, _| {})? != Standing::Void {
                    return Ok(settled);
                }
                cpu.cas(self.cell(h), word, Word::Empty(h + self.0))?;
            }
            Word::Empty(ticket) if ticket == h + self.0 => {}
            Word::Link(link) if link.lap == self.lap(h + self.0) => {}
            _ => return Ok(settled),
        }
        Self::advance(cpu, HEAD, h)?;
        Err(Stop::Again)
    }
}

/// What a link's block is, and the observer looks on.
fn standing_and(cpu: &mut Run<'_>, link: Link, look: impl FnOnce(Standing, &mut World<Queue>)) -> Step<Standing> {
    let step = u8::from(!cpu.planted(Fault::SentUnderOneGeneration));
    let void = cpu.planted(Fault::PendingTakenForVoid);
    let of = move |header: Header| match Standing::of(link, header, step) {
        Standing::Pending(_) if void => Standing::Void,
        standing => standing,
    };
    cpu.header_and(link.block, |header, world| look(of(header), world)).map(of)
}

impl Structure for Channel {
    type Todo = Todo;
    type Call = Call;
    type Spec = Queue;
    type Own = ();
    type Fault = Fault;
    const DONE: Todo = Todo::Done;

    fn words(&self, _: usize) -> Vec<Word> {
        let first = [Word::Number(0); CELLS];
        first.into_iter().chain((0..self.0).map(Word::Empty)).collect()
    }
    fn spec(&self, _: usize) -> Queue {
        Queue::default()
    }
    fn begin(&self, call: Call, held: &[(u8, u8)], (): &()) -> Option<Todo> {
        Some(match call {
            Call::Send => held.first().map(|&(block, generation)| Todo::Send { block, generation })?,
            Call::Free => held.first().map(|&(block, generation)| Todo::Free { block, generation })?,
            Call::Receive => Todo::Receive,
            Call::Allocate => Todo::Allocate,
            Call::Close => Todo::Close,
        })
    }
    fn recovery(&self, dead: u8) -> Todo {
        Todo::Recover { dead }
    }
    fn all(spec: &Queue) -> Vec<(u8, u8)> {
        spec.messages.clone()
    }

    fn run(&self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        match todo {
            Todo::Done => Ok(Todo::Done),
            Todo::Send { block, generation } => Ok(match cpu.load(STATE)? {
                CLOSED => Todo::Done,
                _ => Todo::Put { block, generation },
            }),
            Todo::Put { block, generation } => self.put(cpu, block, generation),
            Todo::LetGo { link, ticket } => {
                let step = u8::from(!cpu.planted(Fault::SentUnderOneGeneration));
                cpu.let_go(link, Header { live: true, owner: cpu.me, generation: link.generation - step })?;
                Self::advance(cpu, TAIL, ticket)?;
                Ok(Todo::Done)
            }
            Todo::Receive => self.receive(cpu),
            Todo::Clear { link, ticket, ends } => {
                cpu.cas(self.cell(ticket), Word::Link(link), Word::Empty(ticket + self.0))?;
                Self::advance(cpu, HEAD, ticket)?;
                Ok(if ends { Todo::Done } else { Todo::Receive })
            }
            Todo::Free { block, generation } => cpu.free(block, generation).map(|()| Todo::Done),
            Todo::Allocate => {
                let names = |word: &Word, block: u8| matches!(word, Word::Link(link) if link.block == block);
                cpu.allocate(|words, block| words.iter().any(|word| names(word, block)))?;
                Ok(Todo::Done)
            }
            Todo::Close => cpu.store(STATE, CLOSED).map(|()| Todo::Done),
            Todo::Recover { dead } => Ok(match cpu.planted(Fault::BlocksBeforeLinks) {
                true => Todo::FreeBlocks { dead, at: 0 },
                false => Todo::SettleLinks { dead, head: 0, at: 0 },
            }),
            Todo::SettleLinks { dead, head, at } => self.settle_links(cpu, dead, head, at),
            Todo::SettleHead { dead } => self.settle_head(cpu, dead),
            Todo::FreeBlocks { dead, at } => Ok(match cpu.free_of_the_dead(dead, at)? {
                true => Todo::FreeBlocks { dead, at: at + 1 },
                false if cpu.planted(Fault::BlocksBeforeLinks) => Todo::SettleLinks { dead, head: 0, at: 0 },
                false => Todo::Release { dead },
            }),
            Todo::Release { dead } => cpu.release(dead).map(|()| Todo::Done),
        }
    }
}

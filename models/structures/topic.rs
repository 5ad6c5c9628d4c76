//! The log under topics (src/ipc/log.rs), lossless: the same steps in the same order.

use crate::engine::{Cpu, Header, Link, Standing, Step, Stop, Structure, Word, World};

/// Its cells. Each participant may have one cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topic(pub u8);

const TAIL: usize = 0;
const JOINS: usize = 1;
const CELLS: usize = 2;
const NOBODYS: Word = Word::Number(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Publishes the block that it got first.
    Publish,
    Allocate,
    /// Becomes a reader of all that comes.
    Join,
    /// Reads the next publication, if there is one.
    Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Todo {
    Done,
    Publish {
        block: u8,
        generation: u8,
    },
    LetGo {
        link: Link,
        ticket: u8,
    },
    /// Whether a cursor is at the oldest ticket, or before it: `lowest` of those looked at.
    Cursors {
        block: u8,
        generation: u8,
        ticket: u8,
        link: Link,
        joins: u8,
        at: u8,
        lowest: u8,
    },
    TakeOut {
        block: u8,
        generation: u8,
        ticket: u8,
        link: Link,
    },
    /// Clears the cell of what it has taken, and frees that.
    Clear {
        block: u8,
        generation: u8,
        ticket: u8,
        link: Link,
        taken: bool,
    },
    Allocate,
    Begin,
    Joined {
        from: u8,
    },
    Read {
        ticket: u8,
    },
    /// It has read what is there.
    Advance {
        ticket: u8,
    },
    Recover {
        dead: u8,
    },
    SettleLinks {
        dead: u8,
        at: u8,
    },
    SettleCursor {
        dead: u8,
    },
    SettleTail {
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
    /// A reader does not look at the tail once more when it has joined.
    JoinUnvalidated,
    CursorsIgnored,
    /// What a publisher remembers of the cursors counts although somebody has joined.
    JoinsIgnored,
    /// What was taken out is freed before its cell is empty.
    FreedBeforeCleared,
    TailUnvalidated,
    /// A recovery frees the dead one's blocks first.
    BlocksBeforeLinks,
    LinksUnsettled,
    /// The cursor of a dead one stays.
    CursorKept,
}

pub const FAULTS: &[Fault] = &[
    Fault::JoinUnvalidated,
    Fault::CursorsIgnored,
    Fault::JoinsIgnored,
    Fault::FreedBeforeCleared,
    Fault::TailUnvalidated,
    Fault::BlocksBeforeLinks,
    Fault::LinksUnsettled,
    Fault::CursorKept,
];

/// All publications in their order, how many of them are not in the log any more, what each participant reads just now,
/// and which ticket each has to find next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct News {
    all: Vec<(u8, u8)>,
    gone: usize,
    reads: Vec<Option<(u8, u8)>>,
    next: Vec<Option<u8>>,
}

/// What a publisher remembers of the cursors; where a reader is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Own {
    lowest: u8,
    joins: u8,
    known: bool,
    next: Option<u8>,
}

type Run<'a> = Cpu<'a, Topic>;

impl Topic {
    fn cell(self, ticket: u8) -> usize {
        CELLS + (ticket % self.0) as usize
    }
    /// Two laps are told apart, where the code tells 32.
    fn lap(self, ticket: u8) -> u8 {
        ticket / self.0 % 2
    }
    fn cursor(self, participant: u8) -> usize {
        CELLS + self.0 as usize + participant as usize - 1
    }
    fn advance(cpu: &mut Run<'_>, ticket: u8) -> Step<()> {
        cpu.cas(TAIL, Word::Number(ticket), Word::Number(ticket + 1)).map(drop)
    }

    fn publish(self, cpu: &mut Run<'_>, block: u8, generation: u8) -> Step<Todo> {
        let t = cpu.load(TAIL)?.number();
        let at = self.cell(t);
        let word = cpu.load(at)?;
        match word {
            Word::Empty(ticket) if ticket == t => {
                let link = Link { lap: self.lap(t), giver: cpu.me, generation: generation + 1, block };
                let me = cpu.me as usize - 1;
                let published = |world: &mut World<News>| {
                    world.check(world.spec.all.len() == t as usize, "T1: published out of order");
                    world.spec.all.push((block, generation + 1));
                    world.held[me].retain(|held| held.0 != block);
                };
                if cpu.cas_and(at, word, Word::Link(link), published)? {
                    return Ok(Todo::LetGo { link, ticket: t });
                }
            }
            Word::Link(link) if link.lap == self.lap(t) => Self::advance(cpu, t)?,
            Word::Link(link) if t >= self.0 && link.lap == self.lap(t - self.0) => {
                if !cpu.planted(Fault::TailUnvalidated) && cpu.load(TAIL)?.number() != t {
                    return Err(Stop::Again);
                }
                if cpu.planted(Fault::CursorsIgnored) {
                    return Ok(Todo::TakeOut { block, generation, ticket: t, link });
                }
                let joins = cpu.load(JOINS)?.number();
                let same = cpu.own.joins == joins || cpu.planted(Fault::JoinsIgnored);
                return Ok(match cpu.own.known && same && cpu.own.lowest > t - self.0 {
                    true => Todo::TakeOut { block, generation, ticket: t, link },
                    false => Todo::Cursors { block, generation, ticket: t, link, joins, at: 1, lowest: u8::MAX },
                });
            }
            _ => {
                let moved = |word: Word, world: &mut World<News>| world.check(word.number() != t, "T1: damaged");
                cpu.load_and(TAIL, moved)?;
            }
        }
        Err(Stop::Again)
    }

    /// Takes the block of a link out of the cell that waits for a ticket.
    fn take_out(self, cpu: &mut Run<'_>, [block, generation, ticket]: [u8; 3], link: Link) -> Step<Todo> {
        let mut clear = Todo::Clear { block, generation, ticket, link, taken: false };
        if let Standing::Pending(header) | Standing::Present(header) = cpu.standing(link)? {
            let (me, what) = (cpu.me, (link.block, link.generation));
            let mine = Header { live: true, owner: me, generation: link.generation };
            let taken = move |world: &mut World<News>| {
                world.check(!world.spec.reads.contains(&Some(what)), "T1: taken out while it is read");
                let oldest = world.spec.all.get(world.spec.gone) == Some(&what);
                world.check(oldest, "T1: not the oldest is taken out");
                world.spec.gone += 1;
                world.held[me as usize - 1].push(what);
            };
            if !cpu.cas_header(link.block, header, mine, taken)? {
                return Ok(Todo::Publish { block, generation });
            }
            clear = Todo::Clear { block, generation, ticket, link, taken: true };
        }
        Ok(clear)
    }

    /// Is joining, from a ticket on.
    fn joined(self, cpu: &mut Run<'_>, from: u8) -> Step<Todo> {
        let joins = cpu.load(JOINS)?.number();
        if !cpu.cas(JOINS, Word::Number(joins), Word::Number(joins + 1))? {
            return Err(Stop::Again);
        }
        let (n, me, unchecked) = (self.0, cpu.me as usize - 1, cpu.planted(Fault::JoinUnvalidated));
        let stands = move |tail: u8| unchecked || tail < from + n;
        let joined = move |word: Word, world: &mut World<News>| {
            if stands(word.number()) {
                world.spec.next[me] = Some(from);
            }
        };
        if !stands(cpu.load_and(TAIL, joined)?.number()) {
            return Ok(Todo::Begin);
        }
        cpu.own.next = Some(from);
        Ok(Todo::Done)
    }

    fn read(self, cpu: &mut Run<'_>, ticket: u8) -> Step<Todo> {
        let (me, lap) = (cpu.me as usize - 1, self.lap(ticket));
        let there = move |word: Word, world: &mut World<News>| {
            let Word::Link(link) = word else { return };
            if link.lap != lap {
                return;
            }
            let what = (link.block, link.generation);
            world.check(world.spec.next[me] == Some(ticket), "T1: not the next one");
            world.check(world.spec.all.get(ticket as usize) == Some(&what), "T1: another publication");
            world.spec.reads[me] = Some(what);
        };
        match cpu.load_and(self.cell(ticket), there)? {
            Word::Link(link) if link.lap == lap => {
                if cpu.standing(link)? == Standing::Void {
                    let missed = |cpu: &mut Run<'_>| {
                        cpu.world.fails("T1: what is read was taken out");
                        Word::Number(0)
                    };
                    cpu.access(missed)?;
                }
                Ok(Todo::Advance { ticket })
            }
            _ => Ok(Todo::Done),
        }
    }

    fn settle(self, cpu: &mut Run<'_>, dead: u8, at: u8) -> Step<Todo> {
        if at == self.0 {
            return Ok(Todo::SettleCursor { dead });
        }
        if let Word::Link(link) = cpu.load(CELLS + at as usize)?
            && link.giver == dead
            && let Standing::Pending(header) = cpu.standing(link)?
            && !cpu.planted(Fault::LinksUnsettled)
        {
            cpu.let_go(link, header)?;
        }
        Ok(Todo::SettleLinks { dead, at: at + 1 })
    }
    /// A void word at the tail is emptied.
    fn settle_tail(self, cpu: &mut Run<'_>, dead: u8) -> Step<Todo> {
        let t = cpu.load(TAIL)?.number();
        let word = cpu.load(self.cell(t))?;
        if let Word::Link(link) = word
            && link.lap != self.lap(t)
            && cpu.load(TAIL)?.number() == t
            && cpu.standing(link)? == Standing::Void
        {
            cpu.cas(self.cell(t), word, Word::Empty(t))?;
        }
        Ok(match cpu.planted(Fault::BlocksBeforeLinks) {
            true => Todo::Release { dead },
            false => Todo::FreeBlocks { dead, at: 0 },
        })
    }

    fn recover(self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        Ok(match todo {
            Todo::Recover { dead } if cpu.planted(Fault::BlocksBeforeLinks) => Todo::FreeBlocks { dead, at: 0 },
            Todo::Recover { dead } => Todo::SettleLinks { dead, at: 0 },
            Todo::SettleLinks { dead, at } => self.settle(cpu, dead, at)?,
            Todo::SettleCursor { dead } => {
                let at = self.cursor(dead);
                let word = cpu.load(at)?;
                if word != NOBODYS && !cpu.planted(Fault::CursorKept) {
                    cpu.cas(at, word, NOBODYS)?;
                }
                Todo::SettleTail { dead }
            }
            Todo::SettleTail { dead } => self.settle_tail(cpu, dead)?,
            Todo::FreeBlocks { dead, at } => match cpu.free_of_the_dead(dead, at)? {
                true => Todo::FreeBlocks { dead, at: at + 1 },
                false if cpu.planted(Fault::BlocksBeforeLinks) => Todo::SettleLinks { dead, at: 0 },
                false => Todo::Release { dead },
            },
            Todo::Release { dead } => {
                let cursor = self.cursor(dead);
                let none =
                    |word: Word, world: &mut World<News>| world.check(word == NOBODYS, "Q6: a dead one reads on");
                cpu.load_and(cursor, none)?;
                cpu.release(dead)?;
                Todo::Done
            }
            other => unreachable!("{other:?}"),
        })
    }
}

impl Structure for Topic {
    type Todo = Todo;
    type Call = Call;
    type Spec = News;
    type Own = Own;
    type Fault = Fault;
    const DONE: Todo = Todo::Done;

    fn words(&self, participants: usize) -> Vec<Word> {
        let cells = (0..self.0).map(Word::Empty);
        [Word::Number(0); CELLS].into_iter().chain(cells).chain((0..participants).map(|_| NOBODYS)).collect()
    }
    fn spec(&self, participants: usize) -> News {
        News { all: vec![], gone: 0, reads: vec![None; participants], next: vec![None; participants] }
    }
    fn begin(&self, call: Call, held: &[(u8, u8)], own: &Own) -> Option<Todo> {
        Some(match call {
            Call::Publish => held.first().map(|&(block, generation)| Todo::Publish { block, generation })?,
            Call::Allocate => Todo::Allocate,
            Call::Join => Todo::Begin,
            // Its own cursor: where it is, only it knows and changes.
            Call::Read => own.next.map(|ticket| Todo::Read { ticket })?,
        })
    }
    fn recovery(&self, dead: u8) -> Todo {
        Todo::Recover { dead }
    }
    fn has(spec: &News, block: u8, generation: u8) -> bool {
        spec.all[spec.gone..].contains(&(block, generation))
    }
    fn all(spec: &News) -> Vec<(u8, u8)> {
        spec.all[spec.gone..].to_vec()
    }
    fn died(spec: &mut News, who: u8) {
        spec.reads[who as usize - 1] = None;
        spec.next[who as usize - 1] = None;
    }

    fn run(&self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        let (me, cursor) = (cpu.me, self.cursor(cpu.me));
        match todo {
            Todo::Done => Ok(Todo::Done),
            Todo::Publish { block, generation } => self.publish(cpu, block, generation),
            Todo::LetGo { link, ticket } => {
                cpu.let_go(link, Header { live: true, owner: me, generation: link.generation - 1 })?;
                Self::advance(cpu, ticket)?;
                Ok(Todo::Done)
            }
            Todo::Cursors { block, generation, ticket, link, joins, at, lowest } => {
                if self.cursor(at) >= cpu.memory.len() - cpu.blocks {
                    *cpu.own = Own { lowest, joins, known: true, next: None };
                    return Ok(match lowest <= ticket - self.0 {
                        // Full: a reader has not read the oldest.
                        true => Todo::Done,
                        false => Todo::TakeOut { block, generation, ticket, link },
                    });
                }
                let lowest = match cpu.load(self.cursor(at))? {
                    Word::Cursor { ticket, .. } => lowest.min(ticket),
                    _ => lowest,
                };
                Ok(Todo::Cursors { block, generation, ticket, link, joins, at: at + 1, lowest })
            }
            Todo::TakeOut { block, generation, ticket, link } => self.take_out(cpu, [block, generation, ticket], link),
            Todo::Clear { block, generation, ticket, link, taken } => {
                let early = cpu.planted(Fault::FreedBeforeCleared);
                if taken && early {
                    cpu.free(link.block, link.generation)?;
                }
                cpu.cas(self.cell(ticket), Word::Link(link), Word::Empty(ticket))?;
                if taken && !early {
                    cpu.free(link.block, link.generation)?;
                }
                Ok(Todo::Publish { block, generation })
            }
            Todo::Allocate => {
                let names = |word: &Word, block: u8| matches!(word, Word::Link(link) if link.block == block);
                cpu.allocate(|words, block| words.iter().any(|word| names(word, block)))?;
                Ok(Todo::Done)
            }
            Todo::Begin => {
                let from = cpu.load(TAIL)?.number();
                cpu.store(cursor, Word::Cursor { owner: me, ticket: from })?;
                Ok(Todo::Joined { from })
            }
            Todo::Joined { from } => self.joined(cpu, from),
            Todo::Read { ticket } => self.read(cpu, ticket),
            Todo::Advance { ticket } => {
                let next = Word::Cursor { owner: me, ticket: ticket + 1 };
                let done = |world: &mut World<News>| {
                    world.spec.reads[me as usize - 1] = None;
                    world.spec.next[me as usize - 1] = Some(ticket + 1);
                };
                cpu.store_and(cursor, next, done)?;
                cpu.own.next = Some(ticket + 1);
                Ok(Todo::Done)
            }
            recovery => self.recover(cpu, recovery),
        }
    }
}

//! The table under maps (src/ipc/table): the same steps in the same order, in one bucket.

use crate::engine::{Cpu, Header, LINKED, Link, Standing, Step, Stop, Structure, Word, World};

/// Its places. Each participant has a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Map(pub u8);

const TURN: usize = 0;
const EMPTY: Word = Word::Number(0);
/// In the place of a lap: that a link is in.
const IN: u8 = 1;
const PREPARED: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Puts the block that it got first under a key.
    Put(u8),
    Take(u8),
    Get(u8),
}

/// Why somebody looks for a key: what it does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    Put { link: Link, place: u8 },
    Take,
    Get,
}

type Turn = (u8, u8, u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Todo {
    Done,
    /// Labels a block with a key, and looks for an empty place from this one on.
    Prepare {
        key: u8,
        block: u8,
        generation: u8,
        place: u8,
        again: bool,
    },
    Look {
        key: u8,
        why: Why,
    },
    /// Completes a turn.
    Complete {
        turn: Turn,
        then: Then,
    },
    /// Looks at a place under a turn.
    Seek {
        key: u8,
        why: Why,
        turn: Turn,
        at: u8,
    },
    /// The cursor names what may be the key's.
    Found {
        key: u8,
        why: Why,
        turn: Turn,
        at: u8,
        link: Link,
    },
    Change {
        key: u8,
        why: Why,
        turn: Turn,
        found: Option<(u8, Link)>,
    },
    /// The cursor names a link no more; whether it was the last to name what is retired.
    Leave {
        link: Link,
        then: Then,
    },
    Left {
        link: Link,
        then: Then,
        at: u8,
    },
    /// What was displaced is the caller's own, or the last reader's.
    Own {
        link: Link,
        at: u8,
    },
    Recover {
        dead: u8,
    },
    Settle {
        dead: u8,
    },
    SettlePlace {
        dead: u8,
        at: u8,
    },
    SettleCursor {
        dead: u8,
    },
    SettleLeft {
        dead: u8,
        link: Link,
        at: u8,
    },
    DropCursor {
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

/// What comes behind a turn that is completed, or a cursor that has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Then {
    Done,
    Look { key: u8, why: Why },
    Seek { key: u8, why: Why, turn: Turn, at: u8 },
    Own { link: Link },
}

impl Then {
    fn go(self) -> Todo {
        match self {
            Self::Done => Todo::Done,
            Self::Own { link } => Todo::Own { link, at: 1 },
            Self::Look { key, why } => Todo::Look { key, why },
            Self::Seek { key, why, turn, at } => Todo::Seek { key, why, turn, at },
        }
    }
}

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Whoever completes a change does not look whether the turn still stands.
    TurnUnchecked,
    /// What was not found under a turn is absent, whatever the turn is by then.
    AbsentUnvalidated,
    /// A cursor names what may have been displaced before.
    NameUnvalidated,
    /// What the turn has displaced is shown until its place is empty.
    DisplacedShown,
    InBeforeLetGo,
    EmptiedBeforeRetired,
    /// What was displaced is the caller's own although others read it.
    ReadersIgnored,
    /// A cursor that leaves names nothing from the beginning.
    CursorDroppedEarly,
    /// Nobody takes what was retired while it was read.
    RetiredForgotten,
    /// A dead one's cursor is dropped, and not left in its name.
    DeadLeaveNothing,
    BlocksBeforeLinks,
    LinksUnsettled,
}

pub const FAULTS: &[Fault] = &[
    Fault::TurnUnchecked,
    Fault::AbsentUnvalidated,
    Fault::NameUnvalidated,
    Fault::DisplacedShown,
    Fault::InBeforeLetGo,
    Fault::EmptiedBeforeRetired,
    Fault::ReadersIgnored,
    Fault::CursorDroppedEarly,
    Fault::RetiredForgotten,
    Fault::DeadLeaveNothing,
    Fault::BlocksBeforeLinks,
    Fault::LinksUnsettled,
];

/// What is under each key; each block's label; what each participant reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Values {
    keys: [Option<(u8, u8)>; 2],
    labels: [u8; 8],
    reads: Vec<Option<u8>>,
}

type Run<'a> = Cpu<'a, Map>;

fn words(turn: Turn) -> Word {
    Word::Turn { version: turn.0, new: turn.1, old: turn.2 }
}

impl Map {
    fn cursor(self, participant: u8) -> usize {
        self.0 as usize + participant as usize
    }
    fn turn(cpu: &mut Run<'_>) -> Step<Turn> {
        match cpu.load(TURN)? {
            Word::Turn { version, new, old } => Ok((version, new, old)),
            other => unreachable!("{other:?}"),
        }
    }
    fn is_turn(cpu: &mut Run<'_>, turn: Turn, unchecked: Fault) -> Step<bool> {
        Ok(cpu.planted(unchecked) || cpu.load(TURN)? == words(turn))
    }

    /// An empty place for a link, prepared.
    fn prepare(self, cpu: &mut Run<'_>, [key, block, generation, place]: [u8; 4], again: bool) -> Step<Todo> {
        if place > self.0 {
            // The last change may not have emptied its old place yet.
            return Ok(match again {
                true => Todo::Done,
                false => {
                    let turn = Self::turn(cpu)?;
                    self.complete(cpu, turn)?;
                    Todo::Prepare { key, block, generation, place: 1, again: true }
                }
            });
        }
        let link = Link { lap: PREPARED, giver: cpu.me, generation: generation + 1, block };
        let labelled = |world: &mut World<Values>| {
            let untouched = !world.spec.reads.contains(&Some(block));
            world.check(untouched, "M1: what is read is labelled anew");
            world.spec.labels[block as usize] = key;
        };
        if cpu.load(place.into())? == EMPTY && cpu.cas_and(place.into(), EMPTY, Word::Link(link), labelled)? {
            return Ok(Todo::Look { key, why: Why::Put { link, place } });
        }
        Ok(Todo::Prepare { key, block, generation, place: place + 1, again })
    }

    /// Completes the change that a turn says. False if it has been completed, and the turn is another.
    fn complete(self, cpu: &mut Run<'_>, turn: Turn) -> Step<bool> {
        let (_, new, old) = turn;
        if new != 0
            && let word = cpu.load(new.into())?
            && let Word::Link(link) = word
            && link.lap == PREPARED
        {
            if !Self::is_turn(cpu, turn, Fault::TurnUnchecked)? {
                return Ok(false);
            }
            let late = cpu.planted(Fault::InBeforeLetGo);
            if !late && let Standing::Pending(header) = cpu.standing(link)? {
                cpu.let_go(link, header)?;
            }
            cpu.cas(new.into(), word, Word::Link(Link { lap: IN, ..link }))?;
            if late && let Standing::Pending(header) = cpu.standing(link)? {
                cpu.let_go(link, header)?;
            }
        }
        if old != 0
            && let word = cpu.load(old.into())?
            && let Word::Link(link) = word
            && link.lap == IN
        {
            if !Self::is_turn(cpu, turn, Fault::TurnUnchecked)? {
                return Ok(false);
            }
            let early = cpu.planted(Fault::EmptiedBeforeRetired);
            if early {
                cpu.cas(old.into(), word, EMPTY)?;
            }
            if let Standing::Present(header) = cpu.standing(link)? {
                let retired = Header { generation: header.generation + 1, ..header };
                cpu.cas_header(link.block, header, retired, |_| {})?;
            }
            if !early {
                cpu.cas(old.into(), word, EMPTY)?;
            }
        }
        Ok(true)
    }

    /// Looks at a place under a turn. What may be the key the cursor names.
    fn seek(self, cpu: &mut Run<'_>, [key, at]: [u8; 2], why: Why, turn: Turn) -> Step<Todo> {
        if at > self.0 {
            return Ok(Todo::Change { key, why, turn, found: None });
        }
        let next = Todo::Seek { key, why, turn, at: at + 1 };
        let Word::Link(link) = cpu.load(at.into())? else { return Ok(next) };
        let replaced = at == turn.2 && !cpu.planted(Fault::DisplacedShown);
        let current = if link.lap == IN { !replaced } else { at == turn.1 };
        if !current {
            return Ok(next);
        }
        let names = Word::Names { leaves: false, owner: cpu.me, block: link.block, generation: link.generation };
        cpu.store(self.cursor(cpu.me), names)?;
        let me = cpu.me as usize - 1;
        let unchecked = cpu.planted(Fault::NameUnvalidated);
        let stands = move |word: Word, world: &mut World<Values>| {
            if word == words(turn) {
                let key = world.spec.labels[link.block as usize];
                let there = world.spec.keys[key as usize] == Some((link.block, link.generation));
                world.check(there, "M1: something is shown that is not there");
            }
            if word == words(turn) || unchecked {
                world.spec.reads[me] = Some(link.block);
            }
        };
        if cpu.load_and(TURN, stands)? != words(turn) && !unchecked {
            return Ok(Todo::Leave { link, then: Then::Look { key, why } });
        }
        Ok(Todo::Found { key, why, turn, at, link })
    }

    /// Changes the turn, or tells what was found.
    fn change(self, cpu: &mut Run<'_>, key: u8, why: Why, turn: Turn, found: Option<(u8, Link)>) -> Step<Todo> {
        let new = match why {
            Why::Put { place, .. } => place,
            Why::Take | Why::Get => 0,
        };
        if found.is_none() && new == 0 {
            let absent = |word: Word, world: &mut World<Values>| {
                if word == words(turn) {
                    world.check(world.spec.keys[key as usize].is_none(), "M1: a key is not found that is there");
                }
            };
            if cpu.planted(Fault::AbsentUnvalidated) {
                // Told as of now, whatever the turn is.
                cpu.load_and(TURN, |_, world| absent(words(turn), world))?;
                return Ok(Todo::Done);
            }
            return Ok(match cpu.load_and(TURN, absent)? == words(turn) {
                true => Todo::Done,
                false => Todo::Look { key, why },
            });
        }
        if let (Why::Get, Some((_, link))) = (why, found) {
            return Ok(Todo::Leave { link, then: Then::Done });
        }
        let old = found.map_or(0, |(old, _)| old);
        let next = (turn.0 + 1, new, old);
        let me = cpu.me as usize - 1;
        let changed = |world: &mut World<Values>| {
            let was = found.map(|(_, link)| (link.block, link.generation));
            world.check(world.spec.keys[key as usize] == was, "M1: something else is displaced than is there");
            world.spec.keys[key as usize] = match why {
                Why::Put { link, .. } => {
                    world.held[me].retain(|held| held.0 != link.block);
                    Some((link.block, link.generation))
                }
                _ => None,
            };
        };
        if cpu.cas_and(TURN, words(turn), words(next), changed)? {
            let then = found.map_or(Then::Done, |(_, link)| Then::Own { link });
            return Ok(Todo::Complete { turn: next, then });
        }
        Ok(match found {
            Some((_, link)) => Todo::Leave { link, then: Then::Look { key, why } },
            None => Todo::Look { key, why },
        })
    }

    /// Whether a link's block is retired: displaced, and nobody's own yet.
    fn retired(cpu: &mut Run<'_>, link: Link) -> Step<Option<Header>> {
        let header = cpu.header(link.block)?;
        let retired = Header { live: true, owner: LINKED, generation: link.generation + 1 };
        Ok((header == retired).then_some(header))
    }
    /// Whether the cursor of participant `at` names a link's block.
    fn names(self, cpu: &mut Run<'_>, link: Link, at: u8) -> Step<bool> {
        let word = cpu.load(self.cursor(at))?;
        Ok(matches!(word, Word::Names { leaves: false, block, generation, .. }
            if (block, generation) == (link.block, link.generation)))
    }
    /// A retired block becomes the participant's own, who was the last to name it.
    fn take_retired(cpu: &mut Run<'_>, link: Link, header: Header) -> Step<bool> {
        let (me, block, generation) = (cpu.me, link.block, header.generation + 1);
        let mine = Header { live: true, owner: me, generation };
        let taken = move |world: &mut World<Values>| {
            let reads = &mut world.spec.reads;
            reads[me as usize - 1] = None;
            let read = reads.contains(&Some(block));
            world.check(!read, "M1: what is read is somebody's own");
            world.held[me as usize - 1].push((block, generation));
        };
        cpu.cas_header(block, header, mine, taken)
    }

    fn leave(self, cpu: &mut Run<'_>, link: Link, then: Then) -> Step<Todo> {
        let me = cpu.me;
        let leaves = match cpu.planted(Fault::CursorDroppedEarly) {
            true => EMPTY,
            false => Word::Names { leaves: true, owner: me, block: link.block, generation: link.generation },
        };
        let read = |world: &mut World<Values>| world.spec.reads[me as usize - 1] = None;
        cpu.store_and(self.cursor(me), leaves, read)?;
        if !cpu.planted(Fault::RetiredForgotten) && Self::retired(cpu, link)?.is_some() {
            return Ok(Todo::Left { link, then, at: 1 });
        }
        cpu.store(self.cursor(me), EMPTY)?;
        Ok(then.go())
    }
    fn left(self, cpu: &mut Run<'_>, link: Link, then: Then, at: u8) -> Step<Todo> {
        let last = at as usize > cpu.world.held.len();
        if !last && !self.names(cpu, link, at)? {
            return Ok(Todo::Left { link, then, at: at + 1 });
        }
        let retired = Header { live: true, owner: LINKED, generation: link.generation + 1 };
        if last && Self::take_retired(cpu, link, retired)? {
            cpu.free(link.block, link.generation + 2)?;
        }
        cpu.store(self.cursor(cpu.me), EMPTY)?;
        Ok(then.go())
    }
    fn own(self, cpu: &mut Run<'_>, link: Link, at: u8) -> Step<Todo> {
        let me = cpu.me;
        if at as usize <= cpu.world.held.len() {
            if at == me || !self.names(cpu, link, at)? || cpu.planted(Fault::ReadersIgnored) {
                return Ok(Todo::Own { link, at: at + 1 });
            }
            return Ok(Todo::Leave { link, then: Then::Done });
        }
        let taken = match Self::retired(cpu, link)? {
            Some(header) => Self::take_retired(cpu, link, header)?,
            None => false,
        };
        let had = move |world: &mut World<Values>| {
            world.check(taken, "M1: who has displaced a value has it not");
            world.spec.reads[me as usize - 1] = None;
        };
        cpu.store_and(self.cursor(me), EMPTY, had)?;
        Ok(Todo::Done)
    }

    fn recover(self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        let drop = |dead| Todo::DropCursor { dead };
        Ok(match todo {
            Todo::Recover { dead } if cpu.planted(Fault::BlocksBeforeLinks) => Todo::FreeBlocks { dead, at: 0 },
            Todo::Recover { dead } => Todo::Settle { dead },
            Todo::Settle { dead } if cpu.planted(Fault::LinksUnsettled) => Todo::SettleCursor { dead },
            Todo::Settle { dead } => {
                let turn = Self::turn(cpu)?;
                if !self.complete(cpu, turn)? {
                    return Err(Stop::Again);
                }
                Todo::SettlePlace { dead, at: 1 }
            }
            Todo::SettlePlace { dead, at } if at > self.0 => Todo::SettleCursor { dead },
            Todo::SettlePlace { dead, at } => {
                let word = cpu.load(at.into())?;
                if matches!(word, Word::Link(link) if link.lap == PREPARED && link.giver == dead) {
                    cpu.cas(at.into(), word, EMPTY)?;
                }
                Todo::SettlePlace { dead, at: at + 1 }
            }
            Todo::SettleCursor { dead } => {
                let at = self.cursor(dead);
                let word = cpu.load(at)?;
                let Word::Names { leaves, owner, block, generation } = word else { return Ok(drop(dead)) };
                if !leaves {
                    cpu.cas(at, word, Word::Names { leaves: true, owner, block, generation })?;
                }
                let link = Link { lap: IN, giver: 0, generation, block };
                match Self::retired(cpu, link)?.is_some() && !cpu.planted(Fault::DeadLeaveNothing) {
                    true => Todo::SettleLeft { dead, link, at: 1 },
                    false => drop(dead),
                }
            }
            Todo::SettleLeft { dead, link, at } => {
                let last = at as usize > cpu.world.held.len();
                if !last && !self.names(cpu, link, at)? {
                    return Ok(Todo::SettleLeft { dead, link, at: at + 1 });
                }
                let retired = Header { live: true, owner: LINKED, generation: link.generation + 1 };
                if last && !cpu.planted(Fault::RetiredForgotten) && Self::take_retired(cpu, link, retired)? {
                    cpu.free(link.block, link.generation + 2)?;
                }
                drop(dead)
            }
            Todo::DropCursor { dead } => {
                let word = cpu.load(self.cursor(dead))?;
                cpu.cas(self.cursor(dead), word, EMPTY)?;
                match cpu.planted(Fault::BlocksBeforeLinks) {
                    true => Todo::Release { dead },
                    false => Todo::FreeBlocks { dead, at: 0 },
                }
            }
            Todo::FreeBlocks { dead, at } => match cpu.free_of_the_dead(dead, at)? {
                true => Todo::FreeBlocks { dead, at: at + 1 },
                false if cpu.planted(Fault::BlocksBeforeLinks) => Todo::Settle { dead },
                false => Todo::Release { dead },
            },
            Todo::Release { dead } => {
                cpu.release(dead)?;
                Todo::Done
            }
            other => unreachable!("{other:?}"),
        })
    }
}

impl Structure for Map {
    type Todo = Todo;
    type Call = Call;
    type Spec = Values;
    type Own = ();
    type Fault = Fault;
    const DONE: Todo = Todo::Done;

    fn words(&self, participants: usize) -> Vec<Word> {
        let turn = words((0, 0, 0));
        std::iter::once(turn).chain((0..self.0 as usize + participants).map(|_| EMPTY)).collect()
    }
    fn spec(&self, participants: usize) -> Values {
        Values { keys: [None; 2], labels: [0; 8], reads: vec![None; participants] }
    }
    fn begin(&self, call: Call, held: &[(u8, u8)], (): &()) -> Option<Todo> {
        Some(match call {
            Call::Put(key) => {
                let &(block, generation) = held.first()?;
                Todo::Prepare { key, block, generation, place: 1, again: false }
            }
            Call::Take(key) => Todo::Look { key, why: Why::Take },
            Call::Get(key) => Todo::Look { key, why: Why::Get },
        })
    }
    fn recovery(&self, dead: u8) -> Todo {
        Todo::Recover { dead }
    }
    fn has(spec: &Values, block: u8, generation: u8) -> bool {
        spec.keys.contains(&Some((block, generation)))
    }
    fn all(spec: &Values) -> Vec<(u8, u8)> {
        spec.keys.into_iter().flatten().collect()
    }
    fn died(spec: &mut Values, who: u8) {
        spec.reads[who as usize - 1] = None;
    }

    fn run(&self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        match todo {
            Todo::Done => Ok(Todo::Done),
            Todo::Prepare { key, block, generation, place, again } => {
                self.prepare(cpu, [key, block, generation, place], again)
            }
            Todo::Look { key, why } => {
                let turn = Self::turn(cpu)?;
                let seek = Then::Seek { key, why, turn, at: 1 };
                Ok(match why {
                    Why::Get => seek.go(),
                    _ => Todo::Complete { turn, then: seek },
                })
            }
            Todo::Complete { turn, then } => Ok(match (self.complete(cpu, turn)?, then) {
                (false, Then::Seek { key, why, .. }) => Todo::Look { key, why },
                _ => then.go(),
            }),
            Todo::Seek { key, why, turn, at } => self.seek(cpu, [key, at], why, turn),
            Todo::Found { key, why, turn, at, link } => {
                let label = |cpu: &mut Run<'_>| Word::Number(cpu.world.spec.labels[link.block as usize]);
                Ok(match cpu.access(label)?.number() == key {
                    true => Todo::Change { key, why, turn, found: Some((at, link)) },
                    false => Todo::Leave { link, then: Then::Seek { key, why, turn, at: at + 1 } },
                })
            }
            Todo::Change { key, why, turn, found } => self.change(cpu, key, why, turn, found),
            Todo::Leave { link, then } => self.leave(cpu, link, then),
            Todo::Left { link, then, at } => self.left(cpu, link, then, at),
            Todo::Own { link, at } => self.own(cpu, link, at),
            recovery => self.recover(cpu, recovery),
        }
    }
}

//! Structures as transition systems: each access to a shared word is one step, and so is each death. A participant's code
//! is written as it would be without steps; it runs again from its last resting place, with the answers that it got
//! before, up to the first access that has no answer yet.

use std::fmt::Debug;
use std::hash::Hash;

/// The owner of what a structure has.
pub const LINKED: u8 = 200;

/// What says whose a block is. The first words of the memory are these, one for each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    pub live: bool,
    pub owner: u8,
    pub generation: u8,
}

/// A word of a structure that names a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    pub lap: u8,
    pub giver: u8,
    pub generation: u8,
    pub block: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// A ticket, a count, a flag, a key; nothing, if 0.
    Number(u8),
    /// A cell that waits for a ticket; one that waits for nothing any more.
    Empty(u8),
    Sealed(u8),
    Link(Link),
    Header(Header),
    /// Of a topic: whose, and the ticket that it reads next.
    Cursor {
        owner: u8,
        ticket: u8,
    },
    /// Of a map: what its holder does with a block.
    Names {
        leaves: bool,
        owner: u8,
        block: u8,
        generation: u8,
    },
    /// A bucket's last change.
    Turn {
        version: u8,
        new: u8,
        old: u8,
    },
    /// Two numbers in one word.
    Pair(u8, u8),
}

impl Word {
    pub fn number(self) -> u8 {
        match self {
            Self::Number(number) => number,
            other => unreachable!("{other:?}"),
        }
    }
    pub fn pair(self) -> (u8, u8) {
        match self {
            Self::Pair(one, other) => (one, other),
            other => unreachable!("{other:?}"),
        }
    }
    pub fn header(self) -> Header {
        match self {
            Self::Header(header) => header,
            other => unreachable!("{other:?}"),
        }
    }
}

/// What a link's block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Pending(Header),
    Present(Header),
    Void,
}

impl Standing {
    /// Of a link whose giver, as long as it is pending, still owns its block so many generations before.
    pub fn of(link: Link, header: Header, before: u8) -> Self {
        if header == (Header { live: true, owner: LINKED, generation: link.generation }) {
            Self::Present(header)
        } else if header == (Header { live: true, owner: link.giver, generation: link.generation - before }) {
            Self::Pending(header)
        } else {
            Self::Void
        }
    }
}

/// Why a participant's code does not go on: it waits for its next step, or begins again from its resting place.
pub enum Stop {
    Wait,
    Again,
}
pub type Step<T> = Result<T, Stop>;

/// What only the observer knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World<P> {
    /// What should be true of the structure.
    pub spec: P,
    /// The blocks that each participant has, with their generations.
    pub held: Vec<Vec<(u8, u8)>>,
    /// Those who are dead, and those of them who are recovered: a bit each.
    pub dead: u8,
    pub recovered: u8,
    /// How often all slept to the end of a nap, beside something that they were waiting for.
    pub naps: u8,
    /// What must not be, with the obligation in front.
    pub fault: Option<&'static str>,
}

impl<P> World<P> {
    pub fn fails(&mut self, why: &'static str) {
        self.fault = self.fault.or(Some(why));
    }
    pub fn check(&mut self, holds: bool, why: &'static str) {
        if !holds {
            self.fails(why);
        }
    }
    pub fn is_dead(&self, who: u8) -> bool {
        self.dead >> who & 1 == 1
    }
}

/// A structure's protocol.
pub trait Structure: Sized + Copy + Eq + Hash + Debug + Send + Sync + 'static {
    /// Where a participant's code goes on.
    type Todo: Copy + Eq + Hash + Debug + Send + Sync;
    type Call: Copy + Debug + Send + Sync;
    type Spec: Clone + Eq + Hash + Debug + Send + Sync;
    /// What a participant remembers between its calls.
    type Own: Clone + Eq + Hash + Debug + Default + Send + Sync;
    type Fault: Copy + Eq + Debug + Send + Sync;
    const DONE: Self::Todo;
    /// Its words at first, for so many participants; they stand behind the headers.
    fn words(&self, participants: usize) -> Vec<Word>;
    fn spec(&self, participants: usize) -> Self::Spec;
    /// None if it lacks the block that the call takes.
    fn begin(&self, call: Self::Call, held: &[(u8, u8)], own: &Self::Own) -> Option<Self::Todo>;
    /// Runs to the next resting place.
    fn run(&self, cpu: &mut Cpu<'_, Self>, todo: Self::Todo) -> Step<Self::Todo>;
    /// What the recovery of a dead one does first.
    fn recovery(&self, dead: u8) -> Self::Todo;
    /// Whether the structure has a block under a generation, as the observer knows.
    fn has(spec: &Self::Spec, block: u8, generation: u8) -> bool {
        Self::all(spec).contains(&(block, generation))
    }
    /// What the structure has, as the observer knows.
    fn all(spec: &Self::Spec) -> Vec<(u8, u8)>;
    /// Whether a fault may show at all.
    fn may_show(&self, _: Self::Fault) -> bool {
        true
    }
    /// A participant has died.
    fn died(_: &mut Self::Spec, _who: u8) {}
    /// Whether a participant is asleep until it is woken.
    fn sleeps(_: &Self::Spec, _who: u8) -> bool {
        false
    }
    /// Whether somebody sleeps beside what it is waiting for. Asked where nobody goes on.
    fn is_owed(&self, _headers: &[Word], _words: &[Word], _: &World<Self::Spec>) -> bool {
        false
    }
    /// How often that may be: each death costs a nap at most, and without one nobody sleeps beside what it is waiting for.
    fn naps(world: &World<Self::Spec>) -> u32 {
        world.dead.count_ones()
    }
    /// Whether its own memory is as it should be. Asked where nobody goes on.
    fn is_whole(&self, _words: &[Word], _: &World<Self::Spec>) -> bool {
        true
    }
    fn nap_ends(_: &mut Self::Spec) {}
}

/// A participant's access to the memory during one step.
pub struct Cpu<'a, S: Structure> {
    pub memory: &'a mut [Word],
    pub world: &'a mut World<S::Spec>,
    pub own: &'a mut S::Own,
    pub me: u8,
    pub blocks: usize,
    pub planted: Option<S::Fault>,
    pub answers: &'a mut Vec<Word>,
    pub given: usize,
    pub may: bool,
}

impl<S: Structure> Cpu<'_, S> {
    pub fn planted(&self, fault: S::Fault) -> bool {
        self.planted == Some(fault)
    }
    /// One step; what it does happens once, however often the code runs again.
    pub fn access(&mut self, make: impl FnOnce(&mut Self) -> Word) -> Step<Word> {
        if let Some(&answer) = self.answers.get(self.given) {
            self.given += 1;
            return Ok(answer);
        }
        if !std::mem::take(&mut self.may) {
            return Err(Stop::Wait);
        }
        let answer = make(self);
        self.answers.push(answer);
        self.given += 1;
        Ok(answer)
    }
    /// A structure's word.
    pub fn load(&mut self, at: usize) -> Step<Word> {
        self.load_and(at, |_, _| {})
    }
    /// The same; the observer looks on.
    pub fn load_and(&mut self, at: usize, look: impl FnOnce(Word, &mut World<S::Spec>)) -> Step<Word> {
        self.access(|cpu| {
            let word = cpu.memory[cpu.blocks + at];
            look(word, cpu.world);
            word
        })
    }
    pub fn store(&mut self, at: usize, word: Word) -> Step<()> {
        self.store_and(at, word, |_| {})
    }
    pub fn store_and(&mut self, at: usize, word: Word, look: impl FnOnce(&mut World<S::Spec>)) -> Step<()> {
        self.change_and(at, |_| word, |_, world| look(world)).map(drop)
    }
    /// A read-modify-write, which does not fail: what was there before.
    pub fn change_and(
        &mut self,
        at: usize,
        to: impl FnOnce(Word) -> Word,
        look: impl FnOnce(Word, &mut World<S::Spec>),
    ) -> Step<Word> {
        self.access(|cpu| {
            let word = &mut cpu.memory[cpu.blocks + at];
            let before = std::mem::replace(word, to(*word));
            look(before, cpu.world);
            before
        })
    }
    pub fn cas(&mut self, at: usize, old: Word, new: Word) -> Step<bool> {
        self.cas_and(at, old, new, |_| {})
    }
    pub fn cas_and(&mut self, at: usize, old: Word, new: Word, done: impl FnOnce(&mut World<S::Spec>)) -> Step<bool> {
        let at = self.blocks + at;
        self.cas_at(at, old, new, done)
    }
    fn cas_at(&mut self, at: usize, old: Word, new: Word, done: impl FnOnce(&mut World<S::Spec>)) -> Step<bool> {
        let swap = |cpu: &mut Self| {
            let same = cpu.memory[at] == old;
            if same {
                cpu.memory[at] = new;
                done(cpu.world);
            }
            Word::Number(same.into())
        };
        Ok(self.access(swap)?.number() == 1)
    }
    pub fn header(&mut self, block: u8) -> Step<Header> {
        self.header_and(block, |_, _| {})
    }
    /// What a link's block is.
    pub fn standing(&mut self, link: Link) -> Step<Standing> {
        self.header(link.block).map(|now| Standing::of(link, now, 1))
    }
    pub fn header_and(&mut self, block: u8, look: impl FnOnce(Header, &mut World<S::Spec>)) -> Step<Header> {
        let read = |cpu: &mut Self| {
            let word = cpu.memory[block as usize];
            look(word.header(), cpu.world);
            word
        };
        Ok(self.access(read)?.header())
    }
    pub fn cas_header(
        &mut self,
        block: u8,
        old: Header,
        new: Header,
        done: impl FnOnce(&mut World<S::Spec>),
    ) -> Step<bool> {
        self.cas_at(block.into(), Word::Header(old), Word::Header(new), done)
    }

    /// Lets a pending link's block go.
    pub fn let_go(&mut self, link: Link, pending: Header) -> Step<bool> {
        let gone = Header { live: true, owner: LINKED, generation: link.generation };
        self.cas_header(link.block, pending, gone, |_| {})
    }

    /// A free block becomes the participant's own. All of it is the heap's, and one step here.
    pub fn allocate(&mut self, named: impl Fn(&[Word], u8) -> bool) -> Step<()> {
        let take = |cpu: &mut Self| {
            let free = (0..cpu.blocks).find(|&block| !cpu.memory[block].header().live);
            let Some(block) = free else { return Word::Number(0) };
            let generation = cpu.memory[block].header().generation + 1;
            cpu.memory[block] = Word::Header(Header { live: true, owner: cpu.me, generation });
            cpu.world.held[cpu.me as usize - 1].push((block as u8, generation));
            let named = named(&cpu.memory[cpu.blocks..], block as u8);
            cpu.world.check(!named, "Q1: a word names a block that is used again");
            Word::Number(1)
        };
        self.access(take).map(drop)
    }
    /// Frees a block of the participant's own.
    pub fn free(&mut self, block: u8, generation: u8) -> Step<()> {
        let me = self.me;
        let live = Header { live: true, owner: me, generation };
        let give = |cpu: &mut Self| {
            cpu.world.check(cpu.memory[block as usize] == Word::Header(live), "Q1: who has a block finds it another's");
            cpu.memory[block as usize] = Word::Header(Header { live: false, owner: 0, generation });
            cpu.world.held[me as usize - 1].retain(|held| *held != (block, generation));
            Word::Number(0)
        };
        self.access(give).map(drop)
    }
    /// The block number `at` of a dead one is freed, if it is its own. False behind the last.
    pub fn free_of_the_dead(&mut self, dead: u8, at: u8) -> Step<bool> {
        if at as usize >= self.blocks {
            return Ok(false);
        }
        let header = self.header(at)?;
        if header.live && header.owner == dead {
            self.cas_header(at, header, Header { live: false, owner: 0, ..header }, |_| {})?;
        }
        Ok(true)
    }
    /// The number of the dead one may be used again.
    pub fn release(&mut self, dead: u8) -> Step<()> {
        let done = |cpu: &mut Self| {
            cpu.world.recovered |= 1 << dead;
            Word::Number(0)
        };
        self.access(done).map(drop)
    }
}

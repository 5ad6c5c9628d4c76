//! Structures as transition systems: each access to a shared word is one step, and so is each death. A participant's code
//! is written as it would be without steps; it runs again from its last resting place, with the answers that it got
//! before, up to the first access that has no answer yet.

use stateright::{Model, Property};
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
    naps: u8,
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
    fn is_owed(&self, _words: &[Word], _: &World<Self::Spec>) -> bool {
        false
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
    answers: &'a mut Vec<Word>,
    given: usize,
    may: bool,
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

/// Participants' calls, one after the other, who of them may be killed, and how many blocks each has at first.
#[derive(Debug, Clone, Copy)]
pub struct Scenario<S: Structure> {
    pub name: &'static str,
    pub structure: S,
    scripts: &'static [&'static [S::Call]],
    blocks: &'static [u8],
    mortal: &'static [u8],
    deaths: u32,
}

impl<S: Structure> Scenario<S> {
    /// A scenario in which nobody has blocks, and nobody dies.
    pub const fn new(name: &'static str, structure: S, scripts: &'static [&'static [S::Call]]) -> Self {
        Self { name, structure, scripts, blocks: &[], mortal: &[], deaths: 0 }
    }

    /// The same with so many blocks for the first participant, the second one, and so on.
    pub const fn blocks(mut self, blocks: &'static [u8]) -> Self {
        self.blocks = blocks;
        self
    }

    /// The same with so many deaths at most, of these participants.
    pub const fn deaths(mut self, deaths: u32, mortal: &'static [u8]) -> Self {
        (self.deaths, self.mortal) = (deaths, mortal);
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Participant<S: Structure> {
    begun: u8,
    todo: S::Todo,
    /// Whom it recovers.
    recovers: u8,
    answers: Vec<Word>,
    own: S::Own,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State<S: Structure> {
    pub memory: Vec<Word>,
    pub world: World<S::Spec>,
    participants: Vec<Participant<S>>,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happens {
    /// A participant's next access.
    Access(u8),
    /// Its death.
    Death(u8),
    /// Nobody goes on: all who sleep look again, at the end of a nap.
    Nap,
}

pub struct Explored<S: Structure> {
    pub scenario: Scenario<S>,
    pub planted: Option<S::Fault>,
}

/// Accesses within which a call ends that runs alone.
const PATIENCE: usize = 120;

impl<S: Structure> Explored<S> {
    /// Whom a participant without calls might recover.
    fn to_recover(state: &State<S>) -> Option<u8> {
        (1..=state.participants.len() as u8)
            .find(|&who| state.world.is_dead(who) && state.world.recovered >> who & 1 == 0)
    }
    fn begin(&self, state: &mut State<S>, by: usize) {
        let participant = &mut state.participants[by];
        while participant.todo == S::DONE
            && let Some(&call) = self.scenario.scripts[by].get(participant.begun as usize)
        {
            participant.begun += 1;
            let begun = self.scenario.structure.begin(call, &state.world.held[by], &participant.own);
            participant.todo = begun.unwrap_or(S::DONE);
        }
    }
    fn may_go_on(&self, state: &State<S>, by: usize) -> bool {
        let who = by as u8 + 1;
        let awake = !state.world.is_dead(who) && !S::sleeps(&state.world.spec, who);
        awake && (state.participants[by].todo != S::DONE || Self::to_recover(state).is_some())
    }

    /// Nobody goes on.
    fn rests(&self, state: &State<S>) -> bool {
        !(0..state.participants.len()).any(|by| self.may_go_on(state, by))
    }
    /// Nobody goes on, and somebody sleeps beside what it is waiting for.
    fn oversleeps(&self, state: &State<S>) -> bool {
        let words = &state.memory[self.scenario.count()..];
        self.rests(state) && self.scenario.structure.is_owed(words, &state.world)
    }

    fn step(&self, state: &mut State<S>, by: usize) {
        if state.participants[by].todo == S::DONE
            && let Some(dead) = Self::to_recover(state)
        {
            state.participants[by].recovers = dead;
            state.participants[by].todo = self.scenario.structure.recovery(dead);
        }
        let State { memory, world, participants } = &mut *state;
        let participant = &mut participants[by];
        let mut may = true;
        loop {
            let mut cpu = Cpu {
                memory,
                world,
                own: &mut participant.own,
                me: by as u8 + 1,
                blocks: self.scenario.count(),
                planted: self.planted,
                answers: &mut participant.answers,
                given: 0,
                may,
            };
            let ran = self.scenario.structure.run(&mut cpu, participant.todo);
            may = cpu.may;
            match ran {
                Err(Stop::Wait) => break,
                Err(Stop::Again) => {}
                Ok(next) => participant.todo = next,
            }
            participant.answers.clear();
            if participant.todo == S::DONE {
                participant.recovers = 0;
                break;
            }
        }
        self.begin(state, by);
    }

    /// Q4: whoever goes on alone comes to the end of its call, or falls asleep.
    fn ends_alone(&self, state: &State<S>, by: usize) -> bool {
        let (mut state, begun) = (state.clone(), state.participants[by].begun);
        let recovers = state.participants[by].recovers;
        for _ in 0..PATIENCE {
            let participant = &state.participants[by];
            let ended = participant.todo == S::DONE || participant.begun != begun || participant.recovers != recovers;
            if ended || S::sleeps(&state.world.spec, by as u8 + 1) {
                return true;
            }
            self.step(&mut state, by);
        }
        false
    }

    /// Q3: nobody goes on, and all dead are recovered: each block is free, somebody's, or the structure's.
    fn balance(&self, state: &State<S>) -> bool {
        let world = &state.world;
        let known = (0..self.scenario.count()).all(|block| {
            let Header { live, owner, generation } = state.memory[block].header();
            match (live, owner) {
                (false, _) => true,
                (true, LINKED) => S::has(&world.spec, block as u8, generation),
                (true, owner) => {
                    !world.is_dead(owner) && world.held[owner as usize - 1].contains(&(block as u8, generation))
                }
            }
        });
        let there = S::all(&world.spec).into_iter().all(|(at, generation)| {
            state.memory[at as usize] == Word::Header(Header { live: true, owner: LINKED, generation })
        });
        known && there && self.scenario.structure.is_whole(&state.memory[self.scenario.count()..], world)
    }
}

impl<S: Structure> Scenario<S> {
    /// Blocks.
    fn count(&self) -> usize {
        self.blocks.iter().sum::<u8>() as usize
    }
}

fn keeps<S: Structure>(obligation: &'static str) -> Property<Explored<S>> {
    // One function for each: a property is a plain function pointer.
    fn none_of<S: Structure, const WHICH: usize>(_: &Explored<S>, state: &State<S>) -> bool {
        state.world.fault.is_none_or(|fault| !fault.starts_with(OBLIGATIONS[WHICH]))
    }
    let condition = match obligation {
        "Q1" => none_of::<S, 0>,
        "Q2" => none_of::<S, 1>,
        "Q6" => none_of::<S, 2>,
        "T1" => none_of::<S, 3>,
        "M1" => none_of::<S, 4>,
        _ => none_of::<S, 5>,
    };
    Property::always(obligation, condition)
}
const OBLIGATIONS: [&str; 6] = ["Q1", "Q2", "Q6", "T1", "M1", "S3"];

impl<S: Structure> Model for Explored<S> {
    type State = State<S>;
    type Action = Happens;

    fn init_states(&self) -> Vec<State<S>> {
        let participants = self.scenario.scripts.len();
        let (mut memory, mut held) = (vec![], vec![]);
        let counts = self.scenario.blocks.iter().copied().chain(std::iter::repeat(0)).take(participants);
        for (by, count) in counts.enumerate() {
            let first = memory.len() as u8;
            held.push((first..first + count).map(|block| (block, 1)).collect());
            let mine = Word::Header(Header { live: true, owner: by as u8 + 1, generation: 1 });
            memory.extend((0..count).map(|_| mine));
        }
        memory.extend(self.scenario.structure.words(participants));
        let spec = self.scenario.structure.spec(participants);
        let idle = Participant { begun: 0, todo: S::DONE, recovers: 0, answers: vec![], own: S::Own::default() };
        let mut state = State {
            memory,
            world: World { spec, held, dead: 0, recovered: 0, naps: 0, fault: None },
            participants: vec![idle; participants],
        };
        (0..participants).for_each(|by| self.begin(&mut state, by));
        vec![state]
    }

    fn actions(&self, state: &State<S>, actions: &mut Vec<Happens>) {
        if state.world.fault.is_some() {
            return;
        }
        let all = 0..state.participants.len();
        actions.extend(all.clone().filter(|&by| self.may_go_on(state, by)).map(|by| Happens::Access(by as u8)));
        if state.world.dead.count_ones() < self.scenario.deaths {
            let mortal = self.scenario.mortal.iter().filter(|&&who| !state.world.is_dead(who));
            actions.extend(mortal.map(|&who| Happens::Death(who - 1)));
        }
        if self.oversleeps(state) {
            actions.push(Happens::Nap);
        }
    }

    fn next_state(&self, state: &State<S>, happens: Happens) -> Option<State<S>> {
        let mut next = state.clone();
        match happens {
            Happens::Access(by) => self.step(&mut next, by.into()),
            Happens::Nap => {
                next.world.naps += 1;
                S::nap_ends(&mut next.world.spec);
            }
            Happens::Death(by) => {
                next.world.dead |= 1 << (by + 1);
                next.world.held[by as usize].clear();
                S::died(&mut next.world.spec, by + 1);
                let own = S::Own::default();
                next.participants[by as usize] =
                    Participant { begun: u8::MAX, todo: S::DONE, recovers: 0, answers: vec![], own };
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<_> = OBLIGATIONS.into_iter().map(keeps).collect();
        properties.push(Property::always("Q3", |model: &Self, state: &State<S>| {
            let fault = state.world.fault;
            fault.map_or_else(|| !model.rests(state) || model.balance(state), |fault| !fault.starts_with("Q3"))
        }));
        // A death costs a nap at most, and without one nobody sleeps beside what it is waiting for.
        let naps = |_: &Self, state: &State<S>| u32::from(state.world.naps) <= state.world.dead.count_ones();
        properties.push(Property::always("Q5", naps));
        properties.push(Property::always("Q4", |model: &Self, state: &State<S>| {
            let living = |&by: &usize| model.may_go_on(state, by);
            state.world.fault.is_some()
                || (0..state.participants.len()).filter(living).all(|by| model.ends_alone(state, by))
        }));
        properties
    }
}

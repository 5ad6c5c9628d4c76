//! Scenarios, and what is explored of one: every order of accesses and deaths.

use crate::engine::{Cpu, Header, LINKED, Stop, Structure, Word, World};
use stateright::{Model, Property};

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
        let (headers, words) = state.memory.split_at(self.scenario.count());
        self.rests(state) && self.scenario.structure.is_owed(headers, words, &state.world)
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
        let naps = |_: &Self, state: &State<S>| u32::from(state.world.naps) <= S::naps(&state.world);
        properties.push(Property::always("Q5", naps));
        properties.push(Property::always("Q4", |model: &Self, state: &State<S>| {
            let living = |&by: &usize| model.may_go_on(state, by);
            state.world.fault.is_some()
                || (0..state.participants.len()).filter(living).all(|by| model.ends_alone(state, by))
        }));
        properties
    }
}

//! A scenario as a transition system, and what must hold in it.

use crate::protocol::{self, Todo};
use crate::steps::{Cpu, Mutant};
use crate::words::{Kind, Memory};
use stateright::{Model, Property};

/// What a participant does, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Frees the block that begins there, which it has from the start.
    Free(u8),
    /// Takes so many granules, if it finds them in two tries.
    Take(u8),
    /// Frees what it took last.
    Give,
    /// Walks over all tiles and merges what is left.
    Sweep,
}

/// Blocks side by side (size, and owner unless it is free), and what each participant does.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub blocks: &'static [(u8, Option<u8>)],
    pub scripts: &'static [&'static [Task]],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Participant {
    /// Tasks begun.
    begun: u8,
    todo: Todo,
    answers: Vec<crate::steps::Answer>,
    /// Live blocks that it has.
    kept: Vec<(u8, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub memory: Memory,
    participants: Vec<Participant>,
    fault: Option<&'static str>,
}

/// One access of a participant; where it searches, which of the blocks that would do it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access {
    by: u8,
    choice: u8,
}

pub struct Protocol {
    pub scenario: Scenario,
    pub mutant: Option<Mutant>,
}

/// Todos after which a helper that runs alone must have come to its end.
const PATIENCE: usize = 300;

impl Protocol {
    /// Goes on to the next task where one has come to its end.
    fn advance(&self, state: &mut State, by: usize) {
        let participant = &mut state.participants[by];
        while participant.todo == Todo::Done {
            let Some(&task) = self.scenario.scripts[by].get(participant.begun as usize) else { return };
            participant.begun += 1;
            participant.todo = match task {
                Task::Free(at) => {
                    participant.kept.retain(|&(kept, _)| kept != at);
                    Todo::Free { at }
                }
                Task::Take(size) => Todo::Find { size, tries: 2 },
                Task::Give => match participant.kept.pop() {
                    Some((at, _)) => Todo::Free { at },
                    None => Todo::Done,
                },
                Task::Sweep => Todo::Sweep { at: 0, restarts: 0 },
            };
        }
    }

    fn step(&self, state: &mut State, Access { by, choice }: Access) -> usize {
        let State { memory, participants, fault } = state;
        let participant = &mut participants[by as usize];
        let mut cpu = Cpu {
            memory,
            me: by,
            mutant: self.mutant,
            answers: &mut participant.answers,
            given: 0,
            budget: 1,
            choice: choice.into(),
            choices: 1,
            fault,
        };
        let ran = protocol::run(&mut cpu, participant.todo);
        let choices = cpu.choices;
        if let Ok(next) = ran {
            if let (Todo::Keep { at, held }, Todo::Done) = (participant.todo, next) {
                participant.kept.push((at, held.low));
            }
            participant.answers.clear();
            participant.todo = next;
            self.advance(state, by.into());
        }
        choices
    }

    /// The memory after a helper has swept it alone, all others stopped for ever where they are; none if it
    /// came to no end.
    fn rescued(&self, state: &State) -> Option<Memory> {
        let mut memory = state.memory.clone();
        let (mut todo, mut fault) = (Todo::Sweep { at: 0, restarts: 0 }, None);
        for _ in 0..PATIENCE {
            let mut answers = vec![];
            let mut cpu = Cpu {
                memory: &mut memory,
                me: self.scenario.scripts.len() as u8,
                mutant: self.mutant,
                answers: &mut answers,
                given: 0,
                budget: u32::MAX,
                choice: 0,
                choices: 1,
                fault: &mut fault,
            };
            todo = protocol::run(&mut cpu, todo).ok()?;
            if let Todo::Done = todo {
                return fault.is_none().then_some(memory);
            }
        }
        None
    }
}

/// S1: who has a block has it alone, whole, as a tile.
fn owned(_: &Protocol, state: &State) -> bool {
    let kept =
        state.participants.iter().enumerate().flat_map(|(by, p)| p.kept.iter().map(move |&kept| (by as u8, kept)));
    state.fault.is_none()
        && state.memory.tiles().is_none_or(|tiles| {
            kept.into_iter().all(|(by, (at, size))| {
                tiles.iter().any(|&(g, head, _)| (g, head.kind, head.owner, head.low) == (at, Kind::Live, by, size))
            })
        })
}

/// S4: the sizes tile the sector.
fn tiled(_: &Protocol, state: &State) -> bool {
    state.memory.tiles().is_some()
}

fn unmerged(memory: &Memory) -> bool {
    memory.tiles().is_none_or(|tiles| tiles.windows(2).any(|pair| pair[0].1.is_free() && pair[1].1.is_free()))
}

/// L3: once all have come to their end, no two neighbours are free, and nobody had to heal.
fn merged_at_rest(_: &Protocol, state: &State) -> bool {
    let rests = state.participants.iter().all(|p| p.todo == Todo::Done);
    let settled = |memory: &Memory| {
        let left = |kind: Kind| matches!(kind, Kind::Acked | Kind::Coalescing);
        memory.tiles().is_some_and(|tiles| tiles.iter().all(|(_, head, _)| !left(head.kind)))
    };
    !rests || settled(&state.memory) && !unmerged(&state.memory)
}

/// L1 L2 C1: wherever all stop, a helper comes to its end, finishes every announced operation and merges what
/// is free. What is left in flight is held alone, one block for each who has not come to its end.
fn helped(model: &Protocol, state: &State) -> bool {
    if state.fault.is_some() || state.memory.tiles().is_none() {
        return true;
    }
    let Some(memory) = model.rescued(state) else { return false };
    let Some(tiles) = memory.tiles() else { return false };
    let mut held = vec![0; state.participants.len()];
    for (_, head, _) in &tiles {
        match head.kind {
            Kind::Acked => return false,
            Kind::Coalescing => match held.get_mut(head.owner as usize) {
                Some(count) => *count += 1,
                None => return false,
            },
            _ => {}
        }
    }
    let alone = held.iter().zip(&state.participants).all(|(&count, p)| count <= i32::from(p.todo != Todo::Done));
    alone && !unmerged(&memory)
}

impl Model for Protocol {
    type State = State;
    type Action = Access;

    fn init_states(&self) -> Vec<State> {
        let Scenario { blocks, scripts, .. } = self.scenario;
        let mut memory = Memory::of(blocks, scripts.len());
        memory.advance = u8::from(self.mutant != Some(Mutant::GenerationKept));
        let mut participants: Vec<_> =
            scripts.iter().map(|_| Participant { begun: 0, todo: Todo::Done, answers: vec![], kept: vec![] }).collect();
        let mut at = 0;
        for &(size, owner) in blocks {
            if let Some(owner) = owner {
                participants[owner as usize].kept.push((at, size));
            }
            at += size;
        }
        let mut state = State { memory, participants, fault: None };
        (0..scripts.len()).for_each(|by| self.advance(&mut state, by));
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Access>) {
        if state.fault.is_some() {
            return;
        }
        for (by, participant) in state.participants.iter().enumerate() {
            let by = by as u8;
            let choices = match participant.todo {
                Todo::Done => 0,
                Todo::Find { .. } if participant.answers.is_empty() => {
                    self.step(&mut state.clone(), Access { by, choice: 0 })
                }
                _ => 1,
            };
            actions.extend((0..choices as u8).map(|choice| Access { by, choice }));
        }
    }

    fn next_state(&self, state: &State, access: Access) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, access);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S1 owned alone", owned),
            Property::always("S4 tiled", tiled),
            Property::always("L3 merged at rest", merged_at_rest),
            Property::always("L1 L2 helpers finish", helped),
        ]
    }
}

//! One access to a shared word is one step. A participant's code is written as it would be without steps; it
//! runs again from its last resting place, with the answers that it got before, up to the first access that
//! has no answer yet.

use crate::words::{Header, Memory, Op};

/// The code comes to an access that has to wait for the participant's next step.
pub struct Wait;
pub type Step<T> = Result<T, Wait>;

/// What an access gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    Header(Header),
    Op(Op),
    Found(u8, Header),
    Nothing,
}

/// A deliberate fault in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutant {
    /// Nobody looks at the neighbours after a block became free.
    RecheckDropped,
    /// The recheck looks to the right only.
    LeftLookDropped,
    /// A left-hand block need not end where the right-hand one begins.
    AdjacencyUnchecked,
    /// A helper does not read the head again after the operation's words.
    HelperRecheckDropped,
    /// A footer is prepared without looking whether its operation is still in force.
    FooterRecheckDropped,
    /// A tail's head is prepared without looking whether its cut is still in force.
    CutRecheckDropped,
    /// A join commits although its right-hand block was not frozen.
    CommitUnfrozen,
    /// A freeze takes a right-hand block of the quoted kind and size, whatever its generation.
    FreezeInexact,
    /// Who finds the right-hand block frozen by another takes the join for failed.
    FrozenUnrecognised,
    /// The remainder of a cut gets no footer.
    FooterDropped,
    /// A word keeps its generation when it is written.
    GenerationKept,
    /// The quoted header is written after the operation is announced.
    QuoteLate,
    /// An operation is taken down before it is committed.
    TakenDownEarly,
    /// A helper leaves after the commit: no recheck.
    HelperLeaves,
    /// After a join that failed nobody looks again.
    AbortUnsettled,
}

pub const MUTANTS: [Mutant; 15] = [
    Mutant::RecheckDropped,
    Mutant::LeftLookDropped,
    Mutant::AdjacencyUnchecked,
    Mutant::HelperRecheckDropped,
    Mutant::FooterRecheckDropped,
    Mutant::CutRecheckDropped,
    Mutant::CommitUnfrozen,
    Mutant::FreezeInexact,
    Mutant::FrozenUnrecognised,
    Mutant::FooterDropped,
    Mutant::GenerationKept,
    Mutant::QuoteLate,
    Mutant::TakenDownEarly,
    Mutant::HelperLeaves,
    Mutant::AbortUnsettled,
];

/// A participant's access to the memory during one step.
pub struct Cpu<'a> {
    pub memory: &'a mut Memory,
    pub me: u8,
    pub mutant: Option<Mutant>,
    /// Answers so far, and how many of them have been given again.
    pub answers: &'a mut Vec<Answer>,
    pub given: usize,
    /// Accesses that may still be made.
    pub budget: u32,
    /// Which of the blocks that would do a search finds.
    pub choice: usize,
    /// How many there were.
    pub choices: usize,
    /// What must not happen has happened.
    pub fault: &'a mut Option<&'static str>,
}

impl Cpu<'_> {
    pub fn mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
    /// The generation after a header's.
    pub fn after(&self, header: Header) -> u8 {
        self.memory.after(header)
    }
    pub fn granules(&self) -> u8 {
        self.memory.granules()
    }

    fn access(&mut self, make: impl FnOnce(&mut Self) -> Answer) -> Step<Answer> {
        if let Some(&answer) = self.answers.get(self.given) {
            self.given += 1;
            return Ok(answer);
        }
        if self.budget == 0 {
            return Err(Wait);
        }
        self.budget -= 1;
        let answer = make(self);
        self.answers.push(answer);
        self.given += 1;
        Ok(answer)
    }

    /// Reads a header; out of range there is the sentinel's.
    pub fn look(&mut self, g: u8) -> Step<Header> {
        match self.access(|cpu| Answer::Header(cpu.memory.headers[g.min(cpu.granules()) as usize]))? {
            Answer::Header(header) => Ok(header),
            other => unreachable!("{other:?}"),
        }
    }

    /// Compare-and-swap: what was found.
    pub fn cas(&mut self, g: u8, old: Header, new: Header) -> Step<Header> {
        let made = self.access(|cpu| {
            let word = &mut cpu.memory.headers[g as usize];
            let found = *word;
            if found == old {
                *word = new;
            }
            Answer::Header(found)
        })?;
        match made {
            Answer::Header(found) => Ok(found),
            other => unreachable!("{other:?}"),
        }
    }

    /// Writes a head that this participant holds alone.
    pub fn store_held(&mut self, g: u8, held: Header, new: Header) -> Step<()> {
        self.access(|cpu| {
            if cpu.memory.headers[g as usize] != held {
                *cpu.fault = Some("S1: a block that one participant held alone was changed by another");
            }
            cpu.memory.headers[g as usize] = new;
            Answer::Nothing
        })
        .map(drop)
    }

    pub fn write_op(&mut self, op: Op) -> Step<()> {
        self.access(|cpu| {
            cpu.memory.ops[cpu.me as usize] = op;
            Answer::Nothing
        })
        .map(drop)
    }

    pub fn quote(&mut self, header: Header) -> Step<()> {
        self.access(|cpu| {
            cpu.memory.quotes[cpu.me as usize] = header;
            Answer::Nothing
        })
        .map(drop)
    }

    pub fn read_op(&mut self, owner: u8) -> Step<Op> {
        match self.access(|cpu| Answer::Op(cpu.memory.ops[owner as usize]))? {
            Answer::Op(op) => Ok(op),
            other => unreachable!("{other:?}"),
        }
    }

    pub fn read_quote(&mut self, owner: u8) -> Step<Header> {
        match self.access(|cpu| Answer::Header(cpu.memory.quotes[owner as usize]))? {
            Answer::Header(header) => Ok(header),
            other => unreachable!("{other:?}"),
        }
    }

    /// The hints, which may lead anywhere: any header of those that would do.
    pub fn find(&mut self, would_do: impl Fn(Header) -> bool) -> Step<Option<(u8, Header)>> {
        let found = self.access(|cpu| {
            let granules = cpu.granules() as usize;
            let all = cpu.memory.headers[..granules].iter().enumerate().filter(|(_, header)| would_do(**header));
            let all: Vec<_> = all.map(|(g, header)| Answer::Found(g as u8, *header)).collect();
            cpu.choices = all.len().max(1);
            all.get(cpu.choice).copied().unwrap_or(Answer::Nothing)
        })?;
        Ok(match found {
            Answer::Found(g, header) => Some((g, header)),
            _ => None,
        })
    }
}

//! What happened in an execution, access by access, and how it reads as a table.

use super::Published;
use atomic_matrix::backend::Backend;
use std::cell::RefCell;
use std::fmt::Write;

/// A word of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first-level bitmap.
    First,
    /// A row of the second-level bitmap.
    Second(usize),
    /// The head of a class's list.
    Head(super::Class),
    /// The size in the header of the block at an offset.
    Size(u32),
    /// Its state.
    State(u32),
    /// Its left neighbour.
    Prev(u32),
    /// The next block of its list.
    Next(u32),
}

/// What was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Read(u64),
    Wrote(u64),
    Swapped(u64, u64),
    /// Expected, found.
    Refused(u64, u64),
    /// The word before and after an unconditional read-modify-write.
    Changed(u64, u64),
}

#[derive(Debug, Clone, Copy)]
struct Step {
    operation: usize,
    place: Place,
    done: Done,
}

#[derive(Debug, Clone)]
struct Operation {
    thread: u8,
    call: String,
    result: Option<String>,
}

/// An execution's operations and accesses, in the order in which they happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    operations: Vec<Operation>,
    steps: Vec<Step>,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

/// An operation under way: who does the accesses that follow. None is an observer, whose accesses are not noted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op(Option<usize>);

impl Op {
    pub(crate) const OBSERVER: Self = Self(None);

    pub(crate) fn begin(thread: u8, call: String) -> Self {
        TRACE.with_borrow_mut(|trace| {
            trace.operations.push(Operation { thread, call, result: None });
            Self(Some(trace.operations.len() - 1))
        })
    }
    pub(crate) fn end(self, result: String) {
        if let Some(at) = self.0 {
            TRACE.with_borrow_mut(|trace| trace.operations[at].result = Some(result));
        }
    }
    pub(super) fn note(self, place: Place, done: Done) {
        if let Some(operation) = self.0 {
            TRACE.with_borrow_mut(|trace| trace.steps.push(Step { operation, place, done }));
        }
    }
}

impl Trace {
    /// Forgets the execution before.
    pub(crate) fn reset() {
        TRACE.take();
    }
    /// The execution so far.
    pub(crate) fn get() -> Self {
        TRACE.with_borrow(Self::clone)
    }

    /// What makes an execution short: few changes of thread, then few accesses.
    pub(crate) fn length(&self) -> (usize, usize) {
        let threads = self.steps.iter().map(|step| self.operations[step.operation].thread);
        let changes = threads.clone().zip(threads.skip(1)).filter(|(a, b)| a != b).count();
        (changes, self.steps.len())
    }

    /// Accesses of an operation that nobody else's came between.
    fn whole(&self, operation: usize) -> bool {
        let mine = |step: &Step| step.operation == operation;
        let (first, last) = (self.steps.iter().position(mine), self.steps.iter().rposition(mine));
        first.zip(last).is_none_or(|(first, last)| self.steps[first..=last].iter().all(mine))
    }

    /// The execution as a Markdown table: a column for each thread, one line for an operation that ran
    /// undisturbed, and one for each access of an operation that another one ran into. An operation without a
    /// result was killed, step by step.
    pub(crate) fn table<B: Backend>(&self, heap: &Published<B>) -> String {
        let mut columns: Vec<u8> = self.operations.iter().map(|operation| operation.thread).collect();
        columns.sort_by_key(|&thread| if thread == 0 { u8::MAX } else { thread });
        columns.dedup();
        let mut text = String::from("| |");
        for thread in &columns {
            let _ = match thread {
                0 => write!(text, " afterwards |"),
                _ => write!(text, " thread {thread} |"),
            };
        }
        text += "\n|---|";
        text += &"---|".repeat(columns.len());
        text.push('\n');
        let mut line = 0;
        let mut add = |thread: u8, entry: String| {
            line += 1;
            let cells =
                columns.iter().map(|&column| if column == thread { format!(" {entry} |") } else { " |".into() });
            text += &format!("| {line} |{}\n", cells.collect::<String>());
        };
        let mut shown = vec![false; self.operations.len()];
        for (at, step) in self.steps.iter().enumerate() {
            let operation = &self.operations[step.operation];
            let begins = !std::mem::replace(&mut shown[step.operation], true);
            if operation.result.is_some() && self.whole(step.operation) {
                if begins {
                    add(operation.thread, operation.line());
                }
                continue;
            }
            if begins {
                add(operation.thread, format!("**{}** begins", operation.call));
            }
            add(operation.thread, heap.step(step.place, step.done));
            if !self.steps[at + 1..].iter().any(|later| later.operation == step.operation) {
                add(operation.thread, operation.line());
            }
        }
        // What ended without an access.
        for (operation, shown) in self.operations.iter().zip(shown) {
            if !shown {
                add(operation.thread, operation.line());
            }
        }
        text
    }
}

impl Operation {
    fn line(&self) -> String {
        match &self.result {
            Some(result) => format!("**{}** {result}", self.call),
            None => format!("**{}** is killed here", self.call),
        }
    }
}

impl<B: Backend> Published<B> {
    /// A block by its name in the scenario, else its offset.
    pub(crate) fn name(&self, at: u32) -> String {
        match self.names.iter().find(|(offset, _)| *offset == at) {
            Some((_, name)) => (*name).into(),
            None if at == 0 => "none".into(),
            None => match self.names.iter().rev().find(|(offset, _)| *offset < at) {
                Some((offset, name)) => format!("{name}+{}", at - offset),
                None => at.to_string(),
            },
        }
    }

    fn value(&self, place: Place, value: u64) -> String {
        let (tag, low) = (value >> 32, value as u32);
        let text = match place {
            Place::First | Place::Second(_) if low == 0 => "empty".into(),
            Place::First | Place::Second(_) => format!("{low:#b}"),
            Place::Size(_) => low.to_string(),
            Place::State(_) => super::STATES.get(low as usize).map_or(low.to_string(), |name| (*name).into()),
            Place::Head(_) | Place::Prev(_) | Place::Next(_) => self.name(low),
        };
        if tag == 0 { text } else { format!("{text} (tag {tag})") }
    }

    fn step(&self, place: Place, done: Done) -> String {
        let word = match place {
            Place::First => "the first-level bitmap".into(),
            Place::Second(row) => format!("bitmap row {row}"),
            Place::Head((row, column)) => format!("head({row}, {column})"),
            Place::Size(at) => format!("{}.size", self.name(at)),
            Place::State(at) => format!("{}.state", self.name(at)),
            Place::Prev(at) => format!("{}.prev", self.name(at)),
            Place::Next(at) => format!("{}.next", self.name(at)),
        };
        let value = |value| self.value(place, value);
        match done {
            Done::Read(a) => format!("reads {word}: {}", value(a)),
            Done::Wrote(a) => format!("writes {word} := {}", value(a)),
            Done::Swapped(a, b) => format!("compare-and-swap {word}: {} → {}", value(a), value(b)),
            Done::Refused(a, b) => format!("compare-and-swap {word}: expects {}, finds {}", value(a), value(b)),
            Done::Changed(a, b) => format!("changes {word}: {} → {}", value(a), value(b)),
        }
    }
}

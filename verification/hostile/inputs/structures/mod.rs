//! Hostile structures (C2'): a sound segment in which each sort of structure is in use, words of it changed, before it
//! is attached to or while its structures are open, and every call of every structure.
//!
//! Whatever the words say, a call ends with a value or an error: it does not crash, run for ever, or touch a byte
//! outside the mapping. [`sound`] says what the words are, [`calls`] what the calls are.

pub(crate) mod calls;
pub(crate) mod sound;

use super::Memory;
use super::calls::{Guard, accepted, look};
use arbitrary::Arbitrary;
use atomic_matrix::handlers::Handler;
use calls::{Deed, Handles};
use sound::Edit;

/// Steps that one input takes at most, and edits.
const STEPS: usize = 64;

/// A segment, what is changed in it, and what is done with it.
#[derive(Debug, Arbitrary)]
pub(crate) struct Case {
    which: u8,
    edits: Vec<Edit>,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Do(Deed),
    /// Everything that there is to do, once.
    All,
    /// Words change while the structures are open.
    Edit(Edit),
    /// What is held longest is let go.
    Drop,
    /// All handles are dropped, and structures opened again.
    Again,
}

/// One word, one value: where, and what is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OneWord {
    /// Which sound segment.
    pub(crate) which: u8,
    /// Which of its structures.
    pub(crate) structure: u8,
    /// Which word of that.
    pub(crate) word: u16,
    /// Which of [`sound::AIMED`] it becomes.
    pub(crate) value: u8,
    /// Whether the structures are open by then.
    pub(crate) open: bool,
}

impl Case {
    /// Makes the segment and takes the steps; whether it was attached to.
    pub(crate) fn play(&self, memory: &Memory) -> bool {
        let mut sound = sound::sound(self.which).clone();
        for edit in self.edits.iter().take(STEPS) {
            sound.edit(edit);
        }
        memory.put(&sound.bytes());
        let Some(handler) = attach(memory) else { return false };
        let _guard = Guard::behind(&handler);
        let mut steps = self.steps.iter().take(STEPS);
        loop {
            let handles = Handles::open(&handler);
            let mut kept = vec![];
            let more = loop {
                match steps.next() {
                    None => break false,
                    Some(Step::Again) => break true,
                    Some(Step::Drop) if !kept.is_empty() => drop(kept.remove(0)),
                    Some(Step::Drop) => {}
                    Some(Step::Edit(edit)) => sound.edit_in(edit, memory),
                    Some(Step::Do(deed)) => handles.make(*deed, &mut kept),
                    Some(Step::All) => Deed::all().for_each(|deed| handles.make(deed, &mut kept)),
                }
            };
            if !more {
                break;
            }
        }
        finish(&handler);
        true
    }
}

impl OneWord {
    /// The segment, in which these words are changed.
    pub(crate) fn attached(words: &[Self], memory: &Memory) -> Option<Handler> {
        let mut sound = sound::sound(words[0].which).clone();
        words.iter().for_each(|&word| sound.aim(word));
        memory.put(&sound.bytes());
        attach(memory)
    }

    /// Makes the segment, and all calls there are.
    pub(crate) fn play(words: &[Self], memory: &Memory) {
        let (after, before): (Vec<Self>, Vec<Self>) = words.iter().partition(|word| word.open);
        let mut sound = sound::sound(words[0].which).clone();
        before.iter().for_each(|&word| sound.aim(word));
        memory.put(&sound.bytes());
        let Some(handler) = attach(memory) else { return };
        let _guard = Guard::behind(&handler);
        let handles = Handles::open(&handler);
        if !after.is_empty() {
            sound.change(memory, |sound| after.iter().for_each(|&word| sound.aim(word)));
        }
        let mut kept = vec![];
        Deed::all().for_each(|deed| handles.make(deed, &mut kept));
        drop(kept);
        drop(handles);
        finish(&handler);
    }
}

fn attach(memory: &Memory) -> Option<Handler> {
    if let Some(looking) = accepted(memory.options().inspect()) {
        look_at_structures(&looking);
    }
    accepted(memory.options().attach())
}

fn finish(handler: &Handler) {
    look(handler);
    look_at_structures(handler);
    accepted(handler.reap());
    accepted(handler.heal());
    look(handler);
    look_at_structures(handler);
    drop(Handles::open(handler));
}

/// What tools show of structures; what is in them lies in the segment.
fn look_at_structures(handler: &Handler) {
    let layout = handler.matrix().heap().layout();
    for structure in accepted(handler.structures()).unwrap_or_default() {
        assert!(structure.users.len() <= layout.params.participants, "C2': more users than participants");
        for content in handler.contents(&structure, 64) {
            let from = u64::from(content.offset) * handler.offset_unit() as u64;
            assert!(from >= layout.sector && from + content.bytes <= layout.bytes(), "C2': it leads outside");
        }
    }
    let _ = handler.names();
}

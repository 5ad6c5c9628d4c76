//! Failures that take one thread, or its death.

use crate::audit::{self, Audit};
use crate::published::trace::Trace;
use crate::published::{ALLOCATED, Block, Live, Published, Repair, free, live};
use atomic_matrix::backend::decorators::{Probe, stopped_at};
use atomic_matrix::backend::{Backend, Native};

/// One heap, and what is live.
pub(crate) struct Run<B: Backend> {
    heap: Published<B>,
    live: Vec<Live>,
}

impl<B: Backend> Run<B> {
    fn new(blocks: &[Block], repairs: &'static [Repair]) -> Self {
        Trace::reset();
        let heap = Published::new(blocks, repairs);
        let live = blocks.iter().filter(|block| block.state == ALLOCATED);
        let live = live.map(|block| Live { at: heap.at(block.name), asked: block.size - 48, size: block.size });
        Self { live: live.collect(), heap }
    }
    fn allocate(&mut self, asked: u32) -> u32 {
        let live = self.heap.allocate(1, asked);
        self.live.extend(live);
        live.map_or(0, |live| live.at)
    }
    fn free(&mut self, at: u32) {
        self.live.retain(|live| live.at != at);
        self.heap.free(1, at);
    }
    fn at(&self, name: &str) -> u32 {
        self.heap.at(name)
    }
}

/// A sequence of calls, and what must not come of it.
pub(crate) struct Sequence {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) why: &'static str,
    pub(crate) obligation: &'static str,
    pub(crate) blocks: &'static [Block],
    pub(crate) run: fn(&mut Run<Native>),
    pub(crate) audit: Audit<Native>,
    pub(crate) repaired: &'static [Repair],
}

impl Sequence {
    /// The calls as a table, and what is wrong.
    pub(crate) fn play(&self, repairs: &'static [Repair]) -> (String, Option<String>) {
        let mut run = Run::new(self.blocks, repairs);
        (self.run)(&mut run);
        (Trace::get().table(&run.heap), (self.audit)(&run.heap, &run.live))
    }
}

/// What the death of a freer came to, at the first step where it does harm.
pub(crate) struct Killed {
    /// Steps at which it was killed.
    pub(crate) steps: u64,
    /// At how many of them bytes are lost.
    pub(crate) harmful: u64,
    pub(crate) first: Option<(String, String)>,
}

/// A free that merges to the left, killed before each of its accesses.
pub(crate) fn kill_a_freer(repairs: &'static [Repair]) -> Killed {
    let mut killed = Killed { steps: 0, harmful: 0, first: None };
    loop {
        let mut run = Run::<Probe<Native>>::new(KILLED, repairs);
        let block = run.at("R");
        if stopped_at(killed.steps, || run.free(block)).is_some() {
            return killed;
        }
        killed.steps += 1;
        if let Some(wrong) = audit::tiling(&run.heap, &run.live) {
            killed.harmful += 1;
            killed.first.get_or_insert_with(|| (Trace::get().table(&run.heap), wrong));
        }
    }
}

/// The blocks that it is about.
pub(crate) const KILLED: &[Block] = &[free("L", 96), live("R", 96), live("x", 96)];

#[test]
fn published_c1_killed_freer_loses_its_block() {
    let killed = kill_a_freer(&[]);
    let (table, wrong) = killed.first.expect("a step at which bytes are lost");
    println!(
        "published_c1_killed_freer_loses_its_block | at {} of {} steps: {wrong}\n{table}",
        killed.harmful, killed.steps
    );
    let repaired = kill_a_freer(&[Repair::KeepSize]);
    assert!(repaired.steps > 10 && repaired.harmful == 0, "{:?}", repaired.first);
}

macro_rules! sequences {
    ($($name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        /// Every sequence.
        pub(crate) const SEQUENCES: &[Sequence] = &[$(Sequence { name: stringify!($name), $($field: $value),* }),*];
        $(
            #[test]
            fn $name() {
                let sequence = SEQUENCES.iter().find(|sequence| sequence.name == stringify!($name)).unwrap();
                let (table, wrong) = sequence.play(&[]);
                println!("{} | {} violated: {}\n{table}", sequence.name, sequence.obligation, wrong.expect("the \
                    fault"));
                let (table, wrong) = sequence.play(sequence.repaired);
                assert!(wrong.is_none(), "the repair is not enough: {wrong:?}\n{table}");
            }
        )*
    };
}

use Repair::*;

sequences! {
    published_s2_short_block {
        title: "A block shorter than asked",
        why: "Blocks are filed by their size with the header, and looked for by the size without.",
        obligation: "S2",
        blocks: &[live("a", 96), live("b", 96), free("rest", 384)],
        run: |run| { run.free(run.at("a")); run.allocate(96); },
        audit: audit::s2,
        repaired: &[SearchByTotal],
    }

    published_s4_exact_fit_writes_over_a_neighbour {
        title: "An exact fit writes a header over its neighbour",
        why: "A remainder of no bytes is split off all the same, and its header is the neighbour's.",
        obligation: "S4",
        blocks: &[free("a", 96), live("n", 96)],
        run: |run| { run.allocate(48); },
        audit: audit::s4,
        repaired: &[SplitWithRoom],
    }

    published_s4_exact_fit_at_the_end_lists_what_is_outside {
        title: "The same at the sector's end",
        why: "The header is not written there, but the place is listed: the list's next word is written behind \
            the sector.",
        obligation: "S4",
        blocks: &[live("n", 96), free("a", 96)],
        run: |run| { run.allocate(48); },
        audit: audit::s4,
        repaired: &[SplitWithRoom],
    }

    published_s4_small_remainder_is_less_than_a_header {
        title: "A remainder shorter than its header",
        why: "Whatever remains is split off; below 48 bytes its header reaches over the neighbour's.",
        obligation: "S4",
        blocks: &[free("a", 112), live("n", 96)],
        run: |run| { run.allocate(48); },
        audit: audit::s4,
        repaired: &[SplitWithRoom],
    }

    published_s1_split_leaves_a_stale_back_link {
        title: "A split leaves a stale back link",
        why: "The right-hand neighbour of a split block still names the whole block as its left neighbour, and \
            later merges with \
              the front of it, over what lies between.",
        obligation: "S1",
        blocks: &[free("a", 288), live("n", 96)],
        run: |run| {
            let front = run.allocate(48);
            run.allocate(160);
            run.free(front);
            run.free(run.at("n"));
            run.allocate(128);
        },
        audit: audit::s1,
        repaired: &[LinkRight],
    }

    published_s4_merge_pops_the_head {
        title: "A merge pops the head, not the merged block",
        why: "The block that is merged is somewhere in its list, the head is another one: it is lost, and the \
            merged one stays listed.",
        obligation: "S4",
        blocks: &[free("X", 96), live("g", 96), free("L", 96), live("R", 96)],
        run: |run| run.free(run.at("R")),
        audit: audit::s4,
        repaired: &[Unlink],
    }

    published_s1_merge_that_popped_the_head_hands_a_block_out_twice {
        title: "What comes of it",
        why: "The merged block is in two lists.",
        obligation: "S1",
        blocks: &[free("X", 96), live("g", 96), free("L", 96), live("R", 96)],
        run: |run| { run.free(run.at("R")); run.allocate(64); run.allocate(128); },
        audit: audit::s1,
        repaired: &[Unlink],
    }

    published_s2_huge_size_wraps {
        title: "A size that wraps",
        why: "The size is rounded up without a look at its range (in release builds; debug builds panic).",
        obligation: "S2",
        blocks: &[free("a", 384)],
        run: |run| { run.allocate(u32::MAX); },
        audit: audit::s2,
        repaired: &[CheckSize],
    }

    published_l3_no_merge_to_the_right {
        title: "No merge to the right",
        why: "A ripple looks to the left only. Nobody looks at the pair again until the left one is taken.",
        obligation: "L3",
        blocks: &[live("a", 96), live("b", 96)],
        run: |run| { run.free(run.at("b")); run.free(run.at("a")); },
        audit: audit::l3,
        repaired: &[MergeRight, Unlink],
    }

    published_s5_double_free_is_accepted {
        title: "A double free",
        why: "A free stores ACKED whatever was there, and lists the block again.",
        obligation: "S5",
        blocks: &[live("a", 96), live("n", 96)],
        run: |run| { run.free(run.at("a")); run.free(run.at("a")); run.allocate(64); run.allocate(64); },
        audit: audit::s1,
        repaired: &[FreeBySwap],
    }
}

//! The directory of cache lines: who has each, and what each is.

use super::machine::LINE;
use super::region::SimulatedRegion;
use atomic_matrix::ipc::structure::{Shape, Sort};
use atomic_matrix::segment::layout::{Granule, Layout, SlotWord};
use atomic_matrix::segment::region::{Region, WordIndex};

#[derive(Clone, Copy, Default)]
pub(super) struct Line {
    pub(super) holders: u128,
    /// One core has it to write; it is the only holder.
    pub(super) written: bool,
    /// Who asked last, and when it comes there.
    pub(super) last: u8,
    pub(super) comes: u64,
    /// When the next transfer may begin.
    pub(super) free_at: u64,
    /// All that cores have waited for it.
    pub(super) waited: u64,
}

/// Lines of a page.
const PAGE: usize = 16;

/// Lines by number, in pages that are there once one of their lines is asked for: a segment of gigabytes has many
/// more than a run meets.
pub(super) struct Lines(Vec<Option<Box<[Line; PAGE]>>>);

impl Lines {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![None; count.div_ceil(PAGE)])
    }
    #[inline(always)]
    pub(super) fn at(&mut self, line: usize) -> &mut Line {
        &mut self.0[line / PAGE].get_or_insert_with(Box::default)[line % PAGE]
    }
    /// Those that were asked for.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Line)> {
        let pages = self.0.iter().enumerate().filter_map(|(page, lines)| Some((page, lines.as_deref()?)));
        pages.flat_map(|(page, lines)| (page * PAGE..).zip(lines))
    }
}

/// A structure on the machine: where it lies, and what it is.
pub(crate) type Made = (Granule, Shape);

/// What lies where.
pub(super) struct Kinds {
    /// First line and name of each kind, and of which structure it is, in order.
    kinds: Vec<(usize, &'static str, usize)>,
    layout: Layout,
    /// The first line of payload, and of what is the workload's own.
    pub(super) payload: usize,
    pub(super) extra: usize,
}

impl Kinds {
    pub(super) fn new(region: &SimulatedRegion, structures: &[Made]) -> Self {
        let layout = region.layout().clone();
        let payload = region.lines();
        // A line for each span: 64 bytes.
        let extra = payload + layout.spans() as usize;
        let line = |index: WordIndex| index.0 / LINE;
        let mut kinds = vec![
            (0, "header", 0),
            (line(layout.slot(0, SlotWord::State)), "participant slots", 0),
            (line(layout.transfer_slot(0, 0)), "transfer cache: transfer slots", 0),
            (line(layout.home(0)), "transfer cache: homes", 0),
            (line(layout.batch_map(0)), "transfer cache: maps", 0),
            (line(layout.directory(0, 0)), "directory", 0),
            (line(layout.first_level()), "hints: first level", 0),
            (line(layout.second_level(0)), "hints: second level", 0),
            (line(layout.tree(0, 0, 0)), "hints: class trees", 0),
            (line(layout.leaf(0)), "hints: leaves", 0),
            (line(layout.header(Granule(0))), "headers", 0),
            (region.payload_lines(), "structure: nothing", 0),
        ];
        let mut structures: Vec<Made> = structures.to_vec();
        structures.sort_by_key(|(at, _)| *at);
        for (number, &(at, shape)) in structures.iter().enumerate() {
            let parts = parts(&layout, shape);
            kinds.extend(parts.into_iter().map(|(word, name)| (region.line_of(at) + word / LINE, name, number)));
        }
        kinds.extend([(payload, "payload", 0), (extra, "the workload's own", 0)]);
        debug_assert!(kinds.is_sorted_by_key(|kind| kind.0));
        Self { kinds, layout, payload, extra }
    }

    fn place(&self, line: usize) -> (usize, &'static str, usize) {
        self.kinds[self.kinds.partition_point(|&(first, ..)| first <= line) - 1]
    }

    /// The kind of a line.
    pub(super) fn kind(&self, line: usize) -> &'static str {
        self.place(line).1
    }

    /// The line of a granule's payload.
    pub(super) fn payload_of(&self, g: Granule) -> usize {
        self.payload + self.layout.span(g) as usize
    }

    /// The line by name.
    pub(super) fn name(&self, line: usize) -> String {
        let (first, kind, number) = self.place(line);
        let place = line - first;
        match kind {
            "participant slots" => {
                let what = if place.is_multiple_of(2) { "operation" } else { "hazard" };
                format!("slot {}: {what}", place / 2)
            }
            "transfer cache: transfer slots" => {
                let slots = self.layout.params.batches;
                format!("transfer cache: bin {}, transfer slot {}", place / slots, place % slots)
            }
            "transfer cache: maps" => format!("transfer cache: map of bin {place}"),
            "hints: class trees" => {
                let stride = (self.layout.tree(1, 0, 0).0 - self.layout.tree(0, 0, 0).0) / LINE;
                format!("hints: tree of class {}, line {}", place / stride, place % stride)
            }
            "headers" => format!("headers of spans {} to {}", place * LINE, place * LINE + LINE - 1),
            _ => match kind.strip_prefix("structure: ") {
                Some(part) => format!("structure {number}: {part}, line {place}"),
                None => format!("{kind}, line {place}"),
            },
        }
    }
}

/// The parts of a structure: where each begins, in words, as `ipc::structure` has them.
fn parts(layout: &Layout, shape: Shape) -> Vec<(usize, &'static str)> {
    const GROUPS: [&str; 6] = [
        "structure: shape",
        "structure: state",
        "structure: tail",
        "structure: head",
        "structure: receivers' bell",
        "structure: senders' bell",
    ];
    let group = 2 * LINE;
    let users = GROUPS.len() * group;
    let cells = (users + layout.params.participants).next_multiple_of(group);
    let end = cells + shape.cells();
    let mut parts: Vec<_> = (0..).step_by(group).zip(GROUPS).collect();
    parts.extend([(users, "structure: users"), (cells, "structure: cells")]);
    let words = if shape.sort == Sort::Topic {
        let cursors = end.next_multiple_of(group);
        parts.push((cursors, "structure: cursors"));
        cursors + shape.readers as usize * group
    } else {
        end
    };
    assert_eq!(words, shape.words(layout), "the structure's parts lie otherwise now");
    parts
}

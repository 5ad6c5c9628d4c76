//! Bounded work (L4) over what is asked for: the block's size, its alignment, and how full the segment is.
//!
//! A segment of 64 MiB is filled with one mix until a request is refused; then blocks go at random until so much of
//! what fits is left. Then, again and again, a block is freed at random, and one of the mix asked for; if it is refused,
//! another block is freed. Counted are the accesses of a free and the request behind it. In parked mode a thread keeps blocks as the library's do; in strict
//! mode it keeps none.

use super::{Counted, MIB, Rng, Scratch};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use std::fmt::Write;

const SEGMENT: usize = 64 * MIB;
const PAIRS: usize = 4000;

/// Sizes from the least to the most bytes, with as many in each doubling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    pub(crate) least: usize,
    most: usize,
}

impl Mix {
    const fn one(name: &'static str, size: usize) -> Self {
        Self { name, least: size, most: size }
    }

    fn draw(self, random: &mut Rng) -> usize {
        let doublings = (self.most / self.least).ilog2() as usize;
        let least = self.least << random.below(doublings.max(1));
        if doublings == 0 { self.least } else { least + random.below(least) }
    }
}

const SIZES: [Mix; 8] = [
    Mix::one("64 B", 64),
    Mix::one("256 B", 256),
    Mix::one("1 KiB", 1 << 10),
    Mix::one("4 KiB", 4 << 10),
    Mix::one("16 KiB", 16 << 10),
    Mix::one("64 KiB", 64 << 10),
    Mix::one("256 KiB", 256 << 10),
    Mix::one("1 MiB", 1 << 20),
];
const FEW_HUNDRED: Mix = Mix { name: "64 B to 512 B", least: 64, most: 512 };
pub(crate) const MIXED: Mix = Mix { name: "64 B to 64 KiB", least: 64, most: 64 << 10 };
const ALIGNED: Mix = Mix::one("1500 B", 1500);
const FILLS: [usize; 8] = [10, 25, 50, 75, 90, 95, 98, 99];
const ALIGNMENTS: [usize; 7] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10];
/// Percent, where something else grows.
const USUAL_FILL: usize = 90;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    /// What grows in the row that this belongs to.
    pub(crate) over: &'static str,
    pub(crate) mix: Mix,
    pub(crate) align: usize,
    /// Percent of the blocks that fit.
    pub(crate) fill: usize,
    pub(crate) strict: bool,
}

/// What it took.
pub(crate) struct Took {
    pub(crate) asked: Asked,
    live: usize,
    refused: usize,
    sorted: Vec<u64>,
}

impl Took {
    pub(crate) fn quantile(&self, q: f64) -> u64 {
        self.sorted[((self.sorted.len() - 1) as f64 * q).round() as usize]
    }
    fn mean(&self) -> f64 {
        self.sorted.iter().sum::<u64>() as f64 / self.sorted.len() as f64
    }
}

/// All that is asked for, in three rows: over the size, over how full it is, over the alignment.
fn all() -> Vec<Asked> {
    let mut all = vec![];
    for strict in [false, true] {
        let asked = |over, mix, align, fill| Asked { over, mix, align, fill, strict };
        all.extend(SIZES.map(|mix| asked("size", mix, 1, USUAL_FILL)));
        all.extend(FILLS.iter().flat_map(|&fill| [FEW_HUNDRED, MIXED].map(|mix| asked("fill", mix, 1, fill))));
        all.extend(ALIGNMENTS.map(|align| asked("alignment", ALIGNED, align, USUAL_FILL)));
    }
    all
}

fn measure(asked: Asked) -> Took {
    let scratch = Scratch::new();
    drop(scratch.options().size(SEGMENT).reserve(false).create().expect("a sparse file"));
    let heap = Heap::new(Counted(scratch.options().attach_segment().expect("it is there")));
    let granule = heap.layout().params.granule();
    let (mut random, align) = (Rng(1), asked.align.div_ceil(granule) as u32);
    let mut cache = if asked.strict { ThreadCache::with_ceiling(1, 0) } else { ThreadCache::new(1) };
    let allocate = |cache: &mut ThreadCache, bytes: usize| -> Option<Live> {
        heap.allocate(cache, bytes.div_ceil(granule) as u32, align, Kind::Raw).ok()
    };
    let free = |cache: &mut ThreadCache, block: Live| heap.free(cache, block.at, None).expect("it is live");
    let mut live = vec![];
    while let Some(block) = allocate(&mut cache, asked.mix.draw(&mut random)) {
        live.push(block);
    }
    let left = live.len() * asked.fill / 100;
    while live.len() > left.max(1) {
        free(&mut cache, live.swap_remove(random.below(live.len())));
    }
    let (mut sorted, mut refused, mut wanted) = (vec![], 0, asked.mix.draw(&mut random));
    while sorted.len() < PAIRS && live.len() > 1 {
        let block = live.swap_remove(random.below(live.len()));
        super::Counts::reset();
        free(&mut cache, block);
        match allocate(&mut cache, wanted) {
            Some(block) => {
                live.push(block);
                wanted = asked.mix.draw(&mut random);
            }
            // Another one goes.
            None => refused += 1,
        }
        sorted.push(super::Counts::get().accesses());
    }
    sorted.sort_unstable();
    Took { asked, live: live.len(), refused, sorted }
}

fn csv(rows: &[Took]) -> String {
    let mut text = "over;bytes;alignment;fill_percent;mode;live_blocks;pairs;refused;mean_accesses;median_accesses;\
                    p99_accesses;most_accesses\n"
        .to_owned();
    for took in rows {
        let Asked { over, mix, align, fill, strict } = took.asked;
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|q| took.quantile(q));
        let (mode, pairs) = (if strict { "strict" } else { "parked" }, took.sorted.len());
        let (live, refused, mean) = (took.live, took.refused, took.mean());
        let name = mix.name;
        let _ = writeln!(
            text,
            "{over};{name};{align};{fill};{mode};{live};{pairs};{refused};{mean:.2};{median};{p99};{most}"
        );
    }
    text
}

/// The mean of a pair is bounded, whatever is asked for; so are 99 of 100.
fn assert_bounded(rows: &[Took]) {
    for took in rows {
        let (mean, p99) = (took.mean(), took.quantile(0.99));
        assert!(mean < 500.0 && p99 < 3000, "L4: {mean:.1} accesses, {p99} at most in 99 of 100: {:?}", took.asked);
    }
}

#[test]
fn bounded_l4_accesses_grow_neither_with_the_size_nor_with_the_fill_nor_with_the_alignment() {
    let deep = std::env::var("MATRIX_BOUNDED").is_ok();
    let asked = all().into_iter().filter(|asked| {
        let quick = match asked.over {
            "size" => asked.mix.least == 4 << 10,
            "fill" => asked.mix == MIXED && asked.fill >= 98,
            _ => asked.align == 256,
        };
        deep || quick
    });
    let rows: Vec<Took> = asked.map(measure).collect();
    print!("{}", csv(&rows));
    if deep {
        let papers = concat!(env!("CARGO_MANIFEST_DIR"), "/../papers");
        std::fs::write(format!("{papers}/data/bounded-asked.csv"), csv(&rows)).expect("written");
        super::plot::draw_asked(&rows, concat!(env!("CARGO_MANIFEST_DIR"), "/../papers/figures/bounded-asked.svg"));
    }
    assert_bounded(&rows);
}

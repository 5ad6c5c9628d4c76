//! The simulated machine's memory.

use super::machine::{LINE, Simulated, SimulatedWord};
use atomic_matrix::segment::layout::{Granule, Layout};
use atomic_matrix::segment::region::{Region, WordIndex};

/// The heap's words and, behind them, the payload of the sector's last granules, where the structures lie.
pub(crate) struct SimulatedRegion {
    layout: Layout,
    words: Box<[SimulatedWord]>,
    /// The first word of payload, which begins a line, and the granule that it belongs to.
    payload: usize,
    begins: u32,
}

impl SimulatedRegion {
    /// All words zero; the last `granules` of the sector have payload.
    pub(crate) fn new(layout: Layout, granules: u32) -> Self {
        let payload = layout.words.next_multiple_of(LINE);
        // A structure begins a pair of lines, in the sector as here.
        let apart = (2 * LINE / layout.granule_words()) as u32;
        let begins = (layout.granules - granules) / apart * apart;
        let behind = (layout.granules - begins) as usize * layout.granule_words();
        // Zeroed memory that nobody uses takes none: most of a large segment's headers.
        let zeroed = vec![0u64; payload + behind].into_boxed_slice();
        // SAFETY: the box's own memory, and a word is as wide and as aligned as a u64 (asserted where it is
        // declared) and valid whatever it holds.
        let words = unsafe { Box::from_raw(Box::into_raw(zeroed) as *mut [SimulatedWord]) };
        Self { layout, words, payload, begins }
    }

    /// Lines of all words.
    pub(crate) fn lines(&self) -> usize {
        self.words.len().div_ceil(LINE)
    }
    /// The first line of the payload that begins at a granule.
    pub(crate) fn line_of(&self, first: Granule) -> usize {
        self.place(first).expect("there is payload") / LINE
    }
    /// The first line of payload.
    pub(crate) fn payload_lines(&self) -> usize {
        self.payload / LINE
    }
    fn place(&self, first: Granule) -> Option<usize> {
        Some(self.payload + first.0.checked_sub(self.begins)? as usize * self.layout.granule_words())
    }
}

impl Region for SimulatedRegion {
    type Backend = Simulated;
    fn layout(&self) -> &Layout {
        &self.layout
    }
    #[inline(always)]
    fn word(&self, index: WordIndex) -> &SimulatedWord {
        &self.words[..self.payload][index.0]
    }
    fn touch(&self, _: Granule, _: u32) {}
    fn payload(&self, first: Granule, count: usize) -> Option<&[SimulatedWord]> {
        self.words.get(self.place(first)?..)?.get(..count)
    }
}

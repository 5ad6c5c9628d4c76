//! The shared words: headers, and what slots announce. Small on purpose, since every state keeps all of them.

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Inside,
    Free,
    Live,
    Acked,
    Coalescing,
}

/// A header: kind, owner, generation, and size (where a block begins) or footer distance (inside).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    pub kind: Kind,
    pub owner: u8,
    pub generation: u8,
    pub low: u8,
}

impl Header {
    pub const fn new(kind: Kind, owner: u8, generation: u8, low: u8) -> Self {
        Self { kind, owner, generation, low }
    }
    pub fn is_free(self) -> bool {
        self.kind == Kind::Free
    }
}

/// An operation in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    None,
    Cut { at: u8, size: u8 },
    Join { at: u8 },
    Free { at: u8 },
}

/// Nobody, who owns free blocks and inside words.
pub const NOBODY: u8 = u8::MAX;
/// Behind the last granule: a live block of unowned.
pub const SENTINEL: Header = Header::new(Kind::Live, NOBODY, 0, 1);

/// All shared words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Memory {
    /// One for each granule, and the sentinel.
    pub headers: Vec<Header>,
    /// One for each participant, and one for the helper that comes at the end.
    pub ops: Vec<Op>,
    /// The header that a join quotes.
    pub quotes: Vec<Header>,
    /// What a word's generation advances by when it is written: 1, or 0 as a planted fault.
    pub advance: u8,
}

impl Memory {
    /// Blocks side by side: each is free (no owner) or live.
    pub fn of(blocks: &[(u8, Option<u8>)], participants: usize) -> Self {
        let mut headers = vec![];
        for &(size, owner) in blocks {
            let head = match owner {
                Some(owner) => Header::new(Kind::Live, owner, 0, size),
                None => Header::new(Kind::Free, NOBODY, 0, size),
            };
            headers.push(head);
            for i in 1..size {
                // A free block has its footer; what stands in a live one is old.
                let footer = if owner.is_none() && i == size - 1 { i } else { 0 };
                headers.push(Header::new(Kind::Inside, NOBODY, 0, footer));
            }
        }
        headers.push(SENTINEL);
        Self { headers, ops: vec![Op::None; participants + 1], quotes: vec![SENTINEL; participants + 1], advance: 1 }
    }

    pub fn granules(&self) -> u8 {
        self.headers.len() as u8 - 1
    }

    /// The tiles from the start on: where, the head, the granules that it stands for (S4). None if they do
    /// not cover the sector exactly.
    pub fn tiles(&self) -> Option<Vec<(u8, Header, u8)>> {
        let (mut at, mut tiles) = (0, vec![]);
        while at < self.granules() {
            let head = self.headers[at as usize];
            let size = self.extent(at, head);
            if head.kind == Kind::Inside || size == 0 || at + size > self.granules() {
                return None;
            }
            tiles.push((at, head, size));
            at += size;
        }
        Some(tiles)
    }

    /// Under a join, from the freeze on, the right-hand block counts as the left one's.
    fn extent(&self, at: u8, head: Header) -> u8 {
        if head.kind == Kind::Coalescing
            && self.ops[head.owner as usize] == (Op::Join { at })
            && let quoted = self.quotes[head.owner as usize]
            && let Some(&right) = self.headers.get((at + head.low) as usize)
            && right == self.frozen(head.low, quoted)
        {
            return head.low + quoted.low;
        }
        head.low
    }

    /// What the head of a join's right-hand block becomes, behind a left-hand block of `left` granules.
    pub fn frozen(&self, left: u8, quoted: Header) -> Header {
        let back = if quoted.low == 1 { left } else { 0 };
        Header::new(Kind::Inside, NOBODY, self.after(quoted), back)
    }

    /// The generation after a header's.
    pub fn after(&self, header: Header) -> u8 {
        header.generation.wrapping_add(self.advance)
    }
}

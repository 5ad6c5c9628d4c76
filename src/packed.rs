//! Packed words: which bits of a 64-bit word mean what, declared once.

/// Some bits of a word, next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BitField {
    /// The lowest of them.
    pub(crate) at: u32,
    /// How many, at most 63.
    pub(crate) bits: u32,
}

impl BitField {
    /// The largest value that fits.
    #[inline(always)]
    pub(crate) const fn max(self) -> u64 {
        (1 << self.bits) - 1
    }

    /// The field's bits in a word.
    #[inline(always)]
    pub(crate) const fn mask(self) -> u64 {
        self.max() << self.at
    }

    /// A word that has this value here, cut to the field's width, and zeros elsewhere.
    #[inline(always)]
    pub(crate) const fn of(self, value: u64) -> u64 {
        (value & self.max()) << self.at
    }

    /// What a word has here.
    #[inline(always)]
    pub(crate) const fn get(self, word: u64) -> u64 {
        word >> self.at & self.max()
    }
}

/// Declares a word's fields, from the lowest bit on. They fill it: the sum is 64.
macro_rules! packed {
    ($(#[$doc:meta])* $vis:vis struct $Word:ident { $($(#[$about:meta])* $FIELD:ident: $bits:expr),+ $(,)? }) => {
        $(#[$doc])*
        $vis struct $Word;

        impl $Word {
            const WIDTHS: &[(&str, u32)] = &[$((stringify!($FIELD), $bits)),+];
            $(
                $(#[$about])*
                #[allow(dead_code, reason = "a word is declared whole")]
                pub(crate) const $FIELD: $crate::packed::BitField =
                    $crate::packed::field(Self::WIDTHS, stringify!($FIELD));
            )+
        }

        const _: () = assert!($crate::packed::total($Word::WIDTHS) == 64);
    };
}
pub(crate) use packed;

/// Bits of all fields of a word.
pub(crate) const fn total(widths: &[(&str, u32)]) -> u32 {
    let (mut sum, mut i) = (0, 0);
    while i < widths.len() {
        sum += widths[i].1;
        i += 1;
    }
    sum
}

/// The field of that name.
pub(crate) const fn field(widths: &[(&str, u32)], name: &str) -> BitField {
    let (mut at, mut i) = (0, 0);
    while !is_same(widths[i].0, name) {
        at += widths[i].1;
        i += 1;
    }
    BitField { at, bits: widths[i].1 }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let (mut same, mut i) = (one.len() == other.len(), 0);
    while same && i < one.len() {
        same = one[i] == other[i];
        i += 1;
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    packed! {
        struct Example { LOW: 3, MIDDLE: 60, HIGH: 1 }
    }

    #[test]
    fn fields_lie_one_behind_the_other_and_fill_the_word() {
        let (low, middle, high) = (Example::LOW, Example::MIDDLE, Example::HIGH);
        assert_eq!([low.at, middle.at, high.at], [0, 3, 63]);
        assert_eq!(low.mask() ^ middle.mask() ^ high.mask(), u64::MAX);
        let word = low.of(5) | middle.of(u64::MAX) | high.of(0);
        assert_eq!((low.get(word), middle.get(word), high.get(word)), (5, middle.max(), 0));
        assert_eq!((low.of(9), low.max()), (1, 7), "cut to its width");
    }

    #[test]
    fn a_words_width_is_counted() {
        assert_eq!(total(&[("A", 60), ("B", 4)]), 64);
        for fields in [[("A", 60), ("AB", 4)], [("BB", 60), ("AB", 4)], [("AA", 60), ("AB", 4)]] {
            assert_eq!(field(&fields, "AB"), BitField { at: 60, bits: 4 }, "{fields:?}");
        }
    }
}

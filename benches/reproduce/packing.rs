//! How well blocks of several ranges of sizes fill a segment, by granule.

use crate::support::peers::{Matrix, Spin, Talc};
use crate::support::registry::TALC;
use crate::support::work::pack_sizes;
use crate::support::{ARENA, Arena, Outcome};
use atomic_matrix::matrix::core::AtomicMatrix;
use serde::{Deserialize, Serialize};

pub(crate) const GRANULES: [usize; 5] = [16, 32, 64, 128, 256];
/// Least and most bytes asked for.
pub(crate) const RANGES: [(usize, usize); 4] = [(16, 128), (32, 544), (512, 4096), (4096, 65536)];

/// One segment, filled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Packed {
    pub(crate) peer: String,
    /// 0 for a peer that has none.
    pub(crate) granule: usize,
    pub(crate) least: usize,
    pub(crate) most: usize,
    /// Payload asked for and given, as a share of the whole segment, its metadata included.
    pub(crate) packed: f64,
    /// Whether a block of 90 % was there at the first try after everything was freed.
    pub(crate) whole: bool,
    pub(crate) segment_bytes: usize,
}

pub(crate) fn all(mut tick: impl FnMut(&str)) -> Outcome<Vec<Packed>> {
    let mut rows = vec![];
    for (least, most) in RANGES {
        let mut add = |peer: &str, granule, packing: Option<crate::support::work::Packing>| {
            let peer = peer.to_owned();
            rows.extend(packing.map(|packing| Packed {
                peer,
                granule,
                least,
                most,
                packed: packing.packed,
                whole: packing.whole,
                segment_bytes: ARENA,
            }));
        };
        for granule in GRANULES {
            tick(&format!("{least} to {most} bytes, granule {granule}"));
            let handler = AtomicMatrix::options().size(ARENA).granule(granule).populate(true).create()?;
            add("AtomicMatrix", granule, pack_sizes(&Matrix(handler).hide()?, least, most));
        }
        tick(&format!("{least} to {most} bytes, {TALC}"));
        add(TALC, 0, pack_sizes(&Talc::<Spin>::create(Arena::SMALL)?, least, most));
    }
    Ok(rows)
}

//! All peers, in the order of the tables.

use crate::support::arguments::Workload;
#[allow(unused, reason = "depends on the features")]
use crate::support::peers::{Global, Peer};
use crate::support::registry::{Entry, in_tree};
use crate::{boost, disrupt, dpdk, iceoryx, published, tlsf, zenoh};

pub(crate) const A: Workload = Workload::Mix;
pub(crate) const B: Workload = Workload::Ping;
pub(crate) const C: Workload = Workload::HandOver;
pub(crate) const D: Workload = Workload::Packing;
pub(crate) const W: Workload = Workload::Wide;
pub(crate) const H: Workload = Workload::Sized;
pub(crate) const F: Workload = Workload::First;

pub(crate) const SHARED: &str = "shared, any size";
pub(crate) const FIXED: &str = "shared, one size";
pub(crate) const SINGLE: &str = "shared, any size; one process allocates";
pub(crate) const PRIVATE: &str = "in process, any size";

pub(crate) fn all() -> Vec<Entry> {
    let mut all = in_tree();
    all.extend(published::entries());
    all.extend(boost::entries());
    all.extend(dpdk::entries());
    all.extend(disrupt::entries());
    all.extend(iceoryx::entries());
    all.extend(zenoh::entries());
    all.extend(tlsf::entries());
    all.extend(global());
    all
}

/// The letters of the workloads that a peer has an answer to.
pub(crate) fn letters(workloads: &[Workload]) -> String {
    let letter = |workload: &Workload| match workload {
        Workload::Mix => Some('A'),
        Workload::Ping => Some('B'),
        Workload::HandOver => Some('C'),
        Workload::Packing => Some('D'),
        Workload::Seed => None, // Not run here.
        Workload::Wide => Some('W'),
        Workload::Sized => Some('H'),
        Workload::Filling => Some('P'),
        Workload::First => Some('F'),
    };
    workloads.iter().filter_map(letter).collect()
}

/// A peer whose crate compiles C or C++; `benches/peers/run` leaves it out where that can't work.
#[allow(unused, reason = "depends on the features")]
fn without(name: &'static str, tools: &str) -> Entry {
    Entry::missing(name, PRIVATE, format!("built without it: {tools} is missing (benches/peers/install)"))
}

/// Whole programs' allocators. Their memory has no bound to fill, so there is no D, and no P.
fn global() -> Vec<Entry> {
    #[allow(unused, reason = "depends on the features")]
    fn entry<P: Peer + 'static>(name: &'static str, peer: impl Fn() -> P + Clone + 'static) -> Entry {
        Entry::threads(name, PRIVATE, move |_| Ok(peer()))
    }
    let all = [
        #[cfg(feature = "mimalloc")]
        entry("mimalloc 3", || Global(mimalloc::MiMalloc)),
        #[cfg(not(feature = "mimalloc"))]
        without("mimalloc 3", "a C compiler"),
        #[cfg(feature = "snmalloc")]
        entry("snmalloc 0.7", || Global(snmalloc_rs::SnMalloc)),
        #[cfg(not(feature = "snmalloc"))]
        without("snmalloc 0.7", "a C++ compiler, cmake or make"),
        #[cfg(feature = "jemalloc")]
        entry("jemalloc 5.3", || Global(tikv_jemallocator::Jemalloc)),
        #[cfg(not(feature = "jemalloc"))]
        without("jemalloc 5.3", "a C compiler or make"),
    ];
    all.into_iter().map(|entry| entry.only(&[A, B, C, W, H, F])).collect()
}

//! Which workloads belong together: their files, how long they run, with which seeds.

use super::workloads::Workload;

/// Workloads that share files and a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// The heap, with the benchmarks' sizes.
    Heap,
    /// The heap, with larger sizes.
    Sizes,
    /// Channels and topics.
    Structures,
}

impl Family {
    pub(crate) const ALL: [Self; 3] = [Self::Heap, Self::Sizes, Self::Structures];

    pub(crate) fn of(workload: Workload) -> Self {
        let of = |family: &Self| family.workloads().contains(&workload);
        Self::ALL.into_iter().find(of).unwrap_or(Self::Heap)
    }
    /// The workloads of a whole run.
    pub(crate) fn workloads(self) -> &'static [Workload] {
        match self {
            Self::Heap => &[Workload::A, Workload::C, Workload::Strict],
            Self::Sizes => &[Workload::Small, Workload::Large, Workload::Log],
            Self::Structures => &[Workload::Channel, Workload::Pairs, Workload::Topic],
        }
    }
    /// The file of the rates, and the figure's name.
    pub(crate) fn rates(self) -> &'static str {
        match self {
            Self::Heap => "simulated-scaling",
            Self::Sizes => "simulated-sizes",
            Self::Structures => "simulated-structures",
        }
    }
    /// The file of what was waited for.
    pub(crate) fn lines(self) -> &'static str {
        match self {
            Self::Heap => "simulated-lines",
            Self::Sizes => "simulated-sizes-lines",
            Self::Structures => "simulated-structures-lines",
        }
    }
    /// Virtual microseconds before anything is counted, and counted.
    pub(crate) fn length(self) -> (f64, f64) {
        match self {
            Self::Heap => (12_000.0, 300.0),
            Self::Sizes => (6_000.0, 200.0),
            Self::Structures => (4_000.0, 200.0),
        }
    }
    /// Cores above which a whole run has one seed, since it is long.
    pub(crate) fn most_cores_of_all_seeds(self) -> usize {
        if self == Self::Heap { usize::MAX } else { 32 }
    }
}

//! What AtomicMatrix is to reach, best against best.

use super::conductor::{Figures, HARNESS, MATRIX, PROCESSES, TALC};
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) measured: String,
    /// By how much it is missed, as a share of what was asked; none if it is reached. Absent if it was not measured.
    pub(crate) missed: Option<Option<f64>>,
}

impl Target {
    pub(crate) fn verdict(&self) -> String {
        match self.missed {
            None => "not measured".to_owned(),
            Some(None) => "ok".to_owned(),
            Some(Some(share)) if share.is_finite() => format!("missed by {:.1} %", share * 100.0),
            Some(Some(_)) => "missed".to_owned(),
        }
    }
}

/// `value` is to be at least (`rising`) or at most `bound`.
fn target(name: &str, rising: bool, bound: f64, measured: Option<(f64, String)>) -> Target {
    let Some((value, text)) = measured else {
        return Target { name: name.to_owned(), measured: "–".to_owned(), missed: None };
    };
    let share = if rising { 1.0 - value / bound } else { value / bound - 1.0 };
    Target { name: name.to_owned(), measured: text, missed: Some((share > 0.0).then_some(share)) }
}

pub(crate) fn check(figures: &Figures) -> Vec<Target> {
    let a = |workers, peer| figures.best("A", workers, peer);
    let ratio = |over: Option<f64>, under: Option<f64>| {
        let (over, under) = (over?, under?);
        Some((over / under, format!("{:.2} × ({over:.1} : {under:.1} Mop/s)", over / under)))
    };
    let mut targets = vec![
        target("A, 1 thread: at least 1.6 × talc", true, 1.6, ratio(a(1, MATRIX), a(1, TALC))),
        target("A, 2 threads: at least 1.8 × 1 thread", true, 1.8, ratio(a(2, MATRIX), a(1, MATRIX))),
        target("A, 2 processes: at most 10 % behind 2 threads", true, 0.9, ratio(a(2, PROCESSES), a(2, MATRIX))),
        target("A, 4 threads: at least as much as 2", true, 1.0, ratio(a(4, MATRIX), a(2, MATRIX))),
        target("A, 4 processes: at least as much as 2", true, 1.0, ratio(a(4, PROCESSES), a(2, PROCESSES))),
    ];
    for (peer, how) in [(MATRIX, "threads"), (PROCESSES, "processes")] {
        let ns = figures.best("B", 1, peer).map(|ns| (ns, format!("{ns:.2} ns")));
        targets.push(target(&format!("B, {how}: at most 16 ns"), false, 16.0, ns));
    }
    for (peer, how) in [(MATRIX, "threads"), (PROCESSES, "processes")] {
        let alone = figures.best("C", 2, HARNESS).map_or(String::new(), |rate| format!(" (harness alone: {rate:.0})"));
        let rate = figures.best("C", 2, peer).map(|rate| (rate, format!("{rate:.1} Mmsg/s{alone}")));
        targets.push(target(&format!("C, {how}: at least 20 Mmsg/s"), true, 20.0, rate));
    }
    let packing = figures.packing.iter().find(|packed| packed.peer == MATRIX).map(|packed| packed.result);
    let packed = packing.map(|packing| (packing.packed, format!("{:.3}", packing.packed)));
    targets.push(target("D: at least 0.78 of the whole segment", true, 0.78, packed));
    let whole =
        packing.map(|packing| (packing.whole as u8 as f64, if packing.whole { "yes" } else { "no" }.to_owned()));
    targets.push(target("D: a block of 90 % at the first try", true, 1.0, whole));
    targets
}

//! Other sizes: mixes and hand-overs, all of them and all peers, in one figure.

use crate::plots::Group;
use crate::style::{self, Mark, Panel, Scale, Words, mark};
use crate::support::Outcome;
use crate::support::registry::{ACCESSES, TALC_MUTEX};
use std::path::Path;

/// The first words of each workload that is drawn, and its number of workers.
const PANELS: [(&str, usize, &str, &str); 3] = [
    ("W", 1, "1 worker", "million operations a second; right is better"),
    ("W", 2, "2 workers", "million operations a second; right is better"),
    ("H", 2, "hand-over to another worker", "million messages a second; right is better"),
];

/// What the harness or the memory alone would allow is in the data; here it would hide who differs.
fn is_drawn(group: &Group) -> bool {
    ![ACCESSES, TALC_MUTEX].contains(&&*group.peer) && !group.values.is_empty()
}

/// Whether a workload belongs to the panel: `H, ...`, or a mix by its number of live blocks.
fn belongs(workload: &str, panel: &str) -> bool {
    if panel == "H" { workload.starts_with("H, ") } else { workload.ends_with(" live") }
}

pub(crate) fn draw(all: &[Group], origin: &str, path: &Path) -> Outcome<()> {
    let mut peers: Vec<String> = vec![];
    for group in all.iter().filter(|group| is_drawn(group)) {
        if !peers.contains(&group.peer) {
            peers.push(group.peer.clone());
        }
    }
    let marks: Vec<(String, Mark)> = peers.iter().enumerate().map(|(n, name)| (name.clone(), mark(name, n))).collect();
    let subtitle = "best (mark) and range of interleaved runs; 70 of 100 operations allocate while there is room for more live blocks";
    style::figure(path, (1320, 1010), "Other sizes", subtitle, origin, |area| {
        let (above, below) = area.split_vertically(580);
        let (one, two) = above.split_horizontally(650);
        let (hand_over, names) = below.split_horizontally(650);
        for (area, (kind, workers, title, axis)) in [one, two, hand_over].iter().zip(PANELS) {
            let of = |group: &&Group| is_drawn(group) && group.workers == workers && belongs(&group.workload, kind);
            let groups: Vec<&Group> = all.iter().filter(of).collect();
            let mut workloads: Vec<String> = vec![];
            for group in &groups {
                if !workloads.contains(&group.workload) {
                    workloads.insert(0, group.workload.clone());
                }
            }
            // A range that ends far below is cut at the axis: one disturbed run would press all others together.
            let scale = Scale::log(groups.iter().map(|group| group.best()));
            let words = Words { title, x: axis, y: "", left: 215 };
            let panel = Panel::new(area, &words, scale, Scale::names(&workloads))?;
            for group in groups {
                let row = workloads.iter().position(|name| *name == group.workload).unwrap_or_default();
                let place = marks.iter().position(|(name, _)| *name == group.peer).unwrap_or_default();
                // Each peer has a line of its own within its row.
                let y = row as f64 + 0.6 * (0.5 - (place as f64 + 0.5) / marks.len() as f64);
                panel.span((group.least(), y), (group.most(), y), marks[place].1)?;
                panel.markers(&[(group.best(), y)], marks[place].1)?;
            }
        }
        style::legend(&names, &marks)
    })
}

//! What phases of drifting sizes leave of each peer's memory.

use crate::child;
use crate::support::drift::{Phase, SECONDS};
use crate::support::machine::{Machine, Origin};
use crate::support::registry::Entry;
use crate::support::report::{number, table};
use crate::support::{Outcome, conductor};
use std::fs::File;
use std::path::Path;

pub(crate) fn run(peers: Vec<Entry>, phases: usize, path: Option<&Path>) -> Outcome<()> {
    let create = |path: &Path| File::create(path).map_err(|error| format!("can't write {}: {error}", path.display()));
    let file = path.map(create).transpose()?;
    let peers: Vec<Entry> = peers.into_iter().map(child::apart).collect();
    let seconds = SECONDS * phases as f64;
    let progress = conductor::Progress::over(seconds * peers.len() as f64)?;
    let mut rows = vec![];
    for peer in &peers {
        progress.say(peer.name);
        match peer.drift(phases) {
            Ok(own) => rows.extend(own),
            Err(error) => progress.warn(&format!("{}: {error}", peer.name)),
        }
        progress.done(seconds);
    }
    progress.finish();
    print(&rows);
    if let Some(file) = file {
        let origin = Origin::new("drift", &Machine::this());
        let mut writer = csv::Writer::from_writer(file);
        for row in &rows {
            writer.serialize((row, &origin))?;
        }
        writer.flush()?;
    }
    Ok(())
}

/// Each peer after its last phase, and the worst of the last tenth of all.
fn print(rows: &[Phase]) {
    let header = ["peer", "phases", "TB allocated", "resident / live", "largest / not live", "worst", "refused"];
    let mut table = table(&header, 1);
    let mut peers: Vec<&str> = rows.iter().map(|row| row.peer.as_str()).collect();
    peers.dedup();
    for peer in peers {
        let own: Vec<&Phase> = rows.iter().filter(|row| row.peer == peer).collect();
        let Some(last) = own.last() else { continue };
        let shares = own[own.len() * 9 / 10..].iter().filter_map(|row| row.largest_share());
        let worst = shares.reduce(f64::min);
        let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{share:.3}"));
        table.add_row([
            peer.to_owned(),
            last.phase.to_string(),
            number(last.allocated_bytes as f64 / 1e12),
            format!("{:.2}", last.footprint()),
            share(last.largest_share()),
            share(worst),
            own.iter().map(|row| row.refused).sum::<u64>().to_string(),
        ]);
    }
    println!("{table}");
}

//! Creators that are killed at any instant of a creation.

use atomic_matrix::Error;
use atomic_matrix::segment::Options;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Bytes of the segments whose creators are killed.
const CREATED: usize = 4 << 20;
pub(crate) const CREATOR: &str = "MATRIX_CAMPAIGN_CREATOR";

/// Where creators were when they were killed.
#[derive(Default)]
pub(crate) struct Creators {
    /// Nothing had a name yet,
    pub(crate) unnamed: u64,
    /// the name was there and the segment not ready,
    pub(crate) formatting: u64,
    /// or it was in use already.
    pub(crate) using: u64,
}

/// Creators are killed at random instants of a creation; the name is free or the segment whole afterwards, or
/// it says that its creator has died.
pub(crate) fn kill_creators(rounds: u32, random: &mut fastrand::Rng) -> Result<Creators, String> {
    let mut killed = Creators::default();
    for round in 0..rounds {
        let id = Uuid::new_v4();
        let me = std::env::current_exe().expect("this test's path");
        let mut child = Command::new(me)
            .env(CREATOR, format!("{id}/{}", round % 2))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        // It says so when it begins.
        child.stdout.take().ok_or("piped")?.read_exact(&mut [0]).map_err(|e| format!("a creator: {e}"))?;
        let until = Instant::now() + Duration::from_micros(random.u64(0..1500));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
        let options = Options::new().id(id).size(CREATED);
        match options.clone().patience(Duration::ZERO).attach() {
            Err(Error::NotFound { .. }) => killed.unnamed += 1,
            // As the message says: remove the file and try again.
            Err(Error::CreatorDied { name, .. }) => {
                std::fs::remove_file(name).map_err(|e| e.to_string())?;
                killed.formatting += 1;
            }
            // It died between making the name and writing who it is, or before the file had its length.
            Err(Error::WrongLength { name, .. } | Error::NotASegment { name, .. } | Error::NotReady { name, .. })
                if round % 2 == 1 =>
            {
                std::fs::remove_file(name).map_err(|e| e.to_string())?;
                killed.formatting += 1;
            }
            Ok(_) => killed.using += 1,
            Err(error) => return Err(format!("after a dead creator: {error}")),
        }
        let handler = options.open_or_create().map_err(|e| format!("after a dead creator: {e}"))?;
        let checked = handler.reap().and_then(|_| handler.heal()).and_then(|()| handler.verify());
        handler.unlink().map_err(|e| e.to_string())?;
        let stats = checked.map_err(|e| format!("after a dead creator: {e}"))?;
        if stats.free_bytes != stats.sector_bytes {
            return Err(format!("after a dead creator: {stats:?}"));
        }
    }
    Ok(killed)
}

pub(crate) fn create_and_use(place: &str) -> Result<(), String> {
    let (id, named) = place.split_once('/').ok_or("no id/named")?;
    let id = Uuid::parse_str(id).map_err(|e| e.to_string())?;
    // Half of them as on file systems without unnamed files: the name comes before the segment.
    let options = Options::new().id(id).size(CREATED).named_creation(named == "1");
    println!();
    let handler = options.open_or_create().map_err(|e| e.to_string())?;
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let block = handler.allocate_raw(fastrand::usize(1..5000)).map_err(|e| e.to_string())?;
        handler.free_raw(block).map_err(|e| e.to_string())?;
    }
    Ok(())
}

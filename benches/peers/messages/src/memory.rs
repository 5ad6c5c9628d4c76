//! How much memory a topic takes with one publisher and sixteen subscribers, who may be 64 messages behind: of a
//! thousand messages one has 1 MiB, the others 3 KiB on the average.

use crate::Outcome;
use crate::peers::iceoryx::{self, Largest};
use crate::peers::matrix;
use crate::peers::{Entry, clean};
use crate::run::Run;
use crate::setting::Setting;
use std::os::unix::fs::MetadataExt;

pub(crate) const SUBSCRIBERS: usize = 16;
/// Messages that a subscriber is behind at most.
pub(crate) const BEHIND: usize = 64;
pub(crate) const LARGEST: usize = 1 << 20;
const MESSAGES: u64 = 8192;

/// The sizes of messages, one after the other: 4 KiB on the average, always the same.
pub(crate) fn sizes() -> impl Iterator<Item = usize> {
    let mut random = 88_172_645_463_325_252_u64;
    (0..MESSAGES).map(move |number| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if number % 1024 == 1000 { LARGEST } else { 8 + (random >> 20) as usize % (6 << 10) / 8 * 8 }
    })
}

/// One run: MiB that are reserved, or that are there.
pub(crate) fn once(entry: &Entry, setting: &Setting) -> Outcome<Run> {
    let name = crate::run::name();
    let measure = || sum(&name, setting.name == "DR");
    let mib = match entry.key {
        "topic" => matrix::fill_up(&name, &measure),
        "iceoryx2" => iceoryx::fill_up(&name, Largest::AtOnce, &measure),
        "iceoryx2-grows" => iceoryx::fill_up(&name, Largest::WhenNeeded, &measure),
        other => Err(format!("no peer {other}").into()),
    };
    clean(&name);
    crate::run::sweep(&name);
    Ok(Run { value: mib?, fastest: None, processor: f64::NAN, share: f64::NAN })
}

/// MiB of the files of that name: their sizes, or what they have of pages.
fn sum(name: &str, resident: bool) -> Outcome<f64> {
    let mut bytes = 0;
    for file in std::fs::read_dir("/dev/shm")? {
        let file = file?;
        if file.file_name().to_string_lossy().contains(name) {
            let metadata = file.metadata()?;
            bytes += if resident { 512 * metadata.blocks() } else { metadata.len() };
        }
    }
    Ok(bytes as f64 / f64::from(1 << 20))
}

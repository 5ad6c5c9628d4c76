//! Segments whose provider was killed: who tells, and who removes their names.

use crate::{look, segment_of};
use atomic_matrix::uuid::Uuid;
use atomic_matrix::{Handler, KEPT, Options};
use std::path::Path;

/// Where segments have their names.
const SHARED_MEMORY: &str = "/dev/shm";
const PREFIX: &str = "atomic-matrix-";

/// Removes the names of providers' segments whose process was killed; how many. Those who have them mapped read
/// on. Each new [`Provider`](crate::Provider) does it.
pub fn sweep() -> usize {
    let Ok(entries) = std::fs::read_dir(Path::new(SHARED_MEMORY)) else { return 0 };
    let providers = entries.flatten().filter_map(|entry| {
        let id = Uuid::try_parse(entry.file_name().to_str()?.strip_prefix(PREFIX)?).ok()?;
        segment_of(id)
    });
    let abandoned = providers.filter(|&segment| {
        // What is not ours, or is just being made, is left alone.
        let looked = look(&Options::new(), segment).inspect();
        looked.is_ok_and(|handler| was_killed(&handler) && handler.unlink().is_ok())
    });
    abandoned.count()
}

/// Whether a provider was there and is no more. Where nobody ever was, one may just be coming.
fn was_killed(handler: &Handler) -> bool {
    let participants = handler.participants();
    let any_alive = participants.iter().any(|participant| participant.alive);
    let mut kept = false;
    !any_alive && (!participants.is_empty() || handler.blocks(|block| kept |= block.owner == KEPT).is_ok() && kept)
}

/// Whether no provider is there, whether it was killed or has left.
pub(crate) fn has_no_provider(handler: &Handler) -> bool {
    !handler.participants().iter().any(|participant| participant.alive)
}

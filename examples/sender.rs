//! The sender: run it first.

use atomic_matrix::{Options, Result};

fn main() -> Result<()> {
    let camera = Options::new().name("camera").size(64 << 20).open_or_create()?;
    let frames = camera.channel::<[u8]>("frames").open_or_create()?.sender()?;
    let mut frame = camera.message_slice::<u8>(3 << 20)?; // ours: freed if we die
    frame.fill(7); // written where it lies
    frames.send(frame)?; // the channel's now: it outlives us
    Ok(())
}

//! The sender: run it first.

use atomic_matrix::{HandlerFunctions, Options, Result};

fn main() -> Result<()> {
    let camera = Options::new().name("camera").size(64 << 20).open_or_create()?;
    let mut frame = camera.allocate::<[u8; 65536]>()?; // ours: freed if we die
    camera.store(&mut frame, [7; 65536])?;
    camera.publish("frame", &frame) // nobody's now: it outlives us
}

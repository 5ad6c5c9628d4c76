//! The receiver: run it second.

use atomic_matrix::{HandlerFunctions, Options, Result};

fn main() -> Result<()> {
    let camera = Options::new().name("camera").attach()?;
    let frame = camera.take::<[u8; 65536]>("frame")?; // ours from now on
    println!("received {:?}...", &camera.load(&frame)?[..4]);
    camera.free(frame);
    camera.unlink() // the segment's name; its memory goes with its last user
}

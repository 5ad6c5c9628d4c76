//! The receiver: run it second.

use atomic_matrix::{Options, Result};

fn main() -> Result<()> {
    let camera = Options::new().name("camera").attach()?;
    let frames = camera.channel::<[u8]>("frames").open()?.receiver()?;
    let frame = frames.recv()?; // ours from now on, where it was written
    println!("received {} bytes: {:?}...", frame.len(), &frame[..4]);
    drop(frame); // freed
    camera.unlink() // the segment's name: newcomers find none. Its memory, and what is in it, goes with its last user
}

//! The first ten lines: allocate, write, read, free.
//!
//! `Cargo.toml` needs `uuid = { version = "1", features = ["v4"] }` for them, beside this crate. (With `None` in place
//! of an id, `bootstrap` draws one itself.)
#![allow(clippy::undocumented_unsafe_blocks, reason = "the block is fresh and its offset is nobody else's")]

use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::matrix::core::AtomicMatrix;

fn main() {
    // Bootstrap a 50MB matrix in /dev/shm
    let handler = AtomicMatrix::bootstrap(Some(uuid::Uuid::new_v4()), 50 * 1024 * 1024).unwrap();

    // Allocate a 128-byte block
    let mut block = handler.allocate::<[u8; 128]>().unwrap();

    // Write the message
    let msg = b"Hello World!";
    let mut payload = [0u8; 128];
    payload[..msg.len()].copy_from_slice(msg);
    unsafe { handler.write(&mut block, payload) }

    // Read it back
    let data = unsafe { handler.read(&block) };
    println!("{}", std::str::from_utf8(&data[..12]).unwrap());

    // Free it
    handler.free(block);
    handler.unlink().unwrap();
}

//! Two terminals: `cargo run --example channel receive`, then `cargo run --example channel send`. Kill
//! either, start it again.

use atomic_matrix::ipc::Unreceived;
use atomic_matrix::{Options, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let segment = Options::new().name("lines").size(16 << 20).open_or_create()?;
    let lines = segment.channel::<[u8]>("lines").capacity(256).open_or_create()?;
    if std::env::args().nth(1).as_deref() == Some("send") {
        let sender = lines.sender()?;
        for line in std::io::stdin().lines().map_while(|line| line.ok()) {
            let mut message = segment.message_slice::<u8>(line.len())?; // of any length
            message.copy_from_slice(line.as_bytes()); // written once, where it lies
            sender.send(message)?; // the receiver's now, or its successor's: whoever dies, it is there
        }
        return Ok(());
    }
    let receiver = lines.receiver()?;
    loop {
        match receiver.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => println!("{}", String::from_utf8_lossy(&line)), // freed when `line` is dropped
            Err(Unreceived::Disconnected { died }) => {
                println!("(no sender{}: waiting for another)", if died { ", one was killed" } else { "" });
                std::thread::sleep(Duration::from_secs(1));
            }
            Err(why) => return Err(why.into()),
        }
    }
}

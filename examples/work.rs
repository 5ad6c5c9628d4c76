//! Work that is done although workers are killed. `cargo run --example work do` in two terminals or more, then
//! `cargo run --example work give`; kill a worker while it works (Ctrl-C, or `kill -9`): another does its job.

use atomic_matrix::ipc::Unreceived;
use atomic_matrix::{Options, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let segment = Options::new().name("work").size(4 << 20).open_or_create()?;
    let jobs = segment.channel::<u64>("jobs").capacity(256).redeliver(64).open_or_create()?;
    if std::env::args().nth(1).as_deref() == Some("give") {
        let sender = jobs.sender()?;
        return (1..=20).try_for_each(|number| sender.send_value(number));
    }
    let worker = jobs.worker()?;
    loop {
        match worker.recv_timeout(Duration::from_secs(60)) {
            // Three have died with it, perhaps of it: nobody gets it any more.
            Ok(job) if job.deliveries() > 3 => println!("{} is given up", *job.take()),
            Ok(job) => {
                println!("works on {} (delivery {})", *job, job.deliveries());
                std::thread::sleep(Duration::from_secs(1)); // killed here, it is somebody else's
                job.ack(); // done
            }
            Err(Unreceived::Disconnected { .. }) => std::thread::sleep(Duration::from_millis(200)),
            Err(why) => return Err(why.into()),
        }
    }
}

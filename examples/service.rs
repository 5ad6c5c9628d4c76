//! A service: `cargo run --example service serve` in one terminal or more, `cargo run --example service` in
//! others; lines are answered in capitals. Kill a server: whoever waits for it is told, and the next one goes
//! on.

use atomic_matrix::ipc::Unreceived;
use atomic_matrix::{Options, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let segment = Options::new().name("capitals").size(4 << 20).open_or_create()?;
    let capitals = segment.service::<str, str>("capitals").open_or_create()?;
    if std::env::args().nth(1).as_deref() == Some("serve") {
        let server = capitals.server()?;
        loop {
            match server.next_timeout(Duration::from_secs(60)) {
                Ok(request) => {
                    let answer = segment.message_text(&request.to_uppercase())?;
                    std::thread::sleep(Duration::from_secs(1)); // time to be killed
                    if let Err(refused) = request.respond(answer) {
                        println!("{}", refused.why); // the answer is in `refused`
                    }
                }
                Err(Unreceived::Disconnected { .. }) => std::thread::sleep(Duration::from_secs(1)),
                Err(Unreceived::Timeout) => return segment.unlink(),
                Err(why) => return Err(why.into()),
            }
        }
    }
    let client = capitals.client()?;
    for line in std::io::stdin().lines().map_while(|line| line.ok()) {
        match client.call(segment.message_text(&line)?, Duration::from_secs(10)) {
            Ok(answer) => println!("{}", &*answer),
            Err(failed) => println!("{}", failed.why), // what was not sent is in `failed.request`
        }
    }
    Ok(())
}

//! Notice of a death: `cargo run --example watch` in one terminal, `cargo run --example watch work` in others. Kill one
//! of these, or let it end: the first one is told, and told which.

use atomic_matrix::ipc::{Ended, ParticipantId, Select};
use atomic_matrix::{Error, Options, Result};
use std::time::Duration;

enum Told {
    Came(u64),
    Went(usize, Ended),
}

fn main() -> Result<()> {
    let segment = Options::new().name("workers").size(1 << 20).open_or_create()?;
    let workers = segment.channel::<u64>("workers").open_or_create()?;
    if std::env::args().nth(1).as_deref() == Some("work") {
        workers.sender()?.send_value(segment.join()?.to_bits())?; // who I am
        std::thread::sleep(Duration::from_secs(20)); // the work: kill me here
        return Ok(()); // the last handler is dropped: it has left
    }
    let (receiver, _keeps) = (workers.receiver()?, workers.sender()?); // so that it waits for the next worker
    let mut watches = vec![];
    loop {
        let mut select = Select::new().recv(&receiver, |came| came.map(|bits| Told::Came(*bits)).map_err(Error::from));
        for (at, watch) in watches.iter().enumerate() {
            select = select.ended(watch, move |ended| ended.map(|ended| Told::Went(at, ended)));
        }
        let told = select.wait(Duration::from_secs(60)).transpose()?;
        drop(select);
        match told {
            Some(Told::Came(bits)) => watches.push(segment.watch(ParticipantId::from_bits(bits))?),
            Some(Told::Went(at, how)) => println!("{:?}: {how:?}", watches.swap_remove(at).participant()),
            None => return segment.unlink(), // nobody came or went for a minute
        }
    }
}

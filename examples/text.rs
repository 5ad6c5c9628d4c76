//! A text of any length: `cargo run --example text write` in one terminal collects the lines that you type,
//! until Ctrl-D, and publishes them as one text; `cargo run --example text` in another takes it, and is its
//! only owner from then on.

use atomic_matrix::ipc::Builder;
use atomic_matrix::{Error, Options, Result};
use std::fmt::Write;

fn main() -> Result<()> {
    let segment = Options::new().name("letters").size(1 << 20).open_or_create()?;
    if std::env::args().nth(1).as_deref() == Some("write") {
        let mut letter = Builder::<u8>::new(&segment); // grows where it lies; nobody else sees it
        for (number, line) in std::io::stdin().lines().map_while(|line| line.ok()).enumerate() {
            writeln!(letter, "{:>3}  {line}", number + 1).expect("there is room");
        }
        let letter = letter.freeze_text()?;
        println!("{} bytes", letter.len());
        // The name leads to this letter from now on; the one before, if nobody took it, is ours to free.
        if let Some(before) = letter.replace("letter")? {
            segment.free_raw(before)?;
        }
        return Ok(());
    }
    let taken = segment.lookup_ref::<str>("letter").and_then(|letter| segment.take_ref(letter));
    match taken {
        Ok(letter) => print!("{}", &*letter), // freed when it is dropped; the name stays for the next one
        Err(Error::NameUnknown { .. }) => println!("nobody has written"),
        Err(Error::NotLive { .. } | Error::Stale { .. } | Error::Owned { .. }) => println!("somebody else took it"),
        Err(error) => return Err(error),
    }
    Ok(())
}

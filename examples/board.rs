//! A board: `cargo run --example board 10 20` in one terminal sets the limits, `cargo run --example board` in
//! as many others as you like shows them, the latest only. Kill any of them as you please: the value is the
//! old one or the new one, never torn.

use atomic_matrix::{Options, Result};
use std::time::Duration;

atomic_matrix::shared! {
    /// What stands on the board: plain bytes, with the same meaning in every process.
    #[derive(Debug)]
    struct Limits { low: i64, high: i64 }
}

fn main() -> Result<()> {
    let segment = Options::new().name("limits").size(1 << 20).open_or_create()?;
    let board = segment.board::<Limits>("limits")?;
    let numbers: Vec<i64> = std::env::args().skip(1).filter_map(|number| number.parse().ok()).collect();
    if let [low, high] = numbers[..] {
        return board.set(Limits { low, high }); // never refused because somebody reads
    }
    let mut seen = 0;
    loop {
        match board.changed(&mut seen, Duration::from_secs(10))? {
            Some(limits) => println!("number {seen}: {limits:?}"),
            None => println!("still {:?}", board.get()?), // costs no more than a copy
        }
    }
}

//! A camera for `bridges/python/examples/viewer.py`: pictures of 480 by 640 points, three bytes each, thirty
//! a second, without a copy for any number of viewers. `cargo run --example camera [segment] [pictures]`; it
//! ends after ten seconds unless it is told otherwise.

use atomic_matrix::{Options, Result};
use std::time::Duration;

const ROWS: usize = 480;
const COLUMNS: usize = 640;
const BALL: usize = 40;

/// A ball on a dark field.
fn draw(picture: &mut [u8], number: usize) {
    picture.fill(30);
    let (top, left) = (number * 3 % (ROWS - BALL), number * 5 % (COLUMNS - BALL));
    for row in picture.chunks_exact_mut(COLUMNS * 3).skip(top).take(BALL) {
        row[left * 3..(left + BALL) * 3].fill(250);
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "video".to_owned());
    let pictures = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(300);
    let segment = Options::new().name(&name).size(64 << 20).open_or_create()?;
    let topic = segment.topic::<[u8]>("pictures").cells(8).open_or_create()?;
    for number in 0..pictures {
        let mut picture = segment.message_slice(ROWS * COLUMNS * 3)?;
        draw(&mut picture, number); // where every viewer will look at it
        if let Err(refused) = topic.publish_timeout(picture, Duration::from_secs(1)) {
            eprintln!("picture {number} is left out: {}", refused.why);
        }
        std::thread::sleep(Duration::from_millis(33));
    }
    topic.remove()?; // viewers end
    segment.unlink()
}

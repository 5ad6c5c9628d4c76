//! A topic: `cargo run --example topic publish` in one terminal, `cargo run --example topic` in as many
//! others as you like. Kill any of them as you please.

use atomic_matrix::{Error, Options, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let segment = Options::new().name("news").size(1 << 20).open_or_create()?;
    let topic = segment.topic::<str>("news").cells(8).open_or_create()?;
    if std::env::args().nth(1).as_deref() == Some("publish") {
        for number in topic.published() + 1.. {
            let news = segment.message_text(&format!("news {number}"))?;
            match topic.publish_timeout(news, Duration::from_secs(5)) {
                Ok(()) => println!("published {number}"),
                Err(refused) => println!("{number}: {}", refused.why), // the message is in `refused`
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    let mut subscriber = topic.subscribe(3)?; // and the last three
    loop {
        match subscriber.next_timeout(Duration::from_secs(10)) {
            Ok(Some(news)) => println!("{}", &*news), // where it lies, until `news` is dropped
            Ok(None) => println!("nothing for ten seconds"),
            Err(Error::TopicClosed) => return segment.unlink(),
            Err(error) => return Err(error),
        }
    }
}

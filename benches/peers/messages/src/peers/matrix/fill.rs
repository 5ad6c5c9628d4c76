//! How small a segment does for what a topic's subscribers may be behind.

use crate::Outcome;
use crate::memory::{BEHIND, SUBSCRIBERS, sizes};
use atomic_matrix::ipc::Subscriber;
use atomic_matrix::{Error, Options};

/// Publishes messages of many sizes, with subscribers as far behind as they may be, in ever larger segments: what
/// `measure` says of the first in which all of them find room.
pub(crate) fn fill_up(name: &str, measure: &dyn Fn() -> Outcome<f64>) -> Outcome<f64> {
    for mib in [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128] {
        let handler = Options::new().path(format!("/dev/shm/{name}-segment")).size(mib << 20).create()?;
        let done = publish_all(&handler);
        let measured = measure();
        handler.unlink()?;
        match done {
            Ok(()) => return measured,
            Err(error) if error.downcast_ref().is_some_and(is_too_small) => {}
            Err(error) => return Err(error),
        }
    }
    Err("128 MiB are not enough".into())
}

fn is_too_small(error: &Error) -> bool {
    matches!(error, Error::OutOfMemory { .. } | Error::TooLarge { .. })
}

fn publish_all(handler: &atomic_matrix::Handler) -> Outcome<()> {
    let topic = handler.topic::<[u64]>("memory").cells(BEHIND).subscribers(SUBSCRIBERS as u16).open_or_create()?;
    let mut subscribers: Vec<Subscriber<[u64]>> =
        (0..SUBSCRIBERS).map(|_| topic.subscribe(0)).collect::<Result<_, _>>()?;
    for (number, size) in sizes().enumerate() {
        if number >= BEHIND {
            for subscriber in &mut subscribers {
                let message = subscriber.try_next()?.ok_or("nothing to read")?;
                std::hint::black_box(message[0]);
            }
        }
        let mut message = handler.message_slice::<u64>(size / 8)?;
        message.fill(number as u64);
        topic.try_publish(message).map_err(|error| format!("not published: {:?}", error.why))?;
    }
    Ok(())
}

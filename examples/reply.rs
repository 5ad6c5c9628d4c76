//! A channel without a name: what leads to it goes along with the question, and whoever gets that answers there.
//! `cargo run --example reply answer` in one terminal, `cargo run --example reply 6` in others.

use atomic_matrix::ipc::{Channel, Ref};
use atomic_matrix::{Options, Result};
use std::time::Duration;

atomic_matrix::shared! {
    /// A question, and where its answer is awaited: 64 bits, checked by whoever opens it.
    struct Question { number: u64, answer: Ref<Channel<u64>> }
}

fn main() -> Result<()> {
    let segment = Options::new().name("questions").size(1 << 20).open_or_create()?;
    let questions = segment.channel::<Question>("questions").open_or_create()?;
    if let Some(number) = std::env::args().nth(1).and_then(|number| number.parse().ok()) {
        let answers = segment.unnamed_channel::<u64>().capacity(1).create()?; // goes with its last user
        let answer = answers.receiver()?;
        questions.sender()?.send_value(Question { number, answer: Ref::to(&answers) })?;
        println!("{}", *answer.recv_timeout(Duration::from_secs(60))?);
        return Ok(());
    }
    let (receiver, _keeps) = (questions.receiver()?, questions.sender()?); // so that it waits for the next one to ask
    for question in &receiver {
        match segment.open_ref(question.answer) {
            Ok(answers) => answers.sender()?.try_send_value(question.number * 7)?,
            Err(error) => println!("nobody waits for {} any more: {error}", question.number),
        }
    }
    segment.unlink()
}

//! The LMAX disruptor's Rust port: a ring of events that a producer fills in place. No allocator: it answers
//! to the hand-over alone.

use crate::list::C;
use crate::support::control::Control;
use crate::support::registry::Entry;
use crate::support::work::{self, Done, Role};
use crate::support::{Outcome, Work};
use disruptor::{BusySpin, Producer, Sequence, build_single_producer};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// As many messages as the harness's ring has, of the hand-over's size.
const RING: usize = 1024;
type Event = [u64; 16];
/// Events published together: the harness's ring tells its position as often.
const BATCH: usize = 32;

/// The consumer's side; the disruptor makes and drops it on the consumer's thread.
struct Consumer {
    events: u64,
    before: Option<u64>,
    tell: Sender<Done>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let processor = self.before.map_or(0, |before| work::processor() - before);
        let _ = self.tell.send(Done { operations: self.events, processor, refused: 0 }); // Called off: nobody listens.
    }
}

fn hand_over(_: &[Role], seconds: f64) -> Outcome<Work> {
    let control = &*Control::on_heap();
    let (tell, told) = channel();
    let consumer = move || {
        work::part(Role::Consume);
        Consumer { events: 0, before: None, tell }
    };
    let handle = |consumer: &mut Consumer, event: &Event, _: Sequence, _: bool| {
        std::hint::black_box(event);
        consumer.before.get_or_insert_with(work::processor);
        consumer.events += 1;
    };
    let mut producer =
        build_single_producer(RING, || [0; 16], BusySpin).handle_events_and_state_with(handle, consumer).build();
    let produce = move || {
        work::part(Role::Produce);
        if !control.await_start() {
            return Done::default();
        }
        let before = work::processor();
        let mut events = 0;
        while !control.stopped() {
            producer.batch_publish(BATCH, |batch| {
                for event in batch {
                    // SAFETY: a reference's target, and this worker's alone until it is published.
                    unsafe { (&raw mut event[0]).write_volatile(events) }
                    events += 1;
                }
            });
        }
        let processor = work::processor() - before;
        drop(producer); // Waits for the consumer.
        Done { operations: 0, processor, refused: 0 }
    };
    std::thread::scope(|scope| {
        let producer = scope.spawn(produce);
        while control.ready() < 1 && !producer.is_finished() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let window = control.conduct(seconds);
        let produced = producer.join().map_err(|_| "the producer panicked")?;
        Ok(Work { done: vec![produced, told.recv()?], window })
    })
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry::own("disruptor 4.4, 1 to 1", "in process, a ring of one size", hand_over).only(&[C])]
}

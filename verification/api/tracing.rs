//! The feature `tracing`: which events there are, with what in them, and that the hot path has none.

#[path = "../support/common.rs"]
mod common;

use atomic_matrix::Error;
use atomic_matrix::segment::Options;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Fields by name; the message is one of them.
type Event = BTreeMap<&'static str, String>;

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Event>>>);

#[derive(Default)]
struct Fields(Event);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        assert_eq!(event.metadata().target(), "atomic_matrix");
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().expect("nobody panicked").push(fields.0);
    }
}

impl Collector {
    /// What has come since the last call.
    fn drain(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
    /// The only event since the last call.
    fn one(&self, message: &str) -> Event {
        let mut events = self.drain();
        assert_eq!(events.len(), 1, "{events:?}");
        let event = events.remove(0);
        assert_eq!(event["message"], message);
        event
    }
}

#[test]
fn events_tell_what_happened() {
    let collector = Collector::default();
    let _collecting = tracing::subscriber::set_default(tracing_subscriber::registry().with(collector.clone()));
    let scratch = common::Scratch::new();
    let options = Options::new().id(scratch.0).participants(2);

    let handler = options.clone().size(1 << 20).create().expect("created");
    let event = collector.one("segment created");
    assert_eq!((event["id"].as_str(), event["bytes"].as_str()), (&*scratch.0.to_string(), "1048576"));

    let other = options.attach().expect("attached");
    collector.one("segment attached");

    let blocks: Vec<_> = (0..10_000).map(|_| handler.allocate_raw(64).expect("room")).collect();
    blocks.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
    handler.heal().expect("a slot");
    assert_eq!(collector.drain(), [], "the hot path is silent");

    let _held = handler.allocate_raw(64).expect("room");
    let sector = handler.stats().expect("sound").sector_bytes;
    assert!(matches!(handler.allocate_raw(sector as usize), Err(Error::OutOfMemory { .. })));
    let event = collector.one("out of memory");
    assert_eq!((event["requested"].clone(), event["largest"] != "0"), (sector.to_string(), true), "{event:?}");

    // A participant whose locks the kernel has released, as when its process ends.
    let _lost = [(); 3].map(|()| other.allocate_raw(64).expect("room"));
    common::die(other);
    collector.drain();
    handler.reap().expect("a slot");
    let event = collector.one("participant recovered");
    assert_eq!((event["live_blocks"].as_str(), event["kept"].as_str()), ("3", "false"), "{event:?}");
    assert_eq!(event["id"], scratch.0.to_string());

    handler.unlink().expect("ours");
    let event = collector.one("segment unlinked");
    assert!(event["path"].ends_with(&scratch.0.to_string()));
    handler.unlink().expect("nothing to do");
    assert_eq!(collector.drain(), []);
}

/// Uses the matrix of which it hears.
struct Meddler(atomic_matrix::handlers::Handler);

impl<S: tracing::Subscriber> Layer<S> for Meddler {
    fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
        match self.0.allocate_raw(64) {
            Ok(block) => self.0.free_raw(block).expect("live"),
            Err(error) => assert!(matches!(error, Error::NoParticipantSlot { .. }), "{error}"),
        }
        self.0.participants();
    }
}

/// Whoever is told may use the matrix: nothing is locked, and no operation is under way.
#[test]
fn whoever_is_told_may_use_the_matrix() {
    let handler = Options::new().memfd().size(1 << 20).participants(2).create().expect("created");
    let options = Options::from_fd(handler.matrix().segment().fd().try_clone_to_owned().expect("duplicated"));
    let attach = || options.inspect().expect("attached");
    let own = attach();
    let _meddling = tracing::subscriber::set_default(tracing_subscriber::registry().with(Meddler(own.clone())));
    let (one, two) = (attach(), attach());
    let _lost = [&one, &two].map(|other| other.allocate_raw(64).expect("a slot"));
    assert!(matches!(own.allocate_raw(64), Err(Error::NoParticipantSlot { .. })));
    common::die(one);
    // It takes the dead one's slot over, hears of that, and of the next.
    let block = own.allocate_raw(64).expect("a slot");
    common::die(two);
    assert_eq!(own.reap().expect("a slot").participants, 1);
    own.free_raw(block).expect("live");
    drop(own);
}

/// The same of a segment that has lost its name: a listener may unlink it again.
#[test]
fn whoever_is_told_of_an_unlink_may_unlink() {
    struct Again(atomic_matrix::handlers::Handler);
    impl<S: tracing::Subscriber> Layer<S> for Again {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.unlink().expect("nothing to do");
        }
    }
    let scratch = common::Scratch::new();
    let handler = scratch.options().size(1 << 20).create().expect("created");
    let _told = tracing::subscriber::set_default(tracing_subscriber::registry().with(Again(handler.clone())));
    handler.unlink().expect("ours");
}

#[test]
fn a_thread_without_a_slot_is_an_event() {
    let collector = Collector::default();
    let _collecting = tracing::subscriber::set_default(tracing_subscriber::registry().with(collector.clone()));
    let handler = Options::new().memfd().size(1 << 20).participants(1).create().expect("created");
    let other = Options::from_fd(handler.matrix().segment().fd().try_clone_to_owned().expect("duplicated"));
    let other = other.attach().expect("attached");
    let _held = handler.allocate_raw(64).expect("room");
    collector.drain();
    assert!(matches!(other.allocate_raw(64), Err(Error::NoParticipantSlot { participants: 1 })));
    assert_eq!(collector.one("no participant slot")["participants"], "1");
    // Once its holder is dead, the next one takes its slot over.
    common::die(handler);
    let _block = other.allocate_raw(64).expect("a slot");
    let events = collector.drain();
    let messages: Vec<_> = events.iter().map(|event| event["message"].as_str()).collect();
    assert_eq!(messages, ["participant recovered", "participant slot taken over from the dead"]);
    assert_eq!((events[0]["live_blocks"].as_str(), events[1]["recovered"].as_str()), ("1", "1"));
}

//! Notice of a death: whoever watches a participant is told how it has ended, in whatever way it waits.

use crate::LONG;
use crate::common::{Scratch, rest_is_one_block, segment};
use atomic_matrix::ipc::{Ended, ParticipantId, Select};
use atomic_matrix::{Error, Handler};
use rustix::event::{PollFd, PollFlags, poll};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
#[ignore = "a role: the tests of this file run it in processes of their own"]
fn watched() {
    let Ok(id) = std::env::var("MATRIX_WATCHED_SEGMENT") else { return };
    let scratch = Scratch(id.parse().expect("an id"));
    let handler = scratch.attach();
    std::mem::forget(scratch);
    let me = handler.join().expect("a slot");
    handler.board::<u64>("watched").expect("room").set(me.to_bits()).expect("room");
    if std::env::var_os("MATRIX_WATCHED_LEAVES").is_some() {
        let go = handler.event("go").expect("room");
        go.wait(LONG).expect("no fork");
        return;
    }
    loop {
        std::thread::park();
    }
}

/// Another process, and who it is.
fn another(scratch: &Scratch, handler: &Handler, leaves: bool) -> (Child, ParticipantId) {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--ignored", "--exact", "deaths::watched"]).env("MATRIX_WATCHED_SEGMENT", scratch.0.to_string());
    if leaves {
        command.env("MATRIX_WATCHED_LEAVES", "1");
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("spawned");
    let board = handler.board::<u64>("watched").expect("room");
    let bits = board.changed(&mut 0, LONG).expect("no fork").expect("it is set");
    board.remove().expect("no fork");
    (child, ParticipantId::from_bits(bits))
}

#[test]
fn c1_whoever_watches_is_told_of_a_death_however_it_waits() {
    let (scratch, handler) = segment();
    let (mut child, theirs) = another(&scratch, &handler, false);
    assert_eq!(handler.participant(theirs.number), Some(theirs));
    let (watch, never) = (handler.watch(theirs).expect("room"), handler.event("never").expect("room"));
    assert_eq!((watch.participant(), watch.try_ended().expect("no fork")), (theirs, None));
    assert_eq!(watch.ended(Duration::from_millis(1)).expect("no fork"), None);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| watch.ended(LONG).expect("no fork"));
        let selects = scope.spawn(|| {
            let mut select = Select::new().set(&never, |_| None).ended(&watch, |ended| ended.ok());
            select.wait(LONG).expect("it ends")
        });
        let awaits = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("built");
            runtime.block_on(watch.ended_async()).expect("no fork")
        });
        let polls = scope.spawn(|| {
            let mut readable = watch.readable().expect("a descriptor");
            loop {
                poll(&mut [PollFd::new(&readable, PollFlags::IN)], None).expect("no signal");
                readable.arm().expect("no fork");
                if let Some(ended) = watch.try_ended().expect("no fork") {
                    return ended;
                }
            }
        });
        child.kill().expect("it runs");
        child.wait().expect("it is ours");
        assert_eq!(waits.join().expect("no panic"), Some(Ended::Died));
        assert_eq!(selects.join().expect("no panic"), Some(Ended::Died));
        assert_eq!((awaits.join().expect("no panic"), polls.join().expect("no panic")), (Ended::Died, Ended::Died));
    });
    assert_eq!(handler.participant(theirs.number), None);
    // It stays told, to who watches from now on as well.
    assert_eq!(handler.watch(theirs).expect("room").try_ended().expect("no fork"), Some(Ended::Died));
    never.remove().expect("no fork");
    drop((watch, never));
    rest_is_one_block(&handler);
}

/// Who waits for messages as well, of which there is always one, never sleeps; and nobody else looks.
#[test]
fn c1_a_death_is_told_to_who_is_never_idle() {
    let (scratch, handler) = segment();
    let (mut child, theirs) = another(&scratch, &handler, false);
    let (watch, busy) = (handler.watch(theirs).expect("room"), handler.channel::<u64>("busy").create().expect("room"));
    let (sender, receiver) = (busy.sender().expect("room"), busy.receiver().expect("room"));
    child.kill().expect("it runs");
    child.wait().expect("it is ours");
    let until = Instant::now() + LONG;
    let told = std::iter::from_fn(|| {
        assert!(Instant::now() < until, "nobody has looked");
        sender.send_value(1).expect("there is room");
        let mut select = Select::new().ended(&watch, Result::ok).recv(&receiver, |message| {
            drop(message);
            None
        });
        Some(select.wait(LONG).expect("there is one"))
    });
    assert_eq!(told.flatten().next(), Some(Ended::Died));
}

#[test]
fn c1_whoever_watches_is_told_that_one_has_left() {
    let (scratch, handler) = segment();
    let (mut child, theirs) = another(&scratch, &handler, true);
    let watch = handler.watch(theirs).expect("room");
    let go = handler.event("go").expect("room");
    go.set().expect("no fork");
    assert_eq!(watch.ended(LONG).expect("no fork"), Some(Ended::Left));
    assert!(child.wait().expect("it is ours").success());
    go.remove().expect("no fork");
    drop(go);
    // Nobody was it, or will be.
    for number in [0, theirs.number, u16::MAX] {
        let nobody = ParticipantId { number, epoch: theirs.epoch + 7 };
        assert_eq!(handler.watch(nobody).expect("room").try_ended().expect("no fork"), Some(Ended::Unknown));
        assert_eq!(handler.participant(number).filter(|_| number != theirs.number), None);
    }
    assert!(matches!(handler.watch(handler.join().expect("a slot")).map(|own| own.try_ended()), Ok(Ok(None))));
    // Whoever has no memory to watch with is told.
    let refused = std::iter::from_fn(|| Some(handler.watch(theirs))).find_map(|watch| match watch {
        Ok(watch) => {
            std::mem::forget(watch);
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(refused, Some(Error::OutOfMemory { .. })), "{refused:?}");
}

use super::*;
use crate::ipc::message::Message;
use crate::ipc::structure::Sort;
use crate::ipc::testing::{LONG, SOON, handler, nothing_is_left, other};
use crate::ipc::wait::deadline;
use crate::matrix::core::AtomicMatrix;
use std::time::Duration;

#[test]
fn q2_messages_arrive_in_their_order_whatever_their_size() {
    let handler = handler();
    let channel = handler.channel::<[u8]>("bytes").capacity(3).open_or_create().expect("made");
    assert_eq!(channel.capacity(), 4);
    let (tx, rx) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    assert_eq!(rx.try_recv().err(), Some(Unreceived::Empty));
    let sizes = [0, 1, 4000, 70_000];
    for (k, &size) in sizes.iter().enumerate() {
        let mut message = handler.message_slice::<u8>(size).expect("room");
        message.fill(k as u8);
        tx.try_send(message).expect("there is room");
    }
    let refused = tx.try_send(handler.message_slice(9).expect("room")).expect_err("it is full");
    assert_eq!((refused.why, refused.message.len(), channel.len()), (Unsent::Full, 9, 4));
    let refused = tx.send_timeout(refused.message, SOON).expect_err("it stays full");
    assert_eq!(refused.why, Unsent::Timeout);
    drop(refused);
    for (k, &size) in sizes.iter().enumerate() {
        let message = rx.recv_timeout(LONG).expect("it was sent");
        assert!(message.len() == size && message.iter().all(|&byte| byte == k as u8));
    }
    assert_eq!(rx.recv_timeout(SOON).err(), Some(Unreceived::Timeout));
    drop((tx, rx));
    channel.remove().expect("ours");
    drop(channel);
    nothing_is_left(&handler);
}

#[test]
fn q5_whoever_sleeps_is_woken_by_messages_room_and_departures() {
    let handler = handler();
    let channel = handler.channel::<u64>("numbers").capacity(2).create().expect("made");
    let back = handler.channel::<u64>("back").capacity(2).create().expect("made");
    std::thread::scope(|scope| {
        let (rx, on) = (channel.receiver().expect("a receiver"), back.sender().expect("a sender"));
        scope.spawn(move || {
            for mut message in &rx {
                *message += 1;
                message.forward(&on).expect("somebody receives");
            }
            assert_eq!(rx.recv().err(), Some(Unreceived::Disconnected { died: false }));
        });
        let (tx, sums) = (channel.sender().expect("a sender"), back.receiver().expect("a receiver"));
        scope.spawn(move || (0..1000).for_each(|k| tx.send_value(k).expect("somebody receives")));
        (0..1000).for_each(|k| assert_eq!(*sums.recv().expect("it comes"), k + 1, "Q2"));
        assert_eq!(sums.recv().err(), Some(Unreceived::Disconnected { died: false }), "Q6");
    });
    let tx = channel.sender().expect("a sender");
    (0..2).for_each(|k| tx.send_value(k).expect("room"));
    let refused = tx.send(handler.message_of(2).expect("room")).expect_err("nobody receives any more");
    assert_eq!(refused.why, Unsent::Disconnected { died: false });
}

#[test]
fn q6_a_closed_channel_is_received_to_its_end() {
    let handler = handler();
    let channel = handler.channel::<u64>("numbers").create().expect("made");
    let (tx, rx) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    tx.send_value(7).expect("room");
    channel.close();
    assert_eq!(tx.try_send(handler.message_of(8).expect("room")).expect_err("closed").why, Unsent::Closed);
    assert_eq!(*rx.recv().expect("it was sent before"), 7);
    assert_eq!(rx.recv().err(), Some(Unreceived::Closed));
    assert!(matches!(tx.send_value(9), Err(Error::NotSent { why: Unsent::Closed })));
}

#[test]
fn q6_a_removed_channel_is_freed_after_its_last_user() {
    let handler = handler();
    let first = handler.channel::<u64>("numbers").create().expect("made");
    assert!(matches!(handler.channel::<u64>("numbers").create(), Err(Error::NameTaken { .. })));
    assert!(matches!(handler.channel::<u32>("numbers").open(), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.channel::<u64>("others").open(), Err(Error::NameUnknown { .. })));
    let again = handler.channel::<u64>("numbers").open().expect("it is there");
    let (tx, rx) = (first.sender().expect("a sender"), again.receiver().expect("a receiver"));
    assert_eq!(first.ends(), (1, 1));
    tx.send_value(1).expect("room");
    first.remove().expect("ours");
    let second = handler.channel::<u64>("numbers").create().expect("the name is free");
    assert_eq!(*rx.recv().expect("what was sent is received"), 1);
    assert_eq!(rx.recv().err(), Some(Unreceived::Closed));
    drop((first, again, tx, rx));
    second.remove().expect("ours");
    drop(second);
    nothing_is_left(&handler);
}

#[test]
fn q1_a_message_of_another_thread_or_segment() {
    let (handler, foreign) = (handler(), handler());
    let channel = handler.channel::<u64>("numbers").create().expect("made");
    let (tx, rx) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    let message: Message<'_, u64> =
        std::thread::scope(|scope| scope.spawn(|| handler.message_of(5).expect("room")).join().expect("it ends"));
    tx.try_send(message).expect("it becomes this thread's");
    assert_eq!(*rx.try_recv().expect("it was sent"), 5);
    let refused = tx.try_send(foreign.message_of(6).expect("room")).expect_err("another segment's");
    assert_eq!((refused.why, *refused.message), (Unsent::NotOwn, 6));
}

/// So its block goes back there when it is dropped, by way of another language's binding as well.
#[test]
fn l4_a_received_message_knows_its_giver() {
    let made = handler();
    let channel = made.channel::<u64>("numbers").create().expect("made");
    let rx = channel.receiver().expect("a receiver");
    let give = |handler: &Handler| {
        let channel = handler.channel::<u64>("numbers").open_or_create().expect("it is there");
        channel.sender().expect("a sender").send_value(7).expect("room");
        handler.matrix().home().expect("a slot")
    };
    let theirs = std::thread::scope(|scope| scope.spawn(|| give(&other(&made))).join().expect("it ends"));
    let mine = give(&made);
    assert_ne!(theirs, mine);
    for giver in [theirs, mine] {
        let received = rx.try_recv().expect("it was sent");
        assert_eq!(received.giver(), giver);
        assert_eq!(received.unbind().bind(&made).expect("it is here").giver(), giver);
    }
}

/// Whoever was killed with a sender is told of, and counted no more.
#[test]
fn q6_a_sender_that_dies_is_told() {
    let made = handler();
    let channel = made.channel::<u64>("numbers").create().expect("made");
    let rx = channel.receiver().expect("a receiver");
    let dying = other(&made);
    let theirs = dying.channel::<u64>("numbers").open().expect("it is there");
    let tx = theirs.sender().expect("a sender");
    tx.send_value(3).expect("room");
    // SAFETY: no handle of it is used or dropped from here on.
    unsafe { dying.matrix().segment().end_life() };
    std::mem::forget((tx, theirs, dying));
    assert_eq!(*rx.recv_timeout(LONG).expect("it was sent"), 3);
    assert_eq!(rx.recv_timeout(LONG).err(), Some(Unreceived::Disconnected { died: true }));
    assert_eq!(channel.ends(), (0, 1));
}

#[test]
fn s5_misuse_of_channels_is_refused() {
    let handler = handler();
    for messages in [0, (1 << 20) + 1, usize::MAX] {
        let refused = handler.channel::<u64>("numbers").capacity(messages).create();
        assert!(matches!(refused, Err(Error::BadOption { .. })));
    }
    let channel = handler.channel::<u64>("numbers").capacity(1).open_or_create().expect("made");
    assert!(matches!(handler.channel::<[u64]>("numbers").open_or_create(), Err(Error::TypeMismatch { .. })));
    let block = handler.message_of(1_u64).expect("room");
    block.publish("block").expect("the name is free");
    assert!(matches!(handler.channel::<u64>("block").open(), Err(Error::TypeMismatch { .. })));
    let (tx, rx) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    assert_eq!((tx.handler().id(), rx.handler().id()), (handler.id(), handler.id()));
    // Who keeps a receiver and does not receive counts as one: a sender is told no more than that it is full.
    tx.send_value(1).expect("room");
    let now = Some(std::time::Instant::now());
    assert_eq!(tx.send_until(handler.message_of(2).expect("room"), now).expect_err("full").why, Unsent::Timeout);
    assert_eq!((channel.capacity(), channel.len(), channel.is_empty(), channel.ends()), (1, 1, false, (1, 1)));
    channel.close();
    channel.close();
    let refused = handler.message_of(3).expect("room").forward(&tx).expect_err("closed");
    assert_eq!((refused.why, *refused.message), (Unsent::Closed, 3));
    assert_eq!(tx.send(refused.message).expect_err("closed").why, Unsent::Closed);
    assert!(matches!(tx.send_value(4), Err(Error::NotSent { .. })));
    assert_eq!(rx.iter().map(|message| *message).collect::<Vec<_>>(), [1]);
    assert_eq!((rx.recv_until(now).err(), rx.try_recv().err()), (Some(Unreceived::Closed), Some(Unreceived::Closed)));
    assert!(matches!(rx.recv_timeout(SOON).map_err(Error::from), Err(Error::NotReceived { .. })));
    assert!(matches!(rx.recv().map_err(Error::from), Err(Error::NotReceived { .. })));
}

/// A sender that is killed on its way out, between its place and the change that tells of it, is missed all the same.
#[test]
fn q6_a_sender_that_dies_while_it_leaves_is_missed() {
    let made = handler();
    let channel = made.channel::<u64>("numbers").create().expect("made");
    let rx = channel.receiver().expect("a receiver");
    let dying = other(&made);
    let theirs = dying.channel::<u64>("numbers").open().expect("it is there");
    let tx = theirs.sender().expect("a sender");
    assert_eq!(rx.try_recv().err(), Some(Unreceived::Empty), "it has met the sender");
    // The first step of `Structure::leave`, and no other.
    tx.end.step_out_for_a_test();
    // SAFETY: no handle of it is used or dropped from here on.
    unsafe { dying.matrix().segment().end_life() };
    std::mem::forget((tx, theirs, dying));
    assert_eq!(rx.recv_timeout(Duration::from_millis(300)).err(), Some(Unreceived::Disconnected { died: false }));
}

/// A maker that is killed between naming a channel and letting it go: whoever comes next makes it, whatever
/// the policy is.
#[test]
fn c1_a_maker_that_dies_with_the_name_is_in_nobodys_way() {
    use crate::matrix::block_header::FINGERPRINT_MASK;
    use crate::segment::directory::{Directory, NamedBlock};
    for keep in [true, false] {
        let made = AtomicMatrix::options().memfd().size(1 << 20).keep_orphans(keep).create().expect("created");
        let dying = other(&made);
        let shape = Shape { sort: Sort::Channel, cells_shift: 2, readers: 0, content: <u64 as Payload>::FINGERPRINT };
        let matrix = dying.matrix();
        let owner = matrix.home().expect("a slot");
        let live = matrix
            .with_cache(|cache| crate::ipc::structure::Structure::make(matrix.heap(), cache, shape))
            .expect("a slot")
            .expect("there is room");
        let offset = matrix.offsets().offset(live.at);
        let entry = NamedBlock { offset, generation: live.header.generation(), fingerprint: Some(FINGERPRINT_MASK) };
        Directory(matrix.segment()).publish(owner, b"orders", entry).expect("the name is free");
        // SAFETY: no handle of it is used or dropped from here on.
        unsafe { matrix.segment().end_life() };
        std::mem::forget(dying);
        let channel = made.channel::<u64>("orders").open_or_create().expect("it is made anew");
        channel.remove().expect("ours");
        drop(channel);
        assert_eq!(made.stats().expect("they tile").live_blocks, 0, "keep: {keep}");
    }
}

/// One sender and one receiver at a time: the same calls, a second one is refused, and a successor finds what was sent.
#[test]
fn q2_q6_one_sender_and_one_receiver() {
    let handler = handler();
    let line = handler.channel::<u64>("line").capacity(4).single().open_or_create().expect("made");
    let plain = handler.channel::<u64>("line").open_or_create();
    assert!(matches!(plain, Err(Error::TypeMismatch { .. })), "it is a channel of one sender and one receiver");
    let (tx, rx) = (line.sender().expect("the first"), line.receiver().expect("the first"));
    let number = handler.matrix().home().expect("a slot");
    assert!(matches!(line.sender(), Err(Error::RoleTaken { role: "sender", participant }) if participant == number));
    assert!(matches!(line.receiver(), Err(Error::RoleTaken { role: "receiver", .. })));
    assert_eq!(line.ends(), (1, 1), "who was refused is not counted");
    for lap in 0..100 {
        let full = (0..5).map(|k| tx.try_send(handler.message_of(lap * 4 + k).expect("room")));
        assert_eq!(full.filter_map(|sent| Some(sent.err()?.why)).collect::<Vec<_>>(), [Unsent::Full], "Q2");
        assert_eq!(line.len(), 4);
        let got: Vec<_> = rx.try_iter().map(|message| *message).collect();
        assert_eq!(got, (0..4).map(|k| lap * 4 + k).collect::<Vec<_>>(), "Q2");
        assert_eq!((rx.try_recv().err(), line.len()), (Some(Unreceived::Empty), 0));
    }
    tx.send_value(7).expect("room");
    drop(tx);
    let tx = line.sender().expect("the first one has left");
    tx.send_value(8).expect("room");
    drop(rx);
    let rx = line.receiver().expect("the first one has left");
    line.close();
    assert_eq!(tx.try_send(handler.message_of(9).expect("room")).expect_err("closed").why, Unsent::Closed);
    assert_eq!(rx.iter().map(|message| *message).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(rx.try_recv().err(), Some(Unreceived::Closed));
    drop((tx, rx));
    line.remove().expect("ours");
    drop(line);
    nothing_is_left(&handler);
}

/// Both ends die; whoever takes over goes on where they were.
#[test]
fn q3_q6_the_roles_of_the_dead_are_taken_over() {
    let made = handler();
    let line = made.channel::<u64>("line").capacity(4).single().create().expect("made");
    let dying = other(&made);
    let theirs = dying.channel::<u64>("line").single().open().expect("it is there");
    let (tx, rx) = (theirs.sender().expect("the first"), theirs.receiver().expect("the first"));
    assert!(matches!(line.sender(), Err(Error::RoleTaken { .. })), "its holder lives");
    (0..4).for_each(|k| tx.send_value(k).expect("room"));
    let held = rx.recv().expect("it was sent");
    // SAFETY: no handle of it is used or dropped from here on.
    unsafe { dying.matrix().segment().end_life() };
    std::mem::forget(held);
    std::mem::forget((tx, rx, theirs, dying));
    let (tx, rx) = (line.sender().expect("its holder is dead"), line.receiver().expect("its holder is dead"));
    tx.send_value(4).expect("room");
    let got: Vec<_> = rx.try_iter().map(|message| *message).collect();
    assert_eq!(got, [1, 2, 3, 4], "Q3: what the dead receiver held is freed with it");
    drop((tx, rx));
    line.remove().expect("ours");
    drop(line);
    nothing_is_left(&made);
}

/// Batches: as many as there is room for, in their order; what is not sent stays; whoever sleeps is woken.
#[test]
fn q2_q5_batches() {
    let handler = handler();
    let many = handler.channel::<u64>("many").capacity(8).create().expect("made");
    let one = handler.channel::<u64>("one").capacity(8).single().create().expect("made");
    batches(&handler, many.sender().expect("a sender"), many.receiver().expect("a receiver"));
    batches(&handler, one.sender().expect("a sender"), one.receiver().expect("a receiver"));
}

fn batches<M: Mode + Send>(handler: &Handler, tx: Sender<u64, M>, rx: Receiver<u64, M>) {
    let messages =
        |count: u64| -> Vec<Message<'_, u64>> { (0..count).map(|k| handler.message_of(k).expect("room")).collect() };
    let mut twelve = messages(12);
    assert_eq!(tx.try_send_many(&mut twelve), Ok(8));
    assert_eq!((twelve.len(), *twelve[0], tx.try_send_many(&mut twelve)), (4, 8, Err(Unsent::Full)));
    let now = || Some(std::time::Instant::now());
    assert_eq!((tx.send_many_until(&mut twelve, now()), twelve.len()), (Err(Unsent::Timeout), 4));
    let mut got = vec![];
    assert_eq!((rx.try_recv_many(0, &mut got), rx.try_recv_many(5, &mut got)), (Ok(0), Ok(5)));
    assert_eq!(tx.try_send_many(&mut twelve), Ok(4));
    assert_eq!((tx.try_send_many(&mut twelve), twelve.len()), (Ok(0), 0));
    assert_eq!((rx.recv_many(99, &mut got), rx.try_recv_many(9, &mut got)), (Ok(7), Err(Unreceived::Empty)));
    assert_eq!((rx.recv_many_until(9, &mut got, now()), got.len()), (Err(Unreceived::Timeout), 12));
    assert_eq!(got.iter().map(|message| **message).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    let foreign = self::handler();
    let mut mixed = messages(2);
    mixed.insert(1, foreign.message_of(9).expect("room"));
    assert_eq!((tx.try_send_many(&mut mixed), tx.send_many(&mut mixed)), (Ok(1), Err(Unsent::NotOwn)));
    assert_eq!((mixed.len(), rx.try_iter().count()), (2, 1));
    std::thread::scope(|scope| {
        let until = deadline(LONG);
        scope.spawn(move || {
            let mut all = messages(1000);
            let rest = all.split_off(500);
            tx.send_many(&mut all).expect("somebody receives");
            all = rest;
            tx.send_many_until(&mut all, until).expect("somebody receives");
        });
        let (mut sum, mut got) = (0, vec![]);
        while rx.recv_many_until(16, &mut got, until).is_ok() {
            sum += got.drain(..).map(|message| *message).sum::<u64>();
        }
        assert_eq!(sum, 499_500, "Q3");
    });
}

/// Its last user died between its place and the look whether it may be freed: whoever finds the name frees
/// it, whatever he looks for.
#[test]
fn q6_whoever_comes_to_what_is_removed_frees_it() {
    let handler = handler();
    let channel = handler.channel::<u64>("numbers").create().expect("made");
    channel.sender().expect("a sender").send_value(7).expect("room");
    let structure = channel.attached.structure().expect("ours");
    structure.remove();
    structure.leave(handler.matrix().home().expect("a slot"), Role::User);
    std::mem::forget(channel);
    assert_eq!(handler.stats().expect("they tile").live_blocks, 2, "the channel and its message");
    let other = handler.channel::<u32>("numbers").open_or_create().expect("what was removed is in nobody's way");
    other.remove().expect("ours");
    drop(other);
    handler.heal().expect("a slot");
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0);
}

//! Vectors and boxes that become messages where they lie.

use crate::common::{Scratch, rest_is_one_block, segment};
use allocator_api2::boxed::Box;
use atomic_matrix::ipc::{Message, Ref};
use atomic_matrix::{Error, HandlerFunctions};

atomic_matrix::shared! {
    /// Aligned to more than what stands in front of it.
    #[derive(Debug, PartialEq)]
    #[repr(align(64))]
    struct Wide {
        value: [u64; 8],
    }
}

#[test]
fn a_vector_becomes_a_message_where_it_lies_and_is_one_again() {
    let (_scratch, handler) = segment();
    let mut vector = handler.message_vec();
    vector.extend(0..5000u32);
    let first = vector.as_ptr();
    let message = Message::from_vec(vector).expect("it is this thread's");
    assert!(std::ptr::eq(message.as_ptr(), first), "it has not moved");
    assert!(message.iter().copied().eq(0..5000));
    // Read as any message is: its length and its type are said.
    let reference = message.into_ref().expect("a slot");
    assert_eq!(handler.read_slice(reference).expect("live").len(), 5000);
    let other = handler.take_ref(Ref::<[u64]>::from_bits(reference.to_bits()));
    assert!(matches!(other, Err(Error::TypeMismatch { .. })), "{other:?}");
    let mut vector = handler.take_ref(reference).expect("unowned").into_vec().expect("live");
    assert!(vector.len() == 5000 && vector.capacity() >= 5000);
    vector.truncate(10);
    vector.extend_from_slice(&[7; 20_000]);
    vector.shrink_to_fit();
    let message = Message::from_vec(vector).expect("it is this thread's");
    assert_eq!((message.len(), message[9], message[20_009]), (20_010, 9, 7));
    drop(message);
    rest_is_one_block(&handler);
}

#[test]
fn what_is_aligned_to_more_stays_aligned() {
    let (_scratch, handler) = segment();
    let mut vector = handler.message_vec();
    for value in 0..100 {
        vector.push(Wide { value: [value; 8] });
        assert!(vector.as_ptr().is_aligned());
    }
    let message = Message::from_vec(vector).expect("it is this thread's");
    assert_eq!((message.len(), message[99].value[7]), (100, 99));
    let reference = message.into_ref().expect("a slot");
    drop(handler.take_ref(reference).expect("whole"));
    let boxed = Box::new_in(Wide { value: [3; 8] }, &handler);
    let message = Message::from_box(boxed).expect("it is this thread's");
    assert_eq!(message.value, [3; 8]);
    let block = message.into_block();
    assert_eq!(
        handler.get_block::<Wide>(block.offset()).map(|b| b.offset()).expect("it says its type"),
        block.offset()
    );
    handler.free(block);
    rest_is_one_block(&handler);
}

#[test]
fn what_is_empty_or_has_no_bytes_becomes_a_message_too() {
    let (_scratch, handler) = segment();
    let empty = Message::from_vec(handler.message_vec::<u64>()).expect("room");
    assert!(empty.is_empty());
    let mut vector = empty.into_vec().expect("live");
    vector.push(1);
    assert_eq!(Message::from_vec(vector).expect("its own").len(), 1);
    let mut nothings = handler.message_vec::<[u8; 0]>();
    nothings.extend([[]; 9]);
    let message = Message::from_vec(nothings).expect("room");
    assert_eq!(message.into_vec().expect("live").len(), 9);
    let block = Message::from_box(Box::new_in([0u8; 0], &handler)).expect("as any message").into_block();
    assert_eq!(handler.load(&block).expect("it has a block"), [0u8; 0]);
    handler.free(block);
    rest_is_one_block(&handler);
}

/// Another thread fills it: its block is that thread's, and becomes this one's.
#[test]
fn a_vector_of_another_thread_becomes_a_message() {
    let (_scratch, handler) = segment();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (vectors, filled) = std::sync::mpsc::channel();
        let of = &handler;
        scope.spawn(move || {
            for length in [10u32, 1000, 30_000] {
                let mut vector = of.message_vec();
                vector.extend(0..length);
                vectors.send(vector).expect("it is waited for");
            }
            // It lives on while its blocks are another's.
            let _ = wait.recv();
        });
        for _ in 0..3 {
            let mut vector = filled.recv().expect("three are sent");
            vector.push(7);
            let message = Message::from_vec(vector).expect("it is adopted");
            assert_eq!(message[message.len() - 1], 7);
        }
        drop(go);
    });
    rest_is_one_block(&handler);
}

/// What was built in place is received, in another mapping, without a copy.
#[test]
fn a_vector_goes_through_a_channel() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(4 << 20).create().expect("new");
    let other = scratch.attach();
    let sender = handler.channel::<[u64]>("built").create().and_then(|channel| channel.sender()).expect("new");
    let receiver = other.channel::<[u64]>("built").open().and_then(|channel| channel.receiver()).expect("there");
    let mut vector = handler.message_vec();
    vector.extend(0..70_000u64);
    let message = Message::from_vec(vector).expect("its own");
    let offset = message.offset();
    sender.send(message).expect("room");
    let message = receiver.recv().expect("one is there");
    assert_eq!((message.offset(), message.len(), message[69_999]), (offset, 70_000, 69_999));
    // The receiver goes on with it as with a vector of its own.
    let vector = message.into_vec().expect("live");
    assert_eq!(vector.len(), 70_000);
    drop(vector);
}

/// The block of a vector is freed by its offset meanwhile, which is misuse: told, and nothing of others is touched.
#[test]
fn a_vector_whose_block_is_gone_is_no_message() {
    let (_scratch, handler) = segment();
    let mut vector = handler.message_vec();
    vector.extend([7u64; 100]);
    let block = handler.pointer_to(vector.as_ptr().cast::<u8>().wrapping_sub(16)).expect("it begins there");
    handler.free_raw(block).expect("live");
    let told = Message::from_vec(vector);
    assert!(matches!(told, Err(Error::NotLive { .. })), "{told:?}");
    let boxed = Box::new_in([7u64; 100], &handler);
    let block = handler.pointer_to((&raw const *boxed).cast()).expect("it begins there");
    handler.free_raw(block).expect("live");
    assert!(matches!(Message::from_box(boxed), Err(Error::NotLive { .. })));
    let message = handler.message_slice::<u64>(100).expect("room");
    handler.free_at(message.offset()).expect("live");
    assert!(matches!(message.into_vec(), Err(Error::NotLive { .. })));
    rest_is_one_block(&handler);
}

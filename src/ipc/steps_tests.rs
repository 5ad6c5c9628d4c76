//! Single steps of rings, logs, holds and tables, in states that only a death or another's step leaves behind; and what
//! is told of words that no step writes (C2).

use super::link::{Cell, Link};
use super::log::{Log, Lowest, ReadStatus};
use super::ring::{NotReceived, NotSent, Ring};
use super::structure::*;
use super::table::{By, Key, Table};
use crate::backend::decorators::{Probe, interrupted_at};
use crate::backend::orderings::*;
use crate::backend::{Native, Word};
use crate::matrix::heap::{Heap, Kind, Live, ThreadCache};
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::{BoxedRegion, Region};
use std::sync::Arc;

type Own = BoxedRegion<Probe<Native>>;

fn heap() -> Arc<Heap<Own>> {
    Arc::new(super::testing::heap())
}

/// A structure that is everybody's.
fn made(heap: &Heap<Own>, sort: Sort, cells_shift: u32, readers: u16) -> Live {
    let mut cache = ThreadCache::new(4);
    let shape = Shape { sort, cells_shift, readers, content: 7 };
    let made = Structure::make(heap, &mut cache, shape).expect("room");
    made.of(0)
}
fn at(heap: &Heap<Own>, made: Live) -> Structure<'_, Own> {
    Structure::at(heap, made).expect("it was made")
}
fn block(heap: &Heap<Own>, cache: &mut ThreadCache) -> Live {
    heap.allocate(cache, 4, 1, Kind::Raw).expect("room")
}

#[test]
fn q5_senders_and_receivers_have_a_bell_each() {
    let heap = heap();
    let structure = at(&heap, made(&heap, Sort::Topic, 1, 2));
    let (senders, receivers) = (structure.bell(Role::Sender), structure.bell(Role::Receiver));
    let asleep = (senders.count_in(), receivers.count_in());
    senders.ring(1);
    assert_eq!((senders.has_rung(asleep.0), receivers.has_rung(asleep.1)), (true, false));
    assert!(structure.reader(1).is_some() && structure.reader(2).is_none(), "as many cursors as it was made with");
    assert!(!structure.is_hidden());
    let channel = at(&heap, made(&heap, Sort::Channel, 1, 0));
    assert!(!channel.is_hidden(), "it has a name");
    channel.hide();
    assert!(channel.is_hidden());
    channel.remove();
    assert!(!channel.is_hidden());
}

/// Who waits for the end looks at the users when the state changes: the first close changes it once.
#[test]
fn q5_a_close_is_one_change() {
    let heap = heap();
    let structure = at(&heap, made(&heap, Sort::Channel, 1, 0));
    let before = structure.state();
    let closed = (before + (1 << CHANGES_AT)) | CLOSED;
    for _ in 0..2 {
        Ring::of(structure).close();
        assert_eq!(structure.state(), closed);
    }
}

#[test]
fn l3_a_visit_names_its_block_until_it_ends() {
    let heap = heap();
    let made = made(&heap, Sort::Channel, 1, 0);
    heap.header(made.at).store(made.header.0, &OWN_STORE);
    let word = heap.region().word(heap.layout().slot(2, SlotWord::Visiting));
    let told = Structure::visit(&heap, 2, made, |_| word.load(&VISIT_LOOK));
    assert_eq!(told, Some(u64::from(made.header.generation()) << 32 | u64::from(made.at.0 + 1)));
    assert_eq!(word.load(&VISIT_LOOK), 0);
}

/// Wherever a batch is overtaken by the receiver that makes room for it: each message is sent once.
#[test]
fn q3_each_message_of_a_batch_is_sent_once() {
    for k in 0.. {
        let heap = heap();
        let made = made(&heap, Sort::Channel, 0, 0);
        let mut cache = ThreadCache::new(1);
        let (first, second) = (block(&heap, &mut cache), block(&heap, &mut cache));
        Ring::of(at(&heap, made)).send(1, first).expect("room");
        let other = Arc::clone(&heap);
        let receive = move || assert!(Ring::of(at(&other, made)).receive(2).is_ok_and(|got| got.live.at == first.at));
        let send = || Ring::of(at(&heap, made)).send_many(1, |sent| (sent == 0).then_some(second));
        let (sent, interrupted) = interrupted_at(k, receive, send);
        let got = Ring::of(at(&heap, made)).receive(2).map(|got| got.live.at);
        match sent {
            (1, Ok(())) => assert_eq!(got, Ok(second.at), "overtaken at {k}"),
            (0, Err(NotSent::Full)) => {
                assert_eq!(got, if interrupted { Err(NotReceived::Empty) } else { Ok(first.at) })
            }
            sent => panic!("{sent:?}, overtaken at {k}"),
        }
        if !interrupted {
            break;
        }
    }
}

/// The one sender died before it said that it had sent, or the one receiver before it said that it had taken.
#[test]
fn c1_the_one_sender_and_the_one_receiver_go_on_where_the_dead_ones_were() {
    let heap = heap();
    let structure = at(&heap, made(&heap, Sort::Single, 1, 0));
    let (ring, mut cache) = (Ring::of(structure), ThreadCache::new(1));
    let blocks: [Live; 4] = std::array::from_fn(|_| block(&heap, &mut cache));
    ring.send(1, blocks[0]).expect("room");
    structure.field(TAIL).store(0, &TICKET_TELL);
    ring.send(1, blocks[1]).expect("room");
    assert_eq!(structure.field(TAIL).load(&TICKET_LOOK), 2);
    assert_eq!(ring.send(1, blocks[2]), Err(NotSent::Full));
    assert_eq!(ring.receive(2).map(|got| got.live.at), Ok(blocks[0].at));
    ring.send(1, blocks[2]).expect("room");
    structure.field(HEAD).store(0, &TICKET_TELL);
    assert_eq!(ring.receive(2).map(|got| got.live.at), Ok(blocks[1].at), "the first cell is filled again");
    assert_eq!(structure.field(HEAD).load(&TICKET_LOOK), 2);
    structure.field(HEAD).store(1, &TICKET_TELL);
    assert_eq!(ring.receive(2).map(|got| got.live.at), Ok(blocks[2].at), "taken, and not said");
    assert_eq!(ring.receive(2).map(|got| got.live.at), Err(NotReceived::Empty));
}

#[test]
fn c2_a_single_ring_whose_cells_are_of_no_lap_is_damaged() {
    let heap = heap();
    let structure = at(&heap, made(&heap, Sort::Single, 1, 0));
    let (ring, mut cache) = (Ring::of(structure), ThreadCache::new(1));
    let third = block(&heap, &mut cache);
    let cell = ring.cells.at(0);
    cell.store(Cell::Empty(7).word(), &STRUCTURE_WRITE);
    assert_eq!(ring.receive(2).map(|got| got.live.at), Err(NotReceived::Damaged));
    // A block that is nowhere, as if it had been taken.
    let link = ring.link(ring.cells.n() * 7, 1, third);
    cell.store(Cell::Link(Link::new(link.lap(), 3, link.generation(), link.at())).word(), &STRUCTURE_WRITE);
    assert_eq!(ring.send(1, third), Err(NotSent::Damaged));
    assert_eq!(ring.receive(2).map(|got| got.live.at), Err(NotReceived::Damaged));
}

/// A log's readers, one of them for each that holds a cursor; and who has no right to publish.
#[test]
fn s5_a_log_takes_its_publishers_own_blocks() {
    let heap = heap();
    let log = Log::of(at(&heap, made(&heap, Sort::Topic, 2, 2)));
    let (mut mine, mut theirs) = (ThreadCache::new(1), ThreadCache::new(2));
    let (own, other) = (block(&heap, &mut mine), block(&heap, &mut theirs));
    let mut lowest = Lowest::default();
    assert_eq!(log.publish(&mut mine, other, &mut lowest), Err(NotSent::NotOwn));
    log.publish(&mut mine, own, &mut lowest).expect("room");
    assert_eq!(log.readers().count(), 0);
    let index = log.join(3, 1).expect("a cursor");
    assert_eq!(log.readers().collect::<Vec<_>>(), [(3, 0)]);
    assert!(matches!(log.look(index), ReadStatus::Block(live, _) if live.at == own.at));
}

/// What is published last was freed by somebody who had no right to, or is damaged: there is none, and nobody waits.
#[test]
fn c2_a_newest_publication_that_is_gone_is_none() {
    let heap = heap();
    let structure = at(&heap, made(&heap, Sort::Board, 1, 0));
    let (log, mut cache) = (Log::of(structure), ThreadCache::new(1));
    let published = block(&heap, &mut cache);
    log.publish(&mut cache, published, &mut Lowest::default()).expect("room");
    assert!(log.newest_unhelped().is_some_and(|(live, _, ticket)| (live.at, ticket) == (published.at, 0)));
    let header = heap.header(published.at);
    header.store(0, &OWN_STORE);
    assert_eq!(log.newest_unhelped().map(|(_, _, ticket)| ticket), None);
    structure.field(TAIL).store(9, &TICKET_TELL);
    assert_eq!(log.newest_unhelped().map(|(_, _, ticket)| ticket), None);
}

/// L-c: what a dead publisher had put in counts, and a word whose block is taken is emptied once, at the tail.
#[test]
fn c1_a_log_is_settled_and_says_what_was_found() {
    let heap = heap();
    let structure = at(&heap, made(&heap, Sort::Topic, 1, 1));
    let (log, mut cache) = (Log::of(structure), ThreadCache::new(1));
    let (first, second) = (block(&heap, &mut cache), block(&heap, &mut cache));
    let link =
        |ticket: u64, live: Live| Link::new(ticket >> 1, 1, Heap::<Own>::linked_generation(live.header), live.at);
    let cells = Ring::of(structure).cells;
    // Two links of the dead one's: put in, and not let go yet.
    for (ticket, live) in [(0, first), (1, second)] {
        cells.at(ticket).store(Cell::Link(link(ticket, live)).word(), &STRUCTURE_WRITE);
    }
    structure.field(TAIL).store(2, &TICKET_TELL);
    let mut settled = Settled::default();
    log.settle(1, &mut settled);
    assert_eq!((settled.links, settled.void_words), (2, 0));
    // The oldest was taken out by a publisher that died before it emptied the cell.
    let live = heap.live_at(first.at).expect("it is linked");
    let taken = heap.take_link(2, link(0, first), live.header).expect("nobody is quicker");
    assert_eq!(taken.live.at, first.at);
    log.settle(2, &mut settled);
    assert_eq!((settled.links, settled.void_words), (2, 1));
    assert_eq!(Cell::of(cells.at(0).load(&CELL_LOOK)), Cell::Empty(2));
    // Who would read what was there is told that it has missed it.
    let mut missed = 0;
    assert_eq!((log.look_from(&mut missed), missed), (ReadStatus::Lagged(1), 1));
}

/// Others' holds keep the end away, one's own do not; each return is counted once, and what is free is told once.
#[test]
fn q6_holds_are_told_apart_and_counted() {
    let heap = heap();
    let structure = at(&heap, made(&heap, Sort::Redelivering, 2, 4));
    let (ring, mut cache) = (Ring::of(structure), ThreadCache::new(1));
    let word = |field| structure.field(field).load(&STRUCTURE_LOOK);
    let counts = || (word(RETURNED), word(SCANNED));
    ring.send(1, block(&heap, &mut cache)).expect("room");
    assert!(!ring.is_empty() && !ring.others_hold(2));
    let (_, hold) = ring.receive_held(2).expect("sent");
    assert!(ring.is_empty());
    assert_eq!((ring.others_hold(2), ring.others_hold(3)), (false, true));
    assert_eq!(word(WANTED), 1, "the end is waited for");
    let bell = structure.bell(Role::Receiver);
    let asleep = bell.count_in();
    ring.give_back(hold);
    assert!(bell.has_rung(asleep));
    bell.leave(asleep);
    assert_eq!(counts(), (1, 0));
    let (_, hold) = ring.receive_held(3).expect("given back");
    assert_eq!(hold.deliveries(), 2);
    let asleep = bell.count_in();
    ring.acknowledge(hold);
    assert_eq!((bell.has_rung(asleep), word(WANTED)), (true, 0), "who waits for the end is told");
    bell.leave(asleep);
    ring.give_back(hold);
    assert_eq!(counts(), (1, 0), "it was acknowledged, and does not go back");
    assert_eq!(ring.receive_held(2).err(), Some(NotReceived::Empty));
    assert_eq!(counts(), (1, 1), "all holds were looked at: the next receiver need not");
    // Somebody is about to take a message.
    let about = Link::new(0, 3, 9, Granule(9));
    structure.holds()[1].store(Cell::Link(about).word(), &STRUCTURE_WRITE);
    assert_eq!((ring.others_hold(2), ring.others_hold(3)), (true, false));
    // Dead, it had nothing: nothing is given back.
    let mut settled = Settled::default();
    ring.settle_holds(3, &mut settled);
    assert_eq!((settled.returned, counts(), ring.others_hold(2)), (0, (1, 1), false));
    // Each receiver looks for a free one in a place of its own.
    let apart = at(&heap, made(&heap, Sort::Redelivering, 2, 64));
    for receiver in 1..=3 {
        Ring::of(apart).send(1, block(&heap, &mut cache)).expect("room");
        Ring::of(apart).receive_held(receiver).expect("sent");
    }
    let used: Vec<_> = (0..64).filter(|&at| apart.holds()[at].load(&CELL_LOOK) != 0).collect();
    assert!(used.windows(2).all(|pair| pair[1] > pair[0] + 1), "{used:?}");
    // Nobody waits: nobody is told.
    structure.field(WANTED).fetch_and(0, &STRUCTURE_CHANGE);
    ring.send(1, block(&heap, &mut cache)).expect("room");
    let (_, hold) = ring.receive_held(2).expect("sent");
    let asleep = bell.count_in();
    ring.acknowledge(hold);
    assert!(!bell.has_rung(asleep));
}

/// A label has its place behind the value, or is refused; a table says what is in it.
#[test]
fn m1_a_table_says_what_is_in_it() {
    let heap = heap();
    let map = made(&heap, Sort::Map, 4, 2);
    let table = Table::of(at(&heap, map));
    assert!(table.is_empty());
    let mut cache = ThreadCache::new(1);
    let (block, cursor) = (block(&heap, &mut cache), table.hold(1).expect("a cursor"));
    let long = Key { hash: 3, bytes: &[7; 100] };
    assert!(!table.write_label(block, &long), "it is longer than the block");
    let key = Key { hash: 3, bytes: b"key" };
    assert!(table.write_label(block, &key));
    let mut by = By { cache: &mut cache, cursor, home: 1 };
    assert_eq!(table.put(&mut by, block, &key, super::table::When::Absent), Ok(None));
    assert!(!table.is_empty() && table.len() == 1);
    assert!(table.get(&mut by, &key).is_some_and(|(live, _)| live.at == block.at));
    // Freed by somebody who had no right to, and somebody else's by now.
    let live = heap.live_at(block.at).expect("it is linked");
    let theirs =
        crate::matrix::block_header::Header::new(live.header.state(), 2, live.header.generation(), live.header.low());
    heap.header(block.at).store(theirs.0, &OWN_STORE);
    assert!(table.get(&mut by, &key).is_none());
    // Two places that a dead one has prepared, and no turn has filled.
    let places = &Ring::of(at(&heap, map)).cells;
    for place in [5, 6] {
        places.at(place).store(Cell::Link(Link::new(0, 3, 1, Granule(9))).word(), &STRUCTURE_WRITE);
    }
    let mut settled = Settled::default();
    table.settle(3, 1, None, &mut settled);
    assert_eq!(settled.void_words, 2);
}

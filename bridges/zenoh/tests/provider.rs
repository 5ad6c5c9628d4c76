//! Zenoh's publications lie in AtomicMatrix segments, on both sides, whoever is killed.
#![allow(missing_docs)]

mod common;

use atomic_matrix_zenoh::{Client, PROTOCOL, Provider, clients, sweep};
use common::{LONG, Other, config, file_of, free_port, is_mapped, name_of, until};
use std::time::{Duration, Instant};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;
use zenoh::shm::{
    AllocAlignment, Defragment, GarbageCollect, ShmClient, ShmProvider, ShmProviderBackend, ShmProviderBuilder, ZShmMut,
};
use zenoh::{Session, Wait};

const KEY: &str = "tests/frames";
/// Of publications: each byte of one says which it is.
const SIZES: [usize; 4] = [100, 4096, 1 << 20, 5_000_001];
/// How the names of providers' segments begin.
const FILES: &str = "atomic-matrix-7a656e6f-0001-8000-8000-0000";

type Frames = Subscriber<FifoChannelHandler<Sample>>;

fn provider(bytes: usize) -> ShmProvider<Provider> {
    ShmProviderBuilder::backend(Provider::new(bytes).expect("there is room")).wait()
}

/// A buffer once nobody holds the former ones: what nobody holds is collected before it is refused.
fn buffer(provider: &ShmProvider<Provider>, bytes: usize) -> ZShmMut {
    provider.alloc(bytes).with_policy::<Defragment<GarbageCollect>>().wait().expect("the former ones are free")
}

fn listening() -> (Session, Frames, u16) {
    let port = free_port();
    let end = format!("tcp/127.0.0.1:{port}");
    let session = zenoh::open(config(Some(&end), None)).with_shm_clients(clients()).wait().expect("the port is free");
    let frames = session.declare_subscriber(KEY).wait().expect("it is a key");
    (session, frames, port)
}

/// The next publication that is no copy: zenoh refuses what a stopped receiver takes too late.
fn next(frames: &Frames) -> Sample {
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        if let Ok(Some(sample)) = frames.recv_timeout(Duration::from_millis(100))
            && sample.payload().as_shm().is_some()
        {
            return sample;
        }
    }
    panic!("nothing was received for a minute");
}

fn lies_in_a_segment(bytes: &[u8]) -> bool {
    name_of(file_of(bytes)).is_some_and(|name| name.starts_with(FILES))
}

fn check(bytes: &[u8]) {
    let which = SIZES.iter().position(|&size| size == bytes.len()).expect("it is one of them");
    assert!(bytes.iter().all(|&byte| byte == which as u8), "what was published stays");
}

/// What the other tests start as a process of its own.
#[test]
fn other_process() {
    let Ok(role) = std::env::var("ROLE") else { return };
    let end = format!("tcp/127.0.0.1:{}", std::env::var("PORT").expect("it is given"));
    let config = config(None, Some(&end));
    let session = zenoh::open(config).with_shm_clients(clients()).wait().expect("somebody listens");
    if role == "holds" {
        let frames = session.declare_subscriber(KEY).wait().expect("it is a key");
        let _held = next(&frames);
        session.put("tests/held", "").wait().expect("it is open");
        std::thread::sleep(LONG);
    }
    let provider = provider(32 << 20);
    for which in (0..SIZES.len()).cycle() {
        let mut frame = buffer(&provider, SIZES[which]);
        frame.fill(which as u8);
        assert!(lies_in_a_segment(&frame));
        session.put(KEY, frame).wait().expect("it is open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn publications_are_read_where_they_were_written() {
    let (_session, frames, port) = listening();
    let _other = Other::start("publishes", port);
    let mut seen = [false; SIZES.len()];
    while seen.contains(&false) {
        let sample = next(&frames);
        let bytes: &[u8] = sample.payload().as_shm().expect("it was not copied");
        check(bytes);
        assert!(lies_in_a_segment(bytes));
        seen[usize::from(bytes[0])] = true;
    }
}

#[test]
fn a_killed_providers_buffers_are_read_on_and_its_memory_goes_with_them() {
    let (_session, frames, port) = listening();
    let mut other = Other::start("publishes", port);
    let held: Vec<Sample> = (0..4).map(|_| next(&frames)).collect();
    let bytes = |sample: &Sample| -> Vec<u8> { sample.payload().to_bytes().into_owned() };
    let file = file_of(held[0].payload().as_shm().expect("it was not copied"));
    other.kill();
    let _new = provider(1 << 20);
    assert_eq!(name_of(file), None, "whoever comes removes its name");
    held.iter().for_each(|sample| check(&bytes(sample)));
    // Whoever still holds one keeps the mapping, whatever comes.
    while frames.try_recv().is_ok_and(|more| more.is_some()) {}
    let mut second = Other::start("publishes", port);
    drop(next(&frames));
    assert!(is_mapped(file));
    held.iter().for_each(|sample| check(&bytes(sample)));
    drop(held);
    second.kill();
    while frames.try_recv().is_ok_and(|more| more.is_some()) {}
    let _third = Other::start("publishes", port);
    until("nobody has a buffer of it, and another provider was met", || {
        drop(next(&frames));
        !is_mapped(file)
    });
}

#[test]
fn what_a_killed_receiver_held_is_kept_from_safe_collections() {
    let (session, frames, port) = listening();
    drop(frames);
    let holding = session.declare_subscriber("tests/held").wait().expect("it is a key");
    let provider = provider(16 << 20);
    let mut other = Other::start("holds", port);
    let mut holds = false;
    until("it holds one", || {
        // What it has not looked at yet is kept, too.
        if let Ok(mut frame) = provider.alloc(SIZES[2]).wait() {
            frame.fill(2);
            session.put(KEY, frame).wait().expect("it is open");
        }
        holds |= holding.try_recv().is_ok_and(|held| held.is_some());
        holds
    });
    other.kill();
    provider.garbage_collect();
    let without = provider.available();
    until("zenoh has noticed", || {
        provider.garbage_collect();
        assert_eq!(provider.available(), without, "nobody may take what a receiver may be reading");
        // SAFETY: the receiver was killed, so nobody reads it.
        unsafe { provider.garbage_collect_unsafe() >= SIZES[2] }
    });
    assert!(provider.available() >= without + SIZES[2]);
    until("it has all of it again", || {
        // SAFETY: as above.
        unsafe { provider.garbage_collect_unsafe() };
        provider.alloc(12 << 20).wait().is_ok()
    });
}

#[test]
fn threads_allocate_and_free_at_once_and_all_of_it_comes_back() {
    let provider = provider(16 << 20);
    let all = provider.available();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let provider = &provider;
            scope.spawn(move || {
                let mut held = vec![];
                for round in 0..2000_usize {
                    let mut one = buffer(provider, 1 + (round * 7919 + thread * 104_729) % 50_000);
                    one.fill(thread as u8);
                    held.push(one);
                    if held.len() > 20 {
                        let old = held.swap_remove(round % 20);
                        assert!(old.iter().all(|&byte| byte == thread as u8), "nobody else has it");
                    }
                }
            });
        }
    });
    provider.garbage_collect();
    assert!(provider.defragment() >= all - 4096, "one block is left");
    assert_eq!(provider.available(), all);
    drop(buffer(&provider, all - 8192));
}

#[test]
fn what_cannot_be_had_is_refused() {
    let back_end = Provider::new(1 << 20).expect("there is room");
    let segment = back_end.segment();
    let attached = Client::default().attach(segment).expect("it is there");
    let block = back_end.handler().allocate_raw(100).expect("there is room");
    assert_ne!(attached.map(block.offset()).expect("it is live"), back_end.handler().resolve(&block), "mapped again");
    back_end.handler().free_raw(block).expect("it is live");
    assert!(attached.map(block.offset()).is_err(), "it was freed");
    assert!(attached.map(u32::MAX).is_err(), "it lies outside");
    let provider = ShmProviderBuilder::backend(back_end).wait();
    assert!(provider.alloc(2 << 20).wait().is_err(), "it is larger than the segment");
    let page = AllocAlignment::new(12).expect("a page");
    let aligned = provider.alloc((8192_usize, page)).wait().expect("there is room");
    assert!(aligned.as_ptr().addr().is_multiple_of(4096));
    let larger = AllocAlignment::new(13).expect("two pages");
    assert!(provider.alloc((8192_usize, larger)).wait().is_err());
    drop(provider);
    assert!(Client::default().attach(segment).is_err(), "its name is gone with it");
    assert_eq!(PROTOCOL >> 8, 0x0041_4d78);
}

#[test]
fn names_of_the_living_are_left_alone() {
    let back_end = Provider::new(1 << 16).expect("there is room");
    sweep();
    let path = back_end.handler().matrix().segment().path().expect("it has a name").to_owned();
    assert!(path.ends_with(format!("{FILES}{:08x}", back_end.segment())) && path.exists());
    assert!(back_end.available() > 0 && back_end.defragment() > 0);
}

#[test]
fn whoever_has_no_client_for_it_gets_copies() {
    let port = free_port();
    let end = format!("tcp/127.0.0.1:{port}");
    let session = zenoh::open(config(Some(&end), None)).wait().expect("the port is free");
    let frames = session.declare_subscriber(KEY).wait().expect("it is a key");
    let _other = Other::start("publishes", port);
    let sample = frames.recv_timeout(LONG).expect("it is open").expect("it was published");
    check(&sample.payload().to_bytes());
    assert!(!sample.payload().as_shm().is_some_and(|bytes| lies_in_a_segment(bytes)));
}

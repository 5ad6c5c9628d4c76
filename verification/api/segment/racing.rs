//! Many creators at the same moment: one formats, all get the same segment, nothing stays behind.

use crate::support::{Dir, Id, MIB, Mount, argument, child, mark, succeed};
use atomic_matrix::Error;
use atomic_matrix::backend::{Word, orderings};
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::SlotWord;
use atomic_matrix::segment::region::{MappedRegion, Region};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

const PROCESSES: usize = 4;
const ROUNDS: usize = 150;
/// A racer that waits this long for the others has lost them: a failure, and no process stays behind.
const LOST: Duration = Duration::from_secs(60);

/// What a heap would write: something in each region that must be seen as a whole.
fn format(region: &MappedRegion) {
    for entry in 0..region.layout().params.directory {
        region.word(region.layout().directory(entry, 0)).store(1, &orderings::FORMAT);
    }
}

/// Whether a segment is wholly formatted, and counts the caller in it: returns how many came before.
fn join(segment: &impl Region) -> u64 {
    let layout = segment.layout();
    for entry in 0..layout.params.directory {
        assert_eq!(segment.word(layout.directory(entry, 0)).load(&orderings::DIR_LOOK), 1);
    }
    segment.word(layout.slot(0, SlotWord::Pid)).fetch_add(1, &orderings::SLOT_CLAIM)
}

#[test]
fn threads_race_to_create() {
    const THREADS: usize = 4;
    for round in 0..300 {
        let dir = Dir::new();
        let options = Options::new().path(&dir.0).id(Uuid::new_v4()).size(256 << 10).named_creation(round % 3 == 0);
        let (start, created) = (Barrier::new(THREADS), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    let segment = options.open_or_create_segment_with(format).expect("created or attached");
                    created.fetch_add(usize::from(segment.created()), Ordering::Relaxed);
                    join(&segment);
                });
            }
        });
        assert_eq!(created.into_inner(), 1, "round {round}");
        let last = options.attach_segment().expect("attached");
        assert_eq!(join(&last), THREADS as u64, "all were in the same segment");
        assert_eq!(dir.names().len(), 1);
    }
}

/// There is room for one, and its maker has just taken that: it will be there before long. Rounds in which that took
/// long do not count.
#[test]
fn whose_space_this_very_segments_maker_has_taken_waits_for_it() {
    const SOON: Duration = Duration::from_millis(50);
    let Some(mount) = Mount::new("tmpfs", "size=1m") else { return };
    let mut counted = 0;
    for _ in 0..100 {
        let options = Options::new().path(mount.path()).id(Uuid::new_v4()).size(MIB * 3 / 4);
        let (begun, mut since) = (Barrier::new(2), Instant::now());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                begun.wait();
                options.open_or_create_segment_with(format)
            });
            let made = options.create_segment_with(|region| {
                format(region);
                since = Instant::now();
                begun.wait();
                std::thread::sleep(Duration::from_millis(5));
            });
            let made = made.expect("there is room for one");
            let took = since.elapsed();
            let found = other.join().expect("no panic");
            if took < SOON {
                assert!(!found.expect("it is there by now").created());
                counted += 1;
            }
            made.unlink().expect("it is ours");
        });
        if counted == 5 {
            return;
        }
    }
    println!("{counted} rounds count: a busy machine");
}

#[test]
fn plain_creation_has_one_winner() {
    for round in 0..100 {
        let id = Id::new();
        let start = Barrier::new(4);
        let won: usize = std::thread::scope(|scope| {
            let create = || {
                start.wait();
                match id.options().size(256 << 10).named_creation(round % 2 == 0).create_segment() {
                    Ok(_) => 1,
                    Err(Error::AlreadyExists { .. }) => 0,
                    Err(e) => panic!("{e}"),
                }
            };
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            racers.into_iter().map(|racer| racer.join().expect("no panic")).sum()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn processes_race_to_create() {
    let dir = Dir::new();
    let racers: Vec<_> = (0..PROCESSES).map(|_| child("racing::racer", dir.0.to_str().expect("text"))).collect();
    let created: usize =
        racers.into_iter().map(|racer| succeed(racer).lines().filter(|line| line.contains("CREATED")).count()).sum();
    assert_eq!(created, ROUNDS, "each segment was created once");
    for round in 0..ROUNDS {
        let options = Options::new().path(&dir.0).id(Uuid::from_u128(round as u128 + 1));
        assert_eq!(join(&options.attach_segment().expect("attached")), PROCESSES as u64, "round {round}");
    }
    assert_eq!(dir.names().len(), ROUNDS);
}

/// All racers walk through the same ids; each round begins when the one before has everybody, so they stay together.
#[test]
#[ignore = "a role: one of several creators"]
fn racer() {
    let Some(dir) = argument() else { return };
    for round in 0..ROUNDS as u128 {
        let options = Options::new().path(&dir).id(Uuid::from_u128(round + 1)).size(256 << 10);
        let segment = options.named_creation(round % 3 == 0).open_or_create_segment_with(format).expect("either");
        if segment.created() {
            println!("CREATED {round}");
        }
        join(&segment);
        let count = segment.word(segment.layout().slot(0, SlotWord::Pid));
        let since = Instant::now();
        while count.load(&orderings::DIR_LOOK) < PROCESSES as u64 {
            assert!(since.elapsed() < LOST, "the others are not in this segment: round {round}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn creators_and_unlinkers_race() {
    let dir = Dir::new();
    let options = Options::new().path(&dir.0).id(Uuid::new_v4()).size(256 << 10);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match options.open_or_create_segment_with(format) {
                        Ok(segment) => {
                            join(&segment);
                            match segment.unlink() {
                                Ok(()) | Err(Error::NameReplaced { .. }) => {}
                                Err(e) => panic!("{e}"),
                            }
                            if done.fetch_add(1, Ordering::Relaxed) > 3_000 {
                                stop.store(true, Ordering::Relaxed);
                            }
                        }
                        Err(Error::Raced { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            });
        }
    });
    let _ = options.attach_segment().map(|segment| segment.unlink());
    assert_eq!(dir.names(), Vec::<String>::new());
}

#[test]
fn an_unlinker_never_takes_anothers_name() {
    for _ in 0..200 {
        let id = Id::new();
        let old = id.options().size(256 << 10).create_segment().expect("created");
        let second = id.options().attach_segment().expect("attached");
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                old.unlink().expect("ours");
                let new = id.options().size(MIB).create_segment().expect("created anew");
                mark(&new, Some(1));
                assert!(id.path().exists(), "the new name was taken away");
            });
            scope.spawn(|| {
                start.wait();
                match second.unlink() {
                    Ok(()) | Err(Error::NameReplaced { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            });
        });
        assert_eq!(id.options().attach_segment().expect("there").len(), MIB);
    }
}

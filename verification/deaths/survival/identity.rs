//! Which segment it is: the name and the id may come to mean another one.

use crate::common::{MIB, Scratch};
use crate::participants::eventually;
use crate::support::{Dir, argument, child, succeed};
use atomic_matrix::Error;
use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::segment::Options;

/// A cleaner removes the name while the segment is in use, and the next process makes the id again: two
/// populations under one id.
#[test]
fn the_id_is_made_again_while_the_former_segment_is_used() {
    let scratch = Scratch::new();
    let bootstrap = || scratch.options().size(MIB).open_or_create().expect("made or joined");
    let former = bootstrap();
    let mut block = former.allocate::<u64>().expect("room");
    former.store(&mut block, 1).expect("live");
    std::fs::remove_file(former.matrix().segment().path().expect("a name")).expect("removed");
    let newcomer = bootstrap();
    let mut same_place = newcomer.allocate::<u64>().expect("room");
    newcomer.store(&mut same_place, 2).expect("live");
    assert_eq!((former.id(), block.offset()), (newcomer.id(), same_place.offset()), "only the creation differs");
    assert_ne!(former.creation(), newcomer.creation());
    for (handler, foreign, own) in [(&former, same_place.pointer(), 1), (&newcomer, block.pointer(), 2)] {
        let freed = handler.free_raw(foreign.cast());
        assert!(matches!(freed, Err(Error::ForeignBlock { .. })), "{freed:?}");
        let mine = handler.get_block::<u64>(foreign.offset()).expect("an offset alone can't tell");
        assert_eq!(handler.load(&mine).expect("live"), own);
    }
    let unlinked = former.unlink();
    assert!(matches!(unlinked, Err(Error::NameReplaced { .. })), "{unlinked:?}");
}

/// The name is gone, and a process that is still there has the segment: whoever asks for it gets in, from
/// another process as well.
#[test]
fn a_segment_that_lost_its_name_is_joined_again() {
    let scratch = Scratch::new();
    let first = scratch.options().size(MIB).create().expect("created");
    let attached = scratch.attach();
    let mut block = first.allocate::<u64>().expect("room");
    first.store(&mut block, 1).expect("live");
    std::fs::remove_file(first.matrix().segment().path().expect("a name")).expect("removed");
    succeed(child("identity::joins_again", &format!("{} {} {}", scratch.0, first.creation(), block.offset())));
    assert_eq!(first.load(&block).expect("live"), 2, "the child wrote into the same segment");
    let not_asked = scratch.options().attach();
    assert!(matches!(not_asked, Err(Error::NotFound { .. })), "{not_asked:?}");
    drop((first, attached));
    // A process that another test is just starting has the file until it runs its program.
    eventually("nobody has it, and a new one is made", || {
        let handler = scratch.options().size(MIB).rejoin(true).open_or_create().expect("joined or made");
        handler.matrix().segment().created()
    });
}

#[test]
#[ignore = "a role: asks for a segment that has lost its name"]
fn joins_again() {
    let Some(argument) = argument() else { return };
    let [id, creation, offset] = argument.split(' ').collect::<Vec<_>>()[..] else { panic!("{argument}") };
    let options = Options::new().id(id.parse().expect("an id")).size(MIB).rejoin(true);
    let handler = options.open_or_create().expect("joined");
    assert_eq!(handler.creation().to_string(), creation);
    assert!(!handler.matrix().segment().created());
    let mut block = handler.get_block::<u64>(offset.parse().expect("a number")).expect("live");
    assert_eq!(handler.load(&block).expect("live"), 1);
    handler.store(&mut block, 2).expect("live");
    assert_eq!(options.attach().expect("again").creation(), handler.creation());
    // Its name is gone: there is nothing to unlink.
    handler.unlink().expect("nothing");
}

#[test]
fn rejoining_needs_an_id_and_one_segment() {
    let dir = Dir::new();
    let unnamed = Options::new().path(dir.0.join("file")).size(MIB).rejoin(true).attach();
    assert!(matches!(unnamed, Err(Error::BadOption { option: "rejoin", .. })), "{unnamed:?}");
    let scratch = Scratch::new();
    let lost = || {
        let handler = scratch.options().size(MIB).create().expect("created");
        std::fs::remove_file(handler.matrix().segment().path().expect("a name")).expect("removed");
        handler
    };
    let _both = [lost(), lost()];
    let which = scratch.options().size(MIB).rejoin(true).open_or_create();
    assert!(matches!(which, Err(Error::BadOption { option: "rejoin", .. })), "{which:?}");
}

//! Which segment it is: the name and the id may come to mean another one.

use crate::common::{MIB, Scratch};
use atomic_matrix::Error;
use atomic_matrix::handlers::HandlerFunctions;

/// A cleaner removes the name while the segment is in use, and the next process makes the id again: two populations under one id.
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

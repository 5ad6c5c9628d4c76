//! The table of orderings: every atomic access of the allocator, by name.
//!
//! Sites are constants, so that the compiler sees the ordering where it generates code.
//!
//! One row for each site: what is done there, with which ordering, what it pairs with, which obligation it
//! serves. No ordering literal stands anywhere else. `TABLE` is the same list as data, for the mutation runs.

use std::sync::atomic::Ordering;

/// A place in the code where shared memory is accessed.
#[derive(Debug, PartialEq, Eq)]
pub struct Site {
    /// The row's name.
    pub name: &'static str,
    /// Its position in [`TABLE`].
    pub index: usize,
    /// The ordering (of success, for a compare-and-swap).
    pub order: Ordering,
    /// The ordering of a failing compare-and-swap.
    pub fail: Ordering,
    /// What it pairs with and why.
    pub pairs: &'static str,
    /// The obligations it serves.
    pub serves: &'static str,
}

/// The position of all sites that are no rows of the table.
pub const OWN: usize = 127;

impl Site {
    /// A place in the code of a structure of one's own. `order` is that of success, for a compare-and-swap: where it
    /// fails, it acquires if this does. `pairs` says what the ordering pairs with, and why that is enough.
    pub const fn own(name: &'static str, order: Ordering, pairs: &'static str) -> Self {
        Self { name, index: OWN, order, fail: failing(order), pairs, serves: "" }
    }
}

const fn failing(order: Ordering) -> Ordering {
    match order {
        Ordering::AcqRel | Ordering::Acquire => Ordering::Acquire,
        _ => Ordering::Relaxed,
    }
}

macro_rules! sites {
    ($($name:ident $order:ident $serves:literal $pairs:literal;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum SiteIndex { $($name),* }
        $(
            #[doc = concat!($serves, ": ", $pairs)]
            pub const $name: Site = Site {
                name: stringify!($name),
                index: SiteIndex::$name as usize,
                order: Ordering::$order,
                fail: failing(Ordering::$order),
                pairs: $pairs,
                serves: $serves,
            };
        )*
        /// Every site, in order.
        pub static TABLE: &[&Site] = &[$(&$name),*];
        const _: () = assert!([$(SiteIndex::$name),*].len() <= OWN);
    };
}

sites! {
    // Headers: the only truth.
    HEADER_LOOK Acquire "S4 L3" "reads a header to act on it: pairs with the release of whoever wrote it, so \
        that the words it announces (footer, operation, smaller heads) are seen";
    HEADER_HINT Relaxed "-" "reads a header for what a compare-and-swap, or the owner's look, then expects and decides";
    HEADER_WALK Acquire "S4" "a walker's read: pairs with the release of the block's writer";
    HEADER_RECHECK Acquire "S4" "reads a header a second time, after a word that is only meaningful while the \
        first reading stands";
    CLAIM AcqRel "S1 S3" "takes a free or parked block: acquire pairs with the release of the free that \
        preceded (payload becomes ours), release orders the operation words cleared before it, so that a helper \
        of the held block does not meet an old operation";
    PARK Release "S3 S5" "gives a live block up: release publishes the payload accesses of its user. Whoever \
        goes on with the block claims it with acquire";
    ADOPT AcqRel "S3" "gives a live block another owner: release publishes what its user wrote; acquire, since \
        owners may come back under one generation, so that the value expected may be a later one than was looked at";
    ANNOUNCE Release "L2 C1" "puts an operation in force: release publishes the operation words. The value \
        expected was read with acquire, and does not return";
    FREEZE Release "S1 S3" "turns the right-hand head into an inside word of the left-hand block: release, as \
        it may be the last that is seen of that head. The value expected came with acquire, from the word or \
        through OP_READ";
    FOOTER Relaxed "L3" "writes a footer of a block under an announced operation, by version. Who follows it \
        looks at the head that it names; LOOK_FENCE orders it against the recheck";
    CARVE Relaxed "S4" "writes the tail's head while an announced cut hides it: COMMIT publishes it, and its \
        owner has met it by coherence";
    COMMIT Release "S1 S3 S4" "ends an announced operation: release publishes the words written under it. What \
        is released on came by acquire with the value expected, or through OP_READ";
    HELD_STORE Release "S3 S4" "a word inside a block that this participant holds alone: release, so that \
        whoever reads it sees what it stands for";
    HELD_LOOK Relaxed "-" "reads a word that nobody else may change";
    // Biased parking: the owner's plain stores, and what a thief pays instead.
    HAZARD_SET Release "S1" "names the granule whose header the owner is about to store plainly; OWN_FENCE \
        orders it before the look. Release, as HAZARD_CLEAR: a thief may read this name, and not that the one \
        before was cleared";
    OWN_FENCE SeqCst "S1" "light: between HAZARD_SET and OWN_LOOK, against the thief's heavy fence: either the \
        thief sees the name, or the owner sees the mark";
    OWN_LOOK Acquire "S1 S3" "the owner's look at the header it will store: pairs with PARK of whoever freed \
        the block for it";
    OWN_STORE Release "S1 S3" "the owner's plain store: only on a header of its own, only while its slot names \
        the granule";
    HAZARD_CLEAR Release "S1" "the owner's store is done: whoever reads this sees it";
    HAZARD_LOOK Acquire "S1" "the thief's look at the owner's slot, behind the heavy fence";
    NEWS_LOOK Acquire "L2" "reads what others have given back, before a sweep: pairs with NEWS_COUNT and \
        NEWS_ADD, so that the sweep sees what is counted";
    NEWS_OWN Relaxed "-" "reads what the caller has given back: nobody else writes it";
    NEWS_COUNT Release "L2" "something more was given back: release, so that whoever reads the count sees it";
    NEWS_ADD Release "L2" "somebody without a number has given a block back: release, so that whoever reads the \
        count sees the block";
    THIEF_FENCE SeqCst "S1" "heavy: between the marks and the looks at the owners' slots";
    REACH_FENCE SeqCst "S1" "between the marks and the look at who the owners are, which says how far the heavy \
        fence has to reach: pairs with JOIN_FENCE";
    ADOPTING Release "S1" "says whose live block is about to get another owner, before its header says that \
        this one adopts it; cleared when the header says whose it is";
    MARK Relaxed "S1" "a thief marks a parked block of another cache; THIEF_FENCE orders it before the looks at \
        the owners' slots, and it carries the release of the free that came before";
    TAKE_OVER Relaxed "S1 S3" "a marked block becomes the thief's, or its owner's again: it carries the release \
        of the free that came before, which the block's next CLAIM acquires; HAZARD_LOOK orders it behind the \
        owner's store";
    // An operation in force, in the owner's slot.
    OP_WRITE Release "L2 C1" "writes the operation before it is announced, or clears it after: release, so that \
        a helper that reads a newer operation also finds its header gone";
    OP_READ Acquire "L2 C1" "a helper's reading of the operation: pairs with OP_WRITE";
    // The recheck.
    LOOK_FENCE SeqCst "L3" "between becoming FREE and looking at the neighbours: of two neighbours, one sees the other";
    // Hints.
    HINT_SET Release "L2" "sets a hint after the header it points to: the words' modification order decides \
        against HINT_CLEAR";
    HINT_CLEAR Acquire "L2" "clears a hint that led nowhere; acquires the sets that came before it, so that the \
        one more look sees what they point to";
    HINT_LOOK Relaxed "L2" "reads a hint: what it leads to is read with acquire, and where that is too old, \
        HINT_CLEAR and one more look decide";
    // The transfer cache of parked batches.
    BATCH_LOOK Relaxed "-" "looks for a batch to take or to fill; the claim decides";
    BATCH_MAP Relaxed "-" "which batches are full, as an aid: whoever meets a wrong bit mends it";
    BATCH_CLAIM Acquire "-" "takes a batch's control word: with BATCH_PASS, sees the indices that its filler \
        wrote. An aid: a stale index is dropped by the pop, which checks the header";
    BATCH_INDEX Relaxed "-" "an index of a batch: published by BATCH_PASS";
    BATCH_PASS Release "-" "hands the batch over: see BATCH_CLAIM";
    // Participants.
    SLOT_CLAIM AcqRel "C1" "takes a participant slot";
    SLOT_LOOK Acquire "C1" "reads who holds a slot";
    SLOT_WRITE Release "C1" "fills or releases a slot that is held";
    PIN Release "S1 C1" "a helper of a recovery says which number must not be released, and takes that back: \
        release, so that whoever reads that the pin is gone has the helper's compare-and-swap behind it";
    PIN_FENCE SeqCst "S1 C1" "between the pin and the look whether the recovery stands: pairs with UNPIN_FENCE. \
        Either the helper sees that it has ended, or the pin is seen";
    PIN_LOOK Acquire "S1 C1" "looks whether a number is pinned that is about to be released: pairs with PIN";
    UNPIN_FENCE SeqCst "S1 C1" "between the end of a recovery and the looks at the pins: pairs with PIN_FENCE";
    ERASE Relaxed "S4 C1" "erases a head inside a block that a dead one held alone, by version: the block's own \
        word, which changes behind it, publishes it";
    JOIN_FENCE SeqCst "S1" "between saying whose a slot is and its first use: pairs with REACH_FENCE";
    // Directory.
    DIR_LOOK Acquire "S3" "reads a directory entry: pairs with DIR_WRITE";
    DIR_CLAIM AcqRel "S3" "claims or withdraws a directory entry";
    DIR_WRITE Release "S3" "fills a directory entry that is held, or publishes it";
    // Waiting: a bell's two words (ipc::wait).
    SLEEPERS_JOIN Relaxed "Q5" "one more sleeps, or is about to: SLEEP_FENCE orders it before the last look at \
        what is waited for";
    SLEEPERS_LEAVE Relaxed "Q5" "one fewer sleeps: only a count, which decides whether anybody is called";
    SLEEPERS_LOOK Relaxed "Q5" "whether anybody sleeps: RING_FENCE orders it behind what was put. By a sleeper: \
        whether it still counts, which BELL_LOOK orders";
    SLEEPERS_RESET Relaxed "Q5" "those who counted were not asleep, and count anew: BELL_RING behind it tells them";
    SLEEP_FENCE SeqCst "Q5" "between counting as a sleeper and the last look: pairs with RING_FENCE. Either the \
        sleeper sees what was put, or who put it sees the sleeper";
    RING_FENCE SeqCst "Q5" "between putting and looking for sleepers: pairs with SLEEP_FENCE";
    BELL_RING Release "Q5" "something was put, or sleepers count anew: who hears this sees SLEEPERS_RESET";
    BELL_LOOK Acquire "Q5" "what a sleeper has heard: pairs with BELL_RING";
    // Copies of what another may free meanwhile.
    COPY_FENCE Acquire "S5 B1 M1" "between copying another's payload and the recheck at its header, or at what \
        leads to it: if the copy has bytes of the next owner, which wrote them behind its claim, the look sees \
        the claim";
    // Locks, events, semaphores, barriers (ipc::sync).
    SYNC_HINT Relaxed "-" "reads or marks a word whose next compare-and-swap decides, or that the caller holds";
    SYNC_LOOK Acquire "Q5" "sees that an event is set, or that a barrier has opened: pairs with SYNC_GIVE and \
        SYNC_PASS";
    SYNC_TAKE Acquire "S3 Q5" "takes a lock, a permit or an event: pairs with SYNC_GIVE of whoever gave it";
    SYNC_GIVE Release "S3 Q5" "gives a lock, permits or an event: what was written before is seen by whoever takes it";
    SYNC_PASS Release "S3 Q5" "arrives at a barrier: what each wrote before is seen by all behind it, by \
        SYNC_LOOK or, for the one that opens it, by RING_FENCE";
    // Links: which block a structure's word names, and whose it becomes (ipc::link, ipc::channel).
    CELL_LOOK Acquire "Q1 Q2" "reads a cell: pairs with CELL_PUT, so that whoever finds the link sees the \
        message, and with CELL_CLEAR";
    CELL_PUT Release "Q1 Q2" "puts a link in: release publishes what the giver wrote into the block. The empty \
        word expected was read with acquire, and does not return";
    CELL_CLEAR AcqRel "Q1 Q2" "empties a cell whose block was taken: release, so that whoever fills it next \
        goes on from there; acquire where it fails, since the step of the head that follows tells others that \
        the cell is empty";
    CELL_SEAL Release "Q6" "ends a channel in its first empty cell: a late sender finds it there";
    LET_GO Release "Q1" "the giver's block becomes the structure's, one generation on, by the giver or by \
        whoever meets it: release publishes what the giver wrote to whoever comes by the header alone";
    TAKE Acquire "Q1 Q2" "the structure's block becomes the taker's: pairs with LET_GO";
    TICKET_LOOK Acquire "Q2" "reads head or tail: pairs with TICKET_STEP, so that the cells before it are seen \
        as they were left";
    TICKET_RECHECK Acquire "Q2" "reads head or tail a second time, after the cell: what the cell said belongs \
        to that ticket";
    TICKET_STEP Release "Q2" "moves head or tail on by one: release publishes that the cell is filled, or empty";
    TICKET_TELL Relaxed "-" "the one sender or the one receiver says how far it is. An aid: what the cells and \
        headers say decides, and whoever finds it behind goes on from there";
    WHOLE_SEEN Relaxed "-" "which link of a board this process has copied a whole value of, which nobody else \
        reads: the word says all";
    TICKET_SEEN Relaxed "-" "the head as the one sender has seen it, which nobody else reads";
    // Structures: their users, and when one may be freed (ipc::structure).
    STRUCTURE_WRITE Release "Q3" "writes a structure that nobody else has seen: whoever makes it publishes its \
        name, or passes on its offset, after";
    STRUCTURE_LOOK Acquire "Q3 Q6" "reads a structure's header, its state, or who uses it: pairs with STRUCTURE_CHANGE";
    STRUCTURE_CHANGE AcqRel "Q3 Q6" "changes a structure's state, or who uses it: the last one to leave has \
        done all else before, and whoever frees it comes after";
    VISIT Release "Q3" "says which structure is about to be written by somebody who is not counted among its \
        users; VISIT_FENCE orders it before the look";
    VISIT_FENCE SeqCst "Q3" "between VISIT and the looks at header and state, and between the looks that find a \
        structure unused and those at the pins: of one who comes and one who frees, one sees the other";
    VISIT_LOOK Acquire "Q3" "reads who visits a structure: pairs with VISIT";
    // Logs: the cursors of readers (ipc::log).
    CURSOR_CLAIM Relaxed "-" "becomes a reader, behind CURSOR_LOOK at the free cursor and in front of \
        CURSOR_FENCE; or takes a dead one's cursor away: what that one did, it did before anybody found it dead";
    CURSOR_STEP Release "T1 Q3" "the reader's own cursor moves on: what it has read it has read before, and \
        whoever overwrites that comes behind. Or a worker's own hold says what it has: whoever finds that sees the \
        header as it was by then";
    CURSOR_OWN Relaxed "-" "reads the caller's own cursor";
    CURSOR_LOOK Acquire "T1" "a publisher's look at the cursors, and at who has joined: pairs with CURSOR_STEP \
        and CURSOR_JOIN";
    CURSOR_JOIN Release "T1" "somebody has joined since: publishers look at the cursors again";
    CURSOR_FENCE SeqCst "T1" "between a new cursor and the look at the tail, and between a publisher's looks at \
        tail and cursors: either the publisher sees the cursor, or the reader that the tail has passed it";
    // Tables: which change of a bucket was made last, and blocks that are displaced (ipc::table).
    TURN_LOOK Acquire "M1" "reads a bucket's turn: pairs with TURN_CHANGE, so that the places are seen as the \
        changes before it left them";
    TURN_RECHECK Relaxed "-" "reads the turn a second time, behind what was read under it with acquire, or \
        behind CURSOR_FENCE: whoever has read what a later change left finds no earlier turn";
    TURN_CHANGE Release "M1" "makes a change the bucket's next one: release publishes that the one before is \
        complete. The turn expected was read with acquire, and does not return";
    RETIRE Release "M1 M2" "a displaced block is in the hands of those whose cursors name it: whoever finds it \
        so, behind a fence, comes behind the turn";
    LABEL_WRITE Release "M1" "writes the key into a block of the caller's own: CELL_PUT publishes it. Release, since \
        whoever named nothing may read it in the place of an earlier one: behind COPY_FENCE that one sees the turn of \
        whoever displaced the block";
    LABEL_LOOK Relaxed "-" "reads the key of a block that the caller's cursor names: CELL_LOOK has found its link. Or \
        of one that nothing keeps: then COPY_FENCE stands between this and the turn";
    // Calls: what a request and a response say beside their values (ipc::call).
    AWAITED_WRITE Relaxed "-" "says which call is waited for: an aid, so that nobody works for who has given up";
    AWAITED_LOOK Relaxed "-" "whether a call is waited for still: an aid; what comes too late is freed by who \
        receives it";
    // Start-up.
    GUARD_WRITE Release "L1" "says that the segment is formatted";
    // Formatting a segment that no other has seen.
    FORMAT Relaxed "-" "writes a segment that nobody else has seen; GUARD_WRITE publishes it";
}

/// A deliberate fault, switched on at run time on model backends only, to prove that a check bites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The fence between becoming FREE and the recheck is left out.
    LookFenceDropped,
    /// The neighbours are not looked at a second time after becoming FREE.
    RecheckDropped,
    /// A join does not check that the left block ends where the right one begins.
    AdjacencyUnchecked,
    /// What begins in a span is taken for what begins at the granule asked for.
    PositionUnchecked,
    /// A helper does not re-read the header after the operation words.
    HelperRecheckDropped,
    /// A searcher that clears a hint does not look once more.
    HintRelookDropped,
    /// A join commits although the right-hand block was not frozen.
    CommitUnfrozen,
    /// A parked block is popped without checking its size.
    PopSizeUnchecked,
    /// A free does not advance or check the generation.
    GenerationIgnored,
    /// FREE and INSIDE words have no tag: they come back after 2^20 changes, as others do.
    TagDropped,
    /// The remainder of a cut keeps its footer unwritten.
    FooterDropped,
    /// Parked heads are written as ACKED before the run is shrunk.
    CarveAckedEarly,
    /// A cache does not say which granule's header it is about to store plainly.
    HazardUnset,
    /// A cache orders nothing between saying so and looking at the header.
    OwnFenceDropped,
    /// A thief does not fence between its marks and its looks at the owners' slots.
    ThiefFenceDropped,
    /// A thief takes a marked block although its owner's slot names it.
    HazardIgnored,
    /// A thief takes what it has not marked.
    MarkDropped,
    /// A thief takes what another thief has marked.
    AnothersMarkUsed,
    /// A thief's heavy fence reaches its own process only.
    ReachTooShort,
    /// What other processes' caches have parked is looked for by no call.
    FarLeftOut,
    /// A block that is just being adopted is taken as if it were its adopter's already.
    AdoptingIgnored,
    /// An adopter gives the block to any participant whose slot names it, not to its owner alone.
    BystanderBelieved,
    /// A number is used again although a block of its last holder's is being adopted, and may be given back.
    OpenAdoptionIgnored,
    /// A large parked block is held while it is merged, not announced: a participant that stops then hides it.
    LargeHeld,
    /// A searcher that clears a leaf's hint for a block that has appeared sets that bit again, not the chain above it.
    LeafAloneRehinted,
    /// A hint is not looked for above a word that was not empty: a chain that a stopped participant broke stays broken.
    ChainUnrepaired,
    /// A helper changes a word that bears a dead one's number without a look whether the recovery still stands.
    RecoveryRecheckDropped,
    /// A helper orders nothing between pinning a number and looking whether the recovery stands.
    PinFenceDropped,
    /// A number is released while a helper pins it.
    PinIgnored,
    /// A recovery does not look at the neighbours and the hints of every free block.
    RecoveryUnsettled,
    /// Half of the participants forget the other processes' blocks that they are to merge.
    LimboForgotten,
    /// A freed block that another is adopting is sent home to the number that says so, which no participant has.
    AdoptedSentHome,
    /// A walker that counts a join's right-hand block as the left one's does not look whether that join still stands.
    JoinRecheckDropped,
    /// A free is refused if the block changes hands at the same moment.
    NewOwnerRefused,
    /// A publisher makes its block unowned, also if it was taken meanwhile.
    PublishedFromAnybody,
    /// An allocation's last try sweeps once: what is freed behind that is not found.
    SecondSweepDropped,
    /// What is given back is not counted: a refused cache does not look for it.
    NewsUntold,
    /// What is given back is counted before it is.
    NewsToldEarly,
    /// A merger of what is parked counts it behind that alone.
    NewsToldLate,
    /// A cache that is refused reads behind its sweep what was given back, not before.
    NewsReadLate,
    /// A refused cache does not look whether anything was given back since.
    NewsIgnored,
    /// A cache does not remember what it has made free itself since it was refused.
    MadeUntold,
    /// A cache does not look whether another's operation is in flight beside what it has made free.
    MadeBesideOperation,
    /// A cache that has parked blocks elsewhere than with itself goes by what it remembers.
    SentUntold,
    /// A cache that has dropped the index of a block that is still parked goes by what it remembers.
    DroppedUntold,
    /// A sweep looks at a free tile's right neighbour alone.
    PassedIgnored,
    /// A sweep goes on where a block has moved behind it.
    SweepGoesOn,
    /// A recovery passes a block that is being merged or cut, though its hints may be the dead one's.
    InFlightUnsettled,
    /// A request takes the newest large block of its bin, whatever it has.
    LargeFitUnchecked,
    /// A cache parks large blocks whatever room it has for them.
    PoolUnbounded,
    /// A large block is taken by a store, whatever has become of it since it was remembered.
    LargeTakenUnasked,
    /// A large block parked in the last generation is taken although the sum counts its owner up.
    OwnerCountedUp,
    /// An owner that resizes its block does not take it into its hands, where others may free it meanwhile.
    ResizedUnheld,
    /// What is taken for a block to grow over is as large as it may be, and hidden meanwhile.
    AnnexUnbounded,
    /// The head of what a block grows over is erased before the block's word covers it.
    AnnexErasedFirst,
    /// The head of what a block has grown over stays inside it.
    AnnexHeadKept,
    /// Sleepers are called before that is put which they wait for.
    WakeBeforePut,
    /// A sleeper orders nothing between counting as one and its last look.
    SleepersFenceDropped,
    /// A ringer orders nothing between its put and its look for sleepers.
    RingFenceDropped,
    /// The same where that was a plain store.
    StoreFenceDropped,
    /// A sleeper counts itself by a load and a store.
    CountedPlainly,
    /// Sleepers that were counted and not asleep are not told that they count anew.
    ResetSilently,
    /// A sleeper does not look whether it still counts.
    ResetUnnoticed,
    /// Whoever waits for several things, or is dropped while it waits, keeps the call that it had for what it
    /// did not take.
    CallKept,
    /// A future does not look again between counting as asleep and being waited for.
    SecondPollDropped,
    /// The helper thread is not told of a new future.
    HelperUntold,
    /// A future that is dropped does not wait until the helper thread has left its bell.
    HelperUnawaited,
    /// The helper thread keeps a call that it had for a descriptor, which nobody may look at.
    WatchKeepsCall,
    /// The helper thread rings again for a call that it had for a descriptor.
    WatchRings,
    /// A lock that is released is no longer poisoned.
    PoisonForgotten,
    /// A dead holder's lock is taken over by a store, whoever was quicker.
    TakenOverPlainly,
    /// A permit is taken by a load and a store.
    PermitTakenPlainly,
    /// An event is cleared by a load and a store.
    ClearedByTwo,
    /// Who gives up at a barrier stays counted as having arrived.
    ArrivalKept,
    /// Who gives up at a barrier takes its arrival back, also if the barrier has opened meanwhile.
    ArrivalUnchecked,
    /// A lookup that finds no entry does not look whether something was published meanwhile.
    TurnUnvalidated,
    /// Who replaces a name is given the block that stood there, also if another has withdrawn it.
    WithdrawnReplaced,
    /// A recovery frees the blocks of the dead before it has settled their links.
    BlocksBeforeLinks,
    /// A recovery completes no links of the dead.
    LinksUnsettled,
    /// A recovery leaves the words of taken blocks in their cells.
    VoidWordsKept,
    /// A sender lets its block go before its link stands.
    HeaderBeforeCell,
    /// A sender lets its block go by a plain store.
    LetGoPlain,
    /// A send does not advance the block's generation.
    SentUnderOneGeneration,
    /// A receiver does not look at the head again after the cell.
    HeadUnvalidated,
    /// A sender does not look at the tail again before it says that the channel is full.
    TailUnvalidated,
    /// A receiver has its message before the cell is empty.
    TakenBeforeCleared,
    /// A link whose giver has not let go yet is taken for void.
    PendingTakenForVoid,
    /// A structure is freed although it has a visitor.
    VisitIgnored,
    /// A newcomer does not look behind its count whether the structure was removed meanwhile.
    EnteredUnasked,
    /// The last user of a structure without a name leaves it as it is.
    UnnamedKept,
    /// Whoever removes what has no user does not look whether somebody has come meanwhile.
    RemovedUnasked,
    /// The one receiver says that it has taken a message before it takes it.
    HeadToldEarly,
    /// The one sender takes a ticket's cell for free whose message was not taken.
    OldLinkIgnored,
    /// A recovery leaves the dead their roles.
    RolesKept,
    /// A worker's hold says what it takes only after it has taken it.
    HoldWrittenLate,
    /// A recovery leaves what a dead worker held as it is.
    HoldsUnsettled,
    /// A recovery looks at the holds before it has completed the links of rings.
    HoldsBeforeLinks,
    /// A message that goes back is let go before its hold says so.
    ReturnedBeforeHold,
    /// A recovery does not count what it gives back.
    ReturnUncounted,
    /// A recovery that finds a message put back by another goes on before that one has let it go.
    ReturnUnhelped,
    /// A look at the holds stands for returns that came behind it.
    ScanOvertold,
    /// An acknowledgement does not wake a receiver that waits for its hold.
    AcknowledgementUntold,
    /// A receiver that claims a hold and gets no message does not wake another that waits for that hold.
    HoldLeftUntold,
    /// A free hold is claimed by a load and a store.
    HoldClaimedPlainly,
    /// A reader that joins does not look whether the tail has passed its cursor meanwhile.
    JoinUnvalidated,
    /// A publisher overwrites what a reader has yet to read.
    CursorsIgnored,
    /// A publisher does not look whether a reader has joined since it looked at the cursors.
    JoinsIgnored,
    /// A reader that was overrun is told of one publication fewer than it has missed.
    LagMiscounted,
    /// A link of a later lap is believed to be the ticket's that nothing keeps: laps come back after 32.
    LapBelieved,
    /// What a publisher takes out is freed before its cell is empty.
    FreedBeforeCleared,
    /// A helper that completes a change does not look whether it is the last one still, behind its look at the place.
    TurnUnchecked,
    /// A lookup that does not find a key does not look whether the bucket has changed meanwhile.
    AbsentUnvalidated,
    /// A cursor names a block without a look behind the fence whether it is in still.
    NameUnvalidated,
    /// A copy counts without a look whether the bucket, or the cell, has changed meanwhile.
    CopyUnvalidated,
    /// A block that is being displaced is shown.
    DisplacedShown,
    /// A new block is in before its giver lets it go.
    InBeforeLetGo,
    /// The place of a displaced block is emptied before the block is retired.
    EmptiedBeforeRetired,
    /// A put that has displaced a block has it, also while a cursor names it.
    ReadersIgnored,
    /// A cursor says that it is done with a block before its holder looks whether it is the last.
    CursorDroppedEarly,
    /// The last to leave a retired block does not take it.
    RetiredForgotten,
    /// A recovery lets the cursors of the dead fall without a look at what they name.
    DeadLeaveNothing,
    /// A client that finds its request gone does not look for the response once more.
    GoneUnchecked,
    /// A response to another call is taken for this one's.
    CallUnchecked,
    /// A client that frees a response to an earlier call does not look at what is behind it.
    LateEndsLook,
    /// A server that visits a client's ring does not look whether it has to free it.
    RingLeft,
    /// A recovery rings for clients before it has freed the requests of the dead, and not behind that.
    RungEarly,
}

/// Every mutant of waiting, of locks and of names that are replaced.
#[rustfmt::skip]
pub const WAITING_MUTANTS: &[Mutant] = &[
    Mutant::WakeBeforePut, Mutant::SleepersFenceDropped, Mutant::RingFenceDropped,
    Mutant::StoreFenceDropped, Mutant::CountedPlainly, Mutant::ResetSilently,
    Mutant::ResetUnnoticed, Mutant::CallKept, Mutant::AcknowledgementUntold,
    Mutant::HoldLeftUntold, Mutant::SecondPollDropped, Mutant::HelperUntold,
    Mutant::HelperUnawaited, Mutant::WatchKeepsCall, Mutant::PoisonForgotten,
    Mutant::TurnUnvalidated, Mutant::WatchRings,
];

/// Mutants that locks, permits, events, barriers and names that are replaced have to notice.
#[rustfmt::skip]
pub const SYNC_MUTANTS: &[Mutant] = &[
    Mutant::PoisonForgotten, Mutant::TakenOverPlainly, Mutant::PermitTakenPlainly, Mutant::ClearedByTwo,
    Mutant::ArrivalKept, Mutant::ArrivalUnchecked, Mutant::TurnUnvalidated, Mutant::WithdrawnReplaced,
];

/// Every mutant of the channel and of structures.
#[rustfmt::skip]
pub const CHANNEL_MUTANTS: &[Mutant] = &[
    Mutant::BlocksBeforeLinks, Mutant::LinksUnsettled, Mutant::VoidWordsKept,
    Mutant::HeaderBeforeCell, Mutant::LetGoPlain, Mutant::SentUnderOneGeneration,
    Mutant::HeadUnvalidated, Mutant::TailUnvalidated, Mutant::TakenBeforeCleared,
    Mutant::PendingTakenForVoid, Mutant::VisitIgnored, Mutant::EnteredUnasked, Mutant::UnnamedKept,
    Mutant::RemovedUnasked, Mutant::HeadToldEarly, Mutant::OldLinkIgnored, Mutant::RolesKept,
];

/// Mutants that a channel has to notice which delivers again what dead workers held.
#[rustfmt::skip]
pub const HOLD_MUTANTS: &[Mutant] = &[
    Mutant::HoldWrittenLate, Mutant::HoldsUnsettled, Mutant::HoldsBeforeLinks,
    Mutant::ReturnedBeforeHold, Mutant::ReturnUncounted, Mutant::ReturnUnhelped,
    Mutant::ScanOvertold, Mutant::HoldClaimedPlainly,
];

/// Mutants that a log has to notice.
#[rustfmt::skip]
pub const TOPIC_MUTANTS: &[Mutant] = &[
    Mutant::JoinUnvalidated, Mutant::CursorsIgnored, Mutant::JoinsIgnored, Mutant::LagMiscounted,
    Mutant::LapBelieved, Mutant::FreedBeforeCleared, Mutant::TailUnvalidated,
    Mutant::BlocksBeforeLinks, Mutant::LinksUnsettled, Mutant::CopyUnvalidated,
];

/// Mutants that a table has to notice.
#[rustfmt::skip]
pub const MAP_MUTANTS: &[Mutant] = &[
    Mutant::TurnUnchecked, Mutant::AbsentUnvalidated, Mutant::NameUnvalidated,
    Mutant::DisplacedShown, Mutant::InBeforeLetGo, Mutant::EmptiedBeforeRetired,
    Mutant::ReadersIgnored, Mutant::CursorDroppedEarly, Mutant::RetiredForgotten,
    Mutant::DeadLeaveNothing, Mutant::BlocksBeforeLinks, Mutant::LinksUnsettled, Mutant::CopyUnvalidated,
];

/// Mutants that calls have to notice.
#[rustfmt::skip]
pub const CALL_MUTANTS: &[Mutant] = &[
    Mutant::GoneUnchecked, Mutant::CallUnchecked, Mutant::LateEndsLook,
    Mutant::RingLeft, Mutant::RungEarly, Mutant::BlocksBeforeLinks,
];

/// Mutants that the checks of resizing have to notice.
pub const RESIZE_MUTANTS: &[Mutant] =
    &[Mutant::ResizedUnheld, Mutant::AnnexUnbounded, Mutant::AnnexErasedFirst, Mutant::AnnexHeadKept];

/// Every mutant of the allocator.
#[rustfmt::skip]
pub const MUTANTS: &[Mutant] = &[
    Mutant::LookFenceDropped, Mutant::RecheckDropped, Mutant::AdjacencyUnchecked, Mutant::PositionUnchecked,
    Mutant::HelperRecheckDropped, Mutant::HintRelookDropped, Mutant::CommitUnfrozen, Mutant::PopSizeUnchecked,
    Mutant::GenerationIgnored, Mutant::TagDropped, Mutant::FooterDropped, Mutant::CarveAckedEarly,
    Mutant::HazardUnset, Mutant::OwnFenceDropped, Mutant::ThiefFenceDropped, Mutant::HazardIgnored,
    Mutant::MarkDropped, Mutant::AnothersMarkUsed, Mutant::ReachTooShort, Mutant::FarLeftOut,
    Mutant::AdoptingIgnored, Mutant::BystanderBelieved, Mutant::OpenAdoptionIgnored, Mutant::LargeHeld,
    Mutant::LeafAloneRehinted, Mutant::ChainUnrepaired, Mutant::RecoveryRecheckDropped, Mutant::PinFenceDropped,
    Mutant::PinIgnored, Mutant::RecoveryUnsettled, Mutant::LimboForgotten, Mutant::AdoptedSentHome,
    Mutant::JoinRecheckDropped, Mutant::NewOwnerRefused, Mutant::PublishedFromAnybody,
    Mutant::SecondSweepDropped, Mutant::NewsUntold, Mutant::NewsToldEarly, Mutant::NewsToldLate,
    Mutant::NewsReadLate, Mutant::NewsIgnored, Mutant::MadeUntold, Mutant::MadeBesideOperation,
    Mutant::SentUntold, Mutant::DroppedUntold, Mutant::PassedIgnored, Mutant::SweepGoesOn,
    Mutant::InFlightUnsettled, Mutant::LargeFitUnchecked, Mutant::PoolUnbounded, Mutant::LargeTakenUnasked,
    Mutant::OwnerCountedUp,
];

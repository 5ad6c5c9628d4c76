//! Each fault switched on must make a model fail; each ordering weakened one step is looked for in all models.

use crate::kills::{noticed_at_some_step, stale_index_at_every_step};
use crate::model::{Scenario, executions, explore};
use crate::{bias, calls, channel, futures, held, large, map, names, resize, scenarios, slots, sweeps, topic, waiting};
use atomic_matrix::backend::loom::{Setting, weaker};
use atomic_matrix::backend::orderings::*;
use atomic_matrix::backend::{Mutant, Site};
use atomic_matrix::check::turns::quietly;
use std::sync::atomic::Ordering;

/// Every scenario of every file.
fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        scenarios::ALL,
        bias::ALL,
        large::ALL,
        resize::ALL,
        names::ALL,
        slots::ALL,
        waiting::ALL,
        futures::ALL,
        channel::ALL,
        held::ALL,
        topic::ALL,
        map::ALL,
        calls::ALL,
        sweeps::ALL,
    ]
    .into_iter()
    .flatten()
}

/// The first failure of the named scenarios under a setting: scenario, executions, message.
fn killer(names: &[&str], setting: Setting) -> Option<String> {
    names.iter().find_map(|name| {
        let scenario = all().find(|s| s.name == *name).unwrap_or_else(|| panic!("no scenario {name}"));
        let message = quietly(|| explore(scenario, setting)).err()?;
        let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(110).collect();
        let mode = if setting.all_rmw { "all-RMW" } else { "plain" };
        Some(format!("{name} ({mode}), execution {}: {message}", executions()))
    })
}

macro_rules! mutants {
    ($($test:ident $mutant:ident $scenario:literal;)*) => {$(
        #[test]
        fn $test() {
            let caught = [true, false].into_iter().find_map(|all_rmw| {
                killer(&[$scenario], Setting { all_rmw, mutant: Some(Mutant::$mutant), ..Setting::default() })
            });
            println!("mutant {:?} | {}", Mutant::$mutant, caught.as_deref().unwrap_or("SURVIVES"));
            assert!(caught.is_some(), "{:?} survives", Mutant::$mutant);
        }
    )*};
}

mutants! {
    mutant_look_fence_dropped_is_caught LookFenceDropped "loom_l3_adjacent_frees_in_two_chunks_merge";
    mutant_second_look_dropped_is_caught RecheckDropped "loom_l3_adjacent_frees_merge";
    mutant_adjacency_unchecked_is_caught AdjacencyUnchecked "loom_s3_alloc_races_ripple";
    mutant_position_unchecked_is_caught PositionUnchecked "loom_s1_stale_index_leads_to_another_position";
    mutant_hint_relook_dropped_is_caught HintRelookDropped "loom_l2_hint_clear_races_publish";
    mutant_commit_unfrozen_is_caught CommitUnfrozen "loom_s1_exact_take_races_freeze";
    mutant_pop_size_unchecked_is_caught PopSizeUnchecked "loom_s4_pop_races_resize";
    mutant_resized_unheld_is_caught ResizedUnheld "loom_s5_a_block_is_freed_while_it_grows";
    mutant_generation_ignored_is_caught GenerationIgnored "loom_s5_stale_free_is_refused";
    mutant_footer_dropped_is_caught FooterDropped "loom_l3_frees_beside_a_free_block_merge";
    mutant_recovery_recheck_dropped_is_caught RecoveryRecheckDropped "loom_c1_a_number_waits_for_a_late_helper";
    mutant_pin_fence_dropped_is_caught PinFenceDropped "loom_c1_a_number_waits_for_a_late_helper";
    mutant_pin_ignored_is_caught PinIgnored "loom_c1_a_number_waits_for_a_late_helper";
    mutant_wake_before_put_is_caught WakeBeforePut "loom_q5_waiter_meets_giver";
    mutant_sleepers_fence_dropped_is_caught SleepersFenceDropped "loom_q5_waiter_meets_giver";
    mutant_ring_fence_dropped_is_caught RingFenceDropped "loom_q5_waiter_meets_giver";
    mutant_reset_silently_is_caught ResetSilently "loom_q5_count_of_sleepers_is_mended";
    mutant_reset_unnoticed_is_caught ResetUnnoticed "loom_q5_count_of_sleepers_is_mended";
    mutant_turn_unvalidated_is_caught TurnUnvalidated "loom_s5_a_replaced_name_never_stands_for_nothing";
    mutant_call_kept_is_caught CallKept "loom_q5_a_call_for_another_thing_is_passed_on";
    mutant_second_poll_dropped_is_caught SecondPollDropped "loom_q5_a_future_is_woken";
    mutant_helper_untold_is_caught HelperUntold "loom_q5_a_future_is_woken";
    mutant_helper_unawaited_is_caught HelperUnawaited "loom_q5_a_dropped_future_keeps_no_call";
    mutant_watch_keeps_call_is_caught WatchKeepsCall "loom_q5_a_descriptor_keeps_no_call";
    mutant_watch_rings_is_caught WatchRings "loom_q5_a_call_ends_at_descriptors_that_are_armed_again";
    mutant_acknowledgement_untold_is_caught AcknowledgementUntold "loom_q5_who_waits_for_a_hold_is_woken";
    mutant_hold_left_untold_is_caught HoldLeftUntold "loom_q5_a_hold_that_was_claimed_in_vain_is_told";
    mutant_hold_claimed_plainly_is_caught HoldClaimedPlainly "loom_q3_a_hold_has_one_holder";
    mutant_poison_forgotten_is_caught PoisonForgotten "loom_q5_lock_of_the_dead_is_taken_over";
    mutant_taken_over_plainly_is_caught TakenOverPlainly "loom_q5_lock_of_the_dead_is_taken_over";
    mutant_store_fence_dropped_is_caught StoreFenceDropped
        "loom_q5_q6_who_waits_for_room_is_told_that_its_client_gave_up";
    mutant_gone_unchecked_is_caught GoneUnchecked "loom_q3_q6_a_response_is_there_before_its_request_is_gone";
    mutant_call_unchecked_is_caught CallUnchecked "loom_q6_a_response_that_comes_too_late";
    mutant_ring_left_is_caught RingLeft "loom_q3_q6_a_client_leaves_beside_the_response";
    mutant_displaced_shown_is_caught DisplacedShown "loom_m2_keys_are_read_beside_changes";
    mutant_absent_unvalidated_is_caught AbsentUnvalidated "loom_m2_keys_are_read_beside_changes";
    mutant_copy_unvalidated_is_caught CopyUnvalidated "loom_b1_a_copy_is_whole";
    mutant_second_sweep_dropped_is_caught SecondSweepDropped "loom_l2_what_is_freed_behind_a_sweep_is_found";
}

/// Harmful only if the carver is killed while its run is half cut up.
#[test]
fn mutant_carve_acked_early_is_caught() {
    let setting = Setting { mutant: Some(Mutant::CarveAckedEarly), ..Setting::default() };
    let (caught, _) = quietly(|| stale_index_at_every_step(setting));
    println!("mutant CarveAckedEarly | {}", caught.as_deref().unwrap_or("SURVIVES"));
    assert!(caught.is_some(), "CarveAckedEarly survives");
}

/// Harmful only if a server is killed, and its client sleeps.
#[test]
fn mutant_rung_early_is_caught() {
    let name = "loom_c1_q5_q6_a_server_is_killed";
    let caught = quietly(|| noticed_at_some_step(name, calls::a_server_is_killed, Mutant::RungEarly));
    println!("mutant RungEarly | {}", caught.as_deref().unwrap_or("SURVIVES"));
    assert!(caught.is_some(), "RungEarly survives");
}

/// What becomes of an ordering that is one step weaker, or of two that stand in for each other.
enum Fate {
    /// This scenario notices.
    Killed(&'static str),
    /// This scenario notices if the other site is weakened as well.
    KilledWith(&'static Site, &'static str, &'static str),
    /// No model can notice; why the ordering stays.
    Argued(&'static str),
}
use Fate::{Argued, Killed, KilledWith};

/// Every site with an ordering that can be weakened, with each weaker one. A site or an ordering that is missing fails.
const FATES: &[(&Site, &str, Fate)] = &[
    (&HEADER_LOOK, "Relaxed", Killed("loom_s1_exact_take_races_freeze")),
    (&HEADER_WALK, "Relaxed", Killed("loom_s4_walker_sees_tiles")),
    (&HEADER_RECHECK, "Relaxed", Killed("loom_s1_cut_races_cut")),
    (&CLAIM, "Release", Killed("loom_s3_stale_pop_takes_anothers_block")),
    (&CLAIM, "Acquire", Killed("loom_s1_helper_meets_no_old_operation")),
    (&PARK, "Relaxed", Killed("loom_s3_stale_pop_takes_anothers_block")),
    (&ADOPT, "Acquire", Killed("loom_s3_adopter_sees_the_payload")),
    (&ADOPT, "Release", Killed("loom_s3_block_comes_back_under_one_generation")),
    (&ANNOUNCE, "Relaxed", Killed("loom_s1_cut_races_cut")),
    (&FREEZE, "Relaxed", Killed("loom_l3_join_is_aborted_and_heals")),
    (&COMMIT, "Relaxed", Killed("loom_s1_cut_races_cut")),
    (&HELD_STORE, "Relaxed", Killed("loom_l2_hint_clear_races_publish")),
    (&OWN_FENCE, "AcqRel", Killed("loom_s1_owner_pops_beside_a_thief")),
    (&OWN_LOOK, "Relaxed", KilledWith(&BATCH_PASS, "Relaxed", "loom_s3_freed_block_goes_home")),
    (
        &OWN_STORE,
        "Relaxed",
        Argued(
            "In models OWN_FENCE, a full fence, stands in front of it and releases as well; natively that is \
                the compiler's alone. \
             ThreadSanitizer, which sees no fences, reports it: control `own` of `verification/orders/tsan/run`.",
        ),
    ),
    (
        &HAZARD_CLEAR,
        "Relaxed",
        Argued(
            "A thief that reads the cleared name must find the owner's store before its own compare-and-swap in \
                the header's order of \
                modification. loom's order of modification is its order of execution, so it cannot put the store behind it; neither can x86.",
        ),
    ),
    (&HAZARD_LOOK, "Relaxed", Argued("The other side of HAZARD_CLEAR; the same.")),
    (&NEWS_LOOK, "Relaxed", Killed("loom_l2_what_is_given_back_beside_a_refusal_is_found")),
    (&NEWS_COUNT, "Relaxed", Killed("loom_l2_what_is_given_back_beside_a_refusal_is_found")),
    (&NEWS_ADD, "Relaxed", Killed("loom_l2_what_is_freed_without_a_number_is_found")),
    (
        &HAZARD_SET,
        "Relaxed",
        Argued(
            "As HAZARD_CLEAR, for a thief that reads the name of the next block: since C++20 a relaxed store \
                ends the release sequence of the \
             store before it. One word's stores are seen in order on every machine, so that no machine can show it.",
        ),
    ),
    (&THIEF_FENCE, "AcqRel", KilledWith(&REACH_FENCE, "AcqRel", "loom_s1_owner_pops_beside_a_thief")),
    (&REACH_FENCE, "AcqRel", KilledWith(&THIEF_FENCE, "AcqRel", "loom_s1_owner_pops_beside_a_thief")),
    (
        &ADOPTING,
        "Relaxed",
        Argued(
            "Set, it stands in front of ADOPT, which releases as well. Nobody but a recoverer of the dead reads \
                it, and a dead one's stores are all done.",
        ),
    ),
    (&OP_WRITE, "Relaxed", Killed("loom_s1_cut_races_cut")),
    (&OP_READ, "Relaxed", Killed("loom_s1_cut_races_cut")),
    (&LOOK_FENCE, "AcqRel", Killed("loom_l3_adjacent_frees_in_two_chunks_merge")),
    (&HINT_SET, "Relaxed", Killed("loom_l2_hint_clear_races_publish")),
    (&HINT_CLEAR, "Relaxed", Killed("loom_l2_hint_clear_races_publish")),
    (&BATCH_CLAIM, "Relaxed", Argued(AID)),
    (&BATCH_PASS, "Relaxed", Argued(AID)),
    (&SLOT_CLAIM, "Acquire", Argued(KERNEL)),
    (&SLOT_CLAIM, "Release", Argued(KERNEL)),
    (&SLOT_LOOK, "Relaxed", Argued(KERNEL)),
    (&SLOT_WRITE, "Relaxed", Argued(KERNEL)),
    (
        &PIN,
        "Relaxed",
        Argued(
            "Whoever reads that the pin is gone must find the helper's compare-and-swap before its own in the \
                header's order of modification. loom's order \
             of modification is its order of execution, so it cannot put the helper's behind; neither can x86.",
        ),
    ),
    (&PIN_LOOK, "Relaxed", Argued("The other side of PIN; the same.")),
    (&PIN_FENCE, "AcqRel", Killed("loom_c1_a_number_waits_for_a_late_helper")),
    (&UNPIN_FENCE, "AcqRel", Killed("loom_c1_a_number_waits_for_a_late_helper")),
    (&JOIN_FENCE, "AcqRel", Argued(JOINING)),
    (&DIR_LOOK, "Relaxed", Killed("loom_s3_reader_of_a_name_sees_the_payload")),
    (&DIR_CLAIM, "Acquire", Killed("loom_s5_one_of_two_publishes")),
    (
        &DIR_CLAIM,
        "Release",
        Argued(
            "EMPTY comes back, so an entry that was looked at with acquire may be another's by the time that it \
                is claimed: without acquire the new \
             publisher's words could stand before the old one's in their orders of modification, which in loom are its order of execution.",
        ),
    ),
    (&DIR_WRITE, "Relaxed", Killed("loom_s5_entry_is_reused_beside_a_reader")),
    (&COPY_FENCE, "Relaxed", Killed("loom_b1_a_copy_is_whole")),
    (&SLEEP_FENCE, "AcqRel", Killed("loom_q5_waiter_meets_giver")),
    (&RING_FENCE, "AcqRel", Killed("loom_q5_waiter_meets_giver")),
    (&BELL_RING, "Relaxed", Killed("loom_q5_count_of_sleepers_is_mended")),
    (&BELL_LOOK, "Relaxed", Killed("loom_q5_count_of_sleepers_is_mended")),
    (&SYNC_LOOK, "Relaxed", Killed("loom_q5_event_shows_what_was_written")),
    (&SYNC_TAKE, "Relaxed", Killed("loom_q5_lock_passes_on")),
    (&SYNC_GIVE, "Relaxed", Killed("loom_q5_lock_passes_on")),
    (&SYNC_PASS, "Relaxed", Killed("loom_q5_barrier_opens_twice")),
    (&CELL_LOOK, "Relaxed", KilledWith(&CELL_CLEAR, "Release", "loom_q1_q2_a_message_is_seen")),
    (&CELL_PUT, "Relaxed", Killed("loom_q1_q2_a_message_is_seen")),
    (&CELL_CLEAR, "Release", KilledWith(&CELL_LOOK, "Relaxed", "loom_q1_q2_a_message_is_seen")),
    (&CELL_CLEAR, "Acquire", Argued(LAP)),
    (
        &CELL_SEAL,
        "Relaxed",
        Argued("Whoever finds the seal reads nothing that was written before it: it says that there is nothing."),
    ),
    (&LET_GO, "Relaxed", Argued(BY_HEADER)),
    (&TAKE, "Relaxed", Argued(BY_HEADER)),
    (&TICKET_LOOK, "Relaxed", Killed("loom_q1_q2_two_senders_one_cell")),
    (&TICKET_RECHECK, "Relaxed", Argued(LAP)),
    (&TICKET_STEP, "Relaxed", Killed("loom_q1_q2_two_senders_one_cell")),
    (
        &STRUCTURE_WRITE,
        "Relaxed",
        Argued(
            "Nobody finds a structure before its block was made unowned (ADOPT, which releases) or its name \
                published (DIR_WRITE).",
        ),
    ),
    (
        &STRUCTURE_LOOK,
        "Relaxed",
        Argued("Where it matters, before a structure is freed, VISIT_FENCE stands behind it and acquires as well."),
    ),
    (&STRUCTURE_CHANGE, "Acquire", Killed("loom_q3_the_last_one_leaves")),
    (
        &STRUCTURE_CHANGE,
        "Release",
        Argued(
            "Whoever frees a structure reads every user's word itself, and each is a release sequence. Kept, \
                since who reads one state may act on all that led to it.",
        ),
    ),
    (&VISIT, "Relaxed", Killed("loom_q3_a_structure_is_freed_beside_a_comer")),
    (&VISIT_FENCE, "AcqRel", Killed("loom_q3_a_structure_is_freed_beside_a_comer")),
    (&VISIT_LOOK, "Relaxed", Killed("loom_q3_a_structure_is_freed_beside_a_comer")),
    (&CURSOR_STEP, "Relaxed", Killed("loom_t1_what_is_read_is_not_overwritten")),
    (&CURSOR_LOOK, "Relaxed", Killed("loom_t1_what_is_read_is_not_overwritten")),
    (&CURSOR_JOIN, "Relaxed", Argued(JOINED)),
    (&CURSOR_FENCE, "AcqRel", Killed("loom_t1_a_reader_joins_beside_a_publisher")),
    (&TURN_LOOK, "Relaxed", Killed("loom_m1_what_is_read_is_not_written")),
    (&TURN_CHANGE, "Relaxed", Killed("loom_m1_the_next_change_completes_the_last")),
    (&RETIRE, "Relaxed", Killed("loom_m1_a_reader_comes_while_two_leave")),
    (&LABEL_WRITE, "Relaxed", Killed("loom_m1_a_copy_is_made_beside_anothers_use")),
    (&GUARD_WRITE, "Relaxed", Argued(LINK)),
];

const LAP: &str = "Not in a model's bounds. A cell's link has its lap modulo 32. That a later lap's is not \
    taken for this one's follows from the recheck at head or \
                   tail: whoever put it had seen the cell emptied since (CELL_CLEAR releases, CELL_LOOK acquires), and whoever emptied it the head there (TICKET_LOOK); \
                   so a reader of the link reads, behind it (CELL_LOOK acquires), no head from before (TICKET_RECHECK). The chain takes 32 laps to break.";
const BY_HEADER: &str = "What the giver wrote comes to the taker by the cell (CELL_PUT, CELL_LOOK), which it \
    has read before. Kept for who has the block by its header alone: \
                        an adopter that was given its offset, and a recovery.";

const AID: &str = "Not for safety: a stale index is dropped by the pop, which checks the header (killed \
    together with OWN_LOOK). Kept, since \
                   a batch of stale indices is of no use.";
const KERNEL: &str = "Not modelled: beside each of these accesses the kernel is asked (file locks, /proc). \
    Needed where a survivor has recovered a slot and \
                      a newcomer takes it: only the release that gives the slot up and the acquire that takes it put the recovery before the new \
                      holder. x86 cannot show it missing. With real processes: `--test survival takeover`, the campaign.";
const JOINING: &str = "Not modelled: no thief meets a slot that changes hands in a model. A thief marks, fences \
    (REACH_FENCE) and reads whose the slot is; a newcomer writes \
                       whose it is, fences, and looks at its first header. Either the thief reads the newcomer, and its heavy fence reaches it, or the \
                       newcomer sees the mark.";
const JOINED: &str = "CURSOR_FENCE stands behind it in the reader, and in front of the look in the publisher: a \
    publisher that has not seen it is one whose fence was \
                      first, and then the reader finds the tail past its cursor.";
const LINK: &str = "Not modelled: a segment is formatted before its file is linked under its name, and the \
    kernel orders that before anybody's opening of \
                    it; the guard tells a file that was never finished. With real processes: `--test segment racing`.";

/// What notices each fault: first the tests of their own here.
const FAULTS: &[(Mutant, &str)] = &[
    (Mutant::LookFenceDropped, "`mutant_look_fence_dropped_is_caught`"),
    (Mutant::RecheckDropped, "`mutant_second_look_dropped_is_caught`; shuttle, schedules, crash, protocol model"),
    (Mutant::AdjacencyUnchecked, "`mutant_adjacency_unchecked_is_caught`; shuttle, schedules, crash, protocol model"),
    (Mutant::PositionUnchecked, "`mutant_position_unchecked_is_caught`; schedules, sort Packed"),
    (Mutant::HintRelookDropped, "`mutant_hint_relook_dropped_is_caught`; schedules"),
    (Mutant::CommitUnfrozen, "`mutant_commit_unfrozen_is_caught`; shuttle, schedules, crash, protocol model"),
    (Mutant::PopSizeUnchecked, "`mutant_pop_size_unchecked_is_caught`; shuttle, schedules, crash"),
    (Mutant::GenerationIgnored, "`mutant_generation_ignored_is_caught`; shuttle, schedules, crash"),
    (Mutant::TagDropped, "`mutant_tag_dropped_is_caught` of the library"),
    (Mutant::FooterDropped, "`mutant_footer_dropped_is_caught`; shuttle, schedules, crash, protocol model"),
    (Mutant::CarveAckedEarly, "`mutant_carve_acked_early_is_caught`; schedules, sort Any"),
    (Mutant::HazardUnset, "`mutant_hazard_unset_is_caught`; `mutant_tso_table`"),
    (Mutant::OwnFenceDropped, "`mutant_own_fence_dropped_is_caught`"),
    (Mutant::ThiefFenceDropped, "`mutant_thief_fence_dropped_is_caught`; `mutant_tso_table`"),
    (Mutant::HazardIgnored, "`mutant_hazard_ignored_is_caught`; `mutant_tso_table`"),
    (Mutant::MarkDropped, "`mutant_mark_dropped_is_caught`; `mutant_tso_table`"),
    (Mutant::AnothersMarkUsed, "`mutant_tso_table`, sort Recurring, seed 284 982"),
    (Mutant::ReachTooShort, "`mutant_tso_table`"),
    (Mutant::FarLeftOut, "`mutant_far_left_out_is_caught` of the library; `mutant_schedules_table`, sort Stop"),
    (Mutant::AdoptingIgnored, "`mutant_tso_table`, sort Adopters"),
    (Mutant::BystanderBelieved, "`mutant_tso_table`, sort Adopters"),
    (Mutant::OpenAdoptionIgnored, "`mutant_tso_table`, sort Leavers"),
    (
        Mutant::HelperRecheckDropped,
        "`mutant_schedules_table`, sort Hot, seed 50 366; `mutant_helper_recheck_dropped_is_caught` of shuttle; \
            protocol model",
    ),
    (Mutant::LargeHeld, "`schedules_l2_a_large_block_is_not_hidden_by_who_frees_it`; `mutant_crash_table`"),
    (Mutant::LeafAloneRehinted, "`mutant_schedules_table`, sort Search"),
    (Mutant::ChainUnrepaired, "`mutant_schedules_table`; `mutant_crash_table`"),
    (Mutant::RecoveryRecheckDropped, "`mutant_recovery_recheck_dropped_is_caught`; `mutant_crash_table`"),
    (Mutant::PinFenceDropped, "`mutant_pin_fence_dropped_is_caught`"),
    (Mutant::PinIgnored, "`mutant_pin_ignored_is_caught`; `mutant_crash_table`"),
    (Mutant::RecoveryUnsettled, "`mutant_schedules_table`; `mutant_crash_table`"),
    (Mutant::LimboForgotten, "`mutant_limbo_forgotten_is_caught` of the library"),
    (Mutant::AdoptedSentHome, "`mutant_adopted_sent_home_is_caught` of the library"),
    (Mutant::JoinRecheckDropped, "`schedules_s4_a_walker_counts_a_join_once`"),
    (Mutant::NewOwnerRefused, "`mutant_schedules_table`, sort Names"),
    (Mutant::PublishedFromAnybody, "`mutant_schedules_table`, sort Names"),
    (
        Mutant::SecondSweepDropped,
        "`mutant_second_sweep_dropped_is_caught`; `schedules_l2_what_is_freed_behind_a_sweep_is_found`",
    ),
    (Mutant::NewsUntold, "`mutant_news_is_caught` of schedules"),
    (Mutant::NewsToldEarly, "`mutant_news_is_caught` of schedules"),
    (Mutant::NewsToldLate, "`mutant_news_is_caught` of schedules"),
    (Mutant::NewsReadLate, "`mutant_news_is_caught` of schedules"),
    (Mutant::NewsIgnored, "`mutant_news_is_caught` of schedules"),
    (Mutant::MadeUntold, "`mutant_news_is_caught` of schedules"),
    (Mutant::MadeBesideOperation, "`mutant_news_is_caught` of schedules"),
    (Mutant::SentUntold, "`mutant_news_is_caught` of schedules"),
    (Mutant::DroppedUntold, "`mutant_news_is_caught` of schedules"),
    (Mutant::PassedIgnored, "`mutant_news_is_caught` of schedules"),
    (Mutant::SweepGoesOn, "`schedules_l2_a_block_that_moves_behind_both_sweeps_is_found`"),
    (Mutant::InFlightUnsettled, "`schedules_l2_c1_what_the_dead_had_freed_is_hinted_beside_a_merge`"),
    (Mutant::LargeFitUnchecked, "`mutant_schedules_table`, sort Large"),
    (Mutant::PoolUnbounded, "`mutant_schedules_table`, sort Large"),
    (Mutant::LargeTakenUnasked, "`mutant_schedules_table`, sort Large"),
    (Mutant::OwnerCountedUp, "`mutant_owner_counted_up_is_caught` of the library"),
    (
        Mutant::ResizedUnheld,
        "`mutant_resized_unheld_is_caught`; `schedules_s1_s4_c1_blocks_are_resized_and_freed_meanwhile`",
    ),
    (Mutant::AnnexUnbounded, "`mutant_resize_is_caught` of the library"),
    (Mutant::AnnexErasedFirst, "`mutant_resize_is_caught` of the library"),
    (Mutant::AnnexHeadKept, "`mutant_resize_is_caught` of the library"),
    (Mutant::JoinUnvalidated, "`mutant_topic_table`"),
    (Mutant::CursorsIgnored, "`mutant_topic_table`"),
    (Mutant::JoinsIgnored, "`mutant_topic_table`"),
    (Mutant::LagMiscounted, "`mutant_topic_table`"),
    (Mutant::LapBelieved, "`mutant_topic_table`"),
    (Mutant::FreedBeforeCleared, "`mutant_topic_table`"),
    (Mutant::TurnUnchecked, "`mutant_map_table`"),
    (Mutant::AbsentUnvalidated, "`mutant_absent_unvalidated_is_caught`; `mutant_map_table`"),
    (Mutant::NameUnvalidated, "`mutant_map_table`"),
    (Mutant::CopyUnvalidated, "`mutant_copy_unvalidated_is_caught`; `mutant_map_table`; `mutant_topic_table`"),
    (Mutant::DisplacedShown, "`mutant_displaced_shown_is_caught`; `mutant_map_table`"),
    (Mutant::InBeforeLetGo, "`mutant_map_table`"),
    (Mutant::EmptiedBeforeRetired, "`mutant_map_table`"),
    (Mutant::ReadersIgnored, "`mutant_map_table`"),
    (Mutant::CursorDroppedEarly, "`mutant_map_table`"),
    (Mutant::RetiredForgotten, "`mutant_map_table`"),
    (Mutant::DeadLeaveNothing, "`mutant_map_table`"),
    (Mutant::GoneUnchecked, "`mutant_gone_unchecked_is_caught`; `mutant_call_table`"),
    (Mutant::CallUnchecked, "`mutant_call_unchecked_is_caught`; `mutant_call_table`"),
    (Mutant::LateEndsLook, "`mutant_call_table`"),
    (Mutant::RingLeft, "`mutant_ring_left_is_caught`; `mutant_call_table`"),
    (Mutant::RungEarly, "`mutant_rung_early_is_caught`; `mutant_call_table`"),
    (Mutant::WakeBeforePut, "`mutant_wake_before_put_is_caught`"),
    (Mutant::SleepersFenceDropped, "`mutant_sleepers_fence_dropped_is_caught`"),
    (Mutant::RingFenceDropped, "`mutant_ring_fence_dropped_is_caught`"),
    (Mutant::StoreFenceDropped, "`mutant_store_fence_dropped_is_caught`; `mutant_tso_sleepers_table`"),
    (Mutant::CountedPlainly, "`mutant_tso_sleepers_table`"),
    (Mutant::ResetSilently, "`mutant_reset_silently_is_caught`; `mutant_tso_sleepers_table`; state model"),
    (Mutant::ResetUnnoticed, "`mutant_reset_unnoticed_is_caught`; `mutant_tso_sleepers_table`; state model"),
    (Mutant::CallKept, "`mutant_call_kept_is_caught`"),
    (Mutant::SecondPollDropped, "`mutant_second_poll_dropped_is_caught`"),
    (Mutant::HelperUntold, "`mutant_helper_untold_is_caught`"),
    (Mutant::HelperUnawaited, "`mutant_helper_unawaited_is_caught`"),
    (Mutant::WatchKeepsCall, "`mutant_watch_keeps_call_is_caught`"),
    (Mutant::WatchRings, "`mutant_watch_rings_is_caught`"),
    (Mutant::PoisonForgotten, "`mutant_poison_forgotten_is_caught`; `mutant_sync_table`"),
    (Mutant::TakenOverPlainly, "`mutant_taken_over_plainly_is_caught`; `mutant_sync_table`"),
    (Mutant::PermitTakenPlainly, "`mutant_sync_table`"),
    (Mutant::ClearedByTwo, "`mutant_sync_table`"),
    (Mutant::ArrivalKept, "`mutant_sync_table`"),
    (Mutant::ArrivalUnchecked, "`mutant_sync_table`"),
    (Mutant::TurnUnvalidated, "`mutant_turn_unvalidated_is_caught`; `mutant_sync_table`"),
    (Mutant::WithdrawnReplaced, "`mutant_sync_table`"),
    (Mutant::BlocksBeforeLinks, "`mutant_channel_table`; `mutant_map_table`"),
    (Mutant::LinksUnsettled, "`mutant_channel_table`; `mutant_map_table`"),
    (Mutant::VoidWordsKept, "`mutant_channel_table`"),
    (Mutant::HeaderBeforeCell, "`mutant_channel_table`"),
    (Mutant::LetGoPlain, "`mutant_channel_table`"),
    (Mutant::SentUnderOneGeneration, "`mutant_channel_table`"),
    (Mutant::HeadUnvalidated, "`mutant_channel_table`"),
    (Mutant::TailUnvalidated, "`mutant_channel_table`"),
    (Mutant::TakenBeforeCleared, "`mutant_channel_table`"),
    (Mutant::PendingTakenForVoid, "`mutant_channel_table`"),
    (Mutant::VisitIgnored, "`mutant_channel_table`"),
    (Mutant::EnteredUnasked, "`mutant_channel_table`"),
    (Mutant::UnnamedKept, "`mutant_channel_table`"),
    (Mutant::RemovedUnasked, "`mutant_channel_table`"),
    (Mutant::HeadToldEarly, "`mutant_channel_table`"),
    (Mutant::OldLinkIgnored, "`mutant_channel_table`"),
    (Mutant::RolesKept, "`mutant_channel_table`"),
    (Mutant::HoldWrittenLate, "`mutant_hold_table`"),
    (Mutant::HoldsUnsettled, "`mutant_hold_table`"),
    (Mutant::HoldsBeforeLinks, "`mutant_hold_table`"),
    (Mutant::ReturnedBeforeHold, "`mutant_hold_table`"),
    (Mutant::ReturnUncounted, "`mutant_hold_table`"),
    (Mutant::ReturnUnhelped, "`mutant_hold_table`"),
    (Mutant::ScanOvertold, "`mutant_hold_table`"),
    (Mutant::HoldClaimedPlainly, "`mutant_hold_claimed_plainly_is_caught`; `mutant_hold_table`"),
    (Mutant::AcknowledgementUntold, "`mutant_acknowledgement_untold_is_caught`"),
    (Mutant::HoldLeftUntold, "`mutant_hold_left_untold_is_caught`"),
];

/// The failure of one scenario, or of the first of many, with sites weaker.
fn weakened(names: &[&str], sites: [Option<(&Site, Ordering)>; 2]) -> Option<String> {
    let of = |weak: Option<(&Site, Ordering)>| weak.map(|(site, order)| (site.index, order));
    killer(names, Setting { weakened: sites.map(of), ..Setting::default() })
}

/// Whether a scenario does not notice one weaker site: explored to its end, in short bounds if they were asked for.
fn survives_alone(name: &str, site: &Site, weak: Ordering) -> bool {
    let scenario = all().find(|s| s.name == name).unwrap_or_else(|| panic!("no scenario {name}")).shortened();
    let setting = Setting { weakened: [Some((site.index, weak)), None], ..Setting::default() };
    quietly(|| explore(&scenario, setting)).is_ok()
}

fn ordering(site: &Site, name: &str) -> Ordering {
    *weaker(site.order).iter().find(|weak| format!("{weak:?}") == name).expect("one step weaker")
}

/// The table of all weakened orderings and faults, found by running the scenario named.
fn table() -> String {
    use std::fmt::Write;
    let mut table = String::from(
        "# Mutants\n\nWritten by `MATRIX_WRITE_REPORT=1 cargo test --features loom --test loom \
            mutants_report_is_current`, which without the variable fails \
         where this file is not what it finds.\n\n\
         ## Orderings, one step weaker\n\nloom explores the scenario named, with weak memory, over the production heap.\n\n\
         | site | weaker | fate |\n|---|---|---|\n",
    );
    for (site, order, fate) in FATES {
        let weak = ordering(site, order);
        let fate = match fate {
            Killed(scenario) => weakened(&[scenario], [Some((site, weak)), None]),
            KilledWith(other, order, scenario) => {
                let other_too = Some((*other, ordering(other, order)));
                assert!(survives_alone(scenario, site, weak), "{}: killed alone", site.name);
                let killed = weakened(&[scenario], [Some((site, weak)), other_too]);
                killed.map(|killed| format!("together with {} {order}, {killed}", other.name))
            }
            Argued(why) => Some(format!("argued: {why}")),
        };
        let fate = fate.unwrap_or_else(|| panic!("{} {order}: no model notices any more", site.name));
        writeln!(table, "| {} {:?} | {order} | {fate} |", site.name, site.order).expect("memory");
    }
    table.push_str(
        "\n## Faults\n\nChecks, fences, rechecks and orders of two writes left out or changed, one \
        at a time.\n\n| fault | noticed by |\n|---|---|\n",
    );
    for (mutant, by) in FAULTS {
        writeln!(table, "| {mutant:?} | {by} |").expect("memory");
    }
    table
}

/// Every weakening is killed or argued, every fault noticed, and the table says so.
#[test]
fn mutants_report_is_current() {
    for site in TABLE {
        for weak in weaker(site.order) {
            let rows = FATES.iter().filter(|row| row.0.index == site.index && row.1 == format!("{weak:?}")).count();
            assert_eq!(rows, 1, "{} {:?} -> {weak:?} has {rows} rows", site.name, site.order);
        }
    }
    for mutant in MUTANTS
        .iter()
        .chain(RESIZE_MUTANTS)
        .chain(WAITING_MUTANTS)
        .chain(CHANNEL_MUTANTS)
        .chain(HOLD_MUTANTS)
        .chain(TOPIC_MUTANTS)
        .chain(MAP_MUTANTS)
        .chain(CALL_MUTANTS)
        .chain(SYNC_MUTANTS)
    {
        assert_eq!(FAULTS.iter().filter(|row| row.0 == *mutant).count(), 1, "{mutant:?} has no row");
    }
    let (path, now) = (concat!(env!("CARGO_MANIFEST_DIR"), "/mutants.md"), table());
    println!("{now}");
    if std::env::var_os("MATRIX_WRITE_REPORT").is_some() {
        std::fs::write(path, &now).expect("the report can be written");
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == now,
        "verification/mutants.md is not current: write it anew"
    );
}

/// A scenario that takes long; searches leave it out.
const LONG: &str = "loom_s4_pop_races_resize";

/// Looks in every scenario for one that notices a weakened ordering: for whoever adds a site
/// (`MATRIX_SITE=FREEZE`), or wonders whether an argument still holds.
#[test]
#[ignore = "many minutes: each survivor takes every scenario"]
fn mutant_weakened_orderings_table() {
    let only = std::env::var("MATRIX_SITE").ok();
    let names: Vec<_> = all().map(|s| s.name).filter(|name| *name != LONG).collect();
    for site in TABLE.iter().filter(|site| only.as_ref().is_none_or(|only| site.name == only)) {
        for &weak in weaker(site.order) {
            let found = weakened(&names, [Some((site, weak)), None]);
            println!("site {} {:?} -> {weak:?} | {}", site.name, site.order, found.as_deref().unwrap_or("SURVIVES"));
        }
    }
}

/// The fault that no scenario here is known to notice, looked for in all of them: seen once, 19 975
/// executions into one scenario, until a check of sizes came in front of it. A scenario that begins to notice
/// it should take it over into the list above. verification/schedules/shuttle notices it.
#[test]
#[ignore = "minutes, and it asserts nothing"]
fn mutant_survivors_are_looked_for() {
    let names: Vec<_> = scenarios::ALL.iter().map(|s| s.name).filter(|name| *name != LONG).collect();
    let setting = Setting { mutant: Some(Mutant::HelperRecheckDropped), ..Setting::default() };
    println!("mutant HelperRecheckDropped | {}", killer(&names, setting).as_deref().unwrap_or("SURVIVES"));
}

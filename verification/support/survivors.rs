//! Planted faults that a search over the heap's participants does not find, however they are stopped and resumed, and
//! which check does.

use atomic_matrix::backend::Mutant;

const SURVIVORS: &[Mutant] = &[
    // A fence means nothing without weak memory, and what is about to be stored is sought by `tso` and under loom.
    Mutant::LookFenceDropped,
    Mutant::OwnFenceDropped,
    Mutant::ThiefFenceDropped,
    Mutant::PinFenceDropped,
    Mutant::MarkDropped,
    Mutant::AnothersMarkUsed,
    Mutant::ReachTooShort,
    Mutant::AdoptingIgnored,
    Mutant::BystanderBelieved,
    Mutant::OpenAdoptionIgnored,
    // Have tests of their own in `schedules`: `moving`, `news`, `recovering`.
    Mutant::SecondSweepDropped,
    Mutant::SweepGoesOn,
    Mutant::InFlightUnsettled,
    Mutant::NewsUntold,
    Mutant::NewsToldEarly,
    Mutant::NewsToldLate,
    Mutant::NewsReadLate,
    Mutant::NewsIgnored,
    Mutant::MadeUntold,
    Mutant::MadeBesideOperation,
    Mutant::SentUntold,
    Mutant::DroppedUntold,
    Mutant::PassedIgnored,
    // Takes a million changes of one word: `matrix::stalled`.
    Mutant::TagDropped,
    Mutant::OwnerCountedUp,
    // Have tests of their own: `matrix::audit`, `schedules_s4_a_walker_counts_a_join_once`.
    Mutant::LimboForgotten,
    Mutant::AdoptedSentHome,
    Mutant::JoinRecheckDropped,
];

/// Whether another check is the one that finds this fault: one of those above, or of those that a search names itself.
pub(crate) fn is_found_elsewhere(mutant: Mutant, here: &[Mutant]) -> bool {
    SURVIVORS.contains(&mutant) || here.contains(&mutant)
}

//! `verify`, and what changes a segment: `reap`, `heal`, `rm`.

use crate::args::{One, Reap, Rm, Target, Verify};
use crate::look::{alive_and_dead, identity, merged};
use crate::target::{files, is_mapped, reason};
use crate::{FAILED, FAULT, FINE, Failure, Outcome, code_of, look, text};
use atomic_matrix::Error;
use atomic_matrix::handlers::{Policy, Recovered, Repaired};
use serde_json::{Value, json};

pub(crate) fn verify(asked: &Verify) -> Outcome {
    let (found, looker) = asked.one.target.look()?;
    let seen = look::patiently(asked.tries, || looker.verify());
    let (alive, dead) = alive_and_dead(&looker.participants());
    let code = if seen.is_ok() { FINE } else { FAULT };
    if asked.one.json {
        let fault = seen.as_ref().err().map(fault);
        let more = json!({ "sound": seen.is_ok(), "fault": fault, "alive": alive, "dead": dead });
        return Ok((text::json(&merged(identity(&found, &looker), more)), code));
    }
    let out = match seen {
        Ok(stats) => {
            format!(
                "sound: {} tile the sector of {}, every free one can be found, none is left unmerged\n",
                text::count(look::blocks(&stats), "block"),
                text::bytes(stats.sector_bytes)
            )
        }
        Err(error) => {
            let seen = text::count(asked.tries as u64, "attempt");
            format!("fault: {} (seen by each of {seen})\n{}", fault(&error), who_may_be_at_it(alive, dead))
        }
    };
    Ok((out, code))
}

/// What may explain a fault.
fn who_may_be_at_it(alive: u64, dead: u64) -> String {
    let mut out = String::new();
    if alive > 0 {
        let alive = text::count(alive, "participant");
        out += &format!("{alive} alive: an operation in flight may look like a fault; verify again at rest\n");
    }
    if dead > 0 {
        let dead = text::count(dead, "participant");
        out += &format!("{dead} dead: matrix reap finishes what was left half-way\n");
    }
    out
}

/// What was found, without the library's advice.
fn fault(error: &Error) -> String {
    match error {
        Error::Corrupt { what } => what.clone(),
        other => reason(other),
    }
}

pub(crate) fn reap(asked: &Reap) -> Outcome {
    let (found, looker, handler) = asked.one.target.inspect()?;
    let keep = !asked.free && (asked.keep || looker.info().keeps_orphans);
    let policy = if keep { Policy::Keep } else { Policy::GiveBack };
    let (_, dead) = alive_and_dead(&handler.participants());
    // Without anybody dead, not even a slot is taken.
    let recovered = if dead == 0 { Default::default() } else { handler.reap_with(policy)? };
    let granule = looker.info().granule_bytes;
    if asked.one.json {
        let (live, in_flight) = bytes(&recovered, granule);
        let more = json!({
            "recovered": recovered.participants,
            "kept": keep,
            "live": { "blocks": recovered.live_blocks, "bytes": live },
            "in_flight": { "blocks": recovered.in_flight_blocks, "bytes": in_flight },
            "open_adoptions": recovered.open_adoptions,
        });
        return Ok((text::json(&merged(identity(&found, &looker), more)), FINE));
    }
    Ok((reaped(&recovered, keep, granule, &asked.one.target.segment), FINE))
}

/// What a recovery has found, in words.
fn reaped(recovered: &Recovered, keep: bool, granule: u64, segment: &str) -> String {
    if *recovered == Recovered::default() {
        return "no participant is dead\n".to_owned();
    }
    let (live, in_flight) = bytes(recovered, granule);
    let blocks = text::count(recovered.live_blocks, "live block");
    let mut out = format!("recovered {}\n", text::count(recovered.participants, "dead participant"));
    out += &match (recovered.live_blocks, keep) {
        (0, _) => "  held no live block\n".to_owned(),
        (_, false) => format!("  freed {blocks}, {}\n", text::bytes(live)),
        (_, true) => format!(
            "  kept {blocks}, {}: allocated still, and unowned until somebody adopts or frees them (adopt_at, \
            free_at);\n  matrix blocks {} --dead lists them\n",
            text::bytes(live),
            text::plain(segment)
        ),
    };
    if recovered.in_flight_blocks > 0 {
        let blocks = text::count(recovered.in_flight_blocks, "block");
        out += &format!("  freed {blocks}, {}, that they were just allocating or freeing\n", text::bytes(in_flight));
    }
    if recovered.open_adoptions > 0 {
        let blocks = text::count(recovered.open_adoptions, "block");
        out += &format!("  {blocks} of the dead being adopted just now: reap again when that has ended\n");
    }
    out
}

/// Bytes of the live blocks, and of those in flight.
fn bytes(recovered: &Recovered, granule: u64) -> (u64, u64) {
    (recovered.live_granules * granule, recovered.in_flight_granules * granule)
}

pub(crate) fn heal(asked: &One) -> Outcome {
    let (found, looker, handler) = asked.target.inspect()?;
    // A damaged segment has none.
    let before = look::stats(&looker).ok();
    let healed = handler.repair()?;
    let after = look::stats(&looker)?;
    if asked.json {
        let side = |s: &atomic_matrix::handlers::Stats| {
            json!({
                "free_blocks": s.free_blocks, "parked_blocks": s.parked_blocks, "largest_free": s.largest_free,
                "missed_merges": s.missed_merges,
            })
        };
        let mended = json!({
            "set_aside_blocks": healed.set_aside_blocks, "set_aside_bytes": healed.set_aside_bytes,
            "shortened_blocks": healed.shortened_blocks,
        });
        let more = json!({ "before": before.as_ref().map(side), "after": side(&after), "mended": mended });
        return Ok((text::json(&merged(identity(&found, &looker), more)), FINE));
    }
    let blocks = |s: &atomic_matrix::handlers::Stats| {
        let (free, parked) = (text::count(s.free_blocks, "free block"), text::count(s.parked_blocks, "parked block"));
        format!("{free} and {parked}")
    };
    let largest = |s: &atomic_matrix::handlers::Stats| text::bytes(s.largest_free);
    let out = format!(
        "{} before, {} after; the largest free block has {} (before: {})\n",
        before.as_ref().map_or_else(|| "damaged".into(), blocks),
        blocks(&after),
        largest(&after),
        before.as_ref().map_or_else(|| "unknown".into(), largest),
    );
    Ok((out + &damage(&healed), FINE))
}

/// What was mended, in words; nothing if nothing was.
fn damage(healed: &Repaired) -> String {
    let mut out = String::new();
    if healed.set_aside_blocks > 0 {
        let (blocks, bytes) = (text::count(healed.set_aside_blocks, "block"), text::bytes(healed.set_aside_bytes));
        out += &format!(
            "damage: {blocks}, {bytes}, set aside, since nobody can tell who uses them; matrix blocks lists them\n"
        );
    }
    if healed.shortened_blocks > 0 {
        out += &format!("damage: {} reached over others\n", text::count(healed.shortened_blocks, "free block"));
    }
    out
}

pub(crate) fn rm(asked: &Rm) -> Outcome {
    let Some(segment) = &asked.segment else { return rm_stale(asked) };
    let found = Target { segment: segment.clone(), place: asked.place.clone() }.find()?;
    let path = found.path.display();
    let alive = match found.inspect(&asked.place.trust_owner) {
        Ok(handler) => {
            let (alive, _) = alive_and_dead(&handler.participants());
            if alive > 0 && !asked.force {
                let alive = text::count(alive, "participant");
                let message =
                    format!("{path} is in use: {alive} alive; --force removes it all the same, and they go on");
                return Err(Failure::new(FAILED, message));
            }
            handler.unlink()?;
            Some(alive)
        }
        Err(error) => {
            // Only what is called like a segment, and can't be opened because of what is in it.
            let named = found.is_called_like_one();
            let broken = code_of(&error) == FAULT
                || matches!(error, Error::WrongVersion { .. } | Error::WrongEndianness { .. } | Error::NotReady { .. });
            if !(named && broken) {
                return Err(found.explain(&error));
            }
            if !asked.force {
                let message =
                    format!("{}\nnobody can say who uses it; --force removes the file all the same", reason(&error));
                return Err(Failure::new(code_of(&error), message));
            }
            let failed = |e| Failure::new(FAILED, format!("could not remove {path}: {e}"));
            std::fs::remove_file(&found.path).map_err(failed)?;
            None
        }
    };
    if asked.json {
        let alive = alive.map_or(Value::Null, Value::from);
        let value = json!({ "path": found.path.to_string_lossy(), "removed": true, "alive": alive });
        return Ok((text::json(&value), FINE));
    }
    Ok((format!("removed {path}\n"), FINE))
}

/// Removes what nobody uses any more. Whoever attaches between the look and the removal goes on without a name, as
/// with `rm`.
fn rm_stale(asked: &Rm) -> Outcome {
    let mut removed = vec![];
    for found in files(&asked.place.dir)? {
        let unused = |found: &crate::target::Found| {
            let handler = found.inspect(&asked.place.trust_owner).ok()?;
            (alive_and_dead(&handler.participants()).0 == 0).then_some(())
        };
        // This process has it open no more by then.
        if unused(&found).is_none() || is_mapped(&found.path) {
            continue;
        }
        let unlinked = found.inspect(&asked.place.trust_owner).and_then(|handler| handler.unlink());
        match unlinked {
            Ok(()) => removed.push(found.path.to_string_lossy().into_owned()),
            // Somebody else was quicker.
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(Failure::of(error)),
        }
    }
    if asked.json {
        return Ok((text::json(&json!({ "removed": removed })), FINE));
    }
    if removed.is_empty() {
        return Ok(("no segment is stale\n".to_owned(), FINE));
    }
    Ok((removed.iter().map(|path| format!("removed {path}\n")).collect(), FINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_told_with_each_of_its_parts_or_without() {
        let all = Recovered {
            participants: 2,
            live_blocks: 3,
            live_granules: 40,
            in_flight_blocks: 1,
            in_flight_granules: 5,
            open_adoptions: 2,
        };
        assert_eq!(
            reaped(&all, false, 16, "x"),
            "recovered 2 dead participants\n  freed 3 live blocks, 640 B\n  freed 1 block, 80 B, that they were just \
            allocating or freeing\n  2 blocks of the dead being adopted just now: reap again when that has ended\n"
        );
        let none = Recovered { participants: 1, ..Recovered::default() };
        assert_eq!(reaped(&none, true, 16, "x"), "recovered 1 dead participant\n  held no live block\n");
        assert_eq!(reaped(&Recovered::default(), true, 16, "x"), "no participant is dead\n");
        let kept = reaped(&Recovered { live_blocks: 1, live_granules: 1, ..none }, true, 64, "x\x1b");
        assert!(
            kept.contains("  kept 1 live block, 64 B: ")
                && kept.ends_with("matrix blocks x\u{fffd} --dead lists them\n")
        );
    }

    #[test]
    fn damage_and_who_may_have_done_it_are_told_where_there_is_any() {
        let mut healed = Repaired::default();
        assert_eq!(damage(&healed), "");
        healed.shortened_blocks = 1;
        assert_eq!(damage(&healed), "damage: 1 free block reached over others\n");
        (healed.set_aside_blocks, healed.set_aside_bytes, healed.shortened_blocks) = (2, 2048, 0);
        assert_eq!(
            damage(&healed),
            "damage: 2 blocks, 2 KiB, set aside, since nobody can tell who uses them; matrix blocks lists them\n"
        );
        let alive = "1 participant alive: an operation in flight may look like a fault; verify again at rest\n";
        let dead = "2 participants dead: matrix reap finishes what was left half-way\n";
        let told = [(0, 0), (1, 0), (0, 2), (1, 2)].map(|(alive, dead)| who_may_be_at_it(alive, dead));
        assert_eq!(told, ["".to_owned(), alive.to_owned(), dead.to_owned(), alive.to_owned() + dead]);
        assert_eq!(fault(&Error::Corrupt { what: "a hole".to_owned() }), "a hole");
        assert!(fault(&Error::NoParticipantSlot { participants: 3 }).contains("participant slot"));
    }
}

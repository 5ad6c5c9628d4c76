//! `blocks`: a table of blocks.

use crate::args::{Blocks, State};
use crate::{FINE, Outcome, look, text};
use atomic_matrix::handlers::{BlockInfo, KEPT};
use serde_json::{Value, json};

/// The blocks that pass the filters, as many as are shown, and how many there are.
#[derive(Default)]
struct Seen {
    shown: Vec<BlockInfo>,
    matching: u64,
    bytes: u64,
}

pub(crate) fn blocks(asked: &Blocks) -> Outcome {
    let (found, looker) = asked.one.target.look()?;
    let dead: Vec<u16> = looker.participants().iter().filter(|p| !p.alive).map(|p| p.number).chain([KEPT]).collect();
    let passes = |block: &BlockInfo| {
        let state = State::of(block.state);
        // What is free is unowned, whoever parked it.
        let left = matches!(state, State::Live | State::InFlight) && dead.contains(&block.owner);
        (!asked.dead || left)
            && (asked.state.is_empty() || asked.state.contains(&state))
            && asked.owner.is_none_or(|owner| block.owner == owner)
            && asked.min_bytes.is_none_or(|least| block.bytes >= least)
    };
    let seen = look::fold(&looker, |seen: &mut Seen, block| {
        if passes(&block) {
            seen.matching += 1;
            seen.bytes += block.bytes;
            if asked.limit == 0 || seen.matching <= asked.limit {
                seen.shown.push(block);
            }
        }
    })?;
    if asked.one.json {
        let rows: Vec<Value> = seen.shown.iter().map(value).collect();
        let more = json!({ "matching": seen.matching, "matching_bytes": seen.bytes, "blocks": rows });
        return Ok((text::json(&look::merged(look::identity(&found, &looker), more)), FINE));
    }
    let header = ["OFFSET", "BYTES", "STATE", "OWNER", "GENERATION", "TYPE"];
    let rows = seen.shown.iter().map(|block| {
        let fingerprint = block.fingerprint.map_or_else(|| "-".to_owned(), |f| format!("{f:#010x}"));
        vec![
            block.offset.to_string(),
            block.bytes.to_string(),
            State::of(block.state).name().to_owned(),
            block.owner.to_string(),
            block.generation.to_string(),
            fingerprint,
        ]
    });
    let mut out = text::table(&header, &[0, 1, 3, 4], rows);
    out += &format!("{}, {}", text::count(seen.matching, "block"), text::bytes(seen.bytes));
    if seen.matching > seen.shown.len() as u64 {
        out += &format!("; the first {} are shown (--limit 0 shows all)", seen.shown.len());
    }
    Ok((out + "\n", FINE))
}

fn value(block: &BlockInfo) -> Value {
    json!({
        "offset": block.offset,
        "position": block.position,
        "bytes": block.bytes,
        "class_bytes": block.class_bytes,
        "state": State::of(block.state).name(),
        "owner": block.owner,
        "generation": block.generation,
        "fingerprint": block.fingerprint,
    })
}

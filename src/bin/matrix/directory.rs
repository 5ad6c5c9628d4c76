//! `directory`: what is published, and whose it is.

use crate::args::One;
use crate::{FINE, Outcome, look, text};
use atomic_matrix::handlers::{BlockInfo, KEPT, LINKED, Name, Participant};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn directory(asked: &One) -> Outcome {
    let (found, looker) = asked.target.look()?;
    let mut names = looker.names();
    names.sort_by(|one, other| one.name.cmp(&other.name));
    // A walk, so that a name under load never shows another block's size.
    let blocks = look::fold(&looker, |blocks: &mut BTreeMap<(u32, u32), BlockInfo>, block| {
        let named = |name: &Name| (name.offset, name.generation) == (block.offset, block.generation);
        if names.iter().any(named) {
            blocks.insert((block.offset, block.generation), block);
        }
    })?;
    let participants = looker.participants();
    let block = |name: &Name| blocks.get(&(name.offset, name.generation)).filter(|_| name.live);
    let entries = looker.info().directory_entries;
    if asked.json {
        let rows: Vec<Value> = names.iter().map(|name| value(name, block(name), &participants)).collect();
        let more = json!({ "entries": entries, "names": rows });
        return Ok((text::json(&look::merged(look::identity(&found, &looker), more)), FINE));
    }
    if names.is_empty() {
        return Ok((format!("nothing is published; there is room for {}\n", text::count(entries, "name")), FINE));
    }
    let rows = names.iter().map(|name| {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            name.name.clone(),
            name.offset.to_string(),
            or_none(block(name).map(|block| block.bytes.to_string())),
            or_none(block(name).map(|block| owner(block.owner, &participants))),
            or_none(name.fingerprint.map(|print| format!("{print:#010x}"))),
            if name.live { String::new() } else { "its block was freed; the name can be withdrawn".to_owned() },
        ]
    });
    let mut out = text::table(&["NAME", "OFFSET", "BYTES", "OWNER", "TYPE", "NOTE"], &[1, 2], rows);
    out += &format!("{} of {entries}\n", text::count(names.len() as u64, "name"));
    Ok((out, FINE))
}

/// "nobody", "3 (process 1234)".
fn owner(number: u16, participants: &[Participant]) -> String {
    match (number, participants.iter().find(|p| p.number == number)) {
        (0, _) => "nobody".to_owned(),
        (LINKED, _) => "a structure".to_owned(),
        (KEPT, _) => "nobody (kept from the dead)".to_owned(),
        (_, Some(p)) => format!("{number} (process {}{})", p.pid, if p.alive { "" } else { ", dead" }),
        (_, None) => number.to_string(),
    }
}

fn value(name: &Name, block: Option<&BlockInfo>, participants: &[Participant]) -> Value {
    let holder = block.and_then(|block| participants.iter().find(|p| p.number == block.owner));
    json!({
        "name": name.name, "offset": name.offset, "generation": name.generation, "fingerprint": name.fingerprint,
        "live": name.live, "bytes": block.map(|block| block.bytes), "owner": block.map(|block| block.owner),
        "pid": holder.map(|p| p.pid), "alive": holder.map(|p| p.alive),
    })
}

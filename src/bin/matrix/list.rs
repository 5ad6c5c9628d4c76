//! `ls`: which segments there are.

use crate::args::Ls;
use crate::target::{Found, files, is_mapped, process_name, reason};
use crate::{FAULT, FINE, Outcome, code_of, look, text};
use atomic_matrix::Error;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

/// What a row says about a segment that could be opened.
struct Use {
    /// Processes that take part, and what they are called.
    users: Vec<(u32, Option<String>)>,
    alive: u64,
    dead: u64,
    live_bytes: u64,
    sector_bytes: u64,
}

fn look_into(found: &Found, trusted: &[u32]) -> Result<Use, Error> {
    let looker = found.look(trusted)?;
    let stats = look::stats(&looker)?;
    let participants = looker.participants();
    let (alive, dead) = look::alive_and_dead(&participants);
    let pids: std::collections::BTreeSet<u32> =
        participants.iter().filter(|one| one.alive).map(|one| one.pid).collect();
    let users = pids.into_iter().map(|pid| (pid, process_name(pid))).collect();
    Ok(Use { users, alive, dead, live_bytes: stats.live_bytes, sector_bytes: stats.sector_bytes })
}

pub(crate) fn ls(asked: &Ls) -> Outcome {
    let (mut rows, mut values, mut code) = (vec![], vec![], FINE);
    for found in files(&asked.place.dir)? {
        let seen = look_into(&found, &asked.place.trust_owner);
        if matches!(seen, Err(Error::NotFound { .. })) {
            continue; // Removed since the directory was read.
        }
        let meta = std::fs::symlink_metadata(&found.path).ok();
        let (size, owner) = (meta.as_ref().map(|meta| meta.len()), meta.as_ref().map(|meta| meta.uid()));
        let name = found.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = found.id.map_or(name, |id| id.to_string());
        let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let mut row = vec![id.clone(), size.map_or("?".to_owned(), text::bytes), number(owner.map(u64::from))];
        let age = meta.as_ref().and_then(|meta| meta.created().ok()?.elapsed().ok()).map(|age| age.as_secs());
        row.push(age.map_or_else(|| "?".to_owned(), text::age));
        let mut value = json!({
            "id": id, "path": found.path.to_string_lossy(), "bytes": size, "owner": owner, "age_seconds": age,
        });
        let more = match &seen {
            Ok(used) => {
                row.extend([used.alive.to_string(), used.dead.to_string()]);
                row.push(text::percent(used.live_bytes, used.sector_bytes));
                let stale = used.alive == 0 && !is_mapped(&found.path);
                let called = |(pid, name): &(u32, Option<String>)| match name {
                    Some(name) => format!("{name} ({pid})"),
                    None => pid.to_string(),
                };
                row.push(used.users.iter().map(called).collect::<Vec<_>>().join(", "));
                row.push(match (stale, used.dead > 0) {
                    (true, _) => "stale: nobody has it open; matrix rm --stale removes it".to_owned(),
                    (false, true) => "dead participants: matrix reap recovers them".to_owned(),
                    (false, false) => String::new(),
                });
                let users = used.users.iter().map(|(pid, name)| json!({ "pid": pid, "process": name }));
                json!({
                    "stale": stale, "users": users.collect::<Vec<_>>(),
                    "status": "ok", "alive": used.alive, "dead": used.dead, "live_bytes": used.live_bytes,
                    "sector_bytes": used.sector_bytes, "reason": Value::Null,
                })
            }
            Err(error) => {
                let damaged = code_of(error) == FAULT;
                code = if damaged { FAULT } else { code };
                let status = if damaged { "damaged" } else { "unknown" };
                row.extend(["?", "?", "?", "?"].map(str::to_owned));
                row.push(format!("{}: {}", if damaged { "damaged" } else { "not opened" }, reason(error)));
                json!({
                    "stale": Value::Null, "users": Value::Null,
                    "status": status, "alive": Value::Null, "dead": Value::Null, "live_bytes": Value::Null,
                    "sector_bytes": Value::Null, "reason": reason(error),
                })
            }
        };
        value = look::merged(value, more);
        rows.push(row);
        values.push(value);
    }
    if asked.json {
        return Ok((text::json(&Value::Array(values)), code));
    }
    if rows.is_empty() {
        return Ok((format!("no segments in {}\n", asked.place.dir.display()), code));
    }
    let header = ["ID", "SIZE", "UID", "AGE", "ALIVE", "DEAD", "LIVE", "USERS", "NOTE"];
    Ok((text::table(&header, &[1, 2, 3, 4, 5, 6], rows), code))
}

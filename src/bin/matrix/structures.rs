//! `structures`, `peek`, `send` and `recv`: what processes talk with.

use crate::args::{self, Peek, Recv, Send, Target};
use crate::look::{identity, merged};
use crate::target::process_name;
use crate::types::{content_name, key, name, shown};
use crate::{FAILED, FINE, Failure, NO_SEGMENT, Outcome, text};
use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, Participant};
use atomic_matrix::ipc::{ChannelOptions, ContentInfo, ReadOnly, Receiver, StructureInfo, Unreceived};
use atomic_matrix::segment::Options;
use serde_json::{Value, json};
use std::io::Read;
use std::time::Duration;

/// Bytes of a block that are looked at.
const SHOWN: usize = 80;

/// The structures of a segment at one moment, and how many were put into each since the moment before.
pub(crate) struct Structures {
    seen: Vec<StructureInfo>,
    rates: Option<Vec<Option<f64>>>,
}

impl Structures {
    pub(crate) fn of(looker: &ReadOnly) -> Result<Self, Failure> {
        let mut seen = looker.structures().map_err(Failure::of)?;
        seen.sort_by(|one, other| (one.kind, &one.names).cmp(&(other.kind, &other.names)));
        Ok(Self { seen, rates: None })
    }

    /// The same so many seconds later.
    pub(crate) fn since(mut self, before: &Self, seconds: f64) -> Self {
        let since = |now: &StructureInfo| {
            let is = |before: &&StructureInfo| (before.offset, &before.names) == (now.offset, &now.names);
            rate(before.seen.iter().find(is)?.ever?, now.ever?, seconds)
        };
        self.rates = Some(self.seen.iter().map(since).collect());
        self
    }

    fn rated(&self) -> impl Iterator<Item = (&StructureInfo, Option<f64>)> {
        self.seen.iter().enumerate().map(move |(at, one)| (one, self.rates.as_ref().and_then(|rates| rates[at])))
    }

    pub(crate) fn json(&self, participants: &[Participant]) -> Value {
        self.rated().map(|(one, rate)| value(one, rate, participants)).collect()
    }

    /// A table; empty if there are none.
    pub(crate) fn table(&self, participants: &[Participant]) -> String {
        if self.seen.is_empty() {
            return String::new();
        }
        let rows = self.rated().map(|(one, rate)| {
            let ever = one.ever.map_or_else(|| "-".to_owned(), |ever| ever.to_string());
            vec![
                if one.names.is_empty() { "-".to_owned() } else { one.names.join(", ") },
                one.kind.to_owned(),
                content_name(one.content),
                format!("{}/{}", one.depth, one.capacity),
                rate.map_or(ever, |rate| format!("{rate:.0}/s")),
                users(one, participants),
                note(one, participants),
            ]
        });
        let put = if self.rates.is_some() { "PUT/s" } else { "PUT" };
        text::table(&["NAME", "KIND", "TYPE", "DEPTH", put, "USERS", "NOTE"], &[3, 4], rows)
    }
}

pub(crate) fn structures(asked: &args::Structures) -> Outcome {
    let (found, looker) = asked.one.target.look()?;
    let mut all = Structures::of(&looker)?;
    if let Some(seconds) = asked.seconds {
        std::thread::sleep(Duration::from_secs_f64(seconds));
        all = Structures::of(&looker)?.since(&all, seconds);
    }
    let participants = looker.participants();
    if asked.one.json {
        let more = json!({ "structures": all.json(&participants) });
        return Ok((text::json(&merged(identity(&found, &looker), more)), FINE));
    }
    let table = all.table(&participants);
    Ok((if table.is_empty() { "there are no structures\n".to_owned() } else { table }, FINE))
}

/// How many a second; none if it is another structure by now.
fn rate(before: u64, now: u64, seconds: f64) -> Option<f64> {
    Some(now.checked_sub(before)? as f64 / seconds)
}

/// "camera (1234)", "1234, dead".
fn process(number: u16, participants: &[Participant]) -> String {
    match participants.iter().find(|one| one.number == number) {
        Some(one) if one.alive => match process_name(one.pid) {
            Some(name) => format!("{name} ({})", one.pid),
            None => one.pid.to_string(),
        },
        Some(one) => format!("{}, dead", one.pid),
        None => format!("participant {number}"),
    }
}

fn users(one: &StructureInfo, participants: &[Participant]) -> String {
    let mut out: Vec<String> = one
        .users
        .iter()
        .map(|user| {
            let mut text = process(user.participant, participants);
            for (count, letter) in [(user.senders, 's'), (user.receivers, 'r')] {
                if count > 0 {
                    text += &format!(" {count}{letter}");
                }
            }
            for (_, behind) in one.subscribers.iter().filter(|(who, _)| *who == user.participant) {
                text += &format!(" +{behind}");
            }
            text
        })
        .collect();
    let others = one.subscribers.iter().filter(|(who, _)| one.users.iter().all(|user| user.participant != *who));
    out.extend(others.map(|(who, behind)| format!("{} +{behind}", process(*who, participants))));
    if out.is_empty() { "nobody".to_owned() } else { out.join("; ") }
}

fn note(one: &StructureInfo, participants: &[Participant]) -> String {
    let mut notes = vec![];
    if let Some(holder) = one.held_by {
        notes.push(format!("held by {}", process(holder, participants)));
    }
    for (worker, messages) in &one.holding {
        notes.push(format!("{} holds {messages}", process(*worker, participants)));
    }
    for (count, what) in [(one.asleep.0, "to put"), (one.asleep.1, "to take")] {
        if count > 0 {
            notes.push(format!("{count} wait {what}"));
        }
    }
    if one.removed {
        notes.push("removed".to_owned());
    } else if one.closed {
        notes.push("closed".to_owned());
    }
    notes.join(", ")
}

fn value(one: &StructureInfo, rate: Option<f64>, participants: &[Participant]) -> Value {
    let pid = |number: u16| participants.iter().find(|one| one.number == number).map(|one| one.pid);
    let users: Vec<Value> = one
        .users
        .iter()
        .map(|user| {
            json!({
                "participant": user.participant, "pid": pid(user.participant), "handles": user.handles,
                "senders": user.senders, "receivers": user.receivers,
                "process": pid(user.participant).and_then(process_name),
            })
        })
        .collect();
    let subscribers: Vec<Value> = one
        .subscribers
        .iter()
        .map(|(who, behind)| json!({ "participant": who, "pid": pid(*who), "behind": behind }))
        .collect();
    let holding: Vec<Value> = one
        .holding
        .iter()
        .map(|(who, messages)| json!({ "participant": who, "pid": pid(*who), "messages": messages }))
        .collect();
    json!({
        "names": one.names, "kind": one.kind, "offset": one.offset, "type": name(one.content),
        "content": one.content, "capacity": one.capacity, "depth": one.depth, "ever": one.ever, "per_second": rate,
        "users": users, "subscribers": subscribers, "held_by": one.held_by, "holding": holding,
        "senders_asleep": one.asleep.0, "receivers_asleep": one.asleep.1, "closed": one.closed, "removed": one.removed,
    })
}

pub(crate) fn peek(asked: &Peek) -> Outcome {
    let (found, looker) = asked.one.target.look()?;
    let all = looker.structures().map_err(Failure::of)?;
    let Some(structure) = all.iter().find(|one| one.names.contains(&asked.name)) else {
        return Err(no_structure(&asked.name));
    };
    if matches!(structure.kind, "event" | "semaphore" | "barrier") {
        let message =
            format!("{} is of a kind that holds no values ({}); see `matrix structures`", asked.name, structure.kind);
        return Err(Failure::new(FAILED, message));
    }
    let mut contents = looker.contents(structure, SHOWN);
    contents.truncate(asked.limit);
    if asked.one.json {
        let row = |one: &ContentInfo| {
            json!({
                "number": one.number, "offset": one.offset, "bytes": one.bytes, "giver": one.giver,
                "fingerprint": one.fingerprint, "type": one.fingerprint.and_then(name),
                "key": one.key.as_deref().map(key), "value": shown(one.fingerprint, &one.first),
            })
        };
        let rows: Vec<Value> = contents.iter().map(row).collect();
        let more = json!({ "name": asked.name, "kind": structure.kind, "contents": rows });
        return Ok((text::json(&merged(identity(&found, &looker), more)), FINE));
    }
    if contents.is_empty() {
        return Ok((format!("there is nothing in {}\n", asked.name), FINE));
    }
    let participants = looker.participants();
    let keyed = structure.kind == "map";
    let rows = contents.iter().map(|one| {
        let first = one.key.as_deref().map_or_else(|| one.number.to_string(), key);
        let (kind, from) = (one.fingerprint.map_or_else(|| "-".to_owned(), content_name), giver(one, &participants));
        vec![first, one.bytes.to_string(), kind, from, shown(one.fingerprint, &one.first)]
    });
    let right: &[usize] = if keyed { &[1] } else { &[0, 1] };
    let first = if keyed { "KEY" } else { "NUMBER" };
    Ok((text::table(&[first, "BYTES", "TYPE", "FROM", "VALUE"], right, rows), FINE))
}

/// Who put it there; of what is in the structure itself nobody did.
fn giver(one: &ContentInfo, participants: &[Participant]) -> String {
    if one.giver == 0 { "-".to_owned() } else { process(one.giver, participants) }
}

fn no_structure(name: &str) -> Failure {
    Failure::new(NO_SEGMENT, format!("there is no structure {name}; `matrix structures` lists those that there are"))
}

/// Attaches as a participant.
fn attach(target: &Target) -> Result<Handler, Failure> {
    let found = target.find()?;
    let options = Options::new().path(&found.path).patience(Duration::ZERO);
    let options = target.place.trust_owner.iter().fold(options, |options, uid| options.trust_owner(*uid));
    found.id.into_iter().fold(options, Options::id).attach().map_err(|error| found.explain(&error))
}

fn failed(name: &str, error: Error) -> Failure {
    match error {
        Error::NameUnknown { .. } => no_structure(name),
        Error::TypeMismatch { .. } => {
            Failure::new(FAILED, format!("{name} is no channel of bytes or text; `matrix peek` shows what is in it"))
        }
        error => Failure::new(FAILED, error.to_string()),
    }
}

pub(crate) fn send(asked: &Send) -> Outcome {
    let bytes = if asked.text == "-" {
        let mut bytes = vec![];
        std::io::stdin().read_to_end(&mut bytes)?;
        bytes
    } else {
        asked.text.clone().into_bytes()
    };
    let (handler, patience) = (attach(&asked.target)?, Duration::from_secs_f64(asked.timeout));
    let sent = match handler.channel::<[u8]>(&asked.name).open() {
        Ok(channel) => channel.sender().and_then(|sender| {
            let message = handler.message_from(&bytes)?;
            Ok(sender.send_timeout(message, patience)?)
        }),
        Err(Error::TypeMismatch { .. }) => handler.channel::<str>(&asked.name).open().and_then(|channel| {
            let message = handler.message_text(&String::from_utf8_lossy(&bytes))?;
            Ok(channel.sender()?.send_timeout(message, patience)?)
        }),
        Err(error) => Err(error),
    };
    sent.map_err(|error| failed(&asked.name, error))?;
    Ok((String::new(), FINE))
}

pub(crate) fn recv(asked: &Recv) -> Outcome {
    let handler = attach(&asked.target)?;
    let received = match handler.channel::<[u8]>(&asked.name).open() {
        Ok(channel) => channel.receiver().map(|receiver| receive(asked, &receiver, |bytes| bytes)),
        Err(Error::TypeMismatch { .. }) => {
            let text = ChannelOptions::open(handler.channel::<str>(&asked.name));
            text.and_then(|channel| channel.receiver()).map(|receiver| receive(asked, &receiver, str::as_bytes))
        }
        Err(error) => Err(error),
    };
    received.map_err(|error| failed(&asked.name, error))?
}

/// Each message is written before the next one is received: nothing that was taken is kept back.
fn receive<T: atomic_matrix::ipc::Payload + ?Sized>(
    asked: &Recv,
    receiver: &Receiver<T>,
    bytes: impl Fn(&T) -> &[u8],
) -> Outcome {
    use std::io::Write;
    for _ in 0..asked.count {
        let message = match receiver.recv_timeout(Duration::from_secs_f64(asked.timeout)) {
            Ok(message) => message,
            Err(Unreceived::Timeout) => {
                return Err(Failure::new(
                    FAILED,
                    format!("nothing came out of {} until the time was over", asked.name),
                ));
            }
            Err(why) => return Err(Failure::new(FAILED, why.to_string())),
        };
        let mut out = std::io::stdout().lock();
        out.write_all(bytes(&message))?;
        if asked.count > 1 {
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    Ok((String::new(), FINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_name_and_whether_it_lives() {
        let own = std::process::id();
        let one = |number, pid, alive| Participant { number, pid, alive, recovered_by: None };
        let all = [one(1, own, true), one(2, own, false), one(3, u32::MAX, true)];
        let called = std::fs::read_to_string(format!("/proc/{own}/comm")).expect("readable");
        let told = [1, 2, 3, 4].map(|number| process(number, &all));
        let expected = [format!("{} ({own})", called.trim_end()), format!("{own}, dead")];
        assert_eq!(told[..2], expected);
        assert_eq!(told[2..], [u32::MAX.to_string(), "participant 4".to_owned()]);
    }

    #[test]
    fn a_rate_is_of_a_second() {
        assert_eq!([rate(10, 13, 0.5), rate(4, 4, 2.0), rate(4, 3, 2.0)], [Some(6.0), Some(0.0), None]);
    }
}

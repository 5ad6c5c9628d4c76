//! Each run in a process of its own: a peer that crashes or hangs ends that run, and is reported as what it was.

use crate::list;
use crate::support::drift::Phase;
use crate::support::mixes;
use crate::support::registry::Entry;
use crate::support::work::{Filled, Packing, Role};
use crate::support::{Outcome, Work};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, kill_process_group, set_parent_process_death_signal, setrlimit,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a run may take besides its measurement: more than a worker process may (20 s), whose end says more.
const PATIENCE: Duration = Duration::from_secs(30);
/// What filling an arena may take: it isn't bounded in time, but in operations.
const FILLING: Duration = Duration::from_secs(30);
/// The same for a phase of drifting sizes.
const DRIFTING: Duration = Duration::from_secs(5);
/// A peer that has hung so often is not run any more.
const HANGS: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct Task {
    parent: i32,
    peer: String,
    job: Job,
}

#[derive(Debug, Serialize, Deserialize)]
enum Job {
    /// Roles and seconds.
    Run(Vec<Role>, f64),
    Pack,
    Fill(mixes::Number),
    /// So many phases.
    Drift(usize),
}

/// The peer, each run of which is made by a child process.
pub(crate) fn apart(entry: Entry) -> Entry {
    let name = entry.name;
    let hangs = Rc::new(Cell::new(0));
    let (packs, fills, drifts) = (Rc::clone(&hangs), Rc::clone(&hangs), Rc::clone(&hangs));
    entry.through(
        move |roles, seconds| run(name, Job::Run(roles.to_vec(), seconds), &hangs),
        move || run(name, Job::Pack, &packs),
        move |mix| run(name, Job::Fill(mix), &fills),
        move |phases| run(name, Job::Drift(phases), &drifts),
    )
}

/// A child, and all processes that it started; they end with this.
struct Group(Child);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = Pid::from_raw(self.0.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL); // Gone already: fine.
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not waited for yet, or waited for by `run`, which leaves nobody behind: the number is still this group's.
        if let Ok(None) = self.0.try_wait() {
            self.kill();
            let _ = self.0.wait();
        }
    }
}

fn run<T: DeserializeOwned>(peer: &str, job: Job, hangs: &Cell<u32>) -> Outcome<T> {
    if hangs.get() >= HANGS {
        return Err(format!("not run: it did not end {HANGS} times before").into());
    }
    let limit = PATIENCE
        + match job {
            Job::Run(_, seconds) => Duration::from_secs_f64(seconds),
            Job::Pack | Job::Fill(_) => FILLING,
            Job::Drift(phases) => DRIFTING * phases as u32,
        };
    let task = Task { parent: std::process::id() as i32, peer: peer.to_owned(), job };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--task").arg(serde_json::to_string(&task)?).process_group(0);
    let mut group = Group(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    // Read beside: a full pipe would stop it.
    let said = group.0.stdout.take().map(|pipe| std::thread::spawn(|| read(pipe)));
    let complained = group.0.stderr.take().map(|pipe| std::thread::spawn(|| read(pipe)));
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = group.0.try_wait()? {
            break Some(status);
        }
        if Instant::now() > end {
            break None;
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    if status.is_none() {
        hangs.set(hangs.get() + 1);
        drop(group);
        return Err(format!("did not end within {:.0} s, and was killed", limit.as_secs_f64()).into());
    }
    let text = |reader: Option<std::thread::JoinHandle<String>>| reader.and_then(|r| r.join().ok()).unwrap_or_default();
    let (said, complained) = (text(said), text(complained));
    match status {
        Some(status) if status.success() => {
            let last = said.lines().last().ok_or("a run ended without a result")?;
            Ok(serde_json::from_str(last)?)
        }
        status => Err(end_of(status.unwrap_or_default(), &complained).into()),
    }
}

fn read(mut pipe: impl Read) -> String {
    let mut bytes = vec![];
    let _ = pipe.read_to_end(&mut bytes); // What there was until then.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a run ended that has no result.
fn end_of(status: ExitStatus, complained: &str) -> String {
    let clean = |line: &str| line.trim().trim_start_matches("peers: ").to_owned();
    let last = complained.lines().rev().map(clean).find(|line| !line.is_empty() && !line.starts_with("note: run with"));
    match (status.signal(), last) {
        (Some(_), None) => format!("crashed ({status})"),
        (Some(_), Some(last)) => format!("crashed ({status}): {last}"),
        // A panic's message stands before its note.
        (None, Some(last)) if status.code() == Some(101) => format!("panicked: {last}"),
        (None, Some(last)) => last,
        (None, None) => format!("failed ({status})"),
    }
}

/// The child.
pub(crate) fn work(task: &str) -> Outcome<()> {
    let task: Task = serde_json::from_str(task)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(task.parent) {
        return Err("the conductor is gone".into());
    }
    // A crash is expected of some; nobody looks at their memory afterwards.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let entry = list::all().into_iter().find(|entry| entry.name == task.peer).ok_or("no such peer")?;
    let result = match &task.job {
        Job::Run(roles, seconds) => {
            let work: Work = entry.measure(roles, *seconds)?;
            serde_json::to_string(&work)?
        }
        Job::Pack => {
            let packing: Option<Packing> = entry.pack()?;
            serde_json::to_string(&packing)?
        }
        Job::Fill(mix) => {
            let filled: Option<Filled> = entry.fill(*mix)?;
            serde_json::to_string(&filled)?
        }
        Job::Drift(phases) => {
            let rows: Vec<Phase> = entry.drift(*phases)?;
            serde_json::to_string(&rows)?
        }
    };
    println!("\n{result}");
    Ok(())
}

//! Workers in processes of their own: this benchmark, executed again.

use super::control::Control;
use super::peers::Matrix;
use super::work::{self, Done, Role};
use super::{Outcome, Work};
use atomic_matrix::handlers::{Handler, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long to wait for a worker to start or to end before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a worker is told on its command line.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    role: Role,
    number: u64,
    parent: i32,
    /// Which allocator, and how to find its memory.
    peer: String,
    arena: String,
    /// Where barrier and ring stand: a segment of their own, and the block in it.
    segment: String,
    control: u32,
}

/// Workers; they end with their conductor, whatever happens.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Workers {
    /// Waits until `what` holds; an error if a worker fails, or if it takes too long.
    fn wait(&mut self, limit: Duration, what: &str, mut holds: impl FnMut(&mut Self) -> Outcome<bool>) -> Outcome<()> {
        let end = Instant::now() + limit;
        while !holds(self)? {
            for child in &mut self.0 {
                if let Some(status) = child.try_wait()?
                    && !status.success()
                {
                    return Err(format!("a worker process failed ({status}) before {what}").into());
                }
            }
            if Instant::now() > end {
                return Err(format!("the worker processes did not come to {what} within {limit:?}").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// Worker processes that are ready to start, and what they share with their conductor.
pub(crate) struct Session {
    workers: Workers,
    shared: Matrix,
    block: RelativePtr<u8>,
}

/// The barrier and ring in a block that has room for it.
///
/// # Safety
/// The block is at least `size_of + align_of` bytes long, zeroed or a `Control` already, and allocated as
/// long as the handler lives.
unsafe fn control(handler: &Handler, block: *mut u8) -> &Control {
    let _ = handler;
    let control = block.wrapping_add(block.align_offset(align_of::<Control>())).cast::<Control>();
    // SAFETY: aligned, in the block as the caller says; it is all atomic, and any bytes are valid.
    unsafe { &*control }
}

impl Session {
    /// Starts a worker for each role; they wait for the start.
    pub(crate) fn begin(roles: &[Role], peer: &str, arena: &str) -> Outcome<Self> {
        let shared = Matrix::create(1 << 20, false)?;
        let length = size_of::<Control>() + align_of::<Control>();
        let block = shared.0.allocate_raw(length)?;
        // SAFETY: the block is fresh and that long; nobody else knows it yet.
        unsafe { shared.0.resolve(&block).write_bytes(0, length) };
        let mut workers = Workers(vec![]);
        for (number, &role) in roles.iter().enumerate() {
            let task = Task {
                role,
                number: number as u64,
                parent: std::process::id() as i32,
                peer: peer.to_owned(),
                arena: arena.to_owned(),
                segment: shared.0.id().to_string(),
                control: block.offset(),
            };
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("--worker").arg(serde_json::to_string(&task)?);
            workers.0.push(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        }
        let mut session = Self { workers, shared, block };
        session.wait("the start", |control| control.ready() as usize == roles.len())?;
        session.shared.0.unlink()?;
        Ok(session)
    }
    pub(crate) fn control(&self) -> &Control {
        // SAFETY: allocated and zeroed by `begin`, and never freed.
        unsafe { control(&self.shared.0, self.shared.0.resolve(&self.block)) }
    }
    /// Waits until `what` holds.
    pub(crate) fn wait(&mut self, what: &str, holds: impl Fn(&Control) -> bool) -> Outcome<()> {
        let (handler, block) = (&self.shared.0, self.shared.0.resolve(&self.block));
        // SAFETY: as in `control`.
        let control = unsafe { control(handler, block) };
        self.workers.wait(PATIENCE, what, |_| Ok(holds(control)))
    }
    /// What the workers did, when they have ended.
    pub(crate) fn end(mut self) -> Outcome<Vec<Done>> {
        self.workers.wait(PATIENCE, "the end", |workers| {
            Ok(workers.0.iter_mut().all(|child| matches!(child.try_wait(), Ok(Some(status)) if status.success())))
        })?;
        let mut done = vec![];
        for child in &mut self.workers.0 {
            let mut text = String::new();
            child.stdout.take().ok_or("a worker has no output")?.read_to_string(&mut text)?;
            done.push(serde_json::from_str(&text)?);
        }
        Ok(done)
    }
}

/// One run with a worker process for each role; `ready` is called when they have all found the arena.
pub(crate) fn run(
    roles: &[Role],
    seconds: f64,
    peer: &str,
    arena: &str,
    ready: impl FnOnce() -> Outcome<()>,
) -> Outcome<Work> {
    let session = Session::begin(roles, peer, arena)?;
    ready()?;
    let window = session.control().conduct(seconds);
    session.control().release();
    Ok(Work { done: session.end()?, window })
}

/// What a worker process of another peer than AtomicMatrix does: peer, arena, control, role, number.
pub(crate) type Other = fn(&str, &str, &Control, Role, u64) -> Outcome<Done>;

/// A worker process.
pub(crate) fn work(task: &str, other: Other) -> Outcome<()> {
    let task: Task = serde_json::from_str(task)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(task.parent) {
        return Err("the conductor is gone".into());
    }
    let shared = AtomicMatrix::options().id(Uuid::parse_str(&task.segment)?).attach()?;
    // SAFETY: the conductor made it at the first aligned address of this block, for as long as its workers live; the
    // mapping is page-aligned and so is every process's.
    let control = unsafe { control(&shared, shared.resolve_at(task.control)?) };
    let done = if task.peer == "matrix" {
        let handler = AtomicMatrix::options().id(Uuid::parse_str(&task.arena)?).populate(true).attach()?;
        // The name is the conductor's to remove: its guard covers every end of this run.
        let peer = std::mem::ManuallyDrop::new(Matrix(handler));
        let done = work::run(&*peer, control, task.role, task.number);
        peer.0.heal()?;
        done
    } else {
        other(&task.peer, &task.arena, control, task.role, task.number)?
    };
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

/// For programs that have no other peers in processes.
pub(crate) fn no_other(peer: &str, _: &str, _: &Control, _: Role, _: u64) -> Outcome<Done> {
    Err(format!("no peer {peer} works in processes here").into())
}

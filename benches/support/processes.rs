//! Workers in processes of their own: this benchmark, executed again.

use super::control::Control;
use super::peers::Matrix;
use super::work::{self, Role};
use super::{Outcome, Work};
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

/// One run with a worker process for each role.
pub(crate) fn run(roles: &[Role], seconds: f64) -> Outcome<Work> {
    let matrix = Matrix::create(false)?;
    let block = matrix.0.allocate_raw(size_of::<Control>() + align_of::<Control>())?;
    let shift = matrix.0.resolve(&block).align_offset(align_of::<Control>());
    let control = matrix.0.resolve(&block).wrapping_add(shift).cast::<Control>();
    // SAFETY: the block is fresh and large enough from the aligned address on; nobody else knows it yet.
    unsafe { control.write_bytes(0, 1) };
    // SAFETY: initialised (all zero), aligned, all atomic; the block stays allocated until `matrix` goes, at the end of this function.
    let control = unsafe { &*control };

    let mut workers = Workers(vec![]);
    for (number, &role) in roles.iter().enumerate() {
        let task = Task {
            role,
            number: number as u64,
            parent: std::process::id() as i32,
            segment: matrix.0.id().to_string(),
            control: block.offset(),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--worker").arg(serde_json::to_string(&task)?);
        workers.0.push(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    }
    workers.wait(PATIENCE, "the start", |_| Ok(control.ready() as usize == roles.len()))?;
    let matrix = matrix.hide()?;
    let window = control.conduct(seconds);
    workers.wait(PATIENCE, "the end", |workers| {
        Ok(workers.0.iter_mut().all(|child| matches!(child.try_wait(), Ok(Some(status)) if status.success())))
    })?;
    let mut done = vec![];
    for child in &mut workers.0 {
        let mut text = String::new();
        child.stdout.take().ok_or("a worker has no output")?.read_to_string(&mut text)?;
        done.push(serde_json::from_str(&text)?);
    }
    drop(matrix);
    Ok(Work { done, window })
}

/// A worker process.
pub(crate) fn work(task: &str) -> Outcome<()> {
    let task: Task = serde_json::from_str(task)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(task.parent) {
        return Err("the conductor is gone".into());
    }
    let handler = AtomicMatrix::options().id(Uuid::parse_str(&task.segment)?).populate(true).attach()?;
    let block = handler.resolve_at(task.control)?;
    let control = block.wrapping_add(block.align_offset(align_of::<Control>())).cast::<Control>();
    // SAFETY: the conductor made it at the first aligned address of this block, for as long as its workers live; the
    // mapping is page-aligned and so is every process's. It is all atomic.
    let control = unsafe { &*control };
    // The name is the conductor's to remove: its guard covers every end of this run.
    let peer = std::mem::ManuallyDrop::new(Matrix(handler));
    let done = work::run(&*peer, control, task.role, task.number);
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

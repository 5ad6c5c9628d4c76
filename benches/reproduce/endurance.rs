//! The endurance run, watched: what happens to the free memory over time, and after everything is freed.

use crate::support::control::Control;
use crate::support::peers::Matrix;
use crate::support::processes::Session;
use crate::support::work::{self, Role};
use crate::support::{ARENA, Outcome};
use atomic_matrix::handlers::Handler;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The endurance test's segment.
pub(crate) const SEGMENT: usize = 50 << 20;
const _: () = assert!(SEGMENT < ARENA);

/// The memory at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Threads, or processes.
    pub(crate) how: String,
    pub(crate) workers: usize,
    /// `running`; `stopped` with every block that was live still live; `stopped, healed`; `freed`; `freed, healed`.
    pub(crate) phase: String,
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    pub(crate) sector_bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) live_bytes: u64,
    /// Asked for in live blocks.
    pub(crate) payload_bytes: u64,
    pub(crate) free_blocks: u64,
    pub(crate) free_bytes: u64,
    pub(crate) parked_blocks: u64,
    pub(crate) parked_bytes: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) largest_free: u64,
    /// 1 − largest free block / free bytes.
    pub(crate) external_fragmentation: f64,
    /// 1 − asked for / live bytes.
    pub(crate) internal_fragmentation: f64,
    pub(crate) entropy_bits: f64,
    pub(crate) missed_merges: u64,
    /// Bytes that are neither live nor free nor parked nor in an operation's hands: 0 at rest.
    pub(crate) unaccounted_bytes: i64,
    /// Free blocks / operations × 100, an "entropy percentage" that was asked for at first. It falls with
    /// time whatever happens.
    pub(crate) seed_percentage: f64,
}

/// Looks at the memory, by walking over all its blocks.
fn sample(
    handler: &Handler,
    control: &Control,
    how: &str,
    workers: usize,
    phase: &str,
    seconds: f64,
) -> Outcome<Sample> {
    let (operations, payload) = control.told();
    let stats = handler.stats()?;
    let known = stats.live_bytes + stats.free_bytes + stats.parked_bytes + stats.in_flight_bytes;
    let internal = if stats.live_bytes == 0 { 0.0 } else { 1.0 - payload as f64 / stats.live_bytes as f64 };
    Ok(Sample {
        how: how.to_owned(),
        workers,
        phase: phase.to_owned(),
        seconds,
        operations,
        sector_bytes: stats.sector_bytes,
        live_blocks: stats.live_blocks,
        live_bytes: stats.live_bytes,
        payload_bytes: payload,
        free_blocks: stats.free_blocks,
        free_bytes: stats.free_bytes,
        parked_blocks: stats.parked_blocks,
        parked_bytes: stats.parked_bytes,
        in_flight_bytes: stats.in_flight_bytes,
        largest_free: stats.largest_free,
        external_fragmentation: stats.fragmentation,
        internal_fragmentation: internal.max(0.0),
        entropy_bits: stats.entropy_bits,
        missed_merges: stats.missed_merges,
        unaccounted_bytes: stats.sector_bytes as i64 - known as i64,
        seed_percentage: 100.0 * stats.free_blocks as f64 / operations.max(1) as f64,
    })
}

/// Takes samples in steps that grow from a tenth of a second, about 60 for each factor of ten.
struct Watch<'a> {
    handler: &'a Handler,
    control: &'a Control,
    how: &'static str,
    workers: usize,
    samples: Vec<Sample>,
    tick: &'a mut dyn FnMut(f64),
}

impl Watch<'_> {
    fn look(&mut self, phase: &str, seconds: f64) -> Outcome<()> {
        self.samples.push(sample(self.handler, self.control, self.how, self.workers, phase, seconds)?);
        Ok(())
    }
    /// Starts, watches for so many seconds, and stops.
    fn run(&mut self, seconds: f64) -> Outcome<f64> {
        let mut failed = None;
        let mut due = 0.0;
        let control = self.control;
        let window = control.conduct_with(seconds, |now| {
            (self.tick)(now);
            if now >= due {
                failed = self.look("running", now).err().or(failed.take());
                due = (now * 1.04).max(now + 0.1);
            }
            due.min(now + 0.25)
        });
        failed.map_or(Ok(window.as_secs_f64()), Err)
    }
}

pub(crate) fn threads(workers: usize, seconds: f64, tick: &mut dyn FnMut(f64)) -> Outcome<Vec<Sample>> {
    let matrix = Matrix::create(SEGMENT, false)?.hide()?;
    let control = Control::on_heap();
    let mut watch = Watch { handler: &matrix.0, control: &control, how: "threads", workers, samples: vec![], tick };
    std::thread::scope(|scope| {
        // Whatever fails here, the workers must end, or the scope never does.
        struct Release<'a>(&'a Control);
        impl Drop for Release<'_> {
            fn drop(&mut self) {
                self.0.stop();
                self.0.release();
            }
        }
        let release = Release(&control);
        let (matrix, shared) = (&matrix, &*control);
        let threads: Vec<_> = (0..workers)
            .map(|number| scope.spawn(move || work::run(matrix, shared, Role::Seed, number as u64)))
            .collect();
        until("the start", || shared.ready() as usize == workers)?;
        let stopped = watch.run(seconds)?;
        until("the stop", || shared.resting() as usize == workers)?;
        watch.look("stopped", stopped)?;
        matrix.0.heal()?;
        watch.look("stopped, healed", stopped)?;
        drop(release);
        for thread in threads {
            thread.join().map_err(|_| "a worker thread panicked")?;
        }
        freed(&mut watch, stopped)
    })?;
    Ok(watch.samples)
}

pub(crate) fn processes(workers: usize, seconds: f64, tick: &mut dyn FnMut(f64)) -> Outcome<Vec<Sample>> {
    let matrix = Matrix::create(SEGMENT, false)?;
    let mut session = Session::begin(&vec![Role::Seed; workers], "matrix", &matrix.0.id().to_string())?;
    let matrix = matrix.hide()?;
    let mut samples = {
        let control = session.control();
        let mut watch = Watch { handler: &matrix.0, control, how: "processes", workers, samples: vec![], tick };
        let stopped = watch.run(seconds)?;
        until("the stop", || control.resting() as usize == workers)?;
        watch.look("stopped", stopped)?;
        matrix.0.heal()?;
        watch.look("stopped, healed", stopped)?;
        control.release();
        watch.samples
    };
    let stopped = samples.last().map_or(0.0, |sample| sample.seconds);
    session.wait("the frees", |control| control.told().1 == 0)?;
    let operations = session.control().told();
    session.end()?;
    // The session's memory is gone with it: what is left to see is in the segment.
    let control = Control::on_heap();
    control.tell(operations.0, operations.1 as i64);
    let mut watch =
        Watch { handler: &matrix.0, control: &control, how: "processes", workers, samples: vec![], tick: &mut |_| {} };
    freed(&mut watch, stopped)?;
    samples.extend(watch.samples);
    Ok(samples)
}

/// Everything is freed: before and after healing, with the whole structure verified.
fn freed(watch: &mut Watch<'_>, seconds: f64) -> Outcome<()> {
    watch.look("freed", seconds)?;
    watch.handler.heal()?;
    watch.look("freed, healed", seconds)?;
    watch.handler.verify()?;
    let last = watch.samples.last().ok_or("no sample")?;
    if (last.free_blocks, last.free_bytes, last.missed_merges) != (1, last.sector_bytes, 0) {
        return Err(format!("not one free block after everything was freed and healed: {last:?}").into());
    }
    Ok(())
}

fn until(what: &str, holds: impl Fn() -> bool) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        if Instant::now() > end {
            return Err(format!("the workers did not come to {what} within a minute").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

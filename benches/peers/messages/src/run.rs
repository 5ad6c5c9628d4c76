//! One run of a workload, for any peer: its processes, and its figures.

use crate::Outcome;
use crate::control::{Control, Words};
use crate::peers::{self, Entry};
use crate::setting::{Kind, Setting};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One run's figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    /// Millions of messages in a second, or nanoseconds one way.
    pub(crate) value: f64,
    /// The same in the fastest part of the run, where there is one receiver.
    pub(crate) fastest: Option<f64>,
    /// Nanoseconds of processor time for a message, over all workers.
    pub(crate) processor: f64,
    /// Processor time as a share of the cores that the workers could have had.
    pub(crate) share: f64,
}

/// What a process of a run is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) peer: String,
    /// Names everything that the run makes.
    pub(crate) name: String,
    pub(crate) setting: Setting,
    /// Whether this process makes what the workers talk through.
    pub(crate) first: bool,
    /// The workers of this process; even ones send.
    pub(crate) workers: Vec<usize>,
}

/// Processes; they end with their conductor, whatever happens.
struct Group(Vec<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Group {
    fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> Outcome<bool>) -> Outcome<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self)? {
            for child in &mut self.0 {
                if let Some(status) = child.try_wait()?
                    && !status.success()
                {
                    return Err(format!("a process failed ({status}) before {what}").into());
                }
            }
            if Instant::now() > end {
                return Err(format!("did not come to {what} within {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// What everything is named after that a run makes.
pub(crate) fn name() -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    format!("atomic-matrix-messages-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}

/// A run's processes and words; whatever it leaves is removed with it.
pub(crate) struct Conducted {
    group: Group,
    _left: Left,
    control: Arc<Control>,
    task: Task,
}

impl Conducted {
    pub(crate) fn new(entry: &Entry, setting: &Setting) -> Outcome<Self> {
        let name = name();
        let control = Arc::new(Control::make(&name)?);
        let (peer, setting) = (entry.key.to_owned(), setting.clone());
        let task = Task { peer, name: name.clone(), setting, first: true, workers: vec![] };
        Ok(Self { group: Group(vec![]), _left: Left(name), control, task })
    }
    pub(crate) fn words(&self) -> &Words {
        self.control.words()
    }
    pub(crate) fn control(&self) -> Arc<Control> {
        self.control.clone()
    }
    /// Starts a process; the first one makes what they talk through.
    pub(crate) fn start(&mut self, first: bool, workers: Vec<usize>) -> Outcome<()> {
        let task = Task { first, workers, ..self.task.clone() };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--worker").arg(serde_json::to_string(&task)?).stdin(Stdio::null());
        self.group.0.push(command.spawn()?);
        Ok(())
    }
    pub(crate) fn wait(&mut self, what: &str, mut holds: impl FnMut(&Words) -> Outcome<bool>) -> Outcome<()> {
        let words = self.control.words();
        self.group.wait(what, |_| holds(words))
    }
    pub(crate) fn await_ready(&mut self, workers: usize) -> Outcome<()> {
        self.wait("the start", |words| Ok(words.ready() == workers))
    }
    pub(crate) fn await_end(&mut self) -> Outcome<()> {
        self.group.wait("the end", |group| {
            Ok(group.0.iter_mut().all(|child| matches!(child.try_wait(), Ok(Some(status)) if status.success())))
        })
    }
    /// Kills the process that was started last.
    pub(crate) fn kill_last(&mut self) -> Outcome<()> {
        let mut last = self.group.0.pop().ok_or("nobody to kill")?;
        last.kill()?;
        last.wait()?;
        Ok(())
    }
}

/// One run of one peer: processes of its own, whether its workers are threads or processes.
pub(crate) fn once(entry: &Entry, setting: &Setting, seconds: f64) -> Outcome<Run> {
    let mut run = Conducted::new(entry, setting)?;
    let workers = setting.workers();
    let parts: Vec<Vec<usize>> = match entry.threads {
        true => vec![(0..workers).collect()],
        false => (0..workers).map(|worker| vec![worker]).collect(),
    };
    for (at, workers) in parts.into_iter().enumerate() {
        run.start(at == 0, workers)?;
    }
    run.await_ready(workers)?;
    let begun = Instant::now();
    run.words().start();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let window = begun.elapsed();
    run.words().stop();
    run.await_end()?;
    figures(setting, run.words(), window)
}

fn figures(setting: &Setting, words: &Words, window: Duration) -> Outcome<Run> {
    let workers = setting.workers();
    let read = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Acquire);
    let results = &words.results[..workers];
    let sum = |of: &dyn Fn(usize) -> bool| -> u64 {
        results.iter().enumerate().filter(|&(at, _)| of(at)).map(|(_, one)| read(&one.done)).sum()
    };
    let done = match setting.kind {
        Kind::Stream | Kind::Latency => {
            let (sent, received) = (sum(&|at| at % 2 == 0), sum(&|at| at % 2 == 1));
            if sent != received {
                return Err(format!("{sent} were sent and {received} received").into());
            }
            received
        }
        Kind::Fan => {
            let (sent, received) = (sum(&|at| at == 0), sum(&|at| at > 0));
            if sent * setting.pairs as u64 != received {
                return Err(format!("{sent} were published and {received} read by {}", setting.pairs).into());
            }
            sent
        }
        Kind::Wake => {
            let (there, back) = (sum(&|at| at == 0), sum(&|at| at == 1));
            if there != back {
                return Err(format!("{there} came and {back} were sent back").into());
            }
            there
        }
        Kind::Board | Kind::Look | Kind::Map => sum(&|at| at < setting.pairs),
        Kind::Memory | Kind::Kill => return Err("conducted elsewhere".into()),
    };
    if done == 0 {
        return Err("nothing was done".into());
    }
    let processor: u64 = results.iter().map(|one| read(&one.processor)).sum();
    let (nanos, done) = (window.as_nanos() as f64, done as f64);
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(workers) as f64;
    let thousandth = |word: &std::sync::atomic::AtomicU64| read(word) as f64 / 1000.0;
    let value = match setting.kind {
        Kind::Latency => nanos / done / 2.0,
        Kind::Fan | Kind::Wake => thousandth(&results[0].median),
        _ => done / nanos * 1000.0,
    };
    let fastest = match setting.kind {
        Kind::Stream if setting.pairs == 1 => Some(1000.0 / thousandth(&results[1].fastest)),
        Kind::Latency => Some(thousandth(&results[0].fastest) / 2.0),
        Kind::Fan | Kind::Wake => Some(thousandth(&results[0].fastest)),
        Kind::Board | Kind::Look | Kind::Map if setting.pairs == 1 => Some(1000.0 / thousandth(&results[0].fastest)),
        _ => None,
    };
    Ok(Run {
        fastest: fastest.filter(|value| value.is_finite() && (1e-6..1e9).contains(value)),
        value,
        processor: processor as f64 / done,
        share: processor as f64 / (nanos * cores),
    })
}

/// Whatever a run that was killed leaves.
struct Left(String);

impl Drop for Left {
    fn drop(&mut self) {
        peers::clean(&self.0);
        sweep(&self.0);
    }
}

/// Removes the files of a run.
pub(crate) fn sweep(name: &str) {
    for folder in ["/dev/shm", "/tmp"] {
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with(name) {
                let _ = std::fs::remove_file(file.path());
                let _ = std::fs::remove_dir_all(file.path());
            }
        }
    }
}

/// A process of a run.
pub(crate) fn work(task: &str) -> Outcome<()> {
    let task: Task = serde_json::from_str(task)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    peers::work(&task)
}

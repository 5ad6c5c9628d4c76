//! The peers of a run: what each is called, and how one run of it is made.

use super::accesses::Accesses;
use super::arguments::Workload;
use super::control::Control;
use super::drift::{self, Phase};
use super::mixes;
use super::peers::{Matrix, Mutex, Nothing, Peer, Spin, Talc, malloc};
use super::work::{self, Done, Filled, Packing, Role};
use super::{Arena, Outcome, Work, processes};
use std::time::Duration;

pub(crate) const HARNESS: &str = "harness alone";
pub(crate) const MATRIX: &str = "AtomicMatrix, threads";
pub(crate) const PROCESSES: &str = "AtomicMatrix, processes";
pub(crate) const STRICT: &str = "AtomicMatrix strict, threads";
pub(crate) const ACCESSES: &str = "its accesses alone";
pub(crate) const TALC: &str = "talc 5 + spin lock";
pub(crate) const TALC_MUTEX: &str = "talc 5 + Mutex";
pub(crate) const MALLOC: &str = "glibc malloc";

type Measure = Box<dyn Fn(&[Role], f64) -> Outcome<Work>>;
type Pack = Box<dyn Fn() -> Outcome<Option<Packing>>>;
type Fill = Box<dyn Fn(mixes::Number) -> Outcome<Option<Filled>>>;
type Drift = Box<dyn Fn(usize) -> Outcome<Vec<Phase>>>;

/// One peer.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// What it can do: where its blocks are, and which sizes it has.
    pub(crate) kind: &'static str,
    /// The workloads that it has an answer to.
    pub(crate) workloads: &'static [Workload],
    /// Whether its workers sleep by themselves, so that a smaller share of the cores is its own doing.
    pub(crate) sleeps: bool,
    measure: Result<Measure, String>,
    pack: Option<Pack>,
    fill: Option<Fill>,
    drift: Option<Drift>,
}

const ALL: &[Workload] = &[
    Workload::Mix,
    Workload::Ping,
    Workload::HandOver,
    Workload::Packing,
    Workload::Seed,
    Workload::Wide,
    Workload::Sized,
    Workload::Filling,
    Workload::First,
];

impl Entry {
    /// A peer that works in threads of this process; each run gets an arena of its own.
    pub(crate) fn threads<P: Peer + 'static>(
        name: &'static str,
        kind: &'static str,
        create: impl Fn(Arena) -> Outcome<P> + Clone + 'static,
    ) -> Self {
        let (to_pack, to_fill, to_drift) = (create.clone(), create.clone(), create.clone());
        let pack: Pack = Box::new(move || Ok(work::pack(&to_pack(Arena::SMALL)?)));
        let fill: Fill = Box::new(move |mix| mixes::fill(|| to_fill(Arena::FILLED), mix));
        let drift: Drift = Box::new(move |phases| drift::drift(|| to_drift(drift::ARENA), phases));
        let measure: Measure = Box::new(move |roles, seconds| match roles {
            [Role::First] => work::first_use(|| create(Arena::FIRST)),
            _ => threads(&create(arena_of(roles))?, roles, seconds),
        });
        let (pack, fill, drift) = (Some(pack), Some(fill), Some(drift));
        Self { name, kind, workloads: ALL, sleeps: false, measure: Ok(measure), pack, fill, drift }
    }
    /// A peer with a way of its own to make a run.
    pub(crate) fn own(
        name: &'static str,
        kind: &'static str,
        measure: impl Fn(&[Role], f64) -> Outcome<Work> + 'static,
    ) -> Self {
        Self {
            name,
            kind,
            workloads: ALL,
            sleeps: false,
            measure: Ok(Box::new(measure)),
            pack: None,
            fill: None,
            drift: None,
        }
    }
    /// A peer that is not there, and why: a row all the same.
    pub(crate) fn missing(name: &'static str, kind: &'static str, why: impl Into<String>) -> Self {
        Self {
            name,
            kind,
            workloads: ALL,
            sleeps: false,
            measure: Err(why.into()),
            pack: None,
            fill: None,
            drift: None,
        }
    }
    /// A way of its own to pack.
    pub(crate) fn packing(mut self, pack: impl Fn() -> Outcome<Option<Packing>> + 'static) -> Self {
        self.pack = Some(Box::new(pack));
        self
    }
    /// The same peer, run in another way; one that is not there stays so.
    pub(crate) fn through(
        self,
        measure: impl Fn(&[Role], f64) -> Outcome<Work> + 'static,
        pack: impl Fn() -> Outcome<Option<Packing>> + 'static,
        fill: impl Fn(mixes::Number) -> Outcome<Option<Filled>> + 'static,
        drift: impl Fn(usize) -> Outcome<Vec<Phase>> + 'static,
    ) -> Self {
        let measure = self.measure.map(|_| Box::new(measure) as Measure);
        let (pack, fill) = (self.pack.map(|_| Box::new(pack) as Pack), self.fill.map(|_| Box::new(fill) as Fill));
        let drift = self.drift.map(|_| Box::new(drift) as Drift);
        Self { measure, pack, fill, drift, ..self }
    }
    /// What so many phases of drifting sizes leave of its memory; nothing of a peer that can't be run so.
    pub(crate) fn drift(&self, phases: usize) -> Outcome<Vec<Phase>> {
        if let Err(why) = self.there() {
            return Err(why.into());
        }
        match &self.drift {
            Some(drift) if self.name != HARNESS => {
                let rows = drift(phases)?.into_iter();
                Ok(rows.map(|row| Phase { peer: self.name.to_owned(), ..row }).collect())
            }
            _ => Ok(vec![]),
        }
    }
    pub(crate) fn only(mut self, workloads: &'static [Workload]) -> Self {
        self.workloads = workloads;
        self
    }
    pub(crate) fn sleeping(mut self) -> Self {
        self.sleeps = true;
        self
    }
    pub(crate) fn there(&self) -> Result<(), &str> {
        self.measure.as_ref().map(|_| ()).map_err(String::as_str)
    }
    /// One run.
    pub(crate) fn measure(&self, roles: &[Role], seconds: f64) -> Outcome<Work> {
        match &self.measure {
            Ok(measure) => measure(roles, seconds),
            Err(why) => Err(why.as_str().into()),
        }
    }
    pub(crate) fn pack(&self) -> Outcome<Option<Packing>> {
        if let Err(why) = self.there() {
            return Err(why.into());
        }
        match &self.pack {
            Some(pack) if self.workloads.contains(&Workload::Packing) => pack(),
            _ => Ok(None),
        }
    }
    /// How full one mix makes its arena; nothing of a peer whose memory has no bound.
    pub(crate) fn fill(&self, mix: mixes::Number) -> Outcome<Option<Filled>> {
        if let Err(why) = self.there() {
            return Err(why.into());
        }
        match &self.fill {
            Some(fill) if self.workloads.contains(&Workload::Filling) => fill(mix),
            _ => Ok(None),
        }
    }
}

/// What the peer gets for a run; all its roles need the same.
pub(crate) fn arena_of(roles: &[Role]) -> Arena {
    roles.first().map_or(Arena::SMALL, |role| role.arena(roles.len()))
}

/// The peers that need nothing installed.
pub(crate) fn in_tree() -> Vec<Entry> {
    vec![
        Entry::threads(HARNESS, "no allocator", |_| Ok(Nothing)),
        Entry::threads(MATRIX, "shared, any size", |arena| Matrix::within(arena, false)?.hide()),
        Entry::own(PROCESSES, "shared, any size", |roles, seconds| {
            let matrix = Matrix::within(arena_of(roles), false)?;
            let arena = matrix.0.id().to_string();
            processes::run(roles, seconds, "matrix", &arena, move || matrix.0.unlink().map_err(Into::into))
        })
        .only(&[
            Workload::Mix,
            Workload::Ping,
            Workload::HandOver,
            Workload::Seed,
            Workload::Wide,
            Workload::Sized,
        ]),
        Entry::threads(STRICT, "shared, any size", |arena| Matrix::within(arena, true)?.hide()),
        Entry::threads(ACCESSES, "no heap", Accesses::create).only(&[Workload::Wide, Workload::Sized]),
        Entry::threads(TALC, "in process, any size", Talc::<Spin>::create),
        Entry::threads(TALC_MUTEX, "in process, any size", Talc::<Mutex>::create).sleeping(),
        Entry::threads(MALLOC, "in process, any size", |_| Ok(malloc())),
    ]
}

/// One run with a thread for each role.
pub(crate) fn threads<P: Peer>(peer: &P, roles: &[Role], seconds: f64) -> Outcome<Work> {
    threads_with(roles, seconds, |control, role, number| work::run(peer, control, role, number))
}

/// One run with a thread for each role, that does what `worker` says.
pub(crate) fn threads_with(
    roles: &[Role],
    seconds: f64,
    worker: impl Fn(&Control, Role, u64) -> Done + Sync,
) -> Outcome<Work> {
    let control = &*Control::on_heap();
    std::thread::scope(|scope| {
        let worker = &worker;
        let start = |(number, &role)| scope.spawn(move || worker(control, role, number as u64));
        let workers: Vec<_> = roles.iter().enumerate().map(start).collect();
        while (control.ready() as usize) < roles.len() {
            if workers.iter().any(|worker| worker.is_finished()) {
                control.stop(); // One panicked: call the others off.
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let window = control.conduct(seconds);
        control.release();
        let ended = workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker thread panicked".into()));
        Ok(Work { done: ended.collect::<Outcome<_>>()?, window })
    })
}

//! The search: every interleaving within a bound of preemptions, and the shortest that fails.

use super::scenario::{Explored, Failure, Scenario};
use super::space::{Member, Numbers, Space};
use super::trace::{self, Call, Trace};
use super::turns::{self, Moment, Player, Scheduled, Scheduling, play_buffered, play_by};
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Interleavings that are tried after the first one that failed, for a shorter one.
const FOR_A_SHORTER: u64 = 20_000;

/// Who is killed, and before which of its accesses.
type Kill = (usize, u64);

/// The interleavings of one scenario, depth first.
struct Search {
    /// At each step, who could have gone on, and which of them did.
    path: Vec<(Vec<usize>, usize)>,
    depth: usize,
    running: Option<usize>,
    /// Preemptions that are left in this play.
    left: usize,
}

impl Search {
    fn new() -> Self {
        Self { path: vec![], depth: 0, running: None, left: 0 }
    }

    fn begin(&mut self, preemptions: usize) {
        (self.depth, self.running, self.left) = (0, None, preemptions);
    }

    /// Who goes on. Whoever runs goes on first; another one costs a preemption, unless that one has ended or waits.
    fn next(&mut self, moment: &Moment<'_>, absent: impl Fn(usize) -> bool) -> usize {
        let here = || moment.playing.iter().copied().filter(|&seat| !absent(seat));
        let can = |seat: &usize| !moment.pausing.contains(seat);
        let running = self.running.filter(|seat| here().any(|other| other == *seat) && can(seat));
        let mut options: Vec<usize> = running.into_iter().collect();
        if running.is_none() || self.left > 0 {
            options.extend(here().filter(can).filter(|seat| Some(*seat) != running));
        }
        if options.is_empty() {
            // All of them wait: one after the other, since none of these is another interleaving.
            let after = self.running.unwrap_or(0);
            options.extend(here().find(|&seat| seat > after).or_else(|| here().next()));
        }
        if self.depth == self.path.len() {
            self.path.push((options, 0));
        }
        let (options, at) = &self.path[self.depth];
        let chosen = options[*at];
        self.left -= usize::from(running.is_some_and(|seat| seat != chosen));
        self.depth += 1;
        self.running = Some(chosen);
        chosen
    }

    /// The next interleaving; false if there is none.
    fn advance(&mut self) -> bool {
        while let Some((options, at)) = self.path.last_mut() {
            if *at + 1 < options.len() {
                *at += 1;
                return true;
            }
            self.path.pop();
        }
        false
    }
}

/// What came of a play.
struct Outcome {
    /// What failed.
    failed: Option<String>,
    trace: Trace,
}

/// One play of a scenario. `run` plays the players, and is told when the recovery may begin.
fn once<S: Scenario>(scenario: &Arc<S>, kill: Option<Kill>, run: impl FnOnce(Vec<Player>, &Cell<bool>)) -> Outcome {
    let numbers = Numbers::new(scenario.threads());
    let space = Space::<Scheduled>::new(scenario.granules(), &numbers);
    turns::begin();
    trace::begin(space.payload());
    let failed = turns::message(|| {
        let observer = Member::new(&space, numbers.observer);
        let shared = scenario.begin(&observer);
        let outcomes: Rc<RefCell<Vec<Option<S::Outcome>>>> =
            Rc::new(RefCell::new(numbers.threads.iter().map(|_| None).collect()));
        let player = |(number, me): (usize, &u16)| {
            let me = *me;
            let (scenario, space, shared, outcomes) =
                (scenario.clone(), space.clone(), shared.clone(), outcomes.clone());
            let body = move || {
                let outcome = scenario.thread(number, &Member::new(&space, me), &shared);
                turns::may_stop_at_its_end();
                outcomes.borrow_mut()[number] = Some(outcome);
            };
            match kill {
                Some((victim, k)) if victim == number => Player::stopped_at(body, k),
                _ => Player::new(body),
            }
        };
        let mut players: Vec<Player> = numbers.threads.iter().enumerate().map(player).collect();
        let died = Rc::new(Cell::new(false));
        if let Some((victim, _)) = kill {
            let (space, died) = (space.clone(), died.clone());
            let (me, dead) = (numbers.recoverer, numbers.threads[victim]);
            players.push(Player::new(move || {
                if died.get() {
                    space.recover(me, dead);
                    trace::called(turns::seat_of_running(), Call::Recovers(victim));
                }
            }));
        }
        run(players, &died);
        let outcomes = std::mem::take(&mut *outcomes.borrow_mut());
        scenario.end(&observer, &shared, &outcomes);
    });
    Outcome { failed, trace: trace::end() }
}

/// What was tried, and the shortest failure.
struct Findings {
    explored: Explored,
    shortest: Option<((usize, usize), Failure)>,
    since: u64,
}

impl Findings {
    fn new() -> Self {
        Self { explored: Explored::default(), shortest: None, since: 0 }
    }

    /// Notes a play. True if it is enough.
    fn note<S: Scenario>(&mut self, scenario: &S, outcome: &Outcome, how: &dyn Fn() -> String) -> bool {
        self.explored.plays += 1;
        self.explored.killed += u64::from(outcome.trace.has_death());
        if let Some(message) = &outcome.failed {
            let length = outcome.trace.length();
            if self.shortest.as_ref().is_none_or(|(shortest, _)| length < *shortest) {
                let threads = scenario.threads();
                let who = |seat| if seat == threads { "the recoverer".into() } else { format!("thread {seat}") };
                let steps = outcome.trace.in_words(|value, names| scenario.show(value, names), who);
                self.shortest = Some((length, Failure { message: message.clone(), how: how(), steps }));
            }
        }
        self.since += u64::from(self.shortest.is_some());
        self.since > FOR_A_SHORTER
    }

    fn result(self) -> Result<Explored, Box<Failure>> {
        self.shortest.map_or(Ok(self.explored), |(_, failure)| Err(Box::new(failure)))
    }
}

/// Every interleaving with at most so many preemptions, of one kill or of none. Whether somebody was killed in any.
fn every_interleaving<S: Scenario>(
    scenario: &Arc<S>,
    kill: Option<Kill>,
    preemptions: usize,
    found: &mut Findings,
) -> bool {
    let mut search = Search::new();
    let mut stopped = false;
    loop {
        search.begin(preemptions);
        let outcome = once(scenario, kill, |players, died| {
            let recoverer = players.len() - 1;
            let victim_ended = |moment: &Moment<'_>| {
                kill.is_some_and(|(victim, _)| {
                    died.set(moment.ends[victim].is_some_and(|end| end.stopped));
                    moment.ends[victim].is_some()
                })
            };
            play_by(players, |moment| {
                let ended = victim_ended(moment);
                search.next(moment, |seat| kill.is_some() && seat == recoverer && !ended)
            });
        });
        stopped |= outcome.trace.has_death();
        let how = || match preemptions {
            0 => "without a preemption".to_owned(),
            1 => "with one preemption".to_owned(),
            most => format!("with {most} preemptions"),
        };
        if found.note(&**scenario, &outcome, &how) || !search.advance() {
            return stopped;
        }
    }
}

/// Tries every interleaving of the scenario's threads in which at most `preemptions` times one that could go on is
/// interrupted: first all without any, then all with one, and so on, so that what fails is found with as few as it
/// takes. Sequentially consistent: no evidence for an ordering.
///
/// Threads are interrupted at the structure's own accesses; the heap's calls are steps.
///
/// # Errors
/// The shortest interleaving found that fails, in words.
pub fn explore<S: Scenario>(scenario: S, preemptions: usize) -> Result<Explored, Box<Failure>> {
    let scenario = Arc::new(scenario);
    let mut found = Findings::new();
    for bound in 0..=preemptions {
        found.explored = Explored::default();
        every_interleaving(&scenario, None, bound, &mut found);
        if found.shortest.is_some() {
            break;
        }
    }
    found.result()
}

/// As [`explore`], and each thread is killed before each of its accesses in turn, those of the heap's calls
/// included, and behind its last one. What it left is given back by a recoverer, some time after its death,
/// while the others go on.
///
/// # Errors
/// As [`explore`].
pub fn explore_kills<S: Scenario>(scenario: S, preemptions: usize) -> Result<Explored, Box<Failure>> {
    let scenario = Arc::new(scenario);
    let mut found = Findings::new();
    for bound in 0..=preemptions {
        found.explored = Explored::default();
        for victim in 0..scenario.threads() {
            (0..).take_while(|&k| every_interleaving(&scenario, Some((victim, k)), bound, &mut found)).for_each(drop);
        }
        if found.shortest.is_some() {
            break;
        }
    }
    found.result()
}

/// Plays the scenario so many times on processors with store buffers (x86-TSO): a store reaches the others later, in
/// the order of its thread's; read-modify-writes, `SeqCst` stores and fences wait for that. Interleavings are drawn
/// from `seed`.
///
/// # Errors
/// As [`explore`]; the seed is told.
pub fn store_buffers<S: Scenario>(scenario: S, plays: u64, seed: u64) -> Result<Explored, Box<Failure>> {
    let scenario = Arc::new(scenario);
    let mut found = Findings::new();
    for seed in seed..seed + plays {
        let outcome = once(&scenario, None, |players, _| {
            let random = &mut Rng::with_seed(seed);
            let processes = vec![1; players.len()];
            let policy = Scheduling::draw(random, 60);
            play_buffered(players, &processes, policy, random);
        });
        if found.note(&*scenario, &outcome, &|| format!("with store buffers, at seed {seed}")) {
            break;
        }
    }
    found.result()
}

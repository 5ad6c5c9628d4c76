//! Bells (src/ipc/wait.rs, src/ipc/several.rs), and what waits by nature (src/ipc/sync): the same steps in the same order.
//!
//! Who sleeps stays asleep until it is woken, or until nobody else goes on: then a nap is over. So a wake-up that is lost is
//! seen, and counted (Q5).

use crate::engine::{Cpu, Step, Structure, Word, World};
use crate::sync::{clear, give_up, lock, meet, put, take};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// So many semaphores.
    Semaphores(u8),
    Event,
    Lock,
    /// For so many.
    Barrier(u8),
}

// Each has three words.
pub const STATE: usize = 0;
const RINGS: usize = 1;
const SLEEPERS: usize = 2;
const WORDS: u8 = 3;

pub const fn word(bell: u8, which: usize) -> usize {
    (bell * WORDS) as usize + which
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// To a semaphore, so many permits.
    Give(u8, u8),
    Take(u8),
    /// The same, and its time may be over whenever it sleeps.
    TakeInTime(u8),
    /// A permit of either of two semaphores.
    Select,
    Set,
    Wait,
    WaitAndClear,
    Lock,
    LockInTime,
    Unlock,
    /// The data is whole again; by the holder.
    Cure,
    Meet,
    MeetInTime,
}

impl Call {
    fn bells(self) -> &'static [u8] {
        match self {
            Self::Select => &[0, 1],
            Self::Take(1) | Self::TakeInTime(1) => &[1],
            _ => &[0],
        }
    }
    fn may_be_late(self) -> bool {
        matches!(self, Self::TakeInTime(_) | Self::LockInTime | Self::MeetInTime)
    }
}

/// How it looks: what ended its sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Look {
    Quick,
    Thorough,
    /// Its time is over: once more.
    Last,
    /// It has looked once more.
    Over,
}

/// A sleeper's place at a bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counted {
    epoch: u8,
    heard: u8,
    counts: bool,
}

/// Who waits, from its try to its next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sleep {
    pub call: Call,
    /// In which round of a barrier it has arrived.
    pub round: u8,
    pub look: Look,
    /// Bells whose call may have been its own.
    called: u8,
    counted: [Counted; 2],
    /// What the try found: at which bell.
    found: Option<Option<u8>>,
}

impl Sleep {
    pub fn of(call: Call, round: u8) -> Self {
        Self { call, round, look: Look::Quick, called: 0, counted: Default::default(), found: None }
    }
    fn counts(&self) -> bool {
        self.call.bells().iter().enumerate().all(|(at, _)| self.counted[at].counts)
    }
    /// How it looks next, by what ended its sleep.
    fn after(&self, ended: Look) -> Look {
        if self.look == Look::Last { Look::Over } else { ended }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Todo {
    Done,
    Do(Call),
    Await(Sleep),
    Try(Sleep),
    FallAsleep(Sleep),
    Leave(Sleep),
    Ring {
        bell: u8,
        most: u8,
    },
    Wake {
        bell: u8,
        most: u8,
        seen: (u8, u8),
    },
    /// Calls others at these bells.
    PassOn {
        bells: u8,
    },
    Put {
        call: Call,
    },
    GiveUp {
        round: u8,
    },
    Release {
        dead: u8,
    },
}

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    WakeBeforePut,
    /// A sleeper tries, and only then is counted and hears.
    CountedLate,
    /// A sleeper hears how often the bell was rung behind its last try.
    HeardLate,
    /// Who is woken falls asleep again without a try.
    NotTriedAgain,
    ResetSilently,
    ResetUnnoticed,
    /// A ring that wakes nobody leaves the count as it is.
    DeadStayCounted,
    /// Whoever leaves counts one fewer in whatever epoch it is.
    LeftUncounted,
    CallKept,
    /// One is called where there is something for several.
    OneCalled,
    /// A permit is taken by a load and a store.
    TakenPlainly,
    /// Whoever found an event set goes on although another has cleared it.
    ClearedByTwo,
    PoisonForgotten,
    /// A dead holder keeps its lock.
    DeadHold,
    /// A lock is taken over by a store.
    TakenOverPlainly,
    /// Whoever has napped takes the lock over.
    ClockDecides,
    /// Whoever gives up at a barrier does not take its arrival back.
    ArrivalKept,
    /// It takes it back although the barrier has opened.
    ArrivalUnchecked,
}

pub const FAULTS: &[Fault] = &[
    Fault::WakeBeforePut,
    Fault::CountedLate,
    Fault::HeardLate,
    Fault::NotTriedAgain,
    Fault::ResetSilently,
    Fault::ResetUnnoticed,
    Fault::DeadStayCounted,
    Fault::LeftUncounted,
    Fault::CallKept,
    Fault::OneCalled,
    Fault::TakenPlainly,
    Fault::ClearedByTwo,
    Fault::PoisonForgotten,
    Fault::DeadHold,
    Fault::TakenOverPlainly,
    Fault::ClockDecides,
    Fault::ArrivalKept,
    Fault::ArrivalUnchecked,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sleeper {
    who: u8,
    call: Call,
    round: u8,
}

/// The kernel's queue of sleepers, and what should be true.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// In the order in which they fell asleep, and in which a ring wakes them.
    asleep: Vec<Sleeper>,
    /// Whose nap has ended: a bit each.
    napped: u8,
    /// Of each bell: who of the living is counted, and who has rung for nobody since anybody was last counted in.
    counted: [u8; 2],
    in_vain: [u8; 2],
    pub permits: [u8; 2],
    pub holder: u8,
    pub is_poisoned: bool,
    pub arrived: u8,
}

pub type Run<'a> = Cpu<'a, Waiting>;
pub type Seer = World<Seen>;

fn count_in(cpu: &mut Run<'_>, bell: u8) -> Step<Counted> {
    let bit = 1 << cpu.me;
    let joined = |_: Word, world: &mut Seer| {
        world.spec.counted[bell as usize] |= bit;
        world.spec.in_vain[bell as usize] = 0;
    };
    let more = |word: Word| Word::Pair(word.pair().0, word.pair().1 + 1);
    let epoch = cpu.change_and(word(bell, SLEEPERS), more, joined)?.pair().0;
    let heard = cpu.load(word(bell, RINGS))?.number();
    let same = cpu.load(word(bell, SLEEPERS))?.pair().0 == epoch;
    Ok(Counted { epoch, heard, counts: same || cpu.planted(Fault::ResetUnnoticed) })
}

fn leave(cpu: &mut Run<'_>, bell: u8, counted_in: u8) -> Step<()> {
    let bit = 1 << cpu.me;
    loop {
        let gone = |world: &mut Seer| world.spec.counted[bell as usize] &= !bit;
        let any_epoch = cpu.planted(Fault::LeftUncounted);
        let look = |now: Word, world: &mut Seer| {
            if now.pair().0 != counted_in {
                world.spec.counted[bell as usize] &= !bit;
            }
        };
        let now = cpu.load_and(word(bell, SLEEPERS), look)?;
        let (epoch, count) = now.pair();
        if epoch != counted_in && !any_epoch || count == 0 {
            return Ok(());
        }
        if cpu.cas_and(word(bell, SLEEPERS), now, Word::Pair(epoch, count - 1), gone)? {
            return Ok(());
        }
    }
}

/// How often each of a call's bells was rung.
fn hear(cpu: &mut Run<'_>, call: Call) -> Step<[u8; 2]> {
    let mut heard = [0; 2];
    for (at, &bell) in call.bells().iter().enumerate() {
        heard[at] = cpu.load(word(bell, RINGS))?.number();
    }
    Ok(heard)
}

/// Falls asleep if no bell was rung since it was heard. None if one was; or what ended the sleep.
fn asleep(cpu: &mut Run<'_>, &Sleep { call, round, .. }: &Sleep, heard: [u8; 2]) -> Step<Option<Look>> {
    let (me, bit) = (cpu.me, 1 << cpu.me);
    let falls = cpu.access(|cpu| {
        let same = |(&bell, heard): (&u8, u8)| cpu.memory[cpu.blocks + word(bell, RINGS)] == Word::Number(heard);
        let falls = call.bells().iter().zip(heard).all(same);
        if falls {
            cpu.world.spec.asleep.push(Sleeper { who: me, call, round });
        }
        Word::Number(falls.into())
    })?;
    if falls.number() == 0 {
        return Ok(None);
    }
    let ended = cpu.access(|cpu| {
        let spec = &mut cpu.world.spec;
        let late = spec.asleep.iter().any(|sleeper| sleeper.who == me);
        spec.asleep.retain(|sleeper| sleeper.who != me);
        let napped = spec.napped & bit != 0;
        spec.napped &= !bit;
        Word::Number(if late { 2 } else { napped.into() })
    })?;
    Ok(Some(match ended.number() {
        2 => Look::Last,
        1 => Look::Thorough,
        _ => Look::Quick,
    }))
}

/// What is waited for, if it is there; taken. Says from which bell.
fn attempt(cpu: &mut Run<'_>, &Sleep { call, round, look, .. }: &Sleep) -> Step<Option<u8>> {
    for &bell in call.bells() {
        let found = match call {
            Call::Take(_) | Call::TakeInTime(_) | Call::Select => take(cpu, bell)?,
            Call::Wait => cpu.load(STATE)?.number() == 1,
            Call::WaitAndClear => clear(cpu)?,
            Call::Lock | Call::LockInTime => lock(cpu, look)?,
            _ => cpu.load(STATE)?.pair().0 != round,
        };
        if found {
            return Ok(Some(bell));
        }
    }
    Ok(None)
}

/// Counted in at all of its bells.
fn begin_to_sleep(cpu: &mut Run<'_>, mut sleep: Sleep) -> Step<Todo> {
    if cpu.planted(Fault::CountedLate) {
        sleep.found = Some(attempt(cpu, &sleep)?);
    }
    for (at, &bell) in sleep.call.bells().iter().enumerate() {
        sleep.counted[at] = count_in(cpu, bell)?;
    }
    Ok(Todo::Try(sleep))
}

/// One more try.
fn try_again(cpu: &mut Run<'_>, mut sleep: Sleep) -> Step<Todo> {
    let found = match sleep.found {
        Some(found) => found,
        None => attempt(cpu, &sleep)?,
    };
    sleep.found = Some(found);
    if found.is_some() && matches!(sleep.call, Call::Lock | Call::LockInTime) {
        *cpu.own = true;
    }
    let sleeps = found.is_none() && sleep.look != Look::Last && sleep.counts();
    if !sleeps {
        sleep.look = sleep.after(sleep.look);
        sleep.called &= if found.is_some() { u8::MAX } else { 0 };
    }
    Ok(if sleeps { Todo::FallAsleep(sleep) } else { Todo::Leave(sleep) })
}

/// Asleep, and out again.
fn fall_asleep(cpu: &mut Run<'_>, mut sleep: Sleep) -> Step<Todo> {
    let mut heard = sleep.counted.map(|counted| counted.heard);
    if cpu.planted(Fault::HeardLate) {
        heard = hear(cpu, sleep.call)?;
    }
    let mut ended = asleep(cpu, &sleep, heard)?;
    if ended == Some(Look::Quick) && cpu.planted(Fault::NotTriedAgain) {
        let heard = hear(cpu, sleep.call)?;
        ended = asleep(cpu, &sleep, heard)?;
    }
    sleep.called = 0;
    if ended.is_some() && sleep.call.bells().len() > 1 {
        let now = hear(cpu, sleep.call)?;
        for at in 0..2 {
            sleep.called |= u8::from(now[at] != sleep.counted[at].heard) << at;
        }
    }
    sleep.look = sleep.after(ended.unwrap_or(Look::Quick));
    Ok(Todo::Leave(sleep))
}

/// Counted no more.
fn leave_all(cpu: &mut Run<'_>, sleep: Sleep) -> Step<Todo> {
    for (at, &bell) in sleep.call.bells().iter().enumerate() {
        leave(cpu, bell, sleep.counted[at].epoch)?;
    }
    let Sleep { call, round, look, called, .. } = sleep;
    Ok(match sleep.found.flatten() {
        Some(taken) if !cpu.planted(Fault::CallKept) => Todo::PassOn { bells: called & !(1 << taken) },
        Some(_) => Todo::Done,
        None if look == Look::Over && call == Call::MeetInTime => Todo::GiveUp { round },
        None if look == Look::Over => Todo::Done,
        None => Todo::Await(Sleep { look, called, ..Sleep::of(call, round) }),
    })
}

/// Whom to ring for behind it.
fn ring_of(call: Call, planted: Option<Fault>) -> Todo {
    let (bell, most) = match call {
        Call::Give(bell, permits) => (bell, permits),
        Call::Unlock => (0, 1),
        _ => (0, u8::MAX),
    };
    Todo::Ring { bell, most: if planted == Some(Fault::OneCalled) { 1 } else { most } }
}

fn wake_up(world: &mut Seer, bell: u8, most: u8) -> u8 {
    let mut left = most;
    let woken = |sleeper: &Sleeper| sleeper.call.bells().contains(&bell);
    world.spec.asleep.retain(|sleeper| {
        let wakes = left > 0 && woken(sleeper);
        left -= u8::from(wakes);
        !wakes
    });
    most - left
}

impl Waiting {
    /// Whether anybody is counted as asleep.
    fn look(cpu: &mut Run<'_>, bell: u8) -> Step<Option<(u8, u8)>> {
        let bit = 1 << cpu.me;
        let look = |word: Word, world: &mut Seer| {
            let spec = &mut world.spec;
            if word.pair().1 > 0 && spec.counted[bell as usize] == 0 {
                let again = spec.in_vain[bell as usize] & bit != 0;
                spec.in_vain[bell as usize] |= bit;
                world.check(!again, "Q6: the dead stay counted as sleepers");
            }
        };
        let seen = cpu.load_and(word(bell, SLEEPERS), look)?.pair();
        Ok((seen.1 > 0).then_some(seen))
    }

    fn call_all(cpu: &mut Run<'_>, bell: u8, most: u8) -> Step<u8> {
        cpu.change_and(word(bell, RINGS), |rings| Word::Number(rings.number() + 1), |_, _| {})?;
        Ok(cpu.access(|cpu| Word::Number(wake_up(cpu.world, bell, most)))?.number())
    }

    fn wake(cpu: &mut Run<'_>, bell: u8, most: u8, seen: (u8, u8)) -> Step<()> {
        if Self::call_all(cpu, bell, most)? > 0 || cpu.planted(Fault::DeadStayCounted) {
            return Ok(());
        }
        let (epoch, count) = seen;
        let anew = cpu.cas(word(bell, SLEEPERS), Word::Pair(epoch, count), Word::Pair(epoch + 1, 0))?;
        if anew && !cpu.planted(Fault::ResetSilently) {
            Self::call_all(cpu, bell, u8::MAX)?;
        }
        Ok(())
    }
}

impl Structure for Waiting {
    type Todo = Todo;
    type Call = Call;
    type Spec = Seen;
    /// Whether it has the lock.
    type Own = bool;
    type Fault = Fault;
    const DONE: Todo = Todo::Done;

    fn words(&self, _: usize) -> Vec<Word> {
        let (count, state) = match self {
            Self::Semaphores(count) => (*count, Word::Number(0)),
            Self::Event => (1, Word::Number(0)),
            Self::Lock | Self::Barrier(_) => (1, Word::Pair(0, 0)),
        };
        (0..count).flat_map(|_| [state, Word::Number(0), Word::Pair(0, 0)]).collect()
    }
    fn spec(&self, _: usize) -> Seen {
        Seen::default()
    }
    fn begin(&self, call: Call, _: &[(u8, u8)], has_lock: &bool) -> Option<Todo> {
        (*has_lock || !matches!(call, Call::Unlock | Call::Cure)).then_some(Todo::Do(call))
    }
    fn recovery(&self, dead: u8) -> Todo {
        Todo::Release { dead }
    }
    fn may_show(&self, fault: Fault) -> bool {
        match fault {
            Fault::CallKept => *self == Self::Semaphores(2),
            Fault::ClearedByTwo => *self == Self::Event,
            Fault::PoisonForgotten | Fault::DeadHold | Fault::TakenOverPlainly | Fault::ClockDecides => {
                *self == Self::Lock
            }
            Fault::ArrivalKept | Fault::ArrivalUnchecked => matches!(self, Self::Barrier(_)),
            _ => true,
        }
    }
    fn all(_: &Seen) -> Vec<(u8, u8)> {
        vec![]
    }
    fn died(spec: &mut Seen, who: u8) {
        spec.asleep.retain(|sleeper| sleeper.who != who);
        spec.counted.iter_mut().chain([&mut spec.napped]).for_each(|bits| *bits &= !(1 << who));
    }
    fn sleeps(spec: &Seen, who: u8) -> bool {
        spec.asleep.iter().any(|sleeper| sleeper.who == who && !sleeper.call.may_be_late())
    }
    fn is_owed(&self, _: &[Word], words: &[Word], world: &World<Seen>) -> bool {
        world.spec.asleep.iter().any(|sleeper| match sleeper.call {
            Call::Lock | Call::LockInTime => {
                let holder = words[STATE].pair().1;
                holder == 0 || world.is_dead(holder)
            }
            Call::Meet | Call::MeetInTime => words[STATE].pair().0 != sleeper.round,
            call => call.bells().iter().any(|&bell| words[word(bell, STATE)].number() > 0),
        })
    }
    fn nap_ends(spec: &mut Seen) {
        for sleeper in spec.asleep.drain(..) {
            spec.napped |= 1 << sleeper.who;
        }
    }

    fn run(&self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        match todo {
            Todo::Done => Ok(Todo::Done),
            Todo::Do(call @ (Call::Meet | Call::MeetInTime)) => match self {
                Self::Barrier(parties) => meet(cpu, call, *parties),
                other => unreachable!("{other:?}"),
            },
            Todo::Do(Call::Cure) => {
                let cured = |_: Word, world: &mut Seer| world.spec.is_poisoned = false;
                cpu.change_and(STATE, |word| Word::Pair(0, word.pair().1), cured)?;
                Ok(Todo::Done)
            }
            Todo::Do(call @ (Call::Give(..) | Call::Set | Call::Unlock)) => {
                if !cpu.planted(Fault::WakeBeforePut) {
                    put(cpu, call)?;
                    return Ok(ring_of(call, cpu.planted));
                }
                if let Todo::Ring { bell, most } = ring_of(call, None)
                    && let Some(seen) = Self::look(cpu, bell)?
                {
                    Self::wake(cpu, bell, most, seen)?;
                }
                Ok(Todo::Put { call })
            }
            Todo::Do(call) => Ok(Todo::Await(Sleep::of(call, 0))),
            Todo::Put { call } => put(cpu, call).map(|()| Todo::Done),
            Todo::Await(sleep) => begin_to_sleep(cpu, sleep),
            Todo::Try(sleep) => try_again(cpu, sleep),
            Todo::FallAsleep(sleep) => fall_asleep(cpu, sleep),
            Todo::Leave(sleep) => leave_all(cpu, sleep),
            Todo::Ring { bell, most } => Ok(match Self::look(cpu, bell)? {
                Some(seen) => Todo::Wake { bell, most, seen },
                None => Todo::Done,
            }),
            Todo::Wake { bell, most, seen } => Self::wake(cpu, bell, most, seen).map(|()| Todo::Done),
            Todo::PassOn { bells } => Ok(match bells.trailing_zeros() as u8 {
                8.. => Todo::Done,
                bell => Todo::Ring { bell, most: 1 },
            }),
            Todo::GiveUp { round } => give_up(cpu, round).map(|()| Todo::Done),
            Todo::Release { dead } => cpu.release(dead).map(|()| Todo::Done),
        }
    }
}

//! Streams of responses (src/ipc/call.rs, src/ipc/service): a server answers one request with several messages, and its client
//! takes them, gives up, goes on where it has no number, or dies. The same steps in the same order, as far as they are not in
//! `call`: when a client's ring may be written and freed is there, and a bell's own words are in `waiting`; here a ring of
//! a bell is one step. Both rings have one cell.

use crate::engine::{Cpu, Header, Link, Standing, Step, Stop, Structure, Word, World};
use crate::stream_recovery::recover;

/// Of one client, the first participant, and one server, the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Streams;

pub const CLIENT: u8 = 1;
pub const REQUEST: usize = 0;
pub const RESPONSE: usize = 1;
/// Which call the client waits for.
const AWAITED: usize = 2;
/// Whether the client is counted among its ring's users.
pub const USED: usize = 3;
/// How often the bells were rung: of who waits for a response, and of who waits for room for one.
const RINGS: [usize; 2] = [4, 5];

pub const EMPTY: Word = Word::Empty(0);
pub const SEALED: Word = Word::Sealed(0);
pub const YES: Word = Word::Number(1);
pub const NO: Word = Word::Number(0);

/// Who sleeps at a bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Receiver,
    Sender,
}

/// Which of the responses one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    More,
    Last,
    /// None comes any more; it has no value.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Ask,
    /// The client's next response, waited for.
    Next,
    /// The client drops its stream.
    Drop,
    /// The stream goes on in a thread that has no number, or has one.
    Unseat,
    Seat,
    /// The client's descriptor, which nobody looks at.
    Watch,
    Serve,
    /// The server's next response, with room waited for.
    Send(Part),
    /// The server drops its request, answered or not.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Todo {
    Done,
    Ask {
        block: u8,
        generation: u8,
    },
    LetGo {
        link: Link,
        ring: bool,
    },
    Next,
    /// The request is gone: a response was sent before that, if one was.
    Again,
    Taken {
        link: Link,
        part: Option<Part>,
    },
    Drop,
    Seat(bool),
    Watch,
    /// Somebody else is woken, who slept behind the same ring.
    PassOn,
    Serve,
    ClearRequest {
        link: Link,
        call: u8,
    },
    /// What was received is looked at: does somebody wait for it?
    Awaited,
    Send {
        block: u8,
        generation: u8,
        part: Part,
        looks: bool,
    },
    Finish,
    Ring {
        role: Role,
        most: u8,
    },
    Recover {
        dead: u8,
    },
    Settle {
        dead: u8,
        cell: usize,
    },
    RingAll {
        dead: u8,
    },
    Forget {
        dead: u8,
    },
    Drain {
        dead: u8,
    },
    Drained {
        dead: u8,
        link: Link,
    },
    RingSenders {
        dead: u8,
    },
    FreeBlocks {
        dead: u8,
        at: u8,
    },
    RingClient {
        dead: u8,
    },
    Release {
        dead: u8,
    },
}

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A stream that finds no number for its thread is over.
    UnseatedOver,
    /// Dropped in a thread without a number, it is not given up.
    UnseatedKept,
    /// The call for a response that a descriptor had goes to nobody else.
    WatchKeepsCall,
    /// Whoever waits for room looks for that alone, not whether its response is waited for still.
    GivenUpUnseen,
    GiveUpUntold,
    /// A client that gives up rings first.
    RungBeforeGivenUp,
    RoomUntold,
    /// A client that frees a response to an earlier call tells nobody that there is room.
    LateRoomUntold,
    ResponseUntold,
    /// A server that answers no more tells nobody.
    DropUntold,
    /// A client takes any response for the last one.
    MoreIsLast,
    GoneUnchecked,
    CallUnchecked,
    /// A server frees the request before its last response is in the ring.
    FinishedFirst,
    /// A recovery rings for a client before it frees the request that the dead one had, and not behind that.
    RungEarly,
    /// Who waits for room in a dead client's ring is not called when that is sealed.
    SealUntold,
    /// The ring of a dead client is sealed with a response in it.
    Undrained,
    BlocksBeforeLinks,
}

pub const FAULTS: &[Fault] = &[
    Fault::UnseatedOver,
    Fault::UnseatedKept,
    Fault::WatchKeepsCall,
    Fault::GivenUpUnseen,
    Fault::GiveUpUntold,
    Fault::RungBeforeGivenUp,
    Fault::RoomUntold,
    Fault::LateRoomUntold,
    Fault::ResponseUntold,
    Fault::DropUntold,
    Fault::MoreIsLast,
    Fault::GoneUnchecked,
    Fault::CallUnchecked,
    Fault::FinishedFirst,
    Fault::RungEarly,
    Fault::SealUntold,
    Fault::Undrained,
    Fault::BlocksBeforeLinks,
];

/// A response: its block and generation, which call it is to, the how-manieth it is, and which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Response {
    block: (u8, u8),
    call: u8,
    number: u8,
    part: Part,
}

/// What was asked and answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    requests: Vec<(u8, u8, u8)>,
    responses: Vec<Response>,
    /// Of the client's call: how many responses were put and taken, and whether the last one was taken.
    put: u8,
    taken: u8,
    is_complete: bool,
    /// Whether the client was told that nobody answers.
    is_told: bool,
    /// The client's call and its request, and the server's call.
    call: u8,
    asked: Option<(u8, u8)>,
    serves: u8,
    /// In the order in which they fell asleep.
    asleep: Vec<(u8, Role)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Own {
    call: u8,
    request: Option<(u8, u8)>,
    is_over: bool,
    is_unseated: bool,
    is_answered: bool,
    /// Nobody waits for a response any more.
    is_refused: bool,
}

pub type Run<'a> = Cpu<'a, Streams>;
pub type Seer = World<Seen>;

fn wake(world: &mut Seer, role: Role, most: u8) {
    let mut left = most;
    world.spec.asleep.retain(|sleeper| {
        let wakes = sleeper.1 == role && left > 0;
        left -= u8::from(wakes);
        !wakes
    });
}
pub fn ring(cpu: &mut Run<'_>, role: Role, most: u8) -> Step<()> {
    let wake = |_: Word, world: &mut Seer| wake(world, role, most);
    cpu.change_and(RINGS[role as usize], |rings| Word::Number(rings.number() + 1), wake).map(drop)
}
fn hear(cpu: &mut Run<'_>, role: Role) -> Step<Word> {
    cpu.load(RINGS[role as usize])
}
/// Falls asleep if the bell was not rung since; awake again in the next step.
fn sleep(cpu: &mut Run<'_>, role: Role, heard: Word) -> Step<()> {
    let me = cpu.me;
    let falls = cpu.access(|cpu| {
        let falls = cpu.memory[cpu.blocks + RINGS[role as usize]] == heard;
        if falls {
            cpu.world.spec.asleep.push((me, role));
        }
        Word::Number(falls.into())
    })?;
    if falls == YES { cpu.access(|_| NO).map(drop) } else { Ok(()) }
}

fn link(cpu: &Run<'_>, block: u8, generation: u8) -> Link {
    Link { lap: 0, giver: cpu.me, generation: generation + 1, block }
}

/// What stands in a cell becomes the caller's: its link, which call it is for, and which part it is. The cell is not emptied
/// yet.
pub fn take(cpu: &mut Run<'_>, cell: usize, look: impl FnOnce(Word, &mut Seer)) -> Step<Option<(Link, u8, u8)>> {
    let Word::Link(link) = cpu.load_and(cell, look)? else { return Ok(None) };
    let (Standing::Pending(header) | Standing::Present(header)) = cpu.standing(link)? else {
        cpu.cas(cell, Word::Link(link), EMPTY)?;
        return Err(Stop::Again);
    };
    let (me, block) = (cpu.me, (link.block, link.generation));
    // It stands in the block.
    let (call, part) = cpu
        .access(|cpu| {
            let Seen { requests, responses, .. } = &cpu.world.spec;
            let request = requests.iter().find(|one| (one.0, one.1) == block).map(|one| (one.2, 0));
            let response = responses.iter().find(|one| one.block == block).map(|one| (one.call, one.part as u8));
            let (call, part) = request.or(response).unwrap_or((0, 0));
            Word::Pair(call, part)
        })?
        .pair();
    let believed = cpu.planted(Fault::CallUnchecked) || call == cpu.own.call;
    let mine = Header { live: true, owner: me, generation: link.generation };
    let taken = |world: &mut Seer| {
        world.held[me as usize - 1].push(block);
        let spec = &mut world.spec;
        spec.requests.retain(|one| (one.0, one.1) != block);
        let Some(at) = spec.responses.iter().position(|one| one.block == block) else { return };
        let one = spec.responses.remove(at);
        if me != CLIENT || !believed {
            return;
        }
        let (is_own, is_next) = (one.call == spec.call, one.number == spec.taken);
        spec.taken += 1;
        spec.is_complete |= one.part != Part::More;
        world.check(is_own, "Q6: a response to another call");
        world.check(is_next, "Q3: a response is left out, or comes twice");
    };
    match cpu.cas_header(link.block, header, mine, taken)? {
        true => Ok(Some((link, call, part))),
        false => Err(Stop::Again),
    }
}

/// The next response of the client's call, or one of an earlier call. None if there is none.
fn response(cpu: &mut Run<'_>, look: impl FnOnce(Word, &mut Seer)) -> Step<Option<Todo>> {
    let Some((link, call, part)) = take(cpu, RESPONSE, look)? else { return Ok(None) };
    let believed = cpu.planted(Fault::CallUnchecked) || call == cpu.own.call;
    let part = [Part::More, Part::Last, Part::End][part as usize];
    Ok(Some(Todo::Taken { link, part: believed.then_some(part) }))
}

fn next(cpu: &mut Run<'_>) -> Step<Todo> {
    if cpu.own.is_over {
        // No response any more: the stream is complete, or it was told that nobody answers.
        cpu.access(|cpu| {
            let Seen { is_complete, is_told, .. } = cpu.world.spec;
            cpu.world.check(is_complete || is_told, "Q3: a stream looks complete, and is not");
            NO
        })?;
        return Ok(Todo::Done);
    }
    let Some((block, generation)) = cpu.own.request else { return Ok(Todo::Done) };
    if cpu.own.is_unseated {
        cpu.own.is_over = cpu.planted(Fault::UnseatedOver);
        return Ok(Todo::Done);
    }
    let heard = hear(cpu, Role::Receiver)?;
    if let Some(taken) = response(cpu, |_, _| {})? {
        return Ok(taken);
    }
    let header = cpu.header(block)?;
    if !(header.live && header.generation == generation) {
        return Ok(Todo::Again);
    }
    sleep(cpu, Role::Receiver, heard)?;
    Ok(Todo::Next)
}

fn again(cpu: &mut Run<'_>) -> Step<Todo> {
    let none = |word: Word, world: &mut Seer| {
        let left = world.spec.responses.iter().any(|one| one.call == world.spec.call);
        world.check(word != EMPTY || !left, "Q3: nobody answers, and there is a response");
        world.spec.is_told |= word == EMPTY;
    };
    if cpu.planted(Fault::GoneUnchecked) {
        cpu.access(|cpu| {
            none(EMPTY, cpu.world);
            NO
        })?;
    } else if let Some(taken) = response(cpu, none)? {
        return Ok(taken);
    }
    cpu.own.is_over = true;
    Ok(Todo::Done)
}

/// The cell is emptied, and there is room; the block is the client's own, which frees it.
fn taken(cpu: &mut Run<'_>, link: Link, part: Option<Part>) -> Step<Todo> {
    cpu.cas(RESPONSE, Word::Link(link), EMPTY)?;
    if !cpu.planted(if part.is_some() { Fault::RoomUntold } else { Fault::LateRoomUntold }) {
        ring(cpu, Role::Sender, 1)?;
    }
    cpu.free(link.block, link.generation)?;
    match part {
        None => return Ok(Todo::Next),
        Some(part) => cpu.own.is_over = part != Part::More || cpu.planted(Fault::MoreIsLast),
    }
    Ok(Todo::Done)
}

fn give_up(cpu: &mut Run<'_>) -> Step<Todo> {
    let kept = cpu.own.is_unseated && cpu.planted(Fault::UnseatedKept);
    let first = cpu.planted(Fault::RungBeforeGivenUp);
    if first {
        ring(cpu, Role::Sender, u8::MAX)?;
    }
    if !kept {
        let gone = |world: &mut Seer| world.spec.call = 0;
        cpu.store_and(AWAITED, NO, gone)?;
        if !first && !cpu.planted(Fault::GiveUpUntold) {
            ring(cpu, Role::Sender, u8::MAX)?;
        }
    } else {
        cpu.access(|cpu| {
            cpu.world.spec.call = 0;
            NO
        })?;
    }
    cpu.own.request = None;
    Ok(Todo::Done)
}

/// Puts a response once there is room, unless nobody waits for it.
fn send(cpu: &mut Run<'_>, (block, generation): (u8, u8), part: Part, looks: bool) -> Step<Todo> {
    let (me, call) = (cpu.me, cpu.own.call);
    if cpu.planted(Fault::FinishedFirst)
        && part == Part::Last
        && let Some((request, generation)) = cpu.own.request
    {
        free_request(cpu, request, generation)?;
        return Err(Stop::Again);
    }
    let heard = hear(cpu, Role::Sender)?;
    if looks && cpu.load(AWAITED)?.number() != call {
        cpu.own.is_refused = true;
        return Ok(Todo::Done);
    }
    let link = link(cpu, block, generation);
    let sent = |world: &mut Seer| {
        let spec = &mut world.spec;
        let is_told = spec.is_told && spec.call == call;
        let number = if spec.call == call { spec.put } else { u8::MAX };
        spec.put += u8::from(spec.call == call);
        spec.responses.push(Response { block: (block, link.generation), call, number, part });
        world.held[me as usize - 1].retain(|held| held.0 != block);
        world.check(!is_told, "Q6: a response, and its caller was told that none comes");
    };
    if cpu.cas_and(RESPONSE, EMPTY, Word::Link(link), sent)? {
        cpu.own.is_answered |= part != Part::More;
        return Ok(Todo::LetGo { link, ring: !cpu.planted(Fault::ResponseUntold) });
    }
    if cpu.load(RESPONSE)? == SEALED {
        cpu.own.is_refused = true;
        return Ok(Todo::Done);
    }
    sleep(cpu, Role::Sender, heard)?;
    Ok(Todo::Send { block, generation, part, looks: !cpu.planted(Fault::GivenUpUnseen) })
}

fn free_request(cpu: &mut Run<'_>, block: u8, generation: u8) -> Step<()> {
    cpu.free(block, generation)?;
    cpu.own.request = None;
    Ok(())
}

fn finish(cpu: &mut Run<'_>) -> Step<Todo> {
    if let Some((block, generation)) = cpu.own.request {
        free_request(cpu, block, generation)?;
    }
    let tells = !cpu.own.is_answered && !cpu.planted(Fault::DropUntold);
    Ok(if tells { Todo::Ring { role: Role::Receiver, most: u8::MAX } } else { Todo::Done })
}

impl Structure for Streams {
    type Todo = Todo;
    type Call = Call;
    type Spec = Seen;
    type Own = Own;
    type Fault = Fault;
    const DONE: Todo = Todo::Done;

    fn words(&self, _: usize) -> Vec<Word> {
        vec![EMPTY, EMPTY, NO, YES, NO, NO]
    }
    fn spec(&self, _: usize) -> Seen {
        Seen::default()
    }
    fn begin(&self, call: Call, held: &[(u8, u8)], own: &Own) -> Option<Todo> {
        let other = held.iter().find(|held| own.request != Some(**held));
        Some(match call {
            Call::Ask => held.first().map(|&(block, generation)| Todo::Ask { block, generation })?,
            Call::Next => Todo::Next,
            Call::Drop => own.request.map(|_| Todo::Drop)?,
            Call::Unseat => Todo::Seat(false),
            Call::Seat => Todo::Seat(true),
            Call::Watch => Todo::Watch,
            Call::Serve => Todo::Serve,
            Call::Send(part) => {
                own.request.filter(|_| !own.is_refused)?;
                other.map(|&(block, generation)| Todo::Send { block, generation, part, looks: true })?
            }
            Call::Finish => own.request.map(|_| Todo::Finish)?,
        })
    }
    fn recovery(&self, dead: u8) -> Todo {
        Todo::Recover { dead }
    }
    fn all(spec: &Seen) -> Vec<(u8, u8)> {
        let requests = spec.requests.iter().map(|one| (one.0, one.1));
        requests.chain(spec.responses.iter().map(|one| one.block)).collect()
    }
    fn died(spec: &mut Seen, who: u8) {
        spec.asleep.retain(|sleeper| sleeper.0 != who);
    }
    fn sleeps(spec: &Seen, who: u8) -> bool {
        spec.asleep.iter().any(|sleeper| sleeper.0 == who)
    }
    fn is_owed(&self, headers: &[Word], words: &[Word], world: &World<Seen>) -> bool {
        let Seen { asked, call, serves, .. } = world.spec;
        let is_gone = asked.is_some_and(|(block, generation)| {
            let Header { live, generation: now, .. } = headers[block as usize].header();
            !live || now != generation
        });
        world.spec.asleep.iter().any(|&(who, role)| match role {
            Role::Receiver => who == CLIENT && (words[RESPONSE] != EMPTY || is_gone),
            Role::Sender => matches!(words[RESPONSE], EMPTY | SEALED) || call != serves || world.is_dead(CLIENT),
        })
    }
    fn is_whole(&self, words: &[Word], world: &World<Seen>) -> bool {
        !world.is_dead(CLIENT) || words[RESPONSE] == SEALED
    }
    fn nap_ends(spec: &mut Seen) {
        spec.asleep.clear();
    }
    /// Somebody else recovers whoever dies, in each scenario.
    fn naps(_: &World<Seen>) -> u32 {
        0
    }

    fn run(&self, cpu: &mut Run<'_>, todo: Todo) -> Step<Todo> {
        let me = cpu.me;
        match todo {
            Todo::Done => Ok(Todo::Done),
            Todo::Ask { block, generation } => {
                let call = cpu.own.call + 1;
                (cpu.own.is_over, cpu.own.request) = (false, None);
                cpu.store(AWAITED, Word::Number(call))?;
                let link = link(cpu, block, generation);
                let asked = |world: &mut Seer| {
                    let spec = &mut world.spec;
                    spec.requests.push((block, link.generation, call));
                    (spec.put, spec.taken, spec.call) = (0, 0, call);
                    (spec.is_complete, spec.is_told, spec.asked) = (false, false, Some((block, link.generation)));
                    world.held[me as usize - 1].retain(|held| held.0 != block);
                };
                let sent = cpu.cas_and(REQUEST, EMPTY, Word::Link(link), asked)?;
                cpu.own.call = call;
                cpu.own.request = sent.then_some((block, link.generation));
                Ok(if sent { Todo::LetGo { link, ring: false } } else { Todo::Done })
            }
            Todo::LetGo { link, ring } => {
                cpu.let_go(link, Header { live: true, owner: me, generation: link.generation - 1 })?;
                Ok(if ring { Todo::Ring { role: Role::Receiver, most: 1 } } else { Todo::Done })
            }
            Todo::Next => next(cpu),
            Todo::Again => again(cpu),
            Todo::Taken { link, part } => taken(cpu, link, part),
            Todo::Drop => give_up(cpu),
            Todo::Seat(seated) => {
                cpu.own.is_unseated = !seated;
                Ok(Todo::Done)
            }
            Todo::Watch => {
                let heard = hear(cpu, Role::Receiver)?;
                sleep(cpu, Role::Receiver, heard)?;
                let keeps = cpu.planted(Fault::WatchKeepsCall);
                Ok(if keeps { Todo::Done } else { Todo::PassOn })
            }
            Todo::PassOn => {
                let woken = cpu.access(|cpu| {
                    wake(cpu.world, Role::Receiver, 1);
                    NO
                });
                woken.map(|_| Todo::Done)
            }
            Todo::Serve => {
                (cpu.own.is_answered, cpu.own.is_refused) = (false, false);
                let Some((link, call, _)) = take(cpu, REQUEST, |_, _| {})? else { return Ok(Todo::Done) };
                Ok(Todo::ClearRequest { link, call })
            }
            Todo::ClearRequest { link, call } => {
                let serves = |world: &mut Seer| world.spec.serves = call;
                cpu.cas_and(REQUEST, Word::Link(link), EMPTY, serves)?;
                (cpu.own.call, cpu.own.request) = (call, Some((link.block, link.generation)));
                Ok(Todo::Awaited)
            }
            Todo::Awaited => {
                let awaited = cpu.load(AWAITED)?.number() == cpu.own.call;
                Ok(if awaited { Todo::Done } else { Todo::Finish })
            }
            Todo::Send { block, generation, part, looks } => send(cpu, (block, generation), part, looks),
            Todo::Finish => finish(cpu),
            Todo::Ring { role, most } => ring(cpu, role, most).map(|()| Todo::Done),
            recovery => recover(cpu, recovery),
        }
    }
}

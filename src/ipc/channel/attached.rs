//! A process's part in a structure: how it comes, what it is counted as, how it leaves.

use super::error::{Unreceived, Unsent};
use crate::backend::{NativeWord, Reach};
use crate::error::{Error, Result};
use crate::handlers::{Handler, RelativePtr, check_name};
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::ring::{NotSent, Ring};
use crate::ipc::structure::{
    HAD_RECEIVERS, HAD_SENDERS, MOST_COUNTED, NotJoined, Places, Role, STRUCTURE, Shape, Sort, Structure,
};
use crate::ipc::wait::Look;
use crate::matrix::heap::{Exhausted, Live, ThreadCache};
use crate::segment::directory::Directory;
use crate::segment::region::MappedRegion;
use std::any::type_name;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a channel that is just being made, or removed, is waited for.
pub(in crate::ipc) const MAKING_WAIT: Duration = Duration::from_millis(500);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// A structure's block is gone while its maker has it.
fn freed_meanwhile() -> Error {
    Error::NotLive { offset: 0, state: "freed by somebody who had no right to" }
}

fn damaged(offset: u32) -> Error {
    Error::Corrupt { what: format!("the structure at offset {offset} has no whole header") }
}

/// How a visit to a structure ended.
enum Come {
    Counted(Shape),
    Removed,
    Another(Shape),
    TooMany,
}

/// A structure that nobody else has seen: freed, if it does not come to that.
struct Unpublished<'h>(&'h Handler, RelativePtr<u8>);

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        let _ = self.0.free_message(&self.1);
    }
}

/// A structure that this process is counted among the users of.
pub(in crate::ipc) struct Attached {
    pub(in crate::ipc) handler: Handler,
    pub(in crate::ipc) live: Live,
    pub(in crate::ipc) shape: Shape,
    /// Where what lies of that shape.
    pub(in crate::ipc) places: Places,
    /// The structure's words, lent no longer than the handler is there.
    words: &'static [NativeWord],
    /// The participant that is counted.
    number: u16,
}

impl Attached {
    /// Of a process whose participant `number` is counted among a structure's users.
    fn counted(handler: &Handler, live: Live, shape: Shape, number: u16) -> Arc<Self> {
        let heap = handler.matrix().heap();
        let places = shape.places(heap.layout());
        let words = Structure::words_at(heap, live.at, places);
        // SAFETY: they lie in the mapping, which stays as long as the handler beside them, and `known` lends them no
        // longer than that.
        let words = unsafe { &*std::ptr::from_ref(words) };
        Arc::new(Self { handler: handler.clone(), live, shape, places, words, number })
    }

    pub(in crate::ipc) fn make(handler: &Handler, name: Option<&str>, shape: Shape) -> Result<Arc<Self>> {
        Self::make_filled(handler, name, shape, |_| ())
    }

    /// The same, after `fill` has had its cells: they are its own until it has returned. Without a name it stays as
    /// long as it has users.
    pub(in crate::ipc) fn make_filled(
        handler: &Handler,
        name: Option<&str>,
        shape: Shape,
        fill: impl FnOnce(NonNull<u8>),
    ) -> Result<Arc<Self>> {
        let (matrix, home) = (handler.matrix(), handler.matrix().home()?);
        let make = |reach, cache: &mut ThreadCache| {
            let made = Structure::make_within(reach, matrix.heap(), cache, shape)?;
            // No other has seen it: it is made with its maker as its user.
            let joined = Structure::at(matrix.heap(), made).map(|made| {
                if name.is_none() {
                    made.leave_to_users();
                }
                made.join(home, Role::User)
            });
            debug_assert_eq!(joined, Some(Ok(())));
            Ok(made)
        };
        let made = Self::made(handler, shape, make)?;
        let mine = Unpublished(handler, handler.pointer(made));
        let attached = Self::counted(handler, made.of(0), shape, home);
        fill(attached.known().first_cell());
        match name {
            Some(name) => handler.publish_raw(name, &mine.1)?,
            None => {
                let let_go = |cache: &mut ThreadCache| {
                    matrix.heap().adoption().rename_from(cache.owner(), made.at, made.header, 0)
                };
                matrix.with_cache(let_go)?.ok_or_else(freed_meanwhile)?;
            }
        }
        std::mem::forget(mine);
        Ok(attached)
    }

    /// Makes a structure; where memory is short, once more after the dead have been recovered.
    fn made<T>(
        handler: &Handler,
        shape: Shape,
        make: impl Fn(Reach, &mut ThreadCache) -> std::result::Result<T, Exhausted>,
    ) -> Result<T> {
        let matrix = handler.matrix();
        let make = |reach| matrix.with_cache(|cache| make(reach, cache));
        let made = match make(Reach::Process)? {
            Ok(made) => Ok(made),
            Err(_) => {
                handler.reap()?;
                make(Reach::System)?
            }
        };
        let bytes = shape.words(matrix.heap().layout()) * 8;
        made.map_err(|exhausted| handler.out_of_memory(bytes, exhausted))
    }

    /// A structure without a name, which is this process's alone: freed after it.
    pub(in crate::ipc) fn make_hidden(handler: &Handler, shape: Shape) -> Result<Arc<Self>> {
        let (matrix, home) = (handler.matrix(), handler.matrix().home()?);
        let make = |reach, cache: &mut ThreadCache| {
            let made = Structure::make_within(reach, matrix.heap(), cache, shape)?;
            // No other has seen it.
            if let Some(hidden) = Structure::at(matrix.heap(), made) {
                let joined = hidden.join(home, Role::User);
                debug_assert_eq!(joined, Ok(()));
                hidden.hide();
            }
            let header = matrix.heap().adoption().rename_from(cache.owner(), made.at, made.header, 0);
            Ok(header.map(|header| Live { at: made.at, header }))
        };
        let made = Self::made(handler, shape, make)?;
        let live = made.ok_or_else(freed_meanwhile)?;
        Ok(Self::counted(handler, live, shape, home))
    }

    /// The structure of that name, a `T` to the caller, if there is one; one that is just being made or removed is
    /// waited for, but not for long.
    #[inline]
    pub(in crate::ipc) fn find<T: ?Sized>(handler: &Handler, name: &str, shape: Shape) -> Result<Option<Arc<Self>>> {
        Self::find_shaped(handler, name, shape, type_name::<T>())
    }

    fn find_shaped(handler: &Handler, name: &str, shape: Shape, expected: &'static str) -> Result<Option<Arc<Self>>> {
        check_name(name)?;
        let (matrix, home, begun) = (handler.matrix(), handler.matrix().home()?, Instant::now());
        let mut reaped = false;
        while let Some(found) = Directory(matrix.segment()).lookup(name.as_bytes()) {
            let offset = found.block.offset;
            let live = handler.live_at(offset).ok().filter(|live| live.header.generation() == found.block.generation);
            let Some(live) = live else {
                // The name of a block that is gone.
                Directory(matrix.segment()).withdraw_this(found);
                continue;
            };
            let another =
                |found| Error::not_the_structure(expected, (Some(name), offset), &[shape.sort], shape.content, found);
            if found.block.fingerprint != Some(STRUCTURE) {
                return Err(another(None));
            }
            match matrix.with_cache(|cache| Self::come(handler, cache, live, home, shape))? {
                Some(Come::Counted(shape)) => {
                    return Ok(Some(Self::counted(handler, live, shape, home)));
                }
                Some(Come::Another(other)) => return Err(another(Some((other.sort, other.content)))),
                Some(Come::TooMany) => return Err(Error::TooManyHandles { most: MOST_COUNTED }),
                Some(Come::Removed) => _ = Directory(matrix.segment()).withdraw_this(found),
                None if Structure::is_damaged(matrix.heap(), live) => return Err(damaged(offset)),
                None if begun.elapsed() < MAKING_WAIT => crate::kernel::nap(BETWEEN_LOOKS),
                None if !reaped => {
                    handler.reap()?;
                    reaped = true;
                }
                None => return Err(Error::ChangingHands { offset, participant: live.header.holder() }),
            }
        }
        Ok(None)
    }

    /// This process is counted among the users of the structure in a live block, if it is of that shape.
    fn come(handler: &Handler, cache: &mut ThreadCache, live: Live, home: u16, shape: Shape) -> Option<Come> {
        let heap = handler.matrix().heap();
        let come = Structure::visit(heap, cache.owner(), live, |structure| {
            // Whatever it was.
            if structure.is_removed() {
                return Come::Removed;
            }
            if (structure.shape.sort, structure.shape.content) != (shape.sort, shape.content) {
                return Come::Another(structure.shape);
            }
            match structure.enter(home) {
                Ok(()) => Come::Counted(structure.shape),
                Err(NotJoined::Removed) => Come::Removed,
                Err(NotJoined::TooMany) => Come::TooMany,
            }
        });
        if !matches!(come, Some(Come::Counted(_))) {
            // A newcomer may be the one that frees what is REMOVED: the last user may have left
            // that to this visit, or have died.
            Attached::free_if_unused(handler, cache, live);
        }
        come
    }

    /// The structure in a live block, what is `expected` to the caller, whether it has a name or none.
    pub(in crate::ipc) fn open_at(
        handler: &Handler,
        live: Live,
        shape: Shape,
        expected: &'static str,
    ) -> Result<Arc<Self>> {
        let (matrix, home) = (handler.matrix(), handler.matrix().home()?);
        let offset = matrix.offsets().offset(live.at);
        let another = |found| Error::not_the_structure(expected, (None, offset), &[shape.sort], shape.content, found);
        if !matrix.heap().is_structure(live) {
            return Err(another(None));
        }
        match matrix.with_cache(|cache| Self::come(handler, cache, live, home, shape))? {
            Some(Come::Counted(shape)) => Ok(Self::counted(handler, live, shape, home)),
            Some(Come::Another(other)) => Err(another(Some((other.sort, other.content)))),
            Some(Come::TooMany) => Err(Error::TooManyHandles { most: MOST_COUNTED }),
            None if live.header.owner() != 0 => Err(Error::ChangingHands { offset, participant: live.header.holder() }),
            None if Structure::is_damaged(matrix.heap(), live) => Err(damaged(offset)),
            Some(Come::Removed) | None => Err(Error::NotLive { offset, state: "removed" }),
        }
    }

    fn free_if_unused(handler: &Handler, cache: &mut ThreadCache, live: Live) {
        Structure::drain_removed(handler.matrix().heap(), cache, live);
        Structure::free_if_unused(handler.matrix().heap(), cache, live);
    }

    /// The structure, for the process that is counted among its users. A forked child is not: the structure
    /// may be gone, and the memory another's. So everything that is done with a structure begins here, or in
    /// [`Attached::with`].
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    #[inline(always)]
    pub(in crate::ipc) fn structure(&self) -> Result<Structure<'_, MappedRegion>> {
        self.handler.matrix().check_process()?;
        Ok(self.known())
    }

    /// Does something with the structure, and this thread's cache, which no forked child has.
    #[inline(always)]
    pub(in crate::ipc) fn with<'s, T>(
        &'s self,
        act: impl FnOnce(&mut ThreadCache, Structure<'s, MappedRegion>) -> T,
    ) -> Result<T> {
        self.handler.matrix().with_cache(|cache| act(cache, self.known()))
    }

    #[inline(always)]
    fn known(&self) -> Structure<'_, MappedRegion> {
        Structure::known(self.handler.matrix().heap(), self.words, self.live.at, self.shape, self.places)
    }

    /// That it is of this sort and type, which is what is `expected` to the caller.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`].
    pub(in crate::ipc) fn is_of(&self, sort: Sort, content: u32, expected: &'static str) -> Result<()> {
        if (self.shape.sort, self.shape.content) == (sort, content) {
            return Ok(());
        }
        let found = Some((self.shape.sort, self.shape.content));
        Err(Error::not_the_structure(expected, (None, self.offset()), &[sort], content, found))
    }

    /// That a value of this type lies in its cells: so many words, at its alignment. Its content says so, whatever its
    /// shape and its place are (C2').
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(in crate::ipc) fn holds<T>(&self, words: usize) -> Result<()> {
        let (kind, found, offset) = (self.shape.sort.kind(), self.shape.cells(), self.offset());
        let (first, align) = (self.structure()?.first_cell().addr().get(), align_of::<T>());
        let what = if found < words {
            format!("the {kind} at offset {offset} has {found} words for a value of {words}")
        } else if !first.is_multiple_of(align) {
            format!("the {kind} at offset {offset} has its value at no multiple of {align} bytes")
        } else {
            return Ok(());
        };
        Err(Error::Corrupt { what })
    }

    fn offset(&self) -> u32 {
        self.handler.matrix().offsets().offset(self.live.at)
    }

    /// The participant that is counted.
    #[inline(always)]
    pub(in crate::ipc) fn home(&self) -> u16 {
        self.number
    }

    /// One try to put a message in, by `put`; wakes as many as `woken` receivers.
    #[inline(always)]
    pub(in crate::ipc) fn put<T: Payload + ?Sized>(
        &self,
        message: &Message<'_, T>,
        woken: u32,
        put: impl FnOnce(&mut ThreadCache, Structure<'_, MappedRegion>, Live) -> std::result::Result<(), NotSent>,
    ) -> std::result::Result<(), Unsent> {
        if message.handler().creation() != self.handler.creation() {
            return Err(Unsent::NotOwn);
        }
        let put = |cache: &mut ThreadCache, structure: Structure<'_, MappedRegion>| {
            put(cache, structure, self.own(cache, message)?)?;
            structure.bell(Role::Receiver).ring(woken);
            Ok(())
        };
        self.with(put).unwrap_or(Err(Unsent::NoParticipant))
    }

    /// One try to send messages in their order: how many were sent, and why no more if there were more.
    pub(in crate::ipc) fn put_many<T: Payload + ?Sized>(
        &self,
        messages: &[Message<'_, T>],
    ) -> (usize, std::result::Result<(), Unsent>) {
        let ours = |message: &&Message<'_, T>| message.handler().creation() == self.handler.creation();
        let put = |cache: &mut ThreadCache, structure: Structure<'_, MappedRegion>| {
            let mut refused = Ok(());
            let next = |sent: usize| {
                let message = messages.get(sent)?;
                let own = Some(message).filter(ours).ok_or(Unsent::NotOwn).and_then(|m| self.own(cache, m));
                own.inspect_err(|&why| refused = Err(why)).ok()
            };
            let (sent, ended) = Ring::of(structure).send_many(cache.owner(), next);
            if sent > 0 {
                structure.bell(Role::Receiver).ring(sent as u32);
            }
            (sent, ended.map_err(Unsent::from).and(refused))
        };
        self.with(put).unwrap_or((0, Err(Unsent::NoParticipant)))
    }

    /// A message's block, which becomes this thread's if it is another's.
    #[inline(always)]
    pub(in crate::ipc) fn own<T: Payload + ?Sized>(
        &self,
        cache: &ThreadCache,
        message: &Message<'_, T>,
    ) -> std::result::Result<Live, Unsent> {
        self.own_at(cache, message.offset(), message.generation())
    }

    /// The same by its position.
    #[inline(always)]
    pub(in crate::ipc) fn own_at(
        &self,
        cache: &ThreadCache,
        offset: u32,
        generation: u32,
    ) -> std::result::Result<Live, Unsent> {
        let (matrix, me) = (self.handler.matrix(), cache.owner());
        let at = matrix.offsets().granule(offset);
        let live = matrix.heap().live_of(at, Some(generation)).map_err(|_| Unsent::NotOwn)?;
        if live.header.owner() == me {
            return Ok(live);
        }
        // Its owner may be about to store the header, which is ruled out first.
        Ok(Live { at, header: matrix.heap().adoption().rename_from(me, at, live.header, me).ok_or(Unsent::NotOwn)? })
    }

    /// Tries to put a message in until there is room, until the time is over if that is given, or until
    /// `in_vain` says why there will be no room.
    #[cold]
    pub(in crate::ipc) fn put_patiently(
        &self,
        until: Option<Instant>,
        mut put: impl FnMut() -> std::result::Result<(), Unsent>,
        mut in_vain: impl FnMut() -> Option<Unsent>,
    ) -> std::result::Result<(), Unsent> {
        let attempt = |look| {
            if look == Look::Thorough {
                self.look_after_the_dead();
            }
            match put() {
                Err(Unsent::Full) => in_vain().map(Err),
                put => Some(put),
            }
        };
        let structure = self.structure().map_err(|_| Unsent::NoParticipant)?;
        structure.bell(Role::Sender).wait(until, attempt).unwrap_or(Err(Unsent::Timeout))
    }

    /// Tries to get something out until there is something, or until the time is over if that is given.
    #[cold]
    pub(in crate::ipc) fn get_patiently<T>(
        &self,
        until: Option<Instant>,
        mut get: impl FnMut() -> std::result::Result<T, Unreceived>,
    ) -> std::result::Result<T, Unreceived> {
        let attempt = |look| {
            if look == Look::Thorough {
                self.look_after_the_dead();
            }
            match get() {
                Err(why) if why.may_come() => None,
                got => Some(got),
            }
        };
        let structure = self.structure().map_err(|_| Unreceived::NoParticipant)?;
        structure.bell(Role::Receiver).wait(until, attempt).unwrap_or(Err(Unreceived::Timeout))
    }

    /// Takes the structure's names away.
    pub(in crate::ipc) fn withdraw(&self) -> Result<()> {
        let matrix = self.handler.matrix();
        matrix.check_process()?;
        let offset = matrix.offsets().offset(self.live.at);
        let mut names = vec![];
        Directory(matrix.segment()).each(|name, block| {
            if block.offset == offset && block.generation == self.live.header.generation() {
                names.push(name.to_owned());
            }
        });
        for name in names {
            if let Some(found) = Directory(matrix.segment()).lookup(&name).filter(|found| found.block.offset == offset)
            {
                Directory(matrix.segment()).withdraw_this(found);
            }
        }
        Ok(())
    }

    /// Takes the structure's names away; nothing is put in any more, and it is freed after its last user.
    pub(in crate::ipc) fn remove(&self) -> Result<()> {
        let structure = self.structure()?;
        // First: a newcomer that finds the name of what is REMOVED withdraws it, but what has no name is not found.
        structure.remove();
        [Role::Sender, Role::Receiver].iter().for_each(|&role| structure.bell(role).ring(u32::MAX));
        self.withdraw()
    }

    /// While nothing came for a while: looks for dead participants, and recovers them.
    pub(in crate::ipc) fn look_after_the_dead(&self) {
        if self.handler.participants().iter().any(|participant| !participant.alive) {
            let _ = self.handler.reap();
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // A forked child is not counted: its parent is.
        let Ok(structure) = self.structure() else { return };
        let matrix = self.handler.matrix();
        structure.leave(self.number, Role::User);
        // Read, but not written any more.
        let ends = matrix.heap().look(self.live.at) == self.live.header && structure.ends_with_users();
        if ends {
            let _ = matrix.with_cache(|cache| Self::free_if_unused(&self.handler, cache, self.live));
        }
    }
}

/// A sender's or receiver's place.
pub(in crate::ipc) struct End {
    pub(in crate::ipc) attached: Arc<Attached>,
    role: Role,
    /// The participant that is counted.
    number: u16,
    /// How many of the other side had died when this end was made.
    deaths: u32,
    /// The structure's state at which there was a user of the other side.
    met: Mutex<u64>,
}

impl End {
    pub(in crate::ipc) fn new(attached: &Arc<Attached>, role: Role) -> Result<Self> {
        let number = attached.handler.matrix().home()?;
        let structure = attached.structure()?;
        let deaths = structure.deaths(role.other());
        structure.join(number, role).map_err(|_| Error::TooManyHandles { most: MOST_COUNTED })?;
        if attached.shape.sort == Sort::Single {
            let taken = structure.take_role(number, role).or_else(|_| {
                // Those of the dead are unowned behind their recovery.
                attached.look_after_the_dead();
                structure.take_role(number, role)
            });
            if let Err(participant) = taken {
                structure.leave(number, role);
                let role = if role == Role::Sender { "sender" } else { "receiver" };
                return Err(Error::RoleTaken { role, participant });
            }
        }
        Ok(Self { attached: attached.clone(), role, number, deaths, met: Mutex::new(u64::MAX) })
    }

    #[cfg(test)]
    pub(super) fn step_out_for_a_test(&self) {
        self.attached.known().step_out(self.number, self.role);
    }

    /// Whether there were users of the other side, and there are none any more: then, whether one has died.
    pub(in crate::ipc) fn has_lost_the_others(&self) -> Option<bool> {
        let (structure, other) = (self.attached.structure().ok()?, self.role.other());
        let state = structure.state();
        let had = if other == Role::Sender { HAD_SENDERS } else { HAD_RECEIVERS };
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if state & had == 0 || *met == state {
            return None;
        }
        if structure.count(other) > 0 {
            *met = state;
            return None;
        }
        // One may have come, and another left, while they were counted one after the other.
        if structure.state() != state {
            return None;
        }
        Some(structure.deaths(other) != self.deaths)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Ok(structure) = self.attached.structure() {
            if self.attached.shape.sort == Sort::Single {
                structure.drop_role(self.number, self.role);
            }
            structure.leave(self.number, self.role);
            structure.bell(self.role.other()).ring(u32::MAX);
        }
    }
}

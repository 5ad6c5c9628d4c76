//! A process's part in a structure: how it comes, what it is counted as, how it leaves.

use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::ipc::ring::Ring;
use crate::ipc::structure::{HAD_RECEIVERS, HAD_SENDERS, Role, STRUCTURE, Shape, Structure};
use crate::matrix::heap::{Lane, Live};
use crate::segment::directory::Directory;
use crate::segment::region::MappedRegion;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a channel that somebody is just making, or removing, is waited for.
pub(in crate::ipc) const MAKING_WAIT: Duration = Duration::from_millis(500);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// A structure that this process is counted among the users of.
pub(in crate::ipc) struct Attached {
    pub(in crate::ipc) handler: Handler,
    pub(in crate::ipc) live: Live,
    pub(in crate::ipc) shape: Shape,
    /// The participant that is counted.
    number: u16,
}

impl Attached {
    pub(in crate::ipc) fn make(handler: &Handler, name: &str, shape: Shape) -> Result<Arc<Self>> {
        let (matrix, home) = (handler.matrix(), handler.matrix().home()?);
        let make = |lane: &mut Lane| {
            let made = Structure::make(matrix.heap(), lane, shape)?;
            // Nobody else has seen it: it is made with its maker as its user.
            let joined = Structure::at(matrix.heap(), made).is_some_and(|made| made.join(home, Role::User));
            debug_assert!(joined);
            Ok(made)
        };
        let bytes = shape.words(matrix.heap().layout()) * 8;
        let made = match matrix.with_lane(make)? {
            Ok(made) => Ok(made),
            Err(_) => {
                handler.reap()?;
                matrix.with_lane(make)?
            }
        };
        let made = made.map_err(|exhausted| handler.out_of_memory(bytes, exhausted))?;
        let pointer = handler.pointer(made);
        if let Err(error) = handler.publish_raw(name, &pointer) {
            let _ = handler.free_message(&pointer);
            return Err(error);
        }
        Ok(Arc::new(Self { handler: handler.clone(), live: made.of(0), shape, number: home }))
    }

    /// The structure of that name, if there is one; one that is just being made or removed is waited for, but not for long.
    pub(in crate::ipc) fn find(handler: &Handler, name: &str, shape: Shape) -> Result<Option<Arc<Self>>> {
        handler.check_name(name)?;
        let (matrix, home, begun) = (handler.matrix(), handler.matrix().home()?, Instant::now());
        let mut reaped = false;
        while let Some(found) = Directory(matrix.segment()).lookup(name.as_bytes()) {
            let offset = found.block.offset;
            let live = handler.live_at(offset).ok().filter(|live| live.token.generation() == found.block.generation);
            let Some(live) = live else {
                // The name of a block that is gone.
                Directory(matrix.segment()).withdraw_this(found);
                continue;
            };
            let mismatch = |found| Error::TypeMismatch {
                offset,
                expected: std::any::type_name::<Self>(),
                expected_fingerprint: shape.content,
                found_fingerprint: found,
            };
            if found.block.fingerprint != Some(STRUCTURE) {
                return Err(mismatch(found.block.fingerprint));
            }
            let come = |lane: &mut Lane| {
                let me = lane.owner();
                let come = Structure::visit(matrix.heap(), me, live, |structure| {
                    (structure.shape.sort == shape.sort && structure.shape.content == shape.content)
                        .then(|| structure.join(home, Role::User))
                        .ok_or(structure.shape)
                        .map(|joined| joined.then_some(structure.shape))
                });
                if matches!(come, None | Some(Ok(None))) {
                    // REMOVED, perhaps: whoever comes may be the one who frees it.
                    Attached::free_if_unused(handler, lane, live);
                }
                come
            };
            match matrix.with_lane(come)? {
                Some(Ok(Some(shape))) => {
                    return Ok(Some(Arc::new(Self { handler: handler.clone(), live, shape, number: home })));
                }
                Some(Err(other)) => return Err(mismatch(Some(other.content))),
                Some(Ok(None)) => _ = Directory(matrix.segment()).withdraw_this(found),
                None if begun.elapsed() < MAKING_WAIT => crate::kernel::nap(BETWEEN_LOOKS),
                None if !reaped => {
                    handler.reap()?;
                    reaped = true;
                }
                None => return Err(Error::ChangingHands { offset, participant: live.token.holder() }),
            }
        }
        Ok(None)
    }

    fn free_if_unused(handler: &Handler, lane: &mut Lane, live: Live) {
        Structure::drain_removed(handler.matrix().heap(), lane, live);
        Structure::free_if_unused(handler.matrix().heap(), lane, live);
    }

    #[inline(always)]
    pub(in crate::ipc) fn structure(&self) -> Structure<'_, MappedRegion> {
        Structure::known(self.handler.matrix().heap(), self.live.at, self.shape)
    }
    #[inline(always)]
    pub(in crate::ipc) fn ring(&self) -> Ring<'_, MappedRegion> {
        Ring::of(self.structure())
    }

    /// Takes the structure's names away.
    pub(in crate::ipc) fn withdraw(&self) -> Result<()> {
        let matrix = self.handler.matrix();
        matrix.check_process()?;
        let offset = matrix.offsets().offset(self.live.at);
        let mut names = vec![];
        Directory(matrix.segment()).each(|name, block| {
            if block.offset == offset && block.generation == self.live.token.generation() {
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

    /// Takes the structure's names away; nobody puts anything in any more, and it is freed after its last user.
    pub(in crate::ipc) fn remove(&self) -> Result<()> {
        self.handler.matrix().check_process()?;
        // First: a name of what is REMOVED is withdrawn by whoever finds it, but what has no name is found by nobody.
        let structure = self.structure();
        structure.remove();
        [Role::Sender, Role::Receiver].iter().for_each(|&role| structure.bell(role).ring(u32::MAX));
        self.withdraw()
    }

    /// While nobody came for a while: whether somebody has died, and if so, recovers them.
    pub(in crate::ipc) fn look_after_the_dead(&self) {
        if self.handler.participants().iter().any(|participant| !participant.alive) {
            let _ = self.handler.reap();
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // A forked child is not counted: its parent is.
        let matrix = self.handler.matrix();
        if matrix.check_process().is_err() {
            return;
        }
        self.structure().leave(self.number, Role::User);
        // Read, but not written any more.
        let removed = matrix.heap().look(self.live.at) == self.live.token && self.structure().is_removed();
        if removed {
            let _ = matrix.with_lane(|lane| Self::free_if_unused(&self.handler, lane, self.live));
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
    /// The structure's state at which somebody of the other side was there.
    met: Mutex<u64>,
}

impl End {
    pub(in crate::ipc) fn new(attached: &Arc<Attached>, role: Role) -> Result<Self> {
        let number = attached.handler.matrix().home()?;
        let deaths = attached.structure().deaths(role.other());
        attached.structure().join(number, role);
        Ok(Self { attached: attached.clone(), role, number, deaths, met: Mutex::new(u64::MAX) })
    }

    #[cfg(test)]
    pub(super) fn step_out_for_a_test(&self) {
        self.attached.structure().step_out(self.number, self.role);
    }

    /// Whether there was somebody of the other side, and there is nobody any more: then, whether one has died.
    pub(in crate::ipc) fn has_lost_the_others(&self) -> Option<bool> {
        let (structure, other) = (self.attached.structure(), self.role.other());
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
        if self.attached.handler.matrix().check_process().is_ok() {
            let structure = self.attached.structure();
            structure.leave(self.number, self.role);
            structure.bell(self.role.other()).ring(u32::MAX);
        }
    }
}

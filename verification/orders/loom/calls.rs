//! Calls: the response against the end of its call on either side, streams that wait for room, and what is told where one
//! side dies.

use crate::kills::{every_step, killed_at_its_step};
use crate::model::Met::{Lost, Mark, Read};
use crate::model::{Mortal, World, mark, part, scenarios, strict};
use atomic_matrix::backend::Backend;
use atomic_matrix::backend::orderings::*;
use atomic_matrix::ipc::call::{Asked, Attempt, CallStatus, Calls, NotAnswered, Part};
use atomic_matrix::ipc::ring::Ring;
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::matrix::heap::{Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy;
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::sync::{Arc, Mutex};

const CLIENT: u16 = 2;
const SERVER: u16 = 3;
const OTHER: u16 = 4;
/// What a client's ring holds.
const RESPONSES: u32 = 9;

/// Who parks what it frees: no fence and no merge.
fn parking(me: u16) -> Box<ThreadCache> {
    Box::new(ThreadCache::with_ceiling(me, 4))
}

/// A service with room for one request, and a client's ring of `1 << shift` responses.
#[derive(Clone, Copy)]
struct Service {
    requests: Live,
    ring: Live,
}

impl Service {
    /// In a world that has `granules` besides.
    fn new<B: Backend>(shift: u32, granules: u32) -> (Arc<World<B>>, Self) {
        let [requests, ring] = [(0, 7), (shift, RESPONSES)].map(|(cells_shift, content)| Shape {
            sort: Sort::Channel,
            cells_shift,
            readers: 0,
            content,
        });
        let both = |layout: &_| requests.granules(layout) + ring.granules(layout);
        let world = World::with_payload_everywhere(granules, both);
        let service = Self { requests: world.structure(requests), ring: world.structure(ring) };
        let own = service.ring(&world);
        assert_eq!(own.join(CLIENT, Role::User), Ok(()));
        own.hide();
        (world, service)
    }
    fn ring<'w, B: Backend>(&self, world: &'w World<B>) -> Structure<'w, BoxedRegion<B>> {
        Structure::at(&world.heap, self.ring).expect("its client uses it")
    }
    fn calls<'w, B: Backend>(&self, world: &'w World<B>) -> Calls<'w, BoxedRegion<B>> {
        let requests = Structure::at(&world.heap, self.requests).expect("it is there");
        Calls::of(requests, self.ring(world), self.ring)
    }

    /// The client asks.
    fn ask<B: Backend>(&self, world: &World<B>, call: u64) -> Asked {
        let block = world.allocate(&mut strict(CLIENT), 1);
        self.calls(world).ask(CLIENT, block, call).expect("there is room")
    }
    /// One look of the client's at its call. It uses the response, and frees it.
    fn look<B: Backend>(&self, world: &World<B>, asked: Asked) -> Option<Found> {
        match self.calls(world).look(&mut strict(CLIENT), asked) {
            CallStatus::Response(got, part) => {
                world.free(&mut parking(CLIENT), got.live);
                self.ring(world).bell(Role::Sender).ring(1);
                Some(Found::Response(got.live, part))
            }
            CallStatus::Unanswered => Some(Found::Nobody),
            CallStatus::Waits => {
                mark("waits");
                None
            }
            CallStatus::Worked(by) => {
                assert!(matches!(by, SERVER | OTHER), "Q6: {by} works at it");
                mark("is worked at");
                None
            }
        }
    }
    /// The client sleeps until there is something of its call.
    fn wait<B: Backend>(&self, world: &World<B>, asked: Asked) -> Found {
        self.ring(world).bell(Role::Receiver).wait(None, |_| self.look(world, asked)).expect("it waits for ever")
    }
    /// The client leaves; its ring is freed, by it or by whoever visits it.
    fn leave<B: Backend>(&self, world: &World<B>) {
        self.ring(world).leave(CLIENT, Role::User);
        let cache = &mut parking(CLIENT);
        Structure::drain_removed(&world.heap, cache, self.ring);
        if Structure::free_if_unused(&world.heap, cache, self.ring) {
            mark("freed by its client");
        }
    }

    /// A server receives the request, if there is one.
    fn receive<B: Backend>(&self, world: &World<B>, me: u16) -> Option<Live> {
        let requests = Ring::of(Structure::at(&world.heap, self.requests).expect("it is there"));
        let taken = requests.receive(me).ok()?;
        world.heap.region().touch(taken.live.at, 1);
        Some(taken.live)
    }
    /// A server puts a response, a block of its own that it writes before, where the request says. It waits for room.
    fn answer<B: Backend>(
        &self,
        world: &World<B>,
        me: u16,
        request: Live,
        (block, part): (Live, Part),
    ) -> Result<(), NotAnswered> {
        world.heap.region().touch(block.at, 1);
        let caller = world.heap.caller(request);
        let wait = |ring: &Structure<'_, BoxedRegion<B>>, attempt: Attempt<'_>| {
            let sent = ring.bell(Role::Sender).wait(None, |_| match attempt() {
                Err(NotAnswered::Full) => {
                    mark("no room");
                    None
                }
                other => Some(other),
            });
            ring.bell(Role::Receiver).ring(1);
            sent.expect("it waits for ever")
        };
        let sent = world.heap.answer(&mut parking(me), caller, RESPONSES, (block, part), wait);
        if let Err(why) = sent {
            mark(if why == NotAnswered::GivenUp { "given up" } else { "gone" });
            // It is the server's as before.
            world.free(&mut parking(me), block);
        }
        sent
    }
    /// The server is done with the request: its client is called.
    fn done<B: Backend>(&self, world: &World<B>, me: u16, request: Live) {
        let caller = world.heap.caller(request);
        world.free(&mut parking(me), request);
        world.heap.wake_caller(&mut parking(me), caller);
    }

    /// At rest nothing is live but the service, and the ring if its client is there.
    fn nothing_is_left<B: Backend>(&self, world: &World<B>, client_is_there: bool) {
        let tally = world.verify();
        assert_eq!(tally.live.blocks, 1 + u64::from(client_is_there), "Q3: {tally:?}");
    }
}

/// What a client finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Response(Live, Part),
    Nobody,
}

impl Found {
    fn is(self, block: Live, part: Part) -> bool {
        matches!(self, Self::Response(live, of) if live.at == block.at && of == part)
    }
}

scenarios! {
    // The server answers and frees the request, while the client looks: it finds the response, or that it is worked at.
    loom_q3_q6_a_response_is_there_before_its_request_is_gone Some(2), Some(3), 20,
        [Mark("answered"), Mark("is worked at")] => {
        let (world, service) = Service::new(0, 2);
        let asked = service.ask(&world, 1);
        let request = service.receive(&world, SERVER).expect("Q2: it was asked");
        let response = world.allocate(&mut strict(SERVER), 1);
        world.run([
            part(move |w: &World| {
                let caller = w.heap.caller(request);
                w.heap.region().touch(response.at, 1);
                let attempt = |_: &Structure<'_, _>, attempt: Attempt<'_>| attempt();
                let answer = (response, Part::Last);
                assert_eq!(w.heap.answer(&mut parking(SERVER), caller, RESPONSES, answer, attempt), Ok(()));
                w.free(&mut parking(SERVER), request);
            }),
            part(move |w: &World| {
                if let Some(found) = service.look(w, asked) {
                    mark("answered");
                    assert!(found.is(response, Part::Last), "Q3: a response is lost: {found:?}");
                }
            }),
        ]);
    }

    // The client leaves beside the response: that is in the ring, and freed with it, or its server's still.
    loom_q3_q6_a_client_leaves_beside_the_response Some(1), Some(2), 20,
        [Mark("answered"), Mark("gone"), Mark("freed by its client"), Read(&VISIT_LOOK)] => {
        let (world, service) = Service::new(0, 2);
        service.ask(&world, 1);
        let request = service.receive(&world, SERVER).expect("Q2: it was asked");
        let response = world.allocate(&mut strict(SERVER), 1);
        world.run([
            part(move |w: &World| service.leave(w)),
            part(move |w: &World| {
                if service.answer(w, SERVER, request, (response, Part::Last)).is_ok() {
                    mark("answered");
                }
                service.done(w, SERVER, request);
            }),
        ]);
        service.nothing_is_left(&world, false);
    }

    // The client asks anew beside the response to its first call: that is no response to the second.
    loom_q6_a_response_that_comes_too_late Some(2), Some(2), 20, [Mark("too late"), Mark("given up")] => {
        let (world, service) = Service::new(0, 3);
        service.ask(&world, 1);
        let request = service.receive(&world, SERVER).expect("Q2: it was asked");
        let response = world.allocate(&mut strict(SERVER), 1);
        let again = world.allocate(&mut strict(CLIENT), 1);
        let asked = Arc::new(Mutex::new(None));
        let told = asked.clone();
        world.run([
            part(move |w: &World| {
                if service.answer(w, SERVER, request, (response, Part::Last)).is_ok() {
                    mark("too late");
                }
                w.free(&mut parking(SERVER), request);
            }),
            part(move |w: &World| {
                let asked = service.calls(w).ask(CLIENT, again, 2).expect("there is room");
                assert_eq!(service.look(w, asked), None, "Q6: nobody has answered the second call");
                *told.lock().unwrap() = Some(asked);
            }),
        ]);
        let asked = asked.lock().unwrap().take().expect("it has asked");
        assert_eq!(service.look(&world, asked), None, "Q6: nobody has answered the second call");
        let request = service.receive(&world, SERVER).expect("Q2: it was asked");
        let response = world.allocate(&mut strict(SERVER), 1);
        assert_eq!(service.answer(&world, SERVER, request, (response, Part::Last)), Ok(()));
        assert!(service.look(&world, asked).is_some_and(|found| found.is(response, Part::Last)), "Q3: it is lost");
    }

    // A stream of two responses through a ring of one: each is seen, in its order, and nobody stays asleep.
    loom_q3_q5_a_stream_waits_for_room Some(1), Some(1), 50, [Mark("no room"), Mark("is worked at")] => {
        let (world, service) = Service::new(0, 3);
        let asked = service.ask(&world, 1);
        let request = service.receive(&world, SERVER).expect("Q2: it was asked");
        let [first, last] = [(); 2].map(|()| world.allocate(&mut strict(SERVER), 1));
        world.run([
            part(move |w: &World| {
                assert_eq!(service.answer(w, SERVER, request, (first, Part::More)), Ok(()));
                assert_eq!(service.answer(w, SERVER, request, (last, Part::Last)), Ok(()));
                w.free(&mut parking(SERVER), request);
            }),
            part(move |w: &World| {
                let found = [(); 2].map(|()| service.wait(w, asked));
                assert!(found[0].is(first, Part::More) && found[1].is(last, Part::Last), "Q3: {found:?}");
            }),
        ]);
        service.nothing_is_left(&world, true);
    }

    // The server waits for room, and the client gives the stream up: the server is told.
    loom_q5_q6_who_waits_for_room_is_told_that_its_client_gave_up Some(2), Some(3), 20, [Mark("no room")] => {
        let (world, service) = Service::new(0, 3);
        service.ask(&world, 1);
        let request = service.receive(&world, SERVER).expect("Q2: it was asked");
        let [first, second] = [(); 2].map(|()| world.allocate(&mut strict(SERVER), 1));
        assert_eq!(service.answer(&world, SERVER, request, (first, Part::More)), Ok(()));
        world.run([
            part(move |w: &World| {
                let told = service.answer(w, SERVER, request, (second, Part::Last));
                assert_eq!(told, Err(NotAnswered::GivenUp), "Q6: there is no room");
            }),
            part(move |w: &World| {
                service.calls(w).give_up();
                service.ring(w).bell(Role::Sender).ring_after_store(u32::MAX);
            }),
        ]);
    }

    // The server drops the request, and the client that sleeps is told that nobody answers.
    loom_q5_q6_a_request_is_dropped Some(3), Some(3), 20, [Mark("is worked at"), Lost(&SLEEPERS_LEAVE)] => {
        let (world, service) = Service::new(0, 1);
        let asked = service.ask(&world, 1);
        let request = service.receive(&world, SERVER).expect("Q2: it was asked");
        world.run([
            part(move |w: &World| service.done(w, SERVER, request)),
            part(move |w: &World| assert_eq!(service.wait(w, asked), Found::Nobody, "Q6")),
        ]);
        service.nothing_is_left(&world, true);
    }
}

/// A server stops for ever while it works at a request; one recovers it while the client sleeps. The client has all that
/// was sent, and then is told that nobody answers; or another server answers.
pub(crate) fn a_server_is_killed() {
    let (world, service) = Service::new::<Mortal>(1, 4);
    let asked = service.ask(&world, 1);
    let responses = [(); 2].map(|()| world.allocate(&mut strict(SERVER), 1));
    killed_at_its_step(|| {
        let Some(request) = service.receive(&world, SERVER) else { return };
        for (&block, part) in responses.iter().zip([Part::More, Part::Last]) {
            assert_eq!(service.answer(&world, SERVER, request, (block, part)), Ok(()));
        }
        service.done(&world, SERVER, request);
    });
    world.run([
        part(move |w: &World<Mortal>| {
            w.heap.recoveries().recover(&mut strict(OTHER), SERVER, Policy::GiveBack);
            if let Some(request) = service.receive(w, OTHER) {
                let block = w.allocate(&mut strict(OTHER), 1);
                let _ = service.answer(w, OTHER, request, (block, Part::Last));
                service.done(w, OTHER, request);
            }
        }),
        part(move |w: &World<Mortal>| {
            let mut found = service.wait(w, asked);
            if found.is(responses[0], Part::More) {
                found = service.wait(w, asked);
            }
            mark(if found == Found::Nobody { "nobody" } else { "answered" });
        }),
    ]);
    service.nothing_is_left(&world, true);
}

/// A client stops for ever while it asks, looks and leaves; one recovers it while a server works at the request.
fn a_client_is_killed() {
    let (world, service) = Service::new::<Mortal>(0, 3);
    let block = world.allocate(&mut strict(CLIENT), 1);
    let response = world.allocate(&mut strict(SERVER), 1);
    killed_at_its_step(|| {
        let asked = service.calls(&world).ask(CLIENT, block, 1).expect("there is room");
        service.look(&world, asked);
        service.leave(&world);
    });
    world.run([
        part(move |w: &World<Mortal>| _ = w.heap.recoveries().recover(&mut strict(OTHER), CLIENT, Policy::GiveBack)),
        part(move |w: &World<Mortal>| {
            let Some(request) = service.receive(w, SERVER) else { return w.free(&mut parking(SERVER), response) };
            if service.answer(w, SERVER, request, (response, Part::Last)).is_ok() {
                mark("answered");
            }
            service.done(w, SERVER, request);
        }),
    ]);
    service.nothing_is_left(&world, false);
}

#[test]
fn loom_c1_q5_q6_a_server_is_killed() {
    every_step("loom_c1_q5_q6_a_server_is_killed", a_server_is_killed, 16, 40);
}

#[test]
fn loom_c1_q3_q6_a_client_is_killed() {
    every_step("loom_c1_q3_q6_a_client_is_killed", a_client_is_killed, 32, 40);
}

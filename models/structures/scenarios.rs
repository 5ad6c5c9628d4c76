//! What is explored: by every run, also with planted faults; and, deep, as far as minutes reach.

use crate::call::{Call as K, Calls};
use crate::channel::{Call as C, Channel};
use crate::explored::Scenario;
use crate::map::{Call as M, Map};
use crate::stream::{Call as S, Part, Streams};
use crate::topic::{Call as T, Topic};
use crate::waiting::{Call as W, Waiting};

pub const CHANNEL: &[Scenario<Channel>] = &[
    Scenario::new(
        "one cell, two senders, a receiver; one dies",
        Channel(1),
        &[&[C::Send], &[C::Send], &[C::Receive, C::Free, C::Receive]],
    )
    .blocks(&[1, 1])
    .deaths(1, &[1, 2, 3]),
    Scenario::new(
        "two cells, a sender, who sends on, a receiver; one dies",
        Channel(2),
        &[&[C::Send, C::Send], &[C::Receive, C::Send], &[C::Receive]],
    )
    .blocks(&[2])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "one cell, a sender, two receivers of whom one uses the block again; one dies",
        Channel(1),
        &[&[C::Send], &[C::Receive, C::Free, C::Allocate, C::Send], &[C::Receive]],
    )
    .blocks(&[1])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "one cell, three sends, a slow receiver and a quick one",
        Channel(1),
        &[&[C::Send, C::Send, C::Send], &[C::Receive], &[C::Receive, C::Receive, C::Receive]],
    )
    .blocks(&[3]),
    Scenario::new(
        "one cell, a slow sender, three sends, three receipts",
        Channel(1),
        &[&[C::Send], &[C::Send, C::Send, C::Send], &[C::Receive, C::Receive, C::Receive]],
    )
    .blocks(&[1, 3]),
    Scenario::new(
        "one cell, a sender, who receives to the end, who closes; one dies",
        Channel(1),
        &[&[C::Send], &[C::Receive, C::Receive, C::Receive], &[C::Close]],
    )
    .blocks(&[1])
    .deaths(1, &[1, 2]),
    Scenario::new("one cell, a sender dies, and one of two who recover it", Channel(1), &[&[C::Send], &[], &[]])
        .blocks(&[1])
        .deaths(2, &[1, 2]),
    Scenario::new(
        "one cell, a receiver dies and is recovered, its block is used again",
        Channel(1),
        &[&[C::Send], &[C::Receive], &[], &[C::Allocate]],
    )
    .blocks(&[1])
    .deaths(1, &[2]),
];

pub const DEEP_CHANNEL: &[Scenario<Channel>] = &[
    Scenario::new(
        "two cells, a slow sender, three sends, three receipts",
        Channel(2),
        &[&[C::Send], &[C::Send, C::Send, C::Send], &[C::Receive, C::Receive, C::Receive]],
    )
    .blocks(&[1, 3])
    .deaths(1, &[1, 2, 3]),
    Scenario::new(
        "two cells, two senders, a receiver, who recovers; two die",
        Channel(2),
        &[&[C::Send], &[C::Send], &[C::Receive, C::Free], &[]],
    )
    .blocks(&[1, 1])
    .deaths(2, &[1, 2, 3]),
    Scenario::new(
        "two cells, two senders, two receivers",
        Channel(2),
        &[&[C::Send, C::Send], &[C::Send], &[C::Receive, C::Free], &[C::Receive, C::Free]],
    )
    .blocks(&[2, 1]),
    Scenario::new(
        "one cell, a sender, a receiver, two who recover, of whom one dies as well",
        Channel(1),
        &[&[C::Send, C::Send], &[C::Receive, C::Free], &[], &[C::Allocate, C::Free]],
    )
    .blocks(&[2])
    .deaths(2, &[1, 2, 3]),
];

pub const TOPIC: &[Scenario<Topic>] = &[
    Scenario::new(
        "one cell, two publishers, a reader",
        Topic(1),
        &[&[T::Publish, T::Publish], &[T::Publish], &[T::Join, T::Read]],
    )
    .blocks(&[2, 1]),
    Scenario::new(
        "one cell, a publisher, a reader; one dies, and is recovered by one of two",
        Topic(1),
        &[&[T::Publish, T::Publish], &[T::Join, T::Read, T::Read], &[]],
    )
    .blocks(&[2])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "one cell, a publisher that uses blocks again, who joins",
        Topic(1),
        &[&[T::Publish, T::Publish, T::Allocate, T::Publish], &[T::Join, T::Read, T::Read]],
    )
    .blocks(&[2])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "two cells, a publisher, who joins late and reads",
        Topic(2),
        &[&[T::Publish, T::Publish, T::Publish, T::Publish], &[T::Join, T::Read, T::Read, T::Read]],
    )
    .blocks(&[4]),
    Scenario::new(
        "one cell, two publishers, who allocates",
        Topic(1),
        &[&[T::Publish, T::Publish], &[T::Publish], &[T::Allocate, T::Publish]],
    )
    .blocks(&[2, 1]),
    Scenario::new(
        "one cell, a publisher dies, and one of two who recover it",
        Topic(1),
        &[&[T::Publish, T::Publish], &[], &[T::Allocate]],
    )
    .blocks(&[2])
    .deaths(2, &[1, 2]),
];

pub const DEEP_TOPIC: &[Scenario<Topic>] = &[
    Scenario::new(
        "one cell, two publishers, a reader; one dies",
        Topic(1),
        &[&[T::Publish, T::Publish], &[T::Publish], &[T::Join, T::Read, T::Read]],
    )
    .blocks(&[2, 1])
    .deaths(1, &[1, 2, 3]),
    Scenario::new(
        "two cells, two publishers, a reader; two die",
        Topic(2),
        &[&[T::Publish, T::Publish, T::Publish], &[T::Publish, T::Allocate], &[T::Join, T::Read, T::Read]],
    )
    .blocks(&[3, 1])
    .deaths(2, &[1, 2, 3]),
];

pub const MAP: &[Scenario<Map>] = &[
    Scenario::new("two put under one key; one dies", Map(2), &[&[M::Put(0)], &[M::Put(0)]])
        .blocks(&[1, 1])
        .deaths(1, &[1, 2]),
    Scenario::new(
        "one puts, another takes and puts under the other key; one dies",
        Map(2),
        &[&[M::Put(0), M::Put(0)], &[M::Take(0), M::Put(1)]],
    )
    .blocks(&[2])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "one puts and replaces, another gets; one dies",
        Map(2),
        &[&[M::Put(0), M::Put(0), M::Put(1)], &[M::Get(0)]],
    )
    .blocks(&[2])
    .deaths(1, &[1, 2]),
    Scenario::new("two put under two keys, one gets", Map(2), &[&[M::Put(0)], &[M::Put(1)], &[M::Get(0)]])
        .blocks(&[1, 1]),
    Scenario::new("one puts, two take; one dies", Map(1), &[&[M::Put(0)], &[M::Take(0)], &[M::Take(0)]])
        .blocks(&[1])
        .deaths(1, &[2]),
];

pub const DEEP_MAP: &[Scenario<Map>] = &[
    Scenario::new(
        "one puts and replaces, another takes, a third gets; one dies",
        Map(2),
        &[&[M::Put(0), M::Put(0)], &[M::Take(0)], &[M::Get(0)]],
    )
    .blocks(&[2])
    .deaths(1, &[1, 2, 3]),
    Scenario::new(
        "two put under one key and take it; two die",
        Map(2),
        &[&[M::Put(0), M::Take(0)], &[M::Put(0), M::Take(0)], &[]],
    )
    .blocks(&[1, 1])
    .deaths(2, &[1, 2]),
];

pub const WAITING: &[Scenario<Waiting>] = &[
    Scenario::new(
        "a semaphore, one takes and dies, another gives thrice",
        Waiting::Semaphores(1),
        &[&[W::Take(0)], &[W::Give(0, 1), W::Give(0, 1), W::Give(0, 1)]],
    )
    .deaths(1, &[1]),
    Scenario::new(
        "a semaphore, two take, one gives both at once",
        Waiting::Semaphores(1),
        &[&[W::Take(0)], &[W::Take(0)], &[W::Give(0, 2)]],
    ),
    Scenario::new(
        "a semaphore, two take, one gives twice",
        Waiting::Semaphores(1),
        &[&[W::Take(0)], &[W::Take(0)], &[W::Give(0, 1), W::Give(0, 1)]],
    ),
    Scenario::new(
        "a semaphore, two take, one in time or not, one gives; one dies",
        Waiting::Semaphores(1),
        &[&[W::TakeInTime(0)], &[W::Take(0)], &[W::Give(0, 1)]],
    )
    .deaths(1, &[1, 2, 3]),
    Scenario::new(
        "two semaphores, one takes of either, one of the second",
        Waiting::Semaphores(2),
        &[&[W::Select], &[W::Take(1)], &[W::Give(1, 1), W::Give(0, 1)]],
    ),
    Scenario::new("an event, two wait, one sets it; one dies", Waiting::Event, &[&[W::Wait], &[W::Wait], &[W::Set]])
        .deaths(1, &[1, 2, 3]),
    Scenario::new(
        "an event, two wait and clear it, one sets it; one dies",
        Waiting::Event,
        &[&[W::WaitAndClear], &[W::WaitAndClear], &[W::Set]],
    )
    .deaths(1, &[1, 3]),
    Scenario::new(
        "a lock, two take it twice, one in time or not; one dies",
        Waiting::Lock,
        &[&[W::LockInTime, W::Unlock, W::Lock], &[W::Lock, W::Unlock, W::Lock, W::Unlock]],
    )
    .deaths(1, &[1]),
    Scenario::new(
        "a lock, one takes it and dies, two take it",
        Waiting::Lock,
        &[&[W::Lock], &[W::Lock, W::Cure, W::Unlock], &[W::Lock, W::Unlock]],
    )
    .deaths(1, &[1]),
    Scenario::new(
        "a barrier, two meet twice; one dies",
        Waiting::Barrier(2),
        &[&[W::Meet, W::Meet], &[W::Meet, W::Meet]],
    )
    .deaths(1, &[1, 2]),
    Scenario::new(
        "a barrier, three meet in pairs, one in time or not",
        Waiting::Barrier(2),
        &[&[W::MeetInTime], &[W::Meet], &[W::Meet]],
    ),
];

pub const DEEP_WAITING: &[Scenario<Waiting>] = &[
    Scenario::new(
        "a semaphore, two take, one gives twice; two die",
        Waiting::Semaphores(1),
        &[&[W::Take(0)], &[W::Take(0)], &[W::Give(0, 1), W::Give(0, 1)]],
    )
    .deaths(2, &[1, 2, 3]),
    Scenario::new(
        "two semaphores, one takes of either, one of the second; one dies",
        Waiting::Semaphores(2),
        &[&[W::Select], &[W::Take(1)], &[W::Give(1, 1), W::Give(0, 1)]],
    )
    .deaths(1, &[1, 3]),
    Scenario::new(
        "a lock, three take it; two die",
        Waiting::Lock,
        &[&[W::Lock, W::Unlock], &[W::LockInTime, W::Unlock], &[W::Lock, W::Cure, W::Unlock]],
    )
    .deaths(2, &[1, 2, 3]),
    Scenario::new(
        "a barrier, three meet in pairs, one in time or not; one dies",
        Waiting::Barrier(2),
        &[&[W::MeetInTime, W::Meet], &[W::Meet], &[W::Meet]],
    )
    .deaths(1, &[1, 2]),
];

pub const CALLS: &[Scenario<Calls>] = &[
    Scenario::new(
        "a client asks and leaves, a server",
        Calls,
        &[&[K::Ask, K::Look, K::Look, K::Leave], &[K::Serve, K::Answer, K::Finish]],
    )
    .blocks(&[1, 1]),
    Scenario::new(
        "a client asks twice, a server",
        Calls,
        &[&[K::Ask, K::Look, K::Ask, K::Look], &[K::Serve, K::Answer, K::Finish, K::Serve, K::Answer, K::Finish]],
    )
    .blocks(&[2, 2]),
    Scenario::new(
        "a client asks and leaves, a server; one dies, another recovers",
        Calls,
        &[&[K::Ask, K::Look, K::Leave], &[K::Serve, K::Answer, K::Finish], &[]],
    )
    .blocks(&[1, 1])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "a client asks and leaves, two servers, of whom one was asked before",
        Calls,
        &[&[K::Ask, K::Leave], &[K::Serve, K::Answer, K::Finish], &[K::Serve, K::Answer, K::Allocate]],
    )
    .blocks(&[1, 1, 1])
    .deaths(1, &[2]),
];

pub const DEEP_CALLS: &[Scenario<Calls>] = &[
    Scenario::new(
        "a client asks twice and leaves, two servers",
        Calls,
        &[&[K::Ask, K::Ask, K::Leave], &[K::Serve, K::Answer], &[K::Serve, K::Answer]],
    )
    .blocks(&[2, 1, 1]),
    Scenario::new(
        "a client asks and leaves, a server; both die",
        Calls,
        &[&[K::Ask, K::Look, K::Leave], &[K::Serve, K::Answer, K::Finish], &[K::Allocate]],
    )
    .blocks(&[1, 1])
    .deaths(2, &[1, 2]),
];

const MORE: S = S::Send(Part::More);
const LAST: S = S::Send(Part::Last);
const END: S = S::Send(Part::End);

pub const STREAMS: &[Scenario<Streams>] = &[
    Scenario::new(
        "a client takes two responses and the last one, a server",
        Streams,
        &[&[S::Ask, S::Next, S::Next, S::Next, S::Next], &[S::Serve, MORE, MORE, LAST, S::Finish]],
    )
    .blocks(&[1, 3]),
    Scenario::new(
        "a client takes a response and the end; one dies, another recovers",
        Streams,
        &[&[S::Ask, S::Next, S::Next, S::Next], &[S::Serve, MORE, END, S::Finish], &[]],
    )
    .blocks(&[1, 2])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "a client waits, its server dies, and one of two who recover it",
        Streams,
        &[&[S::Ask, S::Next, S::Next], &[S::Serve, LAST, S::Finish], &[], &[]],
    )
    .blocks(&[1, 1])
    .deaths(2, &[2, 3]),
    Scenario::new(
        "a client takes a response, drops its stream and asks again, a server",
        Streams,
        &[
            &[S::Ask, S::Next, S::Drop, S::Ask, S::Next, S::Next],
            &[S::Serve, MORE, MORE, MORE, S::Finish, S::Serve, LAST, S::Finish],
        ],
    )
    .blocks(&[2, 4]),
    Scenario::new(
        "a stream goes on without a number and with one again, a server",
        Streams,
        &[
            &[S::Ask, S::Next, S::Unseat, S::Next, S::Next, S::Seat, S::Next, S::Next],
            &[S::Serve, MORE, LAST, S::Finish],
        ],
    )
    .blocks(&[1, 2]),
    Scenario::new(
        "a stream is dropped without a number, a server",
        Streams,
        &[&[S::Ask, S::Next, S::Unseat, S::Drop], &[S::Serve, MORE, MORE, MORE, S::Finish]],
    )
    .blocks(&[1, 3]),
    Scenario::new(
        "a client takes two responses beside its descriptor, a server",
        Streams,
        &[&[S::Ask, S::Next, S::Next], &[S::Serve, MORE, LAST, S::Finish], &[S::Watch]],
    )
    .blocks(&[1, 2]),
    Scenario::new(
        "a client waits for two responses, and its server drops the request behind the first",
        Streams,
        &[&[S::Ask, S::Next, S::Next, S::Next], &[S::Serve, MORE, S::Finish]],
    )
    .blocks(&[1, 1]),
    Scenario::new(
        "a client takes one of three responses and dies, another recovers",
        Streams,
        &[&[S::Ask, S::Next], &[S::Serve, MORE, MORE, MORE, S::Finish], &[]],
    )
    .blocks(&[1, 3])
    .deaths(1, &[1]),
];

pub const DEEP_STREAMS: &[Scenario<Streams>] = &[
    Scenario::new(
        "a client drops its stream and asks again; one dies, another recovers",
        Streams,
        &[
            &[S::Ask, S::Next, S::Drop, S::Ask, S::Next, S::Next],
            &[S::Serve, MORE, MORE, S::Finish, S::Serve, LAST, S::Finish],
            &[],
        ],
    )
    .blocks(&[2, 3])
    .deaths(1, &[1, 2]),
    Scenario::new(
        "a client takes a stream beside its descriptor; both die, two recover",
        Streams,
        &[&[S::Ask, S::Next, S::Next, S::Next], &[S::Serve, MORE, LAST, S::Finish], &[S::Watch], &[]],
    )
    .blocks(&[1, 2])
    .deaths(2, &[1, 2]),
];

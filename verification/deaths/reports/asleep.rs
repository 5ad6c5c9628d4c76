//! 9: whoever is killed asleep does not stay counted: once it is recovered, nobody calls the kernel for it.
//!
//! One process sleeps in a structure, and is killed there. After its recovery another uses the structure once as ever, and then
//! under a filter of system calls, which ends it at the first one. The same beside a sleeper that lives ends it.

use crate::{LONG, Role, common, ready, says_ready, support};
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::Mutex;
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// Who sleeps in it; what wakes it, again and again, without a sleep.
type Wait = (&'static str, fn(&Handler), fn(&'static Handler) -> Box<dyn FnMut()>);

const WAITS: &[Wait] = &[
    (
        "receiver",
        |handler| {
            let receiver = handler.channel::<u64>("wait").open().and_then(|it| it.receiver()).expect("made");
            let _ = receiver.recv_timeout(LONG);
        },
        |handler| {
            let channel = handler.channel::<u64>("wait").open_or_create().expect("made");
            let (sender, receiver) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
            Box::new(move || {
                sender.try_send(handler.message_of(1).expect("room")).expect("room");
                drop(receiver.try_recv().expect("it was sent"));
            })
        },
    ),
    (
        "sender",
        |handler| {
            let sender = handler.channel::<u64>("wait").open().and_then(|it| it.sender()).expect("made");
            let _ = sender.send_timeout(handler.message_of(1).expect("room"), LONG);
        },
        |handler| {
            let channel = handler.channel::<u64>("wait").capacity(1).open_or_create().expect("made");
            let (sender, receiver) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
            sender.send_value(1).expect("room");
            Box::new(move || {
                drop(receiver.try_recv().expect("it is full"));
                sender.try_send(handler.message_of(1).expect("room")).expect("room");
            })
        },
    ),
    (
        "subscriber",
        |handler| {
            let topic = handler.topic::<u64>("wait").open_or_create().expect("made");
            let _ = topic.subscribe(0).expect("a place").next_timeout(LONG).map(|next| next.is_some());
        },
        |handler| {
            let topic = handler.topic::<u64>("wait").cells(4).open_or_create().expect("made");
            let mut subscriber = topic.subscribe(0).expect("a place");
            Box::new(move || {
                topic.try_publish(handler.message_of(1).expect("room")).expect("room");
                assert_eq!(subscriber.try_next().expect("open").as_deref(), Some(&1));
            })
        },
    ),
    (
        "publisher",
        |handler| {
            let topic = handler.topic::<u64>("wait").open_or_create().expect("made");
            let _ = topic.publish_timeout(handler.message_of(1).expect("room"), LONG);
        },
        |handler| {
            let topic = handler.topic::<u64>("wait").cells(1).open_or_create().expect("made");
            let mut subscriber = topic.subscribe(0).expect("a place");
            topic.publish_value(1).expect("room");
            Box::new(move || {
                assert_eq!(subscriber.try_next().expect("open").as_deref(), Some(&1));
                topic.try_publish(handler.message_of(1).expect("room")).expect("room");
            })
        },
    ),
    (
        "server",
        |handler| {
            let service = handler.service::<u64, u64>("wait").open_or_create().expect("made");
            let _ = service.server().expect("a server").next_timeout(LONG).map(|request| *request);
        },
        |handler| {
            let service = handler.service::<u64, u64>("wait").open_or_create().expect("made");
            let ends = (service.client().expect("a client"), service.server().expect("a server"));
            let (client, server) = &*Box::leak(Box::new(ends));
            Box::new(move || {
                let mut request = client.request().expect("room");
                *request = 1;
                let mut responses = client.stream(request, LONG).expect("room");
                let mut request = server.try_next().expect("it was sent");
                let mut response = request.response().expect("room");
                *response = *request + 1;
                request.respond_and_keep(response).expect("it is waited for");
                drop(request);
                assert_eq!(responses.next_timeout(LONG).expect("it is there").as_deref(), Some(&2));
            })
        },
    ),
    (
        "board",
        |handler| {
            let board = handler.board::<u64>("wait").expect("made");
            let (mut seen, until) = (0, Instant::now() + LONG);
            while board.changed(&mut seen, until.saturating_duration_since(Instant::now())).is_ok_and(|it| it.is_some())
            {
            }
        },
        |handler| {
            let board = handler.board::<u64>("wait").expect("made");
            board.set(1).expect("room");
            Box::new(move || board.set(2).expect("room"))
        },
    ),
    (
        "event",
        |handler| _ = handler.event("wait").and_then(|event| event.wait(LONG)),
        |handler| {
            let event = handler.event("wait").expect("made");
            Box::new(move || {
                event.set().expect("no fork");
                assert!(event.clear().expect("no fork"), "it was set");
            })
        },
    ),
    (
        "semaphore",
        |handler| _ = handler.semaphore("wait", 0).and_then(|permits| permits.take(LONG)),
        |handler| {
            let permits = handler.semaphore("wait", 0).expect("made");
            Box::new(move || {
                permits.give(1).expect("no fork");
                assert!(permits.try_take().expect("no fork"), "it was given");
            })
        },
    ),
    (
        "mutex",
        |handler| _ = handler.mutex::<u64>("wait").expect("made").lock(LONG).map(|held| held.is_some()),
        |handler| {
            let mutex: &'static Mutex<u64> = Box::leak(Box::new(handler.mutex("wait").expect("made")));
            let mut held = mutex.try_lock().expect("a participant");
            Box::new(move || {
                drop(held.take().expect("it is had"));
                held = mutex.try_lock().expect("a participant");
            })
        },
    ),
];

/// In a role: the segment, leaked, and the wait that it was told.
fn told() -> Option<(&'static Handler, &'static Wait)> {
    let argument = support::argument()?;
    let (id, name) = argument.split_once(' ').expect("two words");
    let scratch = std::mem::ManuallyDrop::new(common::Scratch(id.parse().expect("an id")));
    Some((Box::leak(Box::new(scratch.attach())), WAITS.iter().find(|wait| wait.0 == name).expect("known")))
}

#[test]
#[ignore = "a role: sleeps, and is killed"]
fn sleeps() {
    let Some((handler, (_, sleep, _))) = told() else { return };
    says_ready();
    sleep(handler);
}

#[test]
#[ignore = "a role: wakes whoever sleeps, in the end without a system call"]
fn wakes() {
    // One call in vain, which finds out that nobody sleeps.
    wakes_without_a_call(1);
}

#[test]
#[ignore = "a role: wakes whoever sleeps, without a system call"]
fn wakes_the_living() {
    wakes_without_a_call(0);
}

fn wakes_without_a_call(calls: u32) {
    let Some((handler, (_, _, wake))) = told() else { return };
    let mut wake = wake(handler);
    (0..100).for_each(|_| wake());
    ready();
    (0..calls).for_each(|_| wake());
    no_more_calls();
    (0..1000).for_each(|_| wake());
    // SAFETY: it ends the process.
    unsafe { libc::_exit(0) };
}

/// From here on each system call ends this process with SIGSYS, but for its end.
fn no_more_calls() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let mut program = [
        instruction(load, 0, 0, 0),
        instruction(equal, 2, 0, libc::SYS_exit_group as u32),
        // Where the kernel maps no clock into the process.
        instruction(equal, 1, 0, libc::SYS_clock_gettime as u32),
        instruction(give, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program is there while the kernel copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    assert!(done, "a process may filter its own calls");
}

/// Waits until the role's thread sleeps at a futex.
fn falls_asleep(role: &Role) {
    let begun = Instant::now();
    let path = format!("/proc/{}/task/{}/syscall", role.child().id(), role.thread());
    loop {
        let text = std::fs::read_to_string(&path).expect("it is a child of this process");
        let call: Option<i64> = text.split_whitespace().next().and_then(|call| call.parse().ok());
        if call.is_some_and(|call| [libc::SYS_futex, libc::SYS_futex_waitv].contains(&call)) {
            return;
        }
        assert!(begun.elapsed() < LONG, "it does not sleep: {text}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How the one who wakes ends, beside a sleeper that was killed or lives.
fn wake_beside(name: &str, lives: bool) -> std::process::ExitStatus {
    let (scratch, handler) = common::segment();
    let argument = format!("{} {name}", scratch.0);
    let waker = Role::ready_with(if lives { "asleep::wakes_the_living" } else { "asleep::wakes" }, &argument);
    let sleeper = Role::ready_with("asleep::sleeps", &argument);
    falls_asleep(&sleeper);
    if !lives {
        sleeper.signal(Signal::KILL);
        drop(sleeper);
        assert_eq!(handler.reap().expect("a slot").participants, 1, "{name}");
        return waker.goes_on();
    }
    let ended = waker.goes_on();
    drop(sleeper);
    ended
}

#[test]
fn q5_nobody_calls_the_kernel_for_who_was_killed_asleep() {
    for (name, ..) in WAITS {
        let ended = wake_beside(name, false);
        assert!(ended.success(), "{name}: {ended}");
        let ended = wake_beside(name, true);
        assert_eq!(ended.signal(), Some(libc::SIGSYS), "{name}: whoever lives is called: {ended}");
    }
}

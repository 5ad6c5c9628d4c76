//! Whoever is alive is never recovered, and whoever is dead is, in every view: the table of
//! `src/segment/life.rs`, situation by situation.

use crate::common::{MIB, Scratch, check, fill, rest_is_one_block};
use crate::participants::{ended, eventually, fork, kill};
use crate::support::{Dir, argument, child, succeed};
use crate::told;
use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use atomic_matrix::segment::Options;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::thread::UnshareFlags;
use std::io::{BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use uuid::Uuid;

const BLOCKS: u64 = 40;

/// As [`child`], but behind other commands' words (`unshare ...`).
fn child_within(words: &[&str], role: &str, argument: &str) -> Child {
    let Some((program, rest)) = words.split_first() else { return child(role, argument) };
    Command::new(program)
        .args(rest)
        .arg(std::env::current_exe().expect("known"))
        .args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"])
        .env("SEGMENT_TEST_ARGUMENT", argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is there")
}

/// Whether the kernel lets us run a program in this way.
fn permitted(words: &[&str]) -> bool {
    let Some((program, rest)) = words.split_first() else { return true };
    match Command::new(program).args(rest).arg("true").output() {
        Ok(out) if out.status.success() => true,
        other => {
            println!("SKIPPED: {words:?} is not permitted here: {other:?}");
            false
        }
    }
}

fn tell(child: &mut Child, word: &str) {
    child.stdin.as_mut().expect("piped").write_all(format!("{word}\n").as_bytes()).expect("it waits");
}

fn told_handler() -> Option<Handler> {
    Some(AtomicMatrix::attach(Uuid::parse_str(&argument()?).expect("an id")).expect("it exists"))
}

/// Blocks with a pattern that nobody else writes.
fn holds(handler: &Handler, count: u64) -> Vec<(RelativePtr<u8>, usize, u64)> {
    let hold = |seed| {
        let block = handler.allocate_raw(1000).expect("room");
        let usable = handler.usable_size(&block).expect("live");
        fill(handler, &block, usable, seed);
        (block, usable, seed)
    };
    (0..count).map(hold).collect()
}

fn intact(handler: &Handler, held: &[(RelativePtr<u8>, usize, u64)]) {
    held.iter().for_each(|(block, usable, seed)| check(handler, block, *usable, *seed));
}

#[test]
#[ignore = "a role: holds blocks"]
fn subject() {
    let Some(handler) = told_handler() else { return };
    let held = holds(&handler, BLOCKS);
    println!("\nREADY {}", std::process::id());
    for line in std::io::stdin().lock().lines() {
        match line.expect("text").as_str() {
            "check" => {
                intact(&handler, &held);
                println!("\nINTACT 1");
            }
            // Not by a signal: the first process of a namespace takes none of its own.
            // SAFETY: ends the process at once, leaving everything as it is.
            "die" => unsafe { libc::_exit(0) },
            other => panic!("{other}"),
        }
    }
}

/// Takes whom it sees dead for dead, and everything else that is free.
#[test]
#[ignore = "a role: a newcomer beside the living"]
fn reader() {
    let Some(handler) = told_handler() else { return };
    let seen = handler.participants();
    assert!(!seen.is_empty() && seen.iter().all(|p| p.alive), "{seen:?}");
    assert_eq!(handler.reap().expect("a slot").participants, 0);
    let mut held = vec![];
    while let Ok(block) = handler.allocate_raw(1000) {
        fill(&handler, &block, handler.usable_size(&block).expect("live"), 77 << 40);
        held.push(block);
    }
    assert!(held.len() > 100, "{}", held.len());
    held.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
}

#[test]
#[ignore = "a role: a newcomer beside the dead"]
fn gravedigger() {
    let Some(handler) = told_handler() else { return };
    eventually("the dead one is recovered", || {
        handler.reap().expect("a slot");
        handler.stats().expect("sound").live_blocks == 0
    });
    assert_eq!(handler.participants().len(), 1, "its own");
}

/// The subject lives: a reader harms nothing. It dies: a reader recovers it.
fn spared_then_recovered(id: &str, subject_in: &[&str], reader_in: &[&str]) {
    let mut subject = child_within(subject_in, "life::subject", id);
    told(&mut subject, "READY");
    succeed(child_within(reader_in, "life::reader", id));
    tell(&mut subject, "check");
    told(&mut subject, "INTACT");
    tell(&mut subject, "die");
    subject.wait().expect("a child");
    succeed(child_within(reader_in, "life::gravedigger", id));
}

const VIEWS: [(&str, &[&str]); 6] = [
    ("time namespace, ahead", &["unshare", "--time", "--boottime", "100000", "--monotonic", "100000", "--fork"]),
    ("PID namespace, /proc from outside", &["unshare", "--pid", "--fork"]),
    ("PID namespace, /proc of its own", &["unshare", "--pid", "--fork", "--mount-proc"]),
    (
        "PID namespace, no /proc",
        &["unshare", "--pid", "--fork", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "-"],
    ),
    ("user namespace", &["unshare", "--user", "--map-root-user"]),
    (
        "user, PID and time namespace",
        &["unshare", "--user", "--map-root-user", "--pid", "--time", "--boottime", "5000", "--fork"],
    ),
];

#[test]
fn in_every_namespace_the_living_are_spared_and_the_dead_recovered() {
    std::thread::scope(|scope| {
        for (name, within) in VIEWS {
            scope.spawn(move || {
                // A test binary finds itself through /proc.
                let finds_itself = !name.ends_with("no /proc");
                if !permitted(within) {
                    return println!("SKIPPED: {name}");
                }
                let scratch = Scratch::new();
                let handler = scratch.options().size(MIB).create().expect("created");
                let id = scratch.0.to_string();
                spared_then_recovered(&id, within, &[]);
                spared_then_recovered(&id, &[], within);
                if finds_itself {
                    succeed(child_within(within, "life::both", &id));
                }
                rest_is_one_block(&handler);
                println!("{name}: subject inside, reader inside, both inside");
            });
        }
    });
}

#[test]
#[ignore = "a role: subject and reader in this one's namespaces"]
fn both() {
    let Some(id) = argument() else { return };
    spared_then_recovered(&id, &[], &[]);
}

/// Stopped it lives, as a zombie it is dead.
#[test]
fn stopped_is_alive_and_a_zombie_is_dead() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let mut subject = child("life::subject", &scratch.0.to_string());
    let pid = Pid::from_raw(told(&mut subject, "READY") as i32).expect("a process");
    kill_process(pid, Signal::STOP).expect("ours");
    std::thread::sleep(Duration::from_millis(20));
    succeed(child("life::reader", &scratch.0.to_string()));
    kill_process(pid, Signal::CONT).expect("ours");
    tell(&mut subject, "check");
    told(&mut subject, "INTACT");
    tell(&mut subject, "die");
    // Nobody has waited for it.
    eventually("it is dead", || handler.participants().iter().all(|p| !p.alive));
    // Not by /proc, which may be another namespace's.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    assert!(waitid(WaitId::Pid(pid), ended).expect("a child").is_some(), "it is a zombie");
    assert_eq!(handler.reap().expect("a slot").live_blocks, BLOCKS);
    subject.wait().expect("a child");
    rest_is_one_block(&handler);
}

/// What has executed another program is dead, whatever of it goes on: the program, and a forked child.
#[test]
fn whoever_executes_another_program_is_dead_although_its_child_lives() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let mut subject = child("life::executes", &scratch.0.to_string());
    let orphan = told(&mut subject, "CHILD");
    eventually("it is dead", || handler.participants().iter().any(|p| !p.alive));
    let recovered = handler.reap();
    let goes_on = subject.try_wait().expect("a child").is_none();
    kill(orphan);
    subject.kill().expect("ours");
    subject.wait().expect("a child");
    assert_eq!(recovered.expect("a slot").live_blocks, BLOCKS);
    assert!(goes_on, "the program that it has become");
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: executes another program"]
fn executes() {
    let Some(handler) = told_handler() else { return };
    let _held = holds(&handler, BLOCKS);
    let child = fork(|| std::thread::sleep(Duration::from_secs(60)));
    println!("\nCHILD {}", child.as_raw_pid());
    panic!("{}", std::os::unix::process::CommandExt::exec(Command::new("sleep").arg("60")));
}

/// A program that has closed its standard streams goes on printing: nothing of that may go into a segment, however
/// it was got.
#[test]
fn no_segment_gets_the_number_of_a_standard_stream() {
    let scratch = Scratch::new();
    let _handler = scratch.options().size(MIB).create().expect("created");
    succeed(child("life::prints_without_streams", &scratch.0.to_string()));
}

#[test]
#[ignore = "a role: prints where it has no standard streams"]
fn prints_without_streams() {
    type Way = (&'static str, fn(&Dir, Uuid) -> atomic_matrix::Result<Handler>);
    const WAYS: [Way; 7] = [
        ("created", |dir, _| Options::new().size(MIB).path(&dir.0).create()),
        ("created by its name", |dir, _| Options::new().size(MIB).path(&dir.0).named_creation(true).create()),
        ("memory", |_, _| Options::new().size(MIB).memfd().create()),
        ("attached", |_, id| AtomicMatrix::attach(id)),
        ("opened or created", |_, id| Options::new().size(MIB).id(id).open_or_create()),
        ("looked at", |_, id| Options::new().id(id).inspect()),
        ("by a descriptor", |_, _| {
            let memory = Options::new().size(MIB).memfd().create()?;
            Options::from_fd(memory.matrix().segment().fd().try_clone_to_owned().expect("open")).attach()
        }),
    ];
    let Some(id) = argument().and_then(|id| id.parse().ok()) else { return };
    let dir = Dir::new();
    // What is told must wait until there is a stream to tell it on.
    let streams = [0, 1, 2].map(|stream| {
        // SAFETY: a role alone in its process.
        unsafe { (stream, libc::fcntl(stream, libc::F_DUPFD_CLOEXEC, 100), libc::close(stream)).1 }
    });
    let told = WAYS.map(|(way, get)| {
        let print = || {
            let print = |stream| {
                // SAFETY: a number that is closed, or this role's own.
                unsafe { libc::write(stream, [b'x'; 64].as_ptr().cast(), 64) }
            };
            [0, 1, 2].map(print)
        };
        let handler = get(&dir, id).map_err(|e| format!("{way}: {e}"))?;
        let used = handler.allocate_raw(64).map(|block| (print(), handler.free_raw(block)));
        let found = (handler.matrix().segment().fd().as_raw_fd() > 2, used.is_ok(), handler.verify().is_ok());
        let again = way == "memory" || way == "by a descriptor" || Options::new().id(handler.id()).attach().is_ok();
        let again = again || Options::new().path(&dir.0).id(handler.id()).attach().is_ok();
        if found == (true, true, true) && again { Ok(()) } else { Err(format!("{way}: {found:?}, {again}")) }
    });
    for (stream, kept) in (0..).zip(streams) {
        // SAFETY: what it was before.
        unsafe { libc::dup2(kept, stream) };
    }
    for told in told {
        told.expect("out of the way");
    }
}

/// Nor for a moment, while another thread prints; and what it prints is refused as it was, by no descriptor of ours.
#[test]
fn nothing_that_another_thread_prints_goes_into_a_segment_that_is_opened() {
    let scratch = Scratch::new();
    let _handler = scratch.options().size(MIB).create().expect("created");
    succeed(child("life::prints_meanwhile", &scratch.0.to_string()));
}

#[test]
#[ignore = "a role: prints where it has no standard streams, and attaches"]
fn prints_meanwhile() {
    let Some(id) = argument().and_then(|id| id.parse().ok()) else { return };
    // SAFETY: a role alone in its process.
    let close = |stream| unsafe { (stream, libc::fcntl(stream, libc::F_DUPFD_CLOEXEC, 100), libc::close(stream)).1 };
    let streams = [0, 1, 2].map(close);
    // SAFETY: numbers that are closed.
    let print = || (0..3).filter(|&stream| unsafe { libc::write(stream, [b'x'; 64].as_ptr().cast(), 64) } > 0).count();
    let over = std::sync::atomic::AtomicBool::new(false);
    let (printed, refused, readable) = std::thread::scope(|scope| {
        let printed = scope.spawn(|| {
            let mut printed = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                printed += print();
            }
            printed
        });
        let refused = (0..2000).find_map(|_| AtomicMatrix::attach(id).err());
        let handler = Options::new().size(MIB).memfd().create();
        let event = handler.and_then(|handler| handler.event("event"));
        let readable = event.and_then(|event| Ok(event.readable()?.as_raw_fd()));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        (printed.join(), refused, readable)
    });
    for (stream, kept) in (0..).zip(streams) {
        // SAFETY: what it was before.
        unsafe { libc::dup2(kept, stream) };
    }
    assert_eq!((printed.ok(), refused.map(|e| e.to_string())), (Some(0), None));
    assert!(readable.expect("made") > 2);
}

/// Closes every descriptor above 2, and opens files of its own under their numbers.
fn closes_and_opens(dir: &Dir) -> Vec<std::fs::File> {
    // SAFETY: a role alone in its process, which uses none of them any more but through the crate.
    unsafe { libc::close_range(3, u32::MAX, 0) };
    let log = |i: u64| std::fs::File::create_new(dir.0.join(format!("log{i}"))).expect("created");
    (0..12).map(log).collect()
}

/// A daemon closes all descriptors that it does not know: its threads, old and new, live on, its logs are
/// left alone, and it takes nobody for dead who is not.
#[test]
fn a_program_that_closes_all_descriptors_lives_and_takes_nobody_for_dead() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let id = scratch.0.to_string();
    let mut other = child("life::subject", &id);
    told(&mut other, "READY");
    let mut daemon = child("life::closes_descriptors", &id);
    told(&mut daemon, "READY");
    succeed(child("life::reader", &id));
    assert_eq!(handler.reap().expect("a slot").participants, 0);
    tell(&mut other, "check");
    told(&mut other, "INTACT");
    tell(&mut other, "die");
    other.wait().expect("a child");
    tell(&mut daemon, "go on");
    succeed(daemon);
    assert_eq!(handler.participants().iter().filter(|p| !p.alive).count(), 0, "the daemon has recovered it");
    assert_eq!(handler.stats().expect("sound").live_blocks, 3 * BLOCKS, "what the daemon left, in good order");
}

#[test]
#[ignore = "a role: closes descriptors"]
fn closes_descriptors() {
    let Some(handler) = told_handler() else { return };
    let memory = Options::new().memfd().size(MIB).create().expect("created");
    let dir = Dir::new();
    let before = holds(&handler, BLOCKS);
    let logs = closes_and_opens(&dir);
    assert!(
        logs.iter().any(|log| log.as_raw_fd() == handler.matrix().segment().fd().as_raw_fd()),
        "the number is a log's"
    );
    // New threads get slots, here and where there is no name to find the file by.
    let after = std::thread::scope(|scope| scope.spawn(|| holds(&handler, BLOCKS)).join().expect("no panic"));
    let more = std::thread::scope(|scope| scope.spawn(|| holds(&handler, BLOCKS)).join().expect("no panic"));
    assert!(handler.participants().iter().all(|p| p.alive) && handler.reap().expect("a slot").participants == 0);
    memory.free_raw(memory.allocate_raw(100).expect("a slot")).expect("live");
    assert!(memory.participants().iter().all(|p| p.alive) && memory.reap().expect("a slot").participants == 0);
    println!("\nREADY 1");
    std::io::stdin().read_line(&mut String::new()).expect("told");
    assert_eq!(handler.reap().expect("a slot").live_blocks, BLOCKS, "through the segment's name");
    [&before, &after, &more].iter().for_each(|held| intact(&handler, held));
    drop((handler, memory));
    for mut log in logs {
        let mut lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        // SAFETY: the call reads and writes one `flock`.
        let asked = unsafe { libc::fcntl(log.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
        assert_eq!(asked, 0, "it is open still");
        assert_eq!(lock.l_type, libc::F_UNLCK as i16, "nobody has locked it");
        log.write_all(b"written\n").expect("it is open still");
    }
}

/// The child may look, and changes nothing.
fn refused_everything(inherited: &Handler, block: RelativePtr<u8>) {
    let refused = |what: Result<(), Error>| assert!(matches!(what, Err(Error::ForkedChild { .. })), "{what:?}");
    refused(inherited.allocate_raw(1000).map(drop));
    refused(inherited.allocate::<u64>().map(drop));
    refused(inherited.free_raw(block));
    refused(inherited.free_at(block.offset()));
    refused(inherited.store_bytes(&block, &[0; 100]));
    refused(inherited.reap().map(drop));
    refused(inherited.heal());
    refused(inherited.unlink());
    inherited.load_bytes(&block, &mut [0; 100]).expect("to look is free");
    let seen = inherited.participants();
    assert!(!seen.is_empty() && seen.iter().all(|p| p.alive), "{seen:?}");
}

/// Forks where `as_parent` says how; the child is refused, and as a participant of its own harms nobody.
fn forks_unnoticed(handler: Handler, same_number: bool) {
    let (id, held) = (handler.id(), holds(&handler, BLOCKS));
    let (us, inherited, block) = (std::process::id(), handler.clone(), held[0].0);
    // So that the child finds a cache with parked blocks.
    handler.free_raw(handler.allocate_raw(1000).expect("room")).expect("live");
    let child = fork(move || {
        assert_eq!(std::process::id() == us, same_number);
        refused_everything(&inherited, block);
        std::thread::scope(|scope| scope.spawn(|| refused_everything(&inherited, block)).join()).expect("refused");
        drop(inherited);
        let own = AtomicMatrix::attach(id).expect("attached");
        assert_eq!(own.reap().expect("a slot").participants, 0, "the parent lives");
        while own.allocate_raw(1000).is_ok_and(|block| own.store_bytes(&block, &[1; 1000]).is_ok()) {}
        std::mem::forget(own);
    });
    assert_eq!(ended(child), Some(0), "see above");
    intact(&handler, &held);
    assert_eq!(handler.reap().expect("a slot").participants, 1, "the child, which has left without a word");
    held.into_iter().for_each(|(block, ..)| handler.free_raw(block).expect("live"));
    rest_is_one_block(&handler);
}

/// The parent is number 1 of its PID namespace, and its child number 1 of a nested one.
#[test]
fn a_forked_child_with_its_parents_process_id_is_refused() {
    let within = ["unshare", "--pid", "--fork"];
    if permitted(&within) {
        let scratch = Scratch::new();
        let _handler = scratch.options().size(MIB).create().expect("created");
        succeed(child_within(&within, "life::is_number_one", &scratch.0.to_string()));
    }
}

#[test]
#[ignore = "a role: process 1"]
fn is_number_one() {
    let Some(handler) = told_handler() else { return };
    assert_eq!(std::process::id(), 1);
    // SAFETY: the flag concerns later children alone, no descriptors of other threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }.expect("permitted: we are in one already");
    forks_unnoticed(handler, true);
}

/// The kernel (or an emulator) refuses to wipe a child's memory, or says yes and does nothing.
#[test]
fn a_forked_child_is_refused_where_memory_is_not_wiped() {
    for how in ["refused", "ignored"] {
        let scratch = Scratch::new();
        let _handler = scratch.options().size(MIB).create().expect("created");
        print!("{}", succeed(child("life::without_wiping", &format!("{} {how}", scratch.0))));
    }
}

#[test]
#[ignore = "a role: forks where memory is not wiped"]
fn without_wiping() {
    let Some(told) = argument() else { return };
    let (id, how) = told.split_once(' ').expect("two words");
    if !cfg!(target_arch = "x86_64") {
        return println!("SKIPPED: the filter is written for x86-64");
    }
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let equal = |jt, jf, k| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
    let answer = |k| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    // The advice is the third argument.
    let mut filter = match how {
        "refused" => vec![
            load(0),
            equal(0, 3, libc::SYS_madvise as u32),
            load(32),
            equal(0, 1, libc::MADV_WIPEONFORK as u32),
            answer(libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
        _ => vec![
            load(0),
            equal(0, 1, libc::SYS_madvise as u32),
            answer(libc::SECCOMP_RET_ERRNO),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
    };
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: gives up rights of this thread and its children; the program outlives the call.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    if installed != 0 {
        return println!("SKIPPED: no filter for system calls: {}", std::io::Error::last_os_error());
    }
    forks_unnoticed(AtomicMatrix::attach(id.parse().expect("an id")).expect("it exists"), false);
}

/// A process id that has been used again makes nobody live for ever, nor anybody dead.
#[test]
fn a_process_id_that_is_used_again_says_nothing() {
    let within = ["unshare", "--pid", "--fork", "--mount-proc"];
    if permitted(&within) {
        let scratch = Scratch::new();
        let handler = scratch.options().size(MIB).create().expect("created");
        print!("{}", succeed(child_within(&within, "life::uses_a_number_again", &scratch.0.to_string())));
        rest_is_one_block(&handler);
    }
}

#[test]
#[ignore = "a role: its children have one number"]
fn uses_a_number_again() {
    let Some(handler) = told_handler() else { return };
    let id = handler.id();
    let next_is_100 = || std::fs::write("/proc/sys/kernel/ns_last_pid", "99").is_ok();
    if !next_is_100() {
        return println!("SKIPPED: the next process id can't be chosen");
    }
    let dies = fork(move || {
        std::mem::forget(holds(&std::mem::ManuallyDrop::new(AtomicMatrix::attach(id).expect("it exists")), 7));
    });
    assert_eq!((dies.as_raw_pid(), ended(dies)), (100, Some(0)));
    assert!(next_is_100());
    let (mut ready, mut tells) = std::io::pipe().expect("a pipe");
    let lives = fork(move || {
        let handler = AtomicMatrix::attach(id).expect("it exists");
        let held = holds(&handler, BLOCKS);
        tells.write_all(b"!").expect("told");
        std::thread::sleep(Duration::from_millis(200));
        intact(&handler, &held);
        held.into_iter().for_each(|(block, ..)| handler.free_raw(block).expect("live"));
        drop(handler);
    });
    assert_eq!(lives.as_raw_pid(), 100);
    ready.read_exact(&mut [0]).expect("it holds blocks");
    // Whoever attached has recovered the dead one already, or it is now.
    handler.reap().expect("a slot");
    assert_eq!(handler.stats().expect("sound").live_blocks, BLOCKS, "the living one's alone");
    assert_eq!(ended(lives), Some(0));
}

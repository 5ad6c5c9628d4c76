//! Programs in C and C++, compiled as a user's are: against an installed library, found by
//! pkg-config, with the sanitizers of addresses and undefined behaviour. They run alone, and
//! against this process, and are killed.

use atomic_matrix::ipc::{Client, Failed, Receiver, Unreceived, Unsent};
use atomic_matrix::{Error, Handler, HandlerFunctions, Options};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A name of a segment, whose file goes away with it.
struct Scratch(String);

impl Scratch {
    fn new() -> Self {
        Self(format!("c-{}", Uuid::new_v4()))
    }
    fn options(&self) -> Options {
        Options::new().name(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(handler) = self.options().inspect() {
            let _ = handler.unlink();
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    assert!(!err.contains("Sanitizer") && !err.contains("runtime error"), "{command:?}: {err}");
    out
}

/// Where this test has installed the library: once for all tests of a run.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
        let test = std::env::current_exe().expect("this binary");
        let libraries = test.parent().expect("a folder");
        succeeds(Command::new(root().join("install")).arg(&prefix).env("AMX_LIBRARIES", libraries));
        prefix
    })
}

fn flags(kind: &[&str]) -> Vec<String> {
    let found = succeeds(
        Command::new("pkg-config")
            .args(kind)
            .arg("atomic-matrix")
            .env("PKG_CONFIG_PATH", installed().join("lib/pkgconfig")),
    );
    found.split_whitespace().map(str::to_owned).collect()
}

/// Compiles a program: C or C++ by its name, every warning an error.
fn compiled(source: &str) -> PathBuf {
    let name = source.replace(['/', '.'], "-");
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    let (compiler, standard) = if source.ends_with(".c") { ("gcc", "-std=c11") } else { ("g++", "-std=c++20") };
    let strict = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-D_GNU_SOURCE"];
    let sanitized = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let library = format!("-Wl,-rpath,{}", installed().join("lib").display());
    let mut command = Command::new(compiler);
    command.arg(standard).args(strict).args(sanitized).arg(root().join(source)).arg("-o").arg(&binary);
    succeeds(command.args(flags(&["--cflags", "--libs"])).arg(library));
    binary
}

fn runs_alone(source: &str) {
    let scratch = Scratch::new();
    succeeds(Command::new(compiled(source)).arg(&scratch.0));
    assert!(scratch.options().inspect().is_err(), "{source} has left its segment");
}

#[test]
fn every_call_in_c() {
    runs_alone("tests/programs/calls.c");
}

#[test]
fn threads_share_handles() {
    runs_alone("tests/programs/threads.c");
}

#[test]
fn the_wrapper_for_cpp() {
    runs_alone("tests/programs/wrapper.cpp");
    runs_alone("examples/topic.cpp");
}

#[test]
fn the_examples_talk() {
    let scratch = Scratch::new();
    succeeds(Command::new(compiled("examples/sender.c")).arg(&scratch.0));
    let heard = succeeds(Command::new(compiled("examples/receiver.c")).arg(&scratch.0));
    assert_eq!(heard.lines().collect::<Vec<_>>(), (1..=10).map(|k| format!("greeting {k}")).collect::<Vec<_>>());
    assert!(scratch.options().inspect().is_err(), "the receiver removes the segment");
}

#[test]
fn a_program_links_the_static_library() {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
    let lib = installed().join("lib/libatomic_matrix_c.a");
    let private = flags(&["--static", "--libs-only-l"]).into_iter().filter(|flag| flag != "-latomic_matrix_c");
    let mut command = Command::new("gcc");
    command.arg(root().join("tests/programs/threads.c")).args(flags(&["--cflags"])).arg("-o").arg(&binary).arg(lib);
    succeeds(command.args(private));
    let scratch = Scratch::new();
    succeeds(Command::new(&binary).arg(&scratch.0));
}

/// Every function of the header is called by a program here.
#[test]
fn no_call_is_left_out() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("it is there");
    let header = read("include/atomic_matrix.h");
    let programs = ["calls.c", "threads.c", "wrapper.cpp"].map(|name| read(&format!("tests/programs/{name}"))).concat();
    let code: Vec<&str> = header.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let names = code.iter().filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next());
    let calls: Vec<&str> = names.filter(|name| name.starts_with("amx_")).collect();
    assert!(calls.len() > 50, "{calls:?}");
    let missing: Vec<_> = calls.iter().filter(|name| !programs.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

const MESSAGES: u32 = 3000;

/// The segment of a pair, with its channel made, and the book: a byte for each message, whose
/// position is published.
fn segment(scratch: &Scratch) -> (Handler, *const u8) {
    let handler = scratch.options().size(8 << 20).create().expect("room");
    let book = handler.allocate::<[u8; MESSAGES as usize]>().expect("room");
    let address: *mut u8 = handler.resolve(&book.pointer()).cast();
    // SAFETY: a fresh block of as many bytes, which nobody else knows yet.
    unsafe { address.write_bytes(0, MESSAGES as usize) };
    let pointer = book.pointer();
    let position = [pointer.offset().to_ne_bytes(), pointer.generation().to_ne_bytes()].concat();
    handler.hand_over(&pointer).expect("mine");
    handler.message_from(&position).and_then(|message| message.publish("book")).expect("room");
    (handler, address)
}

/// Message `number`, as the programs make it.
fn content(number: u32) -> Vec<u8> {
    let mut bytes = vec![(number % 251) as u8; 4 + number as usize % 3000];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes
}

fn is_empty(handler: &Handler) {
    handler.take_message::<[u8]>("book").expect("published");
    handler.heal().expect("a slot");
    let stats = handler.verify().expect("sound");
    // The book.
    assert_eq!(stats.live_blocks, 1, "{stats:?}");
}

fn rest(receiver: &Receiver<[u8]>) -> Vec<u32> {
    let mut rest = vec![];
    loop {
        match receiver.try_recv() {
            Ok(message) => {
                let number = u32::from_ne_bytes(message[..4].try_into().expect("four bytes"));
                assert_eq!(*message, *content(number));
                rest.push(number);
            }
            Err(Unreceived::Empty | Unreceived::Disconnected { .. }) => return rest,
            Err(why) => panic!("{why}"),
        }
    }
}

#[test]
fn c_sends_and_rust_receives() {
    let scratch = Scratch::new();
    let (handler, _) = segment(&scratch);
    let numbers = handler.channel::<[u8]>("numbers").create().expect("room");
    let receiver = numbers.receiver().expect("a slot");
    let mut sender = Command::new(compiled("tests/programs/send.c"))
        .args([&scratch.0, &MESSAGES.to_string()])
        .spawn()
        .expect("it was compiled");
    for number in 0..MESSAGES {
        let message = loop {
            match receiver.recv_timeout(Duration::from_secs(60)) {
                // It may not be there yet.
                Err(Unreceived::Disconnected { .. }) => std::thread::yield_now(),
                got => break got.expect("one comes"),
            }
        };
        assert_eq!(*message, *content(number));
    }
    assert!(sender.wait().expect("it runs").success());
    drop(receiver);
    numbers.remove().expect("mine");
    drop(numbers);
    is_empty(&handler);
}

/// A program that has said so.
fn begun(scratch: &Scratch, binary: &Path, arguments: &[&str], says: &str) -> Child {
    let mut command = Command::new(binary);
    let mut child = command.arg(&scratch.0).args(arguments).stdout(Stdio::piped()).spawn().expect("it was compiled");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it says so");
    assert_eq!(line.trim_end(), says);
    child
}

#[test]
fn a_c_receiver_killed_with_a_message_in_its_hands_loses_that_one_alone() {
    let scratch = Scratch::new();
    let (handler, book) = segment(&scratch);
    let numbers = handler.channel::<[u8]>("numbers").capacity(256).create().expect("room");
    let sender = numbers.sender().expect("a slot");
    for number in 0..100 {
        sender.send(handler.message_from(&content(number)).expect("room")).expect("room");
    }
    let mut child = begun(&scratch, &compiled("tests/programs/receive.c"), &["10"], "kept");
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    let recovered = handler.reap().expect("a slot");
    assert_eq!((recovered.participants, recovered.live_blocks), (1, 1), "the message in its hands");
    let receiver = numbers.receiver().expect("a slot");
    assert_eq!(rest(&receiver), (11..100).collect::<Vec<_>>());
    // SAFETY: the book's bytes, which nobody writes any more.
    let ticks = unsafe { std::slice::from_raw_parts(book, 100) };
    assert!(ticks.iter().enumerate().all(|(number, &ticks)| ticks == u8::from(number < 10)), "{ticks:?}");
    numbers.remove().expect("mine");
    drop((sender, receiver, numbers));
    is_empty(&handler);
}

/// Kills of a round, each some time later in its victim's work than the one before.
const KILLS: u32 = 12;
const LONG: Duration = Duration::from_secs(60);

/// Rounds of kills, each in a segment of its own: one, or for as many kills as `MATRIX_C_KILLS` asks for.
fn killed(what: &str, round: impl Fn()) {
    let asked = std::env::var("MATRIX_C_KILLS").map_or(1, |kills| kills.parse().expect("a number"));
    let rounds = u32::div_ceil(asked, KILLS);
    (0..rounds).for_each(|_| round());
    println!("{} kills in C of {what}", rounds * KILLS);
}

/// Killed at any instant: each kill costs the one message that was in its hands, at most.
#[test]
fn c_receivers_killed_again_and_again_lose_what_they_held() {
    killed("receivers", receivers_are_killed);
}

fn receivers_are_killed() {
    let scratch = Scratch::new();
    let (handler, book) = segment(&scratch);
    let numbers = handler.channel::<[u8]>("numbers").create().expect("room");
    let sender = numbers.sender().expect("a slot");
    let binary = compiled("tests/programs/receive.c");
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for number in 0..MESSAGES {
                let mut message = handler.message_from(&content(number)).expect("room");
                // Nobody may be there to receive just now.
                while let Err(refused) = sender.send_timeout(message, Duration::from_secs(60)) {
                    std::thread::yield_now();
                    message = refused.message;
                }
            }
        });
        for kill in 0..KILLS {
            let mut child = begun(&scratch, &binary, &[], "receives");
            std::thread::sleep(Duration::from_micros(u64::from(kill) * 500));
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
        }
        // One that lives, until there is nothing more.
        let mut child = begun(&scratch, &binary, &[], "receives");
        sending.join().expect("it sends");
        numbers.close();
        assert!(child.wait().expect("it ends").success());
    });
    handler.reap().expect("a slot");
    // SAFETY: the book's bytes, which nobody writes any more.
    let ticks = unsafe { std::slice::from_raw_parts(book, MESSAGES as usize) };
    let lost = ticks.iter().filter(|&&ticks| ticks == 0).count();
    assert!(ticks.iter().all(|&ticks| ticks <= 1), "received twice");
    assert!(lost <= KILLS as usize, "{lost} messages lost by {KILLS} kills");
    numbers.remove().expect("mine");
    drop((sender, numbers));
    is_empty(&handler);
}

/// Killed at any instant: each call is answered, by one response or a stream of them, or told that nobody answers it.
#[test]
fn c_servers_killed_again_and_again_leave_no_call_without_an_end() {
    killed("servers", servers_are_killed);
}

/// Calls, or reads the whole stream of an even request.
fn answered(handler: &Handler, client: &Client<[u8], [u8]>, content: &[u8]) -> Result<(), Failed> {
    let request = handler.message_from(content).expect("room");
    let reversed = |response: &[u8]| assert!(response.iter().eq(content.iter().rev()));
    if content.len() % 2 == 1 {
        return client.call(request, LONG).map(|response| reversed(&response)).map_err(|error| error.why);
    }
    let mut responses = client.stream(request, LONG).map_err(|error| error.why)?;
    let mut next = || match responses.next_timeout(LONG) {
        Ok(response) => Ok(response.map(|response| reversed(&response))),
        Err(Error::CallFailed { why }) => Err(why),
        Err(other) => panic!("{other}"),
    };
    for _ in 0..3 {
        assert!(next()?.is_some(), "three of them");
    }
    assert!(next()?.is_none());
    Ok(())
}

fn servers_are_killed() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(8 << 20).create().expect("room");
    let numbers = handler.service::<[u8], [u8]>("numbers").open_or_create().expect("room");
    let binary = compiled("tests/programs/serve.c");
    let killing = std::sync::atomic::AtomicBool::new(true);
    let over = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let client = numbers.client().expect("a slot");
        let calling = scope.spawn(|| {
            let client = client;
            let (mut answers, mut told, begun) = (0, 0, Instant::now());
            for number in 0.. {
                match answered(&handler, &client, &content(number % MESSAGES)) {
                    Ok(()) => answers += 1,
                    Err(why) => {
                        assert!(
                            matches!(
                                why,
                                Failed::Unanswered { .. }
                                    | Failed::NoServer { .. }
                                    | Failed::Unsent { why: Unsent::Disconnected { .. } }
                            ),
                            "{why}"
                        );
                        assert!(begun.elapsed() < LONG, "no server stays");
                        told += 1;
                        std::thread::yield_now();
                    }
                }
                if !killing.load(over) && answers >= 100 {
                    break;
                }
            }
            (answers, told)
        });
        for kill in 0..KILLS {
            let mut child = begun(&scratch, &binary, &[], "serves");
            std::thread::sleep(Duration::from_micros(u64::from(kill) * 500));
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
        }
        killing.store(false, over);
        // One that lives, until nobody calls any more.
        let mut child = begun(&scratch, &binary, &[], "serves");
        let (answers, told) = calling.join().expect("it calls");
        println!("{answers} calls answered, {told} told that nobody answers");
        assert!(child.wait().expect("it ends").success());
    });
    numbers.remove().expect("mine");
    drop(numbers);
    nothing_is_left(&handler);
}

/// Killed at any instant: every value of the map stays whole, and nothing is lost.
#[test]
fn c_map_users_killed_again_and_again_leave_it_whole() {
    killed("map users", map_users_are_killed);
}

fn map_users_are_killed() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(8 << 20).create().expect("room");
    let values = handler.map::<[u8]>("values").open_or_create().expect("room");
    let binary = compiled("tests/programs/fill.c");
    let whole = || {
        for entry in values.iter().expect("a guard") {
            let (key, value) = entry.expect("a guard");
            assert!(key.starts_with(b"key") && value.iter().all(|byte| *byte == value[0]), "{key:?}");
        }
    };
    for kill in 0..KILLS / 2 {
        let mut children = [(); 2].map(|()| begun(&scratch, &binary, &[], "filled"));
        std::thread::sleep(Duration::from_millis(u64::from(kill) * 6));
        whole();
        for child in &mut children {
            assert!(child.try_wait().expect("a child").is_none(), "it has ended by itself");
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
        }
        handler.reap().expect("a slot");
        whole();
    }
    values.remove().expect("mine");
    drop(values);
    nothing_is_left(&handler);
}

fn nothing_is_left(handler: &Handler) {
    handler.reap().expect("a slot");
    handler.heal().expect("a slot");
    let stats = handler.verify().expect("sound");
    assert_eq!(stats.live_blocks, 0, "{stats:?}");
}

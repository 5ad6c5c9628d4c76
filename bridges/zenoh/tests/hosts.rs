//! Two hosts, each with a bridge of its own process, publishers and readers: bridges are killed on both, and the
//! wire between them is taken away for a while; every publication arrives, in its order, once.
//!
//! Hosts are network namespaces with a `/dev/shm` of their own, where root may make them; else, and beside that,
//! two segments of this host. All of it goes with the processes that have it.
#![allow(missing_docs)]

mod common;

use atomic_matrix::ipc::{Channel, Message, Redelivering, Topic, Unreceived, Unsent};
use atomic_matrix::{Handler, Options};
use common::{LONG, free_port, guarded, until};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Publications.
const NUMBERS: u64 = 4000;
/// More than that: nothing is lost while nobody holds the publisher up.
const CELLS: &str = "8192";
const TOPIC: &str = "numbers";

/// A process that ends with its handle.
struct Running(Child);
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where programs run.
struct Host {
    /// The namespaces end with this one, and those in them.
    holder: Option<Running>,
    segment: String,
}

impl Host {
    fn here(which: &str) -> Self {
        Self { holder: None, segment: format!("bridge-{which}-{}", std::process::id()) }
    }

    /// A host of its own; none where that is not allowed.
    fn apart(which: &str) -> Option<Self> {
        let script = "mount -t tmpfs tmpfs /dev/shm && ip link set lo up && echo made && exec sleep 300";
        let mut command = guarded("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "sh", "-c", script]);
        let holder = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok().map(Running);
        let mut holder = holder?;
        let mut line = String::new();
        BufReader::new(holder.0.stdout.take()?).read_line(&mut line).ok()?;
        let mut apart = Self::here(which);
        apart.holder = Some(holder);
        (line == "made\n").then_some(apart)
    }

    fn pid(&self) -> String {
        self.holder.as_ref().map_or(std::process::id(), |holder| holder.0.id()).to_string()
    }

    fn command(&self, program: &Path) -> Command {
        match &self.holder {
            None => guarded(program),
            Some(_) => {
                let mut command = guarded("nsenter");
                command.args(["--target", &self.pid(), "--mount", "--net", "--"]).arg(program);
                command
            }
        }
    }

    /// A test of this program as another process, in a role.
    fn start(&self, role: &str) -> Running {
        let mut command = self.command(&std::env::current_exe().expect("this program"));
        command.args(["--exact", "other_process", "--nocapture"]).env("ROLE", role).env("SEGMENT", &self.segment);
        Running(command.stdout(Stdio::piped()).spawn().expect("it starts"))
    }

    fn bridge(&self, arguments: &[&str], told: &Arc<Mutex<Vec<String>>>) -> Running {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_matrix-bridge")));
        command.args(["--segment", &self.segment, "--size", "16000000", "--cells", CELLS]).args(arguments);
        let mut bridge = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let (stderr, told) = (bridge.stderr.take().expect("it is piped"), told.clone());
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.for_each(|line| told.lock().expect("nobody panics").push(line));
        });
        Running(bridge)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Those of a host apart are gone with its memory.
        if self.holder.is_none()
            && let Ok(handler) = Options::new().name(&self.segment).attach()
        {
            let _ = handler.unlink();
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A wire between two hosts apart, which have these addresses.
fn wired(hosts: &[Host; 2]) -> bool {
    let [a, b] = [hosts[0].pid(), hosts[1].pid()];
    let ends = ["link", "add", "wire", "netns", &a, "type", "veth", "peer", "name", "wire", "netns", &b];
    ip(&ends) && up(&hosts[0], "10.77.0.1/24") && up(&hosts[1], "10.77.0.2/24")
}

fn on(host: &Host, arguments: &[&str]) -> bool {
    let mut command = host.command(Path::new("ip"));
    command.args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn up(host: &Host, address: &str) -> bool {
    on(host, &["address", "add", address, "dev", "wire"]) && on(host, &["link", "set", "wire", "up"])
}

/// What the other tests start as a process of its own.
#[test]
fn other_process() {
    let Ok(role) = std::env::var("ROLE") else { return };
    let name = std::env::var("SEGMENT").expect("it is given");
    let mut handler = None;
    until("the segment is made", || {
        handler = Options::new().name(&name).attach().ok();
        handler.is_some()
    });
    let handler = handler.expect("it is there");
    let topic = || handler.topic::<[u8]>(TOPIC).cells(8192).open_or_create().expect("there is room");
    match role.as_str() {
        "reads topic" => reads(&topic()),
        "publishes topic" => publishes(&handler, &topic()),
        "reads channel" => works(&handler),
        _ => sends(&handler),
    }
}

fn made(handler: &Handler, number: u64) -> Message<'_, [u8]> {
    let mut message = handler.message_slice::<u8>(8 + number as usize % 500).expect("there is room");
    message.fill(number as u8);
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// The number of a message that is as it was made.
fn number_of(read: &[u8]) -> u64 {
    let number = u64::from_le_bytes(read[..8].try_into().expect("eight bytes"));
    assert!(read.len() == 8 + number as usize % 500 && read[8..].iter().all(|&byte| byte == number as u8));
    number
}

fn publishes(handler: &Handler, topic: &Topic<[u8]>) {
    for number in 0..NUMBERS {
        topic.publish_timeout(made(handler, number), LONG).map_err(|no| no.why).expect("there is room");
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn jobs(handler: &Handler) -> Channel<[u8], Redelivering> {
    handler.channel(TOPIC).capacity(8192).redeliver(256).open_or_create().expect("there is room")
}

fn sends(handler: &Handler) {
    let sender = jobs(handler).sender().expect("there is a place");
    for number in 0..NUMBERS {
        let mut message = made(handler, number);
        // No bridge may be there to receive just now.
        while let Err(refused) = sender.send_timeout(message, LONG) {
            assert!(matches!(refused.why, Unsent::Disconnected { .. }), "{}", refused.why);
            message = refused.message;
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn works(handler: &Handler) {
    let worker = jobs(handler).worker().expect("there is a place");
    let (mut out, mut seen) = (std::io::stdout(), BTreeSet::new());
    writeln!(out, "reads").expect("somebody listens");
    while seen.len() < NUMBERS as usize {
        match worker.recv_timeout(LONG) {
            Ok(job) => {
                let number = number_of(&job);
                job.ack();
                seen.insert(number);
                writeln!(out, "number {number}").expect("somebody listens");
            }
            // While no bridge is there it has no sender.
            Err(Unreceived::Disconnected { .. }) => std::thread::sleep(Duration::from_millis(1)),
            Err(why) => panic!("{why}"),
        }
    }
}

fn reads(topic: &Topic<[u8]>) {
    let mut subscriber = topic.subscribe(0).expect("there is a place");
    let mut out = std::io::stdout();
    writeln!(out, "reads").expect("somebody listens");
    for _ in 0..NUMBERS {
        let read = subscriber.next_timeout(LONG).expect("it is open").expect("it comes");
        writeln!(out, "number {}", number_of(&read)).expect("somebody listens");
    }
}

/// Carries all numbers from the first host to the second, and disturbs that at several points.
fn carries(hosts: &[Host; 2], sort: &str, address: &str, disturb: impl Fn(&[Host; 2])) {
    let end = format!("tcp/{address}:{}", free_port());
    let told = Arc::default();
    let carried = format!("{sort}:{TOPIC}");
    let out = || hosts[0].bridge(&["--out", &carried, "--listen", &end], &told);
    let into = || hosts[1].bridge(&["--in", &carried, "--connect", &end], &told);
    let mut bridges = [out(), into()];
    let mut reader = hosts[1].start(&format!("reads {sort}"));
    let mut lines = BufReader::new(reader.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("reads")), "it subscribes first");
    let mut publisher = hosts[0].start(&format!("publishes {sort}"));
    let every = std::env::var("MATRIX_BRIDGE_EVERY").map_or(100, |every| every.parse().expect("a number"));
    let (mut numbers, mut killed) = (vec![], 0);
    for number in lines.filter_map(|line| line.strip_prefix("number ").and_then(|number| number.parse::<u64>().ok())) {
        numbers.push(number);
        let count = numbers.len() as u64;
        if count == NUMBERS / 2 {
            disturb(hosts);
        } else if count.is_multiple_of(every) && count < NUMBERS {
            // One, the other, both.
            let which = count / every % 3;
            if which != 1 {
                restart(&mut bridges[0], out);
            }
            if which != 0 {
                restart(&mut bridges[1], into);
            }
            killed += if which == 2 { 2 } else { 1 };
        }
    }
    let told = told.lock().expect("nobody panics");
    let twice = numbers.len() as u64 - NUMBERS.min(numbers.len() as u64);
    if sort == "channel" {
        // At least once; what comes again may come in another order.
        numbers.sort_unstable();
        numbers.dedup();
    }
    assert_eq!(numbers, (0..NUMBERS).collect::<Vec<_>>(), "{told:?}");
    assert!(publisher.0.wait().expect("it ends").success() && reader.0.wait().expect("it ends").success());
    assert!(!told.iter().any(|line| line.contains("lost")), "{told:?}");
    println!("{} numbers, {twice} came again, {killed} bridges killed, and told: {told:#?}", numbers.len());
}

/// Kills a bridge, and starts it again.
fn restart(bridge: &mut Running, again: impl Fn() -> Running) {
    bridge.0.kill().expect("it runs");
    bridge.0.wait().expect("it ends");
    *bridge = again();
}

#[test]
fn bridges_are_killed_on_both_hosts_and_every_publication_arrives_once() {
    carries(&[Host::here("out"), Host::here("in")], "topic", "127.0.0.1", |_| ());
}

#[test]
fn bridges_of_a_channel_are_killed_on_both_hosts_and_every_message_arrives() {
    carries(&[Host::here("channel-out"), Host::here("channel-in")], "channel", "127.0.0.1", |_| ());
}

#[test]
fn the_same_between_network_namespaces_and_with_the_wire_taken_away() {
    let (Some(a), Some(b)) = (Host::apart("out"), Host::apart("in")) else {
        println!("SKIPPED: this user may not make network namespaces (unshare --mount --net, as root)");
        return;
    };
    let hosts = [a, b];
    if !wired(&hosts) {
        println!("SKIPPED: no wire between the namespaces (is iproute2 there, and veth in the kernel?)");
        return;
    }
    carries(&hosts, "topic", "10.77.0.1", |hosts| {
        assert!(on(&hosts[0], &["link", "set", "wire", "down"]));
        std::thread::sleep(Duration::from_secs(1));
        assert!(on(&hosts[0], &["link", "set", "wire", "up"]));
    });
}

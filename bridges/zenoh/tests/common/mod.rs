//! What the tests share: sessions with explicit ends, other processes, and what lies where.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use zenoh::config::Config;

pub const LONG: Duration = Duration::from_secs(60);

/// A port of this host that nobody has.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback device");
    listener.local_addr().expect("it is bound").port()
}

/// A peer that finds others by their address alone.
pub fn config(listen: Option<&str>, connect: Option<&str>) -> Config {
    let mut config = Config::default();
    let ends = |end: Option<&str>| end.map_or("[]".to_owned(), |end| format!("[\"{end}\"]"));
    for (key, value) in [
        ("mode", "\"peer\"".to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
        ("listen/endpoints", ends(listen)),
        ("connect/endpoints", ends(connect)),
    ] {
        config.insert_json5(key, &value).expect("it is a setting");
    }
    config
}

/// A command whose process ends with the thread that starts it, also where that is killed.
pub fn guarded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A process that ends with the test, whatever becomes of it, and what it has left.
pub struct Other(pub Child);

impl Other {
    /// The test `other_process` of this program, in another role.
    pub fn start(role: &str, port: u16) -> Self {
        let mut command = guarded(std::env::current_exe().expect("this program"));
        command.args(["--exact", "other_process", "--nocapture"]).stdout(Stdio::null());
        Self(command.env("ROLE", role).env("PORT", port.to_string()).spawn().expect("it starts"))
    }
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
        atomic_matrix_zenoh::sweep();
    }
}

/// The number of the file that is mapped at the address of these bytes, all of them: a file's maker sees no name of
/// it there.
pub fn file_of(bytes: &[u8]) -> u64 {
    let (first, last) = (bytes.as_ptr().addr(), bytes.as_ptr().addr() + bytes.len() - 1);
    let found = mappings().into_iter().find(|(range, _)| range.contains(&first) && range.contains(&last));
    found.expect("it is mapped").1
}

/// Whether the file is mapped here.
pub fn is_mapped(file: u64) -> bool {
    mappings().iter().any(|(_, mapped)| *mapped == file)
}

fn mappings() -> Vec<(Range<usize>, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is readable");
    let mapping = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = words[0].split_once('-').expect("a range");
        let number = |text| usize::from_str_radix(text, 16).expect("a number");
        (number(from)..number(to), words[4].parse().expect("a number"))
    };
    maps.lines().map(mapping).collect()
}

/// The name of a file in shared memory.
pub fn name_of(file: u64) -> Option<String> {
    let entries = std::fs::read_dir("/dev/shm").expect("it is readable").flatten();
    let mut found = entries.filter(|entry| entry.metadata().is_ok_and(|one| one.ino() == file));
    found.next().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Waits until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "{what}: not for long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

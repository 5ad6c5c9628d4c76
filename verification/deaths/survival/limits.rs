//! Every resource that may run out, tried for real; each message says what to do.

use crate::common::{MIB, Scratch};
use crate::participants::eventually;
use crate::support::{Dir, Id, Mount, argument, child, succeed};
use crate::told;
use atomic_matrix::Error;
use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::segment::Options;
use rustix::process::Signal;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

fn limit(resource: Resource, most: u64) {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).expect("lowered");
}

/// An error whose text has all these words.
fn says<T: std::fmt::Debug>(what: Result<T, Error>, words: &[&str]) {
    let text = what.expect_err("refused").to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

/// Docker gives a container a `/dev/shm` of 64 MB.
#[test]
fn a_containers_64_megabytes() {
    let Some(mount) = Mount::new("tmpfs", "size=64m") else { return };
    let at = |size| Options::new().path(mount.path()).size(size);
    says(at(65 * MIB).create(), &["68157440 bytes are needed", "67108864", "docker run --shm-size"]);
    let handler = at(60 * MIB).create().expect("60 MiB fit");
    let sector = handler.stats().expect("sound").sector_bytes as usize;
    let all = handler.allocate_raw(sector).expect("all of it is there");
    let bytes = vec![7; sector];
    handler.store_bytes(&all, &bytes).expect("every page can be written");
    says(at(8 * MIB).create(), &["remove stale atomic-matrix-* files", "Options::path"]);
    handler.unlink().expect("ours");
    drop(handler);
    // A process that another test is just starting has the mapping until it runs its program.
    eventually("the space has come back", || at(60 * MIB).create().is_ok_and(|handler| handler.unlink().is_ok()));
}

#[test]
fn file_size_limit() {
    succeed(child("limits::with_small_files", ""));
}

#[test]
#[ignore = "a role: may only write small files"]
fn with_small_files() {
    if argument().is_none() {
        return;
    }
    limit(Resource::Fsize, MIB as u64);
    for options in [Options::new(), Options::new().memfd(), Options::new().reserve(false)] {
        says(options.size(2 * MIB).create(), &["2097152", "1048576", "RLIMIT_FSIZE", "ulimit -f"]);
    }
}

#[test]
fn no_descriptor_left() {
    let scratch = Scratch::new();
    scratch.options().size(MIB).create().expect("created");
    succeed(child("limits::without_descriptors", &scratch.0.to_string()));
}

#[test]
#[ignore = "a role: has no descriptor left"]
fn without_descriptors() {
    let Some(id) = argument() else { return };
    let id = id.parse().expect("an id");
    let before = Options::new().id(id).attach().expect("attached");
    let held = before.allocate_raw(100).expect("room");
    limit(Resource::Nofile, 0);
    for made in
        [Options::new().id(id).attach(), Options::new().size(MIB).create(), Options::new().memfd().size(MIB).create()]
    {
        says(made, &["no descriptor is left", "ulimit -n"]);
    }
    // What is attached goes on, new threads included.
    before.free_raw(held).expect("live");
    std::thread::scope(|scope| {
        scope.spawn(|| before.free_raw(before.allocate_raw(5000).expect("room")).expect("live"));
    });
    before.verify().expect("sound");
}

#[test]
fn address_space_limit() {
    succeed(child("limits::with_little_address_space", ""));
}

#[test]
#[ignore = "a role: has little address space"]
fn with_little_address_space() {
    if argument().is_none() {
        return;
    }
    limit(Resource::As, 1 << 30);
    says(Options::new().size(2 << 30).reserve(false).create(), &["map 2147483648 bytes", "ulimit -v"]);
    Options::new().size(MIB).create().expect("small ones fit").unlink().expect("ours");
}

/// Nothing here locks memory, so a limit on it (as users in containers have) stands in nobody's way.
#[test]
fn memory_lock_limit() {
    succeed(child("limits::without_locked_memory", ""));
}

#[test]
#[ignore = "a role: may not lock memory"]
fn without_locked_memory() {
    if argument().is_none() {
        return;
    }
    limit(Resource::Memlock, 0);
    // Root passes over the limit: as somebody else, if that is permitted.
    if rustix::process::geteuid().is_root() {
        let nobody = rustix::process::Uid::from_raw(12_345);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may");
    }
    let page = vec![0_u8; 8192];
    // SAFETY: a range of live memory; if it were locked, it would be unlocked at the process's end.
    let locked = unsafe { rustix::mm::mlock(page.as_ptr().cast_mut().cast(), page.len()) };
    assert!(locked.is_err(), "the limit holds");
    let handler = Options::new().memfd().size(4 * MIB).populate(true).create().expect("nothing is locked");
    handler.free_raw(handler.allocate_raw(MIB).expect("room")).expect("live");
}

#[test]
fn no_permission() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let dir = Dir::new();
    std::fs::set_permissions(&dir.0, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let made = Options::new().path(&dir.0).size(MIB).create().expect("created");
    let me = format!("/proc/{}/exe", std::process::id());
    let ran = Command::new("setpriv")
        .args(["--reuid=12345", "--regid=12345", "--clear-groups", "--", &me])
        .args(["--exact", "limits::as_a_stranger", "--ignored", "--nocapture", "--test-threads=1"])
        .env("SEGMENT_TEST_ARGUMENT", made.matrix().segment().path().expect("named"))
        .output();
    match ran {
        Ok(out) if String::from_utf8_lossy(&out.stdout).contains("STRANGER") => {
            assert!(out.status.success(), "{out:?}");
        }
        other => println!("skipped: can't run as another user: {other:?}"),
    }
}

#[test]
#[ignore = "a role: another user"]
fn as_a_stranger() {
    let Some(path) = argument() else { return };
    println!("STRANGER");
    let path = std::path::PathBuf::from(path);
    let words = ["no permission to", "Options::mode", "Options::group", "the directory's owner who may create"];
    says(Options::new().path(&path).attach(), &words);
    says(Options::new().path(path.parent().expect("a directory")).size(MIB).create(), &words);
}

#[test]
fn links_and_squatters() {
    let dir = Dir::new();
    let id = Id::new();
    id.options().size(MIB).create().expect("created");
    let link = dir.0.join("link");
    std::os::unix::fs::symlink(id.path(), &link).expect("linked");
    says(Options::new().path(&link).attach(), &["symbolic link", "give the path of the segment itself"]);
    let taken = dir.0.join("taken");
    std::fs::write(&taken, "somebody else's notes, more than a header long".repeat(10)).expect("written");
    says(Options::new().path(&taken).attach(), &["is not a segment", "check the name, or choose another one"]);
    says(Options::new().path(&taken).size(MIB).open_or_create(), &["is not a segment", "left untouched"]);
    says(Options::new().path(&taken).size(MIB).create(), &["exists already", "choose another id"]);
    says(Options::new().path(&dir.0).id(id.0).attach(), &["there is no segment", "create it first"]);
}

/// A segment that is full says what is free, in one piece and altogether.
#[test]
fn a_full_segment() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let sector = handler.stats().expect("sound").sector_bytes as usize;
    let all = handler.allocate_raw(sector).expect("empty");
    says(handler.allocate_raw(1), &["out of memory", "0 bytes are free", "heal()", "larger segment"]);
    handler.free_raw(all).expect("live");
    let one = handler.allocate::<[u8; 64]>().expect("room");
    says(handler.allocate_raw(sector), &["free blocks, call heal()"]);
    handler.free(one);
}

/// A place where nothing can be made: it says which, and what else there is.
#[test]
fn places_where_nothing_can_be_made() {
    let words = ["Options::path", "Options::memfd"];
    says(
        Options::new().path("/dev/shm/nowhere/at/all").size(MIB).create(),
        &[&words[..], &["/dev/shm/nowhere/at"]].concat(),
    );
    if let Some(mount) = Mount::new("tmpfs", "ro") {
        says(Options::new().path(mount.path()).size(MIB).create(), &[&words[..], &["Read-only file system"]].concat());
    }
    // Space there is, but no room for another file.
    if let Some(mount) = Mount::new("tmpfs", "size=8m,nr_inodes=1") {
        let made = Options::new().path(mount.path()).size(MIB).create();
        says(made, &[&words[..], &["no room for another file", "df -i"]].concat());
    }
}

/// A file that is cut under its users ends them, as it would any program; newcomers are told.
#[test]
fn a_named_file_that_is_cut() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(4 * MIB).create().expect("created");
    let path = handler.matrix().segment().path().expect("named").to_owned();
    drop(handler);
    let mut user = child("limits::has_its_file_cut", &scratch.0.to_string());
    told(&mut user, "MAPPED");
    let file = std::fs::File::options().write(true).open(&path).expect("ours");
    file.set_len(4096).expect("cut");
    user.stdin.take().expect("piped").write_all(b"go").expect("told");
    let out = user.wait_with_output().expect("it ends");
    assert_eq!(out.status.signal(), Some(Signal::BUS.as_raw()), "{out:?}");
    says(
        scratch.options().attach(),
        &["has 4096 bytes, expected 4194304", "it was cut", "unlink it and make a new one"],
    );
    // Sealed, it can't be cut: `a_sealed_segment_is_passed_to_another_process_by_descriptor`.
}

#[test]
#[ignore = "a role: dies of SIGBUS"]
fn has_its_file_cut() {
    let Some(id) = argument() else { return };
    let handler = Options::new().id(id.parse().expect("an id")).attach().expect("attached");
    println!("\nMAPPED 1");
    let _ = std::io::stdin().read_exact(&mut [0]);
    let _ = handler.stats();
    println!("survived");
}

/// A segment takes one descriptor of a process, whatever it does with it, and however many handlers and threads it has.
#[test]
fn a_segment_takes_one_descriptor() {
    let scratch = Scratch::new();
    scratch.options().size(MIB).create().expect("created");
    succeed(child("limits::counts_descriptors", &scratch.0.to_string()));
}

#[test]
#[ignore = "a role: counts its descriptors"]
fn counts_descriptors() {
    let Some(id) = argument() else { return };
    let open = || std::fs::read_dir("/proc/self/fd").expect("readable").count();
    let before = open();
    let handler = Options::new().id(id.parse().expect("an id")).attach().expect("attached");
    assert_eq!(open() - before, 1);
    let use_it = || handler.free_raw(handler.allocate_raw(100).expect("room")).expect("live");
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(use_it))));
    handler.heal().expect("a slot");
    assert_eq!((open() - before, handler.participants().iter().all(|participant| participant.alive)), (1, true));
}

/// Sandboxes may refuse membarrier(2): segments made there do without, and others' say what they need.
#[test]
fn no_membarrier() {
    let scratch = Scratch::new();
    scratch.options().size(MIB).create().expect("created");
    print!("{}", succeed(child("limits::without_membarrier", &scratch.0.to_string())));
}

#[test]
#[ignore = "a role: may not call membarrier"]
fn without_membarrier() {
    let Some(id) = argument() else { return };
    if !cfg!(target_arch = "x86_64") {
        return println!("skipped: the filter is written for x86-64");
    }
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_membarrier as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: gives up rights of this thread alone; the program outlives the call.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    if refused != 0 {
        return println!("skipped: no filter for system calls: {}", std::io::Error::last_os_error());
    }
    let words = ["membarrier(2)", "allow the call", "Options::biased(false)"];
    says(Options::new().id(id.parse().expect("an id")).attach(), &words);
    says(Options::new().memfd().size(MIB).biased(true).create(), &words);
    let handler = Options::new().memfd().size(MIB).create().expect("it does without");
    handler.free_raw(handler.allocate_raw(100).expect("room")).expect("live");
}

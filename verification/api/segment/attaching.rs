//! Attaching to what is there: squatters, damage, strangers, half-made segments.

use crate::support::{Dir, Id, MIB, argument, child, mark, succeed};
use atomic_matrix::Error;
use atomic_matrix::segment::{Options, Segment};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Puts `bytes` under the name; attaching must fail, quickly, and leave them untouched.
fn refused(id: &Id, bytes: &[u8]) -> Error {
    let _ = std::fs::remove_file(id.path());
    std::fs::write(id.path(), bytes).expect("written");
    let error = id.options().attach_segment().expect_err("not a segment");
    let second = id.options().size(MIB).open_or_create_segment().expect_err("not a segment");
    assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&second), "{error} / {second}");
    assert!(std::fs::read(id.path()).expect("still there") == bytes, "the file was changed");
    error
}

/// The bytes of a valid segment, without a name.
fn valid() -> (Id, Vec<u8>) {
    let id = Id::new();
    id.options().size(MIB).create_segment().expect("created");
    let bytes = std::fs::read(id.path()).expect("readable");
    (id, bytes)
}

fn put(bytes: &mut [u8], word: usize, value: u64) {
    bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_ne_bytes());
}
fn get(bytes: &[u8], word: usize) -> u64 {
    u64::from_ne_bytes(bytes[word * 8..word * 8 + 8].try_into().expect("eight"))
}
/// Makes the checksum right again, as a forger would.
fn seal(bytes: &mut [u8]) {
    let sum = const_fnv1a_hash::fnv1a_hash_64(&bytes[16..160], None);
    put(bytes, 20, sum);
}

#[test]
fn squatters_are_refused() {
    let id = Id::new();
    assert!(matches!(refused(&id, b""), Error::WrongLength { found: 0, expected: 168, .. }));
    assert!(matches!(refused(&id, b"x"), Error::WrongLength { found: 1, .. }));
    assert!(matches!(refused(&id, &[0; 4096]), Error::NotASegment { .. }));
    assert!(matches!(refused(&id, &[0xa5; 8192]), Error::NotASegment { .. }));
    assert!(matches!(refused(&id, &vec![0xff; MIB]), Error::NotASegment { .. }));
}

#[test]
fn damaged_segments_are_refused_and_both_sides_named() {
    let (id, good) = valid();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        refused(&id, &bytes)
    };
    assert!(matches!(changed(&|b| b.truncate(8192)), Error::WrongLength { expected: 0x10_0000, found: 8192, .. }));
    assert!(matches!(changed(&|b| b.truncate(100)), Error::WrongLength { expected: 168, found: 100, .. }));
    assert!(matches!(changed(&|b| b.extend([0; 4096])), Error::WrongLength { .. }));
    assert!(matches!(changed(&|b| put(b, 2, 1)), Error::NotASegment { .. }));
    let error = changed(&|b| put(b, 3, 99));
    assert!(matches!(error, Error::WrongVersion { found: 99, .. }) && error.to_string().contains("99"), "{error}");
    // All words in the other byte order; then only one that a mixed-up writer left.
    let swapped = |b: &mut Vec<u8>, words: std::ops::Range<usize>| {
        words.for_each(|w| {
            let word = get(b, w);
            put(b, w, word.swap_bytes());
        })
    };
    assert!(matches!(changed(&|b| swapped(b, 0..21)), Error::WrongEndianness { .. }));
    assert!(matches!(changed(&|b| swapped(b, 2..21)), Error::WrongEndianness { .. }));
    assert!(matches!(changed(&|b| swapped(b, 4..5)), Error::WrongEndianness { .. }));
    assert!(matches!(changed(&|b| put(b, 6, 33)), Error::HeaderDamaged { .. }));
    // Forged with a right checksum.
    let forged = |word: usize, value: u64| {
        changed(&|b| {
            put(b, word, value);
            seal(b);
        })
    };
    for word in [5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 18] {
        for value in [u64::MAX, 1 << 40, 1 << 31, 99_999] {
            if (word, value) == (15, 99_999) {
                continue; // The size asked for is a memory aid: any that is not larger than the file will do.
            }
            let error = forged(word, value);
            assert!(
                matches!(error, Error::LayoutMismatch { found, .. } if found == value || word < 12),
                "{word}: {error}"
            );
        }
    }
    assert!(matches!(forged(19, 0), Error::LayoutMismatch { what: "creation number", found: 0, .. }));
    for value in [0, 4096, 1 << 62] {
        assert!(matches!(forged(14, value), Error::LayoutMismatch { .. } | Error::WrongLength { .. }));
    }
    assert!(matches!(forged(16, 5), Error::IdMismatch { asked, .. } if asked == id.0));
    // And the untouched bytes are a segment.
    std::fs::write(id.path(), &good).expect("written");
    id.options().attach_segment().expect("valid");
}

#[test]
fn random_headers_never_harm() {
    let (id, good) = valid();
    let file = File::options().write(true).open(id.path()).expect("writable");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..2_000 {
        let mut bytes = good[..168].to_vec();
        for _ in 0..=random() % 3 {
            let value = random() >> (random() % 64);
            put(&mut bytes, 2 + (random() % 18) as usize, value);
        }
        seal(&mut bytes);
        file.write_all_at(&bytes, 0).expect("written");
        if let Ok(segment) = id.options().attach_segment() {
            assert!(segment.layout().bytes() <= segment.len() as u64 && segment.len() == MIB);
            mark(&segment, None);
        }
    }
}

#[test]
fn what_is_asked_is_compared() {
    let id = Id::new();
    id.options().size(1_000_000).granule(32).participants(40).create_segment().expect("created");
    let error = id.options().size(2_000_000).attach_segment().expect_err("another size");
    assert!(matches!(error, Error::SizeMismatch { asked: 2_000_000, found: 1_000_000 }), "{error}");
    assert!(error.to_string().contains("2000000") && error.to_string().contains("1000000"));
    let smaller = id.options().size(500_000).open_or_create_segment();
    assert!(matches!(smaller, Err(Error::SizeMismatch { asked: 500_000, .. })));
    assert_eq!(std::fs::metadata(id.path()).expect("named").len(), 1_003_520, "never resized");
    for size in [1_000_000, 1_003_520] {
        id.options().size(size).attach_segment().expect("the same size");
    }
    let granule = id.options().granule(64).attach_segment();
    assert!(matches!(granule, Err(Error::LayoutMismatch { expected: 64, found: 32, .. })));
    let slots = id.options().participants(41).attach_segment();
    assert!(matches!(slots, Err(Error::LayoutMismatch { expected: 41, found: 40, .. })));
    let strict = id.options().strict(true).attach_segment();
    assert!(matches!(strict, Err(Error::LayoutMismatch { expected: 1, found: 0, .. })));
    id.options().granule(32).participants(40).strict(false).attach_segment().expect("the same");
    let other = Options::new().path(id.path()).id(uuid::Uuid::nil()).attach_segment();
    assert!(matches!(other, Err(Error::IdMismatch { .. })));
}

#[test]
fn links_and_special_files_are_refused() {
    let (id, dir) = (Id::new(), Dir::new());
    let made = id.options().size(MIB).create_segment().expect("created");
    let link = dir.0.join("link");
    std::os::unix::fs::symlink(id.path(), &link).expect("linked");
    let at = |path: &Path| Options::new().path(path).attach_segment();
    assert!(matches!(at(&link), Err(Error::Symlink { name }) if name == link));
    assert!(matches!(Options::new().path(&link).size(MIB).open_or_create_segment(), Err(Error::Symlink { .. })));
    drop(made);

    let pipe = dir.0.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).expect("made");
    assert!(matches!(at(&pipe), Err(Error::NotAFile { kind: "pipe", .. })));
    let socket = dir.0.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    assert!(matches!(at(&socket), Err(Error::NotAFile { .. })));
    assert!(matches!(at(Path::new("/dev/null")), Err(Error::NotAFile { kind: "character device", .. })));
    let named_dir = dir.0.join(format!("atomic-matrix-{}", id.0));
    std::fs::create_dir(&named_dir).expect("made");
    assert!(matches!(
        Options::new().path(&dir.0).id(id.0).attach_segment(),
        Err(Error::NotAFile { kind: "directory", .. })
    ));
    assert!(matches!(at(&dir.0), Err(Error::BadOption { option: "id", .. })));
    assert!(matches!(at(&dir.0.join("none")), Err(Error::NotFound { .. })));
    assert!(matches!(at(&dir.0.join("none/such")), Err(Error::Io { .. })));
    assert!(matches!(Options::new().attach_segment(), Err(Error::BadOption { option: "id", .. })));
}

#[test]
fn strangers_segments_are_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a file away");
        return;
    }
    let id = Id::new();
    id.options().size(MIB).create_segment().expect("created");
    std::os::unix::fs::chown(id.path(), Some(12_345), None).expect("given away");
    let error = id.options().attach_segment().expect_err("a stranger's");
    assert!(matches!(error, Error::WrongOwner { owner: 12_345, .. }), "{error}");
    assert!(error.to_string().contains("trust_owner(12345)"), "{error}");
    assert!(id.options().trust_owner(1).attach_segment().is_err());
    id.options().trust_owner(1).trust_owner(12_345).attach_segment().expect("trusted");
}

#[test]
fn other_users_need_the_creators_leave() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let outcome = |options: Options| {
        let id = Id::new();
        options.id(id.0).size(MIB).create_segment().expect("created");
        let file = File::open("/proc/self/exe").expect("this binary");
        let ran = Command::new("setpriv")
            .args(["--reuid=12345", "--regid=12345", "--clear-groups", "--"])
            .arg(format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file)))
            .args(["--exact", "attaching::visitor", "--ignored", "--nocapture", "--test-threads=1"])
            .env("SEGMENT_TEST_ARGUMENT", id.0.to_string())
            .output();
        match ran {
            Ok(out) if out.status.success() => Some(String::from_utf8_lossy(&out.stdout).into_owned()),
            other => {
                println!("skipped: can't run as another user: {other:?}");
                None
            }
        }
    };
    let says = |options, expected: &str| {
        if let Some(text) = outcome(options) {
            assert!(text.contains(expected), "{text}");
        }
    };
    says(Options::new(), "VISITOR no permission to open");
    says(Options::new().mode(0o660), "VISITOR no permission to open");
    says(Options::new().mode(0o660).group(12_345), "VISITOR attached");
    says(Options::new().mode(0o666), "VISITOR attached");
}

#[test]
#[ignore = "a role: another user"]
fn visitor() {
    let Some(id) = argument() else { return };
    let id = id.parse().expect("an id");
    match Options::new().id(id).attach_segment() {
        Ok(_) => println!("VISITOR attached"),
        Err(e) => println!("VISITOR {e}"),
    }
}

#[test]
fn a_creator_that_died_is_named_at_once() {
    let dir = Dir::new();
    let file = dir.0.join("half");
    let mut maker = child("attaching::dies_while_formatting", file.to_str().expect("text"));
    // The role says so once it is inside the callback; then it is killed there.
    let mut line = String::new();
    let mut out = std::io::BufReader::new(maker.stdout.take().expect("piped"));
    while !line.contains("FORMATTING") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut out, &mut line).expect("readable") > 0, "the role ended");
    }
    let early = Options::new().path(&file).patience(Duration::from_millis(20)).attach_segment();
    let pid = u64::from(maker.id());
    assert!(matches!(early, Err(Error::NotReady { pid: Some(p), .. }) if p == pid), "{early:?}");
    maker.kill().expect("killed");
    maker.wait().expect("reaped");
    let late = Options::new().path(&file).patience(Duration::from_secs(600)).attach_segment();
    assert!(matches!(late, Err(Error::CreatorDied { pid: p, .. }) if p == pid), "{late:?}");
    assert!(late.expect_err("died").to_string().contains(&pid.to_string()));
    assert!(Options::new().path(&file).size(MIB).open_or_create_segment().is_err());
    std::fs::remove_file(&file).expect("as the message says");
    Options::new().path(&file).size(MIB).open_or_create_segment().expect("made anew");
}

#[test]
#[ignore = "a role: is killed while it formats"]
fn dies_while_formatting() {
    let Some(path) = argument() else { return };
    let made = Options::new().path(path).size(MIB).named_creation(true).create_segment_with(|_| {
        println!("FORMATTING");
        std::thread::sleep(Duration::from_secs(60));
    });
    drop(made);
}

#[test]
fn a_creator_killed_before_the_name_leaves_nothing() {
    let dir = Dir::new();
    let mut maker = child("attaching::dies_unnamed", dir.0.to_str().expect("text"));
    let mut out = std::io::BufReader::new(maker.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("FORMATTING") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut out, &mut line).expect("readable") > 0, "the role ended");
    }
    maker.kill().expect("killed");
    maker.wait().expect("reaped");
    assert_eq!(dir.names(), Vec::<String>::new());
}

#[test]
#[ignore = "a role: is killed while it formats"]
fn dies_unnamed() {
    let Some(path) = argument() else { return };
    let made = Options::new().path(path).size(MIB).create_segment_with(|_| {
        println!("FORMATTING");
        std::thread::sleep(Duration::from_secs(60));
    });
    drop(made);
}

#[test]
fn a_name_before_its_segment_is_waited_for_where_that_can_be() {
    let id = Id::new();
    std::fs::write(id.path(), b"").expect("written");
    let waited = id.options().named_creation(true).patience(Duration::from_millis(20)).attach_segment();
    assert!(matches!(waited, Err(Error::NotReady { pid: None, .. })), "{waited:?}");
    let joined = std::thread::scope(|scope| {
        let waiter =
            scope.spawn(|| id.options().named_creation(true).patience(Duration::from_secs(600)).attach_segment());
        let (other, bytes) = valid();
        // The same bytes under the awaited id: grown in place, as a creator would.
        let mut bytes = bytes;
        let (high, low) = id.0.as_u64_pair();
        put(&mut bytes, 16, high);
        put(&mut bytes, 17, low);
        seal(&mut bytes);
        let file = File::options().write(true).open(id.path()).expect("writable");
        file.set_len(bytes.len() as u64).expect("grown");
        file.write_all_at(&bytes[8..], 8).expect("written");
        file.write_all_at(&bytes[..8], 0).expect("written");
        drop(other);
        waiter.join().expect("no panic")
    });
    assert_eq!(joined.expect("ready in the end").id(), id.0);
}

#[test]
fn offsets_mean_the_same_at_two_addresses() {
    let id = Id::new();
    let first = id.options().size(MIB).create_segment().expect("created");
    let second = id.options().attach_segment().expect("attached");
    assert_ne!(first.base(), second.base());
    let other_process = child("attaching::reads_the_mark", &id.0.to_string());
    mark(&first, Some(201));
    assert_eq!(mark(&second, None), 201);
    assert!(succeed(other_process).contains("READ 201"));
}

#[test]
#[ignore = "a role: another process"]
fn reads_the_mark() {
    let Some(id) = argument() else { return };
    let segment: Segment = Options::new().id(id.parse().expect("an id")).attach_segment().expect("attached");
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_secs(60) {
        let value = mark(&segment, None);
        if value != 0 {
            println!("READ {value}");
            return;
        }
        std::thread::yield_now();
    }
    panic!("no mark was seen");
}

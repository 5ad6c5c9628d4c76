//! Creating: sizes, rights, space, names.

use crate::support::{Dir, Id, MIB, Mount, argument, child, mark, succeed};
use atomic_matrix::Error;
use atomic_matrix::backend::{Word, orderings};
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::MAX_PARTICIPANTS;
use atomic_matrix::segment::region::{Region, WordIndex};
use rustix::fs::SealFlags;
use rustix::io::FdFlags;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use uuid::Uuid;

#[test]
fn a_segment_is_created_attached_and_unlinked() {
    let id = Id::new();
    let made = id.options().size(MIB).create_segment().expect("created");
    assert!(made.created() && made.len() == MIB && made.id() == id.0 && made.path() == Some(&*id.path()));
    assert_eq!((made.offset_unit(), made.strict()), (1, false));
    let other = id.options().attach_segment().expect("attached");
    assert!(!other.created() && other.base() != made.base() && other.layout() == made.layout());
    mark(&made, Some(77));
    assert_eq!(mark(&other, None), 77);

    other.unlink().expect("first");
    other.unlink().expect("second: nothing to do");
    made.unlink().expect("the name is gone already");
    assert!(!id.path().exists());
    assert!(matches!(id.options().attach_segment(), Err(Error::NotFound { .. })));
    mark(&made, Some(78));
    assert_eq!(mark(&other, None), 78, "those attached go on");
}

#[test]
fn a_name_made_anew_is_not_unlinked_by_the_old_segment() {
    let id = Id::new();
    let old = id.options().size(MIB).create_segment().expect("created");
    let witness = id.options().attach_segment().expect("attached");
    old.unlink().expect("unlinked");
    let new = id.options().size(2 * MIB).create_segment().expect("created anew");
    assert!(matches!(witness.unlink(), Err(Error::NameReplaced { name }) if name == id.path()));
    old.unlink().expect("it has removed its own name: nothing to do");
    assert_eq!(id.options().attach_segment().expect("still there").len(), new.len());
}

#[test]
fn a_taken_name_is_refused() {
    let id = Id::new();
    let made = id.options().size(MIB).create_segment().expect("created");
    assert!(matches!(id.options().size(MIB).create_segment(), Err(Error::AlreadyExists { .. })));
    assert!(matches!(id.options().size(MIB).named_creation(true).create_segment(), Err(Error::AlreadyExists { .. })));
    assert_eq!(mark(&made, None), 0);
    std::fs::remove_file(id.path()).expect("removed");
    std::os::unix::fs::symlink("/nonexistent", id.path()).expect("linked");
    assert!(matches!(id.options().size(MIB).create_segment(), Err(Error::AlreadyExists { .. })), "a dangling link");
}

#[test]
fn the_heap_formats_before_the_name_appears() {
    for named in [false, true] {
        let id = Id::new();
        let made = id
            .options()
            .size(MIB)
            .named_creation(named)
            .create_segment_with(|region| {
                region.word(WordIndex(region.layout().words - 1)).store(42, &orderings::FORMAT);
                assert_eq!(id.path().exists(), named);
                let early = id.options().named_creation(named).patience(std::time::Duration::ZERO).attach_segment();
                match early {
                    Err(Error::NotReady { pid: Some(pid), .. }) => {
                        assert!(named && pid == u64::from(std::process::id()))
                    }
                    Err(Error::NotFound { .. }) => assert!(!named),
                    other => panic!("{other:?}"),
                }
            })
            .expect("created");
        let other = id.options().attach_segment().expect("attached");
        for segment in [&made, &other] {
            assert_eq!(segment.word(WordIndex(segment.layout().words - 1)).load(&orderings::DIR_LOOK), 42);
        }
    }
}

#[test]
fn a_panic_while_formatting_leaves_no_name() {
    for named in [false, true] {
        let dir = Dir::new();
        let options = Options::new().path(&dir.0).size(MIB).named_creation(named);
        let panicked = std::thread::spawn(move || options.create_segment_with(|_| panic!("on purpose")).is_ok()).join();
        assert!(panicked.is_err());
        assert_eq!(dir.names(), Vec::<String>::new());
    }
}

#[test]
fn a_failed_creation_leaves_no_name() {
    let dir = Dir::new();
    for named in [false, true] {
        let options = || Options::new().path(&dir.0).named_creation(named);
        assert!(matches!(options().create_segment(), Err(Error::BadOption { option: "size", .. })));
        assert!(matches!(
            options().size(1).create_segment(),
            Err(Error::SegmentTooSmall { asked: 1, minimum: 4097.. })
        ));
        assert!(matches!(options().size(0).create_segment(), Err(Error::SegmentTooSmall { .. })));
        assert!(matches!(options().size(usize::MAX).create_segment(), Err(Error::SegmentTooLarge { .. })));
        assert!(matches!(options().size(1 << 50).create_segment(), Err(Error::SegmentTooLarge { .. })));
        let error = options().size(1 << 43).granule(65_536).create_segment().expect_err("8 TiB of memory");
        assert!(
            matches!(&error, Error::NoSpace { needed, free, hint } if needed > free && hint.contains("tmpfs")),
            "{error}"
        );
        assert_eq!(dir.names(), Vec::<String>::new());
    }
}

#[test]
fn bad_options_are_named() {
    let bad = |options: Options, name| match options.size(MIB).create_segment() {
        Err(Error::BadOption { option, .. }) => assert_eq!(option, name),
        other => panic!("{name}: {other:?}"),
    };
    for granule in [0, 1, 8, 48, 65, 131_072, usize::MAX] {
        bad(Options::new().granule(granule), "granule");
    }
    for slots in [0, MAX_PARTICIPANTS + 1, usize::MAX] {
        bad(Options::new().participants(slots), "participants");
    }
    for mode in [0, 0o400, 0o066, 0o4600, 0o100_600, u32::MAX, 0o622, 0o620, 0o662, 0o602] {
        bad(Options::new().mode(mode), "mode");
    }
    bad(Options::new().group(u32::MAX), "group");
    bad(Options::new().name(""), "name");
}

#[test]
fn a_name_stands_for_one_id() {
    let name = format!("camera {}", Uuid::new_v4());
    let id = |name: &str| Uuid::new_v5(&Options::NAMES, name.as_bytes());
    let made = Options::new().name(&name).size(MIB).open_or_create_segment().expect("made");
    assert_eq!((made.id(), made.created()), (id(&name), true));
    let other = Options::new().name(&name).attach_segment().expect("by its name");
    assert_eq!(other.id(), made.id());
    made.unlink().expect("ours");
    // What other languages compute, and what programs of other versions have.
    assert_eq!(id("camera"), uuid::uuid!("1d93ea83-b680-56da-a94e-9cea40609004"));
    assert_ne!(id("camera"), id("Camera"));
}

#[test]
fn parameters_are_kept() {
    let dir = Dir::new();
    let file = dir.0.join("of my own name");
    let made = Options::new().path(&file).size(3 * MIB + 1).granule(128).participants(7).strict(true);
    let made = made.create_segment().expect("created");
    assert_eq!((made.len(), made.requested_len()), (3 * MIB + 4096, 3 * MIB as u64 + 1));
    let other = Options::new().path(&file).attach_segment().expect("a file's path is enough");
    assert_eq!(other.id(), made.id());
    assert_eq!((other.layout().params.granule(), other.layout().params.participants), (128, 7));
    assert!(other.strict());
    assert_eq!(dir.names(), ["of my own name"]);
}

#[test]
fn mode_group_and_close_on_exec() {
    for (options, mode) in
        [(Options::new(), 0o600), (Options::new().mode(0o660), 0o660), (Options::new().mode(0o666), 0o666)]
    {
        for named in [false, true] {
            let id = Id::new();
            let group = rustix::process::getegid().as_raw();
            let made = options.clone().id(id.0).size(MIB).group(group).named_creation(named);
            let made = made.create_segment().expect("created");
            let found = std::fs::metadata(id.path()).expect("named");
            assert_eq!((found.permissions().mode() & 0o7777, found.gid()), (mode, group));
            let other = id.options().attach_segment().expect("attached");
            for segment in [made, other] {
                assert!(rustix::io::fcntl_getfd(segment.fd()).expect("open").contains(FdFlags::CLOEXEC));
            }
        }
    }
    if rustix::process::geteuid().is_root() {
        let id = Id::new();
        id.options().size(MIB).group(12_345).create_segment().expect("created");
        assert_eq!(std::fs::metadata(id.path()).expect("named").gid(), 12_345);
    }
}

#[test]
fn space_is_reserved_unless_told_otherwise() {
    let id = Id::new();
    let made = id.options().size(4 * MIB).create_segment().expect("created");
    assert!(std::fs::metadata(id.path()).expect("named").blocks() * 512 >= made.len() as u64);
    let sparse = Id::new();
    let made = sparse.options().size(64 << 30).reserve(false).create_segment().expect("created");
    assert_eq!((made.len(), made.offset_unit()), (64 << 30, 256));
    mark(&made, Some(9));
    let other = sparse.options().attach_segment().expect("attached");
    assert_eq!(mark(&other, None), 9);
    assert!(std::fs::metadata(sparse.path()).expect("named").blocks() * 512 < MIB as u64);
}

#[test]
fn populate_and_huge_pages() {
    let id = Id::new();
    let made = id.options().size(4 * MIB).populate(true).huge_pages(true).create_segment().expect("created");
    id.options().populate(true).attach_segment().expect("attached");
    mark(&made, Some(1));
}

#[test]
fn a_full_tmpfs_is_an_error_not_a_signal() {
    let Some(mount) = Mount::new("tmpfs", "size=1m") else { return };
    for named in [false, true] {
        let options = || Options::new().path(mount.path()).named_creation(named);
        let error = options().size(2 * MIB).create_segment().expect_err("does not fit");
        assert!(matches!(&error, Error::NoSpace { needed: 0x20_0000, free: 1..=0x10_0000, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("2097152") && text.contains("1048576") && text.contains("--shm-size"), "{text}");
        assert!(matches!(options().size(2 * MIB).open_or_create_segment(), Err(Error::NoSpace { .. })));
        assert_eq!(mount.0.names(), Vec::<String>::new());

        let half = options().size(MIB / 2).create_segment().expect("half of it fits");
        assert!(matches!(options().size(MIB * 3 / 4).create_segment(), Err(Error::NoSpace { .. })));
        let sparse = options().size(MIB * 3 / 4).reserve(false).create_segment().expect("sparse ones always fit");
        let populated = options().size(2 * MIB).reserve(false).populate(true).create_segment();
        assert!(matches!(populated, Err(Error::NotPopulated { .. })), "{populated:?}");
        assert_eq!(mount.0.names().len(), 2);
        half.unlink().expect("unlinked");
        sparse.unlink().expect("unlinked");
    }
}

#[test]
fn a_segment_on_hugetlbfs() {
    let free = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = free.lines().find_map(|line| line.strip_prefix("HugePages_Free:")?.trim().parse::<u64>().ok());
    let Some(mount) = Mount::new("hugetlbfs", "size=64m") else { return };
    let made = Options::new().path(mount.path()).size(MIB).create_segment();
    match (free, made) {
        (Some(1..), Ok(made)) => {
            assert_eq!(made.len() % (2 * MIB), 0);
            mark(&made, Some(5));
            let other = Options::new().path(mount.path()).id(made.id()).attach_segment().expect("attached");
            assert_eq!(mark(&other, None), 5);
            made.unlink().expect("unlinked");
        }
        (_, Err(Error::NoSpace { .. })) => println!("no huge pages are set aside: the error is right"),
        (_, other) => panic!("{other:?}"),
    }
    assert_eq!(mount.0.names(), Vec::<String>::new());
}

#[test]
fn the_file_size_limit_is_an_error_not_a_signal() {
    succeed(child("creating::limited", ""));
}

#[test]
#[ignore = "a role: lowers its process's limits"]
fn limited() {
    if argument().is_none() {
        return;
    }
    let limit = rustix::process::Rlimit { current: Some(MIB as u64), maximum: Some(MIB as u64) };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).expect("lowered");
    for options in [Options::new(), Options::new().reserve(false), Options::new().memfd()] {
        let error = options.size(2 * MIB).create_segment().expect_err("too large for the limit");
        assert!(matches!(error, Error::FileSizeLimit { needed: 0x20_0000, limit: 0x10_0000 }), "{error}");
    }
    Options::new().size(MIB).create_segment().expect("as large as the limit").unlink().expect("unlinked");
}

#[test]
fn a_memory_file_is_sealed_and_passed_by_descriptor() {
    let made = Options::new().memfd().size(MIB).create_segment().expect("created");
    assert_eq!(made.path(), None);
    let seals = rustix::fs::fcntl_get_seals(made.fd()).expect("a memory file");
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    assert!(rustix::fs::ftruncate(made.fd(), 4096).is_err() && rustix::fs::ftruncate(made.fd(), 1 << 30).is_err());

    let passed = made.fd().try_clone_to_owned().expect("duplicated");
    let options = Options::from_fd(passed).id(made.id()).size(MIB);
    let other = options.attach_segment().expect("attached");
    mark(&made, Some(3));
    assert_eq!(mark(&other, None), 3);
    assert!(rustix::io::fcntl_getfd(other.fd()).expect("open").contains(FdFlags::CLOEXEC));
    // Locks belong to open file descriptions: the two attachments have one each.
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(made.fd(), lock).expect("locked");
    assert!(rustix::fs::flock(other.fd(), lock).is_err());
    other.unlink().expect("nothing to do");
    assert!(!options.open_or_create_segment().expect("attached").created());
    assert!(matches!(options.create_segment(), Err(Error::BadOption { option: "from_fd", .. })));
    assert!(matches!(Options::new().memfd().attach_segment(), Err(Error::BadOption { option: "memfd", .. })));
    assert!(Options::new().memfd().size(MIB).open_or_create_segment().expect("created").created());
}

#[test]
fn a_descriptor_must_be_a_writable_segment() {
    let id = Id::new();
    id.options().size(MIB).create_segment().expect("created");
    let read_only = std::fs::File::open(id.path()).expect("readable");
    assert!(matches!(
        Options::from_fd(read_only.into()).attach_segment(),
        Err(Error::BadOption { option: "from_fd", .. })
    ));
    let full = std::fs::File::options().read(true).write(true).open(id.path()).expect("writable");
    Options::from_fd(full.into()).attach_segment().expect("a named file's descriptor works as well");
    let (pipe, _other) = std::io::pipe().expect("made");
    let pipe = pipe.as_fd().try_clone_to_owned().expect("duplicated");
    assert!(Options::from_fd(pipe).attach_segment().is_err());
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").expect("there");
    assert!(matches!(Options::from_fd(null.into()).attach_segment(), Err(Error::NotAFile { .. })));
    let empty = rustix::fs::memfd_create("empty", rustix::fs::MemfdFlags::CLOEXEC).expect("made");
    assert!(matches!(Options::from_fd(empty).attach_segment(), Err(Error::WrongLength { found: 0, .. })));
}

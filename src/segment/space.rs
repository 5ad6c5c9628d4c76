//! Room for a segment: asked for before anything is taken, and taken before anything is written.
//!
//! A full tmpfs answers an access to a page that it can't provide with SIGBUS, a file size limit with SIGXFSZ, a memory
//! limit with the out-of-memory killer. So the limits are read first, and then the space is reserved.

use crate::error::{Error, Result};
use crate::kernel::{again, text, write_at};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// Bytes reserved in one call: few enough that a timer signal can't interrupt every attempt.
const RESERVE_STEP: u64 = 64 << 20;
/// The kernel's number for tmpfs.
const TMPFS: u64 = 0x0102_1994;
/// The kernel's number for hugetlbfs.
const HUGETLBFS: u64 = 0x9584_58f6;

/// What matters about the file system that a file is on. Sizes are in bytes.
pub(crate) struct FileSystem {
    pub(crate) page: u64,
    pub(crate) huge: bool,
    in_memory: bool,
    /// Free space and all space, if it is limited.
    room: Option<(u64, u64)>,
}

impl FileSystem {
    pub(crate) fn of(file: &File) -> Result<Self> {
        let failed = |e| Error::io("look at the segment's file system with fstatfs(2)", e);
        let kind = again(|| rustix::fs::fstatfs(file)).map_err(failed)?.f_type as u64;
        let space = again(|| rustix::fs::fstatvfs(file)).map_err(failed)?;
        let huge = kind == HUGETLBFS;
        let small = rustix::param::page_size() as u64;
        let room = (space.f_blocks != 0).then(|| {
            let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
            (bytes(space.f_bavail), bytes(space.f_blocks))
        });
        let page = if huge { space.f_bsize.max(small) } else { small };
        Ok(Self { page, huge, in_memory: kind == TMPFS, room })
    }

    /// Refuses what can't work before anything is taken: the kernel would answer with a signal, or with the
    /// out-of-memory killer.
    pub(crate) fn check_room(&self, total: u64, reserve: bool) -> Result<()> {
        if let Some(limit) = file_size_limit()
            && total > limit
        {
            return Err(Error::FileSizeLimit { needed: total, limit });
        }
        if !reserve {
            return Ok(());
        }
        match (self.room, self.in_memory.then(available_memory).flatten()) {
            (Some((free, _)), _) if free < total => Err(self.full(total, free)),
            (_, Some(free)) if free < total => {
                let hint = "that is what memory and swap have left, here or in the control group: make a smaller \
                    segment, stop something else, raise the limit, or switch Options::reserve off";
                Err(Error::NoSpace { needed: total, free, hint: hint.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Translates a failed reservation.
    #[cold]
    pub(crate) fn no_room(&self, call: &str, errno: Errno, total: u64, name: &Path) -> Error {
        match errno {
            Errno::NOSPC | Errno::NOMEM | Errno::DQUOT => {
                let room = self.room.map(|(free, _)| free);
                let table = if self.huge { text("/proc/meminfo") } else { None };
                let pages = table.and_then(|table| free_huge_pages(&table));
                self.full(total, room.into_iter().chain(pages).min().unwrap_or(0))
            }
            _ => Error::io(format!("reserve {total} bytes for {} with {call}", name.display()), errno),
        }
    }

    #[cold]
    fn full(&self, needed: u64, free: u64) -> Error {
        let size = self.room.map_or_else(|| "without a limit".to_owned(), |(_, all)| format!("of {all} bytes"));
        let hint = match (self.huge, self.in_memory) {
            (true, _) => format!("the hugetlbfs {size} needs more huge pages (/proc/sys/vm/nr_hugepages)"),
            (_, true) => format!(
                "the tmpfs {size} is too small or full: remove stale atomic-matrix-* files, enlarge it (mount -o \
                 remount,size=...; docker run --shm-size=...), raise the memory limit of the control group, or choose \
                 another place with Options::path"
            ),
            _ => format!("the file system {size} is too small or full: choose another place with Options::path"),
        };
        Error::NoSpace { needed, free, hint }
    }
}

/// The most bytes that a file of this process's may have, if there is a limit, and the kernel tells.
fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // Not through rustix, which panics where a sandbox refuses the call.
    // SAFETY: the kernel writes one rlimit.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    (told == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Takes the space of the file's bytes `from..to`.
pub(crate) fn reserve(file: &File, from: u64, to: u64) -> std::result::Result<(), Errno> {
    let mut done = from;
    while done < to {
        let step = RESERVE_STEP.min(to - done);
        match again(|| rustix::fs::fallocate(file, FallocateFlags::empty(), done, step)) {
            Ok(()) => done += step,
            // A sandbox that does not know the call, too.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return write_zeros(file, done, to),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What fallocate does, on file systems that can't: the file is new, so zeros change nothing.
fn write_zeros(file: &File, from: u64, to: u64) -> std::result::Result<(), Errno> {
    let zeros = vec![0; 1 << 20];
    let mut done = from;
    while done < to {
        let step = (to - done).min(zeros.len() as u64);
        write_at(file, &zeros[..step as usize], done)?;
        done += step;
    }
    Ok(())
}

/// A number of the kernel's table of memory: `MemAvailable` for instance.
fn meminfo(table: &str, key: &str) -> Option<u64> {
    let mut fields = table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.split_whitespace();
    let number: u64 = fields.next()?.parse().ok()?;
    Some(if fields.next() == Some("kB") { number << 10 } else { number })
}

/// Bytes of memory and swap that could still be had, if the kernel says: of the machine, and of the control group.
fn available_memory() -> Option<u64> {
    let table = text("/proc/meminfo")?;
    let machine = meminfo(&table, "MemAvailable")? + meminfo(&table, "SwapFree").unwrap_or(0);
    let groups = text("/proc/self/cgroup").unwrap_or_default();
    let least = |path: Option<&str>, root: &str, available: fn(&Path) -> Option<u64>| {
        let (root, own) = (Path::new(root), Path::new(root).join(path?));
        own.ancestors().take_while(|dir| dir.starts_with(root)).filter_map(available).min()
    };
    let second = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let first = groups.lines().find_map(|line| line.split_once(":memory:/")).map(|(_, path)| path);
    let group = [
        least(second, "/sys/fs/cgroup", available_in_group),
        least(first, "/sys/fs/cgroup/memory", available_in_old_group),
    ];
    let group = group.into_iter().flatten().min();
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// What a control group may still take: file pages that it has cached make way. None if it is not limited.
fn available_in_group(dir: &Path) -> Option<u64> {
    let read = |name: &str| text(dir.join(name));
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let stat = read("memory.stat")?;
    let cached =
        |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok()).unwrap_or(0);
    let makes_way = cached("active_file ") + cached("inactive_file ");
    let swap = match (number("memory.swap.max"), number("memory.swap.current")) {
        (Some(most), Some(taken)) => most.saturating_sub(taken),
        // Not limited in swap: the machine's free swap counts, and is in the machine's sum. Be generous.
        _ => meminfo(&text("/proc/meminfo")?, "SwapFree").unwrap_or(0),
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?).saturating_add(makes_way).saturating_add(swap))
}

/// The same for a group of version 1, whose files have other names.
fn available_in_old_group(dir: &Path) -> Option<u64> {
    let read = |name: &str| text(dir.join(name));
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let stat = read("memory.stat")?;
    let cached =
        |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok()).unwrap_or(0);
    let makes_way = cached("total_active_file ") + cached("total_inactive_file ");
    let left = |limit: &str, used: &str| Some(number(limit)?.saturating_sub(number(used)?).saturating_add(makes_way));
    let memory = left("memory.limit_in_bytes", "memory.usage_in_bytes")?;
    let swap = meminfo(&text("/proc/meminfo")?, "SwapFree").unwrap_or(0);
    // Memory and swap together may have a limit of their own.
    let both = left("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes").unwrap_or(u64::MAX);
    Some(memory.saturating_add(swap).min(both))
}

/// Bytes of huge pages (of the default size) that are neither in use nor promised.
fn free_huge_pages(table: &str) -> Option<u64> {
    let free = meminfo(table, "HugePages_Free")?.saturating_sub(meminfo(table, "HugePages_Rsvd")?);
    Some(free * meminfo(table, "Hugepagesize")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_memory_are_read() {
        let table = "MemTotal:       100 kB\nMemAvailable:    3 kB\nHugePages_Free:       7\n";
        assert_eq!(meminfo(table, "MemAvailable"), Some(3 << 10));
        assert_eq!(meminfo(table, "HugePages_Free"), Some(7));
        assert_eq!(meminfo(table, "Mem"), None);
        let huge = "HugePages_Free:       7\nHugePages_Rsvd:        2\nHugepagesize:       2048 kB\n";
        assert_eq!((free_huge_pages(huge), free_huge_pages(table)), (Some(5 << 21), None));
        assert!(available_memory().is_none_or(|bytes| bytes > 0));
    }

    /// Up to the last byte.
    #[test]
    fn what_has_room_just_so_is_not_refused() {
        let system = FileSystem { page: 4096, huge: false, in_memory: false, room: Some((7, 8)) };
        let refused = |total, reserve| system.check_room(total, reserve).is_err();
        assert_eq!([refused(7, true), refused(8, true), refused(8, false)], [false, true, false]);
    }

    #[test]
    fn what_is_full_is_told_with_what_helps() {
        let told = |huge, in_memory, room| {
            let system = FileSystem { page: 4096, huge, in_memory, room };
            let Error::NoSpace { needed: 9, free: 7, hint } = system.full(9, 7) else { panic!("there is no space") };
            hint
        };
        let room = Some((7, 8));
        assert!(told(true, false, room).starts_with("the hugetlbfs of 8 bytes needs more huge pages"));
        assert!(told(false, true, room).starts_with("the tmpfs of 8 bytes is too small or full: remove stale"));
        assert!(told(false, false, room).starts_with("the file system of 8 bytes is too small or full: choose"));
        assert!(told(false, true, None).starts_with("the tmpfs without a limit"));
    }

    #[test]
    fn a_control_groups_limit_is_read() {
        let dir = std::env::temp_dir().join(format!("atomic-matrix-group-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a temporary directory");
        let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
        put("memory.stat", "anon 5\nfile 900\nshmem 700\nactive_file 100\ninactive_file 50\n");
        put("memory.current", "1000\n");
        put("memory.swap.max", "30\n");
        put("memory.swap.current", "10\n");
        put("memory.max", "max\n");
        let unlimited = available_in_group(&dir);
        put("memory.max", "4000\n");
        let limited = available_in_group(&dir);
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!((unlimited, limited), (None, Some(4000 - 1000 + 150 + 20)));
    }

    #[test]
    fn a_limit_of_an_old_control_group_is_read() {
        let dir = std::env::temp_dir().join(format!("atomic-matrix-group-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a temporary directory");
        let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
        put("memory.stat", "cache 900\nactive_file 7\ntotal_active_file 100\ntotal_inactive_file 50\n");
        put("memory.usage_in_bytes", "1000\n");
        put("memory.limit_in_bytes", "9223372036854771712\n");
        let unlimited = available_in_old_group(&dir);
        put("memory.limit_in_bytes", "4000\n");
        put("memory.memsw.limit_in_bytes", "5000\n");
        put("memory.memsw.usage_in_bytes", "4500\n");
        let limited = available_in_old_group(&dir);
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!((unlimited.is_some_and(|bytes| bytes > 1 << 62), limited), (true, Some(5000 - 4500 + 150)));
    }
}

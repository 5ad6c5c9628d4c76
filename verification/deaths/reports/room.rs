//! 25: memory that was promised is there: a segment is made whole, or refused; whoever uses all of it does not die of SIGBUS,
//! whatever else fills the file system meanwhile. A sparse one, which promises nothing, shows that such a death would be seen.

use crate::{LONG, MIB, common, support};
use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::segment::Options;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use support::{Mount, child};

/// Writes until nothing is left.
fn fill_up(folder: &Path) {
    let mut file = std::fs::File::create(folder.join("everything else")).expect("created");
    for size in [64 << 10, 4096, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}

/// How a process ends that uses a segment to its last byte, in a file system that is full.
fn used_when_all_is_full(reserve: bool) -> Option<ExitStatus> {
    let mount = Mount::new("tmpfs", "size=8m")?;
    let path = mount.path().join("segment");
    let handler = Options::new().path(&path).size(4 * MIB).reserve(reserve).create().expect("there is room");
    fill_up(mount.path());
    let ended = child("room::uses_all_of_it", &path.display().to_string()).wait_with_output().expect("a child");
    print!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    if ended.status.success() {
        handler.reap().expect("a slot");
        common::rest_is_one_block(&handler);
    }
    Some(ended.status)
}

#[test]
fn whoever_uses_a_segment_to_its_last_byte_does_not_die_of_sigbus() {
    let Some(ended) = used_when_all_is_full(true) else { return };
    assert!(ended.success(), "{ended}");
    let sparse = used_when_all_is_full(false).expect("mounted before");
    assert_eq!(sparse.signal(), Some(libc::SIGBUS), "nothing was promised: {sparse}");
}

#[test]
fn a_segment_without_room_is_refused_and_leaves_no_file() {
    let Some(mount) = Mount::new("tmpfs", "size=8m") else { return };
    let before = mount.0.names();
    for size in [9 * MIB, 64 * MIB] {
        let refused = Options::new().path(mount.path().join("segment")).size(size).create();
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{:?}", refused.err());
        assert_eq!(mount.0.names(), before);
    }
}

#[test]
#[ignore = "a role: uses a segment in all ways, to its last byte"]
fn uses_all_of_it() {
    let Some(path) = support::argument() else { return };
    let handler = Options::new().path(path).attach().expect("it is there");
    for size in [40, 3000, 100_000] {
        through_each_structure(&handler, size);
    }
    // All of it at once, and each byte.
    let mut all = vec![];
    for items in (0..18).rev().map(|shift| 1 << shift) {
        loop {
            match handler.message_slice::<u64>(items) {
                Ok(mut message) => {
                    message.fill(items as u64);
                    all.push(message);
                }
                Err(Error::OutOfMemory { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(all.iter().all(|message| message.iter().all(|&word| word == message.len() as u64)));
    let had: usize = all.iter().map(|message| 8 * message.len()).sum();
    println!("{had} bytes in {} messages", all.len());
    assert!(had as u64 > handler.stats().expect("sound").sector_bytes * 3 / 4);
}

/// As many messages of so many words as there is memory for, in each structure that keeps some.
fn through_each_structure(handler: &Handler, words: usize) {
    let next = |k: usize| {
        let mut message = handler.message_slice::<u64>(words).ok()?;
        message.fill(k as u64);
        Some(message)
    };
    let channel = handler.channel::<[u64]>("channel").capacity(1024).create().expect("made");
    let (sender, receiver) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    let sent = (0..).map_while(|k| sender.try_send(next(k)?).ok()).count();
    let whole = receiver.try_iter().enumerate().all(|(k, message)| message.iter().all(|&word| word == k as u64));
    assert!(whole && sent > 0);
    let topic = handler.topic::<[u64]>("topic").cells(1024).open_or_create().expect("made");
    let mut subscriber = topic.subscribe(0).expect("a place");
    let published = (0..).map_while(|k| topic.try_publish(next(k)?).ok()).count();
    for k in 0..published {
        let message = subscriber.next_timeout(LONG).expect("open").expect("it was published");
        assert!(message.iter().all(|&word| word == k as u64));
    }
    drop((subscriber, channel.remove(), topic.remove(), topic));
    let map = handler.map::<[u64]>("map").capacity(1024).open_or_create().expect("made");
    let put = (0..).map_while(|k: usize| map.insert(&k.to_le_bytes(), next(k)?).ok()).count();
    for k in 0..put {
        let message = map.take(&k.to_le_bytes()).expect("a guard").expect("it was put in");
        assert!(message.iter().all(|&word| word == k as u64));
    }
    map.remove().expect("ours");
    assert!(published > 0 && put > 0);
}

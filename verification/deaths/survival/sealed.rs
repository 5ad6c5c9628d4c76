//! Untrusted peers: a sealed memory file, passed on by its descriptor (SCM_RIGHTS).

use crate::common::{MIB, Scratch};
use crate::support::{Dir, argument, child, succeed};
use atomic_matrix::Error;
use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::segment::Options;
use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

fn send(over: &UnixStream, fd: BorrowedFd<'_>) {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(over, &[IoSlice::new(b"segment")], &mut control, SendFlags::empty()).expect("sent");
}

fn receive(over: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 7];
    recvmsg(over, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).expect("received");
    let fds = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.expect("a descriptor")
}

#[test]
fn a_sealed_segment_is_passed_to_another_process_by_descriptor() {
    let dir = Dir::new();
    let socket = dir.0.join("socket");
    let listener = UnixListener::bind(&socket).expect("bound");
    let handler = Options::new().memfd().size(MIB).create().expect("created");
    let mut block = handler.allocate::<[u64; 8]>().expect("room");
    handler.store(&mut block, [42; 8]).expect("live");
    handler.publish("greeting", &block).expect("new");
    let peer = child("sealed::peer", socket.to_str().expect("text"));
    let (stream, _) = listener.accept().expect("the peer comes");
    send(&stream, handler.matrix().segment().fd());
    println!("{}", succeed(peer));
    let answer = handler.take::<[u64; 8]>("answer").expect("published by the peer");
    assert_eq!(handler.load(&answer).expect("live"), [43; 8]);
    assert_eq!(handler.participants().len(), 1, "the peer has left");
}

#[test]
#[ignore = "a role: gets a segment from somebody whom it does not trust"]
fn peer() {
    let Some(socket) = argument() else { return };
    let fd = receive(&UnixStream::connect(socket).expect("connected"));
    let handler = Options::from_sealed_fd(fd).attach().expect("sealed");
    let fd = handler.matrix().segment().fd();
    for length in [0, 4096, 2 * MIB as u64] {
        assert_eq!(rustix::fs::ftruncate(fd, length), Err(rustix::io::Errno::PERM), "nobody cuts it, not even we");
    }
    let greeting = handler.lookup::<[u64; 8]>("greeting").expect("published");
    let value = handler.load(&greeting).expect("live").map(|word| word + 1);
    let mut answer = handler.allocate::<[u64; 8]>().expect("room");
    handler.store(&mut answer, value).expect("live");
    handler.publish("answer", &answer).expect("new");
}

/// Whatever could still be cut is refused, with the seals that are missing.
#[test]
fn what_is_not_sealed_is_refused() {
    let scratch = Scratch::new();
    let named = scratch.options().size(MIB).create().expect("created");
    let bytes = std::fs::read(format!("/dev/shm/atomic-matrix-{}", scratch.0)).expect("readable");
    let copy = |seals: SealFlags| {
        let fd = rustix::fs::memfd_create("copy", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("made");
        rustix::io::pwrite(&fd, &bytes, 0).expect("written");
        rustix::fs::fcntl_add_seals(&fd, seals).expect("sealable");
        fd
    };
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    for (fd, lacks) in [
        (named.matrix().segment().fd().try_clone_to_owned().expect("duplicated"), &["SHRINK", "GROW"][..]),
        (copy(SealFlags::empty()), &["SHRINK", "GROW", "SEAL"]),
        (copy(all - SealFlags::SHRINK), &["SHRINK"]),
        (copy(all - SealFlags::GROW), &["GROW"]),
        (copy(all - SealFlags::SEAL), &["SEAL"]),
    ] {
        let unchecked = Options::from_fd(fd.as_fd().try_clone_to_owned().expect("duplicated")).attach();
        assert!(unchecked.is_ok(), "without the demand it is a segment like any other: {unchecked:?}");
        match Options::from_sealed_fd(fd).attach() {
            Err(error @ Error::NotSealed { .. }) => {
                let text = error.to_string();
                assert!(lacks.iter().all(|seal| text.contains(seal)) && text.contains("Options::memfd"), "{text}");
            }
            other => panic!("{lacks:?}: {other:?}"),
        }
    }
    Options::from_sealed_fd(copy(all)).attach().expect("sealed");
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").expect("there");
    assert!(matches!(Options::from_sealed_fd(null.into()).attach(), Err(Error::NotSealed { .. })));
}

//! ipc-channel: bytes through a socket, copied by the kernel.

use super::{In, Out, Peer, fill, read};
use crate::Outcome;
use crate::run::Task;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};
use std::time::{Duration, Instant};

pub(crate) struct Sockets(Task);
pub(crate) struct SocketOut(IpcBytesSender, Vec<u64>);
pub(crate) struct SocketIn(IpcBytesReceiver, Vec<u64>);

/// Where the receiver says how it is to be found.
fn place(task: &Task, way: usize) -> String {
    format!("/dev/shm/{}-name-{way}", task.name)
}

impl Peer for Sockets {
    type Out = SocketOut;
    type In = SocketIn;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self(task.clone()))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Self::make(task)
    }
    fn output(&self, way: usize) -> Outcome<SocketOut> {
        let end = Instant::now() + Duration::from_secs(10);
        let name = loop {
            match std::fs::read_to_string(place(&self.0, way)) {
                Ok(name) if name.ends_with('\n') => break name,
                _ if Instant::now() > end => return Err("no receiver came".into()),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let (to, from) = bytes_channel()?;
        let hello: IpcSender<IpcBytesReceiver> = IpcSender::connect(name.trim_end().to_owned())?;
        hello.send(from).map_err(|error| format!("{error:?}"))?;
        Ok(SocketOut(to, vec![0; self.0.setting.size / 8]))
    }
    fn input(&self, way: usize) -> Outcome<SocketIn> {
        let (server, name) = IpcOneShotServer::<IpcBytesReceiver>::new()?;
        std::fs::write(place(&self.0, way), name + "\n")?;
        let (_, from) = server.accept().map_err(|error| format!("{error:?}"))?;
        Ok(SocketIn(from, vec![0; self.0.setting.size / 8]))
    }
}

fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: so many bytes are the words'.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

impl Out for SocketOut {
    #[inline(always)]
    fn send(&mut self, _: usize, value: u64) -> Outcome<bool> {
        fill(&mut self.1, value);
        self.0.send(bytes(&self.1))?;
        Ok(true)
    }
}

impl In for SocketIn {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        let Ok(got) = self.0.try_recv() else { return Ok(None) };
        let words = self.1.len();
        for (word, bytes) in self.1.iter_mut().zip(got.chunks_exact(8)).step_by(8) {
            *word = u64::from_le_bytes(bytes.try_into()?);
        }
        Ok((got.len() == 8 * words).then(|| read(&self.1)))
    }
}

//! Rates of zenoh's shared memory with this back end and with zenoh's own, in turns, in one run.
//!
//! `cargo run --release --example rates` prints a table; `-- --json` the values; `-- --seconds 0.5` for each
//! measurement, `-- --rounds 3` of each. The best round counts.
//!
//! *Buffers*: one is allocated, its first line written, and dropped, by one thread and by two. *Publications*: one
//! process publishes buffers of which it has written the first line, another one reads that; those count that arrive.

use atomic_matrix_zenoh::{Provider, clients};
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use zenoh::config::Config;
use zenoh::qos::CongestionControl;
use zenoh::shm::{
    Defragment, GarbageCollect, PosixShmProviderBackend, ShmProvider, ShmProviderBackend, ShmProviderBuilder, ZShmMut,
};
use zenoh::{Result, Session, Wait};

const SIZES: [(usize, &str); 3] = [(4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")];
/// Bytes of a provider: room for 128 of the largest.
const ROOM: usize = 160 << 20;
const LONG: Duration = Duration::from_secs(30);

fn config(listen: &str, connect: &str) -> Result<Config> {
    let mut config = Config::default();
    config.insert_json5("mode", "\"peer\"")?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    config.insert_json5("listen/endpoints", &format!("[{listen}]"))?;
    config.insert_json5("connect/endpoints", &format!("[{connect}]"))?;
    Ok(config)
}

fn buffer<B: ShmProviderBackend>(provider: &ShmProvider<B>, bytes: usize) -> ZShmMut {
    let begun = Instant::now();
    loop {
        if let Ok(mut buffer) = provider.alloc(bytes).with_policy::<Defragment<GarbageCollect>>().wait() {
            buffer[..64].fill(7);
            return buffer;
        }
        assert!(begun.elapsed() < LONG, "no buffer comes back");
        std::thread::yield_now();
    }
}

/// Buffers a second, by so many threads.
fn buffers<B: ShmProviderBackend + Sync + Send>(
    provider: &ShmProvider<B>,
    bytes: usize,
    threads: usize,
    time: Duration,
) -> f64 {
    let begun = Instant::now();
    let many: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut many = 0;
                    while begun.elapsed() < time {
                        drop(buffer(provider, bytes));
                        many += 1;
                        if many % 64 == 0 {
                            provider.garbage_collect();
                        }
                    }
                    many
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("it does not panic")).sum()
    });
    many as f64 / begun.elapsed().as_secs_f64()
}

/// Publications a second that the other process has read.
fn publications<B: ShmProviderBackend>(
    session: &Session,
    provider: &ShmProvider<B>,
    bytes: usize,
    time: Duration,
) -> Result<f64> {
    let counts = session.declare_subscriber("rates/counts").wait()?;
    let publisher = session.declare_publisher("rates/frames").congestion_control(CongestionControl::Block).wait()?;
    let begun = Instant::now();
    while begun.elapsed() < time {
        publisher.put(buffer(provider, bytes)).wait()?;
    }
    publisher.put("end").wait()?;
    let count = counts.recv_timeout(LONG)?.ok_or("the other process does not answer")?;
    let count: u64 = count.payload().try_to_string()?.parse()?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// The other process: counts what is in shared memory, and says so at each end.
fn counts(port: &str) -> Result<()> {
    let config = config("", &format!("\"tcp/127.0.0.1:{port}\""))?;
    let session = zenoh::open(config).with_shm_clients(clients()).wait()?;
    let frames = session.declare_subscriber("rates/frames").wait()?;
    session.put("rates/counts", "0").wait()?;
    let mut count = 0_u64;
    while let Some(frame) = frames.recv_timeout(LONG)? {
        match frame.payload().as_shm() {
            Some(bytes) if bytes[0] == 7 => count += 1,
            Some(_) => return Err("it is not what was written".into()),
            None => {
                session.put("rates/counts", std::mem::take(&mut count).to_string()).wait()?;
            }
        }
    }
    Ok(())
}

struct Killed(Child);
impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Row {
    what: String,
    size: &'static str,
    best: [f64; 2],
}

fn measured(time: Duration, rounds: usize) -> Result<Vec<Row>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = config(&format!("\"tcp/127.0.0.1:{port}\""), "")?;
    let session = zenoh::open(config).with_shm_clients(clients()).wait()?;
    let started = session.declare_subscriber("rates/counts").wait()?;
    let other = Command::new(std::env::current_exe()?).env("RATES_PORT", port.to_string()).spawn()?;
    let _other = Killed(other);
    started.recv_timeout(LONG)?.ok_or("the other process does not start")?;
    drop(started);
    let ours = ShmProviderBuilder::backend(Provider::new(ROOM)?).wait();
    let posix = ShmProviderBuilder::backend(PosixShmProviderBackend::builder(ROOM).wait()?).wait();
    let mut rows = vec![];
    for (bytes, size) in SIZES {
        for threads in [1, 2] {
            let mut best = [0_f64; 2];
            for _ in 0..rounds {
                best[0] = best[0].max(buffers(&ours, bytes, threads, time));
                best[1] = best[1].max(buffers(&posix, bytes, threads, time));
            }
            rows.push(Row { what: format!("buffers, {threads} threads"), size, best });
        }
        let mut best = [0_f64; 2];
        for _ in 0..rounds {
            best[0] = best[0].max(publications(&session, &ours, bytes, time)?);
            best[1] = best[1].max(publications(&session, &posix, bytes, time)?);
        }
        rows.push(Row { what: "publications".to_owned(), size, best });
    }
    Ok(rows)
}

fn main() -> Result<()> {
    if let Ok(port) = std::env::var("RATES_PORT") {
        return counts(&port);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let seconds = value("--seconds").map_or(Ok(0.5), |seconds| seconds.parse())?;
    let rounds = value("--rounds").map_or(Ok(3), |rounds| rounds.parse())?;
    let rows = measured(Duration::try_from_secs_f64(seconds)?, rounds)?;
    if arguments.iter().any(|argument| argument == "--json") {
        let row = |Row { what, size, best: [ours, posix] }: &Row| {
            format!(r#"{{"what":"{what}","size":"{size}","atomic_matrix":{ours:.0},"posix":{posix:.0}}}"#)
        };
        println!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(",\n "));
        return Ok(());
    }
    println!("| a second | size | AtomicMatrix | zenoh's POSIX | ratio |\n|---|---|---|---|---|");
    for Row { what, size, best: [ours, posix] } in rows {
        println!("| {what} | {size} | {ours:.0} | {posix:.0} | {:.2} |", ours / posix);
    }
    Ok(())
}

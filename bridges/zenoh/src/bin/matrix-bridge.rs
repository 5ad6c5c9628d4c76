//! `matrix-bridge`: carries topics and channels of a segment to and from other hosts.

use atomic_matrix::uuid::Uuid;
use atomic_matrix::{Handler, Options};
use atomic_matrix_zenoh::carry::{Carried, Carrier, Event, Sort, Way};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use zenoh::{Config, Result, Wait};

const HELP: &str = "\
Carries topics and channels of bytes between hosts, by zenoh. Runs until it is killed, which may happen at any
moment: started again, it goes on where it was.

matrix bridge --segment NAME [--size BYTES] [--listen END]... [--connect END]... CARRIED...

  --segment NAME      the segment: its name, its id, or a path
  --size BYTES        makes it, if there is none
  --out SORT:NAME     what is put in here goes to the other host. SORT is
                        topic    every publication arrives, in its order, once
                        lossy    publications as far as the way has room; holds nobody up
                        channel  every message of a redelivering channel arrives, at least once
  --in SORT:NAME      what comes from the other host is put in here (lossy: say topic)
  --cells NUMBER      room in what is made here (64)
  --listen END        where others may connect, and
  --connect END       who is connected to: tcp/ADDRESS:PORT, as zenoh writes it
  --scout             finds others by multicast as well
  --config FILE       settings of zenoh's (json5); the options above are put on top

NAME may be NAME=KEY, to be known by another key than atomic-matrix/SORT/NAME.

On one host, then on the other (10.0.0.1 is the first one's address):
  matrix bridge --segment camera --size 64000000 --out topic:frames --listen tcp/0.0.0.0:7447
  matrix bridge --segment camera --size 64000000 --in topic:frames --connect tcp/10.0.0.1:7447

Exit codes: 1 something failed, and standard error says what; 2 wrong usage.";

struct Asked {
    options: Options,
    make: bool,
    carried: Vec<Carried>,
    config: Config,
}

/// What is wrong with how it was called.
type Wrong = String;

fn segment(name: &str) -> Options {
    match Uuid::try_parse(name) {
        Ok(id) => Options::new().id(id),
        Err(_) if name.contains('/') => Options::new().path(name),
        Err(_) => Options::new().name(name),
    }
}

fn carried(way: Way, what: &str) -> std::result::Result<Carried, Wrong> {
    let shape = || format!("{what:?} is not SORT:NAME, with SORT topic, lossy or channel");
    let (sort, name) = what.split_once(':').ok_or_else(shape)?;
    let sort = match sort {
        "topic" => Sort::Topic,
        "lossy" => Sort::Lossy,
        "channel" => Sort::Channel,
        _ => return Err(shape()),
    };
    let (name, key) = match name.split_once('=') {
        Some((name, key)) => (name, key.to_owned()),
        None => (name, Carried::key(sort, name)),
    };
    if name.is_empty() {
        return Err(shape());
    }
    Ok(Carried { way, sort, name: name.to_owned(), key, cells: 0 })
}

fn asked(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Asked, Wrong> {
    let (mut named, mut size, mut cells, mut scout) = (None, None, 0, false);
    let (mut listen, mut connect, mut carries) = (vec![], vec![], vec![]);
    let mut config = Config::default();
    // Unless it is asked for, nobody listens: zenoh would on all devices.
    config.insert_json5("listen/endpoints", "[]").map_err(|error| error.to_string())?;
    while let Some(option) = arguments.next() {
        if option == "--scout" {
            scout = true;
            continue;
        }
        let known = ["--segment", "--size", "--out", "--in", "--cells", "--listen", "--connect", "--config"];
        if !known.contains(&option.as_str()) {
            return Err(format!("no option {option:?}; see --help"));
        }
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value; see --help"))?;
        let number = || value.parse().map_err(|_| format!("{option} {value}: it is not a number"));
        match option.as_str() {
            "--segment" => named = Some(segment(&value)),
            "--size" => size = Some(number()?),
            "--cells" => cells = number()?,
            "--out" => carries.push(carried(Way::Out, &value)?),
            "--in" => carries.push(carried(Way::In, &value)?),
            "--listen" => listen.push(value),
            "--connect" => connect.push(value),
            _ => config = Config::from_file(&value).map_err(|error| format!("{value}: {error}"))?,
        }
    }
    let options = named.ok_or("which segment? --segment NAME")?;
    if carries.is_empty() {
        return Err("nothing to carry: give --out SORT:NAME or --in SORT:NAME".to_owned());
    }
    let both = carries.iter().find(|one| carries.iter().any(|other| one.way != other.way && one.name == other.name));
    if let Some(both) = both {
        return Err(format!(
            "{0} goes out and comes in: it would go round for ever; give one --out or one --in {0}",
            both.name
        ));
    }
    carries.iter_mut().for_each(|carried| carried.cells = cells);
    set(&mut config, &listen, &connect, scout)?;
    let make = size.is_some();
    Ok(Asked { options: size.map_or(options.clone(), |size| options.size(size)), make, carried: carries, config })
}

/// Bridges are peers, which go on trying to connect. Zenoh's shared memory stays out of it: a process that is
/// stopped for 0.1 s loses what it gets by that.
fn set(config: &mut Config, listen: &[String], connect: &[String], scout: bool) -> std::result::Result<(), Wrong> {
    let ends =
        |ends: &[String]| format!("[{}]", ends.iter().map(|end| format!("{end:?}")).collect::<Vec<_>>().join(","));
    let settings = [
        ("mode", "\"peer\"".to_owned()),
        ("scouting/multicast/enabled", scout.to_string()),
        ("transport/shared_memory/enabled", "false".to_owned()),
        ("connect/timeout_ms", "-1".to_owned()),
        ("connect/exit_on_failure", "false".to_owned()),
        ("connect/retry", "{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }".to_owned()),
    ];
    let given = [("listen/endpoints", listen), ("connect/endpoints", connect)];
    let given = given.into_iter().filter(|(_, given)| !given.is_empty()).map(|(key, given)| (key, ends(given)));
    for (key, value) in settings.into_iter().chain(given) {
        config.insert_json5(key, &value).map_err(|error| format!("{key} {value}: {error}"))?;
    }
    Ok(())
}

fn carry(asked: Asked) -> Result<()> {
    let handler: Handler = if asked.make { asked.options.open_or_create()? } else { asked.options.attach()? };
    let session = zenoh::open(asked.config).wait()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let carries: Vec<_> = asked
            .carried
            .iter()
            .map(|carried| {
                let (handler, session, stop) = (&handler, &session, &stop);
                scope.spawn(move || {
                    let tell = |event: Event| eprintln!("{carried}: {event}");
                    let done = Carrier { handler, session, carried, stop, tell: &tell }.run();
                    // One that can't go on ends all: who looks after it sees that, and starts it again.
                    stop.store(true, Ordering::Relaxed);
                    done.map_err(|error| format!("{carried}: {error}"))
                })
            })
            .collect();
        let mut done = Ok(());
        for one in carries {
            match one.join() {
                Ok(ended) => done = done.and(ended.map_err(Into::into)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let asked = match asked(arguments.into_iter()) {
        Ok(asked) => asked,
        Err(wrong) => {
            eprintln!("matrix-bridge: {wrong}");
            return ExitCode::from(2);
        }
    };
    match carry(asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matrix-bridge: {error}");
            ExitCode::FAILURE
        }
    }
}

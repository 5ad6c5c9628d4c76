//! Every system call, refused in every way: each kind of call that the crate makes, at each place of a
//! segment's life, once and from there on for ever, with each error that its manual names. Never a panic, a
//! hang, an endless retry, a wrong Ok or a lost block; and the message names the call, the cause and what
//! helps.

mod calls;
#[path = "../../support/common.rs"]
mod common;
mod fences;
mod filter;
mod scenario;
#[path = "../../api/segment/support.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod support;

use atomic_matrix::segment::Options;
use calls::{KINDS, Kind, NEVER_FAIL, RUNTIME, SELDOM, is_the_crates, kind_of};
use filter::{Call, Ended, watched};
use scenario::{BYTES, Met, NOT_FOUND, Peer, WAYS, Way, play};
use support::Dir;

/// One refusal: the n-th call of a kind, or all from there on.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    name: &'static str,
    number: libc::c_long,
    nth: usize,
    errno: i32,
    once: bool,
    /// Another kind that is refused all the time, so that this one is called.
    beside: Option<(libc::c_long, i32)>,
}

fn options(way: Way, dir: &Dir, id: uuid::Uuid) -> Options {
    let options = Options::new().size(BYTES).path(&dir.0).id(id);
    match way {
        Way::Usual | Way::Rejoined | Way::Poor => options,
        Way::NamedFirst => options.named_creation(true).group(rustix::process::getegid().as_raw()).populate(true),
        Way::Memory => Options::new().size(BYTES).memfd(),
    }
}

/// Bytes of a thread's own page: the length of the memory that is mapped and then wiped on fork.
fn cache_bytes(trace: &[Call]) -> u64 {
    let wiped = trace.iter().filter(|call| call.number == libc::SYS_madvise);
    let mut wiped = wiped.filter(|call| call.asked[2] == libc::MADV_WIPEONFORK as u64);
    wiped.next_back().map_or(0, |call| call.asked[1])
}

/// Plays one life and says what was called, and what came of it.
fn life(way: Way, refusal: Option<Refusal>, cache_bytes: u64) -> (Vec<Call>, Ended<Met>, Dir) {
    let dir = Dir::new();
    let options = options(way, &dir, uuid::Uuid::new_v4());
    let peer = Peer::start(options.clone());
    let (mut trace, mut seen) = (Vec::with_capacity(100_000), 0);
    let beside = refusal.and_then(|refusal| refusal.beside);
    let missing: Vec<_> = way.missing().iter().copied().chain(beside).collect();
    let decide = |call: Call| {
        trace.push(call);
        if let Some(&(_, errno)) = missing.iter().find(|(number, _)| *number == call.number) {
            return Some(errno);
        }
        let refusal = refusal.filter(|refusal| refusal.number == call.number && is_the_crates(call, cache_bytes))?;
        seen += 1;
        let hit = if refusal.once { seen == refusal.nth } else { seen >= refusal.nth };
        hit.then_some(refusal.errno)
    };
    let ended = watched(decide, move || play(way, &options, &peer, refusal.is_none_or(|refusal| refusal.once)));
    (trace, ended, dir)
}

/// What is wrong with one life in which something was refused.
fn judged(way: Way, refusal: Refusal, cache_bytes: u64) -> Vec<String> {
    let (_, ended, dir) = life(way, Some(refusal), cache_bytes);
    let met = match ended {
        Ended::With(met) => met,
        Ended::Panicked(text) => return vec![format!("a panic: {text}")],
        Ended::Endless => return vec!["it tries again without end".to_owned()],
    };
    let mut faults = met.faults;
    // These say that the process which has the segment is gone, or is another user's: it is not found then.
    if [libc::ENOENT, libc::EACCES].contains(&refusal.errno) {
        faults.retain(|fault| fault != NOT_FOUND);
    }
    for (what, error) in &met.errors {
        let text = error.to_string();
        if !says_enough(&text, refusal.name) {
            faults.push(format!("{what}: {text}"));
        }
    }
    let created = met.errors.first().is_none_or(|(what, _)| *what != "create") || refusal.once;
    let left: Vec<String> = dir.names();
    if !created && refusal.number != libc::SYS_unlinkat && !left.is_empty() {
        faults.push(format!("no segment was made, and {left:?} is left"));
    }
    faults
}

/// The message names the call, or what the call was for in the words of the field, and says what helps.
fn says_enough(text: &str, call: &str) -> bool {
    const BY_MEANING: [&str; 10] = [
        // How fcntl(2) says of a file that it can't be sealed.
        "is not sealed against being cut",
        "not a regular file",
        "no descriptor is left",
        "no permission to",
        "no space for a segment",
        "there is no segment",
        "exists already",
        "is a symbolic link",
        "needs membarrier(2)",
        "participant slots",
    ];
    text.contains(&format!("{call}(2)")) && text.contains("; ") || BY_MEANING.iter().any(|words| text.contains(words))
}

#[test]
fn every_call_is_listed() {
    let (mut met, mut unlisted) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for way in WAYS {
        let begun = std::time::Instant::now();
        let (trace, ended, _dir) = life(way, None, 0);
        let Ended::With(life) = ended else { panic!("{way:?} did not end well") };
        assert!(life.errors.is_empty() && life.faults.is_empty(), "{way:?}: {:?} {:?}", life.errors, life.faults);
        let mut counts = std::collections::BTreeMap::new();
        trace.iter().for_each(|call| *counts.entry(kind_of(*call).map_or("other", |kind| kind.name)).or_insert(0) += 1);
        println!("{way:?}: {} calls in {:?}: {counts:?}", trace.len(), begun.elapsed());
        for call in trace {
            let listed = kind_of(call).is_some() || NEVER_FAIL.contains(&call.number) || RUNTIME.contains(&call.number);
            if !listed {
                unlisted.insert(call.number);
            }
            met.insert(call.number);
        }
    }
    assert!(unlisted.is_empty(), "calls that are not listed: {unlisted:?}");
    let in_vain: Vec<&str> = KINDS.iter().filter(|kind| !met.contains(&kind.number)).map(|kind| kind.name).collect();
    assert_eq!(in_vain, SELDOM, "listed in vain");
    println!("{} kinds of calls", met.len());
}

/// Places of a kind that are tried, and errors at each, unless `MATRIX_REFUSALS=all` asks for every error at
/// every place. (That takes minutes in a PID namespace with few processes, as `verification/deep` does it: whoever
/// looks for a nameless segment makes a call for each descriptor of each process.)
const PLACES: usize = 10;
/// A life that takes longer is told of.
const SLOW: std::time::Duration = std::time::Duration::from_secs(2);

/// What is refused: each place, evenly spread where there are many, with errors in turn; each error at least
/// once; and the first, the middle and the last place for ever.
fn refusals(way: Way, kind: &'static Kind, calls: usize) -> Vec<Refusal> {
    let refusal = |nth, errno, once| Refusal { name: kind.name, number: kind.number, nth, errno, once, beside: None };
    if std::env::var("MATRIX_REFUSALS").is_ok_and(|asked| asked == "all") {
        let places = (1..=calls).flat_map(|nth| kind.refusals.iter().map(move |&errno| (nth, errno)));
        return places.flat_map(|(nth, errno)| [true, false].map(|once| refusal(nth, errno, once))).collect();
    }
    let most = if matches!(way, Way::Rejoined | Way::Poor) { PLACES / 3 } else { PLACES };
    let (places, errors) = (calls.min(most), kind.refusals.len());
    let place = |i: usize| 1 + i * (calls - 1) / (places.max(2) - 1);
    let turns = if calls == 0 { 0 } else { places.max(errors) };
    let once = (0..turns).map(|i| refusal(place(i % places), kind.refusals[i % errors], true));
    let ever = (0..turns.min(errors)).map(|i| refusal([1, calls.div_ceil(2), calls][i % 3], kind.refusals[i], false));
    once.chain(ever).collect()
}

#[test]
fn every_call_is_refused_in_every_way() {
    let (mut all, mut faults) = (vec![], vec![]);
    for way in WAYS {
        let (trace, _, _dir) = life(way, None, 0);
        let cache = cache_bytes(&trace);
        for kind in KINDS {
            let calls = trace.iter().filter(|call| call.number == kind.number && is_the_crates(**call, cache)).count();
            all.extend(refusals(way, kind, calls).into_iter().map(|refusal| (way, refusal, cache)));
        }
    }
    // Whoever unlinks waits for others who do.
    let sleeping = KINDS.iter().find(|kind| kind.name == "nanosleep").expect("it is listed");
    let beside = Some((libc::SYS_flock, libc::EWOULDBLOCK));
    all.extend(
        refusals(Way::Usual, sleeping, 100).into_iter().map(|refusal| (Way::Usual, Refusal { beside, ..refusal }, 0)),
    );
    let next = std::sync::Mutex::new(all.iter().enumerate());
    let work = || {
        let mut found = vec![];
        loop {
            let taken = next.lock().expect("no panic").next();
            let Some((at, &(way, refusal, cache))) = taken else { return found };
            if at % 1000 == 999 {
                println!("{} of {} refusals", at + 1, all.len());
            }
            let begun = std::time::Instant::now();
            let faults = judged(way, refusal, cache).into_iter();
            found.extend(faults.map(|fault| format!("{way:?}, {refusal:?}: {fault}")));
            if begun.elapsed() > SLOW {
                println!("{way:?}, {refusal:?} took {:?}", begun.elapsed());
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| faults.append(&mut worker.join().expect("no panic")));
    });
    println!("{} refusals", all.len());
    let shown: Vec<&String> = faults.iter().take(100).collect();
    assert!(faults.is_empty(), "{} faults of {}: {shown:#?}", faults.len(), all.len());
}

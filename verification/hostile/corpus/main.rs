//! Hostile segments, structures and offsets in the ordinary tests: the committed inputs, and random ones.
//!
//! `MATRIX_FUZZ_FILES=1000000 cargo test --release --test corpus -- --nocapture c2_ s5_` plays a million random
//! files; `MATRIX_FUZZ_SEED` chooses others. The coverage-guided search is `verification/hostile/fuzz/run`.

#[path = "../inputs/mod.rs"]
mod hostile;

use atomic_matrix::Error;
use hostile::calls::Reached;
use hostile::structures::{self, OneWord, sound};
use hostile::{INPUT, Memory, calls, decode, offsets};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What one input may take: thousands of times what it does take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Inputs that are played however long it takes.
const LEAST: u64 = 100;

/// The input that is being played, since when: a second thread ends the process if it runs for ever.
static PLAYED: Mutex<Vec<(Instant, Vec<u8>)>> = Mutex::new(Vec::new());

/// Plays an input under the eyes of a watch; says which input it was if it fails or does not end.
fn watched<T>(input: &[u8], play: impl FnOnce() -> T) -> T {
    struct Tell<'a>(&'a [u8], Instant);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            PLAYED.lock().unwrap().retain(|(since, input)| (*since, &input[..]) != (self.1, self.0));
            if std::thread::panicking() {
                tell(self.0);
            }
        }
    }
    static WATCH: std::sync::Once = std::sync::Once::new();
    WATCH.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(PATIENCE / 10);
                if let Some((_, input)) = PLAYED.lock().unwrap().iter().find(|(since, _)| since.elapsed() > PATIENCE) {
                    println!("an input runs for more than {PATIENCE:?}");
                    tell(input);
                    std::process::abort();
                }
            }
        });
    });
    let tell = Tell(input, Instant::now());
    PLAYED.lock().unwrap().push((tell.1, input.to_vec()));
    play()
}

/// Keeps a failing input where it can be replayed: put into the corpus, it is part of every run.
fn tell(input: &[u8]) {
    let name = format!("atomic-matrix-input-{:08x}", crc32fast::hash(input));
    let path = std::env::temp_dir().join(name);
    let kept = std::fs::write(&path, input);
    eprintln!("the failing input ({} bytes) is in {} ({kept:?})", input.len(), path.display());
}

/// The committed inputs of a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

#[test]
fn c2_the_corpus_of_hostile_files_does_no_harm() {
    let memory = Memory::new();
    let inputs = corpus("attach");
    let mut attached = 0;
    for input in &inputs {
        let case = decode::<calls::Case>(input).expect("an input of the corpus means something");
        attached += usize::from(watched(input, || case.play(&memory)) != Reached::Refused);
    }
    println!("{} hostile files of the corpus, {attached} attached to", inputs.len());
    assert!(attached > 0 && attached < inputs.len(), "the corpus has files that are refused and files that are not");
}

#[test]
fn s5_the_corpus_of_forged_offsets_does_no_harm() {
    let inputs = corpus("offsets");
    assert!(!inputs.is_empty());
    for input in &inputs {
        let case = decode::<offsets::Case>(input).expect("an input of the corpus means something");
        watched(input, || case.play());
    }
    println!("{} inputs of forged offsets", inputs.len());
}

/// Random bytes, or an input of the corpus with some bytes changed and the tail of another.
fn random(numbers: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut any = |length: usize| -> Vec<u8> {
        // A list goes on while its next byte is odd.
        let odd = numbers.u8(..);
        (0..length).map(|_| numbers.u8(..) | u8::from(numbers.u8(..) < odd)).collect()
    };
    let fresh = any(INPUT);
    let most = [100, 600, INPUT][numbers.usize(..3)];
    let length = numbers.usize(1..most);
    if numbers.bool() {
        return fresh[..length].to_vec();
    }
    let (mut input, other) = (numbers.choice(corpus).unwrap().clone(), numbers.choice(corpus).unwrap());
    input.truncate(numbers.usize(..=input.len()));
    input.extend_from_slice(&other[numbers.usize(..=other.len())..]);
    for byte in fresh.iter().take(numbers.usize(..10)) {
        if let Some(i) = numbers.usize(..).checked_rem(input.len()) {
            input[i] = *byte;
        }
    }
    input.extend_from_slice(&fresh[..length.min(200)]);
    input
}

/// Plays random inputs until the time is over or as many as `MATRIX_FUZZ_FILES` says.
fn play_random(what: &str, target: &str, mut play: impl FnMut(&[u8]) -> Option<bool>) {
    let seed = setting("MATRIX_FUZZ_SEED").unwrap_or(1);
    let (files, limit) = match setting("MATRIX_FUZZ_FILES") {
        Some(files) => (files, Duration::MAX),
        None => (2000, Duration::from_secs(5)),
    };
    let (mut numbers, corpus) = (fastrand::Rng::with_seed(seed), corpus(target));
    let (start, mut told, mut counts) = (Instant::now(), 0, [0u64; 2]);
    // However slow the machine is.
    while counts[0] < files && (start.elapsed() < limit || counts[0] < LEAST) {
        let input = random(&mut numbers, &corpus);
        let Some(accepted) = watched(&input, || play(&input)) else { continue };
        counts[0] += 1;
        counts[1] += u64::from(accepted);
        if start.elapsed().as_secs() >= told + 10 {
            told = start.elapsed().as_secs();
            println!("{what}: {} played in {told} s, {} accepted", counts[0], counts[1]);
        }
    }
    println!("{what}: {} played in {:.1?}, {} accepted, seed {seed}", counts[0], start.elapsed(), counts[1]);
    assert!(counts[1] > 0, "none was accepted");
}

#[test]
fn c2_random_hostile_files_do_no_harm() {
    let memory = Memory::new();
    play_random("hostile files", "attach", |input| {
        Some(decode::<calls::Case>(input)?.play(&memory) != Reached::Refused)
    });
}

#[test]
fn s5_random_forged_offsets_do_no_harm() {
    play_random("forged offsets", "offsets", |input| Some(decode::<offsets::Case>(input)?.play() > 0));
}

#[test]
fn c2p_the_corpus_of_hostile_structures_does_no_harm() {
    let memory = Memory::new();
    let inputs = corpus("structures");
    let mut attached = 0;
    for input in &inputs {
        let case = decode::<structures::Case>(input).expect("an input of the corpus means something");
        attached += usize::from(watched(input, || case.play(&memory)));
    }
    println!("{} inputs of hostile structures, {attached} attached to", inputs.len());
    assert!(attached > 0);
}

#[test]
fn c2p_random_hostile_structures_do_no_harm() {
    let memory = Memory::new();
    play_random("hostile structures", "structures", |input| Some(decode::<structures::Case>(input)?.play(&memory)));
}

/// In the first sound segment.
const fn one(structure: u8, word: u16, value: u8, open: bool) -> OneWord {
    OneWord { which: 0, structure, word, value, open }
}

/// Words and values that did harm, and what it was.
const FOUND: [(OneWord, &str); 12] = [
    (one(8, 112, 28, false), "a board whose last cell has no link: its newest value was looked for without an end"),
    (one(9, 32, 3, false), "a topic's last ticket: who joined looked for its place without an end"),
    (one(9, 32, 7, false), "a ticket beyond a cursor's: samples were looked for without an end"),
    (one(12, 48, 3, false), "the last ticket at a channel's head, for a recovery"),
    (one(12, 48, 3, true), "the last ticket at a channel's head, for receivers"),
    (one(12, 32, 3, true), "the last ticket at a channel's tail"),
    (one(11, 48, 3, true), "the last ticket at the head of a ring of one receiver"),
    (one(10, 48, 3, false), "the last ticket at the head of a ring with holds"),
    (one(7, 1, 29, false), "a map of one cell, which has no bucket"),
    (one(5, 1, 29, false), "a mutex with less room than its value needs"),
    (one(2, 32, 12, true), "as many as there can be have arrived at a barrier"),
    (one(12, 0, 0, false), "a channel without a seal: half a second was waited for its maker"),
];

/// The same of two words.
const FOUND_TWO: [([OneWord; 2], &str); 2] = [
    ([one(9, 32, 3, false), one(9, 115, 3, false)], "a topic's last ticket, and a link of its lap: for publishers"),
    ([one(9, 32, 3, true), one(9, 114, 3, true)], "a topic's last ticket, and a link in the cell before it"),
];

/// An input that names words and values.
fn named(words: &[OneWord]) -> Vec<u8> {
    format!("{words:?}").into_bytes()
}

#[test]
fn c2p_one_word_of_a_structure_may_be_anything() {
    let memory = Memory::new();
    for (one, what) in FOUND {
        println!("{what}");
        watched(&named(&[one]), || OneWord::play(&[one], &memory));
    }
    for (two, what) in FOUND_TWO {
        println!("{what}");
        watched(&named(&two), || OneWord::play(&two, &memory));
    }
    let mut all = vec![];
    for which in 0..sound::count() {
        for (structure, words) in sound::words(which).enumerate() {
            for word in (0..words as u16).filter(|&word| sound::is_in_use(word)) {
                for value in 0..sound::AIMED.len() as u8 {
                    let one = |open| OneWord { which, structure: structure as u8, word, value, open };
                    all.extend([one(false), one(true)]);
                }
            }
        }
    }
    let seed = setting("MATRIX_FUZZ_SEED").unwrap_or(1);
    fastrand::Rng::with_seed(seed).shuffle(&mut all);
    let (most, limit) = match setting("MATRIX_FUZZ_FILES") {
        Some(files) => (files as usize, Duration::MAX),
        None => (2000, Duration::from_secs(5)),
    };
    let (start, mut played) = (Instant::now(), 0);
    for &one in all.iter().take(most) {
        if start.elapsed() >= limit && played >= LEAST {
            break;
        }
        watched(&named(&[one]), || OneWord::play(&[one], &memory));
        played += 1;
    }
    println!("one word: {played} of {} played in {:.1?}, seed {seed}", all.len(), start.elapsed());
    assert!(played > 0);
}

#[test]
fn c2p_a_structure_without_a_whole_header_is_told_at_once() {
    let memory = Memory::new();
    for (word, value) in [(0, 0), (1, 3)] {
        let handler = OneWord::attached(&[one(12, word, value, false)], &memory).expect("the heap is sound");
        let begun = Instant::now();
        let error = handler.channel::<u64>("queue").open().err().expect("it is damaged");
        assert!(matches!(&error, Error::Corrupt { what } if what.contains("header")), "{error}");
        println!("told in {:.1?}: {error}", begun.elapsed());
        handler.channel::<u64>("another").create().expect("the heap is whole");
    }
}

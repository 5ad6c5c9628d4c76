//! What the explorations of all structures share: acts that are stopped at every access, scenarios that say
//! which they are, and the table of planted faults.

use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::check::turns;

/// Runs a scenario, and names it if it fails.
pub(crate) fn naming<T>(what: impl Fn() -> String, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        if !turns::quiet() {
            eprintln!("{}", what());
        }
        std::panic::resume_unwind(payload)
    })
}

/// Each act, with its number, stopped before every access: `run` plays one, with the access and a seed, and
/// says whether the act had ended by then.
pub(crate) fn at_every_access<A: Copy>(
    acts: &[A],
    number: impl Fn(A) -> u64,
    seeds: u64,
    name: impl Fn(A, u64, u64) -> String,
    run: impl Fn((A, u64), u64) -> bool,
) {
    for &what in acts {
        for k in 0.. {
            let mut finished = true;
            for seed in 0..seeds {
                let seed = seed << 16 ^ k << 4 ^ number(what);
                finished &= naming(|| name(what, k, seed), || run((what, k), seed));
            }
            if finished {
                break;
            }
        }
    }
}

/// Plants each fault, and prints which of the checks notices it first. Any that survives fails.
pub(crate) fn notice_all(mutants: &[Mutant], checks: &[(&str, &dyn Fn())]) {
    let mut lost = vec![];
    for &mutant in mutants {
        set_mutant(Some(mutant));
        let noticed = checks.iter().find_map(|(name, check)| Some((name, turns::caught(check)?)));
        set_mutant(None);
        match noticed {
            Some((name, message)) => println!("mutant {mutant:?} | {name} | {message}"),
            None => lost.push(mutant),
        }
    }
    assert!(lost.is_empty(), "{lost:?} survive");
}

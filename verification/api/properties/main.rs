//! Property tests: random sequences of operations step the reference allocator and the heap together, through the
//! public API over real segments. A failing sequence is shrunk and printed; `PROPTEST_CASES` asks for more cases.

#[path = "../../support/common.rs"]
mod common;
mod machine;
mod misuse;
#[expect(unreachable_pub, reason = "the reference is written as a module of its own")]
#[path = "../../../models/reference.rs"]
mod reference;
mod stats;

use machine::{ops, run, setups};
use proptest::prelude::*;

fn config() -> ProptestConfig {
    let cases = common::setting("PROPTEST_CASES", 2000) as u32;
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() }
}

fn check_mode(strict: bool) {
    let strategy = (setups(strict), ops());
    let mut runner = proptest::test_runner::TestRunner::new(config());
    let outcome = runner.run(&strategy, |(setup, ops)| run(setup, &ops).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn the_heap_keeps_its_promises_with_parking() {
    check_mode(false);
}

#[test]
fn the_heap_keeps_its_promises_in_strict_mode() {
    check_mode(true);
}

//! Workloads against peers, in one run: the mix (A), ping (B), hand-over (C), packing (D); other sizes (W, H, P, F).
//!
//! ```console
//! cargo bench --bench workloads
//! cargo bench --bench workloads -- --only A,C --threads 1,2,4,8 --repeat 9 --json figures.json
//! cargo bench --bench workloads -- --only W,H,P,F --threads 1,2,4,8
//! ```
//!
//! A relative path means one below `benches/`, where cargo starts its programs.
//!
//! - **A, mix**: each worker keeps up to 200 live blocks; with probability 0.7 (below 200) it allocates 32 to 544
//!   bytes and touches the first 8, else it frees a random live one. Only operations that happened count.
//! - **B, ping**: allocate 64 bytes, touch, free at once.
//! - **C, hand-over**: one side allocates 128 bytes, touches them and passes the offset through a ring; the
//!   other frees. Each side has a core of its own.
//! - **D, packing**: fill 64 MiB with A's sizes until nothing fits, free everything, ask for a block of 90 %.
//! - **S, the endurance mix**: as A, with up to 10 000 live blocks for each worker, and nothing touched.
//! - **W, wide mixes**: as A with other sizes, from 8 bytes to 3 MB, uniform, log-uniform, with a long tail, or one
//!   size; with 20 to 20 000 live blocks for each worker; in 512 MiB. All mixes are run.
//! - **H, hand-over by size**: as C, with 128 bytes to 1 MiB; 64 MiB are on their way at most.
//! - **P, packing by mix**: fill 128 MiB with the sizes of each mix until a request is refused; then free half,
//!   replace every block ten times, and fill it again.
//! - **F, first use**: make the allocator over fresh memory, allocate 1 GiB in blocks of 4 KiB and touch them.
//!
//! Runs are interleaved: in each repetition every peer has its turn, so that a disturbance hits all alike. On few
//! cores contended figures are bimodal: compare best with best.

mod support;

use clap::Parser;
use std::process::ExitCode;
use support::arguments::Arguments;
use support::{Outcome, conductor, processes, registry, report};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.effective()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("workloads: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    if let Some(worker) = &arguments.worker {
        return processes::work(worker, processes::no_other);
    }
    if !arguments.cargo.means("workloads") {
        return Ok(());
    }
    let mut files = report::Files::create(arguments)?;
    let peers = registry::in_tree();
    let progress = conductor::Progress::over(conductor::planned(arguments, &peers))?;
    let figures = conductor::conduct(arguments, &peers, &progress)?;
    progress.finish();
    report::print(&figures, arguments);
    files.write(&figures)
}

//! Every figure of the project, by one command.
//!
//! ```console
//! cargo bench --bench reproduce              # within five minutes
//! cargo bench --bench reproduce -- --full    # with long durations: about 75 minutes
//! cargo bench --bench reproduce -- --plots   # draws again from the CSV files
//! ```
//!
//! Sections, each with CSV under `papers/data` and plots under `papers/figures`: the peers side by side (A to
//! D), scaling (A and the endurance mix at 1, 2, 4, 8, 16 workers, threads and processes), endurance
//! (fragmentation and entropy over time, and after everything is freed), latency (allocate and free at two
//! threads), packing (granules and sizes), drift (what phases of other sizes leave of the memory), and the
//! simulation of more cores than there are (`benches/simulate`; predictions, from this repository's
//! calibration). A machine that is not calibrated
//! yet is calibrated first, so that a clone without `papers/data` reproduces every figure by this command. A
//! section that fails does not keep the others from being measured and drawn. A section's file is written
//! when the section ends; `--resume` skips those that this commit, machine and profile have measured already.
//! Rows that the package in `benches/peers` wrote into `papers/data/peers-package.csv` are drawn beside them, if
//! they are there; its `drift-package.csv` instead of the tree's own; and its `mixes.csv`, which nothing else measures. The plot of bounded work (`bounded-work.svg`) is made by its own check.

#[path = "../simulate/calibrate.rs"]
mod calibrate;
mod endurance;
mod files;
mod latency;
mod mixes;
#[path = "../simulate/model/mod.rs"]
mod model;
mod packing;
mod plan;
mod plots;
#[path = "../simulate/predict.rs"]
mod predict;
mod style;
#[path = "../support/mod.rs"]
mod support;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = plan::Arguments::parse();
    match plan::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reproduce: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `matrix`: looks into segments from outside, and tidies them up when told to.
//!
//! `args` says what can be asked, `target` finds the segment meant, `look` gathers what is in it, `list`,
//! `stat`, `blocks`, `structures`, `directory`, `map`, `act`, `bench` and `other` are the commands, `types` knows what
//! values look like, `text` holds what several of them write.

mod act;
mod args;
mod bench;
mod blocks;
mod directory;
mod list;
mod look;
mod map;
mod other;
mod stat;
mod structures;
mod target;
mod text;
mod types;

use args::{Command, Matrix};
use atomic_matrix::Error;
use clap::{CommandFactory, Parser};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Everything is as it should be.
const FINE: u8 = 0;
/// A fault was found in a segment.
const FAULT: u8 = 1;
/// The segment is not there, or can't be attached to. (2 is for wrong usage: clap ends with it.)
const NO_SEGMENT: u8 = 3;
/// Refused, or failed half-way.
const FAILED: u8 = 4;

/// What goes wrong, and the exit code that says so.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Failure {
    /// An error of a segment that was opened.
    fn of(error: Error) -> Self {
        Self::new(code_of(&error), target::reason(&error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { code: code_of(&error), message: error.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever reads our output has seen enough.
        let code = if error.kind() == ErrorKind::BrokenPipe { FINE } else { FAILED };
        Self { code, message: format!("could not write the output: {error}") }
    }
}

/// Damage is a fault; whatever keeps us out of a segment that may be sound is not.
fn code_of(error: &Error) -> u8 {
    match error {
        Error::Corrupt { .. }
        | Error::NotASegment { .. }
        | Error::WrongLength { .. }
        | Error::HeaderDamaged { .. }
        | Error::LayoutMismatch { .. }
        | Error::CreatorDied { .. } => FAULT,
        Error::NoParticipantSlot { .. } | Error::NameReplaced { .. } => FAILED,
        _ => NO_SEGMENT,
    }
}

/// A command's output and exit code.
type Outcome = Result<(String, u8), Failure>;

fn main() -> ExitCode {
    let matrix = Matrix::parse();
    let done = run(&matrix).and_then(|(text, code)| {
        print(&text)?;
        Ok(code)
    });
    ExitCode::from(done.unwrap_or_else(|failure| {
        if failure.code != FINE {
            // Nobody may be listening here, either.
            let _ = writeln!(std::io::stderr(), "matrix: {}", text::plain(&failure.message));
        }
        failure.code
    }))
}

fn run(matrix: &Matrix) -> Outcome {
    match &matrix.command {
        Command::Ls(ls) => list::ls(ls),
        Command::Stat(one) => stat::stat(one),
        Command::Blocks(blocks) => blocks::blocks(blocks),
        Command::Directory(one) => directory::directory(one),
        Command::Map(map) => map::map(map),
        Command::Structures(asked) => structures::structures(asked),
        Command::Peek(peek) => structures::peek(peek),
        Command::Send(send) => structures::send(send),
        Command::Recv(recv) => structures::recv(recv),
        Command::Verify(verify) => act::verify(verify),
        Command::Watch(watch) => stat::watch(watch),
        Command::Reap(reap) => act::reap(reap),
        Command::Heal(one) => act::heal(one),
        Command::Rm(rm) => act::rm(rm),
        Command::Bench(bench) => bench::bench(bench),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Matrix::command(), "matrix", &mut script);
            Ok((String::from_utf8_lossy(&script).into_owned(), FINE))
        }
        Command::Other(words) => other::other(words),
    }
}

/// Writes all of it at once; a reader that has gone away is no error.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_damage_is_a_fault() {
        let name = || "segment".into();
        let codes = [
            Error::Corrupt { what: String::new() },
            Error::NoParticipantSlot { participants: 1 },
            Error::NameReplaced { name: name() },
            Error::PermissionDenied { what: String::new() },
        ]
        .map(|error| code_of(&error));
        assert_eq!(codes, [FAULT, FAILED, FAILED, NO_SEGMENT]);
    }
}

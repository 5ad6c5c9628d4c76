//! `matrix NAME ...`: programs of other packages, found as cargo finds its own.

use crate::{Failure, Outcome};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// clap ends with it where it meets a command that it does not know.
const WRONG_USAGE: u8 = 2;

/// Becomes the program `matrix-NAME`: beside this one, or else in PATH.
pub(crate) fn other(words: &[OsString]) -> Outcome {
    let (name, arguments) = words.split_first().expect("clap gives the command");
    let program = [OsStr::new("matrix-"), name].into_iter().collect::<OsString>();
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(&program)));
    let found = beside.filter(|beside| beside.is_file()).unwrap_or_else(|| PathBuf::from(&program));
    let error = Command::new(&found).args(arguments).exec();
    let (name, program) = (name.to_string_lossy(), program.to_string_lossy());
    let message = match error.kind() {
        std::io::ErrorKind::NotFound if name == "bridge" => format!(
            "no program {program}: it is a package of its own; cargo install --path bridges/zenoh puts it into PATH"
        ),
        std::io::ErrorKind::NotFound => format!("no command {name}, and no program {program}; matrix --help has them"),
        _ => format!("could not execute {}: {error}", found.display()),
    };
    Err(Failure::new(WRONG_USAGE, message))
}

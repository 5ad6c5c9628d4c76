//! Where figures come from.

use serde::{Deserialize, Serialize};
use std::process::Command;

/// Commit and machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The field `name` of /proc/cpuinfo.
fn cpuinfo(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    Some(fields.find(|(field, _)| field.trim() == name)?.1.trim().to_owned())
}

/// Name, family and model (clouds leave the number out of the name), and nominal clock, as far as the kernel
/// knows them.
fn processor() -> Option<String> {
    let mut name = cpuinfo("model name")?;
    let more = [("cpu family", "family "), ("model", "model "), ("cpu MHz", "")].map(|(field, word)| {
        let value = cpuinfo(field)?;
        Some(if word.is_empty() { format!("{:.0} MHz", value.parse::<f64>().ok()?) } else { word.to_owned() + &value })
    });
    let more: Vec<String> = more.into_iter().flatten().collect();
    if !more.is_empty() {
        name += &format!(" ({})", more.join(", "));
    }
    Some(name)
}

impl Machine {
    /// This one. The commit has a plus sign if src or benches differ from it.
    pub(crate) fn this() -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let commit = output("git", &["-C", root, "rev-parse", "--short=12", "HEAD"]);
        let changed = output("git", &["-C", root, "status", "--porcelain", "--", ":/src", ":/benches", ":/Cargo.lock"]);
        let plus = if changed.is_some_and(|text| !text.is_empty()) { "+" } else { "" };
        let unknown = || "unknown".to_owned();
        Self {
            commit: commit.map_or_else(unknown, |commit| commit + plus),
            cpu: processor().unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            rustc: output("rustc", &["--version"]).unwrap_or_else(unknown),
        }
    }
    /// For titles and captions.
    pub(crate) fn caption(&self) -> String {
        let kernel = self.kernel.split('-').next().unwrap_or_default();
        let rustc = self.rustc.split_whitespace().nth(1).unwrap_or_default();
        format!("{}, {} cores, Linux {kernel}, rustc {rustc}, commit {}", self.cpu, self.cores, self.commit)
    }
}

/// Ends every row of a section's file: which run it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) profile: String,
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
}

impl Origin {
    pub(crate) fn new(profile: &str, machine: &Machine) -> Self {
        let Machine { commit, cpu, cores, kernel, rustc } = machine.clone();
        Self { profile: profile.to_owned(), commit, cpu, cores, kernel, rustc }
    }
    pub(crate) fn caption(&self) -> String {
        let Self { profile, commit, cpu, cores, kernel, rustc } = self.clone();
        let machine = Machine { commit, cpu, cores, kernel, rustc };
        format!("{} ({profile} profile)", machine.caption())
    }
}

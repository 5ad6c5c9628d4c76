//! Tables and files.

use crate::Outcome;
use crate::peers::Entry;
use crate::run::Run;
use crate::setting::Setting;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// All runs of one peer under one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    workload: String,
    rising: bool,
    unit: &'static str,
    peer: &'static str,
    place: &'static str,
    pub(crate) runs: Vec<Run>,
    /// Why there are no (more) runs.
    pub(crate) end: Option<String>,
}

impl Series {
    pub(crate) fn new(setting: &Setting, entry: &Entry) -> Self {
        let place = if entry.threads { "threads" } else { "processes" };
        Self {
            workload: setting.name.clone(),
            rising: setting.rising(),
            unit: setting.unit(),
            peer: entry.name,
            place,
            runs: vec![],
            end: None,
        }
    }
    pub(crate) fn is(&self, workload: &str, peer: &str, place: &str) -> bool {
        self.workload == workload && self.peer == peer && self.place == place
    }
    pub(crate) fn rising(&self) -> bool {
        self.rising
    }
    fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.runs.iter().map(|run| run.value).collect();
        values.sort_by(f64::total_cmp);
        values
    }
    pub(crate) fn has_parts(&self) -> bool {
        self.runs.iter().any(|run| run.fastest.is_some())
    }
    pub(crate) fn best(&self) -> f64 {
        let sorted = self.sorted();
        let best = if self.rising { sorted.last() } else { sorted.first() };
        best.copied().unwrap_or(f64::NAN)
    }
    pub(crate) fn worst(&self) -> f64 {
        let sorted = self.sorted();
        let worst = if self.rising { sorted.first() } else { sorted.last() };
        worst.copied().unwrap_or(f64::NAN)
    }
    /// The fastest part of all runs; the best run, where there are no parts.
    pub(crate) fn fastest(&self) -> f64 {
        let parts = self.runs.iter().filter_map(|run| run.fastest);
        let better = if self.rising { f64::max } else { f64::min };
        parts.reduce(better).unwrap_or(self.best())
    }
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        (at((sorted.len().max(1) - 1) / 2) + at(sorted.len() / 2)) / 2.0
    }
    /// How many times as fast `first` is.
    fn behind(&self, first: f64, own: f64) -> f64 {
        if self.rising { first / own } else { own / first }
    }
}

pub(crate) fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "–".to_owned(),
        _ if value.abs() < 0.1 => format!("{value:.4}"),
        _ if value.abs() < 10.0 => format!("{value:.2}"),
        _ if value.abs() < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The series that others are compared with: the first of the same place.
fn first<'s>(series: &'s [Series], of: &Series) -> Option<&'s Series> {
    series.iter().find(|one| one.workload == of.workload && one.place == of.place)
}

pub(crate) fn print(setting: &Setting, series: &[Series]) {
    println!("\n{}: {} ({})\n", setting.name, setting.what, setting.unit());
    println!(
        "| peer | in | fastest | best | median | min..max | cpu ns each | cores | first ÷ this: fastest | median |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for one in series {
        let sorted = one.sorted();
        let ends = [sorted.first(), sorted.last()].map(|end| number(end.copied().unwrap_or(f64::NAN)));
        let best = one.runs.iter().find(|run| run.value == one.best());
        let ratio =
            |of: fn(&Series) -> f64| first(series, one).map_or(f64::NAN, |first| one.behind(of(first), of(one)));
        println!(
            "| {} | {} | {} | {} | {} | {}..{} | {} | {} | {} | {} |",
            one.peer,
            one.place,
            number(one.fastest()),
            number(one.best()),
            number(one.median()),
            ends[0],
            ends[1],
            number(best.map_or(f64::NAN, |run| run.processor)),
            best.map_or("–".to_owned(), |run| format!("{:.0} %", 100.0 * run.share)),
            number(ratio(Series::fastest)),
            number(ratio(Series::median)),
        );
    }
    series.iter().filter_map(|one| Some((one, one.end.as_ref()?))).for_each(|(one, end)| {
        println!("\n{}, {}: {end}", one.peer, one.place);
    });
}

#[derive(Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    load: String,
    seconds: f64,
}

fn machine(seconds: f64) -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    Machine {
        cpu: model.unwrap_or_default().trim().to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load: read("/proc/loadavg").trim().to_owned(),
        seconds,
    }
}

pub(crate) fn write(figures: &[Series], seconds: f64, csv: Option<&Path>, json: Option<&Path>) -> Outcome<()> {
    let machine = machine(seconds);
    if let Some(path) = csv {
        let mut text =
            "workload,peer,place,repetition,value,fastest,unit,processor_ns_per_message,share_of_cores,end,cpu,cores,\
                        kernel\n"
                .to_owned();
        let Machine { cpu, cores, kernel, .. } = &machine;
        for one in figures {
            let unit = one.unit;
            let head = format!("{},{},{}", one.workload, one.peer.replace(',', ";"), one.place);
            for (repetition, Run { value, fastest, processor, share }) in one.runs.iter().enumerate() {
                writeln!(
                    text,
                    "{head},{repetition},{value:.4},{},{unit},{processor:.1},{share:.3},,{cpu},{cores},{kernel}",
                    fastest.map_or(String::new(), |fastest| format!("{fastest:.4}"))
                )?;
            }
            if let Some(end) = &one.end {
                writeln!(
                    text,
                    "{head},{},,,{unit},,,{},{cpu},{cores},{kernel}",
                    one.runs.len(),
                    end.replace(',', ";")
                )?;
            }
        }
        std::fs::write(path, text)?;
    }
    if let Some(path) = json {
        let summary: Vec<_> = figures
            .iter()
            .map(|one| {
                let ratio = |of: fn(&Series) -> f64| {
                    first(figures, one).map_or(f64::NAN, |first| one.behind(of(first), of(one)))
                };
                serde_json::json!({
                    "series": one, "fastest": one.fastest(), "best": one.best(), "median": one.median(),
                    "first_to_this_fastest": ratio(Series::fastest), "first_to_this_median": ratio(Series::median),
                })
            })
            .collect();
        let all = serde_json::json!({ "machine": machine, "figures": summary });
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(())
}

//! What AtomicMatrix's messages are to reach beside their peers.

use crate::Outcome;
use crate::report::{Series, number};
use std::path::Path;

/// How the first figure of a goal is to stand to the second.
enum Asked {
    /// At least so many times as fast.
    Faster(f64),
    /// At most so many times the time, or the memory.
    Costs(f64),
    /// No second figure: at most so much.
    Below(f64),
}

/// A peer's figure under a workload: its workload, its name, and where its workers are.
type Figure = (&'static str, &'static str, &'static str);

const PROCESSES: &str = "processes";
const THREADS: &str = "threads";
const CHANNEL: &str = "AtomicMatrix channel";
const SINGLE: &str = "AtomicMatrix channel of one and one";
const TOPIC: &str = "AtomicMatrix topic";
const BOARD: &str = "AtomicMatrix board";
const MAP: &str = "AtomicMatrix map";
const PUB_SUB: &str = "iceoryx2 0.10 pub/sub";
const BLACKBOARD: &str = "iceoryx2 0.10 blackboard";
const BOOST: &str = "Boost message_queue";
const BOOST_MAP: &str = "Boost unordered_map and mutex";
const CROSSBEAM: &str = "crossbeam-channel 0.5";

fn goals() -> Vec<(Figure, Figure, Asked)> {
    use Asked::{Below, Costs, Faster};
    let both = |workload, ours, theirs, asked| ((workload, ours, PROCESSES), (workload, theirs, PROCESSES), asked);
    let threads = |workload, ours, theirs, asked| ((workload, ours, THREADS), (workload, theirs, THREADS), asked);
    let own = |ours: (&'static str, _), theirs: (&'static str, _), asked| {
        ((ours.0, ours.1, PROCESSES), (theirs.0, theirs.1, PROCESSES), asked)
    };
    let none = ("", "", "");
    vec![
        both("S", SINGLE, PUB_SUB, Faster(6.0)),
        both("S", SINGLE, "shaq 4.0 SPSC", Faster(0.6)),
        both("S", CHANNEL, PUB_SUB, Faster(4.0)),
        threads("S", CHANNEL, CROSSBEAM, Faster(1.0)),
        both("S", CHANNEL, BOOST, Faster(10.0)),
        both("S", CHANNEL, "ipc-channel 0.23", Faster(20.0)),
        both("L", CHANNEL, PUB_SUB, Costs(0.7)),
        threads("L", CHANNEL, "rtrb 0.4", Costs(1.5)),
        threads("L", SINGLE, "rtrb 0.4", Costs(1.5)),
        threads("M2", CHANNEL, CROSSBEAM, Faster(1.0)),
        both("M2", CHANNEL, "shaq 4.0 MPMC", Faster(1.0)),
        threads("M4", CHANNEL, CROSSBEAM, Faster(1.0)),
        both("Z4K", CHANNEL, PUB_SUB, Faster(0.95)),
        both("Z1M", CHANNEL, PUB_SUB, Faster(0.95)),
        both("Z1M", CHANNEL, BOOST, Faster(100.0)),
        own(("F16", TOPIC), ("F1", TOPIC), Costs(1.5)),
        both("F4", TOPIC, PUB_SUB, Faster(3.0)),
        both("F16", TOPIC, PUB_SUB, Faster(8.0)),
        both("B1", BOARD, BLACKBOARD, Costs(1.0)),
        both("BW", BOARD, BLACKBOARD, Costs(1.0)),
        own(("B2", BOARD), ("B1", BOARD), Faster(1.8)),
        both("K1", MAP, BOOST_MAP, Faster(5.0)),
        both("K2", MAP, BOOST_MAP, Faster(10.0)),
        both("KG", MAP, "heed 0.22 (LMDB)", Faster(2.0)),
        both("W", CHANNEL, "bare futex", Costs(1.1)),
        both("W", CHANNEL, "iceoryx2 0.10 event", Costs(0.8)),
        both("D", TOPIC, PUB_SUB, Costs(0.1)),
        (("X", CHANNEL, PROCESSES), none, Below(10.0)),
        (("X", TOPIC, PROCESSES), none, Below(10.0)),
    ]
}

/// A goal, what was measured, and whether it is reached.
struct Judged {
    goal: String,
    measured: String,
    verdict: String,
}

/// By how much better the first is: by rates, or by times.
fn ratio(ours: &Series, theirs: &Series, of: fn(&Series) -> f64, asked: &Asked) -> f64 {
    let (ours_value, theirs_value) = (of(ours), of(theirs));
    let faster = if ours.rising() { ours_value / theirs_value } else { theirs_value / ours_value };
    match asked {
        Asked::Faster(_) => faster,
        Asked::Costs(_) | Asked::Below(_) => 1.0 / faster,
    }
}

fn judge(figures: &[Series], (ours, theirs, asked): &(Figure, Figure, Asked)) -> Option<Judged> {
    let find = |of: &Figure| figures.iter().find(|one| one.is(of.0, of.1, of.2) && !one.runs.is_empty());
    let place = if theirs.1.is_empty() || ours.0 != theirs.0 { ours.2.to_owned() } else { theirs.2.to_owned() };
    let name = |of: &Figure| if of.1 == ours.1 { format!("the same at {}", of.0) } else { of.1.to_owned() };
    let goal = match asked {
        Asked::Faster(bound) => format!("{}, {place}: {} at least {bound} × {}", ours.0, ours.1, name(theirs)),
        Asked::Costs(bound) => {
            format!("{}, {place}: {} at most {bound} × the cost of {}", ours.0, ours.1, name(theirs))
        }
        Asked::Below(bound) => format!("{}, {place}: {} at most {bound} ms", ours.0, ours.1),
    };
    let ours = find(ours)?;
    let (fastest, median) = match asked {
        Asked::Below(_) => (ours.worst(), ours.median()),
        _ => {
            let theirs = find(theirs)?;
            // Parts are compared with parts.
            let best = if ours.has_parts() && theirs.has_parts() { Series::fastest } else { Series::best };
            (ratio(ours, theirs, best, asked), ratio(ours, theirs, Series::median, asked))
        }
    };
    let by = match asked {
        Asked::Faster(bound) => 1.0 - fastest / bound,
        Asked::Costs(bound) | Asked::Below(bound) => fastest / bound - 1.0,
    };
    let times = if matches!(asked, Asked::Below(_)) { "ms" } else { "×" };
    let measured = format!("{} ({}) {times}", number(fastest), number(median));
    let verdict = match (&ours.end, by > 0.0) {
        (Some(end), _) => format!("missed: {end}"),
        (None, true) => format!("missed by {:.0} %", 100.0 * by),
        (None, false) => "ok".to_owned(),
    };
    Some(Judged { goal, measured, verdict })
}

/// Prints the goals for which there are figures, and writes them to a file.
pub(crate) fn report(figures: &[Series], csv: Option<&Path>) -> Outcome<()> {
    let judged: Vec<_> = goals().iter().filter_map(|goal| judge(figures, goal)).collect();
    if judged.is_empty() {
        return Ok(());
    }
    println!("\nGoals: fastest parts, best runs where there are none, worst of X; in brackets medians of whole runs\n");
    println!("| goal | measured | verdict |\n|---|---|---|");
    let mut text = "goal,measured,verdict\n".to_owned();
    for Judged { goal, measured, verdict } in &judged {
        println!("| {goal} | {measured} | {verdict} |");
        text += &format!("\"{goal}\",{measured},\"{}\"\n", verdict.replace('"', "'"));
    }
    if let Some(path) = csv {
        std::fs::write(path, text)?;
    }
    Ok(())
}

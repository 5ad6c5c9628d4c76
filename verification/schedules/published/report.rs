//! All findings as one text: `papers/published.md`.

use crate::published::{Block, FREE, Repair};
use crate::races::{BOUND, FINDINGS, RACES, REPAIRED_BOUND};
use crate::sequences::{KILLED, SEQUENCES, kill_a_freer};
use std::fmt::Write;

const INTRODUCTION: &str = "\
# The published design, and where it breaks

A model of the algorithm of release 0.4.1 (`models/published`): headers inside the sector, a stack of free blocks for each
class with a bare offset as its head, two levels of bitmap, a ripple to the left. Each section is a failure of that model
with all its other steps as published (three races say which step was repaired before), in the shortest form that was found,
and names the repair that removes it. This text is the output of

```console
cargo test --release --features loom --test published -- --nocapture
```

and that command fails if the two differ (`MATRIX_WRITE_REPORT=1` writes it anew). It is about the model: the steps, their order and
their memory orderings are the crate's, but nothing here ran the crate. Obligations (S1 to C1) are those of
[verification/OBLIGATIONS.md](../verification/OBLIGATIONS.md).

In the tables time runs downwards. A call that nobody ran into takes one line, one that was run into takes one for each access to
shared memory. `head(r, c)` is the first block of class (r, c); `a+96` is the place 96 bytes behind where a begins. Sizes are bytes, 48 of
them header.
";

fn blocks(blocks: &[Block]) -> String {
    let one = |block: &Block| {
        format!("{} ({}, {})", block.name, block.size, if block.state == FREE { "free" } else { "live" })
    };
    blocks.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn names(repairs: &[Repair]) -> String {
    repairs.iter().map(|repair| format!("{repair:?}")).collect::<Vec<_>>().join(" and ")
}

/// The text.
fn report() -> String {
    let mut text = String::from(INTRODUCTION);
    let _ = writeln!(
        text,
        "\n## Races\n\nLoom explores every interleaving of two threads with at most {BOUND} preemptions (each access a \
         read-modify-write: no failure here needs weak memory). \"Repaired\" was explored with {REPAIRED_BOUND} preemptions, in that \
         mode and with weak memory, and no execution breaks S1, S4 or L2.\n\n\
         | broken | what | found in execution | of | failing | changes of thread | repaired by | executions, repaired |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let mut sections = String::new();
    for (race, finding) in RACES.iter().zip(&FINDINGS) {
        let finding = finding.get_or_init(|| race.finding());
        let found = &finding.found;
        let ((changes, _), table, wrong) = found.shortest.as_ref().expect(race.name);
        let [rmw, plain] = &finding.repaired;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {changes} | {} | {} + {} |",
            race.obligation,
            race.title,
            found.first.expect(race.name),
            found.executions,
            found.failing,
            names(race.repaired),
            rmw.executions,
            plain.executions,
        );
        let _ = write!(sections, "\n### {}\n\n`{}`. {}", race.title, race.name, race.why);
        if !race.given.is_empty() {
            let _ =
                write!(sections, " (With {} already repaired, so that this is another failure.)", names(race.given));
        }
        let _ = writeln!(
            sections,
            " At first: {}.\n\n{table}\n**{} is broken:** {wrong}.",
            blocks(race.blocks),
            race.obligation
        );
    }
    text += &sections;
    let killed = kill_a_freer(&[]);
    let (table, wrong) = killed.first.expect("a step at which bytes are lost");
    let _ = writeln!(
        text,
        "\n## A participant is killed\n\n`published_c1_killed_freer_loses_its_block`. A free takes the block's \
            size out of its header, and \
         its left neighbour's, and holds both in a register until it has merged. Killed there, it takes them with it: at \
         {} of its {} steps. At first: {}.\n\n{table}\n**C1 is broken:** {wrong}. With KeepSize at none of {} steps.",
        killed.harmful,
        killed.steps,
        blocks(KILLED),
        kill_a_freer(&[Repair::KeepSize]).steps,
    );
    let _ = writeln!(text, "\n## One thread is enough");
    for sequence in SEQUENCES {
        let (table, wrong) = sequence.play(&[]);
        let _ = writeln!(
            text,
            "\n### {}\n\n`{}`. {} At first: {}.\n\n{table}\n**{} is broken:** {}. Repaired by {}.",
            sequence.title,
            sequence.name,
            sequence.why,
            blocks(sequence.blocks),
            sequence.obligation,
            wrong.expect(sequence.name),
            names(sequence.repaired),
        );
    }
    text
}

/// The paper's text is what the models say.
#[test]
fn published_report_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../papers/published.md");
    let text = report();
    println!("{text}");
    if std::env::var_os("MATRIX_WRITE_REPORT").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).expect("papers/published.md");
    assert!(written == text, "papers/published.md is not what this test prints: run it with MATRIX_WRITE_REPORT=1");
}

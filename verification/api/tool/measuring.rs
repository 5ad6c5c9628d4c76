//! `bench`, which measures, and whose figures nobody checks here.

use crate::drawing::on_a_terminal;
use crate::run;
use serde_json::Value;
use std::process::Command;

#[test]
fn a_quick_measurement_leaves_nothing_behind() {
    let matrix = |arguments: &[&str]| run(Command::new(env!("CARGO_BIN_EXE_matrix")).arg("bench").args(arguments));
    for strict in [false, true] {
        let quick = ["--seconds", "0.02", "--repeat", "2", "--threads", "2", "--size", "2M"];
        let more: &[&str] = if strict { &["--strict", "--json"] } else { &["--json"] };
        let ran = matrix(&[&quick, more].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        let seen: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!((&seen["sound"], &seen["strict"]), (&true.into(), &strict.into()));
        let rows = seen["workloads"].as_array().expect("a list");
        let named: Vec<_> =
            rows.iter().map(|row| (row["workload"].as_str().unwrap_or_default(), row["threads"].as_u64())).collect();
        assert_eq!(named, [("A", Some(1)), ("A", Some(2)), ("B", Some(1)), ("B", Some(2)), ("C", Some(2))]);
        for row in rows {
            let rate = |field: &str| row[field].as_f64().unwrap_or_default();
            assert!(
                rate("best") >= rate("median")
                    && rate("median") > 0.0
                    && row["runs"].as_array().is_some_and(|runs| runs.len() == 2 && runs.iter().all(|run| *run != 1.0)),
                "{row}"
            );
        }
    }
    let ran = matrix(&["--seconds", "0.02", "--repeat", "1", "--threads", "1"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert!(["WORKLOAD", "M/s", "one block, sound"].iter().all(|word| ran.out.contains(word)), "{ran:?}");
    // A slot for each thread, and for the one that looks on.
    let ran = matrix(&["--seconds", "0.01", "--repeat", "1", "--threads", "40", "--size", "16M"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    for small in ["1K", "1"] {
        let ran = matrix(&["--size", small]);
        assert_eq!((ran.code, ran.err.contains("too small")), (Some(4), true), "{ran:?}");
    }
}

#[test]
fn a_measurement_says_how_far_it_is_to_a_terminal_alone() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix"));
    let Some(out) =
        on_a_terminal(command.args(["bench", "--seconds", "0.01", "--repeat", "2", "--threads", "2"]), (40, 90))
    else {
        return println!("skipped: there is no terminal to be had");
    };
    let told: Vec<&str> = out.split("\r\x1b[K").skip(1).collect();
    let expected = (1..=10).map(|turn| format!("{turn} of 10: {}, ", ["A", "A", "B", "B", "C"][(turn - 1) % 5]));
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(&expected), "{expected}: {told}");
    }
    assert!(told.len() == 11 && told[10].contains("WORKLOAD"), "{out}");
}

//! Holds the numbers of the texts against the data: `papers/check` compares, `papers/check --write` updates the texts.
//!
//! A number stands in a text as `<!-- n:KEY -->148<!-- /n -->`; `papers/data/numbers.txt` says where KEY comes from:
//! `KEY | file | column=value; column=value | column | decimals`. A filter must leave exactly one row.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

const TEXTS: [&str; 2] = ["papers/atomicmatrix.md", "README.md"];
const OPEN: &str = "<!-- n:";
const CLOSE: &str = "<!-- /n -->";

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

/// What the data says for one line of `numbers.txt`.
fn resolve(data: &Path, query: &str) -> Result<(String, String), String> {
    let parts: Vec<&str> = query.split('|').map(str::trim).collect();
    let [key, file, filter, column, decimals] = parts[..] else { return Err(format!("not a query: {query}")) };
    let text = read(&data.join(file))?;
    let mut lines = text.lines().map(|line| line.split(';').collect::<Vec<_>>());
    let head = lines.next().ok_or(format!("{file} is empty"))?;
    let place =
        |name: &str| head.iter().position(|it| *it == name).ok_or(format!("{key}: {file} has no column {name}"));
    let mut wanted = Vec::new();
    for pair in filter.split(';') {
        let (name, value) = pair.split_once('=').ok_or(format!("{key}: not a filter: {pair}"))?;
        wanted.push((place(name.trim())?, value.trim()));
    }
    let rows: Vec<_> = lines.filter(|row| wanted.iter().all(|(at, value)| row.get(*at) == Some(value))).collect();
    let [row] = &rows[..] else { return Err(format!("{key}: {} rows of {file} match, not one", rows.len())) };
    let cell = row.get(place(column)?).ok_or(format!("{key}: a row of {file} is short"))?;
    let value: f64 = cell.parse().map_err(|_| format!("{key}: {cell} is no number"))?;
    let decimals: usize = decimals.parse().map_err(|_| format!("{key}: {decimals} is no number of decimals"))?;
    Ok((key.to_owned(), format!("{value:.decimals$}")))
}

fn numbers(data: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = read(&data.join("numbers.txt"))?;
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| resolve(data, line)).collect()
}

/// The text with every number as the data has it, and what differed.
fn correct(name: &str, text: &str, numbers: &BTreeMap<String, String>) -> (String, Vec<String>) {
    let (mut out, mut faults, mut rest) = (String::new(), Vec::new(), text);
    while let Some(at) = rest.find(OPEN) {
        let line = text[..text.len() - rest.len() + at].matches('\n').count() + 1;
        let parsed = rest[at + OPEN.len()..].split_once(" -->").and_then(|(key, tail)| {
            let (value, after) = tail.split_once(CLOSE)?;
            (!value.contains(OPEN)).then_some((key, value, after))
        });
        let Some((key, value, after)) = parsed else {
            faults.push(format!("{name}:{line}: a mark is not closed"));
            break;
        };
        let right = numbers.get(key).map(String::as_str);
        match right {
            None => faults.push(format!("{name}:{line}: {key} is not in numbers.txt")),
            Some(right) if right != value => faults.push(format!("{name}:{line}: {key}: text {value}, data {right}")),
            Some(_) => {}
        }
        out += &rest[..at];
        out += &format!("{OPEN}{key} -->{}{CLOSE}", right.unwrap_or(value));
        rest = after;
    }
    (out + rest, faults)
}

#[test]
fn numbers_are_those_of_the_data() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let numbers = numbers(&root.join("papers/data")).unwrap();
    let mut faults = Vec::new();
    for name in TEXTS {
        let text = read(&root.join(name)).unwrap();
        let (mut right, mut found) = correct(name, &text, &numbers);
        if env::var_os("MATRIX_PAPERS_WRITE").is_some() && right != text {
            fs::write(root.join(name), &right).unwrap();
            (right, found) = correct(name, &right, &numbers);
            assert_eq!(right, read(&root.join(name)).unwrap());
        }
        faults.append(&mut found);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_changed_number_a_missing_key_and_an_open_mark_are_noticed() {
    let numbers = BTreeMap::from([("a".to_owned(), "2.31".to_owned())]);
    let (text, faults) = correct("t", "x\n<!-- n:a -->2.13<!-- /n --> y", &numbers);
    assert_eq!(faults, ["t:2: a: text 2.13, data 2.31"]);
    assert_eq!(text, "x\n<!-- n:a -->2.31<!-- /n --> y");
    assert!(correct("t", &text, &numbers).1.is_empty());
    assert_eq!(correct("t", "<!-- n:b -->1<!-- /n -->", &numbers).1, ["t:1: b is not in numbers.txt"]);
    assert_eq!(correct("t", "<!-- n:a -->1", &numbers).1, ["t:1: a mark is not closed"]);
}

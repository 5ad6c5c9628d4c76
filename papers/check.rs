//! Holds the numbers of the texts against the data: `papers/check` compares, `papers/check --write` updates the texts.
//!
//! A number stands in a text as `<!-- n:KEY -->148<!-- /n -->`; `papers/data/numbers.txt` says where KEY comes from:
//! `KEY | file | column=value; column=value | statistic | column | decimals`. Statistics: `one` (the filter must leave exactly one row),
//! `text` (the same, for a cell that is no number), `max`, `min`, `median`, and `max (median)` or `min (median)`, which gives both, as in
//! `113 (110)`, and `median (min to max)`, which gives the median alone where all three are written alike. Decimals are a
//! number, or `auto` for three digits. Every line must find its data, whether a text uses it or not.
//!
//! A table has no marks in it: `<!-- table:NAME -->` to `<!-- /table -->` is what `papers/data/tables.md` has under NAME, with `{KEY}` for numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

const TEXTS: [&str; 3] = ["papers/atomicmatrix.md", "papers/simulation.md", "README.md"];
const OPEN: &str = "<!-- n:";
const CLOSE: &str = "<!-- /n -->";
const TABLE: &str = "<!-- table:";
const TABLE_END: &str = "<!-- /table -->";

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

fn written(value: f64, decimals: &str) -> Result<String, String> {
    let decimals = match decimals {
        "auto" => [10.0, 100.0].iter().filter(|&&bound| value.abs() < bound).count(),
        digits => digits.parse().map_err(|_| format!("{digits} is no number of decimals"))?,
    };
    let text = format!("{value:.decimals$}");
    // What rounds to zero has no sign.
    let zero = text.bytes().all(|byte| !byte.is_ascii_digit() || byte == b'0');
    Ok(if zero { text.trim_start_matches('-').to_owned() } else { text })
}

/// The cells in `column` of the rows that the filter leaves. A run that did not take place has an empty one, which is left out.
fn cells(text: &str, filter: &str, column: &str) -> Result<Vec<String>, String> {
    // The check of bounded work separates by semicolons, since names of its operations have commas.
    let delimiter = if text.lines().next().is_some_and(|head| head.contains(';')) { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let head = reader.headers().map_err(|error| error.to_string())?.clone();
    let place = |name: &str| head.iter().position(|it| it == name).ok_or(format!("no column {name}"));
    let mut wanted = Vec::new();
    for pair in filter.split(';') {
        let (name, value) = pair.split_once('=').ok_or(format!("not a filter: {pair}"))?;
        wanted.push((place(name.trim())?, value.trim()));
    }
    let (column, mut found) = (place(column)?, Vec::new());
    for row in reader.records() {
        let row = row.map_err(|error| error.to_string())?;
        if wanted.iter().all(|&(at, value)| &row[at] == value) && !row[column].is_empty() {
            found.push(row[column].to_owned());
        }
    }
    if found.is_empty() { Err(format!("no row matches {filter}")) } else { Ok(found) }
}

fn evaluate(cells: &[String], statistic: &str, decimals: &str) -> Result<String, String> {
    if matches!(statistic, "one" | "text") && cells.len() != 1 {
        return Err(format!("{} rows match, not one", cells.len()));
    }
    if statistic == "text" {
        return Ok(cells[0].clone());
    }
    let number = |cell: &String| cell.parse::<f64>().map_err(|_| format!("{cell} is no number"));
    let mut sorted = cells.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    let written = |value| written(value, decimals);
    match statistic {
        "one" | "min" => written(least),
        "max" => written(most),
        "median" => written(median),
        "max (median)" => Ok(format!("{} ({})", written(most)?, written(median)?)),
        "min (median)" => Ok(format!("{} ({})", written(least)?, written(median)?)),
        "median (min to max)" if written(least)? == written(most)? => written(median),
        "median (min to max)" => Ok(format!("{} ({} to {})", written(median)?, written(least)?, written(most)?)),
        _ => Err(format!("no statistic: {statistic}")),
    }
}

/// What the data says for one line of `numbers.txt`.
fn resolve(data: &Path, line: &str) -> Result<String, String> {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, file, filter, statistic, column, decimals] = parts[..] else { return Err("not a query".to_owned()) };
    let cells = cells(&read(&data.join(file))?, filter, column).map_err(|error| format!("{file}: {error}"))?;
    evaluate(&cells, statistic, decimals).map_err(|error| format!("{file}: {error}"))
}

fn numbers(data: &Path, queries: &str) -> Result<BTreeMap<String, String>, String> {
    let (mut numbers, mut faults) = (BTreeMap::new(), Vec::new());
    for line in queries.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let key = line.split('|').next().unwrap_or_default().trim().to_owned();
        match resolve(data, line) {
            Ok(_) if numbers.contains_key(&key) => faults.push(format!("{key}: twice")),
            Ok(number) => drop(numbers.insert(key, number)),
            Err(error) => faults.push(format!("{key}: {error}")),
        }
    }
    if faults.is_empty() { Ok(numbers) } else { Err(faults.join("\n")) }
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

/// The tables that `tables.md` gives, with their numbers, by name.
fn tables(text: &str, numbers: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut tables = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let (name, body) = section.split_once('\n').ok_or(format!("no table under {section}"))?;
        let (mut out, mut rest) = (String::new(), body.trim());
        while let Some((before, after)) = rest.split_once('{') {
            let (key, tail) = after.split_once('}').ok_or(format!("table {name}: a brace is not closed"))?;
            out += before;
            out += numbers.get(key).ok_or(format!("table {name}: {key} is not in numbers.txt"))?;
            rest = tail;
        }
        tables.insert(name.to_owned(), out + rest);
    }
    Ok(tables)
}

/// The text with every table as the data has it, and what differed.
fn tabulate(name: &str, text: &str, tables: &BTreeMap<String, String>) -> (String, Vec<String>) {
    let (mut out, mut faults, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, after)) = rest.split_once(TABLE) {
        let parsed = after.split_once(" -->").and_then(|(key, tail)| {
            let (body, after) = tail.split_once(TABLE_END)?;
            (!body.contains(TABLE)).then_some((key, body.trim(), after))
        });
        let Some((key, body, after)) = parsed else {
            faults.push(format!("{name}: a table is not closed"));
            break;
        };
        let right = tables.get(key).map(String::as_str);
        match right {
            None => faults.push(format!("{name}: {key} is not in tables.md")),
            Some(right) if right != body => {
                let line = right.lines().zip(body.lines()).find(|(right, line)| right != line);
                let (right, line) = line.unwrap_or(("of another length", "of another length"));
                faults.push(format!("{name}: table {key}: text {line}, data {right}"));
            }
            Some(_) => {}
        }
        out += &format!("{before}{TABLE}{key} -->\n{}\n{TABLE_END}", right.unwrap_or(body));
        rest = after;
    }
    (out + rest, faults)
}

#[test]
fn numbers_are_those_of_the_data() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let data = root.join("papers/data");
    let numbers = numbers(&data, &read(&data.join("numbers.txt")).unwrap()).unwrap_or_else(|faults| panic!("{faults}"));
    let tables = tables(&read(&data.join("tables.md")).unwrap(), &numbers).unwrap_or_else(|fault| panic!("{fault}"));
    let right = |name: &str, text: &str| {
        let (text, mut faults) = correct(name, text, &numbers);
        let (text, more) = tabulate(name, &text, &tables);
        faults.extend(more);
        (text, faults)
    };
    let mut faults = Vec::new();
    for name in TEXTS {
        let text = read(&root.join(name)).unwrap();
        let (mut should, mut found) = right(name, &text);
        if env::var_os("MATRIX_PAPERS_WRITE").is_some() && should != text {
            fs::write(root.join(name), &should).unwrap();
            (should, found) = right(name, &should);
            assert_eq!(should, read(&root.join(name)).unwrap());
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

#[test]
fn a_changed_table_is_noticed() {
    let numbers = BTreeMap::from([("a".to_owned(), "2.31".to_owned())]);
    let all = tables("# Tables\n\n## one\n\n| x | {a} |\n\n## two\n\n| y |\n", &numbers).unwrap();
    assert_eq!(all["one"], "| x | 2.31 |");
    assert_eq!(all["two"], "| y |");
    let (text, faults) = tabulate("t", "x\n<!-- table:one -->\n| x | 2.13 |\n<!-- /table -->\ny", &all);
    assert_eq!(faults, ["t: table one: text | x | 2.13 |, data | x | 2.31 |"]);
    assert_eq!(text, "x\n<!-- table:one -->\n| x | 2.31 |\n<!-- /table -->\ny");
    assert!(tabulate("t", &text, &all).1.is_empty());
    assert_eq!(tabulate("t", "<!-- table:none --><!-- /table -->", &all).1, ["t: none is not in tables.md"]);
    assert_eq!(tabulate("t", "<!-- table:one -->", &all).1, ["t: a table is not closed"]);
    assert!(tables("\n## one\n{b}", &numbers).is_err());
}

#[test]
fn statistics_are_those_of_the_matching_rows() {
    let text = "peer,value\n\"us, threads\",3\n\"us, threads\",1\n\"us, threads\",\n\"us, threads\",20\nthem,ok\n";
    let ours = cells(text, "peer=us, threads", "value").unwrap();
    assert_eq!(ours, ["3", "1", "20"]);
    assert_eq!(evaluate(&ours, "max (median)", "auto").unwrap(), "20.0 (3.00)");
    assert_eq!(evaluate(&ours, "min", "1").unwrap(), "1.0");
    assert_eq!(evaluate(&ours, "median (min to max)", "0").unwrap(), "3 (1 to 20)");
    assert_eq!(evaluate(&ours[..1], "median (min to max)", "0").unwrap(), "3");
    assert_eq!(evaluate(&["-0.4".to_owned()], "one", "0").unwrap(), "0");
    assert_eq!(evaluate(&ours, "one", "1"), Err("3 rows match, not one".to_owned()));
    let theirs = cells(text, "peer=them", "value").unwrap();
    assert_eq!(evaluate(&theirs, "text", ""), Ok("ok".to_owned()));
    assert_eq!(evaluate(&theirs, "max", "1"), Err("ok is no number".to_owned()));
    assert_eq!(cells(text, "peer=nobody", "value"), Err("no row matches peer=nobody".to_owned()));
    assert_eq!(cells(text, "peer=them", "speed"), Err("no column speed".to_owned()));
    assert_eq!(cells("a;b\nx, y;5", "a=x, y", "b").unwrap(), ["5"]);
}

#[test]
fn the_programs_of_the_readme_are_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = read(&root.join("README.md")).unwrap();
    for name in ["sender", "receiver"] {
        let program = read(&root.join(format!("examples/{name}.rs"))).unwrap();
        let (_, program) = program.split_once("\n\n").expect("what it is, then the program");
        assert!(readme.contains(&format!("```rust,no_run\n{program}```")), "{name}");
        assert!(program.lines().count() <= 15, "{name}");
    }
}

#[test]
fn missing_data_fails() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../papers/data");
    let faults = numbers(&folder, "a | nowhere.csv | x=1 | one | y | 0\nb | a").unwrap_err();
    assert!(faults.contains("a: can't read") && faults.contains("b: not a query"), "{faults}");
}

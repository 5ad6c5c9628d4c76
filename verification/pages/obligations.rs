//! Every obligation has a check, and every check that names an obligation names one that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The obligations that `verification/OBLIGATIONS.md` states; C2' is c2p in names.
fn stated() -> BTreeSet<String> {
    let text = include_str!("../OBLIGATIONS.md");
    let numbers = text.lines().filter_map(|line| line.strip_prefix("## ")?.split_whitespace().next());
    numbers.map(|number| number.to_lowercase().replace('\'', "p")).collect()
}

/// Test functions below a folder whose name begins, after the tool's name if there is one, with obligations' numbers.
fn cited(folder: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            cited(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&entry).unwrap();
            for name in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
                let numbers = name.split('_').take(4).filter(|part| {
                    let mut letters = part.chars();
                    matches!(letters.next(), Some('s' | 'l' | 'c' | 'q' | 't' | 'b' | 'm'))
                        && letters.next().is_some_and(|c| c.is_ascii_digit())
                        && matches!(letters.next(), None | Some('p'))
                        && letters.next().is_none()
                });
                // A name of more than numbers, not an expression.
                for number in numbers.filter(|_| name.len() > 12) {
                    found.entry(number.to_owned()).or_default().push(name.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_obligation_has_a_check_and_every_check_an_obligation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeMap::new();
    cited(&root.join("verification"), &mut found);
    cited(&root.join("src"), &mut found);
    let stated = stated();
    assert_eq!(stated.len(), 22, "S1 to S5, L1 to L4, C1, C2, C2', Q1 to Q6, T1, B1, M1, M2");
    for obligation in &stated {
        let checks = found.get(obligation).map_or(0, Vec::len);
        assert!(checks > 0, "obligation {obligation} has no check named after it");
        println!("{obligation}: {checks} checks");
    }
    for (number, names) in &found {
        assert!(stated.contains(number), "{names:?} cite {number}, which is no obligation");
    }
}

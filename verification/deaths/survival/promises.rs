//! The page `papers/promises.md` names a test for each promise; each of them exists.

use std::path::Path;

fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
        if entry.is_dir() {
            sources(&entry, text);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&entry).expect("readable"));
        }
    }
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    ["src", "verification"].iter().for_each(|folder| sources(&root.join(folder), &mut text));
    let page = include_str!("../../../papers/promises.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| event")).collect();
    assert!(rows.len() >= 12, "{rows:?}");
    for row in rows {
        let test = row.trim_end_matches('|').rsplit('|').next().expect("a cell").trim().trim_matches('`');
        assert!(
            text.contains(&format!("#[test]\n    fn {test}()")) || text.contains(&format!("#[test]\nfn {test}()")),
            "{test}"
        );
    }
}

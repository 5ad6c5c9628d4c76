//! The page `papers/reports.md`: twenty-five rows, each with tests that exist.

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

/// A test function, or a scenario under a model checker, which is one by its macro.
fn is_a_test(text: &str, name: &str) -> bool {
    text.contains(&format!("#[test]\nfn {name}()"))
        || text.contains(&format!("#[test]\n    fn {name}()"))
        || text.contains(&format!("\n    {name} Some("))
}

#[test]
fn every_report_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    ["src", "verification"].iter().for_each(|folder| sources(&root.join(folder), &mut text));
    let page = include_str!("../../../papers/reports.md");
    let mut number = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let &[first, reports, _, tests] = &cells[..] else { panic!("four cells: {row}") };
        number += 1;
        assert_eq!(first.parse(), Ok(number), "{row}");
        assert!(reports.contains("](https://") || reports == "–", "no link: {row}");
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty() && tests.iter().all(|test| is_a_test(&text, test)), "{tests:?}");
    }
    assert_eq!(number, 25);
    assert!(!is_a_test(&text, "no_test_of_this_name"), "the search can miss");
}

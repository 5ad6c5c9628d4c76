//! The source is tidy: widths and lengths, one direction of use, safety comments that stand for themselves.

#[path = "directions.rs"]
mod directions;

use std::collections::BTreeMap;
use std::path::Path;

/// Columns of a line.
const COLUMNS: usize = 120;
/// Lines of a function, its signature included.
const FUNCTION: usize = 70;
/// Lines of a file.
const FILE: usize = 600;

/// Words that have given way to the field's terms (the list at the head of `src/matrix/mod.rs`).
const RETIRED: [(&str, &str); 14] = [
    ("lane", "thread cache"),
    ("lanes", "thread caches"),
    ("token", "header"),
    ("tokens", "headers"),
    ("loot", "steal batch"),
    ("homeward", "remote"),
    ("backlog", "outbox"),
    ("spilt", "flushed"),
    ("busy word", "hazard slot"),
    ("open slot", "transfer slot"),
    ("open slots", "transfer slots"),
    ("second look", "recheck"),
    ("settle_free", "publish_free"),
    ("revival", "becoming_live"),
];

/// Every Rust file below a folder of the repository, by its name there.
fn below(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let (mut folders, mut found) = (vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                folders.extend((!entry.ends_with("target")).then_some(entry));
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let name = entry.strip_prefix(&root).expect("inside").to_string_lossy().into_owned();
                found.insert(name, std::fs::read_to_string(&entry).expect("readable"));
            }
        }
    }
    found
}

/// Every file of the library and its tool, by its name below `src`.
fn files() -> BTreeMap<String, String> {
    let found = below("src");
    assert!(found.len() > 60, "{} files", found.len());
    found
}

/// Lines that are too wide. The row of a table in a comment can't be broken.
fn wide(text: &str) -> Vec<usize> {
    let row = |line: &str| line.trim_start().trim_start_matches(['/', '!']).trim_start().starts_with('|');
    let wide = text.lines().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS && !row(line));
    wide.map(|(at, _)| at + 1).collect()
}

/// Functions that are too long, by their first lines. The text is as rustfmt leaves it: a function ends with
/// the first brace that stands as far to the right as its beginning.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let begins = |line: &str| {
        let words = line.trim_start().split("fn ").next().unwrap_or_default();
        let qualifiers = ["pub ", "pub(crate) ", "pub(super) ", "const ", "unsafe ", "async "];
        let rest = qualifiers.iter().fold(words.to_owned(), |words, qualifier| words.replace(qualifier, ""));
        line.contains("fn ") && rest.is_empty()
    };
    let mut found = vec![];
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
        let end = |line: &&&str| indent(line) == indent(lines[at]) && line.trim_start().starts_with('}');
        let ended = line.ends_with('}') || line.ends_with(';');
        let length = if ended { 1 } else { lines[at..].iter().take_while(|line| !end(line)).count() + 1 };
        if length > FUNCTION {
            found.push((at + 1, length));
        }
    }
    found
}

/// Retired words as words of their own, and the words for them.
fn retired(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let has = |line: &str, word: &str| {
        line.match_indices(word)
            .any(|(at, _)| !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word))
    };
    let lines = text.lines().map(str::to_lowercase).enumerate();
    let found = lines.flat_map(|(at, line)| {
        RETIRED.into_iter().filter(move |(word, _)| has(&line, word)).map(move |(word, now)| (at + 1, word, now))
    });
    found.collect()
}

/// Safety comments that lean on another one without saying which.
fn leaning(text: &str) -> Vec<usize> {
    let leans = |line: &str| {
        let said = line.split("SAFETY:").nth(1).unwrap_or_default().trim_start();
        said.starts_with("as above") || said.starts_with("see above") || said.starts_with("as before")
    };
    text.lines().enumerate().filter(|(_, line)| leans(line)).map(|(at, _)| at + 1).collect()
}

/// The types and traits that a file declares, also by macros, but for those of its tests.
fn declared(text: &str) -> Vec<String> {
    let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("pub")).collect();
        let kinds: &[&str] = if line.starts_with(' ') {
            &["struct", "enum", "union"]
        } else {
            &["struct", "enum", "union", "trait", "type"]
        };
        let named = kinds.contains(words.first()?).then(|| words.get(1)).flatten()?;
        Some(named.split(|c: char| !c.is_alphanumeric()).next()?.to_owned())
    };
    shipped.lines().filter_map(of).filter(|name| !name.is_empty()).collect()
}

/// Names that are declared more than once, and where.
fn homonyms(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    // The tool is a program of its own.
    for (file, text) in files.iter().filter(|(file, _)| !file.starts_with("bin/") && !file.ends_with("tests.rs")) {
        declared(text).into_iter().for_each(|name| places.entry(name).or_default().push(file));
    }
    places.retain(|_, files| files.len() > 1);
    places.into_iter().map(|(name, files)| format!("{name}: {}", files.join(", "))).collect()
}

#[test]
fn lines_and_functions_and_files_are_short() {
    let mut faults = vec![];
    for (file, text) in files() {
        faults.extend(wide(&text).into_iter().map(|line| format!("src/{file}:{line}: over {COLUMNS} columns")));
        let long = long_functions(&text).into_iter();
        faults.extend(long.map(|(line, length)| format!("src/{file}:{line}: a function of {length} lines")));
    }
    for folder in ["src", "benches", "bridges", "examples", "models", "papers", "verification"] {
        let long = below(folder).into_iter().map(|(file, text)| (file, text.lines().count()));
        let long = long.filter(|&(_, length)| length > FILE);
        faults.extend(long.map(|(file, length)| format!("{folder}/{file}: {length} lines")));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn words_are_the_fields() {
    let mut faults = vec![];
    for (file, text) in files() {
        let found = retired(&text).into_iter();
        faults.extend(found.map(|(line, word, now)| format!("src/{file}:{line}: \"{word}\" is called {now}")));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn safety_comments_stand_for_themselves() {
    let leaning = files().into_iter().flat_map(|(file, text)| {
        leaning(&text)
            .into_iter()
            .map(move |line| format!("src/{file}:{line}: say what makes it safe, or name the contract"))
    });
    let faults: Vec<_> = leaning.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_name_means_one_type() {
    let found = homonyms(&files());
    assert!(found.is_empty(), "declared more than once:\n{}", found.join("\n"));
}

#[test]
fn untidy_source_is_noticed() {
    assert_eq!(wide(&format!("{}\n{}", "─".repeat(120), "─".repeat(121))), [2]);
    assert_eq!(wide(&format!("    //! | {} |\n    // {}", "a".repeat(120), "a".repeat(120))), [2]);
    let body = "        x();\n".repeat(69);
    let text = format!("impl A {{\n    pub(super) fn short() {{}}\n    const fn long(\n    ) {{\n{body}    }}\n}}\n");
    assert_eq!(long_functions(&text), [(3, 72)]);
    assert_eq!(leaning("// SAFETY: as above.\n// SAFETY: as above, it is aligned.\n// SAFETY: in range."), [1, 2]);
    assert_eq!(retired("a planet, planes\nThe Lane's end, two_lanes"), [(2, "lane", "thread cache")]);
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let twice = [
        file("a.rs", "pub(super) struct Word(u64);\n#[cfg(test)]\nmod tests {\n    struct Test;\n}"),
        file("b.rs", "packed! {\n    struct Word { BIT: 1 }\n}\n// enum Test\npub enum Test {}"),
    ];
    assert_eq!(homonyms(&twice.into()), ["Word: a.rs, b.rs"]);
}

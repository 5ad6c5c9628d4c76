//! The source is tidy: widths and lengths, one direction of use, safety comments that stand for themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::UseTree;
use syn::visit::{self, Visit};

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

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")
}

/// Every file below `src`, by its name there.
fn files() -> BTreeMap<String, String> {
    let (root, mut found) = (source(), BTreeMap::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let name = entry.strip_prefix(&root).expect("inside").to_string_lossy().into_owned();
                found.insert(name, std::fs::read_to_string(&entry).expect("readable"));
            }
        }
    }
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

/// A file's place among the modules: `matrix/free.rs` is `matrix`, `free`.
fn module(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
        path.pop();
    }
    path
}

/// The paths that a tree of uses names.
fn named(tree: &UseTree, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => named(&path.tree, &with(&path.ident), found),
        UseTree::Name(name) => found.push((with(&name.ident), name.ident.to_string())),
        UseTree::Rename(name) => found.push((with(&name.ident), name.rename.to_string())),
        UseTree::Glob(_) => found.push((before.to_vec(), String::new())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| named(tree, before, found)),
    }
}

/// What a file names outside its tests, by `use` or within its code: the path from the crate's root, the name that
/// it has here, and whether it is passed on.
struct Names<'m> {
    modules: &'m BTreeSet<Vec<String>>,
    module: Vec<String>,
    found: Vec<(Vec<String>, String, bool)>,
}

impl Names<'_> {
    /// The path from the root, if it leads into this crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&self.module, &path[1..]].concat()),
            "super" => Some([&self.module[..self.module.len() - supers], &path[supers..]].concat()),
            _ => None,
        }
    }
}

impl<'t> Visit<'t> for Names<'_> {
    fn visit_item_mod(&mut self, item: &'t syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_fn(&mut self, item: &'t syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'t syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'t syn::ItemUse) {
        if is_for_tests(&item.attrs) {
            return;
        }
        let mut paths = vec![];
        named(&item.tree, &[], &mut paths);
        let passed_on = !matches!(item.vis, syn::Visibility::Inherited);
        for (path, name) in paths {
            let here = [&self.module, &path[..]].concat();
            let below = self.modules.contains(&here[..=self.module.len()]).then_some(here);
            self.found.extend(self.absolute(&path).or(below).map(|path| (path, name, passed_on)));
        }
    }

    /// Only a path that says where it begins: one that begins with an imported name was seen at its `use`.
    fn visit_path(&mut self, path: &'t syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.found.extend(self.absolute(&parts).map(|path| (path, String::new(), false)));
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'t syn::Visibility) {}
}

/// Whether an item is compiled for tests alone.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    let test = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        meta => meta.path().is_ident("test"),
    };
    attributes.iter().any(test)
}

/// What a file names outside its tests ([`Names`]).
fn uses(file: &str, text: &str, modules: &BTreeSet<Vec<String>>) -> Vec<(Vec<String>, String, bool)> {
    let mut names = Names { modules, module: module(file), found: vec![] };
    names.visit_file(&syn::parse_file(text).expect("it is Rust"));
    names.found
}

/// Which file uses which. A folder's face only passes its files' names on: who goes through it uses the file.
fn graph(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let by_module: BTreeMap<Vec<String>, &String> = files.keys().map(|file| (module(file), file)).collect();
    let modules = by_module.keys().cloned().collect();
    let all: BTreeMap<&String, _> = files.iter().map(|(file, text)| (file, uses(file, text, &modules))).collect();
    // The file that a path leads to, through faces.
    let defines = |path: &[String]| {
        let mut path = path.to_vec();
        loop {
            let at = (0..=path.len()).rev().find(|&length| by_module.contains_key(&path[..length]))?;
            let file = by_module[&path[..at]];
            let Some(name) = path.get(at) else { return Some(file) };
            match all[file].iter().find(|(.., here, passed_on)| here == name && *passed_on) {
                Some((on, ..)) if *on != path => path = [on.clone(), path[at + 1..].to_vec()].concat(),
                _ => return Some(file),
            }
        }
    };
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (&file, uses) in &all {
        let is_face = |path: &[String]| file.ends_with("mod.rs") && path.starts_with(&module(file));
        for (path, _, passed_on) in uses {
            let used = defines(path).filter(|&used| used != file && used != "lib.rs" && file != "lib.rs");
            if let Some(used) = used.filter(|_| !(*passed_on && is_face(path))) {
                graph.entry(file.clone()).or_default().insert(used.clone());
            }
        }
    }
    graph
}

/// A circle in the graph, if there is one.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk<'a>(
        graph: &'a BTreeMap<String, BTreeSet<String>>,
        at: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(begins) = way.iter().position(|&file| file == at) {
            return Some(way[begins..].iter().map(|&file| file.to_owned()).collect());
        }
        if done.contains(at) {
            return None;
        }
        way.push(at);
        let found = graph.get(at).into_iter().flatten().find_map(|next| walk(graph, next, way, done));
        way.pop();
        done.insert(at);
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|file| walk(graph, file, &mut vec![], &mut done))
}

#[test]
fn lines_and_functions_and_files_are_short() {
    let mut faults = vec![];
    for (file, text) in files() {
        faults.extend(wide(&text).into_iter().map(|line| format!("src/{file}:{line}: over {COLUMNS} columns")));
        let long = long_functions(&text).into_iter();
        faults.extend(long.map(|(line, length)| format!("src/{file}:{line}: a function of {length} lines")));
        let length = text.lines().count();
        if length > FILE {
            faults.push(format!("src/{file}: {length} lines"));
        }
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
fn files_use_each_other_in_one_direction() {
    let graph = graph(&files());
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 100, "{edges} uses found");
    if let Some(circle) = circle(&graph) {
        panic!("these files use each other in a circle: {}", circle.join(" → "));
    }
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
    let folder = |b: &str| {
        BTreeMap::from([
            file("lib.rs", "mod a; pub use a::c::C;"),
            file("a/mod.rs", "mod b; mod c; pub use c::C; pub struct A;"),
            file("a/b.rs", b),
            file("a/c.rs", "use super::{A, b::B}; pub struct C;"),
        ])
    };
    assert_eq!(circle(&graph(&folder("use super::A; pub struct B;"))), None);
    for b in
        ["use crate::a::C; pub struct B;", "use super::C as D; pub struct B;", "use super::c::{self}; pub struct B;"]
    {
        let found = circle(&graph(&folder(b))).unwrap_or_else(|| panic!("{b}"));
        assert_eq!(found, ["a/b.rs", "a/c.rs"], "{b}");
    }
    for b in [
        "pub struct B(super::C);",
        "pub struct B; fn f() { crate::a::c::C::new() }",
        "pub struct B; mod m { use super::super::C; }",
    ] {
        assert!(circle(&graph(&folder(b))).is_some(), "without a use at the head: {b}");
    }
    for b in [
        "pub struct B; #[cfg(test)] mod tests { use super::super::c::C; }",
        "pub struct B; #[test] fn f() { super::C::new() }",
        "pub(in crate::a) struct B;",
    ] {
        assert_eq!(circle(&graph(&folder(b))), None, "{b}");
    }
    let twice = [
        file("a.rs", "pub(super) struct Word(u64);\n#[cfg(test)]\nmod tests {\n    struct Test;\n}"),
        file("b.rs", "packed! {\n    struct Word { BIT: 1 }\n}\n// enum Test\npub enum Test {}"),
    ];
    assert_eq!(homonyms(&twice.into()), ["Word: a.rs, b.rs"]);
}

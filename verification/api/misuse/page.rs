//! `papers/misuse.md` against the source: every public call is in it, and every row names a test that makes
//! the call and meets the error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// Where the calls of users are.
const USERS: &[&str] = &[
    "src/ipc/channel",
    "src/ipc/board.rs",
    "src/ipc/common.rs",
    "src/ipc/containers.rs",
    "src/ipc/inspect.rs",
    "src/ipc/iteration.rs",
    "src/ipc/descriptor.rs",
    "src/ipc/future.rs",
    "src/ipc/liveness.rs",
    "src/ipc/lossy.rs",
    "src/ipc/map",
    "src/ipc/message.rs",
    "src/ipc/named.rs",
    "src/ipc/names.rs",
    "src/ipc/sample.rs",
    "src/ipc/read_only.rs",
    "src/ipc/reference.rs",
    "src/ipc/select.rs",
    "src/ipc/service",
    "src/ipc/text.rs",
    "src/ipc/topic.rs",
    "src/ipc/unbound.rs",
    "src/ipc/watch.rs",
    "src/handlers",
    "src/memory.rs",
    "src/shared.rs",
    "src/matrix/core.rs",
    "src/matrix/recovered.rs",
    "src/segment/attach.rs",
    "src/segment/create.rs",
    "src/segment/mapping.rs",
    "src/segment/options.rs",
];
/// Building blocks, as the page says: not the users'.
const BLOCKS: &[&str] = &[
    "src/backend",
    "src/ipc/call.rs",
    "src/ipc/held.rs",
    "src/ipc/helper.rs",
    "src/ipc/link.rs",
    "src/ipc/log.rs",
    "src/ipc/payload.rs",
    "src/ipc/reclaim.rs",
    "src/ipc/ring.rs",
    "src/ipc/settle.rs",
    "src/ipc/several.rs",
    "src/ipc/single.rs",
    "src/ipc/structure.rs",
    "src/ipc/sync",
    "src/ipc/table",
    "src/ipc/wait.rs",
    "src/matrix/adoption.rs",
    "src/matrix/audit.rs",
    "src/matrix/large.rs",
    "src/matrix/ownership.rs",
    "src/matrix/parked.rs",
    "src/matrix/recovery.rs",
    "src/matrix/transfer_cache.rs",
    "src/matrix/heap.rs",
    "src/matrix/thread_cache.rs",
    "src/matrix/operation.rs",
    "src/matrix/outbox.rs",
    "src/matrix/resize.rs",
    "src/matrix/runs.rs",
    "src/matrix/stats.rs",
    "src/matrix/sweep.rs",
    "src/matrix/block_header.rs",
    "src/matrix/walk.rs",
    "src/matrix/words.rs",
    "src/segment/directory.rs",
    "src/segment/layout.rs",
    "src/segment/region.rs",
    "src/segment/size_class.rs",
    "src/segment/slot.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in the repository")
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    found
}

fn parsed(path: &Path) -> syn::File {
    syn::parse_file(&std::fs::read_to_string(path).expect("readable")).expect("it is Rust")
}

fn hidden(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let inside = |word: &str| matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == word);
        let cfg = |words: &[&str]| attribute.path().is_ident("cfg") && words.iter().any(|word| inside(word));
        attribute.path().is_ident("doc") && inside("hidden") || cfg(&["test", "feature = \"internals\""])
    })
}

/// Public calls, as `Type::call`.
#[derive(Default)]
struct Calls(BTreeSet<String>);

impl<'a> Visit<'a> for Calls {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !hidden(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }
    fn visit_item_impl(&mut self, block: &'a syn::ItemImpl) {
        let syn::Type::Path(path) = &*block.self_ty else { return };
        let name = &path.path.segments.last().expect("a type has a name").ident;
        // The heap is a building block, wherever its calls stand.
        if block.trait_.is_some() || name == "Heap" {
            return;
        }
        for item in &block.items {
            if let syn::ImplItem::Fn(call) = item
                && matches!(call.vis, syn::Visibility::Public(_))
                && !hidden(&call.attrs)
            {
                self.0.insert(format!("{name}::{}", call.sig.ident));
            }
        }
    }
    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        if matches!(item.vis, syn::Visibility::Public(_)) {
            for call in &item.items {
                if let syn::TraitItem::Fn(call) = call
                    && !hidden(&call.attrs)
                {
                    self.0.insert(format!("{}::{}", item.ident, call.sig.ident));
                }
            }
        }
    }
    fn visit_item_fn(&mut self, call: &'a syn::ItemFn) {
        if matches!(call.vis, syn::Visibility::Public(_)) && !hidden(&call.attrs) {
            self.0.insert(call.sig.ident.to_string());
        }
    }
}

/// The words of each function's body, and which are tests.
#[derive(Default)]
struct Functions(BTreeMap<String, (bool, BTreeSet<String>)>);

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        let mut words = Words::default();
        words.visit_block(&item.block);
        let test = item.attrs.iter().any(|attribute| attribute.path().is_ident("test"));
        self.0.insert(item.sig.ident.to_string(), (test, words.0));
    }
}

/// The words of each test's body, and of the helpers in the same file that it calls.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut tests = BTreeMap::new();
    for path in ["src", "verification"].into_iter().flat_map(sources) {
        let mut found = Functions::default();
        found.visit_file(&parsed(&path));
        for (name, (_, words)) in found.0.iter().filter(|(_, (test, _))| *test) {
            let helpers = words.iter().filter_map(|word| found.0.get(word)).filter(|(test, _)| !test);
            let all = helpers.flat_map(|(_, words)| words).chain(words).cloned().collect();
            tests.insert(name.clone(), all);
        }
    }
    tests
}

/// The names in a body, those in macros' arguments included.
#[derive(Default)]
struct Words(BTreeSet<String>);

impl<'a> Visit<'a> for Words {
    fn visit_ident(&mut self, ident: &'a syn::Ident) {
        self.0.insert(ident.to_string());
    }
    fn visit_macro(&mut self, call: &'a syn::Macro) {
        let text = call.tokens.to_string();
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
        self.0.extend(words.map(str::to_owned));
    }
}

/// What stands in backquotes in a cell.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn rows() -> Vec<Vec<&'static str>> {
    let page = include_str!("../../../papers/misuse.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn every_public_call_is_in_the_table() {
    let mut calls = Calls::default();
    for path in sources("src") {
        let name = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
        let mut found = Calls::default();
        found.visit_file(&parsed(&path));
        if USERS.iter().any(|users| name.starts_with(users)) {
            calls.0.append(&mut found.0);
        } else if !name.starts_with("src/bin")
            && !name.starts_with("src/check")
            && !BLOCKS.iter().any(|block| name.starts_with(block))
        {
            assert!(found.0.is_empty(), "{name} has public calls, and is neither the users' nor a building block");
        }
    }
    assert!(calls.0.len() > 90, "{:?}", calls.0);
    let told: BTreeSet<String> = rows().iter().flat_map(|row| quoted(row[0])).map(str::to_owned).collect();
    let missing: Vec<_> = calls.0.difference(&told).collect();
    let gone: Vec<_> = told.difference(&calls.0).collect();
    assert!(missing.is_empty() && gone.is_empty(), "missing in the table: {missing:?}; no such call: {gone:?}");
    println!("{} calls, {} rows", calls.0.len(), rows().len());
}

/// The errors' names. Their enum stands in a macro, which adds the messages.
fn errors() -> BTreeSet<String> {
    let all = parsed(&root().join("src/error.rs"));
    let body = all.items.iter().find_map(|item| match item {
        syn::Item::Macro(item) if item.mac.path.is_ident("errors") => Some(item.mac.tokens.to_string()),
        _ => None,
    });
    let all: syn::ItemEnum = syn::parse_str(&body.expect("the errors are declared")).expect("it is an enum");
    all.variants.iter().map(|variant| variant.ident.to_string()).collect()
}

/// What can break a heap from safe code is public with the feature `internals` only.
#[test]
fn building_blocks_are_not_public_without_internals() {
    // A trait and a type that users implement and hold.
    for block in BLOCKS.iter().filter(|block| **block != "src/ipc/payload.rs") {
        let (folder, file) = block.rsplit_once('/').expect("a path");
        let above = if folder == "src" { "src/lib.rs".to_owned() } else { format!("{folder}/mod.rs") };
        let modules = parsed(&root().join(above)).items.into_iter().filter_map(|item| match item {
            syn::Item::Mod(module) if module.ident == file.trim_end_matches(".rs") => Some(module),
            _ => None,
        });
        let (mut declared, mut open) = (0, 0);
        for module in modules {
            declared += 1;
            let gated = module.attrs.iter().any(|attribute| {
                let inside = |list: &syn::MetaList| list.tokens.to_string() == "feature = \"internals\"";
                attribute.path().is_ident("cfg") && matches!(&attribute.meta, syn::Meta::List(list) if inside(list))
            });
            open += usize::from(matches!(module.vis, syn::Visibility::Public(_)) && !gated);
        }
        assert!(declared > 0 && open == 0, "{block}: {declared} declarations, {open} of them for everybody");
    }
}

#[test]
fn every_row_names_a_test_that_makes_the_call_and_meets_the_error() {
    let tests = tests();
    let errors = errors();
    for row in rows() {
        let [calls, misuse, outcome, test] = row[..] else { panic!("four cells: {row:?}") };
        let [test] = quoted(test)[..] else { panic!("one test: {row:?}") };
        let words = tests.get(test).unwrap_or_else(|| panic!("there is no test {test}, which {row:?} names"));
        for call in quoted(calls) {
            let name = call.rsplit("::").next().expect("a name");
            assert!(words.contains(name), "{test} does not call {call} ({misuse})");
        }
        for error in quoted(outcome).into_iter().filter(|word| word.starts_with(char::is_uppercase)) {
            assert!(errors.contains(error), "there is no error {error}: {row:?}");
            assert!(words.contains(error), "{test} does not meet {error} ({misuse})");
        }
    }
}

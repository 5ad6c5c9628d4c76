//! One direction of use: no file needs one that needs it, and each folder's map names its files from the ground up.

use super::files;
use std::collections::{BTreeMap, BTreeSet};
use syn::UseTree;
use syn::visit::{self, Visit};

/// Who looks for memory finishes the operation that it meets, and an operation hints what it has made free: they call
/// each other.
const HELPING: (&str, &str) = ("matrix/hints.rs", "matrix/operation.rs");

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

/// The heap's views, each by the call that makes it, and the files that they are in.
fn views(files: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let heap = files.iter().filter(|(file, _)| file.starts_with("matrix/"));
    let declared = heap.filter_map(|(file, text)| {
        let declared = text.split_once("\nview! {")?.1.split_once("\n}")?.0;
        Some((declared.rsplit_once(", ")?.1.trim().to_owned(), file.clone()))
    });
    declared.collect()
}

/// The heap's methods that a file calls: those that make a view, and those that the heap has itself.
#[derive(Default)]
struct Calls {
    in_heap: bool,
    made: BTreeSet<String>,
    own: BTreeSet<String>,
    declared: BTreeSet<String>,
}

impl<'t> Visit<'t> for Calls {
    fn visit_item_mod(&mut self, item: &'t syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'t syn::ItemImpl) {
        let named = |path: &syn::Path| path.segments.last().is_some_and(|part| part.ident == "Heap");
        self.in_heap = matches!(&*item.self_ty, syn::Type::Path(path) if named(&path.path));
        visit::visit_item_impl(self, item);
        self.in_heap = false;
    }

    fn visit_impl_item_fn(&mut self, item: &'t syn::ImplItemFn) {
        if self.in_heap {
            self.declared.insert(item.sig.ident.to_string());
        }
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'t syn::ExprMethodCall) {
        let of_the_heap = match &*call.receiver {
            syn::Expr::Field(field) => matches!(&field.member, syn::Member::Named(name) if name == "heap"),
            syn::Expr::MethodCall(inner) => inner.method == "heap",
            syn::Expr::Path(path) => path.path.is_ident("heap") || self.in_heap && path.path.is_ident("self"),
            _ => false,
        };
        if of_the_heap {
            self.own.insert(call.method.to_string());
        }
        if call.args.is_empty() {
            self.made.insert(call.method.to_string());
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// Which file of the heap calls into which, by a view or by a method of the heap's own.
fn calls(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let views = views(files);
    let heap = files.iter().filter(|(file, _)| file.starts_with("matrix/") && !file.contains("/tests"));
    let all: BTreeMap<&String, Calls> = heap
        .map(|(file, text)| {
            let mut calls = Calls::default();
            calls.visit_file(&syn::parse_file(text).expect("it is Rust"));
            (file, calls)
        })
        .collect();
    let declares = |name: &String| all.iter().find(|(_, calls)| calls.declared.contains(name)).map(|(&file, _)| file);
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (&file, calls) in &all {
        let by_view = calls.made.iter().filter_map(|name| views.get(name));
        let by_heap = calls.own.iter().filter_map(declares);
        let called = by_view.chain(by_heap).filter(|&called| called != file && (&**file, &**called) != HELPING);
        graph.insert(file.clone(), called.cloned().collect());
    }
    graph
}

/// What a folder's map does not name, and what it names before something that it uses.
fn map_faults(
    files: &BTreeMap<String, String>,
    graph: &BTreeMap<String, BTreeSet<String>>,
    folder: &str,
) -> Vec<String> {
    let face = &files[&format!("{folder}/mod.rs")];
    let head: Vec<&str> = face.lines().take_while(|line| line.starts_with("//!")).collect();
    let head = head.join("\n");
    let Some((_, map)) = head.split_once("From the ground up") else { return vec![format!("{folder} has no map")] };
    let named: Vec<&str> = map.split('`').skip(1).step_by(2).collect();
    let place = |name: &str| named.iter().position(|&other| other == name);
    // A file, or a folder with a face of its own.
    let part = |file: &str| {
        let rest = file.strip_prefix(folder)?.strip_prefix('/')?;
        Some(rest.split('/').next()?.trim_end_matches(".rs").to_owned()).filter(|part| part != "mod")
    };
    let for_tests = |part: &str| face.contains(&format!("#[cfg(test)]\nmod {part};"));
    let parts: BTreeSet<String> = files.keys().filter_map(|file| part(file)).filter(|part| !for_tests(part)).collect();
    let missing = parts.iter().filter(|part| place(part).is_none());
    let mut faults: Vec<String> = missing.map(|part| format!("{folder} does not name {part}")).collect();
    for (file, used) in graph.iter().filter(|(file, _)| !file.ends_with("tests.rs")) {
        for used in used {
            if let (Some(user), Some(used)) = (part(file), part(used))
                && user != used
                && place(&user) < place(&used)
                && place(&user).is_some()
            {
                faults.push(format!("{folder}: {user} uses {used}, which stands below it"));
            }
        }
    }
    faults
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
fn the_heaps_views_call_each_other_in_one_direction() {
    let files = files();
    assert!(views(&files).len() > 12, "{:?}", views(&files));
    let graph = calls(&files);
    assert!(graph[HELPING.1].contains(HELPING.0), "helping is no exception any more");
    if let Some(circle) = circle(&graph) {
        panic!("these files call each other in a circle: {}", circle.join(" → "));
    }
}

#[test]
fn maps_name_the_files_from_the_ground_up() {
    let files = files();
    let (uses, calls) = (graph(&files), calls(&files));
    let faults = ["backend", "segment", "matrix", "handlers", "ipc"].into_iter().flat_map(|folder| {
        let both = [&uses, &calls].into_iter();
        both.flat_map(|graph| map_faults(&files, graph, folder)).collect::<Vec<_>>()
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn circles_and_wrong_maps_are_noticed() {
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
    let map = |map: &str| {
        let face = format!("//! From the ground up: {map}.\nmod b; mod c;");
        let files = BTreeMap::from([
            file("a/mod.rs", &face),
            file("a/b.rs", "pub struct B;"),
            file("a/c.rs", "use super::b::B;"),
        ]);
        map_faults(&files, &graph(&files), "a")
    };
    assert!(map("`b`, then [`c`]").is_empty());
    assert_eq!(map("`c`"), ["a does not name b"]);
    assert_eq!(map("`c`, `b`"), ["a: c uses b, which stands below it"]);
    let view = |name: &str, body: &str| {
        format!("\nview! {{\n    /// A view.\n    struct V, {name}\n}}\nimpl V<'_> {{ fn f(self) {{ {body} }} }}")
    };
    let called = |x: &str, y: &str| {
        circle(&calls(&BTreeMap::from([file("matrix/x.rs", &view("exes", x)), file("matrix/y.rs", &view("whys", y))])))
    };
    assert_eq!(called("", "self.heap.exes().f()"), None);
    assert_eq!(
        called("self.heap.whys().f()", "self.heap.exes().f()").expect("a circle"),
        ["matrix/x.rs", "matrix/y.rs"]
    );
}

//! `mutants LIST SOURCES COPY LEFT_OUT`: puts every mutant of a list into a copy of the sources, each behind a switch, so
//! that all are built once (mutant schemata: R. H. Untch, A. J. Offutt and M. J. Harrold, Mutation analysis using mutant
//! schemata, ISSTA 1993, doi:10.1145/154183.154265).
//!
//! LIST is what `cargo mutants --list --json` prints, each mutant once; its place in the list is its number. LEFT_OUT has
//! the numbers that are not to be put in, one a line. Prints as JSON where each mutant's text stands in the copy, in
//! bytes: an error of the compiler's there is that mutant's. Who is not among these has no switch: what is changed
//! is computed by the compiler, or is neither an operator, a match arm, nor a whole function.

use proc_macro2::{LineColumn, Span};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, Expr, Pat};

#[derive(Deserialize)]
struct Mutant {
    file: String,
    genre: String,
    replacement: String,
    span: Ends,
}

#[derive(Deserialize)]
struct Ends {
    start: Place,
}

/// Both count from one.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    line: usize,
    column: usize,
}

impl From<LineColumn> for Place {
    fn from(place: LineColumn) -> Self {
        Self { line: place.line, column: place.column + 1 }
    }
}

#[derive(Serialize)]
struct Placed {
    number: usize,
    file: String,
    start: usize,
    end: usize,
}

/// Text of the copy: of all mutants, or of one.
struct Piece {
    text: String,
    of: Option<usize>,
}

/// What stands before a byte of the source, in the copy. Where several do, what closes comes first, the inner
/// before the outer; what opens comes behind it, the outer first.
struct Insertion {
    at: usize,
    order: (bool, isize),
    pieces: Vec<Piece>,
}

struct Source<'a> {
    text: &'a str,
    lines: Vec<usize>,
    /// By place; mutants with numbers.
    wanted: BTreeMap<Place, Vec<(usize, &'a Mutant)>>,
    insertions: Vec<Insertion>,
    seen: isize,
}

fn say(text: impl Into<String>) -> Piece {
    Piece { text: text.into(), of: None }
}

fn on(number: usize) -> String {
    format!("crate::mutant_switch::on({number})")
}

/// Whether an expression takes a pattern: then it is a condition, and nothing else.
fn takes_a_pattern(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => takes_a_pattern(&binary.left) || takes_a_pattern(&binary.right),
        _ => false,
    }
}

impl<'a> Source<'a> {
    fn byte(&self, place: Place) -> usize {
        let line = self.lines[place.line - 1];
        let within = self.text[line..].char_indices().nth(place.column - 1);
        within.map_or(self.text.len(), |(within, _)| line + within)
    }

    fn range(&self, span: Span) -> std::ops::Range<usize> {
        self.byte(span.start().into())..self.byte(span.end().into())
    }

    fn raw(&self, of: &impl Spanned) -> &'a str {
        &self.text[self.range(of.span())]
    }

    fn take(&mut self, span: Span, genre: &str) -> Vec<(usize, &'a Mutant)> {
        let of_genre = self.wanted.get(&span.start().into()).into_iter().flatten();
        of_genre.filter(|(_, mutant)| mutant.genre == genre).copied().collect()
    }

    fn insert(&mut self, at: usize, opens: bool, pieces: Vec<Piece>) {
        self.seen += 1;
        self.insertions.push(Insertion { at, order: (opens, if opens { self.seen } else { -self.seen }), pieces });
    }

    /// An expression becomes a choice between itself and what mutants make of it.
    fn choose(&mut self, whole: Span, instead: Vec<(usize, String)>) {
        let range = self.range(whole);
        let mut pieces = vec![say("(")];
        for (number, text) in instead {
            pieces.push(say(format!("if {} {{ ", on(number))));
            pieces.push(Piece { text, of: Some(number) });
            pieces.push(say(" } else "));
        }
        // In parentheses: a statement that begins with a block would end behind it.
        pieces.push(say("{ ("));
        self.insert(range.start, true, pieces);
        self.insert(range.end, false, vec![say(") })")]);
    }
}

impl<'ast> Visit<'ast> for Source<'_> {
    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if !takes_a_pattern(&binary.left) && !takes_a_pattern(&binary.right) {
            let (left, right) = (self.raw(&binary.left), self.raw(&binary.right));
            let of =
                |(number, mutant): (usize, &Mutant)| (number, format!("({left}) {} ({right})", mutant.replacement));
            let instead: Vec<_> = self.take(binary.op.span(), "BinaryOperator").into_iter().map(of).collect();
            if !instead.is_empty() {
                self.choose(binary.span(), instead);
            }
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let operand = self.raw(&unary.expr);
        let of = |(number, _): (usize, &Mutant)| (number, format!("({operand})"));
        let instead: Vec<_> = self.take(unary.op.span(), "UnaryOperator").into_iter().map(of).collect();
        if !instead.is_empty() {
            self.choose(unary.span(), instead);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        // An arm that is left out is one whose condition does not hold.
        let mut never = self.take(arm.span(), "MatchArm");
        let guard = if let Pat::Guard(pattern) = &arm.pat { Some(&*pattern.guard) } else { None };
        let mut always = vec![];
        match guard {
            // A condition that takes a pattern can stand nowhere else.
            Some(guard) if takes_a_pattern(guard) => never.clear(),
            Some(guard) => {
                for (number, mutant) in self.take(guard.span(), "MatchArmGuard") {
                    if mutant.replacement == "true" { &mut always } else { &mut never }.push((number, mutant));
                }
            }
            None => {}
        }
        let piece = |number: usize, text: String| Piece { text, of: Some(number) };
        let mut pieces: Vec<_> =
            never.iter().map(|(number, _)| piece(*number, format!("!{} && ", on(*number)))).collect();
        pieces.push(say("("));
        pieces.extend(always.iter().map(|(number, _)| piece(*number, format!("{} || ", on(*number)))));
        if pieces.len() > 1 {
            match guard {
                Some(guard) => {
                    let range = self.range(guard.span());
                    pieces.push(say("("));
                    self.insert(range.start, true, pieces);
                    self.insert(range.end, false, vec![say("))")]);
                }
                None => {
                    pieces.insert(0, say(" if "));
                    pieces.push(say("true)"));
                    self.insert(self.range(arm.pat.span()).end, false, pieces);
                }
            }
        }
        visit::visit_arm(self, arm);
    }

    fn visit_pat(&mut self, pat: &'ast Pat) {
        // The rest is computed by the compiler.
        if let Pat::Guard(pattern) = pat {
            self.visit_expr(&pattern.guard);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        if let Some(first) = block.stmts.first() {
            let start = first.span();
            for (number, mutant) in self.take(start, "FnValue") {
                let text = format!("return {};", mutant.replacement);
                let pieces = vec![say(format!("if {} {{ ", on(number))), Piece { text, of: Some(number) }, say(" } ")];
                self.insert(self.range(start).start, true, pieces);
            }
        }
        visit::visit_block(self, block);
    }

    // Here the compiler computes.
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
}

/// The copy's text, and where each mutant stands in it.
fn switched(file: &str, text: &str, mutants: Vec<(usize, &Mutant)>) -> Result<(String, Vec<Placed>), String> {
    let parsed = syn::parse_file(text).map_err(|error| format!("{file}: {error}"))?;
    let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut wanted: BTreeMap<Place, Vec<_>> = BTreeMap::new();
    for (number, mutant) in mutants {
        wanted.entry(mutant.span.start).or_default().push((number, mutant));
    }
    let mut source = Source { text, lines, wanted, insertions: vec![], seen: 0 };
    source.visit_file(&parsed);
    source.insertions.sort_by_key(|insertion| (insertion.at, insertion.order));
    let (mut copy, mut placed, mut from) = (String::new(), vec![], 0);
    let root = match file {
        "src/lib.rs" => "mutant_switch.rs",
        "src/bin/matrix/main.rs" => "../../mutant_switch.rs",
        _ => "",
    };
    if !root.is_empty() {
        copy += "#![feature(core_intrinsics, const_eval_select)] #![allow(internal_features)]\n";
    }
    for Insertion { at, pieces, .. } in source.insertions {
        copy += &text[from..at];
        from = at;
        for Piece { text, of } in pieces {
            let start = copy.len();
            copy += &text;
            placed.extend(of.map(|number| Placed { number, file: file.to_owned(), start, end: copy.len() }));
        }
    }
    copy += &text[from..];
    if !root.is_empty() {
        copy += &format!("\n#[path = \"{root}\"] mod mutant_switch;\n");
    }
    Ok((copy, placed))
}

fn put_in(list: &Path, sources: &Path, copy: &Path, left_out: &Path) -> Result<Vec<Placed>, String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let write = |path: &Path, text: &str| {
        let folder = path.parent().unwrap_or(copy);
        let same = std::fs::read_to_string(path).is_ok_and(|before| before == text);
        let written =
            if same { Ok(()) } else { std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, text)) };
        written.map_err(|error| format!("{}: {error}", path.display()))
    };
    let mutants: Vec<Mutant> = serde_json::from_str(&read(list)?).map_err(|error| error.to_string())?;
    let left_out: HashSet<usize> = read(left_out)?.lines().filter_map(|line| line.parse().ok()).collect();
    let mut files: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    files.entry("src/lib.rs").or_default();
    files.entry("src/bin/matrix/main.rs").or_default();
    for (number, mutant) in mutants.iter().enumerate() {
        let of_file = files.entry(&mutant.file).or_default();
        if !left_out.contains(&number) {
            of_file.push((number, mutant));
        }
    }
    let mut all = vec![];
    for (file, mutants) in files {
        let (text, placed) = switched(file, &read(&sources.join(file))?, mutants)?;
        write(&copy.join(file), &text)?;
        all.extend(placed);
    }
    write(&copy.join("src/mutant_switch.rs"), include_str!("switch.rs"))?;
    Ok(all)
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [list, sources, copy, left_out] = &arguments[..] else {
        eprintln!("mutants: usage: mutants LIST SOURCES COPY LEFT_OUT");
        std::process::exit(2);
    };
    match put_in(list.as_ref(), sources.as_ref(), copy.as_ref(), left_out.as_ref()) {
        Ok(placed) => println!("{}", serde_json::to_string(&placed).expect("plain data")),
        Err(error) => {
            eprintln!("mutants: {error}");
            std::process::exit(1);
        }
    }
}

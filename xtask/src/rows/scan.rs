//! Finds the test functions of the workspace, without compiling it.
//!
//! A test is a function with `#[test]` directly above it, in plain source or inside a macro call
//! such as `proptest! { ... }`; and a name that begins with a row's number in the call of a macro
//! that writes tests, which is a macro of ours with `#[test]` in its definition. A test that is
//! `#[ignore]`d proves nothing and is left out.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use walkdir::{DirEntry, WalkDir};

use super::id::RowId;

/// A test function whose name carries the numbers of rows.
#[derive(Debug)]
pub(crate) struct Test {
    /// Its name.
    pub(crate) name: String,
    /// Its file, as a path in the repository, and its line.
    pub(crate) place: String,
    /// The rows that it proves, at least one.
    pub(crate) rows: Vec<RowId>,
}

/// All tests below `root` that prove rows, by file and line.
///
/// # Errors
/// When a source file cannot be read, or is not Rust.
pub(crate) fn tests(root: &Path) -> Result<Vec<Test>> {
    let sources = sources(root)?;
    let mut writers = TestWriters::default();
    for (_, file) in &sources {
        writers.visit_file(file);
    }
    let mut tests = Vec::new();
    for (path, file) in &sources {
        let mut found = Names { writers: &writers.0, idents: Vec::new() };
        found.visit_file(file);
        tests.extend(found.idents.iter().filter_map(|ident| test_at(path, ident)));
    }
    Ok(tests)
}

fn test_at(path: &Path, ident: &Ident) -> Option<Test> {
    let name = ident.to_string();
    let rows = RowId::of_test(&name);
    let place = format!("{}:{}", path.display(), ident.span().start().line);
    (!rows.is_empty()).then_some(Test { name, place, rows })
}

/// Every Rust file of the repository: all its crates, nothing that was built.
fn sources(root: &Path) -> Result<Vec<(PathBuf, syn::File)>> {
    let ours = |entry: &DirEntry| {
        let name = entry.file_name();
        entry.depth() == 0 || !(name.as_encoded_bytes().starts_with(b".") || name == "target")
    };
    let mut sources = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(ours) {
        let entry = entry?;
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        if entry.file_type().is_file()
            && path.extension().is_some_and(|extension| extension == "rs")
        {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("cannot read {}", path.display()))?;
            sources.push((path.to_owned(), parse(path, &text)?));
        }
    }
    Ok(sources)
}

fn parse(path: &Path, text: &str) -> Result<syn::File> {
    syn::parse_file(text).map_err(|error| {
        let start = error.span().start();
        anyhow::anyhow!("{}:{}: not Rust: {error}", path.display(), start.line)
    })
}

/// The names of the macros that write tests.
#[derive(Default)]
struct TestWriters(HashSet<String>);

impl<'ast> Visit<'ast> for TestWriters {
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let name = item.ident.as_ref().filter(|_| has_test_attribute(&item.mac.tokens));
        self.0.extend(name.map(ToString::to_string));
    }
}

/// The names of the tests of a file.
struct Names<'w> {
    writers: &'w HashSet<String>,
    idents: Vec<Ident>,
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let has = |name| item.attrs.iter().any(|attribute| attribute.path().is_ident(name));
        if has("test") && !has("ignore") {
            self.idents.push(item.sig.ident.clone());
        }
        visit::visit_item_fn(self, item);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let Some(name) = call.path.segments.last().map(|last| last.ident.to_string()) else {
            return;
        };
        if name == "macro_rules" {
            return;
        }
        if self.writers.contains(&name) {
            numbered_names(call.tokens.clone(), &mut self.idents);
        } else {
            test_functions(call.tokens.clone(), &mut self.idents);
        }
    }
}

/// Every name in `tokens` that begins with a row's number.
fn numbered_names(tokens: TokenStream, names: &mut Vec<Ident>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if !RowId::of_test(&ident.to_string()).is_empty() => {
                names.push(ident)
            }
            TokenTree::Group(group) => numbered_names(group.stream(), names),
            _ => {}
        }
    }
}

/// The functions in `tokens` with `#[test]` among the attributes directly above them. Tokens and
/// not items, because a function in `proptest!` has `in` where Rust has `:`.
fn test_functions(tokens: TokenStream, names: &mut Vec<Ident>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut test, mut ignored) = (false, false);
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                test |= attribute_is(group.stream(), "test");
                ignored |= attribute_is(group.stream(), "ignore");
            }
            TokenTree::Group(group) => {
                (test, ignored) = (false, false);
                test_functions(group.stream(), names);
            }
            TokenTree::Ident(keyword) if keyword == "fn" => {
                match tokens.get(index + 1) {
                    Some(TokenTree::Ident(name)) if test && !ignored => names.push(name.clone()),
                    _ => {}
                }
                (test, ignored) = (false, false);
            }
            TokenTree::Punct(mark) if mark.as_char() != '#' => (test, ignored) = (false, false),
            _ => {}
        }
    }
}

fn has_test_attribute(tokens: &TokenStream) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            attribute_is(group.stream(), "test") || has_test_attribute(&group.stream())
        }
        TokenTree::Group(group) => has_test_attribute(&group.stream()),
        _ => false,
    })
}

fn attribute_is(inside: TokenStream, name: &str) -> bool {
    matches!(inside.into_iter().next(), Some(TokenTree::Ident(first)) if first == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbered tests of one source text, with their lines.
    fn found(source: &str) -> Vec<String> {
        let file = parse(Path::new("a.rs"), source).unwrap();
        let mut writers = TestWriters::default();
        writers.visit_file(&file);
        let mut names = Names { writers: &writers.0, idents: Vec::new() };
        names.visit_file(&file);
        let tests = names.idents.iter().filter_map(|ident| test_at(Path::new("a.rs"), ident));
        tests.map(|test| format!("{} {}", test.place, test.name)).collect()
    }

    #[test]
    fn plain_tests_count_wherever_they_stand() {
        let source = "#[test]\nfn s1_1_a() {}\n\
                      mod tests {\n#[test]\n#[should_panic]\nfn h2_b() {}\n}";
        assert_eq!(found(source), ["a.rs:2 s1_1_a", "a.rs:6 h2_b"]);
    }

    #[test]
    fn helpers_comments_and_ignored_tests_do_not_count() {
        assert_eq!(found("fn s1_1_helper() {}"), [""; 0]);
        assert_eq!(found("// #[test]\n// fn s1_1_a() {}\nfn b() {}"), [""; 0]);
        assert_eq!(found("const A: &str = \"#[test] fn s1_1_a() {}\";"), [""; 0]);
        assert_eq!(found("#[test]\n#[ignore = \"slow\"]\nfn s1_1_a() {}"), [""; 0]);
        assert_eq!(found("#[test]\nfn unnumbered() {}"), [""; 0]);
    }

    #[test]
    fn property_tests_count() {
        let source = "proptest! {\n#![proptest_config(few())]\n#[test]\nfn s2_26_a(x in 0..9) {}\n\
                      /// Why.\n\n#[test]\nfn h4_b(x in any()) { fn s1_1_no() {} }\n}";
        assert_eq!(found(source), ["a.rs:4 s2_26_a", "a.rs:8 h4_b"]);
        assert_eq!(found("proptest! { #[test] #[ignore] fn s2_26_a(x in 0..9) {} }"), [""; 0]);
        assert_eq!(found("compose! { fn s2_26_helper(x in 0..9) {} }"), [""; 0]);
    }

    #[test]
    fn names_in_calls_of_a_macro_that_writes_tests_count() {
        let writer = "macro_rules! cases { ($($n:ident)*) => { $(#[test] fn $n() {})* } }\n";
        assert_eq!(
            found(&format!("{writer}cases! {{ s2_21_bool s2_21_int }}")),
            ["a.rs:2 s2_21_bool", "a.rs:2 s2_21_int"]
        );
        let other = "macro_rules! cases { ($($n:ident)*) => { $(fn $n() {})* } }\n";
        assert_eq!(found(&format!("{other}cases! {{ s2_21_bool }}")), [""; 0]);
    }

    #[test]
    fn a_macro_definition_alone_is_no_test() {
        assert_eq!(found("macro_rules! never { () => { #[test] fn s1_1_a() {} } }"), [""; 0]);
    }

    #[test]
    fn a_file_that_is_not_rust_is_named_with_its_line() {
        let error = parse(Path::new("a.rs"), "fn a() {}\nfn ) {").err().unwrap();
        assert!(error.to_string().starts_with("a.rs:2: not Rust: "), "{error}");
    }
}

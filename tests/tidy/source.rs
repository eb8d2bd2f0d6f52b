//! The files of the repository, and the Rust ones among them with their syntax.

use std::fs;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use crate::site::is_for_tests;

/// A file with this word in its first lines is written by a generator.
pub(crate) const GENERATED: &str = "@generated";

/// One Rust file.
pub(crate) struct Source {
    /// Its path in the repository.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    /// Compiled for tests only, as a whole.
    pub(crate) test: bool,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let syntax = syn::parse_file(text)
            .unwrap_or_else(|error| panic!("{path}:{}: {error}", error.span().start().line));
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            syntax,
            test: false,
        }
    }

    /// The path of the driver's module in this file: `["types", "array"]` for
    /// `src/types/array.rs`, nothing for `src/lib.rs`. `None` outside the driver.
    pub(crate) fn module(&self) -> Option<Vec<String>> {
        let path = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
        if module
            .last()
            .is_some_and(|last| last == "mod" || last == "lib")
        {
            module.pop();
        }
        Some(module)
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.text
            .lines()
            .take(5)
            .any(|line| line.contains(GENERATED))
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that is or could be committed, by its path in the repository.
pub(crate) fn committed_files() -> Vec<(String, Vec<u8>)> {
    let committed = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        let shown = !name.starts_with('.') || [".ci", ".cargo", ".gitignore"].contains(&&*name);
        entry.depth() == 0 || (shown && name != "target" && name != "Cargo.lock")
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(root())
        .sort_by_file_name()
        .into_iter()
        .filter_entry(committed)
    {
        let entry = entry.expect("the repository can be read");
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(root()).expect("below the root");
            let bytes = fs::read(entry.path()).expect("a file of the repository can be read");
            files.push((path.to_string_lossy().into_owned(), bytes));
        }
    }
    files
}

/// Every Rust file of the repository: the driver, its tools and tests.
pub(crate) fn workspace_sources() -> Vec<Source> {
    let files = committed_files()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"));
    files
        .map(|(path, bytes)| Source::new(&path, &String::from_utf8_lossy(&bytes)))
        .collect()
}

/// The Rust files of the driver alone.
pub(crate) fn driver_sources() -> Vec<Source> {
    let mut sources = workspace_sources();
    sources.retain(|source| source.path.starts_with("src/"));
    assert!(
        !sources.is_empty(),
        "no sources found below {}",
        root().display()
    );
    mark_test_modules(&mut sources);
    sources
}

/// Marks the files that `#[cfg(test)] mod name;` includes, and what is below them.
pub(crate) fn mark_test_modules(sources: &mut [Source]) {
    let mut tests: Vec<Vec<String>> = Vec::new();
    for source in &*sources {
        for item in &source.syntax.items {
            if let (syn::Item::Mod(item), Some(mut module)) = (item, source.module()) {
                if item.content.is_none() && item.attrs.iter().any(is_for_tests) {
                    module.push(item.ident.to_string());
                    tests.push(module);
                }
            }
        }
    }
    for source in sources {
        let module = source.module().unwrap_or_default();
        source.test = tests.iter().any(|test| module.starts_with(test));
    }
}

//! The functions of docs/GUIDE.md, as they stand there, run against a real server: a module for
//! each section.

mod cancel;
mod chopin;
mod copy;
mod cursors;
pub(crate) mod event_loop;
mod large_objects;
mod notify;
mod pool_sizing;
mod transactions;

use std::fs;
use std::path::Path;

#[test]
fn every_function_of_the_guide_is_run_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/GUIDE.md")).unwrap();
    let mut tested = String::new();
    for file in fs::read_dir(root.join("tests/it/guide")).unwrap() {
        tested += &fs::read_to_string(file.unwrap().path()).unwrap();
    }
    for block in guide.split("```rust\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the end of a block");
        assert!(tested.contains(block), "not in tests/it/guide:\n{block}");
    }
}

#[test]
fn s8_11_readme_and_guide_say_how_large_pools_should_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    assert!(read("README.md").contains("(docs/GUIDE.md#pool-sizing)"));
    let guide = read("docs/GUIDE.md");
    let (_, chapter) = guide.split_once("\n## Pool sizing\n").expect("the chapter");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    for word in ["max_connections", "superuser_reserved_connections", "threads", "max_size"] {
        assert!(chapter.contains(word), "the chapter says nothing of {word}");
    }
}

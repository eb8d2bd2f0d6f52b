//! Files that tests compare with, and write anew when `CHOPIN_BLESS` or `CHOPIN_RECORD` is set.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// Whether sessions are to be recorded anew.
pub(super) fn recording() -> bool {
    is_set("CHOPIN_RECORD")
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Compares `text` with a file below `tests/`, and shows how they differ; or writes the file.
#[track_caller]
pub(super) fn check(file: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    if recording() || is_set("CHOPIN_BLESS") {
        fs::write(&path, text).unwrap_or_else(|error| panic!("tests/{file}: {error}"));
        return;
    }
    let expected =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("tests/{file}: {error}"));
    assert!(
        expected == text,
        "not as tests/{file} has it (-: only there, +: only now). If it is right like this, write \
         the file anew by running the test with CHOPIN_BLESS=1\n{}",
        diff(&expected, text)
    );
}

/// The lines of both texts, those that only one has marked, and of those that both have only the
/// ones near to them.
fn diff(old: &str, new: &str) -> String {
    const CONTEXT: usize = 3;
    let lines = merge(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let is_near = |at: usize| {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(lines.len());
        lines[around].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    let mut left_out = false;
    for (at, (mark, line)) in lines.iter().enumerate() {
        if is_near(at) {
            writeln!(text, "{mark} {line}").expect("a string");
        } else if !left_out {
            text.push_str("...\n");
        }
        left_out = !is_near(at);
    }
    text
}

/// Both lists of lines as one, by their longest common subsequence.
fn merge<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    // The length of the longest common subsequence of what begins at (i, j).
    let mut longest = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = match old[i] == new[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[test]
fn a_difference_is_shown_with_what_is_around_it() {
    let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
    let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\nten\n";
    assert_eq!(diff(old, new), "...\n  2\n  3\n  4\n- 5\n+ five\n  6\n  7\n  8\n  9\n+ ten\n");
    assert_eq!(diff("same\n", "same\n"), "...\n");
}

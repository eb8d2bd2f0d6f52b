//! The rules of the house, read off the sources, so that nobody has to remember them.
//!
//! Every rule is a function from sources to [`Finding`]s, a test that the repository has none, and
//! a test that the rule sees what it forbids. A finding that has to stay is listed in
//! [`EXCEPTIONS`] with the reason; an exception that is no longer needed is itself an error.

#[path = "tidy/calls.rs"]
mod calls;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/local.rs"]
mod local;
#[path = "tidy/site.rs"]
mod site;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::process::Command;

use site::Site;
use source::{Source, root};

/// The modules of the driver and their floors. Imports only go down: a module may name those of
/// lower floors, and none of its own floor or above it.
const FLOORS: &[(&str, u8)] = &[
    ("wire", 0),
    ("error", 1),
    ("crypto", 1),
    ("types", 2),
    ("auth", 2),
    ("config", 2),
    ("row", 3),
    ("engine", 4),
    ("net", 4),
    ("connection", 5),
    ("pool", 6),
];

const MODULE_LINES: usize = 700;
const FUNCTION_LINES: usize = 70;
const LINE_COLUMNS: usize = 110;

/// What may stay as it is.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: Rule::FunctionSize,
        place: "src/engine/usual.rs: step_usual",
        reason: "one loop over what comes most often: with a part of it in a function of its own a \
                 query costs a hundred instructions more",
    },
    Exception {
        rule: Rule::FunctionSize,
        place: "src/engine/answer.rs: step_request",
        reason: "a table: one arm for each message in each phase, to be read as a whole",
    },
];

/// One thing that a rule would forbid.
struct Exception {
    rule: Rule,
    /// The file, the file and function as `src/a.rs: f`, or the modules as `auth -> config`: what
    /// the message of the finding has in front, without the line.
    place: &'static str,
    /// Why it is right as it is.
    reason: &'static str,
}

/// The rules that findings are about and exceptions are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Floors,
    ModuleSize,
    FunctionSize,
    LineWidth,
    Sleep,
    Clock,
    NetworkBytes,
    Unsafe,
    LocalNames,
}

/// A place that breaks a rule.
#[derive(Debug)]
struct Finding {
    rule: Rule,
    place: String,
    line: usize,
    message: String,
}

impl Finding {
    /// About a file.
    fn file(rule: Rule, source: &Source, line: usize, message: impl Into<String>) -> Self {
        Self { rule, place: source.path.clone(), line, message: message.into() }
    }

    /// About a place in a function, or in a file between its functions.
    fn site(rule: Rule, source: &Source, site: &Site, message: impl Into<String>) -> Self {
        let place = match &site.function {
            Some(function) => format!("{}: {function}", source.path),
            None => source.path.clone(),
        };
        Self { rule, place, line: site.line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {}): {}", self.place, self.line, self.message)
    }
}

/// The findings that no exception covers, and the exceptions that cover no finding.
fn problems(rule: Rule, findings: &[Finding], exceptions: &[Exception]) -> Vec<String> {
    let of_rule = || exceptions.iter().filter(|exception| exception.rule == rule);
    let mut problems: Vec<String> = Vec::new();
    for finding in findings.iter().filter(|finding| finding.rule == rule) {
        if !of_rule().any(|exception| exception.place == finding.place) {
            problems.push(finding.to_string());
        }
    }
    for exception in of_rule() {
        if exception.reason.is_empty() {
            problems.push(format!("{}: the exception has no reason", exception.place));
        }
        if !findings.iter().any(|finding| finding.rule == rule && finding.place == exception.place)
        {
            let place = exception.place;
            problems.push(format!(
                "{place}: the exception is no longer needed, remove it from EXCEPTIONS"
            ));
        }
    }
    problems
}

#[track_caller]
fn assert_tidy(rule: Rule, findings: &[Finding]) {
    let problems = problems(rule, findings, EXCEPTIONS);
    assert!(
        problems.is_empty(),
        "{} against the rule {rule:?}:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// That a rule finds this, and in these words, in a source text that breaks it.
#[track_caller]
fn assert_found(findings: &[Finding], expected: &[&str]) {
    let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

/// The names of the packages in what `cargo tree --prefix none` printed.
fn packages(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn the_default_build_is_exactly_chopin_pg_and_libc() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--package", "chopin-pg", "--edges", "normal,build"])
        .args(["--prefix", "none", "--target", "all"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(packages(&tree), BTreeSet::from(["chopin-pg", "libc"]));
}

#[test]
fn another_dependency_is_found() {
    let tree = "chopin-pg v0.1.0 (/src)\nlibc v0.2.1\nmemchr v2.0.0\nlibc v0.2.1 (*)\n";
    assert_eq!(packages(tree), BTreeSet::from(["chopin-pg", "libc", "memchr"]));
}

#[test]
fn an_exception_covers_its_place_and_rule_only() {
    let findings = floors::floors(&Source::new("src/auth/mod.rs", "use crate::config::A;"));
    let exception = |rule, place, reason| Exception { rule, place, reason };
    let covered = [exception(Rule::Floors, "auth -> config", "they belong together")];
    assert_eq!(problems(Rule::Floors, &findings, &covered), [""; 0]);

    let other_rule = [exception(Rule::Sleep, "auth -> config", "they belong together")];
    assert_eq!(problems(Rule::Floors, &findings, &other_rule).len(), 1);

    let unneeded = [exception(Rule::Floors, "auth -> config", "they belong together")];
    let problem = "auth -> config: the exception is no longer needed, remove it from EXCEPTIONS";
    assert_eq!(problems(Rule::Floors, &[], &unneeded), [problem]);

    let silent = [exception(Rule::Floors, "auth -> config", "")];
    assert_eq!(
        problems(Rule::Floors, &findings, &silent),
        ["auth -> config: the exception has no reason"]
    );
}

//! Modules, functions and lines that fit into a head. Generated tables may be of any size.

use crate::site::{Sites, What};
use crate::source::{GENERATED, Source, workspace_sources};
use crate::{FUNCTION_LINES, Finding, LINE_COLUMNS, MODULE_LINES, Rule, assert_found, assert_tidy};

/// Modules, functions and lines that are too long. Those of generated tables may be.
fn sizes(source: &Source) -> Vec<Finding> {
    if source.is_generated() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > MODULE_LINES {
        let message = format!("the module has {lines} lines, {MODULE_LINES} are enough: split it");
        findings.push(Finding::file(Rule::ModuleSize, source, lines, message));
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS {
            let message = format!("the line has {columns} columns, {LINE_COLUMNS} are enough");
            findings.push(Finding::file(Rule::LineWidth, source, index + 1, message));
        }
    }
    for site in Sites::of(source) {
        let What::Function(lines) = site.what else {
            continue;
        };
        if lines > FUNCTION_LINES {
            let message =
                format!("the function has {lines} lines, {FUNCTION_LINES} are enough: split it");
            findings.push(Finding::site(Rule::FunctionSize, source, &site, message));
        }
    }
    findings
}

fn workspace_sizes() -> Vec<Finding> {
    workspace_sources().iter().flat_map(sizes).collect()
}

#[test]
fn modules_have_at_most_700_lines() {
    assert_tidy(Rule::ModuleSize, &workspace_sizes());
}

#[test]
fn functions_have_at_most_70_lines() {
    assert_tidy(Rule::FunctionSize, &workspace_sizes());
}

#[test]
fn lines_have_at_most_110_columns() {
    assert_tidy(Rule::LineWidth, &workspace_sizes());
}

#[test]
fn what_is_too_long_is_found() {
    let module = Source::new("src/a.rs", &"\n".repeat(701));
    assert_found(
        &sizes(&module),
        &["src/a.rs (line 701): the module has 701 lines, 700 are enough: split it"],
    );

    let line = Source::new("src/a.rs", &format!("//\n// {}", "\u{fc}".repeat(108)));
    assert_found(&sizes(&line), &["src/a.rs (line 2): the line has 111 columns, 110 are enough"]);

    let body = "\n".repeat(70);
    let message = "the function has 71 lines, 70 are enough: split it";
    for text in [
        format!("#[inline]\nfn f() {{{body}}}"),
        format!("impl A {{\nfn f() {{{body}}} }}"),
        format!("trait A {{\nfn f() {{{body}}} }}"),
    ] {
        assert_found(
            &sizes(&Source::new("src/a.rs", &text)),
            &[&format!("src/a.rs: f (line 2): {message}")],
        );
    }
}

#[test]
fn what_just_fits_and_generated_tables_are_not_found() {
    let body = "\n".repeat(69);
    for text in [
        "\n".repeat(700),
        format!("// {}", "a".repeat(107)),
        format!("fn f() {{{body}}}"),
        format!("{GENERATED} catalog`\n// {}{}", "a".repeat(200), "\n".repeat(900)),
    ] {
        assert_found(&sizes(&Source::new("src/a.rs", &text)), &[]);
    }
}

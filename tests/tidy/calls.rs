//! What the driver does not call, where: sleeping, the clock, what panics on bytes from the
//! network, and unsafe code.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use crate::site::{Sites, What};
use crate::source::{Source, driver_sources, mark_test_modules};
use crate::{Finding, Rule, assert_found, assert_tidy};

/// Waiting is poll(2)'s, in one place: what sleeps is late, or spins.
fn sleeps(source: &Source) -> Vec<Finding> {
    let sleeps = |path: &[String]| path.last().is_some_and(|last| last.starts_with("sleep"));
    let calls = Sites::of(source)
        .into_iter()
        .filter(|site| matches!(&site.what, What::Path(path) if sleeps(path)));
    let message = "sleeping is not waiting: wait in poll(2) for the event or the deadline";
    calls.map(|site| Finding::site(Rule::Sleep, source, &site, message.to_owned())).collect()
}

#[test]
fn nothing_in_the_driver_sleeps() {
    let findings: Vec<Finding> = driver_sources().iter().flat_map(sleeps).collect();
    assert_tidy(Rule::Sleep, &findings);
}

#[test]
fn a_sleep_is_found() {
    let message = "sleeping is not waiting: wait in poll(2) for the event or the deadline";
    for text in ["fn f() { std::thread::sleep(d) }", "fn f() { use std::thread::{self, sleep}; }"] {
        let found = sleeps(&Source::new("src/pool/mod.rs", text));
        assert_found(&found, &[&format!("src/pool/mod.rs: f (line 1): {message}")]);
    }
    assert_found(
        &sleeps(&Source::new("src/pool/mod.rs", "fn f(sleep: u8) { sleep; a::asleep() }")),
        &[],
    );
}

/// The modules that never ask what time it is: where time matters, it is an argument.
const TIMELESS: [&str; 4] = ["wire", "types", "row", "engine"];

fn clocks(source: &Source) -> Vec<Finding> {
    let module = source.module().unwrap_or_default();
    if !module.first().is_some_and(|first| TIMELESS.contains(&first.as_str())) {
        return Vec::new();
    }
    let reads = |what: &What| match what {
        What::Path(path) => path.last().is_some_and(|last| last == "now"),
        What::Method(name) => name == "elapsed",
        _ => false,
    };
    let sites = Sites::of(source).into_iter().filter(|site| !site.test && reads(&site.what));
    let message = format!("{} reads no clock: take the time as an argument", module[0]);
    sites.map(|site| Finding::site(Rule::Clock, source, &site, message.clone())).collect()
}

#[test]
fn wire_types_rows_and_engine_read_no_clock() {
    let findings: Vec<Finding> = driver_sources().iter().flat_map(clocks).collect();
    assert_tidy(Rule::Clock, &findings);
}

#[test]
fn a_clock_is_found() {
    let message = "engine reads no clock: take the time as an argument";
    for call in [
        "Instant::now()",
        "std::time::SystemTime::now()",
        "start.elapsed()",
        "log!(Instant::now())",
    ] {
        let found = clocks(&Source::new("src/engine/a.rs", &format!("fn f() {{ {call}; }}")));
        assert_found(&found, &[&format!("src/engine/a.rs: f (line 1): {message}")]);
    }
    let allowed =
        "fn f(now: Instant) { now; } #[cfg(test)] mod tests { fn g() { Instant::now(); } }";
    assert_found(&clocks(&Source::new("src/engine/a.rs", allowed)), &[]);
    assert_found(&clocks(&Source::new("src/net/a.rs", "fn f() { Instant::now(); }")), &[]);
}

/// Whether bytes from the network come by here. The reader of `wire` and the buffers of the engine
/// are where they are cut to measure, with bounds that are checked and tested there.
fn meets_network(source: &Source) -> bool {
    let module = source.module().unwrap_or_default();
    match module.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["wire", "reader", ..] => false,
        ["engine", buffers, ..] if buffers.starts_with("buffer") => false,
        [first, ..] => {
            ["wire", "error", "types", "auth", "row", "engine", "net", "connection"].contains(first)
        }
        [] => false,
    }
}

/// Calls and expressions that panic when the network does not send what was expected.
fn panics(source: &Source) -> Vec<Finding> {
    if !meets_network(source) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for site in Sites::of(source).into_iter().filter(|site| !site.test) {
        let message = match &site.what {
            What::Index => {
                "indexing panics: use get, first, split_at_checked or the reader".to_owned()
            }
            What::Method(name)
                if ["unwrap", "expect", "unwrap_err", "expect_err"].contains(&&**name) =>
            {
                format!("{name} panics: return an error that says what was wrong")
            }
            _ => continue,
        };
        findings.push(Finding::site(Rule::NetworkBytes, source, &site, message));
    }
    findings
}

#[test]
fn floors_that_meet_the_network_neither_index_nor_unwrap() {
    let findings: Vec<Finding> = driver_sources().iter().flat_map(panics).collect();
    assert_tidy(Rule::NetworkBytes, &findings);
}

#[test]
fn indexing_and_unwrapping_are_found() {
    let index = "indexing panics: use get, first, split_at_checked or the reader";
    for code in
        ["a[0]", "f()[1..]", "a.b[i] = 1", "write!(w, \"{}\", a[0])", "assert!(x.y()[0] == 1)"]
    {
        let found = panics(&Source::new("src/row/a.rs", &format!("fn f() {{ {code}; }}")));
        assert_found(&found, &[&format!("src/row/a.rs: f (line 1): {index}")]);
    }
    for method in ["unwrap", "expect", "unwrap_err"] {
        let message = format!(
            "src/net/a.rs: f (line 2): {method} panics: return an error that says what was wrong"
        );
        for code in [format!("a.{method}()"), format!("debug_assert!(a.{method}())")] {
            let source = Source::new("src/net/a.rs", &format!("fn f() {{\n {code}; }}"));
            assert_found(&panics(&source), &[&message]);
        }
    }
}

#[test]
fn indexing_and_unwrapping_may_stand_in_tests_readers_and_buffers() {
    let code = "fn f() { a[0]; b.unwrap(); }";
    for path in
        ["src/wire/reader.rs", "src/engine/buffer.rs", "src/engine/buffers/a.rs", "src/pool/mod.rs"]
    {
        assert_found(&panics(&Source::new(path, code)), &[]);
    }
    for test in [format!("#[cfg(test)] mod tests {{ {code} }}"), format!("#[test] {code}")] {
        assert_found(&panics(&Source::new("src/wire/a.rs", &test)), &[]);
    }
    let other = "fn f(a: [u8; 2]) -> &[u8] {
        vec![1, 2]; matches!(a, [1, ..]); for x in [1] {} a.unwrap_or(1); log!(if [1] == b {})
    }";
    assert_found(&panics(&Source::new("src/wire/a.rs", other)), &[]);

    let mut files = [
        Source::new("src/wire/mod.rs", "#[cfg(test)]\nmod samples;\nmod frame;"),
        Source::new("src/wire/samples.rs", code),
        Source::new("src/wire/frame.rs", code),
    ];
    mark_test_modules(&mut files);
    let found: Vec<usize> = files.iter().map(|file| panics(file).len()).collect();
    assert_eq!(found, [0, 0, 2]);
}

fn unsafe_code(source: &Source) -> Vec<Finding> {
    fn lines(tokens: TokenStream, found: &mut BTreeSet<usize>) {
        for token in tokens {
            match token {
                TokenTree::Ident(word) if word == "unsafe" => {
                    found.insert(word.span().start().line);
                }
                TokenTree::Group(group) => lines(group.stream(), found),
                _ => {}
            }
        }
    }
    let module = source.module().unwrap_or_default();
    if module.first().is_some_and(|first| first == "net" || first == "crypto") {
        return Vec::new();
    }
    let mut found = BTreeSet::new();
    lines(source.text.parse().expect("parsed before"), &mut found);
    let message = "unsafe code stands in net and crypto alone";
    found.into_iter().map(|line| Finding::file(Rule::Unsafe, source, line, message)).collect()
}

#[test]
fn unsafe_code_stands_in_net_and_crypto_alone() {
    let findings: Vec<Finding> = driver_sources().iter().flat_map(unsafe_code).collect();
    assert_tidy(Rule::Unsafe, &findings);
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    let message = "src/row/a.rs (line 2): unsafe code stands in net and crypto alone";
    for code in [
        "fn f() {\n unsafe { g() } }",
        "//\nunsafe impl Send for A {}",
        "fn f() {\n log!(unsafe { g() }) }",
    ] {
        assert_found(&unsafe_code(&Source::new("src/row/a.rs", code)), &[message]);
        assert_found(&unsafe_code(&Source::new("src/net/a.rs", code)), &[]);
    }
    assert_found(
        &unsafe_code(&Source::new("src/lib.rs", "#![deny(unsafe_code)] // unsafe\n")),
        &[],
    );
}

//! Imports only go down. See [`FLOORS`].

use crate::site::{Sites, What};
use crate::source::{Source, driver_sources};
use crate::{FLOORS, Finding, Rule, assert_found, assert_tidy};

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The imports of one file that do not go down.
pub(crate) fn floors(source: &Source) -> Vec<Finding> {
    let module = source.module().unwrap_or_default();
    let Some(own) = module.first() else {
        return Vec::new();
    };
    let Some(own_floor) = floor_of(own) else {
        return vec![Finding::file(
            Rule::Floors,
            source,
            1,
            format!("{own} has no floor, give it one in FLOORS"),
        )];
    };
    let mut findings = Vec::new();
    for site in Sites::of(source) {
        let What::Path(path) = &site.what else {
            continue;
        };
        let [first, target, ..] = path.as_slice() else {
            continue;
        };
        if first != "crate" || target == own {
            continue;
        }
        let message = match floor_of(target) {
            Some(floor) if floor < own_floor => continue,
            Some(floor) => {
                let way = if floor == own_floor { "sideways" } else { "up" };
                format!(
                    "{own} (floor {own_floor}) imports {target} (floor {floor}), which goes {way}"
                )
            }
            None => format!(
                "crate::{target} hides its floor, import it from the module that defines it"
            ),
        };
        let place = format!("{own} -> {target}");
        let message = format!("{}: {message}", source.path);
        findings.push(Finding { rule: Rule::Floors, place, line: site.line, message });
    }
    findings
}

#[test]
fn floors_import_only_downwards() {
    let findings: Vec<Finding> = driver_sources().iter().flat_map(floors).collect();
    assert_tidy(Rule::Floors, &findings);
}

#[test]
fn an_import_that_goes_up_or_sideways_is_found() {
    let up =
        Source::new("src/wire/reader.rs", "use crate::engine::Engine;\nuse super::frame::Frame;");
    let message = "src/wire/reader.rs: wire (floor 0) imports engine (floor 4), which goes up";
    assert_found(&floors(&up), &[&format!("wire -> engine (line 1): {message}")]);

    let sideways =
        Source::new("src/auth/mod.rs", "fn a() { crate::config::b(); crate::error::c(); }");
    let message = "src/auth/mod.rs: auth (floor 2) imports config (floor 2), which goes sideways";
    assert_found(&floors(&sideways), &[&format!("auth -> config (line 1): {message}")]);
}

#[test]
fn an_import_is_found_behind_super_in_groups_and_in_macros() {
    let places = |path: &str, text: &str| {
        let findings = floors(&Source::new(path, text));
        findings.iter().map(|finding| finding.place.clone()).collect::<Vec<_>>()
    };
    assert_eq!(places("src/row/column.rs", "use super::super::pool;"), ["row -> pool"]);
    assert_eq!(places("src/row/mod.rs", "mod a { use super::super::net::Tcp; }"), ["row -> net"]);
    assert_eq!(
        places("src/types/mod.rs", "use crate::{wire, row::{self, Row}};"),
        ["types -> row"; 2]
    );
    assert_eq!(
        places("src/error/mod.rs", "fn a() { assert!(1 == crate::types::N); }"),
        ["error -> types"]
    );
    assert_eq!(
        places("src/net/mod.rs", "use crate::PgError; use super::*;"),
        ["net -> PgError", "net -> *"]
    );
    assert_eq!(
        places("src/row/mod.rs", "pub(crate) fn a() {} pub(in crate::row) fn b() {}"),
        [""; 0]
    );
    assert_eq!(places("src/lib.rs", "pub use crate::pool::PgPool; mod wire;"), [""; 0]);
}

#[test]
fn a_module_without_a_floor_is_found() {
    let source = Source::new("src/extra.rs", "");
    assert_found(
        &floors(&source),
        &["src/extra.rs (line 1): extra has no floor, give it one in FLOORS"],
    );
}

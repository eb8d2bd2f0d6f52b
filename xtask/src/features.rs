//! `cargo xtask features`: every sensible choice of features compiles without a warning.
//!
//! The features are asked of cargo, so a new one is included by itself. What is checked is the
//! library, which is all that a user builds, through clippy: it denies warnings for our own crate
//! alone, where `RUSTFLAGS` would build every dependency again.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;

use crate::workspace;

const PACKAGE: &str = "chopin-pg";

/// Pairs of features that interact: code of one of them is compiled differently when the other is
/// there (`cfg(all(feature = "a", feature = "b"))`, an impl for a type of one in a trait of the
/// other). Alone and all together would not show that just the two of them compile. Add a pair
/// with the code that makes it one. There are none so far.
const INTERACTING: &[[&str; 2]] = &[];

/// Checks each choice of features in turn, goes on after a failure, and names those that failed.
///
/// # Errors
/// When cargo cannot say which features there are, or a pair names one that does not exist.
pub(crate) fn run() -> Result<ExitCode> {
    let features = features()?;
    let choices = choices(&features, INTERACTING)?;
    if features.is_empty() {
        eprintln!("{PACKAGE} has no optional features: none, default and all are the same build");
    }
    let mut failed = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        eprintln!("[{}/{}] {PACKAGE} with {}", index + 1, choices.len(), choice.name);
        let mut clippy = workspace::cargo();
        clippy.args(["clippy", "--package", PACKAGE, "--lib"]).args(&choice.flags);
        clippy.args(["--", "-D", "warnings"]);
        if workspace::run(&mut clippy)? != ExitCode::SUCCESS {
            failed.push(choice.name.as_str());
        }
    }
    if failed.is_empty() {
        eprintln!("{} of {} choices of features are clean", choices.len(), choices.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: {PACKAGE} does not pass with: {}", failed.join("; "));
    Ok(ExitCode::FAILURE)
}

/// The features of the package without `default`, which is a choice of them and not one more.
fn features() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot ask cargo for the features")?;
    let package = metadata.packages.iter().find(|package| package.name.as_str() == PACKAGE);
    let package = package.with_context(|| format!("the workspace has no package {PACKAGE}"))?;
    Ok(package.features.keys().filter(|name| *name != "default").cloned().collect())
}

/// One choice of features: its name for people, its flags for cargo.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    name: String,
    flags: Vec<String>,
}

impl Choice {
    fn new(name: impl Into<String>, flags: &[&str]) -> Self {
        Self { name: name.into(), flags: flags.iter().map(ToString::to_string).collect() }
    }

    fn only(features: &[&str]) -> Self {
        let name = format!("only {}", features.join(" and "));
        Self::new(name, &["--no-default-features", "--features", &features.join(",")])
    }
}

fn choices(features: &[String], pairs: &[[&str; 2]]) -> Result<Vec<Choice>> {
    for name in pairs.iter().flatten() {
        let known = features.iter().any(|feature| feature == name);
        ensure!(
            known,
            "the list of pairs that interact names {name}, which is no feature of {PACKAGE}"
        );
    }
    let none = Choice::new("no features", &["--no-default-features"]);
    if features.is_empty() {
        return Ok(vec![none]);
    }
    let mut choices = vec![none, Choice::new("default features", &[])];
    choices.extend(features.iter().map(|feature| Choice::only(&[feature])));
    choices.extend(pairs.iter().map(|pair| Choice::only(pair)));
    choices.push(Choice::new("all features", &["--all-features"]));
    Ok(choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(features: &[&str], pairs: &[[&str; 2]]) -> Result<Vec<String>> {
        let features: Vec<String> = features.iter().map(ToString::to_string).collect();
        Ok(choices(&features, pairs)?.into_iter().map(|choice| choice.name).collect())
    }

    #[test]
    fn without_features_there_is_one_build() {
        assert_eq!(names(&[], &[]).unwrap(), ["no features"]);
    }

    #[test]
    fn none_default_each_pairs_and_all() {
        assert_eq!(
            names(&["tls", "uuid"], &[["tls", "uuid"]]).unwrap(),
            [
                "no features",
                "default features",
                "only tls",
                "only uuid",
                "only tls and uuid",
                "all features"
            ]
        );
        let pair = Choice::only(&["tls", "uuid"]);
        assert_eq!(pair.flags, ["--no-default-features", "--features", "tls,uuid"]);
    }

    #[test]
    fn a_pair_with_an_unknown_feature_is_an_error() {
        let error = names(&["tls"], &[["tls", "uuid"]]).unwrap_err().to_string();
        assert!(error.contains("names uuid, which is no feature"), "{error}");
    }

    #[test]
    fn the_pairs_name_features_that_exist() {
        choices(&features().unwrap(), INTERACTING).unwrap();
    }
}

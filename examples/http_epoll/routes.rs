//! What can be asked for.

use std::time::Duration;

use super::http::{Response, Status};

/// The most rows of one `/queries` or `/updates`.
const MOST_ROWS: usize = 500;

/// The longest `/slow`.
const LONGEST: Duration = Duration::from_secs(60);

/// How long `/slow` takes unless it says.
const USUAL: Duration = Duration::from_millis(100);

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/db`: one random row of `world`.
    Db,
    /// `/queries?n=`: so many random rows, each by a query of its own.
    Queries(usize),
    /// `/updates?n=`: so many random rows, read and given another number one by one.
    Updates(usize),
    /// `/fortunes`: a page with all rows of `fortune` and one more, sorted.
    Fortunes,
    /// `/slow?ms=`: something that takes so long.
    Slow(Duration),
}

impl Route {
    /// What the target of a request stands for. A number that is missing or makes no sense counts as
    /// the default, one that is out of bounds as the bound.
    ///
    /// # Errors
    ///
    /// The answer to a target that there is not.
    pub(crate) fn parse(target: &str) -> Result<Self, Response> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let number = |name| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name)?.1.parse::<u64>().ok()
        };
        let rows = || {
            let rows = number("n").and_then(|rows| usize::try_from(rows).ok());
            rows.unwrap_or(1).clamp(1, MOST_ROWS)
        };
        Ok(match path {
            "/db" => Self::Db,
            "/queries" => Self::Queries(rows()),
            "/updates" => Self::Updates(rows()),
            "/fortunes" => Self::Fortunes,
            "/slow" => Self::Slow(number("ms").map_or(USUAL, Duration::from_millis).min(LONGEST)),
            _ => return Err(Response::status(Status::NotFound)),
        })
    }
}

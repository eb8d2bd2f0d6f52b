//! What the queries ask for, and how an answer is told from another one.

use chopin_pg::{Delivery, PgConnection, PgError, PgResult, Request, RowRef, SqlState, Ticket};
use rand::Rng;

use super::POINTS;

/// The length of the text in a large row, in bytes.
const LARGE: usize = 100_000;

/// What is asked for. Every answer carries the tag that was sent with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A row by its primary key, by a statement that is cached.
    Point,
    /// One of a few other statements.
    Cached,
    /// A statement that nobody has asked for before, and nobody will again.
    New,
    /// Parameters of several types, which come back as they are.
    Types,
    /// Several rows.
    Rows,
    /// One large row.
    Large,
    /// Takes a few milliseconds.
    Slow,
    /// By the simple protocol.
    Simple,
    /// Fails when it is run; the error carries the tag.
    Failing,
    /// Fails when it is parsed; the error carries the tag.
    Unknown,
}

impl Kind {
    #[cfg(test)]
    pub(super) const COUNT: usize = 10;

    pub(super) fn random(random: &mut impl Rng) -> Self {
        match random.random_range(0..1000) {
            0..450 => Self::Point,
            450..600 => Self::Cached,
            600..660 => Self::New,
            660..760 => Self::Types,
            760..840 => Self::Rows,
            840..850 => Self::Large,
            850..880 => Self::Slow,
            880..930 => Self::Simple,
            930..970 => Self::Failing,
            _ => Self::Unknown,
        }
    }

    /// What it is, for people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Point => "point selects",
            Self::Cached => "of other cached statements",
            Self::New => "of statements that are new",
            Self::Types => "with parameters of several types",
            Self::Rows => "with up to 9 rows",
            Self::Large => "with a row of 100 KB",
            Self::Slow => "that take some milliseconds",
            Self::Simple => "by the simple protocol",
            Self::Failing => "that fail when they are run",
            Self::Unknown => "that fail when they are parsed",
        }
    }

    /// How many rows the answer to the request with this tag has; `None` if it fails.
    pub(super) fn rows(self, tag: i64) -> Option<i64> {
        match self {
            Self::Failing | Self::Unknown => None,
            Self::Rows => Some(tag % 10),
            _ => Some(1),
        }
    }

    /// Queues a request with this tag. `point` is the text of the query for a point.
    pub(super) fn submit(
        self,
        tag: i64,
        point: &str,
        delivery: Delivery,
        connection: &mut PgConnection,
    ) -> PgResult<Ticket> {
        let mut query =
            |sql: &str| connection.submit(Request::Query { sql, params: &(tag,) }, delivery);
        match self {
            Self::Point => {
                let request = Request::Query { sql: point, params: &(tag, point_id(tag)) };
                connection.submit(request, delivery)
            }
            Self::Cached => query(match tag % 3 {
                0 => "select $1",
                1 => "select tag from (values ($1)) as answers (tag)",
                _ => "with answer as (select $1 as tag) select tag, tag + 1 from answer",
            }),
            Self::New => query(&format!("select $1 /* {tag} */")),
            Self::Types => {
                let Values { text, float, is_even, bytes, uuid, numbers, nothing } =
                    Values::of(tag);
                let sql = "select $1, $2::text, $3, $4, $5, $6, $7, $8";
                let params = (tag, text, float, is_even, bytes, uuid, numbers, nothing);
                connection.submit(Request::Query { sql, params: &params }, delivery)
            }
            Self::Rows => query("select $1, i from generate_series(1, $1 % 10) i"),
            Self::Large => query("select $1, repeat(to_char($1, 'FM0000000000'), 10000)"),
            Self::Slow => query("select $1 from pg_sleep(0.001 * (1 + $1 % 8))"),
            Self::Simple => {
                let sql = format!("select {tag}::int8");
                connection.submit(Request::Simple { sql: &sql }, delivery)
            }
            Self::Failing => query("select ('tag ' || $1)::int4"),
            Self::Unknown => query(&format!("select $1 from \"tag {tag}\"")),
        }
    }

    /// Checks that a row is one of the answer to the request with this tag.
    pub(super) fn check_row(self, tag: i64, row: RowRef<'_>) {
        assert_eq!(row.get::<i64>(0).expect("a tag"), tag, "{self:?}");
        match self {
            Self::Point => {
                let label: &str = row.get(1).expect("a text");
                assert_eq!(label, format!("point {}", point_id(tag)));
            }
            Self::Large => {
                let text: &str = row.get(1).expect("a text");
                assert_eq!(text.len(), LARGE);
                assert!(text.ends_with(&format!("{tag:010}")), "{tag}");
            }
            Self::Types => assert_eq!(Values::read(row).expect("the values"), Values::of(tag)),
            _ => {}
        }
    }

    /// Checks that an error is the one of the request with this tag.
    pub(super) fn check_error(self, tag: i64, error: &PgError) {
        let state = match self {
            Self::Failing => SqlState::INVALID_TEXT_REPRESENTATION,
            Self::Unknown => SqlState::UNDEFINED_TABLE,
            _ => panic!("{self:?} {tag}: {error}"),
        };
        assert_eq!(error.sql_state(), Some(state), "{error}");
        let text = format!("\"tag {tag}\"");
        assert!(error.to_string().contains(&text), "{self:?} {tag}: {error}");
    }
}

/// The point that the request with this tag asks for.
fn point_id(tag: i64) -> i32 {
    i32::try_from(tag % i64::from(POINTS)).unwrap_or(0)
}

/// Values of several types that follow from a tag.
#[derive(Debug, PartialEq)]
struct Values {
    text: String,
    float: f64,
    is_even: bool,
    bytes: Vec<u8>,
    uuid: [u8; 16],
    numbers: Vec<i32>,
    nothing: Option<i32>,
}

impl Values {
    fn of(tag: i64) -> Self {
        let number = i32::try_from(tag).unwrap_or(0);
        let word = tag.to_be_bytes();
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&word);
        uuid[8..].copy_from_slice(&word);
        Self {
            text: format!("étude n° {tag}"),
            float: f64::from(number) / 7.0,
            is_even: tag % 2 == 0,
            bytes: word.repeat(4),
            uuid,
            numbers: vec![number; usize::try_from(tag % 5).unwrap_or(0)],
            nothing: None,
        }
    }

    fn read(row: RowRef<'_>) -> PgResult<Self> {
        Ok(Self {
            text: row.get(1)?,
            float: row.get(2)?,
            is_even: row.get(3)?,
            bytes: row.get(4)?,
            uuid: row.get(5)?,
            numbers: row.get(6)?,
            nothing: row.get(7)?,
        })
    }
}

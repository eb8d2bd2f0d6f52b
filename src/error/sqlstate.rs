//! SQLSTATE: the five characters that tell errors apart in every language.

use std::fmt;
use std::str::FromStr;

use super::PgError;
use super::sqlstate_table::NAMES;

/// A SQLSTATE code: five characters, the first two of which are its class.
///
/// All codes of PostgreSQL's own table are constants of this type, named after their conditions:
/// [`SqlState::UNIQUE_VIOLATION`] is `23505`. A function in the database may raise any other code.
///
/// Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes".
///
/// ```
/// use chopin_pg::SqlState;
///
/// let state: SqlState = "23505".parse()?;
/// assert_eq!(state, SqlState::UNIQUE_VIOLATION);
/// assert_eq!(state.class(), "23");
/// assert_eq!(state.name(), Some("unique_violation"));
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The code written as `code`, `None` unless it is five visible ASCII characters.
    ///
    /// The standard has digits and upper-case letters only, but a C function in the server can
    /// make codes of others.
    pub fn from_bytes(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(u8::is_ascii_graphic).then_some(Self(code))
    }

    /// A code of the generated table.
    pub(super) const fn known(code: [u8; 5]) -> Self {
        Self(code)
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in, so that the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The first two characters: the class, which tells what kind of problem it is.
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or_default()
    }

    /// The condition's name as PL/pgSQL and the documentation spell it, such as
    /// `unique_violation`; `None` for a code that is not in PostgreSQL's own table.
    pub fn name(&self) -> Option<&'static str> {
        let at = NAMES.binary_search_by_key(self, |(state, _)| *state).ok()?;
        NAMES.get(at).map(|(_, name)| *name)
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "SqlState({self} {name})"),
            None => write!(f, "SqlState({self})"),
        }
    }
}

impl FromStr for SqlState {
    type Err = PgError;

    fn from_str(code: &str) -> Result<Self, PgError> {
        Self::from_bytes(code.as_bytes()).ok_or_else(|| {
            PgError::Usage(format!("{code:?} is not an SQLSTATE of five characters"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_4_constants_have_code_class_and_name() {
        let state = SqlState::UNIQUE_VIOLATION;
        assert_eq!(state.as_str(), "23505");
        assert_eq!(state.class(), "23");
        assert_eq!(state.name(), Some("unique_violation"));
        assert_eq!(state.to_string(), "23505");
        assert_eq!(format!("{state:?}"), "SqlState(23505 unique_violation)");
        assert_eq!(SqlState::SERIALIZATION_FAILURE.as_str(), "40001");
        // Two codes have this condition; the one that is an error has the plain name.
        assert_eq!(SqlState::STRING_DATA_RIGHT_TRUNCATION.as_str(), "22001");
        assert_eq!(SqlState::WARNING_STRING_DATA_RIGHT_TRUNCATION.as_str(), "01004");
        // A second name of a code.
        assert_eq!(SqlState::UNDEFINED_DATABASE, SqlState::INVALID_CATALOG_NAME);
    }

    #[test]
    fn s4_4_every_named_code_is_found() {
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted, each code once");
        for (state, name) in NAMES {
            assert_eq!(state.name(), Some(name));
            assert_eq!(SqlState::from_bytes(state.as_str().as_bytes()), Some(state));
        }
    }

    #[test]
    fn s4_4_a_code_of_a_function_s_own_is_taken_without_a_name() {
        let state: SqlState = "XYZ99".parse().unwrap();
        assert_eq!((state.class(), state.name()), ("XY", None));
        assert_eq!(format!("{state:?}"), "SqlState(XYZ99)");
    }

    #[test]
    fn s4_4_what_is_not_five_visible_characters_is_no_code() {
        for code in ["", "2350", "235050", "2350\u{e9}", "23 05", "2350\n", "2350\0"] {
            assert_eq!(SqlState::from_bytes(code.as_bytes()), None, "{code:?}");
            assert!(matches!(code.parse::<SqlState>(), Err(PgError::Usage(_))), "{code:?}");
        }
        assert_eq!(SqlState::from_bytes(b"2350\xff"), None);
    }
}

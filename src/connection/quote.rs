//! Names as SQL text.

use crate::error::{PgError, PgResult};

/// A name as a quoted identifier: whatever is in it stays a name, quotes are doubled.
///
/// # Errors
///
/// [`PgError::Usage`] for a name with a zero byte, which no SQL text can have.
pub(crate) fn quote_identifier(name: &str) -> PgResult<String> {
    if name.contains('\0') {
        return Err(PgError::Usage(format!("the name {name:?} has a zero byte")));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h35_a_name_stays_a_name() {
        for (name, quoted) in [
            ("jobs", "\"jobs\""),
            ("", "\"\""),
            ("Étude No. 3", "\"Étude No. 3\""),
            ("a\"; drop table works; --", "\"a\"\"; drop table works; --\""),
            ("\"\"", "\"\"\"\"\"\""),
            ("back\\slash'", "\"back\\slash'\""),
        ] {
            assert_eq!(quote_identifier(name).unwrap(), quoted);
        }
        let error = quote_identifier("a\0b").unwrap_err();
        assert_eq!(error.to_string(), "refused: the name \"a\\0b\" has a zero byte");
    }
}

//! Names and texts as parts of a statement, for the commands that take no parameters.
//!
//! A text is a `&str`, so it is valid UTF-8, and every connection's client_encoding is UTF8: no
//! byte of a character can be taken for a quote.

use crate::error::{PgError, PgResult};

/// The longest name that a server keeps whole, in bytes (`NAMEDATALEN - 1`).
const LONGEST_NAME: usize = 63;

/// A name (of a savepoint, a channel, a table) as a quoted identifier. Whatever is in it, it stays
/// one name.
///
/// ```
/// use chopin_pg::quote_identifier;
///
/// assert_eq!(quote_identifier("works")?, r#""works""#);
/// assert_eq!(quote_identifier(r#"a"; drop table works; --"#)?, r#""a""; drop table works; --""#);
/// assert!(quote_identifier("").is_err());
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # Errors
///
/// [`PgError::Usage`] for what is no name: an empty one, one with a NUL byte, and one of more than
/// 63 bytes, which the server would cut short, so that two names could become one.
pub fn quote_identifier(name: &str) -> PgResult<String> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.contains('\0') {
        "it contains a NUL byte".to_owned()
    } else if name.len() > LONGEST_NAME {
        format!("it has {} bytes, and a server keeps {LONGEST_NAME} of them", name.len())
    } else {
        return Ok(quoted(name));
    };
    Err(PgError::Usage(format!("{name:?} cannot be used as a name: {why}")))
}

/// A name in quotes, so that it stays one name whatever is in it, if it is one.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a string constant. Whatever is in it, it stays one constant; it does not matter what
/// `standard_conforming_strings` is. For values in a query, parameters are better.
///
/// ```
/// use chopin_pg::quote_literal;
///
/// assert_eq!(quote_literal("it's")?, "'it''s'");
/// assert_eq!(quote_literal(r"C:\new")?, r"E'C:\\new'");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # Errors
///
/// [`PgError::Usage`] for a text with a NUL byte, which no text of PostgreSQL can have.
pub fn quote_literal(text: &str) -> PgResult<String> {
    if text.contains('\0') {
        return Err(PgError::Usage(format!(
            "{text:?} cannot be used as a text: it contains a NUL byte"
        )));
    }
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        return Ok(format!("E'{}'", quoted.replace('\\', r"\\")));
    }
    Ok(format!("'{quoted}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h35_names_stay_names_or_are_refused() {
        for (name, quoted) in [
            ("plain", "\"plain\""),
            ("Für Elise", "\"Für Elise\""),
            ("\"", "\"\"\"\""),
            ("a\\\"'$1;--", "\"a\\\"\"'$1;--\""),
        ] {
            assert_eq!(quote_identifier(name).unwrap(), quoted);
        }
        let longest = "é".repeat(31) + "x";
        assert_eq!(quote_identifier(&longest).unwrap().len(), 65);
        for (name, why) in [
            ("", "\"\" cannot be used as a name: it is empty"),
            ("a\0b", "\"a\\0b\" cannot be used as a name: it contains a NUL byte"),
        ] {
            assert!(quote_identifier(name).unwrap_err().to_string().ends_with(why));
        }
        let long = quote_identifier(&"é".repeat(32)).unwrap_err().to_string();
        assert!(long.ends_with("it has 64 bytes, and a server keeps 63 of them"), "{long}");
    }

    #[test]
    fn h35_texts_stay_texts_or_are_refused() {
        for (text, quoted) in
            [("", "''"), ("'", "''''"), (r"\", r"E'\\'"), (r"\'; x", r"E'\\''; x'"), ("ü", "'ü'")]
        {
            assert_eq!(quote_literal(text).unwrap(), quoted);
        }
        let nul = quote_literal("\0").unwrap_err().to_string();
        assert!(nul.ends_with("cannot be used as a text: it contains a NUL byte"), "{nul}");
    }
}

//! Values that do not fit: a cell that is not what the program asked for, a parameter that cannot
//! be sent.

use std::fmt;

/// Why a value of a result cannot be read as a Rust type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionError {
    /// The column's name, where it is known.
    pub column: Option<String>,
    /// The Rust type that was asked for, as [`std::any::type_name`] gives it.
    pub rust_type: &'static str,
    /// The SQL type that the server described: its name, or its OID if the name is not known.
    pub pg_type: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = &self.column {
            write!(f, "column \"{column}\": ")?;
        }
        let Self { pg_type, message, .. } = self;
        write!(f, "cannot read {pg_type} as {}: {message}", short_type_name(self.rust_type))
    }
}

/// Why a Rust value cannot be sent as a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// The parameter's number, where it is known: 1 for `$1`.
    pub index: Option<usize>,
    /// Which parameter set of a batch, or which row of a COPY, the value is in, counted from 0;
    /// `None` outside of these.
    pub set: Option<usize>,
    /// The column of a COPY that the value is for; `None` for a parameter.
    pub column: Option<String>,
    /// The Rust type of the value, as [`std::any::type_name`] gives it.
    pub rust_type: &'static str,
    /// The SQL type that the value was to be sent as, where one is known.
    pub pg_type: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.column, self.set) {
            (Some(column), Some(row)) => write!(f, "row {}, column \"{column}\" ", row + 1)?,
            (Some(column), None) => write!(f, "column \"{column}\" ")?,
            (None, set) => {
                f.write_str("parameter ")?;
                if let Some(index) = self.index {
                    write!(f, "${index} ")?;
                }
                if let Some(set) = set {
                    write!(f, "of set {set} ")?;
                }
            }
        }
        write!(f, "({}", short_type_name(self.rust_type))?;
        if let Some(pg_type) = &self.pg_type {
            write!(f, " as {pg_type}")?;
        }
        write!(f, "): {}", self.message)
    }
}

/// A type's name without the modules: `Option<String>` for
/// `core::option::Option<alloc::string::String>`.
pub(crate) fn short_type_name(full: &str) -> String {
    let mut short = String::with_capacity(full.len());
    for piece in full.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        short.push_str(piece.rsplit("::").next().unwrap_or(piece));
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s8_3_a_conversion_error_names_column_and_both_types() {
        let mut error = ConversionError {
            column: Some("total".to_owned()),
            rust_type: std::any::type_name::<Option<String>>(),
            pg_type: "int8".to_owned(),
            message: "this Rust type does not read that SQL type".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "column \"total\": cannot read int8 as Option<String>: \
             this Rust type does not read that SQL type"
        );
        error.column = None;
        assert!(error.to_string().starts_with("cannot read int8 as Option<String>: "));
    }

    #[test]
    fn s8_3_a_parameter_error_names_its_number_and_type() {
        let mut error = ParameterError {
            index: Some(2),
            set: None,
            column: None,
            rust_type: std::any::type_name::<&str>(),
            pg_type: Some("text".to_owned()),
            message: "a NUL byte at 3".to_owned(),
        };
        assert_eq!(error.to_string(), "parameter $2 (&str as text): a NUL byte at 3");
        error.set = Some(17);
        assert_eq!(error.to_string(), "parameter $2 of set 17 (&str as text): a NUL byte at 3");
        error.pg_type = None;
        error.index = None;
        assert_eq!(error.to_string(), "parameter of set 17 (&str): a NUL byte at 3");
        error.set = None;
        assert_eq!(error.to_string(), "parameter (&str): a NUL byte at 3");
    }

    #[test]
    fn h49_the_error_of_a_cell_names_its_row_and_column() {
        let mut error = ParameterError {
            index: None,
            set: Some(2),
            column: Some("at".to_owned()),
            rust_type: std::any::type_name::<i64>(),
            pg_type: Some("timestamptz".to_owned()),
            message: "no".to_owned(),
        };
        assert_eq!(error.to_string(), "row 3, column \"at\" (i64 as timestamptz): no");
        error.set = None;
        assert_eq!(error.to_string(), "column \"at\" (i64 as timestamptz): no");
    }

    #[test]
    fn s8_3_type_names_lose_their_modules_and_nothing_else() {
        use std::collections::HashMap;
        assert_eq!(short_type_name(std::any::type_name::<i32>()), "i32");
        assert_eq!(
            short_type_name(std::any::type_name::<Vec<Option<&[u8]>>>()),
            "Vec<Option<&[u8]>>"
        );
        assert_eq!(
            short_type_name(std::any::type_name::<(String, [f64; 2])>()),
            "(String, [f64; 2])"
        );
        let map =
            short_type_name(std::any::type_name::<HashMap<String, Box<dyn fmt::Debug>, ()>>());
        assert_eq!(map, "HashMap<String, Box<dyn Debug>, ()>");
        assert_eq!(short_type_name(std::any::type_name::<ConversionError>()), "ConversionError");
        assert_eq!(short_type_name(""), "");
    }
}

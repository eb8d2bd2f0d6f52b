//! The server's catalogue of types as constants of `Oid` and a table to look types up in.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};

/// The types that every server has: those with a number that initdb does not choose, without the
/// row types of the catalogue's own tables. True arrays are told from types that merely have
/// elements (`point`, `name`) as the server does it, by their subscript handler.
///
/// Columns: oid, name, `typtype`, length, array type, element type and its name, subtype of a
/// range or range of a multirange, description.
pub(super) const QUERY: &str = "
SELECT t.oid, t.typname, t.typtype, t.typlen, t.typarray,
       coalesce(e.oid, 0), coalesce(e.typname, ''),
       coalesce(r.rngsubtype, m.rngtypid, 0),
       coalesce(obj_description(t.oid, 'pg_type'), '')
FROM pg_type t
LEFT JOIN pg_type e
       ON e.oid = t.typelem AND t.typsubscript = 'array_subscript_handler'::regproc
LEFT JOIN pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
WHERE t.oid < 10000 AND t.typtype IN ('b', 'p', 'r', 'm') AND e.typtype IS DISTINCT FROM 'c'
ORDER BY t.oid";

/// One row of the answer to [`QUERY`].
pub(super) struct Type {
    oid: u32,
    name: String,
    typtype: String,
    len: i16,
    array: u32,
    element: u32,
    element_name: String,
    subtype: u32,
    description: String,
}

impl Type {
    /// Reads one row as the simple protocol gives it.
    ///
    /// # Errors
    /// When the row is not one of [`QUERY`].
    pub(super) fn from_row(row: &[Option<String>]) -> Result<Type> {
        let cells: Option<Vec<&str>> = row.iter().map(Option::as_deref).collect();
        let cells = cells.context("a NULL in the answer")?;
        let [oid, name, typtype, len, array, element, element_name, subtype, description] =
            cells[..]
        else {
            bail!("{} columns in the answer", cells.len());
        };
        Ok(Type {
            oid: oid.parse()?,
            name: name.to_owned(),
            typtype: typtype.to_owned(),
            len: len.parse()?,
            array: array.parse()?,
            element: element.parse()?,
            element_name: element_name.to_owned(),
            subtype: subtype.parse()?,
            description: description.to_owned(),
        })
    }

    /// The constant's name: the type's in upper case; for `_int4` it is `INT4_ARRAY`.
    fn constant(&self) -> String {
        match self.is_named_after_its_element() {
            true => format!("{}_ARRAY", self.element_name.to_uppercase()),
            false => self.name.to_uppercase(),
        }
    }

    /// All arrays but `int2vector` and `oidvector`.
    fn is_named_after_its_element(&self) -> bool {
        self.element != 0 && self.name == format!("_{}", self.element_name)
    }

    fn doc(&self) -> String {
        if self.is_named_after_its_element() {
            return format!("Array of [`Self::{}`].", self.element_name.to_uppercase());
        }
        let mut doc = format!("`{}`", self.name);
        if !self.description.is_empty() {
            doc.push_str(": ");
        }
        for character in self.description.chars() {
            if "[]<>*".contains(character) {
                doc.push('\\');
            }
            doc.push(character);
        }
        doc.push('.');
        doc
    }

    /// The call of the constructor for this kind of type.
    fn row(&self) -> Result<String> {
        let Type { oid, name, len, array, element, subtype, .. } = self;
        Ok(match self.typtype.as_str() {
            _ if *element != 0 => {
                ensure!(*len == -1, "{name} is an array of a fixed length");
                format!("TypeInfo::array({oid}, \"{name}\", {element}, {array})")
            }
            "b" => format!("TypeInfo::base({oid}, \"{name}\", {len}, {array})"),
            "p" => format!("TypeInfo::pseudo({oid}, \"{name}\", {len}, {array})"),
            "r" => format!("TypeInfo::range({oid}, \"{name}\", {subtype}, {array})"),
            "m" => format!("TypeInfo::multirange({oid}, \"{name}\", {subtype}, {array})"),
            other => bail!("{name} has the unknown typtype {other}"),
        })
    }
}

/// The generated file: a constant for each type, the table and its look-up.
///
/// # Errors
/// When a type is of an unknown kind, or two would get the same constant.
pub(super) fn render(header: &str, types: &[Type]) -> Result<String> {
    let mut by_constant = BTreeMap::new();
    for item in types {
        let constant = item.constant();
        if let Some(other) = by_constant.insert(constant.clone(), &item.name) {
            bail!("{other} and {} would both be called {constant}", item.name);
        }
    }
    ensure!(types.is_sorted_by_key(|item| item.oid), "the types are not sorted by number");

    let mut out = format!(
        "{header}\n\
         //! The types of a stock server's `pg_type`: base types, arrays, ranges, multiranges,\n\
         //! pseudo-types; without the row types of the catalogue's own tables.\n\n\
         use super::Oid;\n\
         pub use super::oid::{{TypeInfo, TypeKind}};\n\n\
         impl Oid {{\n"
    );
    for item in types {
        writeln!(out, "    /// {}", item.doc())?;
        writeln!(out, "    pub const {}: Self = Self::new({});\n", item.constant(), item.oid)?;
    }
    out.push_str("}\n\n/// The types, sorted by number.\n");
    writeln!(out, "pub(super) static TYPES: [TypeInfo; {}] = [", types.len())?;
    for item in types {
        writeln!(out, "    {},", item.row()?)?;
    }
    out.push_str(
        "];\n\n\
         /// What a stock server says about type `oid`, `None` if it has no such type.\n\
         pub(super) fn builtin(oid: u32) -> Option<&'static TypeInfo> {\n    \
             let at = TYPES.binary_search_by_key(&oid, |info| info.oid).ok()?;\n    \
             TYPES.get(at)\n\
         }\n",
    );
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of the catalogue, its cells separated by `|`.
    fn a_type(row: &str) -> Type {
        let cells: Vec<_> = row.split('|').map(|cell| Some(cell.to_owned())).collect();
        Type::from_row(&cells).unwrap()
    }

    fn render_rows(rows: &[&str]) -> Result<String> {
        let types: Vec<Type> = rows.iter().map(|row| a_type(row)).collect();
        render("// header", &types)
    }

    #[test]
    fn each_kind_of_type_gets_its_constant_and_its_row() {
        let rows = [
            "21|int2|b|2|1005|0||0|-32 thousand to 32 thousand, 2-byte storage",
            "22|int2vector|b|-1|1006|21|int2|0|array of int2, used in system tables",
            "718|circle|b|24|719|0||0|geometric circle, format '<center point,radius>'",
            "1005|_int2|b|-1|0|21|int2|0|",
            "2249|record|p|-1|2287|0||0|",
            "3904|int4range|r|-1|3905|0||23|range of integers",
            "4451|int4multirange|m|-1|6150|0||3904|multirange of integers",
        ];
        let out = render_rows(&rows).unwrap();
        for line in [
            "/// `int2`: -32 thousand to 32 thousand, 2-byte storage.",
            "pub const INT2: Self = Self::new(21);",
            "TypeInfo::base(21, \"int2\", 2, 1005),",
            "pub const INT2VECTOR: Self = Self::new(22);",
            "TypeInfo::array(22, \"int2vector\", 21, 1006),",
            "/// `circle`: geometric circle, format '\\<center point,radius\\>'.",
            "/// Array of [`Self::INT2`].",
            "pub const INT2_ARRAY: Self = Self::new(1005);",
            "TypeInfo::array(1005, \"_int2\", 21, 0),",
            "/// `record`.",
            "TypeInfo::pseudo(2249, \"record\", -1, 2287),",
            "TypeInfo::range(3904, \"int4range\", 23, 3905),",
            "TypeInfo::multirange(4451, \"int4multirange\", 3904, 6150),",
            "static TYPES: [TypeInfo; 7] = [",
        ] {
            assert!(out.lines().any(|l| l.trim().ends_with(line)), "{line} is not in:\n{out}");
        }
    }

    #[test]
    fn rows_that_cannot_be_right_are_errors() {
        assert!(render_rows(&["16|bool|x|1|1000|0||0|"]).is_err(), "an unknown typtype");
        assert!(render_rows(&["22|a|b|2|0|21|int2|0|"]).is_err(), "an array of a fixed length");
        let unsorted = ["17|bytea|b|-1|1001|0||0|", "16|bool|b|1|1000|0||0|"];
        assert!(render_rows(&unsorted).is_err(), "not sorted");
        let same = ["16|bool|b|1|1000|0||0|", "17|bool|b|1|1000|0||0|"];
        assert!(render_rows(&same).is_err(), "two of one name");
        assert!(Type::from_row(&[Some("16".to_owned()), None]).is_err());
        assert!(Type::from_row(&[Some("16".to_owned())]).is_err());
    }
}

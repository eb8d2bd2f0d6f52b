//! `errcodes.txt`, the server's own list of error codes, as constants of `SqlState`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};

/// The generated file: a constant for each line of the list, and the names by code.
///
/// # Errors
/// When a line of the list is not understood, or two codes would get the same constant.
pub(super) fn render(header: &str, list: &str) -> Result<String> {
    let sections = parse(list)?;
    let mut out = format!(
        "{header}\n\
         //! The codes of PostgreSQL's `errcodes.txt`.\n\n\
         use super::SqlState;\n\n"
    );
    render_constants(&mut out, &sections)?;
    render_names(&mut out, &sections)?;
    Ok(out)
}

/// The codes of one class, in the order of the list.
struct Section {
    /// Such as `Class 23 - Integrity Constraint Violation`.
    title: String,
    codes: Vec<Code>,
}

struct Code {
    sqlstate: String,
    /// The macro's name in the server's source, without `ERRCODE_`. No two codes share one.
    macro_name: String,
    /// The condition's name in PL/pgSQL. Some codes share one; second names of a code have none.
    condition: Option<String>,
}

fn parse(list: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in list.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("Section:") {
            sections.push(Section { title: title.trim().to_owned(), codes: Vec::new() });
            continue;
        }
        let code = parse_code(line).with_context(|| format!("line {}: {line}", number + 1))?;
        let section = sections.last_mut().context("a code before the first section")?;
        section.codes.push(code);
    }
    Ok(sections)
}

/// Reads `23505    E    ERRCODE_UNIQUE_VIOLATION    unique_violation`.
fn parse_code(line: &str) -> Result<Code> {
    let mut words = line.split_whitespace();
    let (sqlstate, kind, macro_name) = (words.next(), words.next(), words.next());
    let (Some(sqlstate), Some("E" | "W" | "S"), Some(macro_name)) = (sqlstate, kind, macro_name)
    else {
        bail!("not a code, its kind (E, W or S) and its macro");
    };
    ensure!(sqlstate.len() == 5 && sqlstate.is_ascii(), "{sqlstate} is not five characters");
    let macro_name = macro_name.strip_prefix("ERRCODE_").context("no ERRCODE_ macro")?;
    let condition = words.next().map(str::to_owned);
    ensure!(words.next().is_none(), "more than four words");
    Ok(Code { sqlstate: sqlstate.to_owned(), macro_name: macro_name.to_owned(), condition })
}

/// The constants, named after the condition, which is the name that users know
/// (`SERIALIZATION_FAILURE`); where codes share it, or there is none, after the macro.
fn render_constants(out: &mut String, sections: &[Section]) -> Result<()> {
    let codes = || sections.iter().flat_map(|section| &section.codes);
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for condition in codes().filter_map(|code| code.condition.as_deref()) {
        *uses.entry(condition).or_default() += 1;
    }
    let constant = |code: &Code| match &code.condition {
        Some(condition) if uses[condition.as_str()] == 1 => condition.to_uppercase(),
        _ => code.macro_name.clone(),
    };
    let mut taken = BTreeSet::new();

    out.push_str("impl SqlState {\n");
    for section in sections {
        writeln!(out, "    // {}\n", section.title)?;
        for code in &section.codes {
            let (name, sqlstate) = (constant(code), &code.sqlstate);
            let first =
                codes().find(|other| other.sqlstate == *sqlstate && other.condition.is_some());
            let doc = match (&code.condition, first) {
                (Some(condition), _) => format!("`{sqlstate}` {condition}."),
                (None, Some(first)) => {
                    format!("`{sqlstate}`, another name of [`Self::{}`].", constant(first))
                }
                (None, None) => format!("`{sqlstate}`."),
            };
            writeln!(out, "    /// {doc}")?;
            writeln!(out, "    pub const {name}: Self = Self::known(*b\"{sqlstate}\");\n")?;
            ensure!(taken.insert(name.clone()), "two codes would be called {name}");
        }
    }
    out.push_str("}\n\n");
    Ok(())
}

fn render_names(out: &mut String, sections: &[Section]) -> Result<()> {
    let mut names = BTreeMap::new();
    for code in sections.iter().flat_map(|section| &section.codes) {
        if let Some(condition) = &code.condition {
            names.entry(&code.sqlstate).or_insert(condition);
        }
    }
    out.push_str("/// The conditions' names, sorted by code.\n");
    writeln!(out, "pub(super) static NAMES: [(SqlState, &str); {}] = [", names.len())?;
    for (sqlstate, condition) in names {
        writeln!(out, "    (SqlState::known(*b\"{sqlstate}\"), \"{condition}\"),")?;
    }
    out.push_str("];\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# a comment

Section: Class 01 - Warning

01004    W    ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION    string_data_right_truncation

Section: Class 22 - Data Exception
22001    E    ERRCODE_STRING_DATA_RIGHT_TRUNCATION            string_data_right_truncation
2202E    E    ERRCODE_ARRAY_ELEMENT_ERROR
2202E    E    ERRCODE_ARRAY_SUBSCRIPT_ERROR                   array_subscript_error

Section: Class 40 - Transaction Rollback
40001    E    ERRCODE_T_R_SERIALIZATION_FAILURE               serialization_failure
";

    #[test]
    fn constants_are_named_after_the_condition_unless_codes_share_it() {
        let out = render("// header", LIST).unwrap();
        for (name, code) in [
            ("SERIALIZATION_FAILURE", "40001"),
            ("STRING_DATA_RIGHT_TRUNCATION", "22001"),
            ("WARNING_STRING_DATA_RIGHT_TRUNCATION", "01004"),
            ("ARRAY_ELEMENT_ERROR", "2202E"),
            ("ARRAY_SUBSCRIPT_ERROR", "2202E"),
        ] {
            let constant = format!("pub const {name}: Self = Self::known(*b\"{code}\");");
            assert!(out.contains(&constant), "{constant} is not in:\n{out}");
        }
        assert!(out.contains("/// `2202E`, another name of [`Self::ARRAY_SUBSCRIPT_ERROR`].\n"));
        assert!(out.starts_with("// header\n"));
    }

    #[test]
    fn names_are_sorted_and_each_code_has_one() {
        let shuffled = LIST.replace("Section: Class 01 - Warning", "Section: Class 99 - Shuffled");
        let out = render("", &shuffled).unwrap();
        let (_, names) = out.split_once("NAMES: [(SqlState, &str); 4]").expect("four names");
        let codes: Vec<&str> = names.split("b\"").skip(1).filter_map(|s| s.get(..5)).collect();
        assert_eq!(codes, ["01004", "22001", "2202E", "40001"]);
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        let list = "Section: x\n23505 E UNIQUE_VIOLATION unique_violation";
        let error = format!("{:#}", render("", list).unwrap_err());
        assert!(error.contains("line 2") && error.contains("no ERRCODE_ macro"), "{error}");
        assert!(render("", "Section: x\n2350 E ERRCODE_X x").is_err());
        assert!(render("", "Section: x\n23505 Q ERRCODE_X x").is_err());
        assert!(render("", "23505 E ERRCODE_X x").is_err(), "a code outside all sections");
        let twice = "Section: x\n23505 E ERRCODE_X\n23506 E ERRCODE_X";
        assert!(render("", twice).is_err(), "the same constant twice");
    }
}

//! The text form of arrays: `{1,2,NULL}`, `{"a b","say \"hi\""}`, `[2:4]={1,2,3}`.
//!
//! Read as the server prints it: without the blanks and the careless quoting that it accepts as
//! input.
//!
//! Source: PostgreSQL documentation, "Array Input and Output Syntax"; `array_out`.

use std::borrow::Cow;

/// What is wrong with an array's text.
pub(super) type Why = &'static str;

/// The elements of an array of at most one dimension, one after the other.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    /// What stands between two elements.
    delimiter: char,
    /// What follows from the next element on; `None` behind the closing brace.
    rest: Option<&'a str>,
}

/// One element of an array.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    /// NULL.
    Null,
    /// An element whose text stands in the array as it is.
    Plain(&'a str),
    /// An element whose escapes have been resolved.
    Escaped(String),
}

impl<'a> Elements<'a> {
    /// The elements of the array `text`; `None` when it has more than one dimension.
    pub(super) fn new(text: &'a str, delimiter: char) -> Result<Option<Self>, Why> {
        let mut rest = text;
        let mut dimensions = 0;
        while let Some(behind) = rest.strip_prefix('[') {
            let (bounds, behind) = behind.split_once(']').ok_or("a pair of bounds does not end")?;
            if !is_bounds(bounds) {
                return Err("the bounds are not two integers");
            }
            rest = behind;
            dimensions += 1;
        }
        if dimensions > 0 {
            rest = rest.strip_prefix('=').ok_or("there is no = behind the bounds")?;
        }
        let rest = rest.strip_prefix('{').ok_or("it does not begin with {")?;
        if dimensions > 1 || rest.starts_with('{') {
            return Ok(None);
        }
        Ok(Some(Self { delimiter, rest: (rest != "}").then_some(rest) }))
    }

    /// The next element, `None` behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, Why> {
        let Some(rest) = self.rest else {
            return Ok(None);
        };
        let (element, rest) = match rest.strip_prefix('"') {
            Some(quoted) => read_quoted(quoted)?,
            None => read_unquoted(rest, self.delimiter)?,
        };
        self.rest = match (rest.strip_prefix(self.delimiter), rest) {
            (Some(behind), _) => Some(behind),
            (None, "}") => None,
            _ => return Err("an element is followed by neither another one nor the closing }"),
        };
        Ok(Some(element))
    }
}

/// Whether `text` is a lower and an upper bound: `-1:3`.
fn is_bounds(text: &str) -> bool {
    let is_integer = |text: &str| text.parse::<i32>().is_ok();
    text.split_once(':').is_some_and(|(lower, upper)| is_integer(lower) && is_integer(upper))
}

/// Reads an element up to the delimiter or brace behind it, which stays.
fn read_unquoted(text: &str, delimiter: char) -> Result<(Element<'_>, &str), Why> {
    let end = text.find([delimiter, '}', '{', '"', '\\']).ok_or("it ends inside an element")?;
    match text.split_at_checked(end) {
        None | Some(("", _)) => Err("an element is empty"),
        Some(("NULL", rest)) => Ok((Element::Null, rest)),
        Some((element, rest)) => Ok((Element::Plain(element), rest)),
    }
}

/// Reads an element whose opening quote has been read, with its closing quote.
fn read_quoted(text: &str) -> Result<(Element<'_>, &str), Why> {
    const UNCLOSED: Why = "it ends inside a quoted element";
    let mut resolved: Option<String> = None;
    let mut rest = text;
    loop {
        let end = rest.find(['"', '\\']).ok_or(UNCLOSED)?;
        let (plain, behind) = rest.split_at_checked(end).ok_or(UNCLOSED)?;
        let mut chars = behind.chars();
        match (chars.next(), &mut resolved) {
            (Some('"'), None) => return Ok((Element::Plain(plain), chars.as_str())),
            (Some('"'), Some(element)) => {
                element.push_str(plain);
                return Ok((Element::Escaped(std::mem::take(element)), chars.as_str()));
            }
            (_, resolved) => {
                let element = resolved.get_or_insert_default();
                element.push_str(plain);
                element.push(chars.next().ok_or(UNCLOSED)?);
                rest = chars.as_str();
            }
        }
    }
}

/// The text of an element as it stands inside an array: in quotes where it could be taken for
/// something else.
pub(in crate::types) fn escape_element(text: &str) -> Cow<'_, str> {
    let special = |c| {
        matches!(c, '"' | '\\' | '{' | '}' | ',' | ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
    };
    if !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("NULL") {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 2);
    escaped.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped.push('"');
    Cow::Owned(escaped)
}

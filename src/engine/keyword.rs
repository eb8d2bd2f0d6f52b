//! Finding the bare words of an SQL text: keywords and unquoted names, outside of comments and
//! quotes.
//!
//! Just enough of PostgreSQL's lexical rules to know what kind of statement a text begins with. It
//! never decides what a text means; the server does.

/// The bare words of an SQL text, in order. Comments, string constants (also dollar-quoted) and
/// quoted names are passed over.
#[derive(Clone, Debug)]
pub(super) struct Words<'a>(pub(super) &'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let text = self.0;
            let first = text.chars().next()?;
            let (token, rest) = if text.starts_with("--") {
                split_after(text, text.find('\n').map(|end| end + 1))
            } else if text.starts_with("/*") {
                split_after(text, comment_end(text))
            } else if first == '\'' || first == '"' {
                split_after(text, quoted_end(text, first, false))
            } else if first == '$' {
                split_after(text, dollar_quoted_end(text))
            } else if is_word_start(first) {
                let (word, rest) = split_after(text, text.find(|c| !is_word(c)));
                // E'...' is a string constant with backslash escapes; the other prefixes need no
                // care.
                if word.eq_ignore_ascii_case("e") && rest.starts_with('\'') {
                    split_after(rest, quoted_end(rest, '\'', true))
                } else {
                    self.0 = rest;
                    return Some(word);
                }
            } else {
                split_after(text, Some(first.len_utf8()))
            };
            debug_assert!(!token.is_empty());
            self.0 = rest;
        }
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Splits behind byte `end`, or takes everything when there is no end.
fn split_after(text: &str, end: Option<usize>) -> (&str, &str) {
    end.and_then(|end| text.split_at_checked(end)).unwrap_or((text, ""))
}

/// Behind the comment that `text` begins with; comments nest.
fn comment_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        let next = bytes.peek().map(|(_, next)| *next);
        match (byte, next) {
            (b'/', Some(b'*')) => depth += 1,
            (b'*', Some(b'/')) => depth -= 1,
            _ => continue,
        }
        bytes.next();
        if depth == 0 {
            return Some(at + 2);
        }
    }
    None
}

/// Behind the quoted text that `text` begins with; a doubled quote stands for itself.
fn quoted_end(text: &str, quote: char, backslash: bool) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if backslash && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
    }
    None
}

/// Behind the dollar-quoted text that `text` begins with, or behind the dollar sign if it does not
/// begin one.
fn dollar_quoted_end(text: &str) -> Option<usize> {
    let after_dollar = text.split_at_checked(1)?.1;
    let tag_end = after_dollar.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    let is_tag = after_dollar.split_at_checked(tag_end)?.1.starts_with('$')
        && !after_dollar.starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return Some(1);
    }
    let (tag, body) = text.split_at_checked(tag_end + 2)?;
    body.find(tag).map(|end| end + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(sql: &str) -> Vec<&str> {
        Words(sql).collect()
    }

    #[test]
    fn words_are_found_between_everything_else() {
        assert_eq!(words("COPY t (a, b) FROM stdin"), ["COPY", "t", "a", "b", "FROM", "stdin"]);
        assert_eq!(words("  -- copy\n/* x /* copy */ y */ select 1"), ["select"]);
        assert_eq!(words("a 'it''s b' c \"d \"\" e\" f"), ["a", "c", "f"]);
        assert_eq!(words(r"a E'it\'s b' c"), ["a", "c"]);
        assert_eq!(words("a $$ b $$ c $x$ d $$ e $x$ f $1 g"), ["a", "c", "f", "g"]);
        assert_eq!(words("naïve ä1 _x"), ["naïve", "ä1", "_x"]);
    }

    #[test]
    fn unfinished_texts_end() {
        for sql in ["'abc", "\"abc", "/* abc", "-- abc", "$$ abc", "$", "E'\\", "$x", "/", ""] {
            assert_eq!(words(sql), [""; 0], "{sql}");
        }
    }
}

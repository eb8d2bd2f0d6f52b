//! Finding the bare words of an SQL text: keywords and unquoted names, outside of comments, quotes
//! and parentheses.
//!
//! Just enough of PostgreSQL's lexical rules to know what kind of statement a text begins with. It
//! never decides what a text means; the server does.

/// Which call a COPY through the connection belongs to: `copy_in` when `sql` begins with a COPY
/// from STDIN, `copy_out` when it begins with one to STDOUT. `None` for everything else, also for a
/// COPY from or to a file or program on the server.
///
/// As the server does, it takes STDIN and STDOUT for one another: FROM and TO tell the direction.
pub(super) fn copy_direction(sql: &str) -> Option<&'static str> {
    let mut words = Words::new(sql).skip_while(|word| *word == ";");
    if !words.next()?.eq_ignore_ascii_case("copy") {
        return None;
    }
    // The first FROM or TO is the direction; both words are reserved. Behind it FROM may come
    // again, in a WHERE.
    let mut words = words.take_while(|word| *word != ";");
    let call = words.find_map(|word| {
        if word.eq_ignore_ascii_case("from") {
            Some("copy_in")
        } else if word.eq_ignore_ascii_case("to") {
            Some("copy_out")
        } else {
            None
        }
    })?;
    let target = words.next()?;
    let is_client = ["stdin", "stdout"].iter().any(|name| target.eq_ignore_ascii_case(name));
    is_client.then_some(call)
}

/// Whether nothing but blanks and comments stands behind the first statement of `sql`.
pub(super) fn is_one_statement(sql: &str) -> bool {
    let mut words = Words::new(sql);
    // Empty statements may stand before it.
    let first = words.by_ref().find(|word| *word != ";");
    first.is_none() || words.by_ref().all(|word| word != ";") || is_blank(words.rest)
}

/// Whether anything stands behind the STDIN or STDOUT of a COPY, so that its options may be other
/// than the default ones.
pub(crate) fn has_copy_options(sql: &str) -> bool {
    let mut words = Words::new(sql);
    let is_client =
        |word: &str| ["stdin", "stdout"].iter().any(|name| word.eq_ignore_ascii_case(name));
    // `COPY BINARY` is older than options.
    let mut before = words.by_ref().take_while(|word| !is_client(word)).skip_while(|w| *w == ";");
    before.nth(1).is_some_and(|word| word.eq_ignore_ascii_case("binary"))
        || !before.all(|word| word != ";")
        || !is_blank(words.rest)
}

/// Whether `text` is nothing but blanks, comments and semicolons.
fn is_blank(text: &str) -> bool {
    let mut text = text;
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        text = if text.starts_with("--") {
            split_after(text, line_end(text)).1
        } else if text.starts_with("/*") {
            split_after(text, comment_end(text)).1
        } else {
            return text.is_empty();
        };
    }
}

/// Whether the statement that `sql` begins with returns the same columns at every run until the
/// server says otherwise (error 0A000): SELECT and its like. The columns of FETCH, EXECUTE, SHOW,
/// CALL and others depend on more than their text.
pub(super) fn runs_from_description(sql: &str) -> bool {
    first_word_is_one_of(
        sql,
        &["select", "insert", "update", "delete", "merge", "values", "with", "table"],
    )
}

/// Whether `sql` begins with a statement that does nothing but read, as far as its first word tells:
/// functions may do anything.
pub(super) fn reads(sql: &str) -> bool {
    first_word_is_one_of(sql, &["select", "values", "table"])
}

/// Whether a COPY TO does nothing but read, as far as its first words tell: it is not of a query that
/// writes, or has parts that might.
pub(super) fn copies_only(sql: &str) -> bool {
    let mut words = Words::new(sql);
    let is_copy = words.find(|word| *word != ";").is_some_and(|w| w.eq_ignore_ascii_case("copy"));
    let writes = ["insert", "update", "delete", "merge", "with"];
    is_copy && !first_word_is_one_of(words.rest, &writes)
}

/// Whether the first word of `sql` is one of these, comments and parentheses before it passed over.
fn first_word_is_one_of(sql: &str, words: &[&str]) -> bool {
    // A SELECT may stand in parentheses.
    let mut text = sql;
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        let (comment, rest) = if text.starts_with("--") {
            split_after(text, line_end(text))
        } else if text.starts_with("/*") {
            split_after(text, comment_end(text))
        } else {
            ("", text)
        };
        if comment.is_empty() {
            break;
        }
        text = rest;
    }
    let word = split_after(text, text.find(|c| !is_word(c))).0;
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The first word of `sql` in capitals, if it is one that changes the session or its transaction for
/// whoever uses the connection next. What hides behind another word is not seen.
pub(crate) fn changes_session(sql: &str) -> Option<&'static str> {
    let is_open = |c: char| c.is_whitespace() || c == '(' || c == ';';
    let mut text = sql.trim_start_matches(is_open);
    while text.starts_with("--") || text.starts_with("/*") {
        let end = match text.starts_with("--") {
            true => line_end(text),
            false => comment_end(text),
        };
        text = split_after(text, end).1.trim_start_matches(is_open);
    }
    let word = split_after(text, text.find(|c| !is_word(c))).0;
    SESSION_WORDS.iter().find(|known| word.eq_ignore_ascii_case(known)).copied()
}

/// What changes the session or its transaction for whoever uses the connection next.
const SESSION_WORDS: [&str; 19] = [
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE",
    "EXECUTE",
    "DECLARE",
    "LISTEN",
    "UNLISTEN",
    "SET",
    "RESET",
    "COPY",
    "DISCARD",
    "DEALLOCATE",
    "LOAD",
];

/// Whether `sql` calls a procedure, which may commit what it does before it has ended.
pub(super) fn is_call(sql: &str) -> bool {
    Words::new(sql).next().is_some_and(|word| word.eq_ignore_ascii_case("call"))
}

/// Whether `sql` begins with what ends a transaction to keep it: COMMIT, END, PREPARE TRANSACTION.
pub(super) fn is_commit(sql: &str) -> bool {
    let word = Words::new(sql).find(|word| *word != ";");
    let is = |known: &&str| word.is_some_and(|word| word.eq_ignore_ascii_case(known));
    ["commit", "end", "prepare"].iter().any(is)
}

/// The bare words of an SQL text that stand outside of parentheses, in order, and the semicolons
/// between its statements. Comments, string constants (also dollar-quoted) and quoted names are
/// passed over; a qualified name is one word.
#[derive(Clone, Debug)]
struct Words<'a> {
    rest: &'a str,
    /// How many parentheses are open.
    depth: usize,
}

impl<'a> Words<'a> {
    fn new(sql: &'a str) -> Self {
        Self { rest: sql, depth: 0 }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let text = self.rest;
            let first = text.chars().next()?;
            let (token, rest) = if text.starts_with("--") {
                split_after(text, line_end(text))
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
                    (word, rest)
                }
            } else {
                split_after(text, Some(first.len_utf8()))
            };
            debug_assert!(!token.is_empty());
            self.rest = rest;
            match token {
                "(" => self.depth += 1,
                ")" => self.depth = self.depth.saturating_sub(1),
                ";" if self.depth == 0 => return Some(token),
                word if self.depth == 0 && word.starts_with(is_word_start) => return Some(word),
                _ => {}
            }
        }
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '.'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || c == '.'
}

/// Behind the line that `text` begins with; as for the server, a carriage return ends one too.
fn line_end(text: &str) -> Option<usize> {
    text.find(['\n', '\r']).map(|end| end + 1)
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
        Words::new(sql).collect()
    }

    #[test]
    fn words_are_found_between_everything_else() {
        assert_eq!(words("COPY t FROM stdin"), ["COPY", "t", "FROM", "stdin"]);
        assert_eq!(words("  -- copy\n/* x /* copy */ y */ select 1"), ["select"]);
        assert_eq!(words("a 'it''s b' c \"d \"\" e\" f"), ["a", "c", "f"]);
        assert_eq!(words(r"a E'it\'s b' c"), ["a", "c"]);
        assert_eq!(words("a $$ b $$ c $x$ d $$ e $x$ f $1 g"), ["a", "c", "f", "g"]);
        assert_eq!(words("naïve ä1 _x"), ["naïve", "ä1", "_x"]);
        assert_eq!(words("s.t \"s\".t a;b"), ["s.t", ".t", "a", ";", "b"]);
    }

    #[test]
    fn words_and_semicolons_in_parentheses_are_passed_over() {
        assert_eq!(words("a (b (c) d;) e"), ["a", "e"]);
        assert_eq!(words("a (')' b \")\" c /* ) */ d $$)$$ e -- )\n f) g"), ["a", "g"]);
        assert_eq!(words("a '(' b \"(\" c /* ( */ d"), ["a", "b", "c", "d"]);
        assert_eq!(words("a) b) (c"), ["a", "b"], "what does not match is the server's to refuse");
    }

    #[test]
    fn unfinished_texts_end() {
        for sql in ["'abc", "\"abc", "/* abc", "-- abc", "$$ abc", "$", "E'\\", "$x", "/", "", "("]
        {
            assert_eq!(words(sql), [""; 0], "{sql}");
        }
    }

    #[test]
    fn h46_only_what_keeps_its_columns_runs_from_a_description() {
        for sql in [
            "select 1",
            "SELECT 1",
            " -- c\n /* a /* b */ */ ( (select 1) union select 2)",
            "(/* c */ select 1)",
            "insert into t values (1) returning a",
            "update t set a = 1",
            "delete from t",
            "merge into t using s on true when matched then do nothing",
            "values (1)",
            "with a as (select 1) table a",
            "table t",
        ] {
            assert!(runs_from_description(sql), "{sql}");
        }
        for sql in [
            "",
            "fetch all in c",
            "execute p",
            "show all",
            "call p()",
            "explain select 1",
            "selected",
            "select1 from t",
            "-- select",
            "/* select */",
            "'select'",
            "begin",
            "create table t (a int)",
        ] {
            assert!(!runs_from_description(sql), "{sql}");
        }
    }

    #[test]
    fn h2_a_call_is_told_from_everything_else() {
        assert!(["call p()", " /* c */ -- d\n CALL s.p(1)"].iter().all(|sql| is_call(sql)));
        for sql in
            ["", "select call()", "(call p())", "\"call\" p()", "'call'", "calls", "do $$ call $$"]
        {
            assert!(!is_call(sql), "{sql}");
        }
    }

    #[test]
    fn h10_what_keeps_a_transaction_is_told_from_what_does_not() {
        for sql in ["commit", "END", " ;; /* now */ Commit and chain", "prepare transaction 'x'"] {
            assert!(is_commit(sql), "{sql}");
        }
        for sql in ["", ";", "rollback", "abort", "\"commit\"", "'end'", "rollback; commit", "ends"]
        {
            assert!(!is_commit(sql), "{sql}");
        }
    }

    #[test]
    fn h48_a_copy_through_the_connection_is_told_by_its_direction() {
        for (sql, call) in [
            ("COPY t FROM STDIN", "copy_in"),
            ("copy t to stdout", "copy_out"),
            (" /* c */ ; copy t (a, b) from stdin with (format csv);", "copy_in"),
            ("copy binary \"to\" from stdin", "copy_in"),
            ("copy s.to from stdin", "copy_in"),
            ("copy (select a from stdin) to stdout", "copy_out"),
            // The server corrects these without a word.
            ("copy t from stdout", "copy_in"),
            ("copy t to stdin", "copy_out"),
        ] {
            assert_eq!(copy_direction(sql), Some(call), "{sql}");
        }
    }

    #[test]
    fn h48_every_other_text_is_a_command_like_any_other() {
        for sql in [
            "",
            ";",
            "select a from stdin",
            "copy",
            "copy t",
            "copy t from",
            "copy (select 1 as stdin) to '/file'",
            "copy (select a from stdin) to '/file'",
            "copy stdin from '/file'",
            "copy t (stdin, stdout) from program 'cat'",
            "copy t from 'stdin' (format csv)",
            "copy t from '/file' where a is distinct from stdin",
            "copy s.from.stdin to '/file'",
            "copy t to '/file'; select a from stdin",
            "copy t; select a from stdin",
            "create table copy (a int)",
            "copy_from stdin",
        ] {
            assert_eq!(copy_direction(sql), None, "{sql}");
        }
    }
}

//! Files of variables: `NAME=VALUE` lines, blank lines, `#` at the beginning of a line for comments, an optional
//! `export ` before the name, a value in single quotes (taken as it is) or in double quotes (with `\n`, `\t`, `\"`, `\\`,
//! `\$` and `` \` ``). Nothing is replaced in a value.

use std::ffi::OsString;

use crate::config::diagnostic::{Diagnostics, Source, quoted};
use crate::config::variables::check_variable;
use crate::spec::EnvVar;

/// The variables of one file, in its order; of two with the same name the later one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    pub(super) variables: Vec<EnvVar>,
}

impl EnvFile {
    /// # Errors
    /// Every line that is no variable, with its position in `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let source = Source::new(file, text);
        let mut errors = Diagnostics::default();
        let mut variables = Vec::new();
        for (at, line) in lines(text) {
            match variable(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => variables.push((OsString::from(name), OsString::from(value))),
                Err((offset, message)) => errors.push_with(|| source.at(at + offset, message)),
            }
        }
        errors.into_result(Self { variables })
    }
}

/// The lines of a text with the byte offset of each, without their line ends and without a byte order mark.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    text.split('\n').map(move |line| {
        let at = next;
        next += line.len() + 1;
        let body = line.strip_suffix('\r').unwrap_or(line);
        match body.strip_prefix('\u{feff}') {
            Some(body) if at == 0 => (line.len() - line.trim_start_matches('\u{feff}').len(), body),
            _ => (at, body),
        }
    })
}

/// Name and value of a line; `None` for a blank line or a comment; an error with its byte offset in the line.
fn variable(line: &str) -> Result<Option<(String, String)>, (usize, String)> {
    let indent = line.len() - line.trim_start().len();
    let body = line.trim();
    if body.is_empty() || body.starts_with('#') {
        return Ok(None);
    }
    let stripped = body.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).map(str::trim_start);
    let body = stripped.unwrap_or(body);
    let start = line.len() - line[indent..].len() + (line.trim().len() - body.len());
    let Some((name, value)) = body.split_once('=') else {
        return Err((start, format!("{} is no variable; write NAME=VALUE", quoted(body))));
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.chars().all(inner) || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err((start, format!("{} cannot name a variable; write NAME=VALUE", quoted(name))));
    }
    check_variable(name).map_err(|message| (start, message))?;
    let value_at = start + name.len() + 1;
    if value.contains('\0') {
        return Err((value_at, "a variable cannot hold a NUL byte".to_owned()));
    }
    let value = unquote(value.trim()).map_err(|message| (value_at, message.to_owned()))?;
    Ok(Some((name.to_owned(), value)))
}

fn unquote(value: &str) -> Result<String, &'static str> {
    const OPEN: &str = "the quote is not closed on this line";
    const REST: &str = "something stands after the closing quote";
    if let Some(rest) = value.strip_prefix('\'') {
        return match rest.split_once('\'') {
            Some((inner, "")) => Ok(inner.to_owned()),
            Some(_) => Err(REST),
            None => Err(OPEN),
        };
    }
    let Some(rest) = value.strip_prefix('"') else { return Ok(value.to_owned()) };
    let mut inner = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next() {
            None => return Err(OPEN),
            Some('"') => return if chars.as_str().is_empty() { Ok(inner) } else { Err(REST) },
            Some('\\') => match chars.next() {
                None => return Err(OPEN),
                Some('n') => inner.push('\n'),
                Some('t') => inner.push('\t'),
                Some(c @ ('"' | '\\' | '$' | '`')) => inner.push(c),
                Some(c) => inner.extend(['\\', c]),
            },
            Some(c) => inner.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_variables() {
        let text = "\u{feff}A=1\r\n# comment\n\n  export B='x # y'\nC=\"a\\n\\\"b\\\" \\x\"\nD= spaced out \nE=a=b\nF=";
        let file = EnvFile::parse(".env", text).unwrap();
        let pairs: Vec<_> = file.variables.iter().map(|(k, v)| (k.to_str().unwrap(), v.to_str().unwrap())).collect();
        let expected =
            [("A", "1"), ("B", "x # y"), ("C", "a\n\"b\" \\x"), ("D", "spaced out"), ("E", "a=b"), ("F", "")];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn bad_lines_are_found_where_they_stand() {
        for (text, error) in [
            ("A=1\nB", ".env:2:1: `B` is no variable; write NAME=VALUE"),
            ("  export B", ".env:1:10: `B` is no variable; write NAME=VALUE"),
            ("A B=1", ".env:1:1: `A B` cannot name a variable; write NAME=VALUE"),
            ("=1", ".env:1:1: `` cannot name a variable; write NAME=VALUE"),
            ("A='x", ".env:1:3: the quote is not closed on this line"),
            ("A=\"x\" y", ".env:1:3: something stands after the closing quote"),
            ("A=\"x\\", ".env:1:3: the quote is not closed on this line"),
            ("A=\0", ".env:1:3: a variable cannot hold a NUL byte"),
        ] {
            assert_eq!(EnvFile::parse(".env", text).unwrap_err().to_string(), error);
        }
        let own = EnvFile::parse(".env", "FATED_ID=1").unwrap_err().to_string();
        assert!(own.starts_with(".env:1:1: `FATED_ID` is fated's own"), "{own}");
    }
}

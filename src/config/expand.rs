//! `${VAR}` in the tree file: replaced when the plan is made, never by a shell. `$${` is a literal `${`; every other `$`
//! stays as it is.

use core::fmt;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};

use crate::config::diagnostic::quoted;

/// A piece of a text with `${VAR}` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Literal(&'a str),
    /// The name between the braces; a valid name.
    Variable(&'a str),
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpandError {
    /// `${` without `}`.
    Unclosed,
    /// What stands between the braces is no name.
    NoName(String),
    /// The variable differs from one life of a process to the next.
    OnlyInEnvironment(String),
    Unset(String),
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed => f.write_str("`${` has no `}`; write `$${` for a literal `${`"),
            Self::NoName(text) => {
                write!(
                    f,
                    "{} between `${{` and `}}` is no name of a variable; write `$${{` for a literal `${{`",
                    quoted(text)
                )
            }
            Self::OnlyInEnvironment(name) => {
                write!(f, "`{name}` exists only in the environment of the running process and cannot be replaced here")
            }
            Self::Unset(name) => write!(f, "the variable {} is not set", quoted(name)),
        }
    }
}

impl core::error::Error for ExpandError {}

/// The pieces of a text, in order.
///
/// # Errors
/// A brace without its partner, or no name in the braces.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, ExpandError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, opened) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            pieces.push(Piece::Literal(before));
            pieces.push(Piece::Literal("${"));
            rest = opened;
            continue;
        }
        let end = opened.find('}').ok_or(ExpandError::Unclosed)?;
        let name = &opened[..end];
        if !is_name(name) {
            return Err(ExpandError::NoName(name.to_owned()));
        }
        pieces.push(Piece::Literal(before));
        pieces.push(Piece::Variable(name));
        rest = &opened[end + 1..];
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(inner)
}

/// The text with every variable replaced by what `lookup` gives.
///
/// # Errors
/// As `pieces`, and a variable that is not set or not known before the process runs.
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<Cow<'v, OsStr>>) -> Result<OsString, ExpandError> {
    let mut expanded = OsString::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Literal(text) => expanded.push(text),
            Piece::Variable(name @ ("FATED_ID" | "FATED_SOCKET")) => {
                return Err(ExpandError::OnlyInEnvironment(name.to_owned()));
            }
            Piece::Variable(name) => {
                expanded.push(lookup(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
            }
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<OsString, ExpandError> {
        expand(text, |name| (name == "HOME").then(|| Cow::Borrowed(OsStr::new("/home/me"))))
    }

    #[test]
    fn variables_are_replaced_and_other_dollars_stay() {
        for (text, result) in [
            ("", ""),
            ("${HOME}/x", "/home/me/x"),
            ("a${HOME}${HOME}b", "a/home/me/home/meb"),
            ("$HOME $$ $", "$HOME $$ $"),
            ("$${HOME}", "${HOME}"),
            ("$$${HOME}", "$${HOME}"),
            ("$${unclosed", "${unclosed"),
            ("ä${HOME}ö", "ä/home/meö"),
        ] {
            assert_eq!(expanded(text), Ok(result.into()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        assert_eq!(expanded("${HOME"), Err(ExpandError::Unclosed));
        assert_eq!(expanded("${HOME:-x}"), Err(ExpandError::NoName("HOME:-x".into())));
        assert_eq!(expanded("${}"), Err(ExpandError::NoName(String::new())));
        assert_eq!(expanded("${NOPE}"), Err(ExpandError::Unset("NOPE".into())));
        assert_eq!(expanded("${FATED_ID}"), Err(ExpandError::OnlyInEnvironment("FATED_ID".into())));
    }
}

//! What is wrong in a file, and where: `pipeline.toml:12:3: unknown key ...; did you mean ...?`

use core::fmt;
use std::sync::Arc;

/// The most diagnostics that are kept of one reading; the rest is counted.
pub const DIAGNOSTICS_MAX: usize = 20;

/// The longest piece of a user's text that a message repeats, in characters.
const QUOTE_MAX: usize = 64;

/// Line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name as the user gave it, or the option that is meant.
    pub file: String,
    /// `None` where the whole file or an option is meant.
    pub position: Option<Position>,
    /// A lowercase fragment.
    pub message: String,
    /// What to do about it: a lowercase fragment.
    pub help: Option<String>,
}

impl Diagnostic {
    /// About a file as a whole, or about an option.
    pub fn whole(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), position: None, message: message.into(), help: None }
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean" where one of the candidates is near to what was written.
    pub fn with_nearest<'a>(self, written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(written, candidates) {
            Some(candidate) => self.with_help(format!("did you mean {}?", quoted(candidate))),
            None => self,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", visible(&self.file))?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// The diagnostics of one reading, at most `DIAGNOSTICS_MAX` of them and the number of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    more: usize,
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.push_with(|| diagnostic);
    }

    /// Makes the diagnostic only if it is kept: to find a position or the nearest name is not cheap, and a bad file
    /// has as many errors as it has bytes.
    pub fn push_with(&mut self, diagnostic: impl FnOnce() -> Diagnostic) {
        if self.list.len() < DIAGNOSTICS_MAX {
            self.list.push(diagnostic());
        } else {
            self.more += 1;
        }
    }

    pub fn extend(&mut self, others: Self) {
        self.more += others.more;
        others.list.into_iter().for_each(|one| self.push(one));
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those that were kept, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many were not kept.
    pub fn more(&self) -> usize {
        self.more
    }

    /// `value` where nothing is wrong; else the diagnostics in the order of their positions.
    ///
    /// # Errors
    /// Everything that was pushed.
    pub fn into_result<T>(mut self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            return Ok(value);
        }
        self.list.sort_by(|a, b| (&a.file, a.position).cmp(&(&b.file, b.position)));
        Err(self)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self { list: vec![one], more: 0 }
    }
}

impl fmt::Display for Diagnostics {
    /// A line each, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            one.fmt(f)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl core::error::Error for Diagnostics {}

/// A text with its name, and the way from byte offsets to lines and columns.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// The byte offset at which each line begins.
    lines: Arc<[usize]>,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        // A byte order mark is no column of the first line.
        let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let rest = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { name: name.into(), text: text.into(), lines: core::iter::once(first).chain(rest).collect() }
    }

    /// The text of `bytes`.
    ///
    /// # Errors
    /// Says where the first byte stands that is not UTF-8.
    pub fn decode(name: &str, bytes: Vec<u8>) -> Result<String, Diagnostic> {
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let bad = error.as_bytes().get(valid).copied().unwrap_or_default();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
            Self::new(name, &before).at(valid, format!("the byte 0x{bad:02x} is not UTF-8"))
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the byte `offset` stands; the end of the text for what lies beyond it.
    pub fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines[line - 1];
        let column = self
            .text
            .get(start..)
            .map_or(0, |rest| rest.char_indices().take_while(|(at, _)| start + at < offset).count());
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Position { line: number(line), column: number(column + 1) }
    }

    /// A diagnostic about what stands at the byte `offset`.
    pub fn at(&self, offset: usize, message: impl Into<String>) -> Diagnostic {
        let position = Some(self.position(offset));
        Diagnostic { file: self.name.to_string(), position, message: message.into(), help: None }
    }
}

/// The candidate that was probably meant, if one is near.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Two thirds: a swap in a word of three letters is near.
    const NEAR: f64 = 0.66;
    // Longer than any name or key: nothing is near, and the comparison costs the product of both lengths.
    if written.len() > QUOTE_MAX {
        return None;
    }
    let lower = written.to_lowercase();
    let score = |candidate: &str| strsim::normalized_damerau_levenshtein(&lower, &candidate.to_lowercase());
    candidates
        .into_iter()
        .filter(|candidate| *candidate != written)
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// A piece of the user's text in a message: in backquotes, on one line, not endless.
pub fn quoted(text: &str) -> String {
    format!("`{}`", shortened(text))
}

/// The same without the backquotes.
pub fn shortened(text: &str) -> String {
    let short: String = text.chars().take(QUOTE_MAX).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    visible(&short) + dots
}

/// The text with its control characters shown as escapes, so that no file can write to a terminal.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let at = |text: &str, offset| {
            let Position { line, column } = Source::new("f", text).position(offset);
            (line, column)
        };
        assert_eq!(at("", 0), (1, 1));
        assert_eq!(at("a = 1\nb = 2", 6), (2, 1));
        assert_eq!(at("a = 1\r\nbc = 2", 8), (2, 2));
        assert_eq!(at("\"äö\" = 1", "\"äö\" ".len()), (1, 6));
        assert_eq!(at("\u{feff}ab", 4), (1, 2));
        assert_eq!(at("\u{feff}ab", 0), (1, 1));
        assert_eq!(at("ab", 99), (1, 3));
    }

    #[test]
    fn the_first_bad_byte_is_found() {
        let error = Source::decode("f", b"a = 1\n\"\xc3\xa4\xff\"".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "f:2:3: the byte 0xff is not UTF-8");
    }

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("comand", ["command", "cwd"]), Some("command"));
        assert_eq!(nearest("COMMAND", ["command"]), Some("command"));
        assert_eq!(nearest("frobnicate", ["command", "cwd"]), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), ["x"]), None);
    }

    #[test]
    fn diagnostics_are_bounded_and_in_order() {
        let source = Source::new("f", &"\n".repeat(100));
        let mut all = Diagnostics::default();
        for offset in (0..30).rev() {
            all.push(source.at(offset, "wrong"));
        }
        let error = all.into_result(()).unwrap_err();
        assert_eq!(error.iter().count(), DIAGNOSTICS_MAX);
        assert!(error.iter().map(|one| one.position).is_sorted());
        assert!(error.to_string().ends_with("and 10 more"));
    }

    #[test]
    fn no_control_character_reaches_the_message() {
        assert_eq!(quoted("a\u{1b}[2Jb"), "`a\\u{1b}[2Jb`");
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), QUOTE_MAX + 5);
    }
}

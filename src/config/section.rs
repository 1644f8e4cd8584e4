//! One table of the tree file, read by the table of keys: a value of the wrong kind, an unknown key and an unknown word
//! become diagnostics with their position, and reading goes on.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::config::diagnostic::{Diagnostics, Source, quoted, shortened, visible};
use crate::config::keys::{self, Found, Scope};
use crate::config::size::parse_size;
use crate::config::words::Word;
use crate::name::Name;
use crate::signal::Signal;
use crate::time::{Duration, DurationError, Limit, parse_limit};

const NOT_YET: &str = "is not supported by this version of fated yet";

/// A value and where in the file it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    pub value: T,
    /// Byte offset in the file.
    pub at: usize,
}

impl<T> At<T> {
    pub fn new(value: T, at: usize) -> Self {
        Self { value, at }
    }
}

/// One table. Each reader gives `None` where the key is not there or its value is wrong (and then says so).
pub struct Section<'t, 'e> {
    scope: Scope,
    name: &'e str,
    table: &'t DeTable<'t>,
    pub(super) source: &'e Source,
    pub(super) errors: &'e mut Diagnostics,
    has_unknown: bool,
}

impl<'t, 'e> Section<'t, 'e> {
    /// Checks every key of the table; `name` is the node's or the queue's, empty for the tree.
    pub fn new(
        scope: Scope,
        name: &'e str,
        table: &'t DeTable<'t>,
        source: &'e Source,
        errors: &'e mut Diagnostics,
    ) -> Self {
        let mut section = Self { scope, name, table, source, errors, has_unknown: false };
        for (key, _) in section.table.iter() {
            section.check_key(key);
        }
        section
    }

    fn check_key(&mut self, key: &Spanned<std::borrow::Cow<'t, str>>) {
        let name: &str = key.get_ref();
        let place = self.place();
        let at = key.span().start;
        match keys::find(self.scope, name) {
            Found::Built(_) => {}
            Found::Later(_) => self.error(at, format!("{} in {place} {NOT_YET}", quoted(name))),
            Found::Unknown => {
                self.has_unknown = true;
                self.errors.push_with(|| {
                    let error = self.source.at(at, format!("unknown key {} in {place}", quoted(name)));
                    error.with_nearest(name, keys::names(self.scope))
                });
            }
        }
    }

    /// `[process.worker]`, `the tree`.
    pub fn place(&self) -> String {
        match self.scope {
            Scope::Tree => "the tree".to_owned(),
            Scope::Group => format!("[group.{}]", visible(self.name)),
            Scope::Process => format!("[process.{}]", visible(self.name)),
            Scope::Queue => format!("[queue.{}]", visible(self.name)),
        }
    }

    pub fn error(&mut self, at: usize, message: impl Into<String>) {
        self.errors.push_with(|| self.source.at(at, message));
    }

    /// Whether a key is not written, nor anything that may have been meant for it.
    pub fn lacks(&self, key: &str) -> bool {
        !self.has_unknown && !self.table.contains_key(key)
    }

    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        debug_assert!(matches!(keys::find(self.scope, key), Found::Built(_)), "{key} is not in the table of keys");
        self.table.get(key)
    }

    /// The value has a type that the key does not take.
    pub(super) fn wrong_type(&mut self, key: &str, value: &Spanned<DeValue<'_>>) {
        let expected = match keys::find(self.scope, key) {
            Found::Built(known) | Found::Later(known) => known.value,
            Found::Unknown => "another type",
        };
        let message =
            format!("`{key}` in {} has the wrong type: expected {expected}; found {}", self.place(), kind(value));
        self.error(value.span().start, message);
    }

    pub fn text(&mut self, key: &str) -> Option<At<String>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => self.without_nul(key, text, value.span().start),
            _ => {
                self.wrong_type(key, value);
                None
            }
        }
    }

    pub(super) fn without_nul(&mut self, key: &str, text: &str, at: usize) -> Option<At<String>> {
        if text.contains('\0') {
            self.error(at, format!("`{key}` in {} cannot hold a NUL byte", self.place()));
            return None;
        }
        Some(At::new(text.to_owned(), at))
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong_type(key, value);
                None
            }
        }
    }

    /// A whole number within the bounds.
    pub fn number(&mut self, key: &str, bounds: core::ops::RangeInclusive<u32>) -> Option<At<u32>> {
        let value = self.value(key)?;
        let DeValue::Integer(written) = value.get_ref() else {
            self.wrong_type(key, value);
            return None;
        };
        let at = value.span().start;
        match u32::from_str_radix(written.as_str(), written.radix()) {
            Ok(number) if bounds.contains(&number) => Some(At::new(number, at)),
            _ => {
                let (from, to) = bounds.into_inner();
                self.error(at, format!("`{key}` in {} is from {from} to {to}, not {written}", self.place()));
                None
            }
        }
    }

    pub fn limit(&mut self, key: &str) -> Option<At<Limit>> {
        let value = self.value(key)?;
        let at = value.span().start;
        let limit = match value.get_ref() {
            DeValue::String(text) => parse_limit(text).map_err(|error| match error {
                DurationError::Empty | DurationError::Negative => error.to_string(),
                // As its own text, with what was written shortened and without control characters.
                DurationError::Syntax(text) => DurationError::Syntax(shortened(&text)).to_string(),
            }),
            DeValue::Integer(number) => {
                seconds(i128::from_str_radix(number.as_str(), number.radix()).map(|n| n as f64))
            }
            DeValue::Float(number) => seconds(number.as_str().parse::<f64>()),
            _ => {
                self.wrong_type(key, value);
                return None;
            }
        };
        match limit {
            Ok(limit) => Some(At::new(limit, at)),
            Err(message) => {
                self.error(at, format!("`{key}` in {}: {message}", self.place()));
                None
            }
        }
    }

    pub fn size(&mut self, key: &str) -> Option<At<u64>> {
        let value = self.value(key)?;
        let at = value.span().start;
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => {
                self.wrong_type(key, value);
                return None;
            }
        };
        match parse_size(text) {
            Ok(size) => Some(At::new(size, at)),
            Err(error) => {
                self.error(at, format!("`{key}` in {}: {} {error}", self.place(), quoted(text)));
                None
            }
        }
    }

    /// A signal; `None` within is "none" or 0, for the keys that take it.
    pub fn signal_or_none(&mut self, key: &str) -> Option<Option<Signal>> {
        match self.value(key)?.get_ref() {
            DeValue::String(text) if text == "none" || text == "0" => Some(None),
            DeValue::Integer(number) if number.as_str() == "0" => Some(None),
            _ => self.signal(key).map(Some),
        }
    }

    pub fn signal(&mut self, key: &str) -> Option<Signal> {
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => {
                self.wrong_type(key, value);
                return None;
            }
        };
        match Signal::parse(text) {
            Ok(signal) => Some(signal),
            Err(_) => {
                let message = format!("`{key}` in {}: {} is no signal", self.place(), quoted(text));
                let upper = text.to_ascii_uppercase();
                let plain = upper.strip_prefix("SIG").unwrap_or(&upper);
                let at = value.span().start;
                self.errors.push_with(|| self.source.at(at, message).with_nearest(plain, Signal::names()));
                None
            }
        }
    }

    /// One word of a few.
    pub fn word<T: Word>(&mut self, key: &str) -> Option<At<T>> {
        let value = self.value(key)?;
        self.word_of(key, value)
    }

    fn word_of<T: Word>(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<At<T>> {
        let at = value.span().start;
        let text = match value.get_ref() {
            DeValue::String(text) => text,
            // `stdout = { file = ... }` is a form that is to come.
            DeValue::Table(_) if T::TABLE_LATER => {
                self.error(at, format!("a table as `{key}` in {} {NOT_YET}", self.place()));
                return None;
            }
            _ => {
                self.wrong_type(key, value);
                return None;
            }
        };
        if let Some(word) = T::of(text) {
            return Some(At::new(word, at));
        }
        if T::LATER.contains(&text.as_ref()) {
            self.error(at, format!("`{key} = \"{text}\"` in {} {NOT_YET}", self.place()));
            return None;
        }
        let known: Vec<String> = T::words().map(|word| format!("\"{word}\"")).collect();
        let message = format!("`{key}` in {} is one of {}, not {}", self.place(), known.join(", "), quoted(text));
        self.errors.push_with(|| self.source.at(at, message).with_nearest(text, T::words()));
        None
    }

    /// A list of strings. `or_one`: one string alone is such a list too.
    pub fn texts(&mut self, key: &str, or_one: bool) -> Option<Vec<At<String>>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Array(items) => self.text_items(key, items),
            DeValue::String(text) if or_one => self.without_nul(key, text, value.span().start).map(|text| vec![text]),
            _ => {
                self.wrong_type(key, value);
                None
            }
        }
    }

    pub fn text_items(&mut self, key: &str, items: &DeArray<'_>) -> Option<Vec<At<String>>> {
        let mut texts = Some(Vec::with_capacity(items.len()));
        for item in items.iter() {
            let text = match item.get_ref() {
                DeValue::String(text) => self.without_nul(key, text, item.span().start),
                _ => {
                    self.wrong_type(key, item);
                    None
                }
            };
            texts = texts.zip(text).map(|(mut texts, text)| {
                texts.push(text);
                texts
            });
        }
        texts
    }

    /// Exit codes.
    pub fn codes(&mut self, key: &str) -> Option<Vec<u8>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value);
            return None;
        };
        let mut codes = Vec::new();
        for item in items.iter() {
            let code = item.get_ref().as_integer().map(|code| u8::from_str_radix(code.as_str(), code.radix()));
            match code {
                Some(Ok(code)) => codes.push(code),
                Some(Err(_)) => {
                    self.error(item.span().start, format!("an exit code in {} is from 0 to 255", self.place()));
                }
                None => self.wrong_type(key, item),
            }
        }
        Some(codes)
    }

    /// A table whose values are words: `queues = { items = "put" }`; keys with their positions.
    pub fn word_table<T: Word>(&mut self, key: &str) -> Vec<(At<String>, At<T>)> {
        let mut entries: Vec<_> = Vec::new();
        for (name, value) in self.entries(key) {
            entries.extend(self.word_of(key, value).map(|word| (name, word)));
        }
        entries
    }

    /// The entries of a table, in the order of the file.
    pub(super) fn entries(&mut self, key: &str) -> Vec<(At<String>, &'t Spanned<DeValue<'t>>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Table(table) => in_order(table),
            _ => {
                self.wrong_type(key, value);
                Vec::new()
            }
        }
    }

    /// The tables below a key: `[process.NAME]`, each with its checked name, in the order of the file.
    pub fn tables(&mut self, key: &str) -> Vec<(At<Name>, &'t DeTable<'t>)> {
        let mut tables = Vec::new();
        for (name, value) in self.entries(key) {
            match (Name::new(&name.value), value.get_ref()) {
                (Err(error), _) => self.error(name.at, format!("{} is no name: {error}", quoted(&name.value))),
                (Ok(checked), DeValue::Table(table)) => tables.push((At::new(checked, name.at), table)),
                (Ok(checked), _) => {
                    let found = kind(value);
                    self.error(value.span().start, format!("expected a table [{key}.{checked}]; found {found}"));
                }
            }
        }
        tables
    }

    /// The command: a list, or a string that is split as a shell would.
    pub fn command(&mut self, key: &str) -> Option<Vec<At<String>>> {
        let value = self.value(key)?;
        let at = value.span().start;
        let words = match value.get_ref() {
            DeValue::String(text) => {
                let text = self.without_nul(key, text, at)?;
                match shell_words::split(&text.value) {
                    Ok(words) => words.into_iter().map(|word| At::new(word, at)).collect(),
                    Err(_) => {
                        self.error(at, format!("`{key}` in {} has a quote that is not closed", self.place()));
                        return None;
                    }
                }
            }
            DeValue::Array(items) => self.text_items(key, items)?,
            _ => {
                self.wrong_type(key, value);
                return None;
            }
        };
        if words.first().is_none_or(|word| word.value.is_empty()) {
            self.error(at, format!("`{key}` in {} is empty", self.place()));
            return None;
        }
        Some(words)
    }
}

/// A table's entries in the order of the file (the parser keeps them by name).
fn in_order<'t>(table: &'t DeTable<'t>) -> Vec<(At<String>, &'t Spanned<DeValue<'t>>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(name, value)| (At::new(name.get_ref().to_string(), name.span().start), value)).collect();
    entries.sort_by_key(|(name, _)| name.at);
    entries
}

/// A number of seconds; what is too large for a number is without end.
fn seconds<E>(number: Result<f64, E>) -> Result<Limit, String> {
    let number = number.unwrap_or(f64::INFINITY);
    match Duration::try_from_secs_f64(number) {
        Ok(span) => Ok(Limit::After(span)),
        Err(_) if number > 0.0 => Ok(Limit::Never),
        Err(_) if number < 0.0 => Err(DurationError::Negative.to_string()),
        Err(_) => Err(format!("{number} is no duration")),
    }
}

/// What a value is, with its article.
fn kind(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

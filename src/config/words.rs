//! The values of the tree file (and of the options) that are one word of a few.

use crate::spec::{Consequence, Input, Leftovers, Output, Transport};

/// A type whose values are written as one word of a few.
pub trait Word: Copy + 'static {
    /// Each word and what it means.
    const WORDS: &'static [(&'static str, Self)];
    /// Words of the interface that this version does not have yet.
    const LATER: &'static [&'static str];

    /// Whether a table may stand in the word's place in a later version.
    const TABLE_LATER: bool = false;

    /// The value of a word.
    fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }

    /// All words, for suggestions.
    fn words() -> impl Iterator<Item = &'static str> {
        Self::WORDS.iter().map(|(word, _)| *word)
    }
}

/// What a process does with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Put,
    Get,
    Both,
}

/// How the messages of a queue come to their reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Direct,
}

impl Word for Usage {
    const WORDS: &'static [(&'static str, Self)] = &[("put", Self::Put), ("get", Self::Get), ("both", Self::Both)];
    const LATER: &'static [&'static str] = &[];
}

impl Word for Delivery {
    const WORDS: &'static [(&'static str, Self)] = &[("direct", Self::Direct)];
    const LATER: &'static [&'static str] = &["lease"];
}

impl Word for Transport {
    const WORDS: &'static [(&'static str, Self)] = &[("seqpacket", Self::Seqpacket), ("pipe", Self::Pipe)];
    const LATER: &'static [&'static str] = &[];
}

impl Word for Consequence {
    const WORDS: &'static [(&'static str, Self)] = &[("end", Self::End), ("ignore", Self::Ignore)];
    const LATER: &'static [&'static str] = &["restart"];
}

impl Word for Leftovers {
    const WORDS: &'static [(&'static str, Self)] =
        &[("stop", Self::Stop), ("wait", Self::Wait), ("ignore", Self::Ignore)];
    const LATER: &'static [&'static str] = &[];
}

/// `spec::Input` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputWord {
    Null,
    Inherit,
}

impl Word for InputWord {
    const WORDS: &'static [(&'static str, Self)] = &[("null", Self::Null), ("inherit", Self::Inherit)];
    const LATER: &'static [&'static str] = &[];
}

impl From<InputWord> for Input {
    fn from(word: InputWord) -> Self {
        match word {
            InputWord::Null => Self::Null,
            InputWord::Inherit => Self::Inherit,
        }
    }
}

/// `spec::Output` as written in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputWord {
    Inherit,
    Null,
    Prefix,
}

impl Word for OutputWord {
    const WORDS: &'static [(&'static str, Self)] =
        &[("inherit", Self::Inherit), ("null", Self::Null), ("prefix", Self::Prefix)];
    const LATER: &'static [&'static str] = &["journal"];
    const TABLE_LATER: bool = true;
}

impl From<OutputWord> for Output {
    fn from(word: OutputWord) -> Self {
        match word {
            OutputWord::Inherit => Self::Inherit,
            OutputWord::Null => Self::Null,
            OutputWord::Prefix => Self::Prefix,
        }
    }
}

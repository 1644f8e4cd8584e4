//! What things are called: names that people write, and the identities that the core computes with.

use core::fmt;

/// The longest name of a tree, group, process, queue or socket, in bytes.
pub const NAME_MAX: usize = 64;

/// A name that people write: ASCII letters, digits, `_`, `-` and `.`, beginning with a letter, a digit or `_`; 1 to 64 bytes.
///
/// It can stand in a path, an environment variable's value and a terminal without quoting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// # Errors
    /// Says what is wrong with the text as a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        match text.chars().next() {
            None => Err(NameError::Empty),
            Some(_) if text.len() > NAME_MAX => Err(NameError::TooLong),
            Some(first) if !first.is_ascii_alphanumeric() && first != '_' => Err(NameError::Start(first)),
            Some(_) => match text.chars().find(|c| !inner(*c)) {
                Some(bad) => Err(NameError::Character(bad)),
                None => Ok(Self(text.into())),
            },
        }
    }

    /// The nearest name to a text that may be none, such as a directory's: what does not fit becomes `_`.
    pub fn lossy(text: &str) -> Self {
        let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
        let mut name: String = text.chars().take(NAME_MAX).map(fit).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            name.insert(0, '_');
            name.truncate(NAME_MAX);
        }
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a part of an environment variable's name: upper case, `-` and `.` as `_`.
    pub fn env_part(&self) -> String {
        self.0.chars().map(|c| if matches!(c, '-' | '.') { '_' } else { c.to_ascii_uppercase() }).collect()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    Empty,
    TooLong,
    Start(char),
    Character(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name cannot be empty"),
            Self::TooLong => write!(f, "a name has at most {NAME_MAX} bytes"),
            Self::Start(c) => write!(f, "a name begins with a letter, a digit or `_`, not with {c:?}"),
            Self::Character(c) => write!(f, "a name has letters, digits, `_`, `-` and `.`, not {c:?}"),
        }
    }
}

impl core::error::Error for NameError {}

/// A node of a tree: its place in `TreeSpec::nodes`. The root group is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    pub const ROOT: Self = Self(0);

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A queue of a tree: its place in `TreeSpec::queues`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

impl QueueId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One life of a process node. An event that carries an earlier incarnation changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    pub node: NodeId,
    /// Counts the lives of all nodes of the tree, from 1, so that it alone is unique within the tree.
    pub serial: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_their_bounds() {
        assert_eq!(Name::new("worker-1.a_B").unwrap().as_str(), "worker-1.a_B");
        assert!(Name::new(&"x".repeat(NAME_MAX)).is_ok());
        assert_eq!(Name::new(&"x".repeat(NAME_MAX + 1)), Err(NameError::TooLong));
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new(".hidden"), Err(NameError::Start('.')));
        assert_eq!(Name::new("a/b"), Err(NameError::Character('/')));
        assert_eq!(Name::new("a b"), Err(NameError::Character(' ')));
    }

    #[test]
    fn a_lossy_name_is_a_name() {
        for text in ["", ".config", "my project", "é", &"-".repeat(200), "ok"] {
            let name = Name::lossy(text);
            assert_eq!(Name::new(name.as_str()).as_ref(), Ok(&name), "{text}");
        }
        assert_eq!(Name::lossy("my project").as_str(), "my_project");
    }

    #[test]
    fn a_name_in_a_variable() {
        assert_eq!(Name::new("my-items.2").unwrap().env_part(), "MY_ITEMS_2");
    }
}

//! Reading Rust, as far as the house rules need it: tokens without comments and literals, and the paths that they name.

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub line: usize,
    /// A name, a number, `::`, one punctuation character, or `"` for any literal text.
    pub text: String,
}

pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens of a Rust file, without comments, and without what its literals say.
pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let (length, token) = match rest[0] {
            '/' if rest.get(1) == Some(&'/') => (rest.iter().take_while(|c| **c != '\n').count(), None),
            '/' if rest.get(1) == Some(&'*') => (block_comment(rest), None),
            '"' => (quoted(rest, '"'), Some("\"".into())),
            '\'' if rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'') => (quoted(rest, '\''), Some("\"".into())),
            // A lifetime.
            '\'' => (1 + word(&rest[1..]), None),
            'r' | 'b' | 'c' if prefixed(rest).is_some() => (prefixed(rest).unwrap_or(1), Some("\"".into())),
            c if c.is_alphanumeric() || c == '_' => (word(rest), Some(rest[..word(rest)].iter().collect())),
            ':' if rest.get(1) == Some(&':') => (2, Some("::".into())),
            c if c.is_whitespace() => (1, None),
            c => (1, Some(c.to_string())),
        };
        tokens.extend(token.map(|text| Token { line, text }));
        line += rest[..length].iter().filter(|c| **c == '\n').count();
        at += length;
    }
    tokens
}

fn word(rest: &[char]) -> usize {
    rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a literal with escapes that begins and ends with `quote`.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of a literal such as `b"..."`, `r#"..."#`, `b'x'`; `None` for a name that only begins like one.
fn prefixed(rest: &[char]) -> Option<usize> {
    let letters = rest.iter().take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    if letters > 2 {
        return None;
    }
    let raw = rest[letters - 1] == 'r';
    let hashes = if raw { rest[letters..].iter().take_while(|c| **c == '#').count() } else { 0 };
    let begin = letters + hashes;
    match rest.get(begin)? {
        '"' if raw => {
            let ends = |at: &usize| {
                rest[*at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
            };
            Some((begin + 1..rest.len()).find(ends).map_or(rest.len(), |at| at + 1 + hashes))
        }
        quote @ ('"' | '\'') if hashes == 0 => Some(begin + quoted(&rest[begin..], *quote)),
        _ => None,
    }
}

/// The tokens without items under `#[cfg(test)]`.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins: Vec<&str> = tokens[at..].iter().take(7).map(|token| token.text.as_str()).collect();
        if begins == ["#", "[", "cfg", "(", "test", ")", "]"] {
            at += 7 + item(&tokens[at + 7..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The length of the item that begins here, its attributes included: to its `;`, or to the end of its braces.
fn item(tokens: &[Token]) -> usize {
    let braces_end = !tokens.first().is_some_and(|token| matches!(token.text.as_str(), "use" | "const" | "static"));
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && (token.text == ";" || token.text == "}" && braces_end) {
            return at + 1;
        }
    }
    tokens.len()
}

/// Names that are called: `sleep(`, `todo!`.
pub fn calls(tokens: &[Token]) -> Vec<(usize, String)> {
    let is_call = |pair: &&[Token]| is_name(&pair[0].text) && matches!(pair[1].text.as_str(), "(" | "!");
    tokens.windows(2).filter(is_call).map(|pair| (pair[0].line, format!("{}{}", pair[0].text, pair[1].text))).collect()
}

/// A path that the file names: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, PartialEq)]
pub struct Named {
    pub line: usize,
    pub names: Vec<String>,
    /// It begins an import, so that one name alone is a crate, not a variable.
    imported: bool,
}

impl Named {
    pub fn is_crate(&self, name: &str) -> bool {
        self.names[0] == name && (self.imported || self.names.len() > 1)
    }
}

pub fn paths(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = if at == 0 { "" } else { tokens[at - 1].text.as_str() };
        let begins_with_colons =
            before == "::" && (at < 2 || !is_name(&tokens[at - 2].text) && tokens[at - 2].text != ">");
        if is_name(&tokens[at].text) && !matches!(before, "::" | ".") || begins_with_colons && is_name(&tokens[at].text)
        {
            let origin = if begins_with_colons && at > 1 { tokens[at - 2].text.as_str() } else { before };
            let imported = matches!(origin, "use" | "crate");
            at = path(tokens, at, &[], imported, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path, or each of a group, and gives the place after it.
fn path(tokens: &[Token], mut at: usize, prefix: &[String], imported: bool, found: &mut Vec<Named>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut names = prefix.to_vec();
    let line = tokens[at].line;
    loop {
        if text(at) == "{" {
            at += 1;
            while at < tokens.len() && text(at) != "}" {
                at = match text(at) {
                    "as" => at + 2,
                    name if is_name(name) || matches!(name, "*" | "{") => path(tokens, at, &names, imported, found),
                    _ => at + 1,
                };
            }
            return at + 1;
        }
        // `a::{self}` is `a`.
        if text(at) != "self" || names.is_empty() {
            names.push(text(at).to_owned());
        }
        at += 1;
        if text(at) == "::" && (is_name(text(at + 1)) || matches!(text(at + 1), "*" | "{")) {
            at += 1;
        } else {
            found.push(Named { line, names, imported });
            return at;
        }
    }
}

//! Variables as the tree file sets them.

use toml::de::DeValue;

use crate::config::diagnostic::quoted;
use crate::config::section::{At, Section};

/// A variable as written; its value with `${VAR}` still in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    pub name: String,
    pub value: At<String>,
}

/// Whether a text can name a variable that the user sets.
///
/// # Errors
/// A message.
pub fn check_variable(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{} cannot name a variable", quoted(name)));
    }
    if name.starts_with("FATED_") {
        return Err(format!("{} is fated's own: variables that begin with FATED_ are set by fated", quoted(name)));
    }
    Ok(())
}

impl Section<'_, '_> {
    /// Variables, in the order of the file.
    pub fn variables(&mut self, key: &str) -> Vec<Variable> {
        let mut variables = Vec::new();
        for (name, value) in self.entries(key) {
            let at = value.span().start;
            if let Err(message) = check_variable(&name.value) {
                self.error(name.at, message);
                continue;
            }
            match value.get_ref() {
                DeValue::String(text) => {
                    let text = self.without_nul(key, text, at);
                    variables.extend(text.map(|value| Variable { name: name.value, value }));
                }
                DeValue::Integer(number) => self.quote_it(&name.value, &number.to_string(), at),
                DeValue::Float(number) => self.quote_it(&name.value, &number.to_string(), at),
                DeValue::Boolean(flag) => self.quote_it(&name.value, &flag.to_string(), at),
                DeValue::Datetime(date) => self.quote_it(&name.value, &date.to_string(), at),
                DeValue::Array(_) | DeValue::Table(_) => self.wrong_type(key, value),
            }
        }
        variables
    }

    fn quote_it(&mut self, name: &str, written: &str, at: usize) {
        let message = format!("the value of {} in {} is not a string", quoted(name), self.place());
        self.errors.push_with(|| self.source.at(at, message).with_help(format!("quote it: \"{written}\"")));
    }
}

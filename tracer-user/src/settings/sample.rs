//! A sample file with every key, its meaning and its default, made from the descriptions of the
//! fields.

use serde_json::Value;

use super::DEFAULT_PATH;
use super::shape::{self, Choice, Key, Shape};
use super::show::literal;

/// Width of the comments.
const COLUMNS: usize = 98;

/// The sample file. What is commented out is an example or the default.
pub fn sample() -> String {
    let mut out = String::new();
    comment(
        &format!(
            "Settings of `rampage serve`, {DEFAULT_PATH}. Every key is here with its default; take \
             the `# ` before a line away to change it. `rampage config check` says what is wrong with \
             the file, `rampage config show` what is in force; `systemctl reload rampage` applies it. \
             Sizes are powers of 1024: 512KiB, 64MiB, 2GiB. Times are 500ms, 30s, 10m, 2h, 7d."
        ),
        &mut out,
    );
    tables(shape::root(), &mut out);
    out
}

fn tables(keys: &'static [Key], out: &mut String) {
    for key in keys {
        let (header, inner) = match &key.shape {
            Shape::Table(inner) => (format!("[{}]", key.path), inner),
            Shape::Tables { keys, .. } => (format!("# [[{}]]", key.path), keys),
            _ => continue,
        };
        out.push('\n');
        comment(&key.sentences(), out);
        out.push_str(&format!("{header}\n"));
        for key in inner.iter().filter(|key| !key.is_table()) {
            if !header.starts_with('#') {
                out.push('\n');
            }
            comment(&key.sentences(), out);
            out.push_str(&format!("# {} = {}\n", key.name, literal(&key.value())));
        }
        tables(inner, out);
    }
}

impl Key {
    fn is_table(&self) -> bool {
        matches!(self.shape, Shape::Table(_) | Shape::Tables { .. })
    }

    /// The default, or else something that could stand there.
    pub(super) fn value(&self) -> Value {
        self.default.clone().or_else(|| self.example.clone()).unwrap_or_default()
    }

    /// Description, bounds, and when a change takes effect.
    pub(super) fn sentences(&self) -> String {
        let mut out = self.docs.clone();
        for sentence in [
            self.bounds(),
            self.restart.then(|| "A change takes effect at the next start.".to_owned()),
        ] {
            out.extend(sentence.map(|sentence| format!(" {sentence}")));
        }
        out
    }

    fn bounds(&self) -> Option<String> {
        match &self.shape {
            Shape::Size(bounds) => Some(format!("From {}.", bounds.words())),
            Shape::Span(bounds) => Some(format!("From {}.", bounds.words())),
            Shape::Number { most } => Some(format!("At most {most}.")),
            Shape::Tables { most, .. } => Some(format!("At most {most} of them.")),
            Shape::Choice(choices) => Some(format!("One of {}.", words(choices))),
            Shape::Texts { choices, .. } if !choices.is_empty() => {
                Some(format!("Any of {}.", words(choices)))
            }
            _ => None,
        }
    }
}

fn words(choices: &[Choice]) -> String {
    choices.iter().map(|choice| choice.word.as_str()).collect::<Vec<_>>().join(", ")
}

/// A comment, broken into lines.
fn comment(text: &str, out: &mut String) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            out.push_str(&line);
            out.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

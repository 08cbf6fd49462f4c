//! What the file may hold: keys, their types, bounds and descriptions, taken once from the JSON schema
//! of [`Settings`]. Whatever reads, shows or describes a file goes by this.

use std::fmt;
use std::sync::LazyLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Settings, Size, Span};

/// All keys, in the order of their fields.
static ROOT: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Settings>();
    schema.as_object().map(keys).unwrap_or_default()
});

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    /// From the root: `alerts.webhook.url`.
    pub path: &'static str,
    /// The description, as sentences.
    pub docs: String,
    pub shape: Shape,
    /// Must be given: there is no default.
    pub is_required: bool,
    /// None = there is none; a key that may be left out is then simply not there.
    pub default: Option<Value>,
    /// Something that could stand there.
    pub example: Option<Value>,
    /// A change takes effect at the next start.
    pub restart: bool,
    pub secret: Secret,
}

/// What of a value is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    No,
    /// Whatever follows scheme and host.
    Path,
    /// The values of a map.
    Values,
}

/// Type and bounds of a value.
#[derive(Debug)]
pub(super) enum Shape {
    /// `[table]`
    Table(Vec<Key>),
    /// `[[table]]`, at most so many.
    Tables {
        keys: Vec<Key>,
        most: usize,
    },
    /// A list of texts, or of choices where there are any.
    Texts {
        least: usize,
        most: usize,
        choices: Vec<Choice>,
    },
    /// Names and texts, at most so many.
    Map {
        most: usize,
    },
    /// Of so many characters.
    Text {
        least: usize,
        most: usize,
    },
    /// One of several words.
    Choice(Vec<Choice>),
    Size(Bounds<Size>),
    Span(Bounds<Span>),
    /// A whole number.
    Number {
        most: u64,
    },
    /// `true` or `false`.
    Flag,
}

/// A word that may stand there.
#[derive(Debug)]
pub(super) struct Choice {
    pub word: String,
    pub docs: String,
}

/// From where to where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<T> {
    pub least: T,
    pub most: T,
    /// 0 is allowed, too, and means something of its own.
    pub or_zero: bool,
}

impl<T: Ord + Default + Copy + fmt::Display> Bounds<T> {
    pub fn holds(&self, value: T) -> bool {
        (self.least..=self.most).contains(&value) || (self.or_zero && value == T::default())
    }

    /// `64KiB to 1GiB, or 0`.
    pub fn words(&self) -> String {
        let or_zero = if self.or_zero { ", or 0" } else { "" };
        format!("{} to {}{or_zero}", self.least, self.most)
    }
}

impl Shape {
    /// `a size`.
    pub fn words(&self) -> String {
        match self {
            Self::Table(_) => "a table".to_owned(),
            Self::Tables { .. } => "a list of tables".to_owned(),
            Self::Texts { .. } => "a list of texts".to_owned(),
            Self::Map { .. } => "a table of texts".to_owned(),
            Self::Text { .. } => "a text".to_owned(),
            Self::Choice(choices) => {
                let words = choices.iter().map(|choice| format!("\"{}\"", choice.word));
                words.collect::<Vec<_>>().join(" or ")
            }
            Self::Size(_) => "a size".to_owned(),
            Self::Span(_) => "a time".to_owned(),
            Self::Number { .. } => "a whole number".to_owned(),
            Self::Flag => "true or false".to_owned(),
        }
    }
}

/// All keys of the file.
pub(super) fn root() -> &'static [Key] {
    &ROOT
}

/// The JSON schema (draft 2020-12) of the file.
pub fn schema() -> Schema {
    schemars::schema_for!(Settings)
}

/// Every key that stands directly or at any depth in `keys`.
pub(super) fn all(keys: &'static [Key]) -> Box<dyn Iterator<Item = &'static Key>> {
    Box::new(keys.iter().flat_map(|key| {
        let inner: &'static [Key] = match &key.shape {
            Shape::Table(keys) | Shape::Tables { keys, .. } => keys,
            _ => &[],
        };
        std::iter::once(key).chain(all(inner))
    }))
}

/// Longest text, characters.
pub(super) const MOST_TEXT: usize = 4096;
/// Longest list that says nothing else.
const MOST_ITEMS: usize = 64;

fn keys(table: &Map<String, Value>) -> Vec<Key> {
    inner_keys(table, "")
}

fn inner_keys(table: &Map<String, Value>, path: &str) -> Vec<Key> {
    let required = table.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
    let Some(properties) = table.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let key = |(name, schema): (&String, &Value)| {
        let schema = schema.as_object()?;
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        Some(Key {
            name: String::leak(name.clone()),
            docs: docs(schema),
            shape: shape(schema, &path),
            is_required: is_required(name),
            default: schema.get("default").filter(|value| !value.is_null()).cloned(),
            example: schema.get("examples").and_then(|all| all.get(0)).cloned(),
            restart: schema.get("x-restart").is_some(),
            secret: match schema.get("x-secret").and_then(Value::as_str) {
                Some("path") => Secret::Path,
                Some(_) => Secret::Values,
                None => Secret::No,
            },
            path: String::leak(path),
        })
    };
    properties.iter().filter_map(key).collect()
}

fn shape(schema: &Map<String, Value>, path: &str) -> Shape {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let number = |name: &str| schema.get(name).and_then(Value::as_u64);
    let length = |name: &str, default: usize| {
        number(name).map_or(default, |length| usize::try_from(length).unwrap_or(default))
    };
    match (text("type"), text("format")) {
        (Some("boolean"), _) => Shape::Flag,
        (Some("integer"), _) => Shape::Number { most: number("maximum").unwrap_or(u64::MAX) },
        (Some("array"), _) => {
            let item = schema.get("items").and_then(Value::as_object);
            let most = length("maxItems", MOST_ITEMS);
            match item {
                Some(item) if item.contains_key("properties") => {
                    Shape::Tables { keys: inner_keys(item, path), most }
                }
                item => {
                    let choices = item.map(choices).unwrap_or_default();
                    Shape::Texts { least: length("minItems", 0), most, choices }
                }
            }
        }
        (Some("object"), _) if schema.contains_key("properties") => {
            Shape::Table(inner_keys(schema, path))
        }
        (Some("object"), _) => Shape::Map { most: length("maxProperties", MOST_ITEMS) },
        (_, Some("size")) => Shape::Size(bounds(schema, Size::bytes(u64::MAX))),
        (_, Some("time")) => Shape::Span(bounds(schema, Span::from_secs(u64::MAX / 1000))),
        _ => match choices(schema) {
            choices if choices.is_empty() => {
                Shape::Text { least: length("minLength", 0), most: length("maxLength", MOST_TEXT) }
            }
            choices => Shape::Choice(choices),
        },
    }
}

fn bounds<T: std::str::FromStr + Default>(schema: &Map<String, Value>, most: T) -> Bounds<T> {
    let bound = |name: &str| schema.get(name)?.as_str()?.parse().ok();
    Bounds {
        least: bound("x-least").unwrap_or_default(),
        most: bound("x-most").unwrap_or(most),
        or_zero: schema.get("x-or-zero").is_some(),
    }
}

/// The words of an enum, each with its description.
fn choices(schema: &Map<String, Value>) -> Vec<Choice> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let listed = listed
        .filter_map(Value::as_str)
        .map(|word| Choice { word: word.to_owned(), docs: String::new() });
    let described = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let described = described.filter_map(Value::as_object).flat_map(|one| {
        let word = one.get("const").and_then(Value::as_str);
        let word = word.map(|word| Choice { word: word.to_owned(), docs: docs(one) });
        word.into_iter().chain(choices(one))
    });
    listed.chain(described).collect()
}

/// The description, its lines joined.
fn docs(schema: &Map<String, Value>) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_and_has_a_default_or_an_example() {
        let mut count = 0;
        for key in all(root()) {
            count += 1;
            assert!(key.docs.len() > 10, "{}", key.path);
            let is_table = matches!(key.shape, Shape::Table(_) | Shape::Tables { .. });
            let has_value = key.default.is_some() || key.example.is_some();
            assert!(is_table || has_value, "{}", key.path);
            assert!(!key.is_required || key.example.is_some(), "{}", key.path);
        }
        assert!(count > 50, "{count}");
        let order: Vec<_> = root().iter().map(|key| key.name).collect();
        assert_eq!(order, ["watch", "findings", "pool", "recorder", "metrics", "alerts"]);
    }

    #[test]
    fn types_and_bounds_come_from_the_schema() {
        let key = |path: &str| all(root()).find(|key| key.path == path).unwrap();
        assert!(matches!(&key("watch.source").shape, Shape::Choice(all) if all.len() == 3));
        let Shape::Size(step) = &key("watch.step").shape else { panic!("{:?}", key("watch.step")) };
        assert_eq!((step.least.get(), step.most.get(), step.or_zero), (64 << 10, 1 << 30, true));
        let Shape::Texts { choices, .. } = &key("pool.ignore").shape else { panic!() };
        assert!(
            choices.iter().any(|choice| choice.word == "oom_verdict" && !choice.docs.is_empty())
        );
        assert!(matches!(key("pool.horizon").shape, Shape::Span(_)));
        assert!(matches!(key("metrics.top_processes").shape, Shape::Number { most: 200 }));
        assert!(matches!(key("alerts.webhook.headers").shape, Shape::Map { most: 32 }));
        assert!(matches!(key("alerts.webhook.min_severity").shape, Shape::Choice(_)));
        assert!(matches!(key("recorder.directory").shape, Shape::Text { .. }));
        assert!(key("watch.usdt").restart && !key("watch.php").restart);
        assert_eq!(key("alerts.otlp.headers").secret, Secret::Values);
    }
}

//! The settings in force, each with its origin: as TOML that can be read again, or as JSON. Secrets
//! are left out.

use serde_json::{Map, Value, json};

use super::load::{Loaded, Origin};
use super::shape::{self, Key, Secret, Shape};
use crate::text::printable;

/// Column of the origins.
const COLUMN: usize = 40;
/// Stands for what is secret.
const HIDDEN: &str = "…";

/// A value that stands in the file, or could.
struct Row {
    path: String,
    key: &'static Key,
    value: Value,
    origin: Origin,
}

/// Effective values as TOML; the origin of each is a comment behind it.
pub fn show(loaded: &Loaded) -> String {
    let mut out = match &loaded.file {
        Some(path) => format!("# {}\n", file(path)),
        None => format!("# There is no {}: everything is as by default.\n", super::DEFAULT_PATH),
    };
    let settings = serde_json::to_value(&loaded.settings).unwrap_or_default();
    table(loaded, shape::root(), &settings, "", &mut out);
    out
}

/// An object with `value` and `origin` (`default` or `FILE:LINE`) of each path:
/// `alerts.webhook[0].url`.
pub fn show_json(loaded: &Loaded) -> Value {
    let object = |row: Row| {
        let origin = origin(loaded, row.origin);
        let value = shown(row.key, &row.value);
        (row.path, json!({ "value": value, "origin": origin }))
    };
    rows(loaded).into_iter().map(object).collect::<Map<_, _>>().into()
}

impl Loaded {
    /// How many values the file gives.
    pub fn given(&self) -> usize {
        rows(self).iter().filter(|row| row.origin != Origin::Default).count()
    }
}

fn rows(loaded: &Loaded) -> Vec<Row> {
    let mut out = Vec::new();
    let settings = serde_json::to_value(&loaded.settings).unwrap_or_default();
    collect(loaded, shape::root(), &settings, "", &mut out);
    out
}

fn collect(loaded: &Loaded, keys: &'static [Key], table: &Value, path: &str, out: &mut Vec<Row>) {
    for key in keys {
        let Some(value) = table.get(key.name) else { continue };
        let path = join(path, key.name);
        match (&key.shape, value) {
            (Shape::Table(keys), _) => collect(loaded, keys, value, &path, out),
            (Shape::Tables { keys, .. }, Value::Array(all)) if !all.is_empty() => {
                for (at, one) in all.iter().enumerate() {
                    collect(loaded, keys, one, &format!("{path}[{at}]"), out);
                }
            }
            _ => {
                let origin = loaded.origin(&path);
                out.push(Row { path, key, value: value.clone(), origin });
            }
        }
    }
}

fn table(loaded: &Loaded, keys: &'static [Key], values: &Value, path: &str, out: &mut String) {
    let mut inner: Vec<(&Key, &'static [Key], String, &Value)> = Vec::new();
    for key in keys {
        let Some(value) = values.get(key.name) else { continue };
        let path = join(path, key.name);
        match (&key.shape, value) {
            (Shape::Table(keys), _) => inner.push((key, keys, path, value)),
            (Shape::Tables { keys, .. }, Value::Array(all)) if !all.is_empty() => {
                let each = all.iter().enumerate();
                inner.extend(each.map(|(at, one)| (key, &keys[..], format!("{path}[{at}]"), one)));
            }
            _ => {
                let assigned = format!("{} = {}", key.name, literal(&shown(key, value)));
                let origin = origin(loaded, loaded.origin(&path));
                out.push_str(&format!("{assigned:COLUMN$} # {origin}\n"));
            }
        }
    }
    for (key, keys, path, value) in inner {
        match key.shape {
            Shape::Tables { .. } => out.push_str(&format!("\n[[{}]]\n", key.path)),
            _ => out.push_str(&format!("\n[{}]\n", key.path)),
        }
        table(loaded, keys, value, &path, out);
    }
}

fn origin(loaded: &Loaded, origin: Origin) -> String {
    match (origin, &loaded.file) {
        (Origin::Line(line), Some(path)) => format!("{}:{line}", file(path)),
        _ => "default".to_owned(),
    }
}

fn file(path: &std::path::Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Without what is secret.
fn shown(key: &Key, value: &Value) -> Value {
    match (key.secret, value) {
        (Secret::Values, Value::Object(all)) => {
            all.keys().map(|name| (name.clone(), Value::from(HIDDEN))).collect::<Map<_, _>>().into()
        }
        (Secret::Path, Value::String(url)) => {
            let begin = url.find("://").map_or(0, |at| at + 3);
            match url[begin..].find(['/', '?']) {
                Some(at) if begin + at + 1 < url.len() => {
                    Value::from(format!("{}/{HIDDEN}", &url[..begin + at]))
                }
                _ => value.clone(),
            }
        }
        (Secret::No | Secret::Path | Secret::Values, value) => value.clone(),
    }
}

/// A value in TOML, on one line and safe for a terminal.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(all) => {
            format!("[{}]", all.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(all) if all.is_empty() => "{}".to_owned(),
        Value::Object(all) => {
            let pairs = all.iter().map(|(name, value)| {
                let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                match !name.is_empty() && name.chars().all(is_bare) {
                    true => format!("{name} = {}", literal(value)),
                    false => format!("{} = {}", quoted(name), literal(value)),
                }
            });
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        let mut buffer = [0; 4];
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ if *printable(c.encode_utf8(&mut buffer)) != *c.to_string() => {
                out.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

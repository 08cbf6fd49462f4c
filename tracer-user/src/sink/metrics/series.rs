//! Families and their series as they are put together, with labels made harmless: what processes,
//! pools and cgroups call themselves is hostile input.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use crate::metrics::table::Description;
use crate::metrics::{Family, Sample};
use crate::text::printable;

/// Longest value of a label, bytes as it is told; a longer one is cut, and told from others by a hash of all
/// of it.
const MAX_LABEL_BYTES: usize = 200;

/// Families with at least one series, in the order in which they were begun.
#[derive(Debug, Default)]
pub(super) struct Families(Vec<Family>);

impl Families {
    /// With room for so many families.
    pub fn with_capacity(families: usize) -> Self {
        Self(Vec::with_capacity(families))
    }

    /// A family without labels.
    pub fn one(&mut self, of: &'static Description, value: f64) {
        self.each(of, [([], value)]);
    }

    /// The same where the value may not be known.
    pub fn one_if(&mut self, of: &'static Description, value: Option<f64>) {
        self.each(of, value.map(|value| ([], value)));
    }

    /// A family with its series: values of its labels in the order of the table, an empty one = that
    /// label is left out. Left out as a whole when there is none.
    pub fn each<'a, const N: usize>(
        &mut self,
        of: &'static Description,
        series: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        debug_assert_eq!(N, of.labels.len(), "{}", of.name);
        let sample = |(values, value): ([&str; N], f64)| Sample {
            labels: of
                .labels
                .iter()
                .zip(values)
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
                .collect(),
            value,
        };
        let samples: Vec<Sample> = series.into_iter().map(sample).collect();
        if !samples.is_empty() {
            self.0.push(Family {
                name: of.name.to_owned(),
                help: of.help.to_owned(),
                unit: of.unit.to_owned(),
                kind: of.kind,
                samples,
            });
        }
    }

    pub fn into_inner(self) -> Vec<Family> {
        self.0
    }
}

/// Labels as [`Families::each`] takes them.
pub(super) fn texts<const N: usize>(labels: &[String; N]) -> [&str; N] {
    labels.each_ref().map(String::as_str)
}

/// `text` as the value of a label: control characters and what deceives made visible, and cut to 200
/// bytes. What was changed ends in a hash, so that two that differ stay two.
pub(super) fn label(text: &str) -> String {
    let shown = printable(text);
    if shown.len() == text.len() && text.chars().map(told_bytes).sum::<usize>() <= MAX_LABEL_BYTES {
        return text.to_owned();
    }
    let mut hasher = FxHasher::default();
    text.hash(&mut hasher);
    let room = MAX_LABEL_BYTES - "…~".len() - 16;
    let mut bytes = 0;
    let over = shown.char_indices().find(|(_, c)| {
        bytes += told_bytes(*c);
        bytes > room
    });
    let (end, cut) = over.map_or((shown.len(), ""), |(end, _)| (end, "…"));
    format!("{}{cut}~{:016x}", &shown[..end], hasher.finish())
}

/// What a character takes where it is told: JSON and Prometheus escape these two.
fn told_bytes(c: char) -> usize {
    if matches!(c, '"' | '\\') { 2 } else { c.len_utf8() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table;

    #[test]
    fn labels_are_harmless_short_and_stay_apart() {
        assert_eq!(label("/system.slice/ssh.service"), "/system.slice/ssh.service");
        assert_eq!(label(""), "");
        let hostile = label("a\n\u{202e}\x1b[2J");
        assert!(hostile.starts_with("a\\n\\u{202e}\\x1b[2J~"), "{hostile}");
        assert_ne!(label("a\n"), label("a\\n"));
        let (one, other) = ("é".repeat(4000) + "1", "é".repeat(4000) + "2");
        for long in [&one, &other, &"\x1b".repeat(300), &"x".repeat(201)] {
            assert!(label(long).len() <= MAX_LABEL_BYTES, "{long}");
        }
        // No name is longer on its way than it is here.
        for long in ["\"".repeat(200), "\\".repeat(101), "\\\"é".repeat(60)] {
            let json = serde_json::to_string(&label(&long)).unwrap();
            assert!(json.len() <= MAX_LABEL_BYTES + 2, "{json}");
        }
        assert_eq!(label(&"\"".repeat(100)), "\"".repeat(100));
        assert_ne!(label(&one), label(&other));
        assert_eq!(label(&"x".repeat(200)), "x".repeat(200));
    }

    #[test]
    fn empty_families_and_empty_labels_are_left_out() {
        let mut families = Families::default();
        families.one_if(&table::HOST_TIME_LEFT, None);
        families.each(&table::KILLS, std::iter::empty::<([&str; 1], f64)>());
        families.each(&table::POOL_WORKERS, [(["www", ""], 3.0), (["", "/x"], 1.0)]);
        let families = families.into_inner();
        assert_eq!(families.len(), 1);
        let labels: Vec<_> = families[0].samples.iter().map(|sample| &sample.labels).collect();
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(labels, [&pair("pool", "www"), &pair("cgroup", "/x")]);
    }
}

//! Rules as data: a value, what it is held against, and whether that holds. Detectors decide by them
//! and `replay --explain` prints them, so that nobody has to copy a threshold. Making one costs no
//! allocation.

use crate::text;

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// What is compared, in a few words.
    pub what: &'static str,
    /// As it was measured.
    pub value: f64,
    /// How it has to stand to `bound`.
    pub needs: Needs,
    /// The threshold.
    pub bound: f64,
    /// Of both.
    pub unit: Unit,
}

/// How a value has to stand to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// `>=`
    AtLeast,
    /// `>`
    MoreThan,
    /// `<=`
    AtMost,
    /// `<`
    LessThan,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// Parts of 1, told as percent.
    Share,
    /// Anything that is counted.
    Count,
}

impl Rule {
    /// A size.
    pub fn bytes(what: &'static str, value: u64, needs: Needs, bound: u64) -> Self {
        Self { what, value: value as f64, needs, bound: bound as f64, unit: Unit::Bytes }
    }

    /// A time.
    pub fn seconds(what: &'static str, value: f64, needs: Needs, bound: f64) -> Self {
        Self { what, value, needs, bound, unit: Unit::Seconds }
    }

    /// A part of 1.
    pub fn share(what: &'static str, value: f64, needs: Needs, bound: f64) -> Self {
        Self { what, value, needs, bound, unit: Unit::Share }
    }

    /// A number of things.
    pub fn count(what: &'static str, value: f64, needs: Needs, bound: f64) -> Self {
        Self { what, value, needs, bound, unit: Unit::Count }
    }

    /// The same against another bound.
    pub fn against(self, bound: f64) -> Self {
        Self { bound, ..self }
    }

    /// Whether it holds; what is no number never does.
    pub fn holds(&self) -> bool {
        match self.needs {
            Needs::AtLeast => self.value >= self.bound,
            Needs::MoreThan => self.value > self.bound,
            Needs::AtMost => self.value <= self.bound,
            Needs::LessThan => self.value < self.bound,
        }
    }
}

/// Whether all of them hold.
pub(super) fn all_hold(rules: &[Rule]) -> bool {
    rules.iter().all(Rule::holds)
}

impl Needs {
    /// `at least`.
    pub fn words(self) -> &'static str {
        match self {
            Self::AtLeast => "at least",
            Self::MoreThan => "more than",
            Self::AtMost => "at most",
            Self::LessThan => "less than",
        }
    }
}

impl Unit {
    /// `bytes`, `bytes_per_s`, `s`, `share` or `count`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes_per_s",
            Self::Seconds => "s",
            Self::Share => "share",
            Self::Count => "count",
        }
    }

    /// A number with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "-".to_owned(),
            Self::Bytes => text::bytes(value as u64),
            Self::BytesPerSecond => text::rate(value),
            Self::Seconds => text::seconds(value),
            Self::Share => format!("{:.0} %", value * 100.0),
            Self::Count => format!("{value:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_met_as_it_says() {
        let holds = |needs, value| Rule::count("x", value, needs, 2.0).holds();
        assert!(holds(Needs::AtLeast, 2.0) && !holds(Needs::AtLeast, 1.0));
        assert!(holds(Needs::MoreThan, 3.0) && !holds(Needs::MoreThan, 2.0));
        assert!(holds(Needs::AtMost, 2.0) && !holds(Needs::AtMost, 3.0));
        assert!(holds(Needs::LessThan, 1.0) && !holds(Needs::LessThan, 2.0));
        let all = [Needs::AtLeast, Needs::MoreThan, Needs::AtMost, Needs::LessThan];
        assert!(!all.into_iter().any(|needs| holds(needs, f64::NAN)));
    }

    #[test]
    fn numbers_carry_their_unit() {
        assert_eq!(Unit::Bytes.show(16777216.0), "16.0 MiB");
        assert_eq!(Unit::Share.show(0.5), "50 %");
        assert_eq!(Unit::Seconds.show(f64::INFINITY), "-");
    }
}

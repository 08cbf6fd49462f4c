//! The result of a run: machines × tests, with times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};

use super::plan::{Ended, Outcome};

/// Outcomes by test and machine.
#[derive(Debug, Default)]
pub struct Table {
    machines: Vec<String>,
    cells: BTreeMap<String, BTreeMap<String, Ended>>,
}

impl Table {
    /// Adds a machine's column.
    pub fn add(&mut self, machine: &str, tests: &[Ended]) {
        self.machines.push(machine.to_owned());
        for test in tests {
            let row = self.cells.entry(test.name.clone()).or_default();
            row.insert(machine.to_owned(), test.clone());
        }
    }

    /// Outcomes that are ok, and those that failed.
    pub fn count(&self) -> (usize, usize) {
        let count = |outcome| {
            let all = self.cells.values().flat_map(BTreeMap::values);
            all.filter(|ended| ended.outcome == outcome).count()
        };
        (count(Outcome::Ok), count(Outcome::Failed))
    }

    /// Those of `tests` that ran on no machine.
    pub fn ran_nowhere<'a>(&self, tests: impl Iterator<Item = &'a String>) -> Vec<String> {
        let ran = |test: &str| {
            self.cells
                .get(test)
                .is_some_and(|row| row.values().any(|ended| ended.outcome != Outcome::Skipped))
        };
        let nowhere: BTreeSet<_> = tests.filter(|test| !ran(test)).cloned().collect();
        nowhere.into_iter().collect()
    }

    /// Prints it.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "\n{self}")
    }
}

/// A row a test, a column a machine: seconds, `FAIL`, `skip`, or `-` when it does not belong there.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.cells.keys().map(String::len).max().unwrap_or(0);
        write!(f, "{:width$}", "seconds")?;
        for machine in &self.machines {
            write!(f, "  {machine}")?;
        }
        writeln!(f)?;
        for (test, row) in &self.cells {
            write!(f, "{test:width$}")?;
            for machine in &self.machines {
                let cell = match row.get(machine) {
                    None => "-".to_owned(),
                    Some(Ended { outcome: Outcome::Ok, seconds, .. }) => format!("{seconds:.1}"),
                    Some(Ended { outcome: Outcome::Failed, .. }) => "FAIL".to_owned(),
                    Some(Ended { outcome: Outcome::Skipped, .. }) => "skip".to_owned(),
                };
                write!(f, "  {cell:>0$}", machine.len())?;
            }
            writeln!(f)?;
        }
        write!(f, "{:width$}", "sum")?;
        for machine in &self.machines {
            let cells = self.cells.values().filter_map(|row| row.get(machine));
            let sum: f64 = cells.map(|ended| ended.seconds).sum();
            write!(f, "  {:>1$.0}", sum, machine.len())?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(name: &str, outcome: Outcome) -> Ended {
        Ended { name: name.to_owned(), outcome, seconds: 1.26, text: String::new() }
    }

    #[test]
    fn machines_by_tests() {
        let mut table = Table::default();
        table.add("host", &[ended("a::b", Outcome::Ok), ended("c::longer", Outcome::Skipped)]);
        table.add("6.1/v2", &[ended("a::b", Outcome::Failed)]);
        assert_eq!(
            table.to_string(),
            "seconds    host  6.1/v2\n\
             a::b        1.3    FAIL\n\
             c::longer  skip       -\n\
             sum           3       1\n"
        );
        assert_eq!(table.count(), (1, 1));
        let tests = ["a::b", "c::longer", "d::e"].map(str::to_owned);
        assert_eq!(table.ran_nowhere(tests.iter()), ["c::longer", "d::e"]);
    }
}

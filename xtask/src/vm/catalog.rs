//! Which machines there are: `tests/guests.toml`, and what of it a run selects.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::platform::Arch;
use crate::workspace::Workspace;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// Debian suite of the guests' root file system.
    pub suite: String,
    /// Packages in it.
    pub packages: Vec<String>,
    /// Packages that only work where their set-up can run: on the host's own architecture.
    pub native_packages: Vec<String>,
    #[serde(rename = "kernel")]
    kernels: Vec<Kernel>,
    #[serde(rename = "guest")]
    guests: Vec<Guest>,
}

/// A kernel of Debian.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// As users call it.
    pub name: String,
    /// Its architecture.
    #[serde(default)]
    pub arch: Arch,
    /// How its release begins.
    pub release: String,
    /// Suites that may have it.
    pub suites: Vec<String>,
    /// What it has not.
    #[serde(default)]
    lacks: BTreeSet<String>,
    #[serde(default)]
    quick: bool,
    /// A guest of it may take no longer.
    #[serde(default = "an_hour")]
    pub limit_seconds: u64,
}

fn an_hour() -> u64 {
    3600
}

/// Which hierarchies of cgroups a guest mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroup {
    /// cgroup2 alone.
    V2,
    /// v1 alone.
    V1,
    /// Memory in v1, and an empty cgroup2.
    Hybrid,
}

/// How a kernel is run, and the tests for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// Its name beside that of the kernel: `6.1/v2`.
    pub name: String,
    /// Its kernels; none = all.
    #[serde(default)]
    kernels: Vec<String>,
    /// Hierarchies.
    pub cgroup: Cgroup,
    /// Virtual CPUs.
    #[serde(default = "two")]
    pub cpus: u32,
    /// Memory, MiB.
    #[serde(default = "one_gib")]
    pub memory_mib: u32,
    /// A disk to swap to, MiB; 0 = no swap.
    #[serde(default)]
    pub swap_mib: u32,
    /// Added to the kernel's command line.
    #[serde(default)]
    pub command_line: String,
    /// /sys/kernel/btf is hidden.
    #[serde(default)]
    pub hide_btf: bool,
    /// What it has not.
    lacks: BTreeSet<String>,
    /// It is the one that a kernel is recorded in.
    #[serde(default)]
    record: bool,
    /// Tests whose name contains one of these.
    tests: Vec<String>,
    /// The same for the quick set.
    #[serde(default)]
    quick_tests: Vec<String>,
}

fn two() -> u32 {
    2
}

fn one_gib() -> u32 {
    1024
}

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Everything, not only the quick set.
    pub all: bool,
    /// Kernels; none = all.
    pub kernels: Vec<String>,
    /// Guests; none = all.
    pub guests: Vec<String>,
    /// Tests whose name contains one of these; none = all.
    pub tests: Vec<String>,
}

/// One guest of one kernel, with its tests.
#[derive(Clone, Debug)]
pub struct Run {
    /// The kernel.
    pub kernel: Kernel,
    /// The guest.
    pub guest: Guest,
    /// Names of the tests, `PROGRAM::TEST`.
    pub tests: Vec<String>,
    /// The kernel's hooks and verifier counts are to be recorded.
    pub record: bool,
}

impl Run {
    /// `6.1/v2`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.kernel.name, self.guest.name)
    }

    /// What the guest is recorded to lack.
    pub fn lacks(&self) -> Vec<&str> {
        self.kernel.lacks.union(&self.guest.lacks).map(String::as_str).collect()
    }
}

impl Catalog {
    /// Reads the file.
    pub fn read(workspace: &Workspace) -> anyhow::Result<Self> {
        let path = workspace.root.join("tests/guests.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let catalog: Self = toml::from_str(text)?;
        for name in catalog.guests.iter().flat_map(|guest| &guest.kernels) {
            ensure!(catalog.kernel(name).is_some(), "there is no kernel {name}");
        }
        Ok(catalog)
    }

    /// All kernels.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// The guests that a choice means, each with those of `tests` (`PROGRAM::TEST`) that run in it.
    /// An error names what does not exist.
    pub fn select(&self, choice: &Choice, tests: &[String]) -> anyhow::Result<Vec<Run>> {
        let known = |what: &str, chosen: &[String], names: Vec<&str>| {
            let stranger = chosen.iter().find(|name| !names.contains(&name.as_str()));
            match stranger {
                Some(name) => bail!("there is no {what} {name}; there are {}", names.join(", ")),
                None => Ok(()),
            }
        };
        known("kernel", &choice.kernels, self.kernels.iter().map(|k| &*k.name).collect())?;
        known("guest", &choice.guests, self.guests.iter().map(|g| &*g.name).collect())?;
        let quick = !choice.all
            && choice.kernels.is_empty()
            && choice.guests.is_empty()
            && choice.tests.is_empty();
        let chosen = |names: &[String], name: &str| names.is_empty() || holds(names, name);
        let mut runs = Vec::new();
        for kernel in &self.kernels {
            for guest in &self.guests {
                if !chosen(&guest.kernels, &kernel.name)
                    || !chosen(&choice.kernels, &kernel.name)
                    || !chosen(&choice.guests, &guest.name)
                    || (quick && !kernel.quick)
                {
                    continue;
                }
                let wanted = if quick { &guest.quick_tests } else { &guest.tests };
                let tests: Vec<String> = tests
                    .iter()
                    .filter(|test| contains_one(test, wanted))
                    .filter(|test| choice.tests.is_empty() || contains_one(test, &choice.tests))
                    .cloned()
                    .collect();
                if !tests.is_empty() {
                    let (kernel, guest) = (kernel.clone(), guest.clone());
                    runs.push(Run { kernel, guest, tests, record: false });
                }
            }
        }
        ensure!(!runs.is_empty(), "no test of any guest fits; `cargo xtask vm --list` shows them");
        Ok(runs)
    }

    /// One guest of each kernel that records it, without a test.
    pub fn recorders(&self) -> Vec<Run> {
        let recorder = self.guests.iter().find(|guest| guest.record);
        let runs = self.kernels.iter().zip(std::iter::repeat(recorder));
        runs.filter_map(|(kernel, guest)| {
            let (kernel, guest) = (kernel.clone(), guest?.clone());
            Some(Run { kernel, guest, tests: Vec::new(), record: true })
        })
        .collect()
    }
}

fn holds(names: &[String], name: &str) -> bool {
    names.iter().any(|one| one == name)
}

fn contains_one(test: &str, parts: &[String]) -> bool {
    parts.iter().any(|part| test.contains(part.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        suite = "bookworm"
        packages = []
        native_packages = []
        [[kernel]]
        name = "old"
        release = "5."
        suites = ["x"]
        lacks = ["memory.peak"]
        [[kernel]]
        name = "new"
        release = ""
        suites = ["x"]
        quick = true
        [[guest]]
        name = "v2"
        cgroup = "v2"
        tests = [""]
        quick_tests = ["oom::"]
        lacks = ["swap"]
        record = true
        [[guest]]
        name = "v1"
        kernels = ["old"]
        cgroup = "v1"
        tests = ["oom::", "psi::"]
        lacks = []
    "#;

    fn select(choice: &Choice) -> anyhow::Result<Vec<(String, usize)>> {
        let tests = ["oom::a", "oom::b", "psi::c", "big::d"].map(str::to_owned);
        let runs = Catalog::parse(TEXT).unwrap().select(choice, &tests)?;
        Ok(runs.iter().map(|run| (run.name(), run.tests.len())).collect())
    }

    #[test]
    fn the_quick_set_is_what_says_so() {
        let runs = select(&Choice::default()).unwrap();
        assert_eq!(runs, [("new/v2".to_owned(), 2)]);
    }

    #[test]
    fn all_is_all_and_names_choose_from_it() {
        let all = select(&Choice { all: true, ..Choice::default() }).unwrap();
        let names = [("old/v2".into(), 4), ("old/v1".into(), 3), ("new/v2".into(), 4)];
        assert_eq!(all, names);
        let old = Choice { kernels: vec!["old".into()], ..Choice::default() };
        assert_eq!(select(&old).unwrap(), names[..2]);
        let psi = Choice { tests: vec!["psi".into()], ..Choice::default() };
        assert_eq!(select(&psi).unwrap().len(), 3);
    }

    #[test]
    fn strangers_are_named() {
        let choice = Choice { kernels: vec!["4.19".into()], ..Choice::default() };
        let error = select(&choice).unwrap_err().to_string();
        assert_eq!(error, "there is no kernel 4.19; there are old, new");
        let choice = Choice { tests: vec!["nothing".into()], ..Choice::default() };
        assert!(select(&choice).unwrap_err().to_string().contains("no test"));
        assert!(Catalog::parse(&TEXT.replace("[\"old\"]", "[\"odd\"]")).is_err());
    }

    #[test]
    fn what_a_guest_lacks_is_of_both() {
        let catalog = Catalog::parse(TEXT).unwrap();
        let recorders = catalog.recorders();
        assert_eq!(recorders.iter().map(Run::name).collect::<Vec<_>>(), ["old/v2", "new/v2"]);
        assert_eq!(recorders[0].lacks(), ["memory.peak", "swap"]);
    }

    #[test]
    fn the_real_file_is_sound() {
        let text = include_str!("../../../tests/guests.toml");
        let catalog = Catalog::parse(text).unwrap();
        assert_eq!(catalog.kernels().len(), catalog.recorders().len());
        assert!(catalog.kernels().iter().any(|kernel| kernel.arch == Arch::Arm64));
    }
}

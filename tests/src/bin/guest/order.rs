//! What this is told to do, and what it says: the counterpart of `xtask/src/vm/plan.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The order for this machine.
#[derive(Debug, Deserialize)]
pub struct Plan {
    /// Hierarchies to mount.
    pub cgroup: Cgroup,
    /// There is a disk to swap to.
    pub swap: bool,
    /// /sys/kernel/btf is to be hidden.
    pub hide_btf: bool,
    /// The kernel is to be recorded.
    pub record: bool,
    /// A test that takes longer is ended.
    pub test_seconds: u64,
    /// Variables for the tests.
    pub environment: BTreeMap<String, String>,
    /// In this order.
    pub tests: Vec<Step>,
}

/// Hierarchies of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroup {
    /// cgroup2 alone.
    V2,
    /// v1 alone.
    V1,
    /// Memory in v1, and an empty cgroup2.
    Hybrid,
}

/// One test.
#[derive(Debug, Deserialize)]
pub struct Step {
    /// `PROGRAM::TEST`.
    pub name: String,
    /// Path of the test program.
    pub program: String,
    /// Name of the test in it.
    pub test: String,
}

/// A line to the other side.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Said<'a> {
    /// A test begins.
    Begin(&'a str),
    /// A test has ended.
    End {
        /// `PROGRAM::TEST`.
        name: &'a str,
        /// How.
        outcome: Outcome,
        /// After how long.
        seconds: f64,
        /// The feature that was missing, or what it printed before it failed.
        text: &'a str,
    },
    /// All is done.
    Finished {},
    /// The machine could not do what it was told.
    Broken(&'a str),
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Ok,
    /// It failed, or took too long.
    Failed,
    /// It did not run, for want of a feature.
    Skipped,
}

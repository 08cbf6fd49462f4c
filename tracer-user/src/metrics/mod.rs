//! Metrics as the pipeline counts them: plain numbers with their descriptions, which whoever exposes
//! them (OpenMetrics, OTLP) puts into its own form.

pub mod table;
#[cfg(test)]
mod users;

use serde::{Deserialize, Serialize};

/// All metrics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// CLOCK_BOOTTIME, ns.
    pub t_ns: u64,
    /// Wall clock, ns since 1970-01-01 UTC.
    pub wall_ns: i64,
    /// Each name once.
    pub families: Vec<Family>,
}

/// One metric with all its series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// Its name without the suffix of its kind and unit: `rampage_findings`, `rampage_host_memory_used`.
    pub name: String,
    /// One sentence.
    pub help: String,
    /// `bytes`, `seconds`, `ratio`; empty = a plain number.
    pub unit: String,
    /// What kind of number.
    pub kind: Kind,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// Kinds of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only grows; starts anew with the process.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Names and values; values are what processes call themselves: hostile.
    pub labels: Vec<(String, String)>,
    /// In the unit of the family.
    pub value: f64,
}

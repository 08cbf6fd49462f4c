//! What a unit's files set of memory and restarts, each with the line that decides. A value that systemd
//! does not understand leaves what was set before, and is kept as a fault; so is a line in a section where
//! the key means nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::lines::{Assignment, Parsed};
use super::search::is_unit_name;
use super::values::{self, Limit};
use crate::origin::{Origin, Set};

/// After what a service is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After a clean end only.
    OnSuccess,
    /// After any end that is not clean.
    OnFailure,
    /// After a signal, a timeout, the watchdog or an OOM kill.
    OnAbnormal,
    /// After the watchdog only.
    OnWatchdog,
    /// After a signal that nobody asked for.
    OnAbort,
    /// Whatever happened.
    Always,
}

/// What systemd does with the rest of a service when the kernel killed one of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OomPolicy {
    /// Nothing.
    Continue,
    /// The whole service is stopped.
    Stop,
    /// The kernel kills all of it at once.
    Kill,
}

/// Whether systemd-oomd may kill what is below a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ManagedOom {
    /// Only where a parent says so.
    Auto,
    /// Yes.
    Kill,
}

/// A line that systemd passes over although it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line.
    pub at: Origin,
    /// As it stands there: `MemoryMax=8g`.
    pub text: String,
    /// The section, if the key belongs into another one.
    pub belongs_to: Option<&'static str>,
}

/// What is said about memory and restarts; without a place it is systemd's default.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `MemoryMax=`, else the older `MemoryLimit=`.
    pub memory_max: Set<Limit>,
    /// `MemoryHigh=`.
    pub memory_high: Set<Limit>,
    /// `MemorySwapMax=`; zero is written as `Limit::Bytes(0)`.
    pub memory_swap_max: Set<Limit>,
    /// `Restart=`.
    pub restart: Set<Restart>,
    /// `RestartSec=`, microseconds.
    pub restart_us: Set<u64>,
    /// `OOMPolicy=`.
    pub oom_policy: Set<OomPolicy>,
    /// `OOMScoreAdjust=`.
    pub oom_score_adjust: Set<i32>,
    /// `StartLimitIntervalSec=`, microseconds; zero is no limit.
    pub start_limit_interval_us: Set<u64>,
    /// `StartLimitBurst=`; zero is no limit.
    pub start_limit_burst: Set<u32>,
    /// `ManagedOOMSwap=`.
    pub managed_oom_swap: Set<ManagedOom>,
    /// `ManagedOOMMemoryPressure=`.
    pub managed_oom_pressure: Set<ManagedOom>,
    /// `Slice=`, with its specifiers.
    pub slice: Option<Set<String>>,
    /// `Delegate=` gives its cgroup away.
    pub delegate: bool,
    /// The first line of `[Service]` (or `[Slice]`) in the unit file.
    pub header: Option<Origin>,
    /// Lines without effect.
    pub faults: Vec<Fault>,
    /// The last line of each key that took effect, as it stands in its file.
    pub texts: BTreeMap<String, String>,
    limit_v1: Set<Limit>,
}

/// What the manager's own configuration says for all units.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// `DefaultOOMPolicy=`.
    pub oom_policy: Set<OomPolicy>,
    /// `DefaultRestartSec=`, microseconds.
    pub restart_us: Set<u64>,
    /// `DefaultStartLimitIntervalSec=`, microseconds.
    pub start_limit_interval_us: Set<u64>,
    /// `DefaultStartLimitBurst=`.
    pub start_limit_burst: Set<u32>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            oom_policy: Set::default_of(OomPolicy::Stop),
            restart_us: Set::default_of(100_000),
            start_limit_interval_us: Set::default_of(10_000_000),
            start_limit_burst: Set::default_of(5),
        }
    }
}

impl Defaults {
    /// Applies the section `[Manager]` of a file.
    pub fn apply(&mut self, file: &Arc<Path>, parsed: &Parsed) {
        for line in parsed.assignments.iter().filter(|line| line.section == "Manager") {
            let at = Origin::new(file, line.line);
            let text = line.value.as_str();
            match line.key.as_str() {
                "DefaultOOMPolicy" => put(&mut self.oom_policy, oom_policy(text), at),
                "DefaultRestartSec" => put(&mut self.restart_us, values::span_us(text), at),
                "DefaultStartLimitIntervalSec" | "DefaultStartLimitInterval" => {
                    put(&mut self.start_limit_interval_us, values::span_us(text), at)
                }
                "DefaultStartLimitBurst" => {
                    put(&mut self.start_limit_burst, values::unsigned(text), at)
                }
                _ => true,
            };
        }
    }
}

impl Settings {
    /// What is in force when no file says anything.
    pub fn new(defaults: &Defaults) -> Self {
        Self {
            memory_max: Set::default_of(Limit::Infinity),
            memory_high: Set::default_of(Limit::Infinity),
            memory_swap_max: Set::default_of(Limit::Infinity),
            restart: Set::default_of(Restart::No),
            restart_us: defaults.restart_us.clone(),
            oom_policy: defaults.oom_policy.clone(),
            oom_score_adjust: Set::default_of(0),
            start_limit_interval_us: defaults.start_limit_interval_us.clone(),
            start_limit_burst: defaults.start_limit_burst.clone(),
            managed_oom_swap: Set::default_of(ManagedOom::Auto),
            managed_oom_pressure: Set::default_of(ManagedOom::Auto),
            slice: None,
            delegate: false,
            header: None,
            faults: Vec::new(),
            texts: BTreeMap::new(),
            limit_v1: Set::default_of(Limit::Infinity),
        }
    }

    /// Applies a file; the unit file comes first. `own` is the section of the unit's type: `Service`, `Slice`.
    pub fn apply(&mut self, file: &Arc<Path>, parsed: &Parsed, own: &str) {
        if self.header.is_none() {
            self.header = parsed.header(own).map(|line| Origin::new(file, line));
        }
        for line in &parsed.assignments {
            let at = Origin::new(file, line.line);
            let Some(home) = home(&line.key) else {
                continue;
            };
            let text = format!("{}={}", line.key, line.value);
            let fits = home.fits(&line.section, own);
            if fits && self.set(line, at.clone()) {
                self.texts.insert(line.key.clone(), text);
            } else {
                self.faults.push(Fault { at, text, belongs_to: (!fits).then_some(home.name) });
            }
        }
    }

    /// After the last file: what follows from other settings.
    pub fn finish(&mut self) {
        if self.memory_max.value == Limit::Infinity && self.limit_v1.value != Limit::Infinity {
            self.memory_max = self.limit_v1.clone();
        }
        if self.delegate && self.oom_policy.at.as_ref().is_none_or(|at| is_manager(&at.file)) {
            self.oom_policy = Set::default_of(OomPolicy::Continue);
        }
    }

    /// Whether systemd understands the value.
    fn set(&mut self, line: &Assignment, at: Origin) -> bool {
        let text = line.value.as_str();
        match line.key.as_str() {
            "MemoryMax" => put(&mut self.memory_max, values::limit(text), at),
            "MemoryHigh" => put(&mut self.memory_high, values::limit(text), at),
            "MemorySwapMax" => {
                let zero = ["0", "0B", "0K", "0M", "0G", "0T", "0P", "0E", "0%"].contains(&text);
                let limit = if zero { Some(Limit::Bytes(0)) } else { values::limit(text) };
                put(&mut self.memory_swap_max, limit, at)
            }
            "MemoryLimit" => put(&mut self.limit_v1, values::limit(text), at),
            "Restart" => put(&mut self.restart, restart(text), at),
            "RestartSec" => put(&mut self.restart_us, values::span_us(text), at),
            "OOMPolicy" => put(&mut self.oom_policy, oom_policy(text), at),
            "OOMScoreAdjust" if text.is_empty() => {
                self.oom_score_adjust = Set::default_of(0);
                true
            }
            "OOMScoreAdjust" => {
                let value = values::integer(text).filter(|value| (-1000..=1000).contains(value));
                put(&mut self.oom_score_adjust, value.map(|value| value as i32), at)
            }
            "StartLimitIntervalSec" | "StartLimitInterval" => {
                put(&mut self.start_limit_interval_us, values::span_us(text), at)
            }
            "StartLimitBurst" => put(&mut self.start_limit_burst, values::unsigned(text), at),
            "ManagedOOMSwap" => put(&mut self.managed_oom_swap, managed_oom(text), at),
            "ManagedOOMMemoryPressure" => {
                put(&mut self.managed_oom_pressure, managed_oom(text), at)
            }
            "Slice" if is_slice(&super::specifiers(text, "x@x.service")) => {
                self.slice = Some(Set::at(text.to_owned(), at));
                true
            }
            "Slice" => false,
            // A list of controllers is a yes.
            "Delegate" => {
                self.delegate = values::boolean(text).unwrap_or(true);
                true
            }
            _ => true,
        }
    }
}

/// Where a key belongs.
struct Home {
    name: &'static str,
    /// `Unit`, or the section of the type.
    unit: bool,
    own: bool,
    /// A slice has it, too.
    slice: bool,
}

impl Home {
    fn fits(&self, section: &str, own: &str) -> bool {
        (self.unit && section == "Unit")
            || (self.own && section == own && (own == "Service" || self.slice))
    }
}

fn home(key: &str) -> Option<Home> {
    let home = |name, unit, own, slice| Some(Home { name, unit, own, slice });
    match key {
        "MemoryMax"
        | "MemoryHigh"
        | "MemorySwapMax"
        | "MemoryLimit"
        | "Slice"
        | "ManagedOOMSwap"
        | "ManagedOOMMemoryPressure" => home("Service", false, true, true),
        "Restart" | "RestartSec" | "OOMPolicy" | "OOMScoreAdjust" | "Delegate" => {
            home("Service", false, true, false)
        }
        // The two older names were moved from [Service] to [Unit]; both sections still take them.
        "StartLimitBurst" | "StartLimitInterval" => home("Unit", true, true, false),
        "StartLimitIntervalSec" => home("Unit", true, false, false),
        _ => None,
    }
}

fn put<T>(place: &mut Set<T>, value: Option<T>, at: Origin) -> bool {
    match value {
        Some(value) => {
            *place = Set::at(value, at);
            true
        }
        None => false,
    }
}

fn restart(text: &str) -> Option<Restart> {
    Some(match text {
        "no" => Restart::No,
        "on-success" => Restart::OnSuccess,
        "on-failure" => Restart::OnFailure,
        "on-abnormal" => Restart::OnAbnormal,
        "on-watchdog" => Restart::OnWatchdog,
        "on-abort" => Restart::OnAbort,
        "always" => Restart::Always,
        _ => return None,
    })
}

fn oom_policy(text: &str) -> Option<OomPolicy> {
    Some(match text {
        "continue" => OomPolicy::Continue,
        "stop" => OomPolicy::Stop,
        "kill" => OomPolicy::Kill,
        _ => return None,
    })
}

fn managed_oom(text: &str) -> Option<ManagedOom> {
    Some(match text {
        "auto" | "" => ManagedOom::Auto,
        "kill" => ManagedOom::Kill,
        _ => return None,
    })
}

/// Whether systemd takes it for the name of a slice; that it cannot load each of them, it finds out later.
fn is_slice(name: &str) -> bool {
    is_unit_name(name) && name.ends_with(".slice") && !name.contains('@')
}

/// Whether it is a file of the manager's defaults, not the unit's own.
fn is_manager(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "system.conf")
        || file.parent().is_some_and(|folder| folder.ends_with("system.conf.d"))
}

//! A pool as it is in effect: what its workers may take.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Version;
use super::fpm::{Conf, Manager, PhpValue, RawPool};
use super::ini::files::Ini;
use super::ini::quantity::{self, LEAST_LIMIT_BYTES};
use super::master::Worker;
use crate::bound::short;
use crate::origin::{Origin, Set};
use crate::size;

/// Most values without effect that are kept.
const MAX_DEAD: usize = 10;

/// PHP's own memory_limit, bytes.
pub const DEFAULT_LIMIT_BYTES: u64 = 128 << 20;

/// Who sets a pool's memory_limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetBy {
    /// Nobody: 128 MiB.
    Default,
    /// php.ini, conf.d or `-d`.
    Ini,
    /// `php_value` or `php_flag` of the pool.
    PhpValue,
    /// `php_admin_value` of the pool: a script cannot raise it.
    PhpAdminValue,
    /// `max_memory_limit` of php.ini, from PHP 8.5 on: neither a pool nor a script can raise it.
    MaxMemoryLimit,
}

/// memory_limit of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes; None where there is no limit.
    pub limit_bytes: Set<Option<u64>>,
    /// Who sets it.
    pub set_by: SetBy,
    /// Values that PHP reads otherwise than they look, or not at all, with what it makes of them.
    pub odd: Vec<Odd>,
    /// Values of the pool without effect, because an earlier one of the same kind counts.
    pub dead: Vec<Set<String>>,
}

/// A value that does not mean what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Odd {
    /// As it stands there.
    pub text: String,
    /// What PHP takes it for, bytes; None where it keeps the limit that it had.
    pub taken_bytes: Option<u64>,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Origin>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its sections, the first is where it begins.
    pub sections: Vec<Origin>,
    /// How it keeps workers; None where the file does not say, and php-fpm refuses it.
    pub pm: Option<Set<Manager>>,
    /// pm.max_children.
    pub max_children: Set<u32>,
    /// Workers that it can have: pm.max_children, or what process.max leaves to it.
    pub workers: u32,
    /// pm.max_spare_servers of a dynamic pool, which pm.max_children may not go below; else zero.
    pub max_spare: u32,
    /// pm.max_requests; zero is for ever.
    pub max_requests: Set<u32>,
    /// request_terminate_timeout, seconds; zero is none.
    pub terminate_timeout_s: Set<u32>,
    /// memory_limit.
    pub memory: Memory,
    /// Socket or port; None where the file does not say.
    pub listen: Option<Set<String>>,
    /// listen.backlog; negative is the kernel's net.core.somaxconn.
    pub backlog: Set<i32>,
    /// The text of the lines above, by place.
    pub lines: BTreeMap<Origin, String>,
    /// Those that run now.
    pub running: Vec<Worker>,
}

impl Pool {
    /// `raw` as it is in effect.
    pub fn new(raw: &RawPool, conf: &Conf, ini: &Ini, version: Option<Version>) -> Self {
        let number = |name: &str| match raw.number(name) {
            Some(set) => Set { value: u32::try_from(set.value).unwrap_or(0), at: set.at },
            None => Set::default_of(0),
        };
        let max_children = number("pm.max_children");
        let pm = raw.values.get("pm").and_then(|directive| match directive.value {
            super::fpm::directive::Value::Manager(manager) => {
                Some(Set::at(manager, directive.at.clone()))
            }
            _ => None,
        });
        let memory = memory(&raw.php, ini, version);
        let mut lines: BTreeMap<Origin, String> = raw
            .values
            .values()
            .map(|directive| &directive.at)
            .chain(raw.php.iter().map(|value| &value.at))
            .chain(&raw.sections)
            .filter_map(|at| Some((at.clone(), conf.lines.get(at)?.clone())))
            .collect();
        let of_ini = ini.lines.iter().filter(|(at, _)| memory.limit_bytes.at.as_ref() == Some(at));
        lines.extend(of_ini.map(|(at, line)| (at.clone(), line.clone())));
        Self {
            name: raw.name.clone(),
            sections: raw.sections.clone(),
            workers: max_children.value,
            max_spare: match &pm {
                Some(pm) if pm.value == Manager::Dynamic => number("pm.max_spare_servers").value,
                _ => 0,
            },
            pm,
            max_children,
            max_requests: number("pm.max_requests"),
            terminate_timeout_s: number("request_terminate_timeout"),
            memory,
            listen: raw.text("listen"),
            backlog: raw.number("listen.backlog").unwrap_or(Set::default_of(-1)),
            lines,
            running: Vec::new(),
        }
    }

    /// memory_limit, bytes; None where there is no limit.
    pub fn limit_bytes(&self) -> Option<u64> {
        self.memory.limit_bytes.value
    }

    /// Workers times limit, bytes; None where there is no limit.
    pub fn worst_bytes(&self) -> Option<u64> {
        Some(self.limit_bytes()?.saturating_mul(self.workers.into()))
    }

    /// `20 workers`.
    pub fn workers_text(&self) -> String {
        match self.workers {
            1 => "1 worker".to_owned(),
            many => format!("{many} workers"),
        }
    }

    /// `20 workers of 8 GiB`.
    pub fn how(&self) -> String {
        let workers = self.workers_text();
        match self.limit_bytes() {
            Some(limit) => format!("{workers} of {}", size::human(limit)),
            None => format!("{workers} without memory_limit"),
        }
    }

    /// The line at `at`, as it stands there.
    pub fn line(&self, at: &Origin) -> Option<&str> {
        self.lines.get(at).map(String::as_str)
    }

    /// Whether it is as Debian ships it: nobody asked for more.
    pub fn is_stock(&self) -> bool {
        self.max_children.value <= 5
            && self.limit_bytes().is_some_and(|limit| limit <= DEFAULT_LIMIT_BYTES)
    }

    /// Anonymous and swapped memory of its running workers, bytes; None where none run.
    pub fn held_bytes(&self) -> Option<u64> {
        let held = self.running.iter().map(|worker| worker.held_bytes);
        (!self.running.is_empty()).then(|| held.sum())
    }
}

/// memory_limit by php.ini alone, as mod_php and a pool without overrides have it.
pub fn ini_memory(ini: &Ini, version: Option<Version>) -> Memory {
    memory(&[], ini, version)
}

/// php.ini first, then the pool's values from the last to the first, then its admin values likewise: so of two
/// that set the same key in the same way the first one counts.
fn memory(php: &[PhpValue], ini: &Ini, version: Option<Version>) -> Memory {
    let mut memory = Memory {
        limit_bytes: Set::default_of(Some(DEFAULT_LIMIT_BYTES)),
        set_by: SetBy::Default,
        odd: Vec::new(),
        dead: Vec::new(),
    };
    if let Some(set) = ini.get("memory_limit") {
        memory.apply(set, SetBy::Ini, version);
    }
    for (admin, set_by) in [(false, SetBy::PhpValue), (true, SetBy::PhpAdminValue)] {
        let of_kind = |value: &&PhpValue| value.admin == admin && value.key == "memory_limit";
        let mut values: Vec<Set<String>> = php
            .iter()
            .filter(of_kind)
            .map(|value| Set::at(value.value.clone(), value.at.clone()))
            .collect();
        for set in values.iter().rev() {
            memory.apply(set, set_by, version);
        }
        if values.len() > 1 {
            let dead = values.drain(1..).take(MAX_DEAD);
            memory.dead.extend(dead.map(|set| Set { value: short(&set.value), ..set }));
        }
    }
    if let Some(most) = ini.get("max_memory_limit")
        && version.is_none_or(|version| version >= Version::new(8, 5))
    {
        memory.cap(most, version);
    }
    memory
}

impl Memory {
    /// Whether no script can raise it.
    pub fn is_pinned(&self) -> bool {
        matches!(self.set_by, SetBy::PhpAdminValue | SetBy::MaxMemoryLimit)
    }

    /// PHP takes the most that there may be instead of a larger limit, or of none.
    fn cap(&mut self, most: &Set<String>, version: Option<Version>) {
        let bytes = quantity::parse(&most.value, version).limit();
        let Some(bytes) = bytes.filter(|&bytes| bytes >= LEAST_LIMIT_BYTES) else {
            return;
        };
        if self.limit_bytes.value.is_none_or(|limit| limit > bytes) {
            self.limit_bytes = Set { value: Some(bytes), at: most.at.clone() };
            self.set_by = SetBy::MaxMemoryLimit;
        }
    }

    fn apply(&mut self, set: &Set<String>, set_by: SetBy, version: Option<Version>) {
        let quantity = quantity::parse(&set.value, version);
        let mut limit = quantity.limit();
        let too_small = limit.is_some_and(|limit| limit < LEAST_LIMIT_BYTES);
        // Up to 7.4 it is raised to the least; since then it is refused.
        let refused = too_small && version.is_none_or(|version| version >= Version::new(8, 0));
        if too_small && !refused {
            limit = Some(LEAST_LIMIT_BYTES);
        }
        if quantity.odd || too_small {
            let taken_bytes = limit.filter(|_| !refused);
            self.odd.push(Odd { text: short(&set.value), taken_bytes, at: set.at.clone() });
        }
        if !refused {
            self.limit_bytes = Set { value: limit, at: set.at.clone() };
            self.set_by = set_by;
        }
    }
}

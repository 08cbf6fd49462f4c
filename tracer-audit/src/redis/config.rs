//! What redis.conf with its includes, and the arguments of a running redis-server, come to (src/config.c of
//! Redis 7.0): the last line counts, an include stands for its lines, and the first thing that is wrong keeps
//! redis from starting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directives;
use crate::origin::{Origin, Set};

/// An `include` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Absolute; perhaps a pattern.
    pub path: PathBuf,
    /// The line.
    pub at: Origin,
}

/// A client's output buffer, bytes and seconds; zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimit {
    /// The client is cut off at once.
    pub hard_bytes: u64,
    /// The client is cut off when it stays above that for the time.
    pub soft_bytes: u64,
    /// That time.
    pub soft_s: i32,
}

/// A configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What was given: the values as `CONFIG GET` shows them, several words with blanks between them.
    pub values: BTreeMap<&'static str, Set<String>>,
    /// `save`: seconds and changes. None where nothing was said: redis then saves after an hour and one change,
    /// 5 minutes and 100, a minute and 10000.
    pub save: Option<Set<Vec<(i64, i32)>>>,
    /// `client-output-buffer-limit` of `normal`, `replica` and `pubsub` where it was given.
    pub buffers: BTreeMap<&'static str, Set<BufferLimit>>,
    /// The line of each value and buffer, as it stands there.
    pub lines: BTreeMap<&'static str, String>,
    /// The files that were read, and when each was last written, seconds since 1970.
    pub files: Vec<(Arc<Path>, u64)>,
    /// The includes in their order.
    pub includes: Vec<Include>,
    /// Whether it lacks what redis itself may read: this user may not, or it is too large.
    pub partial: bool,
    /// Why redis does not start, and where; None of the arguments' place.
    pub refused: Option<(Option<Origin>, String)>,
}

impl Config {
    /// The value of `name` as `CONFIG GET` shows it, given or the default.
    pub fn get(&self, name: &str) -> Option<String> {
        match name {
            "save" => {
                let words = self
                    .save()
                    .iter()
                    .map(|(s, changes)| format!("{s} {changes}"))
                    .collect::<Vec<_>>();
                return Some(words.join(" "));
            }
            "client-output-buffer-limit" => {
                let all = ["normal", "replica", "pubsub"].map(|class| {
                    let limit = self.buffer(class);
                    // The name of the time before replicas.
                    let name = if class == "replica" { "slave" } else { class };
                    format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_s)
                });
                return Some(all.join(" "));
            }
            _ => {}
        }
        let directive = directives::find(name)?;
        let given = self.values.get(directive.name).map(|set| set.value.clone());
        let value = given.unwrap_or_else(|| directive.default.to_owned());
        // Anything else would be no rate.
        if directive.name == "hz" {
            return value.parse::<i64>().ok().map(|rate| rate.clamp(1, 500).to_string());
        }
        Some(value)
    }

    /// When snapshots are taken; empty for never.
    pub fn save(&self) -> Vec<(i64, i32)> {
        match &self.save {
            Some(save) => save.value.clone(),
            None => vec![(3600, 1), (300, 100), (60, 10_000)],
        }
    }

    /// The limit of a class of clients.
    pub fn buffer(&self, class: &str) -> BufferLimit {
        let limit = |hard_bytes, soft_bytes, soft_s| BufferLimit { hard_bytes, soft_bytes, soft_s };
        self.buffers.get(class).map_or_else(
            || match class {
                "replica" => limit(256 << 20, 64 << 20, 60),
                "pubsub" => limit(32 << 20, 8 << 20, 60),
                _ => limit(0, 0, 0),
            },
            |set| set.value,
        )
    }

    /// `maxmemory` in bytes; zero is no limit.
    pub fn maxmemory(&self) -> Set<u64> {
        let given = self.values.get("maxmemory");
        let value = given.and_then(|set| set.value.parse().ok()).unwrap_or(0);
        Set { value, at: given.and_then(|set| set.at.clone()) }
    }

    /// Whether a yes-or-no directive is on.
    pub fn on(&self, name: &str) -> bool {
        self.get(name).as_deref() == Some("yes")
    }
}

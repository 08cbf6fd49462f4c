//! How findings name a process.

use std::borrow::Cow;
use std::sync::Arc;

use crate::event::{LimitSetting, Subject};
use crate::model::{Model, Process};
use crate::text;

/// Longest name in a sentence, columns.
const NAME_COLUMNS: usize = 64;

/// A name that can harm neither a terminal nor a sentence, cut to 64 columns; `?` for none.
pub(super) fn name(name: &str) -> String {
    if name.is_empty() {
        return "?".to_owned();
    }
    let short = &name[..name.floor_char_boundary(8 * NAME_COLUMNS)];
    match text::printable(short) {
        Cow::Borrowed(safe) => text::fit(safe, NAME_COLUMNS).into_owned(),
        Cow::Owned(safe) => text::fit(&safe, NAME_COLUMNS).into_owned(),
    }
}

/// `php-fpm8.2 (pool www, pid 4242)`.
pub(super) fn process(process: &Process) -> String {
    named(&process.comm, pool(process).as_deref(), process.key.tgid)
}

/// The same from its parts.
pub(super) fn named(comm: &str, pool: Option<&str>, tgid: u32) -> String {
    match pool {
        Some(pool) => format!("{} (pool {}, pid {tgid})", name(comm), name(pool)),
        None => format!("{} (pid {tgid})", name(comm)),
    }
}

/// Judgements that look at no growth ask for losses in this time, ns.
const MINUTE_NS: u64 = 60_000_000_000;

/// Records that were lost in the last minute.
pub(super) fn lost_lately(model: &Model) -> u64 {
    model.lost_since(model.now_ns().saturating_sub(MINUTE_NS))
}

/// `; 1,203 records were lost meanwhile: figures may be too low`; empty for none.
pub(super) fn lost(records: u64) -> String {
    match records {
        0 => String::new(),
        1 => "; 1 record was lost meanwhile: figures may be too low".to_owned(),
        _ => format!(
            "; {} records were lost meanwhile: figures may be too low",
            text::thousands(records)
        ),
    }
}

/// `the 16.0 GiB limit of /web`, by the setting that it is.
pub(super) fn limit(setting: LimitSetting, limit_bytes: u64, path: &str) -> String {
    let (size, path) = (text::bytes(limit_bytes), name(path));
    match setting {
        LimitSetting::Max => format!("the {size} limit of {path}"),
        LimitSetting::High => format!("memory.high ({size}) of {path}"),
        LimitSetting::MemoryAndSwap => format!("the {size} limit of memory and swap of {path}"),
    }
}

/// The PHP pool of a process.
pub(super) fn pool(process: &Process) -> Option<Arc<str>> {
    process.php.as_ref().and_then(|php| php.pool.clone())
}

/// The process as a finding's subject.
pub(super) fn subject(process: &Process) -> Subject {
    Subject {
        tgid: process.key.tgid,
        start_ns: process.key.start_ns,
        comm: Arc::clone(&process.comm),
        pool: pool(process),
        cgroup: process.cgroup.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless_and_bounded() {
        assert_eq!(name("php-fpm8.2"), "php-fpm8.2");
        assert_eq!(name(""), "?");
        assert_eq!(name("a\x1b[31m\nb"), "a\\x1b[31m\\nb");
        for long in ["é".repeat(4096), "\x1b".repeat(4096), "\u{202e}".repeat(100), "x".repeat(65)]
        {
            let safe = name(&long);
            assert!(safe.chars().count() <= NAME_COLUMNS && safe.ends_with('…'), "{safe}");
            assert!(!safe.chars().any(|c| c.is_control() || c == '\u{202e}'));
        }
    }

    #[test]
    fn a_process_is_named_with_its_pool() {
        assert_eq!(named("php", Some("www\n"), 7), "php (pool www\\n, pid 7)");
        assert_eq!(named("php", None, 7), "php (pid 7)");
    }
}

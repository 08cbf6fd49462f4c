//! What php-fpm checks once all files are read, and refuses to start for.

use std::collections::BTreeMap;
use std::path::Path;

use super::conf::{Conf, RawPool, below, is_folder};
use super::directive::{Manager, Value};
use crate::origin::Origin;
use crate::root::Root;

/// A configuration that does not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Not one.
    #[error("there is no pool")]
    NoPool,
    /// Something that a pool needs.
    #[error("pool {pool} has no {key}")]
    Missing {
        /// The pool.
        pool: String,
        /// The directive.
        key: &'static str,
    },
    /// A number that is out of bounds.
    #[error("{key} cannot be {number}: {bound}")]
    Bound {
        /// The directive.
        key: &'static str,
        /// What stands there.
        number: i32,
        /// What would be right.
        bound: &'static str,
    },
    /// Spare and start servers against each other and against pm.max_children.
    #[error(
        "pool {pool} cannot have pm.start_servers {start}, pm.min_spare_servers {min_spare} and \
         pm.max_spare_servers {max_spare} of {max_children} workers"
    )]
    Servers {
        /// The pool.
        pool: String,
        /// pm.start_servers, as set or as php-fpm computes it.
        start: i32,
        /// pm.min_spare_servers.
        min_spare: i32,
        /// pm.max_spare_servers.
        max_spare: i32,
        /// pm.max_children.
        max_children: i32,
    },
    /// Two pools listen at one address.
    #[error("pools {first} and {second} listen on the same address")]
    SameListen {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// No folder.
    #[error("{key} {path} is no folder")]
    NoFolder {
        /// The directive.
        key: &'static str,
        /// Its value.
        path: String,
    },
    /// A path in URLs.
    #[error("{key} {path} must start with / and hold letters, digits and /-_.~ only")]
    UrlPath {
        /// The directive.
        key: &'static str,
        /// Its value.
        path: String,
    },
}

type Failed = (Origin, CheckError);

/// What php-fpm would say of `conf`, read from `path`: of each pool the first error.
pub fn check(conf: &Conf, root: &Root, prefix: &Path, path: &Path) -> Vec<Failed> {
    let mut failed = Vec::new();
    let whole = || Origin::whole(path);
    let bounds = [
        ("log_limit", 512, i32::MAX, "at least 512"),
        ("process.max", 0, i32::MAX, "not negative"),
        ("process.priority", -19, 20, "from -19 to 20"),
    ];
    for (key, least, most, bound) in bounds {
        if let Some(set) = conf.number(key)
            && !(least..=most).contains(&set.value)
            && !(key == "process.priority" && set.value == UNSET_PRIORITY)
        {
            let at = set.at.unwrap_or_else(whole);
            failed.push((at, CheckError::Bound { key, number: set.value, bound }));
        }
    }
    if conf.pools.is_empty() {
        failed.push((whole(), CheckError::NoPool));
    }
    for pool in &conf.pools {
        failed.extend(pool_error(pool, root, prefix));
    }
    let mut listening: BTreeMap<String, &RawPool> = BTreeMap::new();
    for pool in &conf.pools {
        let Some(set) = pool.text("listen").filter(|listen| !listen.value.is_empty()) else {
            continue;
        };
        match listening.get(&set.value) {
            Some(other) => {
                let (first, second) = (other.name.clone(), pool.name.clone());
                let at = set.at.unwrap_or_else(whole);
                failed.push((at, CheckError::SameListen { first, second }));
            }
            None => drop(listening.insert(set.value, pool)),
        }
    }
    failed
}

/// What php-fpm has for "not set".
const UNSET_PRIORITY: i32 = 64;

fn pool_error(pool: &RawPool, root: &Root, prefix: &Path) -> Option<Failed> {
    let section = pool.sections.first()?.clone();
    let at = |key: &str| pool.values.get(key).map_or_else(|| section.clone(), |it| it.at.clone());
    let number = |key: &str, default| pool.number(key).map_or(default, |set| set.value);
    let text = |key: &str| pool.text(key).map(|set| set.value).filter(|text| !text.is_empty());
    let missing =
        |key| Some((section.clone(), CheckError::Missing { pool: pool.name.clone(), key }));
    let bound = |key, number, bound| Some((at(key), CheckError::Bound { key, number, bound }));
    let folder = |key, below_prefix: &Path| {
        let path = text(key)?;
        let path = below(below_prefix, path.strip_prefix("$prefix/").unwrap_or(&path));
        let missing = !is_folder(root, &path);
        let path = path.display().to_string();
        missing.then(|| (at(key), CheckError::NoFolder { key, path }))
    };
    if let Some(failed) = folder("prefix", prefix) {
        return Some(failed);
    }
    if text("listen").is_none() {
        return missing("listen");
    }
    let priority = number("process.priority", UNSET_PRIORITY);
    if priority != UNSET_PRIORITY && !(-19..=20).contains(&priority) {
        return bound("process.priority", priority, "from -19 to 20");
    }
    let Some(Value::Manager(manager)) = pool.values.get("pm").map(|pm| &pm.value) else {
        return missing("pm");
    };
    let max_children = number("pm.max_children", 0);
    if max_children < 1 {
        return bound("pm.max_children", max_children, "at least 1");
    }
    match manager {
        Manager::Static => {}
        Manager::Dynamic => {
            if let Some(failed) = servers(pool, max_children, &section) {
                return Some(failed);
            }
        }
        Manager::Ondemand => {
            let idle = number("pm.process_idle_timeout", 10);
            if idle < 1 {
                return bound("pm.process_idle_timeout", idle, "at least 1 s");
            }
        }
    }
    let own = text("prefix").map(|path| below(prefix, &path));
    let own = own.as_deref().unwrap_or(prefix);
    for key in ["pm.status_path", "ping.path"] {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        if let Some(path) = text(key) {
            let short =
                path.len() < 2 && (key == "ping.path" || text("pm.status_listen").is_none());
            if short || !path.starts_with('/') || !path.bytes().all(allowed) {
                return Some((at(key), CheckError::UrlPath { key, path }));
            }
        }
    }
    let slow = number("request_slowlog_timeout", 0);
    let depth = number("request_slowlog_trace_depth", 0);
    if (slow != 0 || depth != 0) && text("slowlog").is_none() {
        return missing("slowlog");
    }
    let terminate = number("request_terminate_timeout", 0);
    if slow != 0 && terminate != 0 && slow > terminate {
        let most = "at most request_terminate_timeout";
        return bound("request_slowlog_timeout", slow, most);
    }
    if depth < 0 {
        return bound("request_slowlog_trace_depth", depth, "positive");
    }
    folder("chroot", own).or_else(|| {
        // Within a chroot it is another's file system.
        if text("chroot").is_some() { None } else { folder("chdir", own) }
    })
}

/// The rules for pm = dynamic.
fn servers(pool: &RawPool, max_children: i32, section: &Origin) -> Option<Failed> {
    let number = |key: &str| pool.number(key).map_or(0, |set| set.value);
    let at = |key: &str| pool.values.get(key).map_or_else(|| section.clone(), |it| it.at.clone());
    let (min_spare, max_spare) = (number("pm.min_spare_servers"), number("pm.max_spare_servers"));
    for (key, number) in [("pm.min_spare_servers", min_spare), ("pm.max_spare_servers", max_spare)]
    {
        if number <= 0 {
            return Some((at(key), CheckError::Bound { key, number, bound: "at least 1" }));
        }
    }
    let mut start = number("pm.start_servers");
    if start <= 0 {
        start = min_spare + (max_spare - min_spare) / 2;
    }
    let fits = min_spare <= max_children
        && max_spare <= max_children
        && min_spare <= max_spare
        && (min_spare..=max_spare).contains(&start);
    if !fits {
        let error = CheckError::Servers {
            pool: pool.name.clone(),
            start,
            min_spare,
            max_spare,
            max_children,
        };
        return Some((at("pm.max_children"), error));
    }
    let rate = pool.number("pm.max_spawn_rate").map_or(32, |set| set.value);
    let key = "pm.max_spawn_rate";
    (rate < 1).then(|| (at(key), CheckError::Bound { key, number: rate, bound: "at least 1" }))
}

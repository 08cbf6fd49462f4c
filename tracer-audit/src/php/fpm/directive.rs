//! The names that php-fpm knows, what it takes for a value, and how it reads it.

use crate::php::Version;
use crate::php::ini::integer;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Digits, a minus in front.
    Integer,
    /// Digits and s, m, h or d.
    Time,
    /// On or off.
    Flag,
    /// Anything.
    Text,
    /// static, dynamic or ondemand.
    Manager,
    /// A name from a list, in any case.
    Name(&'static [&'static str]),
    /// A number that is not negative, or `unlimited`.
    Core,
}

/// How a pool keeps its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// Always pm.max_children.
    Static,
    /// Some, and more under load.
    Dynamic,
    /// None without requests.
    Ondemand,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of integers, and of times in seconds.
    Number(i32),
    /// Of flags.
    Flag(bool),
    /// Of texts and names.
    Text(String),
    /// Of pm.
    Manager(Manager),
}

/// What php-fpm says of a value that it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// An integer.
    #[error("it is no number")]
    Number,
    /// A time.
    #[error("it is no time in s, m, h or d")]
    Time,
    /// A flag.
    #[error("it is neither yes nor no")]
    Flag,
    /// pm.
    #[error("it is none of static, dynamic and ondemand")]
    Manager,
    /// A name of a list.
    #[error("it is none of the values that are allowed")]
    Name,
    /// `$pool` outside of a pool.
    #[error("$pool stands for nothing outside of a pool")]
    Pool,
}

const LEVELS: &[&str] = &["debug", "notice", "warning", "warn", "error", "alert"];
const FACILITIES: &[&str] = &[
    "AUTH", "AUTHPRIV", "CRON", "DAEMON", "FTP", "KERN", "LPR", "MAIL", "NEWS", "SYSLOG", "USER",
    "UUCP", "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
];

const OLD: Version = Version::new(0, 0);
const V73: Version = Version::new(7, 3);

type Row = (&'static str, Kind, Version);

const GLOBAL: &[Row] = &[
    ("pid", Kind::Text, OLD),
    ("error_log", Kind::Text, OLD),
    ("syslog.ident", Kind::Text, OLD),
    ("syslog.facility", Kind::Name(FACILITIES), OLD),
    ("log_buffering", Kind::Flag, V73),
    ("log_level", Kind::Name(LEVELS), OLD),
    ("log_limit", Kind::Integer, V73),
    ("emergency_restart_threshold", Kind::Integer, OLD),
    ("emergency_restart_interval", Kind::Time, OLD),
    ("process_control_timeout", Kind::Time, OLD),
    ("process.max", Kind::Integer, OLD),
    ("process.priority", Kind::Integer, OLD),
    ("daemonize", Kind::Flag, OLD),
    ("rlimit_files", Kind::Integer, OLD),
    ("rlimit_core", Kind::Core, OLD),
    ("events.mechanism", Kind::Text, OLD),
    ("systemd_interval", Kind::Time, OLD),
];

const POOL: &[Row] = &[
    ("prefix", Kind::Text, OLD),
    ("user", Kind::Text, OLD),
    ("group", Kind::Text, OLD),
    ("listen", Kind::Text, OLD),
    ("listen.backlog", Kind::Integer, OLD),
    ("listen.acl_users", Kind::Text, OLD),
    ("listen.acl_groups", Kind::Text, OLD),
    ("listen.owner", Kind::Text, OLD),
    ("listen.group", Kind::Text, OLD),
    ("listen.mode", Kind::Text, OLD),
    ("listen.allowed_clients", Kind::Text, OLD),
    ("process.priority", Kind::Integer, OLD),
    ("process.dumpable", Kind::Flag, OLD),
    ("pm", Kind::Manager, OLD),
    ("pm.max_children", Kind::Integer, OLD),
    ("pm.start_servers", Kind::Integer, OLD),
    ("pm.min_spare_servers", Kind::Integer, OLD),
    ("pm.max_spare_servers", Kind::Integer, OLD),
    ("pm.max_spawn_rate", Kind::Integer, Version::new(8, 1)),
    ("pm.process_idle_timeout", Kind::Time, OLD),
    ("pm.max_requests", Kind::Integer, OLD),
    ("pm.status_path", Kind::Text, OLD),
    ("pm.status_listen", Kind::Text, Version::new(8, 0)),
    ("ping.path", Kind::Text, OLD),
    ("ping.response", Kind::Text, OLD),
    ("access.log", Kind::Text, OLD),
    ("access.format", Kind::Text, OLD),
    ("slowlog", Kind::Text, OLD),
    ("request_slowlog_timeout", Kind::Time, OLD),
    ("request_slowlog_trace_depth", Kind::Integer, Version::new(7, 2)),
    ("request_terminate_timeout", Kind::Time, OLD),
    ("request_terminate_timeout_track_finished", Kind::Flag, V73),
    ("rlimit_files", Kind::Integer, OLD),
    ("rlimit_core", Kind::Core, OLD),
    ("chroot", Kind::Text, OLD),
    ("chdir", Kind::Text, OLD),
    ("catch_workers_output", Kind::Flag, OLD),
    ("decorate_workers_output", Kind::Flag, V73),
    ("clear_env", Kind::Flag, OLD),
    ("security.limit_extensions", Kind::Text, OLD),
    ("apparmor_hat", Kind::Text, OLD),
];

/// The directive `name`, of any case, in a pool or before one; None where `version` does not know it.
pub fn find(name: &str, in_pool: bool, version: Option<Version>) -> Option<(&'static str, Kind)> {
    let rows = if in_pool { POOL } else { GLOBAL };
    let known = |row: &&Row| {
        row.0.eq_ignore_ascii_case(name) && version.is_none_or(|version| version >= row.2)
    };
    rows.iter().find(known).map(|row| (row.0, row.1))
}

/// Reads `text`; `$pool` in a text is `pool`.
///
/// # Errors
///
/// See [`ValueError`].
pub fn value(kind: Kind, text: &str, pool: Option<&str>) -> Result<Value, ValueError> {
    match kind {
        Kind::Integer => number(text).map(Value::Number),
        Kind::Time => time(text).map(Value::Number),
        Kind::Flag => flag(text).map(Value::Flag),
        Kind::Text => expanded(text, pool).map(Value::Text),
        Kind::Manager => [
            ("static", Manager::Static),
            ("dynamic", Manager::Dynamic),
            ("ondemand", Manager::Ondemand),
        ]
        .iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name))
        .map(|(_, manager)| Value::Manager(*manager))
        .ok_or(ValueError::Manager),
        Kind::Name(names) => {
            let name = names.iter().find(|name| text.eq_ignore_ascii_case(name));
            name.map(|name| Value::Text((*name).to_owned())).ok_or(ValueError::Name)
        }
        Kind::Core if text.eq_ignore_ascii_case("unlimited") => Ok(Value::Number(-1)),
        Kind::Core => {
            let number = number(text)?;
            if number < 0 { Err(ValueError::Number) } else { Ok(Value::Number(number)) }
        }
    }
}

/// A flag that stands there without quotes is `1` or nothing by the time php-fpm sees it.
///
/// # Errors
///
/// Any other text, words in capitals too.
pub fn flag(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "yes" | "true" | "on" => Ok(true),
        "" | "0" | "no" | "false" | "off" | "none" => Ok(false),
        _ => Err(ValueError::Flag),
    }
}

/// `text` with the pool's name for each `$pool`.
///
/// # Errors
///
/// There is no pool.
pub fn expanded(text: &str, pool: Option<&str>) -> Result<String, ValueError> {
    if !text.contains("$pool") {
        return Ok(text.to_owned());
    }
    pool.map(|pool| text.replace("$pool", pool)).ok_or(ValueError::Pool)
}

fn number(text: &str) -> Result<i32, ValueError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(integer(text.as_bytes()))
    } else {
        Err(ValueError::Number)
    }
}

fn time(text: &str) -> Result<i32, ValueError> {
    let (last, rest) = text.as_bytes().split_last().ok_or(ValueError::Time)?;
    let unit = match last {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        b'0'..=b'9' => return Ok(integer(text.as_bytes())),
        _ => return Err(ValueError::Time),
    };
    Ok(integer(rest).wrapping_mul(unit))
}

//! What names tell of PHP: the interface (sapi), the pool of an FPM worker, the version. Titles and
//! pool names are chosen by others and are only trusted where the executable is PHP.

use std::sync::Arc;

use crate::event::Php;

/// Longest pool name that is kept, bytes.
const POOL_BYTES: usize = 256;

/// Judges by the executable where it is known, or else by comm; None = no PHP process.
pub fn identify(comm: &str, cmdline: Option<&str>, exe: Option<&str>, ppid: u32) -> Option<Php> {
    let name = match exe {
        Some(exe) => exe.strip_suffix(" (deleted)").unwrap_or(exe).rsplit('/').next()?,
        None => comm,
    };
    let (sapi, version) = program(name)?;
    let pool = cmdline.filter(|_| sapi == "fpm").and_then(pool);
    Some(Php {
        sapi: sapi.into(),
        master_tgid: pool.as_ref().and((ppid != 0).then_some(ppid)),
        pool,
        version,
    })
}

/// The pool in a worker's title. A master's title names its configuration instead.
fn pool(title: &str) -> Option<Arc<str>> {
    let name = title.strip_prefix("php-fpm: pool ")?.trim();
    let name = &name[..name.floor_char_boundary(POOL_BYTES)];
    (!name.is_empty()).then(|| name.into())
}

/// `php-fpm8.2`, `php82-fpm`, `php-cgi`, `php8.4`, `lsphp` … as sapi and version.
fn program(name: &str) -> Option<(&'static str, Option<Arc<str>>)> {
    if name == "frankenphp" {
        return Some(("frankenphp", None));
    }
    let litespeed = name.strip_prefix("lsphp");
    let (before, rest) = split_version(litespeed.or_else(|| name.strip_prefix("php"))?);
    let (sapi, rest) = if litespeed.is_some() {
        ("litespeed", rest)
    } else if let Some(rest) = rest.strip_prefix("-fpm") {
        ("fpm", rest)
    } else if let Some(rest) = rest.strip_prefix("-cgi") {
        ("cgi", rest)
    } else if let Some(rest) = rest.strip_prefix("dbg") {
        ("phpdbg", rest)
    } else {
        ("cli", rest)
    };
    let (after, rest) = split_version(rest);
    if !rest.is_empty() {
        return None;
    }
    let digits = if before.is_empty() { after } else { before };
    Some((sapi, version(digits)))
}

fn split_version(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// `8.2` and `82` are 8.2; a lone `8` is 8.
fn version(digits: &str) -> Option<Arc<str>> {
    let (major, minor) = match digits.split_once('.') {
        Some((major, minor)) => (major, minor.split('.').next().unwrap_or_default()),
        None => digits.split_at(digits.len().min(1)),
    };
    if major.is_empty() || major.len() > 2 || minor.len() > 2 {
        None
    } else if minor.is_empty() {
        Some(major.into())
    } else {
        Some(format!("{major}.{minor}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Option<(String, Option<String>)> {
        let php = identify(name, None, Some(&format!("/usr/sbin/{name}")), 1)?;
        assert_eq!(Some(&php), identify(name, None, None, 1).as_ref());
        Some((php.sapi.to_string(), php.version.map(|version| version.to_string())))
    }

    #[test]
    fn sapi_and_version_come_from_the_name() {
        for (name, sapi, version) in [
            ("php-fpm8.2", "fpm", Some("8.2")),
            ("php-fpm83", "fpm", Some("8.3")),
            ("php-fpm", "fpm", None),
            ("php82-fpm", "fpm", Some("8.2")),
            ("php-cgi8.10", "cgi", Some("8.10")),
            ("php-cgi", "cgi", None),
            ("php", "cli", None),
            ("php8.4", "cli", Some("8.4")),
            ("php8", "cli", Some("8")),
            ("php7.4.33", "cli", Some("7.4")),
            ("phpdbg8.2", "phpdbg", Some("8.2")),
            ("lsphp", "litespeed", None),
            ("frankenphp", "frankenphp", None),
            ("php999999999999", "cli", None),
            ("php...", "cli", None),
        ] {
            let expected = (sapi.to_owned(), version.map(str::to_owned));
            assert_eq!(names(name), Some(expected), "{name}");
        }
        for name in ["phpunit", "php-fpm-exporter", "nginx", "", "ph", "php-", "xphp8.2", "php8é"]
        {
            assert_eq!(names(name), None, "{name}");
        }
    }

    #[test]
    fn workers_know_pool_and_master() {
        let exe = Some("/usr/sbin/php-fpm8.2");
        let worker = identify("php-fpm8.2", Some("php-fpm: pool www"), exe, 812).unwrap();
        assert_eq!((worker.pool.as_deref(), worker.master_tgid), (Some("www"), Some(812)));
        let title = "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)";
        let master = identify("php-fpm8.2", Some(title), exe, 1).unwrap();
        assert_eq!((&*master.sapi, master.pool, master.master_tgid), ("fpm", None, None));
        let upgraded = Some("/usr/sbin/php-fpm8.2 (deleted)");
        let old = identify("php-fpm8.2", Some("php-fpm: pool a b"), upgraded, 812).unwrap();
        assert_eq!((old.pool.as_deref(), old.version.as_deref()), (Some("a b"), Some("8.2")));
    }

    #[test]
    fn hostile_titles_stay_bounded_and_need_the_executable() {
        let title = Some("php-fpm: pool www");
        assert_eq!(identify("php-fpm8.2", title, Some("/tmp/miner"), 1), None);
        assert_eq!(identify("php", title, Some("/bin/bash"), 1), None);
        assert_eq!(identify("php", title, None, 1).unwrap().pool, None);
        let long = format!("php-fpm: pool {}", "é".repeat(2000));
        let pool = identify("php-fpm", Some(&long), None, 1).unwrap().pool.unwrap();
        assert_eq!(pool.len(), POOL_BYTES);
        let escape = identify("php-fpm", Some("php-fpm: pool \u{1b}[2J\n"), None, 1).unwrap();
        assert_eq!(escape.pool.as_deref(), Some("\u{1b}[2J"));
        assert_eq!(identify("php-fpm", Some("php-fpm: pool  "), None, 1).unwrap().pool, None);
    }
}

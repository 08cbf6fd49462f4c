//! From an option as it is given to the variable that it sets: `-` and `_`, `skip-`, `loose-` and their like,
//! unambiguous beginnings (mysys/my_getopt.c of MariaDB 10.11).

use std::collections::HashMap;
use std::sync::LazyLock;

/// Every option of mariadbd 10.11, as `mariadbd --no-defaults --verbose --help` has them, with those that it
/// passes over for the sake of old files (sql/mysqld.cc). After the name: `=` needs a value, `?` may have
/// one, `!` is read before all others, `+` belongs to a storage engine, which reads what the server left.
const NAMES: &str = include_str!("names.txt");

/// Beginnings with a meaning of their own.
const PREFIXES: [(&str, Prefix); 6] = [
    ("skip", Prefix::Off),
    ("disable", Prefix::Off),
    ("enable", Prefix::On),
    ("maximum", Prefix::Maximum),
    ("loose", Prefix::Loose),
    ("autoset", Prefix::Auto),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Off,
    On,
    Maximum,
    Loose,
    Auto,
}

#[derive(Debug)]
struct Name {
    name: &'static str,
    needs_value: bool,
    stage: Stage,
}

/// The server goes through its options three times, each time with other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Early,
    Server,
    Engines,
}

static KNOWN: LazyLock<Vec<Name>> = LazyLock::new(|| {
    let names = NAMES.lines().map(|line| {
        let name = line.trim_end_matches(['=', '?', '!', '+']);
        let stage = match line.as_bytes().last() {
            Some(b'!') => Stage::Early,
            Some(b'+') => Stage::Engines,
            _ => Stage::Server,
        };
        Name { name, needs_value: line.contains('='), stage }
    });
    names.collect()
});

/// By name, with `_`.
static INDEX: LazyLock<HashMap<String, &'static Name>> =
    LazyLock::new(|| KNOWN.iter().map(|known| (folded(known.name), known)).collect());

/// What an option sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The option's own name, with `-`.
    pub name: &'static str,
    /// Its value; None where none is given.
    pub value: Option<&'a str>,
    /// Whether the server refuses it without a value.
    pub needs_value: bool,
    /// `loose-`: what is wrong with it stops nobody.
    pub loose: bool,
    /// `maximum-`: sets what a session may set, not the value.
    pub maximum: bool,
}

/// Why an option sets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No option has this name.
    Unknown {
        /// It begins with `loose-`: the server passes over it.
        loose: bool,
    },
    /// Several options begin like this.
    Ambiguous,
}

/// Finds the option of `text`, `name` or `name=value`. `beginnings`: whether the start of a name will do,
/// which needs the whole list of the server's version.
///
/// # Errors
///
/// See [`Unresolved`].
pub fn resolve(text: &str, beginnings: bool) -> Result<Resolved<'_>, Unresolved> {
    let mut loose = false;
    for stage in [Stage::Early, Stage::Server, Stage::Engines] {
        match resolve_in(stage, text, beginnings) {
            Err(Unresolved::Unknown { loose: begins }) => loose = begins,
            found => return found,
        }
    }
    Err(Unresolved::Unknown { loose })
}

fn resolve_in(stage: Stage, text: &str, beginnings: bool) -> Result<Resolved<'_>, Unresolved> {
    let (name, mut value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let mut name = without_struct(name);
    let (mut loose, mut maximum) = (false, false);
    let mut found = find(stage, name, beginnings);
    while found.is_empty() {
        let Some((rest, prefix)) = PREFIXES.iter().find_map(|&(text, prefix)| {
            let (head, rest) = name.split_at_checked(text.len())?;
            let rest = rest.strip_prefix(['-', '_'])?;
            same(head, text).then_some((rest, prefix))
        }) else {
            return Err(Unresolved::Unknown { loose });
        };
        name = rest;
        loose |= prefix == Prefix::Loose;
        found = find(stage, name, beginnings);
        if found.is_empty() {
            continue;
        }
        match prefix {
            Prefix::Off => value = Some(if value == Some("0") { "1" } else { "0" }),
            Prefix::On => value = Some(if value == Some("0") { "0" } else { "1" }),
            Prefix::Maximum => maximum = true,
            Prefix::Auto => value = None,
            Prefix::Loose => {}
        }
    }
    match found.as_slice() {
        [one] => {
            let Name { name, needs_value, .. } = **one;
            Ok(Resolved { name, value, needs_value, loose, maximum })
        }
        _ => Err(Unresolved::Ambiguous),
    }
}

/// Whether a boolean option with this value is on.
pub fn is_on(value: Option<&str>) -> bool {
    value.is_none_or(|value| ["1", "on", "true"].iter().any(|on| value.eq_ignore_ascii_case(on)))
}

/// `cache.key_buffer_size` sets `key_buffer_size` of a cache.
fn without_struct(name: &str) -> &str {
    let skip = name.chars().next().map_or(0, char::len_utf8);
    match name[skip..].find('.') {
        Some(at) if skip + at + 1 < name.len() => &name[skip + at + 1..],
        _ => name,
    }
}

/// The option of this name; else those that begin with it.
fn find(stage: Stage, name: &str, beginnings: bool) -> Vec<&'static Name> {
    // Those of an engine have names with this before them as well.
    let plugin = name.get(..7).filter(|head| stage == Stage::Engines && same(head, "plugin-"));
    let name = if plugin.is_some() { &name[7..] } else { name };
    let known = || KNOWN.iter().filter(|known| known.stage == stage);
    let exact = INDEX.get(&folded(name)).filter(|found| found.stage == stage);
    if let Some(exact) = exact {
        return vec![exact];
    }
    if !beginnings || name.is_empty() {
        return Vec::new();
    }
    let begins = |known: &&Name| known.name.get(..name.len()).is_some_and(|head| same(head, name));
    known().filter(begins).collect()
}

fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (&'static str, Option<&str>) {
        let found = resolve(text, true).unwrap();
        (found.name, found.value)
    }

    #[test]
    fn names_are_found_in_all_their_forms() {
        assert_eq!(found("innodb_buffer-pool_SIZE=2G"), ("innodb-buffer-pool-size", Some("2G")));
        assert_eq!(found("loose-max_connections=5"), ("max-connections", Some("5")));
        assert_eq!(found("skip-grant-tables"), ("skip-grant-tables", None));
        assert_eq!(found("skip_networking=OFF"), ("skip-networking", Some("OFF")));
        assert_eq!(found("skip-log-bin"), ("log-bin", Some("0")));
        assert_eq!(found("disable_log_bin=0"), ("log-bin", Some("1")));
        assert_eq!(found("enable-log-bin=0"), ("log-bin", Some("0")));
        assert_eq!(found("loose-skip-log-bin"), ("log-bin", Some("0")));
        assert_eq!(found("hot.key_buffer_size=1M"), ("key-buffer-size", Some("1M")));
        // Of those that are read first only one begins like this.
        assert_eq!(found("max_connect=3"), ("max-connections", Some("3")));
        assert_eq!(
            found("plugin-innodb-log-buffer-size=3M"),
            ("innodb-log-buffer-size", Some("3M"))
        );
        assert!(resolve("maximum-sort-buffer-size=1", true).unwrap().maximum);
    }

    #[test]
    fn what_is_no_option_is_said() {
        assert_eq!(resolve("no_such=1", true), Err(Unresolved::Unknown { loose: false }));
        assert_eq!(resolve("loose_no_such", true), Err(Unresolved::Unknown { loose: true }));
        assert_eq!(resolve("innodb_buffer_pool_s=3", true), Err(Unresolved::Ambiguous));
        assert_eq!(resolve("max_connecti=3", false), Err(Unresolved::Unknown { loose: false }));
        assert!(resolve("", true).is_err());
        assert!(resolve("skip-", true).is_err());
        assert!(resolve("=5", true).is_err());
        assert!(resolve("é.x", true).is_err());
    }

    #[test]
    fn truth_is_what_the_server_takes_for_it() {
        assert!(is_on(None) && is_on(Some("On")) && is_on(Some("1")) && is_on(Some("TRUE")));
        assert!(!is_on(Some("0")) && !is_on(Some("yes")) && !is_on(Some("")));
    }
}

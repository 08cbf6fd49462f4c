//! The variables that decide how much memory a server takes: their defaults, bounds and steps, and how the
//! server reads a number (mysys/my_getopt.c).
//!
//! Bounds and steps are those of MariaDB 10.11 (sql/sys_vars.cc, storage/innobase/handler/ha_innodb.cc,
//! storage/maria/ha_maria.cc), seen in `mariadbd --verbose --help`. Its defaults are those of MariaDB 10.5 to
//! 11.8 as well (mariadb.com/kb, "Server System Variables"). Those of MySQL are of 8.0, in the reference
//! manual's chapters 7.1.8 and 17.14; 8.4 differs in innodb_log_buffer_size.

use super::installed::{Flavour, Version};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A variable that is a number.
#[derive(Debug)]
pub struct Variable {
    /// Its option, with `-`.
    pub name: &'static str,
    mariadb: u64,
    mysql: u64,
    min: u64,
    max: u64,
    step: u64,
}

const fn variable(
    name: &'static str,
    (mariadb, mysql): (u64, u64),
    min: u64,
    max: u64,
    step: u64,
) -> Variable {
    Variable { name, mariadb, mysql, min, max, step }
}

const MAX: u64 = u64::MAX;
const INT: u64 = i32::MAX as u64;

/// All of them. One that MySQL does not have has no default there.
pub const VARIABLES: [Variable; 17] = [
    variable(POOL, (128 * MIB, 128 * MIB), 2 * MIB, MAX - (8 * MIB - 1), MIB),
    variable("innodb-log-buffer-size", (16 * MIB, 16 * MIB), 2 * MIB, INT - 4095, 4096),
    variable("key-buffer-size", (128 * MIB, 8 * MIB), 0, MAX, 4096),
    variable("aria-pagecache-buffer-size", (128 * MIB, 0), 128 * KIB, MAX, 1),
    variable("query-cache-size", (MIB, 0), 0, MAX, KIB),
    variable(CONNECTIONS, (151, 151), 10, 100_000, 1),
    variable("sort-buffer-size", (2 * MIB, 256 * KIB), KIB, MAX, 1),
    variable("join-buffer-size", (256 * KIB, 256 * KIB), 128, MAX, 128),
    variable("read-buffer-size", (128 * KIB, 128 * KIB), 8192, INT, 4096),
    variable("read-rnd-buffer-size", (256 * KIB, 256 * KIB), 1, INT, 1),
    variable("thread-stack", (292 * KIB, MIB), 128 * KIB, MAX, KIB),
    variable("net-buffer-length", (16 * KIB, 16 * KIB), KIB, MIB, KIB),
    variable("max-allowed-packet", (16 * MIB, 64 * MIB), KIB, 1 << 30, KIB),
    variable("binlog-cache-size", (32 * KIB, 32 * KIB), 4096, MAX, 4096),
    variable("binlog-stmt-cache-size", (32 * KIB, 32 * KIB), 4096, MAX, 4096),
    variable("tmp-table-size", (16 * MIB, 16 * MIB), 0, MAX, 16 * KIB),
    variable("max-heap-table-size", (16 * MIB, 16 * MIB), 16 * KIB, MAX, KIB),
];

/// The buffer pool of InnoDB.
pub const POOL: &str = "innodb-buffer-pool-size";

/// How many clients may be connected.
pub const CONNECTIONS: &str = "max-connections";

/// The variable that the option `name` sets.
pub fn find(name: &str) -> Option<&'static Variable> {
    // Two names of one variable.
    let name = if name == "tmp-memory-table-size" { "tmp-table-size" } else { name };
    VARIABLES.iter().find(|variable| variable.name == name)
}

impl Variable {
    /// What the server takes when nobody says anything.
    pub fn default(&self, flavour: Flavour, version: Option<Version>) -> u64 {
        match flavour {
            Flavour::Mariadb => self.mariadb,
            Flavour::Mysql if self.name == "innodb-log-buffer-size" => {
                if version.is_some_and(|version| version >= Version::new(8, 4)) {
                    64 * MIB
                } else {
                    self.mysql
                }
            }
            Flavour::Mysql => self.mysql,
        }
    }

    /// What the server makes of `number`.
    pub fn bounded(&self, number: u64) -> u64 {
        let number = number.min(self.max);
        (number - number % self.step).max(self.min)
    }
}

/// Why a server refuses a number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Begins with `-`.
    #[error("{text:?} is negative")]
    Negative {
        /// As it stands.
        text: String,
    },
    /// Beyond 64 bits before its suffix.
    #[error("{text:?} is too large")]
    Range {
        /// As it stands.
        text: String,
    },
    /// What follows the digits is none of K, M, G, T, P, E.
    #[error("{text:?} has none of the suffixes K, M, G, T, P and E")]
    Suffix {
        /// As it stands.
        text: String,
    },
}

/// A number with a suffix. As in the server only the first character after the digits counts, no digits are
/// zero, and what is too large after its suffix wraps around.
///
/// # Errors
///
/// See [`NumberError`].
pub fn number(text: &str) -> Result<u64, NumberError> {
    if text.starts_with('-') {
        return Err(NumberError::Negative { text: text.to_owned() });
    }
    let rest = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (unsigned, negative) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest.strip_prefix('+').unwrap_or(rest), false),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (digits, suffix) = unsigned.split_at(end);
    // Without digits nothing is read, the sign neither.
    let suffix = if digits.is_empty() { text } else { suffix };
    let mut value = match digits {
        "" => 0,
        digits => {
            digits.parse::<u64>().map_err(|_| NumberError::Range { text: text.to_owned() })?
        }
    };
    if negative {
        value = value.wrapping_neg();
    }
    let shift = match suffix.bytes().next().map(|byte| byte.to_ascii_lowercase()) {
        None => 0,
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        Some(b't') => 40,
        Some(b'p') => 50,
        Some(b'e') => 60,
        Some(_) => return Err(NumberError::Suffix { text: text.to_owned() }),
    };
    Ok(value.wrapping_shl(shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_server_does() {
        assert_eq!(number("2G"), Ok(2 << 30));
        assert_eq!(number("128m"), Ok(128 << 20));
        assert_eq!(number("1Mfoo"), Ok(1 << 20));
        assert_eq!(number(""), Ok(0));
        assert_eq!(number("M"), Ok(0));
        assert_eq!(number(" +7k"), Ok(7 << 10));
        assert_eq!(number("17E"), Ok(1 << 60));
        assert!(matches!(number("1.5G"), Err(NumberError::Suffix { .. })));
        assert!(matches!(number("3x"), Err(NumberError::Suffix { .. })));
        assert!(matches!(number("-1"), Err(NumberError::Negative { .. })));
        assert!(matches!(number("20000000000000000000"), Err(NumberError::Range { .. })));
    }

    #[test]
    fn values_are_moved_into_their_bounds() {
        let pool = find(POOL).unwrap();
        assert_eq!(pool.bounded(1), 2 << 20);
        assert_eq!(pool.bounded((3 << 20) + 5), 3 << 20);
        assert_eq!(find(CONNECTIONS).unwrap().bounded(7), 10);
        assert_eq!(find("tmp-memory-table-size").unwrap().name, "tmp-table-size");
        let log = find("innodb-log-buffer-size").unwrap();
        assert_eq!(log.default(Flavour::Mysql, Some(Version::new(8, 4))), 64 << 20);
        assert_eq!(log.default(Flavour::Mysql, Some(Version::new(8, 0))), 16 << 20);
    }
}

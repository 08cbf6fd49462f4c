//! Versions of PHP, because each reads its files a little differently.

use std::fmt;

use serde::Serialize;

/// Such as 8.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Version {
    /// 8.
    pub major: u8,
    /// 2.
    pub minor: u8,
}

impl Version {
    /// `major.minor`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// From `8.2`, as Debian names its folders.
    pub fn dotted(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }

    /// From `82`, as Alpine and Remi name theirs.
    pub fn short(text: &str) -> Option<Self> {
        let (major, minor) = text.split_at_checked(1)?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

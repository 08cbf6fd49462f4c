//! What /proc and the cgroup file systems tell: identity and memory of processes, PHP titles,
//! memory cgroups, the host. Reading is bounded and separate from parsing; parsers take bytes and
//! are pure. Nothing here decides what the numbers mean.

pub mod cgroup;
pub mod clock;
pub mod file;
pub mod host;
pub mod php;
pub mod process;
pub mod stat;
pub mod status;
pub mod usage;
pub mod worker;

/// A kernel file that does not look as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: no readable {field}")]
pub struct Malformed {
    /// Which file, by its place in proc(5) or cgroups(7).
    pub file: &'static str,
    /// What was looked for in it.
    pub field: &'static str,
}

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

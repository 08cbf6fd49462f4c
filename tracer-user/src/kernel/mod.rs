//! Everything that talks to the kernel: its BTF, the plan of attachments, loading, the records, and
//! the tracer's own protection. Unsafe code of user space lives here.

pub mod btf;
pub mod confine;
pub mod cost;
pub mod facts;
pub mod inherit;
pub mod load;
pub mod offsets;
pub mod plan;
pub mod protect;
pub mod record;
mod refusal;
pub mod uprobe;

#[cfg(test)]
mod recorded;

/// The kernel, or what this process may do with it, is not enough; exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct Unsupported {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

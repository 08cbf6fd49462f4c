//! Everything that talks to the kernel.

pub mod btf;
pub mod facts;
pub mod load;
pub mod plan;

/// The kernel, or what this process may do with it, is not enough; exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct Unsupported {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

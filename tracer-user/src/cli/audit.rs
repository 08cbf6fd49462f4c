//! Flags of `audit`.

use std::path::PathBuf;

use ::audit::Severity;
use clap::{Args, ValueEnum};

/// `rampage audit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage audit                        this host; root sees more: sockets, running workers
  rampage audit --fail-on warning      exit code 5 also when there are only warnings
  rampage audit --root /mnt/backup     an unpacked file system
  rampage audit --trace t.jsonl.zst    with what workers really took, instead of their limits
  rampage audit --plan                 what each service should have, so that it adds up to the memory
  rampage audit --emit /tmp/drop-ins   the same as files, to be read and copied

Reads only, but for --emit. Exit status: 0 nothing at or above --fail-on, 5 otherwise; 4 a damaged trace.")]
pub struct Audit {
    /// Audit the unpacked file system in this folder; its proc/meminfo, where there is one, gives the memory.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Take what workers were seen to use in this trace, instead of their limits.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Exit with 5 when a finding is at least so severe.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "critical")]
    pub fail_on: FailOn,
    /// Print a budget that adds up to the memory, and the values that keep to it.
    #[arg(long)]
    pub plan: bool,
    /// Write the values of the plan as drop-in files below this folder; nothing that others wrote is touched.
    #[arg(long, value_name = "DIR")]
    pub emit: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

/// From which severity on an audit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Anything.
    Info,
    /// Warnings, and what is worse.
    Warning,
    /// What will exhaust the memory.
    Critical,
    /// Nothing.
    Never,
}

impl FailOn {
    /// None = nothing fails.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Info => Some(Severity::Info),
            Self::Warning => Some(Severity::Warning),
            Self::Critical => Some(Severity::Critical),
            Self::Never => None,
        }
    }
}

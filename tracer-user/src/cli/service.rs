//! Flags of `serve`, and of the commands about what it is told and what it keeps.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `rampage serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage serve                        with /etc/rampage/rampage.toml, where there is one
  rampage serve --config ./rampage.toml
  systemctl reload rampage             applies a changed file; a bad one leaves the old in force")]
pub struct Serve {
    /// The settings [default: /etc/rampage/rampage.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `rampage config`.
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  rampage config check                 what is wrong with /etc/rampage/rampage.toml, or nothing
  rampage config show | grep -v default
  rampage config sample > /etc/rampage/rampage.toml")]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What `rampage config` does.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigAction {
    /// Say what is wrong with the settings, or nothing.
    Check(ConfigFile),
    /// Show every setting in force, and where it comes from.
    Show(ConfigFile),
    /// Print a sample file with every key, its meaning and its default.
    Sample,
    /// Print the JSON schema of the file, for editors.
    Schema,
}

/// The file of `rampage config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The settings [default: /etc/rampage/rampage.toml, if it exists].
    pub file: Option<PathBuf>,
    /// The same as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `rampage incidents`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage incidents                    those of /var/lib/rampage, the newest last
  rampage replay /var/lib/rampage/incidents/2026-11-28T03-12-09Z-oom-mysqld")]
pub struct Incidents {
    /// The state directory of `serve` [default: that of the settings].
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// One JSON object per incident and line.
    #[arg(long)]
    pub json: bool,
}

//! The commands, one file each, and what their failures mean to the caller.

pub mod demo;
pub mod doctor;
pub mod man;
pub mod record;
pub mod replay;
pub mod watch;

use crate::cli::{Cli, Command, UsageError};
use crate::kernel::Unsupported;
use crate::sink::SinkError;

/// Runs the command that was asked for.
pub fn execute(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Watch(args) => {
            args.trace.filters.check_host()?;
            watch::execute(args, cli.verbose)
        }
        Command::Record(args) => {
            args.trace.filters.check_host()?;
            record::execute(args, cli.verbose)
        }
        Command::Replay(args) => replay::execute(args, cli.verbose),
        Command::Doctor(args) => doctor::execute(args),
        Command::Demo(args) => demo::execute(args, cli.verbose),
        Command::Man(args) => man::execute(args),
    }
}

/// Exit code of a failure: 2 wrong usage, 3 missing privilege or kernel support, 4 a damaged input
/// file, 1 anything else. 0: the reader of the output went away, as it may.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error {
        e if matches!(e.downcast_ref(), Some(SinkError::Closed)) => 0,
        e if e.is::<UsageError>() => 2,
        e if e.is::<Unsupported>() => 3,
        e if e.is::<replay::DamagedInput>() => 4,
        _ => 1,
    }
}

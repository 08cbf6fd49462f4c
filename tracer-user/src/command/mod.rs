//! The commands, one file each, and what their failures mean to the caller.

pub mod audit;
pub mod completions;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod incidents;
pub mod man;
pub mod php;
pub mod record;
pub mod replay;
pub mod serve;
pub mod watch;

use crate::cli::{Cli, Command, UsageError};
use crate::kernel::Unsupported;
use crate::settings::SettingsError;
use crate::sink::SinkError;
use crate::text::printable;

/// Runs the command that was asked for.
pub fn execute(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Watch(args) => {
            args.trace.check()?;
            watch::execute(args, cli.verbose)
        }
        Command::Record(args) => {
            args.trace.check()?;
            record::execute(args, cli.verbose)
        }
        Command::Replay(args) => replay::execute(args, cli.verbose),
        Command::Php(args) => php::execute(args),
        Command::Audit(args) => audit::execute(args),
        Command::Doctor(args) => doctor::execute(args),
        Command::Demo(args) => demo::execute(args, cli.verbose),
        Command::Man(args) => man::execute(args),
        Command::Completions(args) => completions::execute(args),
        Command::Serve(args) => serve::execute(args, cli.verbose),
        Command::Config(args) => config::execute(args),
        Command::Incidents(args) => incidents::execute(args),
    }
}

/// Exit code of a failure: 2 wrong usage or settings, 3 missing privilege or kernel support, 4 a damaged input
/// file, 5 an audit that found something, 1 anything else. 0: the reader of the output went away, as it may.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error {
        e if matches!(e.downcast_ref(), Some(SinkError::Closed)) => 0,
        e if e.is::<UsageError>() || e.is::<SettingsError>() => 2,
        e if e.is::<Unsupported>() => 3,
        e if e.is::<replay::DamagedInput>() => 4,
        e if e.is::<audit::Failed>() => 5,
        _ => 1,
    }
}

/// What is said of a failure. Settings have a line for each problem, that begins with file and line
/// number as editors take it; all else is one line.
pub fn lines(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref() {
        Some(error @ SettingsError::Invalid { .. }) => error.lines(),
        _ => vec![format!("rampage: {}", one_line(error))],
    }
}

/// The error and its causes as one line, safe for a terminal; a cause that is part of what stands
/// before it is not said twice.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    printable(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::replay::OpenError;
    use anyhow::Context;

    #[test]
    fn an_error_and_its_causes_are_one_line_without_repetition() {
        let open = OpenError { path: "a\nb".into(), source: std::io::ErrorKind::NotFound.into() };
        let error = Err::<(), _>(open).context("replay").unwrap_err();
        assert_eq!(one_line(&error), "replay: cannot read a\\nb: entity not found");
    }

    #[test]
    fn exit_codes_tell_usage_kernel_damage_and_the_rest() {
        let unsupported = Unsupported { reason: String::new(), remedy: String::new() };
        assert_eq!(exit_code(&anyhow::Error::from(SinkError::Closed)), 0);
        assert_eq!(exit_code(&anyhow::anyhow!("anything")), 1);
        assert_eq!(exit_code(&UsageError::RotateStdout.into()), 2);
        assert_eq!(exit_code(&anyhow::Error::from(unsupported).context("watch")), 3);
    }
}

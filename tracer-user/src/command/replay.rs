//! `rampage replay`: a trace file through the same pipeline.

use anyhow::Context;

use crate::cli::{Replay, UsageError};
use crate::pipeline::Pipeline;
use crate::run::{self, RunOptions};
use crate::sink::Sink;
use crate::sink::filter::Filter;
use crate::sink::json::Json;
use crate::sink::plain::Plain;
use crate::source::replay::{Damage, ReplaySource};
use crate::text::printable;

/// The trace file is damaged; all that was readable was used. Exit code 4.
#[derive(Debug, thiserror::Error)]
#[error("{}: {damage}; all that was readable was used", printable(name))]
pub struct DamagedInput {
    /// The file.
    pub name: String,
    /// What is wrong with it.
    pub damage: Damage,
}

/// Replays to the end of the file, or until a signal.
pub fn execute(args: &Replay, _verbose: u8) -> anyhow::Result<()> {
    let mut source = ReplaySource::open(&args.file, args.speed)
        .map_err(|source| UsageError::Input { source })?;
    let filter = Filter::new(&args.filters.filters()).context("--comm")?;
    let reason = if args.output.json {
        drive(&mut source, &mut Json::stdout(filter))?
    } else {
        drive(&mut source, &mut Plain::stdout(filter))?
    };
    if reason != "end of input" {
        return Ok(());
    }
    let name = args.file.to_string_lossy().into_owned();
    if let Some(damage) = source.damage() {
        return Err(DamagedInput { name, damage }.into());
    }
    if !source.is_complete() {
        tracing::warn!(
            "{} has no `end`: the recording was killed, or is still running",
            printable(&name)
        );
    }
    Ok(())
}

fn drive(source: &mut ReplaySource, sink: &mut dyn Sink) -> anyhow::Result<&'static str> {
    run::block_on(run::run(source, &mut Pipeline::new(vec![sink]), RunOptions::default()))
}

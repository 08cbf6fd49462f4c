//! `rampage replay`: a trace file through the same pipeline.

mod account;
mod explain;
#[cfg(test)]
mod tests;

use std::io;

use anyhow::Context;

use self::explain::{Explain, Survey};
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
    if args.explain {
        return explain(args);
    }
    let mut source = open(args)?;
    let filter = Filter::new(&args.filters.filters()).context("--comm")?;
    let reason = if args.output.json {
        drive(&mut source, &mut Json::stdout(filter))?
    } else {
        drive(&mut source, &mut Plain::stdout(filter))?
    };
    finish(args, &source, reason)
}

/// Twice over the file: [`mod@explain`] says why.
fn explain(args: &Replay) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(&args.file);
    let is_stream = metadata.is_ok_and(|kind| !kind.is_file() && !kind.is_dir());
    if is_stream || args.file.as_os_str() == "-" {
        return Err(UsageError::ExplainStream.into());
    }
    let mut survey = Survey::new(args.id);
    let reason = drive(&mut open(args)?, &mut survey)?;
    if reason != "end of input" {
        return Ok(());
    }
    let mut explain = Explain::new(survey, io::stdout().lock(), args.output.json);
    let mut source = open(args)?;
    let reason = drive(&mut source, &mut explain)?;
    match (explain.told(), args.id) {
        ((0, _), Some(id)) if reason == "end of input" => {
            return Err(UsageError::NoSuchFinding { id }.into());
        }
        ((0, _), _) => tracing::warn!("there is no finding in this trace"),
        ((_, 0), _) => {}
        ((_, left_out), _) => tracing::warn!("{left_out} more were said and not explained"),
    }
    finish(args, &source, reason)
}

fn open(args: &Replay) -> Result<ReplaySource, UsageError> {
    ReplaySource::open(&args.file, args.speed).map_err(|source| UsageError::Input { source })
}

/// Says what of the file was not read.
fn finish(args: &Replay, source: &ReplaySource, reason: &str) -> anyhow::Result<()> {
    if reason != "end of input" {
        return Ok(());
    }
    for interruption in source.breaks() {
        tracing::warn!("{interruption}");
    }
    if let Some((file, damage)) = source.damaged_file() {
        let name = file.to_string_lossy().into_owned();
        return Err(DamagedInput { name, damage }.into());
    }
    let name = args.file.to_string_lossy().into_owned();
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

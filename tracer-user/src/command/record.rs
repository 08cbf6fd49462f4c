//! `rampage record`: events into a trace file.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use crate::cli::{Record, SourceKind, UsageError};
use crate::event::{Event, Stamped};
use crate::model::Model;
use crate::pipeline::Pipeline;
use crate::run::{self, RunOptions};
use crate::sink::trace_file::{Rotation, TraceFile, Written};
use crate::sink::{Sink, SinkError};
use crate::source::Source;
use crate::source::live::{LiveOptions, LiveSource};
use crate::source::procfs::ProcfsSource;
use crate::text::{bytes, printable, seconds};

/// Records until the source, a signal or `--duration` ends it.
pub fn execute(args: &Record, verbose: u8) -> anyhow::Result<()> {
    if args.max_size.is_some() && args.output == Path::new("-") {
        return Err(UsageError::RotateStdout.into());
    }
    let rotation = Rotation { max_size_bytes: args.max_size, keep: args.keep };
    let file = TraceFile::create(&args.output, rotation)
        .map_err(|source| UsageError::Output { source })?;
    let config = args.trace.config();
    let show = args.trace.disclosure.disclosure();
    match args.trace.source {
        SourceKind::Live => {
            let options = LiveOptions {
                config,
                ring_bytes: args.trace.ring,
                forbid: args.trace.forbid.clone(),
                show,
                usdt: args.trace.usdt,
                confine: false,
                verbose,
            };
            record(args, file, LiveSource::open(&options).map_err(Into::into))
        }
        SourceKind::Procfs => record(args, file, ProcfsSource::open(&config, show)),
    }
}

fn record<S: Source>(
    args: &Record,
    mut file: TraceFile,
    source: anyhow::Result<S>,
) -> anyhow::Result<()> {
    let mut source = match source {
        Ok(source) => source,
        Err(error) => {
            file.abandon();
            return Err(error);
        }
    };
    let mut progress = Progress::new(&args.output, file.written());
    let mut pipeline = Pipeline::new(vec![&mut file, &mut progress]);
    let options = RunOptions { duration: args.trace.duration, ..RunOptions::default() };
    run::block_on(run::run(&mut source, &mut pipeline, options))?;
    Ok(())
}

/// Tells on standard error how much is written: each second on a terminal, and once at the end.
struct Progress {
    written: Rc<Written>,
    name: Option<String>,
    live: bool,
    lost_before_file: u64,
    started: Instant,
}

impl Progress {
    fn new(output: &Path, written: Rc<Written>) -> Self {
        let name =
            (output != Path::new("-")).then(|| printable(&output.to_string_lossy()).into_owned());
        Self {
            written,
            live: name.is_some() && io::stderr().is_terminal(),
            name,
            lost_before_file: 0,
            started: Instant::now(),
        }
    }

    fn text(&self, name: &str) -> String {
        format!(
            "{name}: {} events, {} in {}, {} lost",
            self.written.events.get(),
            bytes(self.written.bytes.get()),
            seconds(self.started.elapsed().as_secs_f64()),
            self.written.lost.get().saturating_add(self.lost_before_file)
        )
    }
}

impl Sink for Progress {
    fn event(&mut self, _model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            // Losses of the file itself are counted where they happen.
            Event::Lost(lost) if &*lost.source != "disk" => {
                self.lost_before_file = self.lost_before_file.saturating_add(lost.records);
            }
            _ => {}
        }
        Ok(())
    }

    fn pulse(&mut self, _model: &Model) -> Result<(), SinkError> {
        if let (true, Some(name)) = (self.live, &self.name) {
            // Standard error may be gone; the recording goes on.
            let _ = write!(io::stderr(), "\r\x1b[K{}\r", self.text(name));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if let Some(name) = &self.name {
            let clear = if self.live { "\r\x1b[K" } else { "" };
            let _ = writeln!(io::stderr(), "{clear}{}", self.text(name));
        }
        Ok(())
    }
}

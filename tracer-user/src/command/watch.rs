//! `rampage watch`: what grows now, how long is left, who drives it.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::cli::{OutputArgs, SourceKind, Watch};
use crate::pipeline::Pipeline;
use crate::run::{self, RunOptions};
use crate::sink::Sink;
use crate::sink::filter::Filter;
use crate::sink::json::Json;
use crate::sink::plain::Plain;
use crate::sink::table::TableSink;
use crate::source::Source;
use crate::source::live::{LiveOptions, LiveSource};
use crate::source::procfs::ProcfsSource;

/// Keys and requests that wait for the loop.
const REQUESTS: usize = 8;

/// Watches until the user, a signal or `--duration` ends it.
pub fn execute(args: &Watch, verbose: u8) -> anyhow::Result<()> {
    let config = args.trace.config();
    let show = args.trace.disclosure.disclosure();
    let filter = Filter::new(&config.filters).context("--comm")?;
    run::block_on(async {
        match args.trace.source {
            SourceKind::Live => {
                let source = LiveSource::open(&LiveOptions {
                    config,
                    ring_bytes: args.trace.ring,
                    forbid: args.trace.forbid.clone(),
                    show,
                    usdt: args.trace.usdt,
                    confine: false,
                    verbose,
                })?;
                watch(source, args, filter).await
            }
            SourceKind::Procfs => watch(ProcfsSource::open(&config, show)?, args, filter).await,
        }
    })
}

async fn watch<S: Source>(mut source: S, args: &Watch, filter: Filter) -> anyhow::Result<()> {
    let (control, requests) = mpsc::channel(REQUESTS);
    let mut sink: Box<dyn Sink> = match Output::choose(&args.output) {
        Output::Json => Box::new(Json::stdout(filter)),
        Output::Plain => Box::new(Plain::stdout(filter)),
        Output::Table => Box::new(
            TableSink::open(filter, control, colour_wanted())
                .context("the terminal cannot show a table; try --plain")?,
        ),
    };
    let mut pipeline = Pipeline::new(vec![&mut *sink]);
    let options = RunOptions { duration: args.trace.duration, control: Some(requests) };
    run::run(&mut source, &mut pipeline, options).await?;
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Json,
    Plain,
    Table,
}

impl Output {
    fn choose(args: &OutputArgs) -> Self {
        if args.json {
            Self::Json
        } else if args.plain || !io::stdout().is_terminal() || !addressable() {
            Self::Plain
        } else {
            Self::Table
        }
    }
}

/// Whether the terminal can place its cursor.
fn addressable() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// NO_COLOR (<https://no-color.org>) is respected when it is not empty.
pub(super) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

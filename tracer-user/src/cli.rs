//! The command line: every flag of every command. Help and man pages come from here. How values
//! are read is in [`value`].

mod audit;
mod service;
mod value;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::event::{Config, Filters};
use crate::php::Disclosure;
use crate::text::printable;

pub use self::audit::{Audit, FailOn};
pub use self::service::{ConfigAction, ConfigArgs, ConfigFile, Incidents, Serve};
use self::value::{
    HIERARCHIES, below, parse_comm, parse_flame, parse_interval, parse_max_size, parse_ring,
    parse_speed, parse_step,
};
pub use self::value::{parse_bytes, parse_cgroup, parse_duration};

/// The command line asks for what cannot be done; exit code 2.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum UsageError {
    #[error(
        "--cgroup: there is no memory cgroup {} on this host; `systemd-cgls` or `find \
         /sys/fs/cgroup -type d` lists them",
        printable(path)
    )]
    NoSuchCgroup { path: String },
    #[error("-o: {source}; choose a file in a folder that exists and can be written")]
    Output { source: crate::sink::SinkError },
    #[error("{source}; give a trace file that can be read, or - for the standard input")]
    Input { source: crate::source::replay::OpenError },
    #[error(
        "cannot read {}: {}; give the state directory of `rampage serve` with --directory",
        printable(&path.to_string_lossy()),
        source
    )]
    StateDirectory { path: PathBuf, source: io::Error },
    #[error("--root: {source}; give the folder of an unpacked file system")]
    AuditRoot { source: ::audit::ReadError },
    #[error("--emit: {source}")]
    Emit { source: ::audit::plan::EmitError },
    #[error("--explain reads the trace twice; give it as a file")]
    ExplainStream,
    #[error("there is no finding {id} in this trace; leave the number out to see all")]
    NoSuchFinding { id: u64 },
    #[error("--max-size: standard output cannot be rotated; give a file with -o")]
    RotateStdout,
    #[error("--usdt: probes take kernel programs; leave out --source procfs")]
    UsdtByPolling,
    #[error("man: there is no command {}; `rampage help` lists them", printable(name))]
    NoSuchCommand { name: String },
    #[error("there is no process {tgid}; `rampage php` lists the PHP workers")]
    NoSuchProcess { tgid: u32 },
    #[error("process {tgid} ({}) is not PHP; `rampage php` lists the PHP workers", printable(comm))]
    NoPhp { tgid: u32, comm: String },
    #[error(
        "--flame: cannot write {}: {}; choose a file in a folder that exists and can be written",
        printable(&path.to_string_lossy()),
        source.kind()
    )]
    Flame { path: PathBuf, source: io::Error },
}

/// Names the process that runs away with the memory, before and after the OOM killer strikes.
#[derive(Debug, Parser)]
#[command(name = "rampage", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "\
Examples:
  rampage watch                       what grows now, how long is left, who drives it
  rampage record -o /var/tmp/t.jsonl.zst --duration 10m
  rampage replay /var/tmp/t.jsonl.zst
  rampage php                         what each PHP worker does now, the largest first
  rampage audit                       what of the configuration will exhaust the memory
  rampage doctor                      what this host can be traced with
  rampage demo                        a leak and its OOM kill, in a private 256 MiB cgroup

Exit status: 0 done, 1 other error, 2 wrong usage, 3 missing privilege or kernel support,
4 damaged input file (all that was readable was used), 5 an audit found something at or above its
threshold.")]
pub struct Cli {
    /// Say more: -v debug lines of the kernel programs and the loader, -vv everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch live: top growers, time left, findings.
    Watch(Watch),
    /// Write a trace file.
    Record(Record),
    /// Read a trace file through the same pipeline.
    Replay(Replay),
    /// Look into PHP workers: request, memory_limit, PHP stack.
    Php(Php),
    /// Find what of the configuration will exhaust the memory, before it happens.
    Audit(Audit),
    /// Show what this host can be traced with, and what is lost.
    Doctor(Doctor),
    /// Show a leak and its OOM kill in a private 256 MiB cgroup; safe on any host.
    Demo(Demo),
    /// Trace for months: flight recorder, metrics, alerts.
    Serve(Serve),
    /// Check the settings of `serve`, or show them.
    Config(ConfigArgs),
    /// List the incidents that `serve` kept.
    Incidents(Incidents),
    /// Print the manual page (roff) of rampage, of one command, or of its settings file.
    #[command(hide = true)]
    Man(Man),
    /// Print what a shell completes the command line with.
    #[command(hide = true)]
    Completions(Completions),
}

/// Where live events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// Kernel programs (eBPF).
    Live,
    /// Polling /proc each interval: misses short-lived processes, kills and stalls.
    Procfs,
}

/// What to trace, for `watch` and `record`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tracing")]
pub struct TraceArgs {
    /// Where events come from.
    #[arg(long, value_enum, default_value = "live")]
    pub source: SourceKind,
    /// Report a process when its anon + swap moved by this much (at least 64K; e.g. 256K, 4M)
    /// [default: the smaller of 4M and 1/64 of its tightest limit, at least 256K].
    #[arg(long, value_name = "BYTES", value_parser = parse_step)]
    pub step: Option<u64>,
    /// Time between two looks at cgroups and host, and between two summary lines; at least 100ms.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
    /// Stop after this time (e.g. 30s, 10m, 2h).
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Warn when a limit will be reached within this time.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    pub horizon: Duration,
    /// Follow PHP's own request probes (USDT), where PHP has them: exact request boundaries, at about
    /// 4 µs a request.
    #[arg(long)]
    pub usdt: bool,
    /// Bytes of the kernel's ring buffer, a power of two of pages.
    #[arg(long, value_name = "BYTES", default_value = "2M", value_parser = parse_ring, hide = true)]
    pub ring: u64,
    /// Hooks that must not be used, by mechanism (tp_btf, fentry, raw_tracepoint,
    /// kprobe, iterator).
    #[arg(long, value_name = "MECHANISM", value_delimiter = ',', hide = true)]
    pub forbid: Vec<String>,
    /// What of PHP requests is shown and recorded.
    #[command(flatten)]
    pub disclosure: DisclosureArgs,
    /// What is shown.
    #[command(flatten)]
    pub filters: FilterArgs,
}

/// What of PHP requests is shown: what can be a secret only where it is asked for.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct DisclosureArgs {
    /// Show the values in query strings, which can be secrets.
    #[arg(long)]
    pub show_query: bool,
    /// Show the addresses of clients.
    #[arg(long)]
    pub client: bool,
}

impl DisclosureArgs {
    /// For a look.
    pub fn disclosure(self) -> Disclosure {
        Disclosure { query: self.show_query, client: self.client }
    }
}

/// Which processes are shown; everything is traced, so that a culprit outside is still named.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Show processes whose name matches.
    #[arg(long, value_name = "REGEX", value_parser = parse_comm)]
    pub comm: Option<String>,
    /// Show these processes.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub tgid: Vec<u32>,
    /// Show this memory cgroup and what is below it (path in the hierarchy, or below
    /// /sys/fs/cgroup).
    #[arg(long, value_name = "PATH", value_parser = parse_cgroup)]
    pub cgroup: Option<String>,
    /// Show PHP processes only.
    #[arg(long)]
    pub php: bool,
}

/// How things are printed.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Events and findings as JSON Lines.
    #[arg(long, conflicts_with = "plain")]
    pub json: bool,
    /// One line per finding and a summary line per interval, also on a terminal.
    #[arg(long)]
    pub plain: bool,
}

/// `rampage watch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage watch                        live table; q quits, ? shows the keys
  rampage watch --plain --duration 5m  one line per finding, a summary line per second
  rampage watch --php --json | jq 'select(.type == \"finding\") | .summary'
  rampage watch --source procfs        without BPF: polling, misses kills and short-lived processes")]
pub struct Watch {
    /// Tracing.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `rampage record`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage record -o t.jsonl.zst
  rampage record -o t.jsonl --duration 10m
  rampage record -o /var/tmp/t.jsonl.zst --max-size 64M --keep 7   rolling, 512 MiB at most")]
pub struct Record {
    /// The trace file; `.zst` compresses; `-` = standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Start a new file before this one exceeds this size (at least 64K); the old ones become
    /// FILE.1, FILE.2 …
    #[arg(long, value_name = "BYTES", value_parser = parse_max_size)]
    pub max_size: Option<u64>,
    /// How many old files are kept.
    #[arg(long, value_name = "N", default_value_t = 4, requires = "max_size")]
    pub keep: u32,
    /// Tracing.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// `rampage replay`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage replay t.jsonl.zst           findings and summaries, as fast as possible
  rampage replay t.jsonl --speed 1     as it happened
  zstdcat t.jsonl.zst | rampage replay - --json
  rampage replay --explain t.jsonl 3   what finding 3 rests on: sizes, rates, rules")]
pub struct Replay {
    /// The trace file, compressed or not; `-` = standard input; a folder = an incident, or the segments
    /// of a state directory.
    pub file: PathBuf,
    /// Explain this finding only, by its `id`.
    #[arg(requires = "explain")]
    pub id: Option<u64>,
    /// Tell what each finding rests on: sizes over time, rates, shares, and each rule with its value
    /// and its threshold..
    #[arg(long, conflicts_with_all = ["speed", "plain", "comm", "tgid", "cgroup", "php"])]
    pub explain: bool,
    /// `max`, or how many times faster than it happened.
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
    /// What is shown.
    #[command(flatten)]
    pub filters: FilterArgs,
}

/// `rampage php`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage php                          every PHP worker, the largest first
  rampage php 14170                    one worker: request, memory, the PHP stack
  rampage php 14170 --show-query       with the values of the query string, which may be secrets
  rampage php --json | jq 'select(.request) | [.tgid, .request.uri]'
  rampage php 14170 --flame grown.svg  which PHP code it grows in, until Ctrl-C or for 60 s
  rampage php 14170 --flame grown.folded --duration 10s

Reads the workers' memory while they run: nothing is stopped, and PHP need not be changed.
PHP 7.4 to 8.5, built without thread safety (NTS), on x86-64. Needs root, or CAP_SYS_PTRACE.")]
pub struct Php {
    /// A worker; none = all of them.
    #[arg(value_name = "TGID")]
    pub tgid: Option<u32>,
    /// What of requests is shown.
    #[command(flatten)]
    pub disclosure: DisclosureArgs,
    /// One JSON object per worker and line.
    #[arg(long)]
    pub json: bool,
    /// Record which PHP code the worker's memory grows in, and write it: FILE.svg = a flame graph
    /// to look at in a browser, FILE.folded = a line `outermost;…;innermost BYTES` for each stack.
    /// Needs the kernel programs, as `watch` does, to see it as it grows; without, it is seen up to
    /// 15 ms later, and the output says so.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tgid",
        conflicts_with = "json",
        value_parser = OsStringValueParser::new().try_map(parse_flame)
    )]
    pub flame: Option<FlameFile>,
    /// End the recording of --flame after this time; Ctrl-C and the end of the process end it
    /// sooner, and the file is written all the same.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10m",
        requires = "flame",
        value_parser = parse_duration
    )]
    pub duration: Duration,
}

/// The file of `--flame`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlameFile {
    /// Where it is written.
    pub path: PathBuf,
    /// What its name asks for.
    pub format: FlameFormat,
}

/// What a recording of growth is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlameFormat {
    /// A flame graph.
    Svg,
    /// Folded stacks.
    Folded,
}

/// `rampage doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage doctor                       works without privileges; says what it cannot see
  rampage doctor --json | jq .hooks")]
pub struct Doctor {
    /// The same as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Hooks that must not be used, by mechanism, as in `watch`.
    #[arg(long, value_name = "MECHANISM", value_delimiter = ',', hide = true)]
    pub forbid: Vec<String>,
}

/// `rampage man`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage man | man -l -
  rampage man record > rampage-record.1
  rampage man rampage.toml > rampage.toml.5")]
pub struct Man {
    /// The command, or rampage.toml; none = rampage itself.
    pub command: Option<String>,
}

/// `rampage completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `rampage demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rampage demo                         needs root, takes less than 30 s
  rampage demo --json | jq 'select(.type == \"finding\") | .summary'")]
pub struct Demo {
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Plays one of the demo's processes.
    #[arg(long, hide = true, value_enum)]
    pub role: Option<DemoRole>,
}

/// The processes of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoRole {
    /// Holds 100 MiB and waits.
    Bystander,
    /// Grows about 20 MiB/s.
    Leaker,
}

/// Speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as possible.
    Max,
    /// This many times faster than it happened.
    Times(f64),
}

impl FilterArgs {
    /// Fails when the memory cgroup of `--cgroup` is not on this host.
    pub fn check_host(&self) -> Result<(), UsageError> {
        match &self.cgroup {
            Some(path) if !HIERARCHIES.iter().any(|root| below(root, path).is_dir()) => {
                Err(UsageError::NoSuchCgroup { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// As they stand in the header.
    pub fn filters(&self) -> Filters {
        Filters {
            comm: self.comm.clone(),
            tgid: self.tgid.clone(),
            cgroup: self.cgroup.clone(),
            php: self.php,
        }
    }
}

impl TraceArgs {
    /// Fails when this host or the source has not what is asked for.
    pub fn check(&self) -> Result<(), UsageError> {
        if self.usdt && self.source == SourceKind::Procfs {
            return Err(UsageError::UsdtByPolling);
        }
        self.filters.check_host()
    }

    /// Effective settings, as they stand in the header.
    pub fn config(&self) -> Config {
        Config {
            step_bytes: self.step,
            interval_ns: u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX),
            horizon_s: self.horizon.as_secs_f64(),
            filters: self.filters.filters(),
            pools: Vec::new(),
        }
    }
}

//! The command line: every flag of every command. Help and man pages come from here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::event::{Config, Filters};

/// Names the process that runs away with the memory, before and after the OOM killer strikes.
#[derive(Debug, Parser)]
#[command(name = "rampage", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "\
Examples:
  rampage watch                       what grows now, how long is left, who drives it
  rampage record -o /var/tmp/t.jsonl.zst --duration 10m
  rampage replay /var/tmp/t.jsonl.zst
  rampage doctor                      what this host can be traced with
  rampage demo                        a leak and its OOM kill, in a private 256 MiB cgroup

Exit status: 0 done, 1 other error, 2 wrong usage, 3 missing privilege or kernel support,
4 damaged input file (all that was readable was used).")]
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
    /// Show what this host can be traced with, and what is lost.
    Doctor(Doctor),
    /// Show a leak and its OOM kill in a private 256 MiB cgroup; safe on any host.
    Demo(Demo),
    /// Print the manual page (roff) of rampage or of one command.
    #[command(hide = true)]
    Man {
        /// The command; none = rampage itself.
        command: Option<String>,
    },
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
    /// Report a process when its anon + swap moved by this much (e.g. 256K, 4M) [default: the
    /// smaller of 4M and 1/64 of its tightest limit, at least 256K].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub step: Option<u64>,
    /// Time between two looks at cgroups and host, and between two summary lines.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Stop after this time (e.g. 30s, 10m, 2h).
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Warn when a limit will be reached within this time.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub horizon: Duration,
    /// Bytes of the kernel's ring buffer, a power of two of pages.
    #[arg(long, value_name = "BYTES", default_value = "4M", value_parser = parse_bytes, hide = true)]
    pub ring: u64,
    /// Hooks that must not be used, by mechanism (tp_btf, fentry, raw_tracepoint, tracepoint,
    /// kprobe, iterator).
    #[arg(long, value_name = "MECHANISM", value_delimiter = ',', hide = true)]
    pub forbid: Vec<String>,
    /// What is shown.
    #[command(flatten)]
    pub filters: FilterArgs,
}

/// Which processes are shown; everything is traced, so that a culprit outside is still named.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Show processes whose name matches.
    #[arg(long, value_name = "REGEX")]
    pub comm: Option<String>,
    /// Show these processes.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub tgid: Vec<u32>,
    /// Show this memory cgroup and what is below it (path in the hierarchy, or below
    /// /sys/fs/cgroup).
    #[arg(long, value_name = "PATH")]
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
  rampage record -o /var/tmp/t.jsonl.zst --max-size 64M --keep 8   rolling, 512 MiB at most")]
pub struct Record {
    /// The trace file; `.zst` compresses; `-` = standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Start a new file when this one reaches this size; the old ones become FILE.1, FILE.2 …
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
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
  zstdcat t.jsonl.zst | rampage replay - --json")]
pub struct Replay {
    /// The trace file, compressed or not; `-` = standard input.
    pub file: PathBuf,
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

/// `rampage doctor`.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// The same as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `rampage demo`.
#[derive(Clone, Debug, Args)]
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
    /// Effective settings, as they stand in the header.
    pub fn config(&self) -> Config {
        Config {
            step_bytes: self.step,
            interval_ns: u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX),
            horizon_s: self.horizon.as_secs_f64(),
            filters: self.filters.filters(),
        }
    }
}

/// `4M`, `4MiB`, `256K`, `1048576`: powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no size; try 4M or 256K"))?;
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        unit => return Err(format!("unknown unit `{unit}`; use K, M or G (powers of 1024)")),
    };
    match number.checked_shl(shift).filter(|bytes| bytes >> shift == number) {
        Some(0) => Err("must be more than 0".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("`{text}` is too large")),
    }
}

/// `500ms`, `30s`, `10m`, `2h`, or seconds without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 =
        digits.parse().map_err(|_| format!("`{text}` is no time; try 30s, 10m or 2h"))?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        unit => return Err(format!("unknown unit `{unit}`; use ms, s, m or h")),
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) | Err(_) => Err(format!("`{text}` is out of range")),
        Ok(duration) => Ok(duration),
    }
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err(format!("`{text}` is no speed; use max or a number above 0")),
    }
}

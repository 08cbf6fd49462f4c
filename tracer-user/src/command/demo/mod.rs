//! `rampage demo`: a leak and its OOM kill in a private memory cgroup, traced, judged, cleaned up.

mod cgroup;
mod ending;
mod role;
mod story;

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::cgroup::{CgroupError, PrivateCgroup};
use self::role::{BYSTANDER_MIB, LEAK_MIB_PER_S, Player};
use self::story::Story;
use super::watch::colour_wanted;
use crate::cli::{Demo, DemoRole};
use crate::event::{Config, Filters};
use crate::kernel::Unsupported;
use crate::php::Disclosure;
use crate::pipeline::Pipeline;
use crate::run::{self, Control, RunOptions};
use crate::sink::Sink;
use crate::sink::filter::Filter;
use crate::sink::json::Json;
use crate::source::live::{LiveOptions, LiveSource};

/// Limit of the private cgroup, MiB.
const LIMIT_MIB: u64 = 256;
/// What the host must have left for it, MiB.
const HOST_NEEDS_MIB: u64 = 512;
/// The kill comes after about 8 s; longer than this it is not waited for, s.
const KILL_WITHIN_S: u64 = 25;
const RING_BYTES: u64 = 4 << 20;

/// Shows the demo, or plays one of its roles.
pub fn execute(args: &Demo, verbose: u8) -> anyhow::Result<()> {
    match args.role {
        Some(role) => role::play(role),
        None => run::block_on(show(args, verbose)),
    }
}

/// SIGINT and SIGTERM, caught from before there is something to clean up.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What is dropped in this order: first the processes, then the cgroup.
struct Stage {
    leaker: Player,
    _bystander: Player,
    cgroup: PrivateCgroup,
}

async fn show(args: &Demo, verbose: u8) -> anyhow::Result<()> {
    let mut interrupts = Interrupts::catch().context("signals")?;
    let name = format!("rampage-demo-{}", std::process::id());
    host_has_room()?;
    let (control, controls) = mpsc::channel(1);
    let out: Box<dyn Write> =
        if args.output.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    let colour =
        !args.output.json && !args.output.plain && io::stdout().is_terminal() && colour_wanted();
    let cgroup = match PrivateCgroup::make(&name, LIMIT_MIB << 20) {
        Ok(cgroup) => cgroup,
        Err(error) => return Err(unsupported(error).into()),
    };
    let mut story = Story::new(out, colour, cgroup.path(), control);
    story.say(&format!(
        "This makes a private memory cgroup of {LIMIT_MIB} MiB ({}) and starts two processes in \
         it: {}, which holds {BYSTANDER_MIB} MiB and volunteers to be killed (oom_score_adj \
         1000), and {}, which grows by about {LEAK_MIB_PER_S} MiB/s.\nWithin ten seconds the \
         cgroup is full and the kernel kills the bystander, while rampage warns before and says \
         afterwards who really caused it; nothing outside of that cgroup is touched.\n",
        cgroup.path(),
        DemoRole::Bystander.comm(),
        DemoRole::Leaker.comm(),
    ))?;
    let staged = tokio::select! {
        biased;
        () = interrupts.next() => None,
        staged = stage(cgroup) => Some(staged?),
    };
    let Some(mut stage) = staged else {
        story.say("Interrupted; everything is cleaned up.")?;
        return Ok(());
    };

    let reason = trace(args, verbose, &mut stage, &mut story, controls).await?;
    let Stage { leaker, _bystander, cgroup } = stage;
    drop((leaker, _bystander));
    cgroup.remove()?;
    match reason {
        "closed" => return Ok(()),
        "signal" => {
            story.say("Interrupted; everything is cleaned up.")?;
            return Ok(());
        }
        _ => {}
    }
    let ending = ending::explain(story.seen(), KILL_WITHIN_S)?;
    story.say(&format!("\n{ending}"))?;
    Ok(())
}

/// Lets the leaker go, and traces until the verdict or the end of the time; tells why it ended.
async fn trace(
    args: &Demo,
    verbose: u8,
    stage: &mut Stage,
    story: &mut Story<Box<dyn Write>>,
    control: mpsc::Receiver<Control>,
) -> anyhow::Result<&'static str> {
    let cgroup = Some(stage.cgroup.path().to_owned());
    let filters = Filters { cgroup, ..Filters::default() };
    let mut source = LiveSource::open(&LiveOptions {
        config: Config { filters: filters.clone(), ..Config::default() },
        ring_bytes: RING_BYTES,
        forbid: Vec::new(),
        show: Disclosure::default(),
        usdt: false,
        confine: false,
        verbose,
    })?;
    stage.leaker.go()?;
    let mut json = args.output.json.then(|| Filter::new(&filters).map(Json::stdout)).transpose()?;
    let mut sinks: Vec<&mut dyn Sink> = vec![story];
    sinks.extend(json.as_mut().map(|json| json as &mut dyn Sink));
    let duration = Some(Duration::from_secs(KILL_WITHIN_S));
    let options = RunOptions { duration, control: Some(control) };
    run::run(&mut source, &mut Pipeline::new(sinks), options).await
}

/// Both processes in the cgroup; the bystander holds its memory, the leaker waits.
async fn stage(cgroup: PrivateCgroup) -> anyhow::Result<Stage> {
    let mut leaker = Player::start(DemoRole::Leaker)?;
    let mut bystander = Player::start(DemoRole::Bystander)?;
    leaker.says("ready").await?;
    bystander.says("ready").await?;
    cgroup.join(leaker.tgid())?;
    cgroup.join(bystander.tgid())?;
    bystander.go()?;
    bystander.says("holding").await?;
    Ok(Stage { leaker, _bystander: bystander, cgroup })
}

/// What is allocated here is at most the limit of the cgroup, but not on a host that is short.
fn host_has_room() -> anyhow::Result<()> {
    let path = "/proc/meminfo";
    let meminfo = std::fs::read_to_string(path).context(path)?;
    let available_mib = available_mib(&meminfo).with_context(|| format!("{path}: MemAvailable"))?;
    if available_mib < HOST_NEEDS_MIB {
        bail!(
            "the host has {available_mib} MiB available; the demo wants {HOST_NEEDS_MIB} MiB to \
             be safe"
        );
    }
    Ok(())
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}

fn unsupported(error: CgroupError) -> Unsupported {
    Unsupported {
        reason: format!("the demo cannot make its memory cgroup: {error}"),
        remedy: "run it as root on a host (or in a container) whose memory cgroups are writable"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        let meminfo = "MemTotal:       24683520 kB\nMemAvailable:     524287 kB\n";
        assert_eq!(available_mib(meminfo), Some(511));
        assert_eq!(available_mib("MemFree: 1 kB\n"), None);
        assert_eq!(available_mib("MemAvailable: lots\n"), None);
    }
}

//! Events from polling /proc each interval, for hosts where no kernel program may be loaded. What
//! happens between two looks is not seen; the header's hooks say so. [`processes`] follows
//! processes, [`cgroups`] memory cgroups.

mod cgroups;
mod processes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Interval, MissedTickBehavior};

use super::looks::Looks;
use super::{Flow, Source};
use crate::enrich::cgroup::Hierarchy;
use crate::enrich::clock;
use crate::enrich::host::{self, HostReader};
use crate::enrich::process::Identity;
use crate::enrich::worker::Worker;
use crate::event::{Config, Event, Header, Hook, Stamped, Tick};
use crate::php::Disclosure;

use cgroups::Cgroups;
use processes::Processes;

/// Shortest time between two looks.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Looks at every process once each interval.
#[derive(Debug)]
pub struct ProcfsSource {
    header: Option<Box<Header>>,
    interval: Duration,
    ticks: Option<Interval>,
    processes: Processes,
    cgroups: Option<Cgroups>,
    host: HostReader,
    enricher: Worker<Identity>,
    looks: Looks,
}

/// Collects events and gives each the time at which it was seen.
struct Stamper<'a> {
    wall_offset_ns: i64,
    out: &'a mut Vec<Stamped>,
}

impl<'a> Stamper<'a> {
    fn new(out: &'a mut Vec<Stamped>) -> Self {
        Self { wall_offset_ns: clock::wall_offset_ns(), out }
    }

    fn push(&mut self, event: Event) {
        let t_ns = clock::boot_ns();
        let boot_ns = i64::try_from(t_ns).unwrap_or(i64::MAX);
        let wall_ns = boot_ns.saturating_add(self.wall_offset_ns);
        self.out.push(Stamped { t_ns, wall_ns, event });
    }
}

impl ProcfsSource {
    /// Prepares; the first look is made when the first events are asked for. Fails where there is
    /// no /proc, or no thread can be started. Without a memory cgroup hierarchy, cgroups are left
    /// out. `show`: what of PHP requests may be shown.
    pub fn open(config: &Config, show: Disclosure) -> anyhow::Result<Self> {
        let host = HostReader::open().context("cannot open /proc/meminfo; is /proc mounted?")?;
        let hierarchy = Hierarchy::detect().map_err(|error| error.to_string());
        let mut header = host::header(config, "procfs");
        header.hooks = hooks(hierarchy.as_ref().err().map(String::as_str));
        Ok(Self {
            header: Some(Box::new(header)),
            interval: Duration::from_nanos(config.interval_ns).max(MIN_INTERVAL),
            ticks: None,
            processes: Processes::new(clock::boot_ns()),
            cgroups: hierarchy.ok().map(Cgroups::new),
            host,
            enricher: Worker::identities().context("cannot start a thread")?,
            looks: Looks::start(show).context("cannot start a thread")?,
        })
    }

    fn round(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
        let mut events = Stamper::new(out);
        self.processes
            .round(&mut |key| self.enricher.request(key), &mut events)
            .context("cannot list /proc")?;
        if let Some(cgroups) = &mut self.cgroups {
            cgroups.round(self.processes.cgroups(), &mut events);
        }
        let pressure = self.host.pressure().context("cannot read /proc/meminfo")?;
        events.push(Event::Pressure(pressure));
        events.push(Event::Tick(Tick {}));
        Ok(())
    }

    fn collect(&mut self, out: &mut Vec<Stamped>) {
        let mut events = Stamper::new(out);
        while let Some(identity) = self.enricher.try_next() {
            self.processes.learn(identity, &mut events);
        }
    }

    fn looked(&mut self, out: &mut Vec<Stamped>) {
        let mut events = Stamper::new(out);
        while let Some((_, event)) = self.looks.try_next() {
            events.push(event);
        }
        // Nobody samples here: growth is not told by function.
        self.looks.orders().for_each(drop);
    }
}

impl Source for ProcfsSource {
    async fn next(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<Flow> {
        if let Some(header) = self.header.take() {
            Stamper::new(out).push(Event::Header(header));
            return Ok(Flow::More);
        }
        let interval = self.interval;
        let ticks = self.ticks.get_or_insert_with(|| {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        let (known, looked) = (Arc::clone(self.enricher.ready()), Arc::clone(self.looks.ready()));
        tokio::select! {
            biased;
            _ = ticks.tick() => self.round(out)?,
            () = known.notified() => self.collect(out),
            () = looked.notified() => self.looked(out),
            () = self.looks.suspects() => self.looks.look_into_suspects(clock::boot_ns()),
        }
        self.looks.observe(out);
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
        self.collect(out);
        self.looked(out);
        Ok(())
    }
}

/// What polling can and cannot see.
fn hooks(no_cgroups: Option<&str>) -> Vec<Hook> {
    let hook = |name: &str, mechanism: &str, state: &str, reason: &str| Hook {
        name: name.to_owned(),
        mechanism: mechanism.to_owned(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    };
    let cgroup = match no_cgroups {
        None => hook(
            "cgroup",
            "procfs",
            "degraded",
            "limits and usage are read each interval; cgroups that live shorter are missed",
        ),
        Some(why) => hook("cgroup", "none", "missing", why),
    };
    vec![
        hook(
            "oom",
            "none",
            "missing",
            "kills are not seen: no victim, no trigger, no verdict; only the counters of cgroups rise",
        ),
        hook(
            "growth",
            "procfs",
            "degraded",
            "memory is read each interval; peaks between two looks are missed",
        ),
        hook("reclaim", "none", "missing", "stalls in reclaim are not seen"),
        cgroup,
        hook(
            "lifecycle",
            "procfs",
            "degraded",
            "processes that live shorter than an interval are missed; exit codes are not known",
        ),
        hook("signals", "none", "missing", "who sent SIGKILL or SIGTERM is not seen"),
    ]
}

//! Events from the kernel programs: reads the ring buffer, sweeps with the task iterator each
//! interval, looks at the cgroups in use and the host, and asks the worker for what /proc tells.

mod cgroups;
mod ended;
mod kills;
mod losses;
mod requests;
mod translate;
mod unswept;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::looks::Looks;
use super::{Flow, Source};
use crate::enrich::process::Identity;
use crate::enrich::worker::Worker;
use crate::enrich::{clock, host};
use crate::event::{Config, Event, Header, Stamped, Tick};
use crate::kernel::Unsupported;
use crate::kernel::confine;
use crate::kernel::cost::Costs;
use crate::kernel::load::{Kernel, LoadOptions, Sweep};
use crate::kernel::protect::protect;
use crate::kernel::record::Record;
use crate::kernel::switch::Switch;
use crate::php::Disclosure;
use cgroups::Cgroups;
use losses::Losses;
use requests::Requests;
use translate::Translator;

/// The kernel announces growth at most each 20 ms; what came after the last announcement is looked
/// for after this time.
const POLL: Duration = Duration::from_millis(25);

/// The host is looked at this often, so that its forecast does not wait for a tick.
const HOST_INTERVAL_NS: u64 = 250_000_000;

/// Records taken from the ring at a time, so that the pipeline keeps up.
const BATCH: usize = 4096;

/// Batches that hold every record of a ring of 2 MiB: the smallest one takes 80 bytes there.
const ALL_BATCHES: usize = 8;

/// Sources of loss that are always there, whatever is attached.
pub fn loss_sources() -> impl Iterator<Item = &'static str> {
    losses::SOURCES.into_iter().chain(losses::QUEUES)
}

/// Settings of the live source.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Settings of the trace.
    pub config: Config,
    /// Size of the ring buffer, bytes.
    pub ring_bytes: u64,
    /// Mechanisms that must not be used.
    pub forbid: Vec<String>,
    /// What of PHP requests may be shown.
    pub show: Disclosure,
    /// PHP's own request probes are followed.
    pub usdt: bool,
    /// Capabilities that are not needed once everything is attached are given away.
    pub confine: bool,
    /// 0 = quiet, 1 = debug lines of the kernel programs.
    pub verbose: u8,
}

/// What the source waits for, beside the worker's answers.
struct Waiting {
    /// The ring's descriptor, duplicated.
    ready: AsyncFd<OwnedFd>,
    ticks: Interval,
}

/// Events from the kernel programs.
pub struct LiveSource {
    /// What is waited for; made with the first event, inside the runtime.
    waiting: Option<Waiting>,
    interval: Duration,
    kernel: Kernel,
    translator: Translator,
    cgroups: Cgroups,
    losses: Losses,
    enricher: Worker<Identity>,
    looks: Looks,
    requests: Option<Requests>,
    host: Option<host::HostReader>,
    host_at_ns: u64,
    /// When to look for records that were not announced.
    poll: Option<Instant>,
    header: Option<Header>,
    /// Time of the last event that was given; before the first one, of the start.
    last_ns: u64,
    resync: bool,
}

impl LiveSource {
    /// Loads and attaches the kernel programs.
    pub fn open(options: &LiveOptions) -> Result<Self, Unsupported> {
        let opened_ns = clock::boot_ns();
        let mut kernel = Kernel::load(&LoadOptions {
            ring_bytes: options.ring_bytes,
            step_bytes: options.config.step_bytes,
            forbid: options.forbid.clone(),
            verbose: options.verbose,
        })?;
        let mut header = host::header(&options.config, "live");
        header.hooks.clone_from(&kernel.hooks);
        let programs = options.usdt.then(|| kernel.request_programs());
        protect();
        // Before there are threads: each has capabilities of its own.
        if options.confine {
            confine::give_away();
        }
        let mut requests = None;
        if let Some(programs) = programs {
            let (started, hook) = Requests::start(programs);
            requests = started;
            header.hooks.push(hook);
        }
        let no_thread = |error: io::Error| Unsupported {
            reason: format!("cannot start a thread: {error}"),
            remedy: "raise the limit of processes (ulimit -u)".to_owned(),
        };
        let enricher = Worker::identities().map_err(no_thread)?;
        let looks = Looks::start(options.show).map_err(no_thread)?;
        let losses = Losses::new(&kernel);
        let cgroups = Cgroups::detect();
        Ok(Self {
            waiting: None,
            interval: Duration::from_nanos(options.config.interval_ns.max(1_000_000)),
            losses,
            kernel,
            translator: Translator::new(cgroups.counts_memsw()),
            cgroups,
            enricher,
            looks,
            requests,
            host: host::HostReader::open().ok(),
            host_at_ns: 0,
            poll: None,
            header: Some(header),
            last_ns: opened_ns,
            resync: false,
        })
    }

    /// Measures what the kernel programs cost; without a switch only where the kernel counts for good.
    pub fn costs(&self, switch: Option<Switch>) -> io::Result<Costs> {
        Costs::of(&self.kernel, switch)
    }

    /// Takes what is in the ring; true = there was something.
    fn drain(&mut self, out: &mut Vec<Stamped>) -> bool {
        let mut taken = 0;
        while taken < BATCH
            && let Some(bytes) = self.kernel.ring.next()
        {
            taken += 1;
            match Record::decode(&bytes) {
                Ok(Record::PhpStack(record)) => self.looks.name(&record),
                Ok(record) => self.translator.take(&record, &mut self.cgroups, out),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        if taken > 0 {
            self.poll = Some(Instant::now() + if taken == BATCH { Duration::ZERO } else { POLL });
            let now_ns = clock::boot_ns();
            if now_ns.saturating_sub(self.host_at_ns) >= HOST_INTERVAL_NS {
                self.look_at_host(now_ns, out);
            }
        }
        taken > 0
    }

    /// Tells of a group kill that has got no mark for a while; one that may go on is looked at again.
    fn settle_kills(&mut self, out: &mut Vec<Stamped>) {
        self.translator.settle_kills(clock::boot_ns(), out);
        if self.translator.awaits_marks() {
            self.poll = Some(Instant::now() + POLL);
        }
    }

    /// Takes all that is in the ring at the call, and little more: a storm that goes on must not
    /// keep the reader here.
    fn drain_all(&mut self, out: &mut Vec<Stamped>) {
        for _ in 0..ALL_BATCHES {
            if !self.drain(out) {
                break;
            }
        }
    }

    /// Lets the task iterator write what changed, or everything.
    fn sweep(&mut self, which: Sweep, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
        let (translator, cgroups) = (&mut self.translator, &mut self.cgroups);
        translator.begin_sweep();
        self.kernel.sweep(which, |bytes| match Record::decode(bytes) {
            Ok(record) => translator.take(&record, cgroups, out),
            Err(error) => tracing::warn!("{error}"),
        })?;
        // Who ended during the sweep says so in the ring.
        self.drain_all(out);
        let all = which == Sweep::All;
        let now_ns = clock::boot_ns();
        self.translator.read_unswept(all, now_ns, out);
        if all {
            self.translator.end_sweep(now_ns, out);
        }
        Ok(())
    }

    fn look_at_host(&mut self, now_ns: u64, out: &mut Vec<Stamped>) {
        self.host_at_ns = now_ns;
        if let Some(Ok(pressure)) = self.host.as_ref().map(host::HostReader::pressure) {
            out.push(self.translator.stamp(now_ns, Event::Pressure(pressure)));
        }
    }

    /// First answer: the header, every process, the limited cgroups, the host.
    fn begin(&mut self, header: Header, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
        self.translator.set_clock();
        out.push(self.translator.stamp(self.last_ns, Event::Header(Box::new(header))));
        self.cgroups.walk();
        self.sweep(Sweep::All, out)
    }

    /// Each interval: what moved by less than a step, losses, cgroups in use, the host.
    fn tick(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
        self.translator.set_clock();
        self.drain_all(out);
        let all = std::mem::take(&mut self.resync) || !self.kernel.can_sweep();
        let which = if all { Sweep::All } else { Sweep::Changed };
        self.sweep(which, out)?;
        let now_ns = clock::boot_ns();
        self.translator.settle_kills(now_ns, out);
        let [unnamed, unsampled] = self.looks.losses();
        let queues = [self.enricher.dropped(), unnamed, unsampled];
        for lost in self.losses.since_last(&self.kernel, queues)? {
            // After a loss the model may hold processes that are gone, and miss others.
            self.resync |= lost.source.starts_with("ring:") || lost.source.starts_with("missed:");
            out.push(self.translator.stamp(now_ns, Event::Lost(lost)));
        }
        for event in self.cgroups.look() {
            out.push(self.translator.stamp(now_ns, event));
        }
        self.look_at_host(now_ns, out);
        let last_ns = out.iter().map(|at| at.t_ns).max().unwrap_or(0).max(clock::boot_ns());
        out.push(self.translator.stamp(last_ns, Event::Tick(Tick {})));
        self.translator.ask_at_tick();
        if let Some(logger) = &mut self.kernel.logger {
            logger.flush();
        }
        Ok(())
    }

    fn looked(&mut self, out: &mut Vec<Stamped>) {
        self.drain_all(out);
        while let Some((t_ns, event)) = self.looks.try_next() {
            out.push(self.translator.stamp(t_ns.unwrap_or_else(clock::boot_ns), event));
        }
        for order in self.looks.orders() {
            if let Err(error) = self.kernel.sample(order) {
                tracing::debug!("{order:?}: {error}");
            }
        }
    }

    /// What leaves the source: in order, and looked through for PHP processes to look into and to
    /// follow.
    fn hand_over(&mut self, out: &mut [Stamped]) {
        self.put_in_order(out);
        self.looks.observe(out);
        if let Some(requests) = &mut self.requests {
            requests.observe(out);
        }
    }

    /// Puts a batch in the order of time. CPUs fill the ring side by side, and looks at /proc are
    /// dated when they are made: an event that comes after a later one was given takes its time.
    fn put_in_order(&mut self, out: &mut [Stamped]) {
        out.sort_by_key(|at| at.t_ns);
        for at in out {
            let late_ns = self.last_ns.saturating_sub(at.t_ns);
            at.t_ns += late_ns;
            at.wall_ns = at.wall_ns.saturating_add_unsigned(late_ns);
            self.last_ns = at.t_ns;
        }
    }

    fn ask(&mut self) {
        while let Some(key) = self.translator.next_wanted() {
            if !self.enricher.request(key) {
                self.translator.want_again(key);
                break;
            }
        }
    }

    fn answers(&mut self, out: &mut Vec<Stamped>) {
        // What happened before the answers comes before them.
        self.drain_all(out);
        while let Some(identity) = self.enricher.try_next() {
            self.translator.learn(&identity, clock::boot_ns(), out);
        }
    }
}

impl Source for LiveSource {
    async fn next(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<Flow> {
        if let Some(header) = self.header.take() {
            let mut ticks = interval(self.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            self.waiting = Some(Waiting { ready: self.kernel.wait_for_records()?, ticks });
            self.begin(header, out)?;
            self.ask();
            self.hand_over(out);
            return Ok(Flow::More);
        }
        while out.is_empty() {
            let Some(waiting) = &mut self.waiting else { return Ok(Flow::Ended("never begun")) };
            let poll = self.poll;
            tokio::select! {
                ready = waiting.ready.readable() => {
                    ready?.clear_ready();
                    self.drain(out);
                }
                _ = waiting.ticks.tick() => self.tick(out)?,
                () = self.enricher.ready().notified() => self.answers(out),
                () = self.looks.ready().notified() => self.looked(out),
                () = self.looks.suspects() => {
                    // Samples of their growth are not announced.
                    self.drain(out);
                    self.looks.look_into_suspects(clock::boot_ns());
                }
                () = sleep_until(poll.unwrap_or_else(Instant::now)), if poll.is_some() => {
                    self.poll = None;
                    if !self.drain(out) {
                        self.settle_kills(out);
                    }
                }
            }
            self.ask();
        }
        self.hand_over(out);
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
        self.answers(out);
        self.looked(out);
        self.put_in_order(out);
        // What ended since the answers were given comes after them.
        let mut last = Vec::new();
        self.tick(&mut last)?;
        // A group kill that may still go on is told as far as it came.
        self.translator.settle_kills(u64::MAX, &mut last);
        self.put_in_order(&mut last);
        out.append(&mut last);
        Ok(())
    }
}

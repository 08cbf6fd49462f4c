//! A flight recorder under load, without a kernel side: events that can be told from each other, at the
//! time at which they are made, and what is found of them afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rampage::cli::Speed;
use rampage::event::{
    Config, End, Event, Growth, Header, Lost, Process, ProcessCause, SCHEMA, Stall, StallKind,
    Stamped, Tick,
};
use rampage::model::Model;
use rampage::run::block_on;
use rampage::settings;
use rampage::sink::Sink;
use rampage::sink::recorder::{Recorder, RecorderHandle};
use rampage::source::replay::{Break, ReplaySource};
use rampage::source::{Flow, Source};
use rampage::trace::segment;

use crate::clock;

/// A recorder that is fed.
pub struct Load {
    /// Totals and settings.
    pub handle: RecorderHandle,
    /// Stalls so far: the next one has this number.
    pub fed: u64,
    /// Ticks so far.
    pub ticks: u64,
    recorder: Recorder,
    model: Model,
    noise: u64,
}

impl Load {
    /// A recorder with its header, and some processes that are known.
    pub fn start(settings: &settings::Recorder) -> Result<Self> {
        let recorder = Recorder::open(settings)?;
        let handle = recorder.handle();
        let model = Model::new(&Config::default());
        let mut load = Self { handle, fed: 0, ticks: 0, recorder, model, noise: 1 };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        load.feed(Event::Header(Box::new(Header {
            schema: SCHEMA.to_owned(),
            boot_id: boot_id.trim().to_owned(),
            source: "live".to_owned(),
            ..Header::default()
        })))?;
        for tgid in 1..50 {
            load.feed(Event::Process(Process {
                tgid,
                start_ns: 10_000_000,
                ppid: 1,
                comm: "php-fpm8.2".into(),
                cmdline: Some("php-fpm: pool www".into()),
                exe: None,
                uid: 33,
                cgroup: Some("/web".into()),
                php: None,
                cause: ProcessCause::Found,
            }))?;
        }
        Ok(load)
    }

    /// Takes one event to the recorder, at this time.
    pub fn feed(&mut self, event: Event) -> Result<()> {
        let at = stamped(event)?;
        self.model.apply(&at);
        Ok(self.recorder.event(&self.model, &at)?)
    }

    /// The next stall, and growth that packs badly.
    pub fn step(&mut self) -> Result<()> {
        let [stall, growth] = self.events();
        self.feed(stall)?;
        self.feed(growth)
    }

    /// Makes the same events and takes them to a model only: what a step costs without the recorder.
    pub fn make(&mut self, model: &mut Model) -> Result<()> {
        for event in self.events() {
            model.apply(&stamped(event)?);
        }
        Ok(())
    }

    fn events(&mut self) -> [Event; 2] {
        let stall = Stall {
            tgid: 1,
            start_ns: 0,
            cgroup: None,
            kind: StallKind::Memcg,
            duration_ns: self.fed,
        };
        self.fed += 1;
        let mut next = || {
            self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.noise >> 20
        };
        let growth = Growth {
            tgid: 1 + next() as u32 % 49,
            start_ns: 10_000_000,
            anon_bytes: next(),
            file_bytes: next(),
            minor_faults: next(),
            stall_ns: next(),
            ..Growth::default()
        };
        [Event::Stall(stall), Event::Growth(growth)]
    }

    /// A tick as the pipeline does it: losses are told behind it.
    pub fn tick(&mut self) -> Result<()> {
        self.ticks += 1;
        self.feed(Event::Tick(Tick {}))?;
        match self.recorder.take_lost() {
            Some(lost) => self.feed(Event::Lost(lost)),
            None => Ok(()),
        }
    }

    /// Steps and ticks until something holds; fails after `timeout`. As many steps before each tick.
    pub fn until(
        &mut self,
        what: &str,
        steps: u64,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        clock::wait_for(what, Duration::from_secs(30), || {
            for _ in 0..steps {
                self.step()?;
            }
            self.tick()?;
            Ok(holds(self).then_some(()))
        })
    }

    /// Ends it in order; gives the number of all ticks, the last one among them.
    pub fn finish(mut self) -> Result<u64> {
        self.tick()?;
        self.feed(Event::End(End { reason: "signal".to_owned(), events: 0, lost: 0 }))?;
        self.recorder.finish()?;
        Ok(self.ticks)
    }
}

/// What is read of a recording.
#[derive(Debug, Default)]
pub struct Found {
    /// Time of its last event, CLOCK_BOOTTIME ns; 0 = there is none.
    pub last_ns: u64,
    /// Numbers of stalls, in order.
    pub stalls: Vec<u64>,
    /// Times of ticks, ns.
    pub ticks_ns: Vec<u64>,
    /// Told as lost, by source.
    pub lost: BTreeMap<String, u64>,
    /// Where it is interrupted.
    pub breaks: Vec<Break>,
    /// It came to its own end.
    pub is_complete: bool,
    /// What is damaged.
    pub damage: Option<String>,
}

impl Found {
    /// Reads a file, or a folder of segments.
    pub fn read(path: &Path) -> Result<Self> {
        let mut source = ReplaySource::open(path, Speed::Max)?;
        let mut found = Self::default();
        let read = async {
            let mut events = Vec::new();
            loop {
                let flow = source.next(&mut events).await?;
                for at in events.drain(..) {
                    found.take(&at);
                }
                if flow != Flow::More {
                    return Ok(());
                }
            }
        };
        block_on(read)?;
        let damage = source.damaged_file();
        found.damage = damage.map(|(path, damage)| format!("{}: {damage}", path.display()));
        found.breaks = source.breaks().to_vec();
        found.is_complete = source.is_complete();
        Ok(found)
    }

    fn take(&mut self, at: &Stamped) {
        self.last_ns = self.last_ns.max(at.t_ns);
        match &at.event {
            Event::Stall(stall) => self.stalls.push(stall.duration_ns),
            Event::Tick(_) => self.ticks_ns.push(at.t_ns),
            Event::Lost(Lost { source, records }) => {
                *self.lost.entry(source.to_string()).or_default() += records;
            }
            _ => {}
        }
    }

    /// Fails unless all that was fed is here, or told as lost and nothing else is, and nothing is here twice.
    pub fn check(&self, fed: u64, ticks: u64, lost: u64) -> Result<()> {
        ensure!(self.damage.is_none(), "damaged: {:?}", self.damage);
        ensure!(self.stalls.is_sorted_by(|one, next| one < next), "stalls out of order");
        let told = self.lost.get("recorder").copied().unwrap_or(0);
        ensure!(told == lost, "{told} told as lost, {lost} counted");
        let missing = |of: &str, fed: u64, here: usize| {
            let missing = fed.checked_sub(here as u64);
            missing.with_context(|| format!("{here} {of}, {fed} were fed"))
        };
        let stalls = missing("stalls", fed, self.stalls.len())?;
        let ticks = missing("ticks", ticks, self.ticks_ns.len())?;
        // Each stall has a growth beside it. What is lost together may begin or end between the two, and lack
        // a line about what was lost before.
        let (least, slack) = (2 * stalls + ticks, 3 * self.breaks.len() as u64);
        ensure!(
            (least.saturating_sub(slack)..=least + slack).contains(&lost),
            "{stalls} stalls and {ticks} ticks are missing, {lost} events lost, {slack} either way"
        );
        Ok(())
    }
}

fn stamped(event: Event) -> Result<Stamped> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Stamped { t_ns: clock::boot_ns(), wall_ns: i64::try_from(since.as_nanos())?, event })
}

/// The segments of a state directory, in order.
pub fn segments(state: &Path) -> Result<Vec<(u64, PathBuf)>> {
    segment::list(&state.join("segments")).context("segments")
}

//! The stage of a scenario: its cgroups, its folders, its actors, and what steps do to them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rampage::event::ProcessKey;

use super::actor::{Actor, Line};
use super::spec::{CgroupSpec, Scenario, Start};
use crate::cgroup::MemoryCgroup;
use crate::{binary, hog, proc};

/// Cgroups by name, taken down from the innermost.
#[derive(Debug)]
pub struct Cgroups(Vec<(String, MemoryCgroup)>);

impl Cgroups {
    fn get(&self, name: &str) -> Option<&MemoryCgroup> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, cgroup)| cgroup)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for (_, cgroup) in &self.0 {
            // Tasks that hang at a limit without OOM killer go on.
            cgroup.set_limit(u64::MAX).ok();
        }
        while self.0.pop().is_some() {}
    }
}

/// All that a scenario needs; fields are dropped in this order.
#[derive(Debug)]
pub struct Stage {
    actors: BTreeMap<String, Actor>,
    lines: Vec<Line>,
    cgroups: Cgroups,
    /// First processes in the order of their start.
    pub leaders: Vec<(String, ProcessKey)>,
    /// Workers that a request named.
    pub workers: Vec<(String, ProcessKey)>,
    disk: tempfile::TempDir,
    shm: tempfile::TempDir,
}

impl Stage {
    /// Makes cgroups and folders.
    pub fn new(scenario: &Scenario) -> Result<Self> {
        let mut cgroups = Cgroups(Vec::new());
        for spec in &scenario.cgroup {
            let cgroup =
                make(spec, &cgroups).with_context(|| format!("making the cgroup {}", spec.name))?;
            cgroups.0.push((spec.name.clone(), cgroup));
        }
        let folder =
            |place: &str| tempfile::Builder::new().prefix("rampage-scene-").tempdir_in(place);
        let disk = folder("/var/tmp").or_else(|_| folder("/tmp")).context("a folder on a disk")?;
        let shm = folder("/dev/shm").or_else(|_| folder("/tmp")).context("a folder in a tmpfs")?;
        Ok(Self {
            actors: BTreeMap::new(),
            lines: Vec::new(),
            cgroups,
            leaders: Vec::new(),
            workers: Vec::new(),
            disk,
            shm,
        })
    }

    /// Starts all actors that begin at `start`.
    pub fn start_all(&mut self, scenario: &Scenario, start: Start) -> Result<()> {
        for actor in scenario.actor.iter().filter(|actor| actor.start == start) {
            self.start(scenario, &actor.name)?;
        }
        Ok(())
    }

    /// Starts an actor.
    pub fn start(&mut self, scenario: &Scenario, name: &str) -> Result<()> {
        let spec = scenario.actor.iter().find(|actor| actor.name == name);
        let spec = spec.with_context(|| format!("nobody is called {name}"))?;
        let environment = self.environment();
        let actor = Actor::start(&spec.is, self.cgroup(&spec.cgroup)?, &environment)
            .with_context(|| format!("starting {name}"))?;
        self.leaders.push((name.to_owned(), key(actor.tgid())?));
        self.actors.insert(name.to_owned(), actor);
        Ok(())
    }

    /// Starts an actor under the tgid of one that has ended.
    pub fn reuse(&mut self, scenario: &Scenario, name: &str, of: &str) -> Result<()> {
        const TRIES: usize = 200;
        let ended = self.actor(of)?;
        ended.reap()?;
        let wanted = ended.tgid();
        for _ in 0..TRIES {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string())
                .context("ns_last_pid")?;
            self.start(scenario, name)?;
            if self.actor(name)?.tgid() == wanted {
                return Ok(());
            }
            self.actors.remove(name);
            self.leaders.pop();
        }
        anyhow::bail!("{name} did not get the tgid {wanted} in {TRIES} tries")
    }

    /// An actor.
    pub fn actor(&mut self, name: &str) -> Result<&mut Actor> {
        self.actors.get_mut(name).with_context(|| format!("{name} does not run"))
    }

    /// A cgroup.
    pub fn cgroup(&self, name: &str) -> Result<&MemoryCgroup> {
        self.cgroups.get(name).with_context(|| format!("no cgroup {name}"))
    }

    /// All cgroups.
    pub fn cgroups(&self) -> impl Iterator<Item = (&str, &MemoryCgroup)> {
        self.cgroups.0.iter().map(|(name, cgroup)| (&**name, cgroup))
    }

    /// Process id of an actor's first process or of a request's worker.
    pub fn tgid(&self, name: &str) -> Result<u32> {
        let mut named = self.leaders.iter().chain(&self.workers).rev();
        let found = named.find(|(known, _)| known == name);
        found.map(|(_, key)| key.tgid).with_context(|| format!("{name} is not known"))
    }

    /// Runs a line for `sh` outside the cgroups.
    pub fn run(&mut self, text: &str) -> Result<()> {
        self.lines.push(Line::start(text, None, &self.environment())?);
        Ok(())
    }

    /// A process called `comm` sends a signal.
    pub fn signal(&mut self, signal: i32, to: &str, comm: &str) -> Result<()> {
        let link = self.disk.path().join(comm);
        let program = match link.exists() {
            true => link.display().to_string(),
            false => hog::link(self.disk.path(), comm)?,
        };
        let tgid = self.tgid(to)?;
        // It lives a little longer, so that who it was can be looked up.
        self.run(&format!("exec {program} sleep:200 kill:{signal}:{tgid} sleep:300"))
    }

    /// Remembers the worker that answers a request.
    pub fn call(&mut self, name: &str, tgid: u32) -> Result<()> {
        self.workers.push((name.to_owned(), key(tgid)?));
        Ok(())
    }

    fn environment(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        let mut all = vec![
            ("DIR".to_owned(), text(self.disk.path().to_owned())),
            ("SHM".to_owned(), text(self.shm.path().to_owned())),
            ("HOG".to_owned(), binary::hog().map(text).unwrap_or_default()),
        ];
        for (name, actor) in &self.actors {
            all.extend(actor.socket().map(|path| (format!("SOCKET_{name}"), text(path))));
        }
        let named = self.leaders.iter().chain(&self.workers);
        all.extend(named.map(|(name, key)| (format!("PID_{name}"), key.tgid.to_string())));
        all
    }
}

fn make(spec: &CgroupSpec, made: &Cgroups) -> Result<MemoryCgroup> {
    let bytes = spec.limit_mib.map(|mib| mib << 20);
    let cgroup = match &spec.parent {
        Some(parent) => {
            let parent = made.get(parent).context("parents come first")?;
            let cgroup = parent.child(&spec.name)?;
            if let Some(bytes) = bytes {
                cgroup.set_limit(bytes)?;
            }
            cgroup
        }
        None => MemoryCgroup::new(&spec.name, bytes.unwrap_or(u64::MAX))?,
    };
    if let Some(mib) = spec.high_mib {
        cgroup.set_high(mib << 20)?;
    }
    if let Some(mib) = spec.swap_mib {
        cgroup.set_swap_limit(mib << 20)?;
    }
    if spec.oom_group {
        cgroup.set_oom_group()?;
    }
    if spec.oom_disabled {
        cgroup.set_oom_disabled()?;
    }
    Ok(cgroup)
}

fn key(tgid: u32) -> Result<ProcessKey> {
    let (start_ns, _) = proc::start(tgid).with_context(|| format!("process {tgid} is gone"))?;
    ensure!(start_ns > 0, "process {tgid} has no start");
    Ok(ProcessKey { tgid, start_ns })
}

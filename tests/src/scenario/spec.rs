//! A scenario as its TOML file has it: actors, cgroups, a timeline. The truth is in [`super::truth`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::truth::Truth;
use crate::features::Feature;

/// Rules are tuned on the first half only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// For tuning the rules of the detectors.
    Rules,
    /// For scoring them.
    Score,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of its file.
    #[serde(skip)]
    pub name: String,
    /// One sentence.
    pub about: String,
    /// Which half it belongs to.
    pub half: Half,
    /// Features of the machine, by [`Feature::name`].
    #[serde(default)]
    pub needs: Vec<Feature>,
    /// Length of the timeline, s.
    pub seconds: f64,
    /// When the recorder is started, s; None = before everything but early actors.
    pub tracer_at: Option<f64>,
    /// Memory cgroups, parents first.
    pub cgroup: Vec<CgroupSpec>,
    /// Processes.
    pub actor: Vec<ActorSpec>,
    /// What happens.
    #[serde(default)]
    pub step: Vec<Step>,
    /// What should be said of it.
    pub truth: Truth,
}

/// A memory cgroup.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupSpec {
    /// Name in this scenario.
    pub name: String,
    /// The one that it is in.
    pub parent: Option<String>,
    /// Limit of memory.
    pub limit_mib: Option<u64>,
    /// memory.high (v2).
    pub high_mib: Option<u64>,
    /// memory.swap.max (v2).
    pub swap_mib: Option<u64>,
    /// memory.oom.group (v2).
    #[serde(default)]
    pub oom_group: bool,
    /// Tasks hang at the limit (v1).
    #[serde(default)]
    pub oom_disabled: bool,
}

/// When an actor is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Before the recorder.
    Early,
    /// When the recorder is ready, before the timeline begins.
    #[default]
    Ready,
    /// By a step.
    Step,
}

/// Some process, with all that it forks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActorSpec {
    /// Name in this scenario.
    pub name: String,
    /// Where it runs.
    pub cgroup: String,
    /// When it is started.
    #[serde(default)]
    pub start: Start,
    /// What it is.
    pub is: Program,
}

/// Real programs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Words of `src/bin/hog`.
    Hog(String),
    /// A line for `sh`; `$DIR` is a folder on a disk, `$SHM` one in a tmpfs.
    Shell(String),
    /// php-fpm with a pool `www`.
    Fpm(FpmSpec),
    /// mariadbd with a database of its own.
    Mariadb {
        /// innodb_buffer_pool_size.
        buffer_pool_mib: u64,
    },
    /// redis-server.
    Redis {},
}

/// A php-fpm.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FpmSpec {
    /// Workers; with `dynamic` at most so many.
    pub workers: u32,
    /// pm = dynamic.
    #[serde(default)]
    pub dynamic: bool,
    /// PHP's memory_limit; None = out of reach.
    pub memory_limit_mib: Option<u32>,
    /// request_terminate_timeout, s; 0 = none.
    #[serde(default)]
    pub terminate_after_s: u32,
}

/// Something that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, s on the timeline.
    pub at: f64,
    /// A name for its moment.
    pub name: Option<String>,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Starts an actor.
    Start(String),
    /// Starts an actor under the tgid that an ended one had.
    Reuse {
        /// Who is started.
        actor: String,
        /// Whose tgid it gets.
        of: String,
    },
    /// Ends the `wait` of a hog.
    Go(String),
    /// A line for `sh`, outside the cgroups: `$PID_NAME` and `$SOCKET_NAME` are those of actors,
    /// and `$PID_NAME` that of a request's worker.
    Run(String),
    /// One request to a php-fpm; its worker is known by a name from now on.
    Request {
        /// Which php-fpm.
        to: String,
        /// `grow.php`.
        script: String,
        /// `rate=20`.
        #[serde(default)]
        query: String,
        /// Name of the worker.
        worker: String,
    },
    /// Clients that ask one script again and again.
    Load {
        /// Which php-fpm.
        to: String,
        /// Which script.
        script: String,
        /// Its query.
        #[serde(default)]
        query: String,
        /// Clients.
        clients: u32,
        /// How long, s.
        seconds: f64,
    },
    /// A process called `comm` sends a signal.
    Signal {
        /// 9 or 15.
        signal: i32,
        /// Whom.
        to: String,
        /// Name of the sender.
        comm: String,
    },
    /// Sets the limit of a cgroup.
    Limit {
        /// Which.
        cgroup: String,
        /// MiB; 0 = none.
        mib: u64,
    },
}

impl Scenario {
    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(&name, &text).with_context(|| path.display().to_string())
    }

    /// Reads and checks the text of one.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let scenario = Self { name: name.to_owned(), ..toml::from_str(text)? };
        scenario.check()?;
        Ok(scenario)
    }

    /// Features that it needs and this machine lacks.
    pub fn lacks(&self) -> Vec<&'static str> {
        let missing = self.needs.iter().filter(|feature| !feature.is_here());
        missing.map(|feature| feature.name()).collect()
    }

    fn check(&self) -> Result<()> {
        let cgroup = |name: &str| self.cgroup.iter().any(|cgroup| cgroup.name == name);
        for actor in &self.actor {
            ensure!(cgroup(&actor.cgroup), "{}: no cgroup {}", actor.name, actor.cgroup);
        }
        ensure!(cgroup(&self.truth.limit), "no cgroup {}", self.truth.limit);
        let mut names: Vec<&str> = self.actor.iter().map(|actor| &*actor.name).collect();
        for step in &self.step {
            ensure!(step.at <= self.seconds, "a step at {} s of {} s", step.at, self.seconds);
            if let Action::Request { worker, .. } = &step.action {
                names.push(worker);
            }
        }
        for name in self.truth.names() {
            let actor = name.split('.').next().unwrap_or_default();
            ensure!(names.contains(&actor), "nobody is called {name}");
        }
        Ok(())
    }
}

/// All scenarios of a folder, by name.
pub fn all(folder: &Path) -> Result<Vec<Scenario>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|name| name == "toml"));
    paths.sort();
    paths.iter().map(|path| Scenario::read(path)).collect()
}

/// Where the scenarios are: `$RAMPAGE_SCENARIOS`, or `scenarios` beside the tests.
pub fn folder() -> PathBuf {
    std::env::var_os("RAMPAGE_SCENARIOS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")),
        PathBuf::from,
    )
}

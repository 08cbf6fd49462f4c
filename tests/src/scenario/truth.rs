//! What is true of a scenario, and so should be said of it.

use serde::Deserialize;

/// The truth. Names are those of actors and of workers that a request named; `NAME.leader` is the
/// process that was started, `NAME.child` any that it forked, `NAME` all of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Whose growth does the harm; empty = nobody's.
    #[serde(default)]
    pub culprit: Vec<String>,
    /// The culprit is a pool: no single worker of it is to be blamed.
    #[serde(default)]
    pub pool: bool,
    /// Whether the culprit is to be named before the harm. False where it cannot be: growth of less
    /// than a second, or one that was over before the tracer came.
    #[serde(default = "yes")]
    pub named: bool,
    /// When the harmful growth begins: s on the timeline, or the name of a step.
    pub onset: Option<Moment>,
    /// Cgroup whose limit is meant.
    pub limit: String,
    /// Whom a verdict may blame, `none` among them; None = the culprit, or `none` without one.
    pub verdict: Option<Vec<String>>,
    /// Who is killed, and by whom.
    #[serde(default)]
    pub kills: Vec<Kill>,
    /// Kinds of finding that must be raised.
    #[serde(default)]
    pub must: Vec<String>,
    /// Kinds that must not be raised, beside the default: alarms that blame somebody else.
    #[serde(default)]
    pub must_not: Vec<String>,
}

/// A moment of the timeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    /// Seconds.
    Seconds(f64),
    /// That of a step.
    Step(String),
}

/// Somebody is killed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Who.
    pub who: String,
    /// `oom_killer`, `fpm_timeout`, `systemd`, `shell` … as the evidence of `killed` has it.
    pub by: String,
    /// At least so many processes of that name.
    #[serde(default = "one")]
    pub count: usize,
}

/// What a verdict without a culprit is called.
pub const NONE: &str = "none";

impl Truth {
    /// Nothing harmful happens.
    pub fn is_quiet(&self) -> bool {
        self.culprit.is_empty() && self.kills.is_empty() && self.must.is_empty()
    }

    /// Whom a verdict may blame.
    pub fn blamed(&self) -> Vec<&str> {
        match &self.verdict {
            Some(names) => names.iter().map(String::as_str).collect(),
            None if self.culprit.is_empty() || self.pool => vec![NONE],
            None => self.culprit.iter().map(String::as_str).collect(),
        }
    }

    /// Every name of a process in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let killed = self.kills.iter().map(|kill| &*kill.who);
        let blamed = self.verdict.iter().flatten().map(String::as_str);
        let culprits = self.culprit.iter().map(String::as_str);
        culprits.chain(killed).chain(blamed).filter(|name| *name != NONE)
    }
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

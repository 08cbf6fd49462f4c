//! What a finding rests on, beyond its evidence: the rules of its detector with their values, and the
//! numbers between. Asked for when a finding is to be explained, with the model as it was when the
//! finding was told; the rules are those that the detector itself decides by.

use super::rule::{Rule, Unit};
use super::{cascade, killed, leak, oom_verdict, pool, pressure, runaway};
use crate::event::{Culprit, Evidence, Finding};
use crate::model::Model;

/// Rules and numbers of one finding.
#[derive(Debug, Default)]
pub struct Account {
    /// Numbers on the way to it, in the order of the calculation.
    pub numbers: Vec<Number>,
    /// Who grew in each window: heading, and the largest first.
    pub rankings: Vec<(&'static str, Vec<Culprit>)>,
    /// What had to hold.
    pub rules: Vec<Rule>,
    /// Rules that did not have to hold: they decide about severity, or about which of several things
    /// it is.
    pub choices: Vec<Rule>,
    /// What follows.
    pub therefore: Option<String>,
}

/// A number that has a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// What it is.
    pub what: &'static str,
    /// Not finite = not known.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
}

impl Number {
    pub(super) fn bytes(what: &'static str, bytes: u64) -> Self {
        Self { what, value: bytes as f64, unit: Unit::Bytes }
    }

    pub(super) fn rate(what: &'static str, bytes_per_s: f64) -> Self {
        Self { what, value: bytes_per_s, unit: Unit::BytesPerSecond }
    }

    pub(super) fn seconds(what: &'static str, seconds: f64) -> Self {
        Self { what, value: seconds, unit: Unit::Seconds }
    }

    pub(super) fn count(what: &'static str, count: f64) -> Self {
        Self { what, value: count, unit: Unit::Count }
    }
}

/// The account of a finding that was told just now, at `t_ns`: that of an OOM kill may be earlier
/// than the model's time.
pub fn of(model: &Model, t_ns: u64, finding: &Finding) -> Account {
    match &finding.evidence {
        Evidence::Runaway(evidence) => runaway::account(model, finding, evidence),
        Evidence::OomVerdict(verdict) => oom_verdict::account(model, t_ns, verdict),
        Evidence::Pool(evidence) => pool::account(model, evidence),
        Evidence::Pressure(evidence) => pressure::account(model, evidence),
        Evidence::Cascade(series) => cascade::account(series),
        Evidence::Leak(evidence) => leak::account(model, finding, evidence),
        Evidence::Killed(killed) => killed::account(killed),
    }
}

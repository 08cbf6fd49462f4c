//! The score of a run: what was said, held against the truth.

use std::collections::HashMap;

use rampage::event::ProcessKey;
use serde::Serialize;

use super::facts::Facts;
use super::said::Said;
use super::truth::{NONE, Truth};

/// Where less time lies between onset and harm, nobody need be named before it, ns.
const TOO_SHORT_NS: u64 = 1_000_000_000;
/// A finding whose kind means this one.
const OOM_KILLER: &str = "oom_killer";

/// What is right and wrong of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Score {
    /// The culprit was named before the harm; None = there is none, or it need not be.
    pub named: Option<bool>,
    /// Time from the first right alarm to the harm, s.
    pub lead_s: Option<f64>,
    /// The same as a share of the time from onset to harm.
    pub lead_share: Option<f64>,
    /// Time from onset to harm, s.
    pub possible_s: Option<f64>,
    /// Alarms that blame somebody else, or anybody where nothing happens.
    pub false_alarms: Vec<String>,
    /// Findings that were raised more than once.
    pub repeated: Vec<String>,
    /// Every kill has a verdict that blames the right one; None = no kill.
    pub verdict: Option<bool>,
    /// Who killed was said, and rightly; None = nobody was killed.
    pub killer: Option<bool>,
    /// Why it fails; empty = ok.
    pub failures: Vec<String>,
    /// The run did not go as the truth has it: it says nothing of rampage.
    pub broken: Option<String>,
}

impl Score {
    /// Nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty() && self.broken.is_none()
    }
}

/// Judges what was said.
pub fn score(truth: &Truth, facts: &Facts, said: &[Said]) -> Score {
    let judge = Judge { truth, facts };
    let said: Vec<&Said> = said.iter().filter(|said| judge.concerns(said)).collect();
    let mut score = Score { broken: judge.broken(), ..Score::default() };
    judge.naming(&said, &mut score);
    judge.alarms(&said, &mut score);
    judge.verdicts(&said, &mut score);
    judge.killers(&said, &mut score);
    for kind in &truth.must {
        if !said.iter().any(|said| said.kind() == kind && said.is_raised() && judge.fits(said)) {
            score.failures.push(format!("no {kind} was raised"));
        }
    }
    score
}

struct Judge<'a> {
    truth: &'a Truth,
    facts: &'a Facts,
}

impl Judge<'_> {
    /// It is about the scenario's cgroups or actors.
    fn concerns(&self, said: &Said) -> bool {
        let of_cast = |key: ProcessKey| self.facts.cast.contains(&key);
        said.subject().is_some_and(of_cast)
            || said.victims().into_iter().any(of_cast)
            || said.cgroups().into_iter().any(|path| self.facts.is_ours(path))
    }

    fn is_culprit(&self, key: &ProcessKey) -> bool {
        self.facts.cast.is_one_of(self.truth.culprit.iter().map(String::as_str), key)
    }

    /// It names the culprit.
    fn is_right(&self, said: &Said) -> bool {
        let is_culprit = |key: Option<ProcessKey>| key.is_some_and(|key| self.is_culprit(&key));
        match said.kind() {
            // About one process: none of a pool that is to blame as a whole.
            "runaway" | "memory_limit" => !self.truth.pool && is_culprit(said.subject()),
            "pool" | "pool_too_large" | "leak" if self.truth.pool => is_culprit(said.subject()),
            "pool" => is_culprit(said.largest_worker()) || is_culprit(said.subject()),
            "leak" => is_culprit(said.subject()),
            _ => false,
        }
    }

    /// A finding that must be there is about the culprit, where it names somebody.
    fn fits(&self, said: &Said) -> bool {
        self.truth.culprit.is_empty() || !said.names_somebody() || self.is_right(said)
    }

    fn who(&self, said: &Said) -> String {
        match said.subject() {
            Some(key) => self.facts.cast.name(&key),
            None => "nobody".to_owned(),
        }
    }

    /// Why the run says nothing: who should die lives, or the other way round.
    fn broken(&self) -> Option<String> {
        let killed: Vec<ProcessKey> = self.facts.killed.iter().map(|killed| killed.key).collect();
        for kill in &self.truth.kills {
            let who = self.facts.cast.who(&kill.who);
            let count = killed.iter().filter(|key| who.contains(key)).count();
            if count < kill.count {
                return Some(format!("{count} of {} were killed, not {}", kill.who, kill.count));
            }
        }
        if self.facts.ooms > 0 && !self.truth.kills.iter().any(|kill| kill.by == OOM_KILLER) {
            return Some("the OOM killer came".to_owned());
        }
        None
    }

    fn naming(&self, said: &[&Said], score: &mut Score) {
        let possible_ns = self.facts.possible_ns().filter(|_| !self.truth.culprit.is_empty());
        let Some(possible_ns) = possible_ns else { return };
        let harm_ns = self.facts.harm_ns;
        score.possible_s = Some(possible_ns as f64 / 1e9);
        let right = |said: &&&Said| said.is_alarm() && said.holds() && self.is_right(said);
        let first = said.iter().find(right).map(|said| said.t_ns);
        if let Some(first_ns) = first.filter(|ns| *ns < harm_ns) {
            score.lead_s = Some((harm_ns - first_ns) as f64 / 1e9);
            score.lead_share = self.facts.lead_share(first_ns);
        }
        if !self.truth.named || possible_ns < TOO_SHORT_NS {
            return;
        }
        score.named = Some(score.lead_s.is_some());
        if score.lead_s.is_none() {
            score.lead_share = Some(0.0);
            score.failures.push(match first {
                Some(ns) => {
                    format!("named {:.1} s after the harm", ns.saturating_sub(harm_ns) as f64 / 1e9)
                }
                None => "the culprit was not named".to_owned(),
            });
        }
    }

    fn alarms(&self, said: &[&Said], score: &mut Score) {
        let mut raised: HashMap<(&str, Option<ProcessKey>), usize> = HashMap::new();
        for said in said.iter().filter(|said| !said.is_event()) {
            let is_must = self.truth.must.iter().any(|kind| kind == said.kind());
            let is_false = match said.is_alarm() {
                _ if self.truth.must_not.iter().any(|kind| kind == said.kind()) => true,
                false => false,
                // What names nobody is right wherever something happens.
                true if said.names_somebody() => {
                    !(self.is_right(said) || is_must && self.fits(said))
                }
                true => self.truth.is_quiet(),
            };
            if is_false && said.is_raised() {
                score.false_alarms.push(format!("{} of {}", said.kind(), self.who(said)));
            }
            if said.is_raised() {
                let times = raised.entry((said.kind(), said.subject())).or_default();
                *times += 1;
                if *times == 2 {
                    score.repeated.push(format!("{} of {}", said.kind(), self.who(said)));
                }
            }
        }
        score.failures.extend(score.false_alarms.iter().map(|what| format!("false alarm: {what}")));
        score.failures.extend(score.repeated.iter().map(|what| format!("raised again: {what}")));
    }

    fn verdicts(&self, said: &[&Said], score: &mut Score) {
        let verdicts: Vec<&&Said> =
            said.iter().filter(|said| said.kind() == "oom_verdict").collect();
        if self.facts.ooms == 0 && verdicts.is_empty() {
            return;
        }
        let blamed = self.truth.blamed();
        let mut is_right = verdicts.len() == self.facts.ooms;
        if !is_right {
            let counts = (verdicts.len(), self.facts.ooms);
            score.failures.push(format!("{} verdicts on {} OOMs", counts.0, counts.1));
        }
        for verdict in verdicts {
            let culprit = verdict.blamed();
            let holds = match culprit {
                None => blamed.contains(&NONE),
                Some(key) => self.facts.cast.is_one_of(blamed.iter().copied(), &key),
            };
            if !holds {
                is_right = false;
                let said = culprit.map_or(NONE.to_owned(), |key| self.facts.cast.name(&key));
                let wanted = blamed.join(" or ");
                score.failures.push(format!("verdict: {said} instead of {wanted}"));
            }
        }
        score.verdict = Some(is_right);
    }

    fn killers(&self, said: &[&Said], score: &mut Score) {
        if self.truth.kills.is_empty() {
            return;
        }
        let mut all = true;
        for killed in &self.facts.killed {
            let of = |name: &str| self.facts.cast.who(name).contains(&killed.key);
            let Some(kill) = self.truth.kills.iter().find(|kill| of(&kill.who)) else { continue };
            let about = |said: &&&Said| said.victims().contains(&killed.key);
            let told: Vec<&str> = said
                .iter()
                .filter(about)
                .map(|said| if said.kind() == "oom_verdict" { OOM_KILLER } else { said.by() })
                .collect();
            if told.is_empty() || told.iter().any(|by| *by != kill.by) {
                all = false;
                let told = if told.is_empty() { "nobody".to_owned() } else { told.join(", ") };
                score
                    .failures
                    .push(format!("{} was killed by {}, said: {told}", kill.who, kill.by));
            }
        }
        score.killer = Some(all);
    }
}

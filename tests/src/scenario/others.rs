//! What others would have said on the same run: a threshold on the limit, polling of resident
//! memory, and an earlyoom that really ran beside.

use rampage::event::ProcessKey;
use serde::Serialize;

use super::facts::Facts;
use super::sample::Sample;
use super::truth::Truth;

/// Part of the limit at which a threshold alarms.
const THRESHOLD: f64 = 0.85;
/// Polling takes rates over this long, ns.
const WINDOW_NS: u64 = 10_000_000_000;
/// Polling alarms when less is left, s.
const SOON_S: f64 = 60.0;
/// Both look once in so many samples.
const EVERY: usize = 10;
/// Polling does not call less a growth, bytes/s.
const LEAST_RATE: f64 = 1024.0;

/// What one of them said of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Other {
    /// It named the culprit before the harm; None = there is none to be named.
    pub named: Option<bool>,
    /// Lead of its first right alarm as a share of what was possible.
    pub lead_share: Option<f64>,
    /// Processes that it named wrongly before the harm.
    pub false_alarms: usize,
}

/// One alarm: when, and whom it names.
#[derive(Clone, Copy, Debug)]
pub struct Alarm {
    /// CLOCK_BOOTTIME ns.
    pub t_ns: u64,
    /// The process.
    pub tgid: u32,
}

/// At 85 % of the limit: whoever is largest then.
pub fn threshold(samples: &[Sample]) -> Vec<Alarm> {
    let over =
        |sample: &&Sample| sample.usage_bytes as f64 >= THRESHOLD * sample.limit_bytes as f64;
    let looks = samples.iter().step_by(EVERY).filter(over);
    let alarms = looks.filter_map(|sample| {
        let (tgid, _) = sample.rss.iter().max_by_key(|(_, bytes)| bytes)?;
        Some(Alarm { t_ns: sample.t_ns, tgid: *tgid })
    });
    alarms.collect()
}

/// Each second whoever would reach the limit first by its own growth in ten seconds.
pub fn polling(samples: &[Sample]) -> Vec<Alarm> {
    let looks: Vec<&Sample> = samples.iter().step_by(EVERY).collect();
    let mut alarms = Vec::new();
    for now in &looks {
        let left = now.limit_bytes.saturating_sub(now.usage_bytes) as f64;
        let soonest = now.rss.iter().filter_map(|(tgid, bytes)| {
            let since = |then: &&&Sample| now.t_ns - then.t_ns <= WINDOW_NS;
            let mut earlier = looks.iter().filter(|then| then.t_ns < now.t_ns).filter(since);
            let (then_ns, before) = earlier.find_map(|then| {
                let found = then.rss.iter().find(|(other, _)| other == tgid)?;
                Some((then.t_ns, found.1))
            })?;
            let rate = bytes.saturating_sub(before) as f64 / ((now.t_ns - then_ns) as f64 / 1e9);
            (rate > LEAST_RATE).then_some((left / rate, *tgid))
        });
        if let Some((eta_s, tgid)) = soonest.min_by(|a, b| a.0.total_cmp(&b.0))
            && eta_s < SOON_S
        {
            alarms.push(Alarm { t_ns: now.t_ns, tgid });
        }
    }
    alarms
}

/// Holds alarms against the truth.
pub fn judge(truth: &Truth, facts: &Facts, alarms: &[Alarm]) -> Other {
    let is_culprit = |tgid: u32| {
        let names = || truth.culprit.iter().map(String::as_str);
        let of = |key: &&ProcessKey| key.tgid == tgid;
        names().any(|name| facts.cast.who(name).iter().any(|key| of(&key)))
    };
    let before = || alarms.iter().filter(|alarm| alarm.t_ns < facts.harm_ns);
    let mut wrong: Vec<u32> =
        before().map(|alarm| alarm.tgid).filter(|tgid| !is_culprit(*tgid)).collect();
    wrong.sort_unstable();
    wrong.dedup();
    let mut other = Other { false_alarms: wrong.len(), ..Other::default() };
    if facts.onset_ns.is_some() && !truth.culprit.is_empty() && truth.named {
        let first = before().find(|alarm| is_culprit(alarm.tgid));
        other.named = Some(first.is_some());
        other.lead_share = first.map_or(Some(0.0), |alarm| facts.lead_share(alarm.t_ns));
    }
    other
}

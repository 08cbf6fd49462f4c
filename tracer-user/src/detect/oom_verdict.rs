//! `oom_verdict`: who was killed, who asked for the memory, and who really caused it. Each kill
//! has exactly one verdict; a wrong culprit is worse than none.

mod account;
mod advice;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::attribution::{Attribution, Cause, WINDOW_S};
use super::cascade::{self, Cascades, Kill};
use super::{Detector, Ledger, sentence, work};
use crate::event::{
    Cascade, Culprit, Event, Evidence, Finding, FindingKind, LimitOwner, Oom, OwnerKind, Party,
    ProcessKey, ScopeKind, Severity, Stamped, Subject, Verdict, Victim,
};
use crate::model::{Model, is_below, limit_owner};
use crate::text;

pub(super) use account::account;

/// Judges kills.
#[derive(Default)]
pub struct OomVerdict {
    cascades: Cascades,
}

/// Where the growers are looked for.
struct Place {
    /// Cgroup, with all below; None = the host.
    root: Option<Arc<str>>,
    /// The limit that was hit is not known; the place is a guess.
    is_guess: bool,
}

impl Detector for OomVerdict {
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger) {
        match &at.event {
            Event::Oom(oom) => {
                let place = Place::of(model, oom);
                if let Some(finding) = self.judge(model, oom, &place, at.t_ns) {
                    ledger.happened(finding);
                }
                let words = place.words(oom, None);
                let place = cascade::Place { root: place.root.as_ref(), words: &words };
                self.cascades.tell(model, oom, &place, ledger);
            }
            Event::Tick(_) => self.cascades.close(model.now_ns(), ledger),
            _ => {}
        }
    }
}

impl OomVerdict {
    /// None = the rule for the pool that caused it wants no verdicts. The kill counts all the same.
    fn judge(&mut self, model: &Model, oom: &Oom, place: &Place, t_ns: u64) -> Option<Finding> {
        let attribution = Attribution::new(model, oom, place.root.as_deref(), t_ns);
        let cause = attribution.cause();
        let kill = Kill::new(model, oom, &cause, t_ns);
        let cascade = self.cascades.count(place.root.as_ref(), kill);
        if model.config().ignores(cause.pool().map(|pool| &**pool), FindingKind::OomVerdict) {
            return None;
        }
        let culprit = match &cause {
            Cause::Process(culprit) => Some((**culprit).clone()),
            _ => None,
        };
        let advice = advice::of(model, oom, place, &cause);
        let path = oom.scope.cgroup.as_deref();
        let limit_set_by = path.and_then(limit_owner);
        let suffers =
            |victim: &&Victim| culprit.as_ref().is_some_and(|one| victim.key() != one.key());
        let bystanders = oom.victims.iter().filter(suffers).map(|victim| victim.tgid).collect();
        let watched_s =
            attribution.is_partial.then(|| t_ns.saturating_sub(model.began_ns()) as f64 / 1e9);
        Some(Finding::new(
            FindingKind::OomVerdict,
            Severity::Critical,
            culprit.as_ref().map(|culprit| subject(model, culprit)),
            format!(
                "OOM kill {}: killed {}, asked for by {}; {}{}{}{}{}",
                place.words(oom, limit_set_by.as_ref()),
                victims(oom),
                party(model, &oom.trigger),
                blame(model, oom, &cause, t_ns),
                repeated(&cascade),
                advice.as_ref().map(|text| format!("; what helps: {text}")).unwrap_or_default(),
                watched(watched_s),
                sentence::lost(attribution.lost_records),
            ),
            Evidence::OomVerdict(Box::new(Verdict {
                victims: oom.victims.clone(),
                trigger: oom.trigger.clone(),
                culprit,
                grown_in_window: attribution.window.shown(),
                grown_since_seen: attribution.since_seen.shown(),
                window_s: WINDOW_S,
                limit: oom.scope.clone(),
                cascade,
                limit_rise_bytes: attribution.rise_bytes,
                limit_set_by,
                bystanders,
                advice,
                next_victim: model.next_victim(place.root.as_deref()),
                lost_records: attribution.lost_records,
                watched_s,
            })),
        ))
    }
}

impl Place {
    fn of(model: &Model, oom: &Oom) -> Self {
        match (oom.scope.kind, &oom.scope.cgroup) {
            (ScopeKind::Memcg, Some(path)) => {
                Self { root: Some(Arc::clone(path)), is_guess: false }
            }
            (ScopeKind::Host | ScopeKind::Cpuset, _) => Self { root: None, is_guess: false },
            (ScopeKind::Memcg | ScopeKind::Unknown | ScopeKind::Php, _) => {
                Self { root: common_ancestor(model, oom), is_guess: true }
            }
        }
    }

    fn words(&self, oom: &Oom, set_by: Option<&LimitOwner>) -> String {
        let set_by = set_by.map_or_else(String::new, |owner| {
            let kind = match owner.kind {
                OwnerKind::Unit => "unit",
                OwnerKind::Container => "container",
                OwnerKind::Pod => "pod",
            };
            format!(", set by {kind} {}", sentence::name(&owner.name))
        });
        let limit = oom
            .scope
            .limit_bytes
            .map_or_else(String::new, |bytes| format!(" (limit {}{set_by})", text::bytes(bytes)));
        match (&self.root, self.is_guess) {
            (Some(root), false) => format!("in {}{limit}", sentence::name(root)),
            (None, false) if oom.scope.kind == ScopeKind::Cpuset => {
                "in a cpuset or memory policy".to_owned()
            }
            (None, false) => "on the host".to_owned(),
            (Some(root), true) => {
                format!("at an unknown limit (judged by what grew in {})", sentence::name(root))
            }
            (None, true) => "at an unknown limit (judged by what grew on the host)".to_owned(),
        }
    }
}

/// The victims' and the trigger's common place, from the first victim's cgroup upwards.
fn common_ancestor(model: &Model, oom: &Oom) -> Option<Arc<str>> {
    let cgroup = |key: &ProcessKey| model.living_or_exited(key).and_then(|p| p.cgroup.clone());
    let victim = oom.victims.first()?;
    let path = victim.cgroup.clone().or_else(|| cgroup(&victim.key()))?;
    let trigger = oom.trigger.cgroup.clone().or_else(|| cgroup(&oom.trigger.key()));
    let Some(trigger) = trigger else { return Some(path) };
    let mut common = &*path;
    while !is_below(&trigger, common) {
        common = match common.rfind('/') {
            Some(0) | None => "/",
            Some(at) => &common[..at],
        };
    }
    Some(Arc::from(common))
}

fn subject(model: &Model, culprit: &Culprit) -> Subject {
    Subject {
        tgid: culprit.tgid,
        start_ns: culprit.start_ns,
        comm: Arc::clone(&culprit.comm),
        pool: culprit.pool.clone(),
        cgroup: model.living_or_exited(&culprit.key()).and_then(|process| process.cgroup.clone()),
    }
}

fn victims(oom: &Oom) -> String {
    let size = |victim: &Victim| victim.anon_bytes.saturating_add(victim.swap_bytes);
    let one = |victim: &Victim| {
        let size = text::bytes(size(victim));
        format!("{} (pid {}, {size})", sentence::name(&victim.comm), victim.tgid)
    };
    match &oom.victims[..] {
        [] => "nobody that was seen".to_owned(),
        [victim] => one(victim),
        all => {
            let total = all.iter().map(size).fold(0, u64::saturating_add);
            let largest = all.iter().max_by_key(|victim| size(victim)).map(one);
            format!(
                "{} processes at once ({} together, the largest {})",
                all.len(),
                text::bytes(total),
                largest.unwrap_or_default(),
            )
        }
    }
}

fn party(model: &Model, party: &Party) -> String {
    let known = model.living_or_exited(&party.key());
    let pool = known.and_then(sentence::pool);
    sentence::named(&party.comm, pool.as_deref(), party.tgid)
}

fn named(culprit: &Culprit) -> String {
    sentence::named(&culprit.comm, culprit.pool.as_deref(), culprit.tgid)
}

/// Who caused it, or why nobody is named.
fn blame(model: &Model, oom: &Oom, cause: &Cause, t_ns: u64) -> String {
    match cause {
        Cause::Process(culprit) => {
            let suffered = match oom.victims.iter().any(|victim| victim.key() == culprit.key()) {
                true => "",
                false if oom.victims.len() > 1 => "; the victims only suffered",
                false => "; the victim only suffered",
            };
            let served = match &culprit.request {
                Some(request) => format!(" while it served {}", work::request(request)),
                None => String::new(),
            };
            let code = culprit.php_growth.as_ref().and_then(work::spot);
            let code = code.map_or_else(String::new, |code| format!(", {code}"));
            format!(
                "caused by {}, which grew {} in {}{served}{code}{suffered}",
                named(culprit),
                text::bytes(culprit.grown_bytes),
                text::seconds(took_s(model, culprit, t_ns)),
            )
        }
        Cause::Pool { pool, workers, grown_bytes, .. } => format!(
            "no single culprit: the {workers} workers of pool {} together grew {}, most of all growth",
            sentence::name(pool),
            text::bytes(*grown_bytes),
        ),
        Cause::NoGrowth => {
            "no single culprit: nobody was seen to grow by enough to explain it".to_owned()
        }
        Cause::Elsewhere { rise_bytes, grown_bytes } => format!(
            "no single culprit: of {} that it filled up by in the last {WINDOW_S:.0} s only {} is \
             growth of processes; the rest is memory of none (tmpfs, shared memory, copies after a \
             fork, or the kernel's)",
            text::bytes(*rise_bytes),
            text::bytes(*grown_bytes),
        ),
        Cause::Spread { processes } => {
            format!("no single culprit: growth is spread over {processes} processes")
        }
        Cause::Disagree { lately, since_seen } => format!(
            "no single culprit: most grown in the last {WINDOW_S:.0} s is {} ({}), since first seen it is {} ({})",
            named(lately),
            text::bytes(lately.grown_bytes),
            named(since_seen),
            text::bytes(since_seen.grown_bytes),
        ),
    }
}

/// The time its growth took: its episode where that is most of it, else the whole window.
fn took_s(model: &Model, culprit: &Culprit, t_ns: u64) -> f64 {
    let Some(process) = model.living_or_exited(&culprit.key()) else { return culprit.window_s };
    let Some(rise) = process.private() else { return culprit.window_s };
    let episode_s = t_ns.saturating_sub(rise.onset_ns()) as f64 / 1e9;
    if rise.grown_bytes() as f64 >= 0.8 * culprit.grown_bytes as f64 {
        episode_s.min(culprit.window_s)
    } else {
        culprit.window_s
    }
}

/// Whether growth may have been missed.
fn watched(watched_s: Option<f64>) -> String {
    watched_s.map_or_else(String::new, |watched_s| {
        format!(
            "; what grew before the trace began, {} ago, is not known",
            text::seconds(watched_s)
        )
    })
}

fn repeated(cascade: &Cascade) -> String {
    match cascade.number {
        0 | 1 => String::new(),
        number => format!(
            " (kill number {number} at this limit within {})",
            text::seconds(cascade.since_s)
        ),
    }
}

//! A cascade as a finding: the sentence, what would stop it, and the evidence.

use std::sync::Arc;

use super::common::{self, Respawn};
use super::{Kill, Kills};
use crate::detect::sentence::{self, name, named};
use crate::event::{
    Culprit, Evidence, Finding, FindingKind, OomScope, Series, SeriesCause, SeriesCulprit,
    SeriesKill, Severity,
};
use crate::model::{Model, Pool, is_below};
use crate::text::{bytes, seconds};

/// What fits leaves a tenth of a limit free.
const FILL: f64 = 0.9;

/// Where the kills are.
pub(in crate::detect) struct Place<'a> {
    /// The cgroup; None = the host.
    pub root: Option<&'a Arc<str>>,
    /// `in /web (limit 256 MiB)`.
    pub words: &'a str,
}

pub(super) fn finding(
    model: &Model,
    kills: &Kills,
    scope: &OomScope,
    place: &Place<'_>,
) -> Finding {
    let now_ns = kills.times.back().copied().unwrap_or(0);
    let cascade = kills.cascade(now_ns);
    let cause = common::cause(kills.last.iter());
    let respawn = common::respawn(model, kills.last.iter());
    let first_ns = kills.times.front().copied().unwrap_or(now_ns);
    let lost_records = model.lost_since(first_ns);
    let advice = advice(model, scope, place, cause.as_ref(), respawn.as_ref());
    let summary = format!(
        "{} OOM kills {} within {}{}{}; {advice}{}",
        cascade.number,
        place.words,
        seconds(cascade.since_s),
        victims(kills, respawn.as_ref()),
        blamed(cause.as_ref(), kills.last.len()),
        sentence::lost(lost_records),
    );
    let evidence = Series {
        kills: kills.last.iter().rev().map(|kill| shown(kill, now_ns)).collect(),
        number: cascade.number,
        since_s: cascade.since_s,
        limit: scope.clone(),
        respawned_by: respawn.and_then(|respawn| respawn.by),
        cause,
        advice,
        lost_records,
    };
    let evidence = Evidence::Cascade(Box::new(evidence));
    Finding::new(FindingKind::Cascade, Severity::Critical, None, summary, evidence)
}

fn shown(kill: &Kill, now_ns: u64) -> SeriesKill {
    let culprit = |culprit: &Culprit| SeriesCulprit {
        tgid: culprit.tgid,
        start_ns: culprit.start_ns,
        comm: Arc::clone(&culprit.comm),
        pool: culprit.pool.clone(),
    };
    SeriesKill {
        before_s: now_ns.saturating_sub(kill.t_ns) as f64 / 1e9,
        victims: kill.victims.clone(),
        culprit: kill.culprit.as_ref().map(culprit),
    }
}

/// Who is hit, and who comes back.
fn victims(kills: &Kills, respawn: Option<&Respawn>) -> String {
    let all = kills.last.len();
    let hit = common::victim(kills.last.iter());
    let mut out = match &hit {
        Some((comm, count)) => format!(": {} hit {}", of(*count, all), name(comm)),
        None => ": of changing victims".to_owned(),
    };
    if let Some(Respawn { by, comm }) = respawn {
        let is_hit = hit.is_some_and(|(hit, _)| hit == *comm);
        out.push_str(&if is_hit { ", which".to_owned() } else { format!("; {}", name(comm)) });
        match by {
            Some(by) => {
                out.push_str(&format!(" {} starts anew", named(&by.comm, None, by.tgid)));
            }
            None => out.push_str(" comes back"),
        }
    }
    out
}

fn blamed(cause: Option<&SeriesCause>, all: usize) -> String {
    let Some(cause) = cause else { return "; they have no common cause".to_owned() };
    format!("; {} by {}", of(cause.kills, all), what(cause))
}

fn what(cause: &SeriesCause) -> String {
    match cause {
        SeriesCause { request: Some(request), pool: Some(pool), .. } => {
            format!("{} of pool {}", name(request), name(pool))
        }
        SeriesCause { request: Some(request), .. } => name(request),
        SeriesCause { pool: Some(pool), .. } => format!("pool {}", name(pool)),
        SeriesCause { comm: Some(comm), .. } => name(comm),
        SeriesCause { .. } => "nobody".to_owned(),
    }
}

fn of(count: usize, all: usize) -> String {
    if count == all { "all".to_owned() } else { format!("{count} of the last {all}") }
}

/// What would stop it, as far as it follows from the numbers.
fn advice(
    model: &Model,
    scope: &OomScope,
    place: &Place<'_>,
    cause: Option<&SeriesCause>,
    respawn: Option<&Respawn>,
) -> String {
    let raise = match (place.root, scope.limit_bytes) {
        (Some(root), Some(limit)) => format!("raise the {} limit of {}", bytes(limit), name(root)),
        (Some(root), None) => format!("raise the limit of {}", name(root)),
        (None, _) => "give the host more memory".to_owned(),
    };
    match cause {
        Some(SeriesCause { request: Some(request), .. }) => {
            format!("the same request {} grows each time: block it", name(request))
        }
        Some(SeriesCause { pool: Some(pool), .. }) => pool_advice(model, scope, place, pool)
            .unwrap_or_else(|| format!("{raise}, or lower pm.max_children of pool {}", name(pool))),
        Some(SeriesCause { comm: Some(comm), .. }) => match respawn {
            Some(Respawn { by: Some(by), .. }) => {
                let by = named(&by.comm, None, by.tgid);
                format!("{raise}, or stop {} and {by}, which starts it", name(comm))
            }
            _ => format!("{raise}, or stop {}", name(comm)),
        },
        _ => format!("{raise}, or run less in it"),
    }
}

/// What the pool may take at most, and what of it would fit. None = not known, or it fits.
fn pool_advice(
    model: &Model,
    scope: &OomScope,
    place: &Place<'_>,
    name_of: &Arc<str>,
) -> Option<String> {
    let is_inside = |pool: &Pool<'_>| {
        let mut workers = pool.workers();
        place.root.is_none_or(|root| {
            workers.any(|worker| worker.cgroup.as_ref().is_some_and(|path| is_below(path, root)))
        })
    };
    let pools = model.pools().filter(|pool| pool.name == name_of && is_inside(pool));
    let pool = pools.max_by_key(|pool| (pool.workers().count(), pool.master_tgid))?;
    let workers = pool.workers().count() as u64;
    let limit = match place.root {
        Some(_) => scope.limit_bytes?,
        None => model.host().mem_total_bytes.saturating_add(model.host().swap_total_bytes),
    };
    let used = pool.workers().fold(0, |sum: u64, w| sum.saturating_add(w.private_bytes()));
    let charged = match place.root {
        Some(root) => model
            .cgroup(root)
            .map_or(0, |cgroup| cgroup.usage_bytes.saturating_sub(cgroup.reclaimable_bytes)),
        None => limit.saturating_sub(
            model.host().available_bytes.saturating_add(model.host().swap_free_bytes),
        ),
    };
    let room = (limit as f64 * FILL) as u64;
    let room = room.saturating_sub(charged.min(limit).saturating_sub(used));
    let each = room / workers.max(1);
    if each == 0 {
        return None;
    }
    let memory_limit = |worker: &crate::model::Process| worker.insight.as_ref()?.memory();
    let limits = pool.workers().filter_map(memory_limit);
    // One without a limit (None) makes the pool one without.
    let largest = limits.map(|memory| memory.limit_bytes.unwrap_or(u64::MAX)).max()?;
    let (pool, size) = (name(name_of), bytes(limit));
    let s = if workers == 1 { "" } else { "s" };
    if largest == u64::MAX {
        return Some(format!(
            "pool {pool} has {workers} worker{s} without memory_limit: one below {} would fit the \
             {size} limit",
            bytes(each)
        ));
    }
    if largest <= each {
        return None;
    }
    let children = match room / largest {
        0 => String::new(),
        fit => format!(" or pm.max_children {fit}"),
    };
    Some(format!(
        "pool {pool} may hold {workers} worker{s} of {}: memory_limit below {}{children} would fit \
         the {size} limit",
        bytes(largest),
        bytes(each),
    ))
}

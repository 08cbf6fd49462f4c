//! What the kills of a cascade have in common: what causes them, and who starts the victims anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Kill;
use crate::event::{Party, SeriesCause};
use crate::model::{Model, RequestKind};

/// Who comes back after the kills.
#[derive(Debug)]
pub(super) struct Respawn {
    /// Who starts it; None = another each time, or not known.
    pub by: Option<Party>,
    /// What is started.
    pub comm: Arc<str>,
}

/// The narrowest cause of more than half of these kills.
pub(super) fn cause<'a>(kills: impl Iterator<Item = &'a Kill> + Clone) -> Option<SeriesCause> {
    let request = most(kills.clone().map(|kill| kill.request.as_ref().map(request_name)));
    let pool = most(kills.clone().map(|kill| kill.pool.clone()));
    let comm = most(kills.map(|kill| kill.culprit.as_ref().map(|by| Arc::clone(&by.comm))));
    let narrowest = [&request, &pool, &comm].into_iter().flatten().next()?.1;
    let name = |found: Option<(Arc<str>, usize)>| found.map(|(name, _)| name);
    Some(SeriesCause {
        request: name(request),
        pool: name(pool),
        comm: name(comm),
        kills: narrowest,
    })
}

/// The victim of more than half of these kills, and in how many.
pub(super) fn victim<'a>(kills: impl Iterator<Item = &'a Kill>) -> Option<(Arc<str>, usize)> {
    most(kills.map(|kill| kill.victims.first().map(|victim| Arc::clone(&victim.comm))))
}

/// Who starts anew what was killed or what grew. Being the parent is not enough: a child of the same
/// name must have appeared since the first of these kills.
pub(super) fn respawn<'a>(
    model: &Model,
    kills: impl Iterator<Item = &'a Kill> + Clone,
) -> Option<Respawn> {
    let first_ns = kills.clone().map(|kill| kill.t_ns).min()?;
    let comes_back = |comm: &str, parent: Option<u32>| {
        let exited = model.all_exited().map(|exited| &exited.process);
        model.processes().chain(exited).any(|process| {
            process.first_seen_ns >= first_ns
                && *process.comm == *comm
                && parent.is_none_or(|tgid| process.ppid == tgid)
        })
    };
    let mut counts: Vec<(usize, &Party, &Arc<str>)> = Vec::new();
    for (parent, comm) in kills.clone().flat_map(|kill| &kill.parents) {
        match counts.iter_mut().find(|(_, by, of)| by.key() == parent.key() && *of == comm) {
            Some((count, ..)) => *count += 1,
            None => counts.push((1, parent, comm)),
        }
    }
    let all = kills.clone().count();
    let best = counts.into_iter().max_by_key(|(count, ..)| *count);
    if let Some((count, parent, comm)) = best
        && is_most(count, all)
        && model.process(&parent.key()).is_some()
        && comes_back(comm, Some(parent.tgid))
    {
        return Some(Respawn { by: Some(parent.clone()), comm: Arc::clone(comm) });
    }
    let (comm, _) = victim(kills)?;
    comes_back(&comm, None).then_some(Respawn { by: None, comm })
}

/// `GET /orders/{n}/export`, or the script.
fn request_name(kind: &RequestKind) -> Arc<str> {
    match (&*kind.method, &*kind.template) {
        (_, "") => Arc::clone(&kind.script),
        ("", template) => Arc::from(template),
        (method, template) => Arc::from(format!("{method} {template}")),
    }
}

/// The name that more than half have, at least two; what has no name counts as another.
fn most(names: impl Iterator<Item = Option<Arc<str>>>) -> Option<(Arc<str>, usize)> {
    let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    let mut all = 0;
    for name in names {
        all += 1;
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| is_most(*count, all))
}

fn is_most(count: usize, all: usize) -> bool {
    count >= 2 && 2 * count > all
}

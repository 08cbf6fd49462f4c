//! Series of the largest processes, and of whom the OOM killer would choose.

use std::cmp::Reverse;

use super::cgroups::Told;
use super::series::{Families, label, texts};
use crate::metrics::table;
use crate::model::{Model, Process};

pub(super) fn tell(model: &Model, most: usize, families: &mut Families) {
    let key = |process: &&Process| (Reverse(process.private_bytes()), process.key);
    let mut all: Vec<&Process> = model.processes().collect();
    let known = all.len();
    if most < known {
        all.select_nth_unstable_by_key(most, key);
        all.truncate(most);
    }
    all.sort_unstable_by_key(key);
    let told: Vec<([String; 4], &Process)> =
        all.into_iter().map(|process| (labels(process), process)).collect();
    let now_ns = model.now_ns();
    let each = |value: &dyn Fn(&Process) -> f64| {
        let one = |(labels, process): &'_ ([String; 4], &Process)| (labels.clone(), value(process));
        told.iter().map(one).collect::<Vec<_>>()
    };
    for (of, series) in [
        (&table::PROCESS_MEMORY, each(&|process| process.private_bytes() as f64)),
        (&table::PROCESS_SWAP, each(&|process| process.memory.swap_bytes as f64)),
        (&table::PROCESS_GROWTH, each(&|process| process.rate_at(now_ns))),
    ] {
        let series = series.iter();
        families.each(of, series.map(|(labels, value)| (texts(labels), *value)));
    }
    families.one(&table::PROCESSES, known as f64);
    families.one(&table::PROCESSES_OMITTED, (known - told.len()) as f64);
}

/// At the limit of the host and at that of the fullest cgroup where somebody is killed.
pub(super) fn tell_next(model: &Model, cgroups: &[Told<'_>], families: &mut Families) {
    let fullest = cgroups.iter().map(|told| told.cgroup).find(|cgroup| cgroup.kills());
    let places = [None].into_iter().chain(fullest.map(|cgroup| Some(&*cgroup.path)));
    let victims: Vec<([String; 6], f64)> = places
        .filter_map(|place| {
            let victim = model.next_victim(place)?;
            let process = model.by_tgid(victim.tgid);
            let cgroup = process.and_then(|process| process.cgroup.as_deref()).unwrap_or("");
            let labels = [
                place.map_or_else(|| "host".to_owned(), label),
                label(&victim.comm),
                victim.tgid.to_string(),
                label(cgroup),
                label(victim.pool.as_deref().unwrap_or("")),
                victim.is_certain.to_string(),
            ];
            Some((labels, victim.used_bytes as f64))
        })
        .collect();
    let series = victims.iter();
    families.each(&table::NEXT_VICTIM, series.map(|(labels, bytes)| (texts(labels), *bytes)));
}

fn labels(process: &Process) -> [String; 4] {
    let pool = process.php.as_ref().and_then(|php| php.pool.as_deref());
    [
        label(&process.comm),
        process.key.tgid.to_string(),
        label(process.cgroup.as_deref().unwrap_or("")),
        label(pool.unwrap_or("")),
    ]
}

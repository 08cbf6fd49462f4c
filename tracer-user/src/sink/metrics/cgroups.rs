//! Series of memory cgroups: the fullest, and whose they are.

use std::cmp::Ordering;

use super::counts::Counts;
use super::series::{Families, label, texts};
use crate::event::OwnerKind;
use crate::metrics::table;
use crate::model::{Cgroup, Forecast, Model, limit_owner};

/// A cgroup that is told of.
pub(super) struct Told<'a> {
    pub cgroup: &'a Cgroup,
    forecast: Option<Forecast>,
    /// Values of the labels `cgroup`, `container`, `pod` and `unit`.
    labels: [String; 4],
}

/// What a cgroup is ordered by: the share of its limit that is used, without a limit 0; then usage.
#[derive(Clone, Copy, PartialEq)]
struct Fullness {
    share: f64,
    usage_bytes: u64,
}

impl Fullness {
    fn of(model: &Model, cgroup: &Cgroup) -> Self {
        let share = model.limit(Some(&cgroup.path)).map_or(0.0, |limit| {
            1.0 - limit.headroom_bytes as f64 / limit.limit_bytes.max(1) as f64
        });
        Self { share, usage_bytes: cgroup.usage_bytes }
    }

    fn fuller(&self, other: &Self) -> Ordering {
        other.share.total_cmp(&self.share).then(other.usage_bytes.cmp(&self.usage_bytes))
    }
}

/// The `most` fullest, the fullest first, and how many there are in all.
pub(super) fn fullest(model: &Model, most: usize) -> (Vec<Told<'_>>, usize) {
    let all = model.cgroups().map(|cgroup| (Fullness::of(model, cgroup), cgroup));
    let mut all: Vec<_> = all.collect();
    let known = all.len();
    let fuller = |(a, one): &(Fullness, &Cgroup), (b, other): &(Fullness, &Cgroup)| {
        a.fuller(b).then_with(|| one.path.cmp(&other.path))
    };
    if most < all.len() {
        all.select_nth_unstable_by(most, fuller);
        all.truncate(most);
    }
    all.sort_unstable_by(fuller);
    (all.into_iter().map(|(_, cgroup)| Told::new(model, cgroup)).collect(), known)
}

impl<'a> Told<'a> {
    fn new(model: &Model, cgroup: &'a Cgroup) -> Self {
        let forecast = model.limit(Some(&cgroup.path)).map(|limit| limit.forecast());
        let [container, pod, unit] = identity(&cgroup.path);
        Self { cgroup, forecast, labels: [label(&cgroup.path), container, pod, unit] }
    }

    fn labels(&self) -> [&str; 4] {
        texts(&self.labels)
    }

    fn labels_and<'b>(&'b self, last: &'b str) -> [&'b str; 5] {
        let [cgroup, container, pod, unit] = self.labels();
        [cgroup, container, pod, unit, last]
    }
}

pub(super) fn tell(told: &[Told<'_>], known: usize, counts: &Counts, families: &mut Families) {
    let each = |value: fn(&Told<'_>) -> Option<f64>| {
        told.iter().filter_map(move |told| Some((told.labels(), value(told)?)))
    };
    let optional = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    families.each(&table::CGROUP_USAGE, each(|told| Some(told.cgroup.usage_bytes as f64)));
    let limits =
        told.iter().filter_map(|told| Some((told.labels(), optional(told.cgroup.max_bytes)?)));
    families.each(&table::CGROUP_LIMIT, limits);
    let highs =
        told.iter().filter_map(|told| Some((told.labels(), optional(told.cgroup.high_bytes)?)));
    families.each(&table::CGROUP_HIGH, highs);
    families.each(&table::CGROUP_SWAP, each(|told| Some(told.cgroup.swap_usage_bytes as f64)));
    families
        .each(&table::CGROUP_RECLAIMABLE, each(|told| Some(told.cgroup.reclaimable_bytes as f64)));
    families.each(
        &table::CGROUP_HEADROOM,
        each(|told| Some(told.forecast.as_ref()?.headroom_bytes as f64)),
    );
    families.each(
        &table::CGROUP_GROWTH,
        each(|told| {
            let forecast = told.forecast.as_ref().map(|forecast| forecast.rate_bytes_per_s);
            Some(forecast.unwrap_or(told.cgroup.rate_bytes_per_s))
        }),
    );
    families.each(&table::CGROUP_TIME_LEFT, each(|told| told.forecast.as_ref()?.eta_s));
    let stalled = told.iter().map(|told| {
        let ns = counts.stalled_below_ns(&told.cgroup.path);
        (told.labels(), ns as f64 / 1e9)
    });
    families.each(&table::CGROUP_STALLED, stalled);
    let pressure = told.iter().flat_map(|told| {
        let psi = [("some", told.cgroup.some_avg10), ("full", told.cgroup.full_avg10)];
        psi.into_iter().filter_map(|(waiting, avg)| Some((told.labels_and(waiting), avg? / 100.0)))
    });
    families.each(&table::CGROUP_PRESSURE, pressure);
    let events = told.iter().flat_map(|told| {
        let counters = told.cgroup.events.into_iter().flat_map(|events| {
            let of = [events.high, events.max, events.oom, events.oom_kill];
            ["high", "max", "oom", "oom_kill"].into_iter().zip(of)
        });
        counters.map(|(event, count)| (told.labels_and(event), count as f64))
    });
    families.each(&table::CGROUP_EVENTS, events);
    families.one(&table::CGROUPS, known as f64);
    families.one(&table::CGROUPS_OMITTED, (known - told.len()) as f64);
}

/// Container, pod and unit of a cgroup: the nearest at or above it. A slice is named where there is
/// neither service nor scope.
fn identity(path: &str) -> [String; 3] {
    let (mut container, mut pod, mut unit) = (None, None, None);
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(owner) = limit_owner(rest) {
            let known = match owner.kind {
                OwnerKind::Container => &mut container,
                OwnerKind::Pod => &mut pod,
                OwnerKind::Unit => &mut unit,
            };
            known.get_or_insert(owner.name);
        }
        rest = rest.rfind('/').map_or("", |at| &rest[..at]);
    }
    [container, pod, unit].map(|name| name.as_deref().map(label).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::script::Script;

    #[test]
    fn whose_it_is_is_the_nearest_that_the_path_tells() {
        let id = "4f5e6d7c8b9a0123456789abcdef0123456789abcdef0123456789abcdef0123";
        let uid = "1b2c3d4e-0000-1111-2222-333344445555";
        assert_eq!(identity("/system.slice/ssh.service"), ["", "", "ssh.service"]);
        assert_eq!(identity("/system.slice"), ["", "", "system.slice"]);
        assert_eq!(
            identity(&format!("/kubepods/burstable/pod{uid}/{id}/php")),
            [&id[..12], uid, ""]
        );
        assert_eq!(identity("/"), ["", "", ""]);
        assert_eq!(identity("//é/.service//"), ["", "", ".service"]);
    }

    #[test]
    fn the_fullest_are_those_nearest_to_their_limit_then_the_largest() {
        let mut script = Script::new();
        script.cgroup("/half", 50.0, 100.0, None);
        script.cgroup("/full", 9.0, 10.0, None);
        for (path, usage) in [("/large", 500.0), ("/small", 5.0)] {
            script.cgroup_with(path, usage, |cgroup| cgroup.max_bytes = None);
        }
        let paths = |most| {
            let (told, known) = fullest(&script.model, most);
            assert_eq!(known, 4);
            told.iter().map(|told| told.cgroup.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths(9), ["/full", "/half", "/large", "/small"]);
        assert_eq!(paths(3), ["/full", "/half", "/large"]);
        assert_eq!(paths(0), [""; 0]);
    }
}

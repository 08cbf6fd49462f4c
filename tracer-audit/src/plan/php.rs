//! Workers and memory_limit of each pool.

use super::emit::Section;
use super::{MIB, Plan};
use crate::php::{Fit, Pool, Site, php_size, title, typical_bytes};
use crate::report::Subject;
use crate::units::{Service, Unit};
use crate::{Context, Observed};

/// memory_limit that a pool can work with when nothing is known of it: PHP's own default.
const WORKABLE_BYTES: u64 = 128 * MIB;

/// No script needs more; one that does is to be written otherwise, or run on the command line.
const MOST_BYTES: u64 = 1024 * MIB;

/// What a pool should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub workers: u32,
    pub limit_bytes: u64,
}

impl Share {
    /// Of `share_bytes`.
    pub fn new(pool: &Pool, fit: &Fit, observed: &Observed) -> Self {
        let workers = pool.workers.max(1);
        let now = pool.limit_bytes().unwrap_or(u64::MAX);
        if now.saturating_mul(u64::from(workers)) <= fit.share_bytes {
            return Self { workers: pool.workers, limit_bytes: now };
        }
        let is_seen = observed.pools.iter().any(|seen| seen.name == pool.name && seen.workers > 0);
        // Half as much again as what 95 of 100 workers needed, in steps of 32 MiB.
        let needed = (typical_bytes(pool, observed).saturating_mul(3) / 2).max(1);
        let needed = needed.next_multiple_of(32 * MIB);
        let workable = if is_seen { needed } else { WORKABLE_BYTES.max(needed) }.min(now);
        if let Some(limit) = fit.limit_bytes.filter(|limit| *limit >= workable) {
            return Self { workers: pool.workers, limit_bytes: limit.min(now).min(MOST_BYTES) };
        }
        let fitting = u32::try_from(fit.share_bytes / workable.max(1)).unwrap_or(u32::MAX);
        Self { workers: fitting.clamp(1, workers), limit_bytes: workable }
    }

    /// With a tenth for what memory_limit does not count.
    fn bytes(self) -> u64 {
        let of_limits = self.limit_bytes.saturating_mul(u64::from(self.workers));
        of_limits.saturating_add(of_limits / 10)
    }
}

impl Plan {
    /// Gives `room_bytes` to the pools; returns what they and their services take of it.
    pub(super) fn php(&mut self, context: &Context<'_>, room_bytes: u64) -> u64 {
        let facts = &context.facts.php;
        let of_limits = room_bytes / 10 * 9;
        let mut taken = 0_u64;
        for site in facts.sites.iter().filter(|site| site.counts) {
            let before = self.proposals.len();
            let mut own = 0_u64;
            for pool in site.pools.iter().filter(|pool| pool.workers > 0) {
                let fit = Fit::new(facts, pool, of_limits);
                let share = Share::new(pool, &fit, context.observed);
                self.pool(context, site, pool, share);
                own = own.saturating_add(share.bytes());
            }
            if self.proposals.len() > before {
                let unit = unit(context, site);
                if let Some(unit) = unit {
                    self.memory_max(unit, own, room_bytes);
                }
                self.restart_php(site, unit);
            }
            taken = taken.saturating_add(own);
        }
        taken
    }

    fn pool(&mut self, context: &Context<'_>, site: &Site, pool: &Pool, share: Share) {
        let title = title(&context.facts.php, site, pool);
        let demands = &context.budget.demands;
        let is_its = |subject, name: &str| subject == Subject::Php && name == title;
        if let Some(demand) = demands.iter().find(|one| is_its(one.subject, &one.name)) {
            self.row(demand, share.bytes());
        }
        let (is_fewer, is_less) =
            (share.workers < pool.workers, Some(share.limit_bytes) != pool.limit_bytes());
        if !is_fewer && !is_less {
            return;
        }
        let (Some(drop_in), Some(section)) = (site.drop_in(pool), Section::of_pool(&pool.name))
        else {
            let at = pool.sections.first().map_or_else(String::new, |at| format!(" at {at}"));
            self.remarks.push(format!(
                "pool {title}: no drop-in file overrides it; set pm.max_children = {} and \
                 php_admin_value[memory_limit] = {} in its section{at}",
                share.workers,
                php_size(share.limit_bytes)
            ));
            return;
        };
        if is_fewer {
            let file = drop_in.last;
            let workers = share.workers;
            self.files.line(file.clone(), section.clone(), &format!("pm.max_children = {workers}"));
            // php-fpm refuses a dynamic pool that may keep more idle workers than it may have.
            if pool.max_spare > workers {
                for line in [
                    "pm.start_servers = 1".to_owned(),
                    "pm.min_spare_servers = 1".to_owned(),
                    format!("pm.max_spare_servers = {workers}"),
                ] {
                    self.files.line(file.clone(), section.clone(), &line);
                }
            }
            let (from, to) = (Some(pool.max_children.value.to_string()), workers.to_string());
            self.propose(&title, "pm.max_children", from, to, file);
        }
        if is_less {
            let to = php_size(share.limit_bytes);
            let line = format!("php_admin_value[memory_limit] = {to}");
            self.files.line(drop_in.first.clone(), section, &line);
            let from = pool.limit_bytes().map_or_else(|| "-1".to_owned(), php_size);
            self.propose(&title, "memory_limit", Some(from), to, drop_in.first);
        }
    }

    /// The unit's limit: when a limit of PHP does not hold, PHP itself is what dies.
    fn memory_max(&mut self, unit: &Unit, bytes: u64, room_bytes: u64) {
        if unit.memory_max_bytes.is_some_and(|max| max <= room_bytes) {
            return;
        }
        let file = unit.drop_in_folder().join(crate::units::DROP_IN);
        let to = format!("{}M", bytes.div_ceil(MIB));
        // Of an administrator's own drop-in that is read later the line would count more.
        if let Some(at) = unit.settings.memory_max.at.as_ref().filter(|at| *at.file > *file) {
            self.remarks.push(format!("{}: set MemoryMax={to} at {at}", unit.name));
            return;
        }
        self.files.line(file.clone(), Section::named("Service"), &format!("MemoryMax={to}"));
        let from = unit.memory_max_bytes.map(|max| format!("{}M", max / MIB));
        self.propose(&unit.name, "MemoryMax", from, to, file);
    }

    /// What it cannot read it would not survive: it is asked first.
    fn restart_php(&mut self, site: &Site, unit: Option<&Unit>) {
        let name = match (unit, site.version) {
            (Some(unit), _) => unit.name.trim_end_matches(".service").to_owned(),
            (None, Some(version)) => format!("php{version}-fpm"),
            (None, None) => "php-fpm".to_owned(),
        };
        let program = site.binary.display();
        self.commands.push(format!("{program} -t && systemctl restart {name}"));
    }
}

/// The unit that starts the master of `site`.
fn unit<'a>(context: &Context<'a>, site: &Site) -> Option<&'a Unit> {
    let is_its = |name: &str| match site.version {
        Some(version) => name.contains(&version.to_string()) || !name.contains('.'),
        None => true,
    };
    context
        .facts
        .units
        .used()
        .find(|unit| unit.service == Service::Php && is_its(unit.name.trim_end_matches(".service")))
}

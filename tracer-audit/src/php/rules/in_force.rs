//! What runs against what the files say.

use std::collections::BTreeMap;

use crate::Context;
use crate::observed::Worker;
use crate::php::pool::Pool;
use crate::php::share::{in_force, may_be_stale, title};
use crate::php::{Changed, How, Site};
use crate::report::{Finding, Severity, Subject};
use crate::size::human;

/// Workers that run with another limit than the files have, or more of them.
pub fn pool(context: &Context<'_>, site: &Site, pool: &Pool, found: &mut Vec<Finding>) {
    let title = title(&context.facts.php, site, pool);
    let configured = pool.limit_bytes();
    let looked: Vec<&Worker> = context
        .observed
        .workers
        .iter()
        .filter(|worker| worker.pool == pool.name && site.has_master(worker.master_tgid))
        .collect();
    if !may_be_stale(site, pool) {
        raised(context, &title, pool, &looked, found);
    }
    let looked = looked.len();
    if let Some(limit) = in_force(site, pool, context.observed)
        && limit != configured
    {
        let says = |limit: Option<u64>| match limit {
            Some(limit) => format!("memory_limit {}", human(limit)),
            None => "no memory_limit".to_owned(),
        };
        let summary = format!(
            "pool {title} runs with {}, but its files say {}",
            says(limit),
            says(configured)
        );
        let why =
            "The master keeps what it read at its start: what the files say holds after a reload.";
        let mut finding = Finding::new(
            "php_limit_not_in_force",
            Severity::Warning,
            Subject::Php,
            title.clone(),
            summary,
            why,
        );
        finding.at = pool.memory.limit_bytes.at.clone();
        finding.figures = BTreeMap::from([("workers", looked as u64)]);
        for (figure, limit) in [("in_force_bytes", limit), ("configured_bytes", configured)] {
            finding.figures.extend(limit.map(|limit| (figure, limit)));
        }
        found.push(finding);
    }
    let running = pool.running.len() as u64;
    let is_known = pool.max_children.value > 0 && site.masters.len() == 1;
    if is_known && running > u64::from(pool.max_children.value) {
        let summary = format!(
            "pool {title} has {running} workers, but pm.max_children is {}",
            pool.max_children.value
        );
        let why =
            "The master keeps what it read at its start: what the files say holds after a reload.";
        let mut finding = Finding::new(
            "php_workers_not_in_force",
            Severity::Warning,
            Subject::Php,
            title,
            summary,
            why,
        );
        finding.at = pool.max_children.at.clone();
        finding.figures = BTreeMap::from([
            ("running", running),
            ("max_children", pool.max_children.value.into()),
        ]);
        found.push(finding);
    }
}

/// Workers whose limit is above that of the files: their scripts raised it.
fn raised(
    context: &Context<'_>,
    title: &str,
    pool: &Pool,
    looked: &[&Worker],
    found: &mut Vec<Finding>,
) {
    let Some(configured) = pool.limit_bytes() else {
        return;
    };
    let value = |worker: &&Worker| worker.limit_bytes.unwrap_or(u64::MAX);
    let raised = || looked.iter().copied().filter(|worker| value(worker) > configured);
    let Some(most) = raised().max_by_key(value) else {
        return;
    };
    let room = context.budget.room_for_bytes(Subject::Php);
    let known = context.budget.total_bytes > 0;
    let too_much = most.limit_bytes.is_none_or(|limit| known && limit > room);
    let severity = if too_much { Severity::Warning } else { Severity::Info };
    let limit = most.limit_bytes.map_or("no memory_limit".to_owned(), |limit| {
        format!("a memory_limit of {}", human(limit))
    });
    let workers = raised().count();
    let more = match workers {
        1 => String::new(),
        many => format!(", and {} more with another than that", many - 1),
    };
    let summary = format!(
        "worker {} of pool {title} runs with {limit}, while its files say {}{more}",
        most.tgid,
        human(configured)
    );
    let why =
        "Its script set that, by ini_set or a .user.ini; only php_admin_value pins the limit.";
    let mut finding =
        Finding::new("php_limit_raised_by_script", severity, Subject::Php, title, summary, why);
    finding.at = pool.memory.limit_bytes.at.clone();
    finding.figures =
        BTreeMap::from([("workers", workers as u64), ("configured_bytes", configured)]);
    finding.figures.extend(most.limit_bytes.map(|limit| ("in_force_bytes", limit)));
    found.push(finding);
}

/// Files and folders that changed after the master read them.
pub fn changed(site: &Site, found: &mut Vec<Finding>) {
    let by_weight = |changed: &&Changed| (changed.how == How::Written, changed.unix_s);
    let Some(latest) = site.changed.iter().max_by_key(by_weight) else {
        return;
    };
    let master = site.masters.first().map_or(0, |master| master.tgid);
    let path = latest.file.display();
    let (severity, what) = match latest.how {
        How::Written => (Severity::Warning, format!("{path} was written")),
        How::Moved => (Severity::Info, format!("{path} was moved, or its owner or mode changed,")),
        How::Filled => (Severity::Info, format!("files came or went in {path}")),
    };
    let more = match site.changed.len() {
        1 => String::new(),
        many => format!(", and {} more changed", many - 1),
    };
    let summary = format!(
        "{what} after php-fpm {master} read its configuration{more}: the change is not in force"
    );
    let why = "The next restart brings another configuration than the one that runs; until then a fix does \
               nothing.";
    let subject = site.version.map_or("php-fpm".to_owned(), |version| format!("php-fpm {version}"));
    let mut finding = Finding::new(
        "php_configuration_not_in_force",
        severity,
        Subject::Php,
        subject,
        summary,
        why,
    );
    finding.at = Some(crate::Origin::whole(latest.file.clone()));
    let others = site.changed.iter().filter(|changed| changed.file != latest.file);
    finding.others = others.map(|changed| crate::Origin::whole(changed.file.clone())).collect();
    finding.figures = BTreeMap::from([("files", site.changed.len() as u64)]);
    found.push(finding);
}

//! What is wrong with PHP-FPM.

mod files;
mod in_force;
mod lifetime;
mod memory;

use super::Site;
use super::pool::{DEFAULT_LIMIT_BYTES, Pool, SetBy};
use super::share::{Fit, php_size};
use crate::Context;
use crate::report::{Change, Finding, Severity};

/// All findings.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut together = memory::Together::default();
    for (site, pool) in context.facts.php.pools() {
        let exhausts = memory::pool(context, site, pool, &mut together, &mut found);
        memory::scripts(context, site, pool, &mut found);
        lifetime::requests(context, site, pool, &mut found);
        lifetime::timeout(context, site, pool, exhausts, &mut found);
        in_force::pool(context, site, pool, &mut found);
    }
    together.judge(context, &mut found);
    for site in context.facts.php.sites.iter().filter(|site| site.counts) {
        files::site(site, &mut found);
        in_force::changed(site, &mut found);
    }
    found
}

/// The line that makes a pool fit: fewer workers where enough of them stay, else a lower limit. None where it does.
fn change(site: &Site, pool: &Pool, fit: &Fit) -> Option<Change> {
    if fit.workers >= pool.workers {
        return None;
    }
    let limit = pool.limit_bytes();
    let enough = pool.workers.min(5).max(pool.max_spare).max(1);
    let fewer = limit.is_some_and(|limit| limit <= 512 << 20) && fit.workers >= enough;
    if fewer {
        return set(site, pool, "pm.max_children", &fit.workers.to_string());
    }
    match fit.limit_bytes {
        // Never more than there is now: then it would not be the limit that is wrong.
        Some(bytes) if limit.is_none_or(|limit| bytes < limit) => {
            Some(set_limit(site, pool, bytes.min(512 << 20)))
        }
        // One line is not enough: the usual limit first, then fewer workers of it.
        _ if limit.is_none_or(|limit| limit > DEFAULT_LIMIT_BYTES) => {
            Some(set_limit(site, pool, DEFAULT_LIMIT_BYTES))
        }
        _ if fit.workers >= 1 => set(site, pool, "pm.max_children", &fit.workers.to_string()),
        _ => None,
    }
}

/// The pool's `php_admin_value[memory_limit]`, in the place of what sets it now.
fn set_limit(site: &Site, pool: &Pool, bytes: u64) -> Change {
    let to = format!("php_admin_value[memory_limit] = {}", php_size(bytes));
    let of_pool = matches!(pool.memory.set_by, SetBy::PhpValue | SetBy::PhpAdminValue);
    match pool.memory.limit_bytes.at.as_ref().filter(|_| of_pool) {
        Some(at) => Change::replace(at.clone(), pool.line(at).unwrap_or_default(), to),
        None => add(site, pool, to),
    }
}

/// `key = value` in the place of the line that sets it, or as a new one.
fn set(site: &Site, pool: &Pool, key: &str, value: &str) -> Option<Change> {
    let to = format!("{key} = {value}");
    let at = match key {
        "pm.max_children" => pool.max_children.at.as_ref(),
        "pm.max_requests" => pool.max_requests.at.as_ref(),
        "request_terminate_timeout" => pool.terminate_timeout_s.at.as_ref(),
        _ => None,
    };
    Some(match at {
        Some(at) => Change::replace(at.clone(), pool.line(at).unwrap_or_default(), to),
        None => add(site, pool, to),
    })
}

fn add(site: &Site, pool: &Pool, to: String) -> Change {
    let file = pool.sections.first().map(|section| section.file.clone());
    let file = file.unwrap_or_else(|| site.conf.as_path().into());
    Change::add(file, Some(&pool.name), to)
}

/// At most `most`, where it is Debian's own configuration that is judged.
fn at_most(severity: Severity, most: Severity, stock: bool) -> Severity {
    if stock { severity.min(most) } else { severity }
}

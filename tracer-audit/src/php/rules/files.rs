//! Lines that do not do what they seem to.

use std::collections::BTreeMap;

use crate::php::Site;
use crate::php::drop_in::is_ours;
use crate::php::ini::quantity;
use crate::php::pool::{Memory, Pool};
use crate::report::{Finding, Severity, Subject};
use crate::size::human;

/// Judges the files of one php-fpm.
pub fn site(site: &Site, found: &mut Vec<Finding>) {
    let title = site.version.map_or("php-fpm".to_owned(), |version| format!("php-fpm {version}"));
    if let Some((at, refused)) = site.refused.first() {
        let summary = format!("{title} refuses its configuration: {refused}");
        let why = "What runs goes on with what it read at its start; the next restart fails, and PHP is gone.";
        let mut finding = Finding::new(
            "php_configuration_refused",
            Severity::Warning,
            Subject::Php,
            title.clone(),
            summary,
            why,
        );
        finding.at = Some(at.clone());
        finding.others = site.refused.iter().skip(1).take(8).map(|(at, _)| at.clone()).collect();
        finding.figures = BTreeMap::from([("errors", site.refused.len() as u64)]);
        found.push(finding);
    }
    let ini = crate::php::ini_memory(&site.ini, site.version);
    odd(&ini, &title, found);
    for (section, set) in &site.ini.special {
        let limit = quantity::parse(&set.value, site.version).limit();
        let larger = |pool: &&Pool| {
            limit.is_none_or(|limit| pool.limit_bytes().is_some_and(|own| limit > own))
        };
        if let Some(pool) = site.pools.iter().find(larger) {
            let size = limit.map_or("no limit".to_owned(), human);
            let summary = format!(
                "scripts of [{section}] have a memory_limit of their own: {size}, whatever pool {} says",
                pool.name
            );
            let why = "php.ini's sections for folders and hosts come after the pool's values.";
            let mut finding = Finding::new(
                "php_memory_limit_by_path",
                Severity::Info,
                Subject::Php,
                title.clone(),
                summary,
                why,
            );
            finding.at = set.at.clone();
            finding.figures.extend(limit.map(|limit| ("limit_bytes", limit)));
            found.push(finding);
        }
    }
    for pool in &site.pools {
        let own = Memory { odd: Vec::new(), ..pool.memory.clone() };
        let of_pool = pool.memory.odd.iter().filter(|odd| !ini.odd.contains(odd)).cloned();
        odd(&Memory { odd: of_pool.collect(), ..own }, &pool.name, found);
        dead(pool, found);
    }
}

fn odd(memory: &Memory, title: &str, found: &mut Vec<Finding>) {
    for odd in &memory.odd {
        let taken = match odd.taken_bytes {
            Some(bytes) => format!("is {} to PHP", human(bytes)),
            None => format!(
                "is too small or no size to PHP, which stays with {}",
                memory.limit_bytes.value.map_or("no limit".to_owned(), human)
            ),
        };
        let summary = format!("memory_limit = {} {taken}", odd.text);
        let why = "PHP takes the digits in front and the last letter if it is K, M or G, and warns at most \
                   in its log.";
        let mut finding = Finding::new(
            "php_memory_limit_odd",
            Severity::Warning,
            Subject::Php,
            title.to_owned(),
            summary,
            why,
        );
        finding.at = odd.at.clone();
        finding.figures.extend(odd.taken_bytes.map(|bytes| ("taken_bytes", bytes)));
        found.push(finding);
    }
}

/// Of two that set the same value in the same way, the first one counts.
fn dead(pool: &Pool, found: &mut Vec<Finding>) {
    let Some(dead) = pool.memory.dead.first() else {
        return;
    };
    let limit = pool.limit_bytes().map_or("no limit".to_owned(), human);
    let summary = format!(
        "memory_limit = {} of pool {} has no effect: it is set twice, and the first counts: {limit}",
        dead.value, pool.name
    );
    let why = "php-fpm applies php_value and php_admin_value from the last to the first.";
    // The plan sets it so on purpose.
    let counts = pool.memory.limit_bytes.at.as_ref();
    let is_meant = counts.is_some_and(|at| is_ours(&at.file));
    let severity = if is_meant { Severity::Info } else { Severity::Warning };
    let mut finding = Finding::new(
        "php_memory_limit_set_twice",
        severity,
        Subject::Php,
        pool.name.clone(),
        summary,
        why,
    );
    finding.at = dead.at.clone();
    finding.others = pool.memory.limit_bytes.at.clone().into_iter().collect();
    finding.figures.extend(pool.limit_bytes().map(|limit| ("limit_bytes", limit)));
    found.push(finding);
}

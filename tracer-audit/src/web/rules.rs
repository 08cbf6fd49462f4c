//! What is wrong with the web servers.

use std::collections::BTreeMap;

use super::apache::Apache;
use super::apache::mpm::Kind;
use super::socket::Socket;
use crate::Context;
use crate::budget::Demand;
use crate::origin::{Origin, Set};
use crate::php::{DEFAULT_LIMIT_BYTES, Module, Pool};
use crate::report::{Change, Finding, Severity, Subject};
use crate::size::human;

/// What a process of Apache or nginx takes without PHP, bytes: 2 to 10 MiB of its own.
const PROCESS_BYTES: u64 = 8 << 20;

/// What an idle process of Apache with PHP has of its own, bytes.
const IDLE_PHP_BYTES: u64 = 16 << 20;

/// Debian's MaxRequestWorkers for prefork.
const STOCK_WORKERS: u32 = 150;

/// What mod_php may use as it comes, bytes: nobody chose that, and no host has so much load by itself.
pub const STOCK_BYTES: u64 = STOCK_WORKERS as u64 * DEFAULT_LIMIT_BYTES;

/// A worst case of so many times the room is no overcommitment that works out.
const CRITICAL_FACTOR: u64 = 4;

/// A demand for each server.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    let mut demands = Vec::new();
    let web = &context.facts.web;
    if let Some(apache) = &web.apache
        && let Some(mpm) = &apache.mpm
    {
        let processes = u64::from(mpm.processes);
        let held = (apache.held_bytes > 0).then_some(apache.held_bytes);
        let few = processes.min(10);
        demands.push(match mod_php(context, apache) {
            Some(php) => {
                let worst_bytes =
                    php.limit.value.map(|limit| limit.saturating_mul(php.workers.into()));
                let reserved = held.unwrap_or(few * IDLE_PHP_BYTES);
                Demand {
                    subject: Subject::Web,
                    name: "apache2 with mod_php".to_owned(),
                    reserved_bytes: worst_bytes.map_or(reserved, |worst| reserved.min(worst)),
                    worst_bytes,
                    observed_bytes: held,
                    how: php.how(),
                    at: mpm.workers.at.clone(),
                }
            }
            None => small("apache2", processes, held, mpm.workers.at.clone()),
        });
    }
    if let Some(nginx) = &web.nginx {
        let held = (nginx.held_bytes > 0).then_some(nginx.held_bytes);
        let processes = u64::from(nginx.worker_processes()).saturating_add(1);
        demands.push(small("nginx", processes, held, nginx.processes.at.clone()));
    }
    demands
}

fn small(name: &str, processes: u64, held: Option<u64>, at: Option<Origin>) -> Demand {
    let worst = processes.saturating_mul(PROCESS_BYTES);
    Demand {
        subject: Subject::Web,
        name: name.to_owned(),
        reserved_bytes: held.unwrap_or(processes.min(4) * PROCESS_BYTES),
        worst_bytes: Some(worst.max(held.unwrap_or(0))),
        observed_bytes: held,
        how: format!("{processes} processes of {}", human(PROCESS_BYTES)),
        at,
    }
}

/// PHP inside of Apache.
struct ModPhp<'a> {
    module: Option<&'a Module>,
    workers: u32,
    /// The largest that any request has, bytes; None is no limit.
    limit: Set<Option<u64>>,
}

impl ModPhp<'_> {
    fn how(&self) -> String {
        match self.limit.value {
            Some(limit) => format!("{} workers of {}", self.workers, human(limit)),
            None => format!("{} workers without memory_limit", self.workers),
        }
    }
}

/// None where Apache has no PHP, or threads that a PHP without thread safety does not run in.
fn mod_php<'a>(context: &Context<'a>, apache: &Apache) -> Option<ModPhp<'a>> {
    let version = apache.php?;
    let mpm = apache.mpm.as_ref().filter(|mpm| mpm.kind == Kind::Prefork)?;
    let modules = &context.facts.php.modules;
    let module = modules.iter().find(|module| Some(module.version) == version).or(modules.last());
    let ini = || match module {
        Some(module) => module.memory.limit_bytes.clone(),
        None => Set::default_of(Some(DEFAULT_LIMIT_BYTES)),
    };
    let plain = apache.php_limit.clone().unwrap_or_else(ini);
    let all = apache.php_limits.iter().cloned().chain([plain]);
    let limit = all.max_by_key(|set| set.value.unwrap_or(u64::MAX))?;
    Some(ModPhp { module, workers: mpm.workers.value, limit })
}

/// All findings.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let web = &context.facts.web;
    if let Some(apache) = &web.apache {
        let refused = apache.refused.as_ref().map(|(at, error)| (at, error.to_string()));
        refuses("Apache", refused, &mut found);
        if let Some(php) = mod_php(context, apache) {
            found.extend(too_large(context, apache, &php));
        }
        if let Some(mpm) = &apache.mpm {
            let passes = u64::from(mpm.workers.value);
            admission(context, "Apache", passes, &mpm.workers.at, &apache.sockets, &mut found);
        }
    }
    if let Some(nginx) = &web.nginx {
        let refused = nginx.refused.as_ref().map(|(at, error)| (at, error.to_string()));
        refuses("nginx", refused, &mut found);
        let at = &nginx.connections.at;
        admission(context, "nginx", nginx.passes(), at, &nginx.sockets, &mut found);
    }
    found
}

fn refuses(server: &str, refused: Option<(&Origin, String)>, found: &mut Vec<Finding>) {
    let Some((at, error)) = refused else {
        return;
    };
    let summary = format!("{server} refuses its configuration: {error}");
    let why = "What runs goes on with what it read at its start; the next restart fails.";
    let mut finding = Finding::new(
        "web_configuration_refused",
        Severity::Warning,
        Subject::Web,
        server,
        summary,
        why,
    );
    finding.at = Some(at.clone());
    found.push(finding);
}

fn too_large(context: &Context<'_>, apache: &Apache, php: &ModPhp<'_>) -> Option<Finding> {
    let room = context.budget.room_for_bytes(Subject::Web);
    let known = context.budget.total_bytes > 0;
    let workers = u64::from(php.workers);
    let Some(limit) = php.limit.value else {
        let summary = format!(
            "mod_php has no memory_limit: each of Apache's {workers} workers may take all memory"
        );
        let why = "One request that grows without end is enough to have the kernel kill processes.";
        let mut finding = Finding::new(
            "web_mod_php_unlimited",
            Severity::Critical,
            Subject::Web,
            "apache2",
            summary,
            why,
        );
        finding.at = php.limit.at.clone();
        finding.excess_bytes = u64::MAX;
        finding.figures = BTreeMap::from([("workers", workers), ("room_bytes", room)]);
        finding.change = limit_change(apache, php, DEFAULT_LIMIT_BYTES);
        return Some(finding);
    };
    let worst = limit.saturating_mul(workers);
    if !known || worst <= room {
        return None;
    }
    let fitting = room / limit.max(1);
    let stock = php.workers <= STOCK_WORKERS && limit <= DEFAULT_LIMIT_BYTES;
    let worse = worst > STOCK_BYTES;
    let two = limit.saturating_mul(workers.min(2));
    let severity = if stock {
        Severity::Info
    } else if two > room || worse && worst / CRITICAL_FACTOR >= room {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let debian = if stock { "; these are the values that Apache and PHP come with" } else { "" };
    let summary = format!(
        "mod_php may use {}: {workers} workers of {}, but {} are left to the web server; {fitting} of them \
         fit{debian}",
        human(worst),
        human(limit),
        human(room),
    );
    let why = "Each worker of Apache keeps a PHP of its own; when many of them grow at once, the kernel kills \
               processes.";
    let mut finding =
        Finding::new("web_mod_php_too_large", severity, Subject::Web, "apache2", summary, why);
    let workers_at = apache.mpm.as_ref().and_then(|mpm| mpm.workers.at.clone());
    let mut places = [workers_at.clone(), php.limit.at.clone()].into_iter().flatten();
    finding.at = places.next();
    finding.others = places.collect();
    finding.excess_bytes = worst - room;
    finding.figures = BTreeMap::from([
        ("worst_bytes", worst),
        ("workers", workers),
        ("worker_bytes", limit),
        ("room_bytes", room),
        ("workers_that_fit", fitting),
    ]);
    finding.change = if limit > DEFAULT_LIMIT_BYTES {
        limit_change(apache, php, DEFAULT_LIMIT_BYTES)
    } else if fitting >= 1 {
        let to = format!("MaxRequestWorkers {fitting}");
        Some(match workers_at {
            Some(at) => Change::replace(at.clone(), line(apache, &at), to),
            None => Change::add(apache.conf.clone(), None, to),
        })
    } else {
        None
    };
    Some(finding)
}

/// The line that sets PHP's limit, with another one.
fn limit_change(apache: &Apache, php: &ModPhp<'_>, bytes: u64) -> Option<Change> {
    let at = php.limit.at.as_ref()?;
    let of_ini = php.module.and_then(|module| module.ini.lines.get(at));
    let mib = bytes >> 20;
    Some(match of_ini {
        Some(line) => Change::replace(at.clone(), line, format!("memory_limit = {mib}M")),
        None => Change::replace(
            at.clone(),
            line(apache, at),
            format!("php_admin_value memory_limit {mib}M"),
        ),
    })
}

fn line(apache: &Apache, at: &Origin) -> String {
    apache.lines.get(at).cloned().unwrap_or_default()
}

/// What a server passes on against what a pool takes.
fn admission(
    context: &Context<'_>,
    server: &str,
    passes: u64,
    at: &Option<Origin>,
    sockets: &[(Socket, Origin)],
    found: &mut Vec<Finding>,
) {
    for (_, pool) in context.facts.php.pools() {
        let Some(own) = pool.listen.as_ref().and_then(|listen| Socket::of_pool(&listen.value))
        else {
            continue;
        };
        let Some((_, from)) = sockets.iter().find(|(socket, _)| *socket == own) else {
            continue;
        };
        let children = u64::from(pool.workers);
        if passes > children {
            found.push(admits(server, passes, at, from, pool));
        }
    }
}

fn admits(server: &str, passes: u64, at: &Option<Origin>, from: &Origin, pool: &Pool) -> Finding {
    let backlog = u64::try_from(pool.backlog.value).ok();
    // Who sets a queue shorter than the pool has workers loses requests in any burst.
    let short =
        pool.backlog.at.is_some() && backlog.is_some_and(|backlog| backlog < pool.workers.into());
    let queue = match backlog {
        Some(backlog) => format!("listen.backlog lets {backlog} more wait, the others fail"),
        None => "the others wait as long as the kernel's net.core.somaxconn lets them".to_owned(),
    };
    let summary = format!(
        "{server} may pass {passes} requests at a time to pool {}, which works on {}: {queue}",
        pool.name, pool.workers
    );
    let why = "A pool that hangs fills this queue: the site answers late or not at all, long after the cause \
               is gone.";
    let severity = if short { Severity::Warning } else { Severity::Info };
    let mut finding =
        Finding::new("web_admits_more_than_php", severity, Subject::Web, server, summary, why);
    finding.at = Some(from.clone());
    let places = [at.clone(), pool.max_children.at.clone(), pool.backlog.at.clone()];
    finding.others = places.into_iter().flatten().collect();
    finding.figures = BTreeMap::from([("requests", passes), ("workers", pool.workers.into())]);
    finding.figures.extend(backlog.map(|backlog| ("backlog", backlog)));
    finding
}

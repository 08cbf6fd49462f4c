//! How findings name a process.

use std::sync::Arc;

use crate::event::{Php, Subject};
use crate::human;
use crate::model::Process;

/// `php-fpm8.2 (pool www, pid 4242)`.
pub(super) fn process(process: &Process) -> String {
    named(&process.comm, pool(process).as_deref(), process.key.tgid)
}

/// The same from its parts.
pub(super) fn named(comm: &str, pool: Option<&str>, tgid: u32) -> String {
    match pool {
        Some(pool) => format!("{} (pool {}, pid {tgid})", human::name(comm), human::name(pool)),
        None => format!("{} (pid {tgid})", human::name(comm)),
    }
}

/// The PHP pool of a process.
pub(super) fn pool(process: &Process) -> Option<Arc<str>> {
    process.php.as_ref().and_then(|Php { pool, .. }| pool.clone())
}

/// The process as a finding's subject.
pub(super) fn subject(process: &Process) -> Subject {
    Subject {
        tgid: process.key.tgid,
        start_ns: process.key.start_ns,
        comm: Arc::clone(&process.comm),
        pool: pool(process),
        cgroup: process.cgroup.clone(),
    }
}

//! Resolves what the kernel programs read, and the rest of their globals, against the running
//! kernel.

use tracer_ebpf::offsets::ABSENT;

use super::btf::{Argument, Btf};

/// A global of the object and its value.
pub type Global = (&'static str, u32);

/// Fields that some kernels lack, and that the programs can do without.
const OPTIONAL: [&str; 7] = [
    "MM_OWNER",
    "MM_PAGE_TABLES",
    "MM_DATA",
    "MEMCG_OOM_GROUP",
    "MEMCG_EVENTS_LOCAL",
    "OC_MEMCG",
    "OC_CONSTRAINT",
];

/// A field that is needed and not there.
#[derive(Debug, thiserror::Error)]
#[error("this kernel's BTF has no {structure}.{field}")]
pub struct MissingField {
    /// Struct.
    pub structure: &'static str,
    /// First choice of the field's name.
    pub field: &'static str,
}

macro_rules! table {
    ($($name:ident: $structure:literal [$($field:literal),+];)+) => {
        &[$((stringify!($name), $structure, &[$($field),+])),+]
    };
}
const TABLE: &[(&str, &str, &[&str])] = tracer_ebpf::for_each_offset!(table);

/// Struct of a counter of an mm, from 6.2 on.
const PER_CPU_COUNTER: &str = "percpu_counter";
/// Enum of the controllers.
const SUBSYSTEMS: &str = "cgroup_subsys_id";
/// Enum of the events of a memory cgroup.
const MEMCG_EVENTS: &str = "memcg_memory_event";

/// Whether [`resolve`] looks at the struct or enum of this name.
pub(super) fn asks_for(name: &str) -> bool {
    [PER_CPU_COUNTER, SUBSYSTEMS, MEMCG_EVENTS].contains(&name)
        || TABLE.iter().any(|(_, structure, _)| *structure == name)
}

/// All offsets of the running kernel.
pub fn resolve(btf: &Btf) -> Result<Vec<Global>, MissingField> {
    let mut globals = Vec::with_capacity(TABLE.len() + 8);
    for &(name, structure, fields) in TABLE {
        match fields.iter().find_map(|field| btf.offset(structure, field)) {
            Some(offset) => globals.push((name, offset)),
            None if OPTIONAL.contains(&name) => globals.push((name, ABSENT)),
            None => return Err(MissingField { structure, field: fields[0] }),
        }
    }
    // From 6.2 on each counter is a percpu_counter; before, all are in one struct of words.
    let per_cpu = btf.offset("mm_struct", "rss_stat.count").is_none();
    let (stride, count) = if per_cpu {
        let missing = MissingField { structure: PER_CPU_COUNTER, field: "count" };
        match (btf.size(PER_CPU_COUNTER), btf.offset(PER_CPU_COUNTER, "count")) {
            (Some(size), Some(count)) => (size, count),
            _ => return Err(missing),
        }
    } else {
        (8, 0)
    };
    // MM_ANONPAGES is 1 and MM_SWAPENTS is 2.
    let counter = |member: u32| {
        let missing = MissingField { structure: "mm_struct", field: "rss_stat" };
        btf.offset("mm_struct", "rss_stat").map(|at| at + count + stride * member).ok_or(missing)
    };
    let memory = btf
        .enum_value(SUBSYSTEMS, "memory_cgrp_id")
        .ok_or(MissingField { structure: SUBSYSTEMS, field: "memory_cgrp_id" })?;
    let oom_event = btf.enum_value(MEMCG_EVENTS, "MEMCG_OOM");
    if oom_event.is_none() {
        // Its default in the object is ABSENT.
        globals.retain(|(name, _)| *name != "MEMCG_EVENTS_LOCAL");
    }
    let exit_has_group_dead =
        btf.tracepoint("sched_process_exit").is_some_and(|arguments| arguments.len() > 1);
    globals.extend([
        ("RSS_STRIDE", stride),
        ("RSS_COUNT", count),
        ("ANON_AT", counter(1)?),
        ("SWAP_AT", counter(2)?),
        ("MEMORY_SUBSYS", memory * 8),
        ("MEMCG_OOM_EVENT", oom_event.unwrap_or(0) * 8),
        ("EXIT_HAS_GROUP_DEAD", u32::from(exit_has_group_dead)),
    ]);
    Ok(globals)
}

/// Whether oom:mark_victim carries the victim's task (else only its thread id).
pub fn mark_carries_task(btf: &Btf) -> bool {
    btf.tracepoint("mark_victim")
        .is_some_and(|arguments| matches!(arguments.first(), Some(Argument::Struct(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::VMLINUX;
    use std::path::Path;

    #[test]
    fn every_field_is_found_in_this_kernel() {
        let path = Path::new(VMLINUX);
        if !path.exists() {
            return;
        }
        let btf = Btf::open(path).unwrap();
        let globals = resolve(&btf).unwrap();
        assert_eq!(globals.len(), TABLE.len() + 7);
        let value = |name: &str| globals.iter().find(|(global, _)| *global == name).unwrap().1;
        assert_ne!(value("TASK_TGID"), value("TASK_PID"));
        assert!(value("RSS_STRIDE") >= 8);
        assert_eq!(value("MEMORY_SUBSYS") % 8, 0);
    }
}

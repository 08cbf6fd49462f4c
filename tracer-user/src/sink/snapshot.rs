//! What is known now as events, so that a file that starts in the middle of a run can be read
//! alone.

use std::cmp::Reverse;

use crate::event::{self, Event, Pressure, ProcessCause};
use crate::model::{self, Model};

/// Host, memory cgroups, then processes, those with most anon + swap first.
pub fn events(model: &Model) -> impl Iterator<Item = Event> {
    let mut processes: Vec<_> = model.processes().collect();
    processes.sort_by_key(|process| (Reverse(process.memory.private_bytes()), process.key));
    let mut cgroups: Vec<_> = model.cgroups().collect();
    cgroups.sort_by(|a, b| a.path.cmp(&b.path));
    host(model.host())
        .into_iter()
        .chain(cgroups.into_iter().map(cgroup))
        .chain(processes.into_iter().flat_map(process))
}

fn host(host: &model::Host) -> Option<Event> {
    (host.mem_total_bytes > 0).then(|| {
        Event::Pressure(Pressure {
            scope: "host".into(),
            used_bytes: host.mem_total_bytes.saturating_sub(host.available_bytes),
            limit_bytes: Some(host.mem_total_bytes),
            available_bytes: Some(host.available_bytes),
            swap_free_bytes: Some(host.swap_free_bytes),
            shmem_bytes: host.shmem_bytes,
            some_avg10: host.some_avg10,
            full_avg10: host.full_avg10,
        })
    })
}

fn cgroup(cgroup: &model::Cgroup) -> Event {
    Event::Cgroup(Box::new(event::Cgroup {
        path: cgroup.path.clone(),
        usage_bytes: cgroup.usage_bytes,
        max_bytes: cgroup.max_bytes,
        high_bytes: cgroup.high_bytes,
        swap_usage_bytes: cgroup.swap_usage_bytes,
        swap_max_bytes: cgroup.swap_max_bytes,
        reclaimable_bytes: Some(cgroup.reclaimable_bytes),
        shmem_bytes: cgroup.shmem_bytes,
        events: cgroup.events,
        oom_group: cgroup.oom_group,
        oom_disabled: cgroup.oom_disabled,
        memsw_max_bytes: cgroup.memsw_max_bytes,
        ..event::Cgroup::default()
    }))
}

fn process(process: &model::Process) -> [Event; 2] {
    [
        Event::Process(event::Process {
            tgid: process.key.tgid,
            start_ns: process.key.start_ns,
            ppid: process.ppid,
            comm: process.comm.clone(),
            cmdline: process.cmdline.clone(),
            exe: None,
            uid: process.uid,
            cgroup: process.cgroup.clone(),
            php: process.php.as_deref().cloned(),
            cause: ProcessCause::Found,
        }),
        Event::Growth(process.memory),
    ]
}

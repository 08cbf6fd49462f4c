//! Memory cgroups that come and go, and processes that move: cgroup_mkdir, _rmdir, _attach_task.

use aya_ebpf::helpers::bpf_probe_read_kernel_str_bytes;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use tracer_ebpf::{CgroupPathRecord, PATH_BYTES, Task, kind, path_op};

use crate::hook::Args;
use crate::maps::{Drop, head, send};
use crate::memcg;
use crate::read::{CGROUP_KN, CGROUP_SUBSYS, KN_ID, MEMORY_SUBSYS, TASK_LEADER, TASK_PID, field};
use crate::task;
use crate::tracepoint;

tracepoint!(cgroup_mkdir, cgroup_mkdir_raw, try_mkdir);
tracepoint!(cgroup_rmdir, cgroup_rmdir_raw, try_rmdir);
tracepoint!(attach_task, attach_task_raw, try_attach);

/// Where a record is put together: too large for the stack, and these hooks run one at a time,
/// under the kernel's cgroup_mutex.
#[map]
static PATH: Array<CgroupPathRecord> = Array::with_max_entries(1, 0);

#[inline(always)]
fn try_mkdir(args: Args) -> Result<(), Drop> {
    changed(args, path_op::MKDIR)
}

#[inline(always)]
fn try_rmdir(args: Args) -> Result<(), Drop> {
    changed(args, path_op::RMDIR)
}

#[inline(always)]
fn changed(args: Args, op: u32) -> Result<(), Drop> {
    if !has_memory(args.get(0))? {
        return Ok(());
    }
    emit(kind::CGROUP_PATH, op, args.get(0), args.get(1), None)
}

/// Whether this cgroup has a memory controller of its own: hierarchies of other v1 controllers,
/// and v2 cgroups below which memory is not controlled, have none.
#[inline(always)]
fn has_memory(cgroup: u64) -> Result<bool, Drop> {
    let css: u64 = field(cgroup.wrapping_add(u64::from(MEMORY_SUBSYS.load())), &CGROUP_SUBSYS)?;
    Ok(css != 0)
}

#[inline(always)]
fn try_attach(args: Args) -> Result<(), Drop> {
    let task = args.get(2);
    let tgid = task::tgid(task)?;
    if tgid != field::<u32>(task, &TASK_PID)? || !has_memory(args.get(0))? {
        return Ok(());
    }
    emit(kind::CGROUP_MOVE, path_op::ATTACH, args.get(0), args.get(1), Some(task))?;
    // From now on other limits are the tightest.
    let leader: u64 = field(task, &TASK_LEADER)?;
    if let Some(entry) = task::entry(tgid, task::start_ns(leader)?) {
        let step_pages = memcg::step_pages(memcg::of_task(task)?);
        // SAFETY: a map value of this process.
        unsafe { (*entry).step_pages = step_pages };
    }
    Ok(())
}

#[inline(always)]
fn emit(kind: u32, op: u32, cgroup: u64, path: u64, task: Option<u64>) -> Result<(), Drop> {
    let Some(record) = PATH.get_ptr_mut(0) else { return Ok(()) };
    let kn: u64 = field(cgroup, &CGROUP_KN)?;
    // SAFETY: a map value of this type; nobody else writes it meanwhile. The helper checks `path`.
    unsafe {
        (*record).head = head(kind);
        match task {
            Some(task) => task::identity(task, &raw mut (*record).task)?,
            None => (*record).task = Task::default(),
        }
        (*record).cgroup_id = field(kn, &KN_ID)?;
        (*record).op = op;
        let len = bpf_probe_read_kernel_str_bytes(path as *const u8, &mut (*record).path)
            .map_err(|_| Drop::UNREADABLE)?
            .len();
        (*record).path_len = (len & (PATH_BYTES - 1)) as u32;
        send(kind, &*record)
    }
}

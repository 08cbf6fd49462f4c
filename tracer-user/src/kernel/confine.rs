//! What a long-running tracer gives away once it is set up: all capabilities but those that reading and
//! attaching still need, the way to new ones, and system calls that it never makes.

use std::collections::BTreeMap;

use caps::{CapSet, Capability, CapsHashSet};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// What is needed while tracing: maps and iterators of BPF; probes of pools that come later; memory and
/// files of other users' processes below /proc; folders that others may not list; memory that stays
/// locked as it is touched.
const KEPT: [Capability; 5] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_IPC_LOCK,
];

/// What neither the tracer nor its courier does, and the commands that it runs have no business with:
/// changing kernel, mounts, namespaces, clocks and other processes. They get EPERM. Programs of another
/// architecture than this one, such as 32-bit ones, are ended by the kernel at their first call.
const REFUSED: [libc::c_long; 40] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Access to ports, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: [libc::c_long; 2] = [libc::SYS_ioperm, libc::SYS_iopl];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: [libc::c_long; 0] = [];

/// A process that is started in a namespace of its own, which would give it all capabilities there.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Bit of the numbers of the x32 calls, which x86-64 has beside its own.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Why privileges could not be given away.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Of capabilities.
    #[error("capabilities cannot be dropped: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// Of the filter.
    #[error("the filter of system calls cannot be made: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// Of the kernel.
    #[error("the kernel refuses the filter of system calls: {0}")]
    Refused(#[from] seccompiler::Error),
}

/// Drops the capabilities of this thread, and of those that it starts from now on, to [`KEPT`]. Returns
/// the names of what is left. Called when the kernel programs are attached.
pub fn drop_capabilities() -> Result<Vec<String>, ConfineError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept = kept(&permitted);
    if permitted.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding)?;
        for capability in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    let mut names: Vec<String> = kept.iter().map(ToString::to_string).collect();
    names.sort();
    Ok(names)
}

/// As [`drop_capabilities`]; a failure is said, and nothing else: to trace with too much is better than
/// not to trace.
pub fn give_away() {
    match drop_capabilities() {
        Ok(left) => tracing::debug!("capabilities left: {}", left.join(" ")),
        Err(error) => tracing::warn!("{error}; going on with all that this process has"),
    }
}

/// CAP_SYS_ADMIN stays where it stands for CAP_BPF or CAP_PERFMON, which then are not there.
fn kept(permitted: &CapsHashSet) -> CapsHashSet {
    let mut kept: CapsHashSet =
        KEPT.into_iter().filter(|capability| permitted.contains(capability)).collect();
    let is_whole = [Capability::CAP_BPF, Capability::CAP_PERFMON].iter().all(|c| kept.contains(c));
    if !is_whole && permitted.contains(&Capability::CAP_SYS_ADMIN) {
        kept.insert(Capability::CAP_SYS_ADMIN);
    }
    kept
}

/// Refuses the system calls in [`REFUSED`] to every thread of this process and to all that it starts,
/// for good; nothing that is started gains privileges (no_new_privs).
pub fn filter_system_calls() -> Result<(), ConfineError> {
    for filter in filters()? {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(())
}

fn filters() -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let filter = |rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int| {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let action = SeccompAction::Errno(errno.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()
    };
    let calls = REFUSED.iter().chain(&REFUSED_HERE).map(|call| (*call, Vec::new()));
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = calls.collect();
    let in_namespace = NAMESPACES.iter().map(|flag| {
        let flag = u64::from(flag.unsigned_abs());
        let is_set = SeccompCmpOp::MaskedEq(flag);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, is_set, flag)?])
    });
    refused.insert(libc::SYS_clone, in_namespace.collect::<Result<_, _>>()?);
    // Its flags are behind a pointer, where a filter cannot look: whoever uses it falls back to clone.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut refused: BpfProgram = filter(refused, libc::EPERM)?;
    refused.splice(0..0, x32_refused());
    Ok([refused, filter(clone3, libc::ENOSYS)?])
}

/// Load the number; below the bit go on, else EPERM.
#[cfg(target_arch = "x86_64")]
fn x32_refused() -> [sock_filter; 3] {
    let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    [
        sock_filter {
            code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
            jt: 0,
            jf: 0,
            k: 0,
        },
        sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: X32,
        },
        sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: eperm },
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn x32_refused() -> [sock_filter; 0] {
    []
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_kept_and_no_more() {
        let kept = |names: &[Capability]| kept(&names.iter().copied().collect());
        let all = caps::all();
        assert_eq!(super::kept(&all), KEPT.into_iter().collect());
        assert_eq!(kept(&[Capability::CAP_SYS_ADMIN, Capability::CAP_CHOWN]).len(), 1);
        assert_eq!(kept(&[Capability::CAP_CHOWN]).len(), 0);
    }

    #[test]
    fn a_thread_loses_what_it_does_not_need() {
        let left = std::thread::spawn(|| {
            drop_capabilities().unwrap();
            (
                caps::read(None, CapSet::Effective).unwrap(),
                caps::read(None, CapSet::Permitted).unwrap(),
            )
        });
        let (effective, permitted) = left.join().unwrap();
        assert_eq!(effective, permitted);
        assert!(!permitted.contains(&Capability::CAP_CHOWN));
        assert!(
            permitted.is_subset(&KEPT.into_iter().chain([Capability::CAP_SYS_ADMIN]).collect())
        );
    }

    #[test]
    fn refused_calls_get_eperm_and_others_work() {
        std::thread::spawn(|| {
            // Of this thread only: the other tests go on.
            for filter in filters().unwrap() {
                seccompiler::apply_filter(&filter).unwrap();
            }
            let errno = |returned: libc::c_long| {
                assert_eq!(returned, -1);
                std::io::Error::last_os_error().raw_os_error()
            };
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            // SAFETY: the name is readable for its length; setting it to what it is changes nothing.
            let set = unsafe { libc::sethostname(name.as_ptr().cast(), name.trim_end().len()) };
            assert_eq!(errno(set.into()), Some(libc::EPERM));
            // SAFETY: refused before it does anything; were it not, this thread alone would be in a namespace.
            let unshared = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
            assert_eq!(errno(unshared.into()), Some(libc::EPERM));
            let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
            // SAFETY: refused before it does anything; were it not, the child would fail this test, too.
            let cloned = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
            assert_eq!(errno(cloned), Some(libc::EPERM));
            // SAFETY: as above; it has no arguments to read.
            let cloned = unsafe { libc::syscall(libc::SYS_clone3, 0, 0) };
            assert_eq!(errno(cloned), Some(libc::ENOSYS));
            #[cfg(target_arch = "x86_64")]
            {
                // SAFETY: getpid of x32 has no arguments.
                let x32 = unsafe { libc::syscall(libc::SYS_getpid | libc::c_long::from(X32)) };
                assert_eq!(errno(x32), Some(libc::EPERM));
            }
            // Processes and threads can be started all the same.
            assert!(std::process::Command::new("true").status().unwrap().success());
            std::thread::spawn(|| std::fs::read("/proc/self/stat").unwrap()).join().unwrap();
        })
        .join()
        .unwrap();
    }
}

//! Which fields of kernel structs the programs read. User space resolves each against the running
//! kernel's BTF and sets the global of the same name before the programs are loaded: programs
//! written in Rust get no CO-RE relocations, and offsets fixed at compile time would silently read
//! other fields on another kernel.

/// Calls `$callback!` with one line per offset: global, the struct, and the field as alternatives
/// of dotted paths (the first that the kernel has is taken). Anonymous members are looked into.
#[macro_export]
macro_rules! for_each_offset {
    ($callback:ident) => {
        $callback! {
            TASK_TGID: "task_struct" ["tgid"];
            TASK_PID: "task_struct" ["pid"];
            TASK_COMM: "task_struct" ["comm"];
            TASK_LEADER: "task_struct" ["group_leader"];
            TASK_REAL_PARENT: "task_struct" ["real_parent"];
            // 5.5 renamed real_start_time to start_boottime.
            TASK_START: "task_struct" ["start_boottime", "real_start_time"];
            TASK_MM: "task_struct" ["mm"];
            TASK_SIGNAL: "task_struct" ["signal"];
            TASK_CGROUPS: "task_struct" ["cgroups"];
            TASK_MIN_FLT: "task_struct" ["min_flt"];
            TASK_MAJ_FLT: "task_struct" ["maj_flt"];
            TASK_EXIT_CODE: "task_struct" ["exit_code"];
            TASK_CRED: "task_struct" ["real_cred"];
            TASK_THREAD_NODE: "task_struct" ["thread_node"];
            CRED_UID: "cred" ["uid"];
            SIGNAL_LIVE: "signal_struct" ["live"];
            SIGNAL_MIN_FLT: "signal_struct" ["min_flt"];
            SIGNAL_MAJ_FLT: "signal_struct" ["maj_flt"];
            SIGNAL_MAXRSS: "signal_struct" ["maxrss"];
            SIGNAL_FLAGS: "signal_struct" ["flags"];
            SIGNAL_GROUP_EXIT_CODE: "signal_struct" ["group_exit_code"];
            SIGNAL_OOM_SCORE_ADJ: "signal_struct" ["oom_score_adj"];
            SIGNAL_THREAD_HEAD: "signal_struct" ["thread_head"];
            // Absent without CONFIG_MEMCG.
            MM_OWNER: "mm_struct" ["owner"];
            // percpu_counter[4] from 6.2 on, mm_rss_stat.count[4] before.
            MM_RSS_STAT: "mm_struct" ["rss_stat"];
            MM_HIWATER_RSS: "mm_struct" ["hiwater_rss"];
            MM_PAGE_TABLES: "mm_struct" ["pgtables_bytes"];
            MM_DATA: "mm_struct" ["data_vm"];
            CSS_SET_SUBSYS: "css_set" ["subsys"];
            CSS_CGROUP: "cgroup_subsys_state" ["cgroup"];
            CGROUP_KN: "cgroup" ["kn"];
            CGROUP_SUBSYS: "cgroup" ["subsys"];
            KN_ID: "kernfs_node" ["id"];
            MEMCG_MEMORY: "mem_cgroup" ["memory"];
            MEMCG_SWAP: "mem_cgroup" ["swap", "memsw"];
            MEMCG_OOM_GROUP: "mem_cgroup" ["oom_group"];
            // From 5.2 on.
            MEMCG_EVENTS_LOCAL: "mem_cgroup" ["memory_events_local"];
            COUNTER_USAGE: "page_counter" ["usage"];
            COUNTER_MAX: "page_counter" ["max"];
            COUNTER_HIGH: "page_counter" ["high"];
            COUNTER_PARENT: "page_counter" ["parent"];
            OC_MEMCG: "oom_control" ["memcg"];
            OC_CONSTRAINT: "oom_control" ["constraint"];
        }
    };
}

/// Value of an offset whose field the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Calls `$callback!` with the other globals: name, type, and value when not set.
#[macro_export]
macro_rules! for_each_setting {
    ($callback:ident) => {
        $callback! {
            /// The tracer, which leaves itself out.
            SELF_TGID: u32 = 0;
            /// Bytes of a page, as a power of two.
            PAGE_SHIFT: u32 = 12;
            /// Fast path of growth: sizes are compared in units of this many pages, as a power of
            /// two; at most the smallest step.
            QUANTUM_SHIFT: u32 = 6;
            /// Step of growth reports, pages; 0 = by the tightest limit.
            STEP_PAGES: u32 = 0;
            /// Largest step, pages, when it goes by the limit.
            STEP_MAX_PAGES: u32 = 1024;
            /// Smallest step, pages, when it goes by the limit.
            STEP_MIN_PAGES: u32 = 64;
            /// Bytes from one counter of an mm to the next.
            RSS_STRIDE: u32 = 8;
            /// Offset of the value in such a counter.
            RSS_COUNT: u32 = 0;
            /// Offset in the mm of the value of MM_ANONPAGES: the three above put together.
            ANON_AT: u32 = 0;
            /// The same of MM_SWAPENTS.
            SWAP_AT: u32 = 0;
            /// Index of the memory controller in css_set.subsys and cgroup.subsys times 8.
            MEMORY_SUBSYS: u32 = 0;
            /// Index of MEMCG_OOM in mem_cgroup.memory_events_local times 8.
            MEMCG_OOM_EVENT: u32 = 0;
            /// 1: the second argument of sched_process_exit is group_dead (6.16).
            EXIT_HAS_GROUP_DEAD: u32 = 0;
            /// Bytes of unread records above which growth, stalls and cgroup charges are dropped,
            /// so that births, deaths and kills still fit.
            RING_HIGH_WATER: u32 = 0;
        }
    };
}

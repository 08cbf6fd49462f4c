//! What a test needs of its machine. A test may be skipped only for a feature that it names and that
//! the machine provably lacks; on a machine whose lacks are recorded (`RAMPAGE_LACKS`), only for one
//! of those. The probes ask the kernel, never the program under test.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::bpf;
use crate::cgroup::{self, Version};
use crate::php;

/// Comma-separated names of the features that this machine is recorded to lack; not set = nothing
/// is recorded.
const LACKS: &str = "RAMPAGE_LACKS";
/// `ours`: the whole machine may be exhausted.
const MACHINE: &str = "RAMPAGE_MACHINE";
/// A function of the OOM killer that every kernel has.
const HOOKED: &str = "oom_kill_process";
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $probe:expr;)*) => {
        /// Something that one machine has and another lacks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Feature { $($(#[$doc])* $variant,)* }

        impl Feature {
            /// Every feature.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written in `RAMPAGE_LACKS`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether this machine has it.
            pub fn is_here(self) -> bool {
                match self { $(Self::$variant => $probe,)* }
            }
        }
    };
}

features! {
    /// The memory controller is in a v1 hierarchy.
    CgroupV1 = "cgroup-v1", cgroup::version() == Some(Version::V1);
    /// The memory controller is in the v2 hierarchy.
    CgroupV2 = "cgroup-v2", cgroup::version() == Some(Version::V2);
    /// A cgroup is not charged for those below it unless it asks for it: v1 until 5.10, where
    /// systemd did not ask for all.
    FlatCgroups = "flat-cgroups", cgroup::is_flat();
    /// There is swap.
    Swap = "swap", has_swap();
    /// There is no swap.
    NoSwap = "no-swap", !has_swap();
    /// Pressure stall information can be read.
    Psi = "psi", fs::read("/proc/pressure/memory").is_ok();
    /// Pressure stall information cannot be read.
    NoPsi = "no-psi", fs::read("/proc/pressure/memory").is_err();
    /// The kernel's types can be read, without which nothing is traced live.
    Btf = "btf", Path::new("/sys/kernel/btf/vmlinux").exists();
    /// The kernel's types cannot be read.
    NoBtf = "no-btf", !Path::new("/sys/kernel/btf/vmlinux").exists();
    /// Programs can be attached to the entry of a function through BTF.
    Fentry = "fentry", bpf::can_fentry(HOOKED);
    /// Programs can be attached to the entry of a function by a breakpoint.
    Kprobes = "kprobes", bpf::can_kprobe(HOOKED);
    /// Programs can be attached to the entry of a function by neither.
    NoEntries = "no-entries", !bpf::can_fentry(HOOKED) && !bpf::can_kprobe(HOOKED);
    /// Programs can be attached to breakpoints in other programs.
    Uprobes = "uprobes", Path::new("/sys/bus/event_source/devices/uprobe").exists();
    /// tracefs is mounted.
    Tracefs = "tracefs", Path::new("/sys/kernel/tracing/events/oom/mark_victim").exists();
    /// Nothing else runs here: all of its memory may be taken.
    WholeMachine = "whole-machine", std::env::var(MACHINE).is_ok_and(|value| value == "ours");
    /// Huge pages for all.
    ThpAlways = "thp-always", thp().as_deref() == Some("always");
    /// No huge pages.
    ThpNever = "thp-never", matches!(thp().as_deref(), Some("never") | None);
    /// Huge pages for all or for those that ask.
    Thp = "thp", matches!(thp().as_deref(), Some("always" | "madvise"));
    /// The CPU is real: speed may be judged.
    RealTime = "real-time", !is_emulated();
    /// oom_score_adj may be set below what a process began with (CAP_SYS_RESOURCE).
    LowerAdj = "lower-adj", has_capability(24);
    /// One CPU.
    OneCpu = "one-cpu", cpus() == Some(1);
    /// Eight CPUs or more.
    ManyCpus = "many-cpus", cpus().is_some_and(|count| count >= 8);
    /// php-fpm is installed.
    PhpFpm = "php-fpm", Path::new(php::BINARY).exists();
    /// mariadbd is installed.
    Mariadb = "mariadb", Path::new("/usr/sbin/mariadbd").exists();
    /// redis-server is installed.
    Redis = "redis", Path::new("/usr/bin/redis-server").exists();
    /// nginx is installed.
    Nginx = "nginx", Path::new("/usr/sbin/nginx").exists();
    /// PHP's driver for MariaDB is installed.
    PhpMysql = "php-mysql", Path::new("/etc/php/8.2/mods-available/pdo_mysql.ini").exists();
    /// The kernel can be told which process id comes next.
    LastPid = "last-pid", Path::new("/proc/sys/kernel/ns_last_pid").exists();
    /// Prometheus and promtool are installed.
    Prometheus = "prometheus", Path::new("/usr/bin/promtool").exists();
    /// systemd-analyze is installed.
    SystemdAnalyze = "systemd-analyze", Path::new("/usr/bin/systemd-analyze").exists();
    /// The FastCGI client cgi-fcgi is installed.
    CgiFcgi = "cgi-fcgi", Path::new("/usr/bin/cgi-fcgi").exists();
}

impl Feature {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|feature| feature.name() == name)
    }
}

impl<'de> Deserialize<'de> for Feature {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Self::named(&name).ok_or_else(|| D::Error::custom(format!("no feature is called {name}")))
    }
}

/// Returns from a test that needs features which this machine lacks: `needs!(Btf, Swap);`.
#[macro_export]
macro_rules! needs {
    ($($feature:ident),+ $(,)?) => {
        if !$crate::features::need(&[$($crate::features::Feature::$feature),+])? {
            return Ok(());
        }
    };
}

/// Whether a test that needs `features` can run here. False = it says so and is to return at once.
///
/// # Errors
/// A feature is missing that this machine is not recorded to lack, or the record names one that
/// does not exist.
pub fn need(features: &[Feature]) -> Result<bool> {
    let lacks = match std::env::var(LACKS) {
        Ok(text) => Some(recorded(&text)?),
        Err(_) => None,
    };
    let missing: Vec<Feature> =
        features.iter().copied().filter(|feature| !feature.is_here()).collect();
    let Some(skipped) = skipped(&missing, lacks.as_deref())? else { return Ok(true) };
    // Past the test harness's capture: that a test did not run must be seen.
    writeln!(std::io::stderr(), "{skipped}").context("standard error")?;
    Ok(false)
}

/// What is said of a test that is skipped; None = it runs.
fn skipped(missing: &[Feature], lacks: Option<&[Feature]>) -> Result<Option<String>> {
    for feature in missing {
        if lacks.is_some_and(|lacks| !lacks.contains(feature)) {
            bail!("{} is missing, and this machine is recorded to have it", feature.name());
        }
    }
    let names: Vec<&str> = missing.iter().map(|feature| feature.name()).collect();
    Ok((!names.is_empty()).then(|| format!("skipped: needs {}", names.join(", "))))
}

fn recorded(text: &str) -> Result<Vec<Feature>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let feature = |name: &str| {
        Feature::named(name).with_context(|| format!("{LACKS}: no feature is called {name}"))
    };
    names.map(feature).collect()
}

fn has_swap() -> bool {
    // One line for each area after the heading.
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// Whether this process has the capability of that number in force.
fn has_capability(number: u32) -> bool {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> number & 1 == 1)
}

/// Which policy of huge pages stands in brackets; None = this kernel has none.
fn thp() -> Option<String> {
    let text = fs::read_to_string(THP).ok()?;
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// Online CPUs.
fn cpus() -> Option<usize> {
    crate::proc::cpus().ok()
}

/// Whether every instruction is translated, at some tenth of the speed; where patience is asked for,
/// it is as slow as that.
fn is_emulated() -> bool {
    crate::clock::patience() > 1
        || fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU TCG"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        let names: BTreeSet<&str> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        assert_eq!(names.len(), Feature::ALL.len());
        let all = names.into_iter().collect::<Vec<_>>().join(", ");
        let read: BTreeSet<Feature> = recorded(&all).unwrap().into_iter().collect();
        assert_eq!(read, Feature::ALL.iter().copied().collect());
        assert_eq!(recorded("").unwrap(), []);
        let error = recorded("swap,swop").unwrap_err().to_string();
        assert!(error.contains("swop"), "{error}");
    }

    #[test]
    fn opposites_are_never_both_here() {
        use Feature::{
            Btf, CgroupV1, CgroupV2, Fentry, FlatCgroups, Kprobes, ManyCpus, NoBtf, NoEntries,
            NoPsi, NoSwap, OneCpu, Psi, Swap, Thp, ThpAlways, ThpNever,
        };
        for (one, other) in [(Swap, NoSwap), (Psi, NoPsi), (Btf, NoBtf), (Thp, ThpNever)] {
            assert_ne!(one.is_here(), other.is_here(), "{one:?}, {other:?}");
        }
        for (one, other) in [
            (CgroupV1, CgroupV2),
            (FlatCgroups, CgroupV2),
            (ThpAlways, ThpNever),
            (OneCpu, ManyCpus),
            (Fentry, NoEntries),
            (Kprobes, NoEntries),
        ] {
            assert!(!one.is_here() || !other.is_here(), "{one:?}, {other:?}");
        }
    }

    #[test]
    fn only_a_recorded_lack_is_skipped() {
        use Feature::{Fentry, Swap};
        let said = Some("skipped: needs swap, fentry".to_owned());
        assert_eq!(skipped(&[], Some(&[])).unwrap(), None);
        assert_eq!(skipped(&[Swap, Fentry], None).unwrap(), said);
        assert_eq!(skipped(&[Swap, Fentry], Some(&[Fentry, Swap])).unwrap(), said);
        let error = skipped(&[Swap, Fentry], Some(&[Swap])).unwrap_err().to_string();
        assert!(error.starts_with("fentry is missing"), "{error}");
    }
}

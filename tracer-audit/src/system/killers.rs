//! Programs that kill before the kernel does: earlyoom, systemd-oomd, nohang; and whom.

use super::earlyoom::EarlyOom;
use crate::origin::{Notes, Origin, Set};
use crate::processes::Process;
use crate::root::Root;
use crate::units::lines;
use crate::units::search::Names;
use crate::units::settings::{Defaults, ManagedOom};
use crate::units::{self, load};

/// A killer that is started at boot, or runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Killers {
    /// earlyoom and its options.
    pub earlyoom: Option<EarlyOom>,
    /// systemd-oomd.
    pub oomd: Option<Oomd>,
    /// nohang.
    pub nohang: bool,
}

/// What systemd-oomd is told to watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Oomd {
    /// `SwapUsedLimit=`.
    pub swap_used_limit: Option<Set<String>>,
    /// Units and slices below which it may kill: name, setting, place.
    pub watched: Vec<(String, &'static str, Option<Origin>)>,
}

/// Reads which of them are there.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Killers {
    let names = Names::read(root, &mut Notes::default());
    let managed = units::is_managed(root);
    let present = |unit: &str, comm: &str| {
        (managed && names.wanted().iter().any(|name| name == unit))
            || processes.iter().any(|process| process.comm == comm)
    };
    Killers {
        earlyoom: present("earlyoom.service", "earlyoom")
            .then(|| EarlyOom::read(root, processes, notes)),
        oomd: present("systemd-oomd.service", "systemd-oomd").then(|| oomd(root, &names, notes)),
        nohang: present("nohang.service", "nohang") || present("nohang-desktop.service", "nohang"),
    }
}

fn oomd(root: &Root, names: &Names, notes: &mut Notes) -> Oomd {
    let mut oomd = Oomd::default();
    for (file, bytes) in load::config(root, "systemd/oomd.conf", notes) {
        for line in lines::parse(&bytes, &["OOM"]).assignments {
            if line.key == "SwapUsedLimit" {
                oomd.swap_used_limit = Some(Set::at(line.value, Origin::new(&file, line.line)));
            }
        }
    }
    let defaults = Defaults::default();
    let ours = names.all().filter(|name| units::Service::of(name).is_some());
    for name in ["-.slice", "system.slice"].into_iter().chain(ours) {
        // Faults of these files are told where the units are read.
        let Some(unit) = load::unit(root, names, &defaults, name, &mut Notes::default()) else {
            continue;
        };
        let settings = unit.settings;
        for (key, set) in [
            ("ManagedOOMSwap", settings.managed_oom_swap),
            ("ManagedOOMMemoryPressure", settings.managed_oom_pressure),
        ] {
            let own = (unit.files.name.clone(), key, set.at);
            if set.value == ManagedOom::Kill && !oomd.watched.contains(&own) {
                oomd.watched.push(own);
            }
        }
    }
    oomd
}

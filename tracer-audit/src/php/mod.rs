//! PHP-FPM: every configuration that is there and every master that runs, down to what the workers of each
//! pool may take; and php.ini of mod_php, which the web server's subject judges.

mod drop_in;
pub mod fpm;
pub mod ini;
pub mod layout;
mod loaded;
mod master;
mod pool;
mod rules;
mod share;
mod version;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Context;
use crate::budget::Demand;
use crate::origin::{Notes, Origin, Set};
use crate::processes::Process;
use crate::report::Finding;
use crate::root::{Root, is_pattern};
use fpm::conf::Refused;
use fpm::{Conf, Source};
use ini::files::{Ini, Outside};
use layout::Layout;

pub use drop_in::DropIn;
pub use loaded::{Changed, How};
pub use master::{Master, Worker};
pub use pool::{DEFAULT_LIMIT_BYTES, Memory, Odd, Pool, SetBy, ini_memory};
pub use share::{Fit, php_size, pool_worst_bytes, title, typical_bytes};
pub use version::Version;

/// What the files and processes say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Each php-fpm.conf.
    pub sites: Vec<Site>,
    /// Each php.ini of mod_php.
    pub modules: Vec<Module>,
}

impl Facts {
    /// The pools that can take memory, with their site.
    pub fn pools(&self) -> impl Iterator<Item = (&Site, &Pool)> {
        let counted = self.sites.iter().filter(|site| site.counts);
        counted.flat_map(|site| site.pools.iter().map(move |pool| (site, pool)))
    }
}

/// One php-fpm.conf, with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Site {
    /// None where neither path nor program tell.
    pub version: Option<Version>,
    /// php-fpm.conf.
    pub conf: PathBuf,
    /// The program that reads it.
    pub binary: PathBuf,
    /// php.ini and conf.d.
    pub ini: Ini,
    /// Whether its pools take memory: a master runs, or would if the system were started.
    pub counts: bool,
    /// The masters that read it.
    pub masters: Vec<Master>,
    /// process.max; zero is no bound.
    pub process_max: Set<u32>,
    /// The pools.
    pub pools: Vec<Pool>,
    /// What php-fpm refuses; with anything here it will not start again.
    pub refused: Vec<(Origin, Refused)>,
    /// Files of the configuration, and php.ini's.
    pub files: Vec<Arc<Path>>,
    /// Files and folders that changed after the master read them.
    pub changed: Vec<Changed>,
    /// Where one more `*.conf` is read last but for names that sort behind it; None without such an include.
    pub pool_folder: Option<PathBuf>,
}

impl Site {
    /// Whether a master of this process id reads it.
    pub fn has_master(&self, tgid: u32) -> bool {
        self.masters.iter().any(|master| master.tgid == tgid)
    }
}

/// php.ini of mod_php.
#[derive(Clone, Debug)]
pub struct Module {
    /// Of its folder.
    pub version: Version,
    /// php.ini and conf.d.
    pub ini: Ini,
    /// memory_limit as a request starts with it.
    pub memory: Memory,
}

/// Reads them.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Facts {
    let masters = master::all(root, processes, notes);
    let known = layout::all(root);
    let mut found: Vec<(Layout, Vec<Master>)> =
        known.iter().map(|layout| (layout.clone(), Vec::new())).collect();
    let any_runs = !masters.is_empty();
    for master in masters {
        let by_binary = master.binary.as_deref();
        let named = known.iter().find(|layout| Some(layout.binary.as_path()) == by_binary);
        let conf = master.conf.clone().or_else(|| named.map(|layout| layout.conf.clone()));
        let Some(conf) = conf else {
            notes.say(format!("php-fpm {} does not tell which file it reads", master.tgid));
            continue;
        };
        let layout = layout::of_master(&known, &conf, by_binary).unwrap_or_else(|| {
            let text = format!(
                "which php.ini php-fpm {} reads is not known: the one beside this file is taken",
                master.tgid
            );
            notes.at(Origin::whole(conf.clone()), text);
            layout::unknown(&conf, by_binary)
        });
        match found.iter_mut().find(|(known, _)| known.conf == conf) {
            Some((_, masters)) => masters.push(master),
            None => found.push((layout, vec![master])),
        }
    }
    let sites =
        found.into_iter().map(|(layout, masters)| site(root, layout, masters, any_runs, notes));
    Facts { sites: sites.collect(), modules: modules(root, notes) }
}

fn site(
    root: &Root,
    layout: Layout,
    masters: Vec<Master>,
    any_runs: bool,
    notes: &mut Notes,
) -> Site {
    let first = masters.first();
    let environment = first.and_then(|master| master.environment.clone());
    let places = places(&layout, first, &environment);
    let mut ini = Ini::read(root, &places, layout.version, &environment, notes);
    if let Some(master) = first {
        let defines = master.options.defines.iter().cloned();
        ini.values.extend(defines.map(|(name, value)| (name, Set::default_of(value))));
    }
    let source = Source {
        prefix: &layout.prefix,
        ini: &ini.values,
        outside: Outside { version: layout.version, environment: &environment },
    };
    let conf = Conf::read(root, &layout.conf, &source, notes);
    let mut pools: Vec<Pool> =
        conf.pools.iter().map(|raw| Pool::new(raw, &conf, &ini, layout.version)).collect();
    for pool in &mut pools {
        let workers = masters.iter().filter_map(|master| master.workers.get(&pool.name));
        pool.running = workers.flatten().copied().collect();
    }
    let process_max = conf.number("process.max").unwrap_or(Set::default_of(0));
    let process_max =
        Set { value: u32::try_from(process_max.value).unwrap_or(0), at: process_max.at };
    share::under_process_max(&mut pools, process_max.value);
    let installed = root.exists(&layout.binary) || !root.exists(Path::new("/usr/sbin"));
    let counts = if any_runs { !masters.is_empty() } else { installed };
    if !counts {
        let why = if installed { "does not run" } else { "is not installed" };
        notes.at(
            Origin::whole(layout.conf.clone()),
            format!("its pools are not counted: {} {why}", layout.binary.display()),
        );
    }
    let files: Vec<Arc<Path>> = conf.files.iter().chain(&ini.files).cloned().collect();
    let pid_file = conf.text("pid").map(|pid| fpm::conf::below(Path::new("/var"), &pid.value));
    let pool_folder = pool_folder(&conf);
    let folders: Vec<Arc<Path>> =
        pool_folder.iter().chain(&places.scan).map(|folder| folder.as_path().into()).collect();
    let changed = first
        .map(|master| loaded::changed(root, master, pid_file.as_deref(), &files, &folders))
        .unwrap_or_default();
    Site {
        version: layout.version,
        pool_folder,
        conf: layout.conf,
        binary: layout.binary,
        counts,
        masters,
        process_max,
        pools,
        refused: conf.refused,
        files,
        changed,
        ini,
    }
}

/// Where this PHP looks for php.ini: as compiled in, unless its environment or arguments say otherwise.
fn places(
    layout: &Layout,
    master: Option<&Master>,
    environment: &ini::files::Environment,
) -> ini::files::Places {
    let mut places = layout.places.clone();
    let variable = |name: &str| environment.as_ref()?.get(name).filter(|value| !value.is_empty());
    if let Some(folder) = variable("PHPRC") {
        let folder = Path::new(folder);
        // The name for this SAPI comes first in any folder.
        let mut main: Vec<PathBuf> = Vec::new();
        for own in &places.main {
            let name = own.file_name().unwrap_or_default();
            main.extend([folder.join(name), own.clone()]);
        }
        places.main = main;
    }
    if let Some(folders) = environment.as_ref().and_then(|all| all.get("PHP_INI_SCAN_DIR")) {
        let own = places.scan.clone();
        let parts = folders.split(':');
        places.scan = parts
            .flat_map(|part| if part.is_empty() { own.clone() } else { vec![PathBuf::from(part)] })
            .collect();
        if folders.is_empty() {
            places.scan.clear();
        }
    }
    if let Some(ini) = master.and_then(|master| master.options.ini.as_ref()) {
        places.main = vec![ini.join("php-fpm-fcgi.ini"), ini.join("php.ini"), ini.clone()];
    }
    if master.is_some_and(|master| master.options.no_ini) {
        places = ini::files::Places::default();
    }
    places
}

/// The folder of an include such as `/etc/php/8.2/fpm/pool.d/*.conf`.
fn pool_folder(conf: &Conf) -> Option<PathBuf> {
    let pattern = conf
        .includes
        .iter()
        .rev()
        .find(|include| include.value.file_name().is_some_and(|name| name == "*.conf"))?;
    let folder = pattern.value.parent()?;
    (!is_pattern(&folder.to_string_lossy())).then(|| folder.to_path_buf())
}

/// Apache's environment is not the audit's to know.
fn modules(root: &Root, notes: &mut Notes) -> Vec<Module> {
    let folders = root.glob(Path::new("/etc/php/*/apache2")).unwrap_or_default();
    let module = |folder: PathBuf| {
        let version = Version::dotted(folder.iter().nth(3)?.to_str()?)?;
        let places = layout::places(&folder, "apache2handler", "conf.d");
        let ini = Ini::read(root, &places, Some(version), &None, notes);
        let memory = ini_memory(&ini, Some(version));
        Some(Module { version, ini, memory })
    };
    folders.into_iter().filter_map(module).collect()
}

/// What each of them takes at worst.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    share::demands(context)
}

/// What is wrong.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    rules::judge(context)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

//! Guests made ready (kernels fetched, programs built, disks made), and run side by side.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::catalog::{Catalog, Run};
use super::image::{self, Programs};
use super::kernels::{self, Store, Unpacked};
use super::plan::Ended;
use super::{Machines, hear, qemu};
use crate::debian;
use crate::platform::Arch;
use crate::workspace::Workspace;

/// What makes the guests' disk; the emulator is that of [`Arch::emulator`].
const PACKAGES: [&str; 4] = ["mmdebstrap", "e2fsprogs", "binutils", "debian-archive-keyring"];

/// What was found of one run.
pub struct Report {
    /// The guest and its tests.
    pub run: Run,
    /// Those that ended.
    pub tests: Vec<Ended>,
    /// Why the guest itself failed.
    pub error: Option<String>,
}

/// Everything that guests need, ready.
pub struct Bench {
    /// `target/vm`.
    pub folder: PathBuf,
    guests: Vec<Guest>,
    kvm: bool,
}

/// A guest with what it boots.
struct Guest {
    run: Run,
    kernel: Unpacked,
    disk: PathBuf,
}

impl Bench {
    /// Fetches and builds for `runs`; `native` are the programs of this host's architecture.
    pub fn set_up(
        workspace: &Workspace,
        catalog: &Catalog,
        runs: Vec<Run>,
        native: &Programs,
        args: &Machines,
    ) -> anyhow::Result<Self> {
        let arches: BTreeSet<Arch> = runs.iter().map(|run| run.kernel.arch).collect();
        kernels::check_apt()?;
        let mut packages: Vec<&str> = PACKAGES.into();
        packages.extend(arches.iter().map(|arch| arch.emulator()));
        debian::ensure(&packages, "booting kernels")?;
        let folder = workspace.target.join("vm");
        let mut guests = Vec::new();
        for arch in arches {
            let of_arch = |run: &&Run| run.kernel.arch == arch;
            let runs: Vec<Run> = runs.iter().filter(of_arch).cloned().collect();
            let kernels = fetch(&Store::open(&folder), catalog, &runs, arch, args)?;
            let foreign;
            let programs = if arch.is_native() {
                native
            } else {
                arch.ensure(workspace)?;
                foreign = Programs::build(workspace, arch)?;
                &foreign
            };
            let folder = folder.join(arch.debian());
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let root = image::root(catalog, &folder, arch)?;
            let disk = image::disk(workspace, &root, &folder, programs, &runs)?;
            for run in runs {
                if let Some(kernel) = kernels.iter().find(|kernel| kernel.name == run.kernel.name) {
                    guests.push(Guest { run, kernel: kernel.clone(), disk: disk.clone() });
                }
            }
        }
        ensure!(!guests.is_empty(), "none of the kernels is there");
        Ok(Self { folder, guests, kvm: args.kvm })
    }

    /// Where a guest's console and what it handed back are.
    pub fn results(&self, run: &Run) -> PathBuf {
        self.folder.join("results").join(run.name().replace('/', "-"))
    }

    /// Runs all guests, as many at a time as there are CPUs, those with most tests first.
    pub fn run(&self, jobs: Option<usize>) -> Vec<Report> {
        let mut queue: Vec<usize> = (0..self.guests.len()).collect();
        queue.sort_by_key(|&index| std::cmp::Reverse(self.guests[index].run.tests.len()));
        let queue = Mutex::new(VecDeque::from(queue));
        let reports = Mutex::new(Vec::new());
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..jobs.unwrap_or(cpus).clamp(1, self.guests.len()) {
                scope.spawn(|| {
                    loop {
                        let Some(index) = lock(&queue).pop_front() else { return };
                        let report = self.run_one(&self.guests[index]);
                        lock(&reports).push((index, report));
                    }
                });
            }
        });
        let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        reports.sort_by_key(|(index, _)| *index);
        reports.into_iter().map(|(_, report)| report).collect()
    }

    fn run_one(&self, Guest { run, kernel, disk }: &Guest) -> Report {
        let name = run.name();
        let folder = self.results(run);
        let started = Instant::now();
        let mut tests = Vec::new();
        let machine = qemu::Machine { kernel: &kernel.image, disk, folder, kvm: self.kvm };
        let outcome = machine.run(run, |said| hear(&name, said, &mut tests));
        let took = started.elapsed().as_secs();
        let missing = run.tests.len() - tests.len();
        let error = match outcome {
            Err(error) => Some(format!("{name}: {error:#}")),
            Ok(()) if missing > 0 => Some(format!("{name}: {missing} tests did not run")),
            Ok(()) => None,
        };
        match &error {
            Some(error) => println!("{error}"),
            None => println!("{name}: finished in {took} s"),
        }
        Report { run: run.clone(), tests, error }
    }
}

/// The kernels of `runs`, fetched when they are not there.
fn fetch(
    store: &Store,
    catalog: &Catalog,
    runs: &[Run],
    arch: Arch,
    args: &Machines,
) -> anyhow::Result<Vec<Unpacked>> {
    let mut updated = false;
    let mut kernels: Vec<Unpacked> = Vec::new();
    for kernel in catalog.kernels() {
        if !runs.iter().any(|run| run.kernel.name == kernel.name) {
            continue;
        }
        let offline = args.offline.contains(&kernel.name);
        let there = store.unpacked(kernel).filter(|_| offline || !args.refresh);
        if let Some(there) = there {
            kernels.push(there);
        } else if offline {
            eprintln!("vm: kernel {} is not there: going without it", kernel.name);
        } else {
            if !updated {
                eprintln!("vm: fetching kernels");
                store.update(catalog.kernels(), arch)?;
                updated = true;
            }
            kernels.push(store.fetch(kernel)?);
        }
    }
    for kernel in &kernels {
        eprintln!("vm: kernel {} is {}", kernel.name, kernel.release);
    }
    Ok(kernels)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

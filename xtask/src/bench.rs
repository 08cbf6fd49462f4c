//! `cargo xtask bench`: the benchmarks of the `tests` package.

use std::ffi::OsString;

use clap::ValueEnum;

use crate::build::{self, Courier};
use crate::exec::{Output, exec};
use crate::toolchain::Rustc;
use crate::workspace::Workspace;
use crate::{debian, test};

/// Programs that rampage is measured against and with.
const PACKAGES: [&str; 3] = ["bpftrace", "php8.2-fpm", "libfcgi-bin"];

/// What the scenarios are played with.
const ACTORS: [&str; 4] = ["php8.2-fpm", "mariadb-server", "redis-server", "earlyoom"];

/// The benchmarks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// What tracing costs page faults and php-fpm, against no tracing and bpftrace
    Overhead,
    /// Model, detectors and sinks with up to 100,000 processes
    Scale,
    /// What is said of real incidents, against their truth: subject, lead, verdict, killer
    Scenarios,
    /// From the kernel's event to the printed finding
    Latency,
    /// `rampage serve` for half an hour under load: memory, descriptors, CPU, losses
    Soak,
}

/// Builds everything in release mode and runs one benchmark or all, as root where needed.
pub fn execute(
    workspace: &Workspace,
    which: Option<Which>,
    args: &[OsString],
) -> anyhow::Result<()> {
    build::execute(workspace, Courier::Wanted)?;
    for one in Which::value_variants().iter().filter(|one| which.is_none_or(|which| which == **one))
    {
        match one {
            Which::Overhead => debian::ensure(&PACKAGES, "bench overhead")?,
            Which::Scenarios => {
                debian::ensure(&ACTORS, "bench scenarios")?;
                build_hog(workspace)?;
            }
            Which::Latency | Which::Soak => build_hog(workspace)?,
            Which::Scale => {}
        }
        run(workspace, one.program(), args)?;
    }
    Ok(())
}

impl Which {
    fn program(self) -> &'static str {
        match self {
            Self::Overhead => "bench_overhead",
            Self::Scale => "bench_scale",
            Self::Scenarios => "bench_scenarios",
            Self::Latency => "bench_latency",
            Self::Soak => "bench_soak",
        }
    }
}

/// The hog is a program of its own.
fn build_hog(workspace: &Workspace) -> anyhow::Result<()> {
    let mut hog = workspace.cargo(["build", "--release", "--package", "tests", "--bin", "hog"]);
    exec(hog.arg("--target-dir").arg(&workspace.target), Output::Shown).map(drop)
}

fn run(workspace: &Workspace, name: &str, args: &[OsString]) -> anyhow::Result<()> {
    let mut bench = workspace.cargo(["run", "--release", "--package", "tests", "--bin", name]);
    bench.arg("--target-dir").arg(&workspace.target).arg("--").args(args);
    test::run_as_root(&mut bench, &Rustc::probe(workspace)?)?;
    exec(&mut bench, Output::Shown).map(drop)
}

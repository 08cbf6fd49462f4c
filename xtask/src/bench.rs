//! `cargo xtask bench`: the benchmarks of the `tests` package.

use std::ffi::OsString;

use clap::ValueEnum;

use crate::exec::{Output, exec};
use crate::toolchain::Rustc;
use crate::workspace::Workspace;
use crate::{build, debian, test};

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
}

/// Builds everything in release mode and runs one benchmark or all, as root where needed.
pub fn execute(
    workspace: &Workspace,
    which: Option<Which>,
    args: &[OsString],
) -> anyhow::Result<()> {
    build::execute(workspace)?;
    let wanted = |one| which.is_none_or(|which| which == one);
    if wanted(Which::Overhead) {
        debian::ensure(&PACKAGES, "bench overhead")?;
        run(workspace, "bench_overhead", true, args)?;
    }
    if wanted(Which::Scale) {
        run(workspace, "bench_scale", true, args)?;
    }
    if wanted(Which::Scenarios) {
        debian::ensure(&ACTORS, "bench scenarios")?;
        // The hog is a program of its own.
        let mut hog = workspace.cargo(["build", "--release", "--package", "tests", "--bin", "hog"]);
        exec(hog.arg("--target-dir").arg(&workspace.target), Output::Shown)?;
        run(workspace, "bench_scenarios", true, args)?;
    }
    Ok(())
}

fn run(workspace: &Workspace, name: &str, root: bool, args: &[OsString]) -> anyhow::Result<()> {
    let mut bench = workspace.cargo(["run", "--release", "--package", "tests", "--bin", name]);
    bench.arg("--target-dir").arg(&workspace.target).arg("--").args(args);
    if root {
        test::run_as_root(&mut bench, &Rustc::probe(workspace)?)?;
    }
    exec(&mut bench, Output::Shown).map(drop)
}
